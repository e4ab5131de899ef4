//! Next hops that behave badly: whatever they do, each recipient has one event per attempt, and none is lost.

use std::time::Duration;

use carom::event::{Events, Kind, Time};
use carom::queue::{Next, Purpose};
use carom::store::Finish;

use super::fiend::{Does, Fiend, says, usual};
use super::world::World;

const PLAIN: &str = "250 fiend.example\r\n";
const PIPELINING: &str = "250-fiend.example\r\n250 PIPELINING\r\n";
const THREE: [&str; 3] = ["a@example.net", "b@example.net", "c@example.net"];

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_hangs_up_or_says_421_anywhere_costs_each_recipient_one_event_and_loses_none() {
    for ehlo in [PLAIN, PIPELINING] {
        for stage in ["connect", "EHLO", "MAIL", "RCPT", "DATA", "."] {
            for closing in ["", "421 4.3.2 closing"] {
                let fiend = Fiend::start(move |line: &str| match line.starts_with(stage) {
                    true if closing.is_empty() => Does::HangsUp,
                    true => says(closing),
                    false => usual(line, ehlo),
                })
                .await;
                let world = World::start(&fiend.hosts(), "retry-after 1h\nretry-recipients-after 1h").await;
                world.send("s@example.com", &THREE, b"x\r\n").await;
                let what = format!("{stage:?} {closing:?} {ehlo:?}");
                let at_host = matches!(stage, "connect" | "EHLO");
                world.events(if at_host { 1 } else { 3 }).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                let events = world.events(1).await;
                if at_host {
                    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::TransientQueue], "{what}");
                } else {
                    let mut rcpts: Vec<_> = events.iter().map(|e| e.rcpt.as_str()).collect();
                    rcpts.sort_unstable();
                    assert_eq!(rcpts, THREE, "{what}");
                    assert!(events.iter().all(|e| e.kind == Kind::Transient && e.action == "delayed"), "{what}");
                    let diag = if closing.is_empty() {
                        "connection closed by the other side"
                    } else {
                        "smtp;421 4.3.2 closing"
                    };
                    assert!(events.iter().all(|e| e.diag == diag), "{what}: {events:?}");
                }
                assert_eq!(world.engine.queued_recipients(), 3, "{what}");
                assert_eq!(world.store.usage().queued_recipients, 3, "{what}");
                world.stop().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipients_above_the_hosts_limit_go_in_the_next_transaction_without_an_event() {
    for refusal in ["452 4.5.3 too many recipients", "552 too many recipients"] {
        let mut taken = 0;
        let fiend = Fiend::start(move |line: &str| {
            if line.starts_with("MAIL") {
                taken = 0;
            }
            taken += u32::from(line.starts_with("RCPT"));
            if line.starts_with("RCPT") && taken > 10 { says(refusal) } else { usual(line, PIPELINING) }
        })
        .await;
        let world = World::start(&fiend.hosts(), "max-smtp-out 1").await;
        let rcpts: Vec<String> = (0..25).map(|n| format!("u{n}@example.net")).collect();
        world.send("s@example.com", &rcpts.iter().map(String::as_str).collect::<Vec<_>>(), b"x\r\n").await;
        let events = world.events(25).await;
        assert!(events.iter().all(|e| e.kind == Kind::Delivered), "{events:?}");
        assert_eq!((events.len(), fiend.heard("DATA"), fiend.heard("connect")), (25, 3, 1));
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_recipients_are_refused_no_content_is_sent_though_the_host_asks_for_it() {
    let fiend = Fiend::start(|line: &str| match line {
        _ if line.starts_with("RCPT") => says("550 5.1.1 no such user"),
        "." => says("554 5.5.1 no valid recipients"),
        _ => usual(line, PIPELINING),
    })
    .await;
    let world = World::start(&fiend.hosts(), "").await;
    world.send("s@example.com", &THREE, b"secret\r\n").await;
    let events = world.events(3).await;
    assert!(events.iter().all(|e| e.kind == Kind::Bounced && e.diag == "smtp;550 5.1.1 no such user"), "{events:?}");
    assert_eq!(fiend.heard("content"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_host_takes_is_refused_for_good_without_being_sent() {
    let fiend = Fiend::start(|line: &str| usual(line, "250-fiend.example\r\n250 SIZE 10\r\n")).await;
    let world = World::start(&fiend.hosts(), "").await;
    world.send("s@example.com", &THREE, b"12345678\r\n\r\n").await;
    world.send("s@example.com", &["small@example.net"], b"1234\r\n").await;
    let events = world.events(4).await;
    let large: Vec<_> = events.iter().filter(|e| e.rcpt != "small@example.net").collect();
    assert!(large.iter().all(|e| e.kind == Kind::Bounced && e.status == "5.3.4"), "{large:?}");
    assert!(large.iter().all(|e| e.category == "content-related" && e.diag.contains("limit of 10")), "{large:?}");
    assert_eq!((large.len(), fiend.heard("MAIL"), fiend.heard("connect")), (3, 1, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_answers_octet_by_octet_wins_no_time() {
    let pause = Duration::from_millis(200);
    let fiend = Fiend::start(move |line: &str| match line {
        "connect" => Does::Dribbles("220-x\r\n".repeat(100), pause),
        _ => usual(line, PLAIN),
    })
    .await;
    let world = World::start(&fiend.hosts(), "smtp-greeting-timeout 1s\nretry-after 1h").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let begun = std::time::Instant::now();
    let tq = &world.events(1).await[0];
    assert_eq!((tq.kind, tq.diag.as_str()), (Kind::TransientQueue, "no reply within 1 s"));
    assert!(begun.elapsed() < Duration::from_secs(4));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_never_ends_is_cut_off() {
    let fiend = Fiend::start(|line: &str| match line.starts_with("MAIL") {
        true => Does::Says("250-and so on\r\n".repeat(10_000)),
        false => usual(line, PLAIN),
    })
    .await;
    let world = World::start(&fiend.hosts(), "retry-recipients-after 1h").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let t = &world.events(1).await[0];
    assert_eq!((t.kind, t.diag.as_str()), (Kind::Transient, "the server's reply is longer than 64 KiB"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_more_than_it_was_asked_gets_the_next_message_on_another_connection() {
    let fiend = Fiend::start(|line: &str| match line {
        "." => Does::Says("250 ok\r\n250 and more\r\n".into()),
        _ => usual(line, PLAIN),
    })
    .await;
    let world = World::start(&fiend.hosts(), "max-smtp-out 1").await;
    for rcpt in THREE {
        world.send("s@example.com", &[rcpt], b"x\r\n").await;
    }
    let events = world.events(3).await;
    assert!(events.iter().all(|e| e.kind == Kind::Delivered && e.diag == "smtp;250 ok"), "{events:?}");
    assert_eq!(fiend.heard("connect"), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_sender_bounces_and_sends_nothing_though_the_host_takes_the_rest() {
    let fiend = Fiend::start(|line: &str| match line.starts_with("MAIL") {
        true => says("550 5.1.8 the sender's domain does not exist"),
        false => usual(line, PIPELINING),
    })
    .await;
    let world = World::start(&fiend.hosts(), "").await;
    world.send("s@example.com", &THREE, b"secret\r\n").await;
    let events = world.events(3).await;
    assert!(events.iter().all(|e| e.kind == Kind::Bounced && e.stage == "mail"), "{events:?}");
    assert_eq!(fiend.heard("content"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_without_the_reply_after_the_dot_is_in_doubt() {
    let pause = Duration::from_secs(3);
    let answer = move |line: &str| if line == "." { Does::HangsUpAfter(pause) } else { usual(line, PLAIN) };
    let fiend = Fiend::start(answer).await;
    let world = World::start(&fiend.hosts(), "bounce-after 3s").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let b = &world.events(1).await[0];
    assert_eq!((b.kind, b.category.as_str(), b.attempt, b.in_doubt), (Kind::Bounced, "message-expired", 1, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_never_answers_the_final_dot_leaves_the_next_attempt_in_doubt() {
    let mut first = true;
    let heard = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answer = move |line: &str| {
        first = first && !heard.load(std::sync::atomic::Ordering::SeqCst);
        match line {
            "." if first => {
                heard.store(true, std::sync::atomic::Ordering::SeqCst);
                Does::Nothing
            }
            _ => usual(line, PIPELINING),
        }
    };
    let fiend = Fiend::start(answer).await;
    let world = World::start(&fiend.hosts(), "smtp-data-termination-timeout 1s\nretry-recipients-after 1s").await;
    world.send("s@example.com", &THREE, b"x\r\n").await;
    let events = world.events(6).await;
    assert!(events[..3].iter().all(|e| e.kind == Kind::Transient && e.diag == "no reply within 1 s"), "{events:?}");
    assert!(events[3..].iter().all(|e| e.kind == Kind::Delivered && e.in_doubt), "{events:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_another_way_has_ended_does_not_cost_the_others_their_outcome() {
    let fiend = Fiend::start(|line: &str| usual(line, PIPELINING)).await;
    let world = World::start(&fiend.hosts(), "").await;
    let id = world.store.next_message_id();
    let envelope = carom::store::Envelope { time_queued: now(), ..World::envelope(id, "s@example.com", &THREE, 3) };
    let message = std::sync::Arc::new(carom::store::Message { envelope, body: b"x\r\n"[..].into() });
    world.store.accept(message.clone(), Events::new()).await.unwrap();
    let mut ended = Finish::new();
    ended.recipient(id, 1);
    world.store.finish(ended).await.unwrap();
    world.engine.admit(&message.envelope, &World::states(3), now());
    let events = world.events(2).await;
    let mut rcpts: Vec<_> = events.iter().map(|e| (e.kind, e.rcpt.as_str())).collect();
    rcpts.sort_unstable_by_key(|(_, rcpt)| rcpt.to_owned());
    assert_eq!(rcpts, [(Kind::Delivered, "a@example.net"), (Kind::Delivered, "c@example.net")]);
    assert_eq!(world.store.usage().queued_recipients, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_panics_gives_back_what_it_had_drawn_but_not_at_once() {
    let config = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(World::config("", "", "")));
    let engine = carom::queue::Engine::new(config);
    engine.start();
    let id = carom::event::MessageId(1);
    let envelope = carom::store::Envelope { time_queued: now(), ..World::envelope(id, "s@example.com", &THREE, 3) };
    engine.admit(&envelope, &World::states(3), now());
    let mut permit = engine.permit().await.unwrap();
    assert_eq!(permit.next(Purpose::Deliver), Next::Transaction(id));
    let session = std::thread::spawn(move || {
        let _permit = permit;
        panic!("a bug of the session");
    });
    assert!(session.join().is_err());
    let status = &engine.status()[0];
    assert_eq!((status.ready, status.held, status.connections, engine.queued_recipients()), (0, 3, 0, 3));
}
