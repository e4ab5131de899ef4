//! What the commands that read accounting files share: a progress bar, and what was wrong with the files.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::history::{HistoryError, Input, Report, expand};

/// The files that `arguments` mean, each record once: where CSV and Parquet files are found together below folders or by
/// patterns, the Parquet files are read, since both outputs hold the same records, and it is said so. Files that are named
/// one by one are all read.
pub(super) fn inputs<S: AsRef<str>>(arguments: &[S]) -> Result<Vec<Input>, HistoryError> {
    let mut inputs = expand(arguments)?;
    let named = |input: &Input| arguments.iter().any(|a| a.as_ref() == input.name());
    let is_parquet = |input: &Input| input.name().to_lowercase().ends_with(".parquet");
    if inputs.iter().any(|i| is_parquet(i) && !named(i)) {
        let before = inputs.len();
        inputs.retain(|input| is_parquet(input) || named(input));
        if inputs.len() < before {
            eprintln!(
                "carom: {} CSV files are left out, since Parquet files lie with them and the records would count twice; \
                 to read the CSV files instead, name them (as in 'DIR/*.csv')",
                before - inputs.len()
            );
        }
    }
    Ok(inputs)
}

/// A bar over the bytes of the inputs, on a terminal only. It is gone when dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn over(inputs: &[Input], quiet: bool) -> Progress {
        use std::io::IsTerminal as _;
        if quiet || !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(inputs.iter().map(Input::len).sum());
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress(bar)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Says on standard error what could not be read; the exit code that follows from it: 2 when a file failed (1 when all
/// did), else 0.
pub(super) fn complain(report: &Report) -> ExitCode {
    for row in &report.bad_rows {
        eprintln!("carom: bad row: {row}");
    }
    let named = report.bad_rows.len() as u64;
    if report.bad > 0 {
        let more = if report.bad > named { format!(" (the first {named} are named above)") } else { String::new() };
        eprintln!("carom: {} rows could not be read and were left out{more}", report.bad);
    }
    if report.untimed > 0 {
        eprintln!("carom: {} rows without a time were left out, since a range of time was asked for", report.untimed);
    }
    for failed in &report.failed {
        eprintln!("carom: {failed}");
    }
    match (report.failed.is_empty(), report.files) {
        (true, _) => ExitCode::SUCCESS,
        (false, 0) => ExitCode::FAILURE,
        (false, _) => ExitCode::from(2),
    }
}

/// The same for programs.
pub(super) fn as_json(report: &Report) -> Value {
    json!({
        "files": report.files,
        "rows": report.rows,
        "badRows": report.bad,
        "badRowsNamed": report.bad_rows,
        "rowsWithoutTime": report.untimed,
        "failedFiles": report.failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
