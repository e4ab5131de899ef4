#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads the mails it is given")]
//! `carom report`: what Carom makes of bounces, complaints and whatever else came to a bounce address.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

mod quarantine;

use super::Failure;
use crate::classify::{FailureKind, RuleSet};
use crate::event::{Event, Kind, Time};
use crate::report::{RcptResult, Recognised, ReportKind, Summary, recognise};

/// Arguments of `carom report`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  \
    carom report bounce.eml                         what one mail says
  \
    carom report --json /var/mail/bounces           one JSON object for each mail of a mailbox
  \
    carom report --json bounces/ | jq -r 'select(.kind == \"none\") | .file'
  \
    carom report quarantine list                    what came to the report addresses and was not understood

\
    A file that is called quarantine is written ./quarantine.
\
    Exit status: 0 all was read; 2 a file could not be read."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<ReportCommand>,
    /// Mails: files, folders (read with all below them), mailboxes (files that begin with `From `), or - for standard input
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

/// Bytes of one mail that are kept; what a report says stands well before.
const MAX_MAIL: usize = 8 << 20;

/// How many mails of each kind there were, in the order of [`KINDS`].
type Counts = [u64; KINDS.len()];
const KINDS: [ReportKind; 5] =
    [ReportKind::Bounce, ReportKind::Status, ReportKind::Feedback, ReportKind::AutoReply, ReportKind::None];

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(ReportCommand::Quarantine(args)) = &args.command {
        return quarantine::run(args);
    }
    let rules = RuleSet::builtin();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut broken = false;
    let mut counts = Counts::default();
    let bar = bar();
    for place in &args.mails {
        each_file(place, &mut |file| {
            let read = each_mail(file, &mut |mail| {
                let report = recognise(mail);
                counts[KINDS.iter().position(|k| *k == report.kind).unwrap_or(KINDS.len() - 1)] += 1;
                if let Some(bar) = &bar {
                    bar.inc(1);
                }
                print(&mut out, file, &report, &rules, args.json)
            });
            match read {
                Err(Reading::File(e)) => {
                    eprintln!("carom: {}: {e}; the other mails are read all the same", file.display());
                    broken = true;
                    Ok(())
                }
                Err(Reading::Output(e)) => Err(e),
                Ok(()) => Ok(()),
            }
        })?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let total: u64 = counts.iter().sum();
    if !args.json && total > 1 {
        let kinds: Vec<_> = KINDS.iter().zip(counts).map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        writeln!(out, "{total} mails: {}", kinds.join(", "))?;
    }
    out.flush()?;
    Ok(if broken { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Counts the mails read, where somebody watches and the output goes elsewhere.
fn bar() -> Option<ProgressBar> {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} {pos} mails, {per_sec}").ok()?;
    Some(ProgressBar::new_spinner().with_style(style))
}

/// Why a file was not read to its end.
enum Reading {
    File(std::io::Error),
    Output(Failure),
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

/// Calls `each` with the mails in a file: one, unless it is a mailbox. One mail is in memory at a time.
fn each_mail(file: &Path, each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Reading> {
    if file == Path::new("-") {
        return split(BufReader::new(std::io::stdin().lock()), true, each);
    }
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    // A mail that was saved with its envelope line in front is one mail.
    let mailbox = extension == "mbox" || !matches!(extension.as_str(), "eml" | "msg" | "txt");
    split(BufReader::new(std::fs::File::open(file).map_err(Reading::File)?), mailbox, each)
}

/// The mails of a reader. A mailbox begins with a line `From ...`, and so does each mail in it, behind an empty line.
fn split(
    mut reader: impl BufRead,
    mailbox: bool,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Reading> {
    let (mut mail, mut line) = (Vec::new(), Vec::new());
    let mut in_mailbox = false;
    let (mut first, mut after_empty) = (true, true);
    loop {
        line.clear();
        // A line without an end must not fill the memory.
        let mut bounded = (&mut reader).take(MAX_MAIL as u64);
        if bounded.read_until(b'\n', &mut line).map_err(Reading::File)? == 0 {
            break;
        }
        if mailbox && line.starts_with(b"From ") && (first || in_mailbox && after_empty) {
            in_mailbox = true;
            if !mail.is_empty() {
                each(&mail).map_err(Reading::Output)?;
                mail.clear();
            }
        } else if mail.len() < MAX_MAIL {
            mail.extend_from_slice(&line);
        }
        first = false;
        after_empty = matches!(line.as_slice(), b"\n" | b"\r\n");
    }
    if mail.is_empty() { Ok(()) } else { each(&mail).map_err(Reading::Output) }
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
    if summary.left_out > 0 {
        writeln!(out, "    at least {} more recipients are left out", summary.left_out)?;
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
    let verdict = rules.classify(&event);
    (verdict.category.to_owned(), event.is_permanent_failure() && verdict.kind() == FailureKind::Hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mails(bytes: &[u8], mailbox: bool) -> Vec<Vec<u8>> {
        let mut mails = Vec::new();
        let each = &mut |mail: &[u8]| {
            mails.push(mail.to_vec());
            Ok(())
        };
        assert!(split(bytes, mailbox, each).is_ok());
        mails
    }

    #[test]
    fn a_mailbox_is_split_at_its_from_lines_and_not_at_words_in_the_text() {
        let mbox = b"From a@b Sat Jan  1\nSubject: one\n\ntext\nFrom here on\n\nFrom c@d Sat Jan  1\r\nSubject: two\r\n\r\nx\r\n";
        let mails = mails(mbox, true);
        assert_eq!(mails.len(), 2);
        assert!(mails[0].ends_with(b"From here on\n\n") && mails[1].starts_with(b"Subject: two"));
    }

    #[test]
    fn a_mail_is_not_split_whatever_its_lines_say() {
        let mail = b"Subject: one\n\n\nFrom c@d Sat Jan  1\n\nx\n";
        assert_eq!(mails(mail, true), [mail]);
        assert_eq!(mails(b"", true).len(), 0);
    }
}
