//! Modes, disabled addresses, early retry, and the end of a whole queue.

use super::*;
use crate::config::QueueMode;
use crate::queue::machine::{News, Steer};

const BACKOFF: Steer<'static> =
    Steer { mode: Some(QueueMode::Backoff), disable: None, defer: false, error: false, why: "p:1: 421 slow" };

fn steer(w: &mut World, session: SessionId, steer: Steer<'_>) {
    w.machine.steer(session, &steer, w.now);
}

fn slow() -> QueueSettings {
    QueueSettings {
        max_smtp_out: 10,
        backoff_max_smtp_out: 1,
        backoff_max_msg_rate: Some(Some(Rate { count: 1, per: secs(60) })),
        backoff_retry_after: vec![secs(1200)],
        retry_after: vec![secs(60)],
        ..QueueSettings::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn two_addresses() -> BTreeMap<&'static str, VirtualMta> {
    let hosts = ["192.0.2.1", "192.0.2.2"].map(|a| (ip(a), String::new())).to_vec();
    let vmta = VirtualMta {
        name: "v".into(),
        smtp_source_hosts: hosts,
        host_name: None,
        max_smtp_out: None,
        max_smtp_msg_rate: None,
    };
    BTreeMap::from([("v", vmta)])
}

fn disable(address: &str, after: Option<Option<Duration>>) -> Steer<'static> {
    Steer { disable: Some((ip(address), after)), why: "p:2: 550 listed", ..Steer::default() }
}

#[test]
fn backoff_closes_the_connections_above_its_limit_and_holds_its_rate() {
    let mut w = World::of(slow());
    w.mails(40, "a.example", "v");
    let sessions: Vec<_> = w.open_all().into_iter().map(|g| g.session).collect();
    assert_eq!(sessions.len(), 10);
    let (_, drawn) = w.next(sessions[0]);
    w.done(sessions[0], drawn);
    steer(&mut w, sessions[0], BACKOFF);
    for session in &sessions[1..] {
        assert_eq!(w.next(*session).0, Next::Close);
        w.machine.release(*session);
    }
    assert!(w.open_all().is_empty(), "one connection is what backoff-max-smtp-out allows");
    assert_eq!(w.work(sessions[0]), 1, "and one recipient at once");
    w.pass(secs(60));
    assert_eq!(w.work(sessions[0]), 1, "then one a minute");
    let status = w.machine.status(w.now).remove(0);
    assert!(status.mode.is_backoff());
    assert_eq!(status.mode.changed(), Some((Time::from_secs(1_000_000), "p:1: 421 slow")));
}

#[test]
fn normal_mode_comes_back_with_its_time_though_nothing_else_happens() {
    let mut w = World::of(QueueSettings { backoff_to_normal_after: Some(secs(1800)), ..slow() });
    w.mails(40, "a.example", "v");
    let session = w.open_one();
    steer(&mut w, session, BACKOFF);
    w.machine.release(session);
    w.open_all();
    assert_eq!(w.machine.take_news().len(), 1);
    w.pass(secs(1799));
    w.open_all();
    assert!(w.machine.status(w.now)[0].mode.is_backoff());
    w.pass(secs(1));
    assert!(w.machine.next_deadline().is_some_and(|at| at <= w.now), "its end is a deadline");
    w.open_all();
    assert!(!w.machine.status(w.now)[0].mode.is_backoff());
    assert_eq!(w.machine.status(w.now)[0].connections, 10, "at full width again");
    let news = w.machine.take_news();
    assert!(matches!(&news[..], [(_, News::Mode(QueueMode::Normal, _))]), "{news:?}");
}

#[test]
fn a_delivery_brings_normal_mode_back_only_where_told_so() {
    for told in [false, true] {
        let mut w = World::of(QueueSettings { backoff_to_normal_after_delivery: told, ..slow() });
        w.mails(2, "a.example", "v");
        let session = w.open_one();
        steer(&mut w, session, BACKOFF);
        let (_, drawn) = w.next(session);
        w.done(session, drawn);
        assert_eq!(w.machine.status(w.now)[0].mode.is_backoff(), !told);
    }
}

#[test]
fn in_backoff_a_failure_puts_the_queue_to_sleep_for_backoff_retry_after() {
    let mut w = World::of(slow());
    w.mails(1, "a.example", "v");
    let session = w.open_one();
    steer(&mut w, session, BACKOFF);
    assert!(w.machine.failed(session, "connection refused", w.now));
    let until = w.machine.status(w.now)[0].next_retry.unwrap();
    assert_eq!(until.since(w.now), secs(1200));
}

#[test]
fn so_many_failed_connections_in_a_row_begin_backoff() {
    let mut w = World::of(QueueSettings { max_errors_per_domain: 3, ..slow() });
    w.mails(1, "a.example", "v");
    for n in 1..=3 {
        assert!(!w.machine.status(w.now)[0].mode.is_backoff(), "{n}");
        let session = w.open_one();
        w.machine.failed(session, "connection refused", w.now);
        w.machine.release(session);
        w.pass(secs(1200));
    }
    let status = w.machine.status(w.now).remove(0);
    assert_eq!(status.mode.changed().unwrap().1, "max-errors-per-domain 3: connection refused");
}

#[test]
fn a_reload_changes_the_limits_of_the_mode_and_not_the_mode() {
    let mut w = World::of(slow());
    w.mails(40, "a.example", "v");
    let session = w.open_one();
    steer(&mut w, session, BACKOFF);
    w.machine.config_changed(Arc::new(Fake {
        queue: QueueSettings { backoff_max_smtp_out: 3, backoff_max_msg_rate: None, ..slow() },
        total: 1000,
        ..Fake::default()
    }));
    w.open_all();
    let status = w.machine.status(w.now).remove(0);
    assert!(status.mode.is_backoff());
    assert_eq!(status.connections, 3);
}

#[test]
fn a_queue_in_backoff_is_not_forgotten_while_it_is_empty() {
    let mut w = World::of(slow());
    w.mails(1, "a.example", "v");
    let session = w.open_one();
    steer(&mut w, session, BACKOFF);
    assert_eq!(w.work(session), 1);
    w.machine.release(session);
    for _ in 0..10 {
        w.pass(secs(3600));
        w.open_all();
    }
    assert!(w.machine.status(w.now)[0].mode.is_backoff());
    assert_eq!(w.machine.set_modes(|name| name == "a.example/v", QueueMode::Normal, w.now), (1, 1));
    for _ in 0..3 {
        w.open_all();
        w.pass(secs(61));
    }
    w.open_all();
    assert!(w.machine.status(w.now).is_empty(), "now it is");
}

#[test]
fn a_disabled_address_ends_its_connections_and_is_used_again_after_its_time() {
    let mut w = World::new(Fake { vmtas: two_addresses(), ..Fake::default() });
    w.mails(20, "a.example", "v");
    let (one, two) = (w.open_one(), w.open_one());
    w.machine.connected_from(one, Some(ip("192.0.2.1")));
    w.machine.connected_from(two, Some(ip("192.0.2.2")));
    steer(&mut w, one, disable("192.0.2.1", Some(Some(secs(420)))));
    assert_eq!(w.machine.disabled_sources(two, w.now), [ip("192.0.2.1")]);
    assert_eq!(w.next(one).0, Next::Close);
    assert!(matches!(w.next(two).0, Next::Transaction(_)), "the other address goes on");
    w.pass(secs(420));
    assert!(w.machine.disabled_sources(two, w.now).is_empty());
}

#[test]
fn an_address_stays_disabled_for_good_unless_the_settings_say_how_long() {
    let long = Duration::from_secs(10 * 365 * 86_400);
    for (configured, asked, disabled) in [
        (None, None, true),
        (Some(secs(60)), None, false),
        (Some(secs(60)), Some(None), true),
        (None, Some(Some(secs(60))), false),
    ] {
        let queue = QueueSettings { reenable_source_ip_after: configured, ..slow() };
        let mut w = World::new(Fake { queue, vmtas: two_addresses(), ..Fake::default() });
        w.mails(1, "a.example", "v");
        let session = w.open_one();
        steer(&mut w, session, disable("192.0.2.1", asked));
        w.pass(long);
        assert_eq!(!w.machine.disabled_sources(session, w.now).is_empty(), disabled, "{configured:?} {asked:?}");
    }
}

#[test]
fn when_no_address_is_left_the_queue_backs_off_if_told_so_and_wakes_when_one_is_free() {
    let queue = QueueSettings { backoff_upon_all_sources_disabled: true, ..slow() };
    let mut w = World::new(Fake { queue, vmtas: two_addresses(), ..Fake::default() });
    w.mails(1, "a.example", "v");
    let session = w.open_one();
    steer(&mut w, session, disable("192.0.2.1", Some(Some(secs(100)))));
    assert!(!w.machine.status(w.now)[0].mode.is_backoff());
    steer(&mut w, session, disable("192.0.2.2", Some(None)));
    assert!(w.machine.status(w.now)[0].mode.is_backoff());
    assert!(w.machine.failed(session, "no source address", w.now));
    w.machine.release(session);
    w.pass(secs(99));
    assert!(w.open_all().is_empty(), "it waits");
    w.pass(secs(1));
    assert_eq!(w.open_all().len(), 1, "not for the 20 minutes of backoff-retry-after");
}

#[test]
fn a_deferred_queue_ends_its_connections_and_sleeps_though_something_is_delivered() {
    let mut w = World::of(slow());
    w.mails(40, "a.example", "v");
    let sessions: Vec<_> = w.open_all().into_iter().map(|g| g.session).collect();
    let (_, last) = w.next(sessions[1]);
    for session in &sessions[2..] {
        w.machine.release(*session);
    }
    steer(&mut w, sessions[0], Steer { defer: true, why: "p:3: 421 later", ..Steer::default() });
    assert_eq!(w.next(sessions[0]).0, Next::Close);
    w.done(sessions[1], last);
    assert_eq!(w.next(sessions[1]).0, Next::Close, "what was under way was the last");
    w.machine.release(sessions[0]);
    w.machine.release(sessions[1]);
    assert!(w.open_all().is_empty());
    let status = w.machine.status(w.now).remove(0);
    assert_eq!((status.last_error.as_str(), status.next_retry.unwrap().since(w.now)), ("p:3: 421 later", secs(60)));
    w.pass(secs(60));
    assert!(!w.open_all().is_empty());
}

#[test]
fn the_condemned_are_all_there_were_and_what_comes_later_is_not_among_them() {
    let mut w = World::of(slow());
    w.mail("a.example", "v", 3);
    let held = RcptState { index: 0, attempts: 1, not_before: w.now + secs(3600), in_doubt: false };
    let mail = Mail { message: MessageId(77), time_queued: w.now, vmta: "v", job: "", alone: false };
    w.machine.admit(&mail, "later@a.example", &held, w.now);
    w.mail("b.example", "v", 1);
    let session = w.open_all().into_iter().find(|g| g.queue.domain() == "a.example").unwrap().session;
    assert_eq!(w.machine.condemn(session, "p:4: 550 go away"), 4);
    w.mail("a.example", "v", 1);
    let mut drawn = Vec::new();
    w.machine.next_condemned(session, &mut drawn);
    assert_eq!(drawn.len(), 4);
    assert!(drawn.iter().any(|d| d.entry.message() == MessageId(77)), "those held back too");
    drawn.iter_mut().for_each(|d| d.fate = Fate::Done);
    w.machine.settle(session, &mut drawn, false, w.now);
    w.machine.next_condemned(session, &mut drawn);
    assert!(drawn.is_empty());
    assert_eq!(w.machine.recipients(), 2);
}

#[test]
fn the_condemned_that_a_session_leaves_behind_are_queued_again() {
    let mut w = World::of(slow());
    w.mail("a.example", "v", 5);
    let session = w.open_one();
    w.machine.condemn(session, "x");
    assert_eq!(w.machine.status(w.now)[0].ready, 5);
    w.machine.release(session);
    let session = w.open_one();
    assert_eq!(w.work(session), 5);
}
