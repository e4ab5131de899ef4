//! The ledger: the ordered, durable stream of events, as consumers read it.
//!
//! A reader at the end is served from memory ([`Tail`](super::tail::Tail)); one that is behind reads the segments, hopping
//! over message contents. Nobody sees an event before it has been synced.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::error::StoreError;
use super::journal::record::Kind;
use super::journal::segment::{self, SEGMENT_HEADER, ScanError, Scanner};
use super::spool::{Shared, lock};
use crate::event::leb128::take_bytes;
use crate::event::{EventBatch, RuleSetId, StoreId};

/// The ordered, durable stream of events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
}

impl Ledger {
    /// One past the last durable sequence number.
    pub fn end(&self) -> u64 {
        *self.shared.end.borrow()
    }

    /// The first sequence number still kept.
    pub fn start(&self) -> u64 {
        let inner = lock(&self.shared.inner);
        inner.segments.front().map_or(inner.trim, |s| s.first_seq.max(inner.trim))
    }

    /// Waits until `end()` is greater than `seen`; also returns (with the same end) when the store is closing.
    pub async fn wait_past(&self, seen: u64) -> u64 {
        let mut end = self.shared.end.subscribe();
        loop {
            let now = *end.borrow_and_update();
            if now > seen || self.shared.is_ending() || end.changed().await.is_err() {
                return now;
            }
        }
    }

    /// Reads from this sequence number on, which must lie between `start()` and `end()`.
    pub fn reader(&self, from: u64) -> Result<Reader, StoreError> {
        let start = self.start();
        if from < start {
            return Err(StoreError::Trimmed { wanted: from, start });
        }
        Ok(Reader { shared: self.shared.clone(), position: from, scan: None })
    }

    /// Keeps every event >= `seq` for this consumer (replaces its earlier hold).
    pub fn hold(&self, consumer: &str, seq: u64) {
        let mut inner = lock(&self.shared.inner);
        match inner.holds.get_mut(consumer) {
            Some(held) => *held = seq,
            None => {
                inner.holds.insert(consumer.to_owned(), seq);
            }
        }
    }

    /// Keeps nothing for this consumer any more.
    pub fn release(&self, consumer: &str) {
        lock(&self.shared.inner).holds.remove(consumer);
    }

    /// Whether the journal kept for this consumer comes near the size at which new mail is refused because of it.
    pub fn lags_too_far(&self, consumer: &str) -> bool {
        let held = {
            let inner = lock(&self.shared.inner);
            let Some(from) = inner.holds.get(consumer) else { return false };
            inner.segments.iter().filter(|s| s.end_seq > *from).map(|s| s.len).sum::<u64>()
        };
        let limit = self.shared.hold_limit(held);
        held > limit - limit / 8
    }

    /// The first event that this consumer has not passed; `None` when it holds nothing.
    pub fn held_by(&self, consumer: &str) -> Option<u64> {
        lock(&self.shared.inner).holds.get(consumer).copied()
    }

    /// What each consumer holds: its name and the first sequence number kept for it; for `show status` and alarms.
    pub fn holds(&self) -> Vec<(String, u64)> {
        lock(&self.shared.inner).holds.iter().map(|(name, seq)| (name.clone(), *seq)).collect()
    }
}

/// Reads the ledger forward.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    position: u64,
    /// Where reading from disk stands: the segment and the place in it.
    scan: Option<(u64, Scanner)>,
}

/// Bytes of events read from disk at a time.
const CHUNK_BYTES: usize = 4 << 20;

impl Reader {
    /// The next durable events, up to about `max_events`; `None` when at the end for now. A record's events stay
    /// together; the next call continues where this one ended. Reads the disk when the events are no longer in memory:
    /// call it where blocking is allowed.
    pub fn next(&mut self, max_events: usize) -> Result<Option<Chunk>, StoreError> {
        let max_events = max_events.max(1);
        let end = *self.shared.end.borrow();
        if self.position >= end {
            return Ok(None);
        }
        let recent = self.shared.tail.read().unwrap_or_else(PoisonError::into_inner).chunk(self.position, max_events);
        let chunk = match recent {
            Some(chunk) => {
                self.scan = None;
                chunk
            }
            None => self.read(end, max_events)?,
        };
        self.position = chunk.last() + 1;
        Ok(Some(Chunk { store: self.shared.id, ..chunk }))
    }

    /// Sequence number the next chunk begins with.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn read(&mut self, end: u64, max_events: usize) -> Result<Chunk, StoreError> {
        let dir = self.shared.dir.clone();
        let mut bytes = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let (mut count, mut next) = (0, self.position);
        let more =
            |next: u64, count: usize, bytes: &Vec<u8>| next < end && count < max_events && bytes.len() < CHUNK_BYTES;
        while more(next, count, &bytes) {
            let (number, scanner) = self.scanner(next)?;
            let mut sealed = false;
            while more(next, count, &bytes) && !sealed {
                let at = scanner.at;
                let record = scanner.next().map_err(|e| damaged(&dir, number, at, e))?;
                let header = record.header;
                if header.first_seq > next {
                    return Err(damaged(&dir, number, at, ScanError::Invalid("events in front of it are missing")));
                }
                sealed = header.kind == Kind::Seal;
                let part = Part {
                    first_seq: header.first_seq,
                    rules: RuleSetId(header.rules),
                    count: header.event_count,
                    start: bytes.len() as u32,
                    end: (bytes.len() + record.events.len()) as u32,
                };
                if part.end_seq() > next {
                    bytes.extend_from_slice(record.events);
                    next = part.end_seq();
                    count += part.count as usize;
                    parts.push(part);
                }
            }
            if sealed {
                self.scan = None;
            }
        }
        Chunk::new(vec![(bytes.into(), parts)], self.position)
            .ok_or_else(|| StoreError::Other(format!("ledger: no events from {} on", self.position)))
    }

    /// The scanner that comes to event `next`.
    fn scanner(&mut self, next: u64) -> Result<(u64, &mut Scanner), StoreError> {
        let inner = lock(&self.shared.inner);
        let number = match &self.scan {
            Some((number, _)) => *number,
            None => {
                let behind = inner.segments.partition_point(|s| s.first_seq <= next);
                // The last that begins at or before `next`: those in front of it that begin there have no events.
                behind
                    .checked_sub(1)
                    .and_then(|at| inner.segments.get(at))
                    .map(|s| s.number)
                    .ok_or(StoreError::Trimmed { wanted: next, start: inner.trim })?
            }
        };
        let Some(segment) = inner.segment(number) else {
            let start = inner.segments.front().map_or(inner.trim, |s| s.first_seq);
            return Err(StoreError::Trimmed { wanted: next, start });
        };
        let (file, len) = (segment.file.clone(), segment.len);
        drop(inner);
        let scan = self.scan.get_or_insert_with(|| (number, Scanner::new(file, number, len, SEGMENT_HEADER)));
        // What was read ahead may have been written since.
        if scan.1.len() != len {
            scan.1.refresh(len);
        }
        Ok((scan.0, &mut scan.1))
    }
}

fn damaged(dir: &Path, number: u64, at: u64, e: ScanError) -> StoreError {
    let path = segment::path(dir, number);
    match e {
        ScanError::Io(e) => StoreError::io("read", &path, e),
        ScanError::Invalid(what) => StoreError::Damaged { path, offset: at, what: what.to_owned() },
        ScanError::Newer(found) => {
            StoreError::Newer { path, found: found.into(), known: super::journal::record::VERSION.into() }
        }
    }
}

/// One record's events within a chunk's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub first_seq: u64,
    pub rules: RuleSetId,
    pub count: u32,
    pub start: u32,
    pub end: u32,
}

impl Part {
    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }
}

/// The events of one commit, or of one reading of the disk: their bytes, and where in them those of each record stand.
pub(crate) type Piece = (Bytes, Vec<Part>);

/// Events of some consecutive records; owns its bytes.
#[derive(Debug)]
pub struct Chunk {
    store: StoreId,
    /// Never empty, nor are the parts of any.
    pieces: Vec<Piece>,
}

impl Chunk {
    /// The events of `pieces` from `from` on; `None` when there are none. No piece is without parts.
    pub(crate) fn new(mut pieces: Vec<Piece>, from: u64) -> Option<Chunk> {
        let (bytes, parts) = pieces.first_mut()?;
        let first = parts.first_mut()?;
        if from >= first.end_seq() {
            return None;
        }
        // A cursor may stand within a record's events: skip those before it.
        let mut skip = from.saturating_sub(first.first_seq) as u32;
        let all = bytes.get(first.start as usize..first.end as usize)?;
        let mut rest = all;
        first.count -= skip;
        first.first_seq += u64::from(skip);
        // Events that damage has taken count, but have no bytes.
        while skip > 0 && !rest.is_empty() {
            take_bytes(&mut rest)?;
            skip -= 1;
        }
        first.start += (all.len() - rest.len()) as u32;
        Some(Chunk { store: StoreId(0), pieces })
    }

    /// Sequence number of the first event.
    pub fn first(&self) -> u64 {
        self.pieces.first().and_then(|(_, parts)| parts.first()).map_or(0, |p| p.first_seq)
    }

    /// Sequence number of the last event.
    pub fn last(&self) -> u64 {
        self.pieces.last().and_then(|(_, parts)| parts.last()).map_or(0, |p| p.end_seq() - 1)
    }

    /// The events, record by record. Sequence numbers between two batches are missing only where a repair has given up
    /// events that were damaged on disk.
    pub fn batches(&self) -> impl Iterator<Item = EventBatch<'_>> {
        self.pieces.iter().flat_map(|(bytes, parts)| {
            parts.iter().filter(|p| p.start < p.end).map(|p| EventBatch {
                store: self.store,
                first_seq: p.first_seq,
                rules: p.rules,
                count: p.count,
                bytes: bytes.get(p.start as usize..p.end as usize).unwrap_or_default(),
            })
        })
    }
}
