//! Imports: lists that an operator brings in, each under a number by which it can be taken back.
//!
//! A row of the facts says of each how many records of its file have been passed. It changes in the transaction that
//! writes their entries: an import that was killed goes on behind the last record that is durable, and none is
//! entered twice or left out.

use serde::{Deserialize, Serialize};

use super::batch::next_number;
use super::book::{self, Change, Line};
use super::operate::{SuppressError, folded};
use super::{Entry, Key, Source, SubjectKey, Suppression};
use crate::event::{Scope, Time};
use crate::store::{Store, StoreError, SuppressTable, Tables, Tx};

/// What the rows of imports begin with; the number follows.
const ROWS: &[u8] = b"import/";

/// What is known of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    /// Its number.
    pub batch: u32,
    /// What the same import begun again has in common with the first time.
    pub identity: String,
    /// The file, in words.
    pub name: String,
    /// The format.
    pub format: String,
    /// Why.
    pub reason: String,
    /// Who brought it.
    pub who: String,
    /// When it began: microseconds since 1970.
    pub begun: i64,
    /// When it ended; 0 while it has not.
    pub ended: i64,
    /// Records passed.
    pub done: u64,
    /// Entries made.
    pub entered: u64,
    /// Of them, subjects that an operator had taken off before.
    pub reentered: u64,
    /// Rows whose subject was on the list already.
    pub already: u64,
    /// Records that are on no list.
    pub skipped: u64,
    /// Records that could not be read.
    pub rejected: u64,
}

/// Why rows are not taken.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// No such import.
    #[error("there is no import {0}, or it has ended: begin it again")]
    NotOpen(u32),
    /// Rows before these are missing, or some of these were passed already.
    #[error(
        "the rows begin behind record {from}, but {done} records have been passed: begin the import again to go on"
    )]
    Gap {
        /// Where the rows begin.
        from: u64,
        /// How many were passed.
        done: u64,
    },
    /// Everything else.
    #[error(transparent)]
    List(#[from] SuppressError),
}

impl From<StoreError> for BatchError {
    fn from(e: StoreError) -> BatchError {
        BatchError::List(e.into())
    }
}

/// A subject to be entered, folded, or its hash; and its entry, whose subject is filled in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Whom it is about.
    pub subject: NewSubject,
    /// Everything else of it.
    pub entry: Entry,
}

/// Whom a row of an import is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewSubject {
    /// `local@domain` or `@domain`; anything else is refused for the whole piece.
    Text(String),
    /// The hash of one.
    Hash(SubjectKey),
}

fn row_key(batch: u32) -> Vec<u8> {
    [ROWS, &batch.to_be_bytes()].concat()
}

fn write(tx: &mut Tx<'_>, batch: &Batch) {
    // Text and numbers: this does not fail.
    let row = serde_json::to_vec(batch).unwrap_or_default();
    tx.put_suppress_row(SuppressTable::Facts, &row_key(batch.batch), row);
}

fn read(tx: &mut Tx<'_>, batch: u32) -> Result<Option<Batch>, StoreError> {
    let row = tx.suppress_row(SuppressTable::Facts, &row_key(batch))?;
    Ok(row.and_then(|row| serde_json::from_slice(&row).ok()))
}

/// All imports, in the order of their numbers.
pub fn all(tables: &Tables) -> Result<Vec<Batch>, StoreError> {
    let mut found = Vec::new();
    tables.for_each_suppress_row(SuppressTable::Facts, ROWS, &mut |key, row| {
        let is_import = key.starts_with(ROWS);
        found.extend(is_import.then(|| serde_json::from_slice(row).ok()).flatten());
        is_import
    })?;
    Ok(found)
}

/// Begins an import, or goes on with the one of the same identity that has not ended, unless it is to begin `anew`.
pub fn begin(store: &Store, new: Batch, anew: bool, now: Time) -> Result<Batch, StoreError> {
    let tables = store.suppression();
    let open = all(tables)?.into_iter().rfind(|b| b.ended == 0 && b.identity == new.identity && !anew);
    if let Some(open) = open {
        return Ok(open);
    }
    tables.write(|tx| {
        let number = next_number(tx)?;
        let batch = Batch { batch: number, begun: now.0, ended: 0, done: 0, ..new };
        write(tx, &batch);
        Ok(batch)
    })
}

/// Enters the rows that stand for `records` records of the file behind the first `from`. Rows that were passed already
/// change nothing, so that a request whose answer was lost may be sent again.
pub fn enter(
    list: &Suppression,
    store: &Store,
    (number, from, records): (u32, u64, u64),
    rows: &[NewEntry],
    now: Time,
) -> Result<Batch, BatchError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows {
        let (subject, text) = match &row.subject {
            NewSubject::Hash(hash) => (*hash, String::new()),
            NewSubject::Text(text) => {
                let folded = folded(text)?;
                (list.hasher().subject(&folded), folded)
            }
        };
        let entry = Entry { source: Source::Import, subject: text.into(), batch: number, ..row.entry.clone() };
        keyed.push((subject.in_scope(&entry.scope), entry));
    }
    let mut refused = None;
    let (batch, entered) = store.suppression().write(|tx| {
        let Some(mut batch) = read(tx, number)?.filter(|b| b.ended == 0) else {
            refused = Some(BatchError::NotOpen(number));
            return Ok((Batch::default(), Vec::new()));
        };
        if from.saturating_add(records) <= batch.done {
            return Ok((batch, Vec::new()));
        }
        if from != batch.done {
            refused = Some(BatchError::Gap { from, done: batch.done });
            return Ok((batch, Vec::new()));
        }
        let entered = enter_all(tx, &keyed, &mut batch, now)?;
        batch.done += records;
        write(tx, &batch);
        Ok((batch, entered))
    })?;
    if let Some(refused) = refused {
        return Err(refused);
    }
    for at in entered {
        let (key, entry) = &keyed[at];
        list.apply(key, entry);
    }
    Ok(batch)
}

/// The one place where rows of an import become entries; which of them did.
fn enter_all(tx: &mut Tx<'_>, rows: &[(Key, Entry)], batch: &mut Batch, now: Time) -> Result<Vec<usize>, StoreError> {
    let mut entered = Vec::with_capacity(rows.len());
    for (at, (key, entry)) in rows.iter().enumerate() {
        match book::find(tx, key)? {
            Some(there) if there.is_active() && !there.is_expired(now) => {
                batch.already += 1;
                continue;
            }
            Some(there) => batch.reentered += u64::from(!there.is_active()),
            None => {}
        }
        book::put_silently(tx, key, entry)?;
        batch.entered += 1;
        entered.push(at);
    }
    Ok(entered)
}

/// Ends an import, with the one line of history that there is of it.
pub fn end(store: &Store, number: u32, skipped: u64, rejected: u64, now: Time) -> Result<Batch, BatchError> {
    let ended = store.suppression().write(|tx| {
        let Some(mut batch) = read(tx, number)? else { return Ok(None) };
        if batch.ended != 0 {
            return Ok(Some(batch));
        }
        (batch.ended, batch.skipped, batch.rejected) = (now.0, skipped, rejected);
        let line = Line {
            time: now,
            change: Change::Import,
            key: None,
            subject: "".into(),
            scope: Scope::global(),
            who: batch.who.as_str().into(),
            provider: "".into(),
            why: format!("batch {number}: {} entries from {}: {}", batch.entered, batch.name, batch.reason).into(),
        };
        book::write_line(tx, &line)?;
        write(tx, &batch);
        Ok(Some(batch))
    })?;
    ended.ok_or(BatchError::NotOpen(number))
}
