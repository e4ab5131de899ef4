//! What a running server answers to each command.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::{Inner, now, quarantine, suppression};
use crate::accounting::feedback::novelty;
use crate::config::{self, QueueMode};
use crate::event::Time;
use crate::manage::{Answer, Command};
use crate::queue::{Disabled, QueueStatus, is_meant};
use crate::suppress::address_file::Facts;
use crate::suppress::address_lists::FileStatus;

/// Queues shown, those with the most recipients first.
const MAX_QUEUES: usize = 50;

impl Inner {
    /// Carries `command` out. Blocks.
    pub(super) fn answer(&self, command: Command) -> Answer {
        match command {
            Command::Reload => match self.reload() {
                Ok(message) => Answer::done(message),
                Err(message) => Answer::error(message),
            },
            Command::Status => Answer::data(self.status()),
            Command::RotateAcct { file } => self.rotate_acct(file.as_deref()),
            Command::ReportQuarantine(asked) => {
                quarantine::answer(&self.quarantine, &self.live.load_full(), asked, &|f| {
                    // Commands are carried out on threads that may block.
                    tokio::runtime::Handle::current().block_on(f)
                })
            }
            Command::QueueMode { queue, backoff } => {
                let mode = if backoff { QueueMode::Backoff } else { QueueMode::Normal };
                let (found, changed) = self.engine.set_mode(|name| is_meant(&queue, name), mode);
                match found {
                    0 => Answer::error(format!("there is no queue {queue} now: carom status shows those there are")),
                    _ => Answer::done(format!("{found} queues in {} mode, {changed} of them changed.", mode.name())),
                }
            }
            Command::EnableSource { queue, ip } => match self.engine.enable_source(|name| is_meant(&queue, name), ip) {
                0 => Answer::error(format!("{ip} is not disabled for {queue}: carom status shows those that are")),
                n => Answer::done(format!("{ip} is used again by {n} queues.")),
            },
            Command::PauseJob { job, reason, by } => self.jobs.pause(&job, &reason, &by),
            Command::ResumeJob { job, by } => self.jobs.resume(&job, &by),
            Command::Jobs => Answer::data(self.jobs.list()),
            Command::Events { .. } | Command::Queued { .. } => super::known::answer(&self.store, &self.stage, command),
            Command::SuppressUndo(asked) => {
                let answer = super::mistakes::undo(&self.store, &self.suppression, &asked);
                self.engine.look_at_holds();
                answer
            }
            Command::SuppressBreaker(asked) => {
                let answer = super::mistakes::breaker(&self.store, &self.suppression, &self.breaker, asked);
                self.engine.look_at_holds();
                answer
            }
            Command::SuppressCheckMany { addresses, sender, job, vmta } => {
                suppression::check_many(&self.suppression, &addresses, (&sender, &job, &vmta))
            }
            Command::Suppression(asked) => {
                let may_let_go = asked.takes_off();
                let on = suppression::On {
                    store: &self.store,
                    list: &self.suppression,
                    quarantine: &self.quarantine,
                    config: &self.live.load_full(),
                    block_on: &|f| tokio::runtime::Handle::current().block_on(f),
                    bulk: &self.bulk,
                };
                let answer = suppression::answer(&on, asked);
                // Mail on hold for an entry that is gone goes out.
                if may_let_go {
                    self.engine.look_at_holds();
                }
                answer
            }
        }
    }

    fn rotate_acct(&self, file: Option<&str>) -> Answer {
        let runtime = tokio::runtime::Handle::current();
        match runtime.block_on(self.outputs.rotate(file.map(std::path::Path::new))) {
            Ok(()) => Answer::done("Accounting file rotated."),
            Err(error) => Answer::error(error),
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
                    "leftOut": o.left_out,
                    "retries": o.retries,
                    "error": o.error.map(|(t, e)| format!("{}: {e}", text(t))),
                })
            })
            .collect();
        let mut all = self.engine.status();
        let size = |q: &QueueStatus| q.ready + q.held + q.paused + q.on_hold;
        all.sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| a.name.cmp(&b.name)));
        let queues: Vec<_> = all
            .iter()
            .take(MAX_QUEUES)
            .map(|q| {
                json!({
                    "queue": q.name,
                    "ready": q.ready,
                    "held": q.held,
                    "paused": q.paused,
                    "onHold": q.on_hold,
                    "connections": q.connections,
                    "nextRetry": q.next_retry.map(text),
                    "lastError": q.last_error,
                    "mode": q.mode.mode().name(),
                    "modeSince": q.mode.changed().map(|(at, _)| text(at)),
                    "modeWhy": q.mode.changed().map(|(_, why)| why),
                    "disabledSources": disabled(q),
                })
            })
            .collect();
        // Those that are slower than their limits, however little mail they have: all that an operator may wonder about.
        let steered: Vec<&QueueStatus> =
            all.iter().filter(|q| q.mode.is_backoff() || !q.disabled_sources.is_empty()).collect();
        let backing_off: Vec<_> = steered
            .iter()
            .take(MAX_QUEUES)
            .map(|q| {
                json!({
                    "queue": q.name,
                    "mode": q.mode.mode().name(),
                    "since": q.mode.changed().map(|(at, _)| text(at)),
                    "why": q.mode.changed().map(|(_, why)| why),
                    "disabledSources": disabled(q),
                })
            })
            .collect();
        let ledger = self.store.ledger();
        let mut holds = ledger.holds();
        holds.sort_unstable();
        let consumers: Vec<_> = holds
            .into_iter()
            .map(|(consumer, from)| {
                json!({ "consumer": consumer, "holdsFrom": from, "behind": ledger.end().saturating_sub(from) })
            })
            .collect();
        let usage = self.store.usage();
        let kept = self.quarantine.usage();
        let reports: serde_json::Map<String, Value> =
            self.report_counters.all().into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let asked = self.unsubscribe.service.counters().all();
        let unsubscribe: serde_json::Map<String, Value> =
            asked.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let novelty = self.novelty();
        let config = self.live.load();
        let configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started": text(self.started),
            "now": text(now()),
            "configuration": {
                "file": config.file.display().to_string(),
                "inForceSince": text(configuration.since),
                "rules": configuration.rules.to_string(),
                // Patterns that backtrack and came to their limit: they counted as no match.
                "patternsGivenUp": self.options.rules.given_up(),
                "waitingForRestart": config::restart_needed(&self.started_with, &config),
                "refused": configuration.refused.as_ref().map(|(t, why)| format!("{}: {why}", text(*t))),
            },
            "intake": self.store.intake_refused().unwrap_or_else(|| "open".to_owned()),
            // A transaction that changes nothing: it fails when the tables have failed.
            "tables": self.store.tables().write(|_| Ok(())).err().map_or_else(|| "working".to_owned(), |e| e.to_string()),
            "store": {
                "id": self.store.id().to_string(),
                "folder": self.started_with.spool.display().to_string(),
                // What is quarantined waits for people, not for delivery.
                "queuedMessages": usage.queued_messages.saturating_sub(kept.mails),
                "queuedRecipients": usage.queued_recipients.saturating_sub(kept.rcpts),
                "segments": usage.segments,
                "journalBytes": usage.journal_bytes,
                "liveBytes": usage.live_bytes,
                "heldBytes": usage.held_bytes,
            },
            "queuedRecipients": self.engine.queued_recipients(),
            // Their entries in the suppression list are held back.
            "onHoldRecipients": all.iter().map(|q| q.on_hold).sum::<u64>(),
            "reports": reports,
            "reportQuarantine": {
                "mails": kept.mails,
                "bytes": kept.bytes,
                "limit": config.report_quarantine_size,
                "oldest": kept.oldest.map(text),
                "evicted": kept.evicted,
            },
            "unsubscribe": unsubscribe,
            "suppressedAddresses": self.suppression.len(),
            "addressFiles": self.address_files(),
            "suppressionBreaker": super::mistakes::status(&self.breaker),
            "novelty": novelty,
            "pausedJobs": self.jobs.paused(),
            "jobAlarms": self.jobs.alarms(),
            "ledger": { "first": ledger.start(), "end": ledger.end() },
            "consumers": consumers,
            "outputs": outputs,
            "queueCount": all.len(),
            "queues": queues,
            "steeredQueueCount": steered.len(),
            "steeredQueues": backing_off,
        })
    }

    /// The files of `<address-list>`s at the top level.
    fn address_files(&self) -> Vec<Value> {
        let bad = |facts: &Facts| -> Vec<Value> {
            facts.first_bad.iter().map(|(line, why)| json!({ "line": line, "why": why })).collect()
        };
        let one = |file: FileStatus| {
            json!({
                "file": file.path.display().to_string(),
                "lists": file.lists,
                "state": match (&file.facts, &file.reading) {
                    (_, Some(_)) => "reading",
                    (Some(_), None) => "in force",
                    (None, None) => "MISSING",
                },
                "entries": file.facts.as_ref().map(|f| f.entries),
                "since": file.since.map(text),
                "badLines": file.facts.as_ref().map(|f| f.bad),
                "firstBadLines": file.facts.as_ref().map(bad),
                "memoryBytes": file.memory,
                "bytesRead": file.reading.map(|(read, _)| read),
                "bytesToRead": file.reading.map(|(_, all)| all),
                "error": file.error,
            })
        };
        self.address_lists.status().into_iter().map(one).collect()
    }

    /// What is known of new replies. The lock is not held while the tables are asked: the consumer takes both.
    fn novelty(&self) -> Value {
        let novelty = novelty::lock(&self.novelty);
        let alarms: Vec<_> = novelty
            .alarms()
            .map(|a| {
                json!({
                    "time": text(Time(a.time)),
                    "provider": a.provider,
                    "template": a.template,
                    "count": a.count,
                    "withinSeconds": a.within_seconds,
                    "category": a.category,
                    "rule": a.rule,
                    "examples": a.examples,
                    "proposal": a.proposal,
                })
            })
            .collect();
        json!({ "templates": novelty.len(), "notWatched": novelty.overflow(), "alarms": alarms })
    }
}

/// The source addresses that a queue does not use.
fn disabled(queue: &QueueStatus) -> Vec<Value> {
    let one = |d: &Disabled| json!({ "source": d.ip.to_string(), "since": text(d.since), "until": d.until.map(text), "why": d.why });
    queue.disabled_sources.iter().map(one).collect()
}

pub(super) fn text(time: Time) -> String {
    time.timestamp().filter(|_| time.is_known()).map(|t| t.to_string()).unwrap_or_default()
}
