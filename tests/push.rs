//! As an operator I have every event handed on to a webhook, a stream of NATS JetStream or a program: they fail, are slow,
//! go away and come back, and still each event arrives at least once. Over real sockets, with the real store and the real
//! nats-server.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "sockets, processes and real files")]

mod broker;
pub mod endpoint;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Broker;
use carom::accounting::outputs::Outputs;
use carom::config::{AcctFile, BatchFormat, FieldChoice, OnLag, Privacy, Secret, push};
use carom::disk::RealDisk;
use carom::event::{Event, Events, Kind, Kinds, Time};
use carom::store::{Options, Store};
use endpoint::{Answer, Endpoint, verify};

use crate::outputs::{fill, settings, store, until};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn start(store: &Store, root: &Path, files: &[AcctFile]) -> Outputs {
    Outputs::start(Arc::new(store.clone()), files, Arc::new(RealDisk), settings(root)).unwrap()
}

async fn append(store: &Store, kind: Kind, names: impl Iterator<Item = String>) {
    let mut events = Events::new();
    for rcpt in names {
        events.push(&Event {
            rcpt: &rcpt,
            queue: "example.net/v1",
            ..Event::new(kind, Time::from_secs(1_770_000_000))
        });
    }
    store.append(events).await.unwrap();
    store.flush().await.unwrap();
}

fn names(from: usize, to: usize) -> impl Iterator<Item = String> {
    (from..to).map(|i| format!("u{i}@example.net"))
}

fn webhook(url: &str) -> AcctFile {
    let (mut file, _) = push::webhook(url).unwrap();
    file.records = Kinds::ALL;
    file.push.secrets = vec![Secret::new(KEY.into())];
    file.push.batch_size = 7;
    file.push.batch_interval = Duration::from_millis(20);
    file.push.retry = (Duration::from_millis(20), Duration::from_millis(200));
    file.push.timeout = Duration::from_secs(1);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_every_event_signed_whatever_it_answers_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let endpoint = Endpoint::start(|request| match request {
        1 => Answer::Status(500),
        2 => Answer::HangUp,
        3 => Answer::RetryAfter(429, 1),
        // Beyond the timeout.
        5 => Answer::Slow(Duration::from_millis(1500)),
        8 => Answer::Status(302),
        _ => Answer::Status(204),
    });
    let outputs = start(&store, dir.path(), &[webhook(&endpoint.url())]);
    append(&store, Kind::Delivered, names(0, 100)).await;
    until("delivery", || endpoint.accepted().len() >= 100).await;
    let requests = endpoint.requests();
    for request in &requests {
        verify(KEY, request);
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.records().len() <= 7, "{}", request.records().len());
    }
    assert_eq!(endpoint.accepted(), (1..=100).map(|i| format!("{}-{i}", store.id())).collect());
    // Each failure but the redirect's came once, and the wish to be left alone was obeyed.
    let waited = requests[3].at.duration_since(requests[2].at);
    assert!(waited >= Duration::from_millis(1000), "{waited:?}");
    let record = &requests[0].records()[0];
    assert_eq!((record["type"].as_str(), record["rcpt"].as_str()), (Some("d"), Some("u0@example.net")));
    assert_eq!(record["timeLogged"], "2026-02-02T02:40:00Z");
    outputs.stop().await.unwrap();
    assert_eq!(store.tables().consumers().unwrap()[0].1.cursor, 101);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_goes_on_where_it_was_after_any_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    // Now and then it accepts and the answer is lost.
    let endpoint = Endpoint::start(|n| if n % 5 == 0 { Answer::AcceptAndHangUp } else { Answer::Status(200) });
    let mut file = webhook(&endpoint.url());
    file.push.batch_format = BatchFormat::Lines;
    file.push.gzip = true;
    for round in 0..12 {
        let outputs = start(&store, dir.path(), std::slice::from_ref(&file));
        append(&store, Kind::Bounced, names(round * 50, round * 50 + 50)).await;
        tokio::time::sleep(Duration::from_millis(15 * (round as u64 % 4))).await;
        // As a crash would end it.
        drop(outputs);
    }
    let outputs = start(&store, dir.path(), std::slice::from_ref(&file));
    until("delivery", || endpoint.accepted().len() >= 600).await;
    outputs.stop().await.unwrap();
    assert_eq!(endpoint.accepted(), (1..=600).map(|i| format!("{}-{i}", store.id())).collect());
    endpoint.requests().iter().for_each(|r| verify(KEY, r));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_now_and_then_is_not_left_alone_longer_and_longer() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let endpoint = Endpoint::start(|n| Answer::Status(if n % 3 == 0 { 503 } else { 200 }));
    let mut file = webhook(&endpoint.url());
    file.push.retry.1 = Duration::from_secs(60);
    // All in one step of the output.
    append(&store, Kind::Delivered, names(0, 300)).await;
    let outputs = start(&store, dir.path(), &[file]);
    let mut most = 0;
    until("delivery", || {
        most = most.max(outputs.status()[0].retries);
        endpoint.accepted().len() == 300
    })
    .await;
    assert_eq!(most, 1);
    assert!(endpoint.requests().len() > 60, "there were failures");
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_is_kept_and_told_and_holds_back_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let stubborn = Endpoint::start(|n| if n <= 4 { Answer::Status(400) } else { Answer::Status(200) });
    let willing = Endpoint::start(|_| Answer::Status(200));
    let slow = webhook(&format!("{}?token=s3cret", stubborn.url()));
    let outputs = start(&store, dir.path(), &[slow, webhook(&willing.url())]);
    append(&store, Kind::Delivered, names(0, 3)).await;
    until("the other's delivery", || willing.accepted().len() == 3).await;
    let mut worst = String::new();
    until("delivery", || {
        let status = &outputs.status()[0];
        if let Some((_, error)) = status.error.as_ref().filter(|_| status.retries >= 2) {
            worst.clone_from(error);
        }
        stubborn.accepted().len() == 3
    })
    .await;
    assert!(worst.contains("HTTP 400") && worst.contains("REFUSED") && worst.contains("-1 on is kept"), "{worst}");
    assert!(!worst.contains("s3cret"), "{worst}");
    until("recovery", || outputs.status().iter().all(|s| s.error.is_none() && s.retries == 0 && s.lag_events == 0))
        .await;
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_verify_by_the_system_or_by_the_file_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (endpoint, pem) = Endpoint::start_tls(|_| Answer::Status(200));
    let outputs = start(&store, dir.path(), &[webhook(&endpoint.url())]);
    append(&store, Kind::Delivered, names(0, 20)).await;
    until("alarm", || outputs.status()[0].error.is_some()).await;
    let (_, error) = outputs.status()[0].error.clone().unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert!(endpoint.requests().is_empty());
    let mut file = webhook(&endpoint.url());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    file.push.tls_ca_file = Some(ca);
    outputs.reload(&[file]).await.unwrap();
    until("delivery", || endpoint.accepted().len() == 20).await;
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_does_not_hold_back_a_stop_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let endpoint =
        Endpoint::start(|n| if n <= 1 { Answer::Slow(Duration::from_secs(3600)) } else { Answer::Status(200) });
    let mut file = webhook(&endpoint.url());
    file.push.timeout = Duration::from_secs(600);
    let outputs = start(&store, dir.path(), std::slice::from_ref(&file));
    append(&store, Kind::Delivered, names(0, 5)).await;
    until("request", || endpoint.requests().len() == 1).await;
    let began = Instant::now();
    let _ = outputs.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let outputs = start(&store, dir.path(), &[file]);
    until("delivery", || endpoint.accepted().len() == 5).await;
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

/// 800 events, and no more is free on the disk than is held for the output.
async fn fall_behind(store: &Store, disk: &carom::sim::disk::SimDisk, outputs: &Outputs) {
    fill(store, disk, 150_000).await;
    until("gap", || outputs.status()[0].left_out >= 800).await;
    until("mail goes on", || store.intake_refused().is_none()).await;
    disk.set_limit(u64::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_it_lacks_when_its_broker_was_away_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Broker::start(dir.path()) else { return };
    broker.kill();
    let options = Options { segment_bytes: 64 << 10, reserve_bytes: 0, held_bytes: 300_000, ..Options::default() };
    let disk = carom::sim::disk::SimDisk::new();
    let store = Store::open(Arc::new(disk.clone()), Path::new("store"), &options).unwrap().store;
    let outputs = start(&store, dir.path(), &[nats(&broker)]);
    fall_behind(&store, &disk, &outputs).await;
    broker.restart();
    append(&store, Kind::Delivered, names(0, 1)).await;
    until("the end", || outputs.status()[0].cursor == 802).await;
    let (messages, ids) = broker.stream("CAROM").await;
    assert_eq!(ids, BTreeSet::from([format!("{}-1..800", store.id()), format!("{}-801", store.id())]));
    assert_eq!(messages, 2);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_away_too_long_is_told_what_it_missed_and_mail_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 << 10, reserve_bytes: 0, held_bytes: 300_000, ..Options::default() };
    let disk = carom::sim::disk::SimDisk::new();
    let store = Store::open(Arc::new(disk.clone()), Path::new("store"), &options).unwrap().store;
    let back = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let endpoint = Endpoint::start(move |_| {
        Answer::Status(if is_back.load(std::sync::atomic::Ordering::Relaxed) { 200 } else { 503 })
    });
    let file = webhook(&endpoint.url());
    assert_eq!(file.on_lag, OnLag::Skip, "the default");
    let outputs = start(&store, dir.path(), &[file]);
    fall_behind(&store, &disk, &outputs).await;
    back.store(true, std::sync::atomic::Ordering::Relaxed);
    append(&store, Kind::Delivered, names(0, 1)).await;
    let after = format!("{}-801", store.id());
    until("record", || endpoint.accepted().contains(&after)).await;
    let gap = format!("{}-1..800", store.id());
    assert_eq!(endpoint.accepted(), BTreeSet::from([gap, after]));
    let accepted: Vec<_> = endpoint.requests().into_iter().filter(|r| r.accepted).flat_map(|r| r.records()).collect();
    assert_eq!(accepted[0]["type"], "gap", "before what follows it");
    assert_eq!(accepted[0]["gap"], serde_json::json!({ "first": 1, "last": 800 }));
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_chosen_filtered_and_hidden_for_files_is_so_for_webhooks_and_they_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let endpoint = Endpoint::start(|_| Answer::Status(200));
    let mut file = webhook(&endpoint.url());
    file.records = Kinds::of(&[Kind::Bounced, Kind::Feedback]);
    file.record_fields.insert(Kind::Bounced, vec![FieldChoice::Field("rcpt".into())]);
    file.privacy_policy = Privacy::Redact("X".into());
    let outputs = start(&store, dir.path(), &[]);
    outputs.reload(std::slice::from_ref(&file)).await.unwrap();
    append(&store, Kind::Delivered, names(0, 3)).await;
    append(&store, Kind::Bounced, names(3, 5)).await;
    until("delivery", || endpoint.accepted().len() == 2).await;
    let records: Vec<_> = endpoint.requests().iter().flat_map(|r| r.records()).collect();
    let first = serde_json::json!({
        "type": "b", "timeLogged": "2026-02-02T02:40:00Z", "rcpt": "X@example.net",
        "eventId": format!("{}-4", store.id()),
    });
    assert_eq!(records[0], first);
    // Removed, it is forgotten.
    outputs.reload(&[]).await.unwrap();
    assert!(store.tables().consumers().unwrap().is_empty());
    append(&store, Kind::Bounced, names(5, 6)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(endpoint.accepted().len(), 2);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_hook_posts_each_bounce_alone_or_hands_it_to_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    let endpoint = Endpoint::start(|n| if n == 2 { Answer::Status(503) } else { Answer::Status(200) });
    let program = |name: &str, script: String| {
        let path = root.join(name);
        std::fs::write(&path, script).unwrap();
        let mut file = push::hook(&format!("/bin/sh {}", path.display())).unwrap().0;
        file.retry_interval = Duration::from_millis(50);
        file
    };
    let (forever, once, fails) = (root.join("forever"), root.join("once"), root.join("fails"));
    let mut url = push::hook(&endpoint.url()).unwrap().0;
    url.push.retry = (Duration::from_millis(20), Duration::from_millis(200));
    let hooks = [
        url,
        program("a.sh", format!("while read -r line; do echo \"$line\" >> {}; done", forever.display())),
        program("b.sh", format!("read -r line && echo \"$line\" >> {}", once.display())),
        // Reads every third line without dealing with it: it is to get it again.
        program(
            "c.sh",
            format!(
                "read -r line || exit 0; n=$(cat {0}.n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {0}.n\n\
                 [ $((n % 3)) = 0 ] && exit 1\necho \"$line\" >> {0}",
                fails.display()
            ),
        ),
    ];
    let outputs = start(&store, root, &hooks);
    append(&store, Kind::Delivered, names(0, 5)).await;
    append(&store, Kind::Bounced, names(5, 15)).await;
    append(&store, Kind::RemoteBounce, names(15, 25)).await;
    let wanted: BTreeSet<String> = (6..=25).map(|i| format!("{}-{i}", store.id())).collect();
    let ids = |path: &Path| -> BTreeSet<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        whole.map(|r| r["eventId"].as_str().unwrap().to_owned()).collect()
    };
    until("posts", || endpoint.accepted().len() == 20).await;
    for path in [&forever, &once, &fails] {
        until(&path.display().to_string(), || ids(path).len() == 20).await;
        assert_eq!(ids(path), wanted);
    }
    assert_eq!(endpoint.accepted(), wanted);
    assert!(endpoint.requests().iter().all(|r| r.body.first() == Some(&b'{')), "one object each");
    outputs.stop().await.unwrap();
    // Stopped in order, nothing is left to hand over again.
    let cursors: Vec<u64> = store.tables().consumers().unwrap().into_iter().map(|(_, row)| row.cursor).collect();
    assert_eq!(cursors, [26; 4]);
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&forever), lines(&once), lines(&fails)), (20, 20, 20));
    store.close().await.unwrap();
}

fn nats(broker: &Broker) -> AcctFile {
    let mut file = push::nats(&broker.url()).unwrap();
    file.records = Kinds::ALL;
    file.push.retry = (Duration::from_millis(50), Duration::from_millis(300));
    file.push.timeout = Duration::from_secs(2);
    file.push.max_pending = 100;
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_holds_every_event_once_though_the_broker_is_killed_and_carom_too() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Broker::start(dir.path()) else { return };
    let store = store(dir.path());
    let file = nats(&broker);
    let mut outputs = start(&store, dir.path(), std::slice::from_ref(&file));
    const ROUNDS: usize = 6;
    const EACH: usize = 1000;
    for round in 0..ROUNDS {
        append(&store, Kind::Delivered, names(round * EACH, (round + 1) * EACH)).await;
        // In the middle of it.
        tokio::time::sleep(Duration::from_millis(10 + 7 * round as u64)).await;
        if round % 2 == 0 {
            broker.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            broker.restart();
        } else {
            // As a crash would end it.
            drop(outputs);
            outputs = start(&store, dir.path(), std::slice::from_ref(&file));
        }
    }
    until("the end", || store.tables().consumers().unwrap()[0].1.cursor as usize == ROUNDS * EACH + 1).await;
    let (messages, ids) = broker.stream("CAROM").await;
    assert_eq!(ids, (1..=ROUNDS * EACH).map(|i| format!("{}-{i}", store.id())).collect());
    assert_eq!(messages, ROUNDS * EACH, "the broker has dropped what came twice");
    until("recovery", || outputs.status()[0].error.is_none()).await;
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_in_the_status_and_a_stream_is_only_made_if_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Broker::start(dir.path()) else { return };
    let store = store(dir.path());
    let mut file = nats(&broker);
    file.push.create_stream = false;
    file.push.subject = "mail.{type}.{vmta}".into();
    file.push.user = "carom".into();
    file.push.password = Secret::new("s3cret".into());
    let outputs = start(&store, dir.path(), std::slice::from_ref(&file));
    append(&store, Kind::Bounced, names(0, 10)).await;
    until("alarm", || outputs.status()[0].error.is_some()).await;
    let error = outputs.status()[0].error.clone().unwrap().1;
    assert!(error.contains("no stream found") && !error.contains("s3cret"), "{error}");
    broker.kill();
    until("another alarm", || outputs.status()[0].error.as_ref().is_some_and(|(_, e)| e.contains("refused"))).await;
    assert_eq!((outputs.status()[0].cursor, outputs.status()[0].retries > 0), (1, true));
    broker.restart();
    let began = Instant::now();
    // It may say that there is no stream.
    let _ = outputs.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10));
    file.push.create_stream = true;
    let outputs = start(&store, dir.path(), &[file]);
    until("the end", || outputs.status()[0].cursor == 11).await;
    let (messages, ids) = broker.stream("CAROM").await;
    assert_eq!((messages, ids.len()), (10, 10));
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

/// Twenty events, one that is too large for anybody, twenty more.
async fn append_with_a_large_one(store: &Store) {
    append(store, Kind::Delivered, names(0, 20)).await;
    let mut events = Events::new();
    let diag = format!("smtp;550 {}", "no ".repeat(30_000));
    events.push(&Event { rcpt: "large@example.net", diag: &diag, ..Event::new(Kind::Bounced, Time(1)) });
    store.append(events).await.unwrap();
    append(store, Kind::Delivered, names(20, 40)).await;
}

/// All went on but the one, and it was said which.
fn one_was_left_out(store: &Store, outputs: &Outputs, ids: &BTreeSet<String>) {
    let left_out = format!("{}-21..21", store.id());
    let mut want: BTreeSet<String> = (1..=41).filter(|i| *i != 21).map(|i| format!("{}-{i}", store.id())).collect();
    want.insert(left_out);
    assert_eq!(*ids, want);
    let status = &outputs.status()[0];
    let (_, error) = status.error.as_ref().expect("the status says it");
    assert!(error.contains("event 21 was left out: it is too large"), "{error}");
    assert_eq!(status.left_out, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_endpoint_is_left_out_and_told_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let endpoint = Endpoint::start(|_| Answer::UpTo(40_000));
    let outputs = start(&store, dir.path(), &[webhook(&endpoint.url())]);
    append_with_a_large_one(&store).await;
    until("delivery", || outputs.status()[0].cursor == 42).await;
    one_was_left_out(&store, &outputs, &endpoint.accepted());
    outputs.stop().await.unwrap();
    // Whoever takes nothing at all is not set up for records: nothing is left out for that.
    let deaf = Endpoint::start(|_| Answer::UpTo(10));
    let mut other = webhook(&deaf.url());
    other.push.name = "deaf".into();
    let outputs = start(&store, dir.path(), &[other]);
    until("alarm", || outputs.status()[0].error.as_ref().is_some_and(|(_, e)| e.contains("413"))).await;
    assert_eq!((outputs.status()[0].left_out, outputs.status()[0].cursor), (0, 1));
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_broker_is_left_out_and_told_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start_with(dir.path(), "max_payload: 40000") else { return };
    let store = store(dir.path());
    let outputs = start(&store, dir.path(), &[nats(&broker)]);
    append_with_a_large_one(&store).await;
    until("delivery", || outputs.status()[0].cursor == 42).await;
    one_was_left_out(&store, &outputs, &broker.stream("CAROM").await.1);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

/// Ten events reach a broker that lets only those in who log in like this; `wrong` is refused, and told without a secret.
async fn logs_in(broker: &Broker, dir: &Path, right: impl Fn(&mut AcctFile), wrong: impl Fn(&mut AcctFile)) {
    let store = store(dir);
    let file = |login: &dyn Fn(&mut AcctFile)| {
        let mut file = nats(broker);
        login(&mut file);
        file
    };
    let outputs = start(&store, dir, &[file(&wrong)]);
    append(&store, Kind::Delivered, names(0, 10)).await;
    until("alarm", || outputs.status()[0].error.is_some()).await;
    let (_, error) = outputs.status()[0].error.clone().unwrap();
    assert!(!error.contains("s3cret") && !error.contains("n0ne"), "{error}");
    outputs.reload(&[file(&right)]).await.unwrap();
    until("delivery", || outputs.status()[0].cursor == 11).await;
    assert_eq!(broker.stream("CAROM").await.0, 10);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Broker::start_with(dir.path(), "authorization { token: \"s3cret\" }") else { return };
    broker.login = |_| async_nats::ConnectOptions::with_token("s3cret".into());
    let with = |token: &'static str| move |f: &mut AcctFile| f.push.token = Secret::new(token.into());
    logs_in(&broker, dir.path(), with("s3cret"), with("n0ne")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = "authorization { user: carom, password: \"s3cret\" }";
    let Some(mut broker) = Broker::start_with(dir.path(), config) else { return };
    broker.login = |_| async_nats::ConnectOptions::with_user_and_password("carom".into(), "s3cret".into());
    let with = |password: &'static str| {
        move |f: &mut AcctFile| {
            f.push.user = "carom".into();
            f.push.password = Secret::new(password.into());
        }
    };
    logs_in(&broker, dir.path(), with("s3cret"), with("n0ne")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_tls_must_show_a_certificate_of_the_authority_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("broker.pem"), dir.path().join("broker.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", certificate.display(), key.display());
    let Some(mut broker) = Broker::start_with(dir.path(), &config) else { return };
    broker.login = |dir| {
        let options = async_nats::ConnectOptions::new().require_tls(true);
        options.add_root_certificates(dir.with_file_name("broker.pem"))
    };
    let named = certificate.clone();
    logs_in(&broker, dir.path(), move |f| f.push.tls_ca_file = Some(named.clone()), |_| ()).await;
}
