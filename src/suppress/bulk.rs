//! Very many entries at once: lists that operators bring in, take back and carry out, in bounded memory.
//!
//! ```text
//! let mut import = Import::begin(&store, &list, batch)?;      a number, a line in the facts
//! import.add("ann@example.net", &Row::default())?;            into one of 256 work files, by the key's first byte
//! let done = import.finish(&mut |progress| ...)?;             each file sorted and merged into the table
//! ```
//!
//! What an import has merged suppresses at once, while it goes on. After a kill before `finish` the work files are thrown
//! away at the next start, and nothing was entered; after a kill during `finish` it stands in [`unfinished`], and
//! [`resume`] goes on where it was. An entry that is there already and suppresses stays as it is.

use std::sync::atomic::Ordering;

use super::batch;
pub use super::batch::{Phase, Standing, all as batches, find};
use super::merge;
pub use super::merge::{Progress, undo};
use super::{Entry, Key, Source, State, SubjectKey, SuppressError, Suppression, folded};
use crate::event::{EventId, Scope, Time};
use crate::store::{Store, StoreError, Tables, WorkFiles};

/// What all rows of a list have in common.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the operator knows it by: the file's name.
    pub name: Box<str>,
    /// Who brings it in, for the history.
    pub who: Box<str>,
    /// Why, for the history; not kept with each entry.
    pub why: Box<str>,
    /// For whose mail its entries count.
    pub scope: Scope,
    /// Rule of its entries; `import` where nothing better is known.
    pub rule: Box<str>,
    /// When its entries end; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// Now: when the entries are made, unless a row says otherwise.
    pub now: Time,
    /// Only hashes are kept: no subjects and no notes.
    pub hashed_only: bool,
}

/// What one row of a list says for itself; what is unknown, empty or `None` is as the batch says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<'a> {
    /// When it happened.
    pub time: Time,
    /// When it ends.
    pub expires: Time,
    /// For whose mail it counts.
    pub scope: Option<&'a Scope>,
    /// By what rule.
    pub rule: &'a str,
    /// Bounce category.
    pub category: &'a str,
    /// The reply.
    pub reply: &'a str,
    /// The reason.
    pub note: &'a str,
}

/// A list on its way in.
#[derive(Debug)]
pub struct Import {
    store: Store,
    list: Suppression,
    number: u32,
    standing: Standing,
    files: WorkFiles,
    /// The entry of a row that says nothing for itself.
    plain: Entry,
    hashed_only: bool,
    /// Its work files are still wanted.
    under_way: bool,
}

/// What became of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The number of the import, as its entries have it.
    pub number: u32,
    /// Rows that were added.
    pub rows: u64,
    /// Entries that were made.
    pub entered: u64,
    /// Rows whose subject was on the list already.
    pub kept: u64,
    /// Rows that came more than once in the list.
    pub doubles: u64,
}

impl Import {
    /// Begins one into `list`, which was loaded from `store`.
    pub fn begin(store: &Store, list: &Suppression, batch: Batch) -> Result<Import, StoreError> {
        if !list.is_loaded() {
            return Err(StoreError::other("the suppression list was not loaded from a store: nothing can be imported"));
        }
        let standing = Standing {
            name: batch.name,
            who: batch.who,
            why: batch.why,
            began: batch.now.0,
            phase: Phase::Reading,
            ..Standing::default()
        };
        let number = batch::begin(store.suppression(), &standing)?;
        let files = WorkFiles::create(store, number)?;
        let plain = Entry {
            source: Source::Import,
            rule: batch.rule,
            time: batch.now,
            expires: batch.expires,
            scope: batch.scope,
            batch: number,
            ..Entry::default()
        };
        let (store, list, hashed_only) = (store.clone(), list.clone(), batch.hashed_only);
        Ok(Import { store, list, number, standing, files, plain, hashed_only, under_way: true })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Adds an address or `@domain`, however it is spelt. [`SuppressError::Address`] says what is wrong with one that is
    /// neither; nothing was added then, and the next may be. Any other error ends the import.
    pub fn add(&mut self, subject: &str, row: &Row<'_>) -> Result<(), SuppressError> {
        let subject = folded(subject)?;
        let key = self.list.hasher().subject(&subject);
        Ok(self.enter(key, &subject, row)?)
    }

    /// Adds one of which only the hash is known: the first half of SHA-256, or of HMAC-SHA-256 under the same
    /// `suppression-hash-key`, over the folded subject.
    pub fn add_hashed(&mut self, subject: SubjectKey, row: &Row<'_>) -> Result<(), StoreError> {
        self.enter(subject, "", row)
    }

    fn enter(&mut self, subject: SubjectKey, text: &str, row: &Row<'_>) -> Result<(), StoreError> {
        let kept = |text: &str| if self.hashed_only { "".into() } else { text.into() };
        let plain = &self.plain;
        let entry = Entry {
            time: if row.time.is_known() { row.time } else { plain.time },
            expires: if row.expires.is_known() { row.expires } else { plain.expires },
            scope: row.scope.unwrap_or(&plain.scope).clone(),
            rule: if row.rule.is_empty() { plain.rule.clone() } else { row.rule.into() },
            category: row.category.into(),
            reply: kept(row.reply),
            note: kept(row.note),
            subject: kept(text),
            by: EventId::default(),
            state: State::Active,
            ..plain.clone()
        };
        let key = subject.in_scope(&entry.scope);
        let row = merge::record(&key, &entry);
        self.files.append(key.subject.0[0], &row.parts())?;
        self.standing.rows += 1;
        Ok(())
    }

    /// Takes note of what of the list was no row of it: records that are on no list, and those that can't be read.
    pub fn left_out(&mut self, skipped: u64, rejected: u64) {
        (self.standing.skipped, self.standing.rejected) = (skipped, rejected);
    }

    /// Enters all that was added, and tells how far it has come, after each transaction. Blocks for as long as it takes.
    pub fn finish(mut self, told: &mut dyn FnMut(&Progress)) -> Result<Done, StoreError> {
        self.files.sync()?;
        self.standing.phase = Phase::Merging;
        batch::put(self.store.suppression(), self.number, &self.standing)?;
        // From here on a restart goes on with it.
        self.under_way = false;
        merge::run(&self.store, &self.list, (self.number, &mut self.standing), &mut self.files, told)
    }

    /// Gives it up: nothing was entered.
    pub fn abandon(self) {}
}

impl Drop for Import {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        self.standing.phase = Phase::Abandoned;
        let ended =
            self.files.remove_all().and_then(|()| batch::put(self.store.suppression(), self.number, &self.standing));
        if let Err(error) = ended {
            tracing::error!(import = self.number, %error, "its work files are removed at the next start");
        }
    }
}

/// The imports that a restart interrupted while they were merged: half of their entries may be in force.
pub fn unfinished(tables: &Tables) -> Result<Vec<(u32, Standing)>, StoreError> {
    Ok(batch::all(tables)?.into_iter().filter(|(_, standing)| standing.phase == Phase::Merging).collect())
}

/// Goes on with one of them. Blocks for as long as it takes.
pub fn resume(
    store: &Store,
    list: &Suppression,
    number: u32,
    told: &mut dyn FnMut(&Progress),
) -> Result<Done, StoreError> {
    let standing = batch::find(store.suppression(), number)?.filter(|standing| standing.phase == Phase::Merging);
    let Some(mut standing) = standing else {
        return Err(StoreError::other(format_args!("import {number} is not under way")));
    };
    let mut files = WorkFiles::open(store, number)?;
    merge::run(store, list, (number, &mut standing), &mut files, told)
}

/// Ends all merging and undoing in this list behind the next transaction, with an error, for good: the server stops.
/// [`unfinished`] has them at the next start.
pub fn end_all(list: &Suppression) {
    list.0.ending.store(true, Ordering::Release);
}

/// Removes what imports left over that a kill interrupted while they were read. Only at the start.
pub(super) fn clean(store: &Store) -> Result<(), StoreError> {
    let all = batch::all(store.suppression())?;
    for (number, standing) in all.iter().filter(|(_, standing)| standing.phase == Phase::Reading) {
        let standing = Standing { phase: Phase::Abandoned, ..standing.clone() };
        batch::put(store.suppression(), *number, &standing)?;
        tracing::warn!(import = number, list = &*standing.name, "an import was interrupted: bring the list in anew");
    }
    let merging = |n: u32| all.iter().any(|(number, standing)| *number == n && standing.phase == Phase::Merging);
    WorkFiles::clean(store, merging)
}

/// Calls `f` with each entry behind `after`, in order of their keys, until it returns `false`; rows that can't be read
/// are passed to `unreadable`. It holds no transaction open for long, so what changes meanwhile may or may not be seen.
pub fn scan(
    tables: &Tables,
    after: Option<Key>,
    f: &mut dyn FnMut(&Key, &Entry) -> bool,
    unreadable: &mut dyn FnMut(&[u8]),
) -> Result<(), StoreError> {
    let mut from = after.map_or_else(Vec::new, |key| behind(&key));
    loop {
        let mut rows = Vec::with_capacity(merge::PAGE);
        tables.for_each_entry(&from, &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            rows.len() < merge::PAGE
        })?;
        for (key, row) in &rows {
            match (Key::from_bytes(key), Entry::decode(row)) {
                (Some(key), Ok(entry)) if !f(&key, &entry) => return Ok(()),
                (Some(_), Ok(_)) => {}
                _ => unreadable(key),
            }
        }
        match rows.pop() {
            Some((last, _)) if rows.len() + 1 == merge::PAGE => from = [&last[..], &[0]].concat(),
            _ => return Ok(()),
        }
    }
}

/// The first key there can be behind this one.
fn behind(key: &Key) -> Vec<u8> {
    let (bytes, len) = key.bytes();
    [&bytes[..len], &[0]].concat()
}
