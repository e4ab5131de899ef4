//! How long an `address-file` of any length takes to read, what it takes of memory and disk, and how fast it is asked.
//!
//! `cargo run --release --example address_file -- 100000000 /var/tmp/carom-list`: writes so many made-up addresses into
//! `list.txt` of that folder (unless it is there), reads them as a server does, opens the index as the next start does,
//! and looks up addresses that are in it and such that are not. The folder is left for another run: delete it after that.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: an example writes files and measures")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carom::event::AddressKey;
use carom::suppress::Hasher;
use carom::suppress::address_file::build::SMALL;
use carom::suppress::address_file::{Index, build, identity};

fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    n ^ (n >> 29)
}

fn address(n: u64) -> String {
    format!("user{:x}@provider{}.example", n, mixed(n) % 5000)
}

fn write(path: &Path, lines: u64) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for n in 0..lines {
        // In no order that sorting could profit from.
        writeln!(file, "{}", address(mixed(n)))?;
    }
    file.flush()
}

/// A line of /proc/self/status, in MiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn look_up(what: &str, index: &Index, addresses: impl Iterator<Item = String>, there: bool) {
    let hasher = Hasher::default();
    let mut times: Vec<Duration> = Vec::new();
    for address in addresses {
        let key = AddressKey::of(&address);
        let begun = Instant::now();
        let found = index.has(&key, &hasher).expect("the index can be read");
        times.push(begun.elapsed());
        assert_eq!(found, there, "{address}");
    }
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000];
    println!("{what}: median {:?}, 99 % {:?}, 99.9 % {:?} of {}", at(500), at(990), at(999), times.len());
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let lines: u64 = args.next().ok_or("how many lines?")?.parse()?;
    let folder = PathBuf::from(args.next().ok_or("in which folder?")?);
    let (list, target) = (folder.join("list.txt"), folder.join("list.idx"));
    fs::create_dir_all(&folder)?;
    if !list.exists() {
        let begun = Instant::now();
        write(&list, lines)?;
        println!("written in {:?}", begun.elapsed());
    }
    println!("{lines} lines, {} MiB", fs::metadata(&list)?.len() >> 20);

    let begun = Instant::now();
    let (index, of) = build(&list, &target, SMALL, &Hasher::default(), &mut |_, _| true)?;
    let facts = &index.facts;
    println!("read in {:?}: {} entries, {} bad lines", begun.elapsed(), facts.entries, facts.bad);
    println!("peak resident memory {} MiB, of it kept {} MiB", memory("VmHWM:"), index.memory() >> 20);
    println!("index of {} MiB", fs::metadata(&target).map_or(0, |m| m.len()) >> 20);
    drop(index);

    let begun = Instant::now();
    assert_eq!(identity(&list)?, of);
    let index = Index::open(&target, Some(&of), &Hasher::default())?;
    println!("opened again in {:?}", begun.elapsed());
    const ASKED: u64 = 1_000_000;
    look_up("absent", &index, (0..ASKED).map(|n| format!("nobody{n}@provider{}.example", n % 5000)), false);
    look_up("present", &index, (0..ASKED).map(|n| address(mixed(mixed(n ^ 77) % lines))), true);
    Ok(())
}
