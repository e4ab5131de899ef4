//! A bounded memory of which rule decided a text, because most replies of a campaign repeat word for word.
//!
//! Keyed on the exact text, so it can never change a verdict. Two generations per shard: when the young one is full it
//! becomes the old one and what was old is forgotten, unless it was asked for since. So it holds at most twice
//! `SHARDS * PER_SHARD` texts, and what repeats stays in.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

const SHARDS: usize = 16;
const PER_SHARD: usize = 512;
/// Longer texts are not kept: they are rare, and their number times their length must stay bounded.
const MAX_TEXT: usize = 1024;

type Generation = HashMap<Box<str>, Option<u32>, Hasher>;

/// The map is given the hash that already chose the shard.
type Hasher = foldhash::fast::FixedState;

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// Which pattern (by its number), or none, decided each text.
pub(super) struct Cache {
    hasher: Hasher,
    shards: [Mutex<Shard>; SHARDS],
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache { hasher: Hasher::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The outcome kept for `text`, else what `decide` finds, which is then kept.
    pub(super) fn find(&self, text: &str, decide: impl FnOnce() -> Option<u32>) -> Option<u32> {
        if text.len() > MAX_TEXT {
            return decide();
        }
        let hash = self.hasher.hash_one(text);
        // The map uses the low and the highest bits of the hash itself.
        let shard = &self.shards[(hash >> 40) as usize % SHARDS];
        // A poisoned shard is a whole map all the same: nothing is left half done below.
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut guard = lock();
            let Shard { young, old } = &mut *guard;
            if let Some((_, outcome)) = young.raw_entry().from_key_hashed_nocheck(hash, text) {
                return *outcome;
            }
            if let Some((text, outcome)) = old.remove_entry(text) {
                guard.keep(text, outcome);
                return outcome;
            }
        }
        // Searched without the lock: two threads may both search a new text, and find the same.
        let outcome = decide();
        lock().keep(text.into(), outcome);
        outcome
    }
}

impl Shard {
    fn keep(&mut self, text: Box<str>, outcome: Option<u32>) {
        if self.young.len() >= PER_SHARD {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(text, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decided_once_while_it_repeats() {
        let cache = Cache::new();
        assert_eq!(cache.find("a", || Some(1)), Some(1));
        assert_eq!(cache.find("a", || unreachable!()), Some(1));
        assert_eq!(cache.find("b", || None), None);
        assert_eq!(cache.find("b", || unreachable!()), None);
    }

    #[test]
    fn what_repeats_stays_in_and_the_rest_is_forgotten() {
        let cache = Cache::new();
        let _ = cache.find("often", || Some(7));
        for n in 0..10 * SHARDS * PER_SHARD {
            let _ = cache.find(&n.to_string(), || None);
            assert_eq!(cache.find("often", || unreachable!()), Some(7));
        }
        let kept: usize = cache.shards.iter().map(|s| s.lock().unwrap()).map(|s| s.young.len() + s.old.len()).sum();
        assert!(kept <= 2 * SHARDS * PER_SHARD, "{kept}");
    }
}
