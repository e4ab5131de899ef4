//! When the oldest segment may go. Pure.
//!
//! A segment is kept while a message in it is queued, while a consumer has not passed its events, and for a while after
//! that (`ledger-retention`: a time or a size, whichever comes first). Segments go oldest first only. When few messages
//! keep a segment alive that is needed for nothing else, they are moved to the newest one: once the journal takes more than twice
//! what it must, plus four segments.

use std::collections::VecDeque;
use std::time::Duration;

use super::spool::Segment;
use crate::event::Time;

/// What is to be done next about the oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing now.
    Wait,
    /// Nothing in it is needed: remove it, once what was handed over before now is durable.
    Remove(u64),
    /// Move its queued messages to the newest segment.
    Move(u64),
}

/// How long and how much of the ledger is kept behind the last consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub retention: Duration,
    pub retention_bytes: u64,
    pub segment_bytes: u64,
}

/// Notes which segments the last consumer has passed by `now`; `held` is the first event some consumer still wants.
pub(crate) fn mark_passed(segments: &mut VecDeque<Segment>, held: u64, now: Time) {
    for segment in segments.iter_mut().filter(|s| s.sealed.is_some()) {
        if segment.end_seq > held {
            segment.passed = None;
        } else if segment.passed.is_none() {
            segment.passed = Some(now);
        }
    }
}

/// The next step, after [`mark_passed`].
pub(crate) fn step(segments: &VecDeque<Segment>, limits: Limits, now: Time) -> Step {
    let Some(oldest) = segments.front().filter(|s| s.sealed.is_some()) else { return Step::Wait };
    // From the newest to the oldest: a segment is needed for the ledger until retention is full or its time is over.
    let mut passed_bytes = 0;
    let (mut total, mut must) = (0, 0);
    let mut oldest_needed = false;
    for segment in segments.iter().rev() {
        let events = segment.end_seq > segment.first_seq;
        let needed = match segment.passed {
            Some(at) => {
                passed_bytes += segment.len;
                passed_bytes <= limits.retention_bytes && now.since(at) < limits.retention
            }
            None => true,
        } && (events || segment.sealed.is_none());
        total += segment.len;
        must += if needed { segment.len } else { segment.live };
        oldest_needed = needed;
    }
    if oldest_needed {
        Step::Wait
    } else if oldest.live == 0 {
        Step::Remove(oldest.number)
    } else if total > 2 * must + 4 * limits.segment_bytes {
        Step::Move(oldest.number)
    } else {
        Step::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use std::path::Path;

    fn segments(spec: &[(u64, u64)]) -> VecDeque<Segment> {
        let disk = crate::sim::disk::SimDisk::new();
        let file = disk.create_new(Path::new("x")).unwrap();
        let n = spec.len();
        spec.iter()
            .enumerate()
            .map(|(i, &(len, live))| Segment {
                number: i as u64 + 1,
                file: file.clone(),
                first_seq: i as u64 * 10,
                end_seq: i as u64 * 10 + 10,
                len,
                live,
                sealed: (i + 1 < n).then_some(Time(1)),
                passed: None,
            })
            .collect()
    }

    const DAY: Duration = Duration::from_secs(86400);

    fn limits(retention: Duration, retention_bytes: u64) -> Limits {
        Limits { retention, retention_bytes, segment_bytes: 100 }
    }

    #[test]
    fn an_empty_segment_goes_when_all_have_read_it_and_its_time_is_over() {
        let mut s = segments(&[(100, 0), (100, 0), (50, 0)]);
        let (noon, later) = (Time::from_secs(43_200), Time::from_secs(43_200) + DAY);
        mark_passed(&mut s, 9, noon);
        assert_eq!(step(&s, limits(DAY, 1000), later), Step::Wait, "a consumer still wants event 9");
        mark_passed(&mut s, 10, noon);
        assert_eq!(step(&s, limits(DAY, 1000), noon), Step::Wait);
        assert_eq!(step(&s, limits(DAY, 1000), later), Step::Remove(1));
        assert_eq!(step(&s, limits(DAY, 99), noon), Step::Remove(1), "more than the size that is kept");
    }

    #[test]
    fn few_queued_messages_are_moved_only_when_the_journal_has_grown_too_large() {
        let mut s = segments(&[(100, 1), (100, 1), (100, 1), (50, 0)]);
        mark_passed(&mut s, 100, Time(5));
        assert_eq!(step(&s, limits(Duration::ZERO, 0), Time(5)), Step::Wait);
        let mut s = segments(&[(100, 1), (100, 1), (100, 1), (100, 1), (100, 1), (100, 1), (50, 0)]);
        mark_passed(&mut s, 100, Time(5));
        assert_eq!(step(&s, limits(Duration::ZERO, 0), Time(5)), Step::Move(1));
        mark_passed(&mut s, 0, Time(5));
        assert_eq!(
            step(&s, limits(Duration::ZERO, 0), Time(5)),
            Step::Wait,
            "never from a segment that a consumer holds"
        );
    }

    #[test]
    fn the_segment_being_written_stays() {
        let mut s = segments(&[(50, 0)]);
        mark_passed(&mut s, 100, Time(5));
        assert_eq!(step(&s, limits(Duration::ZERO, 0), Time(5)), Step::Wait);
    }
}
