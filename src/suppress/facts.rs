//! Small rows beside the list: whether its keys are ours, which filters are out of date.

use super::book;
use super::key::Hasher;
use crate::store::{StoreError, SuppressTable, Tables, Tx};

/// What a fixed subject hashes to.
const HASH_CHECK: &[u8] = b"hash check";
/// Which filters do not know what is in the table: a bit for each shard.
const STALE: &[u8] = b"stale filters";
/// The fixed subject; no address.
const CHECKED: &str = "carom";

/// Which scopes any entry has, a bit each. An empty list takes any hasher; one with entries only that of its keys.
pub(super) fn open(tables: &Tables, hasher: &Hasher) -> Result<u8, StoreError> {
    let row = tables.suppress_row(SuppressTable::Facts, book::COUNTS)?;
    let [active, held, removed] = row.as_deref().map(book::read_counts).unwrap_or_default();
    let ours = hasher.subject(CHECKED).0;
    let kept = tables.suppress_row(SuppressTable::Facts, HASH_CHECK)?;
    if kept.as_deref() != Some(&ours[..]) {
        if kept.is_some() && active + held + removed > 0 {
            return Err(StoreError::other(
                "the entries of the suppression list were made with another suppression-hash-key, and none would be \
                 found with this one: put the former key back, or export the list and import it anew",
            ));
        }
        tables.write(|tx| {
            tx.put_suppress_row(SuppressTable::Facts, HASH_CHECK, ours.to_vec());
            Ok(())
        })?;
    }
    Ok(row.as_deref().map_or(0, book::read_kinds))
}

/// Which shards' filters are out of date.
pub(super) fn stale(tables: &Tables) -> Result<[bool; 256], StoreError> {
    let row = tables.suppress_row(SuppressTable::Facts, STALE)?.unwrap_or_default();
    Ok(std::array::from_fn(|n| row.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0)))
}

/// Notes that a shard's filter does (not) know what is in the table.
pub(super) fn set_stale(tx: &mut Tx<'_>, shard: u8, stale: bool) -> Result<(), StoreError> {
    let before = tx.suppress_row(SuppressTable::Facts, STALE)?;
    let mut row = before.clone().unwrap_or_default();
    row.resize(32, 0);
    let (byte, bit) = (&mut row[usize::from(shard) / 8], 1 << (shard % 8));
    *byte = if stale { *byte | bit } else { *byte & !bit };
    if before.as_ref() != Some(&row) {
        tx.put_suppress_row(SuppressTable::Facts, STALE, row);
    }
    Ok(())
}
