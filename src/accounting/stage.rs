//! Classification: each event with the rule set it was stamped with, so that every consumer, now or after a crash,
//! comes to the same verdict.

use std::sync::Arc;

use hashbrown::HashMap;

use super::journal::{Journal, JournalError};
use crate::classify::{RuleSet, RuleSets};
use crate::config::{QueuePattern, is_wanted};
use crate::event::{Action, Event, EventBatch, Kind, Kinds, RuleSetId, Time};

/// What an event gets when there are no rules to classify it with.
const UNCLASSIFIED: &str = "other";
/// The rule named in that case.
const NO_RULES: &str = "no rules";

/// Events usually handled at a time.
const USUAL_EVENTS: usize = 256;

/// Some events of the ledger, as they are written.
#[derive(Debug)]
pub struct Classified<'a> {
    /// Those of the types asked for.
    pub wanted: Vec<Event<'a>>,
    /// Time of the last event, of whatever type.
    pub last: Option<Time>,
    /// Records of the ledger that hold something that is no event.
    pub damaged: u64,
}

/// The rule sets met so far.
#[derive(Debug, Default)]
pub struct Stage {
    sets: HashMap<RuleSetId, Option<Arc<RuleSet>>, foldhash::fast::FixedState>,
    /// Where they come from.
    compiled: RuleSets,
    queues: Vec<QueuePattern>,
}

impl Stage {
    /// With the sets that others use as well, and the `queue-filter` of an acct-file.
    pub fn new(compiled: RuleSets, queues: Vec<QueuePattern>) -> Stage {
        Stage { compiled, queues, ..Stage::default() }
    }

    /// By type and by queue; what came in (r, rb, rs, f) is never filtered by it.
    fn is_wanted(&self, event: &Event<'_>, records: Kinds) -> bool {
        const OF_QUEUES: Kinds = Kinds::of(&[Kind::Delivered, Kind::Bounced, Kind::Transient, Kind::TransientQueue]);
        records.contains(event.kind)
            && (self.queues.is_empty() || !OF_QUEUES.contains(event.kind) || is_wanted(&self.queues, event.queue))
    }

    /// Makes the rule set ready for [`Stage::classify`]. One that is not kept any more, or does not compile with this
    /// version, is reported once and leaves its events unclassified: accounting goes on.
    pub fn load(&mut self, id: RuleSetId, journal: &dyn Journal) -> Result<(), JournalError> {
        if id == RuleSetId(0) || self.sets.contains_key(&id) {
            return Ok(());
        }
        let set = self.compiled.of(id, || journal.rule_set(id))?;
        self.sets.insert(id, set);
        Ok(())
    }

    /// The events of these types in `batches`, classified: what an output writes, and what it should have written.
    pub fn events<'a>(&'a self, batches: impl Iterator<Item = EventBatch<'a>>, records: Kinds) -> Classified<'a> {
        let mut classified = Classified { wanted: Vec::with_capacity(USUAL_EVENTS), last: None, damaged: 0 };
        for batch in batches {
            let read = batch.read_into(records, &mut classified.wanted, &mut classified.last, |event| {
                let wanted = self.is_wanted(event, records);
                if wanted {
                    self.classify_there(event);
                }
                wanted
            });
            // The record's checksum was right, so this is ours: a bug, or a newer version's ledger. The rest of its record
            // can't be told apart; the next record can.
            if let Err(error) = read {
                classified.damaged += 1;
                tracing::error!(%error, record_first_seq = batch.first_seq, "events left out of accounting");
            }
        }
        classified
    }

    /// The event with `bounceCat` and `bounceRule`; what the producer decided itself stays.
    pub fn classify<'a>(&'a self, mut event: Event<'a>) -> Event<'a> {
        self.classify_there(&mut event);
        event
    }

    fn classify_there<'a>(&'a self, event: &mut Event<'a>) {
        if !event.category.is_empty() || !is_classified(event) {
            return;
        }
        (event.category, event.rule) = match self.sets.get(&event.rules) {
            Some(Some(set)) => {
                let verdict = set.classify(event);
                (verdict.category, verdict.rule)
            }
            _ => (UNCLASSIFIED, NO_RULES),
        };
    }
}

/// Only failures have a category: bounces and deferrals here and at others; a report of success has none.
fn is_classified(event: &Event<'_>) -> bool {
    match event.kind {
        Kind::Bounced | Kind::Transient | Kind::TransientQueue | Kind::RemoteBounce => true,
        Kind::RemoteStatus => matches!(event.action, Some(Action::Delayed | Action::Failed)),
        Kind::Delivered | Kind::Received | Kind::Feedback => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::Reader;
    use super::*;
    use crate::event::StoreId;
    use crate::store::ConsumerRow;
    use std::pin::Pin;

    /// Knows one rule set and nothing else.
    #[derive(Debug)]
    struct OneRuleSet(RuleSetId, String);

    impl Journal for OneRuleSet {
        fn store(&self) -> StoreId {
            StoreId(1)
        }
        fn start(&self) -> u64 {
            1
        }
        fn end(&self) -> u64 {
            1
        }
        fn reader(&self, _: u64) -> Result<Box<dyn Reader>, JournalError> {
            Err(JournalError("no ledger here".into()))
        }
        fn wait_past(&self, _: u64) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
            Box::pin(std::future::pending())
        }
        fn hold(&self, _: &str, _: u64) {}
        fn release(&self, _: &str) {}
        fn rule_set(&self, id: RuleSetId) -> Result<Option<String>, JournalError> {
            Ok((id == self.0).then(|| self.1.clone()))
        }
        fn rows(&self) -> Result<Vec<(String, ConsumerRow)>, JournalError> {
            Ok(Vec::new())
        }
        fn row(&self, _: &str) -> Result<Option<ConsumerRow>, JournalError> {
            Ok(None)
        }
        fn put_row(&self, _: &str, _: &ConsumerRow) -> Result<(), JournalError> {
            Ok(())
        }
        fn remove_row(&self, _: &str) -> Result<(), JournalError> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_classified_with_the_rules_it_was_stamped_with() {
        let rules = RuleSet::compile(&[]).unwrap();
        let journal = OneRuleSet(rules.id(), rules.text().to_owned());
        let mut stage = Stage::default();
        stage.load(rules.id(), &journal).unwrap();
        stage.load(RuleSetId(99), &journal).unwrap();
        let bounce = Event {
            diag: "smtp;550 5.1.1 <x@example.net>: user unknown",
            rules: rules.id(),
            ..Event::new(Kind::Bounced, Time(1))
        };
        let classified = stage.classify(bounce);
        assert_eq!(classified.category, "bad-mailbox");
        assert!(!classified.rule.is_empty() && classified.rule != NO_RULES);
        // Rules that nobody kept.
        assert_eq!(stage.classify(Event { rules: RuleSetId(99), ..bounce }).category, "other");
    }

    #[test]
    fn what_the_producer_decided_stays_and_successes_have_no_category() {
        let stage = Stage::default();
        let event = |kind, category| Event { category, ..Event::new(kind, Time(1)) };
        assert_eq!(stage.classify(event(Kind::Bounced, "suppressed")).category, "suppressed");
        assert_eq!(stage.classify(event(Kind::Bounced, "suppressed")).rule, "");
        assert_eq!(stage.classify(event(Kind::Bounced, "")).category, "other");
        assert_eq!(stage.classify(event(Kind::Delivered, "")).category, "");
        assert_eq!(stage.classify(event(Kind::RemoteStatus, "")).category, "");
    }
}
