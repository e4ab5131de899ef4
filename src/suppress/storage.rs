//! How the list keeps whom it is about: in words, or as hashes alone; and with which key the hashes were made.
//!
//! Both stand in the list's own file, so that [`book`](super::book), the one place that writes entries, can obey without
//! being told, and a file that was made with one hash key is not read with another: every look-up would fail, and
//! everybody on the list would be mailed.

use crate::store::{StoreError, SuppressTable, Tables, Tx};

use super::book::{Change, Line, line_value, read_line};
use super::entry::Entry;
use super::key::Hasher;

/// Row of the facts that holds it.
pub const STORAGE: &[u8] = b"storage";
const VERSION: u8 = 1;

/// Why a list is not opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Made with another key.
    #[error(
        "the suppression list was made with another suppression-hash-key (or none): its fingerprint is {made}, that of the \
         configured key {given}. Configure the key it was made with; to change keys, export the list as JSON with the old \
         key, purge it, and import it with the new one"
    )]
    OtherKey {
        /// Of the key it was made with.
        made: String,
        /// Of the key that is configured.
        given: String,
    },
    /// Written by a newer Carom.
    #[error("the suppression list is kept in a way (version {0}) that this Carom does not know: use a newer one")]
    Newer(u8),
    /// The tables can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the list as the configuration wants it: refuses another key than the one it was made with (an empty list takes
/// any), notes whether words are kept. Call it before anything reads or writes entries.
pub fn adopt(tables: &Tables, hasher: &Hasher, hashed_only: bool) -> Result<(), StorageError> {
    let mut is_empty = true;
    tables.for_each_entry(&[], &mut |_, _| {
        is_empty = false;
        false
    })?;
    let given = hasher.fingerprint();
    let row = tables.suppress_row(SuppressTable::Facts, STORAGE)?;
    let made = match row.as_deref() {
        Some([VERSION, _, rest @ ..]) => <[u8; 8]>::try_from(rest).ok(),
        Some([newer, ..]) => return Err(StorageError::Newer(*newer)),
        // Lists that were made before this row was knew no keys.
        _ if !is_empty => Some(Hasher::default().fingerprint()),
        _ => None,
    };
    if let Some(made) = made.filter(|made| *made != given && !is_empty) {
        let hex = |f: [u8; 8]| data_encoding::HEXLOWER.encode(&f);
        return Err(StorageError::OtherKey { made: hex(made), given: hex(given) });
    }
    let mut new = vec![VERSION, u8::from(hashed_only)];
    new.extend_from_slice(&given);
    if hashed_only && !is_empty && !matches!(row.as_deref(), Some([VERSION, 1, ..])) {
        // The row is written when all is done: what a crash leaves is stripped at the next start.
        strip(tables)?;
    }
    if row.as_ref() != Some(&new) {
        tables.write(|tx| {
            tx.put_suppress_row(SuppressTable::Facts, STORAGE, new);
            Ok(())
        })?;
    }
    Ok(())
}

/// Takes the words out of what was kept before.
fn strip(tables: &Tables) -> Result<(), StoreError> {
    tracing::info!("suppression-storage hashed: addresses and replies are taken out of the list");
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let from = after.clone().unwrap_or_default();
        tables.for_each_entry(&from, &mut |key, row| {
            if after.as_deref().is_none_or(|after| key > after) {
                after = Some(key.to_vec());
                let words = Entry::decode(row).ok().filter(|e| !e.subject.is_empty() || !e.reply.is_empty());
                rows.extend(words.map(|entry| (key.to_vec(), entry.nameless().encode())));
            }
            rows.len() < STRIP_AT_ONCE
        })?;
        if rows.is_empty() {
            break;
        }
        tables.write(|tx| {
            for (key, row) in &rows {
                // Neither state nor expiry changes, so nothing else goes by it.
                tx.put_suppress_row(SuppressTable::Entries, key, row.clone());
            }
            Ok(())
        })?;
    }
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let from = after.clone().unwrap_or_default();
        tables.for_each_suppress_row(SuppressTable::History, &from, &mut |key, row| {
            if after.as_deref().is_none_or(|after| key > after) {
                after = Some(key.to_vec());
                if let Some(line) = read_line(key, row).filter(|line| !line.subject.is_empty()) {
                    // Of an entry nobody can tell any more whether a reply or an operator's reason stands there.
                    let enters = line.change == Change::Enter;
                    let why = if enters { String::new() } else { redacted(&line.why, &line.subject) };
                    let line = Line { subject: "".into(), why: why.into(), ..line };
                    rows.push((key.to_vec(), line_value(&line)));
                }
            }
            rows.len() < STRIP_AT_ONCE
        })?;
        if rows.is_empty() {
            return Ok(());
        }
        tables.write(|tx| {
            for (key, row) in &rows {
                tx.put_suppress_row(SuppressTable::History, key, row.clone());
            }
            Ok(())
        })?;
    }
}

/// Rows changed in one transaction.
const STRIP_AT_ONCE: usize = 5000;

/// Whether only hashes are kept, as this transaction sees it.
pub fn keeps_hashes_only(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let row = tx.suppress_row(SuppressTable::Facts, STORAGE)?;
    Ok(matches!(row.as_deref(), Some([VERSION, 1, ..])))
}

/// `text` with every mention of `subject` (folded) taken out, whatever its case.
pub fn redacted(text: &str, subject: &str) -> String {
    if subject.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    'text: while !rest.is_empty() {
        for (at, _) in rest.char_indices() {
            if let Some(len) = begins_with(&rest[at..], subject) {
                out.push_str(&rest[..at]);
                out.push_str("***");
                rest = &rest[at + len..];
                continue 'text;
            }
        }
        break;
    }
    out.push_str(rest);
    out
}

/// How many bytes of `text` spell `subject`, which is in lower case; lower-casing may change how many a letter has.
fn begins_with(text: &str, subject: &str) -> Option<usize> {
    let mut wanted = subject.chars();
    let mut want = wanted.next();
    for (at, c) in text.char_indices() {
        if want.is_none() {
            return Some(at);
        }
        for low in c.to_lowercase() {
            if want != Some(low) {
                return None;
            }
            want = wanted.next();
        }
    }
    want.is_none().then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_taken_out_of_a_text_however_it_is_spelt() {
        assert_eq!(redacted("Ann@B.example wrote, ann@b.example!", "ann@b.example"), "*** wrote, ***!");
        assert_eq!(redacted("ÄNN@b", "änn@b"), "***");
        assert_eq!(redacted("nothing", "ann@b"), "nothing");
        assert_eq!(redacted("nothing", ""), "nothing");
    }

    proptest! {
        #[test]
        fn no_text_keeps_the_address(before in ".{0,20}", after in ".{0,20}") {
            let text = redacted(&format!("{before}Ann@b.example{after}"), "ann@b.example");
            prop_assert!(!text.to_lowercase().contains("ann@b.example"), "{}", text);
        }
    }
}
