#![expect(clippy::disallowed_methods, reason = "edge: drives connections by the clock")]
//! Sends many messages over several connections to one server: rate, retries, reconnecting, an orderly stop.
//!
//! Promises: for every letter taken from the source exactly one [`Outcome`] is told. [`Outcome::InDoubt`] is told when
//! the connection broke after the final dot could have been sent, and such a letter is not sent again here. Before that
//! can happen, the caller's [`Ledger::started`] has returned for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::{Client, ClientError, Envelope, EnvelopeOutcome, Server};
use crate::event::Reply;

/// A message to be sent to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Number that tells it from the others of the run.
    pub row: u64,
    /// Envelope sender; empty for the null sender.
    pub from: String,
    /// Envelope recipient.
    pub rcpt: String,
    /// The content with CRLF line ends, not dot-stuffed.
    pub content: Vec<u8>,
}

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted by the server, with this reply.
    Sent(String),
    /// Refused for good, with this reply.
    Refused(String),
    /// Put off until the tries were used up, with the last reply; not sent.
    PutOff(String),
    /// The connection broke where the server may have accepted it.
    InDoubt(String),
    /// Not sent, because the run was stopped or the server was lost.
    Unsent,
}

/// Who remembers what was begun and what became of it.
pub trait Ledger: Sync {
    /// Returns when it is durably noted that this row may be sent from now on.
    fn started(&self, row: u64) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Takes the outcome of a row.
    fn ended(&self, letter: &Letter, outcome: &Outcome);
}

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub server: Server,
    /// Connections at a time.
    pub connections: usize,
    /// Letters per second over all connections; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// How often a letter that is put off (4xx) is tried, in all.
    pub tries: u32,
    /// Time to wait before the second try; doubles each time.
    pub backoff: Duration,
    /// How often in a row a connection may fail before its worker gives up.
    pub connect_tries: u32,
}

/// The server could not be used by any connection.
#[derive(Debug, thiserror::Error)]
#[error("can't submit to {host}:{port}: {why}")]
pub struct Lost {
    host: String,
    port: u16,
    why: ClientError,
}

struct Waiting {
    due: Instant,
    order: u64,
    letter: Letter,
    tries: u32,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.order == other.order
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

struct Supply<I> {
    source: I,
    exhausted: bool,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Letters that a worker holds.
    out: usize,
    orders: u64,
    next_slot: Instant,
}

struct Run<'a, I, L> {
    supply: Mutex<Supply<I>>,
    change: Notify,
    options: &'a Options,
    ledger: &'a L,
    stop: watch::Receiver<bool>,
}

/// Sends every letter of `source`. When `stop` becomes true, what has been begun is finished and the rest is told as
/// [`Outcome::Unsent`], but letters still in the source are not taken from it.
///
/// # Errors
/// [`Lost`] when no connection could be kept; the outcomes told until then hold.
pub async fn send_all<I, L>(options: &Options, source: I, ledger: &L, stop: watch::Receiver<bool>) -> Result<(), Lost>
where
    I: Iterator<Item = Letter> + Send,
    L: Ledger,
{
    let supply =
        Supply { source, exhausted: false, waiting: BinaryHeap::new(), out: 0, orders: 0, next_slot: Instant::now() };
    let run = Run { supply: Mutex::new(supply), change: Notify::new(), options, ledger, stop };
    let workers = (0..options.connections.max(1)).map(|_| run.work());
    let ends = join_all(workers).await;
    let mut supply = run.supply.into_inner().unwrap_or_else(PoisonError::into_inner);
    for Reverse(waiting) in supply.waiting.drain() {
        ledger.ended(&waiting.letter, &Outcome::Unsent);
    }
    let mut lost = None;
    for end in ends {
        match end {
            // One worker that got through to the end is enough.
            Ok(()) => return Ok(()),
            Err(why) => lost = Some(why),
        }
    }
    lost.map_or(Ok(()), |why| {
        let Server { host, port, .. } = &options.server;
        Err(Lost { host: host.clone(), port: *port, why })
    })
}

/// Polls all of them to their ends.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(move |context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}

impl<I: Iterator<Item = Letter> + Send, L: Ledger> Run<'_, I, L> {
    fn supply(&self) -> std::sync::MutexGuard<'_, Supply<I>> {
        self.supply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// The next letter to send; waits for one. `None` when there will be none any more.
    async fn next(&self) -> Option<(Letter, u32)> {
        loop {
            if self.stopping() {
                return None;
            }
            let changed = self.change.notified();
            let (found, wait) = self.take();
            if let Some((letter, tries, slot)) = found {
                if self.options.rate.is_some() {
                    tokio::time::sleep_until(slot).await;
                }
                return Some((letter, tries));
            }
            // Nothing waits and nobody holds a letter that could come back.
            let wait = wait?;
            let mut stop = self.stop.clone();
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// A letter with its tries so far and its slot; else how long to wait, or that there is nothing to wait for.
    fn take(&self) -> (Option<(Letter, u32, Instant)>, Option<Duration>) {
        let now = Instant::now();
        let mut supply = self.supply();
        let due = supply.waiting.peek().map(|Reverse(w)| w.due);
        let found = if due.is_some_and(|due| due <= now) {
            supply.waiting.pop().map(|Reverse(w)| (w.letter, w.tries))
        } else if supply.exhausted {
            None
        } else {
            let letter = supply.source.next();
            supply.exhausted = letter.is_none();
            letter.map(|l| (l, 0))
        };
        match found {
            Some((letter, tries)) => {
                supply.out += 1;
                let slot = supply.next_slot.max(now);
                if let Some(rate) = self.options.rate {
                    supply.next_slot = slot + Duration::from_secs_f64(1.0 / rate.max(0.001));
                }
                (Some((letter, tries, slot)), None)
            }
            None => match due {
                Some(due) => (None, Some(due - now)),
                None if supply.out > 0 => (None, Some(Duration::from_secs(1))),
                None => (None, None),
            },
        }
    }

    fn end(&self, letter: &Letter, outcome: &Outcome) {
        self.ledger.ended(letter, outcome);
        self.supply().out -= 1;
        self.change.notify_waiters();
    }

    /// Puts a letter back to be tried once more, or ends it when its tries are used up.
    fn put_off(&self, letter: Letter, tries: u32, reply: String) {
        let tries = tries + 1;
        if tries >= self.options.tries.max(1) {
            return self.end(&letter, &Outcome::PutOff(reply));
        }
        let wait = self.options.backoff.saturating_mul(1 << (tries - 1).min(10));
        self.put_back(letter, tries, wait);
    }

    fn put_back(&self, letter: Letter, tries: u32, wait: Duration) {
        let mut supply = self.supply();
        supply.out -= 1;
        supply.orders += 1;
        let order = supply.orders;
        supply.waiting.push(Reverse(Waiting { due: Instant::now() + wait, order, letter, tries }));
        drop(supply);
        self.change.notify_waiters();
    }

    fn judge(&self, letter: Letter, tries: u32, reply: Reply) {
        if reply.is_positive() {
            self.end(&letter, &Outcome::Sent(reply.text));
        } else if reply.is_permanent() {
            self.end(&letter, &Outcome::Refused(reply.text));
        } else {
            self.put_off(letter, tries, reply.text);
        }
    }

    /// One connection after another until there is nothing left to send.
    async fn work(&self) -> Result<(), ClientError> {
        let mut failures = 0;
        while let Some((letter, tries)) = self.next().await {
            match Client::connect(&self.options.server).await {
                Ok(client) => {
                    failures = 0;
                    self.converse(client, letter, tries).await;
                }
                Err(error) => {
                    failures += 1;
                    let hopeless = matches!(error, ClientError::NotOffered(_) | ClientError::Tls(_));
                    self.put_back(letter, tries, Duration::ZERO);
                    if hopeless || failures >= self.options.connect_tries.max(1) {
                        return Err(error);
                    }
                    let mut stop = self.stop.clone();
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(100 << failures.min(6))) => {}
                        _ = stop.changed() => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends over one connection as long as it lasts and there is something to send.
    async fn converse(&self, mut client: Client, letter: Letter, tries: u32) {
        let mut current = Some((letter, tries));
        while let Some((letter, tries)) = current.take() {
            match client.envelope(envelope(&letter)).await {
                Ok(EnvelopeOutcome::Ready) => {}
                Ok(EnvelopeOutcome::Refused(reply)) => {
                    self.judge(letter, tries, reply);
                    current = self.next().await;
                    continue;
                }
                Err(error) => return self.put_off(letter, tries, error.to_string()),
            }
            // From here on the server waits for content, each time around.
            let mut ready = Some((letter, tries));
            while let Some((letter, tries)) = ready.take() {
                if self.stopping() || self.ledger.started(letter.row).await.is_err() {
                    self.end(&letter, &Outcome::Unsent);
                    return client.abandon().await;
                }
                let next = self.next_at_once();
                let (reply, behind) = client.content(&letter.content, next.as_ref().map(|(l, _)| envelope(l))).await;
                match reply {
                    Ok(reply) => self.judge(letter, tries, reply),
                    Err(error) => {
                        self.end(&letter, &Outcome::InDoubt(error.to_string()));
                        if let Some((next, tries)) = next {
                            self.put_back(next, tries, Duration::ZERO);
                        }
                        return;
                    }
                }
                let Some((next, tries)) = next else { break };
                match behind {
                    Some(Ok(EnvelopeOutcome::Ready)) => ready = Some((next, tries)),
                    Some(Ok(EnvelopeOutcome::Refused(reply))) => self.judge(next, tries, reply),
                    Some(Err(error)) => return self.put_off(next, tries, error.to_string()),
                    None => self.put_back(next, tries, Duration::ZERO),
                }
            }
            current = self.next().await;
        }
        client.quit().await;
    }

    /// The next letter if one can go now; without waiting, since the server waits for content meanwhile.
    fn next_at_once(&self) -> Option<(Letter, u32)> {
        if self.stopping() || self.options.rate.is_some() {
            return None;
        }
        self.take().0.map(|(letter, tries, _)| (letter, tries))
    }
}

fn envelope(letter: &Letter) -> Envelope<'_> {
    Envelope { from: &letter.from, rcpt: &letter.rcpt, eight_bit: !letter.content.is_ascii() }
}
