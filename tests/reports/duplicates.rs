#![expect(clippy::disallowed_methods, reason = "edge: measures time")]
//! The same report a thousand times, one report on a thousand recipients, a report that is faster than the send index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use carom::accounting::feedback;
use carom::classify::RuleSet;
use carom::event::{MessageId, Time};
use carom::suppress::{self, Mail, Suppression};

use super::desk::Desk;
use super::forms::mail;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_report_a_thousand_times_gives_an_event_each_and_one_entry_by_the_first() {
    let desk = Desk::open();
    let rules = Arc::new(RuleSet::builtin());
    desk.store.tables().write(|tx| tx.put_rule_set(rules.id(), rules.text())).unwrap();
    desk.store.set_rules(rules.id());
    desk.remember_send("m1@example.com");
    let mut ids = Vec::new();
    for _ in 0..1000 {
        ids.push(desk.take("bounce@bounce.example.com", mail("dsn-failed")).await);
    }
    let began = Instant::now();
    desk.process(&ids).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // Each names the same recipient of the same message: whoever counts strikes counts one.
    let about = desk.ledger(|e| (e.message, e.rcpt_index, e.rcpt.to_owned(), e.attributed_by.to_owned()));
    assert_eq!(about.len(), 1000);
    assert!(about.iter().all(|a| *a == (MessageId(5), 0, "ann@example.net".into(), "message-id".into())));
    let list = Suppression::new();
    feedback::open(&desk.store, &list, rules.into()).unwrap().catch_up().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        list.check("ann@example.net", &Mail::default(), Time::from_secs(1)).unwrap().by,
        1,
        "the first event has suppressed her, no later one"
    );
    assert_eq!(suppress::show(&list, desk.store.suppression(), "ann@example.net").unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_on_a_thousand_recipients_takes_bounded_time_and_blames_only_whom_the_mail_went_to() {
    let desk = Desk::open();
    desk.remember_send("m1@example.com");
    let groups: String = (0..5000)
        .map(|n| {
            let rcpt = if n == 500 { "ann@example.net".to_owned() } else { format!("victim{n}@example.org") };
            format!("Final-Recipient: rfc822; {rcpt}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n")
        })
        .collect();
    let report = format!(
        "From: MAILER-DAEMON@evil.example\r\nSubject: Undelivered Mail\r\nContent-Type: multipart/report; \
         report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: \
         dns; evil.example\r\n\r\n{groups}--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: \
         <m1@example.com>\r\n\r\n--b--\r\n"
    );
    let id = desk.take("bounce@bounce.example.com", report.into_bytes()).await;
    let began = Instant::now();
    desk.process(&[id]).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let events = desk.ledger(|e| (e.rcpt.to_owned(), e.attributed_by.to_owned()));
    assert_eq!(events.len(), 1000, "further recipients are left out");
    let proved: Vec<_> = events.iter().filter(|(_, by)| !by.is_empty()).collect();
    assert_eq!(proved, [&("ann@example.net".to_owned(), "message-id".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_comes_before_the_index_knows_its_send_waits_for_the_index() {
    let desk = Desk::open();
    // The consumer that fills the index is behind: it has not passed anything.
    desk.store.ledger().hold("send-index", 0);
    let early = desk.take("bounce@bounce.example.com", mail("dsn-failed")).await;
    let store = desk.store.clone();
    let proof = async {
        // Longer than the second look takes; then the row comes, and the consumer with it.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!desk.is_gone(early), "it waits as long as the index lags");
        desk.remember_send("m1@example.com");
        store.ledger().hold("send-index", store.ledger().end());
    };
    let ids = [early];
    tokio::join!(desk.process(&ids), proof);
    assert_eq!(desk.ledger(|e| e.attributed_by.to_owned()), ["message-id"]);
}
