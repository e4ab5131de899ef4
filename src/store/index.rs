//! What waits: for each queued message where it stands in the journal and how its recipients stand. Pure; one small
//! fixed entry a message (measured: see `benches/journal.rs`).

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as MapEntry;

use super::error::StoreError;
use super::message::RcptState;
use crate::event::{MessageId, Time};

/// Where a message stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Segment number; 0 while the record that brings the message is still to be written.
    pub segment: u32,
    /// Where the record begins.
    pub at: u32,
    /// Bytes of the whole record.
    pub len: u32,
    /// Which of the messages in the record, from 0.
    pub slot: u16,
}

impl Place {
    /// Not written yet.
    pub(crate) const WAITING: Place = Place { segment: 0, at: 0, len: 0, slot: 0 };
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// Sorted by recipient index.
    rcpts: Rcpts,
}

/// Most messages of a bulk sender have one recipient.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a thin pointer keeps the entry at 32 bytes")]
enum Rcpts {
    One(RcptState),
    Many(Box<Vec<RcptState>>),
}

impl Rcpts {
    fn new(states: &[RcptState]) -> Rcpts {
        match states {
            [one] => Rcpts::One(*one),
            many => Rcpts::Many(Box::new(many.to_vec())),
        }
    }

    fn as_slice(&self) -> &[RcptState] {
        match self {
            Rcpts::One(one) => std::slice::from_ref(one),
            Rcpts::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [RcptState] {
        match self {
            Rcpts::One(one) => std::slice::from_mut(one),
            Rcpts::Many(many) => many,
        }
    }
}

/// All queued messages.
#[derive(Debug, Default)]
pub(crate) struct Index {
    map: HashMap<MessageId, Entry, foldhash::fast::RandomState>,
    recipients: u64,
}

/// The states of `count` recipients that were never tried.
pub(crate) fn fresh_states(count: u16) -> Vec<RcptState> {
    (0..count).map(|index| RcptState { index, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false }).collect()
}

impl Index {
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn recipients(&self) -> u64 {
        self.recipients
    }

    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.map.contains_key(&id)
    }

    /// Adds a message; what stood under its id before is replaced, and its place returned.
    pub(crate) fn insert(&mut self, id: MessageId, place: Place, states: &[RcptState]) -> Option<Place> {
        self.recipients += states.len() as u64;
        let entry = Entry { place, rcpts: Rcpts::new(states) };
        self.map.insert(id, entry).map(|old| {
            self.recipients -= old.rcpts.as_slice().len() as u64;
            old.place
        })
    }

    /// A new message of one untried recipient after the other.
    pub(crate) fn insert_fresh(&mut self, id: MessageId, place: Place, rcpts: u16) -> Option<Place> {
        if rcpts == 1 {
            let one = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
            return self.insert(id, place, &[one]);
        }
        self.insert(id, place, &fresh_states(rcpts))
    }

    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.map.get(&id).map(|e| e.place)
    }

    pub(crate) fn states(&self, id: MessageId) -> Option<&[RcptState]> {
        self.map.get(&id).map(|e| e.rcpts.as_slice())
    }

    /// Notes where a message has come to stand; false when it has ended meanwhile.
    pub(crate) fn set_place(&mut self, id: MessageId, place: Place) -> bool {
        self.map.get_mut(&id).map(|e| e.place = place).is_some()
    }

    /// Whether this recipient is still queued.
    pub(crate) fn is_queued(&self, id: MessageId, rcpt: u16) -> bool {
        self.states(id).is_some_and(|s| s.binary_search_by_key(&rcpt, |r| r.index).is_ok())
    }

    /// Replaces the states of some recipients; all of them must be queued, else nothing changes.
    pub(crate) fn retry(&mut self, id: MessageId, states: &[RcptState]) -> Result<(), StoreError> {
        let not_queued = |rcpt| StoreError::NotQueued { message: id, rcpt };
        let Some(entry) = self.map.get_mut(&id) else {
            return Err(not_queued(states.first().map_or(0, |s| s.index)));
        };
        let kept = entry.rcpts.as_mut_slice();
        let find = |kept: &[RcptState], s: &RcptState| kept.binary_search_by_key(&s.index, |k| k.index).ok();
        if let Some(missing) = states.iter().find(|s| find(kept, s).is_none()) {
            return Err(not_queued(missing.index));
        }
        for state in states {
            if let Some(at) = find(kept, state) {
                kept[at] = *state;
            }
        }
        Ok(())
    }

    /// Takes a recipient out. With its last one the message goes too, and its place is returned.
    pub(crate) fn end(&mut self, id: MessageId, rcpt: u16) -> Option<Place> {
        let MapEntry::Occupied(mut entry) = self.map.entry(id) else { return None };
        let left = match &mut entry.get_mut().rcpts {
            Rcpts::One(one) if one.index == rcpt => 0,
            Rcpts::One(_) => return None,
            Rcpts::Many(many) => {
                let at = many.binary_search_by_key(&rcpt, |r| r.index).ok()?;
                many.remove(at);
                many.len()
            }
        };
        self.recipients -= 1;
        (left == 0).then(|| entry.remove().place)
    }

    /// Ids and places of all messages, in the order they stand in the journal.
    pub(crate) fn places(&self) -> Vec<(MessageId, Place)> {
        let mut all: Vec<_> = self.map.iter().map(|(id, e)| (*id, e.place)).collect();
        all.sort_unstable_by_key(|(_, p)| (p.segment, p.at, p.slot));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_32_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_message_goes_with_its_last_recipient() {
        let mut index = Index::default();
        let place = Place { segment: 1, at: 2, len: 3, slot: 0 };
        index.insert_fresh(MessageId(1), place, 3);
        assert_eq!(index.end(MessageId(1), 1), None);
        assert!(!index.is_queued(MessageId(1), 1) && index.is_queued(MessageId(1), 2));
        assert_eq!(index.end(MessageId(1), 0), None);
        assert_eq!(index.end(MessageId(1), 0), None);
        assert_eq!((index.len(), index.recipients()), (1, 1));
        assert_eq!(index.end(MessageId(1), 2), Some(place));
        assert_eq!((index.len(), index.recipients()), (0, 0));
    }

    #[test]
    fn a_retry_of_a_recipient_that_ended_changes_nothing() {
        let mut index = Index::default();
        index.insert_fresh(MessageId(1), Place::WAITING, 2);
        index.end(MessageId(1), 1);
        let state = |index| RcptState { index, attempts: 4, not_before: Time(9), in_doubt: true };
        assert!(matches!(
            index.retry(MessageId(1), &[state(0), state(1)]),
            Err(StoreError::NotQueued { message: MessageId(1), rcpt: 1 })
        ));
        assert_eq!(index.states(MessageId(1)), Some(&fresh_states(1)[..]));
        index.retry(MessageId(1), &[state(0)]).unwrap();
        assert_eq!(index.states(MessageId(1)), Some(&[state(0)][..]));
    }
}
