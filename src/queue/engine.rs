#![expect(clippy::disallowed_methods, reason = "edge: the clock of the queues")]
//! The machine behind its lock, and the wake-ups that follow from what it says.
//!
//! Promises: the lock is never held across an await; per transaction it is taken once by the session ([`Permit::next`]
//! settles the transaction before and draws the one after); only sessions that have something to do are woken. A permit
//! that is dropped, however its session ended, gives its slot back and returns to the queue what it had drawn.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use hashbrown::HashSet;
use tokio::sync::Notify;

use crate::config::QueueMode;
use crate::config::model::{Config, QueueSettings};
use crate::event::{MessageId, Time};
use crate::store::{Envelope, RcptState, Route};

use super::backlog::{Drawn, Fate};
use super::jobs::JobStatus;
use super::key::QueueName;
use super::limits::Limits;
use super::machine::{Machine, Mail, News, Next, Purpose, QueueStatus, SessionId, Steer};

/// How long recipients are left alone whose session panicked.
const AFTER_PANIC: std::time::Duration = std::time::Duration::from_secs(60);

/// Messages kept for [`Engine::take_delays_asked`].
const MAX_DELAYS_ASKED: usize = 1_000_000;

/// The queues; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Where `config_changed` finds the limits.
    limits: Box<dyn Fn() -> Arc<dyn Limits> + Send + Sync>,
    /// A connection may be opened, or the next deadline has come nearer.
    openings: Notify,
    reports: Mutex<VecDeque<MessageId>>,
    reports_came: Notify,
    /// Messages whose senders ask to be told of delays, since they were last taken.
    delays_asked: Mutex<Vec<MessageId>>,
    stopping: AtomicBool,
    /// The machine's paused jobs, for those who look without its lock.
    paused_jobs: ArcSwap<HashSet<Box<str>>>,
}

struct State {
    machine: Machine,
    /// By session number.
    wakers: Vec<Option<Arc<Notify>>>,
    /// Until when the opener sleeps.
    deadline: Option<Time>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.lock().machine).finish()
    }
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

impl Engine {
    /// Empty queues under this configuration. Nothing is sent before [`Engine::start`].
    pub fn new(config: Arc<ArcSwap<Config>>) -> Engine {
        Engine::with_limits(move || config.load_full())
    }

    /// Empty queues under limits from elsewhere.
    pub fn with_limits(limits: impl Fn() -> Arc<dyn Limits> + Send + Sync + 'static) -> Engine {
        Engine(Arc::new(Shared {
            state: Mutex::new(State { machine: Machine::new(limits()), wakers: Vec::new(), deadline: None }),
            limits: Box::new(limits),
            openings: Notify::new(),
            reports: Mutex::new(VecDeque::new()),
            reports_came: Notify::new(),
            delays_asked: Mutex::new(Vec::new()),
            stopping: AtomicBool::new(false),
            paused_jobs: ArcSwap::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug of the machine; its numbers are still usable.
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// After a change of the machine: wakes who has something to do now.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let State { machine, wakers, deadline } = &mut *state;
        for session in machine.drain_wakes() {
            if let Some(Some(waker)) = wakers.get(session.0 as usize) {
                waker.notify_one();
            }
        }
        let nearer = match (machine.next_deadline(), *deadline) {
            (Some(next), Some(sleeping)) => next < sleeping,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let open = machine.wants_open() || nearer;
        let news = machine.take_news();
        drop(state);
        tell(&news);
        if open {
            self.0.openings.notify_one();
        }
    }

    /// From now on mail is sent: the spool is read, the suppression list has caught up.
    pub fn start(&self) {
        let mut state = self.lock();
        state.machine.start();
        self.wake(state);
    }

    /// From now on no transaction begins; permits and reports end with `None`.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        let mut state = self.lock();
        state.machine.stop();
        self.wake(state);
        self.0.openings.notify_one();
        self.0.reports_came.notify_waiters();
        self.0.reports_came.notify_one();
    }

    /// The configuration has been replaced: its limits hold from now on.
    pub fn config_changed(&self) {
        let limits = (self.0.limits)();
        let mut state = self.lock();
        state.machine.config_changed(limits);
        self.wake(state);
    }

    /// Takes a message that is in the store into its queues. `states` are its recipients that are still to be served.
    pub fn admit(&self, envelope: &Envelope, states: &[RcptState], now: Time) {
        if envelope.route != Route::Deliver {
            let mut reports = self.0.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            reports.push_back(envelope.id);
            drop(reports);
            self.0.reports_came.notify_one();
            return;
        }
        if envelope.asks_for_delays() {
            let mut asked = self.0.delays_asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Nobody takes them where nothing is delivered; there nobody has to be told either.
            if asked.len() < MAX_DELAYS_ASKED {
                asked.push(envelope.id);
            }
        }
        let Envelope { id: message, time_queued, vmta, job, .. } = envelope;
        // Each copy has an unsubscribe link of its own.
        let alone = envelope.terms.unsubscribe.is_some();
        let mail = Mail { message: *message, time_queued: *time_queued, vmta, job, alone };
        let mut state = self.lock();
        for rcpt in states {
            // A state whose recipient is not there is damage that the store has to report; it can't be delivered.
            let Some(recipient) = envelope.rcpts.get(usize::from(rcpt.index)) else { continue };
            state.machine.admit(&mail, &recipient.address, rcpt, now);
        }
        self.wake(state);
    }

    /// The next message for the bounce or feedback processor (routes Bounce and Feedback); waits. `None` when stopping.
    pub async fn next_report(&self) -> Option<MessageId> {
        loop {
            let came = self.0.reports_came.notified();
            if self.0.stopping.load(Ordering::SeqCst) {
                return None;
            }
            {
                let mut reports = self.0.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(message) = reports.pop_front() {
                    if !reports.is_empty() {
                        self.0.reports_came.notify_one();
                    }
                    return Some(message);
                }
            }
            came.await;
        }
    }

    /// The messages that were taken into the queues since the last call, and whose senders ask to be told of delays.
    pub fn take_delays_asked(&self) -> Vec<MessageId> {
        std::mem::take(&mut *self.0.delays_asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Recipients queued, all queues; a message that waits for a processor counts as one.
    pub fn queued_recipients(&self) -> u64 {
        let reports = self.0.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        self.lock().machine.recipients() + reports as u64
    }

    /// All queues, for `show`.
    pub fn status(&self) -> Vec<QueueStatus> {
        self.lock().machine.status(now())
    }

    /// Pauses a job: no attempt for its mail begins any more, those under way go on. How many recipients were put aside;
    /// `None` when it is paused already.
    pub fn pause_job(&self, job: &str) -> Option<u64> {
        let mut state = self.lock();
        let count = state.machine.pause_job(job);
        self.publish_pauses(state);
        count
    }

    /// Lets a paused job go on; how many recipients had been put aside. `None` when it is not paused.
    pub fn resume_job(&self, job: &str) -> Option<u64> {
        let mut state = self.lock();
        let count = state.machine.resume_job(job, now());
        self.publish_pauses(state);
        count
    }

    fn publish_pauses(&self, state: MutexGuard<'_, State>) {
        self.0.paused_jobs.store(Arc::new(state.machine.paused_jobs().clone()));
        self.wake(state);
    }

    /// The jobs with mail in the queues, and those that are paused; in no order.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.lock().machine.jobs()
    }

    /// Has a queue run now, though it sleeps. `false` when there is none of this name (`domain/vmta`).
    pub fn schedule(&self, queue: &str) -> bool {
        let mut state = self.lock();
        let found = state.machine.schedule(queue);
        self.wake(state);
        found
    }

    /// The last queue-level failure of a queue (`domain/vmta`); empty when there was none.
    pub fn last_error(&self, queue: &str) -> String {
        self.lock().machine.last_error(queue).to_owned()
    }

    /// Has all recipients that are on hold looked at now: entries of the suppression list were let go or confirmed.
    pub fn look_at_holds(&self) {
        let mut state = self.lock();
        state.machine.look_now(now());
        self.wake(state);
    }

    /// Changes the mode of the queues whose name `matches`; how many there are, and how many changed.
    pub fn set_mode(&self, matches: impl Fn(&str) -> bool, mode: QueueMode) -> (usize, usize) {
        let mut state = self.lock();
        let counts = state.machine.set_modes(matches, mode, now());
        self.wake(state);
        counts
    }

    /// Uses a disabled source address again for the queues whose name `matches`; for how many it was disabled.
    pub fn enable_source(&self, matches: impl Fn(&str) -> bool, ip: IpAddr) -> usize {
        let mut state = self.lock();
        let count = state.machine.enable_source(matches, ip);
        self.wake(state);
        count
    }

    /// The next connection that is to be opened; waits for one. `None` when stopping. For one caller only.
    pub async fn permit(&self) -> Option<Permit> {
        loop {
            let deadline = {
                if self.0.stopping.load(Ordering::SeqCst) {
                    return None;
                }
                let now = now();
                let mut state = self.lock();
                let grant = state.machine.open(now);
                if let Some(grant) = grant {
                    let waker = Arc::new(Notify::new());
                    let number = grant.session.0 as usize;
                    if state.wakers.len() <= number {
                        state.wakers.resize(number + 1, None);
                    }
                    state.wakers[number] = Some(waker.clone());
                    self.wake(state);
                    return Some(Permit {
                        engine: self.clone(),
                        session: grant.session,
                        queue: grant.queue,
                        settings: grant.settings,
                        waker,
                        drawn: Vec::new(),
                        delivered: false,
                        look_is_due: true,
                    });
                }
                state.deadline = state.machine.next_deadline();
                let deadline = state.deadline;
                tell(&state.machine.take_news());
                // What `open` found out may concern idle sessions.
                let State { machine, wakers, .. } = &mut *state;
                for session in machine.drain_wakes() {
                    if let Some(Some(waker)) = wakers.get(session.0 as usize) {
                        waker.notify_one();
                    }
                }
                deadline.map(|at| at.since(now))
            };
            match deadline {
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, self.0.openings.notified()).await;
                }
                None => self.0.openings.notified().await,
            }
        }
    }
}

/// The log hears of it.
fn tell(news: &[(Arc<QueueName>, News)]) {
    let until = |at: &Option<Time>| match at.and_then(|at| at.timestamp()) {
        Some(at) => format!("until {at}"),
        None => "for good".to_owned(),
    };
    for (queue, what) in news {
        let queue = queue.as_str();
        match what {
            News::Mode(QueueMode::Backoff, why) => tracing::warn!(queue, "backoff mode begins: {why}"),
            News::Mode(QueueMode::Normal, why) => tracing::info!(queue, "back to normal mode: {why}"),
            News::Disabled(ip, at, why) => tracing::warn!(queue, "source {ip} is disabled {}: {why}", until(at)),
            News::Enabled(ip) => tracing::info!(queue, "source {ip} is used again"),
            News::Deferred(at, why) => tracing::info!(queue, "queue deferred {}: {why}", until(at)),
            News::Condemned(n, why) => tracing::warn!(queue, "bounce-queue, {n} recipients: {why}"),
        }
    }
}

/// Leave to keep one connection for one queue, and what it has drawn.
#[derive(Debug)]
pub struct Permit {
    engine: Engine,
    session: SessionId,
    queue: Arc<QueueName>,
    settings: Arc<QueueSettings>,
    waker: Arc<Notify>,
    /// The recipients of the transaction at hand. The session writes each one's fate here before it asks for the next.
    pub drawn: Vec<Drawn>,
    /// Something was delivered since the last [`Permit::next`].
    pub delivered: bool,
    /// Recipients on hold may be due to be looked at ([`Permit::next_on_hold`]), as of the last [`Permit::next`].
    pub look_is_due: bool,
}

impl Permit {
    /// The queue it is for.
    pub fn queue(&self) -> &Arc<QueueName> {
        &self.queue
    }

    /// The queue's settings as of the last [`Permit::next`].
    pub fn settings(&self) -> &Arc<QueueSettings> {
        &self.settings
    }

    /// Whether this job is paused: what was drawn before it was is not to be attempted. Takes no lock.
    pub fn pauses(&self, job: &str) -> bool {
        let paused = self.engine.0.paused_jobs.load();
        !paused.is_empty() && paused.contains(job)
    }

    /// Settles what was drawn and draws the next transaction, under one lock.
    pub fn next(&mut self, purpose: Purpose) -> Next {
        let now = now();
        let delivered = std::mem::take(&mut self.delivered);
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, delivered, now);
        let next = state.machine.next(self.session, purpose, &mut self.drawn, now);
        self.look_is_due = state.machine.look_is_due(self.session, now);
        if let Some(settings) = state.machine.settings(self.session, now)
            && !Arc::ptr_eq(&settings, &self.settings)
        {
            self.settings = settings;
        }
        self.engine.wake(state);
        next
    }

    /// Settles what was drawn and draws recipients that have expired.
    pub fn next_expired(&mut self) {
        let now = now();
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, false, now);
        state.machine.next_expired(self.session, &mut self.drawn, now);
        self.engine.wake(state);
    }

    /// Settles what was drawn and draws recipients on hold that are to be looked at; none when all are dealt with.
    pub fn next_on_hold(&mut self) {
        let now = now();
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, false, now);
        state.machine.next_on_hold(self.session, &mut self.drawn, now);
        self.look_is_due = !self.drawn.is_empty();
        self.engine.wake(state);
    }

    /// Whether the queue has mail that may be sent.
    pub fn has_ready(&self) -> bool {
        self.engine.lock().machine.has_ready(self.session)
    }

    /// No host of the queue could be reached. `true` when this is to be recorded (`tq`): the queue sleeps now.
    pub fn failed(&mut self, error: &str) -> bool {
        let mut state = self.engine.lock();
        let first = state.machine.failed(self.session, error, now());
        self.engine.wake(state);
        first
    }

    /// Does with the queue what a reply asks for.
    pub fn steer(&mut self, steer: &Steer<'_>) {
        let mut state = self.engine.lock();
        state.machine.steer(self.session, steer, now());
        self.engine.wake(state);
    }

    /// The connection comes from this address.
    pub fn connected_from(&mut self, source: Option<IpAddr>) {
        self.engine.lock().machine.connected_from(self.session, source);
    }

    /// The source addresses that the queue does not use now.
    pub fn disabled_sources(&mut self) -> Vec<IpAddr> {
        let mut state = self.engine.lock();
        let disabled = state.machine.disabled_sources(self.session, now());
        self.engine.wake(state);
        disabled
    }

    /// Takes all recipients of the queue that no other session has drawn, to be ended: [`Permit::next_condemned`] gives
    /// them. What was drawn before is settled.
    pub fn condemn(&mut self, why: &str) {
        let now = now();
        let delivered = std::mem::take(&mut self.delivered);
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, delivered, now);
        state.machine.condemn(self.session, why);
        self.engine.wake(state);
    }

    /// Settles what was drawn and draws some of the condemned; none when all are dealt with.
    pub fn next_condemned(&mut self) {
        let now = now();
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, false, now);
        state.machine.next_condemned(self.session, &mut self.drawn);
        self.engine.wake(state);
    }

    /// Returns when there may be mail, or the session is to close. For sessions told to be idle.
    pub async fn woken(&self) {
        self.waker.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = now();
        if std::thread::panicking() {
            // What made the session fail would do so again at once; the recipients wait a while, in memory only.
            for drawn in self.drawn.iter_mut().filter(|d| d.fate == Fate::Again) {
                drawn.fate = Fate::Retry(RcptState { not_before: now + AFTER_PANIC, ..drawn.entry.state() });
            }
        }
        let mut state = self.engine.lock();
        state.machine.settle(self.session, &mut self.drawn, self.delivered, now);
        state.machine.release(self.session);
        state.wakers[self.session.0 as usize] = None;
        self.engine.wake(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Message, OwnMail};

    fn engine() -> Engine {
        let config = crate::config::parse_str("t", "").config.unwrap();
        let engine = Engine::new(Arc::new(ArcSwap::from_pointee(config)));
        engine.start();
        engine
    }

    fn mail(id: u64, job: &str) -> Envelope {
        let own = OwnMail {
            id: MessageId(id),
            now: now(),
            host: "mta.example",
            message_id: "",
            eight_bit: false,
            to: &["a@b.example"],
        };
        Envelope { job: job.into(), ..Message::own(own, Default::default()).0.envelope }
    }

    const STATE: RcptState = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };

    #[tokio::test]
    async fn a_session_hears_of_a_pause_that_came_after_it_had_drawn() {
        let engine = engine();
        engine.admit(&mail(1, "spring"), &[STATE], now());
        let mut permit = engine.permit().await.unwrap();
        assert_eq!(permit.next(Purpose::Deliver), Next::Transaction(MessageId(1)));
        assert!(!permit.pauses("spring"));
        assert_eq!(engine.pause_job("spring"), Some(0), "it is in the session's hands");
        assert!(permit.pauses("spring") && !permit.pauses("") && !permit.pauses("other"));
        permit.drawn[0].fate = Fate::Paused;
        assert!(matches!(permit.next(Purpose::Deliver), Next::Idle(_)));
        assert_eq!(engine.status()[0].paused, 1);
        // It goes on while the session is idle: the session is woken for it.
        assert_eq!(engine.resume_job("spring"), Some(1));
        tokio::time::timeout(std::time::Duration::from_secs(5), permit.woken()).await.unwrap();
        assert!(!permit.pauses("spring"));
        assert_eq!(permit.next(Purpose::Deliver), Next::Transaction(MessageId(1)));
    }
}
