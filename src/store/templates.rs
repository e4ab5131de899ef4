//! Table `templates`: the wordings of replies that were seen, for the novelty alarm. Key: a number (u32, big-endian);
//! value: opaque here.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;

impl Tables {
    /// All rows.
    pub fn templates(&self) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let mut rows = Vec::new();
        self.for_each(Table::Templates, b"", &mut |key, value| {
            if let Ok(key) = key.try_into() {
                rows.push((u32::from_be_bytes(key), value.to_vec()));
            }
            true
        })?;
        Ok(rows)
    }
}

impl Tx<'_> {
    /// Keeps a row.
    pub fn put_template(&mut self, number: u32, row: Vec<u8>) -> Result<(), StoreError> {
        self.put(Table::Templates, &number.to_be_bytes(), row);
        Ok(())
    }

    /// Forgets a row.
    pub fn remove_template(&mut self, number: u32) -> Result<(), StoreError> {
        self.remove(Table::Templates, &number.to_be_bytes());
        Ok(())
    }
}
