#![expect(clippy::disallowed_methods, reason = "edge: reads the clock, the store and its tables, on a blocking thread")]
//! The bounce and feedback-loop processors: take report mails from the queue, end each in one record of the journal.
//!
//! A report is acknowledged only by its being spooled; its events, the copies that are passed on and the end of its own
//! recipients enter the journal in the same write ([`Store::finish`]). So each report has its events exactly once, and
//! after a crash what was not ended is read again. What nobody understood is not ended: see [`super::quarantine`].
//!
//! A report that proves nothing may be about a send that the index does not have yet: it is filled behind the deliveries,
//! and a fast bounce may overtake it. Such a report waits [`SECOND_LOOK`] from its arrival, and then until the index has
//! passed everything that was in the ledger by that time, but no longer than [`PATIENCE`]; at most [`MAX_PARKED`] wait.
//!
//! A report that the store no longer has is skipped. One that can't be read from the disk stays in the spool and is
//! logged. When the store has failed, [`Processor::run`] returns its error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{BOUNCE_QUEUES, Config, FEEDBACK_QUEUES, Live};
use crate::event::{Events, MessageId, Time};
use crate::queue::Engine;
use crate::store::{Finish, LoadError, Message, RcptState, Route, Store, StoreError};

use super::budget;
use super::copies::{self, By};
use super::disposition::{self, Disposition, Outcome, Settings};
use super::evidence::StoreEvidence;
use super::quarantine::{Entry, Quarantine};

/// What has been processed since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// `bounceProcessed`: mails to bounce addresses, whatever they were.
    pub bounce_processed: AtomicU64,
    /// `feedbackLoopProcessed`: mails to feedback addresses.
    pub feedback_processed: AtomicU64,
    /// `unsubscribeProcessed`: mails to unsubscribe addresses, whatever they were.
    pub unsubscribe_processed: AtomicU64,
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
    /// Recipients that reports named beyond those of whom they are read.
    pub left_out: AtomicU64,
    /// Copies passed on.
    pub forwarded: AtomicU64,
    /// Mails that went on to the address they were sent to.
    pub delivered: AtomicU64,
    /// Mails quarantined.
    pub quarantined: AtomicU64,
    /// Those of them that were too large to be kept whole.
    pub cut: AtomicU64,
    /// Copies of reports that came back.
    pub came_back: AtomicU64,
}

impl Counters {
    /// Names, as the status has them, and values.
    pub fn all(&self) -> [(&'static str, u64); 14] {
        [
            ("bounceProcessed", &self.bounce_processed),
            ("feedbackLoopProcessed", &self.feedback_processed),
            ("unsubscribeProcessed", &self.unsubscribe_processed),
            ("events", &self.events),
            ("attributed", &self.attributed),
            ("autoReplies", &self.auto_replies),
            ("unmatched", &self.unmatched),
            ("unreadable", &self.unreadable),
            ("leftOut", &self.left_out),
            ("forwarded", &self.forwarded),
            ("delivered", &self.delivered),
            ("quarantined", &self.quarantined),
            ("cut", &self.cut),
            ("cameBack", &self.came_back),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Reads report mails until the queue stops. Cheap to clone; several may run at once.
#[derive(Clone)]
pub struct Processor {
    store: Store,
    engine: Engine,
    config: Live,
    quarantine: Quarantine,
    counters: Arc<Counters>,
}

/// How long after its arrival a report that proves nothing is looked at again.
pub const SECOND_LOOK: Duration = Duration::from_secs(3);
/// How long such a report waits for the send index, at most.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How many reports wait; further ones are decided at once.
pub const MAX_PARKED: usize = 100_000;
/// Between two looks at how far the send index is.
const AGAIN: Duration = Duration::from_millis(500);
/// The consumer of the ledger that fills the send index.
const SEND_INDEX: &str = "send-index";

/// A report that proves nothing, until the send index must know whatever it is about.
#[derive(Debug, Clone, Copy)]
struct Parked {
    id: MessageId,
    /// What the index must have passed; unknown before the second look.
    until: Option<u64>,
    since: Instant,
}

/// What reading a report mail gave.
enum Look {
    /// It can be ended.
    Ready(Box<Ready>),
    /// It is to be kept: the mail itself, or a copy that takes its place in the spool.
    Keep(Box<Keep>),
    /// It proves nothing, and it is too early to say so.
    Early,
    /// It can't be read, or is gone.
    Skip,
}

/// A report mail that has been read, on its way into the journal.
struct Ready {
    finish: Finish,
    copies: Vec<Arc<Message>>,
}

/// What is kept of a mail.
struct Keep {
    id: MessageId,
    entry: Entry,
    /// Ends the mail, where a copy of it is kept.
    instead: Option<Ready>,
}

impl Processor {
    /// Each mail is read under the configuration then in force.
    pub fn new(store: Store, engine: Engine, config: Live, quarantine: Quarantine) -> Processor {
        Processor { store, engine, config, quarantine, counters: Arc::default() }
    }

    /// What has been processed.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Processes reports until [`Engine::next_report`] says that the queue stops; what then waits for its second look
    /// stays in the spool for the next start. An error means that the store failed.
    pub async fn run(self) -> Result<(), StoreError> {
        let mut parked: BTreeMap<(Instant, u64), Parked> = BTreeMap::new();
        let mut number = 0u64;
        let mut park = |parked: &mut BTreeMap<_, _>, at: Instant, what: Parked| {
            number += 1;
            parked.insert((at, number), what);
        };
        loop {
            let next = parked.keys().next().map(|&(at, _)| at);
            let (id, waited) = tokio::select! {
                report = self.engine.next_report() => match report {
                    Some(id) => (id, None),
                    None => break,
                },
                () = async { tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {
                    let Some((_, what)) = parked.pop_first() else { continue };
                    let until = what.until.unwrap_or_else(|| self.store.ledger().end());
                    let behind = self.store.ledger().held_by(SEND_INDEX).is_some_and(|from| from < until);
                    if behind && what.since.elapsed() < PATIENCE {
                        park(&mut parked, Instant::now() + AGAIN, Parked { until: Some(until), ..what });
                        continue;
                    }
                    (what.id, Some(what))
                }
                () = tokio::time::sleep(AGAIN), if next.is_none() => {
                    // Nothing to do: what the tables do not know of the quarantine is written.
                    self.write_quarantine(true).await;
                    match self.engine.next_report().await {
                        Some(id) => (id, None),
                        None => break,
                    }
                }
            };
            let may_wait = waited.is_none() && parked.len() < MAX_PARKED;
            let this = self.clone();
            // Disk reads and the parsing of up to 2 MiB don't belong on the threads that serve sockets.
            match tokio::task::spawn_blocking(move || this.read(id, may_wait)).await {
                Ok(Look::Ready(ready)) => {
                    self.end(*ready).await?;
                }
                Ok(Look::Keep(keep)) => {
                    let Keep { id, entry, instead } = *keep;
                    let there = match instead {
                        Some(ready) => self.end(ready).await?,
                        None => true,
                    };
                    if there {
                        let limit = self.config.load().report_quarantine_size;
                        self.quarantine.keep(id, entry, limit).await?;
                        self.write_quarantine(false).await;
                    }
                }
                Ok(Look::Early) => {
                    let now = Instant::now();
                    park(&mut parked, now + SECOND_LOOK, Parked { id, until: None, since: now });
                }
                Ok(Look::Skip) => {}
                Err(error) => {
                    tracing::error!(message = %id, %error, "report left in the spool: its processing broke off")
                }
            }
        }
        self.write_quarantine(true).await;
        Ok(())
    }

    /// The rows may lag: what is not written now is written later, or the mails are read again at the next start.
    async fn write_quarantine(&self, all: bool) {
        let quarantine = self.quarantine.clone();
        let written = tokio::task::spawn_blocking(move || quarantine.write(all)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "the index of the report quarantine can't be written");
        }
    }

    /// Whether it came into the journal.
    async fn end(&self, ready: Ready) -> Result<bool, StoreError> {
        match self.store.finish(ready.finish).await {
            Ok(()) => {}
            // One report must not stop the others: it has ended otherwise, or it stays in the spool for people to see.
            Err(error @ (StoreError::NotQueued { .. } | StoreError::TooLarge { .. } | StoreError::Unfit(..))) => {
                tracing::error!(%error, "a report was not recorded");
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let now = now();
        for copy in ready.copies {
            let states: Vec<RcptState> = (0..copy.envelope.rcpts.len())
                .map(|i| RcptState { index: i as u16, attempts: 0, not_before: now, in_doubt: false })
                .collect();
            self.engine.admit(&copy.envelope, &states, now);
        }
        Ok(true)
    }

    /// Reads one report mail; blocking.
    fn read(&self, id: MessageId, may_wait: bool) -> Look {
        if self.quarantine.contains(id) {
            return Look::Skip;
        }
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
        let evidence = StoreEvidence { store: &self.store, config: &config, now };
        let settings = Settings::of(&config, &message.envelope, self.store.id());
        // Asked before the rows are: what it has passed by now is in them.
        let ledger = self.store.ledger();
        let index_behind = ledger.held_by(SEND_INDEX).is_some_and(|from| from < ledger.end());
        let disposition = disposition::dispose(&message, settings, &evidence, now, &mut |event| {
            finish.event(event);
        });
        let unproven = disposition.attributions.iter().any(|a| !a.is_proved());
        let early = index_behind || now.since(message.envelope.time_queued) < SECOND_LOOK;
        if may_wait && unproven && early && disposition.outcome != Outcome::AutoReply {
            return Look::Early;
        }
        let host_name = config.host_names.first().map_or("localhost", String::as_str);
        let by = || By { store: self.store.id(), id: self.store.next_message_id(), host_name, now };
        // The mail itself stays where it is, unless others get it as well or it takes more than its share.
        let share = budget::share(config.report_quarantine_size);
        let held = copies::as_it_came(&message, self.store.id()).len() + copies::addresses(&message.envelope.rcpts);
        let stays = held as u64 <= share && !disposition.is_passed_on();
        let kept = (disposition.quarantine && share > 0).then(|| match stays {
            true => message.clone(),
            false => copies::kept(&message, share, disposition.is_passed_on(), by()),
        });
        let entry = kept.as_ref().map(|kept| Entry::of(kept, disposition.outcome, self.store.id()));
        let kept_as = kept.as_ref().map(|k| k.envelope.id).zip(entry.as_ref());
        self.count(&message, &disposition, entry.as_ref());
        log(&config, &message, &disposition, kept_as);
        let mut copies = Vec::new();
        let recorded = matches!(disposition.outcome, Outcome::Recorded(_));
        if !disposition.forward_to.is_empty() {
            copies.push(copies::forwarded(&message, &disposition.forward_to, recorded, by()));
        }
        if disposition.deliver {
            copies.push(copies::delivered(&message, recorded, by()));
        }
        for index in 0..message.envelope.rcpts.len() {
            finish.recipient(id, index as u16);
        }
        for (copy, received) in &copies {
            finish.message(copy.clone(), received.clone());
        }
        let copies = copies.into_iter().map(|(copy, _)| copy).collect();
        match (kept, entry) {
            (Some(kept), Some(entry)) if stays => {
                Look::Keep(Box::new(Keep { id: kept.envelope.id, entry, instead: None }))
            }
            (Some(kept), Some(entry)) => {
                // Its reception was recorded when the mail came.
                finish.message(kept.clone(), Events::new());
                let instead = Some(Ready { finish, copies });
                Look::Keep(Box::new(Keep { id: kept.envelope.id, entry, instead }))
            }
            _ => Look::Ready(Box::new(Ready { finish, copies })),
        }
    }

    fn count(&self, message: &Message, disposition: &Disposition, kept: Option<&Entry>) {
        let add = |counter: &AtomicU64, n: usize| counter.fetch_add(n as u64, Ordering::Relaxed);
        let c = &self.counters;
        let of_route = match message.envelope.route {
            Route::Feedback => &c.feedback_processed,
            Route::Unsubscribe => &c.unsubscribe_processed,
            _ => &c.bounce_processed,
        };
        add(of_route, 1);
        match disposition.outcome {
            Outcome::Recorded(events) => {
                add(&c.events, events);
                add(&c.left_out, disposition.report.left_out);
                add(&c.attributed, disposition.attributions.iter().filter(|a| a.is_proved()).count())
            }
            Outcome::AutoReply => add(&c.auto_replies, 1),
            Outcome::Unmatched => add(&c.unmatched, 1),
            Outcome::Unreadable => add(&c.unreadable, 1),
            Outcome::CameBack => add(&c.came_back, 1),
        };
        add(&c.forwarded, disposition.forward_to.len());
        add(&c.delivered, usize::from(disposition.deliver));
        add(&c.quarantined, usize::from(kept.is_some()));
        add(&c.cut, usize::from(kept.is_some_and(|e| e.kept.is_some())));
    }
}

/// The reserved queues whose `log-messages` holds for mail to the processors (directives.md, 1.10).
fn log_messages(config: &Config, route: Route) -> bool {
    let names = if route == Route::Bounce { BOUNCE_QUEUES } else { FEEDBACK_QUEUES };
    names.iter().any(|name| config.queue_settings(name, "{default}").log_messages)
}

/// What an operator wants to see: what was dropped, kept or passed on; with `log-messages`, every mail. The subject
/// stands as a checksum: it is not ours to show.
fn log(config: &Config, message: &Message, disposition: &Disposition, kept: Option<(MessageId, &Entry)>) {
    let envelope = &message.envelope;
    let id = envelope.id;
    if let Some(info) = &disposition.match_info {
        tracing::info!(message = %id, "{info}");
    }
    if let left_out @ 1.. = disposition.report.left_out {
        let recorded = disposition.report.results.len();
        tracing::warn!(message = %id, recorded, left_out, "report names more recipients than one report may have: the others are left out");
    }
    let all = log_messages(config, envelope.route);
    let what = match disposition.outcome {
        Outcome::Recorded(events) if all => {
            let (kind, format) = (disposition.report.kind.name(), &disposition.format);
            for (result, found) in disposition.report.results.iter().zip(&disposition.attributions).take(20) {
                let way = found.way.map_or("nothing", super::Way::name);
                let latency = found.latency(envelope.time_queued).map(|l| l.as_secs());
                tracing::info!(message = %id, rcpt = result.rcpt, original = %found.message, way, latency, "report result");
            }
            return tracing::info!(message = %id, from = &*envelope.orig, kind, format, events, "report recorded");
        }
        Outcome::Recorded(events) => {
            let (kind, format) = (disposition.report.kind.name(), &disposition.format);
            return tracing::debug!(message = %id, kind, format, events, "report recorded");
        }
        Outcome::AutoReply if all => return tracing::info!(message = %id, "automatic reply dropped"),
        Outcome::AutoReply => return tracing::debug!(message = %id, "automatic reply dropped"),
        Outcome::Unmatched => "mail to a report address is no report",
        Outcome::Unreadable => "report can't be read",
        Outcome::CameBack => "a copy of a report came back",
    };
    let subject = copies::header(&message.body);
    let subject = format!("{:08x}", crc32c::crc32c(subject.any(&["subject"]).as_bytes()));
    let (size, passed_on) = (message.body.len(), disposition.forward_to.len());
    let mut then = match (passed_on, disposition.deliver) {
        (0, false) => Vec::new(),
        (0, true) => vec!["delivered".to_owned()],
        (n, false) => vec![format!("passed on to {n} addresses")],
        (n, true) => vec![format!("passed on to {n} addresses"), "delivered".to_owned()],
    };
    match kept.map(|(_, entry)| entry.kept) {
        Some(None) => then.push("quarantined".to_owned()),
        Some(Some(bytes)) => {
            then.push(format!("quarantined, but too large to be kept whole: only the first {bytes} bytes"));
        }
        None if then.is_empty() => then.push("dropped".to_owned()),
        None => {}
    }
    let kept_as = kept.map(|(kept, _)| kept.0);
    let then = then.join(", ");
    tracing::info!(message = %id, from = &*envelope.orig, subject, size, kept_as, "{what}: {then}");
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}
