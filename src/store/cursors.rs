//! Table `consumers`: for each output or other consumer of the ledger its cursor and a state of its own. Key: its name;
//! value: the cursor (u64, little-endian), then the state as the consumer gave it.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;

/// Where a consumer of the ledger stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRow {
    /// The next sequence number it wants.
    pub cursor: u64,
    /// Its own; opaque here.
    pub state: Vec<u8>,
}

fn decode(value: &[u8]) -> Result<ConsumerRow, StoreError> {
    let (cursor, state) =
        value.split_first_chunk::<8>().ok_or_else(|| StoreError::Tables("a consumer's row is too short".into()))?;
    Ok(ConsumerRow { cursor: u64::from_le_bytes(*cursor), state: state.to_vec() })
}

impl Tables {
    /// State row of an output or other consumer: its cursor and its own opaque state.
    pub fn consumer(&self, name: &str) -> Result<Option<ConsumerRow>, StoreError> {
        self.find(Table::Consumers, name.as_bytes())?.map(|v| decode(&v)).transpose()
    }

    /// All of them, by name.
    pub fn consumers(&self) -> Result<Vec<(String, ConsumerRow)>, StoreError> {
        let mut all = Vec::new();
        let mut bad = None;
        self.for_each(Table::Consumers, b"", &mut |name, value| {
            match decode(value) {
                Ok(row) => all.push((String::from_utf8_lossy(name).into_owned(), row)),
                Err(e) => bad = Some(e),
            }
            bad.is_none()
        })?;
        bad.map_or(Ok(all), Err)
    }
}

impl Tx<'_> {
    /// Sets a consumer's row.
    pub fn put_consumer(&mut self, name: &str, row: &ConsumerRow) -> Result<(), StoreError> {
        let mut value = row.cursor.to_le_bytes().to_vec();
        value.extend_from_slice(&row.state);
        self.put(Table::Consumers, name.as_bytes(), value);
        Ok(())
    }

    /// Forgets a consumer.
    pub fn remove_consumer(&mut self, name: &str) -> Result<(), StoreError> {
        self.remove(Table::Consumers, name.as_bytes());
        Ok(())
    }
}
