#![expect(clippy::disallowed_types, reason = "edge: reads accounting files")]
//! Are the accounting files whole, and is every record there once? Read against what each file says of itself.
//!
//! Files are put together by output: a store and a path. Per file: it can be read to its end, has the rows that its
//! footer says, no record of another store or outside its range. Per output: no record twice, no gap between the ranges
//! of its Parquet files, and within them no number missing when all record types are written. CSV files carry no
//! manifest, so theirs is the word of another output of the same store: where both wrote, the record types that both
//! have must be the same records.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::footer::Footer;
use super::merge_plan::OutputId;
use super::seen::Seen;
use super::{HistoryError, inputs, missing};
use crate::event::manifest::{Manifest, Ranges};
use crate::event::{EventId, Kind, Kinds, StoreId};

/// Something that should not be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, or the output.
    pub place: String,
    /// A sentence.
    pub what: String,
}

/// One output of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputReport {
    /// Its store; `None` for files without event ids, such as PowerMTA's.
    pub store: Option<StoreId>,
    /// Its path as configured (Parquet), or the folder and the beginning of the names of its files (CSV).
    pub output: String,
    /// Files read.
    pub files: usize,
    /// Records in them.
    pub records: u64,
    /// Lowest and highest sequence number found.
    pub bounds: Option<(u64, u64)>,
    /// Records that stand more than once.
    pub doubled: u64,
    /// Sequence numbers that should be there and are not.
    pub missing: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Per output.
    pub outputs: Vec<OutputReport>,
    /// Everything that is wrong, at most [`TOLD`] of a kind per place.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub unchecked: Vec<Finding>,
}

/// Examples told of each kind of finding.
pub const TOLD: usize = 5;

#[derive(Debug, Default)]
struct Output {
    files: usize,
    records: u64,
    doubled: u64,
    missing: u64,
    seen: Seen,
    /// Of Parquet files: range, selection, file.
    ranges: Vec<(u64, u64, Kinds, PathBuf)>,
}

/// Verifies files, CSV or Parquet by their extensions. `quick` reads only event ids, not every column.
pub fn verify(files: &[PathBuf], quick: bool, progress: &dyn Fn(&Path, u64)) -> Report {
    let mut report = Report::default();
    let mut outputs: BTreeMap<(Option<StoreId>, String), Output> = BTreeMap::new();
    for path in files {
        let is_parquet = path.extension().is_some_and(|e| e == "parquet");
        let read = if is_parquet {
            parquet(path, quick, &mut outputs, &mut report, progress)
        } else {
            csv(path, &mut outputs, &mut report, progress)
        };
        if let Err(e) = read {
            report.findings.push(Finding { place: path.display().to_string(), what: e.why });
        }
    }
    for (id, output) in &mut outputs {
        ranges(&name(id), output, &mut report);
    }
    compare(&mut outputs, &mut report);
    report.outputs = outputs
        .into_iter()
        .map(|((store, output), o)| OutputReport {
            store,
            output,
            files: o.files,
            records: o.records,
            bounds: o.seen.bounds(),
            doubled: o.doubled,
            missing: o.missing,
        })
        .collect();
    report
}

fn name((store, output): &(Option<StoreId>, String)) -> String {
    match store {
        Some(store) => format!("{output} of store {store}"),
        None => output.clone(),
    }
}

/// The findings of one file: each kind with its count and the first few examples.
#[derive(Default)]
struct Faults(BTreeMap<&'static str, (u64, Vec<String>)>);

impl Faults {
    fn add(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(what).or_default();
        *count += 1;
        if examples.len() < TOLD {
            examples.push(example());
        }
    }

    fn tell(self, place: &str, findings: &mut Vec<Finding>) {
        for (what, (count, examples)) in self.0 {
            let more = if count > examples.len() as u64 { ", ..." } else { "" };
            findings.push(Finding {
                place: place.to_owned(),
                what: format!("{count} {what}: {}{more}", examples.join(", ")),
            });
        }
    }
}

fn parquet(
    path: &Path,
    quick: bool,
    outputs: &mut BTreeMap<(Option<StoreId>, String), Output>,
    report: &mut Report,
    progress: &dyn Fn(&Path, u64),
) -> Result<(), HistoryError> {
    let place = path.display().to_string();
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let (footer, file) = Footer::read(path)?;
    let Some(manifest) = footer.manifest.clone() else {
        let what = "an output did not write it (no manifest in its footer): only that it can be read was checked";
        report.unchecked.push(Finding { place, what: what.to_owned() });
        return read_all(path, footer, file, quick, progress, &mut |_| ());
    };
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = (Some(manifest.store), OutputId::of(&manifest, &file_name).output);
    let output = outputs.entry(id).or_default();
    output.files += 1;
    let mut faults = Faults::default();
    let mut rows = 0;
    let read = read_all(path, footer.clone(), file, quick, progress, &mut |batch| {
        rows += batch.num_rows() as u64;
        ids(batch, &manifest, output, &mut faults);
    });
    output.records += rows;
    for (first, last) in manifest.ranges.iter() {
        output.ranges.push((first, last, manifest.records, path.to_owned()));
    }
    if read.is_ok() && rows != manifest.rows {
        let what = format!("{rows} records; its footer says {}", manifest.rows);
        report.findings.push(Finding { place: place.clone(), what });
    }
    faults.tell(&place, &mut report.findings);
    read.map_err(|e| failed(&e.why))
}

fn read_all(
    path: &Path,
    footer: Footer,
    file: File,
    quick: bool,
    progress: &dyn Fn(&Path, u64),
    each: &mut dyn FnMut(&RecordBatch),
) -> Result<(), HistoryError> {
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, format_args!("it can't be read to its end ({e})"));
    let mask = if quick {
        ProjectionMask::columns(footer.metadata.metadata().file_metadata().schema_descr(), ["eventId", "type"])
    } else {
        ProjectionMask::all()
    };
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.metadata)
        .with_projection(mask)
        .with_batch_size(8192)
        .build()
        .map_err(|e| failed(&e))?;
    for batch in batches {
        let batch = batch.map_err(|e| failed(&e))?;
        each(&batch);
        progress(path, batch.num_rows() as u64);
    }
    Ok(())
}

fn ids(batch: &RecordBatch, manifest: &Manifest, output: &mut Output, faults: &mut Faults) {
    let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    let (Some(ids), Some(kinds)) = (text("eventId"), text("type")) else {
        faults.add("batches without the columns eventId and type", || "all".into());
        return;
    };
    for row in 0..batch.num_rows() {
        let (id, kind) = (ids.value(row), kinds.value(row));
        let Ok(EventId { store, seq }) = id.parse() else {
            faults.add("event ids that are none", || id.to_owned());
            continue;
        };
        let kind = kind.parse::<Kind>().ok();
        if store != manifest.store {
            faults.add("records of another store", || id.to_owned());
            continue;
        }
        if !manifest.ranges.cover(seq, seq) {
            faults.add("records outside the range in its footer", || id.to_owned());
        }
        if kind.is_none_or(|k| !manifest.records.contains(k)) {
            faults.add("records of types that were not selected", || id.to_owned());
        }
        if !output.seen.insert(kind, seq) {
            output.doubled += 1;
            faults.add("records that stand in its output already", || id.to_owned());
        }
    }
}

fn csv(
    path: &Path,
    outputs: &mut BTreeMap<(Option<StoreId>, String), Output>,
    report: &mut Report,
    progress: &dyn Fn(&Path, u64),
) -> Result<(), HistoryError> {
    let place = path.display().to_string();
    let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
    let text = inputs::open_csv(path).map_err(|e| failed(&e))?;
    let mut reader = ::csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_reader(text);
    let header = reader.byte_headers().map_err(|e| failed(&e))?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name.as_bytes()));
    if let Some(name) = missing(&["type".to_owned()], |n| column(n).is_some()) {
        return Err(failed(&format_args!("it has no column {name}, so it is no accounting file")));
    }
    let (id_at, kind_at) = (column("eventId"), column("type").unwrap_or(0));
    let stem = csv_output(path);
    let mut faults = Faults::default();
    let mut record = ::csv::ByteRecord::new();
    let (mut rows, mut told) = (0u64, 0u64);
    let mut stores: Vec<Option<StoreId>> = Vec::new();
    let result = loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(e) => break Err(failed(&format_args!("it can't be read to its end ({e})"))),
        }
        rows += 1;
        if rows - told >= 8192 {
            progress(path, rows - told);
            told = rows;
        }
        let kind = std::str::from_utf8(&record[kind_at]).ok().and_then(|k| k.parse::<Kind>().ok());
        if kind.is_none() {
            faults.add("lines whose type is none", || line(&record));
        }
        let id = id_at.and_then(|at| std::str::from_utf8(&record[at]).ok());
        let parsed = id.and_then(|id| id.parse::<EventId>().ok());
        if id_at.is_some() && parsed.is_none() {
            faults.add("lines without an event id", || line(&record));
        }
        let store = parsed.map(|id| id.store);
        let output = outputs.entry((store, stem.clone())).or_default();
        if !stores.contains(&store) {
            stores.push(store);
            output.files += 1;
        }
        output.records += 1;
        if let Some(EventId { seq, .. }) = parsed
            && !output.seen.insert(kind, seq)
        {
            output.doubled += 1;
            faults.add("records that stand in its output already", || id.unwrap_or("").to_owned());
        }
    };
    progress(path, rows - told);
    if rows > 0 && id_at.is_none() {
        let what = "it has no column eventId (strict-columns, or PowerMTA's own): only that it can be read was checked";
        report.unchecked.push(Finding { place: place.clone(), what: what.to_owned() });
    }
    faults.tell(&place, &mut report.findings);
    result
}

fn line(record: &::csv::ByteRecord) -> String {
    format!("line {}", record.position().map_or(0, ::csv::Position::line))
}

/// Folder and beginning of the name: `log/acct-2026-01-31-0000.csv` belongs to `log/acct.csv`.
fn csv_output(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let dated = |at: usize| {
        let rest = stem.get(at..)?.strip_prefix('-')?;
        let (date, n) = (rest.get(..10)?, rest.get(10..)?.strip_prefix('-')?);
        let is_ours = date.parse::<jiff::civil::Date>().is_ok() && n.bytes().all(|b| b.is_ascii_digit());
        is_ours.then(|| stem[..at].to_owned())
    };
    let name = stem.match_indices('-').find_map(|(at, _)| dated(at)).unwrap_or_else(|| stem.to_owned());
    path.with_file_name(name + ".csv").display().to_string()
}

/// Gaps and overlaps of the ranges of an output, and numbers missing within them.
fn ranges(place: &str, output: &mut Output, report: &mut Report) {
    let mut finding = |what: String| report.findings.push(Finding { place: place.to_owned(), what });
    output.ranges.sort_by_key(|r| (r.0, r.1));
    let mut told = 0;
    for pair in output.ranges.windows(2) {
        let [(_, last, _, before), (first, end, _, after)] = pair else { continue };
        if first <= last {
            let to = (*end).min(*last);
            finding(format!("{} and {} both cover {first} to {to}", before.display(), after.display()));
        } else if *first > last + 1 {
            let (from, to) = (last + 1, first - 1);
            output.missing += first - last - 1;
            told += 1;
            if told <= TOLD {
                finding(format!(
                    "no file covers {from} to {to}: one is missing between {} and {}",
                    before.display(),
                    after.display()
                ));
            }
        }
    }
    let joined = Ranges::join(output.ranges.iter().map(|r| (r.0, r.1))).unwrap_or_default();
    let (mut lost, mut examples) = (0, Vec::new());
    for (first, last, records, path) in &output.ranges {
        // Every event of the range is a record here, so a number that is not there is lost.
        for seq in (*first..=*last).filter(|_| *records == Kinds::ALL) {
            if !output.seen.contains(seq) {
                lost += 1;
                if examples.len() < TOLD {
                    examples.push(format!("{seq} in {}", path.display()));
                }
            }
        }
    }
    if lost > 0 && joined.first() > 0 {
        output.missing += lost;
        finding(format!("{lost} records are missing inside the ranges of its files: {}", examples.join(", ")));
    }
}

/// Outputs of one store against each other: where both wrote, they have the same records of the types that both write.
fn compare(outputs: &mut BTreeMap<(Option<StoreId>, String), Output>, report: &mut Report) {
    let ids: Vec<_> = outputs.keys().cloned().collect();
    let mut lacking: Vec<((Option<StoreId>, String), u64)> = Vec::new();
    for one in &ids {
        for other in ids.iter().filter(|o| o.0 == one.0 && *o != one && one.0.is_some()) {
            let (a, b) = (&outputs[one], &outputs[other]);
            let (Some(bounds), Some(of_other)) = (a.seen.bounds(), b.seen.bounds()) else { continue };
            let (from, to) = (bounds.0.max(of_other.0), bounds.1.min(of_other.1));
            let (kinds_a, kinds_b) = (a.seen.kinds(), b.seen.kinds());
            let both = |k: Kind| kinds_a.contains(k) && kinds_b.contains(k);
            let (mut n, mut examples) = (0, Vec::new());
            for seq in b.seen.of(&both).filter(|s| (from..=to).contains(s) && !a.seen.contains(*s)) {
                n += 1;
                if examples.len() < TOLD {
                    examples.push(seq.to_string());
                }
            }
            if n > 0 {
                lacking.push((one.clone(), n));
                let what = format!(
                    "{n} records that {} has are not here (lost, unless its record types were changed): {}",
                    name(other),
                    examples.join(", ")
                );
                report.findings.push(Finding { place: name(one), what });
            }
        }
    }
    for (id, n) in lacking {
        if let Some(output) = outputs.get_mut(&id).filter(|o| o.missing == 0) {
            output.missing = n;
        }
    }
}
