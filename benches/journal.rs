//! What the store costs on the machine's own disk: `cargo bench --bench journal [-- FOLDER]`.
//!
//! Prints rates (they depend on the disk), processor time per message (user and system, all threads, making the message
//! included), resident memory with a million queued messages, and how long it takes to open them again. The folder (default:
//! the target folder's file system) should lie on the file system in question, not in memory.
#![expect(clippy::disallowed_methods, reason = "edge: measures the clock, the process and the disk")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use carom::disk::RealDisk;
use carom::event::{Event, Events, Kind, MessageId, SourceType, Stage, Time};
use carom::store::message::OwnMail;
use carom::store::{Envelope, Finish, Message, Options, Recipient, Store};

const BODY: usize = 4608;

fn message(id: MessageId, body: &Bytes) -> Arc<Message> {
    let (now, message_id) = (Time::from_secs(1_700_000_000), "20261121.4f2c61a02b9d7788@news.example.com");
    let own = OwnMail { id, now, host: "app3.example.com", message_id, eight_bit: false, to: &[] };
    let (mail, _) = Message::own(own, body.clone());
    let envelope = Envelope {
        orig: "bounce+4f2c61a02b9d@news.example.com".into(),
        env_id: "campaign-2026-11-21/seg-7".into(),
        job: "campaign-2026-11-21".into(),
        vmta: "pool-a-17".into(),
        pool: "pool-a".into(),
        src_type: SourceType::Smtp,
        src_ip: Some([192, 0, 2, 7].into()),
        user: "marketing".into(),
        no_dsn: false,
        rcpts: vec![Recipient { address: "someone.longer@example.net".into(), orcpt: "".into(), notify: 0 }],
        ..mail.envelope
    };
    Arc::new(Message { envelope, body: mail.body })
}

fn events(kind: Kind, message: &Message) -> Events {
    let mut events = Events::new();
    let e = &message.envelope;
    events.push(&Event {
        message: e.id,
        attempt: 1,
        stage: Some(Stage::Eod),
        time_queued: e.time_queued,
        orig: &e.orig,
        rcpt: &e.rcpts[0].address,
        diag: "smtp;250 2.0.0 Ok: queued as 4F2C61A02B",
        mta: "mx1.example.net",
        mta_ip: Some([198, 51, 100, 9].into()),
        src_mta: &e.src_mta,
        src_ip: e.src_ip,
        vmta: &e.vmta,
        job: &e.job,
        env_id: &e.env_id,
        queue: "example.net/pool-a-17",
        dlv_esmtp: "SIZE,PIPELINING,8BITMIME,STARTTLS,ENHANCEDSTATUSCODES",
        ..Event::new(kind, Time::from_secs(1_700_000_100))
    });
    events
}

/// User and system time of the process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn report(what: &str, messages: u64, since: Instant, used: Duration) {
    let took = since.elapsed();
    println!(
        "{what}: {:.0} messages/s, {:.1} us CPU a message ({messages} in {took:.1?})",
        messages as f64 / took.as_secs_f64(),
        (cpu() - used).as_secs_f64() * 1e6 / messages as f64
    );
}

fn open(dir: &Path, cache: usize) -> Store {
    let options = Options {
        cache_bytes: cache,
        retention_bytes: 256 << 20,
        retention: Duration::from_secs(60),
        reserve_bytes: 0,
        ..Options::default()
    };
    Store::open(Arc::new(RealDisk), dir, &options).expect("the store opens").store
}

/// `tasks` producers, each with `outstanding` accepts under way; returns the ids.
async fn accept(store: &Store, total: u64, tasks: u64, outstanding: u64, body: &Bytes) -> Vec<MessageId> {
    let left = Arc::new(AtomicU64::new(total));
    let mut running = Vec::new();
    for _ in 0..tasks * outstanding {
        let (store, left, body) = (store.clone(), left.clone(), body.clone());
        running.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let m = message(store.next_message_id(), &body);
                ids.push(m.envelope.id);
                let received = events(Kind::Received, &m);
                store.accept(m, received).await.expect("accepted");
            }
            ids
        }));
    }
    let mut all = Vec::new();
    for task in running {
        all.extend(task.await.expect("no panic"));
    }
    all
}

/// As [`accept`], and each message is loaded and finished as soon as it is in.
async fn cycle(store: &Store, total: u64, tasks: u64, body: &Bytes) {
    let left = Arc::new(AtomicU64::new(total));
    let mut running = Vec::new();
    for _ in 0..tasks {
        let (store, left, body) = (store.clone(), left.clone(), body.clone());
        running.push(tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let m = message(store.next_message_id(), &body);
                let id = m.envelope.id;
                let received = events(Kind::Received, &m);
                store.accept(m, received).await.expect("accepted");
                let loaded = store.load(id).expect("loaded");
                let mut finish = Finish::new();
                finish.recipient(id, 0).events(&events(Kind::Delivered, &loaded));
                store.finish(finish).await.expect("finished");
            }
        }));
    }
    for task in running {
        task.await.expect("no panic");
    }
    store.flush().await.expect("durable");
}

async fn consume(store: Store, end: u64) -> u64 {
    let mut reader = store.ledger().reader(1).expect("a reader");
    let mut bytes = 0;
    while reader.position() < end {
        store.ledger().hold("bench", reader.position());
        match reader.next(4096).expect("events") {
            Some(chunk) => {
                bytes += chunk.batches().flat_map(|b| b.iter()).filter(|e| e.is_ok()).count() as u64;
            }
            None => {
                store.ledger().wait_past(reader.position()).await;
            }
        }
    }
    bytes
}

fn main() {
    let folder = std::env::args().nth(1).filter(|a| !a.starts_with('-')).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("carom-journal-bench-{}", std::process::id()));
    let scale: u64 = std::env::var("CAROM_BENCH_SCALE").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let body = Bytes::from(vec![b'x'; BODY]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        {
            let used = cpu();
            let since = Instant::now();
            let n = 200_000 / scale;
            for _ in 0..n {
                let m = message(MessageId(1), &body);
                std::hint::black_box((events(Kind::Received, &m), events(Kind::Delivered, &m)));
            }
            report("harness alone (message and two events)", n, since, used);
        }
        for (name, tasks, outstanding, total) in
            [("accept, 32 x 64 outstanding", 32, 64, 200_000), ("accept, 32 x 1 outstanding", 32, 1, 10_000)]
        {
            let dir = folder.join(name.replace(' ', "-"));
            let store = open(&dir, 64 << 20);
            let (used, since) = (cpu(), Instant::now());
            accept(&store, total / scale, tasks, outstanding, &body).await;
            report(name, total / scale, since, used);
            drop(store);
            let _ = std::fs::remove_dir_all(&dir);
        }
        {
            let dir = folder.join("cycle");
            let store = open(&dir, 64 << 20);
            let total = 200_000 / scale;
            let consumer = tokio::spawn(consume(store.clone(), 2 * total + 1));
            let (used, since) = (cpu(), Instant::now());
            cycle(&store, total, 2048, &body).await;
            let seen = consumer.await.expect("no panic");
            report("cycle: accept, load, finish, read both events", total, since, used);
            assert_eq!(seen, 2 * total);
            println!("  journal: {:?}", store.usage());
            drop(store);
            let _ = std::fs::remove_dir_all(&dir);
        }
        {
            let dir = folder.join("million");
            let store = open(&dir, 0);
            let total = 1_000_000 / scale;
            let before = resident();
            // Content of a usual size would only measure the disk; what is kept in memory does not depend on it.
            accept(&store, total, 32, 64, &body.slice(..600)).await;
            store.close().await.expect("closed");
            println!("{total} queued: {:.1} MB resident more than before", (resident() - before) as f64 / 1e6);
            drop(store);
            let before = resident();
            let since = Instant::now();
            let store = open(&dir, 0);
            println!(
                "open with {total} queued: {:.2?}; {:.0} bytes a message resident",
                since.elapsed(),
                resident().saturating_sub(before) as f64 / total as f64
            );
            let since = Instant::now();
            let mut n = 0u64;
            store.for_each_queued(&mut |_, _| n += 1).expect("readable");
            println!("for_each_queued: {n} envelopes in {:.2?}", since.elapsed());
        }
    });
    let _ = std::fs::remove_dir_all(&folder);
}
