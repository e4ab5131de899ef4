//! Compiled rule sets by their id, shared by all who classify: each is compiled once in a process, however many outputs,
//! consumers and commands meet its stamp.
//!
//! The composition root makes one and gives it to whoever needs it. Whoever comes while a set is being compiled waits for
//! it. A set that can't be had (not kept any more, or refused by this version) is told in the log once, and its events
//! stay unclassified everywhere alike.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::pattern_file::PatternError;
use super::{RuleSet, compile};
use crate::config::PatternSource;
use crate::event::RuleSetId;

/// How many sets are kept compiled when nobody uses them; each reload may bring one.
const MAX_SETS: usize = 8;

/// The sets; clones share them.
#[derive(Debug, Clone, Default)]
pub struct RuleSets(Arc<Mutex<Sets>>);

#[derive(Debug, Default)]
struct Sets {
    /// `None` for one that can't be had.
    by_id: HashMap<RuleSetId, Option<Arc<RuleSet>>>,
    /// Of sets that were forgotten.
    given_up: u64,
}

impl RuleSets {
    /// The configured sources with the shipped rules behind them, as [`RuleSet::compile`] gives them; not compiled again
    /// when the set is here.
    pub fn compile(&self, sources: &[PatternSource]) -> Result<Arc<RuleSet>, Vec<PatternError>> {
        let read = compile::Read::of(sources);
        let id = read.id();
        let mut sets = self.lock();
        if read.errors.is_empty()
            && let Some(Some(set)) = sets.by_id.get(&id)
        {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(read.compile()?);
        sets.put(set.id(), Some(Arc::clone(&set)));
        Ok(set)
    }

    /// The set of this id. When it is not here, `text` fetches what was kept of it; its error is passed on, and nothing
    /// is remembered of it: what can't be read now may be later.
    pub fn of<E>(
        &self,
        id: RuleSetId,
        text: impl FnOnce() -> Result<Option<String>, E>,
    ) -> Result<Option<Arc<RuleSet>>, E> {
        let mut sets = self.lock();
        if let Some(set) = sets.by_id.get(&id) {
            return Ok(set.clone());
        }
        let compiled = match text()? {
            Some(text) => {
                RuleSet::from_text(&text).map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())
            }
            None => Err("it is not in the store".into()),
        };
        let set = compiled.map(Arc::new).inspect_err(|error| {
            tracing::error!(rules = %id, error, "pattern rules of recorded events can't be used: they stay unclassified");
        });
        sets.put(id, set.ok());
        Ok(sets.by_id.get(&id).cloned().flatten())
    }

    /// How often a pattern was given up at its backtrack limit.
    pub fn given_up(&self) -> u64 {
        let sets = self.lock();
        sets.given_up + sets.by_id.values().flatten().map(|set| set.given_up()).sum::<u64>()
    }

    /// A set is put in whole or not at all.
    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Arc<RuleSet>> for RuleSets {
    /// With this one.
    fn from(set: Arc<RuleSet>) -> RuleSets {
        let sets = RuleSets::default();
        sets.lock().put(set.id(), Some(set));
        sets
    }
}

impl Sets {
    fn put(&mut self, id: RuleSetId, set: Option<Arc<RuleSet>>) {
        if self.by_id.len() >= MAX_SETS {
            let given_up = &mut self.given_up;
            self.by_id.retain(|_, set| match set {
                Some(set) if Arc::strong_count(set) > 1 => true,
                Some(set) => {
                    *given_up += set.given_up();
                    false
                }
                None => false,
            });
        }
        self.by_id.insert(id, set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(regex: &str) -> Vec<PatternSource> {
        vec![PatternSource::file("own.conf", format!("/{regex}/ other\n"))]
    }

    #[test]
    fn a_set_is_compiled_once_whoever_asks_for_it_and_however() {
        let sets = RuleSets::default();
        let first = sets.compile(&inline("a")).unwrap();
        assert!(Arc::ptr_eq(&first, &sets.clone().compile(&inline("a")).unwrap()));
        let stamped = sets.of(first.id(), || Err("not to be asked")).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &stamped));
        let text = RuleSet::compile_alone(&inline("b")).unwrap();
        let fetched = sets.of::<()>(text.id(), || Ok(Some(text.text().to_owned()))).unwrap().unwrap();
        assert_eq!(fetched.id(), text.id());
        assert!(sets.compile(&inline("(")).is_err());
    }

    #[test]
    fn a_set_that_is_gone_is_asked_for_once_and_one_that_cannot_be_read_now_again() {
        let sets = RuleSets::default();
        assert_eq!(sets.of(RuleSetId(5), || Err("busy")).unwrap_err(), "busy");
        assert!(sets.of::<()>(RuleSetId(5), || Ok(None)).unwrap().is_none());
        assert!(sets.of(RuleSetId(5), || Err("not to be asked")).unwrap().is_none());
    }

    #[test]
    fn sets_that_nobody_uses_are_forgotten_and_what_they_gave_up_still_counts() {
        let sets = RuleSets::default();
        let regex = |n: usize| format!("(?=x)(x+x+)+\\1y|{n}");
        let alone = |n: usize| RuleSet::compile_alone(&inline(&regex(n))).unwrap();
        let used = Arc::new(alone(0));
        sets.lock().put(used.id(), Some(Arc::clone(&used)));
        let long = "x".repeat(4000);
        for n in 1..4 * MAX_SETS {
            let set = alone(n);
            assert_eq!(set.classify_text(&long).rule, "");
            sets.lock().put(set.id(), Some(Arc::new(set)));
        }
        assert!(sets.lock().by_id.len() <= MAX_SETS);
        assert!(sets.lock().by_id.contains_key(&used.id()));
        assert_eq!(sets.given_up(), 4 * MAX_SETS as u64 - 1);
    }
}
