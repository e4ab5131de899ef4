//! How one entry of the list is kept in the store's tables, under its [`Key`](super::Key).
//!
//! Layout: version, source, state (one byte each), flags, then numbers (little-endian) and texts (length as LEB128, UTF-8).
//! What follows is skipped, so that fields can be added behind. Version 1 is that of the first release, whose rows stood
//! in `tables.redb` under the plain address; it is read for their sake and never written.
//!
//! An entry that was taken off keeps a row, with state `removed` and the last sequence number of the ledger at that time:
//! events up to there, read again after a crash, do not put it back.

use crate::event::leb128::{put_number, put_str, take_number, take_str};
use crate::event::{EventId, Scope, ScopeKind, StoreId, Time};

/// Longest reply kept, in bytes.
const MAX_REPLY: usize = 300;
/// Longest rule, category, note or name kept, in bytes.
const MAX_WORDS: usize = 500;
const VERSION: u8 = 2;

/// Why a subject is (or no longer is) on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who entered it.
    pub source: Source,
    /// Whether it suppresses.
    pub state: State,
    /// Rule that applied (`hard`, `complaint`, `manual`, `import`).
    pub rule: Box<str>,
    /// The event that suppressed it; sequence number 0 when entered by hand. Of a removed entry: the last event that
    /// the removal covers.
    pub by: EventId,
    /// When the event happened or the entry was made.
    pub time: Time,
    /// When it ends; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// For whose mail it counts.
    pub scope: Scope,
    /// Whom it is about, folded: `local@domain` or `@domain`. Empty where only hashes are kept.
    pub subject: Box<str>,
    /// Provider of the event; empty when there was none.
    pub provider: Box<str>,
    /// Bounce category of the event; empty when there was none.
    pub category: Box<str>,
    /// The reply, cut to 300 bytes.
    pub reply: Box<str>,
    /// The operator's reason; of a complaint its type.
    pub note: Box<str>,
    /// Number of the import that brought it; 0 for none.
    pub batch: u32,
}

/// Who entered a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Source {
    /// An event, by a rule.
    Auto = 1,
    /// An operator.
    Manual = 2,
    /// A list that an operator brought in.
    Import = 4,
    /// The recipient, by an unsubscribe link or mail.
    Unsubscribe = 5,
}

/// Whether an entry suppresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Mail is not sent.
    Active = 1,
    /// The circuit breaker doubts it: mail is kept, neither sent nor bounced.
    Held = 2,
    /// An operator took it off, or undid it: mail is sent.
    Removed = 3,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 4] = [Source::Auto, Source::Manual, Source::Import, Source::Unsubscribe];

    /// As it is written in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Auto => "auto",
            Source::Manual => "manual",
            Source::Import => "import",
            Source::Unsubscribe => "unsubscribe",
        }
    }
}

impl State {
    /// All of them.
    pub const ALL: [State; 3] = [State::Active, State::Held, State::Removed];

    /// As it is written in lists.
    pub const fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Held => "held",
            State::Removed => "removed",
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

impl Default for Entry {
    /// By an event, active, global, for ever; everything else empty.
    fn default() -> Entry {
        Entry {
            source: Source::Auto,
            state: State::Active,
            rule: "".into(),
            by: EventId::default(),
            time: Time::UNKNOWN,
            expires: Time::UNKNOWN,
            scope: Scope::global(),
            subject: "".into(),
            provider: "".into(),
            category: "".into(),
            reply: "".into(),
            note: "".into(),
            batch: 0,
        }
    }
}

impl Entry {
    /// Whether mail is not sent now.
    pub fn is_active(&self) -> bool {
        self.state != State::Removed
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_known() && self.expires <= now
    }

    /// Whether an event with this sequence number has nothing to add: it, or an earlier one, has been entered, or an
    /// operator took the subject off after it.
    pub fn covers(&self, seq: u64) -> bool {
        self.is_active() || seq <= self.by.seq
    }

    /// Whether a row is that of an entry that was taken off; `false` for one that can't be read.
    pub(super) fn is_removed(row: &[u8]) -> bool {
        matches!(row, [VERSION, _, state, ..] if *state == State::Removed as u8)
    }

    /// When a row of this version ends, without a look at the rest.
    pub(super) fn expiry(row: &[u8]) -> Time {
        match row.get(12..20).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) if row[0] == VERSION => Time(i64::from_le_bytes(bytes)),
            _ => Time::UNKNOWN,
        }
    }

    /// What replies and records call the list that it stands on: `auto:hard` for what rules entered, `manual`, `import`,
    /// `unsubscribe`.
    pub fn list(&self) -> String {
        list_name(self.source, &self.rule)
    }

    /// Without anything that names the subject: its text and the reply are left out, and it is taken out of the note.
    #[must_use]
    pub fn nameless(&self) -> Entry {
        Entry {
            note: super::storage::redacted(&self.note, &self.subject).into(),
            subject: "".into(),
            reply: "".into(),
            ..self.clone()
        }
    }

    /// The row's bytes; texts that are too long are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.subject.len() + self.reply.len());
        out.extend_from_slice(&[VERSION, self.source as u8, self.state as u8, self.scope.kind() as u8]);
        for number in [self.time.0, self.expires.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // What a list brought in has no event: eight bytes less in a hundred million rows.
        put_number(&mut out, self.by.seq);
        if self.by.seq != 0 {
            out.extend_from_slice(&self.by.store.0.to_le_bytes());
        }
        put_number(&mut out, u64::from(self.batch));
        let texts = [
            (&*self.subject, MAX_WORDS),
            (&self.rule, MAX_WORDS),
            (self.scope.name(), MAX_WORDS),
            (&self.provider, MAX_WORDS),
            (&self.category, MAX_WORDS),
            (&self.reply, MAX_REPLY),
            (&self.note, MAX_WORDS),
        ];
        // Empty texts at the end are left out.
        let last = texts.iter().rposition(|(text, _)| !text.is_empty()).map_or(0, |at| at + 1);
        for (text, most) in &texts[..last] {
            let text = &text[..text.floor_char_boundary(*most)];
            put_str(&mut out, text);
        }
        out
    }

    /// Reads what [`Entry::encode`] wrote, or what version 1 did (which knew no subject: its key was the address).
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let (&version, mut rest) = bytes.split_first().ok_or(EntryError::Damaged)?;
        match version {
            1 => Entry::read_v1(&mut rest).ok_or(EntryError::Damaged),
            VERSION => Entry::read(&mut rest).ok_or(EntryError::Damaged),
            newer => Err(EntryError::Version(newer)),
        }
    }

    fn read(rest: &mut &[u8]) -> Option<Entry> {
        let [source, state, kind] = take(rest)?;
        let source = Source::ALL.into_iter().find(|s| *s as u8 == source)?;
        let state = State::ALL.into_iter().find(|s| *s as u8 == state)?;
        let kind = ScopeKind::from_number(kind)?;
        let (time, expires) = (Time(i64::from_le_bytes(take(rest)?)), Time(i64::from_le_bytes(take(rest)?)));
        let seq = take_number(rest)?;
        let store = if seq == 0 { 0 } else { u64::from_le_bytes(take(rest)?) };
        let batch = u32::try_from(take_number(rest)?).ok()?;
        let mut next = || if rest.is_empty() { Some("".into()) } else { take_str(rest).map(Box::from) };
        let (subject, rule, name): (Box<str>, Box<str>, Box<str>) = (next()?, next()?, next()?);
        Some(Entry {
            source,
            state,
            rule,
            by: EventId { store: StoreId(store), seq },
            time,
            expires,
            scope: Scope::of(kind, &name)?,
            subject,
            provider: next()?,
            category: next()?,
            reply: next()?,
            note: next()?,
            batch,
        })
    }

    fn read_v1(rest: &mut &[u8]) -> Option<Entry> {
        let [source] = take(rest)?;
        let (source, state) = match source {
            1 => (Source::Auto, State::Active),
            2 => (Source::Manual, State::Active),
            3 => (Source::Manual, State::Removed),
            _ => return None,
        };
        let time = Time(i64::from_le_bytes(take(rest)?));
        let by = EventId { store: StoreId(u64::from_le_bytes(take(rest)?)), seq: u64::from_le_bytes(take(rest)?) };
        let mut text = || {
            let len = u16::from_le_bytes(take(rest)?).into();
            let (text, after) = rest.split_at_checked(len)?;
            *rest = after;
            std::str::from_utf8(text).ok().map(Box::from)
        };
        let (rule, category) = (text()?, text()?);
        Some(Entry { source, state, rule, by, time, category, reply: text()?, note: text()?, ..Entry::default() })
    }
}

/// See [`Entry::list`].
pub(super) fn list_name(source: Source, rule: &str) -> String {
    match source {
        Source::Auto => format!("auto:{rule}"),
        other => other.name().to_owned(),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(state: State, seq: u64, reply: &str, note: &str) -> Entry {
        Entry {
            state,
            rule: "hard".into(),
            by: EventId { store: StoreId(if seq == 0 { 0 } else { 7 }), seq },
            time: Time(-5),
            category: "bad-mailbox".into(),
            reply: reply.into(),
            note: note.into(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_long_reply_is_cut_between_characters() {
        let long = "é".repeat(400);
        let back = Entry::decode(&entry(State::Active, 1, &long, "").encode()).unwrap();
        assert_eq!(&*back.reply, "é".repeat(150));
    }

    #[test]
    fn an_entry_of_a_newer_version_is_refused_by_name() {
        let mut bytes = entry(State::Active, 1, "", "").encode();
        bytes[0] = 9;
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Version(9)));
    }

    #[test]
    fn an_entry_of_the_first_release_is_read() {
        let mut bytes = vec![1, 3];
        bytes.extend(77i64.to_le_bytes());
        bytes.extend(7u64.to_le_bytes());
        bytes.extend(100u64.to_le_bytes());
        for text in ["hard", "bad-mailbox", "550 no", "wrote to us"] {
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let entry = Entry::decode(&bytes).unwrap();
        assert_eq!((entry.state, entry.time, entry.by.seq), (State::Removed, Time(77), 100));
        assert_eq!((&*entry.rule, &*entry.reply, &*entry.note), ("hard", "550 no", "wrote to us"));
    }

    #[test]
    fn what_an_operator_took_off_stays_off_for_the_events_before() {
        let removed = entry(State::Removed, 100, "", "");
        assert!(removed.covers(100) && !removed.covers(101));
        assert!(entry(State::Active, 100, "", "").covers(200));
    }

    #[test]
    fn an_imported_entry_is_small() {
        let entry = Entry {
            source: Source::Import,
            subject: "someone.else@example.net".into(),
            rule: "import".into(),
            batch: 3,
            ..Entry::default()
        };
        assert!(entry.encode().len() <= 56, "{}", entry.encode().len());
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(
            seq: u64, reply in "\\PC{0,60}", note in ".{0,60}", expires: i64, batch: u32, job in "[a-z]{0,5}",
            more in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let entry = Entry {
                source: Source::Import, expires: Time(expires), batch, subject: "a@b.example".into(),
                scope: Scope::of(ScopeKind::Job, &job).unwrap_or_default(), provider: "p".into(),
                ..entry(State::Held, seq, &reply, &note)
            };
            let mut bytes = entry.encode();
            if !note.is_empty() {
                bytes.extend(more);
            }
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn no_bytes_make_reading_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), version in 1u8..3) {
            let _ = Entry::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = Entry::decode(&bytes);
        }
    }
}
