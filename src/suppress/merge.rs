//! Work files into the table: the part of an import (and of its undoing) that writes.
//!
//! A work file is read whole, or in parts of 64 MB where it is larger; small ones are taken together. What is read is sorted
//! by key and written in that order, so that the table is written from one end to the other, in transactions of a
//! hundred thousand rows that let the list's other writers in between. Each transaction notes how far it came. Rows of a
//! shard become known to the list when the last of them is written: few as fresh rows, many by a filter built anew; a
//! kill before that leaves the shard marked stale, and the next start does it.

use std::sync::atomic::Ordering;

use super::batch::{self, Phase, Standing};
use super::book::{self, Change, Line};
use super::bulk::Done;
use super::entry::{Entry, State};
use super::key::Key;
use super::list::Suppression;
use super::{facts, upkeep};
use crate::event::{Scope, Time};
use crate::store::{Alone, Store, StoreError, SuppressTable, WorkFiles};

/// Rows in one transaction.
const STEP: usize = if cfg!(test) { 50 } else { 100_000 };
/// Most bytes of work files in memory.
const MOST: u64 = if cfg!(test) { 5_000 } else { 64 << 20 };
/// Work files are taken together up to so many bytes.
const TOGETHER: u64 = if cfg!(test) { 2_000 } else { 8 << 20 };
/// Bytes of a row in a work file, roughly.
const ROW: u64 = 80;
/// Rows read at once where a table is read page by page.
pub(super) const PAGE: usize = if cfg!(test) { 30 } else { 20_000 };

/// How far an import, or its undoing, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows in all; of an undoing, the rows that were entered.
    pub rows: u64,
    /// Rows dealt with.
    pub done: u64,
}

/// A row in a work file: length of the key, key, length of the row (two bytes), row.
pub(super) struct Record {
    head: [u8; 25],
    key_len: usize,
    len: [u8; 2],
    row: Vec<u8>,
}

/// The record of an entry.
pub(super) fn record(key: &Key, entry: &Entry) -> Record {
    let (bytes, key_len) = key.bytes();
    let mut head = [0; 25];
    head[0] = key_len as u8;
    head[1..].copy_from_slice(&bytes);
    let row = entry.encode();
    // Seven texts of at most 500 bytes each.
    Record { head, key_len, len: (row.len() as u16).to_le_bytes(), row }
}

impl Record {
    /// Its bytes, one behind the other.
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [&self.head[..=self.key_len], &self.len, &self.row]
    }
}

/// What is read at once.
struct Unit {
    /// The first work file, where it begins in it, and the first file that is not in it.
    from: (u16, u64),
    until: u16,
    /// The file goes on behind it, from this byte.
    goes_on: Option<u64>,
    bytes: Vec<u8>,
    /// Key, begin and end of the row in `bytes`; sorted, the first of equal ones first.
    rows: Vec<(Key, u32, u32)>,
}

impl Unit {
    /// Reads the one that begins there; `None` behind the last.
    fn read(files: &WorkFiles, from: (u16, u64)) -> Result<Option<Unit>, StoreError> {
        let (mut part, offset) = from;
        while part < 256 && files.len(part as u8) <= if part == from.0 { offset } else { 0 } {
            part += 1;
        }
        if part >= 256 {
            return Ok(None);
        }
        let from = if part == from.0 { from } else { (part, 0) };
        let mut unit = Unit { from, until: part + 1, goes_on: None, bytes: Vec::new(), rows: Vec::new() };
        unit.bytes = files.read(part as u8, from.1, MOST as usize)?;
        let mut used = unit.index()?;
        if used == 0 {
            return Err(StoreError::other("a work file of the import is damaged: import the list anew"));
        }
        let left = files.len(part as u8) - from.1 - used as u64;
        if left > 0 {
            unit.goes_on = Some(from.1 + used as u64);
        } else if from.1 == 0 {
            while unit.until < 256 && used as u64 + files.len(unit.until as u8) <= TOGETHER {
                let more = files.read(unit.until as u8, 0, TOGETHER as usize)?;
                unit.bytes.extend_from_slice(&more);
                unit.until += 1;
                used = unit.bytes.len();
            }
            unit.index()?;
        }
        // Equal keys by their place, so that the first of them counts.
        unit.rows.sort_unstable_by_key(|(key, begin, _)| (*key, *begin));
        Ok(Some(unit))
    }

    /// Finds the whole records in its bytes; how many bytes they take.
    fn index(&mut self) -> Result<usize, StoreError> {
        self.rows.clear();
        let (bytes, mut at) = (&self.bytes, 0);
        while let Some(&key_len) = bytes.get(at) {
            let key_end = at + 1 + usize::from(key_len);
            let Some(len) = bytes.get(key_end..key_end + 2) else { break };
            let begin = key_end + 2;
            let end = begin + usize::from(u16::from_le_bytes([len[0], len[1]]));
            if end > bytes.len() {
                break;
            }
            let key = Key::from_bytes(&bytes[at + 1..key_end])
                .ok_or_else(|| StoreError::other("a work file of the import is damaged: import the list anew"))?;
            self.rows.push((key, begin as u32, end as u32));
            at = end;
        }
        Ok(at)
    }

    /// Where the next one begins.
    fn next(&self) -> (u16, u64) {
        match self.goes_on {
            Some(offset) => (self.from.0, offset),
            None => (self.until, 0),
        }
    }
}

/// What one transaction did.
#[derive(Default)]
struct Step {
    /// Rows that were entered, by their place in those given.
    entered: Vec<u32>,
    /// Rows that this import had entered before.
    again: u64,
    kept: u64,
    doubles: u64,
    kinds: u8,
    /// Changes of the counts by state.
    counts: [i64; 3],
}

/// Merges the work files from where `standing` says, to the end. A unit that a kill has interrupted is merged again from
/// its begin, with the same result.
pub(super) fn run(
    store: &Store,
    list: &Suppression,
    (number, standing): (u32, &mut Standing),
    files: &mut WorkFiles,
    told: &mut dyn FnMut(&Progress),
) -> Result<Done, StoreError> {
    let now = Time(standing.began);
    let mut is_first = true;
    while let Some(unit) = Unit::read(files, standing.at)? {
        // No filter is built of a shard whose rows are half written.
        let busy = upkeep::hold(&list.0);
        let stale: Vec<u8> = (unit.from.0..unit.until)
            .map(|part| part as u8)
            .filter(|part| {
                let known = list.0.shards[usize::from(*part)].filters().base.keys();
                files.len(*part) / ROW > upkeep::most_fresh(known)
            })
            .collect();
        let mut after = standing.clone();
        after.at = unit.next();
        let mut left = unit.rows.len();
        for rows in unit.rows.chunks(STEP) {
            go_on(list)?;
            left -= rows.len();
            let step = store.suppression().write_alone(|alone| {
                let step = write_rows(alone, rows, &unit.bytes, &stale, (number, now))?;
                after.merged += rows.len() as u64;
                after.entered += step.entered.len() as u64;
                after.kept += step.kept;
                after.doubles += step.doubles;
                // Where a unit was interrupted, what it had entered was not yet counted.
                *(if is_first { &mut after.entered } else { &mut after.doubles }) += step.again;
                alone.change(|tx| {
                    stale.iter().try_for_each(|part| facts::set_stale(tx, *part, true))?;
                    book::adjust(tx, step.counts, step.kinds)?;
                    if left == 0 { batch::put_row(tx, number, &after) } else { Ok(()) }
                })?;
                Ok(step)
            })?;
            for at in &step.entered {
                let (key, begin, end) = &rows[*at as usize];
                list.came_in(key, &unit.bytes[*begin as usize..*end as usize], now);
            }
            list.has_kinds(step.kinds);
            told(&Progress { rows: after.rows, done: after.merged });
        }
        *standing = after;
        is_first = false;
        if unit.goes_on.is_some() {
            continue;
        }
        for part in unit.from.0..unit.until {
            if files.len(part as u8) > 0 {
                upkeep::build(&list.0, part as u8, upkeep::Depth::AsNeeded)?;
                files.remove(part as u8)?;
            }
        }
        drop(busy);
    }
    standing.phase = Phase::Done;
    store.suppression().write(|tx| {
        batch::put_row(tx, number, standing)?;
        let Standing { entered, rows, name, .. } = &*standing;
        let what = format!("batch {number}: {entered} entries of {rows} rows from {name}");
        let why = if standing.why.is_empty() { what } else { format!("{what}: {}", standing.why) };
        book::write_line(tx, &line(Change::Import, now, &standing.who, &why))
    })?;
    files.remove_all()?;
    let Standing { rows, entered, kept, doubles, .. } = *standing;
    tracing::info!(import = number, rows, entered, kept, doubles, "a list was imported");
    Ok(Done { number, rows, entered, kept, doubles })
}

/// An error when the list is to be left alone.
fn go_on(list: &Suppression) -> Result<(), StoreError> {
    match list.0.ending.load(Ordering::Acquire) {
        true => Err(StoreError::other("the server stops; an import goes on when it starts again")),
        false => Ok(()),
    }
}

fn write_rows(
    alone: &Alone<'_>,
    rows: &[(Key, u32, u32)],
    bytes: &[u8],
    stale: &[u8],
    (number, now): (u32, Time),
) -> Result<Step, StoreError> {
    let mut step = Step::default();
    let mut entries = alone.open(SuppressTable::Entries)?;
    let mut expiries = alone.open(SuppressTable::Expiries)?;
    let mut fresh = alone.open(SuppressTable::Fresh)?;
    let mut last = None;
    for (at, (key, begin, end)) in (0..).zip(rows) {
        if last.replace(key) == Some(key) {
            step.doubles += 1;
            continue;
        }
        let row = &bytes[*begin as usize..*end as usize];
        let (key_bytes, len) = key.bytes();
        let key_bytes = &key_bytes[..len];
        match entries.with(key_bytes, |row| row.map(Entry::decode))? {
            Some(Ok(before)) if before.is_active() && before.batch == number => {
                step.again += 1;
                continue;
            }
            Some(Ok(before)) if before.is_active() && !before.is_expired(now) => {
                step.kept += 1;
                continue;
            }
            Some(Ok(before)) => {
                step.counts[before.state as usize - 1] -= 1;
                step.counts[State::Active as usize - 1] += 1;
                if before.expires.is_known() {
                    expiries.remove(&book::expiry_key(before.expires, key))?;
                }
            }
            // It was counted when it could still be read, most likely as active.
            Some(Err(_)) => {}
            None => step.counts[State::Active as usize - 1] += 1,
        }
        entries.put(key_bytes, row)?;
        let expires = Entry::expiry(row);
        if expires.is_known() {
            expiries.put(&book::expiry_key(expires, key), &[])?;
        }
        if !stale.contains(&key.subject.0[0]) {
            fresh.put(key_bytes, &[])?;
        }
        step.entered.push(at);
        step.kinds |= 1 << key.scope_kind() as u8;
    }
    Ok(step)
}

/// Takes back a whole import: deletes the entries that it made and that nobody has changed since; returns how many. One
/// line of history tells of all. Killed on the way, it can be called again.
pub fn undo(
    store: &Store,
    list: &Suppression,
    number: u32,
    (who, why): (&str, &str),
    now: Time,
    told: &mut dyn FnMut(&Progress),
) -> Result<u64, StoreError> {
    let tables = store.suppression();
    let Some(mut standing) = batch::find(tables, number)? else {
        return Err(StoreError::other(format_args!("there was no import {number}")));
    };
    if standing.phase == Phase::Reading {
        return Err(StoreError::other(format_args!("import {number} is being read: stop it instead")));
    }
    if standing.phase == Phase::Merging {
        WorkFiles::open(store, number)?.remove_all()?;
    }
    standing.phase = Phase::Undone;
    batch::put(tables, number, &standing)?;
    let (mut next, mut removed) = (Some(Vec::new()), 0);
    while let Some(from) = next.take() {
        go_on(list)?;
        let (mut seen, mut found) = (0, Vec::new());
        tables.for_each_entry(&from, &mut |key, row| {
            if seen == 10 * PAGE || found.len() == PAGE {
                next = Some(key.to_vec());
                return false;
            }
            seen += 1;
            found.extend(Key::from_bytes(key).filter(|_| Entry::decode(row).is_ok_and(|e| e.batch == number)));
            true
        })?;
        if found.is_empty() {
            continue;
        }
        let gone = tables.write_alone(|alone| {
            let gone = remove_rows(alone, &found, number)?;
            let mut counts = [0; 3];
            gone.iter().for_each(|(_, entry)| counts[entry.state as usize - 1] -= 1);
            let mut after = standing.clone();
            after.undone += gone.len() as u64;
            alone.change(|tx| {
                book::adjust(tx, counts, 0)?;
                batch::put_row(tx, number, &after)
            })?;
            Ok(gone)
        })?;
        gone.iter().for_each(|(key, entry)| list.deleted(key, entry));
        removed += gone.len() as u64;
        standing.undone += gone.len() as u64;
        told(&Progress { rows: standing.entered, done: standing.undone });
    }
    tables.write(|tx| {
        let what = format!("{} entries of import {number}, {}: {why}", standing.undone, standing.name);
        book::write_line(tx, &line(Change::Undo, now, who, &what))
    })?;
    // Filters that know many who are gone cost memory, and a look at the table for each.
    if removed > list.len() as u64 / 8 && removed > 100_000 {
        list.rebuild()?;
    }
    tracing::info!(import = number, removed, why, "an import was taken back");
    Ok(removed)
}

fn remove_rows(alone: &Alone<'_>, keys: &[Key], number: u32) -> Result<Vec<(Key, Entry)>, StoreError> {
    let mut entries = alone.open(SuppressTable::Entries)?;
    let mut expiries = alone.open(SuppressTable::Expiries)?;
    let mut fresh = alone.open(SuppressTable::Fresh)?;
    let mut gone = Vec::with_capacity(keys.len());
    for key in keys {
        let (bytes, len) = key.bytes();
        let bytes = &bytes[..len];
        // It may have been changed since it was found; one that was taken off keeps its row.
        let Some(Ok(entry)) = entries.with(bytes, |row| row.map(Entry::decode))? else { continue };
        if entry.batch != number || !entry.is_active() {
            continue;
        }
        entries.remove(bytes)?;
        fresh.remove(bytes)?;
        if entry.expires.is_known() {
            expiries.remove(&book::expiry_key(entry.expires, key))?;
        }
        gone.push((*key, entry));
    }
    Ok(gone)
}

fn line(change: Change, time: Time, who: &str, why: &str) -> Line {
    Line {
        time,
        change,
        key: None,
        subject: "".into(),
        scope: Scope::global(),
        who: who.into(),
        provider: "".into(),
        why: why.into(),
    }
}
