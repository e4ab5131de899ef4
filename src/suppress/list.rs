//! The list in memory: what the hot path asks for each recipient.
//!
//! An address is kept as 128 bits of two independent hashes, with the event and the rule that entered it: 24 bytes,
//! whatever its length (with the table around it 28 to 56). That two addresses share all 128 bits is not expected in
//! the life of any list. Look-ups take one read lock of one of 64 shards, never block for disk, and allocate nothing
//! for an address that is absent and already in lower-case ASCII.

use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;

use super::Entry;
use crate::event::AddressKey;
use crate::store::{StoreError, Tables};

const SHARDS: usize = 64;
/// The lower bits of [`Slot::by`] hold the sequence number, the upper eight the rule's number.
const SEQ_BITS: u32 = 56;
/// Most rule names told apart; those beyond share the last.
const MAX_RULES: usize = 256;

/// The list in force; cheap to clone. Look-ups are in memory and never block.
#[derive(Clone, Default)]
pub struct Suppression(Arc<List>);

/// Why an address is not mailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// Sequence number of the event that suppressed it; 0 when entered by hand.
    pub by: u64,
    /// Rule (`hard`, `complaint`, `manual`), for the reply and the record.
    pub rule: String,
}

struct List {
    first: foldhash::quality::RandomState,
    second: foldhash::quality::RandomState,
    shards: [RwLock<HashTable<Slot>>; SHARDS],
    rules: RwLock<Vec<Box<str>>>,
}

#[derive(Clone, Copy)]
struct Slot {
    first: u64,
    second: u64,
    by: u64,
}

impl Default for List {
    fn default() -> List {
        List {
            first: foldhash::quality::RandomState::default(),
            second: foldhash::quality::RandomState::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            rules: RwLock::default(),
        }
    }
}

impl Suppression {
    /// Empty.
    pub fn new() -> Suppression {
        Suppression::default()
    }

    /// Whether mail to this recipient is suppressed.
    pub fn check(&self, rcpt: &str) -> Option<Suppressed> {
        let slot = if is_own_key(rcpt) { self.0.find(rcpt) } else { self.0.find(AddressKey::of(rcpt).as_str()) }?;
        let number = (slot.by >> SEQ_BITS) as usize;
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        Some(Suppressed {
            by: slot.by & ((1 << SEQ_BITS) - 1),
            rule: rules.get(number).map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Takes an entry in, at once; an address that is there already keeps its first one. A removed entry takes it out.
    pub fn apply(&self, key: &AddressKey, entry: &Entry) {
        if !entry.is_active() {
            self.remove(key);
            return;
        }
        let rule = self.0.rule_number(&entry.rule) as u64;
        let (first, second) = self.0.hashes(key.as_str());
        let slot = Slot { first, second, by: rule << SEQ_BITS | entry.by.seq & ((1 << SEQ_BITS) - 1) };
        let mut shard = self.0.shard(first).write().unwrap_or_else(PoisonError::into_inner);
        if shard.find(first, |s| s.first == first && s.second == second).is_none() {
            shard.insert_unique(first, slot, |s| s.first);
        }
    }

    /// Takes an address out, at once; whether it was in.
    pub fn remove(&self, key: &AddressKey) -> bool {
        let (first, second) = self.0.hashes(key.as_str());
        let mut shard = self.0.shard(first).write().unwrap_or_else(PoisonError::into_inner);
        shard.find_entry(first, |s| s.first == first && s.second == second).map(|found| found.remove()).is_ok()
    }

    /// How many addresses are in it.
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        self.0.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).allocation_size()).sum()
    }

    /// Takes in everything the tables hold; returns how many addresses are suppressed. A row that can't be read is
    /// logged and passed over.
    pub fn load(&self, tables: &Tables) -> Result<usize, StoreError> {
        tables.for_each_suppressed(&mut |key, row| match Entry::decode(row) {
            Ok(entry) => self.apply(&AddressKey::of(key), &entry),
            Err(error) => tracing::error!(address = key, %error, "suppression entry passed over"),
        })?;
        Ok(self.len())
    }
}

impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppression").field("len", &self.len()).finish()
    }
}

impl List {
    fn hashes(&self, key: &str) -> (u64, u64) {
        (self.first.hash_one(key), self.second.hash_one(key))
    }

    /// The table uses the lowest and the highest seven bits itself.
    fn shard(&self, first: u64) -> &RwLock<HashTable<Slot>> {
        &self.shards[(first >> 48) as usize % SHARDS]
    }

    fn find(&self, key: &str) -> Option<Slot> {
        let first = self.first.hash_one(key);
        let shard = self.shard(first).read().unwrap_or_else(PoisonError::into_inner);
        // The second hash is needed only where the first is found.
        let found = shard.find(first, |s| s.first == first)?;
        if found.second == self.second.hash_one(key) {
            return Some(*found);
        }
        let second = self.second.hash_one(key);
        shard.find(first, |s| s.first == first && s.second == second).copied()
    }

    fn rule_number(&self, rule: &str) -> usize {
        let known = |rules: &[Box<str>]| rules.iter().position(|r| **r == *rule);
        if let Some(number) = known(&self.rules.read().unwrap_or_else(PoisonError::into_inner)) {
            return number;
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        known(&rules).unwrap_or_else(|| {
            if rules.len() < MAX_RULES {
                rules.push(rule.into());
            }
            rules.len() - 1
        })
    }
}

/// Whether [`AddressKey::of`] would give back the same text: lower-case ASCII, nothing around it, no final dot.
fn is_own_key(address: &str) -> bool {
    let bytes = address.as_bytes();
    bytes.iter().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()) && bytes.last() != Some(&b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, StoreId, Time};
    use crate::suppress::Source;
    use proptest::prelude::*;

    fn entry(rule: &str, seq: u64, source: Source) -> Entry {
        Entry {
            source,
            rule: rule.into(),
            by: EventId { store: StoreId(1), seq },
            time: Time(1),
            category: "".into(),
            reply: "".into(),
            note: "".into(),
        }
    }

    fn auto(rule: &str, seq: u64) -> Entry {
        entry(rule, seq, Source::Auto)
    }

    #[test]
    fn an_address_is_found_however_it_is_spelt() {
        let list = Suppression::new();
        list.apply(&AddressKey::of("Ann@BÜCHER.example"), &auto("hard", 5));
        for spelt in ["ann@xn--bcher-kva.example", "ANN@bücher.example.", " ann@Bücher.Example "] {
            assert_eq!(list.check(spelt), Some(Suppressed { by: 5, rule: "hard".into() }), "{spelt}");
        }
        assert_eq!(list.check("bob@xn--bcher-kva.example"), None);
    }

    #[test]
    fn the_first_reason_stays_until_the_address_is_taken_out() {
        let (list, key) = (Suppression::new(), AddressKey::of("a@b.example"));
        list.apply(&key, &auto("hard", 5));
        list.apply(&key, &auto("complaint", 9));
        assert_eq!(list.check("a@b.example").unwrap().by, 5);
        list.apply(&key, &entry("hard", 9, Source::Removed));
        assert_eq!(list.check("a@b.example"), None);
        assert!(!list.remove(&key));
        list.apply(&key, &auto("complaint", 12));
        assert_eq!(list.check("a@b.example"), Some(Suppressed { by: 12, rule: "complaint".into() }));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn more_rule_names_than_numbers_still_suppress() {
        let list = Suppression::new();
        for n in 0..300 {
            list.apply(&AddressKey::of(&format!("{n}@x.example")), &auto(&format!("rule {n}"), n + 1));
        }
        assert!((0..300).all(|n| list.check(&format!("{n}@x.example")).is_some_and(|s| s.by == n + 1)));
        assert_eq!(list.check("299@x.example").unwrap().rule, "rule 255");
    }

    #[test]
    fn a_hundred_thousand_addresses_take_at_most_60_bytes_each() {
        let list = Suppression::new();
        for n in 0..100_000u64 {
            list.apply(&AddressKey::of(&format!("user{n}@example.net")), &auto("hard", n));
        }
        assert_eq!(list.len(), 100_000);
        let each = list.memory() / list.len();
        assert!((24..=60).contains(&each), "{each}");
    }

    proptest! {
        #[test]
        fn what_needs_no_folding_is_its_own_key(address in "[ -~é]{0,12}(@[a-zA-Z.]{0,8})?") {
            if is_own_key(&address) {
                let key = AddressKey::of(&address);
                prop_assert_eq!(key.as_str(), address);
            }
        }
    }
}
