//! Where the list is written: an entry with all that belongs to it, in the caller's transaction. Only [`merge`](super::merge)
//! writes besides, whole lists in the order of their keys; it takes the counts and the keys of the rows from here.
//!
//! One change is one call: the entry's row, its place among the expiries, a line of history, the counts. So they agree
//! after any crash, and who looks for what changed the list finds it in one file.

use crate::event::{Scope, Time};
use crate::store::{StoreError, SuppressTable, Tx};

use super::entry::{Entry, Source, State};
use super::key::Key;
use super::storage::{keeps_hashes_only, redacted};

/// What was done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Change {
    /// Entered, or entered anew.
    Enter = 1,
    /// Taken off by an operator.
    Remove = 2,
    /// Taken back as a provider's mistake.
    Undo = 3,
    /// Its time was over.
    Expire = 4,
    /// Everything but the hash was deleted.
    Forget = 5,
    /// Held back by the circuit breaker.
    Hold = 6,
    /// Let go by the circuit breaker, or confirmed by an operator.
    Release = 7,
    /// Deleted for good.
    Purge = 8,
    /// A whole list was brought in: one line for all of it.
    Import = 9,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 9] = [
        Change::Enter,
        Change::Remove,
        Change::Undo,
        Change::Expire,
        Change::Forget,
        Change::Hold,
        Change::Release,
        Change::Purge,
        Change::Import,
    ];

    /// As it is written in the history.
    pub const fn name(self) -> &'static str {
        match self {
            Change::Enter => "enter",
            Change::Remove => "remove",
            Change::Undo => "undo",
            Change::Expire => "expire",
            Change::Forget => "forget",
            Change::Hold => "hold",
            Change::Release => "release",
            Change::Purge => "purge",
            Change::Import => "import",
        }
    }
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub time: Time,
    /// What.
    pub change: Change,
    /// Whom it is about; `None` for what is about no single one.
    pub key: Option<Key>,
    /// The subject in words; empty where only hashes are kept.
    pub subject: Box<str>,
    /// For whose mail the entry counts.
    pub scope: Scope,
    /// Who did it: the rule, or the operator's name.
    pub who: Box<str>,
    /// Provider of the event, for what was entered by one.
    pub provider: Box<str>,
    /// The reason, or the reply.
    pub why: Box<str>,
}

/// The entry of a key, as this transaction sees it; a row that can't be read counts as none.
pub fn find(tx: &mut Tx<'_>, key: &Key) -> Result<Option<Entry>, StoreError> {
    let (bytes, len) = key.bytes();
    let row = tx.suppress_row(SuppressTable::Entries, &bytes[..len])?;
    Ok(row.and_then(|row| Entry::decode(&row).ok()))
}

/// Puts `entry` under `key`, whatever stood there, with a line of history. `who` and `why` are for that line. Where only
/// hashes are kept (`suppression-storage hashed`), this is where subject and reply are left out, of both.
pub fn put(
    tx: &mut Tx<'_>,
    key: &Key,
    entry: &Entry,
    (change, time): (Change, Time),
    (who, why): (&str, &str),
) -> Result<(), StoreError> {
    let hashed = keeps_hashes_only(tx)?;
    let nameless;
    let (entry, why) = match hashed {
        true => {
            // What an event says of itself is a reply; what an operator says stays.
            let own_words = matches!(entry.source, Source::Manual | Source::Import) || change != Change::Enter;
            let why = if own_words { redacted(why, &entry.subject) } else { String::new() };
            nameless = (entry.nameless(), why);
            (&nameless.0, nameless.1.as_str())
        }
        false => (entry, why),
    };
    replace(tx, key, Some(entry))?;
    write_line(tx, &line_of(key, entry, (change, time), (who, why)))
}

/// As [`put`], without a line of history: an import has one for all of its entries.
pub fn put_silently(tx: &mut Tx<'_>, key: &Key, entry: &Entry) -> Result<(), StoreError> {
    match keeps_hashes_only(tx)? {
        true => replace(tx, key, Some(&entry.nameless())).map(drop),
        false => replace(tx, key, Some(entry)).map(drop),
    }
}

/// Deletes the entry of `key` for good, without a line of history: who deletes many writes one for all.
pub fn delete(tx: &mut Tx<'_>, key: &Key) -> Result<(), StoreError> {
    replace(tx, key, None).map(drop)
}

/// Deletes the entry of a key with all that belongs to it, and writes a line of history; returns it, or `None` when there
/// was none. Nothing then keeps events that the consumer has not yet passed from entering the subject again.
pub fn erase(
    tx: &mut Tx<'_>,
    key: &Key,
    (change, time): (Change, Time),
    (who, why): (&str, &str),
) -> Result<Option<Entry>, StoreError> {
    let Some(entry) = replace(tx, key, None)? else { return Ok(None) };
    write_line(tx, &line_of(key, &entry, (change, time), (who, why)))?;
    Ok(Some(entry))
}

/// Replaces what stands under `key`, with all that goes by it but the history; returns what stood there.
fn replace(tx: &mut Tx<'_>, key: &Key, entry: Option<&Entry>) -> Result<Option<Entry>, StoreError> {
    let before = find(tx, key)?;
    count(tx, before.as_ref().map(|e| e.state), entry.map(|e| (e.state, key)))?;
    let (bytes, len) = key.bytes();
    // What suppressed before is known to a filter, or fresh already; see `upkeep`.
    match (before.as_ref().is_some_and(Entry::is_active), entry.is_some_and(Entry::is_active)) {
        (_, false) => tx.remove_suppress_row(SuppressTable::Fresh, &bytes[..len]),
        (false, true) => tx.put_suppress_row(SuppressTable::Fresh, &bytes[..len], Vec::new()),
        (true, true) => {}
    }
    if let Some(before) = before.as_ref().filter(|b| b.expires.is_known()) {
        tx.remove_suppress_row(SuppressTable::Expiries, &expiry_key(before.expires, key));
    }
    match entry {
        Some(entry) => {
            if entry.expires.is_known() {
                tx.put_suppress_row(SuppressTable::Expiries, &expiry_key(entry.expires, key), Vec::new());
            }
            tx.put_suppress_row(SuppressTable::Entries, &bytes[..len], entry.encode());
        }
        None => tx.remove_suppress_row(SuppressTable::Entries, &bytes[..len]),
    }
    Ok(before)
}

fn line_of(key: &Key, entry: &Entry, (change, time): (Change, Time), (who, why): (&str, &str)) -> Line {
    Line {
        time,
        change,
        key: Some(*key),
        subject: entry.subject.clone(),
        scope: entry.scope.clone(),
        who: who.into(),
        provider: entry.provider.clone(),
        why: why.into(),
    }
}

/// How many entries there are in each state.
pub fn counts(tx: &mut Tx<'_>) -> Result<[u64; 3], StoreError> {
    Ok(tx.suppress_row(SuppressTable::Facts, COUNTS)?.map(|row| read_counts(&row)).unwrap_or_default())
}

/// Row of the facts that holds the counts, and which scopes any entry has ever had.
pub const COUNTS: &[u8] = b"counts";

/// Reads the row of counts: active, held, removed.
pub fn read_counts(row: &[u8]) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, bytes) in counts.iter_mut().zip(row.chunks_exact(8)) {
        *count = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    counts
}

/// Reads from the row of counts which scopes any entry has ever had, a bit each.
pub(super) fn read_kinds(row: &[u8]) -> u8 {
    // Without that byte, all may be.
    row.get(24).copied().unwrap_or(u8::MAX)
}

fn count(tx: &mut Tx<'_>, before: Option<State>, after: Option<(State, &Key)>) -> Result<(), StoreError> {
    let mut change = [0; 3];
    let slot = |state: State| state as usize - 1;
    if let Some(before) = before {
        change[slot(before)] -= 1;
    }
    let mut kinds = 0;
    if let Some((after, key)) = after {
        change[slot(after)] += 1;
        kinds = 1 << key.scope_kind() as u8;
    }
    adjust(tx, change, kinds)
}

/// Adds to the counts of each state, and to the scopes that any entry has.
pub(super) fn adjust(tx: &mut Tx<'_>, change: [i64; 3], kinds: u8) -> Result<(), StoreError> {
    let before = tx.suppress_row(SuppressTable::Facts, COUNTS)?;
    let mut counts = before.as_deref().map(read_counts).unwrap_or_default();
    for (count, change) in counts.iter_mut().zip(change) {
        *count = count.saturating_add_signed(change);
    }
    let kinds = before.as_deref().map_or(0, read_kinds) | kinds;
    let row: Vec<u8> = counts.iter().flat_map(|n| n.to_le_bytes()).chain([kinds]).collect();
    if before.as_ref() != Some(&row) {
        tx.put_suppress_row(SuppressTable::Facts, COUNTS, row);
    }
    Ok(())
}

pub(super) fn expiry_key(time: Time, key: &Key) -> Vec<u8> {
    let (bytes, len) = key.bytes();
    // Flipped, so that times before 1970 come first.
    let mut row = ((time.0 as u64) ^ (1 << 63)).to_be_bytes().to_vec();
    row.extend_from_slice(&bytes[..len]);
    row
}

/// Reads a key of the expiries: when, and which entry.
pub fn read_expiry_key(row: &[u8]) -> Option<(Time, Key)> {
    let (time, key) = row.split_first_chunk()?;
    Some((Time((u64::from_be_bytes(*time) ^ (1 << 63)) as i64), Key::from_bytes(key)?))
}

/// Adds a line to the history.
pub fn write_line(tx: &mut Tx<'_>, line: &Line) -> Result<(), StoreError> {
    let mut row = line_from(line.time);
    if let Some(key) = &line.key {
        let (bytes, len) = key.bytes();
        row.extend_from_slice(&bytes[..len]);
    }
    // Two changes of one entry at one instant: the second follows the first.
    while tx.suppress_row(SuppressTable::History, &row)?.is_some() {
        row.push(0);
    }
    tx.put_suppress_row(SuppressTable::History, &row, line_value(line));
    Ok(())
}

/// Where the lines of this time begin.
pub fn line_from(time: Time) -> Vec<u8> {
    ((time.0 as u64) ^ (1 << 63)).to_be_bytes().to_vec()
}

/// A line's row without its key, as [`read_line`] reads it.
pub fn line_value(line: &Line) -> Vec<u8> {
    let texts = [&*line.subject, &line.scope.to_string(), &line.who, &line.provider, &line.why];
    let mut value = vec![1, line.change as u8, line.key.map_or(0, |key| key.bytes().1 as u8)];
    for text in texts {
        let text = &text[..text.floor_char_boundary(500)];
        value.extend_from_slice(&(text.len() as u16).to_le_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    value
}

/// Reads a row of the history.
pub fn read_line(row: &[u8], value: &[u8]) -> Option<Line> {
    let (time, rest) = row.split_first_chunk()?;
    let (&[_, change, key_len], mut texts) = value.split_first_chunk()?;
    let mut text = || {
        let (len, rest) = texts.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        texts = rest;
        std::str::from_utf8(text).ok()
    };
    let (subject, scope) = (text()?.into(), text()?.parse().ok()?);
    Some(Line {
        time: Time((u64::from_be_bytes(*time) ^ (1 << 63)) as i64),
        change: Change::ALL.into_iter().find(|c| *c as u8 == change)?,
        key: match key_len {
            0 => None,
            len => Some(Key::from_bytes(rest.get(..usize::from(len))?)?),
        },
        subject,
        scope,
        who: text()?.into(),
        provider: text()?.into(),
        why: text()?.into(),
    })
}
