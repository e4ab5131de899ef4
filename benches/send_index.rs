//! What it costs to be able to tie a report to its send: minting and checking the tokens, and, for each recipient that was
//! delivered to, the rows of the send index (processor time and bytes on disk, printed before the Criterion figures).
#![expect(clippy::disallowed_methods, reason = "edge: a bench measures time and files")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use carom::disk::RealDisk;
use carom::event::return_path::{self, TokenKeys};
use carom::event::send_entry::{env_id_key, token_key};
use carom::event::{Event, Kind, MessageId, SendEntry, StoreId, Time, TokenKey, header_token};
use carom::store::{Options, Store};
use criterion::{Criterion, criterion_group, criterion_main};

/// Sends entered in one transaction, as the consumer does under load.
const BATCH: u64 = 8192;
const SENDS: u64 = 24 * BATCH;

fn enter(store: &Store, from: u64, with_env_id: bool) {
    store
        .tables()
        .write(|tx| {
            for n in from..from + BATCH {
                let (rcpt, env_id) = (format!("recipient{n}@mailbox{}.example", n % 500), format!("spring-{n}"));
                let event = Event {
                    message: MessageId(n),
                    seq: 3 * n,
                    time_queued: Time::from_secs(1_700_000_000 + n as i64 / 100),
                    orig: "newsletter@sender.example",
                    rcpt: &rcpt,
                    job: "spring-2026-03",
                    vmta: "vmta-17",
                    pool: "pool-a",
                    env_id: if with_env_id { &env_id } else { "" },
                    ..Event::new(Kind::Delivered, Time::from_secs(1_700_000_000 + n as i64 / 100))
                };
                let entry = SendEntry::of(&event).encode();
                let (name, index) = token_key(event.message, 0);
                let (message_id, env_id) = (format!("{n:x}.5f3c.{n}@sender.example"), env_id_key(&env_id));
                let further = [(&*message_id, &*rcpt), (&*env_id, &*rcpt)];
                tx.put_send((&name, &index), &further[..1 + usize::from(with_env_id)], &entry, event.time)?;
            }
            Ok(())
        })
        .unwrap();
}

fn index(c: &mut Criterion) {
    for with_env_id in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(RealDisk), dir.path(), &Options::default()).unwrap().store;
        let file = dir.path().join("tables.redb");
        let (before, began) = (std::fs::metadata(&file).unwrap().len(), Instant::now());
        for batch in 0..SENDS / BATCH {
            enter(&store, 1 + batch * BATCH, with_env_id);
        }
        let (spent, grown) = (began.elapsed(), std::fs::metadata(&file).unwrap().len() - before);
        println!(
            "send index, {SENDS} sends {} ENVID: {:.1} us and {} bytes of file for each (time with commits to disk)",
            if with_env_id { "with" } else { "without" },
            spent.as_secs_f64() * 1e6 / SENDS as f64,
            grown / SENDS,
        );
        if !with_env_id {
            let mut n = 0;
            c.bench_function("send index: look up by Message-ID and recipient", |b| {
                b.iter(|| {
                    n = n % SENDS + 1;
                    let (id, rcpt) =
                        (format!("{n:x}.5f3c.{n}@sender.example"), format!("recipient{n}@mailbox{}.example", n % 500));
                    assert!(store.tables().find_send(&id, Some(&rcpt)).unwrap().is_some());
                })
            });
        }
        drop(store);
    }
}

fn tokens(c: &mut Criterion) {
    let keys = [TokenKey { id: "k1".into(), secret: b"0123456789abcdef0123456789abcdef".to_vec(), until: None }];
    let (store, now) = (StoreId(7), Time(1));
    let path = TokenKeys { domain: "bounce.sender.example", keys: &keys, now };
    let address = return_path::mint(path, store, MessageId(5), 0).unwrap();
    c.bench_function("return path: mint", |b| b.iter(|| return_path::mint(path, store, black_box(MessageId(5)), 0)));
    c.bench_function("return path: verify", |b| b.iter(|| return_path::verify(path, store, black_box(&address))));
    for (name, encrypted) in [("signed", false), ("encrypted", true)] {
        let value = header_token::mint(&keys, now, encrypted, store, (MessageId(5), 0)).unwrap();
        c.bench_function(&format!("header token, {name}: mint"), |b| {
            b.iter(|| header_token::mint(&keys, now, encrypted, store, (black_box(MessageId(5)), 0)))
        });
        c.bench_function(&format!("header token, {name}: verify"), |b| {
            b.iter(|| header_token::verify(&keys, now, store, black_box(&value)))
        });
    }
}

criterion_group!(benches, index, tokens);
criterion_main!(benches);
