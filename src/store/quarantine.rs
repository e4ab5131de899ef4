//! Table `quarantine`: what is known of mail to report addresses that nobody understood. The mail itself stays in the
//! spool, its recipients not ended; a row only says that it need not be read again. Key: the message id (8 bytes,
//! big-endian). Values are those of the room `report`.

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;
use crate::event::MessageId;

impl Tables {
    /// Calls `f` with each row, the oldest message first.
    pub fn for_each_quarantined(&self, f: &mut dyn FnMut(MessageId, &[u8])) -> Result<(), StoreError> {
        self.for_each(Table::Quarantine, b"", &mut |key, value| {
            if let Ok(key) = key.try_into() {
                f(MessageId(u64::from_be_bytes(key)), value);
            }
            true
        })
    }
}

impl Tx<'_> {
    /// Sets the row of a message.
    pub fn put_quarantined(&mut self, message: MessageId, row: &[u8]) {
        self.put(Table::Quarantine, &message.0.to_be_bytes(), row.to_vec());
    }

    /// Removes the row of a message.
    pub fn remove_quarantined(&mut self, message: MessageId) {
        self.remove(Table::Quarantine, &message.0.to_be_bytes());
    }
}
