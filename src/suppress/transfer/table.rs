//! Lines, and lines with columns. A quote that is never closed costs one record, not the rest of the file; neither does
//! a line without end cost memory without end.

use std::collections::VecDeque;

use super::formats::{self, Format, Mapped};
use super::{MAX_RECORD, Options, Outcome, Record, Refusal};

/// Most columns of a line.
const MAX_COLUMNS: usize = 500;
/// Lines that one record may have.
const MAX_LINES: usize = 200;

/// Bytes put together to lines. Ends are LF, CRLF and CR.
#[derive(Debug, Default)]
pub(super) struct Lines {
    whole: VecDeque<Line>,
    rest: Vec<u8>,
    /// Lines taken or waiting.
    count: u64,
    /// The line in `rest` is too long: what comes of it is dropped.
    too_long: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Some were taken, or looked at and found to be no JSON.
    began: bool,
    /// All of it as it came, while it may be JSON.
    bytes: Vec<u8>,
}

/// A line without its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) too_long: bool,
}

impl Line {
    pub(super) fn text(&self) -> Result<&str, &'static str> {
        if self.too_long {
            return Err("the line is longer than 64 KiB");
        }
        std::str::from_utf8(&self.bytes).map_err(|_| "the line is not UTF-8")
    }

    pub(super) fn record(&self, lines: u64, outcome: Outcome) -> Record {
        let raw = if matches!(outcome, Outcome::Rejected(_)) { self.bytes.clone() } else { Vec::new() };
        Record { line: self.number, lines, outcome, raw }
    }
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.began {
            self.bytes.extend_from_slice(bytes);
        }
        for &byte in bytes {
            let lf_of_cr = std::mem::take(&mut self.after_cr) && byte == b'\n';
            match byte {
                b'\n' if lf_of_cr => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    self.end_line();
                }
                _ if self.rest.len() >= MAX_RECORD => self.too_long = true,
                _ => self.rest.push(byte),
            }
        }
    }

    fn end_line(&mut self) {
        self.count += 1;
        let (bytes, too_long) = (std::mem::take(&mut self.rest), std::mem::take(&mut self.too_long));
        self.whole.push_back(Line { number: self.count, bytes, too_long });
    }

    /// The next line; the last one may lack its end.
    pub(super) fn next(&mut self, last: bool) -> Option<Line> {
        self.is_no_json();
        if self.whole.is_empty() && last && (!self.rest.is_empty() || self.too_long) {
            self.end_line();
        }
        self.whole.pop_front()
    }

    /// Only lines are kept from now on.
    pub(super) fn is_no_json(&mut self) {
        self.began = true;
        self.bytes = Vec::new();
    }

    pub(super) fn peek(&mut self, last: bool) -> Option<Line> {
        if self.whole.is_empty() && last && (!self.rest.is_empty() || self.too_long) {
            self.end_line();
        }
        self.whole.front().cloned()
    }

    /// Puts a line back in front.
    fn put_back(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        lines.rev().for_each(|line| self.whole.push_front(line));
    }

    /// The first byte that is no blank space, of what waits.
    pub(super) fn first_byte(&self) -> Option<u8> {
        let first = |bytes: &[u8]| bytes.iter().copied().find(|b| !b.is_ascii_whitespace());
        match self.whole.front() {
            // A blank line is a line.
            Some(line) => Some(first(&line.bytes).unwrap_or(b'\n')),
            None if self.rest.is_empty() && !self.too_long => None,
            None => Some(first(&self.rest).unwrap_or(b' ')),
        }
    }

    /// Drops a byte order mark; refuses that of another encoding.
    pub(super) fn skip_mark(&mut self) -> Result<(), Refusal> {
        let first = match self.whole.front_mut() {
            Some(line) if line.number == 1 => &mut line.bytes,
            None if self.count == 0 => &mut self.rest,
            _ => return Ok(()),
        };
        if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) {
            return Err(Refusal::Utf16);
        }
        if first.starts_with(&[0xef, 0xbb, 0xbf]) {
            first.drain(..3);
            self.bytes.drain(..3.min(self.bytes.len()));
        }
        Ok(())
    }

    /// All that waits, as it came, and the number of its first line.
    pub(super) fn take_all(&mut self) -> (Vec<u8>, u64) {
        let number = self.whole.front().map_or(self.count + 1, |line| line.number);
        let mut all = std::mem::take(&mut self.bytes);
        if all.is_empty() {
            // Lines were taken before: their ends are put back as LF.
            for line in self.whole.drain(..) {
                all.extend_from_slice(&line.bytes);
                all.push(b'\n');
            }
            all.append(&mut self.rest);
        }
        self.whole.clear();
        self.rest.clear();
        self.began = true;
        (all, number)
    }
}

/// A file with columns.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) format: Option<&'static Format>,
    names: Vec<String>,
    delimiter: u8,
    /// Where the addresses are, when no format says so.
    column: Option<usize>,
    core: csv_core::Reader,
}

/// The fields of a record, by their normalised names.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) pairs: Vec<(String, String)>,
    /// Of JSON: it holds an array, and so may be what is around a list.
    pub(super) is_wrapper: bool,
}

impl Fields {
    pub(super) fn of(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.trim())
    }

    pub(super) fn first(&self, names: &[&str]) -> &str {
        names.iter().map(|name| self.of(name)).find(|v| !v.is_empty()).unwrap_or("")
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.pairs.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn reader(delimiter: u8) -> csv_core::Reader {
    csv_core::ReaderBuilder::new().delimiter(delimiter).build()
}

impl Table {
    /// By the first line; whether that is a header.
    pub(super) fn begin(text: &str, options: &Options) -> Result<(Table, bool), Refusal> {
        // The delimiter that gives most columns; quotes need no regard for that.
        let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|d| text.bytes().filter(|b| b == d).count());
        let delimiter = delimiter.filter(|d| text.as_bytes().contains(d)).unwrap_or(b',');
        let mut table = Table { format: None, names: Vec::new(), delimiter, column: None, core: reader(delimiter) };
        let cells = match table.split(&mut [text.as_bytes()].into_iter()) {
            Split::Whole(cells) => cells,
            _ => return Err(Refusal::NoColumn),
        };
        let is_subject = |cell: &String| super::subject(cell, options.hashed).is_ok();
        let by_content = cells.iter().position(is_subject);
        if let Some(at) = by_content {
            // No header: the first line is an entry.
            if let Some(format) = formats::only(&options.format) {
                table.names = format.order.iter().map(|n| (*n).to_owned()).collect();
                table.format = Some(format);
                if table.names.is_empty() {
                    let columns = format.required.join(", ");
                    return Err(Refusal::OtherFormat(format.name.to_owned(), columns));
                }
                return Ok((table, false));
            }
            table.column = Some(match &options.column {
                Some(column) => table.named(column, &[])?,
                None => at,
            });
            return Ok((table, false));
        }
        table.names = cells.iter().map(|c| formats::normalised(c)).collect();
        if let Some(column) = &options.column {
            table.column = Some(table.named(column, &cells)?);
            return Ok((table, true));
        }
        table.format = formats::by_columns(&table.names, options);
        if table.format.is_none() {
            formats::refuse(&table.names, options)?;
            table.column = formats::address_column(&table.names, options.hashed);
        }
        Ok((table, true))
    }

    fn named(&self, column: &str, cells: &[String]) -> Result<usize, Refusal> {
        let wanted = formats::normalised(column);
        let by_name = self.names.iter().position(|n| !n.is_empty() && *n == wanted);
        let by_number = || column.parse::<usize>().ok().filter(|n| (1..=MAX_COLUMNS).contains(n)).map(|n| n - 1);
        by_name.or_else(by_number).ok_or_else(|| Refusal::OtherColumn(column.to_owned(), cells.join(", ")))
    }

    /// The next record: its first line, how many lines it has, and its fields; `Ok(None)` is a blank line.
    #[expect(clippy::type_complexity, reason = "one caller")]
    pub(super) fn next(
        &mut self,
        lines: &mut Lines,
        last: bool,
    ) -> Option<(Line, u64, Result<Option<Vec<String>>, String>)> {
        let mut first = lines.next(last)?;
        if first.too_long {
            let why = "the line is longer than 64 KiB".to_owned();
            return Some((first, 1, Err(why)));
        }
        if first.bytes.trim_ascii().is_empty() || std::str::from_utf8(&first.bytes).is_ok_and(super::is_comment) {
            return Some((first, 1, Ok(None)));
        }
        let mut taken: Vec<Line> = Vec::new();
        loop {
            let all = std::iter::once(&first).chain(&taken).map(|l| l.bytes.as_slice());
            let bytes: usize = all.clone().map(<[u8]>::len).sum();
            match self.split(&mut all.collect::<Vec<_>>().into_iter()) {
                Split::Whole(cells) => {
                    let n = 1 + taken.len() as u64;
                    for line in &taken {
                        first.bytes.push(b'\n');
                        first.bytes.extend_from_slice(&line.bytes);
                    }
                    return Some((first, n, Ok(Some(cells))));
                }
                Split::Wrong(why) => {
                    lines.put_back(taken.into_iter());
                    return Some((first, 1, Err(why)));
                }
                Split::Open => {
                    let more =
                        if bytes > MAX_RECORD || taken.len() >= MAX_LINES { None } else { Some(lines.next(last)) };
                    match more {
                        Some(Some(line)) if !line.too_long => taken.push(line),
                        // The rest of the file may still come.
                        Some(None) if !last => {
                            lines.put_back(std::iter::once(first).chain(taken));
                            return None;
                        }
                        more => {
                            taken.extend(more.flatten());
                            lines.put_back(taken.into_iter());
                            return Some((first, 1, Err("a quote is opened and not closed".to_owned())));
                        }
                    }
                }
            }
        }
    }

    /// The fields of a record that is in these lines.
    fn split(&mut self, lines: &mut dyn Iterator<Item = &[u8]>) -> Split {
        use csv_core::ReadRecordResult;
        self.core = reader(self.delimiter);
        let mut ends = vec![0; MAX_COLUMNS];
        let mut out = Vec::new();
        let (mut written, mut ended) = (0, 0);
        for line in lines {
            out.resize(written + line.len() + 8, 0);
            let line = [line, b"\n"].concat();
            let mut input = line.as_slice();
            loop {
                let (result, read, wrote, n) = self.core.read_record(input, &mut out[written..], &mut ends[ended..]);
                input = &input[read..];
                written += wrote;
                ended += n;
                match result {
                    ReadRecordResult::InputEmpty => break,
                    ReadRecordResult::OutputFull => out.resize(out.len() + 64, 0),
                    ReadRecordResult::OutputEndsFull => return Split::Wrong("too many columns".to_owned()),
                    ReadRecordResult::Record | ReadRecordResult::End => {
                        let mut from = 0;
                        let cells = ends[..ended].iter().map(|end| {
                            let cell = out.get(from..*end).map(|cell| std::str::from_utf8(cell).map(str::to_owned));
                            from = *end;
                            cell
                        });
                        return match cells.collect::<Option<Result<Vec<String>, _>>>() {
                            Some(Ok(cells)) => Split::Whole(cells),
                            _ => Split::Wrong("the line is not UTF-8".to_owned()),
                        };
                    }
                }
            }
        }
        Split::Open
    }

    /// Where neither format nor header told the column of the addresses, the first record does.
    pub(super) fn settle(&mut self, cells: &[String]) -> Result<Option<String>, Refusal> {
        if self.format.is_some() || self.column.is_some() {
            return Ok(None);
        }
        let is_subject = |cell: &String| super::subject(cell, false).is_ok();
        match cells.iter().position(is_subject) {
            Some(at) => {
                self.column = Some(at);
                Ok(None)
            }
            None => Err(Refusal::NoColumn),
        }
    }

    /// What the format makes of the fields.
    pub(super) fn map(&self, cells: &[String], options: &Options) -> Mapped {
        let mut fields = Fields::default();
        for (at, cell) in cells.iter().enumerate() {
            let name = self.names.get(at).cloned().unwrap_or_default();
            let is_address = self.format.is_none() && self.column == Some(at);
            fields.pairs.push((if is_address { "subject".to_owned() } else { name }, cell.clone()));
        }
        match self.format {
            Some(format) => formats::map(format, &fields, options),
            None => formats::map_plain(&fields, options),
        }
    }
}

enum Split {
    Whole(Vec<String>),
    /// A quote is open.
    Open,
    Wrong(String),
}
