//! Opening a store: the lock, the journal, the tables, the threads.
#![expect(clippy::disallowed_methods, reason = "edge: random store id")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

use tokio::sync::{Semaphore, watch};

use super::cache::Cache;
use super::journal::recover::{self, Recovered};
use super::journal::{keeper, writer::Writer};
use super::ledger::Ledger;
use super::spool::{Commit, Inner, Shared, Stop, WriterIs};
use super::tables::{TABLES_FILE, Tables};
use super::tail::Tail;
use super::{House, Opened, Options, Store, StoreError};
use crate::disk::{DirLock, Disk};
use crate::event::StoreId;

/// The journal's folder in the store's.
pub(super) const JOURNAL: &str = "journal";

/// Takes the lock of the store in `dir`.
pub(super) fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>, StoreError> {
    disk.lock(dir).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked(dir.to_owned()),
        _ => StoreError::io("lock", dir, e),
    })
}

pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Opened, StoreError> {
    let journal = dir.join(JOURNAL);
    disk.create_dir_all(&journal).map_err(|e| StoreError::io("create", &journal, e))?;
    let lock: Arc<dyn DirLock> = take_lock(&*disk, dir)?.into();
    let found = recover::recover(&*disk, &journal)?;
    // A new store gets its tables first, and its journal the id they name: whatever a crash leaves of that, the next
    // open completes. So a journal without tables, or tables of another store, are damage.
    let new_id = || StoreId(rand::random::<u64>().max(1));
    let (tables, id) = Tables::open(&TABLES_FILE, &*disk, dir, found.id, new_id, &lock)?;
    let suppression = tables.open_suppression(&*disk, dir, id, &lock)?;
    let mut consumers = tables.consumers()?;
    // A consumer that has moved to the other file goes by its row there.
    let moved = suppression.consumers()?;
    consumers.retain(|(name, _)| moved.iter().all(|(other, _)| other != name));
    consumers.extend(moved);
    if let Some((name, row)) = consumers.iter().find(|(_, row)| row.cursor > found.next_seq) {
        return Err(StoreError::Damaged {
            path: journal,
            offset: 0,
            what: format!(
                "output {name} has read up to event {}, but the journal ends at {}: part of it is missing",
                row.cursor, found.next_seq
            ),
        });
    }
    let Recovered { index, segments, next_number, next_seq, next_message, trim, clean, .. } = found;
    let (queued_messages, queued_recipients) = (index.len(), index.recipients());
    let shared = Arc::new(Shared {
        disk,
        dir: journal,
        options: options.clone(),
        id,
        inner: Mutex::new(Inner {
            index,
            line: Vec::new(),
            line_bytes: 0,
            awaited: false,
            commit: Arc::new(Commit::default()),
            writer: WriterIs::Busy,
            stop: Stop::No,
            segments,
            holds: consumers.into_iter().map(|(name, row)| (name, row.cursor)).collect(),
            trim,
        }),
        wake_writer: Condvar::new(),
        wake_keeper: Condvar::new(),
        room: Semaphore::new(options.waiting_bytes.min(Semaphore::MAX_PERMITS)),
        next_message: AtomicU64::new(next_message),
        rules: AtomicU64::new(0),
        end: watch::Sender::new(next_seq),
        ended: AtomicBool::new(false),
        tail: RwLock::new(Tail::new()),
        cache: Mutex::new(Cache::new(options.cache_bytes)),
        failed: OnceLock::new(),
        refusals: Mutex::default(),
        refusing: AtomicBool::new(false),
        spare: Mutex::new(None),
        spare_count: AtomicU64::new(0),
    });
    let writer = Writer::begin(shared.clone(), next_number, next_seq)?;
    let told = shared.clone();
    tables.on_failure(move |e| {
        let why = format!("{e}; what is queued goes on, but mend the disk and restart carom");
        told.refuse("tables", Some(why));
    });
    let told = shared.clone();
    suppression.on_failure(move |e| {
        let why = format!("{e}; what is queued goes on, but mend the disk and restart carom");
        told.refuse("suppression list", Some(why));
    });
    let ledger = Ledger { shared: shared.clone() };
    let store = Store(Arc::new(House { ledger, tables, suppression, threads: Mutex::default(), _lock: lock }));
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|e| StoreError::io("start a thread for", dir, e))?;
        super::spool::lock(&store.0.threads).push(thread);
        Ok(())
    };
    start("carom-journal", Box::new(move || writer.run()))?;
    start("carom-keeper", Box::new(move || keeper::run(shared)))?;
    tracing::info!(store = %id, messages = queued_messages, recipients = queued_recipients, next_event = next_seq, unclean = !clean, "the store is open");
    Ok(Opened { store, unclean: !clean, queued_messages, queued_recipients, next_seq })
}
