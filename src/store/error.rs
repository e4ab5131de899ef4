//! What can go wrong with the store, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::MessageId;

/// Why the store refused, or could not do, what it was asked for. Cheap to clone: one failed write is answered to many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another part of this one, has it open.
    #[error("the store in {0} is in use: stop the other carom first, or give this one a spool folder of its own")]
    Locked(PathBuf),
    /// A file could not be read or written.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// What was tried: `write`, `sync`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Bytes that had been written and synced do not read back as they were.
    #[error(
        "{path} is damaged at byte {offset}: {what}. Nothing was changed; `carom store verify` lists the damage, `carom store repair` keeps what is readable"
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where the first unreadable record begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer program wrote it.
    #[error(
        "{path} has format version {found}, but this carom reads only up to {known}: use the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// An earlier write or sync failed; nothing is written any more until a restart.
    #[error("the store has stopped: {0}. Mend the disk, then restart carom; what was acknowledged is safe")]
    Failed(Arc<str>),
    /// New mail is not taken at the moment.
    #[error("no new mail is taken: {0}")]
    Refused(Arc<str>),
    /// One operation is larger than a record may be.
    #[error("a record of {bytes} bytes is larger than the limit of {limit}: send a smaller message")]
    TooLarge {
        /// What it would take.
        bytes: u64,
        /// What a record may take.
        limit: u64,
    },
    /// The recipient is not (or no longer) in the queue, so it can't be retried or finished.
    #[error("recipient {rcpt} of message {message} is not queued: it has ended before, or never was")]
    NotQueued {
        /// The message.
        message: MessageId,
        /// Index of the recipient.
        rcpt: u16,
    },
    /// The id was taken before.
    #[error("message {0} is in the store already: take a new id with next_message_id")]
    AlreadyStored(MessageId),
    /// A message that could never end.
    #[error("message {0} can't be kept: {1}")]
    Unfit(MessageId, &'static str),
    /// Events before `start` are gone.
    #[error("events from {wanted} on were asked for, but the ledger keeps only those from {start} on")]
    Trimmed {
        /// Sequence number asked for.
        wanted: u64,
        /// First one kept.
        start: u64,
    },
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// The tables (redb) failed.
    #[error("tables: {0}")]
    Tables(Arc<str>),
    /// A failure of the caller's own, out of a closure given to [`Tables::write`](super::Tables::write).
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// A failure of the caller's own, to give back from a closure.
    pub fn other(what: impl std::fmt::Display) -> StoreError {
        StoreError::Other(what.to_string())
    }
}

/// Why a message can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// All its recipients have ended, or it never was.
    #[error("message {0} is not in the store")]
    Gone(MessageId),
    /// Its bytes do not match their checksum. Only this message is lost: bounce it.
    #[error("message {0} is damaged on disk: {1}")]
    Damaged(MessageId, String),
    /// The disk refused; another try may succeed.
    #[error("message {0} can't be read: {1}")]
    Io(MessageId, String),
}
