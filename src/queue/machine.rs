//! Which queue may open a connection, and what a connection sends next. Pure: `now` comes in, values go out.
//!
//! Promises
//! - no limit is passed: connections per queue, per VirtualMTA and in all; recipients per interval; connections per interval;
//! - nobody starves: a session gives its slot away after [`QUANTUM`] transactions when other queues wait for one, and
//!   waiting queues are served in turn;
//! - a queue opens connections as it needs them: one more for each [`READY_PER_SESSION`] recipients ready;
//! - a queue-level failure puts the queue to sleep once, however many sessions saw it, and ends no recipient before
//!   `bounce-after`;
//! - new limits hold from the next decision on;
//! - a recipient of a paused job is drawn by nobody but to be ended when `bounce-after` has passed.
//!
//! All that must wait for a time stands in one timer heap; [`Machine::next_deadline`] is its top.

mod opening;
mod pause;
mod sessions;
mod steer;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::config::QueueMode;
use crate::config::model::{QueueSettings, VirtualMta};
use crate::event::{MessageId, Time};
use crate::store::RcptState;

use self::opening::wanted;
use super::backlog::{Backlog, Entry};
use super::jobs::{JobId, JobStatus, Jobs};
use super::key::{QueueName, destination};
use super::limits::Limits;
use super::mode::Mode;
use super::retry::Retry;
use super::sources::{Disabled, Sources};
use super::throttle::Throttle;

pub use steer::Steer;

/// Transactions after which a session gives way when other queues wait for its slot.
pub const QUANTUM: u32 = 50;

/// Recipients ready per session before another one is opened.
pub const READY_PER_SESSION: usize = 4;

/// How long an empty queue and its last error are remembered.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Number of a queue; used again after the queue was forgotten.
pub type QueueId = u32;

/// Number of a session; used again after it was released.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(pub u32);

/// Leave to open a connection.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The session that may begin.
    pub session: SessionId,
    /// Its queue.
    pub queue: Arc<QueueName>,
    /// The queue's settings at this moment.
    pub settings: Arc<QueueSettings>,
}

/// What the session that asks is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be sent: rates and fairness count.
    Deliver,
    /// To be ended without an attempt: they don't.
    Dispose,
}

/// What a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this message to the recipients drawn.
    Transaction(MessageId),
    /// End the recipients drawn: `bounce-after` has passed.
    Expired(MessageId),
    /// Nothing now: ask again when woken or at this time, whatever is first; then it may be `Close`.
    Idle(Time),
    /// Say QUIT and release the session.
    Close,
}

/// One queue, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// `domain/vmta`.
    pub name: String,
    /// Recipients that may be attempted now, those in a session's hands included.
    pub ready: u64,
    /// Recipients held back until a later time.
    pub held: u64,
    /// Recipients put aside, since their job is paused.
    pub paused: u64,
    /// Recipients on hold: the suppression list holds their entries back.
    pub on_hold: u64,
    /// Open connections.
    pub connections: u32,
    /// The last queue-level failure; empty when there was none.
    pub last_error: String,
    /// Until when the queue sleeps.
    pub next_retry: Option<Time>,
    /// Its mode, and since when and why if it has ever changed.
    pub mode: Mode,
    /// Source addresses that it does not use now.
    pub disabled_sources: Vec<Disabled>,
}

/// Something that happened to a queue and that the log is to tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is in another mode now, for this reason.
    Mode(QueueMode, Box<str>),
    /// This source address is not used any more, until then, for this reason.
    Disabled(IpAddr, Option<Time>, Box<str>),
    /// This one is used again.
    Enabled(IpAddr),
    /// It sleeps until then, for this reason.
    Deferred(Option<Time>, Box<str>),
    /// So many of its recipients are bounced at once, for this reason.
    Condemned(usize, Box<str>),
}

struct Queue {
    name: Arc<QueueName>,
    vmta: usize,
    /// As configured.
    normal: Arc<QueueSettings>,
    /// As they hold in its mode.
    settings: Arc<QueueSettings>,
    generation: u32,
    mode: Mode,
    sources: Sources,
    /// It was put to sleep though connections got through: they end too.
    deferred: bool,
    backlog: Backlog,
    retry: Retry,
    open_pause: Option<Time>,
    connections: u32,
    /// Connections that have asked for mail: they got through.
    connected: u32,
    in_flight: u32,
    /// Sessions that wait for a rate.
    throttled: u32,
    recipients_rate: Throttle,
    connect_rate: Throttle,
    idle: VecDeque<SessionId>,
    runnable: bool,
    waiting: bool,
    timer: Option<Time>,
    /// Since when nothing is here.
    quiet: Option<Time>,
    last_error: Box<str>,
}

struct Vmta {
    name: Box<str>,
    settings: Option<Arc<VirtualMta>>,
    connections: u32,
    recipients_rate: Throttle,
    waiting: VecDeque<QueueId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Opening,
    Working,
    Idle,
    Throttled,
}

#[derive(Debug)]
struct Session {
    queue: QueueId,
    doing: Doing,
    connected: bool,
    transactions: u32,
    /// When its idleness ends.
    idle_until: Time,
    /// Where its connection comes from.
    source: Option<IpAddr>,
    /// Recipients to be ended without an attempt.
    condemned: Vec<Entry>,
}

/// A message, as far as the queues know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mail<'a> {
    /// Its id.
    pub message: MessageId,
    /// When it was accepted.
    pub time_queued: Time,
    /// Its VirtualMTA.
    pub vmta: &'a str,
    /// Its job; empty when it has none.
    pub job: &'a str,
    /// Each recipient's copy differs, so that no transaction has two of them.
    pub alone: bool,
}

/// The queues.
pub struct Machine {
    limits: Arc<dyn Limits>,
    generation: u32,
    started: bool,
    stopping: bool,
    queues: Vec<Option<Queue>>,
    free_queues: Vec<QueueId>,
    by_name: HashMap<Box<str>, QueueId, foldhash::fast::RandomState>,
    vmtas: Vec<Vmta>,
    sessions: Vec<Option<Session>>,
    free_sessions: Vec<u32>,
    connections: u32,
    /// Queues that would open a connection but for `total-max-smtp-out`.
    waiting: VecDeque<QueueId>,
    runnable: VecDeque<QueueId>,
    timers: BinaryHeap<Reverse<(Time, QueueId)>>,
    wakes: Vec<SessionId>,
    news: Vec<(Arc<QueueName>, News)>,
    recipients: u64,
    jobs: Jobs,
    key: String,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("queues", &self.by_name.len())
            .field("recipients", &self.recipients)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// No queues yet. Nothing is granted before [`Machine::start`].
    pub fn new(limits: Arc<dyn Limits>) -> Machine {
        Machine {
            limits,
            generation: 0,
            started: false,
            stopping: false,
            queues: Vec::new(),
            free_queues: Vec::new(),
            by_name: HashMap::default(),
            vmtas: Vec::new(),
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            connections: 0,
            waiting: VecDeque::new(),
            runnable: VecDeque::new(),
            timers: BinaryHeap::new(),
            wakes: Vec::new(),
            news: Vec::new(),
            recipients: 0,
            jobs: Jobs::default(),
            key: String::new(),
        }
    }

    /// From now on connections are granted.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// From now on nothing begins; idle sessions are woken to close.
    pub fn stop(&mut self) {
        self.stopping = true;
        for (n, session) in self.sessions.iter().enumerate() {
            if session.as_ref().is_some_and(|s| matches!(s.doing, Doing::Idle | Doing::Throttled)) {
                self.wakes.push(SessionId(n as u32));
            }
        }
    }

    /// New limits: they hold at once. Every queue is looked at again.
    pub fn config_changed(&mut self, limits: Arc<dyn Limits>) {
        self.limits = limits;
        self.generation = self.generation.wrapping_add(1);
        for vmta in &mut self.vmtas {
            vmta.settings = self.limits.virtual_mta(&vmta.name);
            vmta.waiting.clear();
        }
        self.waiting.clear();
        for id in 0..self.queues.len() as QueueId {
            if let Some(queue) = self.queues[id as usize].as_mut() {
                queue.waiting = false;
            }
            self.run(id);
        }
    }

    /// Recipients queued, in a session's hands included.
    pub fn recipients(&self) -> u64 {
        self.recipients
    }

    /// Sessions to be woken since the last call.
    pub fn drain_wakes(&mut self) -> impl Iterator<Item = SessionId> {
        self.wakes.drain(..)
    }

    /// What happened to queues since the last call.
    pub fn take_news(&mut self) -> Vec<(Arc<QueueName>, News)> {
        std::mem::take(&mut self.news)
    }

    /// Whether [`Machine::open`] may have something now.
    pub fn wants_open(&self) -> bool {
        self.started && !self.stopping && !self.runnable.is_empty()
    }

    /// When [`Machine::open`] is to be asked again, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a recipient in.
    pub fn admit(&mut self, mail: &Mail<'_>, rcpt: &str, state: &RcptState, now: Time) {
        let id = self.queue_of(&destination(rcpt), mail.vmta);
        self.recipients += 1;
        let job = self.jobs.enter(mail.job);
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        queue.quiet = None;
        let entry = Entry::new(mail.message, job, state, mail.time_queued);
        let entry = if mail.alone { entry.alone() } else { entry };
        match self.jobs.is_paused(job) {
            true => queue.backlog.put_aside(entry),
            false => queue.backlog.add(entry, queue.settings.bounce_after, now),
        }
        self.ready_grew(id, now);
    }

    /// Recipients became ready or were held: wakes a session, asks for a new one, or sets the timer.
    fn ready_grew(&mut self, id: QueueId, now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        if let Some(due) = queue.backlog.next_due(queue.settings.bounce_after).filter(|due| *due > now) {
            self.arm(id, due);
        }
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        if queue.backlog.ready() == 0 {
            return;
        }
        if let Some(session) = queue.idle.pop_front() {
            if let Some(Some(s)) = self.sessions.get_mut(session.0 as usize) {
                s.doing = Doing::Working;
            }
            self.wakes.push(session);
        } else if (queue.connections as usize) < wanted(queue) && !self.has_to_wait(id, now) {
            self.run(id);
        }
    }

    /// Whether a look at the queue would only find what is known: it sleeps, or its rate is used up, and the timer is
    /// set. Each look costs a wake-up of the opener, and under load mail comes in by the thousand.
    fn has_to_wait(&self, id: QueueId, now: Time) -> bool {
        let Some(queue) = self.queues[id as usize].as_ref() else { return true };
        let until = self.not_before(id, now);
        until.is_some_and(|until| queue.throttled > 0 || queue.timer.is_some_and(|at| at <= until))
    }

    fn queue_of(&mut self, domain: &str, vmta: &str) -> QueueId {
        self.key.clear();
        self.key.push_str(domain);
        self.key.push('/');
        self.key.push_str(vmta);
        if let Some(id) = self.by_name.get(self.key.as_str()) {
            return *id;
        }
        let vmta_id = match self.vmtas.iter().position(|v| &*v.name == vmta) {
            Some(found) => found,
            None => {
                self.vmtas.push(Vmta {
                    name: vmta.into(),
                    settings: self.limits.virtual_mta(vmta),
                    connections: 0,
                    recipients_rate: Throttle::default(),
                    waiting: VecDeque::new(),
                });
                self.vmtas.len() - 1
            }
        };
        let settings = self.limits.queue_settings(domain, vmta);
        let queue = Queue {
            name: Arc::new(QueueName::new(domain, vmta)),
            vmta: vmta_id,
            normal: settings.clone(),
            settings,
            generation: self.generation,
            mode: Mode::default(),
            sources: Sources::default(),
            deferred: false,
            backlog: Backlog::default(),
            retry: Retry::default(),
            open_pause: None,
            connections: 0,
            connected: 0,
            in_flight: 0,
            throttled: 0,
            recipients_rate: Throttle::default(),
            connect_rate: Throttle::default(),
            idle: VecDeque::new(),
            runnable: false,
            waiting: false,
            timer: None,
            quiet: None,
            last_error: "".into(),
        };
        let id = match self.free_queues.pop() {
            Some(id) => {
                self.queues[id as usize] = Some(queue);
                id
            }
            None => {
                self.queues.push(Some(queue));
                (self.queues.len() - 1) as QueueId
            }
        };
        self.by_name.insert(self.key.as_str().into(), id);
        id
    }

    /// Has the queue looked at by the next [`Machine::open`].
    fn run(&mut self, id: QueueId) {
        if let Some(queue) = self.queues[id as usize].as_mut()
            && !queue.runnable
            && !queue.waiting
        {
            queue.runnable = true;
            self.runnable.push_back(id);
        }
    }

    fn arm(&mut self, id: QueueId, at: Time) {
        if let Some(queue) = self.queues[id as usize].as_mut()
            && queue.timer.is_none_or(|armed| at < armed)
        {
            queue.timer = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Brings the queue up to date: with the configuration, and with what time alone changes.
    fn refresh(&mut self, id: QueueId, now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        if queue.generation != self.generation {
            queue.normal = self.limits.queue_settings(queue.name.domain(), queue.name.vmta());
            queue.settings = queue.mode.effective(&queue.normal);
            queue.generation = self.generation;
        }
        if queue.mode.is_backoff() {
            if queue.mode.elapsed(&queue.normal, now) {
                self.mode_changed(id, now);
            } else if let Some(end) = queue.mode.ends(&queue.normal) {
                self.arm(id, end);
            }
        }
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        if !queue.sources.all().is_empty() {
            let had_none = queue.sources.leave_none_of(self.vmtas[queue.vmta].settings.as_deref());
            for ip in queue.sources.release(now) {
                self.news.push((queue.name.clone(), News::Enabled(ip)));
                if had_none {
                    // It slept for want of an address.
                    queue.retry.wake();
                }
            }
            if let Some(at) = queue.sources.next_release() {
                self.arm(id, at);
            }
        }
    }

    fn forget_if_quiet(&mut self, id: QueueId, now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        if queue.connections > 0 || queue.in_flight > 0 || !queue.backlog.is_empty() {
            return;
        }
        // Its mode and its disabled addresses last as long as they were meant to.
        if queue.mode.is_backoff() || !queue.sources.all().is_empty() {
            return;
        }
        let since = *queue.quiet.get_or_insert(now);
        let forget_at = since + FORGET_AFTER;
        if forget_at <= now && queue.recipients_rate.is_full(now) && queue.connect_rate.is_full(now) {
            self.by_name.remove(queue.name.as_str());
            self.queues[id as usize] = None;
            self.free_queues.push(id);
        } else {
            self.arm(id, forget_at.max(now + FORGET_AFTER));
        }
    }

    /// Has the queue of this name run now, though it sleeps. `false` when there is none.
    pub fn schedule(&mut self, name: &str) -> bool {
        let Some(id) = self.by_name.get(name).copied() else { return false };
        if let Some(queue) = self.queues[id as usize].as_mut() {
            queue.retry.wake();
            queue.open_pause = None;
        }
        self.run(id);
        true
    }

    /// The last queue-level failure of the queue of this name; empty when there was none.
    pub fn last_error(&self, name: &str) -> &str {
        let queue = self.by_name.get(name).and_then(|id| self.queues[*id as usize].as_ref());
        queue.map_or("", |queue| &queue.last_error)
    }

    /// All queues, in no order.
    pub fn status(&self, now: Time) -> Vec<QueueStatus> {
        let mut condemned: HashMap<&str, u64> = HashMap::new();
        for session in self.sessions.iter().flatten().filter(|s| !s.condemned.is_empty()) {
            if let Some(queue) = self.queues[session.queue as usize].as_ref() {
                *condemned.entry(queue.name.as_str()).or_default() += session.condemned.len() as u64;
            }
        }
        self.queues
            .iter()
            .flatten()
            .map(|q| QueueStatus {
                name: q.name.as_str().to_owned(),
                ready: q.backlog.ready() as u64 + u64::from(q.in_flight) + condemned.get(q.name.as_str()).unwrap_or(&0),
                held: q.backlog.held() as u64,
                paused: q.backlog.aside() as u64,
                on_hold: q.backlog.on_hold() as u64,
                connections: q.connections,
                last_error: q.last_error.to_string(),
                next_retry: q.retry.sleeping_until(now),
                mode: q.mode.clone(),
                disabled_sources: q.sources.all().to_vec(),
            })
            .collect()
    }
}
