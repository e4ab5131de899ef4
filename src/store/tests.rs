//! What rooms rely on, on a simulated disk.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "edge: tests wait for the store's threads, and one for a process"
)]

mod damage;
mod room;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::event::{Event, EventBatch, Kind, SourceType, Time};
use crate::sim::disk::{Fault, SimDisk};

fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        waiting_bytes: 1 << 20,
        cache_bytes: 64 << 10,
        retention_bytes: 1 << 30,
        retention: Duration::from_secs(3600),
        reserve_bytes: 0,
        held_bytes: u64::MAX,
    }
}

fn message(id: MessageId, rcpts: usize, body: &[u8]) -> Arc<Message> {
    let own = OwnMail { id, now: Time(1), host: "app", message_id: "m@example.com", eight_bit: false, to: &[] };
    let (mail, _) = Message::own(own, Bytes::copy_from_slice(body));
    let rcpt = |i| Recipient { address: format!("r{i}@example.net").into(), orcpt: "".into(), notify: 0 };
    let envelope = Envelope {
        orig: "news@example.com".into(),
        job: "j".into(),
        src_type: SourceType::Smtp,
        no_dsn: false,
        rcpts: (0..rcpts).map(rcpt).collect(),
        ..mail.envelope
    };
    Arc::new(Message { envelope, body: mail.body })
}

fn event(kind: Kind, message: MessageId, rcpt: u16) -> Event<'static> {
    Event { message, rcpt_index: rcpt, rcpt: "r@example.net", ..Event::new(kind, Time(7)) }
}

fn events(kind: Kind, message: MessageId, rcpts: u16) -> Events {
    let mut events = Events::new();
    (0..rcpts).for_each(|r| events.push(&event(kind, message, r)));
    events
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn open(disk: &SimDisk) -> Opened {
    Store::open(Arc::new(disk.clone()), Path::new("spool"), &options()).unwrap()
}

fn all_events(store: &Store, from: u64) -> Vec<(u64, Kind, u64, u16, u64)> {
    let mut reader = store.ledger().reader(from).unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.next(3).unwrap() {
        for batch in chunk.batches() {
            for e in EventBatch::iter(batch) {
                let e = e.unwrap();
                assert_eq!(e.store, store.id());
                all.push((e.seq, e.kind, e.message.0, e.rcpt_index, e.rules.0));
            }
        }
        assert_eq!(reader.position(), chunk.last() + 1);
    }
    all
}

async fn accept(store: &Store, rcpts: u16, body: &[u8]) -> MessageId {
    let id = store.next_message_id();
    store.accept(message(id, usize::from(rcpts), body), events(Kind::Received, id, rcpts)).await.unwrap();
    id
}

async fn end(store: &Store, id: MessageId, rcpt: u16) -> Result<(), StoreError> {
    let mut finish = Finish::new();
    finish.recipient(id, rcpt).event(&event(Kind::Delivered, id, rcpt));
    store.finish(finish).await
}

#[test]
fn what_was_accepted_retried_and_finished_is_so_after_a_restart() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let Opened { store, unclean, .. } = open(&disk);
        assert!(!unclean, "a new store has nothing to doubt");
        let a = accept(&store, 2, b"first").await;
        let b = accept(&store, 1, &[b'x'; 30_000]).await;
        let state = RcptState { index: 1, attempts: 3, not_before: Time(99), in_doubt: true };
        store.retry(a, &[state], events(Kind::Transient, a, 1)).await.unwrap();
        end(&store, a, 0).await.unwrap();
        store.append(events(Kind::TransientQueue, MessageId(0), 1)).await.unwrap();
        let id = store.id();
        store.close().await.unwrap();
        assert!(matches!(store.flush().await, Err(StoreError::Closed)));
        drop(store);

        let Opened { store, unclean, queued_messages, queued_recipients, next_seq } = open(&disk);
        assert!(!unclean);
        assert_eq!((queued_messages, queued_recipients, next_seq), (2, 2, 7));
        assert_eq!(store.id(), id);
        let mut seen = Vec::new();
        store.for_each_queued(&mut |e, s| seen.push((e.clone(), s.to_vec()))).unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], (message(a, 2, b"first").envelope.clone(), vec![state]));
        assert_eq!(*store.load(b).unwrap(), *message(b, 1, &[b'x'; 30_000]));
        let kinds: Vec<Kind> = all_events(&store, 1).iter().map(|e| e.1).collect();
        use Kind::*;
        assert_eq!(kinds, [Received, Received, Received, Transient, Delivered, TransientQueue]);
        assert!(store.next_message_id() > b);
    });
}

/// A message of three recipients, one of whom ends at once, with a report about that; the ids of both.
async fn accept_ending(store: &Store, ended: &[u16]) -> (MessageId, MessageId) {
    let (id, report) = (store.next_message_id(), store.next_message_id());
    let mut events = events(Kind::Received, id, 3);
    ended.iter().for_each(|rcpt| events.push(&event(Kind::Bounced, id, *rcpt)));
    let caused = (message(report, 1, b"report"), self::events(Kind::Received, report, 1));
    store.accept_ending(message(id, 3, b"mail"), events, ended, Some(caused)).await.unwrap();
    (id, report)
}

#[test]
fn recipients_that_end_with_their_acceptance_are_never_seen_queued() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let Opened { store, .. } = open(&disk);
        let (id, report) = accept_ending(&store, &[1]).await;
        let (gone, _) = accept_ending(&store, &[0, 1, 2]).await;
        assert!(matches!(end(&store, id, 1).await, Err(StoreError::NotQueued { rcpt: 1, .. })));
        let wrong = store.accept_ending(message(MessageId(99), 1, b""), Events::new(), &[1], None).await;
        assert!(matches!(wrong, Err(StoreError::NotQueued { rcpt: 1, .. })));
        end(&store, report, 0).await.unwrap();
        drop(store);
        let Opened { store, queued_recipients, .. } = open(&disk);
        assert_eq!(queued_recipients, 3, "two of the first message, and the report about the second");
        let left: Vec<u16> = store.queued(id).iter().map(|s| s.index).collect();
        assert_eq!((left, store.queued(gone).len()), (vec![0, 2], 0));
        use Kind::*;
        let kinds: Vec<Kind> = all_events(&store, 1).iter().map(|e| e.1).take(5).collect();
        assert_eq!(kinds, [Received, Received, Received, Bounced, Received]);
        assert_eq!(*store.load(id).unwrap().body, b"mail"[..]);
    });
}

#[test]
fn a_power_cut_leaves_an_acceptance_with_its_endings_or_nothing_of_it() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        runtime().block_on(async {
            let Opened { store, .. } = open(&disk);
            accept(&store, 1, b"before").await;
            disk.cut_after(seed % 6);
            let _ = tokio::time::timeout(Duration::from_secs(5), async {
                let id = store.next_message_id();
                let mut events = events(Kind::Received, id, 3);
                events.push(&event(Kind::Bounced, id, 1));
                store.accept_ending(message(id, 3, b"mail"), events, &[1], None).await
            })
            .await;
            drop(store);
            disk.power_cut(seed);
            let Opened { store, queued_recipients, .. } = open(&disk);
            let kinds: Vec<Kind> = all_events(&store, 1).iter().map(|e| e.1).collect();
            match queued_recipients {
                1 => assert_eq!(kinds, [Kind::Received], "seed {seed}"),
                3 => assert_eq!(kinds.last(), Some(&Kind::Bounced), "seed {seed}"),
                n => panic!("seed {seed}: {n} recipients queued, {kinds:?}"),
            }
        });
    }
}

#[test]
fn a_recipient_ends_once() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let id = accept(&store, 2, b"x").await;
        end(&store, id, 1).await.unwrap();
        assert!(matches!(end(&store, id, 1).await, Err(StoreError::NotQueued { rcpt: 1, .. })));
        let mut twice = Finish::new();
        twice.recipient(id, 0).recipient(id, 0);
        assert!(matches!(store.finish(twice).await, Err(StoreError::NotQueued { rcpt: 0, .. })));
        end(&store, id, 0).await.unwrap();
        assert!(matches!(store.load(id), Err(LoadError::Gone(_))));
        assert!(store.retry(id, &[], Events::new()).await.is_err());
        store.flush().await.unwrap();
        assert_eq!(all_events(&store, 1).len(), 4);
    });
}

#[test]
fn a_bounce_and_the_report_it_causes_are_one_step() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let id = accept(&store, 1, b"x").await;
        let (one, two) = (store.next_message_id(), store.next_message_id());
        let mut finish = Finish::new();
        finish.recipient(id, 0).event(&event(Kind::Bounced, id, 0));
        finish.message(message(one, 1, b"dsn one"), events(Kind::Received, one, 1));
        finish.message(message(two, 2, b"dsn two"), events(Kind::Received, two, 2));
        store.finish(finish).await.unwrap();
        drop(store);
        let opened = open(&disk);
        assert!(opened.unclean);
        assert_eq!((opened.queued_messages, opened.queued_recipients), (2, 3));
        assert_eq!(&opened.store.load(one).unwrap().body[..], b"dsn one");
        assert_eq!(&opened.store.load(two).unwrap().body[..], b"dsn two");
    });
}

#[test]
fn a_second_opening_is_refused() {
    let disk = SimDisk::new();
    let opened = open(&disk);
    let second = Store::open(Arc::new(disk.clone()), Path::new("spool"), &options());
    assert!(matches!(second, Err(StoreError::Locked(_))));
    drop(opened);
    open(&disk);
}

#[test]
fn events_carry_the_rules_in_force_and_are_seen_only_when_durable() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        store.set_rules(RuleSetId(5));
        let id = accept(&store, 1, b"x").await;
        store.set_rules(RuleSetId(6));
        end(&store, id, 0).await.unwrap();
        assert_eq!(store.ledger().wait_past(2).await, 3);
        assert_eq!(all_events(&store, 1), [(1, Kind::Received, 1, 0, 5), (2, Kind::Delivered, 1, 0, 6)]);
        assert_eq!(all_events(&store, 2).len(), 1);
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.ledger().wait_past(3).await }
        });
        store.close().await.unwrap();
        assert_eq!(waiting.await.unwrap(), 3, "the end of the store ends the waiting");
    });
}

#[test]
fn a_reader_that_is_far_behind_reads_the_disk_and_may_begin_within_a_record() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        for _ in 0..50 {
            accept(&store, 3, &[7; 2000]).await;
        }
        let before = all_events(&store, 1);
        drop(store);
        let store = open(&disk).store;
        accept(&store, 3, b"z").await;
        let after = all_events(&store, 1);
        assert_eq!(after.len(), 153);
        assert_eq!(after[..150], before[..]);
        assert_eq!(all_events(&store, 77)[..], after[76..]);
        assert_eq!(all_events(&store, 152)[..], after[151..]);
    });
}

#[test]
fn a_damaged_body_costs_only_its_message() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let a = accept(&store, 1, b"AAAAAAAAAAAAAAAA").await;
        let b = accept(&store, 1, b"BBBBBBBBBBBBBBBB").await;
        store.close().await.unwrap();
        drop(store);
        let path = segment_of(&disk, 1);
        let bytes = contents(&disk, &path);
        let at = bytes.windows(4).position(|w| w == b"AAAA").unwrap();
        disk.damage(&path, at as u64 + 3, 0x40);
        let store = open(&disk).store;
        assert!(matches!(store.load(a), Err(LoadError::Damaged(..))));
        assert_eq!(&store.load(b).unwrap().body[..], b"BBBBBBBBBBBBBBBB");
        end(&store, a, 0).await.unwrap();
    });
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = SimDisk::new();
    drop(open(&disk));
    let path = segment_of(&disk, 1);
    let file = disk.open(&path).unwrap();
    let mut head = vec![0; 76];
    file.read_exact_at(&mut head, 0).unwrap();
    head[8] = 9;
    let crc = crc32c::crc32c(&head[..72]);
    head[72..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&head, 0).unwrap();
    let refused = Store::open(Arc::new(disk.clone()), Path::new("spool"), &options());
    assert!(matches!(refused, Err(StoreError::Newer { found: 9, known: 1, .. })), "{refused:?}");
}

#[test]
fn what_is_too_large_or_unfit_is_refused_before_it_is_accepted() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let id = store.next_message_id();
        let large = message(id, 1, &vec![b'x'; 64 << 20]);
        assert!(matches!(store.accept(large, Events::new()).await, Err(StoreError::TooLarge { .. })));
        assert!(matches!(store.accept(message(id, 0, b""), Events::new()).await, Err(StoreError::Unfit(..))));
        let larger_than_a_segment = message(id, 1, &vec![b'x'; 3 << 20]);
        store.accept(larger_than_a_segment.clone(), Events::new()).await.unwrap();
        assert!(matches!(store.accept(larger_than_a_segment, Events::new()).await, Err(StoreError::AlreadyStored(_))));
        accept(&store, 1, b"after").await;
        drop(store);
        let store = open(&disk).store;
        assert_eq!(store.load(id).unwrap().body.len(), 3 << 20);
    });
}

fn segment_of(disk: &SimDisk, number: u64) -> PathBuf {
    let path = journal::segment::path(Path::new("spool/journal"), number);
    assert!(disk.files().iter().any(|f| f.0 == path));
    path
}

fn contents(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
