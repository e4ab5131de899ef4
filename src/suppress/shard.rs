//! One of the 256 parts of the list in memory: the keys that begin with one byte.
//!
//! ```text
//! recent     what was applied and no filter knows yet, or no transaction has written yet: exact
//! base       filter of the entries in the table; kept beside them
//! fresh      filter of what came into the table since `base` was built
//! ```
//!
//! Who looks asks `recent` first and the filters then. Who moves something from `recent` into a filter puts the filter in
//! its place first and takes it out of `recent` then: so there is no moment at which it is in neither.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::entry::{Entry, State};
use super::filter::Filter;
use super::key::Key;
use crate::event::Time;

/// How many recent changes of one shard are kept before filters are built: 25 MB when all shards have so many.
pub(super) const MOST_RECENT: usize = if cfg!(test) { 8 } else { 1_000 };

/// The shard.
pub(super) struct Shard {
    recent: RwLock<HashMap<Key, Slot>>,
    filters: ArcSwap<Filters>,
    /// With so many recent changes, filters are to be built.
    full: AtomicUsize,
    /// That has been asked for.
    pub(super) asked: AtomicBool,
}

/// What is known of the entries in the table.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) base: Arc<Filter>,
    pub(super) fresh: Filter,
}

/// A change as it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) by: u64,
    pub(super) expires: Time,
    pub(super) words: u16,
    /// Removed: whatever the table says until it says so too.
    pub(super) state: State,
}

/// What a shard knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is not on the list.
    Absent,
    /// Changed lately.
    Recent(Slot),
    /// The table is to be asked.
    InTable,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard {
            recent: RwLock::default(),
            filters: ArcSwap::default(),
            full: AtomicUsize::new(MOST_RECENT),
            asked: AtomicBool::new(false),
        }
    }
}

impl Slot {
    pub(super) fn of(entry: &Entry, words: u16) -> Slot {
        Slot { by: entry.by.seq, expires: entry.expires, words, state: entry.state }
    }

    pub(super) fn is_active(&self) -> bool {
        self.state != State::Removed
    }
}

impl Filters {
    pub(super) fn may_contain(&self, key: &Key) -> bool {
        let fingerprint = key.fingerprint();
        self.base.may_contain(fingerprint) || self.fresh.may_contain(fingerprint)
    }
}

impl Shard {
    pub(super) fn look(&self, key: &Key) -> Known {
        if let Some(slot) = self.recent.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return if slot.is_active() { Known::Recent(*slot) } else { Known::Absent };
        }
        // Behind the look at the recent ones: see above.
        if self.filters.load().may_contain(key) { Known::InTable } else { Known::Absent }
    }

    /// Puts a change in; whether filters should be built.
    pub(super) fn put(&self, key: &Key, slot: Slot) -> bool {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.insert(*key, slot);
        recent.len() >= self.full.load(Ordering::Relaxed)
    }

    /// Takes out what is as it is in `slots`.
    pub(super) fn forget(&self, slots: &[(Key, Slot)]) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        for (key, slot) in slots {
            if recent.get(key) == Some(slot) {
                recent.remove(key);
            }
        }
        if recent.len() < recent.capacity() / 4 {
            recent.shrink_to_fit();
        }
        self.full.store(recent.len() + MOST_RECENT, Ordering::Relaxed);
    }

    /// Puts a change in the place of one that removed, or that has ended by `now`.
    pub(super) fn revive(&self, key: &Key, now: Time, slot: impl FnOnce() -> Option<Slot>) {
        let is_gone = |slot: &Slot| !slot.is_active() || (slot.expires.is_known() && slot.expires <= now);
        if !self.recent.read().unwrap_or_else(PoisonError::into_inner).get(key).is_some_and(is_gone) {
            return;
        }
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some(old), Some(slot)) = (recent.get_mut(key).filter(|slot| is_gone(slot)), slot()) {
            *old = slot;
        }
    }

    /// Takes out one, whatever it says.
    pub(super) fn take(&self, key: &Key) {
        self.recent.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// What is recent now.
    pub(super) fn recent(&self) -> Vec<(Key, Slot)> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(key, slot)| (*key, *slot)).collect()
    }

    /// Later, filters are built anew when so many more have come.
    pub(super) fn put_off(&self) {
        let len = self.recent.read().unwrap_or_else(PoisonError::into_inner).len();
        self.full.store(len + MOST_RECENT, Ordering::Relaxed);
    }

    /// How many recent ones there are, removals not counted.
    pub(super) fn len(&self) -> usize {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).values().filter(|slot| slot.is_active()).count()
    }

    pub(super) fn filters(&self) -> Arc<Filters> {
        self.filters.load_full()
    }

    pub(super) fn publish(&self, filters: Filters) {
        self.filters.store(Arc::new(filters));
    }
}
