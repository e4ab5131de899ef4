//! Accounting files of a made-up campaign, by the writers the server uses: for measuring what reads them.
//!
//! `cargo run --release --example generate_acct -- 10000000 /tmp/acct [csv]`: files of a million records each; nine in
//! ten delivered, the rest bounced or put off, to three thousand domains, each reply with an id of its own.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: an example writes files")]

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use carom::accounting::columns::Columns;
use carom::accounting::csv::CsvRows;
use carom::accounting::parquet::ParquetRows;
use carom::accounting::parquet_file::ParquetFile;
use carom::accounting::stage::Stage;
use carom::config::{AcctFile, AcctFormat, Compression};
use carom::disk::{Disk, RealDisk};
use carom::event::manifest::{Manifest, Ranges};
use carom::event::{
    Action, DeliveryType, EnhancedStatus, Event, EventBatch, Events, Kind, Kinds, MessageId, RuleSetId, SourceType,
    StoreId, Time,
};

const FILE: u64 = 1_000_000;
const CHUNK: u64 = 1000;
const ROW_GROUP: u64 = 131_072;

fn chunk(first: u64) -> Events {
    let start = Time::from_secs(1_770_000_000);
    let mut events = Events::new();
    for seq in first..first + CHUNK {
        let mixed = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seq >> 3).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        // Few domains get most of the mail.
        let rank = ((mixed >> 40) % 3000) * ((mixed >> 20) % 3000) / 3000;
        let domain = format!("provider{rank}.example");
        let vmta = mixed >> 61;
        let (host, queue) = (format!("mx{}.{domain}", mixed >> 62), format!("{domain}/vmta-{vmta}"));
        let rcpt = format!("user{:x}@{domain}", mixed >> 20);
        let ip = Ipv4Addr::from(0xc633_6400 | (mixed >> 56) as u32).into();
        let (kind, action, status, diag, category) = match (mixed >> 32) & 0x3f {
            0 | 1 => (
                Kind::Bounced,
                Action::Failed,
                (5, 1, 1),
                format!("smtp;550 5.1.1 <{rcpt}>: no such user here ({mixed:x})"),
                "bad-mailbox",
            ),
            2 => (
                Kind::Bounced,
                Action::Failed,
                (5, 7, 1),
                format!("smtp;554 5.7.1 message looks like spam, id {mixed:X}"),
                "spam-related",
            ),
            3 | 4 => (
                Kind::Transient,
                Action::Delayed,
                (4, 7, 0),
                "smtp;421 4.7.0 too many messages from your address, try again later".to_owned(),
                "policy-related",
            ),
            _ => (Kind::Delivered, Action::Relayed, (2, 0, 0), format!("smtp;250 2.0.0 Ok: queued as {mixed:X}"), ""),
        };
        let time = start + Duration::from_micros(seq * 5000);
        events.push(&Event {
            message: MessageId(seq / 2 + 1),
            rcpt_index: (seq % 2) as u16,
            attempt: 1,
            category,
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
            dlv_type: Some(DeliveryType::Smtp),
            dlv_source_ip: Some(Ipv4Addr::new(192, 0, 2, vmta as u8).into()),
            dlv_destination_ip: Some(ip),
            dlv_esmtp: "PIPELINING,8BITMIME,SIZE,STARTTLS,ENHANCEDSTATUSCODES",
            dlv_size: 20_000 + (mixed >> 52),
            tls_protocol: "TLSv1.3",
            vmta: ["a", "b", "c", "d", "e", "f", "g", "h"][vmta as usize],
            job: ["spring", "summer", "autumn"][(seq / 700_000 % 3) as usize],
            queue: &queue,
            provider: &domain,
            ..Event::new(kind, time)
        });
    }
    events
}

fn columns(format: AcctFormat) -> Columns {
    Columns::of(&AcctFile {
        records: Kinds::ALL,
        max_size: u64::MAX,
        delete_after: None,
        close_rows: u64::MAX,
        close_after: Duration::MAX,
        row_group_rows: ROW_GROUP,
        ..AcctFile::new("acct".into(), format)
    })
    .expect("no record-fields, nothing wrong with them")
}

/// Takes classified events.
type Take<'t> = dyn FnMut(&[Event<'_>]) -> Result<(), Box<dyn std::error::Error>> + 't;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, records, dir, rest @ ..] = arguments.as_slice() else {
        return Err("give the number of records and a folder".into());
    };
    let (records, dir) = (records.parse::<u64>()?, std::path::Path::new(dir));
    std::fs::create_dir_all(dir)?;
    let stage = Stage::default();
    for first in (1..=records).step_by(FILE as usize) {
        let end = (first + FILE).min(records + 1);
        let name = format!("acct-{:04}", first / FILE);
        let each = |take: &mut Take<'_>| {
            for at in (first..end).step_by(CHUNK as usize) {
                let events = chunk(at);
                let batch = EventBatch {
                    store: StoreId(0xca),
                    first_seq: at,
                    rules: RuleSetId(0),
                    count: events.len() as u32,
                    bytes: events.as_bytes(),
                };
                take(&stage.events([batch].into_iter(), Kinds::ALL).wanted)?;
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        if rest.first().is_some_and(|f| f == "csv") {
            let mut rows = CsvRows::new(columns(AcctFormat::Csv), Some(jiff::tz::TimeZone::UTC));
            let mut file = std::io::BufWriter::new(
                std::fs::OpenOptions::new().write(true).create_new(true).open(dir.join(name + ".csv"))?,
            );
            let mut out = rows.header();
            each(&mut |events| {
                events.iter().for_each(|e| rows.push(&mut out, e));
                file.write_all(&out)?;
                out.clear();
                Ok(())
            })?;
            file.flush()?;
        } else {
            let mut rows = ParquetRows::new(columns(AcctFormat::Parquet));
            let file = RealDisk.create_new(&dir.join(name + ".parquet"))?;
            let mut parquet = ParquetFile::begin(file, &rows, ROW_GROUP, Compression::Zstd(3))?;
            each(&mut |events| Ok(parquet.push(&mut rows, events)?))?;
            let (store, ranges) = (StoreId(0xca), Ranges::one(first, end - 1));
            let manifest = Manifest { store, output: "acct.parquet".into(), records: Kinds::ALL, ranges, rows: 0 };
            parquet.finish(&mut rows, manifest)?;
        }
    }
    Ok(())
}
