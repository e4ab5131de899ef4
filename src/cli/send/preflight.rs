//! `carom send --preflight`: reads message and list, has them judged with what DNS and the suppression list say, prints.
//! Sends nothing.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads the list, watches the terminal")]

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;

use super::super::peer::Peer;
use super::super::{Failure, runtime};
use super::message::Composer;
use super::{Args, bar, now, rows};
use crate::delivery::preflight::list::Tally;
use crate::delivery::preflight::{Finding, Grade, Report, content, sender};
use crate::manage::Command;
use crate::net::dns::Resolver;

/// Most addresses of one question to the server.
const BATCH: usize = 1_000;
/// Most bytes of them: a request line takes 64 KiB.
const BATCH_BYTES: usize = 32 << 10;
/// How long each question to a name server waits; it is asked twice.
const DNS_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(args: &Args, composer: &Composer) -> Result<ExitCode, Failure> {
    let config = match args.peer.config.load()? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (tally, message, why_not) = read_list(args, composer)?;
    let from = &composer.from.1;
    let mut findings = Vec::new();
    match &message {
        Some(message) => {
            let spinner = spinner(args);
            let within = Duration::from_secs(args.dns_timeout);
            let campaign = sender::Campaign { from, vmta: args.vmta.as_deref(), within };
            let asked: Result<Vec<Finding>, Failure> = runtime()?.block_on(async {
                let resolver = Resolver::with_timeout(&config.name_servers, DNS_TIMEOUT)?;
                Ok(sender::check(&config, &resolver, message, &campaign).await)
            });
            spinner.finish_and_clear();
            findings.extend(asked?);
            // Nothing adds the header fields yet but the template.
            let about = content::Circumstance { mail_from: from, adds_list_unsubscribe: false, now: now() };
            findings.extend(content::judge(message, &about));
        }
        None => {
            let why = why_not.unwrap_or_else(|| "the list has no row to make a message of".to_owned());
            findings.push(Finding::new(Grade::Problem, "message", "", why, "look at it with --dry-run"));
        }
    }
    findings.extend(tally.judge());
    let report = Report { findings, list: tally.summary() };
    match args.json {
        true => say!("{}", json!({ "ready": report.is_fine(), "findings": report.findings, "list": report.list }))?,
        false => say!("{}", text(&report).trim_end())?,
    }
    Ok(if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts the list; also the first message that can be made, else why the first row's can't.
fn read_list(args: &Args, composer: &Composer) -> Result<(Tally, Option<Vec<u8>>, Option<String>), Failure> {
    let mut tally = Tally::default();
    let mut asked = Asked { peer: None, batch: Vec::new(), bytes: 0, args, sender: composer.from.1.clone() };
    match Peer::reach(&args.peer) {
        Ok(Ok(peer)) => asked.peer = Some(peer),
        Ok(Err(_)) => tally.not_asked("the configuration has mistakes"),
        Err(why) => tally.not_asked(why.to_string()),
    }
    let bar = bar(args)?;
    let (mut message, mut why_not) = (None, None);
    for row in rows(args)? {
        if let Some(bar) = &bar {
            bar.inc(1);
        }
        let row = match row {
            Ok(row) => row,
            Err(bad) => {
                tally.malformed(&bad.text);
                continue;
            }
        };
        match composer.compose(&row, now()) {
            Ok(content) => _ = message.get_or_insert(content),
            Err(why) => {
                why_not.get_or_insert_with(|| why.to_string());
                tally.malformed(&row.address);
                continue;
            }
        }
        if tally.recipient(&row.address) {
            asked.add(row.address, &mut tally);
        }
    }
    asked.flush(&mut tally);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok((tally, message, why_not))
}

/// Asks who is suppressed, many at a time.
struct Asked<'a> {
    /// Who answers; `None` when nobody does.
    peer: Option<Peer>,
    batch: Vec<String>,
    bytes: usize,
    args: &'a Args,
    sender: String,
}

impl Asked<'_> {
    fn add(&mut self, address: String, tally: &mut Tally) {
        if self.peer.is_none() {
            return;
        }
        self.bytes += address.len() + 8;
        self.batch.push(address);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.flush(tally);
        }
    }

    fn flush(&mut self, tally: &mut Tally) {
        self.bytes = 0;
        let addresses = std::mem::take(&mut self.batch);
        let Some(peer) = self.peer.as_mut().filter(|_| !addresses.is_empty()) else { return };
        let answer = peer.data(Command::SuppressCheckMany {
            addresses: addresses.clone(),
            sender: self.sender.clone(),
            job: self.args.job.clone().unwrap_or_default(),
            vmta: self.args.vmta.clone().unwrap_or_default(),
        });
        match answer.map(|data| data.get("suppressed").and_then(serde_json::Value::as_array).cloned()) {
            Ok(Some(places)) => {
                let places = places.iter().filter_map(|n| addresses.get(usize::try_from(n.as_u64()?).ok()?));
                places.for_each(|address| tally.suppressed(address));
            }
            Ok(None) => {
                tally.not_asked("the server's answer is not understood; is it of this version?");
                self.peer = None;
            }
            Err(why) => {
                tally.not_asked(why.to_string());
                self.peer = None;
            }
        }
    }
}

fn spinner(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message("asking DNS");
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// For people.
fn text(report: &Report) -> String {
    let mut out = String::new();
    let width = |of: fn(&Finding) -> usize| report.findings.iter().map(of).max().unwrap_or(0).min(40);
    let (check, subject) = (width(|f| f.check.len()), width(|f| f.subject.chars().count()));
    for f in &report.findings {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{:<9}  {:<check$}  {:<subject$}  {}", f.grade.name(), f.check, f.subject, f.text);
        if !f.help.is_empty() {
            let _ = writeln!(out, "{:<9}  {:<check$}  {:<subject$}  -> {}", "", "", "", f.help);
        }
    }
    let list = &report.list;
    let mut table = comfy_table::Table::new();
    let headings = ["provider", "recipients", "malformed", "doubled", "suppressed"];
    table.load_style(comfy_table::presets::NOTHING).set_header(headings.map(|heading| format!(" {heading}")));
    let rows = list.providers.iter().map(|p| (p.provider.clone(), p.counts));
    for (name, counts) in rows.chain([(format!("all {} providers", list.provider_count), list.all)]) {
        let suppressed = if list.suppression_asked { counts.suppressed.to_string() } else { "?".to_owned() };
        let numbers = [counts.recipients, counts.malformed, counts.doubled].map(|n| n.to_string());
        table.add_row([name].into_iter().chain(numbers).chain([suppressed]).map(|cell| format!(" {cell}")));
    }
    out.push('\n');
    for line in table.to_string().lines() {
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let count = |grade| report.findings.iter().filter(|f| f.grade == grade).count();
    let (problems, unknown, warnings) = (count(Grade::Problem), count(Grade::Unknown), count(Grade::Warning));
    let verdict = if report.is_fine() { "ready to be sent" } else { "NOT ready" };
    let _ = writeln!(out, "\n{verdict}: {problems} problems, {unknown} not known, {warnings} warnings");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_shows_each_finding_with_what_to_do_and_ends_with_the_verdict() {
        let mut tally = Tally::default();
        tally.recipient("ann@big.example");
        tally.malformed("nonsense");
        let findings = vec![
            Finding::new(Grade::Fine, "spf", "192.0.2.1", "s.example allows it", ""),
            Finding::new(Grade::Problem, "dmarc", "", "there is no record", "publish one"),
        ];
        let mut report = Report { findings, list: tally.summary() };
        let said = text(&report);
        for part in ["PROBLEM", "-> publish one", "big.example", "(no domain)", "NOT ready: 1 problems, 0 not known"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        report.findings.pop();
        assert!(text(&report).contains("ready to be sent") && report.is_fine());
    }
}
