//! `carom status`: what an operator looks at first.

use std::process::ExitCode;

use super::{ConfigArgs, Failure};
use crate::manage::{Answer, Command};

/// Arguments of `carom status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = match args.config.load()? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    match super::reload::ask(&config, &Command::Status)? {
        Answer::Success { data, .. } if args.json => println!("{data}"),
        Answer::Success { data, .. } => print_status(&data),
        Answer::Error { message } => return Err(message.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_status(status: &serde_json::Value) {
    for (name, value) in status.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Array(rows) if rows.iter().all(serde_json::Value::is_object) => {
                println!("{name}:");
                print_table(rows);
            }
            serde_json::Value::String(s) => println!("{name}: {s}"),
            other => println!("{name}: {other}"),
        }
    }
}

/// Rows that have the same members, as a table.
fn print_table(rows: &[serde_json::Value]) {
    let Some(first) = rows.first().and_then(serde_json::Value::as_object) else {
        println!("  none");
        return;
    };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(first.keys());
    for row in rows.iter().filter_map(serde_json::Value::as_object) {
        table.add_row(first.keys().map(|k| match row.get(k) {
            Some(serde_json::Value::String(s)) => s.clone(),
            Some(serde_json::Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }));
    }
    println!("{table}");
}
