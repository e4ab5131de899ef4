//! The suppression list at its size: what bringing in very many addresses, a start, look-ups and additions cost; and how
//! fast the consumer that adds to it reads the ledger.
//!
//! `cargo bench --bench suppress -- 100 /var/tmp/carom-bench` measures with 100 million addresses in that folder (which takes
//! 10 GB of disk at most and is removed at the end); without arguments with one million. Each part is a process of its own,
//! so that the memory it names is its own: `load`, `serve`, `add`, `undo`, in this order, and `consume`.
#![expect(clippy::disallowed_methods, reason = "edge: a bench measures time and files")]
#![expect(clippy::disallowed_types, reason = "edge: a bench runs its parts")]

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use carom::accounting::feedback;
use carom::classify::RuleSet;
use carom::config::{Live, parse_str};
use carom::disk::RealDisk;
use carom::event::{Event, EventId, Events, Kind, MessageId, Scope, Time};
use carom::store::{Options, Store};
use carom::suppress::book::{self, Change};
use carom::suppress::bulk::{self, Batch, Import, Row};
use carom::suppress::{Entry, Mail, Suppression};

const NOW: Time = Time::from_secs(1_800_000_000);
/// Events that the consumer reads, of each kind.
const EVENTS: u64 = 100_000;
/// Entries in one transaction, as the consumer has at most.
const BATCH: u64 = 10_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let millions: f64 = args.first().map_or(1.0, |n| n.parse().expect("how many millions of addresses"));
    let count = (millions * 1e6) as u64;
    match (args.get(1), args.get(2).map(String::as_str)) {
        (Some(dir), Some("load")) => load(Path::new(dir), count),
        (Some(dir), Some("serve")) => serve(Path::new(dir), count),
        (Some(dir), Some("add")) => add(Path::new(dir), count),
        (Some(dir), Some("undo")) => undo(Path::new(dir)),
        (Some(dir), Some("consume")) => consume(Path::new(dir)),
        (dir, _) => {
            let dir = tempfile::tempdir_in(dir.map_or(std::env::temp_dir(), |dir| dir.into())).unwrap();
            let me = std::env::current_exe().unwrap();
            for part in ["load", "serve", "add", "undo", "consume"] {
                let run = Command::new(&me).arg(millions.to_string()).arg(dir.path()).arg(part).status();
                assert!(run.unwrap().success(), "{part}");
            }
        }
    }
}

fn address(n: u64) -> String {
    format!("user{n:08}@mail{:03}.example", n % 500)
}

fn open(dir: &Path) -> Store {
    Store::open(Arc::new(RealDisk), dir, &Options::default()).unwrap().store
}

/// Memory of this process in MB: resident now, and at its highest.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let of = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.blocks() * 512);
    let work = std::fs::read_dir(dir.join("suppress-work")).into_iter().flatten().flatten();
    of(&dir.join("suppress.redb")) + work.map(|file| of(&file.path())).sum::<u64>()
}

fn load(dir: &Path, count: u64) {
    let store = open(dir);
    let list = Suppression::open(&store).unwrap();
    let began = Instant::now();
    let batch = Batch {
        name: "bench".into(),
        who: "bench".into(),
        why: "".into(),
        scope: Scope::global(),
        rule: "import".into(),
        expires: Time::UNKNOWN,
        now: NOW,
        hashed_only: false,
    };
    let mut import = Import::begin(&store, &list, batch).unwrap();
    for n in 0..count {
        import.add(&address(n), &Row::default()).unwrap();
    }
    let read = began.elapsed();
    println!("load: read {count} addresses in {:.1} s; {:.1} GB of work files", read.as_secs_f64(), gb(disk(dir)));
    let (mut most_disk, mut next) = (0, 0);
    let done = import
        .finish(&mut |progress| {
            most_disk = most_disk.max(disk(dir));
            if progress.done >= next {
                let rss = memory().0;
                println!("  {:>10} rows, {:.1} s, {rss} MB", progress.done, began.elapsed().as_secs_f64());
                next += count / 10;
            }
        })
        .unwrap();
    assert_eq!(done.entered, count);
    let all = began.elapsed();
    let (rss, peak) = memory();
    println!(
        "load: {count} entered in {:.1} s ({:.0}/s); resident {rss} MB, at most {peak} MB; disk at most {:.1} GB, \
         then {:.1} GB, {:.1} bytes an entry; filters {:.1} MB",
        all.as_secs_f64(),
        count as f64 / all.as_secs_f64(),
        gb(most_disk),
        gb(disk(dir)),
        disk(dir) as f64 / count as f64,
        list.filter_bytes() as f64 / 1e6,
    );
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn serve(dir: &Path, count: u64) {
    let began = Instant::now();
    let store = open(dir);
    let opened = began.elapsed();
    let list = Suppression::open(&store).unwrap();
    let loaded = began.elapsed() - opened;
    assert_eq!(list.len() as u64, count);
    println!(
        "start: store {:.0} ms, list {:.0} ms; resident {} MB, at most {} MB",
        opened.as_secs_f64() * 1e3,
        loaded.as_secs_f64() * 1e3,
        memory().0,
        memory().1,
    );
    let mail = Mail { sender_domain: "sender.example", source: "news", job: "spring", ..Mail::default() };
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
    let absent: Vec<String> = (0..1_000_000).map(|n| address(count + spread(n))).collect();
    let present: Vec<String> = (0..200_000).map(|n| address(spread(n))).collect();
    let fifth: Vec<String> = (0..200_000).map(|n| address(spread(n % 2_000))).collect();
    for (name, addresses, found) in [
        ("absent", &absent, false),
        ("absent again", &absent, false),
        ("present, all different", &present, true),
        ("present, 2000 different", &fifth, true),
    ] {
        let mut times = Vec::with_capacity(addresses.len());
        let all = Instant::now();
        for address in addresses {
            let one = Instant::now();
            let is = black_box(list.check(black_box(address), &mail, NOW)).is_some();
            times.push(one.elapsed());
            assert_eq!(is, found, "{address}");
        }
        report(name, &mut times, all.elapsed());
    }
    println!("serve: resident {} MB, at most {} MB", memory().0, memory().1);
}

fn report(name: &str, times: &mut [Duration], all: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos();
    println!(
        "look-up, {name}: median {} ns, 99 % {} ns, 99.9 % {} ns, slowest {} us; {:.0}/s",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0) / 1000,
        times.len() as f64 / all.as_secs_f64(),
    );
}

fn add(dir: &Path, count: u64) {
    let store = open(dir);
    let list = Suppression::open(&store).unwrap();
    let most = (count / 10).clamp(2 * BATCH, 1_000_000) / BATCH;
    let (began, mut slowest, mut added) = (Instant::now(), Duration::ZERO, 0);
    for batch in 0..most {
        let one = Instant::now();
        let entries: Vec<(carom::suppress::Key, Entry)> = (0..BATCH)
            .map(|n| {
                let subject = address(2 * count + batch * BATCH + n);
                let key = list.hasher().subject(&subject).in_scope(&Scope::global());
                let entry = Entry {
                    rule: "hard".into(),
                    by: EventId { store: store.id(), seq: batch * BATCH + n + 1 },
                    time: NOW,
                    subject: subject.into(),
                    provider: "mailbox-provider".into(),
                    category: "bad-mailbox".into(),
                    reply: "550 5.1.1 The email account that you tried to reach does not exist.".into(),
                    ..Entry::default()
                };
                list.apply(&key, &entry);
                (key, entry)
            })
            .collect();
        store
            .suppression()
            .write(|tx| {
                entries.iter().try_for_each(|(key, entry)| {
                    book::put(tx, key, entry, (Change::Enter, entry.time), (&entry.rule, &entry.reply))
                })
            })
            .unwrap();
        added += BATCH;
        slowest = slowest.max(one.elapsed());
        if began.elapsed() > Duration::from_secs(90) {
            break;
        }
    }
    let spent = began.elapsed();
    println!(
        "additions: {added} in transactions of {BATCH} in {:.1} s, {:.0}/s; slowest transaction {:.0} ms; resident {} MB, \
         at most {} MB; disk {:.1} GB",
        spent.as_secs_f64(),
        added as f64 / spent.as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
        memory().0,
        memory().1,
        gb(disk(dir)),
    );
    let again = Instant::now();
    let reopened = Suppression::open(&store).unwrap();
    assert_eq!(reopened.len() as u64, count + added);
    println!("start with what is fresh: list {:.0} ms", again.elapsed().as_secs_f64() * 1e3);
}

fn undo(dir: &Path) {
    let store = open(dir);
    let list = Suppression::open(&store).unwrap();
    let began = Instant::now();
    let removed = bulk::undo(&store, &list, 1, ("bench", "over"), NOW, &mut |_| {}).unwrap();
    println!(
        "undo: {removed} taken back in {:.1} s; resident {} MB, at most {} MB",
        began.elapsed().as_secs_f64(),
        memory().0,
        memory().1
    );
}

/// How fast the consumer goes through events of one kind, with a rule for each kind of failure it may see.
fn consume(dir: &Path) {
    let rules = Arc::new(RuleSet::builtin());
    let text = "spool s\n<auto-suppression>\nrule hard category bad-mailbox after 1\n\
                rule full category quota-issues after 5 within 30d\nbreaker-min 1000000\n</auto-suppression>\n";
    let config: Live = Arc::new(ArcSwap::from_pointee(parse_str("bench", text).config.unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (what, kind, diag) in [
        ("d", Kind::Delivered, ""),
        ("t without a rule", Kind::Transient, "smtp;451 4.7.1 Greylisted, try later"),
        ("t over quota", Kind::Transient, "smtp;452 4.2.2 over quota"),
        ("b spam", Kind::Bounced, "smtp;554 5.7.1 Message rejected as spam"),
        ("b dead", Kind::Bounced, "smtp;550 5.1.1 User unknown"),
    ] {
        let dir = dir.join("consume");
        let store = open(&dir);
        store.set_rules(rules.id());
        runtime.block_on(async {
            for first in (0..EVENTS).step_by(1000) {
                let mut events = Events::new();
                for n in first..first + 1000 {
                    let rcpt = format!("user{n}@example{}.net", n % 50);
                    let time = Time::from_secs(NOW.secs() + n as i64 / 1000);
                    events.push(&Event { rcpt: &rcpt, diag, message: MessageId(n + 1), ..Event::new(kind, time) });
                }
                store.append(events).await.unwrap();
            }
            store.flush().await.unwrap();
        });
        let list = Suppression::new();
        let opened = feedback::open_with(&store, &list, rules.clone().into(), config.clone(), Box::new(drop));
        let (mut consumer, _) = opened.unwrap();
        let began = Instant::now();
        consumer.catch_up().unwrap();
        let speed = EVENTS as f64 / began.elapsed().as_secs_f64();
        println!("consume {what}: {speed:.0} events/s; {} on the list", list.len());
        assert_eq!(list.len() as u64, if what == "b dead" { EVENTS } else { 0 }, "{what}");
        drop((consumer, store));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
