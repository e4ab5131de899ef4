//! A small consumer of the ledger: reads what is durable, applies it in memory at once, and commits its effects and
//! its cursor in one transaction, so that after a crash nothing is lost and nothing happens twice.
//!
//! It runs on a thread of its own, because the tables block. The tables want few commits: effects that are waited for
//! are committed within 250 ms, progress alone every two seconds or 100,000 events.
#![expect(clippy::disallowed_methods, reason = "edge: a thread and a clock")]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::event::{Event, Kinds};
use crate::store::{ConsumerRow, Ledger, Reader, Store, StoreError, Tables, Tx};

/// From the first effect to its commit, less the time the commit takes.
const COMMIT_SOON: Duration = Duration::from_millis(150);
/// From the last commit to the next when only the cursor moved.
const COMMIT_SOMETIME: Duration = Duration::from_secs(2);
/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Most events between two commits.
const MAX_UNCOMMITTED: u64 = 100_000;
/// Most events read at once.
const CHUNK: usize = 4096;

/// What is done with the events.
pub trait Effect: Send + 'static {
    /// Name of the consumer in the tables and of its hold on the ledger.
    const NAME: &'static str;

    /// The file that holds its effects and its cursor.
    fn tables(store: &Store) -> &Tables {
        store.tables()
    }

    /// How long events may gather before they are applied: for what nobody waits for. A thread that is woken by each
    /// commit of the store costs more than what it does.
    const GATHER: Duration = Duration::ZERO;

    /// The record types that are applied; the others are passed over.
    const KINDS: Kinds = Kinds::ALL;

    /// Takes one event in, in memory. An error means that it was not taken; it will come again.
    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError>;

    /// How soon what was applied is to be committed.
    fn urgency(&self) -> Urgency;

    /// Writes what was applied since the last commit; may be called again with the same, if the commit fails.
    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;

    /// What was written is durable.
    fn committed(&mut self);
}

/// How soon to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Only the cursor moved.
    Whenever,
    /// There are effects.
    Soon,
    /// There are so many effects that memory asks for it.
    Now,
}

/// A consumer at its place in the ledger.
#[derive(Debug)]
pub struct Follower<E> {
    effect: E,
    ledger: Ledger,
    tables: Tables,
    /// None before the first reading, and after a failure: then it is opened again at `next`.
    reader: Option<Reader>,
    /// Next event to apply.
    next: u64,
    /// The cursor in the tables.
    committed: u64,
    /// When the oldest uncommitted effect was applied.
    since: Option<Instant>,
    last_commit: Instant,
}

impl<E: Effect> Follower<E> {
    /// At the cursor the tables hold; a new consumer starts at the oldest event kept.
    pub(super) fn open(store: &Store, effect: E) -> Result<Follower<E>, StoreError> {
        let (ledger, tables) = (store.ledger().clone(), E::tables(store).clone());
        let row = tables.consumer(E::NAME)?;
        let mut next = row.as_ref().map_or_else(|| ledger.start(), |row| row.cursor);
        if next < ledger.start() {
            tracing::error!(
                consumer = E::NAME,
                from = next,
                to = ledger.start(),
                "events are gone from the ledger unread"
            );
            next = ledger.start();
        }
        ledger.hold(E::NAME, next);
        let committed = row.map_or(0, |row| row.cursor);
        Ok(Follower { effect, ledger, tables, reader: None, next, committed, since: None, last_commit: Instant::now() })
    }

    /// Applies and commits everything up to the end of the ledger as it is now. Blocks.
    pub fn catch_up(&mut self) -> Result<(), StoreError> {
        let end = self.ledger.end();
        while self.next < end {
            self.commit_if_full()?;
            if !self.read()? {
                break;
            }
        }
        if self.next != self.committed { self.commit() } else { Ok(()) }
    }

    /// Goes on by itself on a thread of its own, until [`Running::stop`].
    pub fn spawn(self) -> std::io::Result<Running> {
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let stopping = Arc::clone(&stop);
        let mut follower = self;
        let thread = std::thread::Builder::new()
            .name(E::NAME.into())
            .spawn(move || runtime.block_on(async { follower.run(&stopping).await }))?;
        Ok(Running { stop, thread })
    }

    async fn run(&mut self, stop: &Notify) {
        loop {
            let wait = match self.step() {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(consumer = E::NAME, %error, "consumer can't go on, will try again");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => continue,
                        () = stop.notified() => return,
                    }
                }
            };
            let Some(wait) = wait else {
                // The reader has more; look for the stop without waiting.
                tokio::select! { biased; () = stop.notified() => break, () = std::future::ready(()) => continue }
            };
            tokio::select! {
                biased;
                () = stop.notified() => break,
                end = self.ledger.wait_past(self.next) => {
                    if end <= self.next {
                        // The store is closing: nothing more will come.
                        break;
                    }
                    if !E::GATHER.is_zero() {
                        tokio::select! { biased; () = stop.notified() => break, () = tokio::time::sleep(E::GATHER) => {} }
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
        if let Err(error) = self.catch_up() {
            tracing::error!(consumer = E::NAME, %error, "the last effects were not committed; they will be after the next start");
        }
    }

    /// Reads what there is for now, commits when it is time; returns how long nothing need be done unless more comes,
    /// `None` when more is there already.
    fn step(&mut self) -> Result<Option<Duration>, StoreError> {
        self.commit_if_full()?;
        let more = self.read()?;
        let now = Instant::now();
        let uncommitted = self.next - self.committed;
        let left = match self.effect.urgency() {
            Urgency::Now => Duration::ZERO,
            Urgency::Soon => COMMIT_SOON.saturating_sub(now - *self.since.get_or_insert(now)),
            Urgency::Whenever if uncommitted == 0 => Duration::from_secs(3600),
            Urgency::Whenever => COMMIT_SOMETIME.saturating_sub(now - self.last_commit),
        };
        if left.is_zero() {
            self.commit()?;
        }
        Ok(if more || left.is_zero() { None } else { Some(left) })
    }

    /// Before more is read, so that nothing piles up in memory while the tables can't be written.
    fn commit_if_full(&mut self) -> Result<(), StoreError> {
        let full = self.effect.urgency() == Urgency::Now || self.next - self.committed >= MAX_UNCOMMITTED;
        if full { self.commit() } else { Ok(()) }
    }

    /// Applies one chunk; whether there was one.
    pub(super) fn read(&mut self) -> Result<bool, StoreError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.ledger.reader(self.next)?,
        };
        let Some(chunk) = reader.next(CHUNK)? else {
            self.reader = Some(reader);
            return Ok(false);
        };
        for batch in chunk.batches() {
            for event in batch.iter_of(E::KINDS) {
                match event {
                    // A record may begin before the place we start from.
                    Ok(event) if event.seq < self.next => {}
                    Ok(event) => {
                        self.effect.apply(&event)?;
                        self.next = event.seq + 1;
                    }
                    Err(error) => {
                        tracing::error!(consumer = E::NAME, first = batch.first_seq, %error, "damaged events passed over");
                    }
                }
            }
        }
        self.next = self.next.max(chunk.last() + 1);
        self.reader = Some(reader);
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let row = ConsumerRow { cursor: self.next, state: Vec::new() };
        let effect = &mut self.effect;
        self.tables.write(|tx| {
            effect.write(tx)?;
            tx.put_consumer(E::NAME, &row)
        })?;
        self.effect.committed();
        self.committed = self.next;
        self.since = None;
        self.last_commit = Instant::now();
        self.ledger.hold(E::NAME, self.next);
        Ok(())
    }
}

/// A consumer at work.
#[derive(Debug)]
pub struct Running {
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Applies and commits what is in the ledger by now, then ends the thread. Blocks; to be called before the store is
    /// closed.
    pub fn stop(self) {
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("a consumer of the ledger has panicked");
        }
    }
}
