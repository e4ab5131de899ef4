//! Mails read per second, by form: recognition alone, without the store.
//!
//! `cargo bench --bench report`; with `CAROM_BENCH_MAILS=FOLDER` also over all files in a folder and those below it, one
//! iteration reading each mail once, the files being in memory before. `CAROM_BENCH_ONCE=N` reads them N times without
//! Criterion and prints the rate: for a profiler, which would count Criterion's own work as well.
#![expect(clippy::disallowed_methods, reason = "reads a folder and measures")]

use std::hint::black_box;
use std::path::Path;

use carom::report::recognise;
use criterion::{Criterion, Throughput, criterion_group};

const MAILS: &[(&str, &str)] = &[
    ("dsn", include_str!("../tests/reports/mails/dsn-failed.eml")),
    ("arf", include_str!("../tests/reports/mails/arf-abuse.eml")),
    ("text", include_str!("../tests/reports/mails/exim.eml")),
    ("ordinary", include_str!("../tests/reports/mails/ordinary-quoting.eml")),
];

fn recognition(c: &mut Criterion) {
    let mut group = c.benchmark_group("recognise");
    group.throughput(Throughput::Elements(1));
    for (name, text) in MAILS {
        let mail = text.replace('\n', "\r\n");
        group.bench_function(*name, |b| b.iter(|| recognise(black_box(mail.as_bytes()))));
    }
    // A report that returns the whole mail: what stands behind the header must not cost much.
    let mut large =
        MAILS[0].1.replace("Hello Ann\n", &"Hello Ann, this line is one of many in the mail.\n".repeat(2000));
    large = large.replace('\n', "\r\n");
    group.bench_function("dsn with a 100 kB mail returned", |b| b.iter(|| recognise(black_box(large.as_bytes()))));
    group.finish();
    let Some(mails) = mails() else { return };
    let mut group = c.benchmark_group("folder");
    group.throughput(Throughput::Elements(mails.len() as u64));
    group.sample_size(20);
    group.bench_function("all mails", |b| b.iter(|| read_all(&mails)));
    group.finish();
}

fn read_all(mails: &[Vec<u8>]) {
    for mail in mails {
        black_box(recognise(black_box(mail)));
    }
}

/// The mails of the folder that the environment names.
fn mails() -> Option<Vec<Vec<u8>>> {
    let folder = std::env::var_os("CAROM_BENCH_MAILS")?;
    let mut mails = Vec::new();
    read_folder(Path::new(&folder), &mut mails);
    assert!(!mails.is_empty(), "CAROM_BENCH_MAILS={} has no files", folder.display());
    Some(mails)
}

fn read_folder(folder: &Path, mails: &mut Vec<Vec<u8>>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_folder(&path, mails);
        } else {
            mails.push(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
}

criterion_group!(benches, recognition);

fn main() {
    let times = std::env::var("CAROM_BENCH_ONCE").ok().and_then(|n| n.parse::<u32>().ok());
    if let (Some(times), Some(mails)) = (times, mails()) {
        let begin = std::time::Instant::now();
        for _ in 0..times {
            read_all(&mails);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let read = mails.len() as f64 * f64::from(times);
        println!(
            "{read} mails in {seconds:.3} s: {:.0} mails/s, {:.1} us a mail",
            read / seconds,
            seconds / read * 1e6
        );
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
