//! As an analyst I trust the numbers: whatever moment the power fails at, summed over an output's files each event of the
//! ledger stands exactly once, and no unfinished file stays behind.
//!
//! The disk is the simulated one, as forgetful as disks may be. In most tests the ledger and the rows are in memory, so
//! that each step of the closing protocol can be cut, one after the other; one test has the whole store on the disk.
//! `CAROM_ROUNDS` sets how often the power is cut there, and how many chances each cut of a step gets.
#![expect(clippy::disallowed_methods, reason = "waits for threads, test settings from the environment")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use carom::accounting::feedback;
use carom::accounting::journal::{self, Journal, JournalError};
use carom::accounting::names::Names;
use carom::accounting::output::{Output, Step};
use carom::accounting::outputs::{Outputs, Settings};
use carom::accounting::parquet_file::read_manifest;
use carom::accounting::target::{OutputError, Target};
use carom::classify::{RuleSet, RuleSets};
use carom::config::{AcctFile, AcctFormat, FieldChoice, PatternSource};
use carom::disk::Disk;
use carom::event::{Event, EventBatch, Events, Kind, Kinds, MessageId, RuleSetId, StoreId, Time};
use carom::sim::disk::{Fault, SimDisk};
use carom::store::{ConsumerRow, Options, Store};
use carom::suppress::{Entry, Suppression};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A ledger in memory whose end moves, and rows that are durable when written.
#[derive(Debug)]
struct MemoryJournal {
    ledger: Ledger,
    disk: SimDisk,
    rows: Mutex<BTreeMap<String, ConsumerRow>>,
    held: AtomicU64,
    chance: u64,
}

/// Stands for the rows on the disk.
const ROWS: &str = "/rows";

/// Batches of events with the sequence number of the first, and one past the last that may be read.
#[derive(Debug, Clone)]
struct Ledger {
    batches: Arc<Vec<(u64, Events)>>,
    end: Arc<AtomicU64>,
}

#[derive(Debug)]
struct MemoryReader(Ledger, u64);

#[derive(Debug)]
struct MemoryChunk(Ledger, std::ops::Range<u64>);

const STORE: StoreId = StoreId(0xca);

impl Journal for MemoryJournal {
    fn store(&self) -> StoreId {
        STORE
    }

    fn start(&self) -> u64 {
        1
    }

    fn end(&self) -> u64 {
        self.ledger.end.load(Relaxed)
    }

    fn reader(&self, from: u64) -> Result<Box<dyn journal::Reader>, JournalError> {
        assert!(from >= self.held.load(Relaxed), "reads what the ledger may have let go");
        Ok(Box::new(MemoryReader(self.ledger.clone(), from)))
    }

    fn wait_past(&self, _: u64) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    fn hold(&self, _: &str, seq: u64) {
        self.held.store(seq, Relaxed);
    }

    fn release(&self, _: &str) {}

    fn rule_set(&self, id: RuleSetId) -> Result<Option<String>, JournalError> {
        Ok(OWN_RULES.iter().find(|rules| rules.id() == id).map(|rules| rules.text().to_owned()))
    }

    fn rows(&self) -> Result<Vec<(String, ConsumerRow)>, JournalError> {
        Ok(self.rows.lock().unwrap().clone().into_iter().collect())
    }

    fn row(&self, consumer: &str) -> Result<Option<ConsumerRow>, JournalError> {
        Ok(self.rows.lock().unwrap().get(consumer).cloned())
    }

    fn put_row(&self, consumer: &str, row: &ConsumerRow) -> Result<(), JournalError> {
        // Counted as an operation of the disk; the one that is cut may have come through.
        let written = self.disk.open(Path::new(ROWS)).and_then(|f| f.write_all_at(&[1], 0));
        if written.is_ok() || (row.cursor + self.chance).is_multiple_of(2) {
            self.rows.lock().unwrap().insert(consumer.to_owned(), row.clone());
        }
        written.map_err(|e| JournalError(e.to_string()))
    }

    fn remove_row(&self, consumer: &str) -> Result<(), JournalError> {
        self.rows.lock().unwrap().remove(consumer);
        Ok(())
    }
}

impl journal::Reader for MemoryReader {
    fn next(&mut self, max_events: usize) -> Result<Option<Box<dyn journal::Events>>, JournalError> {
        let end = self.0.end.load(Relaxed).min(self.1 + (max_events as u64).min(7));
        if self.1 >= end {
            return Ok(None);
        }
        let range = self.1..end;
        self.1 = end;
        Ok(Some(Box::new(MemoryChunk(self.0.clone(), range))))
    }
}

impl journal::Events for MemoryChunk {
    fn last(&self) -> u64 {
        self.1.end - 1
    }

    fn batches(&self) -> Box<dyn Iterator<Item = EventBatch<'_>> + '_> {
        let batch = |(first, events): &'_ (u64, Events)| (*first, events.len() as u32);
        let range = self.1.clone();
        Box::new(self.0.batches.iter().filter(move |b| range.contains(&batch(b).0)).map(|(first, events)| EventBatch {
            store: STORE,
            first_seq: *first,
            rules: OWN_RULES[usize::from(*first > RELOAD)].id(),
            count: events.len() as u32,
            bytes: events.as_bytes(),
        }))
    }
}

const EVENTS: u64 = 60;
const ASKED: [Kind; 3] = [Kind::Delivered, Kind::Bounced, Kind::Transient];
/// Shortly before midnight, here and in UTC.
const EVENING: Time = Time::from_secs(1_700_006_390);

fn kind(seq: u64) -> Kind {
    [Kind::Delivered, Kind::Bounced, Kind::Received, Kind::Transient, Kind::Feedback][seq as usize % 5]
}

fn selected() -> Vec<u64> {
    (1..=EVENTS).filter(|s| ASKED.contains(&kind(*s))).collect()
}

/// What happens besides while the outputs work; from event [`RELOAD`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// The clock is put back by an hour, then forward over midnight, then back behind it.
    ClockJumps,
    /// Other columns, while a file is open. Other patterns come in every scenario.
    Reload,
}

const RELOAD: u64 = 31;

/// The patterns before and after the reload.
static OWN_RULES: LazyLock<[Arc<RuleSet>; 2]> = LazyLock::new(|| {
    ["bad-mailbox", "inactive-mailbox"].map(|category| {
        let text = format!("/user unknown/ {category}\n/fine/ other\n");
        Arc::new(RuleSet::compile_alone(&[PatternSource::file("own.conf", text)]).unwrap())
    })
});
/// Compiled once for all disks.
static COMPILED: LazyLock<RuleSets> = LazyLock::new(RuleSets::default);

/// The category of an event, by the patterns that it was stamped with.
fn category(seq: u64) -> &'static str {
    match (kind(seq), seq > RELOAD) {
        (Kind::Delivered, _) => "",
        (_, false) => "bad-mailbox",
        (_, true) => "inactive-mailbox",
    }
}

fn time(seq: u64, meanwhile: Meanwhile) -> Time {
    let at = EVENING + Duration::from_secs(seq);
    match (meanwhile, seq) {
        (Meanwhile::ClockJumps, 31..=40) => Time(at.0 - 3_600_000_000),
        (Meanwhile::ClockJumps, 41..=50) => at + Duration::from_secs(3600),
        (Meanwhile::ClockJumps, 51..) => Time(at.0 - 7_200_000_000),
        _ => at,
    }
}

fn ledger(meanwhile: Meanwhile) -> Ledger {
    let one = |seq: u64| {
        let mut events = Events::new();
        let rcpt = format!("user{seq}@example.net");
        let diag = if kind(seq) == Kind::Delivered { "smtp;250 ok, \"fine\"" } else { "smtp;550 5.1.1 user unknown" };
        events.push(&Event { rcpt: &rcpt, diag, ..Event::new(kind(seq), time(seq, meanwhile)) });
        (seq, events)
    };
    Ledger { batches: Arc::new((1..=EVENTS).map(one).collect()), end: Arc::new(AtomicU64::new(1)) }
}

fn acct_file(format: AcctFormat) -> AcctFile {
    let csv = format == AcctFormat::Csv;
    // A few columns are enough here, and Parquet files of few columns are made many times faster.
    let few = ["rcpt", "dsnDiag", "bounceCat"].map(|f| FieldChoice::Field(f.into())).to_vec();
    AcctFile {
        path: if csv { "/log/acct.csv".into() } else { "/data/acct.parquet".into() },
        format,
        records: Kinds::of(&ASKED),
        record_fields: if csv { BTreeMap::new() } else { ASKED.map(|k| (k, few.clone())).into() },
        max_size: 1500,
        move_to: csv.then(|| "/done".into()),
        move_interval: Duration::from_secs(3600),
        delete_after: None,
        close_rows: 8,
        close_after: Duration::from_secs(20),
        row_group_rows: 4,
        ..AcctFile::new("".into(), format)
    }
}

struct House {
    disk: SimDisk,
    target: Arc<Target>,
    /// As it is after a reload.
    reloaded: Arc<Target>,
    ledger: Ledger,
    meanwhile: Meanwhile,
}

impl House {
    fn new(file: AcctFile, chance: u64) -> House {
        House::with(file, chance, Meanwhile::Nothing)
    }

    fn with(file: AcctFile, chance: u64, meanwhile: Meanwhile) -> House {
        let disk = SimDisk::new();
        disk.create_new(Path::new(ROWS)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let ledger = ledger(meanwhile);
        let journal = Arc::new(MemoryJournal {
            ledger: ledger.clone(),
            disk: disk.clone(),
            rows: Mutex::default(),
            held: AtomicU64::new(0),
            chance,
        });
        let mut other = file.clone();
        if meanwhile == Meanwhile::Reload {
            let more = ["rcpt", "bounceCat", "dsnStatus"].map(|f| FieldChoice::Field(f.into())).to_vec();
            other.record_fields = ASKED.map(|k| (k, more.clone())).into();
        }
        let reloaded = target(other, journal.clone(), &disk);
        House { target: target(file, journal, &disk), reloaded, disk, ledger, meanwhile }
    }

    fn now(&self, end: u64) -> Time {
        time(end, self.meanwhile)
    }

    /// Lets the ledger grow event by event and the output work, commit and now and then rotate, until all is written or
    /// something fails.
    fn work(&self) -> Result<(), OutputError> {
        let mut end = self.ledger.end.load(Relaxed);
        let in_force = |end: u64| Arc::clone(if end > RELOAD { &self.reloaded } else { &self.target });
        let mut output = Output::open(in_force(end), self.now(end))?;
        while end <= EVENTS {
            let before = end;
            end = (end + 3).min(EVENTS + 1);
            self.ledger.end.store(end, Relaxed);
            if before <= RELOAD && end > RELOAD {
                output.stop()?;
                output = Output::open(in_force(end), self.now(end))?;
            }
            while output.step(self.now(end))? == Step::Worked {}
            output.tick(true, self.now(end))?;
            if end.is_multiple_of(2) {
                output.commit()?;
            }
            if end == 25 {
                output.rotate()?;
            }
        }
        while output.step(self.now(end))? == Step::Worked {}
        output.stop()
    }

    fn operations(&self) -> u64 {
        let before = self.disk.operations();
        self.work().unwrap();
        self.disk.operations() - before
    }
}

fn now(end: u64) -> Time {
    time(end, Meanwhile::Nothing)
}

fn target(file: AcctFile, journal: Arc<dyn Journal>, disk: &SimDisk) -> Arc<Target> {
    Arc::new(Target {
        rules: COMPILED.clone(),
        consumer: "acct-file test".into(),
        names: Names::of(Path::new("/"), &file.path),
        move_to: file.move_to.clone(),
        file,
        journal,
        disk: Arc::new(disk.clone()),
        zone: jiff::tz::TimeZone::UTC,
        start_at_beginning: true,
        hurry: Arc::default(),
    })
}

/// The output's files, in the order of their names.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let ours = |p: &PathBuf| p.starts_with("/log") || p.starts_with("/done") || p.starts_with("/data");
    let mut files: Vec<_> = disk.files().into_iter().map(|(path, _)| path).filter(ours).collect();
    files.sort_by_key(|p| p.file_name().unwrap().to_owned());
    files
}

fn read(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open_read(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The sequence numbers in the files, ascending.
fn written(disk: &SimDisk) -> Vec<u64> {
    rows(disk).into_iter().map(|(seq, _)| seq).collect()
}

/// Sequence numbers and categories of all records in the files, ascending.
fn rows(disk: &SimDisk) -> Vec<(u64, String)> {
    let mut rows: Vec<_> = files(disk).iter().flat_map(|f| records(f, read(disk, f))).collect();
    rows.sort();
    rows
}

fn sequence_numbers(path: &Path, bytes: Vec<u8>) -> Vec<u64> {
    records(path, bytes).into_iter().map(|(seq, _)| seq).collect()
}

fn records(path: &Path, bytes: Vec<u8>) -> Vec<(u64, String)> {
    let seq = |id: &str| id.split_once('-').unwrap().1.parse().unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "csv" => {
            let mut reader = csv::Reader::from_reader(bytes.as_slice());
            let header = reader.headers().unwrap().clone();
            let column = |name: &str| header.iter().position(|h| h == name).unwrap();
            let (id, category) = (column("eventId"), column("bounceCat"));
            reader.records().map(|r| r.unwrap()).map(|r| (seq(&r[id]), r[category].to_owned())).collect()
        }
        "parquet" => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes));
            let mut all = Vec::new();
            for batch in reader.unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
                let (ids, categories) = (text("eventId"), text("bounceCat"));
                let category = |i| if categories.is_valid(i) { categories.value(i) } else { "" }.to_owned();
                all.extend((0..ids.len()).map(|i| (seq(ids.value(i)), category(i))));
            }
            all
        }
        other => panic!("an unfinished file stays behind: {path:?} ({other})"),
    }
}

/// The ranges in the footers follow each other without gaps, so that a lost file would be seen.
fn manifests_cover_all(disk: &SimDisk) {
    let manifest = |path: &PathBuf| {
        read_manifest(&disk.open_read(path).unwrap()).unwrap_or_else(|| panic!("{path:?} has no manifest"))
    };
    let parquet: Vec<_> = files(disk).into_iter().filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    let mut manifests: Vec<_> = parquet.iter().map(manifest).collect();
    manifests.sort_by_key(|m| m.ranges.first());
    let mut next = 1;
    for m in manifests {
        assert_eq!((m.ranges.first(), m.records), (next, Kinds::of(&ASKED)), "{parquet:?}");
        next = m.ranges.last() + 1;
    }
    assert!(next == 1 || next > *selected().last().unwrap());
}

/// How often the power went after which step of which file.
type Cuts = BTreeMap<String, u32>;

/// A step of the disk, as it is called in [`Cuts`]: `rename data/.parquet`, `sync log/.csv`, `write /rows`.
fn step((what, path): (&'static str, PathBuf)) -> String {
    let folder = ["log", "done", "data"].into_iter().find(|f| path.starts_with(format!("/{f}"))).unwrap_or_default();
    let name = path.to_string_lossy();
    let ending = ["inprogress", "parquet", "csv", "rows"].into_iter().find(|e| name.ends_with(e)).unwrap_or("folder");
    format!("{what} {folder}/{ending}")
}

/// Cuts at every operation in turn, and again during the recovery; whatever happened, the files are right in the end.
fn survives_every_cut(format: AcctFormat, meanwhile: Meanwhile) -> Cuts {
    let undisturbed = House::with(acct_file(format), 0, meanwhile);
    let operations = undisturbed.operations();
    let want: Vec<_> = selected().into_iter().map(|seq| (seq, category(seq).to_owned())).collect();
    assert_eq!(rows(&undisturbed.disk), want);
    manifests_cover_all(&undisturbed.disk);
    assert!(operations > 50, "{operations} operations: the scenario has become too small");
    let mut cuts = Cuts::new();
    let chances = rounds().map_or(2, |rounds| rounds.div_ceil(100).max(2));
    for chance in 1..=chances {
        for cut in 0..operations {
            let house = House::with(acct_file(format), chance, meanwhile);
            // The second cut comes soon after the first, in the midst of recovering from it.
            for (n, next) in [cut, (cut * 7 + chance) % 13].into_iter().enumerate() {
                house.disk.cut_after(next);
                let _ = house.work();
                if house.disk.is_cut() {
                    *cuts.entry(house.disk.last_operation().map_or_else(String::new, step)).or_default() += 1;
                    house.disk.power_cut(chance * 10_000 + cut * 2 + n as u64);
                }
            }
            house.disk.cut_after(u64::MAX / 2);
            house.work().unwrap_or_else(|e| panic!("{meanwhile:?}, chance {chance}, cut {cut}: {e}"));
            let files = || format!("{meanwhile:?}, chance {chance}, cut {cut}: {:#?}", house.disk.files());
            assert_eq!(rows(&house.disk), want, "{}", files());
            manifests_cover_all(&house.disk);
        }
    }
    eprintln!("{format:?}, {meanwhile:?}: {} power cuts, after {cuts:?}", cuts.values().sum::<u32>());
    cuts
}

/// `CAROM_ROUNDS`: so many power cuts with the whole store on the disk.
fn rounds() -> Option<u64> {
    std::env::var("CAROM_ROUNDS").ok().and_then(|v| v.parse().ok())
}

/// The steps by which a file is written, closed and published (`closing`): none may be missing among the cuts.
fn each_was_cut(cuts: &Cuts, steps: &[&str]) {
    let never: Vec<_> = steps.iter().filter(|s| !cuts.contains_key(**s)).collect();
    assert!(never.is_empty(), "the power never went after {never:?}; it did after {cuts:?}");
}

#[test]
fn whatever_the_clock_does_every_event_stands_in_the_files_once_wherever_the_power_fails() {
    survives_every_cut(AcctFormat::Csv, Meanwhile::ClockJumps);
    survives_every_cut(AcctFormat::Parquet, Meanwhile::ClockJumps);
}

#[test]
fn other_columns_in_mid_file_lose_and_double_nothing_wherever_the_power_fails() {
    survives_every_cut(AcctFormat::Csv, Meanwhile::Reload);
    survives_every_cut(AcctFormat::Parquet, Meanwhile::Reload);
}

#[test]
fn csv_files_hold_every_event_once_wherever_the_power_fails() {
    let cuts = survives_every_cut(AcctFormat::Csv, Meanwhile::Nothing);
    each_was_cut(
        &cuts,
        &[
            "write /rows",
            "create log/csv",
            "sync-dir log/folder",
            "write log/csv",
            "sync log/csv",
            "rename done/csv",
            "sync-dir done/folder",
        ],
    );
}

#[test]
fn parquet_files_hold_every_event_once_wherever_the_power_fails() {
    let cuts = survives_every_cut(AcctFormat::Parquet, Meanwhile::Nothing);
    each_was_cut(
        &cuts,
        &[
            "write /rows",
            "create data/inprogress",
            "write data/inprogress",
            "sync data/inprogress",
            "rename data/parquet",
            "sync-dir data/folder",
            "remove data/inprogress",
        ],
    );
}

/// What a killed process has written stays in the page cache; so it does after an error of the disk. What a reader has
/// seen must stay as it is, and go on.
#[test]
fn a_reader_that_follows_a_csv_file_sees_nothing_twice_after_an_error() {
    let mut file = acct_file(AcctFormat::Csv);
    file.move_to = None;
    file.max_size = u64::MAX;
    let operations = House::new(file.clone(), 0).operations();
    let fault = |n| [Fault::Write(n, std::io::ErrorKind::StorageFull), Fault::Sync(n, std::io::ErrorKind::Other)];
    for planned in (1..=operations).flat_map(fault) {
        let house = House::new(file.clone(), 1);
        house.disk.fail(planned);
        let _ = house.work();
        let seen: Vec<_> = files(&house.disk).into_iter().map(|f| (read(&house.disk, &f), f)).collect();
        house.work().unwrap();
        for (before, path) in seen {
            assert!(read(&house.disk, &path).starts_with(&before), "{planned:?}: {path:?} changed under its reader");
        }
        assert_eq!(written(&house.disk), selected(), "{planned:?}");
    }
}

#[test]
fn a_full_disk_delays_parquet_files_and_loses_nothing() {
    let file = acct_file(AcctFormat::Parquet);
    let operations = House::new(file.clone(), 0).operations();
    for n in 1..=operations {
        let house = House::new(file.clone(), 1);
        house.disk.fail(Fault::Write(n, std::io::ErrorKind::StorageFull));
        let _ = house.work();
        house.work().unwrap();
        assert_eq!(written(&house.disk), selected(), "write {n}");
        manifests_cover_all(&house.disk);
    }
}

/// Journal, tables, CSV, Parquet and the suppression list on one disk, and the power fails anywhere. What the ledger then
/// has is in the files, once, and every address that bounced is on the list because of its first bounce.
///
/// `CAROM_ROUNDS` sets the number of power cuts (default 24), three of each disk.
#[test]
fn with_the_whole_store_on_the_disk_files_and_list_hold_what_the_ledger_has() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (disks, mut cuts) = (rounds().unwrap_or(24).div_ceil(3), 0);
    for chance in 0..disks {
        let disk = SimDisk::new();
        for life in 0..4u64 {
            let last = life == 3;
            if !last {
                disk.cut_after(40 + (chance * 37 + life * 61) % 300);
            }
            let done = runtime.block_on(one_life(&disk, last));
            if last {
                let (end, list) = done.unwrap_or_else(|e| panic!("chance {chance}: {e}"));
                let want: Vec<u64> = (1..end).filter(|seq| seq % 2 == 1).collect();
                for folder in ["/log", "/data"] {
                    let mut got: Vec<u64> = files(&disk)
                        .iter()
                        .filter(|f| f.starts_with(folder))
                        .flat_map(|f| sequence_numbers(f, read(&disk, f)))
                        .collect();
                    got.sort_unstable();
                    assert_eq!(got, want, "chance {chance}, {folder}");
                }
                let mut first = BTreeMap::new();
                want.iter().for_each(|seq| {
                    first.entry(rcpt(*seq)).or_insert(*seq);
                });
                assert_eq!(list, first, "chance {chance}: address and the event that suppressed it");
            } else {
                cuts += u32::from(disk.is_cut());
                disk.power_cut(chance * 100 + life);
            }
        }
    }
    eprintln!("the power went {cuts} times in the midst of work, on {disks} disks");
}

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| Arc::new(RuleSet::builtin()));

/// Some addresses bounce again.
fn rcpt(seq: u64) -> String {
    format!("user{}@example.net", seq / 10)
}

/// Opens the store, appends events while two outputs and the suppression consumer work, and stops in order if the power
/// lasts. Returns the end of the ledger, and the list with the events that made it.
async fn one_life(disk: &SimDisk, quietly: bool) -> Result<(u64, BTreeMap<String, u64>), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = Options {
        segment_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        retention_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        ..Options::default()
    };
    let opened = Store::open(Arc::clone(&shared), Path::new("/store"), &options).map_err(|e| text(&e))?;
    let store = opened.store;
    // The events bring their categories: compiling rules in each life would take most of the time.
    let mut suppressor = feedback::open(&store, &Suppression::new(), RULES.clone().into()).map_err(|e| text(&e))?;
    suppressor.catch_up().map_err(|e| text(&e))?;
    let suppressor = suppressor.spawn().map_err(|e| text(&e))?;
    let worked = work_with_outputs(&store, shared, opened.next_seq, quietly).await;
    suppressor.stop();
    worked?;
    let end = store.ledger().end();
    let mut list = BTreeMap::new();
    let put = &mut |_: &[u8], row: &[u8]| {
        let entry = Entry::decode(row).unwrap();
        list.insert(entry.subject.to_string(), entry.by.seq);
        true
    };
    store.suppression().for_each_entry(&[], put).map_err(|e| text(&e))?;
    store.close().await.map_err(|e| text(&e))?;
    Ok((end, list))
}

async fn work_with_outputs(store: &Store, disk: Arc<dyn Disk>, mut next: u64, quietly: bool) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut acct_files = [acct_file(AcctFormat::Csv), acct_file(AcctFormat::Parquet)];
    acct_files[0].move_to = None;
    acct_files.iter_mut().for_each(|f| f.records = Kinds::of(&[Kind::Bounced]));
    let settings = Settings {
        root: "/".into(),
        zone: jiff::tz::TimeZone::UTC,
        start_at_beginning: true,
        commit_every: Duration::from_millis(2),
        retry_after: Duration::from_millis(1),
        rules: Default::default(),
    };
    let outputs = Outputs::start(Arc::new(store.clone()), &acct_files, disk, settings).map_err(|e| text(&e))?;
    for _ in 0..if quietly { 1 } else { 30 } {
        let mut events = Events::new();
        for _ in 0..3 {
            let kind = if next % 2 == 1 { Kind::Bounced } else { Kind::Delivered };
            let diag = "smtp;550 5.1.1 user unknown";
            let category = if kind == Kind::Bounced { "bad-mailbox" } else { "" };
            let message = MessageId(next);
            events.push(&Event { message, rcpt: &rcpt(next), diag, category, ..Event::new(kind, now(next)) });
            next += 1;
        }
        store.append(events).await.map_err(|e| text(&e))?;
        store.flush().await.map_err(|e| text(&e))?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if next.is_multiple_of(5) {
            outputs.rotate(None).await?;
        }
    }
    outputs.flush().await?;
    outputs.stop().await
}

#[test]
fn a_clock_that_is_put_back_does_not_keep_a_parquet_file_open() {
    let house = House::new(acct_file(AcctFormat::Parquet), 0);
    house.ledger.end.store(3, Relaxed);
    let hour = Duration::from_secs(3600);
    let mut output = Output::open(Arc::clone(&house.target), EVENING).unwrap();
    while output.step(EVENING).unwrap() == Step::Worked {}
    let back = Time(EVENING.0 - hour.as_micros() as i64);
    output.tick(true, back).unwrap();
    assert!(output.current().is_some());
    output.tick(true, back + Duration::from_secs(21)).unwrap();
    assert_eq!(output.current(), None, "close-after is 20 s");
}

#[test]
fn a_clock_that_jumps_over_midnight_and_back_never_names_two_files_alike() {
    let mut file = acct_file(AcctFormat::Csv);
    file.move_to = None;
    file.max_size = 1 << 20;
    let house = House::new(file, 0);
    let (mut names, mut seqs) = (Vec::new(), Vec::new());
    for (turn, day) in [0u64, 1, 0, 1, 2, 0].into_iter().enumerate() {
        house.ledger.end.store(turn as u64 * 10 + 11, Relaxed);
        let at = EVENING + Duration::from_secs(86_400 * day);
        let mut output = Output::open(Arc::clone(&house.target), at).unwrap();
        output.tick(false, at).unwrap();
        while output.step(at).unwrap() == Step::Worked {}
        output.rotate().unwrap();
        drop(output);
        // Whoever archives files takes them away at once: their names are not in the folder any more.
        for path in files(&house.disk) {
            seqs.extend(sequence_numbers(&path, read(&house.disk, &path)));
            house.disk.remove(&path).unwrap();
            names.push(path);
        }
    }
    assert_eq!(names.len(), 6);
    assert_eq!(seqs, selected());
    let given = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), given, "{names:?}");
}

#[test]
fn a_new_file_begins_at_local_midnight_and_not_at_the_change_of_the_clock() {
    // In Berlin 2023-10-29 has 25 hours: 03:00+0200 is followed by 02:00+0100.
    let mut file = acct_file(AcctFormat::Csv);
    file.move_to = None;
    file.max_size = 1 << 20;
    let house = House::new(file.clone(), 0);
    let mut target = target(file, Arc::clone(&house.target.journal), &house.disk);
    Arc::get_mut(&mut target).unwrap().zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let at = |text: &str| Time::from(text.parse::<jiff::Timestamp>().unwrap());
    let mut output = Output::open(target, at("2023-10-28T23:30:00Z")).unwrap();
    for (end, time) in [
        (11, "2023-10-28T23:30:00Z"), // 01:30+0200
        (21, "2023-10-29T00:59:00Z"), // 02:59+0200
        (31, "2023-10-29T01:01:00Z"), // 02:01+0100
        (41, "2023-10-29T22:59:00Z"), // 23:59+0100
        (51, "2023-10-29T23:01:00Z"), // the next day
    ] {
        house.ledger.end.store(end, Relaxed);
        output.tick(false, at(time)).unwrap();
        while output.step(at(time)).unwrap() == Step::Worked {}
    }
    output.stop().unwrap();
    let names: Vec<_> = files(&house.disk).iter().map(|p| p.display().to_string()).collect();
    assert_eq!(names, ["/log/acct-2023-10-29-0000.csv", "/log/acct-2023-10-30-0000.csv"]);
    assert_eq!(written(&house.disk), selected().into_iter().filter(|s| *s < 51).collect::<Vec<_>>());
}
