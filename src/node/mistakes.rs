//! Commands for when a provider was mistaken: `carom suppress undo` and `carom suppress breaker`.
#![expect(clippy::disallowed_methods, reason = "edge: waits for the consumer's commit")]

use std::time::{Duration, Instant};

use serde_json::json;

use super::commands::text;
use super::notice::Notice;
use super::now;
use crate::accounting::feedback::{CONSUMER, SharedBreaker, doubt, undo};
use crate::event::Time;
use crate::manage::{Answer, BreakerCommand};
use crate::store::Store;
use crate::suppress::Suppression;
use crate::suppress::breaker::Circuit;

/// The consumer commits after two seconds at the latest.
const SETTLE: Duration = Duration::from_secs(3);

/// What the operator is told when a breaker trips or ends.
pub(super) fn notice(found: &doubt::Notice) -> Notice {
    let what = if found.ended { "is as usual again" } else { "refuses far more addresses than usual" };
    Notice {
        kind: "breaker",
        subject: format!("{} {what}", found.circuit),
        text: format!(
            "{}\r\n\r\n`carom suppress breaker list` shows what is held; `release` and `confirm` end it.\r\n",
            found.text()
        ),
        to: Vec::new(),
        command: None,
        data: json!(found),
    }
}

/// Waits until everything that is in the ledger by now is in the tables: then the history knows of it.
fn settle(store: &Store) {
    let (end, began) = (store.ledger().end(), Instant::now());
    let behind = || store.suppression().consumer(CONSUMER).is_ok_and(|row| row.is_none_or(|row| row.cursor < end));
    while behind() && began.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes one page back.
pub(super) fn undo(store: &Store, list: &Suppression, asked: &undo::Undo) -> Answer {
    if asked.after.is_empty() {
        settle(store);
    }
    match undo::undo(store, list, asked, now()) {
        Ok(page) => Answer::data(json!(page)),
        Err(error) => Answer::error(error.to_string()),
    }
}

/// About the circuit breaker.
pub(super) fn breaker(store: &Store, list: &Suppression, shared: &SharedBreaker, asked: BreakerCommand) -> Answer {
    let (circuit, word) = match asked {
        BreakerCommand::List => return show(store, shared),
        BreakerCommand::End { circuit, word } => (circuit, word),
    };
    match undo::end(store, list, shared, (&circuit, word), now(), &|| settle(store)) {
        Ok(Some(entries)) => Answer::done(match word {
            undo::Word::Release => {
                format!("{circuit}: {entries} entries let go; their mail goes out with the next attempt.")
            }
            undo::Word::Confirm => format!("{circuit}: {entries} entries confirmed; they suppress."),
        }),
        Ok(None) => {
            Answer::error(format!("{circuit} has not tripped: carom suppress breaker list shows those that have"))
        }
        Err(error) => Answer::error(error.to_string()),
    }
}

fn show(store: &Store, shared: &SharedBreaker) -> Answer {
    let tripped = doubt::lock(shared).tripped();
    let mut rows = Vec::new();
    for (circuit, tripped) in tripped {
        let held = match undo::held(store, &circuit, Time(tripped.from)) {
            Ok(held) => held,
            Err(error) => return Answer::error(error.to_string()),
        };
        rows.push(json!({ "held": held, "circuit": circuit, "state": state(&circuit, &tripped) }));
    }
    Answer::data(json!({ "tripped": rows }))
}

fn state(circuit: &Circuit, tripped: &crate::suppress::breaker::Tripped) -> serde_json::Value {
    json!({
        "name": circuit.to_string(),
        "since": text(Time(tripped.since)),
        "from": text(Time(tripped.from)),
        "share": tripped.share,
        "usualShare": tripped.usual,
        "hardBounces": tripped.hard,
        "normalSince": tripped.normal_since.map(|t| text(Time(t))),
    })
}

/// For `carom status`: what has tripped.
pub(super) fn status(shared: &SharedBreaker) -> serde_json::Value {
    doubt::lock(shared).tripped().iter().map(|(circuit, tripped)| state(circuit, tripped)).collect()
}
