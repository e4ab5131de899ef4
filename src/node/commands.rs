//! What a running server answers to each command.

use serde_json::{Value, json};

use super::{Inner, now};
use crate::event::Time;
use crate::manage::{Answer, Command};
use crate::store::Store;
use crate::suppress::{self, Filter, Listed, Suppression};

/// Most entries in one answer.
const MAX_PAGE: u32 = 10_000;

impl Inner {
    /// Carries `command` out. Blocks.
    pub(super) fn answer(&self, command: Command) -> Answer {
        match command {
            Command::Reload => match self.reload() {
                Ok(message) => Answer::done(message),
                Err(message) => Answer::error(message),
            },
            Command::Status => Answer::data(self.status()),
            other => suppression(&self.store, &self.suppression, other),
        }
    }

    fn status(&self) -> Value {
        let outputs: Vec<_> = self
            .outputs
            .status()
            .into_iter()
            .map(|o| {
                json!({
                    "output": o.path.display().to_string(),
                    "file": o.file.map(|f| f.display().to_string()),
                    "records": o.records,
                    "lag": o.lag_events,
                    "error": o.error.map(|(t, e)| format!("{}: {e}", text(t))),
                })
            })
            .collect();
        let queues: Vec<_> = self
            .engine
            .status()
            .into_iter()
            .take(50)
            .map(|q| {
                json!({
                    "queue": q.name,
                    "ready": q.ready,
                    "held": q.held,
                    "connections": q.connections,
                    "lastError": q.last_error,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started": text(self.started),
            "now": text(now()),
            "store": self.store.id().to_string(),
            "intake": self.store.intake_refused().map_or_else(|| "open".to_owned(), |r| r.to_string()),
            "queuedRecipients": self.engine.queued_recipients(),
            "suppressedAddresses": self.suppression.len(),
            "ledger": json!({ "first": self.store.ledger().start(), "end": self.store.ledger().end() }),
            "outputs": outputs,
            "queues": queues,
        })
    }
}

fn text(time: Time) -> String {
    time.timestamp().filter(|_| time.is_known()).map(|t| t.to_string()).unwrap_or_default()
}

/// The commands about the suppression list; the store may be that of a running server or opened for this alone.
pub(super) fn suppression(store: &Store, list: &Suppression, command: Command) -> Answer {
    match command {
        Command::SuppressList { after, limit } => {
            let filter = Filter { after: Some(after).filter(|a| !a.is_empty()), ..Filter::default() };
            match suppress::list(store.tables(), &filter, limit.min(MAX_PAGE) as usize) {
                Ok(page) => Answer::data(json!({ "entries": page.entries.iter().map(entry).collect::<Vec<_>>() })),
                Err(error) => Answer::error(error.to_string()),
            }
        }
        Command::SuppressCheck { address } => {
            let suppressed = list.check(&address).is_some();
            match suppress::show(store.tables(), &address) {
                Ok(listed) => Answer::data(json!({
                    "address": address,
                    "suppressed": suppressed,
                    "entry": listed.filter(|l| l.entry.is_active()).as_ref().map(entry),
                })),
                Err(error) => Answer::error(error.to_string()),
            }
        }
        Command::SuppressAdd { address, reason } => match suppress::add(list, store, &address, &reason, now()) {
            Ok(true) => Answer::done(format!("{address} is suppressed.")),
            Ok(false) => Answer::done(format!("{address} was suppressed already.")),
            Err(error) => Answer::error(error.to_string()),
        },
        Command::SuppressRemove { address, reason } => match suppress::remove(list, store, &address, &reason, now()) {
            Ok(true) => Answer::done(format!("{address} is not suppressed any more.")),
            Ok(false) => Answer::done(format!("{address} was not suppressed.")),
            Err(error) => Answer::error(error.to_string()),
        },
        Command::Reload | Command::Status => Answer::error("no server is running on this store"),
    }
}

fn entry(listed: &Listed) -> Value {
    let e = &listed.entry;
    json!({
        "address": listed.address,
        "rule": e.rule,
        "source": e.source.name(),
        "time": text(e.time),
        "event": (e.by.seq != 0).then(|| e.by.to_string()),
        "category": e.category,
        "reply": e.reply,
        "note": e.note,
    })
}
