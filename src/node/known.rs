//! What a store knows of an address or a message beyond the accounting files: events still in the ledger (the files may
//! lag behind it by minutes), and who is still queued.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value as Json, json};

use crate::accounting::journal::Journal as _;
use crate::accounting::json;
use crate::accounting::stage::Stage;
use crate::event::fields::FIELDS;
use crate::event::{Event, Kinds, MessageId};
use crate::manage::{Answer, Command};
use crate::store::{Store, StoreError};

/// Most events looked at for one answer.
const LOOKED_AT: u64 = 200_000;
/// Most events in one answer.
const MAX_EVENTS: usize = 1000;
/// Events read at a time.
const CHUNK: usize = 1000;

/// `stage` keeps the rule sets met so far, so that following the ledger does not compile them each time.
pub(super) fn answer(store: &Store, stage: &Mutex<Stage>, command: Command) -> Answer {
    match command {
        Command::Events { from, address, message } => match events(store, &mut lock(stage), from, &address, message) {
            Ok(data) => Answer::data(data),
            Err(why) => Answer::error(why),
        },
        Command::Queued { messages } => {
            let queued: Vec<Json> = messages.iter().flat_map(|id| queued(store, *id)).collect();
            Answer::data(json!({ "queued": queued }))
        }
        _ => Answer::error("no question about events or the queue"),
    }
}

/// Rule sets are only added to it: what a panicking thread left is whole.
fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn queued(store: &Store, id: u64) -> impl Iterator<Item = Json> {
    store.queued(MessageId(id)).into_iter().map(move |state| {
        let next = state.not_before.timestamp().filter(|_| state.not_before.is_known());
        json!({
            "messageId": id,
            "rcptIndex": state.index,
            "attempts": state.attempts,
            "notBefore": next.map(|t| t.to_string()),
            "inDoubt": state.in_doubt,
        })
    })
}

fn events(store: &Store, stage: &mut Stage, from: u64, address: &str, message: u64) -> Result<Json, String> {
    let ledger = store.ledger();
    let end = ledger.end();
    let start = from.clamp(ledger.start().min(end), end);
    let mut found = Vec::new();
    let mut reader = match ledger.reader(start) {
        // Trimmed since we asked where it begins.
        Err(StoreError::Trimmed { start, .. }) => ledger.reader(start),
        other => other,
    }
    .map_err(|e| e.to_string())?;
    while reader.position() < start.saturating_add(LOOKED_AT) && found.len() < MAX_EVENTS {
        let Some(chunk) = reader.next(CHUNK).map_err(|e| e.to_string())? else { break };
        for batch in chunk.batches() {
            stage.load(batch.rules, store).map_err(|e| e.to_string())?;
        }
        let wanted = |e: &Event<'_>| {
            (address.is_empty() || e.rcpt.eq_ignore_ascii_case(address)) && (message == 0 || e.message.0 == message)
        };
        found.extend(stage.events(chunk.batches(), Kinds::ALL).wanted.iter().filter(|e| wanted(e)).map(record));
    }
    Ok(
        json!({ "events": found, "next": reader.position(), "start": ledger.start(), "end": end, "store": store.store().to_string() }),
    )
}

/// Every field that is known, by its name in files.
fn record(event: &Event<'_>) -> Json {
    let fields = FIELDS.iter().filter(|f| f.kinds.contains(event.kind));
    Json::Object(
        fields.filter_map(|f| Some((f.name.to_owned(), json::value((f.value)(event))?))).collect::<Map<_, _>>(),
    )
}
