//! The one thread that writes: group commit. It takes all that waits in line (which the waiting room bounds), writes it
//! with one write and one `fdatasync`, publishes, and answers everybody at once. The sync in flight is the time in which
//! the next group gathers; there is no timer, except that operations nobody waits for may gather for a few milliseconds.
#![expect(clippy::disallowed_methods, reason = "edge: clock")]

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::record::{self, CLEAN, HEADER, Header, Kind};
use super::segment::{self, SEGMENT_HEADER, SegmentHeader};
use crate::disk::File;
use crate::event::{RuleSetId, Time};
use crate::store::StoreError;
use crate::store::index::Place;
use crate::store::ledger::Part;
use crate::store::spool::{Brings, Commit, GATHER, Inner, Pending, Segment, Shared, Stop, WriterIs, lock};

/// The segment being written, and what is still to be written to it.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    first_seq: u64,
    /// It still has the name of a spare; it gets its own after its first sync.
    unnamed: bool,
    /// Where the segment is to end at the latest.
    capacity: u64,
    /// What is on disk, synced.
    synced: u64,
    /// To be written at `synced`.
    buf: Vec<u8>,
    next_seq: u64,
}

/// What a group commit changes in memory once it is durable.
#[derive(Debug, Default)]
struct Effects {
    /// Messages and where they stand now.
    placed: Vec<(Arc<crate::store::Message>, Place)>,
    moved: Vec<(crate::event::MessageId, Place)>,
    events: Vec<u8>,
    parts: Vec<Part>,
    permits: usize,
}

/// Bytes of buffer kept between commits.
const KEPT_BUFFER: usize = 16 << 20;

impl Writer {
    /// Begins a segment behind those in `shared`; it is durable when this returns.
    pub(crate) fn begin(shared: Arc<Shared>, number: u64, next_seq: u64) -> Result<Writer, StoreError> {
        let (path, file) = new_file(&shared, shared.options.segment_bytes)?;
        let mut writer = Writer {
            file,
            path,
            number,
            first_seq: next_seq,
            unnamed: true,
            capacity: shared.options.segment_bytes,
            synced: 0,
            buf: Vec::new(),
            next_seq,
            shared,
        };
        writer.put_segment_header();
        writer.sync()?;
        list(&mut lock(&writer.shared.inner), writer.segment());
        Ok(writer)
    }

    /// Writes until the store is stopped.
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let (line, commit, stop) = self.wait_for_work();
            // Nobody may be left waiting, even if this thread should panic.
            let mut unanswered = Unanswered { shared: &shared, commit: Some(commit) };
            match self.group(line) {
                Ok(()) => {
                    if let Some(commit) = unanswered.commit.take() {
                        commit.answer(Ok(()));
                    }
                }
                Err(e) => {
                    shared.fail(&e.to_string());
                    return;
                }
            }
            if stop != Stop::No && lock(&shared.inner).line.is_empty() {
                if stop == Stop::Clean
                    && let Err(e) = self.seal_clean()
                {
                    shared.fail(&e.to_string());
                }
                // Consumers that wait for events are to see the end.
                shared.ended.store(true, Ordering::Release);
                shared.end.send_modify(|_| {});
                shared.wake_keeper.notify_all();
                return;
            }
        }
    }

    /// The whole line, with the states that moved messages have at this place in the order of things.
    fn wait_for_work(&mut self) -> (Vec<Pending>, Arc<Commit>, Stop) {
        let shared = &self.shared;
        let mut inner = lock(&shared.inner);
        let mut gather_until = None;
        loop {
            let enough = inner.awaited || inner.stop != Stop::No || inner.line_bytes >= 1 << 20;
            if enough {
                break;
            }
            if inner.line.is_empty() {
                inner.writer = WriterIs::Idle;
                inner = shared.wake_writer.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let until = *gather_until.get_or_insert(now + GATHER);
            if now >= until {
                break;
            }
            inner.writer = WriterIs::Gathering;
            let wait = until - now;
            inner = shared.wake_writer.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.writer = WriterIs::Busy;
        inner.awaited = false;
        inner.line_bytes = 0;
        let mut line = std::mem::take(&mut inner.line);
        // Those behind us find room without growing it step by step.
        inner.line.reserve(line.len().min(1024));
        let commit = std::mem::take(&mut inner.commit);
        for pending in &mut line {
            take_states(&inner, pending);
        }
        (line, commit, inner.stop)
    }

    fn group(&mut self, line: Vec<Pending>) -> Result<(), StoreError> {
        if line.is_empty() {
            return Ok(());
        }
        let mut effects = Effects::default();
        let rules = RuleSetId(self.shared.rules.load(Ordering::Acquire));
        for pending in line {
            effects.permits += self.shared.room_taken(&pending);
            self.put(pending, rules, &mut effects)?;
        }
        self.sync()?;
        self.publish(effects);
        Ok(())
    }

    /// Gives a record its place and its sequence numbers.
    fn put(&mut self, pending: Pending, rules: RuleSetId, effects: &mut Effects) -> Result<(), StoreError> {
        let body_len = pending.body_len;
        let header = Header {
            kind: pending.kind,
            meta_len: pending.meta.len() as u32,
            events_len: pending.events.as_bytes().len() as u32,
            event_count: pending.events.len() as u32,
            body_len,
            payload_crc: pending.payload_crc,
            body_crc: pending.body_crc,
            synced_to: 0,
            first_seq: self.next_seq,
            rules: rules.0,
            message: pending.message.0,
            flags: 0,
        };
        if let Brings::Moved { .. } = pending.brings
            && pending.meta.is_empty()
        {
            // It ended, or was moved, since the keeper read it.
            return Ok(());
        }
        let total = header.total();
        if self.end() + total + HEADER as u64 > self.capacity && self.end() > SEGMENT_HEADER {
            self.rotate(total)?;
        }
        let place = Place { segment: self.number as u32, at: self.end() as u32, len: total as u32, slot: 0 };
        let header = Header { synced_to: self.synced as u32, ..header };
        self.buf.extend_from_slice(&header.encode(self.number));
        self.buf.extend_from_slice(&pending.meta);
        self.buf.extend_from_slice(pending.events.as_bytes());
        if !pending.events.is_empty() {
            let start = effects.events.len() as u32;
            effects.events.extend_from_slice(pending.events.as_bytes());
            effects.parts.push(Part {
                first_seq: self.next_seq,
                rules,
                count: header.event_count,
                start,
                end: effects.events.len() as u32,
            });
            self.next_seq += u64::from(header.event_count);
        }
        match pending.brings {
            Brings::Nothing => {}
            Brings::One(message) => {
                self.buf.extend_from_slice(&message.body);
                effects.placed.push((message, place));
            }
            Brings::Many(messages) => {
                for (slot, message) in messages.into_iter().enumerate() {
                    self.buf.extend_from_slice(&message.body);
                    effects.placed.push((message, Place { slot: slot as u16, ..place }));
                }
            }
            Brings::Moved { id, body, .. } => {
                self.buf.extend_from_slice(&body);
                effects.moved.push((id, place));
            }
        }
        Ok(())
    }

    /// Where the next record goes.
    fn end(&self) -> u64 {
        self.synced + self.buf.len() as u64
    }

    fn put_segment_header(&mut self) {
        let inner = lock(&self.shared.inner);
        let header = SegmentHeader {
            store: self.shared.id,
            number: self.number,
            oldest: inner.segments.front().map_or(self.number, |s| s.number),
            next_seq: self.next_seq,
            next_message: self.shared.next_message.load(Ordering::Acquire),
            trim: inner.segments.front().map_or(self.next_seq, |s| s.first_seq),
            begun: now(),
        };
        drop(inner);
        self.buf.extend_from_slice(&header.encode());
    }

    /// Seals this segment, makes it durable, begins the next with room for a record of `total` bytes.
    fn rotate(&mut self, total: u64) -> Result<(), StoreError> {
        let next_message = self.shared.next_message.load(Ordering::Acquire);
        let seal = segment::seal(self.number, self.next_seq, next_message, self.synced, 0);
        self.buf.extend_from_slice(&seal);
        self.sync()?;
        {
            // Its events are published with the rest of the group; its place in the list is needed before that.
            let mut inner = lock(&self.shared.inner);
            list(&mut inner, self.segment());
            if let Some(last) = inner.segments.back_mut() {
                last.sealed = Some(now());
            }
        }
        let capacity = self.shared.options.segment_bytes.max(SEGMENT_HEADER + total + HEADER as u64);
        let (path, file) = self.next_file(capacity)?;
        self.path = path;
        self.file = file;
        self.unnamed = true;
        self.number += 1;
        self.first_seq = self.next_seq;
        self.capacity = capacity;
        self.synced = 0;
        self.put_segment_header();
        self.shared.wake_keeper.notify_all();
        Ok(())
    }

    /// The file the keeper prepared, or a new one. A full disk is waited for: what is in line stays there.
    fn next_file(&self, capacity: u64) -> Result<(PathBuf, Arc<dyn File>), StoreError> {
        if capacity == self.shared.options.segment_bytes
            && let Some(spare) = lock(&self.shared.spare).take()
        {
            return Ok(spare);
        }
        loop {
            match new_file(&self.shared, capacity) {
                Err(StoreError::Io { source, .. }) if is_full(&source) && lock(&self.shared.inner).stop == Stop::No => {
                    self.shared.refuse("disk full", Some("the disk is full: free space for the spool".to_owned()));
                    std::thread::sleep(Duration::from_millis(200));
                }
                result => {
                    if result.is_ok() {
                        self.shared.refuse("disk full", None);
                    }
                    return result;
                }
            }
        }
    }

    /// Makes all that was put durable. A new segment gets its name only now: with its name comes all that it held so far.
    fn sync(&mut self) -> Result<(), StoreError> {
        if !self.buf.is_empty() {
            let path = &self.path;
            self.file.write_all_at(&self.buf, self.synced).map_err(|e| StoreError::io("write", path, e))?;
            self.file.sync_data().map_err(|e| StoreError::io("sync", path, e))?;
            self.synced += self.buf.len() as u64;
            self.buf.clear();
            self.buf.shrink_to(KEPT_BUFFER);
        }
        if self.unnamed {
            let path = segment::path(&self.shared.dir, self.number);
            let disk = &self.shared.disk;
            disk.rename(&self.path, &path).map_err(|e| StoreError::io("rename", &self.path, e))?;
            disk.sync_dir(&self.shared.dir).map_err(|e| StoreError::io("sync", &self.shared.dir, e))?;
            self.path = path;
            self.unnamed = false;
        }
        Ok(())
    }

    fn segment(&self) -> Segment {
        Segment {
            number: self.number,
            file: self.file.clone(),
            first_seq: self.first_seq,
            end_seq: self.next_seq,
            len: self.synced,
            live: 0,
            sealed: None,
            passed: None,
        }
    }

    /// Shows the world what is durable now.
    fn publish(&mut self, effects: Effects) {
        let shared = &self.shared;
        let mut queued = Vec::with_capacity(effects.placed.len());
        {
            let mut inner = lock(&shared.inner);
            list(&mut inner, self.segment());
            for (message, place) in effects.placed {
                if inner.index.set_place(message.envelope.id, place) {
                    inner.alive(place);
                    queued.push(message);
                }
            }
            for (id, place) in effects.moved {
                if let Some(from) = inner.index.place(id) {
                    inner.dead(from);
                    inner.alive(place);
                    inner.index.set_place(id, place);
                }
            }
        }
        if !queued.is_empty() {
            let mut cache = lock(&shared.cache);
            queued.into_iter().for_each(|message| cache.insert(message));
        }
        if !effects.parts.is_empty() {
            let mut tail = shared.tail.write().unwrap_or_else(PoisonError::into_inner);
            tail.push(effects.events.into(), effects.parts);
            drop(tail);
            shared.end.send_replace(self.next_seq);
        }
        shared.release(effects.permits);
    }

    /// The last record of an orderly stop.
    fn seal_clean(&mut self) -> Result<(), StoreError> {
        let next_message = self.shared.next_message.load(Ordering::Acquire);
        let seal = segment::seal(self.number, self.next_seq, next_message, self.synced, CLEAN);
        self.buf.extend_from_slice(&seal);
        self.sync()?;
        // Gives back what was reserved and not used. It need not be durable.
        self.file.set_len(self.synced).map_err(|e| StoreError::io("cut", &self.path, e))
    }
}

/// Nothing is written after a failure: dropped, it tells so to whoever waits.
struct Unanswered<'a> {
    shared: &'a Shared,
    commit: Option<Arc<Commit>>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(commit) = self.commit.take() else { return };
        self.shared.fail("the writing thread ended unexpectedly");
        let waiting = {
            let mut inner = lock(&self.shared.inner);
            inner.line.clear();
            std::mem::take(&mut inner.commit)
        };
        commit.answer(Err(self.shared.stopped()));
        waiting.answer(Err(self.shared.stopped()));
    }
}

/// Puts the segment in the list, or brings it up to date there.
fn list(inner: &mut Inner, segment: Segment) {
    match inner.segments.back_mut() {
        Some(last) if last.number == segment.number => {
            last.end_seq = segment.end_seq;
            last.len = segment.len;
        }
        _ => inner.segments.push_back(segment),
    }
}

/// Completes the record of a moved message, if it still stands where it was read.
fn take_states(inner: &Inner, pending: &mut Pending) {
    let Brings::Moved { id, from, block, .. } = &mut pending.brings else { return };
    if inner.index.place(*id) != Some(*from) {
        return;
    }
    let Some(states) = inner.index.states(*id) else { return };
    record::put_states(&mut pending.meta, states);
    pending.meta.append(block);
    pending.payload_crc = crc32c::crc32c(&pending.meta);
    debug_assert_eq!(pending.kind, Kind::Moved);
}

/// A file for a segment, with room reserved, under a name that open removes.
pub(crate) fn new_file(shared: &Shared, capacity: u64) -> Result<(PathBuf, Arc<dyn File>), StoreError> {
    let n = shared.spare_count.fetch_add(1, Ordering::Relaxed);
    let path = shared.dir.join(format!("{}{n}", segment::SPARE_PREFIX));
    let file = shared.disk.create_new(&path).map_err(|e| StoreError::io("create", &path, e))?;
    if let Err(e) = file.allocate(capacity).and_then(|()| file.sync_data()) {
        // Best effort: open removes what is left.
        let _ = shared.disk.remove(&path);
        return Err(StoreError::io("reserve room for", &path, e));
    }
    Ok((path, file))
}

pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(crate) fn now() -> Time {
    jiff::Timestamp::now().into()
}
