//! What operators do when a provider was mistaken: take back what its bounces entered, and end what a breaker holds.
//!
//! Each page is one transaction, then in force in memory at once. What was taken back is found no more by who asks again:
//! so a command that was broken off, or a machine that crashed half-way, is finished by giving the command once more.

use serde::{Deserialize, Serialize};

use super::doubt::{self, SharedBreaker};
use crate::event::{EventId, Time};
use crate::store::{Store, StoreError, SuppressTable, Tx};
use crate::suppress::book::{self, Change};
use crate::suppress::breaker::Circuit;
use crate::suppress::{Entry, Key, Source, State, Suppression};

/// Entries of one transaction.
const PAGE: usize = 1000;
/// Lines of history looked through for one page.
const MAX_LINES: usize = 200_000;
/// A breaker that has ended is looked back at so far, in microseconds.
const LOOK_BACK: i64 = 30 * 86_400 * 1_000_000;

/// What is to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The provider whose events entered it.
    pub provider: String,
    /// Entered by events at or after this time, in microseconds since 1970.
    pub since: i64,
    /// And before this one; 0 is now.
    #[serde(default)]
    pub until: i64,
    /// Only by this rule. Complaints and unsubscribes are taken back only when their rule is named: they are a person's
    /// word, not the provider's.
    #[serde(default)]
    pub rule: String,
    /// Only say what it would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
    /// Where the page before ended; empty is the beginning.
    #[serde(default)]
    pub after: Vec<u8>,
}

/// One page of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Undone {
    /// Entries taken back, or that would be.
    pub entries: Vec<Back>,
    /// Complaints and unsubscribes of that time, which stay.
    pub kept: u64,
    /// Where the next page begins; none after the last.
    pub next: Option<Vec<u8>>,
}

/// An entry that was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Back {
    /// Whom it was about; empty where only hashes are kept.
    pub subject: String,
    /// For whose mail it counted.
    pub scope: String,
    /// By which rule.
    pub rule: String,
    /// When it was entered, in microseconds since 1970.
    pub time: i64,
    /// The reply.
    pub reply: String,
}

/// Takes one page back.
pub fn undo(store: &Store, list: &Suppression, asked: &Undo, now: Time) -> Result<Undone, StoreError> {
    let until = if asked.until == 0 { Time(i64::MAX) } else { Time(asked.until) };
    let since = Time(asked.since);
    let mut page = Undone::default();
    let mut keys: Vec<Key> = Vec::new();
    let from = book::line_from(since);
    let from = if asked.after.is_empty() { &from[..] } else { &asked.after[..] };
    let mut lines = 0;
    store.suppression().for_each_suppress_row(SuppressTable::History, from, &mut |row, value| {
        if row <= &asked.after[..] {
            return true;
        }
        let Some(line) = book::read_line(row, value) else { return true };
        if line.time >= until {
            return false;
        }
        lines += 1;
        keys.extend(line.key.filter(|_| line.change == Change::Enter));
        if keys.len() >= PAGE || lines >= MAX_LINES {
            page.next = Some(row.to_vec());
            return false;
        }
        true
    })?;
    keys.sort_unstable();
    keys.dedup();
    let last = EventId { store: store.id(), seq: store.ledger().end().saturating_sub(1) };
    let reason = if asked.reason.is_empty() { "a mistake of the provider" } else { &asked.reason };
    let mut removed = Vec::new();
    let change = |tx: &mut Tx<'_>| {
        page.entries.clear();
        page.kept = 0;
        removed.clear();
        for key in &keys {
            let Some(entry) = book::find(tx, key)? else { continue };
            let named = !asked.rule.is_empty() && entry.rule.eq_ignore_ascii_case(&asked.rule);
            let is_meant = entry.state != State::Removed
                && matches!(entry.source, Source::Auto | Source::Unsubscribe)
                && (since..until).contains(&entry.time)
                && Circuit::provider(doubt::provider(&entry)) == Circuit::provider(&asked.provider)
                && (named || asked.rule.is_empty());
            if !is_meant {
                continue;
            }
            if !named && entry.category.is_empty() {
                page.kept += 1;
                continue;
            }
            page.entries.push(Back {
                subject: entry.subject.to_string(),
                scope: entry.scope.to_string(),
                rule: entry.rule.to_string(),
                time: entry.time.0,
                reply: entry.reply.to_string(),
            });
            if !asked.dry_run {
                let back = Entry { state: State::Removed, by: last, note: reason.into(), ..entry };
                book::put(tx, key, &back, (Change::Undo, now), ("operator", reason))?;
                removed.push(*key);
            }
        }
        Ok(())
    };
    store.suppression().write(change)?;
    for key in &removed {
        list.remove(key);
    }
    if !removed.is_empty() {
        tracing::warn!(
            entries = removed.len(),
            provider = asked.provider,
            rule = asked.rule,
            reason,
            "suppressions undone"
        );
    }
    Ok(page)
}

/// What an operator says about a breaker that has tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It was a mistake, or is over: what it holds is let go.
    Release,
    /// The bounces are right: what it holds suppresses.
    Confirm,
}

/// Ends a breaker; how many entries it held. `settle` waits until the consumer has committed what it has applied.
pub fn end(
    store: &Store,
    list: &Suppression,
    breaker: &SharedBreaker,
    (circuit, word): (&Circuit, Word),
    now: Time,
    settle: &dyn Fn(),
) -> Result<Option<u64>, StoreError> {
    let tripped = doubt::lock(breaker).tripped().into_iter().find(|(c, _)| c == circuit);
    let from = tripped.as_ref().map_or(now.0.saturating_sub(LOOK_BACK), |(_, t)| t.from);
    settle();
    let mut ended = let_go(store, list, (circuit, word), Time(from), now)?;
    store.suppression().write(|tx| {
        let mut breaker = doubt::lock(breaker);
        breaker.end(circuit, word == Word::Confirm);
        doubt::keep(tx, &breaker);
        Ok(())
    })?;
    // What was held while we were at it.
    settle();
    ended += let_go(store, list, (circuit, word), Time(from), now)?;
    if tripped.is_none() && ended == 0 {
        return Ok(None);
    }
    tracing::warn!(%circuit, entries = ended, word = ?word, "breaker ended by an operator");
    Ok(Some(ended))
}

fn let_go(
    store: &Store,
    list: &Suppression,
    (circuit, word): (&Circuit, Word),
    from: Time,
    now: Time,
) -> Result<u64, StoreError> {
    let name = circuit.to_string();
    let last = EventId { store: store.id(), seq: store.ledger().end().saturating_sub(1) };
    let keys = doubt::named_since(store.suppression(), from, &[Change::Enter, Change::Hold])?;
    let mut all = 0;
    for keys in keys.chunks(PAGE) {
        let changed = store.suppression().write(|tx| {
            let mut changed = Vec::new();
            for key in keys {
                let Some(entry) = book::find(tx, key)?.filter(|e| e.state == State::Held && *e.note == *name) else {
                    continue;
                };
                let (entry, why) = match word {
                    Word::Release => (Entry { state: State::Removed, by: last, ..entry }, "released by an operator"),
                    Word::Confirm => (Entry { state: State::Active, ..entry }, "confirmed by an operator"),
                };
                book::put(tx, key, &entry, (Change::Release, now), ("operator", why))?;
                changed.push((*key, entry));
            }
            Ok(changed)
        })?;
        all += changed.len() as u64;
        for (key, entry) in changed {
            list.apply(&key, &entry);
        }
    }
    Ok(all)
}

/// How many entries a breaker holds.
pub fn held(store: &Store, circuit: &Circuit, from: Time) -> Result<u64, StoreError> {
    let name = circuit.to_string();
    let mut held = 0;
    for key in doubt::named_since(store.suppression(), from, &[Change::Enter, Change::Hold])? {
        let (bytes, len) = key.bytes();
        let row = store.suppression().suppress_row(SuppressTable::Entries, &bytes[..len])?;
        let entry = row.and_then(|row| Entry::decode(&row).ok());
        held += u64::from(entry.is_some_and(|e| e.state == State::Held && *e.note == *name));
    }
    Ok(held)
}
