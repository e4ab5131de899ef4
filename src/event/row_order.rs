//! The order of rows in Parquet files: within a row group by time, and of one time as they came, which is by their place
//! in the ledger.
//!
//! The ledger is nearly in the order of time: what happens at once in several sessions is appended a little out of it. So
//! rows are sorted batch by batch, and the newest of each batch are held back, to be sorted together with the next. A row
//! that comes later still (a clock was put back) begins a new row group. Few rows are in memory, and what comes out
//! depends on nothing but the rows: a file that is written again is the same file. Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;

/// The column that rows are sorted by.
const COLUMN: &str = "timeLogged";
/// Rows of a batch that may have to wait for the next.
const HELD_BACK: usize = 1024;

/// What a writer is to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write these rows.
    Write(RecordBatch),
    /// End the row group: what comes is older than what is in it.
    EndRowGroup,
}

/// Brings the rows of one file into order.
#[derive(Debug, Default)]
pub struct RowOrder {
    held: Option<RecordBatch>,
    /// Time of the last row written.
    written: Option<i64>,
}

/// How a file that is written in this order says so of its row groups; one without times has no order.
pub fn declared(properties: WriterProperties, schema: &Schema) -> WriterProperties {
    properties.into_builder().set_sorting_columns(sorting_columns(schema)).build()
}

fn sorting_columns(schema: &Schema) -> Option<Vec<SortingColumn>> {
    // Columns with parts count for several leaves.
    let mut leaf = 0;
    for field in schema.fields() {
        if field.name() == COLUMN {
            return Some(vec![SortingColumn { column_idx: leaf, descending: false, nulls_first: false }]);
        }
        leaf += leaves(field.data_type());
    }
    None
}

fn leaves(ty: &arrow::datatypes::DataType) -> i32 {
    use arrow::datatypes::DataType;
    match ty {
        DataType::List(item) | DataType::Map(item, _) => leaves(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|f| leaves(f.data_type())).sum(),
        _ => 1,
    }
}

impl RowOrder {
    /// Takes the next rows; gives those whose place is known.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<Step>, ArrowError> {
        let sorted = self.sorted(batch)?;
        let ready = sorted.num_rows().saturating_sub(HELD_BACK);
        self.held = Some(sorted.slice(ready, sorted.num_rows() - ready));
        Ok(self.write(sorted.slice(0, ready)))
    }

    /// Gives what was held back.
    pub fn finish(&mut self) -> Vec<Step> {
        let rest = self.held.take();
        rest.map_or_else(Vec::new, |rest| self.write(rest))
    }

    fn write(&mut self, rows: RecordBatch) -> Vec<Step> {
        let times = times(&rows);
        let (Some(first), Some(last)) = (times.and_then(|t| t.first()), times.and_then(|t| t.last())) else {
            return if rows.num_rows() == 0 { Vec::new() } else { vec![Step::Write(rows)] };
        };
        let older = self.written.is_some_and(|written| *first < written);
        self.written = Some(*last);
        if older { vec![Step::EndRowGroup, Step::Write(rows)] } else { vec![Step::Write(rows)] }
    }

    /// What was held back and `batch`, by time.
    fn sorted(&mut self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let held = self.held.take().filter(|h| h.num_rows() > 0);
        let parts: Vec<&RecordBatch> = held.iter().chain([&batch]).collect();
        let mut order: Vec<(i64, usize, usize)> = Vec::new();
        for (part, rows) in parts.iter().enumerate() {
            // Without times, or where some are not known, rows stay as they came.
            let Some(times) = times(rows) else { continue };
            order.extend(times.iter().enumerate().map(|(row, time)| (*time, part, row)));
        }
        let all: usize = parts.iter().map(|p| p.num_rows()).sum();
        if order.len() < all {
            order =
                parts.iter().enumerate().flat_map(|(p, rows)| (0..rows.num_rows()).map(move |r| (0, p, r))).collect();
        }
        if parts.len() == 1 && order.is_sorted_by_key(|o| o.0) {
            return Ok(batch);
        }
        order.sort_by_key(|o| o.0);
        let order: Vec<(usize, usize)> = order.into_iter().map(|(_, part, row)| (part, row)).collect();
        let column = |n: usize| -> Result<ArrayRef, ArrowError> {
            let arrays: Vec<&dyn Array> = parts.iter().map(|p| p.column(n).as_ref()).collect();
            // Most columns of most batches hold nothing.
            if arrays.iter().all(|a| a.null_count() == a.len()) {
                return Ok(new_null_array(arrays[0].data_type(), order.len()));
            }
            interleave(&arrays, &order)
        };
        let columns = (0..batch.num_columns()).map(column).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(batch.schema_ref()), columns)
    }
}

/// The times of the rows, in microseconds; `None` when some have none.
fn times(rows: &RecordBatch) -> Option<&[i64]> {
    let column = rows.column_by_name(COLUMN)?;
    if column.null_count() > 0 {
        return None;
    }
    let stamps = column.as_primitive_opt::<TimestampMicrosecondType>().map(|t| t.values().as_ref());
    stamps.or_else(|| column.as_primitive_opt::<Int64Type>().map(|t| t.values().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    /// Rows with these times; the number says in which order they came.
    fn batch(first: usize, times: &[i64]) -> RecordBatch {
        let numbers = (first..first + times.len()).map(|n| n as i32);
        let texts = (first..first + times.len()).map(|n| (n % 3 == 0).then(|| format!("row {n}")));
        let columns: [(&str, ArrayRef); 3] = [
            ("number", Arc::new(Int32Array::from_iter_values(numbers))),
            (COLUMN, Arc::new(TimestampMicrosecondArray::from(times.to_vec()))),
            ("text", Arc::new(StringArray::from_iter(texts))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, a)| (n, a, n == "text"))).unwrap()
    }

    /// The row groups that come of batches of these times: time and number of each row.
    fn groups(times: &[i64], of: usize) -> Vec<Vec<(i64, i32)>> {
        let (mut order, mut steps, mut first) = (RowOrder::default(), Vec::new(), 0);
        for part in times.chunks(of) {
            steps.extend(order.push(batch(first, part)).unwrap());
            first += part.len();
        }
        steps.extend(order.finish());
        let mut groups = vec![Vec::new()];
        for step in steps {
            let Step::Write(rows) = step else {
                groups.push(Vec::new());
                continue;
            };
            let numbers = rows.column(0).as_primitive::<arrow::datatypes::Int32Type>();
            let texts = rows.column(2).as_string::<i32>();
            for (row, time) in super::times(&rows).unwrap().iter().enumerate() {
                let number = numbers.value(row);
                assert_eq!(texts.is_valid(row), number % 3 == 0);
                assert!(!texts.is_valid(row) || texts.value(row) == format!("row {number}"), "cells stay together");
                groups.last_mut().unwrap().push((*time, number));
            }
        }
        groups
    }

    #[test]
    fn rows_a_little_out_of_order_are_sorted_across_batches_in_one_row_group() {
        let times: Vec<i64> = (0..10_000).map(|n| n * 10 - (n * 7919 % 500)).collect();
        let groups = groups(&times, 2000);
        assert_eq!(groups.len(), 1);
        assert!(groups[0].is_sorted() && groups[0].len() == times.len());
    }

    #[test]
    fn a_clock_that_was_put_back_begins_a_new_row_group() {
        let times: Vec<i64> = (0..6000).chain(1000..4000).collect();
        let groups = groups(&times, 2000);
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|g| g.is_sorted()), "each is sorted by itself");
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), times.len());
    }

    #[test]
    fn the_order_is_declared_of_the_right_column() {
        let declared = sorting_columns(&batch(0, &[1]).schema()).unwrap();
        assert_eq!((declared[0].column_idx, declared[0].descending), (1, false));
        assert_eq!(sorting_columns(&Schema::empty()), None);
    }

    proptest! {
        #[test]
        fn every_row_comes_out_once_and_of_one_time_as_they_came(
            times in prop::collection::vec(0i64..50, 0..4000), of in 1usize..1500
        ) {
            let groups = groups(&times, of);
            prop_assert!(groups.iter().all(|g| g.is_sorted_by_key(|r| r.0)));
            let mut all: Vec<(i64, i32)> = groups.iter().flatten().copied().collect();
            all.sort_unstable();
            let mut want: Vec<(i64, i32)> = times.iter().copied().zip(0..).collect();
            want.sort_unstable();
            prop_assert_eq!(all, want);
            for group in &groups {
                prop_assert!(group.is_sorted(), "of one time as they came");
            }
        }
    }
}
