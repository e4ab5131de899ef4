//! Looks for damage in the journal without changing anything ([`verify`]), and makes a damaged journal usable again with
//! what is readable ([`repair`]).
//!
//! What a repair can't bring back it names: a lost ACCEPT loses its message, a lost RETRY forgets attempts, a lost FINISH
//! means that its recipients are served again; lost events leave a gap in the sequence numbers that consumers step over.
//! Damaged segments are kept beside the repaired ones as `NUMBER.damaged`. The tables are redb's to check: it does so
//! when it opens them, here to see how far the outputs have read, and mends then what a crash has left.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::journal::record::{HEADER, Header, Kind};
use super::journal::segment::{self, SEGMENT_HEADER, ScanError, Scanner, SegmentError, SegmentHeader};
use super::open::{JOURNAL, take_lock};
use super::tables::{TABLES_FILE, Tables};
use crate::disk::{DirLock, Disk, File};
use crate::event::{StoreId, Time};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The store's id, if any segment still tells it.
    pub store: Option<StoreId>,
    /// Segments in the journal.
    pub segments: u64,
    /// Readable records.
    pub records: u64,
    /// Sequence number of the first event kept.
    pub first_seq: u64,
    /// One past the last event that is readable.
    pub next_seq: u64,
    /// Bytes at the end that a crash left torn: never acknowledged, sealed off at the next open, no damage.
    pub torn_bytes: u64,
    /// What is damaged; empty for a sound journal.
    pub damage: Vec<Damage>,
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong, and what it costs.
    pub what: String,
    /// The store opens nevertheless: only a message's content is damaged.
    pub opens: bool,
}

/// What [`repair`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repaired {
    /// What was wrong.
    pub found: Report,
    /// Segments that were written anew, by number.
    pub rewritten: Vec<u64>,
    /// Events that are gone.
    pub events_lost: u64,
    /// Bytes that could not be read as records.
    pub bytes_lost: u64,
}

/// A segment as far as it can be read.
struct Inspected {
    number: u64,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    header: Option<SegmentHeader>,
    /// Readable records and where they stand.
    records: Vec<(u64, Header)>,
    /// The event its seal names as the next one.
    sealed_at: Option<u64>,
    torn: u64,
    bytes_lost: u64,
    damage: Vec<Damage>,
}

/// Reads the whole journal of the store in `dir`, contents included. The store must not be open.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Report, StoreError> {
    let lock: Arc<dyn DirLock> = take_lock(disk, dir)?.into();
    let inspected = inspect(disk, &dir.join(JOURNAL))?;
    let mut found = report(&inspected);
    // What an output has read and the journal has no more was lost at its end, where it looks like a torn tail.
    match furthest(disk, dir, found.store, &lock) {
        Ok(Some((name, cursor))) if cursor > found.next_seq => {
            let end = found.next_seq;
            let what = format!("{name} has read up to event {cursor}, but the journal ends at {end}: its end is lost");
            if let Some(last) = inspected.last() {
                found.damage.push(Damage { path: last.path.clone(), offset: 0, what, opens: false });
            }
        }
        Ok(_) => {}
        Err(e) => found.damage.push(Damage { path: dir.to_owned(), offset: 0, what: e.to_string(), opens: false }),
    }
    Ok(found)
}

/// The consumer that has read furthest, and one past its last event.
fn furthest(
    disk: &dyn Disk,
    dir: &Path,
    store: Option<StoreId>,
    lock: &Arc<dyn DirLock>,
) -> Result<Option<(String, u64)>, StoreError> {
    let Some(id) = store else { return Ok(None) };
    let (tables, _) = Tables::open(&TABLES_FILE, disk, dir, Some(id), || id, lock)?;
    let mut consumers = tables.consumers()?;
    consumers.extend(tables.open_suppression(disk, dir, id, lock)?.consumers()?);
    Ok(consumers.into_iter().map(|(name, row)| (name, row.cursor)).max_by_key(|(_, cursor)| *cursor))
}

/// Rewrites damaged segments with what is readable in them. The store must not be open. Safe to run again.
pub fn repair(disk: &dyn Disk, dir: &Path) -> Result<Repaired, StoreError> {
    let lock: Arc<dyn DirLock> = take_lock(disk, dir)?.into();
    let journal = dir.join(JOURNAL);
    let inspected = inspect(disk, &journal)?;
    let mut done = Repaired { found: report(&inspected), ..Repaired::default() };
    let Some(store) = done.found.store else {
        let what = "no segment tells which store this is; restore it from a backup".to_owned();
        return if inspected.is_empty() {
            Ok(done)
        } else {
            Err(StoreError::Damaged { path: journal, offset: 0, what })
        };
    };
    // Numbers that an output has seen are never given again, even if their events are gone.
    let read_to = furthest(disk, dir, Some(store), &lock)?.map_or(1, |(_, cursor)| cursor);
    let mut next_seq = None;
    let mut next_message = 1;
    for (i, one) in inspected.iter().enumerate() {
        let first = one.header.map(|h| h.next_seq).or_else(|| one.records.first().map(|(_, h)| h.first_seq));
        let begins = next_seq.or(first).unwrap_or(1);
        // Its seal, or where the next segment begins, tells how many events this one had.
        let ends = one.sealed_at.or_else(|| inspected.get(i + 1)?.header.map(|h| h.next_seq));
        let is_last = i + 1 == inspected.len();
        let ends = if is_last { ends.max(Some(read_to)) } else { ends };
        next_message = next_message.max(one.header.map_or(1, |h| h.next_message));
        let header = SegmentHeader {
            store,
            number: one.number,
            oldest: inspected[0].number,
            next_seq: begins,
            next_message,
            trim: begins,
            begun: one.header.map_or(Time::UNKNOWN, |h| h.begun),
        };
        done.bytes_lost += one.bytes_lost;
        if one.damage.iter().all(|d| d.opens) && one.header.is_some_and(|h| h.next_seq == begins) {
            next_seq = Some(end_of(one, begins));
            if ends.is_none() || ends == next_seq || is_last && ends < next_seq {
                continue;
            }
        }
        let (end, lost) = rewrite(disk, &journal, one, &header, ends)?;
        done.events_lost += lost;
        done.rewritten.push(one.number);
        next_seq = Some(end);
    }
    Ok(done)
}

fn end_of(one: &Inspected, begins: u64) -> u64 {
    one.records.last().map_or(begins, |(_, h)| h.first_seq + u64::from(h.event_count))
}

fn report(inspected: &[Inspected]) -> Report {
    let mut report = Report { segments: inspected.len() as u64, ..Report::default() };
    for one in inspected {
        report.store = report.store.or(one.header.map(|h| h.store));
        report.records += one.records.len() as u64;
        report.torn_bytes += one.torn;
        report.damage.extend(one.damage.iter().cloned());
    }
    let first = inspected.first().and_then(|s| s.header.map(|h| h.next_seq));
    report.first_seq = first.unwrap_or(1);
    report.next_seq =
        inspected.iter().fold(report.first_seq, |next, s| end_of(s, s.header.map_or(next, |h| h.next_seq)).max(next));
    report
}

/// The set-aside original of a segment that was repaired.
fn set_aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn inspect(disk: &dyn Disk, journal: &Path) -> Result<Vec<Inspected>, StoreError> {
    let numbers = super::journal::recover::segment_files(disk, journal, false)?;
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Ok(Vec::new()) };
    // Segments in front of the oldest one that the newest knows are on their way out.
    let mut oldest = *first;
    let mut all = Vec::new();
    for &number in numbers.iter().rev() {
        let one = inspect_one(disk, journal, number, number == *last)?;
        if let (None, Some(header)) = (all.last(), one.header) {
            oldest = oldest.max(header.oldest);
        }
        all.push(one);
    }
    all.reverse();
    all.retain(|s| s.number >= oldest);
    let mut complete: Vec<Inspected> = Vec::with_capacity(all.len());
    for one in all {
        while let Some(missing) = complete.last().map(|s| s.number + 1).filter(|n| *n < one.number) {
            complete.push(inspect_one(disk, journal, missing, false)?);
        }
        complete.push(one);
    }
    Ok(complete)
}

fn inspect_one(disk: &dyn Disk, journal: &Path, number: u64, is_last: bool) -> Result<Inspected, StoreError> {
    let path = segment::path(journal, number);
    let mut one = Inspected {
        number,
        path: path.clone(),
        file: None,
        header: None,
        records: Vec::new(),
        sealed_at: None,
        torn: 0,
        bytes_lost: 0,
        damage: Vec::new(),
    };
    let damage =
        |offset: u64, what: &str, opens: bool| Damage { path: path.clone(), offset, what: what.to_owned(), opens };
    let io = |e| StoreError::io("read", &path, e);
    let file = match disk.open_read(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            one.damage.push(damage(0, "the segment is missing: its messages and events are lost", false));
            return Ok(one);
        }
        // What can't be read for another reason is not lost.
        Err(e) => return Err(io(e)),
    };
    let len = file.len().map_err(io)?;
    one.file = Some(file.clone());
    match SegmentHeader::read(&*file, &path)? {
        Ok(header) if header.number == number => one.header = Some(header),
        Err(SegmentError::Newer(found)) => return Err(StoreError::Newer { path, found, known: segment::VERSION }),
        _ => one.damage.push(damage(0, "the segment's header is not valid", false)),
    }
    let mut scanner = Scanner::new(file.clone(), number, len, SEGMENT_HEADER);
    loop {
        let at = scanner.at;
        match scanner.next() {
            Ok(record) => {
                let header = record.header;
                if header.kind == Kind::Seal {
                    one.sealed_at = Some(header.first_seq);
                    return Ok(one);
                }
                one.records.push((at, header));
                if header.body_len > 0 && !segment::body_is_whole(&*file, at, &header).map_err(io)? {
                    let what = "a message's content does not match its checksum: it can't be delivered";
                    one.damage.push(damage(at, what, true));
                }
            }
            Err(ScanError::Io(e)) => return Err(io(e)),
            Err(ScanError::Newer(v)) => {
                let known = super::journal::record::VERSION.into();
                return Err(StoreError::Newer { path, found: v.into(), known });
            }
            Err(ScanError::Invalid(what)) => {
                if is_last && !segment::acknowledged_behind(&*file, number, at, len).map_err(io)? {
                    // A message whose content was torn belongs to the tail, too.
                    one.torn = len - at;
                    return Ok(one);
                }
                let mut next = None;
                segment::each_header_behind(&*file, number, at, len, &mut |found, header| {
                    let whole = found + header.total() <= len;
                    next = whole.then_some(found);
                    !whole
                })
                .map_err(io)?;
                let what = format!("{what}; the record that stood here is lost");
                one.damage.push(damage(at, &what, false));
                one.bytes_lost += next.unwrap_or(len) - at;
                match next {
                    Some(next) => scanner.at = next,
                    None => return Ok(one),
                }
            }
        }
    }
}

/// Copies a damaged segment beside its place, durably; copies of earlier damage stay.
fn keep_copy(disk: &dyn Disk, from: &dyn File, to: &Path) -> Result<(), StoreError> {
    const AT_ONCE: usize = 1 << 20;
    let mut earlier = 0;
    let file = loop {
        let name = if earlier == 0 { to.to_owned() } else { to.with_extension(format!("damaged-{earlier}")) };
        match disk.create_new(&name) {
            Ok(file) => break file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => earlier += 1,
            Err(e) => return Err(StoreError::io("create", &name, e)),
        }
    };
    let copy = || {
        let mut buf = vec![0; AT_ONCE];
        let mut at = 0;
        loop {
            match from.read_at(&mut buf, at)? {
                0 => return file.sync_data(),
                n => {
                    file.write_all_at(&buf[..n], at)?;
                    at += n as u64;
                }
            }
        }
    };
    copy().map_err(|e| StoreError::io("write", to, e))
}

/// Writes what is readable of a segment in its place. Returns the event it ends with and how many are lost.
fn rewrite(
    disk: &dyn Disk,
    journal: &Path,
    one: &Inspected,
    header: &SegmentHeader,
    ends: Option<u64>,
) -> Result<(u64, u64), StoreError> {
    let mut bytes = header.encode().to_vec();
    let (mut next, mut lost) = (header.next_seq, 0);
    let mut fill = |bytes: &mut Vec<u8>, next: &mut u64, to: u64| {
        while *next < to {
            let count = (to - *next).min(u64::from(u32::MAX));
            let record = Header { event_count: count as u32, first_seq: *next, ..Header::new(Kind::Lost) };
            bytes.extend_from_slice(&record.encode(header.number));
            *next += count;
            lost += count;
        }
    };
    for (at, record) in &one.records {
        // Numbers that go back can't be what was written here.
        if record.first_seq < next {
            continue;
        }
        let Some(file) = &one.file else { break };
        fill(&mut bytes, &mut next, record.first_seq);
        // All this was durable: a damaged content among it is not to be taken for the torn tail of a last commit, with
        // which everything behind it would go.
        bytes.extend_from_slice(&Header { synced_to: bytes.len() as u32, ..*record }.encode(header.number));
        let from = bytes.len();
        bytes.resize(from + record.total() as usize - HEADER, 0);
        file.read_exact_at(&mut bytes[from..], at + HEADER as u64).map_err(|e| StoreError::io("read", &one.path, e))?;
        next += u64::from(record.event_count);
    }
    let to = ends.unwrap_or(next);
    fill(&mut bytes, &mut next, to);
    bytes.extend_from_slice(&segment::seal(header.number, next, header.next_message, bytes.len() as u64, 0));

    let new = journal.join(format!("{}repaired", segment::SPARE_PREFIX));
    if disk.open_read(&new).is_ok() {
        disk.remove(&new).map_err(|e| StoreError::io("remove", &new, e))?;
    }
    let file = disk.create_new(&new).map_err(|e| StoreError::io("create", &new, e))?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_data()).map_err(|e| StoreError::io("write", &new, e))?;
    if let Some(damaged) = &one.file {
        keep_copy(disk, &**damaged, &set_aside(&one.path))?;
    }
    // One step from the damaged segment to the repaired one: between them there must be no moment without either, or a
    // store whose newest segment was repaired would open as if that had never been.
    disk.rename(&new, &one.path).map_err(|e| StoreError::io("rename", &new, e))?;
    disk.sync_dir(journal).map_err(|e| StoreError::io("sync", journal, e))?;
    Ok((next, lost))
}
