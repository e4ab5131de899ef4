//! One record of the journal: what one operation leaves on disk.
//!
//! ```text
//!  0 kind            u8    Accept, Retry, Finish, Events, Seal, Moved, Lost
//!  1 version         u8    of this layout
//!  2 mark            2     "CJ"
//!  4 meta length     u32   recipients, states, envelopes
//!  8 events length   u32   as `event::Events` encodes them
//! 12 event count     u32
//! 16 body length     u32   contents of the messages, one after the other
//! 20 payload CRC     u32   CRC-32C of meta and events
//! 24 body CRC        u32   CRC-32C of the body
//! 28 synced to       u32   the segment was known to be durable up to here when this record was made
//! 32 first event     u64   sequence number of the first event (without events: of the next one)
//! 40 rules           u64   rule set the events are stamped with
//! 48 message         u64   Accept, Retry, Moved: the message; Seal: the next message id
//! 56 flags           u32
//! 60 header CRC      u32   CRC-32C of the segment number (u64) and the 60 bytes above
//! 64 meta, events, body
//! ```
//!
//! All numbers are little-endian. The segment number in the header CRC makes a record that stands in the wrong segment
//! invalid. `synced to` tells a torn tail (nothing behind it was ever acknowledged) from damage (something was).

use crate::event::MessageId;
use crate::event::Time;
use crate::event::leb128::{put_number, take_number};
use crate::store::envelope;
use crate::store::message::{Message, RcptState};

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 64;
/// The newest record layout this program writes and reads.
pub(crate) const VERSION: u8 = 1;
/// What one record may take on disk, header included.
pub(crate) const MAX_RECORD: u64 = 64 << 20;
/// Seal: the store was closed in good order.
pub(crate) const CLEAN: u32 = 1;
/// The two bytes that a search for records behind a damaged one looks for, at offset 2 of a header.
pub(crate) const MARK: [u8; 2] = *b"CJ";

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message and its `r` events.
    Accept = 1,
    /// New states of some recipients and their `t` events.
    Retry = 2,
    /// Recipients that end, the events they end with, the messages this causes.
    Finish = 3,
    /// Events alone.
    Events = 4,
    /// The end of the segment.
    Seal = 5,
    /// A message written again, with the states its recipients have now.
    Moved = 6,
    /// Stands for events that damage has taken: `event count` of them, without bytes. Written by repair only.
    Lost = 7,
}

impl Kind {
    fn from_number(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Accept,
            2 => Kind::Retry,
            3 => Kind::Finish,
            4 => Kind::Events,
            5 => Kind::Seal,
            6 => Kind::Moved,
            7 => Kind::Lost,
            _ => return None,
        })
    }
}

/// The fixed part in front of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    pub meta_len: u32,
    pub events_len: u32,
    pub event_count: u32,
    pub body_len: u32,
    pub payload_crc: u32,
    pub body_crc: u32,
    pub synced_to: u32,
    pub first_seq: u64,
    pub rules: u64,
    pub message: u64,
    pub flags: u32,
}

/// Why 64 bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("no valid record header")]
    Invalid,
    #[error("record version {0}")]
    Newer(u8),
}

impl Header {
    /// A record of this kind with nothing in it.
    pub(crate) fn new(kind: Kind) -> Header {
        Header {
            kind,
            meta_len: 0,
            events_len: 0,
            event_count: 0,
            body_len: 0,
            payload_crc: 0,
            body_crc: 0,
            synced_to: 0,
            first_seq: 0,
            rules: 0,
            message: 0,
            flags: 0,
        }
    }

    /// Bytes of the whole record.
    pub(crate) fn total(&self) -> u64 {
        HEADER as u64 + self.payload_len() + u64::from(self.body_len)
    }

    /// Bytes of meta and events.
    pub(crate) fn payload_len(&self) -> u64 {
        u64::from(self.meta_len) + u64::from(self.events_len)
    }

    pub(crate) fn encode(&self, segment: u64) -> [u8; HEADER] {
        let mut h = [0; HEADER];
        h[0] = self.kind as u8;
        h[1] = VERSION;
        h[2..4].copy_from_slice(&MARK);
        let words = [
            self.meta_len,
            self.events_len,
            self.event_count,
            self.body_len,
            self.payload_crc,
            self.body_crc,
            self.synced_to,
        ];
        for (i, w) in words.into_iter().enumerate() {
            h[4 + 4 * i..8 + 4 * i].copy_from_slice(&w.to_le_bytes());
        }
        for (i, w) in [self.first_seq, self.rules, self.message].into_iter().enumerate() {
            h[32 + 8 * i..40 + 8 * i].copy_from_slice(&w.to_le_bytes());
        }
        h[56..60].copy_from_slice(&self.flags.to_le_bytes());
        let crc = header_crc(&h, segment);
        h[60..64].copy_from_slice(&crc.to_le_bytes());
        h
    }

    pub(crate) fn decode(h: &[u8; HEADER], segment: u64) -> Result<Header, HeaderError> {
        let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if h[2..4] != MARK || u32_at(60) != header_crc(h, segment) {
            return Err(HeaderError::Invalid);
        }
        if h[1] > VERSION {
            return Err(HeaderError::Newer(h[1]));
        }
        let header = Header {
            kind: Kind::from_number(h[0]).ok_or(HeaderError::Invalid)?,
            meta_len: u32_at(4),
            events_len: u32_at(8),
            event_count: u32_at(12),
            body_len: u32_at(16),
            payload_crc: u32_at(20),
            body_crc: u32_at(24),
            synced_to: u32_at(28),
            first_seq: u64_at(32),
            rules: u64_at(40),
            message: u64_at(48),
            flags: u32_at(56),
        };
        if header.total() > MAX_RECORD { Err(HeaderError::Invalid) } else { Ok(header) }
    }
}

fn header_crc(h: &[u8; HEADER], segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), &h[..60])
}

/// A message as it stands in a record's meta: this prefix, then `envelope_len` bytes of envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub id: MessageId,
    pub body_len: u32,
    pub body_crc: u32,
    pub rcpts: u16,
    pub envelope_len: u32,
}

impl Block {
    const LEN: usize = 22;

    /// Appends the block of `message`, whose content has this CRC.
    pub(crate) fn put(out: &mut Vec<u8>, message: &Message, body_crc: u32) {
        let start = out.len();
        out.extend_from_slice(&message.envelope.id.0.to_le_bytes());
        out.extend_from_slice(&(message.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body_crc.to_le_bytes());
        out.extend_from_slice(&(message.envelope.rcpts.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        envelope::encode(out, &message.envelope);
        let len = (out.len() - start - Block::LEN) as u32;
        out[start + 18..start + 22].copy_from_slice(&len.to_le_bytes());
    }

    /// Takes a block and its envelope's bytes off the front.
    pub(crate) fn take<'a>(bytes: &mut &'a [u8]) -> Option<(Block, &'a [u8])> {
        let (p, rest) = bytes.split_first_chunk::<{ Block::LEN }>()?;
        let block = Block {
            id: MessageId(u64::from_le_bytes(p[0..8].try_into().ok()?)),
            body_len: u32::from_le_bytes(p[8..12].try_into().ok()?),
            body_crc: u32::from_le_bytes(p[12..16].try_into().ok()?),
            rcpts: u16::from_le_bytes(p[16..18].try_into().ok()?),
            envelope_len: u32::from_le_bytes(p[18..22].try_into().ok()?),
        };
        let (envelope, rest) = rest.split_at_checked(block.envelope_len as usize)?;
        *bytes = rest;
        Some((block, envelope))
    }
}

/// What a record says about messages.
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    /// Finish: who ends.
    pub done: Vec<(MessageId, u16)>,
    /// Retry, Moved: how recipients stand.
    pub states: Vec<RcptState>,
    /// Accept, Finish, Moved: the messages it brings.
    pub messages: Vec<Brought<'a>>,
}

/// A message in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought<'a> {
    pub block: Block,
    pub envelope: &'a [u8],
    /// Block and envelope together, as they stand.
    pub raw: &'a [u8],
    /// Where its content begins, counted from the beginning of the record.
    pub body_at: u64,
}

impl<'a> Contents<'a> {
    /// Takes a record's meta apart; `None` when it is not what its kind should have.
    pub(crate) fn parse(header: &Header, mut meta: &'a [u8]) -> Option<Contents<'a>> {
        let m = &mut meta;
        let mut contents = Contents::default();
        let mut body_at = HEADER as u64 + header.payload_len();
        let mut brought = |m: &mut &'a [u8]| {
            let before = *m;
            let (block, envelope) = Block::take(m)?;
            let raw = &before[..before.len() - m.len()];
            let one = Brought { block, envelope, raw, body_at };
            body_at += u64::from(block.body_len);
            (body_at <= header.total()).then_some(one)
        };
        match header.kind {
            Kind::Accept => contents.messages.push(brought(m)?),
            Kind::Moved => {
                contents.states = take_states(m)?;
                contents.messages.push(brought(m)?);
            }
            Kind::Retry => contents.states = take_states(m)?,
            Kind::Finish => {
                contents.done = take_done(m)?;
                for _ in 0..take_number(m)? {
                    contents.messages.push(brought(m)?);
                }
            }
            Kind::Events | Kind::Seal | Kind::Lost => {}
        }
        m.is_empty().then_some(contents)
    }
}

/// Appends recipients' states, as Retry and Moved carry them.
pub(crate) fn put_states(out: &mut Vec<u8>, states: &[RcptState]) {
    put_number(out, states.len() as u64);
    for s in states {
        out.extend_from_slice(&s.index.to_le_bytes());
        out.extend_from_slice(&s.attempts.to_le_bytes());
        out.extend_from_slice(&s.not_before.0.to_le_bytes());
        out.push(u8::from(s.in_doubt));
    }
}

/// Reads what [`put_states`] wrote.
pub(crate) fn take_states(bytes: &mut &[u8]) -> Option<Vec<RcptState>> {
    let count = usize::try_from(take_number(bytes)?).ok()?;
    if count > bytes.len() / 13 {
        return None;
    }
    let mut states = Vec::with_capacity(count);
    for _ in 0..count {
        let (s, rest) = bytes.split_first_chunk::<13>()?;
        *bytes = rest;
        states.push(RcptState {
            index: u16::from_le_bytes([s[0], s[1]]),
            attempts: u16::from_le_bytes([s[2], s[3]]),
            not_before: Time(i64::from_le_bytes(s[4..12].try_into().ok()?)),
            in_doubt: s[12] != 0,
        });
    }
    Some(states)
}

/// Appends the recipients that end, as Finish carries them in front of its message blocks.
pub(crate) fn put_done(out: &mut Vec<u8>, done: &[(MessageId, u16)]) {
    put_number(out, done.len() as u64);
    for (message, rcpt) in done {
        put_number(out, message.0);
        put_number(out, u64::from(*rcpt));
    }
}

/// Reads what [`put_done`] wrote.
pub(crate) fn take_done(bytes: &mut &[u8]) -> Option<Vec<(MessageId, u16)>> {
    let count = usize::try_from(take_number(bytes)?).ok()?;
    if count > bytes.len() / 2 {
        return None;
    }
    let mut done = Vec::with_capacity(count);
    for _ in 0..count {
        done.push((MessageId(take_number(bytes)?), u16::try_from(take_number(bytes)?).ok()?));
    }
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back_only_in_its_own_segment(n: [u32; 8], q: [u64; 3], kind in 1u8..8, segment: u64, bit in 0usize..512) {
            let h = Header {
                kind: Kind::from_number(kind).unwrap(), meta_len: n[0] >> 8, events_len: n[1] >> 8, event_count: n[2], body_len: n[3] >> 8,
                payload_crc: n[4], body_crc: n[5], synced_to: n[6], first_seq: q[0], rules: q[1], message: q[2], flags: n[7],
            };
            let mut bytes = h.encode(segment);
            prop_assert_eq!(Header::decode(&bytes, segment), Ok(h));
            prop_assert_eq!(Header::decode(&bytes, segment ^ 1), Err(HeaderError::Invalid));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes, segment).is_err());
        }

        #[test]
        fn no_bytes_make_the_parts_of_a_record_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Block::take(&mut &bytes[..]);
            let _ = take_states(&mut &bytes[..]);
            let _ = take_done(&mut &bytes[..]);
        }

        #[test]
        fn states_and_endings_come_back(n in prop::collection::vec((any::<u16>(), any::<u16>(), any::<i64>(), any::<bool>()), 0..9)) {
            let states: Vec<_> = n.iter().map(|&(index, attempts, t, in_doubt)| RcptState { index, attempts, not_before: Time(t), in_doubt }).collect();
            let mut bytes = Vec::new();
            put_states(&mut bytes, &states);
            prop_assert_eq!(take_states(&mut &bytes[..]), Some(states));
            let done: Vec<_> = n.iter().map(|&(i, _, t, _)| (MessageId(t as u64), i)).collect();
            bytes.clear();
            put_done(&mut bytes, &done);
            prop_assert_eq!(take_done(&mut &bytes[..]), Some(done));
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_named_as_such() {
        let mut bytes = Header::new(Kind::Events).encode(3);
        bytes[1] = VERSION + 1;
        let crc = header_crc(&bytes, 3);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes, 3), Err(HeaderError::Newer(VERSION + 1)));
    }
}
