//! File `suppress.redb`: the suppression list and what belongs to it. Keys and values are those of the room `suppress`; this
//! file only says which table a row stands in.
//!
//! It is a file of its own, so that a large import blocks none of the other consumers, and holds the cursor of the
//! suppression consumer, so that effects and cursor are one transaction.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressTable {
    /// Entries, by key.
    Entries,
    /// Which entries end when: time and key.
    Expiries,
    /// What was done, by time.
    History,
    /// Failures counted so far, by rule and key.
    Strikes,
    /// Counts, imports under way, the circuit breaker's memory.
    Facts,
    /// Entries that no filter knows yet, by key.
    Fresh,
    /// The filters in front of the entries, by shard.
    Filters,
}

impl SuppressTable {
    pub(super) fn table(self) -> Table {
        match self {
            SuppressTable::Entries => Table::Entries,
            SuppressTable::Expiries => Table::Expiries,
            SuppressTable::History => Table::History,
            SuppressTable::Strikes => Table::Strikes,
            SuppressTable::Facts => Table::Facts,
            SuppressTable::Fresh => Table::Fresh,
            SuppressTable::Filters => Table::Filters,
        }
    }
}

impl Tables {
    /// A row of the suppression list's file.
    pub fn suppress_row(&self, table: SuppressTable, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.find(table.table(), key)
    }

    /// Calls `f` with each row from `from` on until it returns `false`.
    pub fn for_each_suppress_row(
        &self,
        table: SuppressTable,
        from: &[u8],
        f: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.for_each(table.table(), from, f)
    }

    /// Calls `f` with each entry from `from` on until it returns `false`.
    pub fn for_each_entry(&self, from: &[u8], f: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        self.for_each_suppress_row(SuppressTable::Entries, from, f)
    }
}

impl Tx<'_> {
    /// A row of the suppression list's file, as this transaction sees it.
    pub fn suppress_row(&mut self, table: SuppressTable, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.find(table.table(), key)
    }

    /// Sets a row.
    pub fn put_suppress_row(&mut self, table: SuppressTable, key: &[u8], row: Vec<u8>) {
        self.put(table.table(), key, row);
    }

    /// Removes a row.
    pub fn remove_suppress_row(&mut self, table: SuppressTable, key: &[u8]) {
        self.remove(table.table(), key);
    }
}

/// The list of the first release: table `suppressed` of `tables.redb`, keys as text.
impl Tables {
    /// Calls `f` with each entry, by key; a key that is no text is skipped.
    pub fn for_each_suppressed(&self, f: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        self.for_each_suppressed_from("", &mut |key, row| {
            f(key, row);
            true
        })
    }

    /// As [`Tables::for_each_suppressed`], from a key on, until `f` returns `false`.
    pub fn for_each_suppressed_from(
        &self,
        from: &str,
        f: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.for_each(Table::Suppressed, from.as_bytes(), &mut |key, value| {
            std::str::from_utf8(key).map_or(true, |key| f(key, value))
        })
    }
}

impl Tx<'_> {
    /// Sets an entry of the first release; only tests make such.
    pub fn put_suppressed(&mut self, key: &str, entry: &[u8]) {
        self.put(Table::Suppressed, key.as_bytes(), entry.to_vec());
    }

    /// Removes an entry of the first release.
    pub fn remove_suppressed(&mut self, key: &str) {
        self.remove(Table::Suppressed, key.as_bytes());
    }
}
