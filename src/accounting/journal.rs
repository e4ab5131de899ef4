//! What accounting needs of the store: the ledger to read, and one row per output to remember where it is.
//!
//! A trait, so that power-cut tests can put a ledger in memory behind it; [`Store`] is the real one.

use std::future::Future;
use std::pin::Pin;

use crate::event::{EventBatch, RuleSetId, StoreId};
use crate::store::{Chunk, ConsumerRow, Store, StoreError};

/// The store could not do it; its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JournalError(pub String);

impl From<StoreError> for JournalError {
    fn from(e: StoreError) -> JournalError {
        JournalError(e.to_string())
    }
}

/// The ledger and the rows of its consumers.
pub trait Journal: Send + Sync + std::fmt::Debug {
    /// The store's id.
    fn store(&self) -> StoreId;
    /// The first sequence number still kept.
    fn start(&self) -> u64;
    /// One past the last durable sequence number.
    fn end(&self) -> u64;
    /// Reads from this sequence number on.
    fn reader(&self, from: u64) -> Result<Box<dyn Reader>, JournalError>;
    /// Waits until `end` is greater than `seen`.
    fn wait_past(&self, seen: u64) -> Pin<Box<dyn Future<Output = u64> + Send + '_>>;
    /// Keeps every event from `seq` on for this consumer.
    fn hold(&self, consumer: &str, seq: u64);
    /// Ends the hold.
    fn release(&self, consumer: &str);
    /// Whether what is kept for this consumer is about to make the store refuse new mail.
    fn lags_too_far(&self, _consumer: &str) -> bool {
        false
    }
    /// The text of a rule set.
    fn rule_set(&self, id: RuleSetId) -> Result<Option<String>, JournalError>;
    /// All rows.
    fn rows(&self) -> Result<Vec<(String, ConsumerRow)>, JournalError>;
    /// One row.
    fn row(&self, consumer: &str) -> Result<Option<ConsumerRow>, JournalError>;
    /// Writes a row durably.
    fn put_row(&self, consumer: &str, row: &ConsumerRow) -> Result<(), JournalError>;
    /// Removes a row durably.
    fn remove_row(&self, consumer: &str) -> Result<(), JournalError>;
}

/// A position in the ledger.
pub trait Reader: Send + std::fmt::Debug {
    /// The next events, up to about `max_events`; `None` at the end for now.
    fn next(&mut self, max_events: usize) -> Result<Option<Box<dyn Events>>, JournalError>;
}

/// Some consecutive events.
pub trait Events: std::fmt::Debug {
    /// The sequence number of the last.
    fn last(&self) -> u64;
    /// Them, as they stand in the ledger.
    fn batches(&self) -> Box<dyn Iterator<Item = EventBatch<'_>> + '_>;
}

impl Events for Chunk {
    fn last(&self) -> u64 {
        Chunk::last(self)
    }

    fn batches(&self) -> Box<dyn Iterator<Item = EventBatch<'_>> + '_> {
        Box::new(Chunk::batches(self))
    }
}

impl Reader for crate::store::Reader {
    fn next(&mut self, max_events: usize) -> Result<Option<Box<dyn Events>>, JournalError> {
        Ok(crate::store::Reader::next(self, max_events)?.map(|chunk| Box::new(chunk) as Box<dyn Events>))
    }
}

impl Journal for Store {
    fn store(&self) -> StoreId {
        self.id()
    }

    fn start(&self) -> u64 {
        self.ledger().start()
    }

    fn end(&self) -> u64 {
        self.ledger().end()
    }

    fn reader(&self, from: u64) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(self.ledger().reader(from)?))
    }

    fn wait_past(&self, seen: u64) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(self.ledger().wait_past(seen))
    }

    fn hold(&self, consumer: &str, seq: u64) {
        self.ledger().hold(consumer, seq);
    }

    fn release(&self, consumer: &str) {
        self.ledger().release(consumer);
    }

    fn lags_too_far(&self, consumer: &str) -> bool {
        self.ledger().lags_too_far(consumer)
    }

    fn rule_set(&self, id: RuleSetId) -> Result<Option<String>, JournalError> {
        Ok(self.tables().rule_set(id)?)
    }

    fn rows(&self) -> Result<Vec<(String, ConsumerRow)>, JournalError> {
        Ok(self.tables().consumers()?)
    }

    fn row(&self, consumer: &str) -> Result<Option<ConsumerRow>, JournalError> {
        Ok(self.tables().consumer(consumer)?)
    }

    fn put_row(&self, consumer: &str, row: &ConsumerRow) -> Result<(), JournalError> {
        Ok(self.tables().write(|tx| tx.put_consumer(consumer, row))?)
    }

    fn remove_row(&self, consumer: &str) -> Result<(), JournalError> {
        Ok(self.tables().write(|tx| tx.remove_consumer(consumer))?)
    }
}
