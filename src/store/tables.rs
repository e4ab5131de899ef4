//! What has been derived from the journal and is looked up by key: two `redb` files. What stands in each table is told in
//! the file named for it: `cursors`, `rule_sets`, `send_index`, `counters`, `templates`, `jobs`; and for the second file in
//! `suppression`.
//!
//! Commits are shared: those who come while a commit is under way run one after the other in the next transaction, and
//! the last of them commits for all. So ten consumers cost as many syncs as one. A failing closure leaves no trace.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use redb::{Database, ReadableDatabase, WriteTransaction};

use super::alone::Alone;
use super::backend::Backend;
use super::error::StoreError;
pub use super::overlay::Tx;
use super::overlay::{MAIN, Overlay, SUPPRESSION, Table, failed, guarded};
use super::spool::lock;
use crate::disk::{DirLock, Disk, File};
use crate::event::StoreId;

/// One of the two files.
#[derive(Debug)]
pub(super) struct Which {
    name: &'static str,
    /// Its name while it is made; it gets the other when it is whole.
    unfinished: &'static str,
    tables: &'static [Table],
    cache_bytes: usize,
}

/// What most consumers keep.
pub(super) const TABLES_FILE: Which =
    Which { name: "tables.redb", unfinished: "tables.new", tables: MAIN, cache_bytes: 48 << 20 };
/// The suppression list.
pub(super) const SUPPRESS_FILE: Which =
    Which { name: "suppress.redb", unfinished: "suppress.new", tables: SUPPRESSION, cache_bytes: 64 << 20 };

/// Row of `meta` in `tables.redb` that says that the other file was made.
const HAS_SUPPRESSION: &[u8] = b"suppress.redb";
/// The newest layout of rows this program writes and reads.
const VERSION: u32 = 1;
/// Closures in one transaction, at most.
const SHARE: usize = 64;

/// Longest wait of one who writes alone for those who share a transaction, before it looks again whether they are through.
const STEP_ASIDE: Duration = Duration::from_millis(2);

/// The tables. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables(Arc<Shared>);

/// The tables for as long as somebody else keeps them open: so a reader does not keep the folder locked.
#[derive(Clone, Debug)]
pub struct WeakTables(Weak<Shared>);

impl WeakTables {
    /// The tables, while the store is open.
    pub fn upgrade(&self) -> Option<Tables> {
        self.0.upgrade().map(Tables)
    }
}

#[derive(Debug)]
struct Shared {
    db: Guarded,
    group: Mutex<Group>,
    changed: Condvar,
    /// Callers that want to run and have not yet.
    waiting: AtomicUsize,
    /// Told when nothing can be committed any more.
    alarm: OnceLock<Alarm>,
    /// A clone may outlive the store: then the folder stays locked. Dropped after the database.
    _lock: Arc<dyn DirLock>,
}

/// Who wants to know that the tables have failed.
struct Alarm(Box<dyn Fn(&StoreError) + Send + Sync>);

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alarm")
    }
}

/// The database; closing it writes, and may panic over a damaged page.
#[derive(Debug)]
struct Guarded(Option<Database>);

impl std::ops::Deref for Guarded {
    type Target = Database;
    fn deref(&self) -> &Database {
        // Only `drop` takes it.
        self.0.as_ref().expect("the database is there until it is dropped")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let db = self.0.take();
        let closed = guarded(move || {
            drop(db);
            Ok(())
        });
        if let Err(e) = closed {
            tracing::error!(error = %e, "the tables were not closed in good order");
        }
    }
}

/// The transaction that callers share.
#[derive(Default)]
struct Group {
    open: Option<WriteTransaction>,
    runs: usize,
    dirty: bool,
    committing: bool,
    round: Arc<Round>,
    failed: Option<StoreError>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("runs", &self.runs).field("committing", &self.committing).finish_non_exhaustive()
    }
}

/// The outcome for all who shared a transaction.
#[derive(Debug, Default)]
struct Round(OnceLock<Result<(), StoreError>>);

impl Tables {
    /// Opens the tables of store `id`, or makes them for a store that is new (`id` is `None`; `new_id` gives the id).
    pub(super) fn open(
        which: &Which,
        disk: &dyn Disk,
        dir: &Path,
        id: Option<StoreId>,
        new_id: impl FnOnce() -> StoreId,
        lock: &Arc<dyn DirLock>,
    ) -> Result<(Tables, StoreId), StoreError> {
        let (path, unfinished) = (dir.join(which.name), dir.join(which.unfinished));
        let names = disk.list(dir).map_err(|e| StoreError::io("list", dir, e))?;
        let has = |name: &str| names.iter().any(|e| e.name == name);
        if has(which.unfinished) {
            disk.remove(&unfinished).map_err(|e| StoreError::io("remove", &unfinished, e))?;
        }
        let damaged = |what: &str| StoreError::Damaged { path: path.clone(), offset: 0, what: what.to_owned() };
        if !has(which.name) {
            if id.is_some() {
                return Err(damaged("it is missing, though the journal is there; restore it from a backup"));
            }
            let file = disk.create_new(&unfinished).map_err(|e| StoreError::io("create", &unfinished, e))?;
            let tables = Tables::over(which, file, lock)?;
            tables.write(|tx| {
                tx.put(Table::Meta, b"format", VERSION.to_le_bytes().to_vec());
                tx.put(Table::Meta, b"store", new_id().0.to_le_bytes().to_vec());
                Ok(())
            })?;
            drop(tables);
            disk.rename(&unfinished, &path).map_err(|e| StoreError::io("rename", &unfinished, e))?;
            disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, e))?;
        }
        let file = disk.open(&path).map_err(|e| StoreError::io("open", &path, e))?;
        let tables = Tables::over(which, file, lock)?;
        let format = tables.find(Table::Meta, b"format")?.and_then(|v| Some(u32::from_le_bytes(v.try_into().ok()?)));
        match format {
            Some(found) if found > VERSION => return Err(StoreError::Newer { path, found, known: VERSION }),
            Some(_) => {}
            None => return Err(damaged("it does not say which format it has")),
        }
        let named =
            tables.find(Table::Meta, b"store")?.and_then(|v| Some(StoreId(u64::from_le_bytes(v.try_into().ok()?))));
        match (named, id) {
            (None, _) => Err(damaged("it does not say which store it belongs to")),
            (Some(named), Some(id)) if named != id => {
                Err(damaged(&format!("it belongs to store {named}, but the journal to {id}")))
            }
            (Some(named), _) => Ok((tables, named)),
        }
    }

    fn over(which: &Which, file: Arc<dyn File>, lock: &Arc<dyn DirLock>) -> Result<Tables, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(which.cache_bytes);
        let db = guarded(|| builder.create_with_backend(Backend(file)).map_err(failed))?;
        let tables = Tables(Arc::new(Shared {
            db: Guarded(Some(db)),
            group: Mutex::default(),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            alarm: OnceLock::new(),
            _lock: lock.clone(),
        }));
        guarded(|| {
            let read = tables.0.db.begin_read().map_err(failed)?;
            if read.list_tables().map_err(failed)?.count() < which.tables.len() {
                let tx = tables.begin()?;
                for table in which.tables {
                    tx.open_table(table.definition()).map_err(failed)?;
                }
                tx.commit().map_err(failed)?;
            }
            Ok(())
        })?;
        Ok(tables)
    }

    /// Opens the suppression list's file beside these tables, or makes it where it never was. One that was there and is
    /// gone is damage: an empty list would mail everybody who must not be mailed.
    pub(super) fn open_suppression(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        id: StoreId,
        lock: &Arc<dyn DirLock>,
    ) -> Result<Tables, StoreError> {
        let was_made = self.find(Table::Meta, HAS_SUPPRESSION)?.is_some();
        let (tables, _) = Tables::open(&SUPPRESS_FILE, disk, dir, was_made.then_some(id), || id, lock)?;
        if !was_made {
            self.write(|tx| {
                tx.put(Table::Meta, HAS_SUPPRESSION, Vec::new());
                Ok(())
            })?;
        }
        Ok(tables)
    }

    /// `f` is called once, when a commit has failed: nothing can be written then until the store is opened again.
    pub(super) fn on_failure(&self, f: impl Fn(&StoreError) + Send + Sync + 'static) {
        // Only opening the store asks for it, once.
        let _ = self.0.alarm.set(Alarm(Box::new(f)));
    }

    fn raise_alarm(&self, e: &StoreError) {
        tracing::error!(error = %e, "the tables can't be written any more");
        if let Some(Alarm(f)) = self.0.alarm.get() {
            f(e);
        }
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut tx = self.0.db.begin_write().map_err(failed)?;
        // Opening after a crash then takes as long as opening after an orderly stop.
        tx.set_quick_repair(true);
        Ok(tx)
    }

    /// Runs `f` in a write transaction and commits durably; rolled back when `f` fails. Blocking: call it from a thread
    /// that may block, a few times a second. The transaction may be shared with other callers, whose changes `f` then
    /// sees; either all of `f`'s changes are durable when this returns `Ok`, or none of them happened.
    pub fn write<T>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let shared = &*self.0;
        shared.waiting.fetch_add(1, Ordering::AcqRel);
        let mut group = lock(&shared.group);
        while group.committing {
            group = shared.changed.wait(group).unwrap_or_else(PoisonError::into_inner);
        }
        shared.waiting.fetch_sub(1, Ordering::AcqRel);
        if let Some(e) = &group.failed {
            return Err(e.clone());
        }
        let base = match group.open.take() {
            Some(open) => open,
            None => guarded(|| self.begin())?,
        };
        let mut tx = Tx { base: &base, changes: Overlay::default() };
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut tx)));
        if let Ok(Ok(_)) = &outcome {
            match tx.apply() {
                Ok(any) => group.dirty |= any,
                // redb itself failed: nobody's changes in this transaction can be trusted to be whole.
                Err(e) => {
                    drop(base);
                    let round = std::mem::take(&mut group.round);
                    (group.runs, group.dirty, group.failed) = (0, false, Some(e.clone()));
                    // Nobody has answered this round: it is answered once, by who ends it.
                    let _ = round.0.set(Err(e.clone()));
                    shared.changed.notify_all();
                    drop(group);
                    self.raise_alarm(&e);
                    return Err(e);
                }
            }
        }
        group.runs += 1;
        group.open = Some(base);
        let round = group.round.clone();
        if shared.waiting.load(Ordering::Acquire) == 0 || group.runs >= SHARE {
            self.commit(group);
        } else if let Ok(Ok(_)) = &outcome {
            while round.0.get().is_none() {
                group = shared.changed.wait(group).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let value = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        match round.0.get() {
            Some(Err(e)) => Err(e.clone()),
            _ => Ok(value),
        }
    }

    /// To read from for as long as the store is open.
    pub fn downgrade(&self) -> WeakTables {
        WeakTables(Arc::downgrade(&self.0))
    }

    /// Runs `f` in a transaction of its own, which is not kept in memory before it is written, and commits durably: for
    /// very many rows. Others wait for its end; those who wait already go first. An error takes all back. Blocks.
    pub fn write_alone<T>(&self, f: impl FnOnce(&Alone<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let shared = &*self.0;
        let mut group = lock(&shared.group);
        while group.committing || group.open.is_some() || shared.waiting.load(Ordering::Acquire) > 0 {
            group = shared.changed.wait_timeout(group, STEP_ASIDE).unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(e) = &group.failed {
            return Err(e.clone());
        }
        group.committing = true;
        drop(group);
        let mut broken = None;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let base = guarded(|| self.begin())?;
            // An error drops the transaction, which takes it back.
            let value = f(&Alone::over(&base))?;
            if let Err(e) = guarded(|| base.commit().map_err(failed)) {
                broken = Some(e.clone());
                return Err(e);
            }
            Ok(value)
        }));
        let mut group = lock(&shared.group);
        group.committing = false;
        if let Some(e) = broken {
            self.raise_alarm(&e);
            group.failed = Some(e);
        }
        shared.changed.notify_all();
        drop(group);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Commits for all who ran in the open transaction, and tells them.
    fn commit(&self, mut group: std::sync::MutexGuard<'_, Group>) {
        let Some(tx) = group.open.take() else { return };
        let round = std::mem::take(&mut group.round);
        let dirty = std::mem::take(&mut group.dirty);
        group.runs = 0;
        group.committing = true;
        drop(group);
        let result = guarded(|| if dirty { tx.commit().map_err(failed) } else { tx.abort().map_err(failed) });
        let mut group = lock(&self.0.group);
        group.committing = false;
        if let Err(e) = &result {
            self.raise_alarm(e);
            group.failed = Some(e.clone());
        }
        // As above: one answer a round.
        let _ = round.0.set(result);
        self.0.changed.notify_all();
    }

    pub(super) fn find(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(|| {
            let read = self.0.db.begin_read().map_err(failed)?;
            let open = read.open_table(table.definition()).map_err(failed)?;
            let found = open.get(key).map_err(failed)?;
            Ok(found.map(|v| v.value().to_vec()))
        })
    }

    /// Calls `f` with each row from `from` on until it returns `false`.
    pub(super) fn for_each(
        &self,
        table: Table,
        from: &[u8],
        f: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        guarded(|| {
            let read = self.0.db.begin_read().map_err(failed)?;
            let open = read.open_table(table.definition()).map_err(failed)?;
            for row in open.range::<&[u8]>(from..).map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                if !f(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }
}
