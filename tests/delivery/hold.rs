//! The circuit breaker holds an entry of the suppression list back: mail for it waits, neither sent nor bounced, until it
//! is let go or confirmed.

use super::*;
use carom::event::{AddressKey, EventId, Scope, StoreId};
use carom::suppress::{Entry, State};

fn enter(world: &World, address: &str, state: State) {
    let by = EventId { store: StoreId(1), seq: 7 };
    let entry = Entry { rule: "hard".into(), by, state, time: Time::from_secs(1), ..Entry::default() };
    let subject = world.suppression.hasher().address(&AddressKey::of(address));
    world.suppression.apply(&subject.in_scope(&Scope::global()), &entry);
}

/// Waits until so many are on hold.
async fn on_hold(world: &World, n: u64) {
    for _ in 0..500 {
        if world.engine.status().iter().map(|q| q.on_hold).sum::<u64>() == n {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", world.engine.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_a_held_entry_waits_and_goes_out_when_the_entry_is_let_go() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "suppression-hold-retry 1s").await;
    enter(&world, "ann@example.net", State::Held);
    world.send("s@example.com", &["ann@example.net", "bob@example.net"], b"x\r\n").await;
    assert_eq!(world.events(1).await[0].rcpt, "bob@example.net");
    on_hold(&world, 1).await;
    // Several looks later it still waits: not attempted, no event, and no connection opened for nothing.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    on_hold(&world, 1).await;
    assert_eq!(world.events(1).await.len(), 1);
    let seen = mx.seen();
    assert!(!seen.lines.iter().any(|l| l.contains("ann@")) && seen.connections == 1, "{:?}", seen.lines);
    assert_eq!(world.store.usage().queued_recipients, 1, "it is queued, and would be after a restart");

    enter(&world, "ann@example.net", State::Removed);
    let events = world.events(2).await;
    assert_eq!((events[1].kind, events[1].rcpt.as_str(), events[1].attempt), (Kind::Delivered, "ann@example.net", 1));
    assert_eq!(world.engine.queued_recipients(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_a_held_entry_ends_as_suppressed_when_the_entry_is_confirmed() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "").await;
    enter(&world, "ann@example.net", State::Held);
    world.send("s@example.com", &["ann@example.net"], b"x\r\n").await;
    on_hold(&world, 1).await;
    enter(&world, "ann@example.net", State::Active);
    // Who confirms need not wait for the next look.
    world.engine.look_at_holds();
    let b = &world.events(1).await[0];
    assert_eq!((b.kind, b.category.as_str(), b.attempt, b.suppressed_by), (Kind::Bounced, "suppressed", 0, 7));
    assert!(mx.seen().lines.iter().all(|l| !l.contains("RCPT")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_does_not_last_longer_than_bounce_after() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "bounce-after 2s").await;
    enter(&world, "ann@example.net", State::Held);
    world.send("s@example.com", &["ann@example.net"], b"x\r\n").await;
    let b = &world.events(1).await[0];
    assert_eq!((b.kind, b.category.as_str(), b.status.as_str()), (Kind::Bounced, "message-expired", "4.4.7"));
    assert!(b.diag.contains("on hold, auto:hard is held back"), "{}", b.diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_mail_is_bounced_or_that_writes_files_keeps_who_is_on_hold() {
    // The domain has no host: whoever is not on hold bounces.
    let world = World::start("", "suppression-hold-retry 1s\nbounce-after 1h").await;
    enter(&world, "ann@here.example", State::Held);
    let folder = tempfile::tempdir().unwrap();
    let lines = format!(
        "type file\nfile-destination {}\nsuppression-hold-retry 1s\n</domain>\n<domain thrown.example>\ntype discard",
        folder.path().display()
    );
    let mut config = World::config("", &lines, "");
    config.postmaster.clear();
    world.reload(config);
    enter(&world, "eve@thrown.example", State::Held);
    world.send("s@example.com", &["ann@here.example", "bob@here.example"], b"x\r\n").await;
    world.send("s@example.com", &["eve@thrown.example", "zoe@thrown.example"], b"x\r\n").await;
    let events = world.events(2).await;
    assert!(
        events.iter().all(|e| e.kind == Kind::Delivered && !e.rcpt.starts_with("ann") && !e.rcpt.starts_with("eve"))
    );
    on_hold(&world, 2).await;
    enter(&world, "ann@here.example", State::Removed);
    enter(&world, "eve@thrown.example", State::Active);
    let events = world.events(4).await;
    let of = |rcpt: &str| events.iter().find(|e| e.rcpt.starts_with(rcpt)).unwrap();
    assert_eq!((of("ann").kind, of("eve").category.as_str()), (Kind::Delivered, "suppressed"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    world.stop().await;
}
