//! `carom acct convert`: accounting files from one format to the other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::Failure;
use crate::accounting::parquet::{full_schema, properties};
use crate::config::Compression;
use crate::history::convert::{self, Times};

/// Arguments of `carom acct convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    carom acct convert /var/log/pmta/acct-2026-01-*.csv --to january.parquet\n  \
    carom acct convert events/date=2026-01-31 --to day.csv --times micros\n  \
    carom acct convert day.parquet --to bounces.csv --columns type,timeLogged,rcpt,dsnDiag,bounceCat\n\n\
    The ending of --to decides. Several files become one. What can't be carried over as it is is said, with a count.\n\
    Exit code: 0 done; 1 done, but something could not be carried over; 2 the input can't be read.")]
pub struct Args {
    /// Files of one format: names, folders (with all below), or patterns
    #[arg(required = true, value_name = "GLOB")]
    places: Vec<String>,
    /// The file to write: NAME.parquet or NAME.csv
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Write over an existing file
    #[arg(long)]
    force: bool,
    /// CSV: only these columns, in this order [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    columns: Vec<String>,
    /// CSV: how times are written, always in UTC
    #[arg(long, value_enum, default_value_t = TimesArg::Iso)]
    times: TimesArg,
    /// Parquet: zstd level, from 1 to 22
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=22))]
    level: u8,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TimesArg {
    /// 2026-01-31 09:00:00+0000
    Iso,
    /// 2026-01-31 09:00:00.000250+0000
    Micros,
    /// 1769850000
    Unix,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let usage = |why: String| {
        eprintln!("carom: {why}");
        Ok(ExitCode::from(2))
    };
    let files = match super::files(&args.places) {
        Ok(files) => files,
        Err(why) => return usage(why),
    };
    let is_parquet = |p: &Path| p.extension().is_some_and(|e| e == "parquet");
    let to_parquet = match args.to.extension().and_then(|e| e.to_str()) {
        Some("parquet") => true,
        Some("csv") => false,
        _ => return usage(format!("{}: name it .parquet or .csv", args.to.display())),
    };
    if let Some(other) = files.iter().find(|f| is_parquet(f) == to_parquet) {
        let (is, wanted) = if to_parquet { ("Parquet", "CSV") } else { ("CSV", "Parquet") };
        return usage(format!("{} is {is} already; give {wanted} files only", other.display()));
    }
    let bar = super::progress("records");
    let show = |rows| bar.set_position(rows);
    let converted = if to_parquet {
        let layout = |schema: &arrow::datatypes::Schema| properties(schema, 131_072, Compression::Zstd(args.level));
        convert::to_parquet(&files, &args.to, args.force, &full_schema(), &layout, &show)
    } else {
        let times = match args.times {
            TimesArg::Iso => Times::Iso,
            TimesArg::Micros => Times::Micros,
            TimesArg::Unix => Times::Unix,
        };
        convert::to_csv(&files, &args.to, args.force, &args.columns, times, &show)
    };
    bar.finish_and_clear();
    let converted = match converted {
        Ok(converted) => converted,
        Err(e) => return usage(e.to_string()),
    };
    if args.json {
        let to = args.to.display().to_string();
        say!("{}", json!({ "file": to, "inputs": files.len(), "records": converted.rows, "notes": converted.notes }))?;
    } else {
        for note in &converted.notes {
            say!("note: {note}")?;
        }
        let inputs = if files.len() == 1 { "file" } else { "files" };
        say!("{} records of {} {inputs} in {}", converted.rows, files.len(), args.to.display())?;
    }
    Ok(if converted.notes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
