//! As an operator I merge a finished day's small Parquet files while servers write and analysts read: nobody ever sees a
//! record twice or misses one, whatever is cut off when.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "looks at real files, runs the program")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use carom::accounting::closing::{Files, ParquetClosing, ParquetState, State};
use carom::accounting::columns::Columns;
use carom::accounting::outputs::{Outputs, Settings};
use carom::accounting::parquet::{ParquetRows, properties};
use carom::accounting::parquet_file::ParquetFile;
use carom::config::directives::acct_file::with_defaults;
use carom::config::{AcctFile, AcctFormat, Compression};
use carom::disk::{Disk, RealDisk};
use carom::event::manifest::{Manifest, Ranges};
use carom::event::{Event, Events, Kind, Kinds, StoreId, Time};
use carom::history::compact::{CompactError, Day, Options, compact};
use carom::history::verify::verify;
use carom::store::{ConsumerRow, Store};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const STORE: StoreId = StoreId(0x6b86_33e9_1642_ba5d);
/// 2026-01-30 12:00 UTC; the next one is the next day.
const DAY_ONE: i64 = 1_769_774_400;
const DAY: &str = "date=2026-01-30";
const NEXT_DAY: &str = "date=2026-01-31";

fn acct_file() -> AcctFile {
    AcctFile { records: Kinds::ALL, ..with_defaults("acct.parquet".into(), AcctFormat::Parquet) }
}

/// An output's file with the records `first..=last`.
fn write(dir: &Path, day: &str, first: u64, last: u64) -> PathBuf {
    std::fs::create_dir_all(dir.join(day)).unwrap();
    let path = dir.join(day).join(format!("acct-{first:016}.parquet"));
    let secs = DAY_ONE + if day == DAY { 0 } else { 86_400 };
    let mut rows = ParquetRows::new(Columns::of(&acct_file()).unwrap());
    let file = RealDisk.create_new(&path).unwrap();
    let mut file = ParquetFile::begin(file, &rows, 1000, Compression::Zstd(1)).unwrap();
    let rcpts: Vec<String> = (first..=last).map(|seq| format!("rcpt{seq}@example.net")).collect();
    let events: Vec<_> = rcpts
        .iter()
        .zip(first..)
        .map(|(rcpt, seq)| Event { store: STORE, seq, rcpt, ..Event::new(Kind::Delivered, Time::from_secs(secs)) })
        .collect();
    file.push(&mut rows, &events).unwrap();
    let output = "acct.parquet".to_owned();
    let manifest = Manifest { store: STORE, output, records: Kinds::ALL, ranges: Ranges::one(first, last), rows: 0 };
    file.finish(&mut rows, manifest).unwrap();
    path
}

/// Twelve small files of one day, and one of the next.
fn two_days(root: &Path) -> PathBuf {
    two_days_of(root, 12)
}

/// So many small files with 120 records of one day, and one of the next.
fn two_days_of(root: &Path, files: u64) -> PathBuf {
    let dir = root.join("events");
    let each = 120 / files;
    for n in 0..files {
        write(&dir, DAY, n * each + 1, n * each + each);
    }
    write(&dir, NEXT_DAY, 121, 125);
    dir
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        work: None,
        days: Vec::new(),
        today: "2026-02-01".parse().unwrap(),
        max_rows: 1000,
        keep: Duration::ZERO,
        dry_run: false,
    }
}

fn run(options: &Options, go_on: &dyn Fn(&'static str) -> bool) -> Result<Vec<Day>, CompactError> {
    compact(options, &|schema| properties(schema, 1000, Compression::Zstd(3)), &|_, _| (), go_on)
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What an engine does: list a day's folder, then open each file. An error when a name is gone.
fn read_day(dir: &Path, day: &str) -> std::io::Result<Vec<String>> {
    let mut ids = Vec::new();
    let listed: Vec<PathBuf> = std::fs::read_dir(dir.join(day))?.map(|e| e.unwrap().path()).collect();
    for path in listed.iter().filter(|p| p.extension().is_some_and(|e| e == "parquet")) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            ids.extend(batch.column_by_name("eventId").unwrap().as_string::<i32>().iter().flatten().map(str::to_owned));
        }
    }
    Ok(ids)
}

fn is_whole(dir: &Path) -> bool {
    let ids = read_day(dir, DAY).unwrap();
    ids.len() == 120 && ids.iter().collect::<BTreeSet<_>>().len() == 120
}

fn is_sound(dir: &Path) {
    let found = carom::history::find(dir).unwrap();
    let report = verify(&found.parquet, false, &|_, _| ());
    assert_eq!(report.findings, []);
    assert_eq!((report.outputs.len(), report.outputs[0].records), (1, 125));
}

#[test]
fn a_finished_day_becomes_one_file_and_a_second_run_has_nothing_to_do() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    std::fs::write(dir.join(DAY).join("_SUCCESS"), "").unwrap();
    let dry = run(&Options { dry_run: true, ..options(&dir) }, &|_| true).unwrap();
    assert_eq!((dry[0].files_before, dry[0].files_after, &dry[0].left), (12, 1, &None));
    assert_eq!(names(&dir.join(DAY)).len(), 13, "a dry run changes nothing");
    let days = run(&options(&dir), &|_| true).unwrap();
    assert_eq!((days[0].files_after, days[0].rows, &days[0].left), (1, 120, &None));
    // Nothing shows yet that the output has finished with the last day.
    assert!(days[1].left.as_ref().unwrap().contains("no later file"), "{days:?}");
    assert_eq!(names(&dir.join(DAY)), ["_SUCCESS", "acct-0000000000000001_0000000000000120.parquet"]);
    assert_eq!(names(root.path()), ["events"], "no work folder stays behind");
    assert!(is_whole(&dir));
    is_sound(&dir);
    let again = run(&options(&dir), &|_| true).unwrap();
    assert_eq!(again[0].left.as_deref(), Some("nothing to merge"));
    // A file that comes late is merged with the one made before; small parts stay apart beyond max_rows.
    write(&dir, DAY, 126, 130);
    run(&options(&dir), &|_| true).unwrap();
    assert_eq!(names(&dir.join(DAY))[1..], ["acct-0000000000000001_0000000000000130.parquet"]);
}

#[test]
fn stopped_before_any_step_nobody_sees_a_record_twice_or_misses_one_and_the_next_run_ends_it() {
    let steps = {
        let root = tempfile::tempdir().unwrap();
        let count = Cell::new(0);
        run(&options(&two_days_of(root.path(), 3)), &|_| {
            count.set(count.get() + 1);
            true
        })
        .unwrap();
        count.get()
    };
    assert!(steps > 12, "{steps} steps: the scenario has become too small");
    for first in 0..steps {
        // And again soon after, in the midst of taking up what the first left.
        for second in [None, Some(0), Some(first * 7 % 11)] {
            let root = tempfile::tempdir().unwrap();
            let dir = two_days_of(root.path(), 3);
            for stop in [Some(first), second].into_iter().flatten() {
                let count = Cell::new(0);
                let stopped = run(&options(&dir), &|_| {
                    count.set(count.get() + 1);
                    count.get() <= stop
                });
                assert!(matches!(stopped, Err(CompactError::Stopped(_)) | Ok(_)), "{stopped:?}");
                assert!(is_whole(&dir), "stopped at {stop} of {first}, {second:?}");
            }
            run(&options(&dir), &|_| true).unwrap();
            assert_eq!(names(&dir.join(DAY)), ["acct-0000000000000001_0000000000000120.parquet"], "{first}");
            assert_eq!(names(root.path()), ["events"], "{first}, {second:?}");
            is_sound(&dir);
        }
    }
}

#[test]
fn whoever_lists_and_reads_meanwhile_gets_all_records_once_or_an_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    let (end, started) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let reader = std::thread::spawn({
        let (dir, end, started) = (dir.clone(), end.clone(), started.clone());
        move || {
            let (mut whole, mut failed) = (0, 0);
            while !end.load(Ordering::Acquire) {
                match read_day(&dir, DAY) {
                    Ok(ids) => {
                        assert!(ids.len() >= 120, "{} records", ids.len());
                        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a record was seen twice");
                        whole += 1;
                    }
                    Err(e) => {
                        assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
                        failed += 1;
                    }
                }
                started.store(true, Ordering::Release);
            }
            (whole, failed)
        }
    });
    while !started.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
    for n in 0..20 {
        write(&root.path().join("new"), DAY, 200 + n * 10, 209 + n * 10);
        let name = names(&root.path().join("new").join(DAY)).remove(0);
        // As a server publishes a file: whole, under its final name.
        std::fs::rename(root.path().join("new").join(DAY).join(&name), dir.join(DAY).join(&name)).unwrap();
        run(&Options { keep: Duration::from_millis(30), ..options(&dir) }, &|_| true).unwrap();
    }
    end.store(true, Ordering::Release);
    let (whole, _failed) = reader.join().unwrap();
    assert!(whole > 0);
    assert_eq!(read_day(&dir, DAY).unwrap().len(), 120 + 200);
}

#[test]
fn a_file_that_the_server_finishes_during_the_exchange_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    let unfinished = dir.join(DAY).join(".acct-0000000000000141.parquet.inprogress");
    run(&options(&dir), &|step| {
        if step == "exchanging the folders" {
            write(&dir, DAY, 131, 140);
            std::fs::write(&unfinished, "growing").unwrap();
        }
        true
    })
    .unwrap();
    assert_eq!(
        names(&dir.join(DAY)),
        [
            ".acct-0000000000000141.parquet.inprogress",
            "acct-0000000000000001_0000000000000120.parquet",
            "acct-0000000000000131.parquet"
        ]
    );
    // While it grows the day is not touched, unless asked.
    let days = run(&options(&dir), &|_| true).unwrap();
    assert_eq!(days[0].left.as_deref(), Some("a file of it is being written"));
    let asked = Options { days: vec!["2026-01-30".parse().unwrap()], ..options(&dir) };
    assert_eq!(run(&asked, &|_| true).unwrap()[0].left, None);
    assert_eq!(std::fs::read(&unfinished).unwrap(), b"growing");
    assert_eq!(read_day(&dir, DAY).unwrap().len(), 130);
}

#[test]
fn days_that_are_not_over_and_files_that_are_not_sound_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    let today = Options { today: "2026-01-30".parse().unwrap(), ..options(&dir) };
    assert_eq!(run(&today, &|_| true).unwrap()[0].left.as_deref(), Some("the day is not over (UTC)"));
    let cut = dir.join(DAY).join("acct-0000000000000011.parquet");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 3]).unwrap();
    let days = run(&options(&dir), &|_| true).unwrap();
    assert!(days[0].faulty && days[0].left.as_ref().unwrap().contains("not a whole Parquet file"), "{days:?}");
    std::fs::write(&cut, bytes).unwrap();
    // The same records in two files: merging them would hide it.
    std::fs::copy(&cut, dir.join(DAY).join("acct-0000000000000012.parquet")).unwrap();
    let days = run(&options(&dir), &|_| true).unwrap();
    assert!(days[0].faulty && days[0].left.as_ref().unwrap().contains("twice"), "{days:?}");
    assert_eq!(names(&dir.join(DAY)).len(), 13);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    let met = Cell::new(false);
    run(&options(&dir), &|step| {
        if step == "writing the plan" {
            let other = run(&options(&dir), &|_| true);
            met.set(matches!(other, Err(CompactError::Busy(_))));
        }
        true
    })
    .unwrap();
    assert!(met.get());
    is_sound(&dir);
}

/// A server that was killed between giving a file its name and noting that in its store comes back after the day was
/// merged: it must not write those records again.
#[tokio::test]
async fn a_server_that_crashed_while_closing_a_merged_file_does_not_write_it_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("events");
    let options_of_store = carom::store::Options { reserve_bytes: 0, ..carom::store::Options::default() };
    let store = Store::open(Arc::new(RealDisk), &root.path().join("store"), &options_of_store).unwrap().store;
    let file = AcctFile { path: "events/acct.parquet".into(), ..acct_file() };
    let settings = Settings { start_at_beginning: true, ..Settings::new(root.path().to_owned()) };
    let start = || {
        Outputs::start(Arc::new(store.clone()), std::slice::from_ref(&file), Arc::new(RealDisk), settings.clone())
            .unwrap()
    };
    let outputs = start();
    for n in 0..4 {
        let mut events = Events::new();
        let secs = DAY_ONE + if n == 3 { 86_400 } else { 0 };
        events.push(&Event { rcpt: "a@example.net", ..Event::new(Kind::Delivered, Time::from_secs(secs)) });
        store.append(events).await.unwrap();
        store.flush().await.unwrap();
        outputs.rotate(None).await.unwrap();
    }
    outputs.stop().await.unwrap();
    assert_eq!(names(&dir.join(DAY)).len(), 3);
    // As it stands in the store after step 4 of closing the third file.
    let closing =
        Some(ParquetClosing { name: format!("{DAY}/acct-0000000000000003.parquet"), first: 3, last: 3, rows: 1 });
    let (consumer, row) = store.tables().consumers().unwrap().remove(0);
    assert_eq!(row.cursor, 5);
    std::fs::remove_dir_all(dir.join(NEXT_DAY)).unwrap();
    let state = State::new(Files::Parquet(ParquetState { since: 3, open: None, closing }));
    let row = ConsumerRow { cursor: 3, state: state.encode() };
    store.tables().write(|tx| tx.put_consumer(&consumer, &row)).unwrap();
    let asked = Options { days: vec!["2026-01-30".parse().unwrap()], ..options(&dir) };
    assert_eq!(run(&asked, &|_| true).unwrap()[0].files_after, 1);
    start().stop().await.unwrap();
    assert_eq!(names(&dir.join(DAY)), ["acct-0000000000000001_0000000000000003.parquet"]);
    let report = verify(&carom::history::find(&dir).unwrap().parquet, false, &|_, _| ());
    assert_eq!((report.findings, report.outputs[0].records), (vec![], 4));
    store.close().await.unwrap();
}

#[test]
fn killed_at_random_moments_it_leaves_whole_days() {
    let root = tempfile::tempdir().unwrap();
    let dir = two_days(root.path());
    let work = root.path().join(".events.compact");
    let mut killed = 0;
    for round in 0..25u64 {
        if names(&dir.join(DAY)).len() == 1 {
            // Done: small files again.
            std::fs::remove_dir_all(root.path()).unwrap();
            two_days(root.path());
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_carom"))
            .args(["acct", "compact", "--keep", "0", "--json"])
            .arg(&dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_millis(round * 137 % 61 + 5);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        assert!(is_whole(&dir), "round {round}; work folder: {:?}", names(&work));
    }
    assert!(killed > 5, "killed {killed} times");
    run(&options(&dir), &|_| true).unwrap();
    is_sound(&dir);
}
