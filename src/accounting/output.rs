//! One output: reads the ledger from its cursor, classifies, writes, commits.
//!
//! Nothing here waits, starts threads or asks for the time. After any error the output is dropped and opened again from
//! its kept state, exactly as after a crash, so there is one way to recover and it is the one that is tested.

use std::path::PathBuf;
use std::sync::Arc;

use super::closing::{CsvState, Files, Gap, ParquetState, PushState, State};
use super::columns::Columns;
use super::csv::CsvRows;
use super::csv_output::CsvOutput;
use super::hook_output::HookOutput;
use super::journal::Reader;
use super::json::JsonRows;
use super::nats_output::NatsOutput;
use super::parquet::ParquetRows;
use super::parquet_output::ParquetOutput;
use super::pipe_output::PipeOutput;
use super::privacy::Mask;
use super::sink::{LeftOut, Sink};
use super::stage::Stage;
use super::target::{At, OutputError, Target};
use super::webhook_output::WebhookOutput;
use crate::config::AcctFormat;
use crate::event::Time;

/// Events decoded at a time: few enough to stay in the processor's cache.
const CHUNK_EVENTS: usize = 256;

/// An output at work.
#[derive(Debug)]
pub struct Output {
    target: Arc<Target>,
    stage: Stage,
    sink: Box<dyn Sink>,
    reader: Box<dyn Reader>,
    next: u64,
    /// Figures for status.
    pub written: Written,
}

/// What an output did since it was opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Events that could not be decoded.
    pub damaged: u64,
    /// Time of the last event.
    pub last_event: Time,
}

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Some events were written.
    Worked,
    /// Everything durable in the ledger has been written.
    CaughtUp,
}

impl Output {
    /// Opens the output where its kept state says, and finishes what was under way there; a new one begins at the present
    /// end of the ledger.
    pub fn open(target: Arc<Target>, now: Time) -> Result<Output, OutputError> {
        let columns = Columns::of(&target.file)
            .map_err(|errors| OutputError::Fields { path: target.file.path.clone(), errors })?;
        let (cursor, state) = Output::position(&target)?;
        let mut stage = Stage::new(target.rules.clone(), target.file.queue_filter.clone());
        tell_gaps(&target, &state)?;
        let untold: Vec<Gap> = state.gaps.iter().filter(|g| !g.told).cloned().collect();
        let (mut sink, cursor): (Box<dyn Sink>, u64) = match target.file.format {
            AcctFormat::Csv => {
                let zone = target.file.iso_times.then(|| target.zone.clone());
                let rows = CsvRows::new(columns, zone);
                (Box::new(CsvOutput::open(Arc::clone(&target), rows, state, cursor, now)?), cursor)
            }
            AcctFormat::Pipe => {
                let zone = target.file.iso_times.then(|| target.zone.clone());
                let rows = CsvRows::new(columns, zone);
                (Box::new(PipeOutput::open(Arc::clone(&target), rows, state, cursor)?), cursor)
            }
            AcctFormat::Hook => {
                (Box::new(HookOutput::open(Arc::clone(&target), JsonRows::new(columns), state, cursor)?), cursor)
            }
            AcctFormat::Webhook => {
                (Box::new(WebhookOutput::open(Arc::clone(&target), JsonRows::new(columns), state, cursor)?), cursor)
            }
            AcctFormat::Nats => {
                (Box::new(NatsOutput::open(Arc::clone(&target), JsonRows::new(columns), state, cursor)?), cursor)
            }
            AcctFormat::Parquet => {
                let rows = ParquetRows::new(columns);
                let (output, cursor) = ParquetOutput::open(Arc::clone(&target), rows, state, cursor, &mut stage)?;
                (Box::new(output), cursor)
            }
        };
        untold.iter().try_for_each(|gap| sink.gap(gap))?;
        let reader = target.journal.reader(cursor)?;
        Ok(Output { target, stage, sink, reader, next: cursor, written: Written::default() })
    }

    /// Gives a new output its row: it begins at the ledger's present end, or start. To be called before any mail is
    /// taken that the output is to have, since without a row nothing keeps the ledger for it.
    pub(super) fn register(target: &Target) -> Result<(), OutputError> {
        if target.journal.row(&target.consumer)?.is_some() {
            return Ok(());
        }
        let cursor = if target.start_at_beginning { target.journal.start() } else { target.journal.end() };
        let mut state = State::new(match target.file.format {
            AcctFormat::Csv => Files::Csv(CsvState::default()),
            AcctFormat::Parquet => Files::Parquet(ParquetState { since: cursor, open: None, closing: None }),
            AcctFormat::Pipe | AcctFormat::Hook | AcctFormat::Webhook | AcctFormat::Nats => {
                Files::Push(PushState::default())
            }
        });
        state.queues = target.queues();
        state.select(cursor, target.file.records);
        target.commit(cursor, &state)?;
        target.journal.hold(&target.consumer, cursor);
        tracing::info!(path = %target.file.path.display(), first = cursor, "new accounting output");
        Ok(())
    }

    /// The kept cursor and state.
    fn position(target: &Target) -> Result<(u64, State), OutputError> {
        let (start, end) = (target.journal.start(), target.journal.end());
        let Some(row) = target.journal.row(&target.consumer)? else {
            Output::register(target)?;
            return Output::position(target);
        };
        let mut state = State::decode(&row.state)?;
        state.queues = target.queues();
        let cursor = row.cursor.clamp(start, end);
        if cursor > row.cursor {
            tracing::error!(
                path = %target.file.path.display(), first = row.cursor, last = cursor - 1,
                "these events are not in the ledger any more; the accounting files lack them"
            );
        } else if cursor < row.cursor {
            tracing::error!(
                path = %target.file.path.display(), cursor = row.cursor, end,
                "the cursor is past the end of the ledger, as if an older ledger was put back; going on at its end"
            );
        }
        target.journal.hold(&target.consumer, cursor);
        Ok((cursor, state))
    }

    /// Writes some events.
    pub fn step(&mut self, now: Time) -> Result<Step, OutputError> {
        let Some(chunk) = self.reader.next(CHUNK_EVENTS)? else {
            self.sink.caught_up()?;
            return Ok(Step::CaughtUp);
        };
        for batch in chunk.batches() {
            self.stage.load(batch.rules, self.target.journal.as_ref())?;
        }
        let events = self.stage.events(chunk.batches(), self.target.file.records);
        let sink = &mut self.sink;
        Mask::over(Mask::of(&self.target.file).as_ref(), &events.wanted, |events| sink.write(events, now))?;
        self.written.records += events.wanted.len() as u64;
        self.written.damaged += events.damaged;
        self.written.last_event = events.last.unwrap_or(self.written.last_event);
        self.next = chunk.last() + 1;
        self.tick(false, now)?;
        Ok(Step::Worked)
    }

    /// Ends files whose time is over.
    pub fn tick(&mut self, caught_up: bool, now: Time) -> Result<(), OutputError> {
        self.sink.tick(self.next, caught_up, now)
    }

    /// Makes durable what can be without ending a file: all of CSV, none of an unfinished Parquet file.
    pub fn commit(&mut self) -> Result<(), OutputError> {
        self.sink.commit(self.next)
    }

    /// Ends the file in use, whole and under its final name; the next record begins another.
    pub fn rotate(&mut self) -> Result<(), OutputError> {
        self.sink.close(self.next)
    }

    /// Orderly end: CSV synced and committed, to be gone on with; Parquet finished and published.
    pub fn stop(mut self) -> Result<(), OutputError> {
        self.sink.stop(self.next)
    }

    /// What it had to leave out since it was opened.
    pub fn left_out(&self) -> LeftOut {
        self.sink.left_out()
    }

    /// First sequence number that is not yet written.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// First sequence number that is not yet durable in a file.
    pub fn cursor(&self) -> u64 {
        self.sink.cursor()
    }

    /// Whether anything was got through since it was opened.
    pub fn works(&self) -> bool {
        self.sink.works()
    }

    /// The file in use.
    pub fn current(&self) -> Option<PathBuf> {
        self.sink.current()
    }

    /// Leaves out everything up to the ledger's present end (`on-lag skip`), and remembers what; the output must not be
    /// open. The gap and the new cursor are one write.
    pub(super) fn skip(target: &Target, now: Time) -> Result<Option<Gap>, OutputError> {
        let Some(row) = target.journal.row(&target.consumer)? else { return Ok(None) };
        let (mut state, end) = (State::decode(&row.state)?, target.journal.end());
        if row.cursor >= end {
            return Ok(None);
        }
        let gap = Gap { first: row.cursor, last: end - 1, at: now.0, told: false, why: String::new() };
        if let Files::Parquet(parquet) = &mut state.files {
            // No file's footer may claim what was left out. One that was being published is given up with the rest: it is
            // there whole, or not at all.
            parquet.since = end;
            parquet.closing = None;
        }
        state.left_out(gap.clone());
        target.commit(end, &state)?;
        tracing::error!(
            output = %target.file.path.display(), first = gap.first, last = gap.last,
            "the accounting output lagged too far behind; these events are left out of it (on-lag skip)"
        );
        Ok(Some(gap))
    }
}

/// The gaps of an output of files stand beside them, in `NAME.gaps.jsonl`: one JSON object a line, with the first and the
/// last sequence number and the time. Made from the kept state each time, so it is whole or as it was before.
fn tell_gaps(target: &Target, state: &State) -> Result<(), OutputError> {
    if state.gaps.is_empty() || !target.file.format.is_files() {
        return Ok(());
    }
    let name = target.file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = String::new();
    for gap in &state.gaps {
        let time = Time(gap.at).timestamp().map(|t| t.to_string()).unwrap_or_default();
        let line = serde_json::json!({
            "gap": { "first": gap.first, "last": gap.last, "time": time, "store": target.journal.store().to_string() }
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let dir = target.names.dir();
    let (path, unfinished) =
        (target.path(&format!("{name}.gaps.jsonl")), target.path(&format!(".{name}.gaps.inprogress")));
    target.disk.create_dir_all(dir).at("creating folder", dir)?;
    target.remove(&unfinished)?;
    let file = target.disk.create_new(&unfinished).at("creating", &unfinished)?;
    file.write_all_at(text.as_bytes(), 0).at("writing", &unfinished)?;
    file.sync_data().at("syncing", &unfinished)?;
    target.publish(&unfinished, &path)
}
