//! What is kept of each import beside its entries: who brought what in, and how far it has come.

use serde::{Deserialize, Serialize};

use crate::store::{StoreError, SuppressTable, Tables, Tx};

/// Row of the facts with the number of the last import.
const LAST: &[u8] = b"batches";
/// Rows of the imports begin with this; their number follows, big-endian. The value is JSON.
const PREFIX: &[u8] = b"batch ";

/// An import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The file's name.
    pub name: Box<str>,
    /// Who brought it in.
    pub who: Box<str>,
    /// Why.
    pub why: Box<str>,
    /// When it began, in microseconds since 1970.
    pub began: i64,
    /// How far it is.
    pub phase: Phase,
    /// Rows read.
    pub rows: u64,
    /// Rows merged.
    pub merged: u64,
    /// Entries made.
    pub entered: u64,
    /// Rows whose subject was on the list.
    pub kept: u64,
    /// Rows that came more than once.
    pub doubles: u64,
    /// Records that are on no list.
    #[serde(default)]
    pub skipped: u64,
    /// Records that could not be read.
    #[serde(default)]
    pub rejected: u64,
    /// Entries taken back.
    pub undone: u64,
    /// Where merging goes on: work file, byte in it.
    pub(super) at: (u16, u64),
}

/// How far an import is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its rows are read; nothing is entered.
    #[default]
    Reading,
    /// Its rows are entered.
    Merging,
    /// All is in.
    Done,
    /// It was given up, or killed, before anything was entered.
    Abandoned,
    /// It was taken back, or is being.
    Undone,
}

/// The number of a new import, of either kind: a list's rows name it, so no two have the same.
pub(super) fn next_number(tx: &mut Tx<'_>) -> Result<u32, StoreError> {
    let last = tx.suppress_row(SuppressTable::Facts, LAST)?.and_then(|row| row.try_into().ok());
    let number = last.map_or(0, u32::from_le_bytes).wrapping_add(1).max(1);
    tx.put_suppress_row(SuppressTable::Facts, LAST, number.to_le_bytes().to_vec());
    Ok(number)
}

/// Gives a new one its number.
pub(super) fn begin(tables: &Tables, standing: &Standing) -> Result<u32, StoreError> {
    tables.write(|tx| {
        let number = next_number(tx)?;
        put_row(tx, number, standing)?;
        Ok(number)
    })
}

/// Notes how one stands.
pub(super) fn put(tables: &Tables, number: u32, standing: &Standing) -> Result<(), StoreError> {
    tables.write(|tx| put_row(tx, number, standing))
}

pub(super) fn put_row(tx: &mut Tx<'_>, number: u32, standing: &Standing) -> Result<(), StoreError> {
    let row = serde_json::to_vec(standing).map_err(StoreError::other)?;
    tx.put_suppress_row(SuppressTable::Facts, &key(number), row);
    Ok(())
}

/// How one stands.
pub fn find(tables: &Tables, number: u32) -> Result<Option<Standing>, StoreError> {
    let row = tables.suppress_row(SuppressTable::Facts, &key(number))?;
    row.map(|row| read(&row)).transpose()
}

/// All of them, by number.
pub fn all(tables: &Tables) -> Result<Vec<(u32, Standing)>, StoreError> {
    let (mut all, mut bad) = (Vec::new(), None);
    tables.for_each_suppress_row(SuppressTable::Facts, PREFIX, &mut |key, row| {
        let Some(number) = key.strip_prefix(PREFIX) else { return false };
        // "batches" is none of them.
        if let Ok(number) = number.try_into().map(u32::from_be_bytes) {
            match read(row) {
                Ok(standing) => all.push((number, standing)),
                Err(e) => bad = Some(e),
            }
        }
        bad.is_none()
    })?;
    bad.map_or(Ok(all), Err)
}

fn read(row: &[u8]) -> Result<Standing, StoreError> {
    serde_json::from_slice(row).map_err(|e| StoreError::other(format_args!("damaged row of an import: {e}")))
}

fn key(number: u32) -> Vec<u8> {
    [PREFIX, &number.to_be_bytes()].concat()
}
