//! Takes out of the table what has ended. The list in memory goes by the time itself, so this only gives room free: it may
//! come late.

use super::book::{self, Change};
use super::{Key, Suppression};
use crate::event::Time;
use crate::store::{Store, StoreError, SuppressTable};

/// Deletes entries whose time was over at `now`, at most `most` of them, with a line of history each, in one transaction;
/// returns how many rows were dealt with: fewer than `most` when nothing more is due. Blocks; a thousand or so at once
/// let the other writers through.
pub fn expire(store: &Store, list: &Suppression, now: Time, most: usize) -> Result<usize, StoreError> {
    let tables = store.suppression();
    let mut due = Vec::new();
    tables.for_each_suppress_row(SuppressTable::Expiries, &[], &mut |row, _| {
        let is_due = due.len() < most && book::read_expiry_key(row).is_none_or(|(time, _)| time <= now);
        if is_due {
            due.push(row.to_vec());
        }
        is_due
    })?;
    if due.is_empty() {
        return Ok(0);
    }
    let ended = tables.write(|tx| {
        let mut ended = Vec::new();
        for row in &due {
            let key: Option<Key> = book::read_expiry_key(row).map(|(_, key)| key);
            // Whatever it leads to, it has been dealt with.
            tx.remove_suppress_row(SuppressTable::Expiries, row);
            let Some(key) = key else { continue };
            if let Some(rule) = book::find(tx, &key)?.filter(|e| e.is_expired(now)).map(|e| e.rule) {
                let entry = book::erase(tx, &key, (Change::Expire, now), (&rule, "its time was over"))?;
                ended.extend(entry.map(|entry| (key, entry)));
            }
        }
        Ok(ended)
    })?;
    for (key, entry) in &ended {
        list.deleted(key, entry);
    }
    Ok(due.len())
}
