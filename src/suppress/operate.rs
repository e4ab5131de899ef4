//! What operators do with the list by hand: enter, take off, look through.
//!
//! Each change is one transaction of the tables and then takes effect in memory; if the transaction fails, nothing
//! changed. Each change leaves a line in the log that says who was entered or taken off and why. Reads and writes
//! block for the disk: call from a thread that may.

use super::book::{self, Change};
use super::{Entry, EntryError, Key, Source, State, Suppression, rules};
use crate::event::{Address, AddressError, AddressKey, EventId, Scope, Time};
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

/// Enters a subject by hand; `false` when it was on the list already (it keeps its entry).
pub fn add(
    list: &Suppression,
    store: &Store,
    subject: &str,
    scope: &Scope,
    reason: &str,
    now: Time,
) -> Result<bool, SuppressError> {
    let subject = folded(subject)?;
    let key = list.hasher().subject(&subject).in_scope(scope);
    let entry = Entry {
        source: Source::Manual,
        rule: rules::MANUAL.into(),
        by: EventId { store: store.id(), seq: 0 },
        time: now,
        scope: scope.clone(),
        subject: subject.as_str().into(),
        note: reason.into(),
        ..Entry::default()
    };
    let added = store.suppression().write(|tx| {
        if book::find(tx, &key)?.is_some_and(|e| e.is_active() && !e.is_expired(now)) {
            return Ok(false);
        }
        book::put(tx, &key, &entry, (Change::Enter, now), ("operator", reason))?;
        Ok(true)
    })?;
    if added {
        list.apply(&key, &entry);
        tracing::info!(subject, %scope, reason, "suppressed by hand");
    }
    Ok(added)
}

/// Takes a subject off the list; `false` when it was not on it. Events that are in the ledger by now do not put it
/// back, later ones may.
pub fn remove(
    list: &Suppression,
    store: &Store,
    subject: &str,
    scope: &Scope,
    reason: &str,
    now: Time,
) -> Result<bool, SuppressError> {
    let subject = folded(subject)?;
    let key = list.hasher().subject(&subject).in_scope(scope);
    let was_in = list.contains(&key);
    let last = EventId { store: store.id(), seq: store.ledger().end().saturating_sub(1) };
    let removed = store.suppression().write(|tx| {
        let before = book::find(tx, &key)?;
        // One that the consumer has applied and not yet committed has no row so far.
        if !was_in && !before.as_ref().is_some_and(Entry::is_active) {
            return Ok(false);
        }
        let before = before.unwrap_or_else(|| Entry {
            scope: scope.clone(),
            subject: subject.as_str().into(),
            ..Entry::default()
        });
        let entry = Entry { state: State::Removed, by: last, time: now, note: reason.into(), ..before };
        book::put(tx, &key, &entry, (Change::Remove, now), ("operator", reason))?;
        Ok(true)
    })?;
    if removed {
        list.remove(&key);
        tracing::info!(subject, %scope, reason, "taken off the suppression list");
    }
    // It stands under the spelling that its provider folds it to, too; what is folded is not folded again.
    match list.hasher().fold(&AddressKey::of(&subject)) {
        Some(mailbox) => Ok(remove(list, store, mailbox.as_str(), scope, reason, now)? | removed),
        None => Ok(removed),
    }
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
    /// Who entered it.
    pub source: Option<Source>,
    /// In which state; without it, all but the removed ones.
    pub state: Option<State>,
    /// Entered at or after this time.
    pub since: Option<Time>,
    /// Only keys behind this one: [`Page::next`] of the page before.
    pub after: Option<Key>,
}

/// An entry with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Why it is on the list.
    pub entry: Entry,
}

/// Some entries in order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as were asked for.
    pub entries: Vec<Listed>,
    /// Where the next page begins ([`Filter::after`]); none when this is the last.
    pub next: Option<Key>,
}

/// The entries about one subject, in any scope, whether they suppress or were taken off.
pub fn show(list: &Suppression, tables: &Tables, subject: &str) -> Result<Vec<Listed>, SuppressError> {
    let subject = list.hasher().subject(&folded(subject)?);
    let mut found = Vec::new();
    tables.for_each_entry(&subject.0, &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| key.subject == subject) else { return false };
        found.extend(Entry::decode(row).ok().map(|entry| Listed { key, entry }));
        true
    })?;
    Ok(found)
}

/// The first `most` entries that pass the filter.
pub fn list(tables: &Tables, filter: &Filter, most: usize) -> Result<Page, SuppressError> {
    let mut page = Page::default();
    let (from, len) = filter.after.map_or(([0; 24], 0), |key| key.bytes());
    tables.for_each_entry(&from[..len], &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| filter.after.is_none_or(|after| *key > after)) else {
            return true;
        };
        let Ok(entry) = Entry::decode(row) else { return true };
        if filter.passes(&entry) {
            if page.entries.len() == most {
                page.next = page.entries.last().map(|last| last.key);
                return false;
            }
            page.entries.push(Listed { key, entry });
        }
        true
    })?;
    Ok(page)
}

impl Filter {
    fn passes(&self, entry: &Entry) -> bool {
        self.state.map_or(entry.is_active(), |state| entry.state == state)
            && self.source.is_none_or(|source| entry.source == source)
            && self.contains.as_deref().is_none_or(|part| entry.subject.contains(&part.to_lowercase()))
            && self.domain.as_deref().is_none_or(|domain| {
                let wanted = crate::event::address::canonical_domain(domain);
                entry.subject.rsplit_once('@').is_some_and(|(_, d)| *d == *wanted)
            })
            && self.rule.as_deref().is_none_or(|rule| entry.rule.eq_ignore_ascii_case(rule))
            && self.since.is_none_or(|since| entry.time >= since)
    }
}

/// The subject as its key is made from: an address folded, or `@domain` in A-label form.
pub fn folded(subject: &str) -> Result<String, SuppressError> {
    let subject = subject.trim();
    let wrong = |error| SuppressError::Address(subject.chars().take(80).collect(), error);
    match subject.strip_prefix('@') {
        // A domain is as good as an address of it.
        Some(domain) => {
            let address = Address::parse(&format!("x@{domain}")).map_err(wrong)?;
            Ok(format!("@{}", address.key().domain()))
        }
        None => Ok(Address::parse(subject).map_err(wrong)?.key().as_str().to_owned()),
    }
}
