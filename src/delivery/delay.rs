//! Who is told that mail is still waiting, and when (NOTIFY=DELAY, RFC 3461, 4.1; `notify-of-delay-every`). Pure.
//!
//! Time is cut at the multiples of the interval since a message came. A recipient that is still queued when such a border
//! has passed, and whose sender asked for it, is named in a notice. Which borders are dealt with is one time for all
//! messages, kept by [`super::delay_watch`]: no border on this side of it is looked at again. So what each recipient has
//! been told needs no memory of its own, and neither a crash nor a clock that is put back tells anybody twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::{Action, MessageId, Time};
use crate::store::{Envelope, RcptState};

use super::notify::Ending;
use super::outcome::{DiagType, status};

/// The first border after `after`; `None` where there are no borders.
fn border(queued: Time, every: Duration, after: Time) -> Option<Time> {
    let every = i64::try_from(every.as_micros()).ok().filter(|every| *every > 0)?;
    let passed = after.0.saturating_sub(queued.0).max(0) / every;
    passed.checked_add(1)?.checked_mul(every)?.checked_add(queued.0).map(Time)
}

/// What holds for a recipient's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `notify-of-delay-every`; `None` is never.
    pub every: Option<Duration>,
    /// `bounce-after`.
    pub bounce_after: Duration,
    /// Why nothing of the queue can be sent now; empty when that is not so.
    pub last_error: String,
}

/// The recipients of a message to be named in a notice, since a border of theirs lies after `done` and not after `to`; and
/// when the next border comes after that.
pub fn late(
    envelope: &Envelope,
    queued: &[RcptState],
    terms: impl Fn(&str) -> Terms,
    (done, to): (Time, Time),
) -> (Vec<Ending>, Option<Time>) {
    let (mut endings, mut next) = (Vec::new(), None);
    if !envelope.asks_for_delays() {
        return (endings, next);
    }
    for state in queued {
        let Some(rcpt) = envelope.rcpts.get(usize::from(state.index)).filter(|rcpt| rcpt.asks_for_delays()) else {
            continue;
        };
        let Terms { every: Some(every), bounce_after, last_error } = terms(&rcpt.address) else { continue };
        if border(envelope.time_queued, every, done).is_some_and(|border| border <= to) {
            endings.push(waiting(state, envelope.time_queued + bounce_after, &last_error));
        }
        let following = border(envelope.time_queued, every, done.max(to));
        next = next.into_iter().chain(following).min();
    }
    (endings, next)
}

fn waiting(state: &RcptState, retry_until: Time, last_error: &str) -> Ending {
    let mut text = match state.attempts {
        0 => "not delivered yet".to_owned(),
        1 => "not delivered yet, after 1 attempt".to_owned(),
        n => format!("not delivered yet, after {n} attempts"),
    };
    if !last_error.is_empty() {
        text.push_str("; last failure of the queue: ");
        text.push_str(last_error);
    }
    Ending {
        rcpt: state.index,
        action: Action::Delayed,
        status: status(4, 0, 0),
        text: text.into(),
        diag_type: DiagType::Own,
        mta: "".into(),
        mta_ip: None,
        last_attempt: Time::UNKNOWN,
        retry_until,
    }
}

/// The messages with recipients whose senders want to hear of delays, by the time of their next border.
#[derive(Debug, Default)]
pub struct Watched {
    due: BTreeSet<(Time, MessageId)>,
    /// How many there were when those that are gone were last taken out.
    swept: usize,
    /// How often room was asked for in vain.
    asked: u32,
}

impl Watched {
    /// Adds a message; one without a border is kept until the configuration changes.
    pub fn add(&mut self, id: MessageId, next: Option<Time>) {
        self.due.insert((next.unwrap_or(Time(i64::MAX)), id));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> impl Iterator<Item = MessageId> + use<> {
        std::mem::take(&mut self.due).into_iter().map(|(_, id)| id)
    }

    /// Takes those out whose border is not after `now`, about `most` of them, the earliest first, and says up to when
    /// these are all.
    pub fn take_due(&mut self, now: Time, most: usize) -> (Vec<MessageId>, Time) {
        let mut taken = Vec::new();
        let mut last = Time::UNKNOWN;
        while let Some(&(at, id)) = self.due.first() {
            if at > now {
                return (taken, now);
            }
            // Those of one instant are dealt with together: what is dealt with is told by time alone.
            if taken.len() >= most && at > last {
                return (taken, last);
            }
            self.due.pop_first();
            taken.push(id);
            last = at;
        }
        (taken, now)
    }

    /// Takes out what is no longer queued, once there are twice as many as the last time this was done.
    pub fn sweep(&mut self, is_queued: impl Fn(MessageId) -> bool) {
        const FEW: usize = 10_000;
        if self.due.len() > 2 * self.swept.max(FEW) {
            self.sweep_now(is_queued);
        }
    }

    /// The same where there is no more room: the first time and each 65,536th it is asked, since it looks at all of them.
    pub fn sweep_full(&mut self, is_queued: impl Fn(MessageId) -> bool) {
        self.asked = self.asked.wrapping_add(1);
        if self.asked % (1 << 16) == 1 {
            self.sweep_now(is_queued);
        }
    }

    fn sweep_now(&mut self, is_queued: impl Fn(MessageId) -> bool) {
        self.due.retain(|(_, id)| is_queued(*id));
        self.swept = self.due.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::macros::tests::message;
    use crate::store::Recipient;
    use proptest::prelude::*;

    const CAME: Time = Time::from_secs(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn at(secs: u64) -> Time {
        CAME + Duration::from_secs(secs)
    }

    fn envelope(notify: &[u8]) -> Envelope {
        let rcpt = |notify: &u8| Recipient { address: "a@b.example".into(), orcpt: "".into(), notify: *notify };
        Envelope { rcpts: notify.iter().map(rcpt).collect(), ..message("", "").envelope }
    }

    fn states(n: u16) -> Vec<RcptState> {
        (0..n).map(|index| RcptState { index, attempts: index, not_before: CAME, in_doubt: false }).collect()
    }

    fn hourly(_: &str) -> Terms {
        Terms { every: Some(HOUR), bounce_after: 24 * HOUR, last_error: String::new() }
    }

    #[test]
    fn who_asked_for_delays_is_named_once_a_border_has_passed_and_only_then() {
        // Not given, NEVER, SUCCESS and FAILURE, DELAY, all three.
        let asked = envelope(&[0, 1, 6, 8, 14]);
        let look = |done, to| late(&asked, &states(5), hourly, (at(done), at(to)));
        assert_eq!(look(0, 3599), (Vec::new(), Some(at(3600))));
        let (named, next) = look(0, 3600);
        assert_eq!((named.iter().map(|e| e.rcpt).collect::<Vec<_>>(), next), (vec![3, 4], Some(at(7200))));
        assert_eq!((named[0].action, named[0].retry_until), (Action::Delayed, at(86_400)));
        assert_eq!(&*named[0].text, "not delivered yet, after 3 attempts");
        let refused = |_: &str| Terms { last_error: "connection refused".into(), ..hourly("") };
        let text = &late(&asked, &states(5), refused, (at(0), at(3600))).0[0].text;
        assert_eq!(&**text, "not delivered yet, after 3 attempts; last failure of the queue: connection refused");
        assert_eq!(look(3600, 7199), (Vec::new(), Some(at(7200))));
        assert_eq!(look(3600, 40_000).0.len(), 2, "several borders are one notice");
        assert_eq!(look(7200, 3600), (Vec::new(), Some(at(10_800))), "a clock that is put back tells nobody again");
        let never = |_: &str| Terms { every: None, ..hourly("") };
        assert_eq!(late(&asked, &states(5), never, (at(0), at(9999))), (Vec::new(), None));
        for silent in [Envelope { orig: "".into(), ..asked.clone() }, Envelope { no_dsn: true, ..asked.clone() }] {
            assert_eq!(late(&silent, &states(5), hourly, (at(0), at(9999))), (Vec::new(), None));
        }
        assert_eq!(late(&asked, &states(3), hourly, (at(0), at(9999))).0, [], "what has ended is not named");
    }

    #[test]
    fn the_earliest_are_taken_first_and_those_of_one_instant_together() {
        let mut watched = Watched::default();
        for (id, secs) in [(1, 30), (2, 10), (3, 20), (4, 20), (5, 40)] {
            watched.add(MessageId(id), Some(at(secs)));
        }
        watched.add(MessageId(6), None);
        assert_eq!(watched.take_due(at(5), 2), (vec![], at(5)));
        let ids = |ids: &[u64]| ids.iter().map(|id| MessageId(*id)).collect::<Vec<_>>();
        assert_eq!(watched.take_due(at(35), 2), (ids(&[2, 3, 4]), at(20)));
        assert_eq!(watched.take_due(at(35), 2), (ids(&[1]), at(35)));
        assert_eq!(watched.take_all().collect::<Vec<_>>(), ids(&[5, 6]));
    }

    proptest! {
        /// However a recipient's stay is cut into looks, by crashes too: no interval has two notices, and none without a
        /// crash is left out.
        #[test]
        fn each_border_is_told_of_at_most_once(
            every in 1u64..500,
            looks in proptest::collection::vec((0u64..300, any::<bool>()), 1..40),
        ) {
            let asked = envelope(&[8]);
            let terms = |_: &str| Terms { every: Some(Duration::from_secs(every)), ..hourly("") };
            let (mut now, mut done, mut told) = (0, 0, Vec::new());
            for (pass, crash) in &looks {
                now += pass;
                let (named, next) = late(&asked, &states(1), terms, (at(done), at(now)));
                let passed = now / every > done / every;
                prop_assert_eq!(named.len(), usize::from(passed));
                prop_assert!(next.unwrap() > at(now));
                // What is dealt with is written before anybody is told.
                done = now;
                if !named.is_empty() && !crash {
                    told.push(now / every);
                }
            }
            prop_assert!(told.windows(2).all(|w| w[0] < w[1]), "{:?}", told);
        }
    }
}
