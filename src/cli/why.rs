//! `carom why`: everything known about an address or a message, in the order in which it happened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::acct_input::{Progress, complain};
use super::find::record_json;
use super::peer::Peer;
use super::{Failure, ServerArgs};
use crate::config::{AcctFormat, Config};
use crate::event::fields::FIELDS;
use crate::event::record::PROOFS;
use crate::event::{Category, EventId, Time, plain};
use crate::history::{Input, Report, Scan, expand, times};
use crate::manage::{Command, SuppressionCommand};

/// Arguments of `carom why`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looked at are the accounting files of the configuration (or --acct), the ledger (which is ahead of the\n\
    files), the queue and the suppression list; through the running server, or in its store when none runs.\n\
    In Parquet files, bloom filters and statistics exclude most row groups; they know addresses as they were\n\
    given in RCPT and in lower case: with --any-case everything is read.\n\n\
    Examples:\n  \
    carom why ann@example.net\n  \
    carom why ann@example.net --acct '/archive/acct/date=2026-0[45]*' --json\n  \
    carom why 4711                        (messageId)\n  \
    carom why 00c0ffee00c0ffee-1234       (eventId)\n  \
    carom why '<20260501.1@example.com>'  (Message-ID, where acct-files record header_Message-ID)\n\n\
    Exit code: 0 something is known; 1 nothing is; 2 the arguments are wrong, or a file could not be read."
)]
pub struct Args {
    /// An address, a messageId, an eventId or a <Message-ID>
    #[arg(value_name = "ADDRESS|MESSAGE-ID")]
    what: String,
    /// Accounting files instead of those of the configuration: files, folders, quoted patterns; may be repeated
    #[arg(long, value_name = "GLOB")]
    acct: Vec<String>,
    /// Find the address however it is spelt, also where filters can't know it: reads every file
    #[arg(long)]
    any_case: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Address(String),
    Message(u64),
    Event(EventId),
    Header(String),
}

/// Most records in a timeline; the newest are kept.
const MOST: usize = 10_000;

type Record = Map<String, Value>;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some(subject) = subject(&args.what) else {
        eprintln!("carom: {:?} is no address, messageId (a number), eventId (STORE-SEQ) or <Message-ID>", args.what);
        return Ok(ExitCode::from(2));
    };
    // A folder of files may be asked without any configuration.
    let standalone = !args.acct.is_empty() && args.server.socket.is_none() && args.server.config.file().is_err();
    let (mut peer, config) = if standalone {
        (None, None)
    } else {
        let config = match args.server.config.load()? {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let peer = match Peer::reach(&args.server) {
            Ok(Ok(peer)) => Some(peer),
            Ok(Err(code)) => return Ok(code),
            Err(why) => {
                eprintln!("carom: {why}; only the accounting files are looked at");
                None
            }
        };
        (peer, Some(config))
    };
    let inputs = match (args.acct.is_empty(), &config) {
        (true, Some(config)) => configured(config, args.server.config.root.as_deref()),
        _ => match expand(&args.acct) {
            Ok(inputs) => inputs,
            Err(why) => {
                eprintln!("carom: {why}");
                return Ok(ExitCode::from(2));
            }
        },
    };

    let mut report = Report::default();
    let mut known = Known::default();
    let progress = Progress::over(&inputs, args.quiet);
    let mut search = |column: &str, values: &[String], prune: bool, known: &mut Known| {
        let one = scan(&inputs, column, values, prune, &progress, known);
        report.failed.extend(one.failed);
        report.bad += one.bad;
        report.bad_rows.extend(one.bad_rows);
        report.files = report.files.max(one.files);
        report.row_groups.0 += one.row_groups.0;
        report.row_groups.1 += one.row_groups.1;
    };
    match &subject {
        Subject::Address(address) => {
            let lower = address.to_lowercase();
            let host = address.rsplit_once('@').map_or_else(String::new, |(l, d)| format!("{l}@{}", d.to_lowercase()));
            search("rcpt", &[address.clone(), lower, host], !args.any_case, &mut known);
            if let Some(peer) = &mut peer {
                ledger(peer, address, 0, &mut known)?;
            }
        }
        Subject::Message(id) => {
            search("messageId", &[id.to_string()], true, &mut known);
            if let Some(peer) = &mut peer {
                ledger(peer, "", *id, &mut known)?;
            }
        }
        Subject::Event(id) => {
            search("eventId", &[id.to_string()], true, &mut known);
            if let Some(peer) = &mut peer {
                one_of_ledger(peer, *id, &mut known)?;
            }
            // What happened to its recipient before and after belongs to it.
            let message =
                known.records.values().find_map(|r| Some((number(r, "messageId")?, text(r, "rcpt").to_owned())));
            if let Some((message, rcpt)) = message {
                search("messageId", &[message.to_string()], true, &mut known);
                if let Some(peer) = &mut peer {
                    ledger(peer, "", message, &mut known)?;
                }
                known.records.retain(|_, r| rcpt.is_empty() || text(r, "rcpt").eq_ignore_ascii_case(&rcpt));
            }
        }
        Subject::Header(id) => {
            let bare = id.trim_matches(['<', '>']).to_owned();
            search("header_Message-ID", &[bare.clone(), format!("<{bare}>")], false, &mut known);
            let messages: std::collections::BTreeSet<u64> =
                known.records.values().filter_map(|r| number(r, "messageId")).collect();
            let ids: Vec<String> = messages.iter().map(u64::to_string).collect();
            if !ids.is_empty() {
                search("messageId", &ids, true, &mut known);
            }
            if let Some(peer) = &mut peer {
                for id in &messages {
                    ledger(peer, "", *id, &mut known)?;
                }
            }
        }
    }
    drop(progress);

    let addresses: std::collections::BTreeSet<String> = match &subject {
        Subject::Address(address) => [address.clone()].into(),
        _ => known.records.values().map(|r| text(r, "rcpt").to_owned()).filter(|a| !a.is_empty()).take(100).collect(),
    };
    let (mut suppression, mut queued) = (Vec::new(), Vec::new());
    if let Some(peer) = &mut peer {
        for address in &addresses {
            let (subjects, mail) = (vec![address.clone()], Default::default());
            let check = SuppressionCommand::Check { subjects, mail, hashed: false };
            let data = peer.data(Command::Suppression(check))?;
            suppression.extend(data.pointer("/results/0").cloned());
        }
        queued = still_queued(peer, &known)?;
    }
    let said =
        Said { subject: &args.what, known: &known, suppression: &suppression, queued: &queued, asked: peer.is_some() };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&said.json(&report))?)?;
    } else {
        said.print()?;
    }
    complain(&report);
    let suppressed = suppression.iter().any(|s| s.get("suppressed").and_then(Value::as_bool) == Some(true));
    let nothing = known.records.is_empty() && !suppressed;
    Ok(ExitCode::from(if report.failed.is_empty() { u8::from(nothing) } else { 2 }))
}

fn subject(what: &str) -> Option<Subject> {
    let what = what.trim();
    if let Ok(id) = what.parse::<EventId>() {
        return Some(Subject::Event(id));
    }
    if let Ok(id) = what.parse() {
        return Some(Subject::Message(id));
    }
    match (what.starts_with('<') && what.ends_with('>'), what.contains('@')) {
        (true, _) => Some(Subject::Header(what.to_owned())),
        (false, true) => Some(Subject::Address(what.to_owned())),
        _ => None,
    }
}

/// The files of the acct-files of a configuration that are there.
fn configured(config: &Config, root: Option<&Path>) -> Vec<Input> {
    let root = root.unwrap_or(Path::new(""));
    let mut patterns = Vec::new();
    for file in config.acct_files.iter().filter(|f| f.format.is_files()) {
        let path = root.join(&file.path);
        let part = |p: Option<&std::ffi::OsStr>| glob::Pattern::escape(&p.unwrap_or_default().to_string_lossy());
        let (stem, extension) = (part(path.file_stem()), part(path.extension()));
        let middle = if file.format == AcctFormat::Parquet { "**/" } else { "" };
        for dir in
            [path.parent().map(Path::to_owned), file.move_to.as_ref().map(|d| root.join(d))].into_iter().flatten()
        {
            patterns.push(format!("{}/{middle}{stem}-*.{extension}", glob::Pattern::escape(&dir.to_string_lossy())));
        }
    }
    // One that matches nothing yet has no files.
    let mut inputs: Vec<Input> = patterns.iter().filter_map(|p| expand(&[p]).ok()).flatten().collect();
    let mut seen = std::collections::HashSet::new();
    inputs.retain(|i| seen.insert(i.clone()));
    inputs
}

/// Records by time and then as they came; what stands in several outputs is there once.
#[derive(Debug, Default)]
struct Known {
    /// By second (files differ in how exactly they keep times), then event.
    records: BTreeMap<(i64, String), Record>,
    ids: std::collections::HashSet<String>,
    /// Older ones that were left out.
    cut: u64,
}

impl Known {
    fn add(&mut self, record: Record, otherwise: &str) {
        let id = text(&record, "eventId");
        let id = if id.is_empty() { otherwise.to_owned() } else { id.to_owned() };
        if !self.ids.insert(id.clone()) {
            return;
        }
        // The number of an event id sorts as a number.
        let order = id.rsplit_once('-').map_or_else(|| id.clone(), |(store, seq)| format!("{store}-{seq:>20}"));
        let second = times::parse(text(&record, "timeLogged")).map_or(i64::MIN, Time::secs);
        self.records.insert((second, order), record);
        if self.records.len() > MOST {
            self.records.pop_first();
            self.cut += 1;
        }
    }
}

fn scan(
    inputs: &[Input],
    column: &str,
    values: &[String],
    prune: bool,
    progress: &Progress,
    known: &mut Known,
) -> Report {
    let columns: Vec<&str> = FIELDS.iter().map(|f| f.name).chain(["header_Message-ID", "header_Subject"]).collect();
    let scan = Scan::new(&columns).only(column, values, prune);
    scan.run(inputs, &mut |bytes| progress.add(bytes), &mut |row| {
        let record = record_json(row, &columns);
        known.add(record, &format!("{}:{}", row.source(), row.line()));
        ControlFlow::Continue(())
    })
}

/// What the ledger holds that no file has yet (and what they have, once more).
fn ledger(peer: &mut Peer, address: &str, message: u64, known: &mut Known) -> Result<(), Failure> {
    let mut from = 0;
    loop {
        let data = peer.data(Command::Events { from, address: address.to_owned(), message })?;
        for event in data.get("events").and_then(Value::as_array).into_iter().flatten() {
            if let Value::Object(record) = event {
                known.add(record.clone(), "");
            }
        }
        let of = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        if of("next") >= of("end") || of("next") <= from {
            return Ok(());
        }
        from = of("next");
    }
}

/// The event itself, if the ledger still has it.
fn one_of_ledger(peer: &mut Peer, id: EventId, known: &mut Known) -> Result<(), Failure> {
    let data = peer.data(Command::Events { from: id.seq, address: String::new(), message: 0 })?;
    let first = data.get("events").and_then(Value::as_array).and_then(|e| e.first()).and_then(Value::as_object);
    if let Some(record) = first.filter(|r| text(r, "eventId") == id.to_string()) {
        known.add(record.clone(), "");
    }
    Ok(())
}

fn still_queued(peer: &mut Peer, known: &Known) -> Result<Vec<Value>, Failure> {
    let mut ours: BTreeMap<(u64, u64), &Record> = BTreeMap::new();
    for record in known.records.values() {
        if let (Some(message), Some(index)) = (number(record, "messageId"), number(record, "rcptIndex")) {
            ours.insert((message, index), record);
        }
    }
    let mut messages: Vec<u64> = ours.keys().map(|(m, _)| *m).collect();
    messages.dedup();
    let mut queued = Vec::new();
    // A request line is bounded.
    for some in messages.chunks(1000) {
        let data = peer.data(Command::Queued { messages: some.to_vec() })?;
        for state in data.get("queued").and_then(Value::as_array).into_iter().flatten() {
            let of = |name: &str| state.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
            if let Some(record) = ours.get(&(of("messageId"), of("rcptIndex"))) {
                let mut state = state.clone();
                state["rcpt"] = text(record, "rcpt").into();
                queued.push(state);
            }
        }
    }
    Ok(queued)
}

fn text<'r>(record: &'r Record, name: &str) -> &'r str {
    record.get(name).and_then(Value::as_str).unwrap_or("")
}

fn number(record: &Record, name: &str) -> Option<u64> {
    record.get(name).and_then(Value::as_u64)
}

struct Said<'s> {
    subject: &'s str,
    known: &'s Known,
    suppression: &'s [Value],
    queued: &'s [Value],
    /// Whether a server or store was asked.
    asked: bool,
}

impl Said<'_> {
    fn json(&self, report: &Report) -> Value {
        let timeline: Vec<Value> = self
            .known
            .records
            .values()
            .map(|r| {
                let mut r = r.clone();
                r.insert("strike".to_owned(), strikes(&r).into());
                Value::Object(r)
            })
            .collect();
        json!({
            "subject": self.subject,
            "timeline": timeline,
            "olderLeftOut": self.known.cut,
            "suppression": self.suppression,
            "queued": self.queued,
            "storeAsked": self.asked,
            "rowGroupsRead": report.row_groups.0,
            "rowGroupsExcluded": report.row_groups.1,
        })
    }

    fn print(&self) -> std::io::Result<()> {
        say!("{}", plain(self.subject))?;
        if self.known.cut > 0 {
            say!("  ({} older records left out)", self.known.cut)?;
        }
        if self.known.records.is_empty() {
            say!("  nothing in the accounting files")?;
        }
        for record in self.known.records.values() {
            say!("{}", plain(&line(record)))?;
            for detail in details(record) {
                say!("                       {}", plain(&detail))?;
            }
        }
        if !self.asked {
            return say!("\nqueue and suppression list were not asked (no server, no store)");
        }
        say!("")?;
        for answer in self.suppression {
            let of = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
            let address = of(answer, "address");
            match answer.get("entry").filter(|e| !e.is_null()) {
                None => say!("suppression: {address} is not suppressed")?,
                Some(entry) => {
                    let parts: Vec<String> = [
                        ("rule", of(entry, "rule")),
                        ("since", of(entry, "time")),
                        ("event", of(entry, "event")),
                        ("category", of(entry, "category")),
                        ("reply", of(entry, "reply")),
                        ("note", of(entry, "note")),
                    ]
                    .into_iter()
                    .filter(|(_, v)| !v.is_empty())
                    .map(|(n, v)| format!("{n} {v}"))
                    .collect();
                    say!("suppression: {address} IS SUPPRESSED: {}", plain(&parts.join(", ")))?;
                }
            }
        }
        if self.queued.is_empty() {
            return say!("queue:       nothing of it is queued");
        }
        for state in self.queued {
            let of = |name: &str| state.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            let shown = |name: &str| of(name).filter(|v| v != "null").unwrap_or_default();
            let next = Some(shown("notBefore"))
                .filter(|t| !t.is_empty())
                .map_or("as soon as its turn comes".to_owned(), |t| format!("not before {t}"));
            say!(
                "queue:       message {} to {} is queued: {} attempts so far, next {next}",
                shown("messageId"),
                plain(&shown("rcpt")),
                shown("attempts"),
            )?;
        }
        Ok(())
    }
}

/// Whether the record counts against its address: bounced for good by a category that says the address is dead, as we
/// heard ourselves, or as a report says that proves to be about mail of ours.
fn strikes(record: &Record) -> bool {
    is_dead(record) && (text(record, "type") == "b" || is_proved(record))
}

/// Whether a report proves to be about mail that we sent to its recipient.
fn is_proved(record: &Record) -> bool {
    PROOFS.contains(&text(record, "attributedBy"))
}

/// Whether the record says for good that the address is dead.
fn is_dead(record: &Record) -> bool {
    let dead = Category::by_name(text(record, "bounceCat")).is_some_and(|c| c.dead_address);
    let diag = text(record, "dsnDiag");
    let reply = diag.split_once(';').map_or(diag, |(_, rest)| rest.trim_start());
    let permanent = match reply.as_bytes() {
        [class @ (b'2' | b'4' | b'5'), b'0'..=b'9', b'0'..=b'9', ..] => *class == b'5',
        _ => text(record, "dsnStatus").starts_with("5."),
    };
    matches!(text(record, "type"), "b" | "rb") && dead && permanent
}

fn line(record: &Record) -> String {
    let what = match text(record, "type") {
        "r" => "accepted",
        "d" => "delivered",
        "b" => "bounced",
        "t" => "deferred",
        "rb" => "REPORTED BOUNCED",
        "rs" => "status report",
        "f" => "COMPLAINT",
        other => other,
    };
    let attempt = number(record, "attempt").map_or(String::new(), |n| format!(" (attempt {n})"));
    let time = text(record, "timeLogged");
    let time = time.get(..19).map_or_else(|| "(no time)".to_owned(), |t| t.replace('T', " "));
    let message = number(record, "messageId").map_or(String::new(), |n| format!("  message {n}"));
    let job = Some(text(record, "jobId")).filter(|j| !j.is_empty()).map_or(String::new(), |j| format!("  job {j}"));
    format!("{time} UTC  {what}{attempt}  {}{message}{job}", text(record, "rcpt"))
}

fn details(record: &Record) -> Vec<String> {
    let of = |name: &str| text(record, name);
    let part = |label: &str, value: &str| (!value.is_empty()).then(|| format!("{label}{value}"));
    let join = |parts: Vec<Option<String>>| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    };
    let kind = of("type");
    let mut lines = Vec::new();
    if kind == "r" {
        lines.push(join(vec![
            part("from ", of("orig")),
            part("handed in by ", of("srcMta")),
            part("user ", of("rcvSmtpUser")),
            part("VirtualMTA ", of("vmta")),
        ]));
        lines.push(part("subject: ", of("header_Subject")));
    } else if matches!(kind, "d" | "b" | "t") {
        lines.push(join(vec![
            part("to ", of("dsnMta")),
            part("from ", of("dlvSourceIp")),
            part("VirtualMTA ", of("vmta")),
            part("", of("dlvTlsProtocol")),
        ]));
    } else {
        lines.push(join(vec![
            part("reported by ", of("dsnReportingMta")),
            part("reported by ", of("reportingMta")),
            part("program ", of("userAgent")),
            part("type ", of("feedbackType")),
            part("list ", of("list")),
            part("format ", of("format")),
        ]));
        lines.push(Some(match of("attributedBy") {
            "" => "attributed to no mail of ours: recorded, suppresses nobody".to_owned(),
            how if is_proved(record) => format!("attributed to our mail by its {how}"),
            how => format!("attributed to our mail by its {how}, which is no proof: recorded, suppresses nobody"),
        }));
    }
    lines.push(part("", of("dsnDiag")).or_else(|| part("", of("dsnStatus"))));
    if !of("bounceCat").is_empty() {
        let rule = part(" by ", of("bounceRule")).unwrap_or_default();
        let strike = match (strikes(record), is_dead(record)) {
            (true, _) => "; counts against the address",
            (false, true) => "; would count against the address with proof",
            (false, false) => "",
        };
        lines.push(Some(format!("category {}{rule}{strike}", of("bounceCat"))));
    }
    lines.push(part("suppressed by event ", of("suppressedBy")));
    if record.get("inDoubt").and_then(Value::as_bool) == Some(true) {
        lines.push(Some("in doubt: an earlier attempt may have succeeded without our hearing of it".to_owned()));
    }
    lines.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_against_an_address_only_with_proof() {
        let said = |kind: &str, way: &str| {
            let record = json!({
                "type": kind, "attributedBy": way, "bounceCat": "bad-mailbox", "dsnStatus": "5.1.1",
                "dsnDiag": "smtp;550 5.1.1 no such user",
            });
            let record = record.as_object().unwrap().clone();
            (strikes(&record), details(&record).join("\n"))
        };
        for (kind, way, counts) in
            [("b", "", true), ("rb", "message-id", true), ("rb", "return-path", true), ("rb", "header-token", true)]
        {
            let (strikes, words) = said(kind, way);
            assert!(strikes == counts && words.contains("; counts against the address"), "{kind} {way}: {words}");
        }
        for way in ["", "headers", "envelope-id", "message-id-alone"] {
            let (strikes, words) = said("rb", way);
            assert!(!strikes && words.contains("suppresses nobody"), "{way}: {words}");
            assert!(words.contains("would count against the address with proof"), "{way}: {words}");
        }
    }

    #[test]
    fn what_is_asked_about_is_told_by_its_form() {
        assert_eq!(subject("ann@b.example"), Some(Subject::Address("ann@b.example".into())));
        assert_eq!(subject("4711"), Some(Subject::Message(4711)));
        assert_eq!(subject("<1@b.example>"), Some(Subject::Header("<1@b.example>".into())));
        assert!(matches!(subject("00000000000000ab-42"), Some(Subject::Event(_))));
        assert_eq!(subject("ann"), None);
    }
}
