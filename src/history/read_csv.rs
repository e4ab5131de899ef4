//! CSV files: RFC 4180 with a header line, as PowerMTA and Carom write them. Columns are matched whatever their case.

use std::io::Read;
use std::ops::ControlFlow;

use csv::ByteRecord;

use super::row::Row;
use super::scan::{Report, Scan};
use super::{missing, names};

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

/// See [`Scan::run`]. A line with more or fewer cells than the header is counted as bad and left out; a header line in
/// the middle (files put together, a pipe that began anew) holds from there on.
pub(super) fn scan(
    scan: &Scan,
    from: impl Read,
    source: &str,
    progress: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    report: &mut Report,
) -> Result<ControlFlow<()>, String> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(1 << 17).from_reader(from);
    let mut record = ByteRecord::new();
    let mut header: Option<Header> = None;
    let mut rows = 0u64;
    // Of CRLF only the first half is behind the reader when it has given a record.
    let mut half = 0;
    loop {
        let line = reader.position().line() + half;
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return Err(format!("line {line}: {e}")),
        }
        if std::str::from_utf8(record.as_slice()).is_err() || !cells_are_utf8(&record) {
            // Replies come in any charset; what is no UTF-8 is shown as such.
            record = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
        }
        let first = record.get(0).and_then(|c| std::str::from_utf8(c).ok()).unwrap_or("");
        let current = match &header {
            Some(known) if !names::opens_header(first) => known,
            known => {
                let is_header = known.is_some() || !is_record(&record);
                if known.is_none() && reader.position().line() == 1 {
                    half = 1;
                }
                header =
                    Some(if is_header { Header::of(scan, &record)? } else { Header::assumed(scan, &record, line)? });
                match &header {
                    Some(assumed) if !is_header => assumed,
                    _ => continue,
                }
            }
        };
        if record.len() == current.width {
            if scan.offer(&Row::of_csv(&record, &current.places, source, line), report, each).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        } else {
            let why = format_args!("{} cells where the header has {}", record.len(), current.width);
            report.bad_row(source, line, &why);
        }
        rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            progress();
        }
    }
    progress();
    Ok(ControlFlow::Continue(()))
}

fn cells_are_utf8(record: &ByteRecord) -> bool {
    // All of it is; a character may still be cut in two by a comma only if it was none.
    record.as_slice().is_ascii() || record.iter().all(|cell| std::str::from_utf8(cell).is_ok())
}

/// Whether the first line of a file is a record already: a header line names columns, and no column is called `d`.
fn is_record(record: &ByteRecord) -> bool {
    record.len() > 1
        && record.get(0).and_then(|c| std::str::from_utf8(c).ok()).is_some_and(|c| names::kind(c).is_some())
}

struct Header {
    /// Cells in a line.
    width: usize,
    /// Where each wanted column stands.
    places: Vec<Option<usize>>,
}

impl Header {
    fn of(scan: &Scan, record: &ByteRecord) -> Result<Header, String> {
        Header::new(scan, &record.iter().map(|c| names::canonical(&String::from_utf8_lossy(c))).collect::<Vec<_>>())
    }

    fn assumed(scan: &Scan, record: &ByteRecord, line: u64) -> Result<Header, String> {
        let cells: Vec<_> = record.iter().map(|c| std::str::from_utf8(c).unwrap_or("")).collect();
        match names::without_header(&cells) {
            Some(columns) => Header::new(scan, columns),
            None => Err(format!(
                "line {line}: there is no header line, and {} cells are not a default of PowerMTA; put a line with the \
                 names of the columns in front",
                cells.len()
            )),
        }
    }

    fn new<S: AsRef<str>>(scan: &Scan, columns: &[S]) -> Result<Header, String> {
        let place = |name: &str| columns.iter().position(|c| names::same(c.as_ref(), name));
        match missing(&scan.required, |name| place(name).is_some()) {
            Some(name) => Err(format!("it has no column {name}")),
            None => Ok(Header { width: columns.len(), places: scan.columns.iter().map(|name| place(name)).collect() }),
        }
    }
}
