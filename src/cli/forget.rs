//! `carom forget`: everything about a person is deleted, but for a hash that goes on suppressing.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::peer::Peer;
use super::{Failure, ServerArgs, caller};
use crate::event::Address;
use crate::manage::{Command, SuppressionCommand};

/// Arguments of `carom forget`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Deletes the address from the suppression list's entries and history, from the send index and from the \
    report quarantine (mails that name it go as a whole). If it was suppressed it stays so, by its hash; the history has a \
    line that names the hash and who asked. What can't be reached (accounting files, the ledger until its time is over, \
    logs, backups) is said.\n\nA running server is asked; without one its store is opened. Exit code: 0 done; 1 it did not \
    work, and may be done again; 2 that is no address."
)]
pub struct Args {
    /// The address
    address: String,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    /// Who asks for it, for the history [default: the user's name]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Err(why) = Address::parse(args.address.trim()) {
        eprintln!("carom: {:?}: {why}", args.address);
        return Ok(ExitCode::from(2));
    }
    let mut peer = match Peer::reach(&args.server)? {
        Ok(peer) => peer,
        Err(code) => return Ok(code),
    };
    let who = caller(args.operator.as_deref());
    let (mut sums, mut after) = (Map::new(), String::new());
    loop {
        let (address, who) = (args.address.clone(), who.clone());
        let data =
            peer.data(Command::Suppression(SuppressionCommand::Forget { address, who, after: after.clone() }))?;
        for (name, value) in data.as_object().into_iter().flatten().filter(|(name, _)| *name != "next") {
            let sum = sums.get(name).and_then(Value::as_u64).zip(value.as_u64()).map(|(a, b)| json!(a + b));
            sums.insert(name.clone(), sum.unwrap_or_else(|| value.clone()));
        }
        match data.get("next").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    if args.json {
        say!("{}", Value::Object(sums))?;
        return Ok(ExitCode::SUCCESS);
    }
    let n = |name: &str| sums.get(name).and_then(Value::as_u64).unwrap_or(0);
    say!(
        "Forgotten: {} entries, {} mentions in others, {} strikes, {} lines of history, {} sends, {} quarantined mails.",
        n("entries"),
        n("otherEntries"),
        n("strikes"),
        n("historyLines"),
        n("sends"),
        n("quarantined")
    )?;
    match sums.get("stillSuppressed").and_then(Value::as_bool) {
        Some(true) => say!("A hash goes on suppressing the address.")?,
        _ => say!("It was not suppressed, and is not.")?,
    }
    if n("quarantineUnread") > 0 {
        say!("{} quarantined mails could not be read; the log says more.", n("quarantineUnread"))?;
    }
    say!("Not reached:")?;
    for left in sums.get("notReached").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        say!("  {left}")?;
    }
    Ok(ExitCode::SUCCESS)
}
