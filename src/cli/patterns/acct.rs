//! The history the commands look at: accounting files of any kind, row by row, as the events they were.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};

use super::paint::grouped;
use crate::cli::Failure;
use crate::cli::acct_input::inputs;
use crate::event::{Category, EnhancedStatus, Event, Kind, Stage, Time, category};
use crate::history::{Input, Scan};

/// Which history.
#[derive(Debug, clap::Args)]
pub(super) struct AcctArgs {
    /// Accounting files, CSV or Parquet, Carom's or PowerMTA's: names, folders, or patterns such as 'acct/*.csv' (also
    /// packed with gzip or zstd; - is standard input)
    #[arg(long, value_name = "GLOB", required = true, num_args = 1..)]
    acct: Vec<String>,
    /// Only records of these types
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', default_value = "b,t,tq,rb,rs")]
    records: Vec<Kind>,
    /// Only these providers (the column, else the domain of the queue, else that of the recipient)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    provider: Vec<String>,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// The columns that are read.
const COLUMNS: [&str; 15] = [
    "type",
    "rcpt",
    "dsnStatus",
    "dsnDiag",
    "dsnMta",
    "bounceCat",
    "bounceRule",
    "provider",
    "queue",
    "smtpStage",
    "eventId",
    "attributedBy",
    "feedbackType",
    "vmta",
    "timeLogged",
];

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'r> {
    /// As rules see it. Its category is empty unless its producer decided it.
    pub(super) event: Event<'r>,
    /// `bounceCat` as it was recorded.
    pub(super) category: &'r str,
    /// `bounceRule` as it was recorded.
    pub(super) rule: &'r str,
    /// Whether a Carom wrote it, so that an empty rule means that no rule decided.
    pub(super) by_carom: bool,
}

/// How a recorded category came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    /// By a pattern.
    Pattern,
    /// By a reply code.
    Code,
    /// By the producer of the event: suppressed, expired.
    Producer,
    /// By nothing.
    Nothing,
    /// The file does not say.
    Unknown,
}

impl Record<'_> {
    /// How its recorded category came about.
    pub(super) fn decided(&self) -> Decided {
        match self.rule {
            _ if !self.event.category.is_empty() => Decided::Producer,
            "" if !self.by_carom => Decided::Unknown,
            "" | "no rules" => Decided::Nothing,
            rule => by_rule(rule),
        }
    }
}

/// What decided, by the name of the rule in a verdict.
pub(super) fn by_rule(rule: &str) -> Decided {
    match rule {
        "" => Decided::Nothing,
        code if code.starts_with("code ") => Decided::Code,
        _ => Decided::Pattern,
    }
}

/// What came of reading.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Files read.
    pub(super) files: u64,
    /// Rows in them, of all types.
    pub(super) rows: u64,
    /// What could not be read, for people.
    pub(super) trouble: Vec<String>,
}

impl Read {
    /// Tells what could not be read; whether that was anything.
    pub(super) fn complain(&self) -> bool {
        for line in &self.trouble {
            eprintln!("carom: {line}");
        }
        !self.trouble.is_empty()
    }
}

impl AcctArgs {
    /// Whether it can be read only once.
    pub(super) fn is_stream(&self) -> bool {
        self.acct.iter().any(|a| a == "-")
    }

    /// Gives each record to `each`. `also` are types that are wanted beside those asked for.
    pub(super) fn read(&self, also: &[Kind], what: &str, each: &mut dyn FnMut(&Record<'_>)) -> Result<Read, Failure> {
        let inputs = inputs(&self.acct)?;
        let bar = bar(inputs.iter().map(Input::len).sum(), what, self.quiet);
        let scan = Scan::new(&COLUMNS).required(&["type"]);
        let mut rows = 0u64;
        let report = scan.run(&inputs, &mut |bytes| bar.inc(bytes), &mut |row| {
            rows += 1;
            if rows.is_multiple_of(65_536) {
                bar.set_message(format!("{} rows", grouped(rows)));
            }
            let Some(kind) = row.kind(0).filter(|k| self.records.contains(k) || also.contains(k)) else {
                return ControlFlow::Continue(());
            };
            let record = record(kind, |column| row.str(column));
            let provider = record.event.provider;
            if self.provider.is_empty() || self.provider.iter().any(|p| p.eq_ignore_ascii_case(provider)) {
                each(&record);
            }
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        let mut trouble: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
        if report.bad > 0 {
            let first = report.bad_rows.first().map_or("", String::as_str);
            trouble.push(format!("{} rows could not be read and were left out; the first: {first}", report.bad));
        }
        if report.files == 0 && !report.failed.is_empty() {
            return Err(trouble.join("\n").into());
        }
        Ok(Read { files: report.files, rows, trouble })
    }
}

/// A bar over so many bytes; on a terminal only.
fn bar(bytes: u64, what: &str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = match bytes {
        0 => ProgressStyle::with_template("{prefix} {spinner} {bytes} {msg}"),
        _ => ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {eta} {msg}"),
    };
    let bar = ProgressBar::new(bytes).with_prefix(what.to_owned());
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// The record of a row whose cells `cell` gives, in the order of [`COLUMNS`].
fn record<'r>(kind: Kind, cell: impl Fn(usize) -> &'r str) -> Record<'r> {
    let (rcpt, recorded, rule) = (cell(1), cell(5), cell(6));
    let by_carom = !cell(10).is_empty();
    // PowerMTA's files have no provider: the queue names the domain, or the roll-up.
    let queue = cell(8);
    let named = [cell(7), queue.rsplit_once('/').map_or("", |(domain, _)| domain)];
    let provider = named.into_iter().find(|p| !p.is_empty());
    let provider = provider.unwrap_or_else(|| rcpt.rsplit_once('@').map_or("", |(_, domain)| domain));
    let status = cell(2);
    let status: Option<EnhancedStatus> = status.split([' ', '(']).next().and_then(|s| s.parse().ok());
    let mta = cell(4);
    let (mta, mta_ip) = match mta.rsplit_once(" (") {
        Some((name, ip)) => (name, ip.trim_end_matches(')').parse().ok()),
        None => (mta, None),
    };
    // Only what the producer decided may stay in the event: all else is classified anew.
    let by_producer = recorded.eq_ignore_ascii_case(category::SUPPRESSED)
        || by_carom && rule.is_empty() && !recorded.is_empty() && recorded != "other";
    let category = match Category::by_name(recorded) {
        Some(known) if by_producer => known.name,
        _ => "",
    };
    let event = Event {
        rcpt,
        status,
        diag: cell(3),
        mta,
        mta_ip,
        category,
        provider,
        queue,
        vmta: cell(13),
        stage: cell(9).parse::<Stage>().ok(),
        attributed_by: cell(11),
        feedback_type: cell(12),
        ..Event::new(kind, Time(1))
    };
    Record { event, category: recorded, rule, by_carom }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'r>(kind: Kind, cells: &'r [(usize, &'static str)]) -> Record<'r> {
        record(kind, |n| cells.iter().find(|(at, _)| *at == n).map_or("", |(_, text)| *text))
    }

    #[test]
    fn a_row_of_powermta_is_the_event_it_was() {
        let cells = [
            (1, "ann@Example.NET"),
            (2, "5.1.2 (bad destination system: no such domain)"),
            (3, "smtp; 550 5.1.1 User unknown"),
            (4, "mx1.example.org (203.0.113.2)"),
            (5, "bad-mailbox"),
            (8, "example.net/vmta1"),
        ];
        let record = of(Kind::Bounced, &cells);
        assert_eq!(record.event.reply_text(), "550 5.1.1 User unknown");
        assert_eq!(record.event.status, "5.1.2".parse().ok());
        assert_eq!((record.event.mta, record.event.provider), ("mx1.example.org", "example.net"));
        assert_eq!((record.event.category, record.decided()), ("", Decided::Unknown));
    }

    #[test]
    fn what_decided_is_told_by_the_recorded_rule() {
        let decided = |category, rule| {
            let cells = [(5, category), (6, rule), (10, "00-1")];
            of(Kind::Bounced, &cells).decided()
        };
        assert_eq!(decided("other", ""), Decided::Nothing);
        assert_eq!(decided("other", "no rules"), Decided::Nothing);
        assert_eq!(decided("bad-mailbox", "code 5.1.1"), Decided::Code);
        assert_eq!(decided("bad-mailbox", "own.conf:3"), Decided::Pattern);
        assert_eq!(decided("suppressed", ""), Decided::Producer);
        assert_eq!(decided("message-expired", ""), Decided::Producer);
    }
}
