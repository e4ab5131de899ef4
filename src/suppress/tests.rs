//! The list over a store on a simulated disk, against a small model; with limits so low that filters are built all the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::book::{self, Change};
use super::bulk::{self, Batch, Import, Phase, Row};
use super::operate::by_hand;
use super::upkeep::{self, Depth};
use super::{Entry, Hasher, Key, Mail, Source, State, Suppressed, Suppression, UNREADABLE, expire, remove};
use crate::event::{EventId, Scope, StoreId, Time};
use crate::sim::disk::SimDisk;
use crate::store::{ConsumerRow, Options, Store, StoreError, SuppressTable};

fn open_store(disk: &SimDisk) -> Result<Store, StoreError> {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    Ok(Store::open(Arc::new(disk.clone()), Path::new("/spool"), &options)?.store)
}

fn store() -> Store {
    open_store(&SimDisk::new()).unwrap()
}

/// Addresses whose keys are all in the first few shards.
fn subjects(count: usize, shards: u8) -> Vec<String> {
    let all = (0..).map(|n| format!("u{n}@b.example"));
    all.filter(|s| Hasher::default().subject(s).0[0] < shards).take(count).collect()
}

fn key(subject: &str) -> Key {
    Hasher::default().subject(subject).in_scope(&Scope::global())
}

fn entry(subject: &str, seq: u64) -> Entry {
    Entry {
        rule: "hard".into(),
        by: EventId { store: StoreId(1), seq },
        time: Time(1),
        subject: subject.into(),
        ..Entry::default()
    }
}

fn commit(store: &Store, entries: &[Entry]) -> Result<(), StoreError> {
    store.suppression().write(|tx| {
        entries.iter().try_for_each(|e| book::put(tx, &key(&e.subject), e, (Change::Enter, e.time), ("hard", "")))
    })
}

fn check(list: &Suppression, subject: &str, now: i64) -> Option<Suppressed> {
    list.check(subject, &Mail::default(), Time(now))
}

fn batch(now: i64) -> Batch {
    Batch {
        name: "list.csv".into(),
        who: "ann".into(),
        why: "".into(),
        scope: Scope::global(),
        rule: "import".into(),
        expires: Time::UNKNOWN,
        now: Time(now),
        hashed_only: false,
    }
}

fn import(store: &Store, list: &Suppression, subjects: &[String], now: i64) -> bulk::Done {
    let mut import = Import::begin(store, list, batch(now)).unwrap();
    subjects.iter().for_each(|s| import.add(s, &Row::default()).unwrap());
    import.finish(&mut |_| {}).unwrap()
}

/// The counts in the table, and what they should be by the rows.
fn counts(store: &Store) -> ([u64; 3], [u64; 3]) {
    let kept = store.suppression().suppress_row(SuppressTable::Facts, book::COUNTS).unwrap();
    let mut found = [0; 3];
    bulk::scan(
        store.suppression(),
        None,
        &mut |_, entry| {
            found[entry.state as usize - 1] += 1;
            true
        },
        &mut |_| {},
    )
    .unwrap();
    (kept.as_deref().map(book::read_counts).unwrap_or_default(), found)
}

#[derive(Debug, Clone)]
enum Op {
    /// Applied; committed with the next operation of another kind.
    Apply {
        n: usize,
        ends: Option<u8>,
        held: bool,
    },
    Commit,
    Remove(usize),
    Build {
        whole: bool,
    },
    Expire,
    Reopen,
    Import(Vec<usize>),
    Undo,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0usize..30;
    prop_oneof![
        8 => (n.clone(), prop::option::of(0u8..9), any::<bool>()).prop_map(|(n, ends, held)| Op::Apply { n, ends, held }),
        1 => Just(Op::Commit),
        2 => n.clone().prop_map(Op::Remove),
        1 => any::<bool>().prop_map(|whole| Op::Build { whole }),
        1 => Just(Op::Expire),
        1 => Just(Op::Reopen),
        1 => prop::collection::vec(n, 1..30).prop_map(Op::Import),
        1 => Just(Op::Undo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_every_address_is_answered_as_a_model_has_it(ops in prop::collection::vec(op(), 1..40)) {
        let subjects = subjects(30, 2);
        let store = store();
        let mut list = Suppression::open(&store).unwrap();
        // Entries in force, with the import they are of; and those that are not committed.
        let (mut model, mut pending) = (BTreeMap::<usize, Entry>::new(), Vec::new());
        let (mut now, mut seq, mut imports) = (1_000i64, 0, Vec::new());
        for op in ops {
            now += 1;
            if !matches!(op, Op::Apply { .. } | Op::Build { .. } | Op::Reopen) {
                commit(&store, &std::mem::take(&mut pending)).unwrap();
            }
            match op {
                Op::Apply { n, ends, held } => {
                    seq += 1;
                    let state = if held { State::Held } else { State::Active };
                    let expires = ends.map_or(Time::UNKNOWN, |ends| Time(now + i64::from(ends)));
                    let entry = Entry { state, expires, ..entry(&subjects[n], seq) };
                    list.apply(&key(&subjects[n]), &entry);
                    pending.push(entry.clone());
                    model.insert(n, entry);
                }
                Op::Commit => {}
                Op::Remove(n) => {
                    let was_in = remove(&list, &store, &subjects[n], &by_hand("asked", Time(now))).unwrap();
                    prop_assert_eq!(was_in, model.remove(&n).is_some());
                }
                Op::Build { whole } => {
                    let depth = if whole { Depth::Whole } else { Depth::AsNeeded };
                    (0..2).for_each(|shard| upkeep::pass(&list.0, shard, depth).unwrap());
                }
                Op::Expire => {
                    while expire(&store, &list, Time(now), 2).unwrap() == 2 {}
                    model.retain(|_, e| !e.is_expired(Time(now)));
                }
                Op::Reopen => {
                    // What was not committed is lost; the model knows only the rest then.
                    pending.clear();
                    list = Suppression::open(&store).unwrap();
                    model.clear();
                    store.suppression().for_each_entry(&[], &mut |_, row| {
                        let entry = Entry::decode(row).unwrap();
                        if entry.is_active() {
                            model.insert(subjects.iter().position(|s| **s == *entry.subject).unwrap(), entry);
                        }
                        true
                    }).unwrap();
                }
                Op::Import(some) => {
                    let some: Vec<usize> = some;
                    let names: Vec<String> = some.iter().map(|n| subjects[*n].to_uppercase()).collect();
                    let done = import(&store, &list, &names, now);
                    let mut entered = 0;
                    for n in some {
                        if model.get(&n).is_none_or(|e| e.is_expired(Time(now))) {
                            entered += 1;
                            let of = Entry { source: Source::Import, rule: "import".into(), batch: done.number, ..entry(&subjects[n], 0) };
                            model.insert(n, of);
                        }
                    }
                    prop_assert_eq!((done.entered, done.entered + done.kept + done.doubles), (entered, done.rows));
                    imports.push(done.number);
                }
                Op::Undo => {
                    let Some(number) = imports.pop() else { continue };
                    let removed = bulk::undo(&store, &list, number, ("ann", "mistake"), Time(now), &mut |_| {}).unwrap();
                    let before = model.len();
                    model.retain(|_, e| e.batch != number);
                    prop_assert_eq!(removed as usize, before - model.len());
                }
            }
            for (n, subject) in subjects.iter().enumerate() {
                let expected = model.get(&n).filter(|e| !e.is_expired(Time(now)));
                let expected = expected.map(|e| (e.by.seq, e.state == State::Held, e.list()));
                let found = check(&list, subject, now).map(|s| (s.by, s.held, s.list.into_string()));
                prop_assert_eq!(found, expected, "{}", subject);
            }
            if pending.is_empty() {
                prop_assert_eq!(list.len(), model.len());
            }
        }
        commit(&store, &pending).unwrap();
        let (kept, found) = counts(&store);
        prop_assert_eq!(kept, found);
        prop_assert_eq!(list.unreadable(), 0);
    }
}

#[test]
fn what_was_applied_is_seen_by_every_check_that_begins_afterwards_while_filters_are_built() {
    let (store, all) = (store(), subjects(500, 3));
    let list = Suppression::open(&store).unwrap();
    let applied = AtomicUsize::new(0);
    let is_done = || applied.load(Ordering::Acquire) == all.len();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for some in all.chunks(23) {
                let entries: Vec<Entry> = some.iter().map(|s| entry(s, 1)).collect();
                for entry in &entries {
                    list.apply(&key(&entry.subject), entry);
                    applied.fetch_add(1, Ordering::Release);
                }
                commit(&store, &entries).unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done() {
                (0..3).for_each(|shard| upkeep::pass(&list.0, shard, Depth::Whole).unwrap());
            }
        });
        for step in [1, 7] {
            let (all, list, applied, is_done) = (&all, &list, &applied, &is_done);
            scope.spawn(move || {
                let mut at = 0;
                while !is_done() {
                    let there = applied.load(Ordering::Acquire);
                    if there > 0 {
                        at = (at + step) % there;
                        assert!(check(list, &all[there - 1], 5).is_some(), "the newest, {}", all[there - 1]);
                        assert!(check(list, &all[at], 5).is_some(), "{}", all[at]);
                    }
                }
            });
        }
    });
    assert!(all.iter().all(|s| check(&list, s, 5).is_some()));
    assert_eq!((list.len(), list.unreadable()), (all.len(), 0));
    // Nothing but what the last pass did not see is left in memory.
    list.rebuild().unwrap();
    assert_eq!(list.0.shards.iter().map(|s| s.recent().len()).sum::<usize>(), 0);
    assert_eq!(Suppression::open(&store).unwrap().len(), all.len());
}

#[test]
fn mail_for_an_entry_that_cannot_be_read_is_held() {
    let store = store();
    commit(&store, &[entry("ann@b.example", 3), entry("bob@b.example", 4)]).unwrap();
    let list = Suppression::open(&store).unwrap();
    let (bytes, len) = key("ann@b.example").bytes();
    let damage = |tx: &mut crate::store::Tx<'_>| {
        tx.put_suppress_row(SuppressTable::Entries, &bytes[..len], vec![2, 1]);
        Ok(())
    };
    store.suppression().write(damage).unwrap();
    let held = Some(Suppressed { by: 0, list: UNREADABLE.into(), held: true });
    assert_eq!(check(&list, "ann@b.example", 5), held);
    assert_eq!(list.unreadable(), 1);
    // Also behind a filter that is built of it.
    list.rebuild().unwrap();
    assert_eq!(check(&list, "ann@b.example", 5), held);
    // And while nothing can be read any more.
    drop(store);
    assert_eq!(check(&list, "bob@b.example", 5), held);
    assert_eq!(check(&list, "cid@b.example", 5), None);
}

#[test]
fn a_list_in_memory_does_not_keep_the_store_open() {
    let disk = SimDisk::new();
    let list = Suppression::open(&open_store(&disk).unwrap()).unwrap();
    assert!(open_store(&disk).is_ok());
    drop(list);
}

#[test]
fn another_hash_key_is_refused_while_there_are_entries() {
    let store = store();
    Suppression::open(&store).unwrap();
    let keyed = || Suppression::with_hasher(Hasher::keyed(b"secret"));
    keyed().load(&store).unwrap();
    Suppression::open(&store).unwrap();
    commit(&store, &[entry("ann@b.example", 3)]).unwrap();
    let error = keyed().load(&store).unwrap_err().to_string();
    assert!(error.contains("suppression-hash-key"), "{error}");
}

#[test]
fn what_has_ended_is_deleted_with_a_line_of_history() {
    let store = store();
    let list = Suppression::open(&store).unwrap();
    let ending = |s: &str, at| Entry { expires: Time(at), ..entry(s, 1) };
    let entries = [ending("a@b.example", 10), ending("b@b.example", 20), entry("c@b.example", 1)];
    commit(&store, &entries).unwrap();
    // Its time was put off since.
    commit(&store, &[ending("b@b.example", 30)]).unwrap();
    list.load(&store).unwrap();
    assert_eq!(expire(&store, &list, Time(9), 100).unwrap(), 0);
    assert_eq!(expire(&store, &list, Time(25), 100).unwrap(), 1);
    assert_eq!(list.len(), 2);
    assert_eq!(counts(&store), ([2, 0, 0], [2, 0, 0]));
    let mut lines = Vec::new();
    let read = &mut |key: &[u8], row: &[u8]| {
        lines.extend(book::read_line(key, row));
        true
    };
    store.suppression().for_each_suppress_row(SuppressTable::History, &[], read).unwrap();
    let last = lines.last().unwrap();
    assert_eq!((last.change, &*last.subject, &*last.who), (Change::Expire, "a@b.example", "hard"));
}

/// A list of the first release, with its consumer's cursor.
fn first_release(disk: &SimDisk) -> Vec<String> {
    let store = open_store(disk).unwrap();
    let all: Vec<String> = (0..10).map(|n| format!("u{n}@b.example")).collect();
    let row = |state: u8, seq: u64| {
        let mut row = vec![1, state];
        row.extend(77i64.to_le_bytes());
        row.extend(7u64.to_le_bytes());
        row.extend(seq.to_le_bytes());
        for text in ["hard", "bad-mailbox", "550 no", ""] {
            row.extend((text.len() as u16).to_le_bytes());
            row.extend(text.as_bytes());
        }
        row
    };
    store
        .tables()
        .write(|tx| {
            for (n, address) in all.iter().enumerate() {
                // One was taken off, and one is damaged.
                let row = [row(if n == 3 { 3 } else { 1 }, n as u64), b"entry".to_vec()][usize::from(n == 5)].clone();
                tx.put_suppressed(address, &row);
            }
            tx.put_consumer("suppression", &ConsumerRow { cursor: 0, state: Vec::new() })
        })
        .unwrap();
    all
}

fn assert_moved(store: &Store, list: &Suppression, all: &[String], what: &str) {
    for (n, address) in all.iter().enumerate() {
        let found = check(list, address, 100).map(|s| (s.by, s.held));
        let expected = match n {
            3 => None,
            5 => Some((0, true)),
            n => Some((n as u64, false)),
        };
        assert_eq!(found, expected, "{address}, {what}");
    }
    assert_eq!(counts(store), ([8, 1, 1], [8, 1, 1]), "{what}");
    let mut left = 0;
    store.tables().for_each_suppressed(&mut |_, _| left += 1).unwrap();
    assert_eq!(left, 0, "{what}");
    assert!(store.tables().consumer("suppression").unwrap().is_none(), "{what}");
    assert!(store.suppression().consumer("suppression").unwrap().is_some(), "{what}");
}

#[test]
fn the_list_of_the_first_release_is_moved_wherever_the_power_goes_meanwhile() {
    let origin = SimDisk::new();
    let all = first_release(&origin);
    let mut cuts = 0;
    for n in (0..).step_by(5) {
        let disk = origin.duplicate();
        disk.cut_after(n);
        let whole = open_store(&disk).is_ok_and(|store| Suppression::open(&store).is_ok());
        disk.power_cut(n);
        let store = open_store(&disk).unwrap();
        let list = Suppression::open(&store).unwrap();
        assert_moved(&store, &list, &all, &format!("cut after {n}"));
        let address = Entry::decode(
            &store.suppression().suppress_row(SuppressTable::Entries, &key(&all[0]).bytes().0[..16]).unwrap().unwrap(),
        );
        assert_eq!(&*address.unwrap().subject, &*all[0]);
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 3, "{cuts}");
}

#[test]
fn an_import_enters_what_is_not_there_and_says_what_was() {
    let store = store();
    let list = Suppression::open(&store).unwrap();
    commit(&store, &[entry("ann@b.example", 3)]).unwrap();
    list.load(&store).unwrap();
    let job: Scope = "job spring".parse().unwrap();
    let mut import = Import::begin(&store, &list, batch(50)).unwrap();
    for subject in ["ANN@b.example", "bob@b.example", "Bob@B.example", "@gone.example"] {
        import.add(subject, &Row::default()).unwrap();
    }
    assert!(import.add("no address", &Row::default()).is_err());
    import.add("cid@b.example", &Row { scope: Some(&job), note: "asked", time: Time(7), ..Row::default() }).unwrap();
    import.add_hashed(Hasher::default().subject("dan@b.example"), &Row::default()).unwrap();
    let done = import.finish(&mut |_| {}).unwrap();
    assert_eq!((done.rows, done.entered, done.kept, done.doubles), (6, 4, 1, 1));
    assert_eq!(check(&list, "ann@b.example", 60).unwrap().by, 3);
    assert_eq!(&*check(&list, "bob@b.example", 60).unwrap().list, "import");
    assert!(check(&list, "anyone@gone.example", 60).is_some());
    assert!(check(&list, "dan@b.example", 60).is_some());
    assert_eq!(check(&list, "cid@b.example", 60), None);
    assert!(list.check("cid@b.example", &Mail { job: "Spring", ..Mail::default() }, Time(60)).is_some());
    let standing = &bulk::batches(store.suppression()).unwrap()[0].1;
    assert_eq!((standing.phase, standing.entered), (Phase::Done, 4));
    assert_eq!(list.len(), 5);
}

#[test]
fn wherever_the_power_goes_an_import_enters_all_or_goes_on_or_nothing() {
    let origin = SimDisk::new();
    let all = subjects(150, 2);
    {
        let store = open_store(&origin).unwrap();
        commit(&store, &[entry(&all[0], 3)]).unwrap();
        Suppression::open(&store).unwrap();
    }
    let (mut resumed, mut nothing) = (0, 0);
    for n in (0..).step_by(41) {
        let disk = origin.duplicate();
        disk.cut_after(n);
        let whole = (|| -> Result<(), StoreError> {
            let store = open_store(&disk)?;
            let list = Suppression::open(&store)?;
            let mut import = Import::begin(&store, &list, batch(50))?;
            for subject in &all {
                import.add(subject, &Row::default()).map_err(StoreError::other)?;
            }
            import.finish(&mut |_| {}).map(drop)
        })();
        disk.power_cut(n);
        let store = open_store(&disk).unwrap();
        let list = Suppression::open(&store).unwrap();
        // Whatever is in the table is known.
        let know = |list: &Suppression| {
            let mut rows = 0;
            let f = &mut |_: &Key, entry: &Entry| {
                rows += 1;
                assert!(check(list, &entry.subject, 60).is_some(), "{}, cut after {n}", entry.subject);
                true
            };
            bulk::scan(store.suppression(), None, f, &mut |_| {}).unwrap();
            rows
        };
        know(&list);
        for (number, _) in bulk::unfinished(store.suppression()).unwrap() {
            let done = bulk::resume(&store, &list, number, &mut |_| {}).unwrap();
            assert_eq!((done.entered + done.doubles, done.kept, done.rows), (149, 1, 150), "cut after {n}");
            resumed += 1;
        }
        let rows = know(&list);
        let standing = bulk::batches(store.suppression()).unwrap().pop().map(|(_, s)| s.phase);
        match standing {
            Some(Phase::Done) => assert_eq!(rows, all.len(), "cut after {n}"),
            _ => {
                assert_eq!((rows, standing.unwrap_or(Phase::Abandoned)), (1, Phase::Abandoned), "cut after {n}");
                nothing += 1;
            }
        }
        assert_eq!(list.len(), rows);
        let (kept, found) = counts(&store);
        assert_eq!(kept, found, "cut after {n}");
        let left = disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "part")).count();
        assert_eq!(left, 0, "work files are left, cut after {n}");
        if whole.is_ok() {
            break;
        }
    }
    assert!(resumed > 1 && nothing > 0, "{resumed} went on, {nothing} entered nothing");
}

#[test]
fn a_damaged_filter_is_built_anew_and_looked_past_until_then() {
    let (store, all) = (store(), subjects(60, 1));
    let list = Suppression::open(&store).unwrap();
    import(&store, &list, &all, 50);
    let row = store.suppression().suppress_row(SuppressTable::Filters, &[0]).unwrap().expect("a filter is kept");
    let damage = |tx: &mut crate::store::Tx<'_>| {
        tx.put_suppress_row(SuppressTable::Filters, &[0], row[..row.len() - 1].to_vec());
        Ok(())
    };
    store.suppression().write(damage).unwrap();
    let list = Suppression::open(&store).unwrap();
    assert!(all.iter().all(|s| check(&list, s, 60).is_some()));
    upkeep::pass(&list.0, 0, Depth::AsNeeded).unwrap();
    assert_eq!(store.suppression().suppress_row(SuppressTable::Filters, &[0]).unwrap(), Some(row));
    assert!(all.iter().all(|s| check(&list, s, 60).is_some()));
}
