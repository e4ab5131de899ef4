//! As an operator I ask whether my accounting files are whole, and carry them from one format to the other.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "looks at real files, runs the program")]

use std::path::{Path, PathBuf};
use std::process::Command;

use carom::accounting::columns::Columns;
use carom::accounting::csv::CsvRows;
use carom::accounting::parquet::ParquetRows;
use carom::accounting::parquet_file::ParquetFile;
use carom::config::directives::acct_file::with_defaults;
use carom::config::{AcctFile, AcctFormat, Compression};
use carom::disk::{Disk, RealDisk};
use carom::event::manifest::{Manifest, Ranges};
use carom::event::record::PairsBuf;
use carom::event::{Action, EnhancedStatus, Event, Kind, Kinds, MessageId, StoreId, Time};
use serde_json::Value;

const STORE: StoreId = StoreId(0xab);

fn acct_file(format: AcctFormat) -> AcctFile {
    AcctFile { records: Kinds::ALL, ..with_defaults("events/acct".into(), format) }
}

fn event<'a>(seq: u64, rcpt: &'a str, diag: &'a str) -> Event<'a> {
    let kind = if seq.is_multiple_of(3) { Kind::Bounced } else { Kind::Delivered };
    Event {
        store: STORE,
        seq,
        message: MessageId(seq),
        time_queued: Time::from_secs(1_769_774_390),
        orig: "news@example.com",
        rcpt,
        action: Some(if kind == Kind::Bounced { Action::Failed } else { Action::Relayed }),
        status: EnhancedStatus::new(if kind == Kind::Bounced { 5 } else { 2 }, 1, 1),
        diag,
        ..Event::new(kind, Time(1_769_774_400_000_000 + seq as i64))
    }
}

fn parquet(dir: &Path, first: u64, last: u64) -> PathBuf {
    let path = dir.join(format!("acct-{first:016}.parquet"));
    let rcpts: Vec<String> = (first..=last).map(|n| format!("rcpt{n}@example.net")).collect();
    let events: Vec<_> = rcpts.iter().zip(first..).map(|(r, seq)| event(seq, r, "smtp;250 ok")).collect();
    let mut rows = ParquetRows::new(Columns::of(&acct_file(AcctFormat::Parquet)).unwrap());
    let file = RealDisk.create_new(&path).unwrap();
    let mut file = ParquetFile::begin(file, &rows, 1000, Compression::Zstd(3)).unwrap();
    file.push(&mut rows, &events).unwrap();
    let (output, ranges) = ("events/acct.parquet".to_owned(), Ranges::one(first, last));
    file.finish(&mut rows, Manifest { store: STORE, output, records: Kinds::ALL, ranges, rows: 0 }).unwrap();
    path
}

fn csv(path: &Path, events: &[Event<'_>]) {
    let mut rows = CsvRows::new(Columns::of(&acct_file(AcctFormat::Csv)).unwrap(), Some(jiff::tz::TimeZone::UTC));
    let mut out = rows.header();
    events.iter().for_each(|e| rows.push(&mut out, e));
    std::fs::write(path, out).unwrap();
}

fn carom(args: &[&str], paths: &[&Path]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_carom")).arg("acct").args(args).args(paths).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn verify(dir: &Path) -> (Option<i32>, Value) {
    let (code, out, err) = carom(&["verify", "--json"], &[dir]);
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn findings(report: &Value) -> String {
    let all = report["findings"].as_array().unwrap();
    all.iter().map(|f| f["what"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn sound_files_verify_and_each_kind_of_damage_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let files: Vec<PathBuf> = (0..4).map(|n| parquet(dir, n * 10 + 1, n * 10 + 10)).collect();
    let (code, report) = verify(dir);
    assert_eq!((code, &report["sound"]), (Some(0), &Value::Bool(true)), "{report}");
    assert_eq!((&report["outputs"][0]["records"], &report["outputs"][0]["lastSeq"]), (&40.into(), &40.into()));

    let second = std::fs::read(&files[1]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let (code, report) = verify(dir);
    assert_eq!(code, Some(1));
    assert!(findings(&report).contains("no file covers 11 to 20"), "{report}");
    assert_eq!(report["outputs"][0]["missing"], 10);

    std::fs::write(&files[1], &second).unwrap();
    std::fs::write(dir.join("copy.parquet"), &second).unwrap();
    let (_, report) = verify(dir);
    assert!(findings(&report).contains("both cover 11 to 20"), "{report}");
    assert!(findings(&report).contains("10 records that stand in its output already"), "{report}");
    std::fs::remove_file(dir.join("copy.parquet")).unwrap();

    std::fs::write(&files[1], &second[..second.len() - 1]).unwrap();
    let (_, report) = verify(dir);
    assert!(findings(&report).contains("not a whole Parquet file"), "{report}");

    let (code, _, err) = carom(&["verify"], &[&dir.join("nothing-*.parquet")]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn a_damaged_page_is_found_unless_only_the_event_ids_are_read() {
    let root = tempfile::tempdir().unwrap();
    let path = parquet(root.path(), 1, 500);
    let mut bytes = std::fs::read(&path).unwrap();
    // Somewhere in the pages of the first columns.
    let found = (8..bytes.len() / 2).step_by(97).filter(|at| {
        bytes[*at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        bytes[*at] ^= 0xff;
        verify(root.path()).0 == Some(1)
    });
    assert!(found.take(3).count() == 3, "damage is not found");
}

#[test]
fn a_csv_file_is_held_against_the_parquet_files_of_its_store() {
    let root = tempfile::tempdir().unwrap();
    parquet(root.path(), 1, 30);
    let rcpts: Vec<String> = (1..=30).map(|n| format!("rcpt{n}@example.net")).collect();
    let mut events: Vec<_> = rcpts.iter().zip(1..).map(|(r, seq)| event(seq, r, "smtp;250 ok")).collect();
    let path = root.path().join("acct-2026-01-30-0000.csv");
    csv(&path, &events);
    assert_eq!(verify(root.path()).0, Some(0));
    let lost = events.remove(16);
    csv(&path, &events);
    let (code, report) = verify(root.path());
    assert_eq!(code, Some(1));
    assert!(findings(&report).starts_with("1 records that events/acct.parquet of store"), "{report}");
    assert!(findings(&report).ends_with(": 17"), "{report}");
    events.push(lost);
    events.push(lost);
    csv(&path, &events);
    assert!(findings(&verify(root.path()).1).contains("1 records that stand in its output already"));
    // PowerMTA's files have no event ids: read, and said.
    std::fs::write(&path, "type,timeLogged,rcpt\r\nd,2024-05-01 08:00:09+0000,a@example.net\r\n").unwrap();
    let (code, report) = verify(&path);
    assert_eq!((code, report["unchecked"].as_array().unwrap().len()), (Some(0), 1), "{report}");
    std::fs::write(&path, "type,timeLogged,rcpt\r\nd,2024-05-01 08:00:09+0000\r\n").unwrap();
    assert_eq!(verify(&path).0, Some(1));
}

/// The text of a column, row by row; times in UTC.
fn column(path: &Path, name: &str) -> Vec<String> {
    use arrow::datatypes::{DataType, TimeUnit};
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut all = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let mut array = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")).clone();
        if matches!(array.data_type(), DataType::Timestamp(..)) {
            array = arrow::compute::cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
        }
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(&array, &options).unwrap();
        all.extend((0..array.len()).map(|row| formatter.value(row).to_string()));
    }
    all
}

#[test]
fn files_of_powermta_become_parquet_with_what_can_be_told_from_them() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("pmta.csv"), root.path().join("pmta.parquet"));
    let text = "type,timeLogged,timeQueued,orig,rcpt,dsnStatus,dsnDiag,dsnMta,bounceCat,dlvEsmtpAvailable,dlvSize,queue,\
        header_Subject,arf_Removal-Recipient,custom\r\n\
        d,2024-05-01 10:00:09+0200,2024-05-01 08:00:05+0000,,ann@example.net,2.0.0 (success),smtp;250 queued,\
        mx.example.net (198.51.100.8),,\"PIPELINING,8BITMIME\",4120,example.net/vmta1,\"Hi, Ann\",,x\r\n\
        b,2024-05-01 08:00:10+0000,yesterday,news@example.com,bob@example.net,5.1.1 (no),smtp;550 5.1.1 no such user,\
        mx.example.net (198.51.100.8),bad-mailbox,,many,example.net/vmta1,,\"a@x.example,b@x.example\",\r\n";
    std::fs::write(&from, text).unwrap();
    let to_arg = to.to_str().unwrap();
    let (code, out, err) = carom(&["convert", "--to", to_arg], &[&from]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("columns of no schema, kept as text: 1, such as `custom`"), "{out}");
    assert!(out.contains("cells of `dlvSize` that can't be read, left empty: 1, such as `many` in"), "{out}");
    assert!(out.contains("cells of `timeQueued`") && out.contains("2 records of 1 file"), "{out}");
    let both = |name: &str| column(&to, name).try_into().unwrap_or_else(|v| panic!("{v:?}"));
    let is = |name: &str, wanted: [&str; 2]| {
        let found: [String; 2] = both(name);
        assert_eq!(found, wanted, "{name}");
    };
    is("timeLogged", ["2024-05-01T08:00:09", "2024-05-01T08:00:10"]);
    is("enhancedStatus", ["2.0.0", "5.1.1"]);
    is("replyCode", ["250", "550"]);
    is("dsnMtaIp", ["198.51.100.8", "198.51.100.8"]);
    is("queueMs", ["4000", ""]);
    is("provider", ["example.net", "example.net"]);
    is("dlvEsmtpAvailable", ["[PIPELINING, 8BITMIME]", ""]);
    is("headers", ["{Subject: Hi, Ann}", ""]);
    is("custom", ["x", ""]);
    // Not written over by mistake.
    assert_eq!(carom(&["convert", "--to", to_arg], &[&from]).0, Some(2));
    let names: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing unfinished stays: {names:?}");
}

#[test]
fn to_csv_and_back_nothing_is_lost_but_what_is_said() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("acct-0000000000000001.parquet");
    let mut headers = PairsBuf::default();
    headers.push("Subject", "größer, \"🦀\"\r\n next line");
    headers.push("X-List", "one");
    let mut arf = PairsBuf::default();
    arf.push("Removal-Recipient", "a@x.example");
    arf.push("Removal-Recipient", "b, c@x.example");
    let long = format!("smtp;550 {}", "y\",".repeat(100_000));
    let with = Event { headers: headers.as_pairs(), dlv_esmtp: "SIZE,DSN", ..event(1, "zoë@bücher.example", &long) };
    let complaint = Event { kind: Kind::Feedback, arf: arf.as_pairs(), ..event(2, "x@example.net", "") };
    let null_sender = Event { orig: "", ..event(3, "y@example.net", "smtp;550 no") };
    let mut rows = ParquetRows::new(Columns::of(&acct_file(AcctFormat::Parquet)).unwrap());
    let mut file = ParquetFile::begin(RealDisk.create_new(&path).unwrap(), &rows, 1000, Compression::None).unwrap();
    file.push(&mut rows, &[with, complaint, null_sender]).unwrap();
    let (output, ranges) = ("acct.parquet".to_owned(), Ranges::one(1, 3));
    file.finish(&mut rows, Manifest { store: STORE, output, records: Kinds::ALL, ranges, rows: 0 }).unwrap();

    let (csv, back) = (root.path().join("a.csv"), root.path().join("back.parquet"));
    let (code, out, err) = carom(&["convert", "--times", "micros", "--to", csv.to_str().unwrap()], &[&path]);
    assert_eq!((code, out.contains("note:")), (Some(0), false), "{out}{err}");
    let (code, out, err) = carom(&["convert", "--to", back.to_str().unwrap()], &[&csv]);
    assert_eq!(code, Some(0), "{out}{err}");
    for field in carom::event::fields::FIELDS {
        assert_eq!(column(&back, field.name), column(&path, field.name), "{}", field.name);
    }
    // In PowerMTA's form of times a part is lost, and that is said; chosen columns stand in the order asked for.
    let chosen = root.path().join("chosen.csv");
    let args = ["convert", "--columns", "rcpt,header_X-List,timeLogged", "--to", chosen.to_str().unwrap()];
    let (code, out, _) = carom(&args, &[&path]);
    assert_eq!(code, Some(1));
    assert!(out.contains("parts of a second were dropped (--times micros keeps them): 3"), "{out}");
    let text = std::fs::read_to_string(&chosen).unwrap();
    assert!(
        text.starts_with("rcpt,header_X-List,timeLogged\r\nzoë@bücher.example,one,2026-01-30 12:00:00+0000\r\n"),
        "{text}"
    );
}

#[test]
fn the_schema_is_printed_in_every_form() {
    for form in ["table", "json", "markdown", "duckdb", "clickhouse", "spark"] {
        let (code, out, err) = carom(&["schema", "--as", form], &[]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("provider"), "{form}: {out}");
    }
    let json: Value = serde_json::from_str(&carom(&["schema", "--json"], &[]).1).unwrap();
    assert_eq!(json["fields"].as_array().unwrap().len(), carom::event::fields::FIELDS.len());
}
