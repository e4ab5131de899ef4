//! Names of things that must stay unique across restarts, machines and files.

use std::fmt;
use std::str::FromStr;

/// A message in one store; counts up from 1 and is never used again. Zero stands for "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MessageId(pub u64);

/// The random name a store gets when it is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreId(pub u64);

/// Which compiled set of pattern rules an event is to be classified with: the first eight bytes of the SHA-256 of
/// their canonical text. Zero stands for "no rules".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RuleSetId(pub u64);

/// Unique for ever: the store's random id and the sequence number of the event in it. Written `STORE-SEQ`, the store
/// as 16 hexadecimal digits, the sequence number in decimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    /// The store whose ledger holds the event.
    pub store: StoreId,
    /// Its place in that ledger, from 1.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RuleSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RuleSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.store, self.seq)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no `STORE-SEQ`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event id: {0:?} (expected 16 hexadecimal digits, a hyphen and a number)")]
pub struct EventIdError(String);

impl FromStr for EventId {
    type Err = EventIdError;
    fn from_str(s: &str) -> Result<EventId, EventIdError> {
        let bad = || EventIdError(s.chars().take(64).collect());
        let (store, seq) = s.split_once('-').ok_or_else(bad)?;
        if store.len() != 16 || !store.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        Ok(EventId {
            store: StoreId(u64::from_str_radix(store, 16).map_err(|_| bad())?),
            seq: seq.parse().map_err(|_| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_back_as_it_was_written() {
        let id = EventId { store: StoreId(0xab), seq: 42 };
        assert_eq!(id.to_string(), "00000000000000ab-42");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ab-42".parse::<EventId>().is_err());
        assert!("00000000000000ab".parse::<EventId>().is_err());
    }
}
