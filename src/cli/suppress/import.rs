//! `carom suppress import`: a file is read here and its entries sent on in pieces, so that each request is small, the
//! server opens no file that it is told to, and what was killed goes on where it stopped.
//!
//! The file is read from its beginning each time; what the server has passed already is not sent again. The rejected
//! lines are written anew each time, so that their file is whole whichever run ends.
#![expect(clippy::disallowed_types, reason = "edge: reads lists, writes rejected lines")]

mod bulk;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use ring::digest;
use serde_json::{Value, json};

use super::{Desk, Misuse, end, number, scope};
use crate::cli::Failure;
use crate::event::Time;
use crate::manage::SuppressionCommand;
use crate::manage::import::row_of;
use crate::manage::suppression::{ImportInfo, ImportRow};
use crate::suppress::transfer::{self, Outcome, Reader, Record};

/// Records sent in one request.
const AT_ONCE: u64 = 5000;
/// Rows of a request, at most, in bytes of JSON: well below what the socket takes.
const MAX_BYTES: usize = 1 << 20;
/// Bytes of the file that its identity goes by, with its length.
const HEAD: usize = 1 << 16;
/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// Arguments of `carom suppress import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Formats: auto (by header, by content), newline (an address a line), csv, json, and what others export: \
    sendgrid (-bounces, -blocks, -spam-reports, -invalid, -unsubscribes), sparkpost, mailgun (-bounces, -complaints, \
    -unsubscribes), ses (ListSuppressedDestinations), postmark, mailchimp (-cleaned, -unsubscribed), carom (what export \
    writes). Files may be packed by gzip or zstd.\n\nWhat is no permanent reason (SendGrid's blocks, 4xx bounces) is left \
    out, and counted. Lines that can't be read go to FILE.rejected, each below a comment with its number and the reason: \
    mend them there, and import that file. Who is on the list already keeps the entry.\n\n\
    An import that was interrupted goes on when the same command is given again. A large list (--bulk) is sorted first: \
    nothing of it is entered until all is read, and when that was interrupted it is begun again; from then on the server \
    finishes it, also after a restart. Each import has a number: carom suppress purge --batch N --reason R takes it back.\n\n\
    Exit code: 0 all lines were read; 1 some were set aside, or it did not work; 2 the arguments or the file are wrong."
)]
pub(super) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// What it is
    #[arg(long, default_value = "auto")]
    format: String,
    /// The column with the addresses: its name, or its number from 1
    #[arg(long)]
    column: Option<String>,
    /// Only for this mail: list weekly, job spring, sender-domain shop.example [default: global]
    #[arg(long)]
    scope: Option<String>,
    /// Until this time, or for so long: 2031-05-01, 90d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expire: Option<String>,
    /// Why, for the record
    #[arg(long, default_value = "")]
    reason: String,
    /// The lines are sums of lower-cased addresses, in hexadecimal
    #[arg(long, value_name = "ALGORITHM", value_parser = ["sha256"])]
    hashed: Option<String>,
    /// Enter also what is no permanent reason
    #[arg(long)]
    include_temporary: bool,
    /// Where lines go that can't be read [default: FILE.rejected; none for standard input but the terminal]
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Read the file and say what would be entered; no server is needed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not go on where an earlier import of this file stopped
    #[arg(long)]
    anew: bool,
    /// Sort and merge the list as a whole: for large ones [default: files of 32 MiB and more]
    #[arg(long, conflicts_with_all = ["no_bulk", "dry_run"])]
    bulk: bool,
    /// Enter it piece by piece, however large it is
    #[arg(long)]
    no_bulk: bool,
}

/// Lines of a file or of standard input.
pub(super) type Lines = Box<dyn Iterator<Item = std::io::Result<String>>>;

/// The lines of a file, or of standard input.
pub(super) fn lines(file: Option<&Path>) -> Result<Lines, Failure> {
    let input = open(file)?.content;
    // A line without end must not fill the memory: what is longer than any address is no address.
    let mut input = BufReader::new(input);
    Ok(Box::new(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match input.by_ref().take(4096).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(String::from_utf8_lossy(&line).into_owned())),
            Err(error) => Some(Err(error)),
        }
    })))
}

/// An open file.
struct Opened {
    /// What is in it, unpacked.
    content: Box<dyn Read>,
    /// Its length as it lies there.
    length: Option<u64>,
    /// Its first bytes as it lies there.
    head: Vec<u8>,
}

/// Opens a file; standard input without a name.
fn open(file: Option<&Path>) -> Result<Opened, Failure> {
    let (mut raw, length): (Box<dyn Read>, Option<u64>) = match file.filter(|f| f.as_os_str() != "-") {
        None => (Box::new(std::io::stdin()), None),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|e| Misuse(format!("{}: {e}", path.display())))?;
            let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
            (Box::new(file), length)
        }
    };
    let mut head = Vec::new();
    raw.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let all = std::io::Cursor::new(head.clone()).chain(raw);
    let unpacked: Box<dyn Read> = match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(all)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::new(all)?),
        _ => Box::new(all),
    };
    Ok(Opened { content: unpacked, length, head })
}

/// What the lines of a file were.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    entries: u64,
    rejected: u64,
    skipped: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.records += 1;
        match outcome {
            Outcome::Entry(_) => self.entries += 1,
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::Skipped(why) => {
                // Reasons quote the file; most kinds of them are few.
                let why = if self.skipped.len() < 50 || self.skipped.contains_key(why) { why } else { "other reasons" };
                *self.skipped.entry(why.to_owned()).or_default() += 1;
            }
            Outcome::Nothing => {}
        }
    }

    fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }
}

/// Where rejected lines go.
struct Aside {
    path: Option<PathBuf>,
    file: Option<BufWriter<std::fs::File>>,
    shown: u32,
    wanted: bool,
}

impl Aside {
    fn new(import: &Import) -> Aside {
        let beside = || {
            let mut name = import.file.as_os_str().to_owned();
            name.push(".rejected");
            PathBuf::from(name)
        };
        let is_stdin = import.file.as_os_str() == "-";
        let path = import.rejected.clone().or_else(|| (!is_stdin).then(beside));
        Aside { path, file: None, shown: 0, wanted: !import.dry_run || import.rejected.is_some() }
    }

    fn take(&mut self, record: &Record, why: &str) -> Result<(), Failure> {
        self.shown += 1;
        match self.shown {
            1..=20 => eprintln!("line {}: {why}", record.line),
            21 => eprintln!("..."),
            _ => {}
        }
        let Some(path) = self.path.as_ref().filter(|_| self.wanted) else { return Ok(()) };
        if self.file.is_none() {
            let file = std::fs::File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
            self.file = Some(BufWriter::new(file));
        }
        if let Some(file) = &mut self.file {
            // One line: a reason may quote what was there.
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(file, "# line {}: {why}", record.line)?;
            file.write_all(&record.raw)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Option<PathBuf>, Failure> {
        let Some(file) = self.file.take() else { return Ok(None) };
        file.into_inner().map_err(|e| e.to_string())?.sync_all()?;
        Ok(self.path)
    }
}

/// The file as it is read: each record is counted, bad ones are set aside, the others are `each`'s.
struct Reading {
    input: Box<dyn Read>,
    reader: Reader,
    tally: Tally,
    aside: Aside,
    bar: ProgressBar,
    read: u64,
    /// Bytes of the file as it lies there.
    length: Option<u64>,
}

impl Reading {
    fn new(import: &Import, identity: &mut digest::Context) -> Result<Reading, Failure> {
        let Opened { content: input, length, head } = open(Some(&import.file))?;
        identity.update(&head);
        identity.update(&length.unwrap_or(0).to_le_bytes());
        let options = transfer::Options {
            format: import.format.clone(),
            column: import.column.clone(),
            hashed: import.hashed.is_some(),
            temporary: import.include_temporary,
            scoped: import.scope.is_some(),
            name: import.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        let reader = Reader::new(options).map_err(|e| Misuse(e.to_string()))?;
        let bar = ProgressBar::new_spinner();
        // The template is a constant that is right.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} lines, {per_sec} {msg}") {
            bar.set_style(style);
        }
        Ok(Reading { input, reader, tally: Tally::default(), aside: Aside::new(import), bar, read: 0, length })
    }

    /// Reads to the end.
    fn all(&mut self, each: &mut dyn FnMut(Outcome) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match self.input.read(&mut chunk) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.read += n as u64;
            let mut records = Vec::new();
            let read = match n {
                0 => self.reader.finish(&mut |record| records.push(record)),
                n => self.reader.push(&chunk[..n], &mut |record| records.push(record)),
            };
            for record in records {
                self.tally.count(&record.outcome);
                if let Outcome::Rejected(why) = &record.outcome {
                    self.bar.suspend(|| self.aside.take(&record, why))?;
                }
                each(record.outcome)?;
            }
            self.bar.set_position(self.tally.records);
            // What was read up to here counts: a header that can't be used is the first thing in a file.
            read.map_err(|e| Misuse(e.to_string()))?;
            if n == 0 {
                self.bar.finish_and_clear();
                return Ok(());
            }
        }
    }
}

pub(super) fn dry_run(import: &Import, json: bool) -> Result<ExitCode, Failure> {
    import.scope.as_deref().map(scope).transpose()?;
    import.expire.as_deref().map(|t| end("--expire", t)).transpose()?;
    let mut reading = Reading::new(import, &mut digest::Context::new(&digest::SHA256))?;
    let mut rules: BTreeMap<String, u64> = BTreeMap::new();
    reading.all(&mut |outcome| {
        if let Outcome::Entry(row) = outcome {
            *rules.entry(row.rule).or_default() += 1;
        }
        Ok(())
    })?;
    let Reading { reader, tally, aside, .. } = reading;
    let rejected = aside.finish()?;
    if json {
        say!(
            "{}",
            json!({ "dryRun": true, "format": reader.format(), "entries": tally.entries, "rules": rules,
                "skipped": tally.skipped, "rejected": tally.rejected, "remarks": reader.remarks() })
        )?;
    } else {
        let rules: Vec<String> = rules.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
        say!("Format {}. {} entries would be made ({}).", reader.format(), tally.entries, rules.join(", "))?;
        tell(&tally, &reader, rejected.as_deref())?;
    }
    Ok(if tally.rejected > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(tally: &Tally, reader: &Reader, rejected: Option<&Path>) -> Result<(), Failure> {
    for (why, n) in &tally.skipped {
        say!("{n} left out: {why}")?;
    }
    for remark in reader.remarks() {
        say!("Note: {remark}")?;
    }
    if tally.rejected > 0 {
        let place = rejected.map(|p| format!("; they are in {}", p.display())).unwrap_or_default();
        say!("{} lines could not be read{place}.", tally.rejected)?;
    }
    Ok(())
}

pub(super) fn import(desk: &mut Desk<'_>, args: &Import) -> Result<ExitCode, Failure> {
    let for_mail = args.scope.as_deref().map(scope).transpose()?.unwrap_or_default();
    let expires = args.expire.as_deref().map(|t| end("--expire", t)).transpose()?.unwrap_or(Time::UNKNOWN);
    let mut identity = digest::Context::new(&digest::SHA256);
    let mut reading = Reading::new(args, &mut identity)?;
    for option in [&args.format, &for_mail, args.column.as_deref().unwrap_or(""), args.hashed.as_deref().unwrap_or("")]
    {
        identity.update(option.as_bytes());
        identity.update(&[0, u8::from(args.include_temporary)]);
    }
    let name = args.file.display().to_string();
    let is_stdin = name == "-";
    let reason = if args.reason.is_empty() { format!("imported from {name}") } else { args.reason.clone() };
    let info = ImportInfo {
        identity: data_encoding::HEXLOWER.encode(identity.finish().as_ref()),
        name: if is_stdin { "standard input".to_owned() } else { name },
        format: args.format.clone(),
        scope: for_mail.clone(),
        expires: expires.0,
        reason: reason.clone(),
        who: desk.who.clone(),
        hashed: args.hashed.is_some(),
        // What comes down a pipe twice need not be the same.
        anew: args.anew || is_stdin,
    };
    if bulk::is_large(args, reading.length) {
        return bulk::import(desk, reading, info);
    }
    let begun = desk.ask(SuppressionCommand::ImportBegin { info })?;
    let (batch, passed) = (u32::try_from(number(&begun, "batch")).unwrap_or(0), number(&begun, "done"));
    if passed > 0 && !desk.json() {
        eprintln!("carom: import {batch} goes on behind line {passed}");
    }
    let mut sending = Sending { batch, from: passed, records: 0, bytes: 0, rows: Vec::new(), answer: begun };
    let mut at = 0;
    reading.all(&mut |outcome| {
        at += 1;
        if at <= passed {
            return Ok(());
        }
        sending.records += 1;
        if let Outcome::Entry(row) = outcome {
            sending.row(row_of(*row, &for_mail, expires, &reason));
        }
        if sending.records >= AT_ONCE || sending.bytes >= MAX_BYTES { sending.send(desk) } else { Ok(()) }
    })?;
    sending.send(desk)?;
    let Reading { reader, tally, aside, .. } = reading;
    let rejected = aside.finish()?;
    let (skipped, refused) = (tally.skipped(), tally.rejected);
    let ended = desk.ask(SuppressionCommand::ImportEnd { batch, skipped, rejected: refused })?;
    if desk.json() {
        let mut ended = ended;
        ended["format"] = json!(reader.format());
        ended["leftOut"] = json!(tally.skipped);
        ended["remarks"] = json!(reader.remarks());
        ended["rejectedFile"] = json!(rejected.map(|p| p.display().to_string()));
        say!("{ended}")?;
    } else {
        let (entered, already, again) =
            (number(&ended, "entered"), number(&ended, "already"), number(&ended, "reentered"));
        say!("Import {batch} ({}): {entered} entered, {already} on the list already.", reader.format())?;
        if again > 0 {
            say!("{again} of them had been taken off by hand before.")?;
        }
        tell(&tally, &reader, rejected.as_deref())?;
        say!("To take it back: carom suppress purge --batch {batch} --reason ...")?;
    }
    Ok(if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rows of the next request.
struct Sending {
    batch: u32,
    from: u64,
    records: u64,
    bytes: usize,
    rows: Vec<ImportRow>,
    answer: Value,
}

impl Sending {
    fn row(&mut self, row: ImportRow) {
        self.bytes += bulk::weight(&row);
        self.rows.push(row);
    }

    fn send(&mut self, desk: &mut Desk<'_>) -> Result<(), Failure> {
        if self.records == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let command =
            SuppressionCommand::ImportRows { batch: self.batch, from: self.from, records: self.records, rows };
        self.answer = desk.ask(command)?;
        self.from += self.records;
        (self.records, self.bytes) = (0, 0);
        Ok(())
    }
}
