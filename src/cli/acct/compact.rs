#![expect(clippy::disallowed_methods, reason = "edge: asks for today's date")]
//! `carom acct compact`: the small Parquet files of finished days become large ones.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::civil::Date;
use serde_json::json;

use super::Failure;
use crate::accounting::parquet::properties;
use crate::config::Compression;
use crate::history::compact::{self, Day, Options};

/// Arguments of `carom acct compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    carom acct compact /var/log/carom/events --dry-run\n  \
    carom acct compact /var/log/carom/events            # from cron, once a day\n  \
    carom acct compact /var/log/carom/events --day 2026-01-31\n\n\
    A day's folder is replaced in one step: whoever lists it before sees the old files, whoever lists it after the new \
    ones. A query that has listed the old files but not yet opened them fails (\"no such file\") and is right when asked \
    again; tools told to ignore missing files should not run meanwhile. The server may run. Broken off at any moment, the \
    next run goes on or begins anew.\n\n\
    Exit code: 0 done; 1 a day could not be merged; 2 the folder can't be used.")]
pub struct Args {
    /// The folder that holds the date= folders: that of the acct-file's path
    dir: PathBuf,
    /// Only this day, even if the server may still write to it; may be given several times [default: finished days]
    #[arg(long = "day", value_name = "YYYY-MM-DD")]
    days: Vec<Date>,
    /// Say what would be merged, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Rows that a merged file has at most
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_rows: u64,
    /// Rows of a row group
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    row_group_rows: u64,
    /// zstd level, from 1 to 22: merged files are written once and read often
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=22))]
    level: u8,
    /// Seconds that the old files stay, out of sight, for those who are listing them
    #[arg(long, value_name = "S", default_value_t = 10)]
    keep: u64,
    /// Where the new folders are made, on the same file system [default: .NAME.compact beside the folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if !args.dir.is_dir() {
        eprintln!("carom: {}: no such folder", args.dir.display());
        return Ok(ExitCode::from(2));
    }
    let options = Options {
        dir: args.dir.clone(),
        work: args.work_dir.clone(),
        days: args.days.clone(),
        today: crate::event::Time::from(jiff::Timestamp::now()).utc_date(),
        max_rows: args.max_rows,
        keep: Duration::from_secs(args.keep),
        dry_run: args.dry_run,
    };
    let layout =
        |schema: &arrow::datatypes::Schema| properties(schema, args.row_group_rows, Compression::Zstd(args.level));
    let bar = super::progress("records");
    let show = |what: &str, rows| {
        bar.inc(rows);
        bar.set_message(what.to_owned());
    };
    let days = compact::compact(&options, &layout, &show, &|_| true);
    bar.finish_and_clear();
    let days = match days {
        Ok(days) => days,
        Err(e) => {
            eprintln!("carom: {e}");
            return Ok(ExitCode::from(2));
        }
    };
    for asked in &args.days {
        if !days.iter().any(|d| d.date == asked.to_string()) {
            eprintln!("carom: {}: no folder date={asked}", args.dir.display());
            return Ok(ExitCode::from(2));
        }
    }
    if args.json {
        say!("{}", json!({ "dryRun": args.dry_run, "days": days }))?;
    } else {
        print(args, &days)?;
    }
    Ok(if days.iter().any(|d| d.faulty) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(args: &Args, days: &[Day]) -> Result<(), Failure> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["day", "files", "records", "bytes", ""]);
    for day in days {
        let arrow = |before: String, after: Option<String>| match after {
            Some(after) if after != before => format!("{before} -> {after}"),
            _ => before,
        };
        let what = match &day.left {
            Some(why) => why.clone(),
            None if args.dry_run => "would be merged".to_owned(),
            None => "merged".to_owned(),
        };
        table.add_row([
            day.date.clone(),
            arrow(day.files_before.to_string(), Some(day.files_after.to_string())),
            day.rows.to_string(),
            arrow(day.bytes_before.to_string(), day.bytes_after.map(|b| b.to_string())),
            what,
        ]);
    }
    if days.is_empty() {
        say!("no date= folders in {}", args.dir.display())?
    } else {
        say!("{table}")?
    }
    Ok(())
}
