//! Records to a program, `<acct-file |COMMAND>`: one long-lived process, the header line first at every start, then CSV
//! records (reference/accounting.md, 4.2).
//!
//! At least once, unlike PowerMTA's: the cursor is committed only behind records that the program has read out of the
//! pipe, and after a failure the next process gets everything from there again. `eventId` tells what came twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::closing::{Gap, State};
use super::csv::CsvRows;
use super::pipe::Pipe;
use super::push_place::PushPlace;
use super::sink::Sink;
use super::target::{OutputError, Target};
use crate::event::{Event, Time};

/// How long a program gets, at a stop, to read what is left, and again to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A program being written to.
#[derive(Debug)]
pub struct PipeOutput {
    target: Arc<Target>,
    rows: CsvRows,
    place: PushPlace,
    pipe: Pipe,
    /// Where in what was written each batch ended, and the first sequence number behind it.
    marks: VecDeque<(u64, u64)>,
    buffer: Vec<u8>,
}

impl PipeOutput {
    /// Starts the program and writes the header.
    pub fn open(target: Arc<Target>, rows: CsvRows, state: State, cursor: u64) -> Result<PipeOutput, OutputError> {
        let place = PushPlace::open(&target, state, cursor);
        let pipe = Pipe::start(target.command()).map_err(|e| target.pipe_error("starting", &e))?;
        let header = rows.header();
        let marks = VecDeque::new();
        let mut output = PipeOutput { target, rows, place, pipe, marks, buffer: header };
        output.flush()?;
        Ok(output)
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let target = Arc::clone(&self.target);
        let written = self.pipe.write(&self.buffer, target.file.write_timeout, &|| {
            target.hurry.load(std::sync::atomic::Ordering::Relaxed)
        });
        self.buffer.clear();
        match written {
            Ok(()) => Ok(()),
            // Why nobody reads is of more use than that nobody does.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                self.pipe.wait_taken(Duration::from_millis(50));
                self.alive()?;
                Err(target.pipe_error("writing to", &e))
            }
            Err(e) => Err(target.pipe_error("writing to", &e)),
        }
    }

    fn alive(&mut self) -> Result<(), OutputError> {
        let error = match self.pipe.ended() {
            Ok(None) => return Ok(()),
            Ok(Some(how)) => self.target.pipe_error("executing", &how),
            Err(e) => self.target.pipe_error("executing", &e),
        };
        // What it has read it has had: one that dies after each few records gets on, too.
        let taken = self.taken();
        self.place.keep(taken)?;
        Err(error)
    }

    /// The first sequence number that the program has not read.
    fn taken(&mut self) -> u64 {
        let taken = self.pipe.taken();
        let mut next = self.place.cursor();
        while let Some((end, seq)) = self.marks.front().copied()
            && end <= taken
        {
            next = next.max(seq);
            self.marks.pop_front();
        }
        next
    }
}

impl Sink for PipeOutput {
    fn write(&mut self, events: &[Event<'_>], _: Time) -> Result<(), OutputError> {
        for event in events {
            self.rows.push(&mut self.buffer, event);
        }
        self.flush()?;
        if let Some(last) = events.last() {
            self.marks.push_back((self.pipe.written(), last.seq + 1));
        }
        Ok(())
    }

    fn tick(&mut self, _: u64, _: bool, _: Time) -> Result<(), OutputError> {
        self.alive()
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        self.marks.push_back((self.pipe.written(), next));
        let taken = self.taken();
        self.place.keep(taken)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        self.pipe.wait_taken(LAST_WORDS);
        Sink::commit(self, next)?;
        self.pipe.finish(LAST_WORDS);
        Ok(())
    }

    fn cursor(&self) -> u64 {
        self.place.cursor()
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), OutputError> {
        self.buffer = self.rows.gap(self.target.journal.store(), gap);
        self.flush()
    }
}
