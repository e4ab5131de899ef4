//! The arrow back up: the consumer of the ledger that puts dead addresses and complainers on the suppression list.
//!
//! A consumer of its own, not behind the files. It takes effect in memory as soon as an event is durable, and commits
//! entries and cursor in one transaction within 250 ms. At start-up [`Suppressor::catch_up`] reaches the end of the
//! ledger before the first attempt is made. Exactly once: what was applied and not committed is read again after a
//! crash, and an entry that exists is not written twice. If the tables can't be written, the list in memory goes on
//! working, the entries wait, the ledger keeps their events, and an error is logged at each try.

mod follow;
pub mod job_counts;
pub mod job_guard;
#[cfg(test)]
mod job_guard_tests;
pub mod novelty;
mod send_index;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::classify::{FailureKind, RuleSets};
use crate::event::{AddressKey, Event, Scope};
use crate::store::{Store, StoreError, SuppressTable, Tables, Tx};
use crate::suppress::book::{self, Change};
use crate::suppress::{Entry, Key, Source, Suppression, decide};
use follow::{Effect, Urgency};
pub use follow::{Follower, Running};
pub use send_index::SendIndex;

/// The name of the suppression consumer in the tables.
pub const CONSUMER: &str = "suppression";

/// The suppression consumer before it runs by itself.
pub type Suppressor = Follower<Suppressing>;

/// Loads the list from the tables into `list` and opens the consumer where it stopped. `rules` are the sets
/// that are compiled already; others are fetched by the stamp of the events.
pub fn open(store: &Store, list: &Suppression, rules: RuleSets) -> Result<Suppressor, StoreError> {
    let loaded = list.load(store)?;
    tracing::info!(addresses = loaded, "suppression list loaded");
    Follower::open(store, Suppressing { list: list.clone(), store: store.clone(), rules, waiting: HashMap::new() })
}

/// Most entries that wait for one commit.
const MAX_WAITING: usize = 10_000;

/// What the consumer does with each event.
#[derive(Debug)]
pub struct Suppressing {
    list: Suppression,
    store: Store,
    rules: RuleSets,
    /// Applied in memory and not yet committed.
    waiting: HashMap<Key, Entry>,
}

impl Effect for Suppressing {
    const NAME: &'static str = CONSUMER;

    fn tables(store: &Store) -> &Tables {
        store.suppression()
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        use crate::event::Kind;
        // Classifying costs more than all else here, and only these can suppress.
        let (category, kind) = match event.kind {
            // What the producer decided itself stays, as in the files.
            Kind::Bounced | Kind::RemoteBounce if !event.category.is_empty() => {
                (event.category.to_owned(), FailureKind::of(event.category, None, false))
            }
            Kind::Bounced | Kind::RemoteBounce if event.is_permanent_failure() => {
                match self.rules.of(event.rules, || self.store.tables().rule_set(event.rules))? {
                    Some(rules) => {
                        let verdict = rules.classify(event);
                        (verdict.category.to_owned(), verdict.kind())
                    }
                    None => return Ok(()),
                }
            }
            Kind::Feedback => (String::new(), FailureKind::Block),
            _ => return Ok(()),
        };
        let Some(rule) = decide(event, &category, kind == FailureKind::Hard) else { return Ok(()) };
        let address = AddressKey::of(event.rcpt);
        let key = self.list.hasher().address(&address).in_scope(&Scope::global());
        if self.waiting.contains_key(&key) || self.is_covered(&key, event.seq)? {
            return Ok(());
        }
        let entry = Entry {
            source: Source::Auto,
            rule: rule.name.into(),
            by: crate::event::EventId { store: event.store, seq: event.seq },
            time: event.time,
            category: category.into(),
            reply: event.reply_text().into(),
            note: event.feedback_type.into(),
            provider: event.provider.into(),
            subject: address.as_str().into(),
            ..Entry::default()
        };
        self.list.apply(&key, &entry);
        tracing::info!(
            address = address.as_str(),
            rule = rule.name,
            category = &*entry.category,
            event = %entry.by,
            reply = &*entry.reply,
            "suppressed"
        );
        self.waiting.insert(key, entry);
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        match self.waiting.len() {
            0 => Urgency::Whenever,
            MAX_WAITING.. => Urgency::Now,
            _ => Urgency::Soon,
        }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for (key, entry) in &self.waiting {
            if !book::find(tx, key)?.is_some_and(|e| e.covers(entry.by.seq)) {
                book::put(tx, key, entry, (Change::Enter, entry.time), (&entry.rule, &entry.reply))?;
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        for (key, entry) in std::mem::take(&mut self.waiting) {
            // An operator may have taken the address off between our look and our writing.
            let row = self.row(&key).ok().flatten();
            if let Some(row) = row.filter(|row| *row != entry) {
                self.list.apply(&key, &row);
            }
        }
    }
}

impl Suppressing {
    /// Whether the tables already say what this event would: it was committed before, or an operator's word is newer.
    fn is_covered(&self, key: &Key, seq: u64) -> Result<bool, StoreError> {
        Ok(self.row(key)?.is_some_and(|entry| entry.covers(seq)))
    }

    fn row(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let (bytes, len) = key.bytes();
        let row = self.store.suppression().suppress_row(SuppressTable::Entries, &bytes[..len])?;
        Ok(row.and_then(|row| Entry::decode(&row).ok()))
    }
}
