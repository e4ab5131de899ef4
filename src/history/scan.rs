//! Rows of many files as one stream, by column name.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use carom::history::{Scan, expand};
//!
//! let inputs = expand(&["/var/log/carom/acct"])?;
//! let scan = Scan::new(&["type", "rcpt", "dsnDiag"]).required(&["dsnDiag"]);
//! let report = scan.run(&inputs, &mut |_bytes| {}, &mut |row| {
//!     println!("{} {} {}", row.str(0), row.str(1), row.str(2));
//!     ControlFlow::Continue(())
//! });
//! println!("{} rows, {} of them unreadable", report.rows, report.bad);
//! # Ok::<(), carom::history::HistoryError>(())
//! ```

use std::ops::ControlFlow;

use super::inputs::{self, Input, Opened};
use super::row::Row;
use super::{HistoryError, names, read_csv, read_parquet};
use crate::event::Time;

/// Bad rows that are named in a [`Report`]; all are counted.
pub const NAMED_BAD_ROWS: usize = 20;

/// What is wanted from the files.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Canonical names; cells are numbered in this order.
    pub(super) columns: Vec<String>,
    pub(super) required: Vec<String>,
    pub(super) since: Option<Time>,
    pub(super) until: Option<Time>,
    pub(super) only: Option<Only>,
    /// Where `timeLogged` stands among the columns, when a range of time is asked for.
    pub(super) time_at: Option<usize>,
    /// How many of the columns the caller knows of; the rest serve the selection.
    pub(super) asked: usize,
}

/// A selection by equality.
#[derive(Debug, Clone)]
pub(super) struct Only {
    pub column: String,
    pub at: usize,
    pub values: Vec<String>,
    pub prune: bool,
}

/// What a scan found besides the rows.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows that were given out.
    pub rows: u64,
    /// Files read to their end.
    pub files: u64,
    /// Rows that could not be read and were left out.
    pub bad: u64,
    /// The first of them, as `file:line: why`.
    pub bad_rows: Vec<String>,
    /// Rows left out because a range of time was asked for and they have no time.
    pub untimed: u64,
    /// Row groups of Parquet files that were read, and those that their statistics or filters excluded.
    pub row_groups: (u64, u64),
    /// Files that could not be read, or not to their end; what they had before was given out.
    pub failed: Vec<HistoryError>,
}

impl Report {
    pub(super) fn bad_row(&mut self, source: &str, line: u64, why: &dyn std::fmt::Display) {
        self.bad += 1;
        if self.bad_rows.len() < NAMED_BAD_ROWS {
            self.bad_rows.push(format!("{source}:{line}: {why}"));
        }
    }
}

impl Scan {
    /// Rows with these columns, named in any way [`names::canonical`] knows; `header_NAME` is found in CSV columns and
    /// in Parquet's `headers`. A column that a file lacks is [`Absent`](super::Cell::Absent).
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Scan {
        let columns: Vec<_> = columns.iter().map(|c| names::canonical(c.as_ref())).collect();
        Scan { asked: columns.len(), columns, ..Scan::default() }
    }

    /// A file that has none of one of these is refused.
    #[must_use]
    pub fn required(mut self, columns: &[&str]) -> Scan {
        self.required = columns.iter().map(|c| names::canonical(c)).collect();
        self
    }

    /// Only rows logged at `since` or later and before `until`; row groups outside are not read.
    #[must_use]
    pub fn between(mut self, since: Option<Time>, until: Option<Time>) -> Scan {
        if since.is_some() || until.is_some() {
            self.time_at = Some(self.place("timeLogged"));
        }
        (self.since, self.until) = (since, until);
        self
    }

    /// Only rows whose `column` (text) is one of `values`, whatever the case. `prune` leaves out row groups whose bloom
    /// filter or statistics know none of the values just as they are spelt here.
    #[must_use]
    pub fn only(mut self, column: &str, values: &[String], prune: bool) -> Scan {
        let column = names::canonical(column);
        let at = self.place(&column);
        self.only = Some(Only { column, at, values: values.to_vec(), prune });
        self
    }

    fn place(&mut self, column: &str) -> usize {
        self.columns.iter().position(|c| names::same(c, column)).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        })
    }

    /// The columns as they will be numbered, under their canonical names.
    pub fn columns(&self) -> &[String] {
        &self.columns[..self.asked]
    }

    /// Gives every row of `inputs` to `each`, in order, until it breaks off. `progress` hears how many bytes of the files
    /// are done with. Memory does not grow with the files; Parquet is decoded on a thread of its own.
    pub fn run(
        &self,
        inputs: &[Input],
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Report {
        let mut report = Report::default();
        for input in inputs {
            match self.one(input, progress, each, &mut report) {
                Ok(ControlFlow::Continue(())) => report.files += 1,
                Ok(ControlFlow::Break(())) => break,
                Err(why) => report.failed.push(HistoryError { path: input.path().to_owned(), why }),
            }
        }
        report
    }

    fn one(
        &self,
        input: &Input,
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
        report: &mut Report,
    ) -> Result<ControlFlow<()>, String> {
        let read = std::rc::Rc::new(std::cell::Cell::new(0));
        let counter = std::rc::Rc::clone(&read);
        let source = input.name();
        let opened = inputs::open(input, move |n| counter.set(counter.get() + n)).map_err(|e| e.to_string())?;
        match opened {
            Opened::Csv(from) => read_csv::scan(self, from, &source, &mut || progress(read.take()), each, report),
            Opened::Parquet(file) => read_parquet::scan(self, file, &source, progress, each, report),
        }
    }

    /// Gives the row out if it is selected.
    pub(super) fn offer(
        &self,
        row: &Row<'_>,
        report: &mut Report,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some(at) = self.time_at {
            let Some(time) = row.time(at) else {
                report.untimed += 1;
                return ControlFlow::Continue(());
            };
            if self.since.is_some_and(|s| time < s) || self.until.is_some_and(|u| time >= u) {
                return ControlFlow::Continue(());
            }
        }
        if let Some(only) = &self.only {
            let text = row.str(only.at);
            if !only.values.iter().any(|v| v.eq_ignore_ascii_case(text)) {
                return ControlFlow::Continue(());
            }
        }
        report.rows += 1;
        each(row)
    }
}
