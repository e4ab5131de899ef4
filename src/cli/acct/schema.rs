//! `carom acct schema`: the record schema of this version.

use std::process::ExitCode;

use super::Failure;
use crate::accounting::schema;

/// Arguments of `carom acct schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    carom acct schema\n  \
    carom acct schema --as json | jq -r '.fields[].name'\n  \
    carom acct schema --as clickhouse | clickhouse-client")]
pub struct Args {
    /// In which form
    #[arg(long = "as", value_enum, default_value_t = Form::Table)]
    form: Form,
    /// The same as `--as json`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people
    Table,
    /// For programs
    Json,
    /// As schemas/acct.v1.md
    Markdown,
    /// Views over the files
    Duckdb,
    /// A table to load the files into
    Clickhouse,
    /// A table over the files
    Spark,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let text = match if args.json { Form::Json } else { args.form } {
        Form::Table => table(),
        Form::Json => schema::json(),
        Form::Markdown => schema::markdown(),
        Form::Duckdb => schema::duckdb(),
        Form::Clickhouse => schema::clickhouse(),
        Form::Spark => schema::spark(),
    };
    say!("{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn table() -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["field", "type", "records", "content"]);
    for row in schema::rows() {
        table.add_row(row);
    }
    table.to_string()
}
