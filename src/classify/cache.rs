//! A bounded memory of which rule decided a text, because most replies of a campaign repeat word for word.
//!
//! Keyed on the exact text and the limits that hold for the reply, so it can never change a verdict. Two generations per shard: when the young one is full it
//! becomes the old one and what was old is forgotten, unless it was asked for since. So it holds at most twice
//! `SHARDS * PER_SHARD` texts, and what repeats stays in.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hashbrown::hash_map::RawEntryMut;

const SHARDS: usize = 16;
const PER_SHARD: usize = 512;
/// Longer texts are not kept: they are rare, and their number times their length must stay bounded.
const MAX_TEXT: usize = 1024;

type Generation = HashMap<Key, Option<u32>, Fold>;

/// A text, and which limits hold for it.
#[derive(PartialEq, Eq)]
struct Key {
    text: Box<str>,
    holding: u128,
}

/// As the tuple of both, which is what is looked up.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.text, self.holding).hash(state);
    }
}

/// The map is given the hash that already chose the shard.
type Fold = foldhash::fast::FixedState;

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// Which pattern (by its number), or none, decided each text.
pub(super) struct Cache {
    hasher: Fold,
    shards: [Mutex<Shard>; SHARDS],
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache { hasher: Fold::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The outcome kept for `text`, else what `decide` finds, which is then kept.
    pub(super) fn find(&self, text: &str, holding: u128, decide: impl FnOnce() -> Option<u32>) -> Option<u32> {
        if text.len() > MAX_TEXT {
            return decide();
        }
        let hash = self.hasher.hash_one((text, holding));
        // The map uses the low and the highest bits of the hash itself.
        let shard = &self.shards[(hash >> 40) as usize % SHARDS];
        // A poisoned shard is a whole map all the same: nothing is left half done below.
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut guard = lock();
            let Shard { young, old } = &mut *guard;
            if let Some((_, outcome)) =
                young.raw_entry().from_hash(hash, |key| key.holding == holding && *key.text == *text)
            {
                return *outcome;
            }
            let same = |key: &Key| key.holding == holding && *key.text == *text;
            if let RawEntryMut::Occupied(entry) = old.raw_entry_mut().from_hash(hash, same) {
                let (key, outcome) = entry.remove_entry();
                guard.keep(key, outcome);
                return outcome;
            }
        }
        // Searched without the lock: two threads may both search a new text, and find the same.
        let outcome = decide();
        lock().keep(Key { text: text.into(), holding }, outcome);
        outcome
    }
}

impl Shard {
    fn keep(&mut self, key: Key, outcome: Option<u32>) {
        if self.young.len() >= PER_SHARD {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decided_once_while_it_repeats() {
        let cache = Cache::new();
        assert_eq!(cache.find("a", 0, || Some(1)), Some(1));
        assert_eq!(cache.find("a", 0, || unreachable!()), Some(1));
        assert_eq!(cache.find("b", 0, || None), None);
        assert_eq!(cache.find("b", 0, || unreachable!()), None);
    }

    #[test]
    fn what_repeats_stays_in_and_the_rest_is_forgotten() {
        let cache = Cache::new();
        let _ = cache.find("often", 0, || Some(7));
        for n in 0..10 * SHARDS * PER_SHARD {
            let _ = cache.find(&n.to_string(), 0, || None);
            assert_eq!(cache.find("often", 0, || unreachable!()), Some(7));
        }
        let kept: usize = cache.shards.iter().map(|s| s.lock().unwrap()).map(|s| s.young.len() + s.old.len()).sum();
        assert!(kept <= 2 * SHARDS * PER_SHARD, "{kept}");
    }
}
