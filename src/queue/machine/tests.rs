//! Limits, retry, expiry and fairness, with a clock of their own.

mod hold;
mod pause;
mod steer;

use super::sessions::LINGER;
use super::*;
use crate::config::model::Rate;
use crate::queue::backlog::{Drawn, Fate};
use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Default)]
struct Fake {
    queue: QueueSettings,
    /// By domain.
    domains: BTreeMap<&'static str, QueueSettings>,
    vmtas: BTreeMap<&'static str, VirtualMta>,
    total: u32,
    one: bool,
    asked: Mutex<u32>,
}

impl Limits for Fake {
    fn queue_settings(&self, domain: &str, _: &str) -> Arc<QueueSettings> {
        *self.asked.lock().unwrap() += 1;
        Arc::new(self.domains.get(domain).unwrap_or(&self.queue).clone())
    }
    fn virtual_mta(&self, name: &str) -> Option<Arc<VirtualMta>> {
        self.vmtas.get(name).cloned().map(Arc::new)
    }
    fn total_max_smtp_out(&self) -> u32 {
        self.total
    }
    fn one_recipient_per_transaction(&self) -> bool {
        self.one
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A machine, a clock, and sessions that do what it says.
struct World {
    machine: Machine,
    now: Time,
    message: u64,
}

impl World {
    fn new(fake: Fake) -> World {
        let total = if fake.total == 0 { 1000 } else { fake.total };
        let mut machine = Machine::new(Arc::new(Fake { total, ..fake }));
        machine.start();
        World { machine, now: Time::from_secs(1_000_000), message: 0 }
    }

    fn of(queue: QueueSettings) -> World {
        World::new(Fake { queue, ..Fake::default() })
    }

    /// A message to `rcpts` recipients `rN@domain`.
    fn mail(&mut self, domain: &str, vmta: &str, rcpts: u16) -> MessageId {
        self.mail_of("", domain, vmta, rcpts)
    }

    fn mail_of(&mut self, job: &str, domain: &str, vmta: &str, rcpts: u16) -> MessageId {
        self.message += 1;
        let id = MessageId(self.message);
        for index in 0..rcpts {
            let state = RcptState { index, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
            let mail = Mail { message: id, time_queued: self.now, vmta, job, alone: false };
            self.machine.admit(&mail, &format!("r{index}@{domain}"), &state, self.now);
        }
        id
    }

    /// So many messages to one recipient each.
    fn mails(&mut self, n: usize, domain: &str, vmta: &str) {
        for _ in 0..n {
            self.mail(domain, vmta, 1);
        }
    }

    fn open_all(&mut self) -> Vec<Grant> {
        std::iter::from_fn(|| self.machine.open(self.now)).collect()
    }

    fn open_one(&mut self) -> SessionId {
        self.machine.open(self.now).expect("a connection").session
    }

    fn next(&mut self, session: SessionId) -> (Next, Vec<Drawn>) {
        let mut drawn = Vec::new();
        let next = self.machine.next(session, Purpose::Deliver, &mut drawn, self.now);
        (next, drawn)
    }

    fn done(&mut self, session: SessionId, mut drawn: Vec<Drawn>) {
        drawn.iter_mut().for_each(|d| d.fate = Fate::Done);
        self.machine.settle(session, &mut drawn, true, self.now);
    }

    /// Draws and delivers until there is nothing more; how many recipients.
    fn work(&mut self, session: SessionId) -> usize {
        let mut count = 0;
        while let (Next::Transaction(_), drawn) = self.next(session) {
            count += drawn.len();
            self.done(session, drawn);
        }
        count
    }

    fn pass(&mut self, d: Duration) {
        self.now = self.now + d;
    }
}

#[test]
fn three_messages_open_one_connection_and_many_open_as_many_as_allowed() {
    let mut w = World::of(QueueSettings { max_smtp_out: 5, ..QueueSettings::default() });
    w.mails(3, "a.example", "v");
    assert_eq!(w.open_all().len(), 1);
    w.mails(9, "a.example", "v");
    assert_eq!(w.open_all().len(), 2, "twelve ready are worth three");
    w.mails(90, "a.example", "v");
    assert_eq!(w.open_all().len(), 2, "max-smtp-out");
    assert_eq!(w.machine.recipients(), 102);
}

#[test]
fn nothing_begins_before_the_start_or_after_the_stop() {
    let mut w = World::of(QueueSettings::default());
    w.machine.started = false;
    w.mail("a.example", "v", 1);
    assert!(w.open_all().is_empty());
    w.machine.start();
    let session = w.open_one();
    w.machine.stop();
    assert_eq!(w.next(session).0, Next::Close);
    assert!(w.open_all().is_empty());
}

#[test]
fn the_limits_of_virtual_mta_and_total_hold_over_all_queues() {
    let vmta = |max| VirtualMta {
        name: "v".into(),
        smtp_source_hosts: vec![],
        host_name: None,
        max_smtp_out: max,
        max_smtp_msg_rate: None,
    };
    let vmtas = BTreeMap::from([("v", vmta(Some(3))), ("w", vmta(None))]);
    let mut w = World::new(Fake { vmtas, total: 5, ..Fake::default() });
    for domain in ["a.example", "b.example"] {
        w.mails(40, domain, "v");
    }
    let of_v = w.open_all();
    assert_eq!(of_v.len(), 3);
    w.mails(40, "c.example", "w");
    assert_eq!(w.open_all().len(), 2, "the total is five");
    // A slot that is given back is used again, at once.
    w.machine.release(of_v[0].session);
    assert_eq!(w.open_all().len(), 1);
}

#[test]
fn a_reload_changes_limits_at_once() {
    let mut w = World::of(QueueSettings { max_smtp_out: 4, ..QueueSettings::default() });
    w.mails(100, "a.example", "v");
    let sessions = w.open_all();
    assert_eq!(sessions.len(), 4);
    let with = |max_smtp_out| {
        Arc::new(Fake {
            queue: QueueSettings { max_smtp_out, ..QueueSettings::default() },
            total: 1000,
            ..Fake::default()
        })
    };
    w.machine.config_changed(with(6));
    assert_eq!(w.open_all().len(), 2);
    w.machine.config_changed(with(1));
    assert_eq!(w.next(sessions[0].session).0, Next::Close);
    assert!(w.open_all().is_empty());
}

#[test]
fn settings_are_asked_for_once_per_queue_and_generation() {
    let fake = Arc::new(Fake { total: 10, ..Fake::default() });
    let mut machine = Machine::new(fake.clone());
    machine.start();
    let mut w = World { machine, now: Time::from_secs(1), message: 0 };
    w.mails(50, "a.example", "v");
    for grant in w.open_all() {
        w.work(grant.session);
    }
    assert_eq!(*fake.asked.lock().unwrap(), 1);
}

#[test]
fn a_huge_queue_does_not_starve_the_others() {
    let mut w = World::new(Fake { total: 4, ..Fake::default() });
    w.mails(10_000, "huge.example", "v");
    let mut open: VecDeque<(String, SessionId)> =
        w.open_all().into_iter().map(|g| (g.queue.domain().to_owned(), g.session)).collect();
    assert_eq!(open.len(), 4);
    for n in 0..10 {
        w.mail(["b.example", "c.example", "d.example"][n % 3], "v", 1);
    }
    let mut small = 0;
    let mut transactions = 0;
    while small < 10 {
        let (queue, session) = open.pop_front().expect("a connection is open");
        match w.next(session) {
            (Next::Transaction(_), drawn) => {
                transactions += 1;
                small += usize::from(queue != "huge.example");
                w.done(session, drawn);
                open.push_back((queue, session));
            }
            _ => w.machine.release(session),
        }
        open.extend(w.open_all().into_iter().map(|g| (g.queue.domain().to_owned(), g.session)));
        assert!(transactions < 1000, "the small queues wait");
    }
    assert!(w.machine.recipients() > 9_000);
}

#[test]
fn a_queue_alone_at_its_limit_keeps_its_connections() {
    let mut w = World::new(Fake { total: 1, ..Fake::default() });
    w.mails(500, "a.example", "v");
    let session = w.open_one();
    assert!(w.open_all().is_empty());
    assert_eq!(w.work(session), 500);
}

#[test]
fn a_message_is_drawn_with_its_recipients_up_to_the_limit() {
    let mut w = World::of(QueueSettings { max_rcpt_per_message: 3, ..QueueSettings::default() });
    let id = w.mail("a.example", "v", 5);
    w.mail("a.example", "v", 1);
    let session = w.open_one();
    let (next, drawn) = w.next(session);
    assert_eq!((next, drawn.len()), (Next::Transaction(id), 3));
    w.done(session, drawn);
    assert_eq!(w.next(session).1.len(), 2);
}

#[test]
fn a_return_path_per_recipient_makes_a_transaction_per_recipient() {
    let mut w = World::new(Fake { one: true, ..Fake::default() });
    w.mail("a.example", "v", 5);
    let session = w.open_one();
    assert_eq!(w.next(session).1.len(), 1);
}

#[test]
fn a_rate_limit_is_kept_by_all_sessions_together() {
    let rate = Some(Rate { count: 10, per: secs(1) });
    let mut w = World::of(QueueSettings { max_msg_rate: rate, ..QueueSettings::default() });
    w.mails(1000, "a.example", "v");
    let (mut sent, mut sessions) = (0, Vec::new());
    for _ in 0..600 {
        sessions.extend(w.open_all().into_iter().map(|g| g.session));
        sessions.retain(|session| {
            let mut drawn = Vec::new();
            let mut open = true;
            loop {
                match w.machine.next(*session, Purpose::Deliver, &mut drawn, w.now) {
                    Next::Transaction(_) => {
                        sent += drawn.len();
                        drawn.iter_mut().for_each(|d| d.fate = Fate::Done);
                        w.machine.settle(*session, &mut drawn, true, w.now);
                    }
                    Next::Close => {
                        w.machine.release(*session);
                        open = false;
                        break;
                    }
                    _ => break,
                }
            }
            open
        });
        w.pass(Duration::from_millis(50));
    }
    assert!((290..=305).contains(&sent), "{sent} in 30 seconds of 10 a second");
}

#[test]
fn a_slow_rate_opens_one_connection_not_twenty() {
    let rate = Some(Rate { count: 60, per: secs(3600) });
    let mut w = World::of(QueueSettings { max_msg_rate: rate, ..QueueSettings::default() });
    w.mails(1000, "a.example", "v");
    let sessions = w.open_all();
    assert_eq!(sessions.len(), 1);
    assert_eq!(w.work(sessions[0].session), 1);
    assert_eq!(w.next(sessions[0].session).0, Next::Close, "a minute is too long to keep it open");
    w.machine.release(sessions[0].session);
    assert!(w.open_all().is_empty());
    assert_eq!(w.machine.next_deadline(), Some(w.now + secs(60)));
    w.pass(secs(60));
    assert_eq!(w.open_all().len(), 1);
}

#[test]
fn one_transaction_has_no_more_recipients_than_the_rate_of_its_virtual_mta_gives() {
    let vmta = VirtualMta {
        name: "v".into(),
        smtp_source_hosts: vec![],
        host_name: None,
        max_smtp_out: None,
        max_smtp_msg_rate: Some(Rate { count: 10, per: secs(3600) }),
    };
    let mut w = World::new(Fake { vmtas: BTreeMap::from([("v", vmta)]), ..Fake::default() });
    w.mail("a.example", "v", 500);
    let session = w.open_one();
    assert_eq!(w.next(session).1.len(), 10);
}

#[test]
fn the_rate_of_a_virtual_mta_holds_over_its_queues() {
    let vmta = VirtualMta {
        name: "v".into(),
        smtp_source_hosts: vec![],
        host_name: None,
        max_smtp_out: None,
        max_smtp_msg_rate: Some(Rate { count: 2, per: secs(1) }),
    };
    let mut w = World::new(Fake { vmtas: BTreeMap::from([("v", vmta)]), ..Fake::default() });
    w.mail("a.example", "v", 1);
    w.mail("b.example", "v", 1);
    let (a, b) = (w.open_one(), w.open_one());
    assert!(matches!(w.next(a).0, Next::Transaction(_)));
    assert_eq!(w.next(b).0, Next::Idle(w.now + Duration::from_millis(500)));
    w.pass(Duration::from_millis(500));
    assert!(matches!(w.next(b).0, Next::Transaction(_)));
}

#[test]
fn connections_are_opened_no_faster_than_allowed() {
    let rate = Some(Rate { count: 6, per: secs(60) });
    let mut w = World::of(QueueSettings { max_connect_rate: rate, ..QueueSettings::default() });
    w.mails(1000, "a.example", "v");
    assert_eq!(w.open_all().len(), 1);
    assert_eq!(w.machine.next_deadline(), Some(w.now + secs(10)));
    w.pass(secs(10));
    assert_eq!(w.open_all().len(), 1);
}

#[test]
fn a_connection_carries_no_more_than_its_share() {
    let mut w = World::of(QueueSettings { max_msg_per_connection: 2, ..QueueSettings::default() });
    w.mails(3, "a.example", "v");
    let session = w.open_one();
    assert_eq!(w.work(session), 2);
    w.machine.release(session);
    let again = w.open_one();
    assert_eq!(w.work(again), 1);
}

#[test]
fn a_queue_that_fails_sleeps_once_and_wakes_by_its_list() {
    let settings = QueueSettings { retry_after: vec![secs(60), secs(300)], ..QueueSettings::default() };
    let mut w = World::of(settings);
    w.mails(100, "a.example", "v");
    let sessions = w.open_all();
    let first: Vec<bool> = sessions.iter().map(|g| w.machine.failed(g.session, "connection refused", w.now)).collect();
    assert_eq!(first.iter().filter(|f| **f).count(), 1, "one event for all");
    sessions.iter().for_each(|g| w.machine.release(g.session));
    assert!(w.open_all().is_empty());
    let status = &w.machine.status(w.now)[0];
    assert_eq!(
        (status.ready, &*status.last_error, status.next_retry),
        (100, "connection refused", Some(w.now + secs(60)))
    );
    assert_eq!(w.machine.next_deadline(), Some(w.now + secs(60)));
    w.pass(secs(60));
    let sessions = w.open_all();
    assert!(w.machine.failed(sessions[0].session, "again", w.now));
    sessions.iter().for_each(|g| w.machine.release(g.session));
    assert_eq!(w.machine.status(w.now)[0].next_retry, Some(w.now + secs(300)));
    // An operator can have it run at once; a delivery starts the list again.
    assert!(w.machine.schedule("a.example/v"));
    let sessions = w.open_all();
    let (_, drawn) = w.next(sessions[0].session);
    w.done(sessions[0].session, drawn);
    sessions.iter().for_each(|g| w.machine.release(g.session));
    let sessions = w.open_all();
    assert!(w.machine.failed(sessions[0].session, "again", w.now));
    assert_eq!(w.machine.status(w.now)[0].next_retry, Some(w.now + secs(60)));
}

#[test]
fn one_refused_connection_does_not_stop_a_queue_that_delivers() {
    let mut w = World::of(QueueSettings::default());
    w.mails(100, "a.example", "v");
    let sessions = w.open_all();
    assert!(matches!(w.next(sessions[0].session).0, Next::Transaction(_)));
    assert!(!w.machine.failed(sessions[1].session, "refused", w.now));
    w.machine.release(sessions[1].session);
    assert!(w.open_all().is_empty(), "no new connection for a while");
    w.pass(secs(10));
    assert!(!w.open_all().is_empty());
}

#[test]
fn a_deferred_recipient_comes_back_when_it_is_due() {
    let mut w = World::of(QueueSettings::default());
    w.mail("a.example", "v", 2);
    let session = w.open_one();
    let (_, mut drawn) = w.next(session);
    let state = RcptState { index: 1, attempts: 1, not_before: w.now + secs(600), in_doubt: true };
    drawn[0].fate = Fate::Done;
    drawn[1].fate = Fate::Retry(state);
    w.machine.settle(session, &mut drawn, true, w.now);
    assert_eq!(w.machine.recipients(), 1);
    assert!(matches!(w.next(session).0, Next::Idle(_)));
    w.pass(LINGER);
    assert_eq!(w.next(session).0, Next::Close);
    w.machine.release(session);
    assert!(w.open_all().is_empty());
    assert!(w.machine.next_deadline().is_some_and(|at| at <= state.not_before));
    w.pass(secs(601));
    let session = w.open_one();
    let (_, drawn) = w.next(session);
    assert_eq!(drawn[0].entry.state(), state);
}

#[test]
fn nobody_is_bounced_before_bounce_after_and_everybody_after_it() {
    let settings =
        QueueSettings { bounce_after: secs(3600), retry_after: vec![secs(1000)], ..QueueSettings::default() };
    let mut w = World::of(settings);
    w.mail("a.example", "v", 3);
    let mut drawn = Vec::new();
    let mut failures = 0;
    while drawn.is_empty() {
        let session = w.open_one();
        w.machine.failed(session, "refused", w.now);
        w.machine.next_expired(session, &mut drawn, w.now);
        w.machine.release(session);
        failures += 1;
        if drawn.is_empty() {
            w.pass(secs(1000));
        }
    }
    assert_eq!((drawn.len(), failures), (3, 5), "at 4000 seconds, not at 3000");
    // And one that is drawn for sending is told apart.
    let mut w = World::of(QueueSettings { bounce_after: secs(3600), ..QueueSettings::default() });
    let id = w.mail("a.example", "v", 1);
    w.pass(secs(3602));
    let session = w.open_one();
    assert_eq!(w.next(session).0, Next::Expired(id));
}

#[test]
fn what_was_drawn_and_not_tried_is_drawn_first_again() {
    let mut w = World::of(QueueSettings::default());
    let first = w.mail("a.example", "v", 2);
    w.mail("a.example", "v", 1);
    let session = w.open_one();
    let (_, mut drawn) = w.next(session);
    w.machine.settle(session, &mut drawn, false, w.now);
    let (next, drawn) = w.next(session);
    assert_eq!((next, drawn.len()), (Next::Transaction(first), 2));
}

#[test]
fn an_idle_session_is_woken_by_new_mail_before_another_is_opened() {
    let mut w = World::of(QueueSettings { connection_idle_timeout: secs(30), ..QueueSettings::default() });
    w.mails(8, "a.example", "v");
    let sessions = w.open_all();
    assert_eq!(sessions.len(), 2);
    for grant in &sessions {
        w.work(grant.session);
    }
    w.mail("a.example", "v", 1);
    assert_eq!(w.machine.drain_wakes().collect::<Vec<_>>(), [sessions[0].session], "the one idle for longest");
    assert!(w.open_all().is_empty());
    assert!(matches!(w.next(sessions[0].session).0, Next::Transaction(_)));
    // The other's time runs out.
    w.pass(secs(30));
    assert_eq!(w.next(sessions[1].session).0, Next::Close);
}

#[test]
fn an_idle_session_gives_its_slot_to_a_queue_that_waits() {
    let queue = QueueSettings { connection_idle_timeout: secs(300), ..QueueSettings::default() };
    let mut w = World::new(Fake { queue, total: 1, ..Fake::default() });
    w.mail("a.example", "v", 1);
    let session = w.open_one();
    w.work(session);
    w.mail("b.example", "v", 1);
    assert!(w.open_all().is_empty());
    assert_eq!(w.machine.drain_wakes().collect::<Vec<_>>(), [session]);
    assert_eq!(w.next(session).0, Next::Close);
    w.machine.release(session);
    assert_eq!(w.open_all()[0].queue.domain(), "b.example");
}

#[test]
fn a_queue_that_stays_empty_is_forgotten() {
    let mut w = World::of(QueueSettings::default());
    for n in 0..100 {
        w.mail(&format!("d{n}.example"), "v", 1);
    }
    for grant in w.open_all() {
        w.work(grant.session);
        w.machine.release(grant.session);
    }
    for _ in 0..3 {
        w.open_all();
        w.pass(FORGET_AFTER);
    }
    assert_eq!((w.machine.by_name.len(), w.machine.recipients(), w.machine.connections), (0, 0, 0));
    w.mail("new.example", "v", 1);
    assert_eq!(w.open_all().len(), 1);
    assert_eq!(w.machine.queues.len(), 100, "their places are used again");
}

#[test]
fn a_million_recipients_are_admitted_and_drawn() {
    let mut w = World::of(QueueSettings::default());
    for n in 0..100_000 {
        w.mail(if n % 2 == 0 { "a.example" } else { "b.example" }, "v", 10);
    }
    let memory: usize = w.machine.queues.iter().flatten().map(|q| q.backlog.memory()).sum();
    assert!(memory <= 48_000_000, "{memory}");
    let session = w.open_one();
    assert_eq!(w.work(session), 500_000);
}

proptest::proptest! {
    /// Random sessions with random outcomes: no limit is passed and nobody is lost.
    #[test]
    fn counts_hold_whatever_happens(steps in proptest::collection::vec((0u8..8, 0usize..16), 1..400)) {
        let queue = QueueSettings { max_smtp_out: 3, retry_after: vec![secs(5)], ..QueueSettings::default() };
        let mut w = World::new(Fake { queue, total: 5, ..Fake::default() });
        let mut open: Vec<(SessionId, Vec<Drawn>)> = Vec::new();
        let mut alive = 0u64;
        for (what, n) in steps {
            match what {
                0 | 1 => {
                    w.mail(["a.example", "b.example", "c.example"][n % 3], "v", 1 + (n % 4) as u16);
                    alive += 1 + (n % 4) as u64;
                }
                2 => open.extend(w.open_all().into_iter().map(|g| (g.session, Vec::new()))),
                3 | 4 if !open.is_empty() => {
                    let at = n % open.len();
                    let (session, drawn) = &mut open[at];
                    for (i, d) in drawn.iter_mut().enumerate() {
                        d.fate = match (i + n) % 3 {
                            0 => { alive -= 1; Fate::Done }
                            1 => Fate::Retry(RcptState { not_before: w.now + secs(3), ..d.entry.state() }),
                            _ => Fate::Again,
                        };
                    }
                    w.machine.settle(*session, drawn, n % 2 == 0, w.now);
                    let next = w.machine.next(*session, Purpose::Deliver, drawn, w.now);
                    if next == Next::Close {
                        w.machine.release(*session);
                        open.swap_remove(at);
                    }
                }
                5 if !open.is_empty() => {
                    let (session, mut drawn) = open.swap_remove(n % open.len());
                    w.machine.settle(session, &mut drawn, false, w.now);
                    w.machine.failed(session, "x", w.now);
                    w.machine.release(session);
                }
                _ => w.pass(Duration::from_millis(700 * n as u64)),
            }
            proptest::prop_assert!(w.machine.connections <= 5 && w.machine.connections as usize == open.len());
            for queue in w.machine.queues.iter().flatten() {
                proptest::prop_assert!(queue.connections <= 3);
            }
            proptest::prop_assert_eq!(w.machine.recipients(), alive);
        }
        // In the end everybody is served.
        for (session, mut drawn) in open.drain(..) {
            w.machine.settle(session, &mut drawn, false, w.now);
            w.machine.release(session);
        }
        for _ in 0..2000 {
            for grant in w.open_all() {
                w.work(grant.session);
                w.machine.release(grant.session);
            }
            w.pass(secs(1));
        }
        proptest::prop_assert_eq!(w.machine.recipients(), 0);
    }
}
