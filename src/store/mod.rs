//! The only code that knows how things are kept: the journal (spool and ledger in one) and the tables.
//!
//! A message comes in with [`Store::accept`] (durable when it returns), is tried again later with [`Store::retry`], and
//! leaves, recipient by recipient, with [`Store::finish`], which is also how its events reach the [`Ledger`]. Consumers
//! read the ledger from their cursor on and commit what they derive, together with the cursor, in the [`Tables`].
//!
//! ```text
//!  accept retry finish append           load, for_each_queued           Ledger::reader
//!         |                                       |                           |
//!   index, line (spool) --> writer (journal) --> segments <-- keeper        tail, segments
//! ```
//!
//! The rules of the journal stand in [`journal`]; why memory may run ahead of the disk in [`spool`].

mod alone;
mod backend;
mod cache;
mod counters;
mod cursors;
mod envelope;
mod error;
mod finish;
mod index;
mod jobs;
mod journal;
mod ledger;
mod load;
pub mod message;
mod open;
mod overlay;
mod quarantine;
mod retention;
mod rule_sets;
mod send_index;
mod spool;
pub mod suppression;
mod tables;
mod tail;
mod templates;
#[cfg(test)]
mod tests;
pub mod verify;
mod work_files;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use alone::{Alone, Rows};
pub use cursors::ConsumerRow;
pub use error::{LoadError, StoreError};
pub use finish::Finish;
pub use jobs::JobPause;
pub use ledger::{Chunk, Ledger, Reader};
pub use message::{Envelope, Message, OwnMail, RcptState, Recipient, Route};
pub use send_index::SendKey;
pub use suppression::SuppressTable;
pub use tables::{Tables, Tx, WeakTables};
pub use work_files::WorkFiles;

use crate::disk::{DirLock, Disk};
use crate::event::{Events, MessageId, RuleSetId, StoreId};
use index::Place;
use spool::{Pending, Shared, Stop, lock};

/// What can be chosen about a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment of the journal; 32 to 64 MiB, small only in tests.
    pub segment_bytes: u64,
    /// Bytes that may wait to be written; callers wait when it is reached. Also the most one group commit writes.
    pub waiting_bytes: usize,
    /// Bytes of just accepted messages kept in memory for their first delivery.
    pub cache_bytes: usize,
    /// Bytes of the ledger kept after the last consumer has passed them, at most.
    pub retention_bytes: u64,
    /// How long the ledger is kept after the last consumer has passed it, at most.
    pub retention: Duration,
    /// New mail is refused while the file system has less than this free; queued mail goes on.
    pub reserve_bytes: u64,
    /// New mail is refused while consumers that lag hold more of the journal than this and more than is still free on
    /// its file system; queued mail goes on. So one that is stuck fills at most half of the disk.
    pub held_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            waiting_bytes: 16 << 20,
            cache_bytes: 128 << 20,
            retention_bytes: 1 << 30,
            retention: Duration::from_secs(24 * 3600),
            reserve_bytes: 512 << 20,
            held_bytes: 4 << 30,
        }
    }
}

/// The store. Cheap to clone; the last clone that goes ends the threads and gives the folder free.
#[derive(Clone, Debug)]
pub struct Store(Arc<House>);

/// The store's threads and its lock, around what they share.
#[derive(Debug)]
struct House {
    ledger: Ledger,
    tables: Tables,
    suppression: Tables,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Arc<dyn DirLock>,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The store, ready.
    pub store: Store,
    /// The last stop was not orderly: attempts may have been under way.
    pub unclean: bool,
    /// Messages that still have recipients.
    pub queued_messages: u64,
    /// Recipients that have not ended.
    pub queued_recipients: u64,
    /// Sequence number the next event gets.
    pub next_seq: u64,
}

/// How much the store holds, for `show status` and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Messages that still have recipients.
    pub queued_messages: u64,
    /// Recipients that have not ended.
    pub queued_recipients: u64,
    /// Segments of the journal.
    pub segments: u64,
    /// Bytes in them.
    pub journal_bytes: u64,
    /// Bytes in them that bring queued messages.
    pub live_bytes: u64,
    /// Bytes that are kept because some consumer has not passed them; one that is stuck makes this grow.
    pub held_bytes: u64,
}

impl Store {
    /// Opens or creates the store in `dir`; takes its lock.
    ///
    /// Fails with [`StoreError::Locked`], [`StoreError::Damaged`], [`StoreError::Newer`] or an I/O error; see there for
    /// what to do.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Opened, StoreError> {
        open::open(disk, dir, options)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.ledger.shared
    }

    /// The random id the store got when it was created.
    pub fn id(&self) -> StoreId {
        self.shared().id
    }

    /// A message id never given before.
    pub fn next_message_id(&self) -> MessageId {
        MessageId(self.shared().next_message.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on appended events are stamped with this rule set. Keep its text with [`Tx::put_rule_set`] first.
    pub fn set_rules(&self, rules: RuleSetId) {
        self.shared().rules.store(rules.0, Ordering::Release);
    }

    /// Durable (`fdatasync`) when it returns; the record carries the message's `r` events.
    ///
    /// Run it to its end: a message that has been handed over is kept even if the caller stops waiting, and would be
    /// queued at the next start.
    pub async fn accept(&self, message: Arc<Message>, received: Events) -> Result<(), StoreError> {
        let shared = self.shared();
        if let Some(why) = shared.refusal() {
            return Err(StoreError::Refused(why));
        }
        let id = message.envelope.id;
        let pending = Pending::accept(message, received)?;
        // `Pending::accept` made sure that the number fits.
        let rcpts = match &pending.brings {
            spool::Brings::One(m) => m.envelope.rcpts.len() as u16,
            _ => 0,
        };
        let commit = shared
            .hand_over(pending, true, |inner| {
                if inner.index.contains(id) {
                    return Err(StoreError::AlreadyStored(id));
                }
                inner.index.insert_fresh(id, Place::WAITING, rcpts);
                Ok(())
            })
            .await?;
        commit.wait().await
    }

    /// Notes how recipients stand after an attempt, with its `t` events. In line for writing when it returns (it waits
    /// only for room); not yet durable.
    pub async fn retry(&self, message: MessageId, states: &[RcptState], events: Events) -> Result<(), StoreError> {
        let pending = Pending::retry(message, states, events)?;
        self.shared().hand_over(pending, false, |inner| inner.index.retry(message, states)).await?;
        Ok(())
    }

    /// Appends events that change no recipient (`tq`, reports); as [`Store::retry`].
    pub async fn append(&self, events: Events) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.shared().hand_over(Pending::append(events)?, false, |_| Ok(())).await?;
        Ok(())
    }

    /// The stream of events.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// What is looked up by key.
    pub fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// The file of the suppression list: [`suppression::SuppressTable`], and the cursors of who fills it.
    pub fn suppression(&self) -> &Tables {
        &self.0.suppression
    }

    /// Whether any recipient of the message has not ended.
    pub fn is_queued(&self, message: MessageId) -> bool {
        lock(&self.shared().inner).index.contains(message)
    }

    /// Returns when everything handed over before is durable.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.shared().barrier()?.wait().await
    }

    /// Writes what waits, marks the stop as orderly, ends the threads. Later calls are refused.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        // Ending the threads blocks for one commit at most, and nothing else is left to run.
        self.0.stop(Stop::Clean);
        match self.shared().failed.get() {
            Some(why) => Err(StoreError::Failed(why.clone())),
            None => flushed,
        }
    }

    /// Whether new mail can be taken; the reason if not (disk full, ledger limit, failed write).
    pub fn intake_refused(&self) -> Option<String> {
        self.shared().refusal().map(|why| why.to_string())
    }

    /// Refuses new mail for a reason of the caller's (an output lags too far behind), or lifts that again. `who` names
    /// the caller: each has one reason.
    pub fn refuse_intake(&self, who: &'static str, why: Option<String>) {
        self.shared().refuse(who, why);
    }

    /// The recipients of a message that are still queued; none when it is not (any more).
    pub fn queued(&self, id: MessageId) -> Vec<RcptState> {
        spool::lock(&self.shared().inner).index.states(id).map(<[RcptState]>::to_vec).unwrap_or_default()
    }

    /// How much the store holds.
    pub fn usage(&self) -> Usage {
        let inner = lock(&self.shared().inner);
        let sum = |f: &dyn Fn(&spool::Segment) -> u64| inner.segments.iter().map(f).sum();
        Usage {
            queued_messages: inner.index.len(),
            queued_recipients: inner.index.recipients(),
            segments: inner.segments.len() as u64,
            journal_bytes: sum(&|s| s.len),
            live_bytes: sum(&|s| s.live),
            held_bytes: inner.held().1,
        }
    }
}

impl House {
    fn stop(&self, how: Stop) {
        let shared = &self.ledger.shared;
        {
            let mut inner = lock(&shared.inner);
            if inner.stop == Stop::No {
                inner.stop = how;
            }
        }
        shared.wake_writer.notify_all();
        shared.wake_keeper.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has said so; there is nothing more to end.
            let _ = thread.join();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // The folder's lock goes after this, so nobody opens the store while its threads still write.
        self.stop(Stop::Dropped);
    }
}
