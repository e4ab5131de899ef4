//! `carom acct`: what an operator does with accounting files.

mod compact;
mod convert;
mod schema;
mod tail;
mod verify;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;

/// Arguments of `carom acct`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: AcctCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AcctCommand {
    /// Is every file whole, and every record there once? Exit code 1 when something is wrong
    Verify(verify::Args),
    /// Merge the small Parquet files of finished days; readers see the old files or the new ones, never both
    Compact(compact::Args),
    /// CSV to Parquet and back, PowerMTA's own CSV files too
    Convert(convert::Args),
    /// Print the record schema: as a table, as JSON, or as a table definition for DuckDB, ClickHouse or Spark
    Schema(schema::Args),
    /// Show the newest records, and with -f those that come
    Tail(tail::Args),
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        AcctCommand::Verify(args) => verify::run(args),
        AcctCommand::Compact(args) => compact::run(args),
        AcctCommand::Convert(args) => convert::run(args),
        AcctCommand::Schema(args) => schema::run(args),
        AcctCommand::Tail(args) => tail::run(args),
    }
}

/// A bar or counter on a terminal, nothing anywhere else.
fn progress(unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}, {{wide_msg}}"));
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The accounting files that are meant by files, folders (with all below) and patterns; unfinished ones, whose names
/// begin with a dot, are left out. `Err` is a sentence for the user.
fn files(places: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for place in places {
        let path = Path::new(place);
        let before = all.len();
        if path.is_dir() {
            let found = crate::history::find(path).map_err(|e| e.to_string())?;
            all.extend(found.csv.into_iter().chain(found.parquet));
        } else if path.exists() {
            all.push(path.to_owned());
        } else {
            let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
            let matches = glob::glob_with(place, options).map_err(|e| format!("{place}: {e}"))?;
            all.extend(matches.filter_map(Result::ok).filter(|p| p.is_file()));
        }
        if all.len() == before {
            return Err(format!("{place}: no accounting file is there"));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}
