//! The recipients that wait in one queue: those that may be attempted, in order of arrival; those held back, by the
//! time they become due; those on hold, by the time they are to be looked at again; and those put aside because their job
//! is paused, by age.
//!
//! Promises: 24 octets per recipient (and what growing a buffer leaves over); recipients of one message that became
//! ready together stay together; drawing costs no more than what is drawn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::event::{MessageId, Time};
use crate::store::RcptState;

use super::jobs::JobId;

/// One queued recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    // The order of the fields is the order of the heap.
    not_before: Time,
    /// The number of the message and, in the lowest 16 bits, that of its job. Messages are counted from 1: at a million a
    /// second the 48 bits last for almost nine years.
    key: u64,
    index: u16,
    /// Attempts made; the top bit says that one of them is in doubt, the next that it gets a transaction of its own.
    attempts: u16,
    /// Whole seconds since the epoch, rounded down.
    queued_secs: u32,
}

const IN_DOUBT: u16 = 1 << 15;
const ALONE: u16 = 1 << 14;

impl Entry {
    /// From what the store keeps.
    pub fn new(message: MessageId, job: JobId, state: &RcptState, time_queued: Time) -> Entry {
        Entry {
            not_before: state.not_before,
            key: message.0 << 16 | u64::from(job),
            index: state.index,
            attempts: state.attempts.min(ALONE - 1) | if state.in_doubt { IN_DOUBT } else { 0 },
            queued_secs: u32::try_from(time_queued.secs()).unwrap_or(0),
        }
    }

    /// The same recipient in another state.
    pub fn with(&self, state: &RcptState) -> Entry {
        let mut other =
            Entry { queued_secs: self.queued_secs, ..Entry::new(self.message(), self.job(), state, Time::UNKNOWN) };
        other.attempts |= self.attempts & ALONE;
        other
    }

    /// The same recipient, whose copy differs from the others': no transaction has it together with them.
    #[must_use]
    pub fn alone(self) -> Entry {
        Entry { attempts: self.attempts | ALONE, ..self }
    }

    /// Which message.
    pub fn message(&self) -> MessageId {
        MessageId(self.key >> 16)
    }

    /// Of which job.
    pub fn job(&self) -> JobId {
        self.key as JobId
    }

    /// As the store keeps it.
    pub fn state(&self) -> RcptState {
        RcptState {
            index: self.index,
            attempts: self.attempts & !(IN_DOUBT | ALONE),
            not_before: self.not_before,
            in_doubt: self.attempts & IN_DOUBT != 0,
        }
    }

    /// When its stay in the queue ends. Up to a second after the exact time, never before.
    pub fn expires(&self, bounce_after: Duration) -> Time {
        Time::from_secs(i64::from(self.queued_secs) + 1) + bounce_after
    }
}

/// A recipient in a session's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Which.
    pub entry: Entry,
    /// What has become of it; `Again` until the session knows.
    pub fate: Fate,
    /// It was on hold, and a look at it found no reason for that any more.
    pub looked_at: bool,
}

impl Drawn {
    /// One whose fate is not known.
    pub fn of(entry: Entry) -> Drawn {
        Drawn { entry, fate: Fate::Again, looked_at: false }
    }
}

/// What became of a drawn recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not attempted: back to the front of the queue.
    Again,
    /// Not attempted, because its job has been paused since it was drawn.
    Paused,
    /// It has left the spool.
    Done,
    /// Deferred.
    Retry(RcptState),
    /// Not attempted, and not to be for now: the suppression list holds its entry back. Looked at again, in memory only:
    /// the store has it queued as before.
    Hold,
}

/// One that is put aside; the oldest comes first, since it expires first.
#[derive(Debug, PartialEq, Eq)]
struct Aside(Entry);

impl Ord for Aside {
    fn cmp(&self, other: &Aside) -> std::cmp::Ordering {
        let order = |e: &Entry| (e.queued_secs, e.key, e.index);
        order(&other.0).cmp(&order(&self.0))
    }
}

impl PartialOrd for Aside {
    fn partial_cmp(&self, other: &Aside) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The recipients of one queue.
#[derive(Debug, Default)]
pub struct Backlog {
    ready: VecDeque<Entry>,
    held: BinaryHeap<Reverse<Entry>>,
    aside: BinaryHeap<Aside>,
    on_hold: BinaryHeap<Reverse<Entry>>,
    /// No ready recipient was queued before this second.
    oldest: u32,
}

impl Backlog {
    /// A recipient from the store or back from an attempt. It becomes due at its `not_before`, or when it expires.
    pub fn add(&mut self, mut entry: Entry, bounce_after: Duration, now: Time) {
        entry.not_before = entry.not_before.min(entry.expires(bounce_after));
        if entry.not_before <= now {
            self.push_ready(entry);
        } else {
            self.held.push(Reverse(entry));
        }
    }

    /// A recipient that is not to be attempted for now. To be looked at again at `until`, or when it expires.
    pub fn hold(&mut self, mut entry: Entry, until: Time, bounce_after: Duration) {
        entry.not_before = until.min(entry.expires(bounce_after));
        self.on_hold.push(Reverse(entry));
    }

    /// Draws recipients on hold that are to be looked at now, at most `max`.
    pub fn draw_on_hold(&mut self, max: usize, now: Time, into: &mut Vec<Drawn>) {
        while into.len() < max && self.look_is_due(now) {
            let Some(Reverse(entry)) = self.on_hold.pop() else { break };
            into.push(Drawn::of(entry));
        }
        if self.on_hold.capacity() > 64 && self.on_hold.len() < self.on_hold.capacity() / 4 {
            self.on_hold.shrink_to(self.on_hold.len() * 2);
        }
    }

    /// Whether a recipient on hold is to be looked at.
    pub fn look_is_due(&self, now: Time) -> bool {
        self.on_hold.peek().is_some_and(|Reverse(e)| e.not_before <= now)
    }

    /// Has all that are on hold looked at now.
    pub fn look_now(&mut self, now: Time) {
        let mut all = std::mem::take(&mut self.on_hold).into_vec();
        all.iter_mut().for_each(|Reverse(entry)| entry.not_before = entry.not_before.min(now));
        self.on_hold = all.into();
    }

    /// Recipients that were drawn and not attempted, back to the front in their order.
    pub fn put_back(&mut self, entries: impl DoubleEndedIterator<Item = Entry>) {
        for entry in entries.rev() {
            self.oldest = if self.ready.is_empty() { entry.queued_secs } else { self.oldest.min(entry.queued_secs) };
            self.ready.push_front(entry);
        }
    }

    fn push_ready(&mut self, entry: Entry) {
        self.oldest = if self.ready.is_empty() { entry.queued_secs } else { self.oldest.min(entry.queued_secs) };
        self.ready.push_back(entry);
    }

    /// A recipient of a paused job: it waits until the job goes on, or until it expires.
    pub fn put_aside(&mut self, entry: Entry) {
        self.aside.push(Aside(entry));
    }

    /// Puts aside all recipients of a job; how many there are.
    pub fn pause(&mut self, job: JobId) -> usize {
        let before = self.aside.len();
        let aside = &mut self.aside;
        let mut oldest = u32::MAX;
        self.ready.retain(|entry| {
            let stays = entry.job() != job;
            if stays {
                oldest = oldest.min(entry.queued_secs);
            } else {
                aside.push(Aside(*entry));
            }
            stays
        });
        self.oldest = if self.ready.is_empty() { 0 } else { oldest };
        for heap in [&mut self.held, &mut self.on_hold] {
            heap.retain(|Reverse(entry)| {
                let stays = entry.job() != job;
                if !stays {
                    aside.push(Aside(*entry));
                }
                stays
            });
        }
        self.shrink();
        self.aside.len() - before
    }

    /// Takes back all recipients of a job that were put aside; how many there are.
    pub fn resume(&mut self, job: JobId, bounce_after: Duration, now: Time) -> usize {
        let (mut back, stay): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.aside).into_iter().map(|Aside(entry)| entry).partition(|e| e.job() == job);
        self.aside = stay.into_iter().map(Aside).collect();
        // In order of arrival, the recipients of one message together.
        back.sort_unstable_by_key(|e| (e.key, e.index));
        let count = back.len();
        for entry in back {
            self.add(entry, bounce_after, now);
        }
        count
    }

    /// Lets those go whose time has come; of those put aside, the ones whose stay in the queue ends.
    pub fn release_due(&mut self, bounce_after: Duration, now: Time) {
        while self.aside.peek().is_some_and(|Aside(e)| e.expires(bounce_after) <= now) {
            let Some(Aside(entry)) = self.aside.pop() else { break };
            self.push_ready(entry);
        }
        while self.held.peek().is_some_and(|Reverse(e)| e.not_before <= now) {
            let Some(Reverse(entry)) = self.held.pop() else { break };
            self.push_ready(entry);
        }
        if self.held.capacity() > 64 && self.held.len() < self.held.capacity() / 4 {
            self.held.shrink_to(self.held.len() * 2);
        }
    }

    /// The earliest time a held one becomes due, one on hold is to be looked at, or one that is put aside expires.
    pub fn next_due(&self, bounce_after: Duration) -> Option<Time> {
        let first = |heap: &BinaryHeap<Reverse<Entry>>| heap.peek().map(|Reverse(e)| e.not_before);
        let aside = self.aside.peek().map(|Aside(e)| e.expires(bounce_after));
        [first(&self.held), first(&self.on_hold), aside].into_iter().flatten().min()
    }

    /// Draws the recipients of the first message, at most `max`. An expired one is drawn with expired ones of its
    /// message only; whether it is so comes back.
    pub fn draw(&mut self, max: usize, bounce_after: Duration, now: Time, into: &mut Vec<Drawn>) -> bool {
        let Some(first) = self.ready.front().copied() else { return false };
        let expired = first.expires(bounce_after) <= now;
        let max = if first.attempts & ALONE == 0 { max } else { 1 };
        while let Some(next) = self.ready.front() {
            if next.key != first.key || into.len() >= max.max(1) {
                break;
            }
            into.push(Drawn::of(*next));
            self.ready.pop_front();
        }
        self.shrink();
        expired
    }

    /// Takes out recipients that have expired though no session could draw them, at most `max`, of one message after the other.
    pub fn draw_expired(&mut self, max: usize, bounce_after: Duration, now: Time, into: &mut Vec<Drawn>) {
        let bound = Time::from_secs(i64::from(self.oldest) + 1) + bounce_after;
        if self.ready.is_empty() || bound > now {
            return;
        }
        let mut oldest = u32::MAX;
        self.ready.retain(|entry| {
            if into.len() < max && entry.expires(bounce_after) <= now {
                into.push(Drawn::of(*entry));
                return false;
            }
            oldest = oldest.min(entry.queued_secs);
            true
        });
        self.oldest = if self.ready.is_empty() { 0 } else { oldest };
        self.shrink();
    }

    /// Takes out everybody but those put aside, the recipients of one message together.
    pub fn take_all(&mut self) -> Vec<Entry> {
        let mut all: Vec<Entry> = std::mem::take(&mut self.ready).into();
        let heaps = [std::mem::take(&mut self.held), std::mem::take(&mut self.on_hold)];
        all.extend(heaps.into_iter().flatten().map(|Reverse(entry)| entry));
        all.sort_unstable_by_key(|entry| (entry.key, entry.index));
        self.oldest = 0;
        all
    }

    fn shrink(&mut self) {
        if self.ready.capacity() > 64 && self.ready.len() < self.ready.capacity() / 4 {
            self.ready.shrink_to(self.ready.len() * 2);
        }
    }

    /// How many may be attempted.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many are put aside.
    pub fn aside(&self) -> usize {
        self.aside.len()
    }

    /// How many are on hold.
    pub fn on_hold(&self) -> usize {
        self.on_hold.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty() && self.on_hold.is_empty() && self.aside.is_empty()
    }

    /// Octets in memory.
    pub fn memory(&self) -> usize {
        let heaps = self.held.capacity() + self.on_hold.capacity() + self.aside.capacity();
        (self.ready.capacity() + heaps) * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn entry(message: u64, index: u16, not_before: i64) -> Entry {
        let state = RcptState { index, attempts: 3, not_before: Time::from_secs(not_before), in_doubt: index == 1 };
        Entry::new(MessageId(message), (message % 10) as JobId, &state, Time::from_secs(1000))
    }

    #[test]
    fn a_recipient_is_24_octets_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Entry>(), 24);
        let e = entry(7, 1, 50);
        assert_eq!(e.state(), RcptState { index: 1, attempts: 3, not_before: Time::from_secs(50), in_doubt: true });
    }

    #[test]
    fn a_message_is_drawn_with_all_its_ready_recipients_up_to_the_limit() {
        let mut b = Backlog::default();
        for e in [entry(1, 0, 0), entry(1, 1, 0), entry(1, 2, 0), entry(2, 0, 0)] {
            b.add(e, DAY, Time::from_secs(2000));
        }
        let mut drawn = Vec::new();
        assert!(!b.draw(2, DAY, Time::from_secs(2000), &mut drawn));
        assert_eq!(drawn.iter().map(|d| d.entry.index).collect::<Vec<_>>(), [0, 1]);
        drawn.clear();
        b.draw(2, DAY, Time::from_secs(2000), &mut drawn);
        assert_eq!(drawn.iter().map(|d| d.entry).collect::<Vec<_>>(), [entry(1, 2, 0)]);
        b.put_back(drawn.drain(..).map(|d| d.entry));
        assert_eq!(b.ready(), 2);
        b.draw(9, DAY, Time::from_secs(2000), &mut drawn);
        assert_eq!(drawn.iter().map(|d| d.entry).collect::<Vec<_>>(), [entry(1, 2, 0)]);
    }

    #[test]
    fn who_gets_a_copy_of_his_own_is_drawn_alone_also_when_he_is_tried_again() {
        let mut b = Backlog::default();
        let now = Time::from_secs(2000);
        for index in 0..3 {
            b.add(entry(1, index, 0).alone(), DAY, now);
        }
        let mut drawn = Vec::new();
        b.draw(usize::MAX, DAY, now, &mut drawn);
        assert_eq!(drawn.len(), 1);
        let later = RcptState { attempts: 4, ..drawn[0].entry.state() };
        assert_eq!(later.attempts, drawn[0].entry.state().attempts + 1, "the mark is no attempt");
        b.add(drawn[0].entry.with(&later), DAY, now);
        for _ in 0..3 {
            drawn.clear();
            b.draw(usize::MAX, DAY, now, &mut drawn);
            assert_eq!(drawn.len(), 1);
        }
        assert_eq!(drawn[0].entry.state(), later);
    }

    #[test]
    fn held_recipients_become_due_in_order_and_no_later_than_they_expire() {
        let mut b = Backlog::default();
        let now = Time::from_secs(2000);
        b.add(entry(1, 0, 5000), DAY, now);
        b.add(entry(2, 0, 3000), DAY, now);
        b.add(entry(3, 0, 900_000), DAY, now);
        assert_eq!((b.ready(), b.held(), b.next_due(DAY)), (0, 3, Some(Time::from_secs(3000))));
        b.release_due(DAY, Time::from_secs(5000));
        assert_eq!((b.ready(), b.next_due(DAY)), (2, Some(Time::from_secs(1001 + 86_400))));
    }

    #[test]
    fn who_is_on_hold_is_looked_at_when_due_or_expired_and_never_becomes_ready_by_itself() {
        let mut b = Backlog::default();
        let at = Time::from_secs;
        b.hold(entry(1, 0, 0), at(5000), DAY);
        b.hold(entry(2, 0, 0), at(3000), DAY);
        b.hold(entry(3, 0, 0), at(900_000), DAY);
        b.release_due(DAY, at(1_000_000));
        assert_eq!((b.ready(), b.held(), b.on_hold(), b.is_empty()), (0, 0, 3, false));
        assert_eq!(b.next_due(DAY), Some(at(3000)));
        let mut drawn = Vec::new();
        b.draw_on_hold(9, at(5000), &mut drawn);
        assert_eq!(drawn.iter().map(|d| d.entry.message().0).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(b.next_due(DAY), Some(at(1001 + 86_400)), "no later than it expires");
        b.look_now(at(6000));
        assert!(b.look_is_due(at(6000)));
        assert_eq!(b.take_all().len(), 1);
    }

    #[test]
    fn the_expired_are_found_behind_the_young() {
        let mut b = Backlog::default();
        let now = Time::from_secs(1001 + 86_400);
        let young = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
        b.add(Entry::new(MessageId(9), 0, &young, Time::from_secs(80_000)), DAY, now);
        b.add(entry(1, 0, 0), DAY, now);
        let mut drawn = Vec::new();
        b.draw_expired(10, DAY, Time(now.0 - 1), &mut drawn);
        assert!(drawn.is_empty(), "nobody is bounced before bounce-after");
        b.draw_expired(10, DAY, now, &mut drawn);
        assert_eq!(drawn.iter().map(|d| d.entry.message().0).collect::<Vec<_>>(), [1]);
        assert_eq!(b.ready(), 1);
    }

    #[test]
    fn a_paused_job_waits_aside_until_it_goes_on_and_no_longer_than_it_may() {
        let mut b = Backlog::default();
        let now = Time::from_secs(2000);
        for e in [entry(1, 0, 0), entry(2, 0, 0), entry(12, 0, 5000), entry(11, 1, 0)] {
            b.add(e, DAY, now);
        }
        assert_eq!((b.pause(2), b.ready(), b.held(), b.aside()), (2, 2, 0, 2));
        b.put_aside(entry(22, 0, 0));
        let end = Time::from_secs(1001 + 86_400);
        assert_eq!(b.next_due(DAY), Some(end));
        b.release_due(DAY, Time(end.0 - 1));
        assert_eq!((b.ready(), b.aside()), (2, 3));
        assert_eq!(b.resume(1, DAY, now), 0);
        assert_eq!((b.resume(2, DAY, now), b.ready(), b.held(), b.aside()), (3, 4, 1, 0));
        b.pause(2);
        b.release_due(DAY, end);
        assert_eq!((b.ready(), b.aside()), (5, 0), "their time is over");
        let mut drawn = Vec::new();
        assert!(b.draw(9, DAY, end, &mut drawn));
    }

    #[test]
    fn a_million_recipients_take_less_than_48_octets_each() {
        let mut b = Backlog::default();
        for m in 0..1_000_000 {
            b.add(entry(m, 0, if m % 2 == 0 { 0 } else { 3000 }), DAY, Time::from_secs(2000));
        }
        assert!(b.memory() <= 48 * 1_000_000, "{}", b.memory());
    }
}
