//! One record of an accounting file, by the columns that were asked for; the same to its reader whatever the file.

use arrow::array::{Array, BooleanArray, Int64Array, ListArray, MapArray, StringArray, TimestampMicrosecondArray};
use csv::ByteRecord;

use super::{names, times};
use crate::event::{Kind, Time};

/// A record. Cells are numbered as the columns were asked for.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r> {
    cells: Cells<'r>,
    source: &'r str,
    line: u64,
}

#[derive(Debug, Clone, Copy)]
enum Cells<'r> {
    Csv(&'r ByteRecord, &'r [Option<usize>]),
    Arrow(&'r [Column], usize),
}

/// One cell.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'r> {
    /// The file has no such column, or nothing in it. (CSV can't tell nothing from empty text.)
    Absent,
    /// Text; everything in CSV.
    Text(&'r str),
    /// A time.
    Time(Time),
    /// A number.
    Number(i64),
    /// Yes or no.
    Bool(bool),
    /// Words.
    List(Words<'r>),
    /// Names and values.
    Pairs(PairList<'r>),
}

/// Words of a list cell.
#[derive(Debug, Clone, Copy)]
pub struct Words<'r>(&'r StringArray, usize, usize);

impl<'r> Words<'r> {
    /// The words in order.
    pub fn iter(self) -> impl Iterator<Item = &'r str> {
        (self.1..self.2).filter(move |i| self.0.is_valid(*i)).map(move |i| self.0.value(i))
    }
}

/// Names and values of a map cell.
#[derive(Debug, Clone, Copy)]
pub struct PairList<'r>(&'r StringArray, &'r StringArray, usize, usize);

impl<'r> PairList<'r> {
    /// Names and values in order.
    pub fn iter(self) -> impl Iterator<Item = (&'r str, &'r str)> {
        (self.2..self.3).map(move |i| (self.0.value(i), if self.1.is_valid(i) { self.1.value(i) } else { "" }))
    }
}

/// A column of a Parquet batch.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Absent,
    Text(StringArray),
    Time(TimestampMicrosecondArray),
    Number(Int64Array),
    Bool(BooleanArray),
    List(ListArray),
    Pairs(MapArray),
    /// One value of a map, by its name.
    Member(MapArray, String),
}

impl Column {
    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Column::Text(a) if a.is_valid(row) => Cell::Text(a.value(row)),
            Column::Time(a) if a.is_valid(row) => Cell::Time(Time(a.value(row))),
            Column::Number(a) if a.is_valid(row) => Cell::Number(a.value(row)),
            Column::Bool(a) if a.is_valid(row) => Cell::Bool(a.value(row)),
            Column::List(a) if a.is_valid(row) => match a.values().as_any().downcast_ref::<StringArray>() {
                Some(words) => {
                    Cell::List(Words(words, offset(a.value_offsets(), row), offset(a.value_offsets(), row + 1)))
                }
                None => Cell::Absent,
            },
            Column::Pairs(a) if a.is_valid(row) => pairs(a, row).map_or(Cell::Absent, Cell::Pairs),
            Column::Member(a, name) if a.is_valid(row) => pairs(a, row)
                .and_then(|p| p.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)))
                .map_or(Cell::Absent, |(_, value)| Cell::Text(value)),
            _ => Cell::Absent,
        }
    }
}

fn offset(offsets: &[i32], at: usize) -> usize {
    usize::try_from(offsets[at]).unwrap_or(0)
}

fn pairs(a: &MapArray, row: usize) -> Option<PairList<'_>> {
    let keys = a.keys().as_any().downcast_ref()?;
    let values = a.values().as_any().downcast_ref()?;
    Some(PairList(keys, values, offset(a.value_offsets(), row), offset(a.value_offsets(), row + 1)))
}

impl<'r> Row<'r> {
    pub(super) const fn of_csv(
        record: &'r ByteRecord,
        places: &'r [Option<usize>],
        source: &'r str,
        line: u64,
    ) -> Row<'r> {
        Row { cells: Cells::Csv(record, places), source, line }
    }

    pub(super) const fn of_batch(columns: &'r [Column], row: usize, source: &'r str, line: u64) -> Row<'r> {
        Row { cells: Cells::Arrow(columns, row), source, line }
    }

    /// The file it stands in.
    pub const fn source(&self) -> &'r str {
        self.source
    }

    /// Its line in a CSV file, from 1 (the header line); in Parquet the number of the row, from 1.
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// The cell of the column that was asked for as number `column`.
    pub fn cell(&self, column: usize) -> Cell<'r> {
        match self.cells {
            Cells::Csv(record, places) => {
                // The reader has made sure that it is UTF-8.
                let text = places[column].and_then(|p| record.get(p)).and_then(|b| std::str::from_utf8(b).ok());
                text.filter(|t| !t.is_empty()).map_or(Cell::Absent, Cell::Text)
            }
            Cells::Arrow(columns, row) => columns[column].cell(row),
        }
    }

    /// The text of a column that holds text in every kind of file (most do); empty when there is none.
    pub fn str(&self, column: usize) -> &'r str {
        if let Cell::Text(text) = self.cell(column) { text } else { "" }
    }

    /// A time, as a number or in any spelling of [`times::parse`].
    pub fn time(&self, column: usize) -> Option<Time> {
        match self.cell(column) {
            Cell::Time(t) => Some(t),
            Cell::Number(n) => Some(Time::from_secs(n)),
            Cell::Text(text) => times::parse(text),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, column: usize) -> Option<i64> {
        match self.cell(column) {
            Cell::Number(n) => Some(n),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The record type in the column asked for as number `column`.
    pub fn kind(&self, column: usize) -> Option<Kind> {
        names::kind(self.str(column))
    }

    /// The cell as text at the end of `out`: times in UTC as `YYYY-MM-DD HH:MM:SS+0000`, lists with commas, pairs as
    /// lines `NAME: VALUE`; CSV cells as they stand.
    pub fn push_text(&self, column: usize, out: &mut String) {
        self.cell(column).push_text(out);
    }
}

impl Cell<'_> {
    /// See [`Row::push_text`].
    pub fn push_text(self, out: &mut String) {
        use std::fmt::Write as _;
        // Writing to a String does not fail.
        let _ = match self {
            Cell::Absent => Ok(()),
            Cell::Text(text) => {
                out.push_str(text);
                Ok(())
            }
            Cell::Time(t) => write!(out, "{}", t.timestamp().unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S%z")),
            Cell::Number(n) => write!(out, "{n}"),
            Cell::Bool(b) => write!(out, "{b}"),
            Cell::List(words) => {
                words.iter().enumerate().try_for_each(|(i, w)| write!(out, "{}{w}", if i > 0 { "," } else { "" }))
            }
            Cell::Pairs(pairs) => pairs
                .iter()
                .enumerate()
                .try_for_each(|(i, (n, v))| write!(out, "{}{n}: {v}", if i > 0 { "\n" } else { "" })),
        };
    }
}
