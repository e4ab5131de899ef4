#![expect(clippy::disallowed_methods, reason = "edge: writes the pattern file of an operator")]
//! What nobody understood is kept, found again after a stop or a crash, replayed once, and never too much.

use std::sync::Arc;

use carom::config::Config;
use carom::event::{Kind, MessageId, Time};
use carom::report::Quarantine;
use carom::report::quarantine::{Filter, Replayed, Why};

use super::desk::{Desk, parsed};

const CONFIG: &str = "
host-name mta.example.com
spool /var/spool/carom
<bounce-processor>
    deliver-unmatched-email no
    <address-list>
        domain bounce.example.com
    </address-list>
</bounce-processor>
";

fn strange(n: usize) -> Vec<u8> {
    format!("From: gw@acme.example\r\nSubject: Notice {n}\r\n\r\nrecipient u{n}@example.net: 550 5.1.1 gone\r\n")
        .into_bytes()
}

/// The configuration after the operator has added a pattern for such mails.
fn taught(dir: &std::path::Path) -> Arc<Config> {
    let file = dir.join("acme.pattern");
    std::fs::write(&file, "recipient (?<r>\\S+): (?<diag>.*)\n").unwrap();
    let text = CONFIG.replace(
        "    <address-list>",
        &format!(
            "    <email-patterns>\n        body-pattern-file {}\n    </email-patterns>\n    <address-list>",
            file.display()
        ),
    );
    let path = dir.join("carom.conf");
    std::fs::write(&path, text).unwrap();
    let loaded = carom::config::load(&path, None);
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

async fn filled(desk: &Desk, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(desk.take("bounce@bounce.example.com", strange(n)).await);
    }
    desk.process(&ids).await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_understood_is_listed_and_becomes_its_event_once_when_a_pattern_has_been_added() {
    let desk = Desk::with(CONFIG);
    let ids = filled(&desk, 3).await;
    assert!(desk.ledger(|e| e.kind).is_empty());
    let listed = desk.quarantine.list(&Filter::default(), None, 10);
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    let (entry, mail) = desk.quarantine.show(ids[1]).unwrap().unwrap();
    assert_eq!(
        (entry.subject.as_str(), entry.why, entry.to.as_str()),
        ("Notice 1", Why::Unmatched, "bounce@bounce.example.com")
    );
    assert_eq!(mail.body, strange(1));

    assert_eq!(desk.quarantine.replay(ids[0], &parsed(CONFIG), Time(1)).await.unwrap(), Replayed::NotYet);
    let taught = taught(desk.dir());
    // Two operators at once.
    let (a, b) = tokio::join!(
        desk.quarantine.replay(ids[0], &taught, Time(1)),
        desk.quarantine.replay(ids[0], &taught, Time(1))
    );
    let mut both = [a.unwrap(), b.unwrap()];
    both.sort_by_key(|r| *r == Replayed::Gone);
    assert_eq!(both, [Replayed::Recorded(1, "acme.pattern".into()), Replayed::Gone]);
    assert!(desk.quarantine.discard(ids[1]).await.unwrap());
    assert!(!desk.quarantine.discard(ids[1]).await.unwrap());
    desk.store.flush().await.unwrap();
    assert_eq!(
        desk.ledger(|e| (e.kind, e.rcpt.to_owned(), e.format.to_owned(), e.diag.to_owned())),
        [(Kind::RemoteBounce, "u0@example.net".into(), "acme.pattern".into(), "smtp;550 5.1.1 gone".into())]
    );
    assert_eq!(desk.quarantine.usage().mails, 1);
    assert!(desk.is_gone(ids[0]) && desk.is_gone(ids[1]) && !desk.is_gone(ids[2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_found_again_with_its_index_and_without() {
    let desk = Desk::with(CONFIG);
    let ids = filled(&desk, 2).await;
    // The rows were written when the processor stopped.
    let again = Quarantine::open(&desk.store).unwrap();
    assert_eq!(again.list(&Filter::default(), None, 10).len(), 2);
    // A mail that ended without its row being removed, as when the power fails in between.
    assert!(desk.quarantine.discard(ids[0]).await.unwrap());
    drop(again);
    let again = Quarantine::open(&desk.store).unwrap();
    assert_eq!(again.list(&Filter::default(), None, 10).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ids[1]]);
    drop(again);
    // Rows that never came to the tables: the mails are still in the spool, and are read again.
    desk.store
        .tables()
        .write(|tx| {
            ids.iter().for_each(|id| tx.remove_quarantined(*id));
            Ok(())
        })
        .unwrap();
    let desk = desk.reopened().await;
    assert_eq!(desk.quarantine.usage().mails, 0);
    desk.admit_queued();
    desk.process(&[ids[1]]).await;
    assert_eq!(desk.quarantine.list(&Filter::default(), None, 10)[0].1.subject, "Notice 1");
    assert!(desk.ledger(|e| e.kind).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_never_holds_more_than_it_may_and_the_oldest_goes_first() {
    let desk = Desk::with(&format!("report-quarantine-size 3000\n{CONFIG}"));
    let ids = filled(&desk, 8).await;
    let usage = desk.quarantine.usage();
    assert!(usage.bytes <= 3000 && usage.mails >= 3, "{usage:?}");
    assert_eq!(usage.mails + usage.evicted, 8);
    let kept: Vec<_> = desk.quarantine.list(&Filter::default(), None, 10).into_iter().map(|(id, _)| id).collect();
    assert_eq!(kept, ids[8 - kept.len()..]);
    assert!(desk.is_gone(ids[0]), "what is dropped leaves the spool");
    // None is kept of what is larger than all of it.
    let none = Desk::with(&format!("report-quarantine-size 0\n{CONFIG}"));
    let id = none.take("bounce@bounce.example.com", strange(1)).await;
    none.process(&[id]).await;
    assert!(none.is_gone(id) && none.quarantine.usage().mails == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_filtered_and_comes_in_pages() {
    let desk = Desk::with(CONFIG);
    let ids = filled(&desk, 12).await;
    let filter = |subject: &str| Filter { subject: Some(subject.into()), ..Filter::default() };
    assert_eq!(desk.quarantine.list(&filter("NOTICE 1"), None, 10).len(), 3, "1, 10, 11");
    assert_eq!(desk.quarantine.list(&filter("nothing"), None, 10).len(), 0);
    let unreadable = Filter { why: Some(Why::Unreadable), ..Filter::default() };
    assert_eq!(desk.quarantine.list(&unreadable, None, 10).len(), 0);
    let later = Filter { since: Some(Time::from_secs(3).0), ..Filter::default() };
    assert_eq!(desk.quarantine.list(&later, None, 10).len(), 0);
    let mut seen = Vec::new();
    loop {
        let page = desk.quarantine.list(&Filter::default(), seen.last().copied(), 5);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|(id, _)| id));
    }
    assert_eq!(seen, ids);
}

const LIMIT: &str = "report-quarantine-size 1M\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_mail_is_kept_cut_to_its_share_and_pushes_out_nobody() {
    let desk = Desk::with(&format!("{LIMIT}{CONFIG}"));
    let small = filled(&desk, 50).await;
    let desk = desk.reopened().await;
    let mut large = strange(99);
    large.extend(b"padding, a line of it, and so on and on\r\n".repeat(40_000));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(desk.take("bounce@bounce.example.com", large.clone()).await);
    }
    desk.process(&ids).await;
    let kept = desk.quarantine.list(&Filter::default(), None, 100);
    assert!(small.iter().all(|id| kept.iter().any(|(kept, _)| kept == id)), "the small ones are all there");
    assert!(ids.iter().all(|id| desk.is_gone(*id)), "what is too large has made room for what is kept of it");
    let (id, entry) = &kept[50];
    assert_eq!((kept.len(), entry.size, entry.subject.as_str()), (53, large.len() as u64, "Notice 99"));
    assert!(entry.kept.is_some_and(|n| (60_000..=65_536).contains(&n)), "{:?}", entry.kept);
    assert!(desk.quarantine.usage().bytes <= 1 << 20);
    let (_, mail) = desk.quarantine.show(*id).unwrap().unwrap();
    assert!(large.starts_with(&mail.body) && mail.body.len() as u64 == entry.kept.unwrap());
    assert!(mail.body.ends_with(b"\r\n"), "whole lines");
    // After a stop, with the table and without it, it is the same one.
    let (id, entry) = (*id, entry.clone());
    let desk = desk.reopened().await;
    assert_eq!(desk.quarantine.entry(id), Some(entry.clone()));
    desk.store
        .tables()
        .write(|tx| {
            tx.remove_quarantined(id);
            Ok(())
        })
        .unwrap();
    let desk = desk.reopened().await;
    assert_eq!(desk.quarantine.entry(id), None);
    desk.admit_queued();
    desk.process(&[id]).await;
    assert_eq!(desk.quarantine.entry(id), Some(entry));
    assert_eq!(desk.quarantine.usage().mails, 53);
    // And what is kept is enough for the pattern that was missing.
    let replayed = desk.quarantine.replay(id, &taught(desk.dir()), Time(1)).await.unwrap();
    assert_eq!(replayed, Replayed::Recorded(1, "acme.pattern".into()));
    assert!(desk.is_gone(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_network_pushes_out_its_own_mails() {
    let desk = Desk::with(&format!("report-quarantine-size 20K\n{CONFIG}"));
    let mut quiet = Vec::new();
    for n in 0..5 {
        quiet.push(desk.take_from("198.51.100.7", "bounce@bounce.example.com", strange(n)).await);
    }
    let mut flood = Vec::new();
    for n in 0..200 {
        let host = format!("203.0.113.{}", n % 100);
        flood.push(desk.take_from(&host, "bounce@bounce.example.com", strange(n)).await);
    }
    desk.process(&[&quiet[..], &flood[..]].concat()).await;
    let usage = desk.quarantine.usage();
    assert!(usage.bytes <= 20 << 10 && usage.evicted > 100, "{usage:?}");
    assert!(quiet.iter().all(|id| desk.quarantine.contains(*id)));
    assert!(desk.quarantine.contains(flood[199]) && desk.is_gone(flood[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_to_a_thousand_addresses_takes_no_more_than_its_share() {
    let desk = Desk::with(&format!("report-quarantine-size 64K\n{CONFIG}"));
    let id = desk.store.next_message_id();
    let mut message = super::incoming::incoming(id, "bounce@bounce.example.com", strange(1));
    let first = message.envelope.rcpts[0].clone();
    for n in 0..1000 {
        let address = format!("{n}{}@bounce.example.com", "x".repeat(60)).into();
        message.envelope.rcpts.push(carom::store::Recipient { address, ..first.clone() });
    }
    let message = Arc::new(message);
    desk.store.accept(message.clone(), carom::event::Events::new()).await.unwrap();
    desk.admit_queued();
    desk.process(&[id]).await;
    let kept = desk.quarantine.list(&Filter::default(), None, 10);
    assert_eq!((kept.len(), kept[0].1.to.as_str()), (1, "bounce@bounce.example.com"));
    assert!((2..100).contains(&kept[0].1.rcpts), "{}", kept[0].1.rcpts);
    assert!(desk.quarantine.usage().bytes < 4096 + 1024);
    assert!(desk.quarantine.discard(kept[0].0).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_got_is_kept_as_well_and_passed_on_once() {
    let forwards =
        CONFIG.replace("    <address-list>", "    forward-unmatched-to people@example.org\n    <address-list>");
    let desk = Desk::with(&forwards);
    let ids = filled(&desk, 2).await;
    let passed_on = |desk: &Desk| desk.ledger(|e| (e.kind, e.rcpt.to_owned()));
    let two = vec![(Kind::Received, "people@example.org".to_owned()); 2];
    assert_eq!(passed_on(&desk), two);
    assert!(ids.iter().all(|id| desk.is_gone(*id)), "a copy has taken its place, in one step with the passing on");
    let kept = desk.quarantine.list(&Filter::default(), None, 10);
    assert_eq!(kept.iter().map(|(_, e)| (e.passed_on, e.kept)).collect::<Vec<_>>(), [(true, None), (true, None)]);
    let (_, mail) = desk.quarantine.show(kept[0].0).unwrap().unwrap();
    assert_eq!(mail.body, strange(0));
    // The power fails before the table knows of them: they are read again, and nobody gets a second copy.
    desk.store
        .tables()
        .write(|tx| {
            kept.iter().for_each(|(id, _)| tx.remove_quarantined(*id));
            Ok(())
        })
        .unwrap();
    let desk = desk.reopened().await;
    desk.admit_queued();
    let again: Vec<MessageId> = kept.iter().map(|(id, _)| *id).collect();
    desk.process(&again).await;
    assert_eq!(desk.quarantine.list(&Filter::default(), None, 10), kept);
    assert_eq!(passed_on(&desk), two);
    let replayed = desk.quarantine.replay(kept[1].0, &taught(desk.dir()), Time(1)).await.unwrap();
    assert_eq!(replayed, Replayed::Recorded(1, "acme.pattern".into()));

    let not = Desk::with(&forwards.replace("    <address-list>", "    quarantine-passed-on no\n    <address-list>"));
    let ids = filled(&not, 1).await;
    assert!(not.is_gone(ids[0]) && not.quarantine.usage().mails == 0);
    assert_eq!(passed_on(&not), two[..1]);
}
