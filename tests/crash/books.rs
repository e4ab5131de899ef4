//! What the accounting files say, and whether it agrees with what both peers saw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use carom::disk::RealDisk;
use carom::event::Scope;
use carom::store::SuppressTable;
use carom::store::{Options, Store};
use carom::suppress::rules::{StrikeKey, Strikes};
use carom::suppress::{self, Entry, Filter, Hasher};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::peers::{Sink, folded, is_full, number};
use crate::push::endpoint::{Endpoint, Request};

/// (record type, recipient number) by event id.
type Book = BTreeMap<String, (String, Option<u64>)>;

pub struct Books {
    csv: Book,
    /// Of the output whose files are moved away when they are complete.
    moved: Book,
    parquet: Book,
    /// By event id, whatever came twice counted once: a pipe is promised at least once.
    piped: Book,
    /// The same of a webhook.
    pushed: Book,
    wrong: Vec<String>,
}

impl Books {
    pub fn read(dir: &Path, endpoint: &Endpoint) -> Books {
        let mut books = Books {
            csv: Book::new(),
            moved: Book::new(),
            parquet: Book::new(),
            piped: Book::new(),
            pushed: Book::new(),
            wrong: Vec::new(),
        };
        books.read_pipes(dir);
        books.read_requests(endpoint);
        let mut files = Vec::new();
        walk(&dir.join("acct"), &mut files);
        for file in &files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".inprogress") || name.starts_with('.') {
                books.wrong.push(format!("unfinished file left behind: {}", file.display()));
            } else if name.ends_with(".csv") {
                books.read_csv(file);
            } else if name.ends_with(".parquet") {
                books.read_parquet(file);
            }
        }
        books
    }

    fn read_csv(&mut self, file: &Path) {
        let mut reader = csv::Reader::from_path(file).unwrap();
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| {
            header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no column {name} in {}", file.display()))
        };
        let (kind, rcpt, id) = (column("type"), column("rcpt"), column("eventId"));
        let moves = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("moves"));
        let book = if moves { &mut self.moved } else { &mut self.csv };
        for row in reader.records() {
            match row {
                Ok(row) => add(book, &mut self.wrong, file, &row[id], &row[kind], &row[rcpt]),
                Err(e) => self.wrong.push(format!("{}: {e}", file.display())),
            }
        }
    }

    /// What each of the pipe's processes has read: header first, and no record of another kind than elsewhere.
    fn read_pipes(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let file = entry.path();
            if !entry.file_name().to_string_lossy().starts_with("piped.") {
                continue;
            }
            let text = std::fs::read(&file).unwrap();
            // A killed server leaves its last line cut.
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if whole == 0 {
                continue;
            }
            let mut reader = csv::Reader::from_reader(&text[..whole]);
            let header = reader.headers().unwrap().clone();
            let column = |name: &str| header.iter().position(|h| h == name).expect("a header line first");
            let (kind, rcpt, id) = (column("type"), column("rcpt"), column("eventId"));
            for row in reader.records() {
                match row {
                    Ok(row) => {
                        let record = (row[kind].to_owned(), number(&row[rcpt]));
                        let before = self.piped.insert(row[id].to_owned(), record.clone());
                        if before.is_some_and(|b| b != record) {
                            self.wrong.push(format!("{}: another record of event {}", file.display(), &row[id]));
                        }
                    }
                    Err(e) => self.wrong.push(format!("{}: {e}", file.display())),
                }
            }
        }
    }

    /// What the webhook was told: everything, and of no event two different things.
    fn read_requests(&mut self, endpoint: &Endpoint) {
        for told in endpoint.requests().iter().filter(|r| r.accepted).flat_map(Request::records) {
            let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
            let record = (text("type"), number(&text("rcpt")));
            let before = self.pushed.insert(text("eventId"), record.clone());
            if before.is_some_and(|b| b != record) {
                self.wrong.push(format!("the webhook was told another record of event {}", text("eventId")));
            }
        }
    }

    fn read_parquet(&mut self, file: &Path) {
        let open = || -> Result<Vec<RecordBatch>, String> {
            let f = std::fs::File::open(file).map_err(|e| e.to_string())?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(f)
                .map_err(|e| e.to_string())?
                .build()
                .map_err(|e| e.to_string())?;
            reader.collect::<Result<_, _>>().map_err(|e| e.to_string())
        };
        let batches = match open() {
            Ok(batches) => batches,
            Err(e) => return self.wrong.push(format!("{}: {e}", file.display())),
        };
        for batch in batches {
            let text = |name: &str| {
                let column =
                    batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name} in {}", file.display()));
                arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap()
            };
            let (kind, rcpt, id) = (text("type"), text("rcpt"), text("eventId"));
            let (kind, rcpt, id) = (kind.as_string::<i32>(), rcpt.as_string::<i32>(), id.as_string::<i32>());
            for i in 0..batch.num_rows() {
                let rcpt = if rcpt.is_null(i) { "" } else { rcpt.value(i) };
                add(&mut self.parquet, &mut self.wrong, file, id.value(i), kind.value(i), rcpt);
            }
        }
    }

    pub fn check(&mut self, acknowledged: &BTreeSet<u64>, sink: &Sink, seed: u64) {
        if self.csv != self.parquet {
            let only = |a: &Book, b: &Book| {
                a.iter()
                    .filter(|(k, v)| b.get(*k) != Some(v))
                    .take(3)
                    .map(|(k, v)| format!("{k} {v:?}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            self.wrong.push(format!(
                "CSV ({} records) and Parquet ({}) differ; only in CSV: {}; only in Parquet: {}",
                self.csv.len(),
                self.parquet.len(),
                only(&self.csv, &self.parquet),
                only(&self.parquet, &self.csv)
            ));
        }
        if self.csv != self.moved {
            let (a, b) = (self.csv.len(), self.moved.len());
            self.wrong.push(format!("the CSV outputs differ: {a} events in place, {b} in files that are moved"));
        }
        if self.csv != self.piped {
            let missing: Vec<_> = self.csv.keys().filter(|k| !self.piped.contains_key(*k)).take(5).collect();
            let (a, b) = (self.csv.len(), self.piped.len());
            self.wrong.push(format!("{a} events in CSV, {b} through the pipe; missing there: {missing:?}"));
        }
        if self.csv != self.pushed {
            let missing: Vec<_> = self.csv.keys().filter(|k| !self.pushed.contains_key(*k)).take(5).collect();
            let (a, b) = (self.csv.len(), self.pushed.len());
            self.wrong.push(format!("{a} events in CSV, {b} to the webhook; missing there: {missing:?}"));
        }
        self.check_sequence();
        let mut terminal: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (kind, n) in self.csv.values() {
            if let (true, Some(n)) = (kind == "d" || kind == "b", n) {
                terminal.entry(*n).or_default().push(kind);
            }
        }
        for n in acknowledged {
            let want = if n % 20 < 4 { "b" } else { "d" };
            match terminal.get(n).map(Vec::as_slice) {
                Some([kind]) if *kind == want => {}
                other => self.wrong.push(format!(
                    "recipient {n}: terminal events {other:?}, the next hop answered {:?}",
                    sink.answers(*n)
                )),
            }
        }
        // Not acknowledged is not forbidden to arrive; but then, too, with one terminal event.
        for (n, kinds) in &terminal {
            if kinds.len() != 1 {
                self.wrong.push(format!("recipient {n}: terminal events {kinds:?}"));
            }
        }
        let shown = self.wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "seed {seed}: {} things wrong\n{shown}", self.wrong.len());
    }

    /// An address that got its 550 is on the list once, because of a `b` event that is in the files; and no other is.
    pub fn check_suppressed(&mut self, dir: &Path) {
        let opened = Store::open(Arc::new(RealDisk), &dir.join("spool"), &Options::default()).expect("the store opens");
        let mut listed = BTreeSet::new();
        let list =
            suppress::list(opened.store.suppression(), &Filter::default(), usize::MAX).expect("the list is read");
        self.check_strikes(&opened.store);
        for line in list.entries.into_iter().filter(|line| !line.entry.subject.starts_with("full")) {
            let by = line.entry.by.to_string();
            match (number(&line.entry.subject), self.csv.get(&by)) {
                (Some(n), Some((kind, of))) if kind == "b" && *of == Some(n) => {
                    listed.insert(n);
                }
                other => self.wrong.push(format!("{} is suppressed by {by}: {other:?}", &*line.entry.subject)),
            }
        }
        let bounced: BTreeSet<u64> = self
            .csv
            .values()
            .filter(|(kind, _)| kind == "b")
            .filter_map(|(_, n)| *n)
            .filter(|n| !is_full(*n))
            .collect();
        if listed != bounced {
            let only = |a: &BTreeSet<u64>, b: &BTreeSet<u64>| a.difference(b).take(5).copied().collect::<Vec<_>>();
            self.wrong.push(format!(
                "{} addresses bounced, {} are suppressed; not suppressed {:?}, not bounced {:?}",
                bounced.len(),
                listed.len(),
                only(&bounced, &listed),
                only(&listed, &bounced)
            ));
        }
    }

    /// Full mailboxes: the first five refusals of each are its strikes, the fifth one enters it.
    fn check_strikes(&mut self, store: &Store) {
        let mut refusals: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (id, (kind, n)) in &self.csv {
            if let (true, Some(n)) = (kind == "b", n.filter(|n| is_full(*n))) {
                let seq = id.rsplit('-').next().and_then(|seq| seq.parse().ok()).expect("an event id");
                refusals.entry(format!("{}@bulk.example", folded(n))).or_default().insert(seq);
            }
        }
        let (tables, hasher) = (store.suppression(), Hasher::default());
        let mut rows = 0;
        for (subject, refusals) in &refusals {
            let key = hasher.subject(subject).in_scope(&Scope::global());
            let row =
                tables.suppress_row(SuppressTable::Strikes, &StrikeKey::of(key, "full").bytes()).expect("strikes");
            let strikes: Vec<u64> =
                row.map(|row| Strikes::decode(&row).all().iter().map(|s| s.seq).collect()).unwrap_or_default();
            let (bytes, len) = key.bytes();
            let entry = tables.suppress_row(SuppressTable::Entries, &bytes[..len]).expect("entries");
            let by = entry.map(|row| Entry::decode(&row).expect("an entry").by.seq);
            let expected: Vec<u64> = if refusals.len() < 5 { refusals.iter().copied().collect() } else { Vec::new() };
            if strikes != expected || by != refusals.iter().nth(4).copied() {
                self.wrong.push(format!("{subject}: refused by {refusals:?}, strikes {strikes:?}, entered by {by:?}"));
            }
            rows += usize::from(!strikes.is_empty());
        }
        let mut all = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            all += 1;
            true
        };
        tables.for_each_suppress_row(SuppressTable::Strikes, &[], count).expect("strikes");
        if all != rows {
            self.wrong.push(format!("{all} rows of strikes, {rows} of mailboxes that were refused"));
        }
    }

    /// A recipient that was refused for good.
    pub fn some_bounced(&self) -> Option<u64> {
        self.csv.values().filter(|(kind, _)| kind == "b").filter_map(|(_, n)| *n).find(|n| !is_full(*n))
    }

    /// All events of a store, `tq` included, are in the files: so the numbers have no gap.
    fn check_sequence(&mut self) {
        let numbers: BTreeSet<u64> = self.csv.keys().filter_map(|id| id.rsplit('-').next()?.parse().ok()).collect();
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last())
            && (*first != 1 || last - first + 1 != numbers.len() as u64)
        {
            self.wrong.push(format!("sequence numbers {first} to {last}, but only {} of them", numbers.len()));
        }
    }
}

fn add(book: &mut Book, wrong: &mut Vec<String>, file: &Path, id: &str, kind: &str, rcpt: &str) {
    if book.insert(id.to_owned(), (kind.to_owned(), number(rcpt))).is_some() {
        wrong.push(format!("{}: event {id} stands twice", file.display()));
    }
}

fn walk(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, out);
        } else {
            out.push(path);
        }
    }
}
