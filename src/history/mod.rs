//! Accounting files back to rows: CSV (Carom's and PowerMTA's own) and Parquet alike, streaming, by column name.
//!
//! [`files`] finds them below a folder, [`read_csv`] and [`read_parquet`] read one, [`read`] either. A row is given as the
//! texts of the columns that were asked for, in that order; a column that a file lacks is empty, so that files of
//! different column lists can be read together. Memory does not grow with the length of a file.

mod cells;
pub mod compact;
pub mod convert;
pub mod files;
pub mod footer;
pub mod merge_plan;
pub mod read_csv;
pub mod read_parquet;
pub mod seen;
pub mod verify;

use std::path::{Path, PathBuf};

pub use files::{Found, find};

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

/// Reads `path`, CSV or Parquet by its extension, and gives each row's `columns` to `each`; how many rows there were.
///
/// # Errors
/// When it can't be read to its end, or has none of the columns in `required`.
pub fn read(
    path: &Path,
    columns: &[&str],
    required: &[&str],
    each: &mut dyn FnMut(&[&str]),
) -> Result<u64, HistoryError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => read_parquet::read(path, columns, required, each),
        _ => read_csv::read(path, columns, required, each),
    }
}

/// The first of `required` that is not among `present`, whatever the case.
fn missing<'r>(required: &[&'r str], mut present: impl FnMut(&str) -> bool) -> Option<&'r str> {
    required.iter().copied().find(|name| !present(name))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: tests write files to read")]
mod tests;
