#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads and writes accounting files")]
//! CSV to Parquet and back: Carom's files and PowerMTA's own.
//!
//! **To Parquet.** Columns are matched by name, whatever the case, and become typed; all columns of the schema are there,
//! so the result can be read together with an output's files. `header_X` and `arf_X` go into the maps `headers` and
//! `arf`. What PowerMTA's files lack and can be told from what they have is filled in: `enhancedStatus`, `replyCode`,
//! `dsnMtaHost`, `dsnMtaIp`, `totalSecondsQueued`, `queueMs`, `provider`. Columns that are in no schema stay, as text.
//!
//! **To CSV.** The schema's columns in its order, then one column for each header and ARF field that occurs.
//!
//! What can't be converted is counted and said ([`Converted::notes`]); a cell that is not what its column holds becomes
//! null. The result appears under its name when it is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::KeyValue;

use super::HistoryError;
use super::cells;
use super::compact::Layout;
use super::footer::Footer;
use super::inputs;
use crate::event::Kind;
use crate::event::fields::{FIELDS, Field, SCHEMA_VERSION, Type};
use crate::event::manifest::SCHEMA_KEY;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted {
    /// Records.
    pub rows: u64,
    /// What was not carried over as it is: sentences, each with a count.
    pub notes: Vec<String>,
}

/// Times in CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// `YYYY-MM-DD HH:MM:SS+0000`, as PowerMTA and Carom write them; parts of a second are dropped.
    Iso,
    /// The same with six digits of a second.
    Micros,
    /// Seconds since the epoch.
    Unix,
}

/// Rows converted at a time.
const BATCH: usize = 8192;

/// Counts what could not be converted, with the first example of each.
#[derive(Debug, Default)]
struct Notes(BTreeMap<String, (u64, String)>);

impl Notes {
    fn add(&mut self, what: &str, example: impl FnOnce() -> String) {
        match self.0.get_mut(what) {
            Some(known) => known.0 += 1,
            None => {
                self.0.insert(what.to_owned(), (1, example()));
            }
        }
    }

    fn sentences(self) -> Vec<String> {
        self.0.into_iter().map(|(what, (n, example))| format!("{what}: {n}, such as {example}")).collect()
    }
}

/// A file that gets its name when it is complete.
struct Target {
    path: PathBuf,
    unfinished: PathBuf,
}

impl Target {
    fn create(path: &Path, replace: bool) -> Result<(Target, File), HistoryError> {
        let failed = |e: &dyn std::fmt::Display| HistoryError { path: path.to_owned(), why: e.to_string() };
        if !replace && path.exists() {
            return Err(failed(&"it exists; --force replaces it"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = path.with_file_name(format!(".{name}.inprogress"));
        let file = File::create(&unfinished).map_err(|e| failed(&e))?;
        Ok((Target { path: path.to_owned(), unfinished }, file))
    }

    fn publish(self, file: &File) -> Result<(), HistoryError> {
        let done = file.sync_all().and_then(|()| fs::rename(&self.unfinished, &self.path));
        done.map_err(|e| HistoryError { path: self.path.clone(), why: e.to_string() })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Gone already when it was published.
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Converts CSV files, which may have different columns, to one Parquet file.
///
/// # Errors
/// When a file can't be read or written, or a line has another number of cells than its header.
pub fn to_parquet(
    inputs: &[PathBuf],
    output: &Path,
    replace: bool,
    schema: &SchemaRef,
    layout: Layout<'_>,
    progress: &dyn Fn(u64),
) -> Result<Converted, HistoryError> {
    let mut notes = Notes::default();
    let mut extra: Vec<String> = Vec::new();
    let mut all_ids = true;
    for input in inputs {
        let header = header_of(input)?;
        all_ids &= header.iter().any(|h| h.eq_ignore_ascii_case("eventId"));
        if !header.iter().any(|h| h.eq_ignore_ascii_case("type")) {
            return Err(HistoryError::new(input, "it has no column `type`, so it is no accounting file"));
        }
        for name in header.iter() {
            let known = Field::by_name(name).is_some() || map_of(name).is_some();
            if !known && !extra.iter().any(|e| e.eq_ignore_ascii_case(name)) {
                notes.add("columns of no schema, kept as text", || format!("`{name}`"));
                extra.push(name.to_owned());
            }
        }
    }
    let mut fields: Vec<ArrowField> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    for field in fields.iter_mut().filter(|f| f.name() != "type") {
        // A cell may be empty or wrong in a file that we did not write, and PowerMTA's have no event ids.
        field.set_nullable(field.name() != "eventId" || !all_ids);
    }
    fields.extend(extra.iter().map(|name| ArrowField::new(name, DataType::Utf8, true)));
    let schema = SchemaRef::new(Schema::new(fields));

    let (target, file) = Target::create(output, replace)?;
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(output, e);
    let sink = io::BufWriter::with_capacity(1 << 20, file);
    let mut writer = ArrowWriter::try_new(sink, schema.clone(), Some(layout(&schema))).map_err(|e| failed(&e))?;
    let mut rows = 0;
    for input in inputs {
        let wrong = |e: &dyn std::fmt::Display| HistoryError::new(input, e);
        let text = inputs::open_csv(input).map_err(|e| wrong(&e))?;
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_reader(text);
        let header = reader.byte_headers().map_err(|e| wrong(&e))?.clone();
        let header = csv::StringRecord::from_byte_record_lossy(header);
        let sheet = Sheet { header: &header, path: input };
        let (mut batch, mut bytes, mut more) = (Vec::with_capacity(BATCH), csv::ByteRecord::new(), true);
        while more {
            more = reader.read_byte_record(&mut bytes).map_err(|e| wrong(&e))?;
            if more {
                let line = bytes.position().map_or(0, csv::Position::line);
                let record = csv::StringRecord::from_byte_record(bytes.clone()).unwrap_or_else(|e| {
                    notes.add("lines that are not UTF-8, read with replacement characters", || place(input, line));
                    csv::StringRecord::from_byte_record_lossy(e.into_byte_record())
                });
                batch.push((line, record));
            }
            if batch.len() == BATCH || (!more && !batch.is_empty()) {
                let arrays = schema.fields().iter().map(|f| sheet.array(f, &batch, &mut notes)).collect();
                let made = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| wrong(&e))?;
                writer.write(&made).map_err(|e| failed(&e))?;
                rows += batch.len() as u64;
                progress(rows);
                batch.clear();
            }
        }
    }
    let from = inputs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    for (key, value) in [(SCHEMA_KEY, SCHEMA_VERSION.to_string()), ("carom.convertedFrom", from)] {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    let file = writer.into_inner().map_err(|e| failed(&e))?.into_inner().map_err(|e| failed(&e.into_error()))?;
    target.publish(&file)?;
    Ok(Converted { rows, notes: notes.sentences() })
}

fn place(input: &Path, line: u64) -> String {
    format!("{}, line {line}", input.display())
}

fn header_of(path: &Path) -> Result<csv::StringRecord, HistoryError> {
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let mut reader = csv::Reader::from_reader(inputs::open_csv(path).map_err(|e| failed(&e))?);
    let header = reader.byte_headers().map_err(|e| failed(&e))?.clone();
    Ok(csv::StringRecord::from_byte_record_lossy(header))
}

/// `headers` or `arf`, and the name in it, for a column that holds one of its values.
fn map_of(column: &str) -> Option<(&'static str, &str)> {
    [("header_", "headers"), ("arf_", "arf")].into_iter().find_map(|(prefix, map)| {
        let (head, name) = (column.get(..prefix.len())?, column.get(prefix.len()..)?);
        (head.eq_ignore_ascii_case(prefix) && !name.is_empty()).then_some((map, name))
    })
}

/// A CSV file's columns, by their names.
struct Sheet<'f> {
    header: &'f csv::StringRecord,
    path: &'f Path,
}

/// Lines with their numbers.
type Lines = [(u64, csv::StringRecord)];

impl Sheet<'_> {
    fn place(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| h.eq_ignore_ascii_case(name))
    }

    /// The cells of one column; where the file has none of that name, what follows from the others.
    fn texts(&self, name: &str, lines: &Lines) -> Vec<Option<String>> {
        let at = |name: &str| self.place(name);
        if let Some(at) = at(name) {
            let null_sender = name == "orig";
            return lines
                .iter()
                .map(|(_, record)| match record.get(at).filter(|c| !c.is_empty()) {
                    // In the records that always have a sender, an empty one is the null sender.
                    None if null_sender && self.has_sender(record) => Some(String::new()),
                    text => text.map(str::to_owned),
                })
                .collect();
        }
        let needed: Vec<Option<usize>> = cells::NEEDED.iter().map(|n| at(n)).collect();
        let derive = |record: &csv::StringRecord| {
            let get = |name: &str| {
                let at = cells::NEEDED.iter().position(|n| *n == name).and_then(|i| needed[i])?;
                record.get(at).filter(|c| !c.is_empty())
            };
            cells::derived(name, &get)
        };
        lines.iter().map(|(_, record)| derive(record)).collect()
    }

    fn has_sender(&self, record: &csv::StringRecord) -> bool {
        let kind = self.place("type").and_then(|at| record.get(at)).and_then(|t| t.parse::<Kind>().ok());
        matches!(kind, Some(Kind::Delivered | Kind::Bounced | Kind::Transient | Kind::Received))
    }

    /// The cells of one column as values; those that are none are noted.
    fn values<T>(
        &self,
        name: &str,
        lines: &Lines,
        notes: &mut Notes,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<Option<T>> {
        let texts = self.texts(name, lines);
        let value = |((line, _), text): (&(u64, csv::StringRecord), Option<String>)| {
            let text = text?;
            let value = parse(text.trim());
            if value.is_none() {
                notes.add(&format!("cells of `{name}` that can't be read, left empty"), || {
                    let shown: String = text.chars().take(40).collect();
                    format!("`{shown}` in {}", place(self.path, *line))
                });
            }
            value
        };
        lines.iter().zip(texts).map(value).collect()
    }

    fn array(&self, field: &ArrowField, lines: &Lines, notes: &mut Notes) -> ArrayRef {
        let name = field.name().as_str();
        match Field::by_name(name).map_or(Type::Text, |f| f.ty) {
            Type::Text | Type::Word | Type::Ip => {
                let mut texts = self.texts(name, lines);
                if !field.is_nullable() {
                    texts.iter_mut().for_each(|t| {
                        t.get_or_insert_default();
                    });
                }
                Arc::new(StringArray::from(texts))
            }
            Type::Time => {
                let times = self.values(name, lines, notes, cells::time);
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
            }
            Type::Int => Arc::new(Int32Array::from(self.values(name, lines, notes, |t| t.parse().ok()))),
            Type::Long => Arc::new(Int64Array::from(self.values(name, lines, notes, |t| t.parse().ok()))),
            Type::Bool => Arc::new(BooleanArray::from(self.values(name, lines, notes, cells::yes_or_no))),
            Type::List => {
                let mut b = ListBuilder::new(StringBuilder::new());
                for text in self.texts(name, lines) {
                    text.iter().flat_map(|t| t.split(',')).for_each(|w| b.values().append_value(w.trim()));
                    b.append(text.is_some());
                }
                Arc::new(b.finish())
            }
            Type::Map => self.map(name, lines),
        }
    }

    fn map(&self, map: &str, lines: &Lines) -> ArrayRef {
        let named = self.header.iter().enumerate().filter_map(|(at, h)| map_of(h).map(|(m, name)| (m, name, at)));
        let places: Vec<_> = named.filter(|(m, ..)| *m == map).collect();
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        let mut b = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for (_, record) in lines {
            let mut any = false;
            for (_, name, at) in &places {
                let Some(text) = record.get(*at).filter(|c| !c.is_empty()) else { continue };
                // Several ARF values of one name are a CSV record in one cell.
                for value in if map == "arf" { cells::list(text) } else { vec![text.to_owned()] } {
                    b.keys().append_value(name);
                    b.values().append_value(value);
                }
                any = true;
            }
            // Keys and values were appended in pairs, which is all this checks.
            let _ = b.append(any);
        }
        Arc::new(b.finish())
    }
}

/// Converts Parquet files to one CSV file. `only`: these columns; empty: all of the schema that the files have.
///
/// # Errors
/// When a file can't be read or written, or has none of the columns in `only`.
pub fn to_csv(
    inputs: &[PathBuf],
    output: &Path,
    replace: bool,
    only: &[String],
    times: Times,
    progress: &dyn Fn(u64),
) -> Result<Converted, HistoryError> {
    let mut notes = Notes::default();
    let mut columns: Vec<CsvColumn> = Vec::new();
    for input in inputs {
        columns_of(input, &mut columns)?;
    }
    let rank = |c: &CsvColumn| FIELDS.iter().position(|f| f.name == c.column).unwrap_or(FIELDS.len());
    columns.sort_by_key(|c| (c.key.is_some(), if c.key.is_some() { 0 } else { rank(c) }));
    if !only.is_empty() {
        let find = |name: &String| {
            let found = columns.iter().find(|c| c.name().eq_ignore_ascii_case(name)).cloned();
            found.ok_or_else(|| HistoryError::new(&inputs[0], format_args!("no file has a column `{name}`")))
        };
        columns = only.iter().map(find).collect::<Result<_, _>>()?;
    }
    let (target, file) = Target::create(output, replace)?;
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(output, e);
    let sink = io::BufWriter::with_capacity(1 << 20, file);
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(sink);
    writer.write_record(columns.iter().map(CsvColumn::name)).map_err(|e| failed(&e))?;
    let mut rows = 0;
    for input in inputs {
        let wrong = |e: &dyn std::fmt::Display| HistoryError::new(input, e);
        let (footer, file) = Footer::read(input)?;
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.metadata)
            .with_batch_size(BATCH)
            .build()
            .map_err(|e| wrong(&e))?;
        for batch in batches {
            let batch = batch.map_err(|e| wrong(&e))?;
            let cells: Vec<Vec<String>> = columns
                .iter()
                .map(|c| c.cells(&batch, times, &mut notes))
                .collect::<Result<_, _>>()
                .map_err(|e| wrong(&e))?;
            for row in 0..batch.num_rows() {
                writer.write_record(cells.iter().map(|c| c[row].as_str())).map_err(|e| failed(&e))?;
            }
            rows += batch.num_rows() as u64;
            progress(rows);
        }
    }
    let mut sink = writer.into_inner().map_err(|e| failed(&e.into_error()))?;
    sink.flush().map_err(|e| failed(&e))?;
    let file = sink.into_inner().map_err(|e| failed(&e.into_error()))?;
    target.publish(&file)?;
    Ok(Converted { rows, notes: notes.sentences() })
}

/// A column of the CSV file: one of the Parquet file, or one name in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CsvColumn {
    column: String,
    key: Option<String>,
}

impl CsvColumn {
    fn name(&self) -> String {
        match &self.key {
            None => self.column.clone(),
            Some(key) => format!("{}_{key}", if self.column == "arf" { "arf" } else { "header" }),
        }
    }

    fn cells(&self, batch: &RecordBatch, times: Times, notes: &mut Notes) -> Result<Vec<String>, ArrowError> {
        let Some(array) = batch.column_by_name(&self.column) else { return Ok(vec![String::new(); batch.num_rows()]) };
        let mut cells = Vec::with_capacity(batch.num_rows());
        if let Some(key) = &self.key {
            let map = array.as_map();
            for row in 0..map.len() {
                let values: Vec<String> = if map.is_valid(row) {
                    let entries = map.value(row);
                    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                    let pairs = keys.iter().zip(values.iter());
                    pairs.filter(|(k, _)| *k == Some(key)).map(|(_, v)| v.unwrap_or("").to_owned()).collect()
                } else {
                    Vec::new()
                };
                if values.len() > 1 && self.column != "arf" {
                    notes.add("headers that stand several times in a message, of which the first is kept", || {
                        key.clone()
                    });
                }
                cells.push(match &values[..] {
                    [] => String::new(),
                    [_, _, ..] if self.column == "arf" => cells::record(&values),
                    [first, ..] => first.clone(),
                });
            }
            return Ok(cells);
        }
        match array.data_type() {
            DataType::Timestamp(..) => {
                let array =
                    arrow::compute::cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
                for time in array.as_primitive::<TimestampMicrosecondType>() {
                    if times != Times::Micros && time.is_some_and(|t| t % 1_000_000 != 0) {
                        notes.add("times whose parts of a second were dropped (--times micros keeps them)", || {
                            format!(
                                "{} of `{}`",
                                time.map(|t| cells::show(t, Times::Micros)).unwrap_or_default(),
                                self.column
                            )
                        });
                    }
                    cells.push(time.map(|t| cells::show(t, times)).unwrap_or_default());
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                for row in 0..list.len() {
                    let words = list.value(row);
                    let words = words.as_string::<i32>().iter().flatten().collect::<Vec<_>>();
                    cells.push(if list.is_valid(row) { words.join(",") } else { String::new() });
                }
            }
            _ => {
                let options = FormatOptions::default();
                let formatter = ArrayFormatter::try_new(array, &options)?;
                for row in 0..batch.num_rows() {
                    cells.push(formatter.value(row).try_to_string()?);
                }
            }
        }
        Ok(cells)
    }
}

/// Adds the columns of a file that are not there yet; a map becomes a column for each of its names.
fn columns_of(path: &Path, columns: &mut Vec<CsvColumn>) -> Result<(), HistoryError> {
    let wrong = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let mut add = |column: &str, key: Option<&str>| {
        let new = CsvColumn { column: column.to_owned(), key: key.map(str::to_owned) };
        if !columns.contains(&new) {
            columns.push(new);
        }
    };
    let (footer, file) = Footer::read(path)?;
    let mut maps = Vec::new();
    for field in footer.schema.fields() {
        match field.data_type() {
            DataType::Map(..) => maps.push(field.name().clone()),
            _ => add(field.name(), None),
        }
    }
    if maps.is_empty() {
        return Ok(());
    }
    let roots = footer.schema.fields().iter().enumerate().filter(|(_, f)| maps.contains(f.name())).map(|(i, _)| i);
    let mask = ProjectionMask::roots(footer.metadata.metadata().file_metadata().schema_descr(), roots);
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.metadata)
        .with_projection(mask)
        .build()
        .map_err(|e| wrong(&e))?;
    for batch in batches {
        let batch = batch.map_err(|e| wrong(&e))?;
        for map in &maps {
            let Some(array) = batch.column_by_name(map).and_then(|c| c.as_map_opt()) else { continue };
            let mut last = "";
            for key in array.keys().as_string::<i32>().iter().flatten() {
                if key != last {
                    add(map, Some(key));
                    last = key;
                }
            }
        }
    }
    Ok(())
}
