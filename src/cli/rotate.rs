//! `carom rotate acct [FILE]`: the running server ends its accounting files, and begins others with the next records.

use std::process::ExitCode;

use super::{Failure, ServerArgs};
use crate::manage::{Answer, Command};

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
    match args.server.ask(&Command::RotateAcct { file: file.clone() })? {
        Ok(Answer::Success { message, .. }) if args.json => {
            say!("{}", serde_json::json!({ "status": "success", "message": message }))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Answer::Success { message, .. }) => {
            say!("{message}")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Answer::Error { message }) => Err(message.into()),
        Err(code) => Ok(code),
    }
}
