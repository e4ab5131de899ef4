//! `carom status`: what an operator looks at first.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{Failure, ServerArgs};
use crate::manage::{Answer, Command};

/// Arguments of `carom status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args.server.ask(&Command::Status)? {
        Ok(Answer::Success { data, .. }) if args.json => say!("{data}")?,
        Ok(Answer::Success { data, .. }) => say!("{}", text(&data).trim_end())?,
        Ok(Answer::Error { message }) => return Err(message.into()),
        Err(code) => return Ok(code),
    }
    Ok(ExitCode::SUCCESS)
}

/// For people. What is missing, since the server is of another version, is left empty.
fn text(status: &Value) -> String {
    let show = |path: &str| shown(status.pointer(path).unwrap_or(&Value::Null));
    let size = |path: &str| bytes(status.pointer(path).and_then(Value::as_u64).unwrap_or(0));
    let rows = |name: &str| status.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, what: String| {
        let _ = writeln!(out, "{name:<14} {what}");
    };
    line("carom", format!("{}, started {}", show("/version"), show("/started")));
    line(
        "configuration",
        format!("{}, in force since {}", show("/configuration/file"), show("/configuration/inForceSince")),
    );
    let waiting: Vec<String> = status
        .pointer("/configuration/waitingForRestart")
        .and_then(Value::as_array)
        .map(|names| names.iter().map(shown).collect())
        .unwrap_or_default();
    if !waiting.is_empty() {
        line("  CHANGED", format!("{} (in effect after a restart)", waiting.join(", ")));
    }
    if !show("/configuration/refused").is_empty() {
        line("  REFUSED", show("/configuration/refused"));
    }
    let given_up = show("/configuration/patternsGivenUp");
    if !matches!(&*given_up, "" | "0") {
        line(
            "  GIVEN UP",
            format!(
                "a pattern was given up at its backtrack limit {given_up} times and counted as no match (the log names \
                 it, `carom patterns lint` says why)"
            ),
        );
    }
    let intake = show("/intake");
    line("intake", if intake == "open" { intake } else { format!("REFUSED: {intake}") });
    let tables = show("/tables");
    if tables != "working" {
        line("tables", format!("FAILED: {tables}"));
    }
    line("queue", format!("{} recipients of {} messages", show("/queuedRecipients"), show("/store/queuedMessages")));
    if !matches!(&*show("/onHoldRecipients"), "" | "0") {
        let why = "their suppression entries are held back; `carom suppress list` shows which";
        line("  ON HOLD", format!("{} recipients ({why})", show("/onHoldRecipients")));
    }
    line("reports", report_line(status));
    if let Some(text) = unsubscribe_line(status) {
        line("unsubscribing", text);
    }
    if status.pointer("/reportQuarantine/mails").and_then(Value::as_u64).unwrap_or(0) > 0 {
        let oldest = show("/reportQuarantine/oldest");
        let (mails, evicted) = (show("/reportQuarantine/mails"), show("/reportQuarantine/evicted"));
        let (bytes, limit) = (size("/reportQuarantine/bytes"), size("/reportQuarantine/limit"));
        let evicted = if evicted == "0" { String::new() } else { format!(", {evicted} dropped for newer ones") };
        line("  QUARANTINE", format!("{mails} mails not understood ({bytes} of {limit}) since {oldest}{evicted}"));
    }
    line("suppressed", format!("{} addresses", show("/suppressedAddresses")));
    for breaker in status.pointer("/suppressionBreaker").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| breaker.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        line("  BREAKER", format!("{} has tripped at {}: carom suppress breaker list", of("name"), of("since")));
    }
    line(
        "store",
        format!(
            "{} ({}): journal of {} ({} queued mail, {} held for consumers), segments: {}",
            show("/store/folder"),
            show("/store/id"),
            size("/store/journalBytes"),
            size("/store/liveBytes"),
            size("/store/heldBytes"),
            show("/store/segments"),
        ),
    );
    let alarms = status.pointer("/novelty/alarms").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(last) = alarms.first() {
        let of = |name: &str| last.get(name).map_or(String::new(), shown);
        line(
            "NEW REPLIES",
            format!("{} alarms; the last {} at {}: {}", alarms.len(), of("time"), of("provider"), of("template")),
        );
    }
    let paused = rows("pausedJobs");
    if !paused.is_empty() {
        let recipients: u64 = paused.iter().filter_map(|j| j.get("recipients").and_then(Value::as_u64)).sum();
        line("PAUSED", format!("{} jobs with {recipients} recipients", paused.len()));
    }
    let end = status.pointer("/ledger/end").and_then(Value::as_u64).unwrap_or(0);
    line("ledger", format!("events {} to {}", show("/ledger/first"), end.saturating_sub(1)));
    let shown_queues = rows("queues");
    let queues = match (shown_queues.len().to_string(), show("/queueCount")) {
        (some, all) if some == all => "queues".to_owned(),
        (some, all) => format!("queues (the {some} fullest of {all})"),
    };
    for (title, rows, columns) in [
        ("accounting files".to_owned(), rows("outputs"), OUTPUTS),
        ("consumers of the ledger".to_owned(), rows("consumers"), CONSUMERS),
        (queues, shown_queues, QUEUES),
    ] {
        let _ = writeln!(out, "\n{title}");
        let _ = writeln!(out, "{}", table(&rows, columns));
    }
    let files = rows("addressFiles");
    if !files.is_empty() {
        let _ = writeln!(out, "\naddress files of suppression lists");
        let _ = writeln!(out, "{}", table(&files.into_iter().map(with_progress).collect::<Vec<_>>(), ADDRESS_FILES));
    }
    let steered = rows("steeredQueues");
    if !steered.is_empty() {
        let title = match (steered.len().to_string(), show("/steeredQueueCount")) {
            (some, all) if some == all => "queues in backoff mode or with disabled source addresses".to_owned(),
            (some, all) => format!("queues in backoff mode or with disabled source addresses ({some} of {all})"),
        };
        let _ = writeln!(out, "\n{title}");
        let _ = writeln!(out, "{}", table(&steered.into_iter().flat_map(lines_of).collect::<Vec<_>>(), STEERED));
    }
    for (title, rows, columns) in [
        ("paused jobs (`carom queue resume-job JOB` lets one go on)", paused, PAUSED),
        ("jobs that have passed a limit of their <job-guard>", rows("jobAlarms"), JOB_ALARMS),
    ] {
        if !rows.is_empty() {
            let _ = writeln!(out, "\n{title}");
            let _ = writeln!(out, "{}", table(&rows, columns));
        }
    }
    if !alarms.is_empty() {
        let rows: Vec<Value> = alarms.into_iter().map(rule_alone).collect();
        let _ = writeln!(out, "\nreplies never seen before (`carom patterns unmatched` shows more)");
        let _ = writeln!(out, "{}", table(&rows, ALARMS));
    }
    out
}

/// What came to the report addresses since the start.
fn report_line(status: &Value) -> String {
    let n = |name: &str| status.pointer(&format!("/reports/{name}")).and_then(Value::as_u64).unwrap_or(0);
    let left_out = match n("leftOut") {
        0 => String::new(),
        n => format!(", {n} recipients of long reports left out"),
    };
    format!(
        "{} mails to bounce and {} to feedback addresses: {} events ({} proved), {} automatic replies, {} not understood{left_out}",
        n("bounceProcessed"),
        n("feedbackLoopProcessed"),
        n("events"),
        n("attributed"),
        n("autoReplies"),
        n("unmatched") + n("unreadable"),
    )
}

/// The state of an address file that is being read says how far that is.
fn with_progress(mut file: Value) -> Value {
    let number = |name: &str| file.get(name).and_then(Value::as_u64);
    if let (Some(read), Some(all)) = (number("bytesRead"), number("bytesToRead")) {
        file["state"] = format!("reading, {} %", read * 100 / all.max(1)).into();
    }
    file["lists"] = file
        .get("lists")
        .and_then(Value::as_array)
        .map_or(Value::Null, |names| names.iter().map(shown).collect::<Vec<_>>().join(", ").into());
    file
}

/// Who has left a list since the start; `None` when nobody has asked.
fn unsubscribe_line(status: &Value) -> Option<String> {
    let n = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let of = |name: &str| n(&format!("/unsubscribe/{name}"));
    let mails = n("/reports/unsubscribeProcessed");
    let asked = ["pages", "unsubscribed", "unknownLinks", "overRate", "failed"].iter().any(|name| of(name) > 0);
    let mut text = format!(
        "{} by link, {mails} mails; {} pages shown, {} requests without a link of ours, {} over the rate",
        of("unsubscribed"),
        of("pages"),
        of("unknownLinks"),
        of("overRate"),
    );
    if of("failed") > 0 {
        text.push_str(&format!("; {} COULD NOT BE RECORDED, the log says why", of("failed")));
    }
    (asked || mails > 0).then_some(text)
}

/// Of the proposed rule the examples are left out.
fn rule_alone(mut alarm: Value) -> Value {
    if let Some(proposal) = alarm.get_mut("proposal") {
        let rule = proposal.as_str().and_then(|p| p.lines().last()).unwrap_or("").to_owned();
        *proposal = rule.into();
    }
    alarm
}

/// A queue that is steered as one line for its mode and one for each address.
fn lines_of(queue: Value) -> Vec<Value> {
    let of = |row: &Value, name: &str| row.get(name).map_or(String::new(), shown);
    let mut lines = Vec::new();
    if of(&queue, "mode") == "backoff" {
        let (since, why) = (of(&queue, "since"), of(&queue, "why"));
        lines.push(serde_json::json!({ "queue": of(&queue, "queue"), "what": "backoff", "since": since, "why": why }));
    }
    for source in queue.get("disabledSources").and_then(Value::as_array).into_iter().flatten() {
        lines.push(serde_json::json!({
            "queue": of(&queue, "queue"),
            "what": format!("without {}", of(source, "source")),
            "since": of(source, "since"),
            "until": source.get("until").filter(|u| !u.is_null()).map_or("for good".to_owned(), shown),
            "why": of(source, "why"),
        }));
    }
    lines
}

/// Columns: the member of the row, its heading.
type Columns = &'static [(&'static str, &'static str)];

const OUTPUTS: Columns = &[
    ("output", "acct-file"),
    ("file", "file in use"),
    ("records", "records since start"),
    ("lag", "events to go"),
    ("leftOut", "left out"),
    ("retries", "failed tries"),
    ("error", "last error"),
];
const CONSUMERS: Columns = &[("consumer", "consumer"), ("holdsFrom", "keeps from event"), ("behind", "events behind")];
const ADDRESS_FILES: Columns = &[
    ("file", "file"),
    ("lists", "lists"),
    ("state", "state"),
    ("entries", "entries"),
    ("since", "since"),
    ("badLines", "bad lines"),
    ("error", "last error"),
];
const ALARMS: Columns = &[
    ("time", "time"),
    ("provider", "provider"),
    ("category", "counted as"),
    ("rule", "decided by"),
    ("template", "reply"),
    ("proposal", "proposed rule"),
];
const STEERED: Columns =
    &[("queue", "queue"), ("what", "what"), ("since", "since"), ("until", "until"), ("why", "pattern and reply")];
const PAUSED: Columns =
    &[("job", "job"), ("recipients", "recipients"), ("since", "since"), ("by", "by"), ("reason", "reason")];
const JOB_ALARMS: Columns = &[("job", "job"), ("time", "time"), ("reason", "why")];
const QUEUES: Columns = &[
    ("queue", "queue"),
    ("ready", "ready"),
    ("held", "held back"),
    ("paused", "paused"),
    ("onHold", "on hold"),
    ("connections", "connections"),
    ("mode", "mode"),
    ("nextRetry", "sleeps until"),
    ("lastError", "last error"),
];

fn table(rows: &[Value], columns: Columns) -> String {
    if rows.is_empty() {
        return "  none".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(columns.iter().map(|(_, heading)| format!(" {heading}")));
    for row in rows {
        table.add_row(columns.iter().map(|(member, _)| format!(" {}", row.get(member).map_or(String::new(), shown))));
    }
    // No spaces before the line end.
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_stands_out_and_what_is_missing_does_no_harm() {
        let status = json!({
            "intake": "disk full",
            "tables": "I/O error",
            "configuration": { "waitingForRestart": ["spool"], "refused": "10:00: c:1: x", "patternsGivenUp": 3 },
            "store": { "journalBytes": 3_145_728 },
            "pausedJobs": [{ "job": "spring", "recipients": 40, "by": "job-guard", "reason": "11 of 101 mails" }],
            "steeredQueueCount": 1,
            "steeredQueues": [{
                "queue": "b.example/v", "mode": "backoff", "since": "10:05", "why": "/etc/c:7: 421 slow",
                "disabledSources": [{ "source": "192.0.2.1", "since": "10:06", "until": null, "why": "/etc/c:8: 550 listed" }],
            }],
            "onHoldRecipients": 7,
            "addressFiles": [{
                "file": "/etc/never", "lists": ["L", "M"], "state": "reading", "bytesRead": 50, "bytesToRead": 200,
                "error": "it can't be read: gone",
            }],
            "outputs": [{ "output": "a.csv", "lag": 5, "error": "no space" }],
        });
        let text = text(&status);
        for part in [
            "REFUSED: disk full",
            "FAILED: I/O error",
            "spool (in effect after a restart)",
            "c:1: x",
            "given up at its backtrack limit 3 times",
            "3.0 MiB",
            "no space",
            "7 recipients (their suppression entries",
            "L, M",
            "reading, 25 %",
            "it can't be read: gone",
            "1 jobs with 40 recipients",
            "11 of 101 mails",
            "/etc/c:7: 421 slow",
            "without 192.0.2.1",
            "for good",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(super::text(&Value::Null).contains("none"));
    }
}
