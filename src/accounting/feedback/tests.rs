//! The suppression consumer over a real store on a simulated disk that loses what was not synced.
#![expect(clippy::disallowed_methods, reason = "edge: waits for the consumer's thread")]

mod strikes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::{CONSUMER, SendIndex, Suppressor, open};
use crate::classify::RuleSet;
use crate::config::PatternSource;
use crate::event::record::PairsBuf;
use crate::event::{AddressKey, Event, Events, Kind, SendEntry, Time};
use crate::sim::disk::SimDisk;
use crate::store::{ConsumerRow, Options, Store, StoreError};
use crate::suppress::operate::by_hand;
use crate::suppress::{self, Entry, Filter, Mail, State, Suppressed, Suppression};

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| Arc::new(RuleSet::builtin()));

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn open_store(disk: &SimDisk) -> Result<Store, StoreError> {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    let store = Store::open(Arc::new(disk.clone()), Path::new("/spool"), &options)?.store;
    store.set_rules(RULES.id());
    Ok(store)
}

fn bounce<'a>(rcpt: &'a str, diag: &'a str) -> Event<'a> {
    Event { rcpt, diag, ..Event::new(Kind::Bounced, Time::from_secs(1_800_000_000)) }
}

/// Makes the events durable.
fn append(store: &Store, all: &[Event<'_>]) -> Result<(), StoreError> {
    let mut events = Events::new();
    all.iter().for_each(|event| events.push(event));
    block_on(async {
        store.append(events).await?;
        store.flush().await
    })
}

fn start(store: &Store) -> (Suppression, Suppressor) {
    let list = Suppression::new();
    let consumer = open(store, &list, Arc::clone(&RULES).into()).unwrap();
    (list, consumer)
}

/// What the list says of any mail to this recipient.
fn found(list: &Suppression, rcpt: &str) -> Option<Suppressed> {
    list.check(rcpt, &Mail::default(), Time::from_secs(1_800_000_000))
}

fn rows(store: &Store) -> BTreeMap<String, Entry> {
    let mut rows = BTreeMap::new();
    store
        .suppression()
        .for_each_entry(&[], &mut |_, row| {
            let entry = Entry::decode(row).unwrap();
            rows.insert(entry.subject.to_string(), entry).is_none()
        })
        .unwrap();
    rows
}

const UNKNOWN: &str = "smtp;550 5.1.1 User unknown";

#[test]
fn a_dead_address_is_on_the_list_before_the_first_attempt_after_a_start() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    append(
        &store,
        &[
            bounce("Dead@Example.net", UNKNOWN),
            bounce("alive@example.net", "smtp;554 5.7.1 Message rejected as spam"),
            bounce("full@example.net", "smtp;552 5.2.2 Mailbox full"),
            Event { kind: Kind::Transient, ..bounce("later@example.net", UNKNOWN) },
        ],
    )
    .unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    let why = found(&list, "dead@example.net").unwrap();
    assert_eq!((why.by, &*why.list), (1, "auto:hard"));
    assert_eq!(list.len(), 1);
    let row = &rows(&store)["dead@example.net"];
    assert_eq!((&*row.category, &*row.reply, row.by.store), ("bad-mailbox", "550 5.1.1 User unknown", store.id()));
    assert_eq!(store.suppression().consumer(CONSUMER).unwrap().unwrap().cursor, 5);

    let (list, _) = start(&store);
    assert_eq!(found(&list, "dead@example.net").unwrap().by, 1, "loaded from the tables");
}

#[test]
fn a_crash_between_effect_and_commit_loses_nothing() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    append(&store, &[bounce("dead@example.net", UNKNOWN)]).unwrap();
    let (list, mut consumer) = start(&store);
    assert!(consumer.read().unwrap());
    assert!(found(&list, "dead@example.net").is_some(), "in memory at once");
    assert!(rows(&store).is_empty(), "not committed yet");
    disk.power_cut(1);
    drop((store, consumer));

    let store = open_store(&disk).unwrap();
    let (list, mut consumer) = start(&store);
    assert_eq!(found(&list, "dead@example.net"), None);
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "dead@example.net").unwrap().by, 1);
    assert_eq!(rows(&store).len(), 1);
}

#[test]
fn events_read_twice_change_nothing() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    append(&store, &[bounce("dead@example.net", UNKNOWN), bounce("dead@example.net", UNKNOWN)]).unwrap();
    let (_, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    let before = rows(&store);
    assert_eq!(before["dead@example.net"].by.seq, 1, "the first one suppresses");
    let back = ConsumerRow { cursor: 1, state: Vec::new() };
    store.suppression().write(|tx| tx.put_consumer(CONSUMER, &back)).unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    assert_eq!(rows(&store), before);
    assert_eq!(list.len(), 1);
}

#[test]
fn what_an_operator_took_off_stays_off_until_it_bounces_again() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let now = Time::from_secs(1_800_000_100);
    append(&store, &[bounce("ann@example.net", UNKNOWN)]).unwrap();
    let (list, mut consumer) = start(&store);
    // Taken off while the entry waits for its commit.
    assert!(consumer.read().unwrap());
    assert!(suppress::remove(&list, &store, "ANN@example.net", &by_hand("they wrote to us", now)).unwrap());
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "ann@example.net"), None);
    assert_eq!(rows(&store)["ann@example.net"].state, State::Removed);
    assert!(!suppress::remove(&list, &store, "ann@example.net", &by_hand("again", now)).unwrap());

    // Nor does reading the old event again put it back.
    let back = ConsumerRow { cursor: 1, state: Vec::new() };
    store.suppression().write(|tx| tx.put_consumer(CONSUMER, &back)).unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "ann@example.net"), None);

    append(&store, &[bounce("ann@example.net", UNKNOWN)]).unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "ann@example.net").unwrap().by, 2);
}

#[test]
fn entries_made_by_hand_are_listed_in_pages_and_can_be_taken_off() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let (list, _consumer) = start(&store);
    let now = Time::from_secs(1_800_000_100);
    for n in 0..5 {
        assert!(suppress::add(&list, &store, &format!("u{n}@Example.net"), &by_hand("asked for it", now)).unwrap());
    }
    assert!(!suppress::add(&list, &store, "u1@example.net", &by_hand("twice", now)).unwrap());
    assert!(suppress::add(&list, &store, "no address", &by_hand("", now)).is_err());
    assert_eq!(found(&list, "U3@example.net").unwrap().list.as_ref(), "manual");

    let first = suppress::list(store.suppression(), &Filter::default(), 3).unwrap();
    assert_eq!(first.entries.len(), 3);
    let rest = suppress::list(store.suppression(), &Filter { after: first.next, ..Filter::default() }, 3).unwrap();
    let mut all: Vec<&str> = first.entries.iter().chain(&rest.entries).map(|l| &*l.entry.subject).collect();
    all.sort_unstable();
    assert_eq!(all, ["u0@example.net", "u1@example.net", "u2@example.net", "u3@example.net", "u4@example.net"]);
    assert_eq!(rest.next, None);

    assert!(suppress::remove(&list, &store, "u3@example.net", &by_hand("mistake", now)).unwrap());
    let (list, _consumer) = start(&store);
    assert_eq!((list.len(), found(&list, "u3@example.net")), (4, None));
    let removed = Filter { state: Some(State::Removed), ..Filter::default() };
    assert_eq!(suppress::list(store.suppression(), &removed, 9).unwrap().entries.len(), 1);
}

#[test]
fn an_event_is_classified_with_the_rules_it_was_stamped_with() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let own = PatternSource::Inline {
        file: "carom.conf".into(),
        line: 3,
        regex: "user unknown".into(),
        category: "policy-related".into(),
        rest: String::new(),
    };
    let own = RuleSet::compile(&[own]).unwrap();
    store.tables().write(|tx| tx.put_rule_set(own.id(), own.text())).unwrap();
    store.set_rules(own.id());
    append(&store, &[bounce("then@example.net", UNKNOWN)]).unwrap();
    store.set_rules(RULES.id());
    append(&store, &[bounce("now@example.net", UNKNOWN)]).unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "then@example.net"), None);
    assert_eq!(found(&list, "now@example.net").unwrap().by, 2);
}

#[test]
fn the_kind_that_a_rule_says_counts_in_suppression_and_a_temporary_failure_never_does() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let text = "/no route/ routing-errors kind=hard\n/user unknown today/ bad-mailbox kind=soft\n\
                /user unknown to us/ bad-mailbox kind=block\n/user unknown/ bad-mailbox\n";
    let own = RuleSet::compile(&[PatternSource::file("own.conf", text)]).unwrap();
    store.tables().write(|tx| tx.put_rule_set(own.id(), own.text())).unwrap();
    store.set_rules(own.id());
    let all = [
        bounce("hard@example.net", "smtp;550 5.4.4 no route"),
        bounce("later@example.net", "smtp;450 4.4.4 no route"),
        Event { kind: Kind::Transient, ..bounce("again@example.net", "smtp;550 5.4.4 no route") },
        bounce("soft@example.net", "smtp;550 5.1.1 user unknown today"),
        bounce("block@example.net", "smtp;550 5.1.1 user unknown to us"),
        bounce("dead@example.net", "smtp;550 5.1.1 user unknown"),
    ];
    append(&store, &all).unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    let listed = |name: &str| found(&list, &format!("{name}@example.net")).is_some();
    let found: Vec<_> = ["hard", "later", "again", "soft", "block", "dead"].map(listed).into();
    assert_eq!(found, [true, false, false, false, false, true]);
}

#[test]
fn a_complaint_suppresses_only_when_it_is_about_our_mail() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let complaint = |rcpt, attributed_by, feedback_type| Event {
        rcpt,
        attributed_by,
        feedback_type,
        ..Event::new(Kind::Feedback, Time::from_secs(1_800_000_000))
    };
    append(
        &store,
        &[
            complaint("forged@example.net", "", "abuse"),
            complaint("true@example.net", "message-id", "abuse"),
            complaint("back@example.net", "message-id", "not-spam"),
        ],
    )
    .unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "true@example.net").unwrap().list.as_ref(), "auto:complaint");
    assert_eq!(list.len(), 1);
}

#[test]
fn the_running_consumer_applies_and_commits_by_itself() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let (list, consumer) = start(&store);
    let running = consumer.spawn().unwrap();
    append(&store, &[bounce("dead@example.net", UNKNOWN)]).unwrap();
    let waited = (0..500).find(|_| {
        block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
        rows(&store).len() == 1
    });
    assert!(waited.is_some(), "committed without being asked");
    assert!(found(&list, "dead@example.net").is_some());
    append(&store, &[bounce("last@example.net", UNKNOWN)]).unwrap();
    running.stop();
    assert_eq!(rows(&store).len(), 2, "a stop commits what is there");
}

#[test]
fn after_power_cuts_at_random_every_durable_bounce_is_on_the_list_once() {
    for seed in 0..12u64 {
        let disk = SimDisk::new();
        let mut sent = 0u64;
        for round in 0..4u64 {
            disk.cut_after(40 + (seed * 37 + round * 101) % 160);
            // Whatever fails in here fails because the power went.
            let _ = (|| -> Result<(), StoreError> {
                let store = open_store(&disk)?;
                let list = Suppression::new();
                let mut consumer = open(&store, &list, Arc::clone(&RULES).into())?;
                loop {
                    sent += 1;
                    append(&store, &[bounce(&format!("u{}@example.net", sent % 17), UNKNOWN)])?;
                    if sent.is_multiple_of(3) {
                        consumer.catch_up()?;
                    }
                }
            })();
            disk.power_cut(seed * 10 + round);
        }
        let store = open_store(&disk).unwrap();
        let (list, mut consumer) = start(&store);
        consumer.catch_up().unwrap();
        // The ledger is the truth: the first event of each address suppresses it.
        let mut expected = BTreeMap::new();
        let mut reader = store.ledger().reader(store.ledger().start()).unwrap();
        while let Some(chunk) = reader.next(1000).unwrap() {
            for event in chunk.batches().flat_map(|batch| batch.iter()) {
                let event = event.unwrap();
                expected.entry(AddressKey::of(event.rcpt).as_str().to_owned()).or_insert(event.seq);
            }
        }
        let entered: BTreeMap<_, _> = rows(&store).into_iter().map(|(key, entry)| (key, entry.by.seq)).collect();
        assert_eq!(entered, expected, "seed {seed}");
        assert!(expected.iter().all(|(key, seq)| found(&list, key).is_some_and(|s| s.by == *seq)), "seed {seed}");
        assert_eq!(list.len(), expected.len(), "seed {seed}");
    }
}

#[test]
fn a_delivery_is_found_by_its_message_id_until_its_time_is_over() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let mut headers = PairsBuf::default();
    headers.push("Message-ID", "<one@example.com>");
    let delivered = |time| Event {
        rcpt: "Ann@Example.net",
        job: "spring",
        headers: headers.as_pairs(),
        ..Event::new(Kind::Delivered, time)
    };
    let mut plain = delivered(Time::from_secs(1_800_000_000));
    plain.headers = crate::event::Pairs::EMPTY;
    append(&store, &[plain, delivered(Time::from_secs(1_800_000_000))]).unwrap();
    let mut index = SendIndex::open(&store, Duration::from_secs(86_400), 1_000_000).unwrap();
    index.catch_up().unwrap();
    let row = store.tables().find_send("one@example.com", Some("ann@example.net")).unwrap().unwrap();
    let entry = SendEntry::decode(&row).unwrap();
    assert_eq!((entry.seq, entry.rcpt, entry.job), (2, "Ann@Example.net", "spring"));

    headers = PairsBuf::default();
    headers.push("message-id", "two@example.com");
    let later = Event {
        rcpt: "bob@example.net",
        headers: headers.as_pairs(),
        ..Event::new(Kind::Delivered, Time::from_secs(1_800_100_000))
    };
    append(&store, &[later]).unwrap();
    index.catch_up().unwrap();
    assert!(store.tables().find_send("two@example.com", None).unwrap().is_some());
    assert_eq!(store.tables().find_send("one@example.com", Some("ann@example.net")).unwrap(), None, "trimmed");
}

#[test]
fn events_whose_rules_are_gone_are_unclassified_for_the_list_as_they_are_in_the_files() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    store.set_rules(crate::event::RuleSetId(77));
    append(&store, &[bounce("gone@example.net", UNKNOWN)]).unwrap();
    let (list, mut consumer) = start(&store);
    consumer.catch_up().unwrap();
    assert_eq!(found(&list, "gone@example.net"), None);
}
