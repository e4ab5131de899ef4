//! Looking: entries, one subject, whether mail would be sent, counts, history.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{About, Desk, Misuse, PAGE, Wanted, array, change, next, number, text, time};
use crate::cli::Failure;
use crate::event::plain;
use crate::manage::SuppressionCommand;

/// Arguments of `carom suppress list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    wanted: Wanted,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Behind the entry with this key (the field key of JSON): the next page
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    after: String,
}

/// Arguments of `carom suppress check`.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Addresses or @domains; - reads them from standard input, a line each
    subjects: Vec<String>,
    /// Read them from this file, a line each
    #[arg(long, short, value_name = "FILE")]
    file: Option<std::path::PathBuf>,
    /// They are SHA-256 sums of lower-cased addresses, in hexadecimal
    #[arg(long)]
    hashed: bool,
    #[command(flatten)]
    about: About,
}

impl Check {
    /// Whether there is something to look up.
    pub(super) fn check(&self) -> Result<(), Misuse> {
        let given: Vec<String> = self.subjects.iter().filter(|s| *s != "-").cloned().collect();
        if self.subjects.is_empty() && self.file.is_none() {
            return Err(Misuse("name an address, or - to read them from standard input, or --file FILE".to_owned()));
        }
        if self.hashed { Ok(()) } else { change::check(&given, None) }
    }
}

/// Arguments of `carom suppress history`.
#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// Only of this address or @domain
    subject: Option<String>,
    /// Only since this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many lines, the latest [default: 1000 without a subject]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(super) fn list(desk: &mut Desk<'_>, args: &List) -> Result<ExitCode, Failure> {
    let filter = args.wanted.filter()?;
    let (mut after, mut left, mut first) = (args.after.clone(), args.limit, true);
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let data = desk.ask(SuppressionCommand::List { filter: filter.clone(), after, limit })?;
        let entries = array(&data, "entries");
        for entry in entries {
            if desk.json() {
                say!("{entry}")?;
                continue;
            }
            if std::mem::take(&mut first) {
                say!("{:<36} {:<9} {:<20} {:<20} WHY", "SUBJECT", "STATE", "LIST", "SINCE")?;
            }
            say!("{}", entry_line(entry))?;
        }
        left -= entries.len() as u64;
        match next(&data) {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line about an entry.
pub(super) fn entry_line(entry: &Value) -> String {
    let hash = format!("#{}", text(entry, "key"));
    let subject = Some(text(entry, "address")).filter(|s| !s.is_empty()).unwrap_or(&hash);
    format!(
        "{subject:<36} {:<9} {:<20} {:<20} {}",
        text(entry, "state"),
        by(entry),
        day(text(entry, "time")),
        why(entry)
    )
}

/// Who entered it, and for whose mail.
fn by(entry: &Value) -> String {
    let list = match text(entry, "source") {
        "auto" => format!("auto:{}", text(entry, "rule")),
        other => other.to_owned(),
    };
    match text(entry, "scope") {
        "" | "global" => list,
        scope => format!("{list} ({scope})"),
    }
}

/// A time without its fraction of a second.
fn day(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

fn why(entry: &Value) -> String {
    let until = Some(text(entry, "expires")).filter(|t| !t.is_empty()).map(|t| format!("[until {}]", day(t)));
    let words = ["category", "reply", "note"].map(|name| text(entry, name).to_owned());
    let all = words.into_iter().filter(|s| !s.is_empty()).chain(until);
    // What came from outside may hold what moves a terminal's cursor.
    plain(&all.collect::<Vec<_>>().join(" ")).into_owned()
}

/// Each with all that is known of it, one JSON object a line.
pub(super) fn show(desk: &mut Desk<'_>, subjects: &[String]) -> Result<ExitCode, Failure> {
    for subject in subjects {
        show_one(desk, subject)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_one(desk: &mut Desk<'_>, subject: &str) -> Result<(), Failure> {
    let data = desk.ask(SuppressionCommand::Show { subject: subject.to_owned() })?;
    if desk.json() {
        say!("{data}")?;
        return Ok(());
    }
    say!("{} (hash {})", text(&data, "subject"), text(&data, "hash"))?;
    for (name, none) in [("entries", "no entries"), ("domainEntries", "")] {
        let entries = array(&data, name);
        if entries.is_empty() && !none.is_empty() {
            say!("  {none}")?;
        }
        for entry in entries {
            let of = if name == "domainEntries" { "its domain, " } else { "" };
            say!("  {of}{}: {} since {}: {}", text(entry, "state"), by(entry), day(text(entry, "time")), why(entry))?;
            if let Some(event) = entry.get("event").and_then(Value::as_str) {
                say!("    by event {event} {}", text(entry, "provider"))?;
            }
        }
    }
    for strikes in array(&data, "strikes") {
        let (rule, scope) = (text(strikes, "rule"), text(strikes, "scope"));
        say!("  {} strikes of rule {rule} ({scope})", number(strikes, "strikes"))?;
    }
    let lines = array(&data, "history");
    if !lines.is_empty() {
        say!("history")?;
    }
    for line in lines {
        say!("  {}", history_line(line))?;
    }
    Ok(())
}

fn history_line(line: &Value) -> String {
    let hash = Some(text(line, "key")).filter(|k| !k.is_empty()).map(|k| format!("#{k}")).unwrap_or_default();
    let subject = Some(text(line, "subject")).filter(|s| !s.is_empty()).unwrap_or(&hash);
    let scope = Some(text(line, "scope")).filter(|s| *s != "global").map(|s| format!(" ({s})")).unwrap_or_default();
    let why = plain(text(line, "why"));
    let (time, change, who) = (day(text(line, "time")), text(line, "change"), text(line, "who"));
    format!("{time:<20} {change:<8} {subject}{scope} by {who}: {why}")
}

pub(super) fn check(desk: &mut Desk<'_>, args: &Check) -> Result<ExitCode, Failure> {
    let mut any = false;
    let mut wrong = 0u64;
    let mut look = |desk: &mut Desk<'_>, subjects: Vec<String>| -> Result<(), Failure> {
        let (mail, hashed) = (args.about.facts(), args.hashed);
        let data = desk.ask(SuppressionCommand::Check { subjects, mail, hashed })?;
        for result in array(&data, "results") {
            any |= result.get("suppressed").and_then(Value::as_bool).unwrap_or(false);
            let error = text(result, "error");
            wrong += u64::from(!error.is_empty());
            if desk.json() {
                say!("{result}")?;
            } else if !error.is_empty() {
                say!("{}: {error}", text(result, "subject"))?;
            } else {
                match result.get("entry").filter(|e| !e.is_null()) {
                    Some(entry) => {
                        let held = if text(entry, "state") == "held" { "held" } else { "suppressed" };
                        // What decides may be the domain.
                        let of = Some(text(entry, "address")).filter(|a| a.starts_with('@'));
                        let of = of.map(|a| format!(" with all of {a}")).unwrap_or_default();
                        let since = day(text(entry, "time"));
                        say!("{}: {held}{of} by {} since {since}: {}", text(result, "subject"), by(entry), why(entry))?;
                    }
                    None => say!("{}: not suppressed", text(result, "subject"))?,
                }
            }
        }
        Ok(())
    };
    let given: Vec<String> = args.subjects.iter().filter(|s| *s != "-").cloned().collect();
    for subjects in given.chunks(PAGE as usize) {
        look(desk, subjects.to_vec())?;
    }
    let mut sources: Vec<super::import::Lines> = Vec::new();
    if args.subjects.iter().any(|s| s == "-") {
        sources.push(super::import::lines(None)?);
    }
    if let Some(file) = &args.file {
        sources.push(super::import::lines(Some(file))?);
    }
    for lines in sources {
        let mut subjects = Vec::new();
        for line in lines {
            let line = line?;
            let line = line.trim();
            if !line.is_empty() {
                subjects.push(line.to_owned());
            }
            if subjects.len() == PAGE as usize {
                look(desk, std::mem::take(&mut subjects))?;
            }
        }
        look(desk, subjects)?;
    }
    if wrong > 0 {
        eprintln!("carom: {wrong} could not be looked up");
    }
    Ok(if any || wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn stats(desk: &mut Desk<'_>) -> Result<ExitCode, Failure> {
    let mut sums = json!({});
    let mut after = String::new();
    loop {
        let data = desk.ask(SuppressionCommand::Stats { after })?;
        add_up(&mut sums, &data);
        match next(&data) {
            Some(next) => after = next,
            None => break,
        }
    }
    if desk.json() {
        say!("{sums}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, title, most) in [
        ("states", "STATE", 10),
        ("rules", "RULE", 30),
        ("sources", "SOURCE", 10),
        ("scopes", "SCOPE", 10),
        ("providers", "PROVIDER", 20),
    ] {
        let mut rows = counts(&sums, name);
        if rows.is_empty() {
            continue;
        }
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        print(title, rows.iter().take(most))?;
    }
    let days = counts(&sums, "days");
    if !days.is_empty() {
        // The names are dates: their order is that of time.
        print("DAY", days.iter().rev().take(30).rev())?;
    }
    let imports = array(&sums, "imports");
    if !imports.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["IMPORT", "ENTERED", "ALREADY", "LEFT OUT", "REJECTED", "WHAT"]);
        for import in imports {
            let state = if number(import, "ended") == 0 { " (not finished)" } else { "" };
            table.add_row([
                format!("{}{state}", number(import, "batch")),
                number(import, "entered").to_string(),
                number(import, "already").to_string(),
                number(import, "skipped").to_string(),
                number(import, "rejected").to_string(),
                format!("{}: {}", text(import, "name"), text(import, "reason")),
            ]);
        }
        say!("{table}")?;
    }
    let imports = array(&sums, "bulkImports");
    if !imports.is_empty() {
        let header = ["LARGE IMPORT", "PHASE", "ROWS", "MERGED", "ENTERED", "ALREADY", "DOUBLE", "REJECTED", "WHAT"];
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        for import in imports {
            let count = |name| number(import, name).to_string();
            let waits = text(import, "phase") == "merging" && import.get("running") == Some(&json!(false));
            let error = text(import, "error");
            table.add_row([
                count("batch"),
                format!("{}{}", text(import, "phase"), if waits { " (at the next start)" } else { "" }),
                count("rows"),
                count("merged"),
                count("entered"),
                count("kept"),
                count("doubles"),
                count("rejected"),
                format!(
                    "{}: {}{}{error}",
                    text(import, "name"),
                    text(import, "reason"),
                    if error.is_empty() { "" } else { "; " }
                ),
            ]);
        }
        say!("{table}")?;
    }
    say!("whole domains: {}; only as hash: {}", number(&sums, "domains"), number(&sums, "hashOnly"))?;
    Ok(ExitCode::SUCCESS)
}

fn counts(sums: &Value, name: &str) -> Vec<(String, u64)> {
    let object = sums.get(name).and_then(Value::as_object);
    object.into_iter().flatten().map(|(name, n)| (name.clone(), n.as_u64().unwrap_or(0))).collect()
}

fn print<'a>(title: &str, rows: impl Iterator<Item = &'a (String, u64)>) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([title, "ENTRIES"]);
    for (name, n) in rows {
        table.add_row([name.clone(), n.to_string()]);
    }
    say!("{table}\n")
}

/// Adds the numbers of a piece to those of the pieces before it.
fn add_up(sums: &mut Value, piece: &Value) {
    match (sums, piece) {
        (Value::Object(sums), Value::Object(piece)) => {
            for (name, value) in piece.iter().filter(|(name, _)| *name != "next") {
                match sums.get_mut(name) {
                    Some(sum) => add_up(sum, value),
                    None => drop(sums.insert(name.clone(), value.clone())),
                }
            }
        }
        (sum @ Value::Number(_), Value::Number(n)) => {
            *sum = json!(sum.as_u64().unwrap_or(0) + n.as_u64().unwrap_or(0));
        }
        _ => {}
    }
}

pub(super) fn history(desk: &mut Desk<'_>, args: &History) -> Result<ExitCode, Failure> {
    let since = args.since.as_deref().map(|t| time("--since", t)).transpose()?.map_or(0, |t| t.0);
    let subject = args.subject.clone().unwrap_or_default();
    let most = args.limit.unwrap_or(if subject.is_empty() { 1000 } else { 100_000 });
    let (mut after, mut kept) = (String::new(), std::collections::VecDeque::new());
    let mut left_out = 0u64;
    loop {
        let subject = subject.clone();
        let data = desk.ask(SuppressionCommand::History { subject, since, after, limit: PAGE })?;
        for line in array(&data, "lines") {
            kept.push_back(line.clone());
            if kept.len() > most {
                kept.pop_front();
                left_out += 1;
            }
        }
        match next(&data) {
            Some(next) => after = next,
            None => break,
        }
    }
    for line in &kept {
        if desk.json() {
            say!("{line}")?;
        } else {
            say!("{}", history_line(line))?;
        }
    }
    if left_out > 0 {
        eprintln!("carom: {left_out} earlier lines are left out; --limit N or --since TIME shows them");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_numbers_of_pieces_are_added_up() {
        let mut sums = json!({});
        add_up(&mut sums, &json!({"rules": {"hard": 2}, "domains": 1, "next": "ab", "imports": [1]}));
        add_up(&mut sums, &json!({"rules": {"hard": 3, "full": 1}, "domains": 1, "next": null}));
        assert_eq!(sums, json!({"rules": {"hard": 5, "full": 1}, "domains": 2, "imports": [1]}));
    }

    #[test]
    fn what_came_from_outside_moves_no_cursor() {
        let entry = json!({"address": "a@b", "reply": "550 \u{1b}[2Jgone\r\n", "source": "auto", "rule": "hard"});
        assert!(!entry_line(&entry).contains('\u{1b}') && entry_line(&entry).contains("auto:hard"));
    }

    #[test]
    fn days_come_in_the_order_of_time() {
        let days: BTreeMap<&str, u64> = [("2026-01-02", 1), ("2025-12-31", 2)].into();
        assert_eq!(counts(&json!({ "days": days }), "days")[0].0, "2025-12-31");
    }
}
