//! `carom report`: what Carom makes of bounces, complaints and whatever else came to a bounce address.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

mod forms;
mod mails;
mod quarantine;

use super::Failure;
use crate::classify::{FailureKind, RuleSet};
use crate::config::diagnose::nearest;
use crate::event::{Action, Event, Kind, Time};
use crate::report::{Matched, RcptResult, Recognised, ReportKind, Summary};
use forms::Forms;
use mails::{At, each_mail, shown};

/// Arguments of `carom report`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  carom report bounce.eml                         what one mail says
  carom report --json /var/mail/bounces           one JSON object for each mail of a mailbox
  carom report --json bounces/ | jq -r 'select(.kind == \"none\") | \"\\(.file) at byte \\(.offset)\"'
  carom report --body-pattern acme.pattern unread/    does the pattern find them?
  carom report --config /etc/carom/config unread/     as the server would read them
  carom report quarantine list                    what came to the server and was not understood

Below folders, names that begin with a dot are left out; of a Maildir cur and new are read.
Files packed with gzip or zstd are unpacked. A file that is called quarantine is written ./quarantine.
Exit status: 0 all was read; 2 a file or a pattern could not be read."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<ReportCommand>,
    /// Mails: files, folders (read with all below them), mailboxes (files that begin with `From `), or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|MBOX|-")]
    mails: Vec<PathBuf>,
    /// Read them as a server with this configuration would: with its body patterns and bounce categories
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Relative paths in the configuration are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR", requires = "config")]
    root: Option<PathBuf>,
    /// Try this pattern, too, on what Carom does not know; may be given several times
    #[arg(long, value_name = "FILE")]
    body_pattern: Vec<PathBuf>,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum ReportCommand {
    /// Mail to report addresses that nobody understood: list, show, replay, drop
    Quarantine(quarantine::Args),
}

/// How many mails of each kind there were, in the order of [`KINDS`].
type Counts = [u64; KINDS.len()];
const KINDS: [ReportKind; 5] =
    [ReportKind::Bounce, ReportKind::Status, ReportKind::Feedback, ReportKind::AutoReply, ReportKind::None];

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(ReportCommand::Quarantine(args)) = &args.command {
        return quarantine::run(args);
    }
    if let Some(first) = args.mails.first().filter(|first| !first.exists())
        && let Some(meant) = first.to_str().and_then(|word| nearest(word, ["quarantine"]))
    {
        eprintln!("carom: {}: there is no such file; did you mean carom report {meant}?", shown(first));
        return Ok(ExitCode::from(2));
    }
    let forms = match Forms::of(args.config.as_deref(), args.root.as_deref(), &args.body_pattern) {
        Ok(forms) => forms,
        Err(code) => return Ok(code),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut counts = Counts::default();
    let bar = bar();
    let all_read = each_mail(&args.mails, &mut |at, mail| {
        let (report, matched) = forms.recognise(mail);
        counts[KINDS.iter().position(|k| *k == report.kind).unwrap_or(KINDS.len() - 1)] += 1;
        if let Some(bar) = &bar {
            bar.inc(1);
        }
        let said = Said { at, report: &report, matched: matched.as_ref(), is_empty: mail.is_empty() };
        said.print(&mut out, &forms.rules, args.json)
    })?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let total: u64 = counts.iter().sum();
    if !args.json && total > 1 {
        let kinds: Vec<_> = KINDS.iter().zip(counts).map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        writeln!(out, "{total} mails: {}", kinds.join(", "))?;
    }
    out.flush()?;
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::from(2) })
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

/// One mail, and what was made of it.
struct Said<'a> {
    at: At<'a>,
    report: &'a Recognised,
    matched: Option<&'a Matched>,
    is_empty: bool,
}

impl Said<'_> {
    fn print(&self, out: &mut dyn Write, rules: &RuleSet, json: bool) -> Result<(), Failure> {
        let summary = Summary::from(self.report);
        let results = self.report.results.iter().zip(&summary.results);
        let judged: Vec<(String, bool)> = results.map(|(r, s)| judge(self.report.kind, r, &s.diag, rules)).collect();
        if json {
            writeln!(out, "{}", self.json(&summary, &judged)?)?;
        } else {
            self.text(out, &summary, &judged)?;
        }
        Ok(())
    }

    fn json(&self, summary: &Summary, judged: &[(String, bool)]) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(summary)?;
        value["file"] = json!(self.at.file.display().to_string());
        value["number"] = json!(self.at.number);
        value["offset"] = json!(self.at.offset);
        if let Some(matched) = self.matched {
            value["format"] = json!(matched.name);
            value["groups"] = matched.groups.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
        }
        for (result, (category, hard)) in value["results"].as_array_mut().into_iter().flatten().zip(judged) {
            if !category.is_empty() {
                result["category"] = Value::from(category.as_str());
            }
            result["hard"] = Value::from(*hard);
        }
        Ok(value)
    }

    fn text(&self, out: &mut dyn Write, summary: &Summary, judged: &[(String, bool)]) -> std::io::Result<()> {
        let at = match self.at {
            At { in_mailbox: true, number, offset, .. } => format!(", mail {number} at byte {offset}"),
            _ => String::new(),
        };
        let format = match self.matched.map_or(summary.format, |m| &m.name) {
            _ if self.is_empty => " (empty)".to_owned(),
            "" => String::new(),
            format => format!(" ({format})"),
        };
        writeln!(out, "{}{at}: {}{format}", shown(self.at.file), summary.kind)?;
        for (result, (category, _)) in summary.results.iter().zip(judged) {
            let status = result.status.as_deref().unwrap_or("");
            let action = result.action.unwrap_or(&result.feedback_type);
            let words = [result.rcpt.as_str(), action, status, category, &result.diag];
            let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).collect();
            writeln!(out, "    {}", words.join("  "))?;
        }
        if let Some(matched) = self.matched {
            writeln!(out, "    groups: {}", matched.found)?;
        }
        if summary.left_out > 0 {
            writeln!(out, "    at least {} more recipients are left out", summary.left_out)?;
        }
        if !summary.original.message_id.is_empty() || !summary.original.subject.is_empty() {
            writeln!(out, "    about: <{}> {}", summary.original.message_id, summary.original.subject)?;
        }
        Ok(())
    }
}

/// The category of one result, as its event will have it, and whether it says for good that the address is dead.
fn judge(kind: ReportKind, result: &RcptResult, diag: &str, rules: &RuleSet) -> (String, bool) {
    if !matches!(kind, ReportKind::Bounce | ReportKind::Status) {
        return (String::new(), false);
    }
    // A report on several may be on some that arrived.
    let kind = match result.action.unwrap_or(Action::Failed) {
        Action::Failed => Kind::RemoteBounce,
        _ => Kind::RemoteStatus,
    };
    let event = Event { diag, status: result.status, action: result.action, ..Event::new(kind, Time::UNKNOWN) };
    let verdict = rules.classify(&event);
    (verdict.category.to_owned(), event.is_permanent_failure() && verdict.kind() == FailureKind::Hard)
}
