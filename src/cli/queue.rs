//! `carom queue`: the mode of queues by hand, and source addresses that patterns have disabled.

use std::net::IpAddr;
use std::process::ExitCode;

use super::{Failure, ServerArgs};
use crate::manage::{Answer, Command};

/// Arguments of `carom queue`.
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
    /// Put queues into normal or backoff mode
    #[command(
        after_help = "Examples:\n  carom queue mode normal gmail.com/vmta1\n  carom queue mode backoff 'yahoo.*/*'\n\n\
        In backoff mode the backoff- directives hold. Queues that are not there yet, since no mail waits for them, are \
        not changed.\nExit code: 0 done; 1 it did not work."
    )]
    Mode {
        /// Which mode
        #[arg(value_enum)]
        mode: Mode,
        /// DOMAIN/VMTA, with * for any text; without /VMTA it is {default}
        queue: String,
    },
    /// Use a source address again that a pattern has disabled
    #[command(after_help = "Examples:\n  carom queue enable-source 192.0.2.10 hotmail.com/vmta1\n  \
        carom queue enable-source 192.0.2.10 '*/*'\n\n`carom status` shows which are disabled, until when and why.\n\
        Exit code: 0 done; 1 it did not work.")]
    EnableSource {
        /// The address
        ip: IpAddr,
        /// DOMAIN/VMTA, with * for any text; without /VMTA it is {default}
        queue: String,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Mode {
    Normal,
    Backoff,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let command = match &args.what {
        What::Mode { mode, queue } => {
            Command::QueueMode { queue: queue.clone(), backoff: matches!(mode, Mode::Backoff) }
        }
        What::EnableSource { ip, queue } => Command::EnableSource { queue: queue.clone(), ip: *ip },
    };
    match args.server.ask(&command)? {
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
