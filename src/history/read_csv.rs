#![expect(clippy::disallowed_types, reason = "edge: reads files")]
//! CSV files: RFC 4180 with a header line, as PowerMTA and Carom write them. Columns are matched whatever their case.

use std::fs::File;
use std::path::Path;

use super::{HistoryError, missing};

/// See [`super::read`].
///
/// # Errors
/// When the file can't be read, a line has another number of values than the header, or a required column is missing.
pub fn read(
    path: &Path,
    columns: &[&str],
    required: &[&str],
    each: &mut dyn FnMut(&[&str]),
) -> Result<u64, HistoryError> {
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let file = File::open(path).map_err(|e| failed(&e))?;
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(file);
    let header = reader.headers().map_err(|e| failed(&e))?.clone();
    let place = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    if let Some(name) = missing(required, |name| place(name).is_some()) {
        return Err(failed(&format_args!("it has no column {name}")));
    }
    let places: Vec<Option<usize>> = columns.iter().map(|name| place(name)).collect();
    let mut record = csv::StringRecord::new();
    let mut count = 0;
    while reader.read_record(&mut record).map_err(|e| failed(&e))? {
        let row: Vec<&str> = places.iter().map(|p| p.and_then(|p| record.get(p)).unwrap_or("")).collect();
        each(&row);
        count += 1;
    }
    Ok(count)
}
