//! Forgetting a person: the suppression list's evidence, the send index, the report quarantine, piece by piece.
//!
//! What can't be reached is named in the last answer: files that were written are the operator's, and the ledger keeps
//! its events until their time is over.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::now;
use super::suppression::On;
use crate::event::{AddressKey, SendEntry};
use crate::suppress::{Key, erase, folded};

/// Sends looked at in one piece, at most.
const MAX_SENDS: usize = 1_000_000;
/// Quarantined mails read in one piece, at most.
const MAX_MAILS: usize = 50;

/// What is not reached.
const LEFT: &[&str] = &[
    "acct files (CSV, Parquet, pipes, webhooks, brokers): rewrite or delete them, or use privacy-policy",
    "the ledger and the log: their lines go with ledger-retention and with the log's rotation",
    "mail that is still queued for the address: it is sent or bounced, and recorded, as any other",
    "backups of the store, and lists that were exported",
];

/// Does the piece that `after` names (empty is the first); the answer says in `next` which comes then.
pub(super) fn forget(on: &On<'_>, address: &str, who: &str, after: &str) -> Result<Value, String> {
    let text = folded(address).map_err(|e| e.to_string())?;
    if text.starts_with('@') {
        return Err("a domain is nobody: give an address".to_owned());
    }
    let (stage, place) = after.split_once(':').unwrap_or(("list", ""));
    let bytes = || HEXLOWER.decode(place.as_bytes()).map_err(|_| format!("{after:?} is no place to go on from"));
    let then = |stage: &str, next: Option<Vec<u8>>, following: Option<&str>| match next {
        Some(row) => Some(format!("{stage}:{}", HEXLOWER.encode(&row))),
        None => following.map(|f| format!("{f}:")),
    };
    match stage {
        "list" => {
            let done = erase::forget(on.list, on.store, &text, who, now()).map_err(|e| e.to_string())?;
            tracing::info!(who, entries = done.entries, "a person was forgotten");
            Ok(json!({
                "entries": done.entries, "stillSuppressed": done.active > 0, "strikes": done.strikes,
                "next": "entries:",
            }))
        }
        "entries" => {
            let from = Key::from_bytes(&bytes()?);
            let (entries, next) = erase::forget_mentions(on.list, on.store, &text, from).map_err(|e| e.to_string())?;
            let next = next.map(|key| {
                let (bytes, len) = key.bytes();
                bytes[..len].to_vec()
            });
            Ok(json!({ "otherEntries": entries, "next": then("entries", next, Some("history")) }))
        }
        "history" => {
            let (lines, next) =
                erase::forget_history(on.list, on.store, &text, &bytes()?).map_err(|e| e.to_string())?;
            Ok(json!({ "historyLines": lines, "next": then("history", next, Some("sends")) }))
        }
        "sends" => {
            let is_theirs =
                |entry: &[u8]| SendEntry::decode(entry).is_ok_and(|e| AddressKey::of(e.rcpt).as_str() == text);
            let from = bytes()?;
            let (rows, next) =
                on.store.tables().forget_sends(&from, MAX_SENDS, &is_theirs).map_err(|e| e.to_string())?;
            Ok(json!({ "sends": rows, "next": then("sends", next, Some("quarantine")) }))
        }
        "quarantine" => quarantined(on, &text, place),
        _ => Err(format!("{after:?} is no place to go on from")),
    }
}

fn quarantined(on: &On<'_>, address: &str, place: &str) -> Result<Value, String> {
    use crate::event::MessageId;
    let after = place.parse().ok().filter(|id| *id != 0).map(MessageId);
    let page = on.quarantine.list(&Default::default(), after, MAX_MAILS);
    let (mut dropped, mut unread) = (0, 0);
    for (id, _) in &page {
        match on.quarantine.names(*id, address) {
            Ok(true) => {
                let quarantine = on.quarantine;
                let done = (on.block_on)(Box::pin(async move {
                    match quarantine.discard(*id).await {
                        Ok(gone) => Value::from(gone),
                        Err(error) => Value::from(error.to_string()),
                    }
                }));
                match done {
                    Value::String(error) => return Err(error),
                    _ => dropped += 1,
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(message = %id, %error, "a quarantined mail can't be read");
                unread += 1;
            }
        }
    }
    if dropped > 0 {
        on.quarantine.write(true).map_err(|e| e.to_string())?;
    }
    let next = page.last().filter(|_| page.len() == MAX_MAILS).map(|(id, _)| format!("quarantine:{}", id.0));
    let mut value = json!({ "quarantined": dropped, "quarantineUnread": unread, "next": next });
    if next.is_none() {
        value["notReached"] = json!(LEFT);
    }
    Ok(value)
}
