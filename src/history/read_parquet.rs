#![expect(clippy::disallowed_types, reason = "edge: reads files")]
//! Parquet files: only the columns that are asked for are read; every type is given as text.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{HistoryError, missing};

/// See [`super::read`].
///
/// # Errors
/// When the file is not whole, or a required column is missing.
pub fn read(
    path: &Path,
    columns: &[&str],
    required: &[&str],
    each: &mut dyn FnMut(&[&str]),
) -> Result<u64, HistoryError> {
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let file = File::open(path).map_err(|e| failed(&e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(&e))?;
    let schema = builder.schema().clone();
    let place = |name: &str| schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(name));
    if let Some(name) = missing(required, |name| place(name).is_some()) {
        return Err(failed(&format_args!("it has no column {name}")));
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().filter_map(|name| place(name)));
    let batches = builder.with_projection(mask).build().map_err(|e| failed(&e))?;
    let mut count = 0;
    for batch in batches {
        let batch = batch.map_err(|e| failed(&e))?;
        rows(&batch, columns, each).map_err(|e| failed(&e))?;
        count += batch.num_rows() as u64;
    }
    Ok(count)
}

fn rows(batch: &RecordBatch, columns: &[&str], each: &mut dyn FnMut(&[&str])) -> Result<(), arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let schema = batch.schema();
    let mut formatters = Vec::with_capacity(columns.len());
    for name in columns {
        let place = schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(name));
        formatters.push(place.map(|p| ArrayFormatter::try_new(batch.column(p), &options)).transpose()?);
    }
    let mut texts = vec![String::new(); columns.len()];
    for row in 0..batch.num_rows() {
        for (text, formatter) in texts.iter_mut().zip(&formatters) {
            text.clear();
            if let Some(formatter) = formatter {
                formatter.value(row).write(text)?;
            }
        }
        let row: Vec<&str> = texts.iter().map(String::as_str).collect();
        each(&row);
    }
    Ok(())
}
