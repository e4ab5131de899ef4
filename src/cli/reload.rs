//! `carom reload`: the running server reads its configuration again, and says what it did.

use std::process::ExitCode;

use super::{Failure, ServerArgs};
use crate::manage::{Answer, Command};

/// Arguments of `carom reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args.server.ask(&Command::Reload)? {
        Ok(Answer::Success { message, .. }) => {
            say!("{message}")?;
            Ok(ExitCode::SUCCESS)
        }
        // The configuration is wrong: what it was started with stays in force.
        Ok(Answer::Error { message }) => {
            eprintln!("carom: {}", message.trim_end());
            Ok(ExitCode::from(2))
        }
        Err(code) => Ok(code),
    }
}
