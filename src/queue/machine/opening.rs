//! Whether a queue gets another connection: what is ready, what the rates allow, and whose turn it is for a free slot.

use std::cmp::Reverse;

use crate::event::Time;
use crate::queue::throttle::Throttle;

use super::{Doing, Grant, Machine, Queue, QueueId, READY_PER_SESSION, Session, SessionId, Vmta};

impl Machine {
    /// The next connection that may be opened, if any may.
    pub fn open(&mut self, now: Time) -> Option<Grant> {
        if !self.started || self.stopping {
            return None;
        }
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, id))) = self.timers.pop() else { break };
            if let Some(Some(queue)) = self.queues.get_mut(id as usize)
                && queue.timer == Some(at)
            {
                queue.timer = None;
                self.run(id);
            }
        }
        loop {
            while let Some(id) = self.runnable.pop_front() {
                if let Some(queue) = self.queues[id as usize].as_mut() {
                    queue.runnable = false;
                    if let Some(grant) = self.consider(id, now) {
                        return Some(grant);
                    }
                }
            }
            // A slot may be left that the queue it was offered to did not need.
            let id = self.next_waiting()?;
            if let Some(queue) = self.queues[id as usize].as_mut() {
                queue.waiting = false;
            }
            self.run(id);
        }
    }

    /// The next queue that waits for a slot that is free. Takes it off its list, so that asking again ends.
    fn next_waiting(&mut self) -> Option<QueueId> {
        if self.connections >= self.limits.total_max_smtp_out() {
            return None;
        }
        self.waiting.pop_front().or_else(|| {
            let has_slot = |v: &&mut Vmta| {
                let max = v.settings.as_ref().and_then(|s| s.max_smtp_out);
                !v.waiting.is_empty() && max.is_none_or(|max| v.connections < max)
            };
            self.vmtas.iter_mut().find(has_slot)?.waiting.pop_front()
        })
    }

    /// Looks at one queue: opens a connection, wakes sessions, sets its timer, or forgets it.
    fn consider(&mut self, id: QueueId, now: Time) -> Option<Grant> {
        self.refresh(id, now);
        let queue = self.queues[id as usize].as_mut()?;
        queue.backlog.release_due(queue.settings.bounce_after, now);
        let next_due = queue.backlog.next_due(queue.settings.bounce_after);
        let look = queue.backlog.look_is_due(now);
        if look && queue.connections > 0 {
            // Sessions at work look before their next transaction.
            if let Some(session) = queue.idle.pop_front() {
                if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
                    s.doing = Doing::Working;
                }
                self.wakes.push(session);
            }
        } else if queue.backlog.ready() == 0 && !look {
            match next_due {
                Some(due) => self.arm(id, due),
                None => self.forget_if_quiet(id, now),
            }
            return None;
        }
        while !queue.idle.is_empty() && queue.backlog.ready() > 0 {
            // One session per ready recipient is woken at most; those that find nothing go back to sleep.
            if self.wakes.len() >= queue.backlog.ready() {
                break;
            }
            let Some(session) = queue.idle.pop_front() else { break };
            if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
                s.doing = Doing::Working;
            }
            self.wakes.push(session);
        }
        if let Some(due) = next_due.filter(|due| *due > now) {
            self.arm(id, due);
        }
        let queue = self.queues[id as usize].as_mut()?;
        if queue.connections as usize >= wanted(queue).max(usize::from(look)) {
            return None;
        }
        if let Some(at) = self.not_before(id, now) {
            self.arm(id, at);
            return None;
        }
        if !self.rate_is_worth_another(id) {
            return None;
        }
        if self.connections >= self.limits.total_max_smtp_out() {
            self.waiting.push_back(id);
            self.queues[id as usize].as_mut()?.waiting = true;
            self.reclaim_idle(None);
            return None;
        }
        let queue = self.queues[id as usize].as_mut()?;
        let vmta = &mut self.vmtas[queue.vmta];
        if vmta.settings.as_ref().and_then(|v| v.max_smtp_out).is_some_and(|max| vmta.connections >= max) {
            vmta.waiting.push_back(id);
            queue.waiting = true;
            let vmta = queue.vmta;
            self.reclaim_idle(Some(vmta));
            return None;
        }
        if let Some(rate) = queue.settings.max_connect_rate {
            queue.connect_rate.take(rate, 1, now);
        }
        queue.connections += 1;
        vmta.connections += 1;
        self.connections += 1;
        let grant_queue = queue.name.clone();
        let settings = queue.settings.clone();
        let session = Session {
            queue: id,
            doing: Doing::Opening,
            connected: false,
            transactions: 0,
            idle_until: Time::UNKNOWN,
            source: None,
            condemned: Vec::new(),
        };
        let number = match self.free_sessions.pop() {
            Some(n) => {
                self.sessions[n as usize] = Some(session);
                n
            }
            None => {
                self.sessions.push(Some(session));
                (self.sessions.len() - 1) as u32
            }
        };
        // It may need another; behind the others, so that all queues grow in turn.
        self.run(id);
        Some(Grant { session: SessionId(number), queue: grant_queue, settings })
    }

    /// The time before which no connection may be opened, if there is one: sleep, pause, rates.
    pub(super) fn not_before(&self, id: QueueId, now: Time) -> Option<Time> {
        let queue = self.queues[id as usize].as_ref()?;
        let connect = queue.settings.max_connect_rate.map(|rate| queue.connect_rate.ready_at(rate, now));
        [queue.retry.sleeping_until(now), queue.open_pause, connect, Some(self.rate_ready(queue, now))]
            .into_iter()
            .flatten()
            .max()
            .filter(|at| *at > now)
    }

    /// Under a rate limit no more connections are being opened than may send at once, and none while one waits for the
    /// rate: else all that are allowed would be opened, and closed again after one message.
    fn rate_is_worth_another(&self, id: QueueId) -> bool {
        let Some(queue) = self.queues[id as usize].as_ref() else { return false };
        let shared = self.vmtas[queue.vmta].settings.as_ref().and_then(|v| v.max_smtp_msg_rate);
        let burst = [queue.settings.max_msg_rate, shared].into_iter().flatten().map(Throttle::burst).min();
        burst.is_none_or(|burst| queue.throttled == 0 && u64::from(queue.connections - queue.connected) < burst)
    }

    /// When the rates of queue and VirtualMTA allow the next recipient.
    pub(super) fn rate_ready(&self, queue: &Queue, now: Time) -> Time {
        let vmta = &self.vmtas[queue.vmta];
        let own = queue.settings.max_msg_rate.map_or(now, |rate| queue.recipients_rate.ready_at(rate, now));
        let shared = vmta.settings.as_ref().and_then(|v| v.max_smtp_msg_rate);
        own.max(shared.map_or(now, |rate| vmta.recipients_rate.ready_at(rate, now)))
    }

    /// Wakes the session that has been idle for longest, to close: another queue waits for its slot.
    fn reclaim_idle(&mut self, vmta: Option<usize>) {
        let oldest = self
            .sessions
            .iter()
            .enumerate()
            .filter_map(|(n, s)| Some((n, s.as_ref()?)))
            .filter(|(_, s)| s.doing == Doing::Idle)
            .filter(|(_, s)| vmta.is_none_or(|v| self.queues[s.queue as usize].as_ref().is_some_and(|q| q.vmta == v)))
            .min_by_key(|(_, s)| s.idle_until)
            .map(|(n, s)| (SessionId(n as u32), s.queue));
        if let Some((session, queue)) = oldest {
            if let Some(queue) = self.queues[queue as usize].as_mut() {
                queue.idle.retain(|s| *s != session);
            }
            if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
                s.doing = Doing::Working;
            }
            self.wakes.push(session);
        }
    }
}

/// How many connections the recipients that are ready are worth, as far as the queue may have them.
pub(super) fn wanted(queue: &Queue) -> usize {
    queue.backlog.ready().div_ceil(READY_PER_SESSION).min(queue.settings.max_smtp_out as usize)
}
