//! Opening: replays the segments into the index, seals off a torn tail, refuses what is damaged.
//!
//! Only headers and metas are read, not the messages' contents, except those of the last group commit: it may have been
//! under way when the power went, and then none of it was acknowledged, so the first record in it that is not whole ends
//! the journal. How that is told from damage: see `synced to` in [`record`](super::record).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::record::{CLEAN, Contents, HEADER, Kind};
use super::segment::{self, SEGMENT_HEADER, ScanError, Scanner, SegmentError, SegmentHeader};
use crate::disk::{Disk, File};
use crate::event::{MessageId, StoreId};
use crate::store::StoreError;
use crate::store::index::{Index, Place};
use crate::store::spool::Segment;

/// What the journal holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The store's id; `None` when there is no journal yet.
    pub id: Option<StoreId>,
    pub index: Index,
    pub segments: VecDeque<Segment>,
    /// Number the next segment is to have.
    pub next_number: u64,
    pub next_seq: u64,
    pub next_message: u64,
    pub trim: u64,
    /// The last stop was orderly (or there was none).
    pub clean: bool,
}

/// Ids that may have been given and were never written: skipped when the stop was not orderly.
const UNWRITTEN_IDS: u64 = 1 << 20;

/// The journal's segments by number, oldest first; files that never became segments are removed.
pub(crate) fn segment_files(disk: &dyn Disk, dir: &Path, tidy: bool) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in disk.list(dir).map_err(|e| StoreError::io("list", dir, e))? {
        if let Some(number) = segment::number_of(&entry.name) {
            numbers.push(number);
        } else if tidy && entry.name.starts_with(segment::SPARE_PREFIX) {
            let path = dir.join(&entry.name);
            disk.remove(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the journal in `dir` and makes its end good.
pub(crate) fn recover(disk: &dyn Disk, dir: &Path) -> Result<Recovered, StoreError> {
    let numbers = segment_files(disk, dir, true)?;
    let mut opened = open_all(disk, dir, &numbers)?;
    let mut found = Recovered {
        id: opened.first().map(|s| s.header.store),
        index: Index::default(),
        segments: VecDeque::new(),
        next_number: numbers.last().map_or(1, |n| n + 1),
        next_seq: 1,
        next_message: 1,
        trim: 1,
        clean: opened.is_empty(),
    };
    // Older ones were on their way out when the newest was begun: nothing in them is needed.
    let oldest = opened.last().map_or(0, |s| s.header.oldest);
    while opened.first().is_some_and(|s| s.header.number < oldest) {
        let gone = opened.remove(0);
        disk.remove(&gone.path).map_err(|e| StoreError::io("remove", &gone.path, e))?;
        disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, e))?;
    }
    let Some(first) = opened.first() else { return Ok(found) };
    found.trim = first.header.next_seq;
    found.next_seq = first.header.next_seq;
    let count = opened.len();
    for (i, one) in opened.into_iter().enumerate() {
        replay(one, i + 1 == count, &mut found)?;
    }
    if !found.clean {
        found.next_message += UNWRITTEN_IDS;
    }
    Ok(found)
}

struct Opened {
    header: SegmentHeader,
    path: std::path::PathBuf,
    file: Arc<dyn File>,
    len: u64,
}

fn open_all(disk: &dyn Disk, dir: &Path, numbers: &[u64]) -> Result<Vec<Opened>, StoreError> {
    let mut opened: Vec<Opened> = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let path = segment::path(dir, number);
        let file = disk.open(&path).map_err(|e| StoreError::io("open", &path, e))?;
        let len = file.len().map_err(|e| StoreError::io("read", &path, e))?;
        let damaged = |what: &str| StoreError::Damaged { path: path.clone(), offset: 0, what: what.to_owned() };
        let header = match SegmentHeader::read(&*file, &path)? {
            Ok(header) => header,
            Err(SegmentError::Newer(found)) => {
                return Err(StoreError::Newer { path, found, known: segment::VERSION });
            }
            Err(SegmentError::Invalid) => return Err(damaged("the segment's header is not valid")),
        };
        if header.number != number {
            return Err(damaged(&format!("it is segment {} under another name", header.number)));
        }
        if let Some(before) = opened.last() {
            if before.header.store != header.store {
                return Err(damaged("it belongs to another store"));
            }
            if before.header.number + 1 != number && before.header.number >= header.oldest {
                return Err(damaged(&format!("segment {} in front of it is missing", number - 1)));
            }
        }
        opened.push(Opened { header, path, file, len });
    }
    Ok(opened)
}

/// Applies one segment's records.
fn replay(one: Opened, is_last: bool, found: &mut Recovered) -> Result<(), StoreError> {
    let Opened { header, path, file, len } = one;
    let damaged = |offset: u64, what: String| StoreError::Damaged { path: path.clone(), offset, what };
    if header.next_seq != found.next_seq {
        return Err(damaged(0, format!("it begins with event {}, not {}", header.next_seq, found.next_seq)));
    }
    found.next_message = found.next_message.max(header.next_message);
    found.segments.push_back(Segment {
        number: header.number,
        file: file.clone(),
        first_seq: header.next_seq,
        end_seq: header.next_seq,
        len,
        live: 0,
        sealed: None,
        passed: None,
    });
    if let Some(before) = found.segments.len().checked_sub(2).and_then(|i| found.segments.get_mut(i)) {
        before.sealed = Some(header.begun);
        before.passed = Some(header.begun);
    }
    // Where the last group commit began: its records may be torn, and only there.
    let whole_to = if is_last {
        last_commit(&file, header.number, len).map_err(|e| StoreError::io("read", &path, e))?
    } else {
        u64::MAX
    };
    let mut scanner = Scanner::new(file.clone(), header.number, len, SEGMENT_HEADER);
    found.clean = false;
    let end = loop {
        let at = scanner.at;
        let record = match scanner.next() {
            Ok(record) => record,
            Err(ScanError::Io(e)) => return Err(StoreError::io("read", &path, e)),
            Err(ScanError::Newer(found)) => {
                return Err(StoreError::Newer { path, found: found.into(), known: super::record::VERSION.into() });
            }
            Err(ScanError::Invalid(what)) => {
                if !is_last {
                    return Err(damaged(at, format!("{what}, and the segment's seal was not reached")));
                }
                if segment::acknowledged_behind(&*file, header.number, at, len)
                    .map_err(|e| StoreError::io("read", &path, e))?
                {
                    return Err(damaged(at, what.to_owned()));
                }
                break at;
            }
        };
        if record.header.first_seq != found.next_seq {
            return Err(damaged(at, format!("event {} where {} should be", record.header.first_seq, found.next_seq)));
        }
        if at >= whole_to
            && record.header.body_len > 0
            && !segment::body_is_whole(&*file, at, &record.header).map_err(|e| StoreError::io("read", &path, e))?
        {
            break at;
        }
        found.next_seq += u64::from(record.header.event_count);
        if record.header.kind == Kind::Seal {
            found.clean = record.header.flags & CLEAN != 0;
            found.next_message = found.next_message.max(record.header.message);
            let end = at + HEADER as u64;
            if let Some(segment) = found.segments.back_mut() {
                segment.end_seq = found.next_seq;
                segment.len = end;
                segment.sealed = Some(header.begun);
            }
            return Ok(());
        }
        let Some(contents) = Contents::parse(&record.header, record.meta) else {
            return Err(damaged(at, "recipients can't be read".to_owned()));
        };
        let place = Place { segment: header.number as u32, at: at as u32, len: record.header.total() as u32, slot: 0 };
        apply(found, record.header.kind, MessageId(record.header.message), &contents, place);
    };
    seal_off(&*file, &path, header.number, end, found)?;
    if let Some(segment) = found.segments.back_mut() {
        segment.end_seq = found.next_seq;
        segment.len = end + HEADER as u64;
        segment.sealed = Some(header.begun);
    }
    Ok(())
}

/// Where the last group commit began to write to this segment, as far as its records tell.
fn last_commit(file: &Arc<dyn File>, number: u64, len: u64) -> std::io::Result<u64> {
    let mut scanner = Scanner::new(file.clone(), number, len, SEGMENT_HEADER);
    let mut begun = SEGMENT_HEADER;
    loop {
        match scanner.next() {
            Ok(record) => begun = begun.max(record.header.synced_to.into()),
            Err(ScanError::Io(e)) => return Err(e),
            Err(_) => return Ok(begun),
        }
    }
}

fn apply(found: &mut Recovered, kind: Kind, id: MessageId, contents: &Contents<'_>, place: Place) {
    if kind == Kind::Retry {
        // Of a message whose segment is gone nothing needs to be known.
        let _ = found.index.retry(id, &contents.states);
    }
    for (slot, m) in contents.messages.iter().enumerate() {
        let place = Place { slot: slot as u16, ..place };
        let id = m.block.id;
        found.next_message = found.next_message.max(id.0 + 1);
        let before = match kind {
            Kind::Moved => found.index.insert(id, place, &contents.states),
            _ => found.index.insert_fresh(id, place, m.block.rcpts),
        };
        if let Some(before) = before {
            count(&mut found.segments, before, false);
        }
        count(&mut found.segments, place, true);
    }
    // Behind the messages: of one that comes, some recipients may end in the same record.
    for (message, rcpt) in &contents.done {
        if let Some(gone) = found.index.end(*message, *rcpt) {
            count(&mut found.segments, gone, false);
        }
    }
}

fn count(segments: &mut VecDeque<Segment>, place: Place, alive: bool) {
    let Some(first) = segments.front().map(|s| s.number) else { return };
    let at = u64::from(place.segment).checked_sub(first).and_then(|i| usize::try_from(i).ok());
    if let Some(segment) = at.and_then(|i| segments.get_mut(i)) {
        let len = u64::from(place.len);
        segment.live = if alive { segment.live + len } else { segment.live.saturating_sub(len) };
    }
}

/// Ends a segment whose tail was torn, so that it counts as whole from now on.
fn seal_off(file: &dyn File, path: &Path, number: u64, at: u64, found: &Recovered) -> Result<(), StoreError> {
    tracing::info!(segment = number, at, "sealing the journal's last segment, which the last stop left open");
    let seal = segment::seal(number, found.next_seq, found.next_message + UNWRITTEN_IDS, at, 0);
    file.write_all_at(&seal, at).map_err(|e| StoreError::io("write", path, e))?;
    file.set_len(at + HEADER as u64).map_err(|e| StoreError::io("cut", path, e))?;
    file.sync_data().map_err(|e| StoreError::io("sync", path, e))
}
