//! Opens the books of the demo: the ledger, the CSV and Parquet files under `acct/`, the providers' logs.
//!
//! Read by column name, as an analyst would, not with the code that wrote them.

use std::io;
use std::path::PathBuf;

use super::reconcile::{Record, Seen};
use crate::event::{Event, Stage, Time};
use crate::history::{self, HistoryError};
use crate::sim::book;
use crate::store::{Reader, StoreError};

/// Why a book can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] HistoryError),
    /// The ledger.
    #[error("can't read the ledger: {0}")]
    Ledger(#[from] StoreError),
    /// An event of the ledger.
    #[error("the ledger holds an event that can't be read: {0}")]
    Event(#[from] crate::event::DecodeError),
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

/// The columns that are compared, in the order of [`of_row`].
const COLUMNS: [&str; 10] =
    ["eventId", "type", "rcpt", "bounceCat", "jobId", "dsnStatus", "dsnDiag", "attempt", "messageId", "suppressedBy"];

fn of_row(row: &[&str]) -> Record {
    let text = |i: usize| row.get(i).copied().unwrap_or("").to_owned();
    Record {
        event_id: text(0),
        kind: text(1),
        rcpt: text(2),
        category: text(3),
        job: text(4),
        status: text(5).split(' ').next().unwrap_or("").to_owned(),
        diag: text(6),
        attempt: text(7),
        message: text(8),
        suppressed_by: text(9),
        named: false,
    }
}

/// All records of these accounting files, CSV or Parquet.
///
/// # Errors
/// When a file can't be read or lacks the column `eventId`.
pub fn records(files: &[PathBuf]) -> Result<Vec<Record>, BookError> {
    let mut records = Vec::new();
    for path in files {
        history::read(path, &COLUMNS, &COLUMNS[..1], &mut |row| records.push(of_row(row)))?;
    }
    Ok(records)
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
