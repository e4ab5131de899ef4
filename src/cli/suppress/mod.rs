//! `carom suppress`: the suppression list, through the running server when there is one, else on its store directly.

mod change;
mod export;
mod import;
mod look;

use std::process::ExitCode;

use serde_json::Value;

use super::peer::Peer;
use super::{Failure, ServerArgs, caller};
use crate::event::{Scope, Time};
use crate::manage::suppression::{EntryFilter, MailFacts};
use crate::manage::{Command, SuppressionCommand};
use crate::suppress::operate::ScopeFilter;

/// Entries or lines asked for at once.
const PAGE: u32 = 1000;

/// Arguments of `carom suppress`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A SUBJECT is an address, or @domain for every mailbox of a domain; * stands for itself. A SCOPE says for \
    whose mail an entry counts: global, 'sender-domain D', 'source NAME', 'job NAME', 'list NAME', 'vmta NAME' (or with a \
    colon, list:weekly). A TIME is 2026-05-01, '2026-05-01 08:00:00+0000' or, counted back from now, 7d or 12h.\n\n\
    A running server is asked; without one its store is opened. Changes take effect at once, also on mail that is queued, \
    and leave a line in the history with the name of who made them.\n\n\
    Exit code: 0 done, or not suppressed; 1 suppressed, or it did not work (import: some lines were set aside); 2 the \
    arguments or the configuration are wrong."
)]
pub struct Args {
    #[command(subcommand)]
    command: Suppress,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON instead of text: a line for each entry where there are many
    #[arg(long, global = true)]
    json: bool,
    /// Who makes the change, for the history [default: the user's name]
    #[arg(long, value_name = "NAME", global = true)]
    operator: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Suppress {
    /// Show the entries that suppress, in the order of their hashes
    List(look::List),
    /// Show everything about subjects: their entries in all scopes, their strikes, what was done to them
    Show {
        /// Addresses or @domains
        #[arg(required = true, value_name = "SUBJECT")]
        subjects: Vec<String>,
    },
    /// Never mail these again; takes effect at once, also on mail already queued
    Add(change::Add),
    /// Mail may go to these again; takes effect at once
    Remove(change::Remove),
    /// Are these suppressed for such mail, and which entry decides? Exit status 1 when one is
    Check(look::Check),
    /// Take a list in: CSV, a line each, or what other services export
    Import(import::Import),
    /// Write the list out, in words or as hashes
    Export(export::Export),
    /// Count the entries: by rule, source, provider, scope, state and day
    Stats,
    /// Show what was done to the list, or to one subject
    History(look::History),
    /// Delete entries for good
    Purge(change::Purge),
    /// Take back what a provider's mistaken bounces entered
    Undo(super::suppress_undo::UndoArgs),
    /// What rules would have suppressed over history, and what that would have saved and cost
    Simulate(super::suppress_simulate::SimulateArgs),
    /// The circuit breaker: what it holds back, and what is to become of it
    Breaker(super::suppress_undo::BreakerArgs),
}

/// Which entries.
#[derive(Debug, Clone, Default, clap::Args)]
struct Wanted {
    /// Entered by this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Entered by: auto, manual, import, unsubscribe
    #[arg(long, value_name = "WHO")]
    source: Option<String>,
    /// In this state: active, held, removed [default: all but removed]
    #[arg(long)]
    state: Option<String>,
    /// Of this domain
    #[arg(long)]
    domain: Option<String>,
    /// With this in the address
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Since this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// By an event at this provider
    #[arg(long)]
    provider: Option<String>,
    /// That count for this mail; a kind alone (list, job) stands for all of its names
    #[arg(long)]
    scope: Option<String>,
    /// Of this import
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
}

impl Wanted {
    fn filter(&self) -> Result<EntryFilter, Misuse> {
        if let Some(scope) = &self.scope {
            ScopeFilter::parse(scope).ok_or_else(|| Misuse(format!("--scope {scope}: no scope")))?;
        }
        Ok(EntryFilter {
            rule: self.rule.clone(),
            source: self.source.clone(),
            state: self.state.clone(),
            domain: self.domain.clone(),
            contains: self.contains.clone(),
            since: self.since.as_deref().map(|t| time("--since", t)).transpose()?.map(|t| t.0),
            provider: self.provider.clone(),
            scope: self.scope.clone(),
            batch: self.batch,
        })
    }
}

/// What is known of a mail.
#[derive(Debug, Clone, Default, clap::Args)]
struct About {
    /// For mail with an envelope sender of this domain
    #[arg(long, value_name = "DOMAIN")]
    sender_domain: Option<String>,
    /// For mail that this <source> hands in
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// For mail of this job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// For mail of this list
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// For mail through this VirtualMTA
    #[arg(long, value_name = "NAME")]
    vmta: Option<String>,
    /// For mail through this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
}

impl About {
    fn facts(&self) -> MailFacts {
        let text = |o: &Option<String>| o.clone().unwrap_or_default();
        MailFacts {
            sender_domain: text(&self.sender_domain),
            source: text(&self.source),
            job: text(&self.job),
            list: text(&self.list),
            vmta: text(&self.vmta),
            pool: text(&self.pool),
        }
    }
}

/// The arguments are wrong: said, and exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// What a subcommand works with.
struct Desk<'a> {
    peer: Peer,
    args: &'a Args,
    who: String,
}

impl Desk<'_> {
    /// Asks about the list; what went wrong is the failure.
    fn ask(&mut self, command: SuppressionCommand) -> Result<Value, Failure> {
        self.peer.data(Command::Suppression(command))
    }

    fn json(&self) -> bool {
        self.args.json
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    done(args).or_else(|failure| match failure.downcast::<Misuse>() {
        Ok(misuse) => {
            eprintln!("carom: {misuse}");
            Ok(ExitCode::from(2))
        }
        Err(failure) => Err(failure),
    })
}

fn done(args: &Args) -> Result<ExitCode, Failure> {
    // What can be refused without asking anybody is.
    match &args.command {
        Suppress::Add(add) => change::check(&add.subjects, add.scope.as_deref())?,
        Suppress::Remove(remove) => change::check(&remove.subjects, remove.scope.as_deref())?,
        Suppress::Check(check) => check.check()?,
        Suppress::Show { subjects } => change::check(subjects, None)?,
        Suppress::Import(import) if import.dry_run => return import::dry_run(import, args.json),
        Suppress::Simulate(simulate) => return super::suppress_simulate::run(simulate, args.json),
        _ => {}
    }
    let peer = match Peer::reach(&args.server)? {
        Ok(peer) => peer,
        Err(code) => return Ok(code),
    };
    let mut desk = Desk { peer, args, who: caller(args.operator.as_deref()) };
    match &args.command {
        Suppress::List(list) => look::list(&mut desk, list),
        Suppress::Show { subjects } => look::show(&mut desk, subjects),
        Suppress::Add(add) => change::add(&mut desk, add),
        Suppress::Remove(remove) => change::remove(&mut desk, remove),
        Suppress::Check(check) => look::check(&mut desk, check),
        Suppress::Import(import) => import::import(&mut desk, import),
        Suppress::Export(export) => export::export(&mut desk, export),
        Suppress::Stats => look::stats(&mut desk),
        Suppress::History(history) => look::history(&mut desk, history),
        Suppress::Purge(purge) => change::purge(&mut desk, purge),
        Suppress::Undo(undo) => super::suppress_undo::undo(&mut desk.peer, undo, args.json),
        Suppress::Breaker(breaker) => super::suppress_undo::breaker(&mut desk.peer, breaker, args.json),
        // Answered above, without a server.
        Suppress::Simulate(_) => Ok(ExitCode::SUCCESS),
    }
}

/// A time as it is given, or counted back from now.
#[expect(clippy::disallowed_methods, reason = "edge: times are counted back from now")]
fn time(name: &str, value: &str) -> Result<Time, Misuse> {
    let ago =
        value.ends_with(|c: char| c.is_ascii_alphabetic()).then(|| crate::config::values::time(value).ok()).flatten();
    let now: Time = jiff::Timestamp::now().into();
    match ago {
        Some(ago) => Ok(Time(now.0 - i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))),
        None => crate::history::times::parse(value).ok_or_else(|| {
            Misuse(format!("{name} {value}: no time; write 2026-05-01, '2026-05-01 08:00:00+0000' or 7d"))
        }),
    }
}

/// When something ends: as it is given, or counted from now on.
#[expect(clippy::disallowed_methods, reason = "edge: times are counted from now")]
fn end(name: &str, value: &str) -> Result<Time, Misuse> {
    let now: Time = jiff::Timestamp::now().into();
    let later =
        value.ends_with(|c: char| c.is_ascii_alphabetic()).then(|| crate::config::values::time(value).ok()).flatten();
    let end = match later {
        Some(later) => Some(now + later),
        None => crate::history::times::parse(value),
    };
    end.filter(|end| *end > now)
        .ok_or_else(|| Misuse(format!("{name} {value}: no time to come; write 2031-05-01 or, counted from now, 90d")))
}

fn scope(scope: &str) -> Result<String, Misuse> {
    scope.parse::<Scope>().map(|s| s.to_string()).map_err(|e| Misuse(e.to_string()))
}

/// A field as text; empty when it is not there.
fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn array<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Where to go on from; none when that was all.
fn next(value: &Value) -> Option<String> {
    value.get("next").and_then(Value::as_str).map(str::to_owned)
}
