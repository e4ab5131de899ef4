//! Events of the ledger to CSV and to Parquet: records per second on one core, bytes per record, and the whole way from
//! a real store's ledger to files.
//!
//! `cargo bench --bench accounting`. The events are what a campaign leaves behind: most delivered, the rest bounced,
//! deferred or refused; two thirds to a few large providers, the rest to three thousand small domains; replies in the
//! manners of the simulated providers, each with ids of its own. "decode" is reading and classifying alone, which every
//! output does for itself; "ledger to files" is the store's reader, classification with the built-in rules, CSV and
//! Parquet, each on its thread, to the last sync. Syncing is part of the Parquet figure too.
//!
//! `CAROM_BENCH_KEEP=FILE` keeps the Parquet file, to look into; with `--test` nothing is timed.

#![expect(clippy::disallowed_methods, reason = "edge: writes files, reads the clock and how it is to run")]

use std::hint::black_box;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use carom::accounting::columns::Columns;
use carom::accounting::csv::CsvRows;
use carom::accounting::outputs::{Outputs, Settings};
use carom::accounting::parquet::ParquetRows;
use carom::accounting::parquet_file::ParquetFile;
use carom::accounting::stage::Stage;
use carom::classify::RuleSet;
use carom::config::{AcctFile, AcctFormat, Compression};
use carom::disk::{Disk, RealDisk};
use carom::event::fields::{FIELDS, Value};
use carom::event::manifest::{Manifest, Ranges};
use carom::event::{
    Action, DeliveryType, EnhancedStatus, Event, EventBatch, Events, Kind, Kinds, MessageId, RuleSetId, SourceType,
    Stage as SmtpStage, StoreId, Time,
};
use carom::sim::chance;
use carom::sim::wording::{Gaps, Saying, Style, say};
use carom::store::{Options, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: u64 = 262_144;
const CHUNK: u64 = 1024;
/// As random as a store's id.
const STORE: u64 = 0x6b86_33e9_1642_ba5d;
static RULES: LazyLock<RuleSetId> = LazyLock::new(|| RuleSet::builtin().id());

const FIRST_NAMES: [&str; 16] = [
    "anna", "ben", "carla", "david", "elena", "frank", "greta", "hugo", "ines", "jonas", "katrin", "luis", "mara",
    "nils", "olga", "peter",
];
/// What other names are put together of.
const SYLLABLES: [&str; 32] = [
    "ka", "mo", "ri", "ten", "sa", "lu", "ber", "na", "vi", "do", "gel", "pa", "ro", "sti", "man", "ce", "le", "dra",
    "ko", "win", "ju", "ha", "ter", "bo", "si", "ven", "tho", "mi", "ga", "eli", "sch", "er",
];

/// A local part as people choose them: few are alike, and none is longer than what is in it.
fn local_part(mixed: u64) -> String {
    let word = |from: u32, most: u64| -> String {
        let bits = mixed.rotate_right(from);
        (0..2 + bits % most).map(|n| SYLLABLES[(bits >> (4 + 5 * n)) as usize % SYLLABLES.len()]).collect()
    };
    let (first, last) = (chance::pick(mixed >> 3, &FIRST_NAMES), word(11, 2));
    let (short, number) = (first.chars().next().unwrap_or('x'), chance::mix(mixed ^ 9));
    match mixed >> 57 {
        0..=39 => format!("{}.{last}", word(31, 2)),
        40..=63 => format!("{first}.{last}{}", number % 100),
        64..=84 => format!("{short}{last}"),
        85..=104 => format!("{}{}", word(37, 3), 1950 + number % 70),
        105..=115 => format!("{last}_{}", word(43, 2)),
        _ => format!("{:x}", number >> 28),
    }
}
/// Large providers, how they speak, and their part of the traffic in percent.
const LARGE: [(&str, Style, u64); 6] = [
    ("mailhost.example", Style::Folded, 32),
    ("outpost.example", Style::Coded, 14),
    ("yonder.example", Style::Linked, 10),
    ("iris.example", Style::Telco, 6),
    ("freipost.example", Style::Terse, 3),
    ("lakeside.example", Style::Linked, 2),
];

fn ledger() -> Vec<(u64, Events)> {
    let start = Time::from_secs(1_770_000_000);
    let chunk = |first: u64| {
        let mut events = Events::new();
        for seq in first..first + CHUNK {
            push(&mut events, seq, Time(start.0 + seq as i64 * 500 + (chance::mix(seq ^ 77) % 900) as i64));
        }
        (first, events)
    };
    (0..EVENTS / CHUNK).map(|n| chunk(1 + n * CHUNK)).collect()
}

fn push(events: &mut Events, seq: u64, time: Time) {
    let mixed = chance::mix(seq);
    let (mut share, mut domain, mut style) = (mixed % 100, String::new(), Style::Plain);
    for (name, speaks, part) in LARGE {
        if share < part {
            (domain, style) = (name.to_owned(), speaks);
            break;
        }
        share -= part;
    }
    let small = domain.is_empty();
    if small {
        domain = format!("company{}.example", chance::mix(mixed) % 3000);
    }
    let host = if small { format!("mail.{domain}") } else { format!("mx{}.{domain}", (mixed >> 50) % 5) };
    let ip = if small {
        Ipv4Addr::from(0xc633_6400 | (chance::of(1, &domain) % 0xffff) as u32)
    } else {
        Ipv4Addr::from(0xc612_0000 | (chance::of(1, &host) % 0xffff) as u32)
    };
    let ip = ip.into();
    let rcpt = format!("{}@{domain}", local_part(chance::mix(mixed ^ 5)));
    let (kind, saying, stage) = match (mixed >> 40) % 100 {
        0..=3 => (Kind::Bounced, Saying::UnknownUser, SmtpStage::Rcpt),
        4 => (Kind::Bounced, Saying::SpamBlock, SmtpStage::Eod),
        5..=8 => (Kind::Transient, Saying::Greylist, SmtpStage::Rcpt),
        9 => (Kind::Transient, Saying::OverQuota, SmtpStage::Rcpt),
        _ => (Kind::Delivered, Saying::Taken, SmtpStage::Eod),
    };
    let action = match kind {
        Kind::Bounced => Action::Failed,
        Kind::Transient => Action::Delayed,
        _ => Action::Relayed,
    };
    let peer = Ipv4Addr::new(192, 0, 2, 20).into();
    let said = say(style, saying, &Gaps { host: &host, rcpt: &rcpt, peer, n: mixed, secs: time.secs() });
    let diag = format!("smtp;{}", said.text());
    let status = said.lines[0].split(' ').next().and_then(|s| s.parse().ok());
    let class = (said.code / 100) as u8;
    let queue = format!("{domain}/pool-1");
    events.push(&Event {
        message: MessageId(seq + mixed % 40),
        attempt: 1 + u16::from(mixed >> 60 == 0),
        stage: Some(stage),
        time_queued: Time(time.0 - 90_000 - (mixed >> 42) as i64),
        orig: "news@bulk.example.com",
        rcpt: &rcpt,
        action: Some(action),
        status: status.or(EnhancedStatus::new(class, 0, 0)),
        diag: &diag,
        mta: &host,
        mta_ip: Some(ip),
        src_type: Some(SourceType::Smtp),
        src_mta: "feeder.example.com",
        src_ip: Some(Ipv4Addr::new(192, 0, 2, 5).into()),
        dlv_type: Some(DeliveryType::Smtp),
        dlv_source_ip: Some(peer),
        dlv_destination_ip: Some(ip),
        dlv_esmtp: "PIPELINING,8BITMIME,SIZE,STARTTLS,ENHANCEDSTATUSCODES",
        dlv_size: if kind == Kind::Delivered { 20_000 + (mixed >> 52) } else { 0 },
        tls_protocol: "TLSv1.3",
        tls_cipher: "TLS_AES_256_GCM_SHA384",
        vmta: "pool-1",
        job: "spring-sale",
        queue: &queue,
        provider: &domain,
        ..Event::new(kind, time)
    });
}

fn batch((first_seq, events): &(u64, Events)) -> EventBatch<'_> {
    EventBatch {
        store: StoreId(STORE),
        first_seq: *first_seq,
        rules: *RULES,
        count: events.len() as u32,
        bytes: events.as_bytes(),
    }
}

fn columns(format: AcctFormat, strict_columns: bool) -> Columns {
    Columns::of(&acct_file(format, strict_columns)).expect("no record-fields, nothing wrong with them")
}

fn acct_file(format: AcctFormat, strict_columns: bool) -> AcctFile {
    AcctFile {
        records: Kinds::ALL,
        max_size: u64::MAX,
        delete_after: None,
        strict_columns,
        close_rows: u64::MAX,
        close_after: Duration::MAX,
        ..AcctFile::new("acct".into(), format)
    }
}

fn to_csv(stage: &Stage, ledger: &[(u64, Events)], rows: &mut CsvRows, mut sink: impl FnMut(&[u8])) {
    let mut out = Vec::new();
    for chunk in ledger {
        out.clear();
        stage.events([batch(chunk)].into_iter(), Kinds::ALL).wanted.iter().for_each(|e| rows.push(&mut out, e));
        sink(&out);
    }
}

fn to_parquet(stage: &Stage, ledger: &[(u64, Events)], path: &Path) -> u64 {
    let mut rows = ParquetRows::new(columns(AcctFormat::Parquet, false));
    let file = RealDisk.create_new(path).expect("the folder is writable");
    let level = std::env::var("CAROM_BENCH_ZSTD").ok().and_then(|l| l.parse().ok()).unwrap_or(3);
    let begun = ParquetFile::begin(Arc::clone(&file), &rows, 131_072, Compression::Zstd(level));
    let mut parquet = begun.expect("an empty file");
    for chunk in ledger {
        let events = stage.events([batch(chunk)].into_iter(), Kinds::ALL).wanted;
        parquet.push(&mut rows, &events).expect("the disk has room");
    }
    let (store, ranges) = (StoreId(STORE), Ranges::one(1, EVENTS));
    let manifest = Manifest { store, output: "acct.parquet".into(), records: Kinds::ALL, ranges, rows: 0 };
    parquet.finish(&mut rows, manifest).expect("the disk has room");
    let length = file.len().expect("it is there");
    if let Some(keep) = std::env::var_os("CAROM_BENCH_KEEP") {
        std::fs::copy(path, keep).expect("the place named can be written to");
    }
    RealDisk.remove(path).expect("it is there");
    length
}

/// The same records as JSON lines, absent values left out, compressed by zstd at its usual level.
fn to_json_lines(stage: &Stage, ledger: &[(u64, Events)]) -> (u64, u64) {
    let mut compressed = zstd::Encoder::new(Vec::new(), 3).expect("a level that exists");
    let mut plain = 0;
    for chunk in ledger {
        for event in stage.events([batch(chunk)].into_iter(), Kinds::ALL).wanted {
            let value = |v: Value<'_>| match v {
                Value::Number(n) => serde_json::json!(n),
                Value::Bool(b) => serde_json::json!(b),
                Value::Time(t) => serde_json::json!(t.timestamp().unwrap_or_default().to_string()),
                other => {
                    let mut text = Vec::new();
                    other.push_text(&mut text);
                    serde_json::json!(String::from_utf8_lossy(&text))
                }
            };
            let fields = FIELDS.iter().filter(|f| f.kinds.contains(event.kind)).map(|f| (f.name, (f.value)(&event)));
            let line: serde_json::Map<_, _> =
                fields.filter(|(_, v)| *v != Value::Absent).map(|(n, v)| (n.to_owned(), value(v))).collect();
            let mut line = serde_json::to_vec(&line).expect("text and numbers");
            line.push(b'\n');
            plain += line.len() as u64;
            compressed.write_all(&line).expect("into memory");
        }
    }
    (plain, compressed.finish().expect("into memory").len() as u64)
}

fn accounting(c: &mut Criterion) {
    let rules = RuleSet::builtin();
    let ledger = ledger();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let opened = Store::open(Arc::new(RealDisk), &dir.path().join("store"), &Options::default());
    let store = opened.expect("a new store").store;
    store.tables().write(|tx| tx.put_rule_set(rules.id(), rules.text())).expect("the disk has room");
    let mut stage = Stage::default();
    stage.load(rules.id(), &store).expect("it was put there");
    let kept: usize = ledger.iter().map(|(_, e)| e.as_bytes().len()).sum();
    let mut group = c.benchmark_group("accounting");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);

    group.bench_function("decode", |b| {
        b.iter(|| {
            for chunk in &ledger {
                black_box(stage.events([batch(chunk)].into_iter(), Kinds::ALL));
            }
        });
    });

    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap_or(jiff::tz::TimeZone::UTC);
    let mut lengths = vec![format!("ledger {}", kept as u64 / EVENTS)];
    for (name, strict) in [("csv, all columns", false), ("csv, strict columns", true)] {
        let mut rows = CsvRows::new(columns(AcctFormat::Csv, strict), Some(zone.clone()));
        group.bench_function(name, |b| {
            b.iter(|| {
                to_csv(&stage, &ledger, &mut rows, |bytes| {
                    black_box(bytes);
                });
            });
        });
        let mut length = 0;
        to_csv(&stage, &ledger, &mut rows, |bytes| length += bytes.len() as u64);
        lengths.push(format!("{name} {}", length / EVENTS));
    }

    let path = dir.path().join("a.parquet");
    group.bench_function("parquet, all columns", |b| b.iter(|| to_parquet(&stage, &ledger, &path)));
    lengths.push(format!("parquet {:.1}", to_parquet(&stage, &ledger, &path) as f64 / EVENTS as f64));
    let (plain, compressed) = to_json_lines(&stage, &ledger);
    lengths.push(format!("JSON lines {}", plain / EVENTS));
    lengths.push(format!("JSON lines with zstd {:.1}", compressed as f64 / EVENTS as f64));
    store.set_rules(rules.id());
    ledger_to_files(&mut group, &ledger, &store, &runtime, dir.path());
    group.finish();
    println!("bytes per record: {}", lengths.join(", "));
}

/// From the ledger of a real store to the last sync, CSV and Parquet at once, each on a thread of its own.
fn ledger_to_files(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    ledger: &[(u64, Events)],
    store: &Store,
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
) {
    runtime.block_on(async {
        for (_, events) in ledger {
            let mut copy = Events::new();
            copy.append(events);
            store.append(copy).await.expect("the disk has room");
        }
        store.flush().await.expect("the disk has room");
    });
    let mut run = 0;
    for formats in [&["csv"][..], &["parquet"], &["csv", "parquet"]] {
        group.bench_function(format!("ledger to files, {}", formats.join(" and ")), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    run += 1;
                    let files: Vec<_> = formats
                        .iter()
                        .map(|f| AcctFile {
                            path: format!("{run}/acct.{f}").into(),
                            ..acct_file(if *f == "csv" { AcctFormat::Csv } else { AcctFormat::Parquet }, false)
                        })
                        .collect();
                    let settings = Settings { start_at_beginning: true, ..Settings::new(dir.to_owned()) };
                    let begun = Instant::now();
                    runtime.block_on(async {
                        let outputs = Outputs::start(Arc::new(store.clone()), &files, Arc::new(RealDisk), settings)
                            .expect("nothing wrong with the acct-files");
                        outputs.stop().await.expect("the disk has room");
                    });
                    spent += begun.elapsed();
                    std::fs::remove_dir_all(dir.join(run.to_string())).expect("the files were written");
                }
                spent
            });
        });
    }
}

criterion_group!(benches, accounting);
criterion_main!(benches);
