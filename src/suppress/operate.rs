//! What operators do with the list by hand: enter, take off, look through.
//!
//! Each change is one transaction of the tables and then takes effect in memory; if the transaction fails, nothing
//! changed. Each change leaves a line in the log that says who was entered or taken off and why. Reads and writes
//! block for the disk: call from a thread that may.

use std::collections::BTreeMap;

use super::{Entry, EntryError, Source, Suppression, rules};
use crate::event::{Address, AddressError, AddressKey, EventId, Time};
use crate::store::{Store, StoreError, Tables};

/// Why the list was not changed, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SuppressError {
    /// The text is no address.
    #[error("{0:?}: {1}")]
    Address(String, AddressError),
    /// The tables can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row of the address can't be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Enters an address by hand; `false` when it was on the list already (it keeps its entry).
pub fn add(list: &Suppression, store: &Store, address: &str, reason: &str, now: Time) -> Result<bool, SuppressError> {
    let key = key(address)?;
    let entry = Entry {
        source: Source::Manual,
        rule: rules::MANUAL.into(),
        by: EventId { store: store.id(), seq: 0 },
        time: now,
        category: "".into(),
        reply: "".into(),
        note: reason.into(),
    };
    let added = store.tables().write(|tx| {
        let before = tx.suppressed(key.as_str())?;
        if before.as_deref().is_some_and(is_active) {
            return Ok(false);
        }
        tx.put_suppressed(key.as_str(), &entry.encode())?;
        Ok(true)
    })?;
    if added {
        list.apply(&key, &entry);
        tracing::info!(address = key.as_str(), reason, "suppressed by hand");
    }
    Ok(added)
}

/// Takes an address off the list; `false` when it was not on it. Events that are in the ledger by now do not put it
/// back, later ones may.
pub fn remove(
    list: &Suppression,
    store: &Store,
    address: &str,
    reason: &str,
    now: Time,
) -> Result<bool, SuppressError> {
    let key = key(address)?;
    let was_in = list.check(key.as_str()).is_some();
    let last = EventId { store: store.id(), seq: store.ledger().end().saturating_sub(1) };
    let removed = store.tables().write(|tx| {
        let before = tx.suppressed(key.as_str())?;
        // One that the consumer has applied and not yet committed has no row so far.
        if !was_in && !before.as_deref().is_some_and(is_active) {
            return Ok(false);
        }
        let before = before.and_then(|row| Entry::decode(&row).ok());
        let entry = Entry {
            source: Source::Removed,
            by: last,
            time: now,
            note: reason.into(),
            rule: before.as_ref().map_or_else(|| "".into(), |entry| entry.rule.clone()),
            category: before.as_ref().map_or_else(|| "".into(), |entry| entry.category.clone()),
            reply: before.map_or_else(|| "".into(), |entry| entry.reply),
        };
        tx.put_suppressed(key.as_str(), &entry.encode())?;
        Ok(true)
    })?;
    if removed {
        list.remove(&key);
        tracing::info!(address = key.as_str(), reason, "taken off the suppression list");
    }
    Ok(removed)
}

/// Which entries are wanted; an absent part wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the address.
    pub contains: Option<String>,
    /// Domain of the address.
    pub domain: Option<String>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Who entered it; without it, all but the removed ones.
    pub source: Option<Source>,
    /// Entered at or after this time.
    pub since: Option<Time>,
    /// Only keys behind this one: [`Page::next`] of the page before.
    pub after: Option<String>,
}

/// An address with its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The address, folded.
    pub address: String,
    /// Why it is on the list.
    pub entry: Entry,
}

/// Some addresses in order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as were asked for.
    pub entries: Vec<Listed>,
    /// Where the next page begins ([`Filter::after`]); none when this is the last.
    pub next: Option<String>,
}

/// The entry of one address, whether it suppresses or was taken off.
pub fn show(tables: &Tables, address: &str) -> Result<Option<Listed>, SuppressError> {
    let key = key(address)?;
    let row = tables.suppressed(key.as_str())?;
    let entry = row.and_then(|row| Entry::decode(&row).ok());
    Ok(entry.map(|entry| Listed { address: key.as_str().to_owned(), entry }))
}

/// The first `most` entries that pass the filter.
pub fn list(tables: &Tables, filter: &Filter, most: usize) -> Result<Page, SuppressError> {
    let mut found = BTreeMap::new();
    let mut more = false;
    tables.for_each_suppressed(&mut |key, row| {
        if !filter.passes_key(key) {
            return;
        }
        let Ok(entry) = Entry::decode(row) else { return };
        if filter.passes(&entry) {
            found.insert(key.to_owned(), entry);
            if found.len() > most {
                found.pop_last();
                more = true;
            }
        }
    })?;
    let entries: Vec<_> = found.into_iter().map(|(address, entry)| Listed { address, entry }).collect();
    let next = if more { entries.last().map(|last| last.address.clone()) } else { None };
    Ok(Page { entries, next })
}

impl Filter {
    fn passes_key(&self, key: &str) -> bool {
        self.after.as_deref().is_none_or(|after| key > after)
            && self.contains.as_deref().is_none_or(|part| key.contains(&part.to_lowercase()))
            && self.domain.as_deref().is_none_or(|domain| {
                key.rsplit_once('@').is_some_and(|(_, d)| *d == *crate::event::address::canonical_domain(domain))
            })
    }

    fn passes(&self, entry: &Entry) -> bool {
        self.source.map_or(entry.is_active(), |source| entry.source == source)
            && self.rule.as_deref().is_none_or(|rule| entry.rule.eq_ignore_ascii_case(rule))
            && self.since.is_none_or(|since| entry.time >= since)
    }
}

fn key(address: &str) -> Result<AddressKey, SuppressError> {
    let address = address.trim();
    match Address::parse(address) {
        Ok(parsed) => Ok(parsed.key()),
        Err(error) => Err(SuppressError::Address(address.chars().take(80).collect(), error)),
    }
}

fn is_active(row: &[u8]) -> bool {
    Entry::decode(row).is_ok_and(|entry| entry.is_active())
}
