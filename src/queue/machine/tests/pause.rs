//! Paused jobs: nothing of theirs is drawn, everything else goes on, and nobody is lost.

use super::*;

fn paused(w: &World) -> u64 {
    w.machine.status(w.now).iter().map(|q| q.paused).sum()
}

#[test]
fn a_paused_job_is_not_drawn_and_the_others_of_its_queue_go_on() {
    let mut w = World::of(QueueSettings { max_smtp_out: 1, ..QueueSettings::default() });
    for n in 0..100 {
        w.mail_of(["spring", "summer", ""][n % 3], "a.example", "v", 1);
    }
    let session = w.open_one();
    assert_eq!(w.machine.pause_job("spring"), Some(34));
    assert_eq!(w.machine.pause_job("spring"), None, "it is paused already");
    assert_eq!(w.work(session), 66);
    assert_eq!((w.machine.recipients(), paused(&w)), (34, 34));
    // What comes later waits too, and the queue costs nothing meanwhile.
    w.mail_of("spring", "a.example", "v", 2);
    w.machine.release(session);
    assert!(w.open_all().is_empty());
    assert!(w.machine.next_deadline().is_some_and(|at| at > w.now + secs(3600)), "nothing to do before bounce-after");
    assert_eq!(w.machine.resume_job("summer", w.now), None);
    assert_eq!(w.machine.resume_job("spring", w.now), Some(36));
    let session = w.open_one();
    assert_eq!(w.work(session), 36);
}

#[test]
fn what_was_drawn_when_the_pause_came_is_put_aside_when_it_comes_back() {
    let mut w = World::of(QueueSettings::default());
    w.mail_of("spring", "a.example", "v", 3);
    let session = w.open_one();
    let (_, mut drawn) = w.next(session);
    w.machine.pause_job("spring");
    drawn[0].fate = Fate::Paused;
    drawn[1].fate = Fate::Retry(RcptState { not_before: w.now + secs(5), attempts: 1, ..drawn[1].entry.state() });
    w.machine.settle(session, &mut drawn, false, w.now);
    assert_eq!(paused(&w), 3);
    w.machine.release(session);
    w.pass(secs(10));
    assert!(w.open_all().is_empty());
    w.machine.resume_job("spring", w.now);
    let session = w.open_one();
    assert_eq!(w.work(session), 3);
}

#[test]
fn a_pause_that_was_over_again_before_the_session_knew_leaves_no_mail_waiting() {
    let mut w = World::of(QueueSettings::default());
    w.mail_of("spring", "a.example", "v", 1);
    let session = w.open_one();
    let (_, mut drawn) = w.next(session);
    drawn[0].fate = Fate::Paused;
    w.machine.settle(session, &mut drawn, false, w.now);
    w.machine.release(session);
    w.pass(secs(61));
    let session = w.open_one();
    assert_eq!(w.work(session), 1);
}

#[test]
fn bounce_after_ends_mail_of_a_paused_job() {
    let mut w = World::of(QueueSettings { bounce_after: secs(3600), ..QueueSettings::default() });
    w.mail_of("spring", "a.example", "v", 2);
    w.machine.pause_job("spring");
    w.pass(secs(1800));
    w.mail_of("spring", "a.example", "v", 1);
    assert!(w.open_all().is_empty());
    w.pass(secs(1800 + 1));
    let session = w.open_one();
    let (next, drawn) = w.next(session);
    assert!(matches!(next, Next::Expired(_)) && drawn.len() == 2, "{next:?}");
    w.done(session, drawn);
    assert_eq!((w.machine.recipients(), paused(&w)), (1, 1));
}

#[test]
fn mail_of_a_job_that_was_paused_before_it_came_waits_from_the_start() {
    let mut w = World::of(QueueSettings::default());
    assert_eq!(w.machine.pause_job("spring"), Some(0));
    w.mail_of("spring", "a.example", "v", 5);
    assert!(w.open_all().is_empty());
    assert_eq!(w.machine.jobs().iter().map(|j| (j.recipients, j.paused)).collect::<Vec<_>>(), [(5, true)]);
}

#[test]
fn a_large_paused_job_slows_the_others_down_in_no_way() {
    let mut w = World::of(QueueSettings { max_smtp_out: 1, ..QueueSettings::default() });
    for _ in 0..200_000 {
        w.mail_of("huge", "a.example", "v", 1);
    }
    w.machine.pause_job("huge");
    let mut steps = 0;
    for _ in 0..1000 {
        w.mail_of("small", "a.example", "v", 1);
        steps += w.open_all().len();
    }
    assert!(steps <= 1, "one connection was opened");
    let grant = w.machine.open(w.now);
    assert!(grant.is_none());
    assert_eq!(w.work(SessionId(0)), 1000);
    assert_eq!(paused(&w), 200_000);
}

proptest::proptest! {
    /// Whatever happens in whatever order: no recipient of a paused job is drawn for an attempt, nobody is lost, and
    /// when nothing pauses any more everybody is served.
    #[test]
    fn no_paused_recipient_is_drawn_and_nobody_is_lost(steps in proptest::collection::vec((0u8..9, 0usize..16), 1..400)) {
        const JOBS: [&str; 4] = ["", "a", "b", "c"];
        let queue = QueueSettings {
            max_smtp_out: 3,
            retry_after: vec![secs(5)],
            bounce_after: secs(40),
            ..QueueSettings::default()
        };
        let mut w = World::new(Fake { queue, total: 5, ..Fake::default() });
        let mut open: Vec<(SessionId, Vec<Drawn>)> = Vec::new();
        let mut job_of = std::collections::HashMap::new();
        let mut alive = 0u64;
        for (what, n) in steps {
            match what {
                0 | 1 => {
                    let id = w.mail_of(JOBS[n % 4], ["a.example", "b.example"][n % 2], "v", 1 + (n % 3) as u16);
                    job_of.insert(id, JOBS[n % 4]);
                    alive += 1 + (n % 3) as u64;
                }
                2 => open.extend(w.open_all().into_iter().map(|g| (g.session, Vec::new()))),
                3 | 4 if !open.is_empty() => {
                    let at = n % open.len();
                    let (session, drawn) = &mut open[at];
                    for (i, d) in drawn.iter_mut().enumerate() {
                        let is_paused = w.machine.paused_jobs().contains(job_of[&d.entry.message()]);
                        d.fate = match (i + n) % 3 {
                            _ if is_paused => Fate::Paused,
                            0 => { alive -= 1; Fate::Done }
                            1 => Fate::Retry(RcptState { not_before: w.now + secs(3), ..d.entry.state() }),
                            _ => Fate::Again,
                        };
                    }
                    w.machine.settle(*session, drawn, n % 2 == 0, w.now);
                    let next = w.machine.next(*session, Purpose::Deliver, drawn, w.now);
                    if let Next::Transaction(id) = next {
                        proptest::prop_assert!(!w.machine.paused_jobs().contains(job_of[&id]));
                    }
                    if next == Next::Close {
                        w.machine.release(*session);
                        open.swap_remove(at);
                    }
                }
                5 if !open.is_empty() => {
                    let (session, mut drawn) = open.swap_remove(n % open.len());
                    w.machine.settle(session, &mut drawn, false, w.now);
                    w.machine.release(session);
                }
                6 => { w.machine.pause_job(JOBS[n % 4]); }
                7 => { w.machine.resume_job(JOBS[n % 4], w.now); }
                _ => w.pass(Duration::from_millis(700 * n as u64)),
            }
            proptest::prop_assert_eq!(w.machine.recipients(), alive);
            let with_job: u64 = w.machine.jobs().iter().map(|j| j.recipients).sum();
            proptest::prop_assert!(with_job <= alive);
        }
        for (session, mut drawn) in open.drain(..) {
            w.machine.settle(session, &mut drawn, false, w.now);
            w.machine.release(session);
        }
        for job in JOBS {
            w.machine.resume_job(job, w.now);
        }
        proptest::prop_assert_eq!(paused(&w), 0);
        for _ in 0..200 {
            for grant in w.open_all() {
                while let (Next::Transaction(_) | Next::Expired(_), drawn) = w.next(grant.session) {
                    w.done(grant.session, drawn);
                }
                w.machine.release(grant.session);
            }
            w.pass(secs(1));
        }
        proptest::prop_assert_eq!(w.machine.recipients(), 0);
        proptest::prop_assert_eq!(w.machine.jobs().len(), 0);
    }
}
