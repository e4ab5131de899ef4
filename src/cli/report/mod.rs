#![expect(clippy::disallowed_methods, reason = "edge: reads the mails named by the arguments")]
//! `carom report`: what Carom makes of bounces, complaints and whatever else came to a bounce address.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

mod quarantine;

use super::Failure;
use crate::classify::RuleSet;
use crate::event::{Category, Event, Kind, Time};
use crate::report::{RcptResult, Recognised, ReportKind, Summary, recognise};

/// Arguments of `carom report`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  carom report bounce.eml\n  carom report --json Maildir/new > reports.jsonl\n  \
    carom report quarantine list    what came to the report addresses and was not understood\n\
    A file that is called quarantine is written ./quarantine."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<ReportCommand>,
    /// Mails: files, folders (read with all below them), mailboxes (*.mbox), or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|MBOX|-")]
    mails: Vec<PathBuf>,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum ReportCommand {
    /// Mail to report addresses that nobody understood: list, show, replay, drop
    Quarantine(quarantine::Args),
}

/// Bytes of one mail that are read; what a report says stands well before.
const MAX_MAIL: u64 = 64 << 20;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(ReportCommand::Quarantine(args)) = &args.command {
        return quarantine::run(args);
    }
    let rules = RuleSet::builtin();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = false;
    for place in &args.mails {
        each_file(place, &mut |file| match mails(file) {
            Ok(mails) => {
                for mail in mails {
                    let report = recognise(&mail);
                    print(&mut out, file, &report, &rules, args.json)?;
                }
                Ok(())
            }
            Err(e) => {
                eprintln!("carom: {}: {e}", file.display());
                failed = true;
                Ok(())
            }
        })?;
    }
    out.flush()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Calls `each` with every file at `place`, those of folders in the order of their names.
fn each_file(place: &Path, each: &mut dyn FnMut(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    if !place.is_dir() {
        return each(place);
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(place).map_err(|e| format!("{}: {e}", place.display()))? {
        entries.push(entry?.path());
    }
    entries.sort();
    entries.iter().try_for_each(|entry| each_file(entry, each))
}

/// The mails in a file: one, unless it is a mailbox.
fn mails(file: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_MAIL).read_to_end(&mut bytes)?;
        return Ok(vec![bytes]);
    }
    bytes = std::fs::read(file)?;
    let is_mailbox = file.extension().is_some_and(|e| e == "mbox");
    Ok(if is_mailbox { split_mailbox(&bytes) } else { vec![bytes] })
}

/// The mails of a mailbox: each begins with a line `From ...` at the start or behind an empty line.
fn split_mailbox(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut mails: Vec<Vec<u8>> = Vec::new();
    let mut after_empty = true;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if after_empty && line.starts_with(b"From ") {
            mails.push(Vec::new());
        } else if let Some(mail) = mails.last_mut() {
            mail.extend_from_slice(line);
        }
        after_empty = matches!(line, b"\n" | b"\r\n");
    }
    mails
}

fn print(out: &mut dyn Write, file: &Path, report: &Recognised, rules: &RuleSet, json: bool) -> Result<(), Failure> {
    let summary = Summary::from(report);
    let judged: Vec<(String, bool)> =
        report.results.iter().zip(&summary.results).map(|(r, s)| judge(report.kind, r, &s.diag, rules)).collect();
    if json {
        let mut value = serde_json::to_value(&summary)?;
        value["file"] = json!(file.display().to_string());
        for (result, (category, hard)) in value["results"].as_array_mut().into_iter().flatten().zip(&judged) {
            if !category.is_empty() {
                result["category"] = Value::from(category.as_str());
            }
            result["hard"] = Value::from(*hard);
        }
        writeln!(out, "{value}")?;
        return Ok(());
    }
    let format = if summary.format.is_empty() { String::new() } else { format!(" ({})", summary.format) };
    writeln!(out, "{}: {}{format}", file.display(), summary.kind)?;
    for (result, (category, _)) in summary.results.iter().zip(&judged) {
        let status = result.status.as_deref().unwrap_or("");
        let action = result.action.unwrap_or(&result.feedback_type);
        let words = [result.rcpt.as_str(), action, status, category, &result.diag];
        let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).collect();
        writeln!(out, "    {}", words.join("  "))?;
    }
    if !summary.original.message_id.is_empty() || !summary.original.subject.is_empty() {
        writeln!(out, "    about: <{}> {}", summary.original.message_id, summary.original.subject)?;
    }
    Ok(())
}

/// The category of one result, and whether it says for good that the address is dead.
fn judge(kind: ReportKind, result: &RcptResult, diag: &str, rules: &RuleSet) -> (String, bool) {
    let kind = match kind {
        ReportKind::Bounce => Kind::RemoteBounce,
        ReportKind::Status => Kind::RemoteStatus,
        _ => return (String::new(), false),
    };
    let event = Event { diag, status: result.status, action: result.action, ..Event::new(kind, Time::UNKNOWN) };
    let category = rules.classify(&event).category.to_owned();
    let hard = event.is_permanent_failure() && Category::by_name(&category).is_some_and(|c| c.dead_address);
    (category, hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_split_at_its_from_lines_and_not_at_words_in_the_text() {
        let mbox = b"From a@b Sat Jan  1\nSubject: one\n\ntext\nFrom here on\n\nFrom c@d Sat Jan  1\r\nSubject: two\r\n\r\nx\r\n";
        let mails = split_mailbox(mbox);
        assert_eq!(mails.len(), 2);
        assert!(mails[0].ends_with(b"From here on\n\n") && mails[1].starts_with(b"Subject: two"));
    }
}
