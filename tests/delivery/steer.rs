//! What replies make of a queue: each action of `<smtp-pattern-list>` and `<smtp-pattern>`, against servers on sockets.

use std::time::Duration;

use carom::config::QueueMode;
use carom::event::Kind;
use carom::queue::QueueStatus;

use super::mx::{Mx, Says};
use super::world::{Seen, World};

/// A world whose queues use a list with these `reply` lines.
async fn with_list(hosts: &str, lines: &str, replies: &str, more: &str) -> World {
    let global = format!("<smtp-pattern-list p>\n{replies}\n</smtp-pattern-list>\n{more}");
    World::with(hosts, &format!("smtp-pattern-list p\n{lines}"), &global, &[], |_| {}).await
}

fn both(one: &Mx, two: &Mx, between: char) -> String {
    format!("smtp-hosts [127.0.0.1]:{}{between}[127.0.0.1]:{}", one.address.port(), two.address.port())
}

async fn send(world: &World, n: usize) {
    for n in 0..n {
        world.send("s@example.com", &[&format!("u{n}@example.net")], b"x\r\n").await;
    }
}

fn the_queue(world: &World) -> QueueStatus {
    world.engine.status().remove(0)
}

/// Waits until it holds, but not for ever.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("in vain: {what}");
}

fn outcomes(events: &[Seen]) -> Vec<(Kind, &str)> {
    events.iter().map(|e| (e.kind, e.diag.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferral_that_matches_puts_the_queue_into_backoff_and_its_event_stays_what_the_host_said() {
    let mx = Mx::start(Says { rcpt: vec![("u0@", "450 4.7.1 slow down, please")], ..Says::default() }).await;
    let world = with_list(
        &mx.hosts(),
        "backoff-max-msg-rate 1/h\nbackoff-max-smtp-out 1",
        "reply /never said/ mode=normal\nreply /Slow Down/ mode=backoff",
        "",
    )
    .await;
    send(&world, 30).await;
    let events = world.events(2).await;
    let t = events.iter().find(|e| e.rcpt.starts_with("u0@")).unwrap();
    assert_eq!((t.kind, t.diag.as_str()), (Kind::Transient, "smtp;450 4.7.1 slow down, please"));
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    let mode = the_queue(&world).mode;
    assert_eq!(mode.mode(), QueueMode::Backoff);
    assert_eq!(
        mode.changed().unwrap().1,
        "test:5: 450 4.7.1 slow down, please",
        "the line of the entry, and the reply"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = mx.seen().messages.len();
    assert!(before < 29, "one an hour is slow: {before}");
    assert_eq!(world.engine.set_mode(|name| name == "example.net/{default}", QueueMode::Normal), (1, 1));
    until("all the rest", || mx.seen().messages.len() == 29).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_of_several_lines_is_matched_as_one_and_backoff_ends_with_a_delivery() {
    let busy = "421-mx.example.net\r\n421 too many\r\n";
    let mx = Mx::start(Says { greeting: busy.trim_end(), ..Says::default() }).await;
    let world = with_list(
        &mx.hosts(),
        "backoff-retry-after 1s\nretry-after 1h\nbackoff-to-normal-after-delivery yes",
        "reply /^421 mx\\.example\\.net too many/ mode=backoff",
        "",
    )
    .await;
    send(&world, 1).await;
    assert_eq!(world.events(1).await[0].kind, Kind::TransientQueue);
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    mx.now_says(Says::default());
    let events = world.events(2).await;
    let delivered = events.iter().find(|e| e.kind == Kind::Delivered);
    assert!(delivered.is_some(), "after backoff-retry-after, not after an hour: {events:?}");
    until("normal", || !the_queue(&world).mode.is_backoff()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backoff_ends_by_itself_after_its_time() {
    let mx = Mx::start(Says { rcpt: vec![("u0@", "451 slow")], ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "backoff-to-normal-after 1s", "reply /slow/ mode=backoff", "").await;
    send(&world, 1).await;
    world.events(1).await;
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    until("normal", || !the_queue(&world).mode.is_backoff()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skipped_mx_is_left_for_the_next_one_and_a_5xx_of_it_bounces_nobody() {
    let first = Mx::start(Says { mail: "554 5.7.1 not from you", ..Says::default() }).await;
    let second = Mx::start(Says::default()).await;
    let world =
        with_list(&both(&first, &second, ';'), "max-smtp-out 1", "reply /^554 .*not from you/ skip-mx", "").await;
    send(&world, 5).await;
    let events = world.events(6).await;
    let t: Vec<_> = events.iter().filter(|e| e.kind == Kind::Transient).collect();
    assert_eq!(t.len(), 1, "one was tried there: {:?}", outcomes(&events));
    assert_eq!((t[0].diag.as_str(), t[0].status.as_str()), ("smtp;554 5.7.1 not from you", "5.7.1"));
    assert_eq!(events.iter().filter(|e| e.kind == Kind::Delivered).count(), 5);
    assert_eq!(second.seen().messages.len(), 5);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_skips_the_mx_bounces_nobody_and_without_another_one_the_queue_waits() {
    let first = Mx::start(Says { greeting: "554 5.7.1 blocked", ..Says::default() }).await;
    let second = Mx::start(Says::default()).await;
    let world = with_list(&both(&first, &second, ';'), "", "reply /blocked/ skip-mx", "").await;
    send(&world, 1).await;
    assert_eq!(outcomes(&world.events(1).await), [(Kind::Delivered, "smtp;250 2.0.0 queued")]);
    world.stop().await;

    let only = Mx::start(Says { mail: "554 5.7.1 blocked", ..Says::default() }).await;
    let world = with_list(&only.hosts(), "retry-after 1h", "reply /blocked/ skip-mx", "").await;
    send(&world, 3).await;
    let events = world.events(2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let kinds: Vec<_> = world.events(2).await.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [Kind::Transient, Kind::TransientQueue], "{:?}", outcomes(&events));
    assert_eq!(world.engine.queued_recipients(), 3);
    assert!(the_queue(&world).next_retry.is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounced_queue_ends_for_all_who_wait_with_the_reply_and_for_nobody_else() {
    let mx = Mx::start(Says { rcpt: vec![("later@", "450 not yet")], ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "max-smtp-out 1", "reply /account closed/ bounce-queue", "").await;
    world.send("s@example.com", &["later@example.net"], b"x\r\n").await;
    assert_eq!(world.events(1).await[0].kind, Kind::Transient, "one is held back");
    world.suppress("not@example.net", 9);
    mx.now_says(Says { rcpt: vec![("", "450 4.7.0 account closed")], ..Says::default() });
    until("the old connection to be gone", || mx.seen().now == 0).await;
    world.send("s@example.com", &["not@example.net", "u0@example.net", "u1@example.net"], b"x\r\n").await;
    let events = world.events(5).await;
    let of = |who: &str| events.iter().rev().find(|e| e.rcpt.starts_with(who)).unwrap();
    for who in ["u0@", "u1@", "later@"] {
        assert_eq!((of(who).kind, of(who).diag.as_str()), (Kind::Bounced, "smtp;450 4.7.0 account closed"), "{who}");
        assert_eq!(of(who).status, "4.7.0");
    }
    assert_eq!((of("later@").attempt, of("later@").category.as_str()), (1, ""), "not tried again");
    assert_eq!(of("not@").category, "suppressed");
    assert_eq!(world.engine.queued_recipients(), 0);
    assert_eq!(world.store.usage().queued_recipients, 0);
    mx.now_says(Says::default());
    world.send("s@example.com", &["new@example.net"], b"x\r\n").await;
    assert!(matches!(world.events(6).await.pop().unwrap().kind, Kind::Delivered | Kind::Bounced));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_can_bounce_the_queue_and_calls_no_other_address_dead() {
    let mx = Mx::start(Says { greeting: "550 5.1.1 no such user here, go away", ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "", "reply /go away/ bounce-queue", "").await;
    let rcpts: Vec<String> = (0..2500).map(|n| format!("u{n}@example.net")).collect();
    for part in rcpts.chunks(500) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        world.send("s@example.com", &part, b"x\r\n").await;
    }
    let events = world.events(2500).await;
    assert!(events.iter().all(|e| e.kind == Kind::Bounced && e.diag == "smtp;550 5.1.1 no such user here, go away"));
    assert!(events.iter().all(|e| e.category == "other"), "it was said of none of them");
    assert_eq!(world.engine.queued_recipients(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounce_rcpt_ends_the_recipient_that_got_a_4xx_and_no_other() {
    let mx = Mx::start(Says {
        rcpt: vec![("full@", "452 4.2.2 mailbox full"), ("busy@", "451 4.3.0 busy")],
        ..Says::default()
    })
    .await;
    let world = with_list(&mx.hosts(), "", "reply /mailbox full/ bounce-rcpt", "").await;
    world.send("s@example.com", &["full@example.net", "busy@example.net", "ok@example.net"], b"x\r\n").await;
    let events = world.events(3).await;
    let of = |who: &str| events.iter().find(|e| e.rcpt.starts_with(who)).unwrap();
    assert_eq!((of("full").kind, of("full").diag.as_str()), (Kind::Bounced, "smtp;452 4.2.2 mailbox full"));
    assert_eq!((of("busy").kind, of("ok").kind), (Kind::Transient, Kind::Delivered));
    world.stop().await;
    let mx = Mx::start(Says { end: "452 4.2.2 mailbox full", ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "", "reply /mailbox full/ bounce-rcpt", "").await;
    send(&world, 1).await;
    assert_eq!(world.events(1).await[0].kind, Kind::Transient, "only what is said to RCPT");
    world.stop().await;
}

/// Two source addresses for the VirtualMTA that mail without one uses.
const TWO: &str = "smtp-source-host 127.0.0.2 two.example.com\nsmtp-source-host 127.0.0.3 three.example.com\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_source_is_left_for_the_other_one_and_used_again_after_its_time() {
    let mx = Mx::start(Says { rcpt: vec![("u0@", "450 4.7.1 your address is listed")], ..Says::default() }).await;
    let world = with_list(
        &mx.hosts(),
        "max-smtp-out 1\nmax-msg-per-connection 1",
        "reply /listed/ disable-source-ip,reenable-after=2s",
        TWO,
    )
    .await;
    send(&world, 8).await;
    let events = world.events(8).await;
    let bad = events.iter().find(|e| e.kind == Kind::Transient).unwrap().source_ip.clone();
    let at = events.iter().position(|e| e.kind == Kind::Transient).unwrap();
    let after: Vec<_> = events[at + 1..].iter().map(|e| e.source_ip.as_str()).collect();
    let other = if bad == "127.0.0.2" { "127.0.0.3" } else { "127.0.0.2" };
    assert!(!after.is_empty() && after.iter().all(|ip| *ip == other), "{bad}: {after:?}");
    let disabled = the_queue(&world).disabled_sources;
    assert_eq!(disabled.len(), 1);
    assert_eq!((disabled[0].ip.to_string(), disabled[0].until.is_some()), (bad.clone(), true));
    assert!(disabled[0].why.contains("listed"), "{}", disabled[0].why);
    until("its time to be over", || the_queue(&world).disabled_sources.is_empty()).await;
    mx.now_says(Says::default());
    send(&world, 6).await;
    let events = world.events(14).await;
    assert!(events[8..].iter().any(|e| e.source_ip == bad), "both take turns again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_turns_one_source_away_is_followed_by_the_other_at_once() {
    let mx = super::fiend::Fiend::start({
        let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        move |line| match line {
            "connect" if first.swap(false, std::sync::atomic::Ordering::SeqCst) => {
                super::fiend::says("421 4.7.0 your address is listed")
            }
            line => super::fiend::usual(line, "250 fiend.example\r\n"),
        }
    })
    .await;
    let world = with_list(&mx.hosts(), "retry-after 1h", "reply /listed/ disable-source-ip", TWO).await;
    send(&world, 1).await;
    assert_eq!(world.events(1).await[0].kind, Kind::Delivered);
    assert_eq!(the_queue(&world).disabled_sources[0].until, None, "for good: nothing says how long");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_source_left_the_queue_waits_and_goes_on_when_one_is_free() {
    let mx = Mx::start(Says { mail: "450 4.7.1 listed", ..Says::default() }).await;
    let world = with_list(
        &mx.hosts(),
        "retry-recipients-after 1s\nretry-after 1h\nbackoff-upon-all-sources-disabled yes\nbackoff-retry-after 2h",
        "reply /listed/ disable-source-ip,reenable-after=3s",
        TWO,
    )
    .await;
    send(&world, 2).await;
    until("both to be disabled", || the_queue(&world).disabled_sources.len() == 2).await;
    assert!(the_queue(&world).mode.is_backoff());
    let connections = mx.seen().connections;
    mx.now_says(Says::default());
    let events = world.events(3).await;
    let failed = events.iter().find(|e| e.kind == Kind::TransientQueue).unwrap();
    assert!(failed.diag.contains("they are disabled for this queue"), "{}", failed.diag);
    assert_eq!(mx.seen().connections, connections, "it waits");
    until("the mail to be delivered, not in two hours", || mx.seen().messages.len() == 2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_queue_sleeps_at_once_with_all_its_connections() {
    let mx = Mx::start(Says {
        rcpt: vec![("u0@", "451 4.7.1 come back later")],
        thinks: Duration::from_millis(30),
        ..Says::default()
    })
    .await;
    let world = with_list(&mx.hosts(), "retry-after 1h\nmax-smtp-out 4", "reply /come back/ defer-queue", "").await;
    send(&world, 60).await;
    world.events(1).await;
    until("sleep", || the_queue(&world).next_retry.is_some() && the_queue(&world).connections == 0).await;
    assert!(mx.seen().messages.len() < 40, "{}", mx.seen().messages.len());
    assert_eq!(the_queue(&world).last_error, "test:4: 451 4.7.1 come back later");
    assert!(world.engine.schedule("example.net/{default}"));
    until("the rest", || mx.seen().messages.len() == 59).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_pattern_block_in_file_order_gives_the_retry_delay_and_it_doubles() {
    let mx = Mx::start(Says { rcpt: vec![("", "452 4.2.2 full")], ..Says::default() }).await;
    let blocks = "<smtp-pattern none>\npattern ^5\ninitial-pts 1h\n</smtp-pattern>\n\
                  <smtp-pattern 4xx>\npattern ^4[0-9]2\ninitial-pts 1\nmax-pts 3\n</smtp-pattern>\n\
                  <smtp-pattern all>\npattern /./\ninitial-pts 1h\n</smtp-pattern>\n";
    let world = World::with(&mx.hosts(), "retry-recipients-after 1h", blocks, &[], |_| {}).await;
    let start = std::time::Instant::now();
    send(&world, 1).await;
    let mut times = Vec::new();
    for n in 1..=4 {
        world.events(n).await;
        times.push(start.elapsed().as_millis());
    }
    let waits: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!((900..1900).contains(&waits[0]), "a second: {waits:?}");
    assert!((1900..2900).contains(&waits[1]), "two: {waits:?}");
    assert!((2900..3900).contains(&waits[2]), "at most three: {waits:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_match_combine_and_the_first_wins_where_they_conflict() {
    let mx = Mx::start(Says { rcpt: vec![("u0@", "450 4.7.1 slow and full")], ..Says::default() }).await;
    let world = with_list(
        &mx.hosts(),
        "",
        "reply /slow/ mode=backoff\nreply /full/ mode=normal,bounce-rcpt\nreply /slow and/ mode=normal",
        "<smtp-pattern x>\npattern /full/\naction disable-source-ip,reenable-after=1h\n</smtp-pattern>\n",
    )
    .await;
    send(&world, 1).await;
    assert_eq!(world.events(1).await[0].kind, Kind::Bounced);
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    assert_eq!(the_queue(&world).disabled_sources.len(), 1, "a pattern block steers every queue");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_that_ships_with_carom_is_used_by_its_name_and_actions_of_pattern_files_hold() {
    let says = Says {
        rcpt: vec![("u0@", "450 4.7.1 Rate limit exceeded for 192.0.2.10, try again later")],
        ..Says::default()
    };
    let mx = Mx::start(says.clone()).await;
    let world = World::start(&mx.hosts(), "smtp-pattern-list builtin").await;
    send(&world, 1).await;
    until("backoff", || world.engine.status().first().is_some_and(|q| q.mode.is_backoff())).await;
    assert!(the_queue(&world).mode.changed().unwrap().1.starts_with("backoff.conf:"));
    world.stop().await;
    let mx = Mx::start(says).await;
    let patterns =
        "<bounce-category-patterns>\n/rate limit/ policy-related mode=backoff class=4\n</bounce-category-patterns>\n";
    let world = World::with(&mx.hosts(), "", patterns, &[], |_| {}).await;
    send(&world, 1).await;
    until("backoff", || world.engine.status().first().is_some_and(|q| q.mode.is_backoff())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_steers_nothing_and_neither_does_a_queue_without_lists() {
    let mx = Mx::start(Says { rcpt: vec![("u0@", "450 ok but no")], end: "250 2.0.0 ok", ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "", "reply /^2/ mode=backoff", "").await;
    send(&world, 2).await;
    world.events(2).await;
    assert!(!the_queue(&world).mode.is_backoff());
    world.stop().await;
    let list = "<smtp-pattern-list p>\nreply /no/ mode=backoff,disable-source-ip\n</smtp-pattern-list>\n";
    let world = World::with(&mx.hosts(), "", list, &[], |_| {}).await;
    send(&world, 1).await;
    world.events(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!the_queue(&world).mode.is_backoff() && the_queue(&world).disabled_sources.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_puts_other_patterns_in_force_and_keeps_the_mode() {
    let mx = Mx::start(Says { mail: "450 4.7.1 slow", ..Says::default() }).await;
    let world = with_list(&mx.hosts(), "retry-recipients-after 1s", "reply /quick/ mode=backoff", "").await;
    send(&world, 1).await;
    world.events(1).await;
    assert!(!the_queue(&world).mode.is_backoff());
    let global = "<smtp-pattern-list p>\nreply /slow/ mode=backoff\n</smtp-pattern-list>\n";
    let lines = "retry-recipients-after 1s\nsmtp-pattern-list p";
    world.reload(World::config(&mx.hosts(), lines, global));
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    world.reload(World::config(&mx.hosts(), "", ""));
    assert!(the_queue(&world).mode.is_backoff());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_sessions_in_a_row_begin_backoff_and_unknown_users_do_not() {
    let mx = Mx::start(Says { rcpt: vec![("", "550 5.1.1 unknown")], ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "max-errors-per-domain 3").await;
    send(&world, 10).await;
    world.events(10).await;
    assert!(!the_queue(&world).mode.is_backoff());
    until("the connection to be gone", || mx.seen().now == 0).await;
    mx.now_says(Says { mail: "451 4.7.1 not you", ..Says::default() });
    send(&world, 10).await;
    world.events(13).await;
    until("backoff", || the_queue(&world).mode.is_backoff()).await;
    assert_eq!(the_queue(&world).mode.changed().unwrap().1, "max-errors-per-domain 3: 451 4.7.1 not you");
    world.stop().await;
}
