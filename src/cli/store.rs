//! `carom store verify|repair`: looks over a store that no server has open.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{ConfigArgs, Failure};
use crate::store::verify::{self, Damage, Report};

/// Arguments of `carom store`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Read every record and check every sum; exit status 1 when something is damaged
    Verify(Place),
    /// Cut damage out, keep all that is readable, and say what is lost
    Repair(Place),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The store's folder [default: the configuration's spool]
    dir: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (place, repair) = match &args.command {
        StoreCommand::Verify(p) => (p, false),
        StoreCommand::Repair(p) => (p, true),
    };
    let dir = match &place.dir {
        Some(dir) => dir.clone(),
        None => match place.config.load()? {
            Ok(config) => config.spool,
            Err(code) => return Ok(code),
        },
    };
    let disk = crate::disk::RealDisk;
    // Neither command makes a store where none is.
    if !dir.join("journal").is_dir() {
        return Err(format!("there is no store in {}", dir.display()).into());
    }
    if repair {
        let repaired = verify::repair(&disk, &dir)?;
        let lost = repaired.events_lost > 0 || repaired.bytes_lost > 0;
        if place.json {
            let rewritten = &repaired.rewritten;
            let (events, bytes) = (repaired.events_lost, repaired.bytes_lost);
            say!(
                "{}",
                json!({ "found": report_json(&repaired.found), "segmentsRewritten": rewritten, "eventsLost": events, "bytesLost": bytes })
            )?;
        } else {
            print_report(&repaired.found)?;
            say!("segments written anew: {}", repaired.rewritten.len())?;
            say!("events lost: {}", repaired.events_lost)?;
            say!("bytes that could not be read: {}", repaired.bytes_lost)?;
        }
        return Ok(if lost { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let report = verify::verify(&disk, &dir)?;
    if place.json {
        say!("{}", report_json(&report))?;
    } else {
        print_report(&report)?;
    }
    Ok(if report.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report_json(report: &Report) -> serde_json::Value {
    json!({
        "sound": report.damage.is_empty(),
        "store": report.store.map(|s| s.to_string()),
        "segments": report.segments,
        "records": report.records,
        "firstEvent": report.first_seq,
        "nextEvent": report.next_seq,
        "tornBytes": report.torn_bytes,
        "damage": report.damage.iter().map(damage_text).collect::<Vec<_>>(),
    })
}

fn print_report(report: &Report) -> std::io::Result<()> {
    say!("store: {}", report.store.map_or_else(|| "unknown".to_owned(), |s| s.to_string()))?;
    say!("segments: {}, records: {}", report.segments, report.records)?;
    say!("events: {} to {}", report.first_seq, report.next_seq.saturating_sub(1))?;
    if report.torn_bytes > 0 {
        say!("torn at the end: {} bytes, never acknowledged (no damage)", report.torn_bytes)?;
    }
    for damage in &report.damage {
        say!("damage: {}", damage_text(damage))?;
    }
    say!("{}", if report.damage.is_empty() { "sound" } else { "DAMAGED: `carom store repair` keeps what is readable" })
}

fn damage_text(damage: &Damage) -> String {
    format!("{}, byte {}: {}", damage.path.display(), damage.offset, damage.what)
}
