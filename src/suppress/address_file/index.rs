#![expect(clippy::disallowed_types, reason = "edge: reads the index file")]
//! The keys of an address file, to be looked up: in memory, or in an index file with filters in front.
//!
//! The index file: a page that says what it is and of which state of which file, the keys in order, then what is kept in
//! memory of it: for each beginning of a key where those that begin so stand ("fences"), and 256 binary fuse filters, one
//! for each first byte. A look-up asks the filter, which is wrong once in 256 times, and reads the keys between two fences,
//! about a hundred, in one read. All numbers are little-endian. The page and what is behind the keys have checksums.
//!
//! It can be made again from the address file at any time: what does not fit exactly is no index.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xorf::{BinaryFuse8, Descriptor, Filter};

use super::line::Subject;
use super::source::Identity;
use crate::event::AddressKey;
use crate::suppress::key::{Hasher, SubjectKey};

/// A key.
pub(super) type Key = [u8; 16];
/// Keys between two fences, about.
const PER_FENCE: u64 = 100;
/// Bytes of the page in front.
pub(super) const PAGE: usize = 4096;
/// First bytes of every index file; the last one is the version.
const MAGIC: &[u8; 8] = b"CaromAI\x01";
/// Filters.
pub(super) const SHARDS: usize = 256;
/// Keys read at once when many share a beginning, which no list of hashes should have.
const MOST_AT_ONCE: u64 = 65_536;
/// Bad lines that are remembered with their reasons.
pub const BAD_LINES: usize = 5;

/// What was found in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Different entries.
    pub entries: u64,
    /// Lines that say nothing that could be understood.
    pub bad: u64,
    /// The first of these: number and reason.
    pub first_bad: Vec<(u64, String)>,
    /// Bits of [`Subject`]: which kinds of entries there are.
    pub(super) subjects: u8,
}

/// Why a file is no index, or none of this address file.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The disk.
    #[error("the index can't be read: {0}")]
    Io(#[from] io::Error),
    /// Not one of ours, or damaged.
    #[error("the index is damaged")]
    Damaged,
    /// The address file has changed since, or the keys are made otherwise.
    #[error("the index is of another file")]
    Other,
}

/// The keys of one address file.
#[derive(Debug)]
pub struct Index {
    /// What was found.
    pub facts: Facts,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    /// In order.
    Memory(Box<[Key]>),
    Disk(OnDisk),
}

#[derive(Debug)]
struct OnDisk {
    file: File,
    tail: Tail,
}

/// What is kept in memory of an index file.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Bits of the beginning of a key that choose its fence.
    bits: u32,
    /// The first key with each beginning, and the number of all; so one more than there are beginnings.
    fences: Vec<u32>,
    pub(super) filters: Vec<Shard>,
}

/// What stands in front of the keys with one first byte.
#[derive(Debug)]
pub(super) enum Shard {
    Empty,
    Filter(BinaryFuse8),
    /// No filter could be made: all are looked for.
    Unknown,
}

impl Index {
    /// Of these keys, in any order.
    pub(super) fn in_memory(mut keys: Vec<Key>, mut facts: Facts) -> Index {
        keys.sort_unstable();
        keys.dedup();
        facts.entries = keys.len() as u64;
        Index { facts, keys: Keys::Memory(keys.into()) }
    }

    /// Opens the index file at `path`, if it is that of an address file in state `of`; `None` takes it whatever its state
    /// was, for when the address file has gone.
    pub fn open(path: &Path, of: Option<&Identity>, hasher: &Hasher) -> Result<Index, IndexError> {
        let mut file = File::open(path)?;
        let mut page = vec![0; PAGE];
        file.read_exact(&mut page)?;
        let (said, sum) = page.split_at(PAGE - 4);
        if crc32c::crc32c(said).to_le_bytes() != sum {
            return Err(IndexError::Damaged);
        }
        let mut said = said;
        let fits = take(&mut said, 8)? == MAGIC;
        let identity = take(&mut said, 40)?;
        let probe = take(&mut said, 16)?;
        if !fits || of.is_some_and(|of| of.bytes() != identity) || probe != probe_of(hasher) {
            return Err(IndexError::Other);
        }
        let mut facts = Facts { entries: number(&mut said)?, bad: number(&mut said)?, ..Facts::default() };
        facts.subjects = take(&mut said, 1)?[0];
        let (tail_len, tail_sum) = (number(&mut said)?, number(&mut said)?);
        for _ in 0..take(&mut said, 1)?[0] {
            let line = number(&mut said)?;
            let len = take(&mut said, 1)?[0];
            facts.first_bad.push((line, String::from_utf8_lossy(take(&mut said, len.into())?).into_owned()));
        }
        let tail_at = facts.entries.checked_mul(16).and_then(|len| len.checked_add(PAGE as u64));
        let tail_at = tail_at.ok_or(IndexError::Damaged)?;
        if tail_at.checked_add(tail_len) != Some(file.metadata()?.len()) {
            return Err(IndexError::Damaged);
        }
        let mut tail = vec![0; usize::try_from(tail_len).map_err(|_| IndexError::Damaged)?];
        file.read_exact_at(&mut tail, tail_at)?;
        if u64::from(crc32c::crc32c(&tail)) != tail_sum {
            return Err(IndexError::Damaged);
        }
        let tail = Tail::decode(&tail, facts.entries)?;
        Ok(Index { facts, keys: Keys::Disk(OnDisk { file, tail }) })
    }

    /// Whether this address is in the file: itself, its local part alone, or its domain. `Err` when the disk fails.
    pub fn has(&self, address: &AddressKey, hasher: &Hasher) -> io::Result<bool> {
        let holds = |subject: Subject| self.facts.subjects & subject.bit() != 0;
        if holds(Subject::Address) && self.contains(&hasher.address(address))? {
            return Ok(true);
        }
        if holds(Subject::Domain) && self.contains(&hasher.domain(address.domain()))? {
            return Ok(true);
        }
        let local = &address.as_str()[..address.as_str().rfind('@').map_or(0, |at| at + 1)];
        Ok(holds(Subject::Local) && self.contains(&hasher.subject(local))?)
    }

    fn contains(&self, key: &SubjectKey) -> io::Result<bool> {
        match &self.keys {
            Keys::Memory(keys) => Ok(keys.binary_search(&key.0).is_ok()),
            Keys::Disk(index) => index.contains(&key.0),
        }
    }

    /// Whether its keys are in an index file.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.keys, Keys::Disk(_))
    }

    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        match &self.keys {
            Keys::Memory(keys) => keys.len() * 16,
            Keys::Disk(index) => index.tail.memory(),
        }
    }
}

impl OnDisk {
    fn contains(&self, key: &Key) -> io::Result<bool> {
        match self.tail.filters.get(usize::from(key[0])) {
            None | Some(Shard::Empty) => return Ok(false),
            Some(Shard::Filter(filter)) if !filter.contains(&fingerprint(key)) => return Ok(false),
            Some(Shard::Filter(_) | Shard::Unknown) => {}
        }
        let (mut from, mut to) = self.tail.range(key);
        let mut room = [0; 4096];
        // Few by far, unless somebody chose addresses for their hashes: then the middle is looked at until few are left.
        while to - from > MOST_AT_ONCE {
            let middle = from + (to - from) / 2;
            let mut found = [0; 16];
            self.file.read_exact_at(&mut found, PAGE as u64 + middle * 16)?;
            if found <= *key { from = middle } else { to = middle }
        }
        let len = ((to - from) * 16) as usize;
        let mut more = Vec::new();
        let bytes = match room.get_mut(..len) {
            Some(bytes) => bytes,
            None => {
                more.resize(len, 0);
                &mut more
            }
        };
        self.file.read_exact_at(bytes, PAGE as u64 + from * 16)?;
        Ok(bytes.as_chunks::<16>().0.binary_search(key).is_ok())
    }
}

impl Tail {
    /// For so many keys; the fences are set by [`Tail::count`], the filters are put by who builds it.
    pub(super) fn for_keys(keys: u64) -> Tail {
        let bits = (keys / PER_FENCE).max(1).ilog2().clamp(8, 24);
        Tail { bits, fences: vec![0; (1 << bits) + 1], filters: Vec::with_capacity(SHARDS) }
    }

    /// Counts these keys, the next ones in order.
    pub(super) fn count(&mut self, keys: &[Key]) {
        for key in keys {
            let place = self.beginning(key) + 1;
            self.fences[place] += 1;
        }
    }

    /// All keys have been counted.
    pub(super) fn sum_up(&mut self) {
        let mut sum = 0;
        for fence in &mut self.fences {
            sum += *fence;
            *fence = sum;
        }
    }

    fn beginning(&self, key: &Key) -> usize {
        let first = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
        (first >> (32 - self.bits)) as usize
    }

    /// Between which keys it stands, if it is there.
    fn range(&self, key: &Key) -> (u64, u64) {
        let place = self.beginning(key);
        let fence = |n: usize| self.fences.get(n).copied().unwrap_or(0).into();
        (fence(place), fence(place + 1))
    }

    fn memory(&self) -> usize {
        let filter = |shard: &Shard| if let Shard::Filter(filter) = shard { filter.len() } else { 0 };
        self.fences.len() * 4 + self.filters.iter().map(filter).sum::<usize>()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.memory() + SHARDS * 32);
        out.extend_from_slice(&self.bits.to_le_bytes());
        self.fences.iter().for_each(|fence| out.extend_from_slice(&fence.to_le_bytes()));
        for shard in &self.filters {
            match shard {
                Shard::Empty => out.push(0),
                Shard::Unknown => out.push(2),
                Shard::Filter(filter) => {
                    let d = &filter.descriptor;
                    out.push(1);
                    out.extend_from_slice(&d.seed.to_le_bytes());
                    for n in [d.segment_length, d.segment_length_mask, d.segment_count_length] {
                        out.extend_from_slice(&n.to_le_bytes());
                    }
                    out.extend_from_slice(&(filter.fingerprints.len() as u32).to_le_bytes());
                    out.extend_from_slice(&filter.fingerprints);
                }
            }
        }
        out
    }

    fn decode(mut bytes: &[u8], keys: u64) -> Result<Tail, IndexError> {
        let bits = short(&mut bytes)?;
        if !(8..=24).contains(&bits) {
            return Err(IndexError::Damaged);
        }
        let fences = take(&mut bytes, ((1 << bits) + 1) * 4)?;
        let fences: Vec<u32> = fences.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        if !fences.is_sorted() || fences.last().map(|n| u64::from(*n)) != Some(keys) {
            return Err(IndexError::Damaged);
        }
        let mut filters = Vec::with_capacity(SHARDS);
        for _ in 0..SHARDS {
            filters.push(match take(&mut bytes, 1)?[0] {
                0 => Shard::Empty,
                2 => Shard::Unknown,
                _ => {
                    let descriptor = Descriptor {
                        seed: number(&mut bytes)?,
                        segment_length: short(&mut bytes)?,
                        segment_length_mask: short(&mut bytes)?,
                        segment_count_length: short(&mut bytes)?,
                    };
                    let len = short(&mut bytes)? as usize;
                    // As it is built: one that does not fit would be read behind its end.
                    let reach = u64::from(descriptor.segment_count_length) + 2 * u64::from(descriptor.segment_length);
                    let mask = descriptor.segment_length.wrapping_sub(1);
                    if reach > len as u64 || descriptor.segment_length_mask != mask {
                        return Err(IndexError::Damaged);
                    }
                    Shard::Filter(BinaryFuse8 { descriptor, fingerprints: take(&mut bytes, len)?.into() })
                }
            });
        }
        if bytes.is_empty() { Ok(Tail { bits, fences, filters }) } else { Err(IndexError::Damaged) }
    }
}

/// The page in front of an index file.
pub(super) fn page(of: &Identity, hasher: &Hasher, facts: &Facts, tail: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(MAGIC);
    page.extend_from_slice(&of.bytes());
    page.extend_from_slice(&probe_of(hasher));
    page.extend_from_slice(&facts.entries.to_le_bytes());
    page.extend_from_slice(&facts.bad.to_le_bytes());
    page.push(facts.subjects);
    page.extend_from_slice(&(tail.len() as u64).to_le_bytes());
    page.extend_from_slice(&u64::from(crc32c::crc32c(tail)).to_le_bytes());
    let bad = &facts.first_bad[..facts.first_bad.len().min(BAD_LINES)];
    page.push(bad.len() as u8);
    for (line, why) in bad {
        let why = &why[..why.floor_char_boundary(255)];
        page.extend_from_slice(&line.to_le_bytes());
        page.push(why.len() as u8);
        page.extend_from_slice(why.as_bytes());
    }
    page.resize(PAGE - 4, 0);
    page.extend_from_slice(&crc32c::crc32c(&page).to_le_bytes());
    page
}

/// What a filter knows of a key.
pub(super) fn fingerprint(key: &Key) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[8..]);
    u64::from_le_bytes(bytes)
}

/// Two hashers that make the same of this make the same of everything.
fn probe_of(hasher: &Hasher) -> Key {
    hasher.subject("a text that is no subject").0
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], IndexError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(IndexError::Damaged)?;
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8]) -> Result<u64, IndexError> {
    Ok(u64::from_le_bytes(take(bytes, 8)?.try_into().map_err(|_| IndexError::Damaged)?))
}

fn short(bytes: &mut &[u8]) -> Result<u32, IndexError> {
    Ok(u32::from_le_bytes(take(bytes, 4)?.try_into().map_err(|_| IndexError::Damaged)?))
}
