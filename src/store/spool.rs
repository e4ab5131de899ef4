//! The state that callers, the writer and the keeper share: what is queued, what waits to be written, where segments are.
//!
//! # Why the index can be changed before the disk is
//!
//! Retries and endings change the [`Index`] when they are handed over, under the same lock that puts them in the line of
//! waiting operations. So the order of changes in memory IS the order of records in the journal, a recipient can't be
//! ended twice, and nobody has to wait for the disk to know that it is gone. What the outside sees (events in the ledger,
//! the answer to an accept, a message that can be loaded) is published only after `fdatasync` returned. Two things
//! would go wrong if they looked at the index at any other moment, and do not:
//! - a message that is moved to a newer segment takes its states when the writer takes the line, under the lock, and is
//!   written behind all that was in the line: so the record's states are those at its place in the journal;
//! - a segment without live messages is removed only after everything has been synced that was in the line when it was
//!   found empty: so an ending is durable before what it ends is removed.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use super::cache::Cache;
use super::error::StoreError;
use super::finish::Finish;
use super::index::{Index, Place};
use super::journal::record::{self, Block, Kind, MAX_RECORD};
use super::message::{Message, RcptState};
use super::tail::Tail;
use crate::disk::{Disk, File};
use crate::event::{Events, MessageId, StoreId, Time, leb128};

/// Locks without minding that a panicking thread held it: no invariant here spans an unlock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All operations that are written by one group commit share one answer.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    done: OnceLock<Result<(), StoreError>>,
    notify: Notify,
    blocked: Mutex<()>,
    unblock: Condvar,
}

impl Commit {
    /// Waits until it is durable, or has failed.
    pub(crate) async fn wait(&self) -> Result<(), StoreError> {
        loop {
            // A `Notified` made before the look at `done` can't miss `notify_waiters`.
            let answered = self.notify.notified();
            if let Some(result) = self.done.get() {
                return result.clone();
            }
            answered.await;
        }
    }

    /// The same for a thread.
    pub(crate) fn wait_blocking(&self) -> Result<(), StoreError> {
        let mut guard = lock(&self.blocked);
        loop {
            if let Some(result) = self.done.get() {
                return result.clone();
            }
            guard = self.unblock.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Commit::wait_blocking`], for so long at most; `None` when it is still under way then.
    pub(crate) fn wait_for(&self, patience: Duration) -> Option<Result<(), StoreError>> {
        let guard = lock(&self.blocked);
        let waited = self.unblock.wait_timeout_while(guard, patience, |()| self.done.get().is_none());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.done.get().cloned()
    }

    pub(crate) fn answer(&self, result: Result<(), StoreError>) {
        // A second answer can only follow a failure, and the first stands.
        let _ = self.done.set(result);
        self.notify.notify_waiters();
        let _guard = lock(&self.blocked);
        self.unblock.notify_all();
    }
}

/// The messages that a record brings.
#[derive(Debug)]
pub(crate) enum Brings {
    Nothing,
    One(Arc<Message>),
    Many(Vec<Arc<Message>>),
    /// A message copied from the oldest segment: its block and content as they stood there.
    Moved {
        id: MessageId,
        from: Place,
        block: Vec<u8>,
        body: Bytes,
    },
}

/// An operation on its way to the writer: all but its place is known, all but its header's checksum is computed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub kind: Kind,
    pub message: MessageId,
    pub meta: Vec<u8>,
    pub events: Events,
    pub payload_crc: u32,
    pub body_crc: u32,
    pub body_len: u32,
    pub brings: Brings,
    /// Bytes of the record; what it takes of the waiting room.
    pub total: u64,
}

impl Pending {
    fn new(kind: Kind, message: MessageId, meta: Vec<u8>, events: Events) -> Pending {
        let payload_crc = crc32c::crc32c_append(crc32c::crc32c(&meta), events.as_bytes());
        let total = (record::HEADER + meta.len() + events.as_bytes().len()) as u64;
        Pending { kind, message, meta, events, payload_crc, body_crc: 0, body_len: 0, brings: Brings::Nothing, total }
    }

    fn within_limit(self) -> Result<Pending, StoreError> {
        // What a record takes more when it is moved: the states of at most 65535 recipients.
        const LIMIT: u64 = MAX_RECORD - (1 << 20);
        if self.total > LIMIT {
            return Err(StoreError::TooLarge { bytes: self.total, limit: LIMIT });
        }
        Ok(self)
    }

    pub(crate) fn accept(message: Arc<Message>, received: Events) -> Result<Pending, StoreError> {
        check_message(&message)?;
        let body_crc = crc32c::crc32c(&message.body);
        let mut meta = Vec::with_capacity(512);
        Block::put(&mut meta, &message, body_crc);
        let mut pending = Pending::new(Kind::Accept, message.envelope.id, meta, received);
        pending.body_crc = body_crc;
        pending.body_len = message.body.len() as u32;
        pending.total += message.body.len() as u64;
        pending.brings = Brings::One(message);
        pending.within_limit()
    }

    pub(crate) fn retry(message: MessageId, states: &[RcptState], events: Events) -> Result<Pending, StoreError> {
        let mut meta = Vec::with_capacity(2 + 13 * states.len());
        record::put_states(&mut meta, states);
        Pending::new(Kind::Retry, message, meta, events).within_limit()
    }

    pub(crate) fn append(events: Events) -> Result<Pending, StoreError> {
        Pending::new(Kind::Events, MessageId(0), Vec::new(), events).within_limit()
    }

    pub(crate) fn finish(finish: Finish) -> Result<(Pending, Vec<(MessageId, u16)>), StoreError> {
        let Finish { done, mut events, messages } = finish;
        let mut meta = Vec::with_capacity(4 + 12 * done.len());
        record::put_done(&mut meta, &done);
        leb128::put_number(&mut meta, messages.len() as u64);
        let (mut body_crc, mut body_len) = (0, 0u64);
        let mut new = Vec::with_capacity(messages.len());
        for (message, received) in messages {
            check_message(&message)?;
            Block::put(&mut meta, &message, crc32c::crc32c(&message.body));
            body_crc = crc32c::crc32c_append(body_crc, &message.body);
            body_len += message.body.len() as u64;
            events.append(&received);
            new.push(message);
        }
        let mut pending = Pending::new(Kind::Finish, MessageId(0), meta, events);
        pending.total += body_len;
        pending.body_crc = body_crc;
        if !new.is_empty() {
            pending.brings = Brings::Many(new);
        }
        let mut pending = pending.within_limit()?;
        pending.body_len = body_len as u32;
        Ok((pending, done))
    }

    pub(crate) fn moved(id: MessageId, from: Place, block: Vec<u8>, body: Bytes, body_crc: u32) -> Pending {
        let mut pending = Pending::new(Kind::Moved, id, Vec::new(), Events::new());
        // Room for a few states; the record's real size is known when they are taken.
        pending.total += (block.len() + body.len() + 64) as u64;
        pending.body_crc = body_crc;
        pending.body_len = body.len() as u32;
        pending.brings = Brings::Moved { id, from, block, body };
        pending
    }
}

fn check_message(message: &Message) -> Result<(), StoreError> {
    let envelope = &message.envelope;
    let unfit = |why| Err(StoreError::Unfit(envelope.id, why));
    if envelope.id.0 == 0 {
        return unfit("it has no id");
    }
    if envelope.rcpts.is_empty() {
        return unfit("it has no recipients");
    }
    if envelope.rcpts.len() > usize::from(u16::MAX) {
        return unfit("it has more than 65535 recipients; split it");
    }
    if message.body.len() as u64 > MAX_RECORD {
        return Err(StoreError::TooLarge { bytes: message.body.len() as u64, limit: MAX_RECORD });
    }
    if envelope.body_len as usize != message.body.len() {
        return unfit("its envelope states another content length");
    }
    Ok(())
}

/// One segment, as the keeper and the readers see it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub number: u64,
    pub file: Arc<dyn File>,
    /// Sequence number of its first event.
    pub first_seq: u64,
    /// One past its last durable event.
    pub end_seq: u64,
    /// Bytes of it that are durable.
    pub len: u64,
    /// Bytes of records that bring messages which are still queued.
    pub live: u64,
    /// When the next one was begun; unknown for the one that is written to.
    pub sealed: Option<Time>,
    /// When the last consumer had passed it; unknown before that.
    pub passed: Option<Time>,
}

/// What the writer is doing, so that callers know whether to wake it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterIs {
    /// Asleep until something comes.
    Idle,
    /// Waiting a little for company: only an operation that somebody waits for wakes it.
    Gathering,
    /// Writing: it looks at the line again by itself.
    Busy,
}

/// How the store is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not at all.
    No,
    /// Write what waits; the next start counts the stop as unclean.
    Dropped,
    /// Write what waits and mark the stop as orderly.
    Clean,
}

/// What is guarded by the one lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub index: Index,
    pub line: Vec<Pending>,
    pub line_bytes: u64,
    /// Somebody waits for what is in the line.
    pub awaited: bool,
    /// The commit that will write the line.
    pub commit: Arc<Commit>,
    pub writer: WriterIs,
    pub stop: Stop,
    pub segments: VecDeque<Segment>,
    pub holds: BTreeMap<String, u64>,
    pub trim: u64,
}

impl Inner {
    /// Notes that what stands at `place` is no longer queued.
    pub(crate) fn dead(&mut self, place: Place) {
        if let Some(segment) = self.segment_mut(u64::from(place.segment)) {
            segment.live = segment.live.saturating_sub(u64::from(place.len));
        }
    }

    pub(crate) fn alive(&mut self, place: Place) {
        if let Some(segment) = self.segment_mut(u64::from(place.segment)) {
            segment.live += u64::from(place.len);
        }
    }

    fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let first = self.segments.front()?.number;
        self.segments.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The consumer that is furthest behind, and the bytes of the segments that are kept for it.
    pub(crate) fn held(&self) -> (Option<&str>, u64) {
        let Some((name, held)) = self.holds.iter().min_by_key(|(_, seq)| **seq) else { return (None, 0) };
        let bytes = self.segments.iter().filter(|s| s.end_seq > *held).map(|s| s.len).sum();
        (Some(name), bytes)
    }

    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

/// Everything but the threads and the folder's lock, which [`Store`](super::Store) holds.
#[derive(Debug)]
pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    /// The journal's folder.
    pub dir: PathBuf,
    pub options: super::Options,
    pub id: StoreId,
    pub inner: Mutex<Inner>,
    pub wake_writer: Condvar,
    pub wake_keeper: Condvar,
    /// Free bytes of the waiting room.
    pub room: Semaphore,
    pub next_message: AtomicU64,
    pub rules: AtomicU64,
    /// One past the last durable event.
    pub end: watch::Sender<u64>,
    /// The writer has done its last.
    pub ended: AtomicBool,
    pub tail: RwLock<Tail>,
    pub cache: Mutex<Cache>,
    /// Why nothing is written any more.
    pub failed: OnceLock<Arc<str>>,
    /// Reasons why no new mail is taken, by who gave them.
    pub refusals: Mutex<BTreeMap<&'static str, Arc<str>>>,
    pub refusing: AtomicBool,
    /// A segment made ready for the writer.
    pub spare: Mutex<Option<(PathBuf, Arc<dyn File>)>>,
    pub spare_count: AtomicU64,
}

impl Shared {
    /// The largest share of the waiting room one operation takes, whatever its size.
    fn permits(&self, total: u64) -> u32 {
        total.min(self.options.waiting_bytes as u64).min(u64::from(u32::MAX >> 4)) as u32
    }

    /// Whether no events will follow any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.failed.get().is_some()
    }

    /// The error of a store that stopped.
    pub(crate) fn stopped(&self) -> StoreError {
        self.failed.get().map_or(StoreError::Closed, |why| StoreError::Failed(why.clone()))
    }

    /// Waits for room, then runs `check_and_change` on the index and puts the operation in line, in one step. Nothing
    /// happens when that fails. `awaited`: the caller will wait for the commit, so it is to come soon.
    pub(crate) async fn hand_over(
        &self,
        pending: Pending,
        awaited: bool,
        check_and_change: impl FnOnce(&mut Inner) -> Result<(), StoreError>,
    ) -> Result<Arc<Commit>, StoreError> {
        let permit = self.room.acquire_many(self.permits(pending.total)).await.map_err(|_| self.stopped())?;
        let commit = self.put_in_line(pending, awaited, check_and_change)?;
        permit.forget();
        Ok(commit)
    }

    /// As [`Shared::hand_over`], for the keeper's thread; takes what room there is.
    pub(crate) fn put_in_line(
        &self,
        pending: Pending,
        awaited: bool,
        check_and_change: impl FnOnce(&mut Inner) -> Result<(), StoreError>,
    ) -> Result<Arc<Commit>, StoreError> {
        /// A line this long is worth a commit of its own.
        const ENOUGH: u64 = 1 << 20;
        let mut inner = lock(&self.inner);
        if self.failed.get().is_some() || inner.stop != Stop::No {
            return Err(self.stopped());
        }
        check_and_change(&mut inner)?;
        inner.line_bytes += pending.total;
        inner.line.push(pending);
        inner.awaited |= awaited;
        let wake = match inner.writer {
            WriterIs::Idle => true,
            WriterIs::Gathering => awaited || inner.line_bytes >= ENOUGH,
            WriterIs::Busy => false,
        };
        if wake {
            inner.writer = WriterIs::Busy;
            self.wake_writer.notify_one();
        }
        Ok(inner.commit.clone())
    }

    /// Gives back the room that these operations took.
    pub(crate) fn release(&self, permits: usize) {
        self.room.add_permits(permits);
    }

    /// What [`Shared::release`] is to be given for `pending`; none for the keeper's, which took none.
    pub(crate) fn room_taken(&self, pending: &Pending) -> usize {
        match pending.brings {
            Brings::Moved { .. } => 0,
            _ => self.permits(pending.total) as usize,
        }
    }

    /// So much of the journal may be kept for a consumer; `held` is what is kept now.
    pub(crate) fn hold_limit(&self, held: u64) -> u64 {
        let least = self.options.held_bytes;
        if held <= least { least } else { least.max(self.disk.free_space(&self.dir).unwrap_or(0)) }
    }

    /// The commit that makes durable all that was handed over before this call.
    pub(crate) fn barrier(&self) -> Result<Arc<Commit>, StoreError> {
        let mut inner = lock(&self.inner);
        if self.failed.get().is_some() {
            return Err(self.stopped());
        }
        if inner.stop != Stop::No {
            return Err(StoreError::Closed);
        }
        inner.awaited = true;
        if inner.writer != WriterIs::Busy {
            inner.writer = WriterIs::Busy;
            self.wake_writer.notify_one();
        }
        Ok(inner.commit.clone())
    }

    /// Sets or lifts one of the reasons for which no new mail is taken.
    pub(crate) fn refuse(&self, who: &'static str, why: Option<String>) {
        let mut refusals = lock(&self.refusals);
        match why {
            Some(why) => {
                if refusals.insert(who, why.as_str().into()).is_none() {
                    tracing::warn!(reason = why, "no new mail is taken");
                }
            }
            None => {
                if refusals.remove(who).is_some() {
                    tracing::info!(reason = who, "new mail is taken again, as far as this reason goes");
                }
            }
        }
        self.refusing.store(!refusals.is_empty(), Ordering::Release);
    }

    pub(crate) fn refusal(&self) -> Option<Arc<str>> {
        if !self.refusing.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.refusals).values().next().cloned()
    }

    /// Stops the store for good: the first reason stands.
    pub(crate) fn fail(&self, why: &str) {
        if self.failed.set(why.into()).is_ok() {
            tracing::error!(reason = why, "the store has stopped; no mail is taken or delivered until a restart");
            self.refuse("failed write", Some(why.to_owned()));
        }
        self.room.close();
        // Those who wait for events see that no more will come.
        self.end.send_modify(|_| {});
        self.wake_keeper.notify_all();
    }
}

/// How long operations nobody waits for may wait for company, at most.
pub(crate) const GATHER: Duration = Duration::from_millis(15);
