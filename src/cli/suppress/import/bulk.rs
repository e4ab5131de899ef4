//! Large lists: the server sorts their entries and merges them in the order of its table. They are sent from the
//! beginning, nothing is entered before the end, and then the server works on by itself while its progress is shown.
#![expect(clippy::disallowed_methods, reason = "edge: waits for the server")]

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{AT_ONCE, Import, MAX_BYTES, Reading, tell};
use crate::cli::Failure;
use crate::cli::suppress::{Desk, number, text};
use crate::event::Time;
use crate::manage::SuppressionCommand;
use crate::manage::import::row_of;
use crate::manage::suppression::{ImportInfo, ImportRow};
use crate::suppress::transfer::Outcome;

/// A file of so many bytes is a large list.
pub(super) const LARGE: u64 = 32 << 20;
/// How often the server is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);

/// Whether the list comes in as a large one.
pub(super) fn is_large(args: &Import, length: Option<u64>) -> bool {
    args.bulk || !args.no_bulk && length.is_some_and(|n| n >= LARGE)
}

pub(super) fn import(desk: &mut Desk<'_>, mut reading: Reading, info: ImportInfo) -> Result<ExitCode, Failure> {
    let (for_mail, expires) = (info.scope.clone(), Time(info.expires));
    let begun = desk.ask(SuppressionCommand::BulkBegin { info })?;
    let batch = u32::try_from(number(&begun, "batch")).unwrap_or(0);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    reading.all(&mut |outcome| {
        if let Outcome::Entry(row) = outcome {
            // The reason is kept once, with the batch.
            let row = row_of(*row, &for_mail, expires, "");
            bytes += weight(&row);
            rows.push(row);
        }
        if rows.len() as u64 >= AT_ONCE || bytes >= MAX_BYTES {
            bytes = 0;
            desk.ask(SuppressionCommand::BulkRows { batch, rows: std::mem::take(&mut rows) })?;
        }
        Ok(())
    })?;
    if !rows.is_empty() {
        desk.ask(SuppressionCommand::BulkRows { batch, rows })?;
    }
    let Reading { reader, tally, aside, .. } = reading;
    let rejected = aside.finish()?;
    let (skipped, refused) = (tally.skipped(), tally.rejected);
    let ended = desk.ask(SuppressionCommand::BulkEnd { batch, skipped, rejected: refused })?;
    let mut done = merged(desk, batch, ended)?;
    if desk.json() {
        done["already"] = done["kept"].clone();
        done["format"] = json!(reader.format());
        done["leftOut"] = json!(tally.skipped);
        done["remarks"] = json!(reader.remarks());
        done["rejectedFile"] = json!(rejected.map(|p| p.display().to_string()));
        say!("{done}")?;
    } else {
        let (entered, already, doubles) = (number(&done, "entered"), number(&done, "kept"), number(&done, "doubles"));
        say!(
            "Import {batch} ({}): {entered} entered, {already} on the list already, {doubles} more than once in the file.",
            reader.format()
        )?;
        tell(&tally, &reader, rejected.as_deref())?;
        say!("To take it back: carom suppress purge --batch {batch} --reason ...")?;
    }
    Ok(if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Bytes of a row in JSON, roughly.
pub(super) fn weight(row: &ImportRow) -> usize {
    80 + row.subject.len() + row.reply.len() + row.note.len() + row.category.len() + row.scope.len()
}

/// Waits for the end of the merging; what the server says of it then.
fn merged(desk: &mut Desk<'_>, batch: u32, mut standing: Value) -> Result<Value, Failure> {
    let bar = ProgressBar::new(number(&standing, "rows"));
    // The template is a constant that is right.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} merged, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    while standing.get("running").and_then(Value::as_bool) == Some(true) {
        bar.set_position(number(&standing, "merged"));
        std::thread::sleep(EVERY);
        standing = desk.ask(SuppressionCommand::BulkStatus { batch }).map_err(|error| {
            format!(
                "{error}\nImport {batch} goes on when the server starts again: carom suppress stats shows how far it is"
            )
        })?;
    }
    bar.finish_and_clear();
    match (text(&standing, "error"), text(&standing, "phase")) {
        ("", "done") => Ok(standing),
        ("", phase) => Err(format!("import {batch} did not come to its end: it is {phase}").into()),
        (error, _) => Err(format!("import {batch} did not come to its end: {error}").into()),
    }
}
