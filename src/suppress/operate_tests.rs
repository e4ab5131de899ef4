//! What operators do, over a store on a simulated disk.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::book::Change;
use super::erase::{self, Purge};
use super::incoming::{self, Batch, BatchError, NewEntry, NewSubject};
use super::operate::{self, Asked, Order, by_hand};
use super::storage::{self, StorageError};
use super::*;
use crate::event::{Scope, Time};
use crate::sim::disk::SimDisk;
use crate::store::{Options, Store};

const NOW: Time = Time::from_secs(1_800_000_000);

/// Needs a runtime around it while the store lives.
fn with_store(f: impl FnOnce(&Store)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    let store = Store::open(Arc::new(SimDisk::new()), Path::new("/spool"), &options).unwrap().store;
    f(&store);
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn add(list: &Suppression, store: &Store, subject: &str, to: &str, now: Time) {
    let order = Order { scope: &scope(to), reason: "asked", who: "eve", expires: Time::UNKNOWN, now };
    assert!(operate::add(list, store, subject, &order).unwrap());
}

fn subjects(store: &Store, filter: &Filter) -> Vec<String> {
    let page = list(store.suppression(), filter, usize::MAX).unwrap();
    let mut found: Vec<String> = page.entries.iter().map(|l| l.entry.subject.to_string()).collect();
    found.sort();
    found
}

fn row(subject: &str) -> NewEntry {
    NewEntry {
        subject: NewSubject::Text(subject.into()),
        entry: Entry { rule: "hard".into(), time: NOW, ..Entry::default() },
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended_whatever_the_filter() {
    with_store(|store| {
        let on = Suppression::new();
        for n in 0..40 {
            add(&on, store, &format!("u{n}@b.example"), if n % 2 == 0 { "global" } else { "job spring" }, NOW);
        }
        let mut filter = Filter { scope: operate::ScopeFilter::parse("job"), ..Filter::default() };
        let mut found = 0;
        loop {
            let page = list(store.suppression(), &filter, 3).unwrap();
            assert!(page.entries.iter().all(|l| l.entry.scope == scope("job spring")));
            found += page.entries.len();
            match page.next {
                Some(next) => filter.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, 20);
    });
}

#[test]
fn a_removal_is_of_one_scope_and_its_line_says_who_and_why() {
    with_store(|store| {
        let on = Suppression::new();
        add(&on, store, "Ann@b.example", "global", NOW);
        add(&on, store, "ann@b.example", "list weekly", NOW);
        let weekly = scope("list weekly");
        let order = Order { scope: &weekly, reason: "came back", who: "eve", expires: Time::UNKNOWN, now: NOW };
        assert!(operate::remove(&on, store, "ANN@b.example", &order).unwrap());
        assert!(!operate::remove(&on, store, "ann@b.example", &order).unwrap());
        let states: Vec<State> =
            show(&on, store.suppression(), "ann@b.example").unwrap().iter().map(|l| l.entry.state).collect();
        assert_eq!(states, [State::Active, State::Removed]);
        let key = on.hasher().subject("ann@b.example");
        let lines = audit::history(store.suppression(), Some(key), Time::UNKNOWN, &[], 10).unwrap().lines;
        let last = lines.iter().find(|l| l.change == Change::Remove).unwrap();
        assert_eq!((&*last.who, &*last.why, &last.scope), ("eve", "came back", &weekly));
        assert_eq!(lines.len(), 3);
        let first = audit::history(store.suppression(), None, Time::UNKNOWN, &[], 2).unwrap();
        let rest = audit::history(store.suppression(), None, Time::UNKNOWN, &first.next.unwrap(), 2).unwrap();
        assert_eq!((first.lines.len(), rest.lines.len(), rest.next), (2, 1, None));
    });
}

#[test]
fn a_purge_takes_what_was_asked_for_and_nothing_else() {
    with_store(|store| {
        let on = Suppression::new();
        add(&on, store, "hand@b.example", "global", NOW);
        let batch = incoming::begin(store, Batch::default(), false, NOW).unwrap().batch;
        incoming::enter(&on, store, (batch, 0, 2), &[row("a@b.example"), row("c@b.example")], NOW).unwrap();
        remove(&on, store, "hand@b.example", &by_hand("x", NOW)).unwrap();
        let purge = |which: &Purge, said| erase::purge(&on, store, which, None, said, NOW).unwrap();
        assert_eq!(purge(&Purge::default(), Some(("eve", "all"))).entries, 0, "nothing given, nothing deleted");
        let of_batch = Purge { batch: Some(batch), ..Purge::default() };
        assert_eq!((purge(&of_batch, None).entries, on.len()), (2, 2), "only counted");
        let purged = purge(&of_batch, Some(("eve", "wrong list")));
        assert_eq!((purged.entries, purged.active, on.len()), (2, 2, 0));
        let all = Filter { state: Some(State::Removed), ..Filter::default() };
        assert_eq!(subjects(store, &all), ["hand@b.example"]);
        assert_eq!(subjects(store, &Filter::default()).len(), 0);
        assert_eq!(store.suppression().write(book::counts).unwrap(), [0, 0, 1]);
        let old = Purge { removed_before: Some(NOW), ..Purge::default() };
        assert_eq!(purge(&old, None).entries, 0, "not before, but at that time");
    });
}

#[test]
fn an_import_goes_on_behind_its_last_durable_record_and_takes_no_row_twice() {
    with_store(|store| {
        let on = Suppression::new();
        add(&on, store, "b@b.example", "global", NOW);
        let new = || Batch { identity: "list".into(), ..Batch::default() };
        let batch = incoming::begin(store, new(), false, NOW).unwrap().batch;
        let rows = [row("a@b.example"), row("b@b.example")];
        // Three records, of which one was no entry.
        let said = incoming::enter(&on, store, (batch, 0, 3), &rows, NOW).unwrap();
        assert_eq!((said.done, said.entered, said.already), (3, 1, 1));
        let again = incoming::enter(&on, store, (batch, 0, 3), &rows, NOW).unwrap();
        assert_eq!((again.done, again.entered, again.already), (3, 1, 1), "a request whose answer was lost");
        let gap = incoming::enter(&on, store, (batch, 5, 1), &[row("c@b.example")], NOW);
        assert!(matches!(gap, Err(BatchError::Gap { from: 5, done: 3 })), "{gap:?}");
        let resumed = incoming::begin(store, new(), false, NOW).unwrap();
        assert_eq!((resumed.batch, resumed.done), (batch, 3));
        assert_ne!(incoming::begin(store, new(), true, NOW).unwrap().batch, batch, "anew");
        let other = Batch { identity: "other".into(), ..Batch::default() };
        assert_ne!(incoming::begin(store, other, false, NOW).unwrap().batch, batch);
        incoming::end(store, batch, 1, 0, NOW).unwrap();
        let late = incoming::enter(&on, store, (batch, 3, 1), &[row("c@b.example")], NOW);
        assert!(matches!(late, Err(BatchError::NotOpen(_))), "{late:?}");
        assert!(on.check("A@b.example", &Mail::default(), NOW).is_some_and(|s| &*s.list == "import"));
    });
}

#[test]
fn a_person_who_is_forgotten_goes_on_being_suppressed_by_a_hash() {
    with_store(|store| {
        let on = Suppression::new();
        let hash = on.hasher().subject("ann@b.example");
        add(&on, store, "ann@b.example", "global", NOW);
        store
            .suppression()
            .write(|tx| {
                let row = [hash.0.as_slice(), &[0; 12]].concat();
                tx.put_suppress_row(crate::store::SuppressTable::Strikes, &row, b"x".to_vec());
                Ok(())
            })
            .unwrap();
        let forgotten = erase::forget(&on, store, "Ann@b.example", "eve", NOW).unwrap();
        assert_eq!((forgotten.entries, forgotten.active, forgotten.strikes), (1, 1, 1));
        let (lines, next) = erase::forget_history(&on, store, "ann@b.example", &[]).unwrap();
        assert_eq!((lines, next), (1, None));
        assert!(on.check("ann@b.example", &Mail::default(), NOW).is_some());
        let loaded = Suppression::new();
        loaded.load(store).unwrap();
        assert!(loaded.check("ann@b.example", &Mail::default(), NOW).is_some(), "after a restart too");
        let left = &show(&on, store.suppression(), "ann@b.example").unwrap()[0].entry;
        assert_eq!((&*left.subject, &*left.note, &*left.reply), ("", "", ""));
        // An operator who takes it off later does not bring the name back.
        remove(&on, store, "ann@b.example", &by_hand("ann@b.example asked", NOW)).unwrap();
        let lines = audit::history(store.suppression(), Some(hash), Time::UNKNOWN, &[], 10).unwrap().lines;
        assert!(lines.iter().all(|l| l.subject.is_empty() && !l.why.contains("ann")), "{lines:?}");
    });
}

#[test]
fn a_list_made_with_one_hash_key_refuses_another_until_it_is_empty() {
    with_store(|store| {
        let (one, two) = (Hasher::keyed(b"0123456789abcdef"), Hasher::keyed(b"another key, quite"));
        let tables = store.suppression();
        storage::adopt(tables, &one, false).unwrap();
        let on = Suppression::with_hasher(one.clone());
        add(&on, store, "ann@b.example", "global", NOW);
        for other in [&two, &Hasher::default()] {
            let refused = storage::adopt(tables, other, false);
            assert!(matches!(refused, Err(StorageError::OtherKey { .. })), "{refused:?}");
        }
        storage::adopt(tables, &one, false).unwrap();
        let all = Purge { source: Some(Source::Manual), ..Purge::default() };
        erase::purge(&on, store, &all, None, Some(("eve", "new key")), NOW).unwrap();
        storage::adopt(tables, &two, false).unwrap();
    });
}

#[test]
fn hashed_storage_keeps_no_words_and_takes_out_those_it_finds() {
    with_store(|store| {
        let on = Suppression::new();
        storage::adopt(store.suppression(), on.hasher(), false).unwrap();
        add(&on, store, "before@b.example", "global", NOW);
        storage::adopt(store.suppression(), on.hasher(), true).unwrap();
        add(&on, store, "ann@b.example", "global", NOW);
        let auto = Entry {
            rule: "hard".into(),
            subject: "bob@b.example".into(),
            reply: "550 bob@b.example unknown".into(),
            ..Entry::default()
        };
        let key = on.hasher().subject("bob@b.example").in_scope(&Scope::global());
        let said = ("hard", "550 bob@b.example unknown");
        store.suppression().write(|tx| book::put(tx, &key, &auto, (Change::Enter, NOW), said)).unwrap();
        let entries = list(store.suppression(), &Filter::default(), 10).unwrap().entries;
        assert_eq!(entries.len(), 3);
        assert!(entries.iter().all(|l| l.entry.subject.is_empty() && l.entry.reply.is_empty()), "{entries:?}");
        let lines = audit::history(store.suppression(), None, Time::UNKNOWN, &[], 10).unwrap().lines;
        assert!(lines.iter().all(|l| l.subject.is_empty() && !l.why.contains('@')), "{lines:?}");
        for known in ["before@b.example", "ann@b.example"] {
            assert!(on.check(known, &Mail::default(), NOW).is_some());
        }
    });
}

#[test]
fn the_counts_are_those_of_the_entries() {
    with_store(|store| {
        let on = Suppression::new();
        add(&on, store, "a@b.example", "global", NOW);
        add(&on, store, "@gone.example", "list weekly", NOW);
        add(&on, store, "c@b.example", "global", NOW);
        remove(&on, store, "c@b.example", &by_hand("x", NOW)).unwrap();
        let (stats, next) = audit::stats(store.suppression(), None, NOW).unwrap();
        assert_eq!(next, None);
        assert_eq!((stats.states["active"], stats.states["removed"], stats.domains), (2, 1, 1));
        assert_eq!((stats.scopes["list"], stats.days["2027-01-15"], stats.rules["manual"]), (1, 2, 2));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// `check` of the command line names an entry exactly when the list would stop the mail.
    #[test]
    fn the_entry_that_decides_is_there_exactly_when_the_list_says_so(
        entries in prop::collection::vec((0u8..3, 0usize..6), 0..8), asked in 0u8..3, job: bool, list_: bool,
    ) {
        with_store(|store| {
            let on = Suppression::new();
            let scopes = ["global", "job spring", "list weekly", "sender-domain s.example", "vmta pool", "source x"];
            let subject = |n: u8| if n == 2 { "@b.example".to_owned() } else { format!("u{n}@b.example") };
            for (who, to) in entries {
                let order = Order { scope: &scope(scopes[to]), reason: "", who: "", expires: Time::UNKNOWN, now: NOW };
                operate::add(&on, store, &subject(who), &order).unwrap();
            }
            let mail = Mail {
                job: if job { "Spring" } else { "" },
                list: if list_ { "weekly" } else { "" },
                sender_domain: "s.example",
                vmta: "v",
                pool: if job { "POOL" } else { "" },
                ..Mail::default()
            };
            let address = format!("u{asked}@b.example");
            let decides = operate::deciding(&on, store.suppression(), &Asked::Subject(address.clone()), &mail, NOW).unwrap();
            let stops = on.check(&address, &mail, NOW);
            assert_eq!(decides.is_some(), stops.is_some());
        });
    }
}
