//! Strikes, expiries, the circuit breaker and undo, over a real store that crashes.

use super::*;
use crate::accounting::feedback::doubt::{self, SharedBreaker};
use crate::accounting::feedback::open_with;
use crate::accounting::feedback::undo::{self, Undo, Word};
use crate::config::Live;
use crate::event::MessageId;
use crate::store::SuppressTable;
use crate::suppress::breaker::Circuit;
use crate::suppress::rules::{StrikeKey, Strikes};
use arc_swap::ArcSwap;

const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const FULL: &str = "smtp;552 5.2.2 Mailbox full";

fn at<'a>(kind: Kind, secs: i64, message: u64, rcpt: &'a str, diag: &'a str) -> Event<'a> {
    Event { rcpt, diag, message: MessageId(message), ..Event::new(kind, Time::from_secs(START + secs)) }
}

fn live(block: &str) -> Live {
    let text = format!("spool s\n<auto-suppression>\n{block}\n</auto-suppression>\n");
    Arc::new(ArcSwap::from_pointee(crate::config::parse_str("c", &text).config.unwrap()))
}

type Told = Arc<std::sync::Mutex<Vec<doubt::Notice>>>;

fn start_with(store: &Store, config: &Live) -> (Suppression, Suppressor, SharedBreaker, Told) {
    let (list, told) = (Suppression::new(), Told::default());
    let heard = told.clone();
    let tell = Box::new(move |notice| heard.lock().unwrap().push(notice));
    let (consumer, breaker) = open_with(store, &list, Arc::clone(&RULES).into(), config.clone(), tell).unwrap();
    (list, consumer, breaker, told)
}

fn strikes(store: &Store) -> BTreeMap<Vec<u8>, Strikes> {
    let mut rows = BTreeMap::new();
    store
        .suppression()
        .for_each_suppress_row(SuppressTable::Strikes, &[], &mut |key, row| {
            assert!(StrikeKey::from_bytes(key).is_some());
            rows.insert(key.to_vec(), Strikes::decode(row)).is_none()
        })
        .unwrap();
    rows
}

fn check_at(list: &Suppression, rcpt: &str, secs: i64) -> Option<Suppressed> {
    list.check(rcpt, &Mail::default(), Time::from_secs(START + secs))
}

#[test]
fn strikes_outlive_a_restart_and_an_entry_ends_with_its_time() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    for message in 1..=5u64 {
        let day = message as i64 * DAY;
        append(&store, &[at(Kind::Bounced, day, message, "ann@example.net", FULL)]).unwrap();
        let (list, mut consumer) = start(&store);
        consumer.catch_up().unwrap();
        assert_eq!(check_at(&list, "ann@example.net", day).is_some(), message == 5, "{message}");
        assert_eq!(strikes(&store).len(), usize::from(message < 5));
    }
    // Ninety days later it is gone, from memory and from the tables, and counting begins anew.
    append(&store, &[at(Kind::Bounced, 96 * DAY, 9, "ann@example.net", FULL)]).unwrap();
    let (list, mut consumer) = start(&store);
    assert_eq!(list.len(), 1);
    consumer.catch_up().unwrap();
    assert_eq!(check_at(&list, "ann@example.net", 96 * DAY), None);
    assert_eq!(suppress::expire(&store, &list, Time::from_secs(START + 96 * DAY), 10).unwrap(), 1);
    assert_eq!((list.len(), rows(&store).len(), strikes(&store).len()), (0, 0, 1));
}

#[test]
fn a_delivery_takes_strikes_back_and_costs_nothing_where_there_are_none() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let (_, mut consumer) = start(&store);
    append(
        &store,
        &[at(Kind::Transient, 1, 1, "ann@example.net", FULL), at(Kind::Bounced, 1, 1, "bob@example.net", FULL)],
    )
    .unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(strikes(&store).len(), 2);
    append(&store, &[at(Kind::Delivered, 2, 2, "ANN@example.net", "")]).unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(strikes(&store).len(), 1);
}

/// Strikes by their keys, entries by subject, and the events in words.
type Outcome = (BTreeMap<Vec<u8>, Strikes>, BTreeMap<String, (u64, Time)>, Vec<String>);

/// What the events of the ledger come to when nothing ever crashes.
fn without_crashes(store: &Store) -> Outcome {
    let disk = SimDisk::new();
    let fresh = open_store(&disk).unwrap();
    let mut reader = store.ledger().reader(store.ledger().start()).unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.next(1000).unwrap() {
        for event in chunk.batches().flat_map(|batch| batch.iter()) {
            let event = event.unwrap();
            all.push(format!("{} {} {}", event.seq, event.kind, event.rcpt));
            append(&fresh, &[event]).unwrap();
        }
    }
    let (_, mut consumer) = start(&fresh);
    consumer.catch_up().unwrap();
    (strikes(&fresh), entries(&fresh), all)
}

fn entries(store: &Store) -> BTreeMap<String, (u64, Time)> {
    rows(store).into_iter().map(|(subject, entry)| (subject, (entry.by.seq, entry.expires))).collect()
}

#[test]
fn after_power_cuts_at_random_strikes_and_expiries_are_those_of_a_server_that_never_crashed() {
    let mut counted = 0;
    for seed in 0..12u64 {
        let disk = SimDisk::new();
        let (mut sent, mut clock) = (0u64, 0i64);
        for round in 0..4u64 {
            disk.cut_after(60 + (seed * 41 + round * 97) % 200);
            let _ = (|| -> Result<(), StoreError> {
                let store = open_store(&disk)?;
                let list = Suppression::new();
                let mut consumer = open(&store, &list, Arc::clone(&RULES).into())?;
                loop {
                    sent += 1;
                    let dice = (sent ^ seed.wrapping_mul(0x9e37)).wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
                    clock += (dice % 40_000) as i64;
                    let rcpt = format!("u{}@example.net", dice % 7);
                    let event = match dice % 23 {
                        0 | 1 => at(Kind::Delivered, clock, sent, &rcpt, ""),
                        2 => at(Kind::Bounced, clock, sent, &rcpt, "smtp;550 5.4.4 unrouteable"),
                        n if n % 3 == 0 => at(Kind::Transient, clock, sent / 2, &rcpt, "smtp;452 4.2.2 over quota"),
                        _ => at(Kind::Bounced, clock, sent / 2, &rcpt, FULL),
                    };
                    append(&store, &[event])?;
                    if dice.is_multiple_of(3) {
                        consumer.catch_up()?;
                    } else if dice.is_multiple_of(5) {
                        // Applied, and lost with the crash unless it is committed later.
                        consumer.read()?;
                    }
                }
            })();
            disk.power_cut(seed * 10 + round);
        }
        let store = open_store(&disk).unwrap();
        let (list, mut consumer) = start(&store);
        consumer.catch_up().unwrap();
        let (mut expected_strikes, mut expected_entries, events) = without_crashes(&store);
        let (mut found_strikes, mut found_entries) = (strikes(&store), entries(&store));
        // What is over is swept away sooner or later, as commits come.
        let now = Time::from_secs(START + clock);
        for strikes in [&mut expected_strikes, &mut found_strikes] {
            strikes.retain(|_, strikes| !strikes.is_stale(now));
        }
        for entries in [&mut expected_entries, &mut found_entries] {
            entries.retain(|_, (_, expires)| !expires.is_known() || *expires > now);
        }
        assert_eq!(found_strikes, expected_strikes, "seed {seed}: {events:?}");
        assert_eq!(found_entries, expected_entries, "seed {seed}: {events:?}");
        let listed = |subject: &str| check_at(&list, subject, clock).map(|s| s.by);
        for (subject, (by, _)) in &expected_entries {
            assert_eq!(listed(subject), Some(*by), "seed {seed}");
        }
        counted += expected_strikes.len() + 100 * expected_entries.len();
    }
    assert!(counted > 1000, "there was something to count: {counted}");
}

#[test]
fn a_reload_holds_for_the_events_after_it() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let config = live("rule full category quota-issues after 3");
    let (list, mut consumer, ..) = start_with(&store, &config);
    let full = |message| at(Kind::Bounced, message as i64, message, "ann@example.net", FULL);
    append(&store, &[full(1), bounce("dead@example.net", UNKNOWN)]).unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(list.len(), 0, "no rule for dead addresses");
    config.store(live("rule full category quota-issues after 2\nrule hard category bad-mailbox after 1").load_full());
    append(&store, &[full(2), bounce("dead@example.net", UNKNOWN)]).unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(list.len(), 2);
}

#[test]
fn folded_spellings_are_found_and_stay_found_when_folding_ends() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let config = live("rule hard category bad-mailbox after 1\nfold-plus-tags example.net");
    let (list, mut consumer, ..) = start_with(&store, &config);
    append(&store, &[bounce("ann+a@example.net", UNKNOWN)]).unwrap();
    consumer.catch_up().unwrap();
    for spelt in ["ann+a@example.net", "Ann+B@example.net", "ann@example.net"] {
        assert!(check_at(&list, spelt, 0).is_some(), "{spelt}");
    }
    let config = live("rule hard category bad-mailbox after 1");
    let (list, ..) = start_with(&store, &config);
    assert!(check_at(&list, "ann+a@example.net", 0).is_some());
    assert!(check_at(&list, "ann+b@example.net", 0).is_none());
}

/// An hour of mail to one provider, of which every `one_in`th is refused; from number `from` on.
fn hour(store: &Store, from: u64, start: i64, one_in: u64) {
    let rcpts: Vec<String> = (0..600).map(|n| format!("u{}@big.example", from + n)).collect();
    let mail = |(n, rcpt): (usize, &String)| -> Event<'static> {
        let rcpt: &'static str = rcpt.clone().leak();
        let secs = start + n as i64 * 6;
        match (n as u64).is_multiple_of(one_in) {
            true => at(Kind::Bounced, secs, from + n as u64, rcpt, UNKNOWN),
            false => at(Kind::Delivered, secs, from + n as u64, rcpt, ""),
        }
    };
    let all: Vec<Event<'_>> = rcpts.iter().enumerate().map(mail).map(|e| Event { provider: "Big", ..e }).collect();
    append(store, &all).unwrap();
}

fn states(store: &Store) -> [usize; 3] {
    let rows = rows(store);
    State::ALL.map(|state| rows.values().filter(|entry| entry.state == state).count())
}

#[test]
fn a_provider_that_refuses_everybody_is_doubted_and_believed_again_when_it_is_itself() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let config = live("rule hard category bad-mailbox after 1\nrule complaint feedback abuse after 1\nbreaker-min 50");
    let (list, mut consumer, breaker, told) = start_with(&store, &config);
    hour(&store, 0, 0, 50);
    consumer.catch_up().unwrap();
    assert_eq!(states(&store), [12, 0, 0]);
    // The entries of the window before it trips are held too, over a restart in the middle.
    hour(&store, 10_000, 2 * 3600, 2);
    consumer.catch_up().unwrap();
    let [active, held, _] = states(&store);
    assert_eq!((active, held), (12, 300));
    assert!(check_at(&list, "u10000@big.example", 2 * 3600).unwrap().held);
    assert!(!check_at(&list, "u0@big.example", 2 * 3600).unwrap().held, "long before");
    assert!(doubt::lock(&breaker).tripped().iter().any(|(c, _)| *c == Circuit::provider("big")));
    assert!(told.lock().unwrap().iter().any(|n| !n.ended && n.circuit == Circuit::provider("BIG")));
    // A complaint is no provider's mistake.
    let complaint = Event {
        feedback_type: "abuse",
        attributed_by: "message-id",
        provider: "Big",
        ..at(Kind::Feedback, 3 * 3600, 1, "u10000@big.example", "")
    };
    append(&store, &[complaint]).unwrap();
    consumer.catch_up().unwrap();
    assert!(!check_at(&list, "u10000@big.example", 3 * 3600).unwrap().held);

    let (list, mut consumer, breaker, told) = start_with(&store, &config);
    assert!(check_at(&list, "u10002@big.example", 2 * 3600).unwrap().held);
    for n in 3..8 {
        hour(&store, n * 1_000_000, n as i64 * 3600 + 600, 100);
        consumer.catch_up().unwrap();
    }
    assert!(doubt::lock(&breaker).tripped().is_empty(), "{:?}", doubt::lock(&breaker).tripped());
    assert!(told.lock().unwrap().iter().any(|n| n.ended), "{told:?}");
    assert_eq!(check_at(&list, "u10002@big.example", 9 * 3600), None, "the next mail tries it");
    let [_, held, removed] = states(&store);
    assert_eq!(held, 0);
    assert!(removed >= 299, "{removed}");
}

#[test]
fn an_operator_ends_a_breaker_either_way() {
    for word in [Word::Release, Word::Confirm] {
        let disk = SimDisk::new();
        let store = open_store(&disk).unwrap();
        let config = live("rule hard category bad-mailbox after 1\nbreaker-min 50");
        let (list, mut consumer, breaker, _) = start_with(&store, &config);
        hour(&store, 0, 0, 2);
        consumer.catch_up().unwrap();
        let circuits: Vec<Circuit> = doubt::lock(&breaker).tripped().into_iter().map(|(c, _)| c).collect();
        assert!(!circuits.is_empty());
        let now = Time::from_secs(START + 3700);
        for circuit in &circuits {
            undo::end(&store, &list, &breaker, (circuit, word), now, &|| ()).unwrap().unwrap();
            assert_eq!(undo::end(&store, &list, &breaker, (circuit, word), now, &|| ()).unwrap(), None, "once");
        }
        let expected = if word == Word::Release { [0, 0, 300] } else { [300, 0, 0] };
        assert_eq!(states(&store), expected);
        let found = check_at(&list, "u0@big.example", 3700);
        assert_eq!(found.is_some_and(|f| !f.held), word == Word::Confirm);
    }
}

#[test]
fn undo_takes_back_a_provider_s_bounces_and_nobody_else_s_and_leaves_complaints() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    let config = live("rule hard category bad-mailbox after 1\nrule complaint feedback abuse after 1\nbreaker no");
    let (list, mut consumer, ..) = start_with(&store, &config);
    let of = |provider, rcpt, secs| Event { provider, ..at(Kind::Bounced, secs, 1, rcpt, UNKNOWN) };
    let complaint = Event {
        feedback_type: "abuse",
        attributed_by: "message-id",
        provider: "big",
        ..at(Kind::Feedback, 200, 1, "cross@big.example", "")
    };
    append(
        &store,
        &[
            of("big", "old@big.example", 0),
            of("big", "ann@big.example", 100),
            of("small", "bob@small.example", 150),
            complaint,
            of("big", "late@big.example", 300),
        ],
    )
    .unwrap();
    consumer.catch_up().unwrap();
    assert_eq!(list.len(), 5);
    let asked = Undo {
        provider: "BIG".into(),
        since: Time::from_secs(START + 50).0,
        until: Time::from_secs(START + 250).0,
        rule: String::new(),
        dry_run: true,
        reason: String::new(),
        after: Vec::new(),
    };
    let now = Time::from_secs(START + 400);
    let page = undo::undo(&store, &list, &asked, now).unwrap();
    assert_eq!((page.entries.len(), page.kept, page.next), (1, 1, None));
    assert_eq!(list.len(), 5, "nothing was done");
    let asked = Undo { dry_run: false, ..asked };
    let page = undo::undo(&store, &list, &asked, now).unwrap();
    assert_eq!(page.entries[0].subject, "ann@big.example");
    assert_eq!(undo::undo(&store, &list, &asked, now).unwrap().entries, [], "twice is once");
    for (rcpt, stays) in [
        ("old@big.example", true),
        ("ann@big.example", false),
        ("bob@small.example", true),
        ("cross@big.example", true),
        ("late@big.example", true),
    ] {
        assert_eq!(check_at(&list, rcpt, 500).is_some(), stays, "{rcpt}");
    }
    assert_eq!(rows(&store)["ann@big.example"].state, State::Removed);
    let named = Undo { rule: "complaint".into(), ..asked };
    assert_eq!(undo::undo(&store, &list, &named, now).unwrap().entries.len(), 1);
    // Events from before, read again, put nobody back; a later one does.
    let back = ConsumerRow { cursor: 1, state: Vec::new() };
    store.suppression().write(|tx| tx.put_consumer(CONSUMER, &back)).unwrap();
    let (list, mut consumer, ..) = start_with(&store, &config);
    consumer.catch_up().unwrap();
    assert_eq!(check_at(&list, "ann@big.example", 500), None);
    append(&store, &[of("big", "ann@big.example", 600)]).unwrap();
    consumer.catch_up().unwrap();
    assert!(check_at(&list, "ann@big.example", 700).is_some());
}
