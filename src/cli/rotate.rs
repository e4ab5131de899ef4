//! `carom rotate acct [FILE]`: the running server ends its accounting files, and begins others with the next records.

use std::process::ExitCode;

use super::{Failure, ServerArgs};
use crate::manage::Command;

/// Arguments of `carom rotate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All accounting files, or those of one <acct-file>
    #[command(after_help = "Examples:\n  carom rotate acct\n  carom rotate acct acct.csv\n  \
        carom rotate acct /var/log/carom/acct.csv\n\nCSV files go to move-to if there is one; Parquet files are \
        published. Midnight rotation still happens.\nExit code: 0 done; 1 it did not work.")]
    Acct {
        /// The <acct-file>, as configured, or the end of its path [default: all]
        file: Option<String>,
    },
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let What::Acct { file } = &args.what;
    args.server.tell(&Command::RotateAcct { file: file.clone() }, args.json)
}
