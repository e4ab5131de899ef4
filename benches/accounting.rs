//! Events of the ledger to CSV and to Parquet: records per second on one core, and bytes per record.
//!
//! `cargo bench --bench accounting`. The events are what a campaign leaves behind: nine in ten delivered, the rest
//! bounced or deferred, to a few thousand domains, each with its own reply. "decode" is reading and classifying alone,
//! which every output does for itself. Files go to a temporary folder; syncing them is part of the Parquet figure.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use carom::accounting::columns::Columns;
use carom::accounting::csv::CsvRows;
use carom::accounting::parquet::ParquetRows;
use carom::accounting::parquet_file::{Manifest, ParquetFile};
use carom::accounting::stage::Stage;
use carom::config::{AcctFile, AcctFormat};
use carom::disk::{Disk, RealDisk};
use carom::event::{
    Action, DeliveryType, EnhancedStatus, Event, EventBatch, Events, Kind, Kinds, MessageId, RuleSetId, SourceType,
    Stage as SmtpStage, StoreId, Time,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: u64 = 262_144;
const CHUNK: u64 = 1024;

fn ledger() -> Vec<(u64, Events)> {
    let start = Time::from_secs(1_770_000_000);
    let chunk = |first: u64| {
        let mut events = Events::new();
        for seq in first..first + CHUNK {
            let mixed = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let domain = format!("provider{}.example", (mixed >> 40) % 3000);
            let (host, queue) = (format!("mx{}.{domain}", mixed >> 60), format!("{domain}/pool-{}", mixed >> 62));
            let rcpt = format!("user{:x}@{domain}", mixed >> 20);
            let ip = Ipv4Addr::from(0xc633_6400 | (mixed >> 56) as u32).into();
            let (kind, action, status, diag) = match mixed >> 59 {
                0 => (Kind::Bounced, Action::Failed, (5, 1, 1), format!("smtp;550 5.1.1 <{rcpt}>: no such user here")),
                1 | 2 => (
                    Kind::Transient,
                    Action::Delayed,
                    (4, 7, 0),
                    "smtp;421 4.7.0 too many messages from your address, try again later".to_owned(),
                ),
                _ => (Kind::Delivered, Action::Relayed, (2, 0, 0), format!("smtp;250 2.0.0 Ok: queued as {mixed:X}")),
            };
            let time = start + Duration::from_micros(seq * 50);
            events.push(&Event {
                message: MessageId(seq / 2 + 1),
                rcpt_index: (seq % 2) as u16,
                attempt: 1,
                stage: Some(SmtpStage::Eod),
                time_queued: Time(time.0 - (mixed >> 44) as i64 * 100),
                orig: "news@bulk.example.com",
                rcpt: &rcpt,
                action: Some(action),
                status: EnhancedStatus::new(status.0, status.1, status.2),
                diag: &diag,
                mta: &host,
                mta_ip: Some(ip),
                src_type: Some(SourceType::Smtp),
                src_mta: "feeder.example.com",
                src_ip: Some(Ipv4Addr::new(192, 0, 2, 5).into()),
                dlv_type: Some(DeliveryType::Smtp),
                dlv_source_ip: Some(Ipv4Addr::new(192, 0, 2, 20).into()),
                dlv_destination_ip: Some(ip),
                dlv_esmtp: "PIPELINING,8BITMIME,SIZE,STARTTLS,ENHANCEDSTATUSCODES",
                dlv_size: 20_000 + (mixed >> 52),
                tls_protocol: "TLSv1.3",
                tls_cipher: "TLS_AES_256_GCM_SHA384",
                vmta: "pool-1",
                job: "spring-sale",
                queue: &queue,
                provider: &domain,
                ..Event::new(kind, time)
            });
        }
        (first, events)
    };
    (0..EVENTS / CHUNK).map(|n| chunk(1 + n * CHUNK)).collect()
}

fn batch((first_seq, events): &(u64, Events)) -> EventBatch<'_> {
    EventBatch {
        store: StoreId(0xca),
        first_seq: *first_seq,
        rules: RuleSetId(0),
        count: events.len() as u32,
        bytes: events.as_bytes(),
    }
}

fn columns(format: AcctFormat, strict_columns: bool) -> Columns {
    Columns::of(&AcctFile {
        records: Kinds::ALL,
        max_size: u64::MAX,
        delete_after: None,
        strict_columns,
        close_rows: u64::MAX,
        close_after: Duration::MAX,
        ..AcctFile::new("acct".into(), format)
    })
    .expect("no record-fields, nothing wrong with them")
}

fn to_csv(ledger: &[(u64, Events)], rows: &mut CsvRows, mut sink: impl FnMut(&[u8])) {
    let stage = Stage::default();
    let mut out = Vec::new();
    for chunk in ledger {
        out.clear();
        stage.events([batch(chunk)].into_iter(), Kinds::ALL).wanted.iter().for_each(|e| rows.push(&mut out, e));
        sink(&out);
    }
}

fn to_parquet(ledger: &[(u64, Events)], path: &std::path::Path) -> u64 {
    let stage = Stage::default();
    let mut rows = ParquetRows::new(columns(AcctFormat::Parquet, false));
    let file = RealDisk.create_new(path).expect("the folder is writable");
    let mut parquet = ParquetFile::begin(Arc::clone(&file), &rows, 131_072).expect("an empty file");
    for chunk in ledger {
        let events = stage.events([batch(chunk)].into_iter(), Kinds::ALL).wanted;
        parquet.push(&mut rows, &events).expect("the disk has room");
    }
    let manifest = Manifest { store: StoreId(0xca), records: Kinds::ALL, first: 1, last: EVENTS, rows: 0 };
    parquet.finish(&mut rows, manifest).expect("the disk has room");
    let length = file.len().expect("it is there");
    RealDisk.remove(path).expect("it is there");
    length
}

fn accounting(c: &mut Criterion) {
    let ledger = ledger();
    let kept: usize = ledger.iter().map(|(_, e)| e.as_bytes().len()).sum();
    let mut group = c.benchmark_group("accounting");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);

    group.bench_function("decode", |b| {
        let stage = Stage::default();
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
                to_csv(&ledger, &mut rows, |bytes| {
                    black_box(bytes);
                })
            })
        });
        let mut length = 0;
        to_csv(&ledger, &mut rows, |bytes| length += bytes.len() as u64);
        lengths.push(format!("{name} {}", length / EVENTS));
    }

    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("a.parquet");
    group.bench_function("parquet, all columns", |b| b.iter(|| to_parquet(&ledger, &path)));
    lengths.push(format!("parquet {}", to_parquet(&ledger, &path) / EVENTS));
    group.finish();
    println!("bytes per record: {}", lengths.join(", "));
}

criterion_group!(benches, accounting);
criterion_main!(benches);
