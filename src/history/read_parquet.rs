#![expect(clippy::disallowed_types, reason = "edge: reads files")]
//! Parquet files: only the columns that are asked for are read, and only the row groups that can hold what is wanted.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::row::{Column, Row};
use super::scan::{Only, Report, Scan};
use super::{missing, names};

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;
/// Decoded batches that wait for their consumer.
const WAITING_BATCHES: usize = 8;

/// See [`Scan::run`].
pub(super) fn scan(
    scan: &Scan,
    file: File,
    source: &str,
    progress: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    report: &mut Report,
) -> Result<ControlFlow<()>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let length = file.metadata().map_err(|e| text(&e))?.len();
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| text(&e))?;
    let layout = Layout::of(scan, metadata.schema())?;
    let groups = wanted(scan, &file, &metadata)?;
    let all = metadata.metadata().num_row_groups();
    report.row_groups.0 += groups.len() as u64;
    report.row_groups.1 += (all - groups.len()) as u64;
    // Every row of the file stands for its share of the bytes, read or not.
    let bytes = |rows: i64| -> u64 {
        let of = metadata.metadata().file_metadata().num_rows().max(1);
        (u128::from(length) * u128::from(rows.unsigned_abs()) / u128::from(of.unsigned_abs())).try_into().unwrap_or(0)
    };
    let mut done = 0;
    // The number of a row in its file is not known once a filter has left some out; then it is that of the row group.
    let mut state = Consumer { scan, source, report, each };
    for group in &groups {
        let meta = metadata.metadata().row_group(*group);
        let before: i64 = (0..*group).map(|g| metadata.metadata().row_group(g).num_rows()).sum();
        let batches = open(scan, &layout, file.try_clone().map_err(|e| text(&e))?, &metadata, *group)?;
        let flow = if meta.num_rows() > BATCH_ROWS as i64 * 2 {
            on_a_thread(batches, &layout, |batch, at| state.batch(batch, before.unsigned_abs() + at))?
        } else {
            here(batches, &layout, |batch, at| state.batch(batch, before.unsigned_abs() + at))?
        };
        if flow.is_break() {
            return Ok(flow);
        }
        done += bytes(meta.num_rows());
        progress(bytes(meta.num_rows()));
    }
    progress(length.saturating_sub(done));
    Ok(ControlFlow::Continue(()))
}

struct Consumer<'s> {
    scan: &'s Scan,
    source: &'s str,
    report: &'s mut Report,
    each: &'s mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
}

impl Consumer<'_> {
    /// `before` rows of the file come before this batch.
    fn batch(&mut self, columns: &Decoded, before: u64) -> ControlFlow<()> {
        for row in 0..columns.rows {
            let row = Row::of_batch(&columns.columns, row, self.source, before + row as u64 + 1);
            self.scan.offer(&row, self.report, self.each)?;
        }
        ControlFlow::Continue(())
    }
}

struct Decoded {
    columns: Vec<Column>,
    rows: usize,
}

fn here(
    batches: ParquetRecordBatchReader,
    layout: &Layout,
    mut each: impl FnMut(&Decoded, u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    let mut at = 0;
    for batch in batches {
        let decoded = layout.decode(&batch.map_err(|e| e.to_string())?)?;
        if each(&decoded, at).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        at += decoded.rows as u64;
    }
    Ok(ControlFlow::Continue(()))
}

/// The same with the decoding on a second core.
fn on_a_thread(
    batches: ParquetRecordBatchReader,
    layout: &Layout,
    mut each: impl FnMut(&Decoded, u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    let (send, receive) = std::sync::mpsc::sync_channel::<Result<Decoded, String>>(WAITING_BATCHES);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for batch in batches {
                let decoded = batch.map_err(|e| e.to_string()).and_then(|b| layout.decode(&b));
                let failed = decoded.is_err();
                // Nobody listens any more when the consumer has broken off.
                if send.send(decoded).is_err() || failed {
                    return;
                }
            }
        });
        let mut at = 0;
        while let Ok(decoded) = receive.recv() {
            let decoded = decoded?;
            if each(&decoded, at).is_break() {
                drop(receive);
                return Ok(ControlFlow::Break(()));
            }
            at += decoded.rows as u64;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Where the wanted columns stand in the file.
struct Layout {
    places: Vec<Place>,
    roots: Vec<usize>,
}

enum Place {
    Nowhere,
    Column(usize),
    Member(usize, String),
}

impl Layout {
    fn of(scan: &Scan, schema: &SchemaRef) -> Result<Layout, String> {
        let known: Vec<_> = schema.fields().iter().map(|f| names::canonical(f.name())).collect();
        let place = |name: &str| known.iter().position(|k| names::same(k, name));
        let member = |name: &str, prefix: &str, map: &str| {
            let rest =
                name.get(prefix.len()..).filter(|_| name.get(..prefix.len()).is_some_and(|p| names::same(p, prefix)));
            Some(Place::Member(place(map)?, rest?.to_owned()))
        };
        let find = |name: &str| match place(name) {
            Some(at) => Place::Column(at),
            None => {
                member(name, "header_", "headers").or_else(|| member(name, "arf_", "arf")).unwrap_or(Place::Nowhere)
            }
        };
        if let Some(name) = missing(&scan.required, |name| place(name).is_some()) {
            return Err(format!("it has no column {name}"));
        }
        let places: Vec<_> = scan.columns.iter().map(|c| find(c)).collect();
        let mut roots: Vec<_> = places
            .iter()
            .filter_map(|p| match p {
                Place::Nowhere => None,
                Place::Column(at) | Place::Member(at, _) => Some(*at),
            })
            .collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(Layout { places, roots })
    }

    fn decode(&self, batch: &RecordBatch) -> Result<Decoded, String> {
        // The batch holds the projected columns in the order of the file.
        let array = |root: &usize| self.roots.binary_search(root).ok().map(|at| Arc::clone(batch.column(at)));
        let columns = self.places.iter().map(|place| match place {
            Place::Nowhere => Ok(Column::Absent),
            Place::Column(root) => array(root).map_or(Ok(Column::Absent), column),
            Place::Member(root, name) => Ok(match array(root).map(column).transpose()? {
                Some(Column::Pairs(map)) => Column::Member(map, name.clone()),
                _ => Column::Absent,
            }),
        });
        Ok(Decoded { columns: columns.collect::<Result<_, String>>()?, rows: batch.num_rows() })
    }
}

/// An array in the few types that rows know; what other tools write (dictionaries, views, other units) is converted.
fn column(array: ArrayRef) -> Result<Column, String> {
    let convert = |to: &DataType| cast(&array, to).map_err(|e| e.to_string());
    Ok(match array.data_type() {
        DataType::Utf8 => Column::Text(array.as_string::<i32>().clone()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Column::Time(array.as_primitive::<TimestampMicrosecondType>().clone())
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let micros = convert(&DataType::Timestamp(TimeUnit::Microsecond, None))?;
            Column::Time(micros.as_primitive::<TimestampMicrosecondType>().clone())
        }
        DataType::Int64 => Column::Number(array.as_primitive::<Int64Type>().clone()),
        ty if ty.is_integer() => Column::Number(convert(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        DataType::Boolean => Column::Bool(array.as_boolean().clone()),
        DataType::List(item) if item.data_type() == &DataType::Utf8 => Column::List(array.as_list::<i32>().clone()),
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(fields) if fields.iter().all(|f| f.data_type() == &DataType::Utf8) => {
                Column::Pairs(array.as_map().clone())
            }
            _ => Column::Absent,
        },
        DataType::Null => Column::Absent,
        // Anything else as text: large and view strings, dictionaries of them, floats.
        _ => Column::Text(convert(&DataType::Utf8)?.as_string::<i32>().clone()),
    })
}

fn open(
    scan: &Scan,
    layout: &Layout,
    file: File,
    metadata: &ArrowReaderMetadata,
    group: usize,
) -> Result<ParquetRecordBatchReader, String> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), layout.roots.iter().copied());
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .with_row_groups(vec![group]);
    if let Some((only, Place::Column(root))) = scan.only.as_ref().map(|o| (o, &layout.places[o.at])) {
        let values = only.values.clone();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), [*root]);
        // The other columns are decoded for the rows that match.
        let predicate = ArrowPredicateFn::new(mask, move |batch| {
            let text = cast(batch.column(0), &DataType::Utf8)?;
            let equal = |t: Option<&str>| Some(t.is_some_and(|t| values.iter().any(|v| v.eq_ignore_ascii_case(t))));
            Ok(text.as_string::<i32>().iter().map(equal).collect::<BooleanArray>())
        });
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(predicate)]));
    }
    builder.build().map_err(|e| e.to_string())
}

/// The row groups that may hold what is wanted.
fn wanted(scan: &Scan, file: &File, metadata: &ArrowReaderMetadata) -> Result<Vec<usize>, String> {
    let all = 0..metadata.metadata().num_row_groups();
    let leaf = |name: &str| {
        let columns = metadata.parquet_schema().columns();
        columns.iter().position(|c| c.path().parts().len() == 1 && names::same(&names::canonical(c.name()), name))
    };
    let time = leaf("timeLogged").filter(|_| scan.time_at.is_some());
    let mut groups: Vec<_> =
        all.filter(|g| time.is_none_or(|leaf| in_time(scan, metadata.metadata().row_group(*g), leaf))).collect();
    let Some((only, leaf)) = scan.only.as_ref().filter(|o| o.prune).and_then(|o| Some((o, leaf(&o.column)?))) else {
        return Ok(groups);
    };
    groups.retain(|g| in_range(only, metadata.metadata().row_group(*g), leaf));
    if groups.iter().all(|g| metadata.metadata().row_group(*g).column(leaf).bloom_filter_offset().is_none()) {
        return Ok(groups);
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
        file.try_clone().map_err(|e| e.to_string())?,
        metadata.clone(),
    );
    let mut kept = Vec::new();
    for group in groups {
        let filter = builder.get_row_group_column_bloom_filter(group, leaf).map_err(|e| e.to_string())?;
        if filter.is_none_or(|f| only.values.iter().any(|v| f.check(&v.as_str()))) {
            kept.push(group);
        }
    }
    Ok(kept)
}

fn in_time(scan: &Scan, group: &RowGroupMetaData, leaf: usize) -> bool {
    // Only our own unit is compared; files in others are read whole.
    let is_micros = matches!(
        group.column(leaf).column_descr().logical_type_ref(),
        Some(parquet::basic::LogicalType::Timestamp(t)) if t.unit == parquet::basic::TimeUnit::MICROS
    );
    match group.column(leaf).statistics() {
        Some(Statistics::Int64(s)) if is_micros => {
            scan.until.is_none_or(|until| s.min_opt().is_none_or(|min| *min < until.0))
                && scan.since.is_none_or(|since| s.max_opt().is_none_or(|max| *max >= since.0))
        }
        _ => true,
    }
}

fn in_range(only: &Only, group: &RowGroupMetaData, leaf: usize) -> bool {
    let Some(statistics) = group.column(leaf).statistics() else { return true };
    let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt()) else { return true };
    if !matches!(statistics, Statistics::ByteArray(_)) {
        return true;
    }
    // Statistics may be cut: a cut minimum is still smaller, a cut maximum is rounded up.
    only.values.iter().any(|v| min <= v.as_bytes() && v.as_bytes() <= max)
}
