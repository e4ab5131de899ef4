//! `carom reload`: the running server reads its configuration again, and says what it did.

use std::process::ExitCode;

use super::{ConfigArgs, Failure};
use crate::manage::{Answer, Command, socket};

/// Arguments of `carom reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = match args.config.load()? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    match ask(&config, &Command::Reload)? {
        Answer::Success { message, .. } => {
            println!("{message}");
            Ok(ExitCode::SUCCESS)
        }
        Answer::Error { message } => Err(message.into()),
    }
}

/// Asks the server that runs with this configuration.
pub(super) fn ask(config: &crate::config::Config, command: &Command) -> Result<Answer, Failure> {
    socket::ask(&config.command_socket, command)
        .map_err(|e| format!("no server answers at {}: {e}", config.command_socket.display()).into())
}
