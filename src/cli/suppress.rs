//! `carom suppress list|add|remove|check`: through the running server when there is one, else on its store directly.

use std::process::ExitCode;

use super::peer::Peer;
use super::{Failure, ServerArgs};
use crate::event::Address;
use crate::manage::{Answer, Command};

/// Arguments of `carom suppress`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A running server is asked; without one its store is opened. Addresses are whole: * stands for itself.\n\
    Exit code: 0 done, or not suppressed; 1 suppressed, or it did not work; 2 that is no address."
)]
pub struct Args {
    #[command(subcommand)]
    command: SuppressCommand,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON lines instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum SuppressCommand {
    /// Show the entries, in the order of their addresses
    List {
        /// At most so many [default: all]
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
    },
    /// Never mail this address again; takes effect at once, also on mail already queued
    Add {
        /// The address
        address: String,
        /// Why, for the record
        #[arg(long, default_value = "added by hand")]
        reason: String,
    },
    /// Mail may go to this address again; takes effect at once
    Remove {
        /// The address
        address: String,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
    /// Take back what a provider's mistaken bounces entered
    Undo(super::suppress_undo::UndoArgs),
    /// What rules would have suppressed over history, and what that would have saved and cost
    Simulate(super::suppress_simulate::SimulateArgs),
    /// The circuit breaker: what it holds back, and what is to become of it
    Breaker(super::suppress_undo::BreakerArgs),
    /// Is this address suppressed, and why? Exit status 1 when it is
    Check {
        /// The address
        address: String,
    },
}

/// Entries asked for at once.
const PAGE: u32 = 1000;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let SuppressCommand::Simulate(simulate) = &args.command {
        return super::suppress_simulate::run(simulate, args.json);
    }
    let address = match &args.command {
        SuppressCommand::Add { address, .. }
        | SuppressCommand::Remove { address, .. }
        | SuppressCommand::Check { address } => Some(address),
        _ => None,
    };
    if let Some(Err(why)) = address.map(|a| Address::parse(a)) {
        eprintln!("carom: {:?}: {why}", address.map_or("", String::as_str));
        return Ok(ExitCode::from(2));
    }
    let mut peer = match Peer::reach(&args.server)? {
        Ok(peer) => peer,
        Err(code) => return Ok(code),
    };
    match &args.command {
        // Answered above, without a server.
        SuppressCommand::Simulate(_) => Ok(ExitCode::SUCCESS),
        SuppressCommand::List { limit } => list(&mut peer, *limit, args.json),
        SuppressCommand::Undo(undo) => super::suppress_undo::undo(&mut peer, undo, args.json),
        SuppressCommand::Breaker(breaker) => super::suppress_undo::breaker(&mut peer, breaker, args.json),
        SuppressCommand::Add { address, reason } => {
            one(&mut peer, Command::SuppressAdd { address: address.clone(), reason: reason.clone() })
        }
        SuppressCommand::Remove { address, reason } => {
            one(&mut peer, Command::SuppressRemove { address: address.clone(), reason: reason.clone() })
        }
        SuppressCommand::Check { address } => {
            let data = peer.data(Command::SuppressCheck { address: address.clone() })?;
            if args.json {
                say!("{data}")?;
            } else {
                match data.get("entry").filter(|e| !e.is_null()) {
                    Some(entry) => say!("{}", entry_line(entry))?,
                    None => say!("{address}: not suppressed")?,
                }
            }
            let suppressed = data.get("suppressed").and_then(serde_json::Value::as_bool).unwrap_or(false);
            Ok(if suppressed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn list(peer: &mut Peer, limit: u64, json: bool) -> Result<ExitCode, Failure> {
    let mut after = String::new();
    let mut left = limit;
    while left > 0 {
        let page = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let data = peer.data(Command::SuppressList { after: after.clone(), limit: page })?;
        let entries = data.get("entries").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        for entry in &entries {
            if json {
                say!("{entry}")?;
            } else {
                say!("{}", entry_line(entry))?;
            }
        }
        left -= entries.len() as u64;
        match entries.last().and_then(|e| e.get("key")).and_then(serde_json::Value::as_str) {
            Some(last) if entries.len() as u32 == page => last.clone_into(&mut after),
            _ => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(peer: &mut Peer, command: Command) -> Result<ExitCode, Failure> {
    match peer.ask(command)? {
        Answer::Success { message, .. } => say!("{message}")?,
        Answer::Error { message } => return Err(message.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn entry_line(entry: &serde_json::Value) -> String {
    let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let note = [text("reply"), text("note")].into_iter().find(|s| !s.is_empty()).unwrap_or_default();
    format!("{}\t{}\t{}\t{}", text("address"), text("rule"), text("time"), note)
}
