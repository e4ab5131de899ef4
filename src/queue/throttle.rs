//! How often something may happen: a token bucket that may go into debt.
//!
//! Promises: over any span the count stays within rate times span plus [`burst`](Throttle::burst), whatever was taken at
//! once. Pure: the clock comes in; one that jumps back holds nothing up for longer than the debt.

use crate::config::model::Rate;
use crate::event::Time;

/// One limit's state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Throttle {
    /// When all that was taken will have been given back.
    full_at: Time,
    /// The clock when something was last taken.
    taken_at: Time,
}

impl Throttle {
    /// How many may happen at once after a pause: what the rate gives in a tenth of a second, at least one. Small, so
    /// that a limit of "so many an hour" is spread over the hour.
    pub fn burst(rate: Rate) -> u64 {
        let per = rate.per.as_micros().max(1);
        u64::try_from(u128::from(rate.count) * 100_000 / per).unwrap_or(u64::MAX).max(1)
    }

    /// When the next may happen: now or later. A rate of nothing allows nothing before a day has passed.
    pub fn ready_at(&self, rate: Rate, now: Time) -> Time {
        if rate.count == 0 {
            return now + std::time::Duration::from_secs(86_400);
        }
        // It is usable when at most burst - 1 are missing.
        Time(self.full_at(now).0.saturating_sub(span(rate, Self::burst(rate) - 1))).max(now)
    }

    /// `full_at` by a clock that may have been set back since: the debt stays the same, not its end.
    fn full_at(&self, now: Time) -> Time {
        Time(self.full_at.0.saturating_sub(self.taken_at.0.saturating_sub(now.0).max(0)))
    }

    /// Takes `n`; more than there is goes into debt, which `ready_at` then waits for.
    pub fn take(&mut self, rate: Rate, n: u64, now: Time) {
        self.full_at = Time(self.full_at(now).0.max(now.0).saturating_add(span(rate, n)));
        self.taken_at = now;
    }

    /// Whether nothing taken still counts.
    pub fn is_full(&self, now: Time) -> bool {
        self.full_at(now) <= now
    }
}

/// The microseconds in which the rate gives `n`.
fn span(rate: Rate, n: u64) -> i64 {
    i64::try_from(rate.per.as_micros().saturating_mul(u128::from(n)) / u128::from(rate.count.max(1)))
        .unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn rate(count: u64, secs: u64) -> Rate {
        Rate { count, per: Duration::from_secs(secs) }
    }

    #[test]
    fn a_rate_per_hour_is_spread_over_the_hour() {
        let (mut t, r, now) = (Throttle::default(), rate(100, 3600), Time::from_secs(1000));
        assert_eq!(t.ready_at(r, now), now);
        t.take(r, 1, now);
        assert_eq!(t.ready_at(r, now), Time::from_secs(1036));
    }

    #[test]
    fn what_was_taken_at_once_is_waited_for() {
        let (mut t, r, now) = (Throttle::default(), rate(10, 1), Time::from_secs(1000));
        t.take(r, 50, now);
        assert_eq!(t.ready_at(r, now), Time::from_secs(1005));
        assert!(!t.is_full(now) && t.is_full(Time::from_secs(1005)));
    }

    #[test]
    fn a_clock_that_is_set_back_lengthens_no_debt() {
        let (mut t, r, now) = (Throttle::default(), rate(1, 60), Time::from_secs(100_000));
        t.take(r, 1, now);
        let back = Time::from_secs(10);
        assert_eq!(t.ready_at(r, back), Time::from_secs(70));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_and_one_burst_pass(count in 1u64..5000, secs in 1u64..100, steps in prop::collection::vec(0i64..200_000, 1..300)) {
            let (mut t, r, start) = (Throttle::default(), rate(count, secs), Time::from_secs(1_000_000));
            let (mut now, mut taken) = (start, 0u64);
            for step in steps {
                now.0 += step;
                while t.ready_at(r, now) <= now {
                    t.take(r, 1, now);
                    taken += 1;
                }
                let allowed = count as f64 * now.since(start).as_secs_f64() / secs as f64;
                prop_assert!(taken as f64 <= allowed + Throttle::burst(r) as f64 + 1.0, "{} of {}", taken, allowed);
            }
        }
    }
}
