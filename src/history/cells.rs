//! Cells of accounting CSV files: times as PowerMTA and Carom write them, lists in a cell, and what follows from others.

use super::convert::Times;
use crate::event::{Address, Reply, Time};

/// Columns that others are derived from.
pub(super) const NEEDED: [&str; 8] =
    ["type", "dsnStatus", "dsnDiag", "dsnMta", "timeLogged", "timeQueued", "queue", "rcpt"];

/// A time in microseconds: `YYYY-MM-DD HH:MM:SS+ZZZZ` with or without parts of a second, an ISO 8601 form of it, or
/// seconds since the epoch. A time without an offset is taken for UTC.
pub(super) fn time(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1_000_000);
    }
    let zoned = jiff::Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f%z", text)
        .or_else(|_| text.parse::<jiff::Timestamp>())
        .map(|t| t.as_microsecond());
    let civil = || Some(text.parse::<jiff::civil::DateTime>().ok()?.in_tz("UTC").ok()?.timestamp().as_microsecond());
    zoned.ok().or_else(civil)
}

/// A time for a CSV file, in UTC.
pub(super) fn show(micros: i64, times: Times) -> String {
    let Some(time) = Time(micros).timestamp() else { return String::new() };
    match times {
        Times::Iso => time.strftime("%Y-%m-%d %H:%M:%S+0000").to_string(),
        Times::Micros => time.strftime("%Y-%m-%d %H:%M:%S%.6f+0000").to_string(),
        Times::Unix => micros.div_euclid(1_000_000).to_string(),
    }
}

/// A boolean.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// The values of a cell that holds one value as it is, or several as a CSV record. One value with commas in it can't be
/// told from several for sure; a comma before a blank is taken for part of a sentence.
pub(super) fn list(text: &str) -> Vec<String> {
    let quoted = text.contains('"');
    if !quoted && (!text.contains(',') || text.contains(", ")) {
        return vec![text.to_owned()];
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => record.iter().map(str::to_owned).collect(),
        _ => vec![text.to_owned()],
    }
}

/// Several values as a CSV record in one cell.
pub(super) fn record(values: &[String]) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Into memory, so neither fails.
    let _ = writer.write_record(values);
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()
}

/// What a column of ours holds, told from PowerMTA's columns; `None` when it can't be.
pub(super) fn derived<'c>(column: &str, get: &dyn Fn(&str) -> Option<&'c str>) -> Option<String> {
    match column {
        "enhancedStatus" => {
            let code = get("dsnStatus")?.split([' ', '(']).next()?;
            code.parse::<crate::event::EnhancedStatus>().ok().map(|c| c.to_string())
        }
        "replyCode" => {
            let reply = get("dsnDiag")?.strip_prefix("smtp;")?;
            Reply::code_of(reply).map(|code| code.to_string())
        }
        "dsnMtaHost" => Some(host(get("dsnMta")?).0.to_owned()).filter(|h| !h.is_empty()),
        "dsnMtaIp" => host(get("dsnMta")?).1.map(|ip| ip.to_string()),
        "totalSecondsQueued" => queued(get).map(|ms| (ms / 1000).to_string()),
        "queueMs" => queued(get).map(|ms| ms.to_string()),
        // The queue's domain, unless there is none; roll-up that gave it another name is not known.
        "provider" => match get("queue") {
            Some(queue) => Some(queue.split('/').next().unwrap_or(queue).to_ascii_lowercase()),
            None => Address::parse(get("rcpt")?).ok().map(|a| a.domain().to_ascii_lowercase()),
        },
        _ => None,
    }
}

fn queued<'c>(get: &dyn Fn(&str) -> Option<&'c str>) -> Option<i64> {
    if !matches!(get("type")?, "d" | "b" | "t") {
        return None;
    }
    let micros = time(get("timeLogged")?)?.checked_sub(time(get("timeQueued")?)?)?;
    Some(micros.max(0) / 1000)
}

/// `host (ip)`.
fn host(text: &str) -> (&str, Option<std::net::IpAddr>) {
    let Some((name, rest)) = text.rsplit_once(" (") else { return (text, None) };
    match rest.strip_suffix(')').and_then(|ip| ip.parse().ok()) {
        // A host that gave no name stands as its address literal.
        Some(ip) if name.starts_with('[') => ("", Some(ip)),
        Some(ip) => (name, Some(ip)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_form_read_alike() {
        let second = 1_769_850_000_000_000;
        for text in [
            "2026-01-31 09:00:00+0000",
            "2026-01-31 10:00:00+0100",
            "2026-01-31 04:00:00-0500",
            "2026-01-31T09:00:00Z",
            "2026-01-31 09:00:00",
            "1769850000",
        ] {
            assert_eq!(time(text), Some(second), "{text}");
        }
        assert_eq!(time("2026-01-31 09:00:00.000250+0000"), Some(second + 250));
        assert_eq!(show(second + 250, Times::Iso), "2026-01-31 09:00:00+0000");
        assert_eq!(time(&show(second + 250, Times::Micros)), Some(second + 250));
        assert_eq!(show(second, Times::Unix), "1769850000");
        for text in ["", "x", "31/01/2026", "2026-13-31 09:00:00+0000", "99999999999999999999"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn what_powermta_does_not_write_is_told_from_what_it_does() {
        let get = |name: &str| match name {
            "type" => Some("b"),
            "dsnStatus" => Some("5.1.1 (bad destination mailbox address)"),
            "dsnDiag" => Some("smtp;550 5.1.1 no such user"),
            "dsnMta" => Some("mx.example.net (198.51.100.8)"),
            "timeLogged" => Some("2024-05-01 08:00:10+0000"),
            "timeQueued" => Some("2024-05-01 08:00:05+0000"),
            "queue" => Some("Example.net/vmta1"),
            _ => None,
        };
        let value = |name| derived(name, &get).unwrap();
        assert_eq!((value("enhancedStatus"), value("replyCode")), ("5.1.1".into(), "550".into()));
        assert_eq!((value("dsnMtaHost"), value("dsnMtaIp")), ("mx.example.net".into(), "198.51.100.8".into()));
        assert_eq!((value("queueMs"), value("provider")), ("5000".into(), "example.net".into()));
        assert_eq!(derived("attempt", &get), None);
        assert_eq!(host("[192.0.2.5] (192.0.2.5)"), ("", Some([192, 0, 2, 5].into())));
    }

    #[test]
    fn several_values_in_a_cell_come_back_as_they_were() {
        let several = vec!["a, b".to_owned(), "say \"x\"".to_owned(), String::new()];
        assert_eq!(list(&record(&several)), several);
        assert_eq!(list("one"), ["one"]);
        assert_eq!(list("Mon, 1 Jan 2026"), ["Mon, 1 Jan 2026"]);
    }
}
