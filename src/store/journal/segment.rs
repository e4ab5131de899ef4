//! A segment: one file of the journal, and how it is read.
//!
//! ```text
//!  0 magic          8     "CaromJnl"
//!  8 version        u32
//! 12 -              u32
//! 16 store          u64   the store's random id
//! 24 number         u64   of this segment, from 1, without gaps
//! 32 oldest         u64   number of the oldest segment that was kept when this one was begun
//! 40 next event     u64   sequence number of the first event in this segment
//! 48 next message   u64   ids below may have been given
//! 56 trim mark      u64   events below are not kept
//! 64 begun          i64   microseconds since 1970
//! 72 header CRC     u32   CRC-32C of the 72 bytes above
//! 76 records
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, HEADER, Header, HeaderError, Kind};
use crate::disk::File;
use crate::event::{StoreId, Time};
use crate::store::StoreError;

/// Bytes of a segment's header; where its first record stands.
pub(crate) const SEGMENT_HEADER: u64 = 76;
/// The newest segment layout this program writes and reads.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"CaromJnl";
/// A file on its way to become a segment; removed at open.
pub(crate) const SPARE_PREFIX: &str = "spare-";

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub store: StoreId,
    pub number: u64,
    pub oldest: u64,
    pub next_seq: u64,
    pub next_message: u64,
    pub trim: u64,
    pub begun: Time,
}

/// Why a segment's header can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SegmentError {
    Invalid,
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut h = [0; SEGMENT_HEADER as usize];
        h[..8].copy_from_slice(&MAGIC);
        h[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let words = [self.store.0, self.number, self.oldest, self.next_seq, self.next_message, self.trim];
        for (i, w) in words.into_iter().enumerate() {
            h[16 + 8 * i..24 + 8 * i].copy_from_slice(&w.to_le_bytes());
        }
        h[64..72].copy_from_slice(&self.begun.0.to_le_bytes());
        let crc = crc32c::crc32c(&h[..72]);
        h[72..].copy_from_slice(&crc.to_le_bytes());
        h
    }

    pub(crate) fn decode(h: &[u8; SEGMENT_HEADER as usize]) -> Result<SegmentHeader, SegmentError> {
        let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if h[..8] != MAGIC || u32_at(72) != crc32c::crc32c(&h[..72]) {
            return Err(SegmentError::Invalid);
        }
        if u32_at(8) > VERSION {
            return Err(SegmentError::Newer(u32_at(8)));
        }
        Ok(SegmentHeader {
            store: StoreId(u64_at(16)),
            number: u64_at(24),
            oldest: u64_at(32),
            next_seq: u64_at(40),
            next_message: u64_at(48),
            trim: u64_at(56),
            begun: Time(u64_at(64) as i64),
        })
    }

    /// Reads the header of an open segment.
    pub(crate) fn read(file: &dyn File, path: &Path) -> Result<Result<SegmentHeader, SegmentError>, StoreError> {
        let mut h = [0; SEGMENT_HEADER as usize];
        match file.read_exact_at(&mut h, 0) {
            Ok(()) => Ok(SegmentHeader::decode(&h)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Err(SegmentError::Invalid)),
            Err(e) => Err(StoreError::io("read", path, e)),
        }
    }
}

/// Path of segment `number` in the journal's folder.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// The number in a segment's file name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|n| n.len() == 10)?.parse().ok().filter(|n| *n > 0)
}

/// Reads a segment's records one after the other, hopping over bodies without reading them.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    number: u64,
    len: u64,
    /// Where the next record begins.
    pub(crate) at: u64,
    buf: Vec<u8>,
    /// Where `buf` begins in the file.
    buf_at: u64,
}

/// One record, as [`Scanner::next`] gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub header: Header,
    pub meta: &'a [u8],
    pub events: &'a [u8],
}

/// Why the next record can't be had.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(std::io::Error),
    /// No record begins here, or its meta does not match its checksum.
    Invalid(&'static str),
    Newer(u8),
}

/// A window that holds a usual record's header, meta and events; more is read when records are small and dense.
const SPARSE: usize = 2 << 10;
const DENSE: usize = 128 << 10;

impl Scanner {
    /// Begins at `at`, which must be where a record begins.
    pub(crate) fn new(file: Arc<dyn File>, number: u64, len: u64, at: u64) -> Scanner {
        Scanner { file, number, len, at, buf: Vec::new(), buf_at: 0 }
    }

    /// Bytes of the segment that may be read.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Forgets what was read ahead: the end of the segment may have been written since.
    pub(crate) fn refresh(&mut self, len: u64) {
        self.len = len;
        self.buf.clear();
    }

    fn fill(&mut self, at: u64, need: usize) -> Result<bool, ScanError> {
        let have = self.buf_at + self.buf.len() as u64;
        if at >= self.buf_at && at + need as u64 <= have {
            return Ok(true);
        }
        if at + need as u64 > self.len {
            return Ok(false);
        }
        // Just behind what was read: records are dense, so read far ahead; behind a gap: they have bodies.
        let dense = at >= self.buf_at && at <= have;
        let want = need.max(if dense { DENSE } else { SPARSE }).min((self.len - at) as usize);
        self.buf.resize(want, 0);
        self.buf_at = at;
        let mut read = 0;
        while read < want {
            match self.file.read_at(&mut self.buf[read..], at + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) => {
                    self.buf.clear();
                    return Err(ScanError::Io(e));
                }
            }
        }
        self.buf.truncate(read);
        Ok(read >= need)
    }

    /// The record that begins at `at`; moves behind it.
    pub(crate) fn next(&mut self) -> Result<Record<'_>, ScanError> {
        let at = self.at;
        if !self.fill(at, HEADER)? {
            return Err(ScanError::Invalid("the file ends"));
        }
        let from = (at - self.buf_at) as usize;
        let head = self.buf[from..].first_chunk::<HEADER>().ok_or(ScanError::Invalid("the file ends"))?;
        let header = Header::decode(head, self.number).map_err(|e| match e {
            HeaderError::Invalid => ScanError::Invalid("no valid record header"),
            HeaderError::Newer(v) => ScanError::Newer(v),
        })?;
        if at + header.total() > self.len {
            return Err(ScanError::Invalid("the record goes beyond the end of the file"));
        }
        let payload = header.payload_len() as usize;
        if !self.fill(at, HEADER + payload)? {
            return Err(ScanError::Invalid("the file ends within a record"));
        }
        let from = (at - self.buf_at) as usize + HEADER;
        let bytes = &self.buf[from..from + payload];
        if crc32c::crc32c(bytes) != header.payload_crc {
            return Err(ScanError::Invalid("recipients or events do not match their checksum"));
        }
        self.at = at + header.total();
        let (meta, events) = bytes.split_at(header.meta_len as usize);
        Ok(Record { header, meta, events })
    }
}

/// Whether the body of the record at `at` matches its checksum.
pub(crate) fn body_is_whole(file: &dyn File, at: u64, header: &Header) -> std::io::Result<bool> {
    let mut crc = 0;
    let mut buf = vec![0; (header.body_len as usize).min(1 << 20)];
    let mut pos = at + HEADER as u64 + header.payload_len();
    let mut left = header.body_len as usize;
    while left > 0 {
        let n = left.min(buf.len());
        match file.read_exact_at(&mut buf[..n], pos) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        crc = crc32c::crc32c_append(crc, &buf[..n]);
        pos += n as u64;
        left -= n;
    }
    Ok(crc == header.body_crc)
}

/// Looks behind `at` for a record that was made when the segment was already durable beyond `at`: if there is one, what
/// stands at `at` was synced once and has been damaged since; if not, `at` is the torn tail of what was never acknowledged.
pub(crate) fn acknowledged_behind(file: &dyn File, number: u64, at: u64, len: u64) -> std::io::Result<bool> {
    let mut found = false;
    each_header_behind(file, number, at, len, &mut |_, header| {
        found = u64::from(header.synced_to) > at;
        !found
    })?;
    Ok(found)
}

/// Calls `f` with each valid record header behind `at`, wherever it stands, until it returns `false`.
pub(crate) fn each_header_behind(
    file: &dyn File,
    number: u64,
    at: u64,
    len: u64,
    f: &mut dyn FnMut(u64, Header) -> bool,
) -> std::io::Result<()> {
    const WINDOW: usize = 1 << 20;
    let mut buf = vec![0; WINDOW + HEADER];
    let mut pos = at + 1;
    while pos < len {
        let want = ((len - pos) as usize).min(buf.len());
        let mut read = 0;
        while read < want {
            match file.read_at(&mut buf[read..want], pos + read as u64)? {
                0 => break,
                n => read += n,
            }
        }
        for found in memchr::memmem::find_iter(&buf[..read], &record::MARK) {
            let Some(begin) = found.checked_sub(2).filter(|b| *b < WINDOW) else { continue };
            let Some(head) = buf[begin..read].first_chunk::<HEADER>() else { continue };
            if let Ok(header) = Header::decode(head, number)
                && !f(pos + begin as u64, header)
            {
                return Ok(());
            }
        }
        if read < want || want < buf.len() {
            break;
        }
        pos += WINDOW as u64;
    }
    Ok(())
}

/// A record that ends a segment.
pub(crate) fn seal(number: u64, next_seq: u64, next_message: u64, synced_to: u64, flags: u32) -> [u8; HEADER] {
    Header {
        first_seq: next_seq,
        message: next_message,
        synced_to: u32::try_from(synced_to).unwrap_or(u32::MAX),
        flags,
        ..Header::new(Kind::Seal)
    }
    .encode(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_comes_back_and_a_flipped_bit_is_seen() {
        let h = SegmentHeader {
            store: StoreId(1),
            number: 2,
            oldest: 3,
            next_seq: 4,
            next_message: 5,
            trim: 6,
            begun: Time(-7),
        };
        let mut bytes = h.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(h));
        bytes[30] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), Err(SegmentError::Invalid));
    }

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(path(Path::new("j"), 12), Path::new("j/0000000012.log"));
        assert_eq!(number_of("0000000012.log"), Some(12));
        for other in ["12.log", "spare-1", "0000000000.log", "000000000x.log"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
