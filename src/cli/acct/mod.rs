//! `carom acct`: what an operator does with accounting files.

mod compact;
mod convert;
mod schema;
mod tail;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
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

/// The accounting files that are meant by files, folders (with all below) and patterns, as everywhere. `Err` is a sentence
/// for the user.
fn files(places: &[String]) -> Result<Vec<PathBuf>, String> {
    crate::history::files(places).map_err(|e| e.to_string())
}
