//! Builds the filters of the list, a shard at a time, on a thread of its own.
//!
//! Every entry in the table that suppresses or holds is known to the filter kept beside it, or has a row in `Fresh`, or its
//! shard is marked stale; the transaction that writes the entry sees to that. So a start reads filters and fresh rows
//! and no entries. A pass over a shard builds
//!
//! 1. a small filter of its fresh rows, which is only in memory; and where there are many of them, first
//! 2. a filter of all its entries, which it keeps, and takes the fresh rows away in the same transaction;
//!
//! then it takes out of memory what the filters know and the table says too. One that fails is tried again when more has
//! come; until then memory holds what it held.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::entry::Entry;
use super::facts;
use super::filter::Filter;
use super::key::Key;
use super::list::{List, SHARDS};
use super::shard::{Filters, Shard, Slot};
use crate::store::{StoreError, SuppressTable, Tables};

/// Fresh rows of a shard that need no new filter of all its entries.
const MOST_FRESH: u64 = if cfg!(test) { 16 } else { 4096 };
/// Nor do they when they are fewer than this part of the entries.
const FRESH_SHARE: u64 = 8;

/// The thread, and what keeps two from building at once.
#[derive(Default)]
pub(super) struct Upkeep {
    jobs: Mutex<Option<Sender<u8>>>,
    busy: Mutex<()>,
}

/// How much a pass does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What is due.
    AsNeeded,
    /// The filter of all entries too.
    Whole,
}

/// How many rows may be fresh in a shard whose filter knows so many keys.
pub(super) fn most_fresh(keys: u64) -> u64 {
    MOST_FRESH.max(keys / FRESH_SHARE)
}

/// Keeps passes away, for as long as it is held.
pub(super) fn hold(list: &List) -> MutexGuard<'_, ()> {
    list.upkeep.busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for a pass over a shard, some time soon.
pub(super) fn ask(list: &Arc<List>, shard: u8) {
    if list.shards[usize::from(shard)].asked.swap(true, Ordering::AcqRel) {
        return;
    }
    let mut jobs = list.upkeep.jobs.lock().unwrap_or_else(PoisonError::into_inner);
    if jobs.is_none() {
        let (sender, receiver) = channel();
        let weak = Arc::downgrade(list);
        match std::thread::Builder::new().name("carom-filters".into()).spawn(move || run(&weak, &receiver)) {
            Ok(_) => *jobs = Some(sender),
            Err(error) => {
                tracing::error!(%error, "no thread for the filters of the suppression list: its memory grows");
                list.shards[usize::from(shard)].asked.store(false, Ordering::Release);
                list.shards[usize::from(shard)].put_off();
                return;
            }
        }
    }
    if let Some(jobs) = &*jobs {
        // The thread ends only with the list.
        let _ = jobs.send(shard);
    }
}

/// Asks for all that the start found to be due.
pub(super) fn ask_where_due(list: &Arc<List>) {
    for (n, shard) in (0..=u8::MAX).zip(list.shards.iter()) {
        let filters = shard.filters();
        if matches!(*filters.base, Filter::All) || filters.fresh.keys() > most_fresh(filters.base.keys()) {
            ask(list, n);
        }
    }
}

fn run(list: &Weak<List>, jobs: &Receiver<u8>) {
    while let Ok(shard) = jobs.recv() {
        let Some(list) = list.upgrade() else { return };
        list.shards[usize::from(shard)].asked.store(false, Ordering::Release);
        if let Err(error) = pass(&list, shard, Depth::AsNeeded) {
            tracing::error!(shard, %error, "a filter of the suppression list was not built");
            list.shards[usize::from(shard)].put_off();
        }
    }
}

/// Reads what is kept of the filters.
pub(super) fn load(list: &List, tables: &Tables) -> Result<(), StoreError> {
    let _busy = hold(list);
    let stale = facts::stale(tables)?;
    let mut base = Vec::with_capacity(SHARDS);
    for shard in 0..=u8::MAX {
        base.push(if stale[usize::from(shard)] { Filter::All } else { kept(tables, shard)? });
    }
    let (mut fresh, mut shard) = (Vec::new(), 0u8);
    let mut base = base.into_iter();
    // Rows come in order of their shards; each is given its filters when the next begins.
    let mut end = |shard: u8, fresh: Vec<u64>| {
        let filters = Filters { base: Arc::new(base.next().unwrap_or(Filter::All)), fresh: Filter::build(fresh) };
        list.shards[usize::from(shard)].publish(filters);
    };
    tables.for_each_suppress_row(SuppressTable::Fresh, &[], &mut |key, _| {
        if let Some(key) = Key::from_bytes(key) {
            while shard < key.subject.0[0] {
                end(shard, std::mem::take(&mut fresh));
                shard += 1;
            }
            fresh.push(key.fingerprint());
        }
        true
    })?;
    for n in shard..=u8::MAX {
        end(n, std::mem::take(&mut fresh));
    }
    Ok(())
}

/// The filter kept for a shard.
fn kept(tables: &Tables, shard: u8) -> Result<Filter, StoreError> {
    let Some(row) = tables.suppress_row(SuppressTable::Filters, &[shard])? else { return Ok(Filter::None) };
    Ok(Filter::decode(&row).unwrap_or_else(|| {
        tracing::error!(shard, "a filter of the suppression list is damaged: it is built anew");
        Filter::All
    }))
}

/// Builds what is due in a shard. Blocks for the disk.
pub(super) fn pass(list: &List, shard: u8, depth: Depth) -> Result<(), StoreError> {
    let _busy = hold(list);
    build(list, shard, depth)
}

/// As [`pass`], for who keeps the others away already.
pub(super) fn build(list: &List, number: u8, depth: Depth) -> Result<(), StoreError> {
    // A store that is closed has nothing more to build from.
    let Some(tables) = list.tables() else { return Ok(()) };
    let shard = &list.shards[usize::from(number)];
    let mut base = shard.filters().base.clone();
    let mut fresh = keys(&tables, number)?;
    let due = matches!(*base, Filter::All) || fresh.len() as u64 > most_fresh(base.keys());
    if due || depth == Depth::Whole || facts::stale(&tables)?[usize::from(number)] {
        base = Arc::new(whole(&tables, number, &fresh)?);
        fresh = keys(&tables, number)?;
    }
    let fresh = Filter::build(fresh.iter().map(Key::fingerprint).collect());
    shard.publish(Filters { base, fresh });
    settle(list, shard, &tables)
}

/// Builds the filter of all entries of a shard and keeps it; `fresh` are the fresh rows known so far.
fn whole(tables: &Tables, number: u8, fresh: &[Key]) -> Result<Filter, StoreError> {
    let mut fingerprints = Vec::new();
    tables.for_each_entry(&[number], &mut |key, row| {
        if key.first() != Some(&number) {
            return false;
        }
        // One that can't be read is known too, so that its mail is held.
        if let Some(key) = Key::from_bytes(key).filter(|_| !Entry::is_removed(row)) {
            fingerprints.push(key.fingerprint());
        }
        true
    })?;
    let base = Filter::build(fingerprints);
    if matches!(base, Filter::All) {
        return Ok(base);
    }
    tables.write(|tx| {
        tx.put_suppress_row(SuppressTable::Filters, &[number], base.encode());
        facts::set_stale(tx, number, false)?;
        for key in fresh {
            let (bytes, len) = key.bytes();
            let bytes = &bytes[..len];
            let is_gone = |row: Option<Vec<u8>>| row.is_none_or(|row| Entry::is_removed(&row));
            // One that came while we read stays, unless the filter happens to know it: then it finds it.
            if base.may_contain(key.fingerprint()) || is_gone(tx.suppress_row(SuppressTable::Entries, bytes)?) {
                tx.remove_suppress_row(SuppressTable::Fresh, bytes);
            }
        }
        Ok(())
    })?;
    Ok(base)
}

/// The keys of a shard's fresh rows.
fn keys(tables: &Tables, number: u8) -> Result<Vec<Key>, StoreError> {
    let mut keys = Vec::new();
    tables.for_each_suppress_row(SuppressTable::Fresh, &[number], &mut |key, _| {
        if key.first() != Some(&number) {
            return false;
        }
        keys.extend(Key::from_bytes(key));
        true
    })?;
    Ok(keys)
}

/// Takes out of memory what the filters in force know and the table says too.
fn settle(list: &List, shard: &Shard, tables: &Tables) -> Result<(), StoreError> {
    let filters = shard.filters();
    let mut known = Vec::new();
    for (key, slot) in shard.recent() {
        let (bytes, len) = key.bytes();
        let row = tables.suppress_row(SuppressTable::Entries, &bytes[..len])?.map(|row| Entry::decode(&row));
        let agrees = match row {
            None => !slot.is_active(),
            Some(Ok(entry)) if !entry.is_active() => !slot.is_active(),
            Some(Ok(entry)) => Slot::of(&entry, list.words(&entry)) == slot && filters.may_contain(&key),
            Some(Err(_)) => false,
        };
        if agrees {
            known.push((key, slot));
        }
    }
    shard.forget(&known);
    Ok(())
}
