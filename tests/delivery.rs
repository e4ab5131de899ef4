//! A message leaves: from the store through the queues over real sockets to a server, and the ledger says what came of it.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests on real sockets")]

mod dns;
mod fiend;
mod hold;
mod hostile;
mod mx;
mod pipe;
mod steer;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carom::config::model::ReturnPathToken;
use carom::event::return_path::{TokenKeys, verify};
use carom::event::{Kind, Time, TokenKey, unsubscribe_token};
use carom::net::dns::{Resolver, RouteError, RouteQuery};
use carom::store::message::{SuppressionTerms, UnsubscribeLink};
use dns::Dns;
use mx::{Mx, Says};
use world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_as_it_is_and_the_ledger_says_so() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "").await;
    let id = world.send("news@example.com", &["ann@example.net"], b"Subject: x\r\n\r\n.dot\r\nend\r\n").await;
    let events = world.events(1).await;
    let d = &events[0];
    assert_eq!(
        (d.kind, d.message, d.rcpt.as_str(), d.orig.as_str()),
        (Kind::Delivered, id, "ann@example.net", "news@example.com")
    );
    assert_eq!((d.action.as_str(), d.status.as_str(), d.diag.as_str()), ("relayed", "2.0.0", "smtp;250 2.0.0 queued"));
    assert_eq!(
        (d.mta.as_str(), d.mta_ip.as_str(), d.esmtp.as_str()),
        ("127.0.0.1", "127.0.0.1", "PIPELINING,8BITMIME,SIZE")
    );
    assert_eq!(
        (d.queue.as_str(), d.provider.as_str(), d.attempt, d.stage.as_str()),
        ("example.net/{default}", "example.net", 1, "eod")
    );
    assert_eq!(d.source_ip, "127.0.0.1");
    assert!(!d.in_doubt);
    let seen = mx.seen();
    assert_eq!(
        seen.messages,
        [("news@example.com".into(), vec!["ann@example.net".into()], b"Subject: x\r\n\r\n.dot\r\nend\r\n".to_vec())]
    );
    assert!(seen.lines.contains(&"EHLO mail.example.com".to_owned()));
    world.stop().await;
    assert_eq!(mx.seen().lines.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipients_of_one_message_share_a_transaction_and_have_each_their_outcome() {
    let mx = Mx::start(Says {
        rcpt: vec![("bad@", "550 5.1.1 no such user"), ("later@", "450 4.2.1 try later")],
        ..Says::default()
    })
    .await;
    let world = World::start(&mx.hosts(), "").await;
    world.send("s@example.com", &["good@example.net", "bad@example.net", "later@example.net"], b"x\r\n").await;
    let events = world.events(3).await;
    let of = |rcpt: &str| events.iter().find(|e| e.rcpt.starts_with(rcpt)).unwrap();
    assert_eq!(of("good").kind, Kind::Delivered);
    assert_eq!((of("bad").kind, of("bad").status.as_str(), of("bad").stage.as_str()), (Kind::Bounced, "5.1.1", "rcpt"));
    assert_eq!(of("bad").diag, "smtp;550 5.1.1 no such user");
    assert_eq!((of("later").kind, of("later").action.as_str()), (Kind::Transient, "delayed"));
    assert_eq!(mx.seen().messages.len(), 1);
    assert_eq!(world.engine.queued_recipients(), 1);
    assert_eq!(world.store.usage().queued_recipients, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_go_over_few_connections() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "max-smtp-out 3").await;
    for n in 0..300 {
        world.send("s@example.com", &[&format!("u{n}@example.net")], b"x\r\n").await;
    }
    let events = world.events(300).await;
    assert!(events.iter().all(|e| e.kind == Kind::Delivered));
    let seen = mx.seen();
    assert_eq!(seen.messages.len(), 300);
    assert!(seen.most_at_once <= 3, "{}", seen.most_at_once);
    assert_eq!(world.engine.queued_recipients(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suppressed_recipient_is_not_attempted() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "").await;
    world.suppress("ann@example.net", 7);
    world.send("s@example.com", &["Ann@example.net", "bob@example.net"], b"x\r\n").await;
    let events = world.events(2).await;
    let ann = events.iter().find(|e| e.rcpt.starts_with("Ann")).unwrap();
    assert_eq!(
        (ann.kind, ann.category.as_str(), ann.status.as_str(), ann.attempt),
        (Kind::Bounced, "suppressed", "5.7.1", 0)
    );
    assert_eq!(ann.diag, "smtp;550 5.7.1 recipient is in suppression list \"auto:hard\": <Ann@example.net>");
    assert_eq!(ann.suppressed_by, 7);
    assert!(!mx.seen().lines.iter().any(|l| l.contains("Ann")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_puts_the_queue_to_sleep_and_bounces_nobody() {
    let world = World::start("smtp-hosts [127.0.0.1]:1", "retry-after 1h").await;
    for n in 0..50 {
        world.send("s@example.com", &[&format!("u{n}@example.net")], b"x\r\n").await;
    }
    let events = world.events(1).await;
    let tq = &events[0];
    assert_eq!((tq.kind, tq.status.as_str(), tq.diag.as_str()), (Kind::TransientQueue, "4.4.1", "connection refused"));
    assert_eq!(
        (tq.queue.as_str(), tq.mta_ip.as_str(), tq.source_ip.as_str()),
        ("example.net/{default}", "127.0.0.1", "0.0.0.0")
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.events(1).await.len(), 1, "one event for the queue, none for its recipients");
    let status = world.engine.status();
    assert_eq!((status[0].ready, &*status[0].last_error), (50, "connection refused"));
    assert!(status[0].next_retry.is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_too_old_is_bounced_though_no_host_can_be_reached() {
    let world = World::start("smtp-hosts [127.0.0.1]:1", "bounce-after 1h").await;
    let old = Time(Time::from(jiff::Timestamp::now()).0 - 3_700_000_000);
    world.send_at("s@example.com", &["a@example.net", "b@example.net"], b"x\r\n", old).await;
    let events = world.events(2).await;
    let b = events.iter().find(|e| e.rcpt.starts_with("a@")).unwrap();
    assert_eq!((b.kind, b.status.as_str(), b.category.as_str()), (Kind::Bounced, "4.4.7", "message-expired"));
    assert!(b.diag.starts_with("delivery time expired"), "{}", b.diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_recipient_ends_when_its_time_is_over() {
    let mx = Mx::start(Says { rcpt: vec![("@", "450 4.2.1 busy")], ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "bounce-after 60s\nretry-recipients-after 10m").await;
    let queued = Time(Time::from(jiff::Timestamp::now()).0 - 59_000_000);
    world.send_at("s@example.com", &["a@example.net"], b"x\r\n", queued).await;
    let events = world.events(2).await;
    assert_eq!((events[0].kind, events[1].kind), (Kind::Transient, Kind::Bounced));
    assert_eq!((events[1].status.as_str(), events[1].category.as_str()), ("4.4.7", "message-expired"));
    assert!(events[1].diag.contains("after 1 attempt"), "{}", events[1].diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferral_past_bounce_after_ends_with_its_reply() {
    let mx = Mx::start(Says { end: "451 4.3.0 later", thinks: Duration::from_secs(2), ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "bounce-after 60s").await;
    let queued = Time(Time::from(jiff::Timestamp::now()).0 - 59_000_000);
    world.send_at("s@example.com", &["a@example.net"], b"x\r\n", queued).await;
    let b = &world.events(1).await[0];
    assert_eq!((b.kind, b.status.as_str(), b.category.as_str()), (Kind::Bounced, "4.4.7", "message-expired"));
    assert_eq!(b.diag, "smtp;451 4.3.0 later");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_of_554_bounces_and_with_the_setting_off_the_queue_waits() {
    let mx = Mx::start(Says { greeting: "554 5.7.1 you are listed", ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let b = &world.events(1).await[0];
    assert_eq!((b.kind, b.status.as_str(), b.stage.as_str()), (Kind::Bounced, "5.7.1", "connect"));
    assert_eq!(b.diag, "smtp;554 5.7.1 you are listed");
    world.stop().await;

    let world = World::start(&mx.hosts(), "bounce-upon-5xx-greeting no").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let tq = &world.events(1).await[0];
    assert_eq!((tq.kind, tq.diag.as_str()), (Kind::TransientQueue, "smtp;554 5.7.1 you are listed"));
    assert_eq!(world.engine.queued_recipients(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_host_is_tried_when_the_first_does_not_answer() {
    let mx = Mx::start(Says::default()).await;
    let hosts = format!("smtp-hosts [127.0.0.1]:1;[127.0.0.1]:{}", mx.address.port());
    let world = World::start(&hosts, "").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    assert_eq!(world.events(1).await[0].kind, Kind::Delivered);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_after_the_dot_puts_the_next_attempt_in_doubt() {
    let mx = Mx::start(Says { hangs_up_at: ".", ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "retry-recipients-after 1s").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let t = &world.events(1).await[0];
    assert_eq!((t.kind, t.status.as_str(), t.stage.as_str(), t.in_doubt), (Kind::Transient, "4.4.2", "eod", false));
    assert_eq!(t.diag, "connection closed by the other side");
    mx.now_says(Says::default());
    let d = &world.events(2).await[1];
    assert_eq!((d.kind, d.attempt, d.in_doubt), (Kind::Delivered, 2, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_before_the_dot_is_no_doubt() {
    let mx = Mx::start(Says { hangs_up_at: "RCPT", ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "retry-recipients-after 1s").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let t = &world.events(1).await[0];
    assert_eq!((t.kind, t.status.as_str()), (Kind::Transient, "4.4.2"));
    mx.now_says(Says::default());
    assert!(!world.events(2).await[1].in_doubt);
    world.stop().await;
}

fn server_tls(names: &[&str]) -> (Arc<rustls::ServerConfig>, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let key = rcgen::generate_simple_self_signed(names).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    (Arc::new(config), key.cert.pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_offered_to_be_encrypted_is_encrypted() {
    let mx = Mx::start(Says { tls: Some(server_tls(&["mx.example.net"]).0), ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "").await;
    let body = b"line\r\n".repeat(50_000);
    world.send("s@example.com", &["a@example.net"], &body).await;
    let d = &world.events(1).await[0];
    assert_eq!((d.kind, d.tls.0.as_str()), (Kind::Delivered, "TLSv1.3"));
    assert!(d.tls.1.starts_with("TLS_"), "{}", d.tls.1);
    assert_eq!(mx.seen().encrypted, 1);
    assert_eq!(mx.seen().messages[0].2, body);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_tls_falls_back_to_plaintext_unless_it_is_required() {
    let mx = Mx::start(Says { breaks_tls: true, ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let d = &world.events(1).await[0];
    assert_eq!((d.kind, d.tls.0.as_str()), (Kind::Delivered, ""));
    // It is remembered: the next connection does not ask.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = mx.seen().lines.iter().filter(|l| *l == "STARTTLS").count();
    world.send("s@example.com", &["b@example.net"], b"x\r\n").await;
    world.events(2).await;
    assert_eq!(mx.seen().lines.iter().filter(|l| *l == "STARTTLS").count(), before);
    world.stop().await;

    let world = World::start(&mx.hosts(), "require-starttls yes").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let tq = &world.events(1).await[0];
    assert_eq!((tq.kind, tq.status.as_str()), (Kind::TransientQueue, "4.7.5"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_ca_file_only_a_host_that_it_vouches_for_is_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let (tls, pem) = server_tls(&["127.0.0.1"]);
    std::fs::write(&ca, pem).unwrap();
    let mx = Mx::start(Says { tls: Some(tls), ..Says::default() }).await;
    let stranger = Mx::start(Says { tls: Some(server_tls(&["127.0.0.1"]).0), ..Says::default() }).await;
    let lines = format!("require-starttls yes\nsmtp-tls-ca-file {}", ca.display());
    let world = World::start(&mx.hosts(), &lines).await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    assert_eq!(world.events(1).await[0].kind, Kind::Delivered);
    world.reload(World::config(&stranger.hosts(), &lines, ""));
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.send("s@example.com", &["b@other.example"], b"x\r\n").await;
    assert_eq!(world.events(2).await[1].kind, Kind::TransientQueue);
    assert!(stranger.seen().messages.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipient_has_a_return_path_of_its_own_that_verifies() {
    let mx = Mx::start(Says::default()).await;
    let keys = vec![TokenKey { id: "k1".into(), secret: b"secret".to_vec(), until: None }];
    let token = ReturnPathToken {
        domain: Some("bounce.example.com".into()),
        keys: keys.clone(),
        header: None,
        encrypt_header: false,
    };
    let world = World::with(&mx.hosts(), "", "", &[], |c| c.return_path_token = Some(token)).await;
    let id = world.send("news@example.com", &["a@example.net", "b@example.net"], b"x\r\n").await;
    let null = world.send("", &["c@example.net"], b"x\r\n").await;
    let events = world.events(3).await;
    assert!(events.iter().all(|e| e.kind == Kind::Delivered));
    assert_eq!(events.iter().find(|e| e.message == id).unwrap().orig, "news@example.com");
    let keys = TokenKeys { domain: "bounce.example.com", keys: &keys, now: Time(1) };
    for (sender, rcpts, _) in mx.seen().messages {
        match rcpts[0].as_str() {
            "a@example.net" => assert_eq!(verify(keys, world.store.id(), &sender), Some((id, 0))),
            "b@example.net" => assert_eq!(verify(keys, world.store.id(), &sender), Some((id, 1))),
            _ => assert_eq!(sender, "", "the null sender of {null} is left alone"),
        }
        assert_eq!(rcpts.len(), 1);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipient_has_an_unsubscribe_link_of_its_own_in_a_transaction_of_its_own_and_keeps_it() {
    let says = Says { rcpt: vec![("<b@", "451 4.7.1 later")], ..Says::default() };
    let mx = Mx::start(says).await;
    let keys = vec![TokenKey { id: "k1".into(), secret: b"secret".to_vec(), until: None }];
    let token = ReturnPathToken { domain: None, keys: keys.clone(), header: None, encrypt_header: false };
    let lines = "retry-after 1s\nretry-recipients-after 1s";
    let world = World::with(&mx.hosts(), lines, "", &[], |c| c.return_path_token = Some(token)).await;
    let link = UnsubscribeLink { url: "https://u.example.com/u".into(), mailto: "out@u.example.com".into() };
    let terms =
        SuppressionTerms { list: "weekly".into(), unsubscribe: Some(Box::new(link)), ..SuppressionTerms::default() };
    let now = Time::from(jiff::Timestamp::now());
    let rcpts = ["a@example.net", "b@example.net", "c@example.net"];
    let id = world.send_under("news@example.com", &rcpts, b"Subject: s\r\n\r\nx\r\n", now, terms).await;
    world.events(3).await;
    mx.now_says(Says::default());
    assert!(world.events(4).await.iter().filter(|e| e.kind == Kind::Delivered).count() == 3);
    // Mail without links still goes to many at once.
    world.send("s@example.com", &["d@example.net", "e@example.net"], b"x\r\n").await;
    world.events(6).await;

    let messages = mx.seen().messages;
    assert_eq!(messages.iter().map(|(_, rcpts, _)| rcpts.len()).collect::<Vec<_>>(), [1, 1, 1, 2]);
    let mut links = std::collections::BTreeSet::new();
    for (_, rcpts, content) in &messages[..3] {
        let text = String::from_utf8(content.clone()).unwrap();
        let token =
            text.strip_prefix("List-Unsubscribe: <https://u.example.com/u/").unwrap().split('>').next().unwrap();
        let rest = format!(
            "List-Unsubscribe: <https://u.example.com/u/{token}>,\r\n <mailto:out@u.example.com?subject=unsubscribe%20{token}>\r\n\
             List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nSubject: s\r\n\r\nx\r\n"
        );
        assert_eq!(text, rest);
        let who = unsubscribe_token::verify(&keys, now, token).unwrap();
        assert_eq!((&who.rcpt, who.list.as_str(), who.message), (&rcpts[0], "weekly", id));
        assert_eq!(
            (who.store, usize::from(who.rcpt_index)),
            (world.store.id(), ["a@", "b@", "c@"].iter().position(|l| who.rcpt.starts_with(l)).unwrap())
        );
        links.insert(token.to_owned());
    }
    assert_eq!(links.len(), 3);
    assert_eq!(messages[3].2, b"x\r\n");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discard_queue_counts_as_delivered_and_opens_no_connection() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "type discard").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let d = &world.events(1).await[0];
    assert_eq!((d.kind, d.diag.as_str()), (Kind::Delivered, "discarded"));
    assert_eq!(mx.seen().connections, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_mta_that_is_gone_bounces_what_was_meant_for_it() {
    let mx = Mx::start(Says::default()).await;
    let world = World::with(&mx.hosts(), "", "", &[], |c| c.virtual_mtas.clear()).await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    let b = &world.events(1).await[0];
    assert_eq!(
        (b.kind, b.status.as_str(), b.diag.as_str()),
        (Kind::Bounced, "5.3.5", "specified VirtualMTA does not exist")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_reply_after_the_final_dot() {
    let mx = Mx::start(Says { thinks: Duration::from_millis(800), ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "max-smtp-out 1").await;
    for n in 0..20 {
        world.send("s@example.com", &[&format!("u{n}@example.net")], b"x\r\n").await;
    }
    while !mx.seen().lines.iter().any(|l| l == "DATA") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let store = world.store.clone();
    world.stop().await;
    assert_eq!(mx.seen().messages.len(), 1, "the one under way, no other");
    assert_eq!(store.usage().queued_recipients, 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_cuts_off_after_the_dot_is_recorded_as_in_doubt() {
    let mx = Mx::start(Says { thinks: Duration::from_secs(60), ..Says::default() }).await;
    let mut world = World::start(&mx.hosts(), "").await;
    world.send("s@example.com", &["a@example.net"], b"x\r\n").await;
    while !mx.seen().lines.iter().any(|l| l == "DATA") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.stop_delivery().await;
    let t = &world.events(1).await[0];
    assert_eq!((t.kind, t.stage.as_str()), (Kind::Transient, "eod"));
    let mut states = Vec::new();
    world.store.for_each_queued(&mut |_, s| states.extend_from_slice(s)).unwrap();
    assert!(states.len() == 1 && states[0].in_doubt && states[0].attempts == 1, "{states:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_for_more_mail() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "connection-idle-timeout 30s").await;
    for n in 0..5 {
        world.send("s@example.com", &[&format!("u{n}@example.net")], b"x\r\n").await;
        world.events(n + 1).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(mx.seen().connections, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_that_the_server_closes_costs_no_attempt() {
    let mx = Mx::start(Says { hangs_up_at: "<second@", ..Says::default() }).await;
    let world = World::start(&mx.hosts(), "connection-idle-timeout 30s").await;
    world.send("first@example.com", &["a@example.net"], b"x\r\n").await;
    world.events(1).await;
    mx.now_says(Says::default());
    world.send("second@example.com", &["b@example.net"], b"x\r\n").await;
    let d = &world.events(2).await[1];
    assert_eq!((d.kind, d.attempt, d.in_doubt), (Kind::Delivered, 1, false));
    assert_eq!(mx.seen().connections, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_gone_from_the_store_is_dropped_and_the_queue_goes_on() {
    let mx = Mx::start(Says::default()).await;
    let world = World::start(&mx.hosts(), "").await;
    // A recipient that the store does not have: another way has ended it meanwhile.
    let id = world.store.next_message_id();
    let mut envelope = World::envelope(id, "s@example.com", &["a@example.net"], 3);
    envelope.time_queued = Time::from(jiff::Timestamp::now());
    world.engine.admit(&envelope, &World::states(1), envelope.time_queued);
    world.send("s@example.com", &["b@example.net"], b"x\r\n").await;
    assert_eq!(world.events(1).await[0].rcpt, "b@example.net");
    while world.engine.queued_recipients() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.stop().await;
}

fn query<'a>(domain: &'a str, own: &'a [SocketAddr]) -> RouteQuery<'a> {
    RouteQuery { domain, smtp_hosts: &[], port: 25, need_mx: false, v4: true, v6: true, own }
}

async fn route(resolver: &Resolver, query: RouteQuery<'_>) -> Result<Vec<String>, RouteError> {
    let hosts = resolver.route(&query).await?;
    Ok(hosts
        .iter()
        .map(|h| format!("{} {}", h.name, h.addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(",")))
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_hosts_come_in_order_of_preference() {
    let dns = Dns::start().await;
    let resolver = Resolver::new(&[dns.address]).unwrap();
    let two = ["mx1.plain.example 127.0.0.1", "mx2.plain.example ::1,127.0.0.2"];
    assert_eq!(route(&resolver, query("plain.example", &[])).await.unwrap(), two);
    let asked = dns.asked();
    assert_eq!(route(&resolver, query("plain.example", &[])).await.unwrap(), two);
    assert_eq!(dns.asked(), asked, "answers are kept");
    assert_eq!(route(&resolver, query("long.example", &[])).await.unwrap(), two[..1], "over TCP");
    assert_eq!(route(&resolver, query("nomx.example", &[])).await.unwrap(), ["nomx.example 127.0.0.1"]);
    assert_eq!(route(&resolver, query("[192.0.2.7]", &[])).await.unwrap(), ["192.0.2.7 192.0.2.7"]);
    assert_eq!(route(&resolver, query("[ipv6:2001:db8::1]", &[])).await.unwrap(), ["2001:db8::1 2001:db8::1"]);
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..50 {
        firsts.insert(route(&resolver, query("equal.example", &[])).await.unwrap()[0].clone());
    }
    assert_eq!(firsts.len(), 2, "chance decides among equals");
    let v4 = RouteQuery { v6: false, ..query("plain.example", &[]) };
    assert_eq!(route(&resolver, v4).await.unwrap()[1], "mx2.plain.example 127.0.0.2");
    assert_eq!(route(&resolver, query("mxfails.example", &[])).await.unwrap(), two[..1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dns_says_for_good_is_told_from_what_may_pass() {
    let dns = Dns::start().await;
    let resolver = Resolver::with_timeout(&[dns.address], Duration::from_millis(200)).unwrap();
    let error = async |q| route(&resolver, q).await.unwrap_err();
    assert_eq!(error(query("gone.example", &[])).await, RouteError::NoSuchDomain);
    assert_eq!(error(query("null.example", &[])).await, RouteError::NullMx);
    assert_eq!(error(query("empty.example", &[])).await, RouteError::NoHosts);
    assert_eq!(error(query("dead.example", &[])).await, RouteError::NoHosts);
    assert_eq!(error(RouteQuery { need_mx: true, ..query("nomx.example", &[]) }).await, RouteError::NoMx);
    assert!(!error(query("fails.example", &[])).await.is_permanent());
    assert!(!error(query("allfail.example", &[])).await.is_permanent());
    assert_eq!(error(RouteQuery { v6: false, ..query("six.example", &[]) }).await, RouteError::Family);
    assert!(!error(query("silent.example", &[])).await.is_permanent());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_lead_back_to_us_are_dropped_with_all_that_are_no_better() {
    let dns = Dns::start().await;
    let resolver = Resolver::new(&[dns.address]).unwrap();
    let own = ["127.0.0.1:25".parse().unwrap()];
    assert_eq!(route(&resolver, query("loop.example", &own)).await, Err(RouteError::Loop));
    assert_eq!(route(&resolver, query("backup.example", &own)).await.unwrap(), ["mx2.plain.example ::1,127.0.0.2"]);
    let other_port = ["127.0.0.1:2525".parse().unwrap()];
    assert_eq!(route(&resolver, query("loop.example", &other_port)).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_without_a_way_bounces_and_one_without_an_answer_waits() {
    let dns = Dns::start().await;
    let world = World::with("", "", "", &[dns.address], |_| {}).await;
    for domain in ["gone.example", "null.example", "fails.example"] {
        world.send("s@example.com", &[&format!("a@{domain}")], b"x\r\n").await;
    }
    let events = world.events(3).await;
    let of = |domain: &str| events.iter().find(|e| e.provider == domain).unwrap();
    assert_eq!((of("gone.example").kind, of("gone.example").status.as_str()), (Kind::Bounced, "5.1.2"));
    assert_eq!(of("gone.example").diag, "bad destination system: no such domain");
    assert_eq!((of("null.example").kind, of("null.example").status.as_str()), (Kind::Bounced, "5.1.10"));
    assert_eq!((of("fails.example").kind, of("fails.example").status.as_str()), (Kind::TransientQueue, "4.4.3"));
    assert_eq!(world.engine.queued_recipients(), 1);
    world.stop().await;
}
