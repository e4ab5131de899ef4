//! What was done to the list, and what stands on it, in numbers. Both are read in bounded pieces.

use std::collections::BTreeMap;

use super::book::{self, Line};
use super::operate::{MAX_SCAN, SuppressError};
use super::{Entry, Key, State, SubjectKey};
use crate::event::Time;
use crate::store::{SuppressTable, Tables};

/// Names told apart in each count; those beyond are counted together, so that hostile names fill no memory.
const MAX_NAMES: usize = 1000;
/// What those beyond are counted as.
const OTHERS: &str = "(others)";

/// Some lines of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// In the order of time.
    pub lines: Vec<Line>,
    /// Where the next piece begins; none when this is the last.
    pub next: Option<Vec<u8>>,
}

/// Lines from `since` on behind the row `after`, at most `most`; only about `subject` where one is given.
pub fn history(
    tables: &Tables,
    subject: Option<SubjectKey>,
    since: Time,
    after: &[u8],
    most: usize,
) -> Result<Lines, SuppressError> {
    let mut found = Lines::default();
    let (mut looked_at, mut last) = (0, Vec::new());
    let from = if since.is_known() { book::line_from(since) } else { Vec::new() };
    let from = if after.is_empty() { from } else { from.max(after.to_vec()) };
    tables.for_each_suppress_row(SuppressTable::History, &from, &mut |row, value| {
        if !after.is_empty() && row <= after {
            return true;
        }
        if looked_at == MAX_SCAN || found.lines.len() == most {
            found.next = Some(std::mem::take(&mut last));
            return false;
        }
        looked_at += 1;
        last.clear();
        last.extend_from_slice(row);
        let line = book::read_line(row, value);
        let about = |line: &Line| subject.is_none_or(|s| line.key.is_some_and(|key| key.subject == s));
        found.lines.extend(line.filter(about));
        true
    })?;
    Ok(found)
}

/// How many entries there are of which kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// By state, expired ones apart.
    pub states: BTreeMap<String, u64>,
    /// Of those that suppress: by rule.
    pub rules: BTreeMap<String, u64>,
    /// By source.
    pub sources: BTreeMap<String, u64>,
    /// By provider.
    pub providers: BTreeMap<String, u64>,
    /// By kind of scope.
    pub scopes: BTreeMap<String, u64>,
    /// By the UTC day of the event, or of the entry.
    pub days: BTreeMap<String, u64>,
    /// Imports: their numbers.
    pub batches: BTreeMap<String, u64>,
    /// Whole domains.
    pub domains: u64,
    /// Entries of which only a hash is kept.
    pub nameless: u64,
}

/// Counts the entries behind `after`; with where the next piece begins.
pub fn stats(tables: &Tables, after: Option<Key>, now: Time) -> Result<(Stats, Option<Key>), SuppressError> {
    let mut stats = Stats::default();
    let (mut looked_at, mut last, mut next) = (0, None, None);
    let (from, len) = after.map_or(([0; 24], 0), |key| key.bytes());
    tables.for_each_entry(&from[..len], &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| after.is_none_or(|after| *key > after)) else { return true };
        if looked_at == MAX_SCAN {
            next = last;
            return false;
        }
        looked_at += 1;
        last = Some(key);
        match Entry::decode(row) {
            Ok(entry) => stats.count(&entry, now),
            Err(_) => count(&mut stats.states, "unreadable"),
        }
        true
    })?;
    Ok((stats, next))
}

impl Stats {
    fn count(&mut self, entry: &Entry, now: Time) {
        if entry.is_active() && entry.is_expired(now) {
            return count(&mut self.states, "expired");
        }
        count(&mut self.states, entry.state.name());
        if entry.state == State::Removed {
            return;
        }
        count(&mut self.rules, &entry.rule);
        count(&mut self.sources, entry.source.name());
        count(&mut self.scopes, entry.scope.kind().name());
        if !entry.provider.is_empty() {
            count(&mut self.providers, &entry.provider);
        }
        if entry.time.is_known() {
            let day = entry.time.utc_date().to_string();
            // Ten years of days.
            count_up_to(&mut self.days, &day, 3660);
        }
        if entry.batch != 0 {
            count(&mut self.batches, &entry.batch.to_string());
        }
        self.domains += u64::from(entry.subject.starts_with('@'));
        self.nameless += u64::from(entry.subject.is_empty());
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    count_up_to(counts, name, MAX_NAMES);
}

fn count_up_to(counts: &mut BTreeMap<String, u64>, name: &str, most: usize) {
    if let Some(n) = counts.get_mut(name) {
        *n += 1;
        return;
    }
    let name = if counts.len() < most { name } else { OTHERS };
    *counts.entry(name.to_owned()).or_default() += 1;
}
