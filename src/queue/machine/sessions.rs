//! What a connection sends next, and what becomes of what it has drawn.

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{QueueSettings, Transport};
use crate::event::Time;
use crate::queue::backlog::{Drawn, Fate};

use super::opening::wanted;
use super::{Doing, Machine, Next, Purpose, QUANTUM, QueueId, SessionId};

/// How long a connection waits for more mail even where `connection-idle-timeout` is zero, so that a queue that is fed
/// steadily keeps its connections.
pub const LINGER: Duration = Duration::from_millis(100);

/// How long a session waits for a rate limit before it rather gives its connection up.
const THROTTLE_WAIT: Duration = Duration::from_secs(5);

/// How long no connection is opened after one failed while others of the queue work.
const OPEN_PAUSE: Duration = Duration::from_secs(10);

/// Recipients of one draw of those on hold.
const LOOKS_AT_ONCE: usize = 100;

/// Recipients of one draw of expired ones.
const EXPIRED_AT_ONCE: usize = 1000;

impl Machine {
    /// The settings the session's queue has now.
    pub fn settings(&mut self, session: SessionId, now: Time) -> Option<Arc<QueueSettings>> {
        let id = self.sessions.get(session.0 as usize)?.as_ref()?.queue;
        self.refresh(id, now);
        Some(self.queues[id as usize].as_ref()?.settings.clone())
    }

    /// Takes back what the session had drawn; empties `drawn`.
    pub fn settle(&mut self, session: SessionId, drawn: &mut Vec<Drawn>, delivered: bool, now: Time) {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return };
        let id = s.queue;
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        queue.in_flight = queue.in_flight.saturating_sub(drawn.len() as u32);
        for one in drawn.iter().filter(|one| one.fate == Fate::Done) {
            self.recipients = self.recipients.saturating_sub(1);
            self.jobs.leave(one.entry.job());
        }
        self.take_back(id, drawn, now);
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        drawn.clear();
        if delivered {
            // One that was put to sleep on purpose sleeps on.
            if !queue.deferred || queue.retry.sleeping_until(now).is_none() {
                queue.retry.delivered();
                queue.deferred = false;
                queue.last_error = "".into();
            }
            queue.open_pause = None;
            if queue.mode.delivered(&queue.normal, now) {
                self.mode_changed(id, now);
            }
        }
    }

    /// What the session does next; the recipients go to `drawn`, which must be empty (see [`Machine::settle`]).
    pub fn next(&mut self, session: SessionId, purpose: Purpose, drawn: &mut Vec<Drawn>, now: Time) -> Next {
        let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) else { return Next::Close };
        let id = s.queue;
        let was = std::mem::replace(&mut s.doing, Doing::Working);
        let newly_connected = purpose == Purpose::Deliver && !std::mem::replace(&mut s.connected, true);
        let transactions = s.transactions;
        let idle_until = s.idle_until;
        let source = s.source;
        self.refresh(id, now);
        let others_wait = {
            let vmta = self.queues[id as usize].as_ref().map_or(0, |q| q.vmta);
            // A queue that waits for more connections itself does not make its own give way.
            self.waiting.iter().chain(&self.vmtas[vmta].waiting).any(|waits| *waits != id)
        };
        let total_max = self.limits.total_max_smtp_out();
        let one_only = self.limits.one_recipient_per_transaction();
        let Some(queue) = self.queues[id as usize].as_mut() else { return Next::Close };
        queue.connected += u32::from(newly_connected);
        match was {
            Doing::Idle => queue.idle.retain(|other| *other != session),
            Doing::Throttled => queue.throttled -= 1,
            Doing::Opening | Doing::Working => {}
        }
        if self.stopping {
            return Next::Close;
        }
        queue.backlog.release_due(queue.settings.bounce_after, now);
        if newly_connected && (queue.connections as usize) < wanted(queue) {
            // What a rate limit held back while this one was opening may be opened now.
            self.run(id);
        }
        let Some(queue) = self.queues[id as usize].as_mut() else { return Next::Close };
        if purpose == Purpose::Dispose {
            return self.draw(session, id, usize::MAX, false, drawn, now).unwrap_or(Next::Close);
        }
        if source.is_some_and(|ip| queue.sources.is_disabled(ip))
            || (queue.deferred && queue.retry.sleeping_until(now).is_some())
        {
            return Next::Close;
        }
        let limit = queue.settings.max_msg_per_connection;
        if (limit > 0 && transactions >= limit)
            || queue.connections > queue.settings.max_smtp_out
            || self.connections > total_max
            || (others_wait && (transactions >= QUANTUM || queue.backlog.ready() == 0))
        {
            return Next::Close;
        }
        if queue.backlog.ready() == 0 {
            if was == Doing::Idle && idle_until <= now {
                return Next::Close;
            }
            let until = now + queue.settings.connection_idle_timeout.max(LINGER);
            queue.idle.push_back(session);
            return self.rest(session, Doing::Idle, until);
        }
        let mut max = match queue.settings.max_rcpt_per_message {
            0 => usize::MAX,
            n => n as usize,
        };
        let shared = self.vmtas[queue.vmta].settings.as_ref().and_then(|v| v.max_smtp_msg_rate);
        for rate in [queue.settings.max_msg_rate, shared].into_iter().flatten() {
            max = max.min(usize::try_from(rate.count.max(1)).unwrap_or(usize::MAX));
        }
        // A program is run for one recipient.
        if one_only || queue.settings.add_token_header || queue.settings.transport == Transport::Pipe {
            max = 1;
        }
        let queue = self.queues[id as usize].as_ref();
        let ready = queue.map_or(now, |q| self.rate_ready(q, now));
        let Some(queue) = self.queues[id as usize].as_mut() else { return Next::Close };
        if ready > now {
            let patience = THROTTLE_WAIT.max(queue.settings.connection_idle_timeout);
            if queue.throttled > 0 || ready.since(now) > patience {
                self.arm(id, ready);
                return Next::Close;
            }
            queue.throttled += 1;
            return self.rest(session, Doing::Throttled, ready);
        }
        self.draw(session, id, max, true, drawn, now).unwrap_or(Next::Close)
    }

    fn rest(&mut self, session: SessionId, doing: Doing, until: Time) -> Next {
        if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
            s.doing = doing;
            s.idle_until = until;
        }
        Next::Idle(until)
    }

    fn draw(
        &mut self,
        session: SessionId,
        id: QueueId,
        max: usize,
        counts: bool,
        drawn: &mut Vec<Drawn>,
        now: Time,
    ) -> Option<Next> {
        let queue = self.queues[id as usize].as_mut()?;
        let expired = queue.backlog.draw(max, queue.settings.bounce_after, now, drawn);
        let message = drawn.first()?.entry.message();
        let n = drawn.len() as u64;
        queue.in_flight += drawn.len() as u32;
        if expired {
            return Some(Next::Expired(message));
        }
        if counts {
            if let Some(rate) = queue.settings.max_msg_rate {
                queue.recipients_rate.take(rate, n, now);
            }
            let vmta = &mut self.vmtas[queue.vmta];
            if let Some(rate) = vmta.settings.as_ref().and_then(|v| v.max_smtp_msg_rate) {
                vmta.recipients_rate.take(rate, n, now);
            }
            if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
                s.transactions += 1;
            }
        }
        Some(Next::Transaction(message))
    }

    /// Draws recipients of the session's queue that have expired, of any number of messages. For queues that can't be
    /// reached, whose recipients no transaction draws.
    pub fn next_expired(&mut self, session: SessionId, drawn: &mut Vec<Drawn>, now: Time) {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return };
        queue.backlog.release_due(queue.settings.bounce_after, now);
        queue.backlog.draw_expired(EXPIRED_AT_ONCE, queue.settings.bounce_after, now, drawn);
        queue.in_flight += drawn.len() as u32;
    }

    /// Draws recipients of the session's queue that are on hold and to be looked at again.
    pub fn next_on_hold(&mut self, session: SessionId, drawn: &mut Vec<Drawn>, now: Time) {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return };
        queue.backlog.draw_on_hold(LOOKS_AT_ONCE, now, drawn);
        queue.in_flight += drawn.len() as u32;
    }

    /// Whether the session's queue has recipients on hold that are to be looked at.
    pub fn look_is_due(&self, session: SessionId, now: Time) -> bool {
        let queue =
            self.sessions.get(session.0 as usize).and_then(|s| self.queues[s.as_ref()?.queue as usize].as_ref());
        queue.is_some_and(|q| q.backlog.look_is_due(now))
    }

    /// Whether the session's queue has mail that may be sent, and may have the session's connection. One that was opened to
    /// look at recipients on hold may find neither.
    pub fn has_ready(&self, session: SessionId) -> bool {
        let queue =
            self.sessions.get(session.0 as usize).and_then(|s| self.queues[s.as_ref()?.queue as usize].as_ref());
        queue.is_some_and(|q| q.backlog.ready() > 0 && q.connections <= q.settings.max_smtp_out)
    }

    /// Has all recipients that are on hold looked at now.
    pub fn look_now(&mut self, now: Time) {
        for id in 0..self.queues.len() as QueueId {
            if let Some(queue) = self.queues[id as usize].as_mut().filter(|q| q.backlog.on_hold() > 0) {
                queue.backlog.look_now(now);
                self.run(id);
            }
        }
    }

    /// The session could not get through to any host of its queue. `true` when this put the queue to sleep: the failure
    /// is to be recorded once. While other sessions of the queue work it only pauses the opening of more.
    pub fn failed(&mut self, session: SessionId, error: &str, now: Time) -> bool {
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return false };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return false };
        queue.last_error = error.into();
        if queue.mode.failed(queue.normal.max_errors_per_domain, error, now) {
            let id = s.queue;
            self.mode_changed(id, now);
        }
        let Some(Some(s)) = self.sessions.get(session.0 as usize) else { return false };
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return false };
        if queue.connected > u32::from(s.connected) {
            queue.open_pause = Some(now + OPEN_PAUSE);
            return false;
        }
        let slept = queue.retry.failed(&queue.settings.retry_after, now);
        queue.deferred &= !slept;
        slept
    }

    /// The session is over: its slot goes to who waits for one.
    pub fn release(&mut self, session: SessionId) {
        let Some(s) = self.sessions.get_mut(session.0 as usize).and_then(Option::take) else { return };
        self.free_sessions.push(session.0);
        self.connections -= 1;
        self.put_back(s.queue, &s.condemned);
        let Some(queue) = self.queues[s.queue as usize].as_mut() else { return };
        queue.connections -= 1;
        queue.connected -= u32::from(s.connected);
        match s.doing {
            Doing::Idle => queue.idle.retain(|other| *other != session),
            Doing::Throttled => queue.throttled -= 1,
            Doing::Opening | Doing::Working => {}
        }
        let vmta = &mut self.vmtas[queue.vmta];
        vmta.connections -= 1;
        for id in [vmta.waiting.pop_front(), self.waiting.pop_front()].into_iter().flatten() {
            if let Some(queue) = self.queues[id as usize].as_mut() {
                queue.waiting = false;
            }
            self.run(id);
        }
        self.run(s.queue);
    }
}
