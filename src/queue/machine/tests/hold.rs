//! Recipients on hold: looked at now and then, by a session that needs no connection for it, and never attempted.

use super::*;

/// A machine with one message drawn, and held.
fn holding(rcpts: u16, settings: QueueSettings) -> World {
    let mut w = World::of(settings);
    w.mail("a.example", "v", rcpts);
    let session = w.open_one();
    let (next, mut drawn) = w.next(session);
    assert!(matches!(next, Next::Transaction(_)));
    drawn.iter_mut().for_each(|d| d.fate = Fate::Hold);
    w.machine.settle(session, &mut drawn, false, w.now);
    w.machine.release(session);
    w
}

fn look(w: &mut World, session: SessionId) -> Vec<Drawn> {
    let mut drawn = Vec::new();
    w.machine.next_on_hold(session, &mut drawn, w.now);
    drawn
}

#[test]
fn who_is_on_hold_is_looked_at_at_its_time_and_not_before() {
    let mut w = holding(2, QueueSettings::default());
    let status = &w.machine.status(w.now)[0];
    assert_eq!((status.ready, status.held, status.on_hold), (0, 0, 2));
    assert_eq!(w.machine.recipients(), 2);
    assert!(w.machine.open(w.now).is_none());
    w.pass(secs(29));
    assert!(w.machine.open(w.now).is_none());
    assert!(w.machine.next_deadline().unwrap() <= w.now + secs(1));
    w.pass(secs(1));
    let session = w.open_one();
    assert!(!w.machine.has_ready(session), "no connection is worth opening");
    let mut drawn = look(&mut w, session);
    assert_eq!(drawn.len(), 2);
    drawn.iter_mut().for_each(|d| d.fate = Fate::Hold);
    w.machine.settle(session, &mut drawn, false, w.now);
    assert!(!w.machine.look_is_due(session, w.now), "no busy loop");
    w.machine.release(session);
    assert!(w.machine.open(w.now).is_none());
}

#[test]
fn who_is_let_go_is_sent_by_the_same_session() {
    let mut w = holding(1, QueueSettings::default());
    w.pass(secs(30));
    let session = w.open_one();
    let mut drawn = look(&mut w, session);
    // Its fate is `Again`: nothing holds it any more.
    w.machine.settle(session, &mut drawn, false, w.now);
    assert!(w.machine.has_ready(session));
    assert_eq!(w.work(session), 1);
    assert_eq!(w.machine.recipients(), 0);
}

#[test]
fn many_on_hold_are_looked_at_at_a_bounded_pace() {
    let mut w = World::of(QueueSettings { max_rcpt_per_message: 0, ..QueueSettings::default() });
    w.mail("a.example", "v", 20_000);
    let session = w.open_one();
    let (_, mut drawn) = w.next(session);
    drawn.iter_mut().for_each(|d| d.fate = Fate::Hold);
    w.machine.settle(session, &mut drawn, false, w.now);
    let (mut looks, begun) = (0, w.now);
    while w.now < begun + secs(100) {
        w.pass(secs(1));
        let mut drawn = look(&mut w, session);
        looks += drawn.len();
        drawn.iter_mut().for_each(|d| d.fate = Fate::Hold);
        w.machine.settle(session, &mut drawn, false, w.now);
    }
    assert!((5_000..=20_000).contains(&looks), "{looks}");
}

#[test]
fn a_hold_ends_with_bounce_after_at_the_latest_and_at_once_when_it_is_asked_for() {
    let settings = QueueSettings { bounce_after: secs(10), ..QueueSettings::default() };
    let mut w = holding(1, settings);
    w.pass(secs(11));
    let session = w.open_one();
    let drawn = look(&mut w, session);
    assert!(drawn[0].entry.expires(secs(10)) <= w.now);
    let mut w = holding(1, QueueSettings::default());
    w.machine.look_now(w.now);
    let session = w.open_one();
    assert_eq!(look(&mut w, session).len(), 1);
}

#[test]
fn a_session_that_is_idle_is_woken_to_look_and_one_at_work_hears_of_it() {
    let mut w = holding(1, QueueSettings { connection_idle_timeout: secs(60), ..QueueSettings::default() });
    w.mail("a.example", "v", 1);
    let session = w.open_one();
    assert_eq!(w.work(session), 1, "who is on hold is not drawn");
    assert!(w.machine.drain_wakes().next().is_none());
    w.pass(secs(30));
    assert!(w.machine.open(w.now).is_none(), "one session is enough to look");
    assert_eq!(w.machine.drain_wakes().collect::<Vec<_>>(), [session]);
    assert!(w.machine.look_is_due(session, w.now));
}

#[test]
fn a_queue_that_may_have_no_connection_looks_and_sends_nothing() {
    let mut w = holding(1, QueueSettings::default());
    let closed = QueueSettings { max_smtp_out: 0, ..QueueSettings::default() };
    w.machine.config_changed(Arc::new(Fake { total: 1000, queue: closed, ..Fake::default() }));
    w.pass(secs(31));
    let session = w.open_one();
    let mut drawn = look(&mut w, session);
    w.machine.settle(session, &mut drawn, false, w.now);
    assert!(!w.machine.has_ready(session));
}
