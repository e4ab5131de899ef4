//! `carom acct verify`: accounting files against what they say of themselves and of each other.

use std::process::ExitCode;

use serde_json::json;

use super::Failure;
use crate::history::verify::{self, Report};

/// Arguments of `carom acct verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    carom acct verify /var/log/carom\n  \
    carom acct verify '/var/log/carom/events/date=2026-01-*/*.parquet' --quick\n\n\
    Files are put together by store and output. Parquet files say in their footers which sequence numbers and record \
    types they hold, so gaps, doubles, cut and damaged files show. CSV files say nothing of the kind; name those of all \
    outputs together, and each is held against the others. A gap that a pattern cuts out of the middle of an output is a \
    gap: name whole outputs.\n\n\
    Exit code: 0 all is well; 1 something is wrong; 2 no such files.")]
pub struct Args {
    /// Files, folders (with all below), or patterns
    #[arg(required = true, value_name = "GLOB")]
    places: Vec<String>,
    /// Read only event ids and types of Parquet files, not every column
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let files = match super::files(&args.places) {
        Ok(files) => files,
        Err(why) => {
            eprintln!("carom: {why}");
            return Ok(ExitCode::from(2));
        }
    };
    let bar = super::progress("records");
    let report = verify::verify(&files, args.quick, &|path, rows| {
        bar.inc(rows);
        bar.set_message(path.display().to_string());
    });
    bar.finish_and_clear();
    if args.json {
        say!("{}", as_json(&report, files.len()))?;
    } else {
        print(&report, files.len())?;
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(report: &Report, files: usize) -> serde_json::Value {
    let finding = |f: &verify::Finding| json!({ "place": f.place, "what": f.what });
    let outputs = report.outputs.iter().map(|o| {
        json!({
            "store": o.store.map(|s| s.to_string()),
            "output": o.output,
            "files": o.files,
            "records": o.records,
            "firstSeq": o.bounds.map(|b| b.0),
            "lastSeq": o.bounds.map(|b| b.1),
            "doubled": o.doubled,
            "missing": o.missing,
        })
    });
    json!({
        "sound": report.findings.is_empty(),
        "files": files,
        "outputs": outputs.collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "unchecked": report.unchecked.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn print(report: &Report, files: usize) -> Result<(), Failure> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["output", "store", "files", "records", "sequence numbers", "doubled", "missing"]);
    for o in &report.outputs {
        table.add_row([
            o.output.clone(),
            o.store.map(|s| s.to_string()).unwrap_or_else(|| "unknown".to_owned()),
            o.files.to_string(),
            o.records.to_string(),
            o.bounds.map(|(a, b)| format!("{a} to {b}")).unwrap_or_default(),
            o.doubled.to_string(),
            o.missing.to_string(),
        ]);
    }
    if !report.outputs.is_empty() {
        say!("{table}")?;
    }
    for f in &report.unchecked {
        say!("not checked: {}: {}", f.place, f.what)?;
    }
    for f in &report.findings {
        say!("wrong: {}: {}", f.place, f.what)?;
    }
    let end = if report.findings.is_empty() { "sound" } else { "NOT sound" };
    say!("{files} {}: {end}", if files == 1 { "file" } else { "files" })?;
    Ok(())
}
