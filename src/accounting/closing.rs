//! What an output remembers in the store, and the order of steps by which a file ends without losing or doubling a
//! record.
//!
//! The row of an output holds its cursor (the first sequence number that is not yet safely in a file) and this state.
//! The ledger keeps everything from the cursor on, so whatever is not named here can be written again.
//!
//! **Parquet.** A file covers the range `first..=last`; the ranges of an output's files follow each other without gaps.
//! 1. commit `open`: the name is known before the file exists, so that no unfinished file is ever forgotten;
//! 2. write `.NAME.inprogress`; at the end its footer; sync it;
//! 3. commit `closing`: name, range, rows. The cursor still stands at the first record;
//! 4. rename it to its final name, sync the folder;
//! 5. commit the cursor behind `last`, and nothing open.
//!
//! Found at start: nothing open, go on at the cursor; `open`, remove the file and write it again from the cursor, the
//! same records under the same name; `closing`, adopt the file under either name if it is whole and covers the range,
//! else write exactly that range again.
//!
//! **CSV.** A file only grows: append, sync, commit length and cursor. What stands behind the committed length is a
//! remainder: the rows after the cursor are derived again and compared with it; what is the same stays, and where it
//! differs it is cut off. To end a file: sync, commit `closing` with the cursor behind its last record, move it, sync the
//! folders, commit nothing open. Its records are behind the cursor, so all that can be left to do is the move.

use serde::{Deserialize, Serialize};

use crate::event::Kinds;

/// Version of the state as it is kept; newer code reads older.
const VERSION: u32 = 1;

/// The state of an output, beside its cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// By format.
    #[serde(flatten)]
    pub files: Files,
    /// Which record types were selected from which sequence number on, oldest first, so that a record left out can be
    /// told from a lost one.
    pub selected: Vec<Selected>,
    /// What was left out because the output lagged (`on-lag skip`), oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The `queue-filter` in force, as text; part of what [`State::select`] notes.
    #[serde(skip)]
    pub queues: String,
}

/// Events that an output left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When it was decided, in microseconds since the epoch.
    pub at: i64,
    /// Whoever reads the output has been told.
    #[serde(default)]
    pub told: bool,
    /// Why; empty: the output lagged.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Gap {
    /// For whoever reads the output.
    pub fn words(&self) -> String {
        let why = if self.why.is_empty() { "the output lagged" } else { &self.why };
        if self.first == self.last {
            return format!("event {} was left out: {why}", self.first);
        }
        format!("events {} to {} were left out: {why}", self.first, self.last)
    }
}

/// The files of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "format")]
pub enum Files {
    /// CSV files.
    Csv(CsvState),
    /// Parquet files.
    Parquet(ParquetState),
    /// A program, or whatever else records are handed to.
    Push(PushState),
}

/// What an output that has no files remembers besides its cursor: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushState {}

/// A filter and since when it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// First sequence number it was applied to.
    pub from: u64,
    /// Names of the record types, comma separated.
    pub records: String,
}

/// The CSV file of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvState {
    /// The file that grows.
    pub open: Option<CsvOpen>,
    /// A file that is complete and being moved.
    pub closing: Option<CsvClosing>,
    /// Local date of the newest file, and the number for the next one of that day.
    pub day: String,
    /// See `day`.
    pub next_number: u32,
    /// The same of the days before, so that a clock that was put back does not use a number again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<(String, u32)>,
}

impl CsvState {
    /// The first number of `day` that was never given to a file.
    pub fn number_of(&self, day: &str) -> u32 {
        let earlier = || self.earlier.iter().find(|(d, _)| d == day).map_or(0, |(_, n)| *n);
        if self.day == day { self.next_number } else { earlier() }
    }

    /// Notes that number `n` of `day` is given to a file.
    pub fn number_given(&mut self, day: String, n: u32) {
        /// Days remembered.
        const DAYS: usize = 31;
        if self.day != day {
            let before = (std::mem::take(&mut self.day), self.next_number);
            self.earlier.retain(|(d, _)| *d != day && *d != before.0);
            if !before.0.is_empty() {
                self.earlier.push(before);
            }
            if self.earlier.len() > DAYS {
                self.earlier.remove(0);
            }
            self.day = day;
        }
        self.next_number = n + 1;
    }
}

/// A CSV file that grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvOpen {
    /// Its name in the folder of the configured path.
    pub name: String,
    /// Synced bytes that hold all records before the cursor.
    pub length: u64,
    /// Records in them.
    pub rows: u64,
    /// First sequence number it covers.
    pub first: u64,
    /// Its header line: another one needs another file.
    pub header: String,
    /// What else decides how its records look; likewise. Empty in a state of before it was kept.
    #[serde(default)]
    pub layout: String,
    /// When it was created, in microseconds since the epoch.
    pub created: i64,
}

/// A complete CSV file on its way to `move-to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvClosing {
    /// Where it was written.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// The range it covers.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Records in it.
    pub rows: u64,
    /// Its length.
    pub length: u64,
}

/// The Parquet file of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParquetState {
    /// First sequence number that no file's range covers yet. The cursor may be further: nothing between was selected.
    pub since: u64,
    /// Name (below the configured path's folder) of the file that is being written.
    pub open: Option<String>,
    /// A file that is written and synced, and is being renamed.
    pub closing: Option<ParquetClosing>,
}

/// A complete Parquet file before its rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParquetClosing {
    /// Its final name, below the configured path's folder.
    pub name: String,
    /// The range it covers.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Records in it.
    pub rows: u64,
}

/// The kept state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not written by us.
    #[error(
        "the kept state of the output is damaged ({0}); remove the acct-file from the configuration and reload to begin anew"
    )]
    Damaged(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("the kept state of the output has version {0}; this carom knows up to {VERSION}: use a newer one")]
    Newer(u32),
}

impl State {
    /// Of a new output.
    pub fn new(files: Files) -> State {
        State { version: VERSION, files, selected: Vec::new(), gaps: Vec::new(), queues: String::new() }
    }

    /// As it is kept: JSON, so that an operator can read it.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers only: this can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`State::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<State, StateError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes)?;
        if version > VERSION {
            return Err(StateError::Newer(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Notes that events were left out.
    pub fn left_out(&mut self, gap: Gap) {
        /// Gaps remembered.
        const REMEMBERED: usize = 64;
        match self.gaps.last_mut() {
            Some(last) if last.last + 1 == gap.first && !last.told && last.why == gap.why => last.last = gap.last,
            _ => self.gaps.push(gap),
        }
        if self.gaps.len() > REMEMBERED {
            self.gaps.remove(0);
        }
    }

    /// Notes that from `seq` on these record types are selected. True when they were others before.
    pub fn select(&mut self, seq: u64, records: Kinds) -> bool {
        /// Changes remembered; an operator makes few.
        const REMEMBERED: usize = 64;
        let mut records = records.iter().map(|k| k.name()).collect::<Vec<_>>().join(",");
        if !self.queues.is_empty() {
            records = format!("{records} queue-filter {}", self.queues);
        }
        match self.selected.last() {
            Some(last) if last.records == records => return false,
            _ => self.selected.push(Selected { from: seq, records }),
        }
        if self.selected.len() > REMEMBERED {
            self.selected.remove(0);
        }
        self.selected.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    #[test]
    fn a_state_reads_back_and_a_newer_one_is_refused() {
        let mut s = State::new(Files::Parquet(ParquetState { since: 7, open: Some("x".into()), closing: None }));
        assert!(!s.select(7, Kinds::of(&[Kind::Delivered])));
        assert!(!s.select(8, Kinds::of(&[Kind::Delivered])));
        assert!(s.select(9, Kinds::ALL));
        assert_eq!(s.selected.len(), 2);
        assert_eq!(State::decode(&s.encode()).unwrap(), s);
        assert!(matches!(State::decode(br#"{"version":2}"#), Err(StateError::Newer(2))));
        assert!(matches!(State::decode(b""), Err(StateError::Damaged(_))));
        let csv = State::new(Files::Csv(CsvState::default()));
        assert_eq!(State::decode(&csv.encode()).unwrap(), csv);
    }
}
