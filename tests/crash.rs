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

use std::collections::BTreeMap;
use std::time::Duration;

use crash::books::Books;
use crash::peers::{Load, Sink};
use crash::server::Server;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Kills in one folder before it is drained and its books are checked.
const KILLS_A_FOLDER: u32 = 4;

fn rounds() -> u32 {
    std::env::var("CAROM_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(24)
}

/// How often each step was asked for, and how often the server died there by itself.
type Reached = BTreeMap<String, (u32, u32)>;

/// One folder: load and kill `steps.len()` times, then drain, stop in order and compare the books.
fn torture(seed: u64, steps: &[Option<String>], reached: &mut Reached) {
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
            Some(step) => {
                let died = server.wait_dead_or_kill(Duration::from_secs(5));
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
    let mut server = Server::start(dir.path(), &server_conf, None);
    // Steps may all have come before the first mail.
    while load.acknowledged().len() <= 40 {
        let clients = load.run(server.smtp_port(), 8);
        std::thread::sleep(Duration::from_millis(200));
        clients.stop();
    }
    server.wait_drained(Duration::from_secs(60));
    server.terminate();
    let mut books = Books::read(dir.path());
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
