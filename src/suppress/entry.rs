//! How one address of the list is kept in the store's tables, under its key.
//!
//! Layout (version 1): version, source (one byte each), time (8 bytes, microseconds), store and sequence number of the
//! event (8 bytes each), all little-endian, then rule, category, reply and note: length (2 bytes) and UTF-8. What
//! follows is skipped, so that fields can be added behind.
//!
//! An address that was taken off the list by hand keeps a row, with source `removed` and the last sequence number of
//! the ledger at that time: events up to there, read again after a crash, do not put it back.

use crate::event::{EventId, StoreId, Time};

/// Longest reply kept, in bytes.
const MAX_REPLY: usize = 300;
/// Longest rule, category or note kept, in bytes.
const MAX_WORDS: usize = 500;
const VERSION: u8 = 1;

/// Why an address is (or no longer is) on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who entered it.
    pub source: Source,
    /// Rule that applied (`hard`, `complaint`, `manual`).
    pub rule: Box<str>,
    /// The event that suppressed it; sequence number 0 when entered by hand. Of a removed entry: the last event that
    /// the removal covers.
    pub by: EventId,
    /// When the event happened or the entry was made.
    pub time: Time,
    /// Bounce category of the event; empty when there was none.
    pub category: Box<str>,
    /// The reply, cut to 300 bytes.
    pub reply: Box<str>,
    /// The operator's reason.
    pub note: Box<str>,
}

/// Who entered an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Source {
    /// An event, by a rule.
    Auto = 1,
    /// An operator.
    Manual = 2,
    /// An operator took it off: it is not suppressed.
    Removed = 3,
}

impl Source {
    /// As it is written in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Auto => "auto",
            Source::Manual => "manual",
            Source::Removed => "removed",
        }
    }
}

/// A row of the tables that is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer Carom.
    #[error("suppression entry of version {0}, which this Carom does not know: use a newer one")]
    Version(u8),
    /// Cut off, or not text where text should be.
    #[error("damaged suppression entry")]
    Damaged,
}

impl Entry {
    /// Whether mail to the address is suppressed.
    pub const fn is_active(&self) -> bool {
        !matches!(self.source, Source::Removed)
    }

    /// Whether an event with this sequence number has nothing to add: it, or an earlier one, has been entered, or an
    /// operator took the address off after it.
    pub const fn covers(&self, seq: u64) -> bool {
        self.is_active() || seq <= self.by.seq
    }

    /// The row's bytes; texts that are too long are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.rule.len() + self.category.len() + self.reply.len());
        out.extend_from_slice(&[VERSION, self.source as u8]);
        out.extend_from_slice(&self.time.0.to_le_bytes());
        out.extend_from_slice(&self.by.store.0.to_le_bytes());
        out.extend_from_slice(&self.by.seq.to_le_bytes());
        for (text, most) in
            [(&self.rule, MAX_WORDS), (&self.category, MAX_WORDS), (&self.reply, MAX_REPLY), (&self.note, MAX_WORDS)]
        {
            let text = &text[..text.floor_char_boundary(most)];
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// Reads what [`Entry::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let (&version, mut rest) = bytes.split_first().ok_or(EntryError::Damaged)?;
        if version != VERSION {
            return Err(EntryError::Version(version));
        }
        Entry::read(&mut rest).ok_or(EntryError::Damaged)
    }

    fn read(rest: &mut &[u8]) -> Option<Entry> {
        let [source] = take(rest)?;
        let source = match source {
            1 => Source::Auto,
            2 => Source::Manual,
            3 => Source::Removed,
            _ => return None,
        };
        let time = Time(i64::from_le_bytes(take(rest)?));
        let by = EventId { store: StoreId(u64::from_le_bytes(take(rest)?)), seq: u64::from_le_bytes(take(rest)?) };
        let (rule, category) = (take_text(rest)?, take_text(rest)?);
        Some(Entry { source, rule, by, time, category, reply: take_text(rest)?, note: take_text(rest)? })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn take_text(rest: &mut &[u8]) -> Option<Box<str>> {
    let len = u16::from_le_bytes(take(rest)?).into();
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok().map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(source: Source, seq: u64, reply: &str, note: &str) -> Entry {
        Entry {
            source,
            rule: "hard".into(),
            by: EventId { store: StoreId(7), seq },
            time: Time(-5),
            category: "bad-mailbox".into(),
            reply: reply.into(),
            note: note.into(),
        }
    }

    #[test]
    fn a_long_reply_is_cut_between_characters() {
        let long = "é".repeat(400);
        let back = Entry::decode(&entry(Source::Auto, 1, &long, "").encode()).unwrap();
        assert_eq!(&*back.reply, "é".repeat(150));
    }

    #[test]
    fn an_entry_of_a_newer_version_is_refused_by_name() {
        let mut bytes = entry(Source::Auto, 1, "", "").encode();
        bytes[0] = 9;
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Version(9)));
    }

    #[test]
    fn what_an_operator_took_off_stays_off_for_the_events_before() {
        let removed = entry(Source::Removed, 100, "", "");
        assert!(removed.covers(100) && !removed.covers(101));
        assert!(entry(Source::Auto, 100, "", "").covers(200));
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(seq: u64, reply in "\\PC{0,60}", note in ".{0,60}", more in prop::collection::vec(any::<u8>(), 0..9)) {
            let entry = entry(Source::Manual, seq, &reply, &note);
            let mut bytes = entry.encode();
            bytes.extend(more);
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn no_bytes_make_reading_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Entry::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = Entry::decode(&bytes);
        }
    }
}
