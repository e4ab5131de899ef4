//! The whole server killed under load, again and again: whatever the moment, every acknowledged recipient ends with
//! exactly one terminal event over all files, no sequence number is lost or doubled, and no unfinished file stays.
//!
//! SIGKILL at random moments, and at named steps of the disk (`carom run --kill-at`). `CAROM_ROUNDS` sets the number
//! of kills (default 24). What SIGKILL can't show, the page cache surviving it, the power-cut tests show.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

mod crash {
    pub mod books;
    pub mod peers;
    pub mod server;
}

use std::time::Duration;

use crash::books::Books;
use crash::peers::{Load, Sink};
use crash::server::Server;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Kills in one folder before it is drained and its books are checked.
const KILLS_A_FOLDER: u32 = 4;

fn rounds() -> u32 {
    std::env::var("CAROM_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(24)
}

/// One folder: load and kill `steps.len()` times, then drain, stop in order and compare the books.
fn torture(seed: u64, steps: &[Option<String>]) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let server_conf = Server::write_config(dir.path(), sink.port());
    let load = Load::new();
    for step in steps {
        let mut server = Server::start(dir.path(), &server_conf, step.as_deref());
        let clients = load.run(server.smtp_port(), 8);
        match step {
            // It kills itself at the named step; if the step is not reached in time it is killed from outside.
            Some(_) => server.wait_dead_or_kill(Duration::from_secs(5)),
            None => {
                std::thread::sleep(Duration::from_millis(rng.random_range(60..900)));
                server.kill();
            }
        }
        clients.stop();
    }
    let mut server = Server::start(dir.path(), &server_conf, None);
    server.wait_drained(Duration::from_secs(60));
    server.terminate();
    let books = Books::read(dir.path());
    books.check(&load.acknowledged(), &sink, seed);
    assert!(load.acknowledged().len() > 20, "seed {seed}: the load did not come through");
}

#[test]
fn killed_at_random_moments_nothing_is_lost_or_doubled() {
    for folder in 0..rounds().div_ceil(2).div_ceil(KILLS_A_FOLDER) {
        torture(u64::from(folder) + 1, &vec![None; KILLS_A_FOLDER as usize]);
    }
}

#[test]
fn killed_at_each_named_step_of_the_files_nothing_is_lost_or_doubled() {
    // What happens in the life of journal, tables, CSV and Parquet files; the number counts the steps of this name.
    let names = [
        "before-rename:acct",
        "after-rename:acct",
        "before-sync-dir:acct",
        "after-sync-dir:acct",
        "before-create:acct",
        "after-create:acct",
        "before-sync:acct",
        "after-sync:acct",
        "before-write:acct",
        "before-sync:tables",
        "after-sync:tables",
        "before-sync:journal",
        "after-sync:journal",
        "after-write:journal",
        "before-create:journal",
        "after-create:journal",
    ];
    let mut rng = StdRng::seed_from_u64(99);
    let wanted = rounds().div_ceil(2);
    let mut steps: Vec<Option<String>> =
        (0..wanted).map(|i| Some(format!("{}:{}", names[i as usize % names.len()], rng.random_range(1..6)))).collect();
    let mut seed = 1000;
    while !steps.is_empty() {
        let rest = steps.split_off(steps.len().min(KILLS_A_FOLDER as usize));
        torture(seed, &steps);
        steps = rest;
        seed += 1;
    }
}
