//! As an analyst I read a folder of accounting files with my own tool by one glob, old and new files together, and the
//! queries of `examples/queries` give the answers that counting by hand gives.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the program and the analysts' tools")]

use std::path::Path;
use std::process::Command;

use carom::accounting::columns::Columns;
use carom::accounting::parquet::ParquetRows;
use carom::accounting::parquet_file::ParquetFile;
use carom::config::directives::acct_file::with_defaults;
use carom::config::{AcctFormat, Compression};
use carom::disk::{Disk, RealDisk};
use carom::event::manifest::{Manifest, Ranges};
use carom::event::record::PairsBuf;
use carom::event::{Event, Kind, Kinds, Stage, StoreId, Time};
use serde_json::{Value, json};

/// Runs a script of `tests/analysts`; `None`, said aloud, where the tools are not installed.
fn script(name: &str, arguments: &[&Path]) -> Option<Value> {
    let Some(python) = std::env::var_os("CAROM_ANALYSTS_PYTHON") else {
        println!("skipped: CAROM_ANALYSTS_PYTHON is not set, so DuckDB, pyarrow, pandas and Polars were not asked");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/analysts").join(name);
    let out = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    Some(serde_json::from_slice(&out.stdout).unwrap())
}

#[test]
fn every_example_query_gives_the_answer_that_was_computed_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["demo", "--json", "--recipients", "1500", "--seed", "7", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    if let Some(answers) = script("queries.py", &[dir.path(), Path::new(env!("CARGO_MANIFEST_DIR"))]) {
        assert!(answers.as_object().unwrap().len() >= 12, "{answers}");
    }
}

/// Bytes that are hard to carry: a mebibyte of text, signs of every length in UTF-8, both directions of writing.
const ODD_RCPT: &str = "zoë+🦀|טקסט|\u{7f}\u{1}@bücher.example";

fn write(path: &Path, events: &[Event<'_>]) {
    let file = with_defaults("acct.parquet".into(), AcctFormat::Parquet);
    let mut rows = ParquetRows::new(Columns::of(&file).unwrap());
    let mut file = ParquetFile::begin(RealDisk.create_new(path).unwrap(), &rows, 2, Compression::Zstd(3)).unwrap();
    file.push(&mut rows, events).unwrap();
    let (output, ranges) = ("acct.parquet".to_owned(), Ranges::one(1, 3));
    file.finish(&mut rows, Manifest { store: StoreId(0xab), output, records: Kinds::ALL, ranges, rows: 0 }).unwrap();
}

#[test]
fn one_glob_reads_old_and_new_files_with_every_tool() {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("acct/date=2026-01-30");
    std::fs::create_dir_all(&day).unwrap();
    let mut headers = PairsBuf::default();
    headers.push("Subject", "größer 🦀");
    headers.push("X-Empty", "");
    let long = "x".repeat(1 << 20);
    let diag = format!("smtp;550 {long}é");
    let event = |seq| Event {
        store: StoreId(0xab),
        seq,
        stage: Some(Stage::Rcpt),
        rcpt: ODD_RCPT,
        diag: &diag,
        dlv_esmtp: "PIPELINING,SIZE",
        headers: headers.as_pairs(),
        ..Event::new(Kind::Bounced, Time::from_secs(1_769_774_400))
    };
    write(&day.join("acct-0000000000000001.parquet"), &[event(1), event(2), event(3)]);
    // A day on which nothing of what was asked for happened.
    write(&day.join("acct-0000000000000004.parquet"), &[]);
    std::fs::write(dir.path().join("odd.json"), json!({ "rcpt": ODD_RCPT }).to_string()).unwrap();
    let ddl = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/acct.v1.clickhouse.sql");
    let Some(seen) = script("tools.py", &[dir.path(), &ddl]) else { return };
    assert_eq!((&seen["files"], &seen["rows"]), (&json!(4), &json!(9)), "{seen}");
    let longest = diag.chars().count();
    for tool in ["duckdb", "pyarrow", "pandas", "polars", "clickhouse"] {
        if seen[tool] == "not installed" {
            println!("skipped: chdb is not installed, so ClickHouse was not asked");
            continue;
        }
        let wanted = json!({ "rows": 9, "stage": 6, "new": 3, "longest": longest, "odd": ODD_RCPT });
        assert_eq!(seen[tool], wanted, "{tool}");
    }
}
