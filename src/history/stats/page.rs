//! What a run of statistics shows, apart from how: facts and tables, for text, HTML and JSON alike.

use crate::event::Time;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// Words.
    Text(String),
    /// A number of things.
    Count(u64),
    /// Hundredths.
    Percent(f64),
    /// A time span in seconds.
    Seconds(f64),
    /// Kilobytes of 1024 bytes.
    Kb(f64),
    /// A point in time.
    Time(Time),
    /// There is none.
    NotAvailable,
}

impl From<&str> for Datum {
    fn from(s: &str) -> Datum {
        Datum::Text(s.to_owned())
    }
}

/// Share of `part` in `whole`.
pub fn percent(part: u64, whole: u64) -> Datum {
    if whole == 0 { Datum::NotAvailable } else { Datum::Percent(part as f64 * 100.0 / whole as f64) }
}

/// Kilobytes of these bytes.
pub fn kb(bytes: u64) -> Datum {
    Datum::Kb(bytes as f64 / 1024.0)
}

/// A titled table. A block of facts is a table of two columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// In JSON.
    pub key: &'static str,
    /// Headings, which are also names in JSON.
    pub columns: Vec<&'static str>,
    /// Cells, as many as columns.
    pub rows: Vec<Vec<Datum>>,
    /// The column that bars are drawn of in HTML.
    pub bars: Option<usize>,
    /// What is to be known about the figures.
    pub notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(key: &'static str, title: impl Into<String>, columns: &[&'static str]) -> Table {
        Table { title: title.into(), key, columns: columns.to_vec(), rows: Vec::new(), bars: None, notes: Vec::new() }
    }

    /// With bars for this column.
    #[must_use]
    pub fn bars(mut self, column: usize) -> Table {
        self.bars = Some(column);
        self
    }
}

/// One statistic over one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its tables.
    pub tables: Vec<Table>,
}

/// The records of one value of what was split by; all of them when nothing was.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The value; `None` when nothing was split.
    pub name: Option<String>,
    /// The Time Frame block.
    pub frame: Table,
    /// The statistics in the order they were asked for.
    pub sections: Vec<Section>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was selected: name and value.
    pub selection: Vec<(String, String)>,
    /// What was split by.
    pub split_by: Option<String>,
    /// The groups, the largest first.
    pub groups: Vec<Group>,
    /// What is the same for all groups (top-rates).
    pub global: Vec<Section>,
    /// What is to be known about the whole.
    pub notes: Vec<String>,
}
