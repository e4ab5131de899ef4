//! The consumer that watches for replies in words never seen before (`classify::novelty`), and remembers what was seen.
//!
//! Templates and cursor are committed in one transaction, so a restart neither forgets nor counts twice. Alarms are given
//! out when they are kept: an alarm is raised once, also over a crash; what is lost with a crash right then is its notice,
//! and `carom status` still shows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::follow::{Effect, Follower, Urgency};
use crate::classify::RuleSets;
use crate::classify::novelty::{Alarm, Circumstance, Novelty, Seen, Threshold};
use crate::config::Live;
use crate::event::{Event, Kind, Kinds};
use crate::store::{Store, StoreError, Tables, Tx};

/// The name of the consumer in the tables.
pub const CONSUMER: &str = "novelty";

/// What was seen, for those who show it.
pub type Shared = Arc<Mutex<Novelty>>;

/// Who hears of an alarm; called when it is kept, and must not block.
pub type Tell = Box<dyn Fn(Alarm) + Send>;

/// What the consumer does with each event.
pub struct NoveltyAlarm {
    seen: Shared,
    config: Live,
    tables: Tables,
    rules: RuleSets,
    /// Keys to forget, because what they held has moved or gone.
    obsolete: Vec<u32>,
    raised: Vec<Alarm>,
    tell: Tell,
}

impl std::fmt::Debug for NoveltyAlarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoveltyAlarm").field("raised", &self.raised.len()).finish_non_exhaustive()
    }
}

/// Opens the consumer where it stopped; also gives what it sees. `rules` are the sets compiled already.
pub fn open(
    store: &Store,
    config: Live,
    rules: RuleSets,
    tell: Tell,
) -> Result<(Follower<NoveltyAlarm>, Shared), StoreError> {
    let tables = store.tables().clone();
    let rows = tables.templates()?;
    // A row of another version is forgotten: it comes again.
    let kept: Vec<Seen> = rows.iter().filter_map(|(_, row)| serde_json::from_slice(row).ok()).collect();
    let novelty = Novelty::load(kept);
    let moved = novelty.len() != rows.len();
    let obsolete = if moved { rows.into_iter().map(|(key, _)| key).collect() } else { Vec::new() };
    let seen = Arc::new(Mutex::new(novelty));
    let effect = NoveltyAlarm { seen: seen.clone(), config, tables, rules, obsolete, raised: Vec::new(), tell };
    Ok((Follower::open(store, effect)?, seen))
}

impl Effect for NoveltyAlarm {
    const NAME: &'static str = CONSUMER;
    const GATHER: Duration = Duration::from_millis(300);
    const KINDS: Kinds = Kinds::of(&[Kind::Bounced, Kind::Transient, Kind::TransientQueue, Kind::RemoteBounce]);

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        // What is no reply is our own wording; what its producer decided was not said by the provider either.
        if !event.category.is_empty() || event.reply_code().is_none() {
            return Ok(());
        }
        let Some(rules) = self.rules.of(event.rules, || self.tables.rule_set(event.rules))? else { return Ok(()) };
        let verdict = rules.classify(event);
        let about = Circumstance {
            time: event.time,
            provider: event.provider,
            category: verdict.category,
            rule: verdict.rule,
            by_pattern: verdict.by_pattern(),
        };
        let config = self.config.load();
        let threshold = Threshold { count: config.novelty_alarm.count, within: config.novelty_alarm.within };
        let alarm = lock(&self.seen).see(event.reply_text(), &about, threshold);
        self.raised.extend(alarm);
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        match self.raised.len() {
            0 if self.obsolete.is_empty() && !lock(&self.seen).has_changed() => Urgency::Whenever,
            _ => Urgency::Soon,
        }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let seen = lock(&self.seen);
        for key in &self.obsolete {
            tx.remove_template(*key)?;
        }
        let mut put = |(key, row): (u32, &Seen)| match serde_json::to_vec(row) {
            Ok(bytes) => tx.put_template(key, bytes),
            Err(_) => Ok(()),
        };
        match self.obsolete.is_empty() {
            true => seen.changed().try_for_each(&mut put),
            false => seen.all().try_for_each(&mut put),
        }
    }

    fn committed(&mut self) {
        self.obsolete.clear();
        lock(&self.seen).kept();
        for alarm in self.raised.drain(..) {
            tracing::warn!(
                provider = %alarm.provider,
                replies = alarm.count,
                within_seconds = alarm.within_seconds,
                template = %alarm.template,
                category = %alarm.category,
                rule = %alarm.rule,
                example = alarm.examples.first().map_or("", String::as_str),
                "a reply never seen before"
            );
            (self.tell)(alarm);
        }
    }
}

/// Nothing is left half done under the lock.
pub fn lock(seen: &Shared) -> std::sync::MutexGuard<'_, Novelty> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
