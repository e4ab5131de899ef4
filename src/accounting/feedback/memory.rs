//! What the suppression consumer remembers: strikes and entries that wait for their commit, over those of the tables.
//!
//! Which subjects have strikes at all is kept in memory (eight bytes each), so that a delivery, of which there are most,
//! asks the tables only when there is something to take back. Beyond [`MAX_PRINTS`] subjects each delivery asks.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use crate::event::{Scope, Time};
use crate::store::{StoreError, SuppressTable, Tables, Tx};
use crate::suppress::book::{self, Change};
use crate::suppress::rules::{Standing, State, StrikeKey, Strikes};
use crate::suppress::{Entry, Key, Source, SubjectKey};

/// Subjects with strikes that are told apart in memory.
pub const MAX_PRINTS: usize = 2_000_000;
/// Row of the facts that says when a domain was last resolved.
const RESOLVED: &[u8] = b"resolved";
/// Rows looked through for strikes that are too old, at each commit.
const SWEEP: usize = 256;

/// A change of an entry that waits for its commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The entry as it is to stand.
    pub entry: Entry,
    /// What is done to it.
    pub change: Change,
    /// Who does it: the rule, or the breaker.
    pub who: Box<str>,
    /// The reply, or why.
    pub why: Box<str>,
    /// A breaker can't doubt it.
    pub certain: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Memory {
    tables: Tables,
    /// Strikes since the last commit.
    strikes: BTreeMap<StrikeKey, Strikes>,
    /// Entries since the last commit; already in force in the list.
    pub waiting: HashMap<Key, Waiting>,
    prints: HashSet<u64>,
    /// More subjects than fit.
    overflow: bool,
    /// Subjects of the strikes against domains.
    domains: HashSet<u64>,
    resolved: Time,
    resolved_kept: Time,
    /// Where the sweep for old strikes goes on.
    swept: Vec<u8>,
    stale: Vec<StrikeKey>,
}

fn print(subject: &SubjectKey) -> u64 {
    u64::from_le_bytes(*subject.0.first_chunk().unwrap_or(&[0; 8]))
}

impl Memory {
    /// Of what is committed.
    pub fn open(tables: &Tables) -> Result<Memory, StoreError> {
        let mut memory = Memory {
            tables: tables.clone(),
            strikes: BTreeMap::new(),
            waiting: HashMap::new(),
            prints: HashSet::new(),
            overflow: false,
            domains: HashSet::new(),
            resolved: Time::UNKNOWN,
            resolved_kept: Time::UNKNOWN,
            swept: Vec::new(),
            stale: Vec::new(),
        };
        tables.for_each_suppress_row(SuppressTable::Strikes, &[], &mut |key, row| {
            if let Some(key) = StrikeKey::from_bytes(key) {
                memory.know(&key, &Strikes::decode(row));
            }
            true
        })?;
        if let Some(row) = tables.suppress_row(SuppressTable::Facts, RESOLVED)? {
            memory.resolved = Time(i64::from_le_bytes(row.first_chunk().copied().unwrap_or_default()));
            memory.resolved_kept = memory.resolved;
        }
        Ok(memory)
    }

    /// The strikes against this subject are worth asking for.
    fn know(&mut self, key: &StrikeKey, strikes: &Strikes) {
        let print = print(&key.key.subject);
        if self.prints.len() < MAX_PRINTS {
            self.prints.insert(print);
        } else {
            self.overflow |= !self.prints.contains(&print);
        }
        if strikes.is_about_domain() {
            self.domains.insert(print);
        }
    }

    /// A name was resolved for certain.
    pub fn resolved_at(&mut self, time: Time) {
        self.resolved = self.resolved.max(time);
    }

    /// How many changes wait.
    pub fn len(&self) -> usize {
        self.strikes.len() + self.waiting.len()
    }

    /// The entry of a key, as it will stand.
    pub fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if let Some(waiting) = self.waiting.get(key) {
            return Ok(Some(waiting.entry.clone()));
        }
        let (bytes, len) = key.bytes();
        let row = self.tables.suppress_row(SuppressTable::Entries, &bytes[..len])?;
        Ok(row.and_then(|row| Entry::decode(&row).ok()))
    }

    /// Looks for what is too old by `now`.
    fn sweep(&mut self, now: Time) -> Result<(), StoreError> {
        self.stale.clear();
        let (mut seen, mut last) = (0, Vec::new());
        let from = std::mem::take(&mut self.swept);
        self.tables.for_each_suppress_row(SuppressTable::Strikes, &from, &mut |key, row| {
            if seen == SWEEP {
                last = key.to_vec();
                return false;
            }
            seen += 1;
            self.stale.extend(StrikeKey::from_bytes(key).filter(|_| Strikes::decode(row).is_stale(now)));
            true
        })?;
        // Empty at the end: then it begins anew.
        self.swept = last;
        Ok(())
    }

    /// Writes what waits; may be called again with the same.
    pub fn write(&mut self, tx: &mut Tx<'_>, now: Time) -> Result<(), StoreError> {
        self.sweep(now)?;
        for key in &self.stale {
            if !self.strikes.contains_key(key) {
                tx.remove_suppress_row(SuppressTable::Strikes, &key.bytes());
            }
        }
        for (key, strikes) in &self.strikes {
            match strikes.is_empty() {
                true => tx.remove_suppress_row(SuppressTable::Strikes, &key.bytes()),
                false => tx.put_suppress_row(SuppressTable::Strikes, &key.bytes(), strikes.encode()),
            }
        }
        for (key, waiting) in &self.waiting {
            let Waiting { entry, change, who, why, certain } = waiting;
            let before = book::find(tx, key)?;
            // An operator may have changed it since we looked.
            let stands = match (change, &before) {
                (Change::Enter, Some(before)) => {
                    !Standing::of(before).covers((entry.by.seq, entry.time), entry.expires, *certain)
                }
                (Change::Enter, None) => true,
                (Change::Hold, Some(before)) => before.state == crate::suppress::State::Active && before.by == entry.by,
                // It may have been held since the last commit only.
                (_, Some(before)) => before.state != crate::suppress::State::Removed && before.source == Source::Auto,
                (_, None) => false,
            };
            if stands {
                book::put(tx, key, entry, (*change, time_of(waiting, now)), (who, why))?;
            }
        }
        if self.resolved != self.resolved_kept {
            tx.put_suppress_row(SuppressTable::Facts, RESOLVED, self.resolved.0.to_le_bytes().to_vec());
        }
        Ok(())
    }

    /// What was written is durable; gives what was entered, to be compared with what stands.
    pub fn committed(&mut self) -> Vec<(Key, Waiting)> {
        for key in self.stale.drain(..).chain(self.strikes.iter().filter(|(_, s)| s.is_empty()).map(|(key, _)| *key)) {
            // Another rule or scope may have strikes against the same subject: then the tables know.
            let mut others = false;
            let subject = key.key.subject;
            let looked = self.tables.for_each_suppress_row(SuppressTable::Strikes, &subject.0, &mut |row, _| {
                others = row.starts_with(&subject.0);
                false
            });
            if looked.is_ok() && !others {
                self.prints.remove(&print(&subject));
                self.domains.remove(&print(&subject));
            }
        }
        self.strikes.clear();
        self.resolved_kept = self.resolved;
        self.waiting.drain().collect()
    }
}

/// An entry's line of history stands at the time of its event, all others at the time at which it was done.
fn time_of(waiting: &Waiting, now: Time) -> Time {
    if waiting.change == Change::Enter { waiting.entry.time } else { now }
}

impl State for Memory {
    type Error = StoreError;

    fn standing(&mut self, key: &Key) -> Result<Option<Standing>, StoreError> {
        Ok(self.entry(key)?.as_ref().map(Standing::of))
    }

    fn strikes(&mut self, key: &StrikeKey) -> Result<Strikes, StoreError> {
        if let Some(strikes) = self.strikes.get(key) {
            return Ok(strikes.clone());
        }
        if !self.may_have_strikes(&key.key.subject) {
            return Ok(Strikes::default());
        }
        let row = self.tables.suppress_row(SuppressTable::Strikes, &key.bytes())?;
        Ok(row.map(|row| Strikes::decode(&row)).unwrap_or_default())
    }

    fn keep(&mut self, key: StrikeKey, strikes: Strikes) {
        self.know(&key, &strikes);
        self.strikes.insert(key, strikes);
    }

    fn may_have_any(&mut self) -> bool {
        self.overflow || !self.prints.is_empty()
    }

    fn may_have_strikes(&mut self, subject: &SubjectKey) -> bool {
        self.overflow || self.prints.contains(&print(subject))
    }

    fn may_have_domains(&mut self) -> bool {
        !self.domains.is_empty()
    }

    fn strikes_of(&mut self, subject: &SubjectKey) -> Result<Vec<(StrikeKey, Strikes)>, StoreError> {
        let mut found = Vec::new();
        self.tables.for_each_suppress_row(SuppressTable::Strikes, &subject.0, &mut |key, row| {
            let Some(key) = StrikeKey::from_bytes(key).filter(|key| key.key.subject == *subject) else { return false };
            if !self.strikes.contains_key(&key) {
                found.push((key, Strikes::decode(row)));
            }
            true
        })?;
        let first = StrikeKey { key: subject.in_scope(&Scope::global()), rule: 0 };
        let waiting = self.strikes.range(first..).take_while(|(key, _)| key.key.subject == *subject);
        found.extend(waiting.filter(|(_, s)| !s.is_empty()).map(|(key, strikes)| (*key, strikes.clone())));
        Ok(found)
    }

    fn resolved(&self) -> Time {
        self.resolved
    }
}
