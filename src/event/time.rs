//! Points in time, as the ledger keeps them. Nothing here reads a clock: `now` comes in from an edge.

use std::fmt;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z. Zero stands for "not known".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

impl Time {
    /// "Not known": what an absent field holds.
    pub const UNKNOWN: Time = Time(0);

    /// From whole seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Time {
        Time(secs * 1_000_000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whether this is a known point in time.
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// The time between `earlier` and `self`; zero when `earlier` is later (clocks do jump back).
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant as `jiff` writes it; `None` outside the years jiff knows (-9999 to 9999).
    pub fn timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_microsecond(self.0).ok()
    }

    /// The UTC date, `YYYY-MM-DD`; `1970-01-01` when out of range.
    pub fn utc_date(self) -> jiff::civil::Date {
        self.timestamp().unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date()
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(t) if self.is_known() => write!(f, "{t}"),
            _ => write!(f, "Time({})", self.0),
        }
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(t: jiff::Timestamp) -> Time {
        Time(t.as_microsecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_back_gives_no_negative_duration() {
        assert_eq!(Time::from_secs(5).since(Time::from_secs(9)), Duration::ZERO);
        assert_eq!(Time::from_secs(9).since(Time::from_secs(5)), Duration::from_secs(4));
    }

    #[test]
    fn seconds_before_the_epoch_round_down() {
        assert_eq!(Time(-1).secs(), -1);
        assert_eq!(Time(1_999_999).secs(), 1);
    }
}
