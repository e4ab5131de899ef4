//! `carom acct`: accounting records, live and in files.

mod tail;

use std::process::ExitCode;

use super::Failure;

/// Arguments of `carom acct`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: AcctCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AcctCommand {
    /// Show the newest records, and with -f those that come
    Tail(tail::Args),
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        AcctCommand::Tail(args) => tail::run(args),
    }
}
