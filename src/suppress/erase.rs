//! What is taken out of the list for good: entries that are purged, and everything about a person that is to be
//! forgotten but the hash that goes on suppressing. In bounded pieces, each one transaction and durable by itself, so
//! that a large list blocks nobody for long and a crash leaves some pieces done and the others not.

use super::book::{self, Change, Line};
use super::operate::{MAX_SCAN, ScopeFilter, SuppressError, folded, of_subject};
use super::storage::redacted;
use super::{Entry, Key, Source, State, Suppression};
use crate::event::{Scope, Time};
use crate::store::{Store, SuppressTable};

/// Entries deleted in one piece, at most.
const MAX_PIECE: usize = 5000;

/// Which entries are deleted: those of which everything that is given is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// Taken off before this time.
    pub removed_before: Option<Time>,
    /// Their time is over.
    pub expired: bool,
    /// Who entered them.
    pub source: Option<Source>,
    /// Number of the import.
    pub batch: Option<u32>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// For whose mail they count.
    pub scope: Option<ScopeFilter>,
}

impl Purge {
    /// Whether nothing is given: that deletes nothing, rather than everything.
    pub fn is_empty(&self) -> bool {
        *self == Purge::default()
    }

    fn takes(&self, entry: &Entry, now: Time) -> bool {
        !self.is_empty()
            && self.removed_before.is_none_or(|before| entry.state == State::Removed && entry.time < before)
            && (!self.expired || entry.is_expired(now))
            && self.source.is_none_or(|source| entry.source == source)
            && self.batch.is_none_or(|batch| entry.batch == batch)
            && self.rule.as_deref().is_none_or(|rule| entry.rule.eq_ignore_ascii_case(rule))
            && self.scope.as_ref().is_none_or(|scope| scope.passes(&entry.scope))
    }
}

/// What a piece of a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries deleted, or that would be.
    pub entries: u64,
    /// Of them, those that suppressed: mail to them is sent again.
    pub active: u64,
    /// Where the next piece begins; none when this was the last.
    pub next: Option<Key>,
}

/// Deletes entries behind `after`, or only counts them. What else is to be said of it in the history is `why`, by `who`.
pub fn purge(
    list: &Suppression,
    store: &Store,
    which: &Purge,
    after: Option<Key>,
    said: Option<(&str, &str)>,
    now: Time,
) -> Result<Purged, SuppressError> {
    let (mut purged, mut taken, mut last) = (Purged::default(), Vec::new(), None);
    let mut looked_at = 0;
    let (from, len) = after.map_or(([0; 24], 0), |key| key.bytes());
    store.suppression().for_each_entry(&from[..len], &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| after.is_none_or(|after| *key > after)) else { return true };
        if looked_at == MAX_SCAN || taken.len() == MAX_PIECE {
            purged.next = last;
            return false;
        }
        looked_at += 1;
        last = Some(key);
        if let Ok(entry) = Entry::decode(row)
            && which.takes(&entry, now)
        {
            match said {
                Some(_) => taken.push(key),
                // Counting needs no memory.
                None => purged.count(&entry, now),
            }
        }
        true
    })?;
    let Some((who, why)) = said.filter(|_| !taken.is_empty()) else { return Ok(purged) };
    let gone = store.suppression().write(|tx| {
        let mut gone = Vec::with_capacity(taken.len());
        for key in &taken {
            // It may have changed since it was looked at.
            if let Some(entry) = book::find(tx, key)?.filter(|entry| which.takes(entry, now)) {
                book::delete(tx, key)?;
                gone.push((*key, entry));
            }
        }
        let line = Line {
            time: now,
            change: Change::Purge,
            key: None,
            subject: "".into(),
            scope: Scope::global(),
            who: who.into(),
            provider: "".into(),
            why: format!("{} entries: {why}", gone.len()).into(),
        };
        book::write_line(tx, &line)?;
        Ok(gone)
    })?;
    for (key, entry) in gone {
        list.remove(&key);
        purged.count(&entry, now);
    }
    Ok(purged)
}

impl Purged {
    fn count(&mut self, entry: &Entry, now: Time) {
        self.entries += 1;
        self.active += u64::from(entry.is_active() && !entry.is_expired(now));
    }
}

/// What became of a person's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries of which only the hash is left.
    pub entries: u64,
    /// Of them, those that go on suppressing.
    pub active: u64,
    /// Rows of strikes that were deleted.
    pub strikes: u64,
}

/// Deletes from the entries of an address everything but the hash, and the strikes against it, and leaves a line in the
/// history that names the hash alone.
pub fn forget(
    list: &Suppression,
    store: &Store,
    address: &str,
    who: &str,
    now: Time,
) -> Result<Forgotten, SuppressError> {
    let subject = list.hasher().subject(&folded(address)?);
    let keys: Vec<Key> = of_subject(store.suppression(), subject)?.into_iter().map(|listed| listed.key).collect();
    let mut strikes = Vec::new();
    store.suppression().for_each_suppress_row(SuppressTable::Strikes, &[], &mut |row, _| {
        if row.windows(subject.0.len()).any(|part| part == subject.0) {
            strikes.push(row.to_vec());
        }
        true
    })?;
    let mut forgotten = Forgotten { strikes: strikes.len() as u64, ..Forgotten::default() };
    store.suppression().write(|tx| {
        for key in &keys {
            let Some(entry) = book::find(tx, key)? else { continue };
            // The operator's reason may tell as much of a person as the reply.
            let bare = Entry { note: "".into(), ..entry.nameless() };
            book::put(tx, key, &bare, (Change::Forget, now), (who, ""))?;
            forgotten.entries += 1;
            forgotten.active += u64::from(entry.is_active() && !entry.is_expired(now));
        }
        if keys.is_empty() {
            let line = Line {
                time: now,
                change: Change::Forget,
                key: Some(subject.in_scope(&Scope::global())),
                subject: "".into(),
                scope: Scope::global(),
                who: who.into(),
                provider: "".into(),
                why: "".into(),
            };
            book::write_line(tx, &line)?;
        }
        for row in &strikes {
            tx.remove_suppress_row(SuppressTable::Strikes, row);
        }
        Ok(())
    })?;
    Ok(forgotten)
}

/// Takes an address out of the notes and replies of other people's entries behind `after`: the number of those that named
/// it, and where the next piece begins.
pub fn forget_mentions(
    list: &Suppression,
    store: &Store,
    address: &str,
    after: Option<Key>,
) -> Result<(u64, Option<Key>), SuppressError> {
    let text = folded(address)?;
    let subject = list.hasher().subject(&text);
    let (mut keys, mut next, mut last, mut looked_at) = (Vec::new(), None, None, 0);
    let (from, len) = after.map_or(([0; 24], 0), |key| key.bytes());
    let without = |entry: &Entry| {
        let (note, reply) = (redacted(&entry.note, &text), redacted(&entry.reply, &text));
        let named = *note != *entry.note || *reply != *entry.reply;
        named.then(|| Entry { note: note.into(), reply: reply.into(), ..entry.clone() })
    };
    store.suppression().for_each_entry(&from[..len], &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| after.is_none_or(|after| *key > after)) else { return true };
        if looked_at == MAX_SCAN || keys.len() == MAX_PIECE {
            next = last;
            return false;
        }
        looked_at += 1;
        last = Some(key);
        let names = |entry: &Entry| key.subject != subject && without(entry).is_some();
        // Most say nothing of anybody, and need not be looked through.
        if row.iter().filter(|b| **b == b'@').count() > 1 && Entry::decode(row).is_ok_and(|e| names(&e)) {
            keys.push(key);
        }
        true
    })?;
    if !keys.is_empty() {
        store.suppression().write(|tx| {
            for key in &keys {
                if let Some(entry) = book::find(tx, key)?.as_ref().and_then(without) {
                    book::put_silently(tx, key, &entry)?;
                }
            }
            Ok(())
        })?;
    }
    Ok((keys.len() as u64, next))
}

/// Takes an address out of the lines of the history behind `after`: the number of lines that named it, and where the next
/// piece begins.
pub fn forget_history(
    list: &Suppression,
    store: &Store,
    address: &str,
    after: &[u8],
) -> Result<(u64, Option<Vec<u8>>), SuppressError> {
    let text = folded(address)?;
    let subject = list.hasher().subject(&text);
    let (mut rows, mut next, mut last, mut looked_at) = (Vec::new(), None, Vec::new(), 0);
    store.suppression().for_each_suppress_row(SuppressTable::History, after, &mut |row, value| {
        if !after.is_empty() && row <= after {
            return true;
        }
        if looked_at == MAX_SCAN || rows.len() == MAX_PIECE {
            next = Some(std::mem::take(&mut last));
            return false;
        }
        looked_at += 1;
        last.clear();
        last.extend_from_slice(row);
        let Some(line) = book::read_line(row, value) else { return true };
        let of_it = line.key.is_some_and(|key| key.subject == subject);
        let why = if of_it { String::new() } else { redacted(&line.why, &text) };
        if of_it && !line.subject.is_empty() || *why != *line.why {
            let subject = if of_it { "".into() } else { line.subject.clone() };
            rows.push((row.to_vec(), book::line_value(&Line { subject, why: why.into(), ..line })));
        }
        true
    })?;
    if !rows.is_empty() {
        store.suppression().write(|tx| {
            for (row, value) in &rows {
                tx.put_suppress_row(SuppressTable::History, row, value.clone());
            }
            Ok(())
        })?;
    }
    Ok((rows.len() as u64, next))
}
