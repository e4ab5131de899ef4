//! What replies and failures make of a queue: its mode, its source addresses, an early retry, the end of all its mail.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::QueueMode;
use crate::event::Time;
use crate::queue::backlog::Drawn;
use crate::queue::sources::Disabled;

use super::{Doing, Machine, News, QueueId, SessionId};

/// Condemned recipients of one draw.
const CONDEMNED_AT_ONCE: usize = 1000;

/// What a queue is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steer<'a> {
    /// Change its mode.
    pub mode: Option<QueueMode>,
    /// Not to use this address: for this long, for good, or for as long as the queue's settings say.
    pub disable: Option<(IpAddr, Option<Option<Duration>>)>,
    /// Sleep now, as after a failure of the queue.
    pub defer: bool,
    /// A session failed in a way that `max-errors-per-domain` counts.
    pub error: bool,
    /// Which pattern said so, and of what reply.
    pub why: &'a str,
}

impl Machine {
    /// Does as it is told with the queue of the session.
    pub fn steer(&mut self, session: SessionId, steer: &Steer<'_>, now: Time) {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return };
        let id = s.queue;
        self.refresh(id, now);
        if let Some(mode) = steer.mode {
            self.set_mode(id, mode, steer.why, now);
        }
        if steer.error
            && let Some(queue) = self.queues[id as usize].as_mut()
            && queue.mode.failed(queue.normal.max_errors_per_domain, steer.why, now)
        {
            self.mode_changed(id, now);
        }
        if let Some((ip, after)) = steer.disable {
            self.disable_source(id, ip, after, steer.why, now);
        }
        if steer.defer {
            let Some(queue) = self.queues[id as usize].as_mut() else { return };
            queue.last_error = steer.why.into();
            if queue.retry.failed(&queue.settings.retry_after, now) {
                queue.deferred = true;
                let until = queue.retry.sleeping_until(now);
                self.news.push((queue.name.clone(), News::Deferred(until, steer.why.into())));
            }
            self.wake_resting(id, |_| true);
            self.run(id);
        }
    }

    /// Changes the mode of the queues that `matches` by name; how many there are, and how many changed.
    pub fn set_modes(&mut self, matches: impl Fn(&str) -> bool, mode: QueueMode, now: Time) -> (usize, usize) {
        let (mut found, mut changed) = (0, 0);
        for id in 0..self.queues.len() as QueueId {
            if self.queues[id as usize].as_ref().is_some_and(|q| matches(q.name.as_str())) {
                found += 1;
                changed += usize::from(self.set_mode(id, mode, "by hand", now));
            }
        }
        (found, changed)
    }

    /// Uses `ip` again for the queues that `matches` by name; for how many it was disabled.
    pub fn enable_source(&mut self, matches: impl Fn(&str) -> bool, ip: IpAddr) -> usize {
        let mut count = 0;
        for id in 0..self.queues.len() as QueueId {
            let Some(queue) = self.queues[id as usize].as_mut().filter(|q| matches(q.name.as_str())) else { continue };
            if queue.sources.enable(ip) {
                count += 1;
                queue.retry.wake();
                self.news.push((queue.name.clone(), News::Enabled(ip)));
                self.run(id);
            }
        }
        count
    }

    fn set_mode(&mut self, id: QueueId, mode: QueueMode, why: &str, now: Time) -> bool {
        let Some(queue) = self.queues[id as usize].as_mut() else { return false };
        let changed = queue.mode.set(mode, why, now);
        if changed {
            self.mode_changed(id, now);
        }
        changed
    }

    /// The limits of the other mode hold from now on.
    pub(super) fn mode_changed(&mut self, id: QueueId, now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        queue.settings = queue.mode.effective(&queue.normal);
        if !queue.mode.is_backoff() {
            // What was taken at the slow rate is no debt at the fast one.
            queue.recipients_rate = Default::default();
            queue.connect_rate = Default::default();
        }
        let why = queue.mode.changed().map_or("", |(_, why)| why);
        self.news.push((queue.name.clone(), News::Mode(queue.mode.mode(), why.into())));
        let end = queue.mode.ends(&queue.normal);
        if let Some(end) = end.filter(|end| *end > now) {
            self.arm(id, end);
        }
        self.run(id);
    }

    fn disable_source(&mut self, id: QueueId, ip: IpAddr, after: Option<Option<Duration>>, why: &str, now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        let after = after.unwrap_or(queue.normal.reenable_source_ip_after);
        if !queue.sources.disable(ip, after, why, now) {
            return;
        }
        let until = after.map(|after| now + after);
        self.news.push((queue.name.clone(), News::Disabled(ip, until, why.into())));
        let none_left = queue.sources.leave_none_of(self.vmtas[queue.vmta].settings.as_deref());
        if none_left && queue.normal.backoff_upon_all_sources_disabled {
            self.set_mode(id, QueueMode::Backoff, &format!("backoff-upon-all-sources-disabled: {why}"), now);
        }
        if let Some(until) = until {
            self.arm(id, until);
        }
        self.wake_resting(id, |source| source == Some(ip));
    }

    /// Wakes the resting sessions of a queue, of the source addresses asked for, to hear what they are to do.
    fn wake_resting(&mut self, id: QueueId, of: impl Fn(Option<IpAddr>) -> bool) {
        for (n, session) in self.sessions.iter().enumerate() {
            if let Some(s) = session
                && s.queue == id
                && matches!(s.doing, Doing::Idle | Doing::Throttled)
                && of(s.source)
            {
                self.wakes.push(SessionId(n as u32));
            }
        }
    }

    /// The session's connection comes from this address.
    pub fn connected_from(&mut self, session: SessionId, source: Option<IpAddr>) {
        if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
            s.source = source;
        }
    }

    /// The source addresses that the session's queue does not use now.
    pub fn disabled_sources(&mut self, session: SessionId, now: Time) -> Vec<IpAddr> {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return Vec::new() };
        let id = s.queue;
        self.refresh(id, now);
        let queue = self.queues[id as usize].as_ref();
        queue.map_or(Vec::new(), |q| q.sources.all().iter().map(|d: &Disabled| d.ip).collect())
    }

    /// Puts all recipients of the session's queue that no other session has drawn into its hands, to be ended; how many.
    pub fn condemn(&mut self, session: SessionId, why: &str) -> usize {
        let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) else { return 0 };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return 0 };
        s.condemned.extend(queue.backlog.take_all());
        queue.last_error = why.into();
        if !s.condemned.is_empty() {
            self.news.push((queue.name.clone(), News::Condemned(s.condemned.len(), why.into())));
        }
        s.condemned.len()
    }

    /// Some of those that [`Machine::condemn`] took; none when all are dealt with.
    pub fn next_condemned(&mut self, session: SessionId, drawn: &mut Vec<Drawn>) {
        let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) else { return };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return };
        let from = s.condemned.len().saturating_sub(CONDEMNED_AT_ONCE);
        drawn.extend(s.condemned.drain(from..).map(Drawn::of));
        queue.in_flight += drawn.len() as u32;
    }
}
