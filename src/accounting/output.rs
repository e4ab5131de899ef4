//! One output: reads the ledger from its cursor, classifies, writes, commits.
//!
//! Nothing here waits, starts threads or asks for the time. After any error the output is dropped and opened again from
//! its kept state, exactly as after a crash, so there is one way to recover and it is the one that is tested.

use std::path::PathBuf;
use std::sync::Arc;

use super::closing::{CsvState, Files, ParquetState, State};
use super::columns::Columns;
use super::csv::CsvRows;
use super::csv_output::CsvOutput;
use super::journal::Reader;
use super::parquet::ParquetRows;
use super::parquet_output::ParquetOutput;
use super::stage::Stage;
use super::target::{OutputError, Target};
use crate::config::AcctFormat;
use crate::event::Time;

/// Events decoded at a time: few enough to stay in the processor's cache.
const CHUNK_EVENTS: usize = 1024;

/// An output at work.
#[derive(Debug)]
pub struct Output {
    target: Arc<Target>,
    stage: Stage,
    sink: Sink,
    reader: Box<dyn Reader>,
    next: u64,
    committed: u64,
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

#[derive(Debug)]
enum Sink {
    Csv(Box<CsvOutput>),
    Parquet(Box<ParquetOutput>),
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
        let mut stage = Stage::default();
        let (sink, cursor) = match target.file.format {
            AcctFormat::Csv => {
                let zone = target.file.iso_times.then(|| target.zone.clone());
                let rows = CsvRows::new(columns, zone);
                (Sink::Csv(Box::new(CsvOutput::open(Arc::clone(&target), rows, state, cursor, now)?)), cursor)
            }
            AcctFormat::Parquet => {
                let rows = ParquetRows::new(columns);
                let (output, cursor) = ParquetOutput::open(Arc::clone(&target), rows, state, cursor, &mut stage)?;
                (Sink::Parquet(Box::new(output)), cursor)
            }
        };
        let reader = target.journal.reader(cursor)?;
        Ok(Output { target, stage, sink, reader, next: cursor, committed: cursor, written: Written::default() })
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
        });
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
        let state = State::decode(&row.state)?;
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
            if let Sink::Csv(csv) = &mut self.sink {
                csv.caught_up()?;
            }
            return Ok(Step::CaughtUp);
        };
        for batch in chunk.batches() {
            self.stage.load(batch.rules, self.target.journal.as_ref())?;
        }
        let events = self.stage.events(chunk.batches(), self.target.file.records);
        match &mut self.sink {
            Sink::Csv(csv) => csv.write(&events.wanted, now)?,
            Sink::Parquet(parquet) => parquet.write(&events.wanted, now)?,
        }
        self.written.records += events.wanted.len() as u64;
        self.written.damaged += events.damaged;
        self.written.last_event = events.last.unwrap_or(self.written.last_event);
        self.next = chunk.last() + 1;
        self.tick(false, now)?;
        Ok(Step::Worked)
    }

    /// Ends files whose time is over.
    pub fn tick(&mut self, caught_up: bool, now: Time) -> Result<(), OutputError> {
        match &mut self.sink {
            Sink::Csv(csv) => csv.rotate_if_due(self.next, now),
            Sink::Parquet(parquet) => parquet.rotate_if_due(self.next, caught_up, now),
        }
    }

    /// Makes durable what can be without ending a file: all of CSV, none of an unfinished Parquet file.
    pub fn commit(&mut self) -> Result<(), OutputError> {
        if self.committed == self.next {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Csv(csv) => csv.commit(self.next)?,
            Sink::Parquet(parquet) => parquet.commit(self.next)?,
        }
        self.committed = self.next;
        Ok(())
    }

    /// Ends the file in use, whole and under its final name; the next record begins another.
    pub fn rotate(&mut self) -> Result<(), OutputError> {
        match &mut self.sink {
            Sink::Csv(csv) => csv.close(self.next)?,
            Sink::Parquet(parquet) => parquet.close(self.next - 1)?,
        }
        self.commit()
    }

    /// Orderly end: CSV synced and committed, to be gone on with; Parquet finished and published.
    pub fn stop(mut self) -> Result<(), OutputError> {
        match &mut self.sink {
            Sink::Csv(_) => {}
            Sink::Parquet(parquet) => parquet.close(self.next - 1)?,
        }
        self.commit()
    }

    /// First sequence number that is not yet written.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// First sequence number that is not yet durable in a file.
    pub const fn cursor(&self) -> u64 {
        match &self.sink {
            Sink::Csv(_) => self.committed,
            Sink::Parquet(parquet) => parquet.cursor(),
        }
    }

    /// The file in use.
    pub fn current(&self) -> Option<PathBuf> {
        match &self.sink {
            Sink::Csv(csv) => csv.current(),
            Sink::Parquet(parquet) => parquet.current(),
        }
    }
}
