//! Where a queue stands in its retry list (`retry-after`; reference/directives.md, 3.4).
//!
//! Promises: each queue-level failure moves one place on, the last place repeats, any delivery goes back to the first.

use std::time::Duration;

use crate::event::Time;

/// A queue's place in its list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry {
    position: u16,
    until: Option<Time>,
}

impl Retry {
    /// The queue failed: it sleeps for the time at its place. `false` when it was asleep already: one failure of many
    /// sessions is one failure.
    pub fn failed(&mut self, list: &[Duration], now: Time) -> bool {
        if self.sleeping_until(now).is_some() {
            return false;
        }
        let at = usize::from(self.position).min(list.len().saturating_sub(1));
        // The model promises at least one; ten minutes are the directive's default.
        let pause = list.get(at).copied().unwrap_or(Duration::from_secs(600)).max(Duration::from_secs(1));
        self.position = (at + 1).min(usize::from(u16::MAX)) as u16;
        self.until = Some(now + pause);
        true
    }

    /// Something was delivered.
    pub fn delivered(&mut self) {
        *self = Retry::default();
    }

    /// The queue is to run now, its place kept.
    pub fn wake(&mut self) {
        self.until = None;
    }

    /// Until when it sleeps, if it does.
    pub fn sleeping_until(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_walked_its_end_repeats_and_a_delivery_starts_it_again() {
        let list = [60, 300].map(Duration::from_secs);
        let mut retry = Retry::default();
        let mut now = Time::from_secs(0);
        let mut pauses = Vec::new();
        for n in 0..5 {
            if n == 4 {
                retry.delivered();
            }
            assert!(retry.failed(&list, now));
            assert!(!retry.failed(&list, now), "a second failure of the same moment");
            let until = retry.sleeping_until(now).unwrap();
            pauses.push(until.since(now).as_secs());
            now = until;
            assert_eq!(retry.sleeping_until(now), None);
        }
        assert_eq!(pauses, [60, 300, 300, 300, 60]);
    }
}
