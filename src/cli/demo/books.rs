#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads the demo's files")]
//! Opens the books of the demo: the ledger, the CSV and Parquet files under `acct/`, the providers' logs.
//!
//! Read with the plain crates and by column name, as an analyst would, not with the code that wrote them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::reconcile::{Record, Seen};
use crate::event::{Event, Stage, Time};
use crate::sim::book;
use crate::store::{Reader, StoreError};

/// Why a book can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// A file or folder.
    #[error("can't read {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// The ledger.
    #[error("can't read the ledger: {0}")]
    Ledger(#[from] StoreError),
    /// An event of the ledger.
    #[error("the ledger holds an event that can't be read: {0}")]
    Event(#[from] crate::event::DecodeError),
}

fn failed(path: &Path, why: impl std::fmt::Display) -> BookError {
    BookError::File { path: path.to_owned(), why: why.to_string() }
}

/// Takes from the ledger what it has at the moment and gives each event to `each`; how many there were.
///
/// # Errors
/// When the ledger can't be read.
pub fn follow(reader: &mut Reader, mut each: impl FnMut(&Event<'_>)) -> Result<u64, BookError> {
    let mut count = 0;
    while let Some(chunk) = reader.next(4096)? {
        for batch in chunk.batches() {
            for event in batch.iter() {
                each(&event?);
                count += 1;
            }
        }
    }
    Ok(count)
}

/// An event of the ledger in the columns that are compared.
pub fn record(event: &Event<'_>) -> Record {
    let number = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    let id = |seq| crate::event::EventId { store: event.store, seq }.to_string();
    let replied = event.diag.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("smtp;"));
    Record {
        event_id: id(event.seq),
        kind: event.kind.name().to_owned(),
        rcpt: event.rcpt.to_owned(),
        category: event.category.to_owned(),
        job: event.job.to_owned(),
        status: event.status.map(|s| s.to_string()).unwrap_or_default(),
        diag: event.diag.to_owned(),
        attempt: number(event.attempt.into()),
        message: number(event.message.0),
        suppressed_by: if event.suppressed_by == 0 { String::new() } else { id(event.suppressed_by) },
        named: replied && matches!(event.stage, Some(Stage::Rcpt | Stage::Data | Stage::Eod)),
    }
}

/// The accounting files under `dir`: CSV and Parquet, each in the order of their paths. Unfinished ones (with a leading
/// dot) are none.
///
/// # Errors
/// When a folder can't be listed.
pub fn files(dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), BookError> {
    let (mut csv, mut parquet, mut folders) = (Vec::new(), Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| failed(&folder, e))? {
            let path = entry.map_err(|e| failed(&folder, e))?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                _ if hidden => {}
                Some("csv") => csv.push(path),
                Some("parquet") => parquet.push(path),
                _ => {}
            }
        }
    }
    csv.sort();
    parquet.sort();
    Ok((csv, parquet))
}

/// A record by what `column` says each column holds.
fn named(column: impl Fn(&str) -> String) -> Record {
    Record {
        event_id: column("eventId"),
        kind: column("type"),
        rcpt: column("rcpt"),
        category: column("bounceCat"),
        job: column("jobId"),
        status: column("dsnStatus").split(' ').next().unwrap_or("").to_owned(),
        diag: column("dsnDiag"),
        attempt: column("attempt"),
        message: column("messageId"),
        suppressed_by: column("suppressedBy"),
        named: false,
    }
}

/// All records of these CSV files.
///
/// # Errors
/// When a file can't be read or lacks the column `eventId`.
pub fn csv(files: &[PathBuf]) -> Result<Vec<Record>, BookError> {
    let mut records = Vec::new();
    for path in files {
        let mut reader = csv::Reader::from_path(path).map_err(|e| failed(path, e))?;
        let header = reader.headers().map_err(|e| failed(path, e))?.clone();
        let place = |name: &str| header.iter().position(|h| h == name);
        if place("eventId").is_none() {
            return Err(failed(path, "no column eventId"));
        }
        for line in reader.records() {
            let line = line.map_err(|e| failed(path, e))?;
            records.push(named(|name| place(name).and_then(|i| line.get(i)).unwrap_or("").to_owned()));
        }
    }
    Ok(records)
}

/// All records of these Parquet files.
///
/// # Errors
/// When a file can't be read or lacks the column `eventId`.
pub fn parquet(files: &[PathBuf]) -> Result<Vec<Record>, BookError> {
    let mut records = Vec::new();
    for path in files {
        let file = File::open(path).map_err(|e| failed(path, e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(path, e))?;
        for batch in builder.build().map_err(|e| failed(path, e))? {
            let batch = batch.map_err(|e| failed(path, e))?;
            rows(&batch, &mut records).map_err(|why| failed(path, why))?;
        }
    }
    Ok(records)
}

fn rows(batch: &RecordBatch, records: &mut Vec<Record>) -> Result<(), String> {
    let options = FormatOptions::default();
    let mut columns = Vec::new();
    for name in [
        "eventId",
        "type",
        "rcpt",
        "bounceCat",
        "jobId",
        "dsnStatus",
        "dsnDiag",
        "attempt",
        "messageId",
        "suppressedBy",
    ] {
        if let Some(array) = batch.column_by_name(name) {
            columns.push((name, ArrayFormatter::try_new(array, &options).map_err(|e| e.to_string())?));
        }
    }
    if !columns.iter().any(|(name, _)| *name == "eventId") {
        return Err("no column eventId".into());
    }
    for row in 0..batch.num_rows() {
        records.push(named(|name| {
            columns.iter().find(|(n, _)| *n == name).map_or(String::new(), |(_, c)| c.value(row).to_string())
        }));
    }
    Ok(())
}

/// All lines of these providers' logs, each with the campaign it belongs to: the last one that had begun by then.
///
/// # Errors
/// When a log can't be read.
pub fn seen(logs: &[PathBuf], begun: &[Time]) -> Result<Vec<Seen>, io::Error> {
    let mut all = Vec::new();
    for log in logs {
        for line in book::read(log)? {
            let campaign = begun.iter().take_while(|t| t.0 <= line.time).count();
            all.push(Seen { campaign: u32::try_from(campaign.max(1)).unwrap_or(u32::MAX), line });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn csv_and_parquet_columns_are_read_by_name_whatever_their_order_and_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acct.csv");
        std::fs::write(&path, "type,rcpt,eventId,attempt,dsnStatus\nb,a@b.example,00aa-1,2,5.1.1 (bad)\n").unwrap();
        std::fs::write(dir.path().join(".acct.csv"), "unfinished").unwrap();
        let (found, _) = files(dir.path()).unwrap();
        let from_csv = csv(&found).unwrap();

        let path = dir.path().join("acct.parquet");
        let text = |s: &str| Arc::new(StringArray::from(vec![s])) as ArrayRef;
        let kind: DictionaryArray<arrow::datatypes::Int32Type> = vec!["b"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("eventId", text("00aa-1")),
            ("attempt", Arc::new(Int32Array::from(vec![2])) as ArrayRef),
            ("type", Arc::new(kind) as ArrayRef),
            ("rcpt", text("a@b.example")),
            ("dsnStatus", text("5.1.1 (bad)")),
            ("bounceCat", Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
        ])
        .unwrap();
        let file = File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(super::parquet(&[path]).unwrap(), from_csv);
        assert_eq!((from_csv[0].status.as_str(), from_csv[0].attempt.as_str()), ("5.1.1", "2"));
    }

    #[test]
    fn a_file_without_event_ids_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.csv");
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(csv(&[path]).unwrap_err().to_string().contains("other.csv"));
    }
}
