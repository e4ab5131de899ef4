//! The circuit breaker among the entries: what a tripped one holds, what is let go when it is over, and what operators do
//! about both, undo included.
//!
//! Entries that a breaker holds carry its name as their note; the history, which is in order of time, says where to look
//! for them. So nothing of this has to be remembered, and it all survives a restart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::memory::{Memory, Waiting};
use crate::classify::template::masked;
use crate::event::{EventId, Reply, Time};
use crate::store::{StoreError, SuppressTable, Tables, Tx};
use crate::suppress::book::{self, Change};
use crate::suppress::breaker::{Breaker, Circuit, Tripped};
use crate::suppress::{Entry, Key, Source, State};

/// The breaker, for those who show it or end it. Never wait for the tables while it is locked.
pub type SharedBreaker = Arc<Mutex<Breaker>>;

/// Who hears of a breaker; must not block.
pub type Tell = Box<dyn Fn(Notice) + Send>;

/// Row of the facts that holds the breaker's memory.
const BREAKER: &[u8] = b"breaker";
/// As much of a reply as an entry keeps.
const KEPT_REPLY: usize = 300;
/// What changes of entries by the breaker are signed with.
const WHO: &str = "breaker";

/// What the operator is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// When, in microseconds since 1970.
    pub time: i64,
    /// Which breaker.
    pub circuit: Circuit,
    /// What it found.
    pub tripped: Tripped,
    /// It is over; else it has tripped.
    pub ended: bool,
    /// Entries that it now holds, or lets go.
    pub entries: usize,
}

impl Notice {
    /// In the log, as an error: somebody has to look.
    pub(super) fn log(&self) {
        let Notice { circuit, tripped, entries, .. } = self;
        match self.ended {
            false => tracing::error!(
                %circuit, share = tripped.share, usual = tripped.usual, hard_bounces = tripped.hard, entries,
                "far more addresses are refused as dead than usual: new entries are held back, their mail waits; \
                 carom suppress breaker list|release|confirm"
            ),
            true => tracing::error!(
                %circuit, entries, "the share of dead addresses is as usual again: what was held is mailed again"
            ),
        }
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        let Notice { circuit, tripped, entries, .. } = self;
        match self.ended {
            false => format!(
                "{circuit}: {:.1} % of the mail was refused as to dead addresses, usual are {:.1} %. New entries are held \
                 back and their mail waits; {entries} of the time before are held, too.",
                tripped.share * 100.0,
                tripped.usual * 100.0
            ),
            true => format!("{circuit}: as usual again. {entries} entries were let go, their mail goes out."),
        }
    }
}

/// Nothing is left half done under the lock.
pub fn lock(breaker: &SharedBreaker) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The breaker as it was kept.
pub fn load(tables: &Tables) -> Result<Breaker, StoreError> {
    Ok(tables.suppress_row(SuppressTable::Facts, BREAKER)?.map(|row| Breaker::decode(&row)).unwrap_or_default())
}

/// Keeps it.
pub fn keep(tx: &mut Tx<'_>, breaker: &Breaker) {
    tx.put_suppress_row(SuppressTable::Facts, BREAKER, breaker.encode());
}

/// The template of a reply; the same for the reply as an entry keeps it.
pub fn template(reply: &str) -> String {
    masked(&reply[..reply.floor_char_boundary(KEPT_REPLY)])
}

/// Whether a breaker doubts this entry: by an event, because of a reply, at its provider or in its words.
fn is_doubted(circuit: &Circuit, entry: &Entry) -> bool {
    let by_failure = entry.source == Source::Auto && !entry.category.is_empty();
    by_failure
        && Reply::code_of(&entry.reply).is_some()
        && match circuit {
            Circuit::Provider(_) => Circuit::provider(provider(entry)) == *circuit,
            Circuit::Template(_) => Circuit::template(&template(&entry.reply)) == *circuit,
        }
}

pub(super) fn provider(entry: &Entry) -> &str {
    match &*entry.provider {
        "" => entry.subject.rsplit_once('@').map_or("", |(_, domain)| domain),
        provider => provider,
    }
}

/// The keys that the history names from `from` on, each once, with these changes.
pub(super) fn named_since(tables: &Tables, from: Time, changes: &[Change]) -> Result<Vec<Key>, StoreError> {
    let mut keys = Vec::new();
    tables.for_each_suppress_row(SuppressTable::History, &book::line_from(from), &mut |row, value| {
        let line = book::read_line(row, value).filter(|line| changes.contains(&line.change));
        keys.extend(line.and_then(|line| line.key));
        true
    })?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// What a breaker that trips holds: what was entered since `from`, committed or not.
pub(super) fn to_hold(
    tables: &Tables,
    memory: &Memory,
    circuit: &Circuit,
    from: Time,
) -> Result<Vec<(Key, Waiting)>, StoreError> {
    let mut keys = named_since(tables, from, &[Change::Enter])?;
    keys.extend(memory.waiting.keys());
    keys.sort_unstable();
    keys.dedup();
    let mut changes = Vec::new();
    for key in keys {
        let Some(entry) = memory.entry(&key)? else { continue };
        if entry.state != State::Active || entry.time < from || !is_doubted(circuit, &entry) {
            continue;
        }
        let entry = Entry { state: State::Held, note: circuit.to_string().into(), ..entry };
        // What waits is entered as held at once.
        let waiting = match memory.waiting.get(&key) {
            Some(waiting) => Waiting { entry, ..waiting.clone() },
            None => Waiting {
                entry,
                change: Change::Hold,
                who: WHO.into(),
                why: circuit.to_string().into(),
                certain: false,
            },
        };
        changes.push((key, waiting));
    }
    Ok(changes)
}

/// What it lets go when it is over: as if it had never been entered, up to event `by`.
pub(super) fn to_release(
    tables: &Tables,
    memory: &Memory,
    circuit: &Circuit,
    from: Time,
    by: EventId,
) -> Result<Vec<(Key, Waiting)>, StoreError> {
    let name = circuit.to_string();
    let mut changes = Vec::new();
    for key in named_since(tables, from, &[Change::Enter, Change::Hold])? {
        if let Some(entry) = memory.entry(&key)?.filter(|e| e.state == State::Held && *e.note == *name) {
            let entry = Entry { state: State::Removed, by, ..entry };
            let why = "the share of dead addresses is as usual again".into();
            changes.push((key, Waiting { entry, change: Change::Release, who: WHO.into(), why, certain: true }));
        }
    }
    Ok(changes)
}
