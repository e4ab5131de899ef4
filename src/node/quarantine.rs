//! What is answered about the report quarantine, by a running server or over its store.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use super::commands::text;
use super::now;
use crate::config::Config;
use crate::event::{MessageId, Time};
use crate::manage::{Answer, QuarantineCommand};
use crate::report::quarantine::{Entry, Quarantine, Replayed};

/// Most entries in one answer, and most mails of one replay.
const MAX_PAGE: usize = 1000;
/// Bytes of a mail that are shown.
const MAX_SHOWN: usize = 16 << 20;

/// Runs something that waits for the store to its end.
pub(super) type BlockOn<'b> = &'b dyn Fn(Pin<Box<dyn Future<Output = Value> + '_>>) -> Value;

/// Carries the command out. Blocks.
pub(super) fn answer(
    quarantine: &Quarantine,
    config: &Arc<Config>,
    command: QuarantineCommand,
    block_on: BlockOn<'_>,
) -> Answer {
    let done = match command {
        QuarantineCommand::List { filter, after, limit } => {
            let after = Some(after).filter(|a| *a != 0).map(MessageId);
            let page = quarantine.list(&filter, after, (limit as usize).min(MAX_PAGE));
            let entries: Vec<Value> = page.iter().map(|(id, e)| entry(*id, e)).collect();
            let usage = quarantine.usage();
            return Answer::data(json!({
                "entries": entries, "mails": usage.mails, "bytes": usage.bytes, "limit": config.report_quarantine_size,
            }));
        }
        QuarantineCommand::Show { id } => {
            return match quarantine.show(MessageId(id)) {
                Ok(Some((found, message))) => {
                    let shown = &message.body[..message.body.len().min(MAX_SHOWN)];
                    let mut value = entry(MessageId(id), &found);
                    value["mail"] = Value::from(data_encoding::BASE64.encode(shown));
                    value["cut"] = Value::from(shown.len() < message.body.len() || found.kept.is_some());
                    Answer::data(value)
                }
                Ok(None) => Answer::error(format!("there is no mail {id} in the quarantine")),
                Err(error) => Answer::error(error.to_string()),
            };
        }
        QuarantineCommand::Replay { ids } => block_on(Box::pin(async move {
            let mut results = Vec::new();
            for id in ids.into_iter().take(MAX_PAGE) {
                let cut = quarantine.entry(MessageId(id)).is_some_and(|e| e.kept.is_some());
                let replayed = quarantine.replay(MessageId(id), config, now()).await;
                let mut result = match replayed {
                    Ok(Replayed::Recorded(events, format)) => {
                        json!({ "id": id, "result": "recorded", "events": events, "format": format })
                    }
                    Ok(Replayed::AutoReply) => json!({ "id": id, "result": "auto-reply" }),
                    Ok(Replayed::NotYet) => json!({ "id": id, "result": "not-understood" }),
                    Ok(Replayed::Gone) => json!({ "id": id, "result": "gone" }),
                    Err(error) => json!({ "id": id, "result": "error", "error": error.to_string() }),
                };
                if cut {
                    result["cut"] = Value::from(true);
                }
                results.push(result);
            }
            Value::from(results)
        })),
        QuarantineCommand::Drop { ids } => block_on(Box::pin(async move {
            let mut results = Vec::new();
            for id in ids.into_iter().take(MAX_PAGE) {
                results.push(match quarantine.discard(MessageId(id)).await {
                    Ok(true) => json!({ "id": id, "result": "dropped" }),
                    Ok(false) => json!({ "id": id, "result": "gone" }),
                    Err(error) => json!({ "id": id, "result": "error", "error": error.to_string() }),
                });
            }
            Value::from(results)
        })),
    };
    if let Err(error) = quarantine.write(true) {
        tracing::error!(%error, "the index of the report quarantine can't be written");
    }
    Answer::data(json!({ "results": done }))
}

fn entry(id: MessageId, e: &Entry) -> Value {
    let mut value = serde_json::to_value(e).unwrap_or_default();
    value["id"] = Value::from(id.0);
    value["time"] = Value::from(text(Time(e.time)));
    if let Some(fields) = value.as_object_mut() {
        fields.remove("addresses");
    }
    value
}
