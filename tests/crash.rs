//! The whole server killed under load, again and again: whatever the moment, every acknowledged recipient ends with
//! exactly one terminal event over all files, no sequence number is lost or doubled, and no unfinished file stays.
//!
//! SIGKILL at random moments, and at named steps of the disk (`carom run --kill-at`). `CAROM_ROUNDS` sets the number
//! of kills (default 24). Everything is also told to a webhook, at least once. What SIGKILL can't show, the page cache surviving it, the power-cut tests show.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

mod books;
mod peers;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use carom::disk::RealDisk;
use carom::store::{Envelope, Options, RcptState, Store};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::push::endpoint::{Answer, Endpoint};
use books::Books;
use peers::{Load, Sink};
use server::{Clock, Server, store_command};

/// Kills in one folder before it is drained and its books are checked.
const KILLS_A_FOLDER: u32 = 4;

fn rounds() -> u32 {
    std::env::var("CAROM_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(24)
}

/// How often each step was asked for, and how often the server died there by itself.
type Reached = BTreeMap<String, (u32, u32)>;

/// One folder: load and kill `steps.len()` times, then drain, stop in order and compare the books.
fn torture(seed: u64, steps: &[Option<String>], reached: &mut Reached) {
    torture_in(&tempfile::tempdir().unwrap(), seed, steps, reached, None);
}

/// With a clock: it is put back while the server runs, and once more before the next start.
fn torture_in(
    dir: &tempfile::TempDir,
    seed: u64,
    steps: &[Option<String>],
    reached: &mut Reached,
    clock: Option<&Clock>,
) {
    const HOUR: i64 = 3600;
    let mut rng = StdRng::seed_from_u64(seed);
    let (sink, endpoint) = (Sink::start(), Endpoint::start(|_| Answer::Status(204)));
    let server_conf = Server::write_config(dir.path(), sink.port(), &endpoint.url());
    let load = Load::new();
    for (round, step) in steps.iter().enumerate() {
        let hours = (steps.len() - round) as i64 * 5;
        let put = |hours: i64| clock.iter().for_each(|c| c.set(hours * HOUR));
        put(hours);
        let mut server = Server::start_at(dir.path(), &server_conf, step.as_deref(), clock);
        let clients = load.run(server.smtp_port(), 8);
        if clock.is_some() {
            std::thread::sleep(Duration::from_millis(rng.random_range(300..900)));
            put(hours - 2);
        }
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
            server.reload_with(round);
        }
        match step {
            // It kills itself at the named step; not reached in time (an unoptimized server on a busy machine takes
            // seconds to begin its files), it is killed from outside.
            Some(step) => {
                let died = server.wait_dead_or_kill(Duration::from_secs(20));
                let name = step.rsplit_once(':').unwrap().0.to_owned();
                let count = reached.entry(name).or_default();
                *count = (count.0 + 1, count.1 + u32::from(died));
            }
            None => {
                std::thread::sleep(Duration::from_millis(rng.random_range(60..900)));
                server.kill();
            }
        }
        clients.stop();
    }
    // Whatever was put off by a later clock is due.
    clock.iter().for_each(|c| c.set((steps.len() as i64 + 1) * 5 * HOUR));
    let mut server = Server::start_at(dir.path(), &server_conf, None, clock);
    // Steps may all have come before the first mail.
    while load.acknowledged().len() <= 40 {
        let clients = load.run(server.smtp_port(), 8);
        std::thread::sleep(Duration::from_millis(200));
        clients.stop();
    }
    server.wait_drained(Duration::from_secs(60));
    server.wait_told(Duration::from_secs(30));
    server.terminate();
    let mut books = Books::read(dir.path(), &endpoint);
    books.check_suppressed(dir.path());
    books.check(&load.acknowledged(), &sink, seed);
    let bounced = books.some_bounced().expect("some recipients are refused");
    let mut server = Server::start(dir.path(), &server_conf, None);
    let answer = server.answer_to_recipient(&format!("u{bounced}@bulk.example"));
    assert!(answer.starts_with("550"), "new mail for a suppressed address: {answer}");
    server.terminate();
}

#[test]
fn killed_at_random_moments_nothing_is_lost_or_doubled() {
    for folder in 0..rounds().div_ceil(2).div_ceil(KILLS_A_FOLDER) {
        torture(u64::from(folder) + 1, &vec![None; KILLS_A_FOLDER as usize], &mut Reached::new());
    }
}

#[test]
fn killed_while_the_clock_is_put_back_again_and_again_nothing_is_lost_or_doubled() {
    for folder in 0..rounds().div_ceil(24) {
        let dir = tempfile::tempdir().unwrap();
        let Some(clock) = Clock::new(dir.path()) else { return };
        let steps = [None, Some("after-rename:.parquet:2".to_owned()), Some("before-sync:.csv:3".to_owned())];
        torture_in(&dir, 5000 + u64::from(folder), &steps, &mut Reached::new(), Some(&clock));
    }
}

#[test]
fn killed_at_each_named_step_of_the_files_nothing_is_lost_or_doubled() {
    // What happens in the life of journal, tables, CSV and Parquet files, and up to which occurrence it is waited for:
    // a step that a server under load does not reach within seconds would test nothing.
    let names = [
        ("before-rename:.parquet", 5),
        ("after-rename:.parquet", 5),
        ("before-sync-dir:acct/date", 5),
        ("after-sync-dir:acct/date", 5),
        ("before-create:.parquet", 5),
        ("after-create:.parquet", 5),
        ("before-sync:.parquet", 5),
        ("after-sync:.parquet", 5),
        ("before-write:.parquet", 5),
        ("before-create:acct/growing", 2),
        ("after-create:.csv", 2),
        ("before-write:.csv", 20),
        ("after-write:.csv", 20),
        ("before-sync:.csv", 8),
        ("after-sync:.csv", 8),
        ("before-rename:acct/moved", 3),
        ("after-rename:acct/moved", 3),
        ("before-sync-dir:acct/moved", 3),
        ("after-sync-dir:acct/moved", 3),
        ("after-sync-dir:acct/growing", 3),
        ("before-write:tables", 40),
        ("before-sync:tables", 20),
        ("after-sync:tables", 20),
        ("before-write:journal", 60),
        ("after-write:journal", 60),
        ("before-sync:journal", 60),
        ("after-sync:journal", 60),
        ("before-create:journal", 2),
        ("after-create:journal", 2),
        ("before-rename:journal", 1),
        ("after-rename:journal", 1),
        ("before-sync-dir:journal", 1),
        ("after-sync-dir:journal", 1),
    ];
    let mut rng = StdRng::seed_from_u64(99);
    let wanted = rounds().div_ceil(2);
    let mut order: Vec<_> = (0..wanted as usize).map(|i| names[i % names.len()]).collect();
    // Steps of all kinds in one folder.
    order.shuffle(&mut rng);
    let steps: Vec<Option<String>> =
        order.iter().map(|(name, most)| Some(format!("{name}:{}", rng.random_range(1..=*most)))).collect();
    let mut reached = Reached::new();
    for (folder, steps) in steps.chunks(KILLS_A_FOLDER as usize).enumerate() {
        torture(1000 + folder as u64, steps, &mut reached);
    }
    let never: Vec<_> = reached.iter().filter(|(_, (asked, died))| *asked > 2 && *died == 0).collect();
    let died: u32 = reached.values().map(|r| r.1).sum();
    eprintln!("{died} of {wanted} rounds died at their step: {reached:?}");
    assert!(never.is_empty(), "steps that were never reached: {never:?}");
    assert!(died * 4 >= wanted * 3, "only {died} of {wanted} rounds died at their step: {reached:?}");
}

/// Message and index of a recipient.
type Rcpt = (u64, u16);

/// Recipients by message and index: those still queued, and how many terminal events each has in the ledger.
fn recipients(spool: &Path) -> (BTreeSet<Rcpt>, BTreeMap<Rcpt, u32>) {
    let store = Store::open(Arc::new(RealDisk), spool, &Options::default()).expect("the store opens").store;
    let mut queued = BTreeSet::new();
    let mut note = |e: &Envelope, states: &[RcptState]| queued.extend(states.iter().map(|s| (e.id.0, s.index)));
    store.for_each_queued(&mut note).expect("every envelope is read");
    let mut ended = BTreeMap::new();
    let mut reader = store.ledger().reader(store.ledger().start()).unwrap();
    while let Some(chunk) = reader.next(1000).unwrap() {
        for event in chunk.batches().flat_map(|b| b.iter().collect::<Vec<_>>()) {
            let event = event.unwrap();
            if event.kind.is_terminal() {
                *ended.entry((event.message.0, event.rcpt_index)).or_default() += 1;
            }
        }
    }
    (queued, ended)
}

#[test]
fn a_store_that_was_damaged_says_so_and_after_its_repair_every_recipient_left_ends_once() {
    let mut told = 0;
    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let (sink, endpoint) = (Sink::start(), Endpoint::start(|_| Answer::Status(204)));
        let config = Server::write_config(dir.path(), sink.port(), &endpoint.url());
        let load = Load::new();
        let mut server = Server::start(dir.path(), &config, None);
        let clients = load.run(server.smtp_port(), 8);
        while load.acknowledged().len() < 200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        clients.stop();
        let spool = dir.path().join("spool");
        assert!(store_command("verify", &spool).0, "a killed server leaves a sound store");
        let journal = spool.join("journal/0000000001.log");
        let mut bytes = std::fs::read(&journal).unwrap();
        // Not in the last tenth: damage there can't be told from what the kill has torn.
        let end = bytes.iter().rposition(|b| *b != 0).unwrap() * 9 / 10;
        for _ in 0..4 {
            bytes[rng.random_range(0..end)] ^= 1 << rng.random_range(0..8);
        }
        std::fs::write(&journal, bytes).unwrap();

        let (sound, text) = store_command("verify", &spool);
        assert!(!sound && text.contains("0000000001.log"), "seed {seed}: {text}");
        told += 1;
        let (_, text) = store_command("repair", &spool);
        assert!(text.contains("events lost"), "seed {seed}: {text}");
        let (queued, ended) = recipients(&spool);
        assert!(ended.values().all(|n| *n == 1), "seed {seed}: {ended:?}");
        assert!(queued.iter().all(|r| !ended.contains_key(r)), "seed {seed}: queued and ended");
        assert!(queued.len() + ended.len() > 150, "seed {seed}: {} {}", queued.len(), ended.len());
        let mut server = Server::start(dir.path(), &config, None);
        server.wait_drained(Duration::from_secs(60));
        server.terminate();
        let (left, after) = recipients(&spool);
        assert_eq!(left, BTreeSet::new());
        for rcpt in queued.iter().chain(ended.keys()) {
            assert_eq!(after.get(rcpt), Some(&1), "seed {seed}: {rcpt:?}");
        }
    }
    assert_eq!(told, 3);
}

/// A file system of its own under `dir`, until it is dropped; needs to be root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(dir).unwrap();
        let mut command = std::process::Command::new("mount");
        let done = command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "carom-test"]).arg(dir).output();
        done.is_ok_and(|out| out.status.success()).then(|| SmallDisk(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

/// Until a recipient is answered like this.
fn wait_for_answer(server: &Server, code: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.answer_to_recipient("u7@bulk.example");
        if answer.starts_with(code) {
            return;
        }
        let intake = server.status("intake");
        assert!(Instant::now() < end, "{answer} instead of {code}; intake: {intake}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Until so many messages have been acknowledged.
fn wait_for_load(load: &Load, messages: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    while load.acknowledged().len() < messages {
        assert!(Instant::now() < end, "{} of {messages} messages were taken in 30 s", load.acknowledged().len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_disk_refuses_mail_with_452_and_the_queue_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let Some(disk) = SmallDisk::mount(&spool, "300m") else {
        eprintln!("SKIPPED: no tmpfs can be mounted here (needs root); the simulated disk is filled in store::tests");
        return;
    };
    let (sink, endpoint) = (Sink::start(), Endpoint::start(|_| Answer::Status(204)));
    let config = Server::write_config(dir.path(), sink.port(), &endpoint.url());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("spool-min-free-space 64\n{text}")).unwrap();
    let load = Load::new();
    let mut server = Server::start(dir.path(), &config, None);
    let clients = load.run(server.smtp_port(), 8);
    wait_for_load(&load, 100);
    // Segments are reserved whole, so this leaves less than the reserve and more than nothing.
    std::fs::write(spool.join("ballast"), vec![1; 120 << 20]).unwrap();
    wait_for_answer(&server, "452");
    clients.stop();
    let taken = load.acknowledged().len();
    server.wait_drained(Duration::from_secs(30));
    assert!(server.answer_to_recipient("u7@bulk.example").starts_with("452"), "all is out, and still no new mail");
    std::fs::remove_file(spool.join("ballast")).unwrap();
    wait_for_answer(&server, "250");
    let clients = load.run(server.smtp_port(), 8);
    wait_for_load(&load, taken + 50);
    clients.stop();
    server.wait_drained(Duration::from_secs(30));
    server.wait_told(Duration::from_secs(30));
    server.terminate();
    Books::read(dir.path(), &endpoint).check(&load.acknowledged(), &sink, 0);
    drop(disk);
}

#[test]
fn a_full_disk_under_the_accounting_files_is_said_costs_no_mail_and_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let acct = dir.path().join("acct");
    let Some(disk) = SmallDisk::mount(&acct, "24m") else {
        eprintln!("SKIPPED: no tmpfs can be mounted here (needs root); the simulated disk is filled in acct_power_cut");
        return;
    };
    let (sink, endpoint) = (Sink::start(), Endpoint::start(|_| Answer::Status(204)));
    let config = Server::write_config(dir.path(), sink.port(), &endpoint.url());
    let load = Load::new();
    let mut server = Server::start(dir.path(), &config, None);
    let clients = load.run(server.smtp_port(), 8);
    wait_for_load(&load, 100);
    std::fs::write(acct.join("ballast"), vec![1; 64 << 20]).unwrap_err();
    let before = load.acknowledged().len();
    wait_for_load(&load, before + 200);
    let end = Instant::now() + Duration::from_secs(30);
    let errors = |server: &Server| {
        let outputs = server.status("outputs");
        let said = outputs.as_array().into_iter().flatten().filter_map(|o| o["error"].as_str().map(str::to_owned));
        said.filter(|e| e.contains("space")).count()
    };
    while errors(&server) == 0 {
        assert!(Instant::now() < end, "no output says that its disk is full: {}", server.status("outputs"));
        std::thread::sleep(Duration::from_millis(100));
    }
    clients.stop();
    server.wait_drained(Duration::from_secs(60));
    std::fs::remove_file(acct.join("ballast")).unwrap();
    while errors(&server) > 0 {
        assert!(Instant::now() < end + Duration::from_secs(30), "still: {}", server.status("outputs"));
        std::thread::sleep(Duration::from_millis(100));
    }
    server.wait_told(Duration::from_secs(30));
    server.terminate();
    Books::read(dir.path(), &endpoint).check(&load.acknowledged(), &sink, 0);
    drop(disk);
}
