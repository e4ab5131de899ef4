//! What an output writes to: CSV files, Parquet files, a program, a webhook, a broker. To add another, implement [`Sink`]
//! and open it in [`Output::open`](super::output::Output::open), with a variant of
//! [`Files`](super::closing::Files) for what it must remember.
//!
//! A sink is dropped after any error and opened again from its kept row, as after a crash. It runs on the thread of its
//! output, which is in no runtime: it may block, for no longer than a stop should take.

use std::path::PathBuf;

use super::closing::Gap;
use super::csv_output::CsvOutput;
use super::parquet_output::ParquetOutput;
use super::target::OutputError;
use crate::event::{Event, Time};

/// What a sink had to leave out since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many events.
    pub events: u64,
    /// Which was the last, and why.
    pub why: Option<String>,
}

/// Where the records of one output go.
pub trait Sink: Send + std::fmt::Debug {
    /// Takes these events, in the order of the ledger; they may stay in memory until [`Sink::commit`].
    fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError>;

    /// Everything in the ledger has been written.
    fn caught_up(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    /// Does what is due by time: ends files, notices what has died. `next` is the first sequence number not written.
    fn tick(&mut self, next: u64, caught_up: bool, now: Time) -> Result<(), OutputError>;

    /// Makes durable what can be of everything before `next`, and commits the cursor ([`Target::commit`]) behind what
    /// is safe. Called a few times a second.
    ///
    /// [`Target::commit`]: super::target::Target::commit
    fn commit(&mut self, next: u64) -> Result<(), OutputError>;

    /// Ends the file in use, whole and under its final name; the next record begins another. Who has no files commits.
    fn close(&mut self, next: u64) -> Result<(), OutputError> {
        self.commit(next)
    }

    /// Orderly end.
    fn stop(&mut self, next: u64) -> Result<(), OutputError>;

    /// The committed cursor: the ledger is kept from here on.
    fn cursor(&self) -> u64;

    /// The file in use, for status.
    fn current(&self) -> Option<PathBuf> {
        None
    }

    /// Whether anything was got through since it was opened: until then an earlier failure is not over.
    fn works(&self) -> bool {
        true
    }

    /// Records that can't be handed on, ever: they are left out, told as gaps, and those behind them go on.
    fn left_out(&self) -> LeftOut {
        LeftOut::default()
    }

    /// Tells whoever reads that events were left out (`on-lag skip`). Called on opening for each gap of the kept state
    /// that has not been told; it counts as told once the cursor is committed behind it. Files tell in a file of their
    /// own, written before this is called.
    fn gap(&mut self, _: &Gap) -> Result<(), OutputError> {
        Ok(())
    }
}

impl Sink for CsvOutput {
    fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError> {
        CsvOutput::write(self, events, now)
    }

    fn caught_up(&mut self) -> Result<(), OutputError> {
        CsvOutput::caught_up(self)
    }

    fn tick(&mut self, next: u64, _: bool, now: Time) -> Result<(), OutputError> {
        self.rotate_if_due(next, now)
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        if next == Sink::cursor(self) { Ok(()) } else { CsvOutput::commit(self, next) }
    }

    fn close(&mut self, next: u64) -> Result<(), OutputError> {
        CsvOutput::close(self, next)?;
        Sink::commit(self, next)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        Sink::commit(self, next)
    }

    fn cursor(&self) -> u64 {
        CsvOutput::cursor(self)
    }

    fn current(&self) -> Option<PathBuf> {
        CsvOutput::current(self)
    }
}

impl Sink for ParquetOutput {
    fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError> {
        ParquetOutput::write(self, events, now)
    }

    fn tick(&mut self, next: u64, caught_up: bool, now: Time) -> Result<(), OutputError> {
        self.rotate_if_due(next, caught_up, now)
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        ParquetOutput::commit(self, next)
    }

    fn close(&mut self, next: u64) -> Result<(), OutputError> {
        ParquetOutput::close(self, next - 1)?;
        ParquetOutput::commit(self, next)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        Sink::close(self, next)
    }

    fn cursor(&self) -> u64 {
        ParquetOutput::cursor(self)
    }

    fn current(&self) -> Option<PathBuf> {
        ParquetOutput::current(self)
    }
}
