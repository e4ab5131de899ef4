//! Accounting files back to rows: CSV (Carom's and PowerMTA's own, of every age) and Parquet alike, streaming, by column
//! name.
//!
//! [`expand`] turns arguments into [`Input`]s, [`Scan`] gives their rows one by one; [`read`] is the short form for one
//! file. A column that a file lacks is empty, so that files of different column lists can be read together. Memory does
//! not grow with the length of a file; what can't be read is counted and named, never left out in silence.

pub mod all_columns;
mod cells;
pub mod compact;
pub mod convert;
pub mod find;
pub mod footer;
pub mod inputs;
pub mod merge_plan;
pub mod names;
pub mod read_csv;
pub mod read_parquet;
pub mod row;
pub mod scan;
pub mod seen;
pub mod simulate;
pub mod spans;
pub mod stats;
pub mod times;
pub mod verify;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use all_columns::all_columns;
pub use inputs::{Found, Input, expand, files, find};
pub use row::{Cell, Row};
pub use scan::{Report, Scan};

/// Why an accounting file can't be read. What was read before is valid.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}: {why}", path.display())]
pub struct HistoryError {
    /// The file or folder.
    pub path: PathBuf,
    /// What failed.
    pub why: String,
}

impl HistoryError {
    fn new(path: &Path, why: impl std::fmt::Display) -> HistoryError {
        HistoryError { path: path.to_owned(), why: why.to_string() }
    }
}

/// Reads `path` and gives each row's `columns` as texts to `each`; how many rows there were. A cell that is a number or a
/// time in Parquet is given as text.
///
/// # Errors
/// When it can't be read to its end, a row of it is malformed, or it lacks one of the columns in `required`.
pub fn read(
    path: &Path,
    columns: &[&str],
    required: &[&str],
    each: &mut dyn FnMut(&[&str]),
) -> Result<u64, HistoryError> {
    let mut texts = vec![String::new(); columns.len()];
    let scan = Scan::new(columns).required(required);
    let mut report = scan.run(&[Input::File(path.to_owned())], &mut |_| {}, &mut |row| {
        for (column, text) in texts.iter_mut().enumerate() {
            text.clear();
            row.push_text(column, text);
        }
        each(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        ControlFlow::Continue(())
    });
    match (report.failed.pop(), report.bad_rows.pop()) {
        (Some(failed), _) => Err(failed),
        (None, Some(bad)) => Err(HistoryError::new(path, bad)),
        (None, None) => Ok(report.rows),
    }
}

/// The first of `required` that is not there.
fn missing(required: &[String], mut present: impl FnMut(&str) -> bool) -> Option<&str> {
    required.iter().map(String::as_str).find(|name| !present(name))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: tests write files to read")]
mod tests;
