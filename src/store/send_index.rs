//! Tables `sends` and `sends by time`: which message was sent to whom, so that a report can be tied to its send.
//!
//! Key of `sends`: 12 bytes of the SHA-256 of a name (the message's id in our store, its Message-ID, its ENVID), then 8
//! bytes of the SHA-256 of which recipient: short, and nobody can find another Message-ID that collides. Value: when the
//! send was entered (i64, big-endian with the sign flipped, so that it sorts), then the entry as the caller gave it, or,
//! under its further keys, the byte 0xFF and the first one. `sends by time` has that time and the first key as its key
//! and the further keys as its value, for trimming: so a send is one entry, one row of time and a short row for each
//! further key.

use ring::digest::{SHA256, digest};

use super::error::StoreError;
use super::overlay::{Table, Tx, failed, guarded};
use super::tables::Tables;
use crate::event::Time;
use redb::{ReadableTable, ReadableTableMetadata};

const MESSAGE: usize = 12;
const KEY: usize = MESSAGE + 8;
/// Bytes of the time in front of each value.
const TIME: usize = 8;
/// What stands behind the time where the row leads to another one; no entry begins with it.
const LEADS_TO: u8 = 0xff;
/// Entries dropped per call of [`Tx::trim_sends`], at most.
const TRIM_AT_ONCE: usize = 10_000;

/// A name of a message, and which of its recipients.
pub type SendKey<'a> = (&'a str, &'a str);

fn message_part(name: &str) -> [u8; MESSAGE] {
    let mut part = [0; MESSAGE];
    part.copy_from_slice(&digest(&SHA256, name.as_bytes()).as_ref()[..MESSAGE]);
    part
}

fn key((name, rcpt): SendKey<'_>) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..MESSAGE].copy_from_slice(&message_part(name));
    key[MESSAGE..].copy_from_slice(&digest(&SHA256, rcpt.as_bytes()).as_ref()[..KEY - MESSAGE]);
    key
}

fn sortable(time: Time) -> [u8; TIME] {
    (time.0 as u64 ^ 1 << 63).to_be_bytes()
}

fn time_key(time: &[u8], key: &[u8]) -> Vec<u8> {
    [time, key].concat()
}

/// The key that a row leads to, when it has no entry itself.
fn leads_to(value: &[u8]) -> Option<&[u8]> {
    value.get(TIME..)?.strip_prefix(&[LEADS_TO])
}

impl Tables {
    /// The entry of a send by one of its keys. Without a recipient (a report that hides it) only a message is found that
    /// went to a single one: guessing would blame a stranger.
    pub fn find_send(&self, name: &str, rcpt: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> {
        match rcpt {
            Some(rcpt) => {
                let found = self.find(Table::Sends, &key((name, rcpt)))?;
                found.map_or(Ok(None), |value| self.entry(&value))
            }
            None => {
                let mut found = self.sends_named(name, 2)?;
                Ok(if found.len() == 1 { found.pop() } else { None })
            }
        }
    }

    /// The entries of all recipients of the message of this name, at most so many.
    pub fn sends_named(&self, name: &str, most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let message = message_part(name);
        let mut rows = Vec::new();
        self.for_each(Table::Sends, &message, &mut |key, value| {
            let same = key.starts_with(&message) && rows.len() < most;
            if same {
                rows.push(value.to_vec());
            }
            same
        })?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            entries.extend(self.entry(row)?);
        }
        Ok(entries)
    }

    fn entry(&self, value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(first) = leads_to(value) else { return Ok(value.get(TIME..).map(<[u8]>::to_vec)) };
        // Entered together, they have the same time; else another send has taken the first key since.
        let same = |v: &Vec<u8>| leads_to(v).is_none() && v.get(..TIME) == value.get(..TIME);
        let found = self.find(Table::Sends, first)?.filter(same);
        Ok(found.and_then(|v| v.get(TIME..).map(<[u8]>::to_vec)))
    }
}

/// What a search found: rows of a table, and where the next piece of it begins.
type Found = (Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>);

impl Tables {
    /// Deletes the sends for whose entry `is_theirs` holds, of at most `most` rows behind the row `after` (empty is the
    /// beginning): their number, and where the next piece begins. Blocks, for as long as reading so many rows takes.
    pub fn forget_sends(
        &self,
        after: &[u8],
        most: usize,
        is_theirs: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(u64, Option<Vec<u8>>), StoreError> {
        let (rows, next) = self.sends_behind(after, most, is_theirs)?;
        if rows.is_empty() {
            return Ok((0, next));
        }
        self.write(|tx| {
            for (first, value) in &rows {
                // It may have been replaced since: by a send of somebody else, which stays.
                if tx.find(Table::Sends, first)?.as_ref() != Some(value) {
                    continue;
                }
                let time_key = time_key(&value[..TIME], first);
                let further = tx.find(Table::SendTimes, &time_key)?.unwrap_or_default();
                tx.remove(Table::SendTimes, &time_key);
                tx.remove(Table::Sends, first);
                for key in further.chunks_exact(KEY) {
                    if tx.find(Table::Sends, key)?.is_some_and(|v| leads_to(&v) == Some(first)) {
                        tx.remove(Table::Sends, key);
                    }
                }
            }
            Ok(())
        })?;
        Ok((rows.len() as u64, next))
    }

    fn sends_behind(&self, after: &[u8], most: usize, is_theirs: &dyn Fn(&[u8]) -> bool) -> Result<Found, StoreError> {
        let (mut rows, mut next, mut last, mut looked_at) = (Vec::new(), None, Vec::new(), 0);
        self.for_each(Table::Sends, after, &mut |key, value| {
            if !after.is_empty() && key <= after {
                return true;
            }
            if looked_at == most || rows.len() == TRIM_AT_ONCE {
                next = Some(std::mem::take(&mut last));
                return false;
            }
            looked_at += 1;
            last.clear();
            last.extend_from_slice(key);
            if leads_to(value).is_none() && value.get(TIME..).is_some_and(is_theirs) {
                rows.push((key.to_vec(), value.to_vec()));
            }
            true
        })?;
        Ok((rows, next))
    }
}

impl Tx<'_> {
    /// Enters a send under its first key and its further ones; `now` is what [`Tx::trim_sends`] goes by. What stood under
    /// one of the keys before is replaced.
    pub fn put_send(
        &mut self,
        first: SendKey<'_>,
        further: &[SendKey<'_>],
        entry: &[u8],
        now: Time,
    ) -> Result<(), StoreError> {
        let first = key(first);
        let further: Vec<[u8; KEY]> = further.iter().map(|k| key(*k)).filter(|k| *k != first).collect();
        let time = sortable(now);
        for key in std::iter::once(&first).chain(&further) {
            // An entry that is replaced takes its row of time with it; one that leads elsewhere has none.
            if let Some(old) = self.find(Table::Sends, key)?
                && leads_to(&old).is_none()
                && let Some(time) = old.get(..TIME)
            {
                self.remove(Table::SendTimes, &time_key(time, key));
            }
        }
        self.put(Table::SendTimes, &time_key(&time, &first), further.concat());
        self.put(Table::Sends, &first, [&time[..], entry].concat());
        for key in &further {
            self.put(Table::Sends, key, [&time[..], &[LEADS_TO], &first].concat());
        }
        Ok(())
    }

    /// Drops entries older than this, and the oldest beyond `max_entries`; a bounded number per call. Returns how many.
    /// Entries put by this same transaction are not counted yet.
    pub fn trim_sends(&mut self, older_than: Time, max_entries: u64) -> Result<u64, StoreError> {
        let limit = sortable(older_than);
        let drop = guarded(|| {
            let mut drop = Vec::new();
            let times = self.base.open_table(Table::SendTimes.definition()).map_err(failed)?;
            let excess = times.len().map_err(failed)?.saturating_sub(max_entries);
            for row in times.iter().map_err(failed)? {
                let row = row.map_err(failed)?;
                let time_key = row.0.value();
                if drop.len() >= TRIM_AT_ONCE || ((drop.len() as u64) >= excess && time_key >= &limit[..]) {
                    break;
                }
                if !self.is_removed(Table::SendTimes, time_key) {
                    drop.push((time_key.to_vec(), row.1.value().to_vec()));
                }
            }
            Ok(drop)
        })?;
        for (time_key, further) in &drop {
            self.remove(Table::SendTimes, time_key);
            // A newer entry under the same key would have taken this row away, so the key is this row's own.
            let first = &time_key[TIME..];
            self.remove(Table::Sends, first);
            for key in further.chunks_exact(KEY) {
                // A later message with the same Message-ID to the same recipient may have it by now.
                if self.find(Table::Sends, key)?.is_some_and(|v| leads_to(&v) == Some(first)) {
                    self.remove(Table::Sends, key);
                }
            }
        }
        Ok(drop.len() as u64)
    }
}
