//! The power goes at any operation of the disk; the store is opened again and compared with a small model, goes on, and
//! the power goes again. Segments are tiny, so that sealing, moving, trimming and removing happen all the time.
//!
//! `CAROM_ROUNDS` sets how many cuts (default 300), `CAROM_SEED` where the seeds begin.
#![expect(clippy::disallowed_methods, reason = "edge: test settings from the environment")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carom::event::{Event, Events, Kind, MessageId, RuleSetId, Time};
use carom::sim::disk::SimDisk;
use carom::store::{ConsumerRow, Finish, LoadError, Message, Options, RcptState, Store, StoreError};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use crate::mail::handed_in;

const DIR: &str = "spool";
const CONSUMER: &str = "csv";

fn options(random: &mut StdRng) -> Options {
    Options {
        segment_bytes: [4 << 10, 8 << 10, 24 << 10][random.random_range(0..3)],
        waiting_bytes: 64 << 10,
        cache_bytes: 16 << 10,
        retention_bytes: 32 << 10,
        retention: Duration::from_millis(random.random_range(0..3)),
        reserve_bytes: 0,
        held_bytes: u64::MAX,
    }
}

/// The content of a message can be told from its id and length.
fn content(id: u64, len: usize) -> Bytes {
    (0..len).map(|i| (id as usize * 31 + i * 7) as u8).collect::<Vec<u8>>().into()
}

fn message(id: MessageId, rcpts: u16, len: usize) -> Arc<Message> {
    let rcpts = (0..rcpts).map(|r| format!("r{r}@example.net"));
    Arc::new(handed_in(id, Time(id.0 as i64), &format!("m{id}@example.com"), rcpts, content(id.0, len)))
}

fn events(kind: Kind, id: MessageId, rcpts: impl IntoIterator<Item = u16>) -> Events {
    let mut events = Events::new();
    for rcpt_index in rcpts {
        events.push(&Event { message: id, rcpt_index, diag: "smtp;250 ok", ..Event::new(kind, Time(3)) });
    }
    events
}

/// What is known of a message.
#[derive(Debug, Clone)]
struct Known {
    rcpts: u16,
    len: usize,
    /// The store said that it is durable.
    accepted: bool,
    /// Recipients whose end was handed over.
    ended: BTreeSet<u16>,
    /// States each recipient may be in: those handed over since the last one known to be durable.
    states: BTreeMap<u16, Vec<RcptState>>,
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, Known>,
    /// Events that were seen, so they must stay what they are.
    seen: BTreeMap<u64, (Kind, u64, u16)>,
    /// Highest event number known to be durable, plus one.
    durable_end: u64,
    given: BTreeSet<u64>,
    /// What the tables said last that they had committed.
    cursor: u64,
    rounds: u64,
    moved_or_trimmed: u64,
}

fn fresh(index: u16) -> RcptState {
    RcptState { index, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false }
}

/// Reads all there is from `from` on and notes it; what was seen before must be the same.
fn read(store: &Store, model: &mut Model, from: u64) {
    let mut reader = store.ledger().reader(from).unwrap();
    let mut next = from;
    while let Some(chunk) = reader.next(20).unwrap() {
        assert_eq!(chunk.first(), next, "no gap between chunks");
        for batch in chunk.batches() {
            assert_eq!(batch.rules, RuleSetId(0));
            for event in batch.iter() {
                let event = event.unwrap();
                assert_eq!(event.seq, next, "no gap in the ledger");
                next += 1;
                let one = (event.kind, event.message.0, event.rcpt_index);
                let before = model.seen.insert(event.seq, one);
                assert!(before.is_none_or(|b| b == one), "event {} was {before:?}, is {one:?}", event.seq);
            }
        }
    }
    assert_eq!(next, store.ledger().end());
    model.durable_end = model.durable_end.max(next);
}

/// Compares the store that was just opened with the model, then makes the model know what is certain now.
fn check(store: &Store, model: &mut Model) {
    // What the consumer has read may go at any moment: hold it while we look.
    const LOOKING: &str = "check";
    let mut start = 0;
    while start != store.ledger().start() {
        start = store.ledger().start();
        store.ledger().hold(LOOKING, start);
    }
    let end = store.ledger().end();
    assert!(end >= model.durable_end, "events up to {} were durable, the ledger ends at {end}", model.durable_end);
    let row = store.tables().consumer(CONSUMER).unwrap().unwrap_or(ConsumerRow { cursor: 1, state: vec![] });
    assert!(row.cursor >= model.cursor, "a committed cursor does not go back");
    assert!(start <= row.cursor, "nothing goes that the consumer has not read: {start} {}", row.cursor);
    // Cursor and effect are one step.
    assert_eq!(store.tables().counter("events").unwrap(), row.cursor - 1);
    model.cursor = row.cursor;
    let unseen = model.seen.keys().next_back().map_or(1, |last| last + 1);
    assert!(start <= unseen, "an event went before anybody saw it");
    read(store, model, start);
    store.ledger().release(LOOKING);

    let mut received: BTreeMap<(u64, u16), u64> = BTreeMap::new();
    let mut terminal: BTreeMap<(u64, u16), u64> = BTreeMap::new();
    for (seq, (kind, id, rcpt)) in &model.seen {
        if kind.is_terminal() {
            assert_eq!(terminal.insert((*id, *rcpt), *seq), None, "second terminal event of {id}/{rcpt}");
        }
        if *kind == Kind::Received {
            assert_eq!(received.insert((*id, *rcpt), *seq), None, "second r event of {id}/{rcpt}");
        }
    }
    let mut queued: BTreeMap<u64, Vec<RcptState>> = BTreeMap::new();
    store
        .for_each_queued(&mut |envelope, states| {
            let known = &model.messages[&envelope.id.0];
            assert_eq!(*envelope, message(envelope.id, known.rcpts, known.len).envelope);
            assert_eq!(queued.insert(envelope.id.0, states.to_vec()), None);
        })
        .unwrap();
    for id in queued.keys() {
        let known = &model.messages[id];
        let loaded = store.load(MessageId(*id)).unwrap();
        assert_eq!(loaded.body, content(*id, known.len));
    }
    let none = Vec::new();
    model.messages.retain(|id, known| {
        let states = queued.get(id).unwrap_or(&none);
        let exists = (0..known.rcpts).any(|r| received.contains_key(&(*id, r)));
        assert!(exists || !known.accepted, "accepted message {id} is lost");
        if !exists {
            assert!(states.is_empty(), "message {id} is queued without having been received");
            return false;
        }
        known.accepted = true;
        for r in 0..known.rcpts {
            assert!(received.contains_key(&(*id, r)), "message {id} was received in part");
            let state = states.iter().find(|s| s.index == r);
            let ended = terminal.contains_key(&(*id, r));
            assert!(state.is_some() != ended, "{id}/{r}: queued {}, ended {ended}", state.is_some());
            assert!(!ended || known.ended.contains(&r), "{id}/{r} ended by itself");
            match state {
                Some(state) => {
                    assert!(known.states[&r].contains(state), "{id}/{r} is {state:?}, not of {:?}", known.states[&r]);
                    known.states.insert(r, vec![*state]);
                    known.ended.remove(&r);
                }
                None => {
                    known.ended.insert(r);
                }
            }
        }
        (0..known.rcpts).any(|r| !known.ended.contains(&r))
    });
}

/// Works until `steps` are done or the disk fails.
async fn work(store: &Store, model: &mut Model, random: &mut StdRng, steps: usize) -> Result<(), StoreError> {
    if store.tables().consumer(CONSUMER)?.is_none() {
        // As an output does when it is new: from its first row on, the store keeps what it has not read.
        assert_eq!(model.cursor, 1);
        store.ledger().hold(CONSUMER, 1);
        store.tables().write(|tx| tx.put_consumer(CONSUMER, &ConsumerRow { cursor: 1, state: Vec::new() }))?;
    }
    for _ in 0..steps {
        match random.random_range(0..100) {
            0..30 => accept_some(store, model, random).await?,
            30..45 => retry(store, model, random).await?,
            45..78 => finish(store, model, random).await?,
            78..83 => store.append(events(Kind::TransientQueue, MessageId(0), [0])).await?,
            83..90 => {
                store.flush().await?;
                settle(store, model);
            }
            90..94 => consume(store, model)?,
            94..97 => {
                // The keeper gets a moment to move and remove.
                tokio::time::sleep(Duration::from_millis(2)).await;
                model.moved_or_trimmed += u64::from(store.ledger().start() > 1);
            }
            _ => {
                if let Some((id, known)) = model.messages.iter().filter(|(_, k)| k.accepted).choose(random)
                    && known.ended.len() < usize::from(known.rcpts)
                {
                    match store.load(MessageId(*id)) {
                        Ok(loaded) => assert_eq!(loaded.body, content(*id, known.len)),
                        Err(LoadError::Io(..)) => return Err(StoreError::other("cut")),
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        }
    }
    Ok(())
}

/// After a flush all that was handed over is certain.
fn settle(store: &Store, model: &mut Model) {
    model.durable_end = model.durable_end.max(store.ledger().end());
    for known in model.messages.values_mut() {
        for states in known.states.values_mut() {
            let last = states.len() - 1;
            states.drain(..last);
        }
    }
}

async fn accept_some(store: &Store, model: &mut Model, random: &mut StdRng) -> Result<(), StoreError> {
    let mut tasks = Vec::new();
    for _ in 0..random.random_range(1..5) {
        let id = store.next_message_id();
        assert!(model.given.insert(id.0), "id {id} was given before");
        let rcpts = if random.random_bool(0.7) { 1 } else { random.random_range(1..6) };
        let len = [0, 300, 2500, 9000][random.random_range(0..4)];
        let states = (0..rcpts).map(|r| (r, vec![fresh(r)])).collect();
        model.messages.insert(id.0, Known { rcpts, len, accepted: false, ended: BTreeSet::new(), states });
        let store = store.clone();
        tasks.push((
            id,
            tokio::spawn(
                async move { store.accept(message(id, rcpts, len), events(Kind::Received, id, 0..rcpts)).await },
            ),
        ));
    }
    let mut result = Ok(());
    for (id, task) in tasks {
        match task.await.unwrap() {
            Ok(()) => model.messages.get_mut(&id.0).unwrap().accepted = true,
            Err(e) => result = Err(e),
        }
    }
    result
}

fn some_queued(model: &Model, random: &mut StdRng) -> Option<(u64, Vec<u16>)> {
    let (id, known) =
        model.messages.iter().filter(|(_, k)| k.accepted && k.ended.len() < usize::from(k.rcpts)).choose(random)?;
    let left = (0..known.rcpts).filter(|r| !known.ended.contains(r));
    let some = left.collect::<Vec<_>>();
    let n = random.random_range(1..=some.len());
    Some((*id, some[..n].to_vec()))
}

async fn retry(store: &Store, model: &mut Model, random: &mut StdRng) -> Result<(), StoreError> {
    let Some((id, rcpts)) = some_queued(model, random) else { return Ok(()) };
    let states: Vec<RcptState> = rcpts
        .iter()
        .map(|&index| RcptState {
            index,
            attempts: random.random(),
            not_before: Time(random.random()),
            in_doubt: random.random(),
        })
        .collect();
    store.retry(MessageId(id), &states, events(Kind::Transient, MessageId(id), rcpts)).await?;
    let known = model.messages.get_mut(&id).unwrap();
    for state in states {
        known.states.get_mut(&state.index).unwrap().push(state);
    }
    Ok(())
}

async fn finish(store: &Store, model: &mut Model, random: &mut StdRng) -> Result<(), StoreError> {
    let Some((id, rcpts)) = some_queued(model, random) else { return Ok(()) };
    let id = MessageId(id);
    let mut finish = Finish::new();
    for &r in &rcpts {
        finish.recipient(id, r).event(&Event { message: id, rcpt_index: r, ..Event::new(Kind::Bounced, Time(4)) });
    }
    let mut new = None;
    if random.random_bool(0.2) {
        let dsn = store.next_message_id();
        assert!(model.given.insert(dsn.0));
        finish.message(message(dsn, 1, 700), events(Kind::Received, dsn, [0]));
        let states = BTreeMap::from([(0, vec![fresh(0)])]);
        model.messages.insert(dsn.0, Known { rcpts: 1, len: 700, accepted: false, ended: BTreeSet::new(), states });
        new = Some(dsn);
    }
    // Once handed over it may be durable, whatever is answered.
    model.messages.get_mut(&id.0).unwrap().ended.extend(&rcpts);
    let result = store.finish(finish).await;
    if let (Some(dsn), Ok(())) = (new, &result) {
        model.messages.get_mut(&dsn.0).unwrap().accepted = true;
    }
    if result.is_ok() {
        let mut again = Finish::new();
        again.recipient(id, rcpts[0]).event(&Event::new(Kind::Bounced, Time(5)));
        // A cut may come first.
        assert!(store.finish(again).await.is_err(), "a recipient ended twice");
    }
    result
}

/// A consumer: reads what is new, commits how much it has read together with its cursor.
fn consume(store: &Store, model: &mut Model) -> Result<(), StoreError> {
    let mut reader = store.ledger().reader(model.cursor)?;
    let mut count = 0;
    while let Some(chunk) = reader.next(30)? {
        for batch in chunk.batches() {
            for event in batch.iter() {
                let event = event.unwrap();
                let one = (event.kind, event.message.0, event.rcpt_index);
                assert!(model.seen.insert(event.seq, one).is_none_or(|b| b == one));
                model.durable_end = model.durable_end.max(event.seq + 1);
                count += 1;
            }
        }
    }
    let cursor = reader.position();
    assert_eq!(cursor, model.cursor + count);
    store.tables().write(|tx| {
        let before = tx.counter("events")?;
        tx.put_counter("events", before + count)?;
        tx.put_consumer(CONSUMER, &ConsumerRow { cursor, state: Vec::new() })
    })?;
    model.cursor = cursor;
    store.ledger().hold(CONSUMER, cursor);
    Ok(())
}

/// One disk, cut again and again.
fn life(seed: u64, rounds: u64) -> Model {
    let mut random = StdRng::seed_from_u64(seed);
    let random = &mut random;
    let disk = SimDisk::new();
    let mut model = Model { durable_end: 1, cursor: 1, ..Model::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut round = 0;
    while round < rounds {
        round += 1;
        model.rounds += 1;
        // Now and then so early that opening itself is cut.
        let cut_after = if random.random_bool(0.3) { random.random_range(0..30) } else { random.random_range(20..400) };
        disk.cut_after(cut_after);
        let options = options(random);
        match Store::open(Arc::new(disk.clone()), Path::new(DIR), &options) {
            Ok(opened) => {
                let store = opened.store;
                // Reading fails once the power is gone; then the next round checks.
                let checked = !disk.is_cut() && {
                    disk.cut_after(u64::MAX >> 1);
                    check(&store, &mut model);
                    disk.cut_after(random.random_range(0..300));
                    true
                };
                let orderly = random.random_bool(0.15);
                runtime.block_on(async {
                    if checked {
                        if orderly {
                            disk.cut_after(u64::MAX >> 1);
                        }
                        let steps = random.random_range(1..120);
                        let result = work(&store, &mut model, random, steps).await;
                        assert!(result.is_ok() || disk.is_cut(), "{result:?}");
                        if orderly {
                            store.close().await.unwrap();
                            settle(&store, &mut model);
                        }
                    }
                });
                drop(store);
                if orderly && checked {
                    continue;
                }
            }
            Err(e) => assert!(disk.is_cut(), "seed {seed} round {round}: {e}"),
        }
        disk.power_cut(random.random());
    }
    model
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_happens_twice_wherever_the_power_goes() {
    let (rounds, seed) = (setting("CAROM_ROUNDS", 300), setting("CAROM_SEED", 1));
    const PER_LIFE: u64 = 20;
    let (mut done, mut trimmed, mut seen) = (0, 0, 0);
    for life_seed in seed..seed + rounds.div_ceil(PER_LIFE) {
        let outcome = std::panic::catch_unwind(|| life(life_seed, PER_LIFE));
        match outcome {
            Ok(model) => {
                done += model.rounds;
                trimmed += model.moved_or_trimmed;
                seen += model.seen.len();
            }
            Err(panic) => {
                eprintln!("failed with CAROM_SEED={life_seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(
        done >= rounds && trimmed > 0 && seen > 1000,
        "{done} rounds, {trimmed} looks at a trimmed ledger, {seen} events"
    );
}
