//! Tables `sends` and `sends by time`: which message was sent to whom, so that a report can be tied to its send.
//!
//! Key of `sends`: 12 bytes of the SHA-256 of the Message-ID header's value (without brackets), then 8 bytes of the
//! SHA-256 of the recipient's key: short, and nobody can find another Message-ID that collides. Value: when it was
//! entered (i64, big-endian with the sign flipped, so that it sorts), then the entry as the caller gave it.
//! `sends by time` has that time and the key as its key, for trimming.

use ring::digest::{SHA256, digest};

use super::error::StoreError;
use super::overlay::{Table, Tx, failed, guarded};
use super::tables::Tables;
use crate::event::Time;
use redb::{ReadableTable, ReadableTableMetadata};

const MESSAGE: usize = 12;
const KEY: usize = MESSAGE + 8;
/// Entries dropped per call of [`Tx::trim_sends`], at most.
const TRIM_AT_ONCE: usize = 10_000;

fn message_part(message_id_header: &str) -> [u8; MESSAGE] {
    let mut part = [0; MESSAGE];
    part.copy_from_slice(&digest(&SHA256, message_id_header.as_bytes()).as_ref()[..MESSAGE]);
    part
}

fn key(message_id_header: &str, rcpt_key: &str) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..MESSAGE].copy_from_slice(&message_part(message_id_header));
    key[MESSAGE..].copy_from_slice(&digest(&SHA256, rcpt_key.as_bytes()).as_ref()[..KEY - MESSAGE]);
    key
}

fn sortable(time: Time) -> [u8; 8] {
    (time.0 as u64 ^ 1 << 63).to_be_bytes()
}

fn time_key(time: &[u8], key: &[u8]) -> Vec<u8> {
    [time, key].concat()
}

impl Tables {
    /// The entry of a send by its Message-ID header value (without brackets) and recipient key. Without a recipient key
    /// (a report that hides it) only a message that went to a single recipient is found: guessing would suppress a
    /// stranger.
    pub fn find_send(&self, message_id_header: &str, rcpt_key: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(rcpt_key) = rcpt_key {
            let found = self.find(Table::Sends, &key(message_id_header, rcpt_key))?;
            return Ok(found.and_then(|v| v.get(8..).map(<[u8]>::to_vec)));
        }
        let message = message_part(message_id_header);
        let mut found = Vec::new();
        self.for_each(Table::Sends, &message, &mut |key, value| {
            let same = key.starts_with(&message);
            if same {
                found.push(value.get(8..).unwrap_or_default().to_vec());
            }
            same && found.len() < 2
        })?;
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

impl Tx<'_> {
    /// Enters a send; `now` is what [`Tx::trim_sends`] goes by. An earlier entry of the same message and recipient is
    /// replaced.
    pub fn put_send(
        &mut self,
        message_id_header: &str,
        rcpt_key: &str,
        entry: &[u8],
        now: Time,
    ) -> Result<(), StoreError> {
        let key = key(message_id_header, rcpt_key);
        if let Some(old) = self.find(Table::Sends, &key)?
            && let Some(time) = old.get(..8)
        {
            self.remove(Table::SendTimes, &time_key(time, &key));
        }
        let time = sortable(now);
        self.put(Table::SendTimes, &time_key(&time, &key), Vec::new());
        self.put(Table::Sends, &key, [&time[..], entry].concat());
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
                    drop.push(time_key.to_vec());
                }
            }
            Ok(drop)
        })?;
        for time_key in &drop {
            self.remove(Table::SendTimes, time_key);
            // A newer entry under the same key would have taken this row away, so the key is this row's own.
            self.remove(Table::Sends, &time_key[8..]);
        }
        Ok(drop.len() as u64)
    }
}
