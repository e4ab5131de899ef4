#![expect(clippy::disallowed_methods, reason = "edge: reads the clock, the store and its tables, on a blocking thread")]
//! The bounce and feedback-loop processors: take report mails from the queue, end each in one record of the journal.
//!
//! A report is acknowledged only by its being spooled; its events, the copies that are passed on and the end of its own
//! recipients enter the journal in the same write ([`Store::finish`]). So each report has its events exactly once, and
//! after a crash what was not ended is read again.
//!
//! A report that proves nothing and has only just come gets a second look [`SECOND_LOOK`] after its arrival: the send
//! index is filled behind the deliveries, and a fast bounce may overtake it.
//!
//! A report that the store no longer has is skipped. One that can't be read from the disk stays in the spool and is
//! logged. When the store has failed, [`Processor::run`] returns its error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, Live};
use crate::event::return_path::{self, TokenKeys};
use crate::event::send_entry::{SendEntry, is_token_key, token_key};
use crate::event::{AddressKey, MessageId, Time};
use crate::queue::Engine;
use crate::store::{Finish, LoadError, Message, RcptState, Route, Store, StoreError};

use super::attribute::{Evidence, Sent};
use super::disposition::{self, Disposition, Outcome, Settings};

/// What has been processed since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// `bounceProcessed`: mails to bounce addresses, whatever they were.
    pub bounce_processed: AtomicU64,
    /// `feedbackLoopProcessed`: mails to feedback addresses.
    pub feedback_processed: AtomicU64,
    /// Events made.
    pub events: AtomicU64,
    /// Results tied to a send by proof.
    pub attributed: AtomicU64,
    /// Automatic replies.
    pub auto_replies: AtomicU64,
    /// Mails that are no report.
    pub unmatched: AtomicU64,
    /// Mails that declare themselves reports and can't be read.
    pub unreadable: AtomicU64,
    /// Copies passed on.
    pub forwarded: AtomicU64,
}

/// Reads report mails until the queue stops. Cheap to clone; several may run at once.
#[derive(Clone)]
pub struct Processor {
    store: Store,
    engine: Engine,
    config: Live,
    counters: Arc<Counters>,
}

/// How long after its arrival a report that proves nothing is looked at again.
pub const SECOND_LOOK: Duration = Duration::from_secs(3);

/// What reading a report mail gave.
enum Look {
    /// It can be ended.
    Ready(Box<Ready>),
    /// It proves nothing, and it is too early to say so.
    Again,
    /// It can't be read, or is gone.
    Skip,
}

/// A report mail that has been read, on its way into the journal.
struct Ready {
    finish: Finish,
    copy: Option<Arc<Message>>,
}

impl Processor {
    /// Each mail is read under the configuration then in force.
    pub fn new(store: Store, engine: Engine, config: Live) -> Processor {
        Processor { store, engine, config, counters: Arc::default() }
    }

    /// What has been processed.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Processes reports until [`Engine::next_report`] says that the queue stops; what then waits for its second look
    /// stays in the spool for the next start. An error means that the store failed.
    pub async fn run(self) -> Result<(), StoreError> {
        let mut again = VecDeque::new();
        loop {
            let next = again.front().map(|&(at, _)| at);
            let id = tokio::select! {
                report = self.engine.next_report() => match report {
                    Some(id) => id,
                    None => return Ok(()),
                },
                () = async { tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {
                    let Some((_, id)) = again.pop_front() else { continue };
                    id
                }
            };
            let this = self.clone();
            // Disk reads and the parsing of up to 2 MiB don't belong on the threads that serve sockets.
            match tokio::task::spawn_blocking(move || this.read(id)).await {
                Ok(Look::Ready(ready)) => self.end(*ready).await?,
                Ok(Look::Again) => again.push_back((Instant::now() + SECOND_LOOK, id)),
                Ok(Look::Skip) => {}
                Err(error) => {
                    tracing::error!(message = %id, %error, "report left in the spool: its processing broke off")
                }
            }
        }
    }

    async fn end(&self, ready: Ready) -> Result<(), StoreError> {
        match self.store.finish(ready.finish).await {
            Ok(()) => {}
            // One report must not stop the others: it has ended otherwise, or it stays in the spool for people to see.
            Err(error @ (StoreError::NotQueued { .. } | StoreError::TooLarge { .. } | StoreError::Unfit(..))) => {
                tracing::error!(%error, "a report was not recorded");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(copy) = ready.copy {
            let now = now();
            let states: Vec<RcptState> = (0..copy.envelope.rcpts.len())
                .map(|i| RcptState { index: i as u16, attempts: 0, not_before: now, in_doubt: false })
                .collect();
            self.engine.admit(&copy.envelope, &states, now);
        }
        Ok(())
    }

    /// Reads one report mail; blocking.
    fn read(&self, id: MessageId) -> Look {
        let message = match self.store.load(id) {
            Ok(message) => message,
            Err(LoadError::Gone(_)) => return Look::Skip,
            Err(error) => {
                tracing::error!(message = %id, %error, "report left in the spool: it can't be read");
                return Look::Skip;
            }
        };
        let config = self.config.load_full();
        let now = now();
        let mut finish = Finish::new();
        let evidence = Tables { store: &self.store, config: &config };
        let disposition = disposition::dispose(
            &message,
            Settings::of(&config, message.envelope.route),
            &evidence,
            now,
            &mut |event| {
                finish.event(event);
            },
        );
        let unproven = disposition.attributions.iter().any(|a| a.proof.is_none());
        if unproven && now.since(message.envelope.time_queued) < SECOND_LOOK {
            return Look::Again;
        }
        for index in 0..message.envelope.rcpts.len() {
            finish.recipient(id, index as u16);
        }
        self.count(&message, &disposition);
        log(&message, &disposition);
        let copy = (!disposition.forward_to.is_empty()).then(|| {
            let host_name = config.host_names.first().map_or("localhost", String::as_str);
            let (copy, received) =
                disposition::forwarded(&message, &disposition.forward_to, self.store.next_message_id(), host_name, now);
            finish.message(copy.clone(), received);
            copy
        });
        Look::Ready(Box::new(Ready { finish, copy }))
    }

    fn count(&self, message: &Message, disposition: &Disposition) {
        let add = |counter: &AtomicU64, n: usize| counter.fetch_add(n as u64, Ordering::Relaxed);
        let c = &self.counters;
        add(if message.envelope.route == Route::Feedback { &c.feedback_processed } else { &c.bounce_processed }, 1);
        match disposition.outcome {
            Outcome::Recorded(events) => {
                add(&c.events, events);
                add(&c.attributed, disposition.attributions.iter().filter(|a| a.proof.is_some()).count())
            }
            Outcome::AutoReply => add(&c.auto_replies, 1),
            Outcome::Unmatched => add(&c.unmatched, 1),
            Outcome::Unreadable => add(&c.unreadable, 1),
        };
        add(&c.forwarded, disposition.forward_to.len());
    }
}

/// What an operator wants to see: what was dropped or passed on. The subject stands as a checksum: it is not ours to show.
fn log(message: &Message, disposition: &Disposition) {
    let id = message.envelope.id;
    let what = match disposition.outcome {
        Outcome::Recorded(events) => {
            let (kind, format) = (disposition.report.kind.name(), disposition.report.format);
            return tracing::debug!(message = %id, kind, format, events, "report recorded");
        }
        Outcome::AutoReply => return tracing::debug!(message = %id, "automatic reply dropped"),
        Outcome::Unmatched => "mail to a report address is no report",
        Outcome::Unreadable => "report can't be read",
    };
    let mut header = &message.body[..message.body.len().min(64 << 10)];
    let subject = super::fields::Fields::read(&mut header);
    let subject = format!("{:08x}", crc32c::crc32c(subject.any(&["subject"]).as_bytes()));
    let (size, passed_on) = (message.body.len(), disposition.forward_to.len());
    if passed_on == 0 {
        tracing::info!(message = %id, subject, size, "{what}: dropped");
    } else {
        tracing::info!(message = %id, subject, size, "{what}: passed on to {passed_on} addresses");
    }
}

/// Tokens and send index as the store has them. A table that can't be read proves nothing, which is the safe side.
struct Tables<'a> {
    store: &'a Store,
    config: &'a Config,
}

impl Tables<'_> {
    fn find(&self, key: &str, rcpt: Option<&str>) -> Option<Sent> {
        match self.store.tables().find_send(key, rcpt) {
            Ok(row) => SendEntry::decode(&row?).map(Sent::from).inspect_err(|error| unreadable(error)).ok(),
            Err(error) => {
                unreadable(&error);
                None
            }
        }
    }
}

impl Evidence for Tables<'_> {
    fn token(&self, address: &str) -> Option<(MessageId, u16)> {
        let token = self.config.return_path_token.as_ref()?;
        return_path::verify(TokenKeys { domain: &token.domain, keys: &token.keys }, self.store.id(), address)
    }

    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent> {
        let (key, rcpt) = token_key(message, rcpt_index);
        self.find(&key, Some(&rcpt))
    }

    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent> {
        // A header may hold anything, also what looks like the other kind of key.
        if is_token_key(message_id) {
            return None;
        }
        self.find(message_id, rcpt.map(AddressKey::as_str))
    }
}

fn unreadable(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "send index can't be read: report stays without attribution");
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}
