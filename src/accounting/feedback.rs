//! The arrow back up: the consumer of the ledger that puts dead addresses and complainers on the suppression list.
//!
//! A consumer of its own, not behind the files. It takes effect in memory as soon as an event is durable, and commits
//! entries and cursor in one transaction within 250 ms. At start-up [`Suppressor::catch_up`] reaches the end of the
//! ledger before the first attempt is made. Exactly once: what was applied and not committed is read again after a
//! crash, and an entry that exists is not written twice. If the tables can't be written, the list in memory goes on
//! working, the entries wait, the ledger keeps their events, and an error is logged at each try.

mod follow;
pub mod novelty;
mod send_index;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::Arc;

use crate::classify::RuleSet;
use crate::event::{AddressKey, Event, RuleSetId};
use crate::store::{Store, StoreError, Tables, Tx};
use crate::suppress::{Entry, Source, Suppression, decide};
use follow::{Effect, Urgency};
pub use follow::{Follower, Running};
pub use send_index::SendIndex;

/// The name of the suppression consumer in the tables.
pub const CONSUMER: &str = "suppression";

/// The suppression consumer before it runs by itself.
pub type Suppressor = Follower<Suppressing>;

/// Loads the list from the tables into `list` and opens the consumer where it stopped. `rules` is the set in force;
/// other sets are fetched by the stamp of the events.
pub fn open(store: &Store, list: &Suppression, rules: Arc<RuleSet>) -> Result<Suppressor, StoreError> {
    let loaded = list.load(store.tables())?;
    tracing::info!(addresses = loaded, "suppression list loaded");
    let sets = StampedRules { sets: HashMap::from([(rules.id(), Some(rules))]) };
    Follower::open(
        store,
        Suppressing { list: list.clone(), tables: store.tables().clone(), rules: sets, waiting: HashMap::new() },
    )
}

/// Rule sets by the stamp of the events: everyone classifies an event with the same one. `None` for one that is not kept
/// or does not compile: the files call such events unclassified, and so does the list.
#[derive(Debug)]
struct StampedRules {
    sets: HashMap<RuleSetId, Option<Arc<RuleSet>>>,
}

/// How many sets are kept compiled; each reload may bring one.
const MAX_SETS: usize = 8;

impl StampedRules {
    fn of(&mut self, id: RuleSetId, tables: &Tables) -> Result<Option<Arc<RuleSet>>, StoreError> {
        if self.sets.len() >= MAX_SETS && !self.sets.contains_key(&id) {
            self.sets.clear();
        }
        Ok(match self.sets.entry(id) {
            Occupied(set) => set.get().clone(),
            Vacant(place) => {
                // Tables that can't be read now may be later: then the event comes again.
                let compiled = match tables.rule_set(id)? {
                    Some(text) => RuleSet::from_text(&text)
                        .map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default()),
                    None => Err("it is not in the tables".into()),
                };
                let set = compiled.map(Arc::new).map_err(|error| {
                    tracing::error!(rules = %id, error, "stamped rule set can't be used; its events suppress nobody");
                });
                place.insert(set.ok()).clone()
            }
        })
    }
}

/// Most entries that wait for one commit.
const MAX_WAITING: usize = 10_000;

/// What the consumer does with each event.
#[derive(Debug)]
pub struct Suppressing {
    list: Suppression,
    tables: Tables,
    rules: StampedRules,
    /// Applied in memory and not yet committed.
    waiting: HashMap<AddressKey, Entry>,
}

impl Effect for Suppressing {
    const NAME: &'static str = CONSUMER;

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        use crate::event::Kind;
        // Classifying costs more than all else here, and only these can suppress.
        let category = match event.kind {
            // What the producer decided itself stays, as in the files.
            Kind::Bounced | Kind::RemoteBounce if !event.category.is_empty() => event.category.to_owned(),
            Kind::Bounced | Kind::RemoteBounce if event.is_permanent_failure() => {
                match self.rules.of(event.rules, &self.tables)? {
                    Some(rules) => rules.classify(event).category.to_owned(),
                    None => String::new(),
                }
            }
            Kind::Feedback => String::new(),
            _ => return Ok(()),
        };
        let Some(rule) = decide(event, &category) else { return Ok(()) };
        let key = AddressKey::of(event.rcpt);
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
        };
        self.list.apply(&key, &entry);
        tracing::info!(
            address = key.as_str(),
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
            let before = tx.suppressed(key.as_str())?;
            let covered = before.and_then(|row| Entry::decode(&row).ok()).is_some_and(|e| e.covers(entry.by.seq));
            if !covered {
                tx.put_suppressed(key.as_str(), &entry.encode())?;
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        for (key, entry) in self.waiting.drain() {
            // An operator may have taken the address off between our look and our writing.
            let row = self.tables.suppressed(key.as_str()).ok().flatten().and_then(|row| Entry::decode(&row).ok());
            if let Some(row) = row.filter(|row| *row != entry) {
                self.list.apply(&key, &row);
            }
        }
    }
}

impl Suppressing {
    /// Whether the tables already say what this event would: it was committed before, or an operator's word is newer.
    fn is_covered(&self, key: &AddressKey, seq: u64) -> Result<bool, StoreError> {
        let row = self.tables.suppressed(key.as_str())?;
        Ok(row.and_then(|row| Entry::decode(&row).ok()).is_some_and(|entry| entry.covers(seq)))
    }
}
