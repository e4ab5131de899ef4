//! Normal or backoff: the mode of one queue (reference/directives.md, 3.5). Pure.
//!
//! Promises: in backoff mode the `backoff-` settings stand in place of the normal ones, everywhere at once
//! ([`Mode::effective`]); a mode that is entered again keeps its beginning; nothing of it outlives the process.

use std::sync::Arc;

use crate::config::QueueMode;
use crate::config::model::QueueSettings;
use crate::event::Time;

/// The mode of a queue, and how it came to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mode {
    mode: QueueMode,
    /// When it last changed, and why.
    changed: Option<(Time, Box<str>)>,
    /// Failures of connections and sessions since the last delivery.
    errors: u32,
}

impl Mode {
    /// Which it is.
    pub fn mode(&self) -> QueueMode {
        self.mode
    }

    /// Whether it is backoff mode.
    pub fn is_backoff(&self) -> bool {
        self.mode == QueueMode::Backoff
    }

    /// Since when, and why; `None` for a queue that has always been in normal mode.
    pub fn changed(&self) -> Option<(Time, &str)> {
        self.changed.as_ref().map(|(at, why)| (*at, &**why))
    }

    /// Changes it. `false` when it was so already: then its beginning and its reason stay.
    pub fn set(&mut self, mode: QueueMode, why: &str, now: Time) -> bool {
        if self.mode == mode {
            return false;
        }
        self.mode = mode;
        self.errors = 0;
        self.changed = Some((now, why.into()));
        true
    }

    /// A connection or session failed: `max-errors-per-domain` of them in a row begin backoff mode. Whether they have.
    pub fn failed(&mut self, limit: u32, why: &str, now: Time) -> bool {
        self.errors = self.errors.saturating_add(1);
        limit > 0
            && self.errors >= limit
            && self.set(QueueMode::Backoff, &format!("max-errors-per-domain {limit}: {why}"), now)
    }

    /// Something was delivered. Whether this ended backoff mode.
    pub fn delivered(&mut self, settings: &QueueSettings, now: Time) -> bool {
        self.errors = 0;
        settings.backoff_to_normal_after_delivery
            && self.set(QueueMode::Normal, "backoff-to-normal-after-delivery: something was delivered", now)
    }

    /// Time has passed. Whether this ended backoff mode.
    pub fn elapsed(&mut self, settings: &QueueSettings, now: Time) -> bool {
        self.ends(settings).is_some_and(|end| end <= now)
            && self.set(QueueMode::Normal, "backoff-to-normal-after: the time is over", now)
    }

    /// When time alone ends backoff mode, if it is that and it does.
    pub fn ends(&self, settings: &QueueSettings) -> Option<Time> {
        let (since, _) = self.changed.as_ref().filter(|_| self.is_backoff())?;
        settings.backoff_to_normal_after.map(|after| *since + after)
    }

    /// The settings that hold in this mode.
    pub fn effective(&self, normal: &Arc<QueueSettings>) -> Arc<QueueSettings> {
        if !self.is_backoff() {
            return normal.clone();
        }
        Arc::new(QueueSettings {
            retry_after: normal.backoff_retry_after.clone(),
            max_smtp_out: normal.backoff_max_smtp_out,
            max_msg_rate: normal.backoff_max_msg_rate.unwrap_or(normal.max_msg_rate),
            max_connect_rate: normal.backoff_max_connect_rate.unwrap_or(normal.max_connect_rate),
            ..(**normal).clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Rate;
    use std::time::Duration;

    fn at(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn backoff_has_its_own_limits_and_takes_the_normal_rates_where_it_has_none() {
        let rate = |count| Some(Rate { count, per: Duration::from_secs(60) });
        let normal = Arc::new(QueueSettings {
            max_smtp_out: 50,
            max_msg_rate: rate(1000),
            max_connect_rate: rate(30),
            backoff_max_msg_rate: Some(rate(1)),
            retry_after: vec![Duration::from_secs(60)],
            ..QueueSettings::default()
        });
        let mut mode = Mode::default();
        assert!(Arc::ptr_eq(&mode.effective(&normal), &normal));
        assert!(mode.set(QueueMode::Backoff, "x:1", at(5)));
        let slow = mode.effective(&normal);
        assert_eq!((slow.max_smtp_out, slow.max_msg_rate, slow.max_connect_rate), (20, rate(1), rate(30)));
        assert_eq!(slow.retry_after, [Duration::from_secs(3600)], "an hour, whatever the normal one is");
    }

    #[test]
    fn it_ends_after_its_time_or_with_a_delivery_only_where_told_so() {
        let mut never = Mode::default();
        never.set(QueueMode::Backoff, "x:1", at(100));
        let plain = QueueSettings::default();
        assert!(!never.elapsed(&plain, at(1_000_000)) && !never.delivered(&plain, at(1_000_000)));
        let timed = QueueSettings { backoff_to_normal_after: Some(Duration::from_secs(60)), ..plain.clone() };
        let mut mode = never.clone();
        assert!(!mode.set(QueueMode::Backoff, "y:2", at(130)), "again is not anew");
        assert_eq!((mode.ends(&timed), mode.changed()), (Some(at(160)), Some((at(100), "x:1"))));
        assert!(!mode.elapsed(&timed, at(159)) && mode.elapsed(&timed, at(160)));
        assert_eq!((mode.mode(), mode.changed().unwrap().0), (QueueMode::Normal, at(160)));
        let after_delivery = QueueSettings { backoff_to_normal_after_delivery: true, ..plain };
        assert!(never.delivered(&after_delivery, at(200)) && !never.is_backoff());
    }

    #[test]
    fn so_many_failures_in_a_row_begin_it_and_a_delivery_starts_the_count_again() {
        let mut mode = Mode::default();
        assert!(!mode.failed(3, "a", at(1)) && !mode.failed(3, "b", at(2)));
        mode.delivered(&QueueSettings::default(), at(3));
        assert!(!mode.failed(3, "c", at(4)) && !mode.failed(3, "d", at(5)));
        assert!(mode.failed(3, "e", at(6)));
        assert_eq!(mode.changed(), Some((at(6), "max-errors-per-domain 3: e")));
        let mut never = Mode::default();
        assert!((0..1000).all(|n| !never.failed(0, "x", at(n))));
    }
}
