//! `carom send`: a campaign from a CSV file and a template, over SMTP, resumable.
//!
//! A row is never sent twice by itself: see [`state`]. Rows in doubt are listed and left to the operator.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "edge: reads files, watches the terminal and signals"
)]

pub mod client;
pub mod message;
pub mod post;
mod preflight;
pub mod recipients;
pub mod state;
pub mod template;
pub mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;
use tokio::sync::watch;

use super::{Failure, ServerArgs};
use crate::event::{Address, Time};
use client::{Server, TlsUse};
use message::{Composer, Eml, Source};
use post::{Letter, Outcome};
use recipients::{BadRow, Rows};
use state::{Mark, State};
use template::Template;

/// How many rows are listed by number.
const LISTED: usize = 20;

/// Arguments of `carom send`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The CSV has a header line. {{column}} in subject, body and template stands for the row's value.\n\
While sending, what has been done is kept in a state file beside the CSV. After an interruption --resume goes on from it \
without sending twice; rows of which nobody knows whether they arrived are listed, and sent only with --retry-in-doubt.\n\
--preflight needs the server's configuration (--config) for the addresses that mail leaves from and the name servers, \
and asks the running server, or its store, who is suppressed. What DNS does not say \
in time is shown as not known.\n\
Exit code: 0 all rows were taken; 1 some were not. With --preflight: 0 fine; 1 problems that would hurt, or something \
could not be found out; 2 the arguments or the configuration are wrong."
)]
pub struct Args {
    /// CSV file with the recipients
    #[arg(long, value_name = "FILE")]
    to_csv: PathBuf,
    /// Column with the addresses [default: email, address or to]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Author and envelope sender: ADDRESS or "NAME <ADDRESS>"
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// Message template: headers, an empty line, the body
    #[arg(long, value_name = "FILE.eml", conflicts_with_all = ["subject", "body"], required_unless_present_all = ["subject", "body"])]
    template: Option<PathBuf>,
    /// Subject
    #[arg(long, value_name = "TEXT", requires = "body")]
    subject: Option<String>,
    /// Plain text, or @FILE to read it from a file
    #[arg(long, value_name = "TEXT|@FILE", requires = "subject")]
    body: Option<String>,
    /// Where to submit
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:25")]
    server: String,
    /// User for AUTH PLAIN; implies --starttls unless the server is on this machine
    #[arg(long, value_name = "U", requires = "password_file")]
    user: Option<String>,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Require STARTTLS with a certificate that this system trusts
    #[arg(long)]
    starttls: bool,
    /// Require STARTTLS and take any certificate
    #[arg(long, conflicts_with = "starttls")]
    tls_unverified: bool,
    /// X-Job of the messages
    #[arg(long, value_name = "J")]
    job: Option<String>,
    /// X-Virtual-MTA of the messages
    #[arg(long, value_name = "V")]
    vmta: Option<String>,
    /// Messages per second, over all connections
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Tries of a message that is put off (4xx)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Go on after an interruption
    #[arg(long)]
    resume: bool,
    /// With --resume: also send rows of which it is not known whether they arrived
    #[arg(long, requires = "resume")]
    retry_in_doubt: bool,
    /// State file [default: the CSV's name with .send-state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    /// Check CSV and template, print the first message, send nothing
    #[arg(long)]
    dry_run: bool,
    /// Check sender, message and list before the campaign, send nothing: SPF, DKIM, DMARC, reverse DNS, unsubscribe
    /// headers, who is suppressed
    #[arg(long, conflicts_with_all = ["dry_run", "resume"])]
    preflight: bool,
    /// With --preflight: longest time to wait for name servers
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=300))]
    dns_timeout: u64,
    #[command(flatten)]
    peer: ServerArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("/s");
    number
        .parse()
        .ok()
        .filter(|r: &f64| r.is_finite() && *r > 0.0)
        .ok_or_else(|| "a number above 0, such as 50 or 0.5/s".into())
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut composer = composer(&args)?;
    if args.preflight {
        return preflight::run(&args, &composer);
    }
    if args.dry_run {
        return rehearse(&args, &composer);
    }
    let server = server(&args)?;
    let digest = digest(&args.to_csv)?;
    let path = args.state.clone().unwrap_or_else(|| {
        let mut name = args.to_csv.clone().into_os_string();
        name.push(".send-state");
        name.into()
    });
    let run = format!("{:016x}", rand::random::<u64>());
    let (state, before) = State::open(&path, &digest, args.resume, &run)?;
    composer.run.clone_from(&before.run);
    let rows = rows(&args)?;
    let in_doubt: BTreeSet<u64> = before.rows.iter().filter(|(_, m)| **m == Mark::Started).map(|(r, _)| *r).collect();
    let skipped = |row: u64| match before.rows.get(&row) {
        None | Some(Mark::Open) => false,
        Some(Mark::Done | Mark::Refused) => true,
        Some(Mark::Started) => !args.retry_in_doubt,
    };
    let book = Book { state, summary: Mutex::default(), bar: bar(&args)? };
    book.summary().done_before =
        before.rows.values().filter(|m| matches!(m, Mark::Done | Mark::Refused)).count() as u64;
    if !args.retry_in_doubt {
        book.summary().in_doubt = in_doubt;
    }
    let envelope_from = composer.from.1.clone();
    let letters = rows.filter_map(|row| match row {
        Err(bad) => {
            book.bad(bad);
            None
        }
        Ok(row) if skipped(row.number) => None,
        Ok(row) => match composer.compose(&row, now()) {
            Ok(content) => Some(Letter { row: row.number, from: envelope_from.clone(), rcpt: row.address, content }),
            Err(why) => {
                let line = row.values.position().map_or(0, csv::Position::line);
                book.bad(BadRow { number: row.number, line, text: row.address, why: why.to_string() });
                None
            }
        },
    });
    let options = post::Options {
        server,
        connections: args.connections.into(),
        rate: args.rate,
        tries: args.tries,
        backoff: Duration::from_secs(1),
        connect_tries: 8,
    };
    let (end, interrupted) = super::runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let sending = post::send_all(&options, letters, &book, stopped);
        tokio::pin!(sending);
        tokio::select! {
            end = &mut sending => (end, false),
            _ = tokio::signal::ctrl_c() => {
                stop.send_replace(true);
                (sending.await, true)
            }
        }
    });
    let Book { state, summary, bar } = book;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    state.close().map_err(|e| format!("{}: {e}; rows sent since may be listed as in doubt", path.display()))?;
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.interrupted = interrupted;
    summary.state = path;
    if args.json {
        say!("{}", summary.json())?;
    } else {
        std::io::stdout().write_all(summary.text().as_bytes())?;
    }
    // What was done stands in summary and state file, whatever then happened to the server.
    end?;
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn rows(args: &Args) -> Result<Rows<BufReader<File>>, Failure> {
    let file = BufReader::new(open(&args.to_csv)?);
    Rows::new(file, args.column.as_deref()).map_err(|e| format!("{}: {e}", args.to_csv.display()).into())
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// The SHA-256 of a file's bytes, in hexadecimal.
fn digest(path: &Path) -> Result<String, Failure> {
    let (mut file, mut buffer) = (open(path)?, vec![0; 1 << 16]);
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref())),
            n => context.update(&buffer[..n]),
        }
    }
}

fn composer(args: &Args) -> Result<Composer, Failure> {
    let header = rows(args)?.header().to_vec();
    let source = match (&args.template, &args.subject, &args.body) {
        (Some(path), ..) => {
            Source::Eml(Eml::parse(&text(path)?, &header).map_err(|e| format!("{}: {e}", path.display()))?)
        }
        (None, Some(subject), Some(body)) => {
            if subject.contains(['\r', '\n']) {
                return Err("--subject may not have a line break".into());
            }
            let body = match body.strip_prefix('@') {
                Some(file) => text(Path::new(file))?,
                None => body.clone(),
            };
            Source::Plain {
                subject: Template::parse(subject, &header).map_err(|e| format!("--subject: {e}"))?,
                body: Template::parse(&body, &header).map_err(|e| format!("--body: {e}"))?,
            }
        }
        _ => return Err("give --template, or --subject and --body".into()),
    };
    for (name, value) in [("--job", &args.job), ("--vmta", &args.vmta)] {
        if value.as_ref().is_some_and(|v| v.is_empty() || !v.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(format!("{name} takes letters, digits and signs of ASCII, without blanks").into());
        }
    }
    let (name, address) = match args.from.trim().strip_suffix('>').and_then(|f| f.rsplit_once('<')) {
        Some((name, address)) => (name.trim().trim_matches('"').to_owned(), address.to_owned()),
        None => (String::new(), args.from.trim().to_owned()),
    };
    Address::parse(&address).map_err(|e| format!("--from {address:?}: {e}"))?;
    if name.chars().any(char::is_control) {
        return Err("--from may not have a line break".into());
    }
    Ok(Composer {
        source,
        header,
        from: (name, address),
        job: args.job.clone(),
        vmta: args.vmta.clone(),
        run: "dry-run".into(),
    })
}

fn server(args: &Args) -> Result<Server, Failure> {
    let (host, port) = args.server.rsplit_once(':').ok_or("--server takes HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| format!("--server: {port:?} is no port"))?;
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let credentials = match (&args.user, &args.password_file) {
        (Some(user), Some(file)) => {
            let password = text(file)?;
            Some((user.clone(), password.lines().next().unwrap_or("").to_owned()))
        }
        _ => None,
    };
    let tls = if args.tls_unverified {
        TlsUse::Unverified
    } else if args.starttls || (credentials.is_some() && !local) {
        TlsUse::Verified
    } else {
        TlsUse::Off
    };
    let ehlo = format!("[{}]", std::net::Ipv4Addr::LOCALHOST);
    Ok(Server { host, port, ehlo, credentials, tls })
}

/// `--dry-run`: composes every message, shows the first.
fn rehearse(args: &Args, composer: &Composer) -> Result<ExitCode, Failure> {
    let (mut good, mut first, mut bad) = (0u64, None, Vec::new());
    for row in rows(args)? {
        match row {
            Err(row) => bad.push(row),
            Ok(row) => match composer.compose(&row, now()) {
                Ok(content) => {
                    good += 1;
                    first.get_or_insert(content);
                }
                Err(why) => {
                    let line = row.values.position().map_or(0, csv::Position::line);
                    bad.push(BadRow { number: row.number, line, text: row.address, why: why.to_string() });
                }
            },
        }
    }
    let summary = Summary { malformed: bad, ..Summary::default() };
    if args.json {
        say!("{}", json!({ "dryRun": true, "ready": good, "malformed": summary.malformed_json() }))?;
    } else {
        if let Some(content) = first {
            say!("{}", String::from_utf8_lossy(&content).replace("\r\n", "\n"))?;
        }
        say!("dry run: {good} messages ready, {} rows can't be sent", summary.malformed.len())?;
        std::io::stdout().write_all(summary.malformed_text().as_bytes())?;
    }
    Ok(if summary.malformed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bar(args: &Args) -> Result<Option<ProgressBar>, Failure> {
    if args.json || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    let count = rows(args)?.count() as u64;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_second}/s, {eta} left")?;
    let style = style.with_key("per_second", |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        let _ = write!(w, "{:.0}", state.per_sec());
    });
    Ok(Some(ProgressBar::new(count).with_style(style)))
}

/// State file, summary and bar, fed by the sending.
struct Book {
    state: State,
    summary: Mutex<Summary>,
    bar: Option<ProgressBar>,
}

impl Book {
    fn summary(&self) -> std::sync::MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bad(&self, row: BadRow) {
        self.summary().malformed.push(row);
        self.step();
    }

    fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }
}

impl post::Ledger for Book {
    async fn started(&self, row: u64) -> std::io::Result<()> {
        self.state.start(row).await
    }

    fn ended(&self, letter: &Letter, outcome: &Outcome) {
        let mark = match outcome {
            Outcome::Sent(_) => Some(Mark::Done),
            Outcome::Refused(_) => Some(Mark::Refused),
            Outcome::PutOff(_) | Outcome::Unsent => Some(Mark::Open),
            // The start stays the last word.
            Outcome::InDoubt(_) => None,
        };
        if let Some(mark) = mark {
            self.state.mark(letter.row, mark);
        }
        self.summary().take(letter, outcome);
        self.step();
    }
}

/// What came of a run.
#[derive(Debug, Default)]
struct Summary {
    sent: u64,
    done_before: u64,
    suppressed: u64,
    unsent: u64,
    /// Reply, generalised, to count and an example.
    refused: BTreeMap<String, (u64, String)>,
    put_off: BTreeMap<String, (u64, String)>,
    in_doubt: BTreeSet<u64>,
    malformed: Vec<BadRow>,
    interrupted: bool,
    state: PathBuf,
}

impl Summary {
    fn take(&mut self, letter: &Letter, outcome: &Outcome) {
        let group = |groups: &mut BTreeMap<String, (u64, String)>, reply: &str| {
            let entry = groups.entry(reason(reply, &letter.rcpt)).or_insert_with(|| (0, letter.rcpt.clone()));
            entry.0 += 1;
        };
        match outcome {
            // Each letter has one recipient: it was accepted to be recorded, and goes nowhere.
            Outcome::Sent(reply) if is_accepted_suppression(reply) => self.suppressed += 1,
            Outcome::Sent(_) => self.sent += 1,
            Outcome::Refused(reply) if is_suppression(reply) => self.suppressed += 1,
            Outcome::Refused(reply) => group(&mut self.refused, reply),
            Outcome::PutOff(reply) => group(&mut self.put_off, reply),
            Outcome::InDoubt(_) => {
                self.in_doubt.insert(letter.row);
            }
            Outcome::Unsent => self.unsent += 1,
        }
    }

    fn count(groups: &BTreeMap<String, (u64, String)>) -> u64 {
        groups.values().map(|(n, _)| n).sum()
    }

    fn is_complete(&self) -> bool {
        !self.interrupted
            && self.unsent == 0
            && self.in_doubt.is_empty()
            && self.malformed.is_empty()
            && self.refused.is_empty()
            && self.put_off.is_empty()
    }

    fn malformed_json(&self) -> serde_json::Value {
        self.malformed.iter().map(|b| json!({ "line": b.line, "text": b.text, "why": b.why })).collect()
    }

    fn json(&self) -> serde_json::Value {
        let groups = |g: &BTreeMap<String, (u64, String)>| -> serde_json::Value {
            g.iter()
                .map(|(reply, (count, example))| json!({ "reply": reply, "count": count, "example": example }))
                .collect()
        };
        json!({
            "sent": self.sent,
            "doneBefore": self.done_before,
            "suppressed": self.suppressed,
            "refused": groups(&self.refused),
            "putOff": groups(&self.put_off),
            "inDoubt": self.in_doubt,
            "malformed": self.malformed_json(),
            "interrupted": self.interrupted,
            "state": self.state,
        })
    }

    fn malformed_text(&self) -> String {
        let mut text = String::new();
        for bad in self.malformed.iter().take(LISTED) {
            text.push_str(&format!("  line {}: {:?}: {}\n", bad.line, bad.text, bad.why));
        }
        if self.malformed.len() > LISTED {
            text.push_str(&format!("  and {} more (all of them with --json)\n", self.malformed.len() - LISTED));
        }
        text
    }

    fn text(&self) -> String {
        let mut text = format!("sent        {}\n", self.sent);
        let mut line = |name: &str, count: u64| {
            if count > 0 {
                text.push_str(&format!("{name:<12}{count}\n"));
            }
        };
        line("done before", self.done_before);
        line("suppressed", self.suppressed);
        for (name, groups) in [("refused", &self.refused), ("put off", &self.put_off)] {
            if !groups.is_empty() {
                text.push_str(&format!("{name:<12}{}\n", Summary::count(groups)));
                for (reply, (count, example)) in groups {
                    text.push_str(&format!("  {count} x {reply} (such as {example})\n"));
                }
            }
        }
        if !self.in_doubt.is_empty() {
            let rows: Vec<String> = self.in_doubt.iter().take(LISTED).map(u64::to_string).collect();
            let more = if self.in_doubt.len() > LISTED { ", ..." } else { "" };
            text.push_str(&format!(
                "in doubt    {}: rows {}{more}\n  they may have arrived and were not sent again; --resume --retry-in-doubt sends them\n",
                self.in_doubt.len(),
                rows.join(", ")
            ));
        }
        if !self.malformed.is_empty() {
            text.push_str(&format!("not sent    {} rows\n{}", self.malformed.len(), self.malformed_text()));
        }
        if self.interrupted || self.unsent > 0 || !self.put_off.is_empty() {
            text.push_str("not finished; go on with --resume\n");
        }
        text
    }
}

/// Carom's own refusal of a suppressed address.
fn is_suppression(reply: &str) -> bool {
    reply.starts_with("550 5.7.1") && reply.contains("suppression list")
}

/// Carom's own word that it took mail for suppressed recipients only to record that it does not send it
/// (`suppression-outcome bounce` and `drop`, and what only the header section shows).
fn is_accepted_suppression(reply: &str) -> bool {
    reply.contains("message accepted, id ") && reply.ends_with(" recipients suppressed")
}

/// A reply without what differs from one recipient to the next.
fn reason(reply: &str, rcpt: &str) -> String {
    let words = reply.split_whitespace().map(|w| if w.contains(rcpt) { "<recipient>" } else { w });
    words.collect::<Vec<_>>().join(" ")
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_grouped_by_reason_and_suppressed_ones_counted_apart() {
        let mut summary = Summary::default();
        for (row, rcpt, reply) in [
            (1, "a@x.example", "550 5.1.1 <a@x.example>: unknown"),
            (2, "b@x.example", "550 5.1.1 <b@x.example>: unknown"),
            (3, "c@x.example", "550 5.7.1 recipient is in suppression list \"hard\": <c@x.example>"),
        ] {
            let letter = Letter { row, from: String::new(), rcpt: rcpt.into(), content: Vec::new() };
            summary.take(&letter, &Outcome::Refused(reply.into()));
        }
        let taken = |suppressed| crate::intake::submit::Taken { id: crate::event::MessageId(9), rcpts: 1, suppressed };
        for suppressed in [0, 1] {
            let letter = Letter { row: 4, from: String::new(), rcpt: "d@x.example".into(), content: Vec::new() };
            let reply = taken(suppressed).answer();
            summary.take(&letter, &Outcome::Sent(format!("{} {} {}", reply.code, reply.status, reply.text)));
        }
        assert_eq!((summary.sent, summary.suppressed), (1, 2));
        assert_eq!(summary.refused["550 5.1.1 <recipient> unknown"].0, 2);
        assert!(summary.text().contains("2 x 550 5.1.1 <recipient> unknown (such as a@x.example)"));
        assert_eq!(summary.json()["refused"][0]["count"], 2);
    }

    #[test]
    fn a_rate_is_read_with_or_without_its_unit() {
        assert_eq!(rate("50"), Ok(50.0));
        assert_eq!(rate("0.5/s"), Ok(0.5));
        assert!(rate("0").is_err() && rate("x").is_err() && rate("inf").is_err());
    }
}
