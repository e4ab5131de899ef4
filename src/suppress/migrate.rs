//! Moves the list of the first release, which stood in `tables.redb` under plain addresses, into the file of its own.
//!
//! The entries are copied in several transactions, the last of which brings the consumer's cursor and the note that all is
//! there; only then are they deleted where they were. Who is killed on the way begins again, and comes to the same
//! end: what was copied before stays as it is.

use super::book::{self, Change};
use super::entry::{Entry, Source, State};
use super::key::{Hasher, Key};
use crate::event::{Scope, Time};
use crate::store::{Store, StoreError, SuppressTable};

/// Row of the facts that says that all was copied.
const MOVED: &[u8] = b"moved from tables.redb";
/// Consumer of the ledger whose cursor goes with the entries (`accounting::feedback`).
const CONSUMER: &str = "suppression";
/// Entries in one transaction.
const PAGE: usize = if cfg!(test) { 3 } else { 5_000 };

/// Moves what there is; nothing, most of the time.
pub(super) fn migrate(store: &Store, hasher: &Hasher) -> Result<(), StoreError> {
    let (old, new) = (store.tables(), store.suppression());
    let cursor = old.consumer(CONSUMER)?;
    let mut page = read(store, "")?;
    if page.is_empty() && cursor.is_none() {
        return Ok(());
    }
    if new.suppress_row(SuppressTable::Facts, MOVED)?.is_none() {
        let mut copied = 0;
        while let Some((last, _)) = page.last() {
            let after = format!("{last}\0");
            new.write(|tx| {
                for (address, row) in &page {
                    let (key, entry) = entered(hasher, address, row);
                    if book::find(tx, &key)?.is_none() {
                        let why = if entry.reply.is_empty() { &entry.note } else { &entry.reply };
                        let change = if entry.is_active() { Change::Enter } else { Change::Remove };
                        book::put(tx, &key, &entry, (change, entry.time), (&entry.rule, why))?;
                    }
                }
                Ok(())
            })?;
            copied += page.len();
            page = read(store, &after)?;
        }
        let is_there = new.consumer(CONSUMER)?.is_some();
        new.write(|tx| {
            tx.put_suppress_row(SuppressTable::Facts, MOVED, Vec::new());
            match &cursor {
                Some(row) if !is_there => tx.put_consumer(CONSUMER, row),
                _ => Ok(()),
            }
        })?;
        tracing::info!(entries = copied, "the suppression list of the first release was moved into suppress.redb");
    }
    loop {
        let page = read(store, "")?;
        old.write(|tx| {
            page.iter().for_each(|(address, _)| tx.remove_suppressed(address));
            if cursor.is_some() { tx.remove_consumer(CONSUMER) } else { Ok(()) }
        })?;
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

fn read(store: &Store, from: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut page = Vec::new();
    store.tables().for_each_suppressed_from(from, &mut |address, row| {
        page.push((address.to_owned(), row.to_vec()));
        page.len() < PAGE
    })?;
    Ok(page)
}

/// The entry of a row. One that can't be read was on the list for some reason: it holds until an operator decides.
fn entered(hasher: &Hasher, address: &str, row: &[u8]) -> (Key, Entry) {
    let key = hasher.subject(address).in_scope(&Scope::global());
    let entry = Entry::decode(row).unwrap_or_else(|error| {
        tracing::error!(address, %error, "entry of the first release: its mail is held until it is released or removed");
        Entry {
            source: Source::Manual,
            state: State::Held,
            rule: super::list::UNREADABLE.into(),
            time: Time::UNKNOWN,
            note: "its row of the first release could not be read".into(),
            ..Entry::default()
        }
    });
    (key, Entry { subject: address.into(), ..entry })
}
