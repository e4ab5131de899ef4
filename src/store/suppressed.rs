//! Table `suppressed`: suppression entries and strikes. Keys and values are those of the room `suppress`.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;

impl Tables {
    /// Suppression entry of a key.
    pub fn suppressed(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.find(Table::Suppressed, key.as_bytes())
    }

    /// Calls `f` with each entry, by key; a key that is no text is skipped.
    pub fn for_each_suppressed(&self, f: &mut dyn FnMut(&str, &[u8])) -> Result<(), StoreError> {
        self.for_each(Table::Suppressed, b"", &mut |key, value| {
            if let Ok(key) = std::str::from_utf8(key) {
                f(key, value);
            }
            true
        })
    }
}

impl Tx<'_> {
    /// Suppression entry of a key, as this transaction sees it.
    pub fn suppressed(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.find(Table::Suppressed, key.as_bytes())
    }

    /// Sets an entry.
    pub fn put_suppressed(&mut self, key: &str, entry: &[u8]) -> Result<(), StoreError> {
        self.put(Table::Suppressed, key.as_bytes(), entry.to_vec());
        Ok(())
    }

    /// Removes an entry.
    pub fn remove_suppressed(&mut self, key: &str) -> Result<(), StoreError> {
        self.remove(Table::Suppressed, key.as_bytes());
        Ok(())
    }
}
