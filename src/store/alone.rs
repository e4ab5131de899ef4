//! A transaction that is one caller's alone: very many rows of the suppression list, written as they come.
//!
//! What a [`Tx`] changes waits in memory until its closure has succeeded, since others share the transaction. Here nobody
//! does, so nothing waits, and an error takes back the whole transaction.

use redb::{ReadableTable, WriteTransaction};

use super::error::StoreError;
use super::overlay::{Overlay, Tx, failed, guarded};
use super::suppression::SuppressTable;

/// The transaction; see [`Tables::write_alone`](super::Tables::write_alone).
pub struct Alone<'t>(&'t WriteTransaction);

impl std::fmt::Debug for Alone<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alone")
    }
}

/// One table in it, open; each may be open once at a time.
pub struct Rows<'t>(redb::Table<'t, &'static [u8], &'static [u8]>);

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl<'t> Alone<'t> {
    pub(super) fn over(base: &'t WriteTransaction) -> Alone<'t> {
        Alone(base)
    }

    /// Opens a table; fails while it is open already.
    pub fn open(&self, table: SuppressTable) -> Result<Rows<'t>, StoreError> {
        guarded(|| Ok(Rows(self.0.open_table(table.table().definition()).map_err(failed)?)))
    }

    /// Changes a few rows, as in a shared transaction. The tables that `f` touches must not be open.
    pub fn change<T>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tx = Tx { base: self.0, changes: Overlay::default() };
        let value = f(&mut tx)?;
        tx.apply()?;
        Ok(value)
    }
}

impl Rows<'_> {
    /// Looks at a row; `f` gets `None` where there is none.
    pub fn with<T>(&self, key: &[u8], f: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, StoreError> {
        guarded(|| {
            let row = self.0.get(key).map_err(failed)?;
            Ok(f(row.as_ref().map(|row| row.value())))
        })
    }

    /// Sets a row.
    pub fn put(&mut self, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        guarded(|| self.0.insert(key, row).map(|_| ()).map_err(failed))
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        guarded(|| self.0.remove(key).map(|_| ()).map_err(failed))
    }
}
