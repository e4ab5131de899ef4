#![expect(clippy::disallowed_methods, reason = "edge: the clock that --since is counted from")]
//! `carom suppress undo` and `carom suppress breaker`: for when a provider was mistaken.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Failure;
use super::peer::Peer;
use crate::accounting::feedback::undo::{Undo, Undone, Word};
use crate::event::Time;
use crate::history::times;
use crate::manage::{Answer, BreakerCommand, Command};
use crate::suppress::breaker::Circuit;

/// Arguments of `carom suppress undo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Addresses that stand on the list because of that provider's replies of that time are mailed again; each has \
    a line of history that says so. Complaints and unsubscribes stay, unless --rule names theirs. Nothing is queued again. \
    Broken off half-way, the same command goes on.\n\
    Exit code: 0 done, also when there was nothing to undo; 1 it did not work; 2 a time that can't be read."
)]
pub struct UndoArgs {
    /// The provider, as carom status and the records name it
    #[arg(long, value_name = "P")]
    provider: String,
    /// Entered by events at or after this time, such as 2026-12-14T20:00Z or 2h (ago)
    #[arg(long, value_name = "T")]
    since: String,
    /// And before this one [default: now]
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// Only what this rule entered
    #[arg(long, value_name = "R")]
    rule: Option<String>,
    /// Only show what it would be
    #[arg(long)]
    dry_run: bool,
    /// Why, for the record
    #[arg(long, default_value = "a mistake of the provider")]
    reason: String,
}

/// Arguments of `carom suppress breaker`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "When far more addresses than usual are refused as dead, new entries are held back and their mail waits. \
    That ends by itself when the share is as usual again; or by one of these words.\n\
    Exit code: 0 done; 1 it did not work, or there is no such breaker; 2 wrong arguments."
)]
pub struct BreakerArgs {
    /// What to do
    #[arg(value_enum, default_value = "list")]
    action: BreakerAction,
    /// The provider whose breaker is meant
    #[arg(long, value_name = "P", conflicts_with = "template")]
    provider: Option<String>,
    /// The template of replies whose breaker is meant, as list shows it
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BreakerAction {
    /// Show those that have tripped
    List,
    /// It was a mistake: what it holds is mailed again
    Release,
    /// The bounces are right: what it holds is suppressed
    Confirm,
}

/// `carom suppress undo`.
pub(super) fn undo(peer: &mut Peer, args: &UndoArgs, json: bool) -> Result<ExitCode, Failure> {
    let mut read = Vec::new();
    for text in std::iter::once(&args.since).chain(&args.until) {
        match times::parse(text).or_else(|| ago(text)) {
            Some(time) => read.push(time.0),
            None => {
                eprintln!("carom: {text:?} is no time: write 2026-12-14T20:00Z, or 2h for two hours ago");
                return Ok(ExitCode::from(2));
            }
        }
    }
    let mut asked = Undo {
        provider: args.provider.clone(),
        since: read[0],
        until: read.get(1).copied().unwrap_or(0),
        rule: args.rule.clone().unwrap_or_default(),
        dry_run: args.dry_run,
        reason: args.reason.clone(),
        after: Vec::new(),
    };
    let bar = bar();
    let (mut all, mut kept) = (0u64, 0u64);
    loop {
        let page: Undone = serde_json::from_value(peer.data(Command::SuppressUndo(asked.clone()))?)?;
        for entry in &page.entries {
            let shown = bar.suspend(|| match json {
                true => say!("{}", serde_json::json!(entry)),
                false if args.dry_run => say!("{}\t{}\t{}\t{}", entry.subject, entry.scope, entry.rule, entry.reply),
                false => Ok(()),
            });
            shown?;
        }
        all += page.entries.len() as u64;
        kept += page.kept;
        bar.set_position(all);
        match page.next {
            Some(next) => asked.after = next,
            None => break,
        }
    }
    bar.finish_and_clear();
    if !json {
        let words = if args.dry_run { "would be taken back" } else { "taken back; they are mailed again" };
        say!("{all} entries of {} {words}.", args.provider)?;
        if kept > 0 {
            say!("{kept} complaints and unsubscribes of that time stay; --rule takes those of one rule back.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// So long ago.
fn ago(text: &str) -> Option<Time> {
    let ago = crate::config::values::time(text.trim().trim_end_matches("ago").trim()).ok()?;
    let now = Time::from(jiff::Timestamp::now());
    Some(Time(now.0.saturating_sub(i64::try_from(ago.as_micros()).ok()?)))
}

fn bar() -> ProgressBar {
    use std::io::IsTerminal as _;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} entries, {per_sec}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// `carom suppress breaker`.
pub(super) fn breaker(peer: &mut Peer, args: &BreakerArgs, json: bool) -> Result<ExitCode, Failure> {
    let word = match args.action {
        BreakerAction::List => return list(&peer.data(Command::SuppressBreaker(BreakerCommand::List))?, json),
        BreakerAction::Release => Word::Release,
        BreakerAction::Confirm => Word::Confirm,
    };
    let circuit = match (&args.provider, &args.template) {
        (Some(name), _) => Circuit::provider(name),
        (None, Some(text)) => Circuit::template(text),
        (None, None) => {
            eprintln!("carom: name the breaker with --provider or --template; carom suppress breaker list shows them");
            return Ok(ExitCode::from(2));
        }
    };
    match peer.ask(Command::SuppressBreaker(BreakerCommand::End { circuit, word }))? {
        Answer::Success { message, .. } if json => say!("{}", serde_json::json!({ "message": message }))?,
        Answer::Success { message, .. } => say!("{message}")?,
        Answer::Error { message } => return Err(message.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(data: &Value, json: bool) -> Result<ExitCode, Failure> {
    let rows = data.get("tripped").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        say!("{}", Value::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        say!("no breaker has tripped")?;
    }
    for row in &rows {
        let state = row.get("state").unwrap_or(&Value::Null);
        let percent = |name: &str| state.get(name).and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
        let text = |name: &str| state.get(name).and_then(Value::as_str).unwrap_or("");
        say!(
            "{}: {:.1} % refused as dead, usual are {:.1} %; since {}; {} entries held{}",
            text("name"),
            percent("share"),
            percent("usualShare"),
            text("since"),
            row.get("held").and_then(Value::as_u64).unwrap_or(0),
            match text("normalSince") {
                "" => String::new(),
                time => format!("; as usual again since {time}"),
            }
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
