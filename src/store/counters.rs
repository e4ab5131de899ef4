//! Table `counters`: named numbers that survive a restart. Key: the name; value: u64, little-endian.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;

fn decode(value: Option<Vec<u8>>) -> u64 {
    value.and_then(|v| v.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Tables {
    /// A named counter; 0 when it was never set.
    pub fn counter(&self, name: &str) -> Result<u64, StoreError> {
        Ok(decode(self.find(Table::Counters, name.as_bytes())?))
    }
}

impl Tx<'_> {
    /// A named counter, as this transaction sees it; 0 when it was never set.
    pub fn counter(&mut self, name: &str) -> Result<u64, StoreError> {
        Ok(decode(self.find(Table::Counters, name.as_bytes())?))
    }

    /// Sets a counter.
    pub fn put_counter(&mut self, name: &str, value: u64) -> Result<(), StoreError> {
        self.put(Table::Counters, name.as_bytes(), value.to_le_bytes().to_vec());
        Ok(())
    }
}
