//! Records to a program, `bounce-hook COMMAND`: one JSON object a line on its standard input.
//!
//! A line is handed over when the one before it has been read, so that a program may read one line, deal with it and end
//! with status 0: it is started again for the next. One that ends in another way gets its last line again, after
//! ten seconds. At least once: a line counts as dealt with when the program has read the next one, has ended with 0, or is
//! still running [`SETTLED`] after it read it. `eventId` tells what came twice.
#![expect(clippy::disallowed_methods, reason = "edge: a child process, the clock")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::closing::{Gap, State};
use super::json::JsonRows;
use super::pipe::Pipe;
use super::push_place::PushPlace;
use super::sink::Sink;
use super::target::{OutputError, Target};
use crate::event::{Event, Time};

/// A program that runs so long after it has read a line is taken to have dealt with it.
const SETTLED: Duration = Duration::from_secs(10);
/// Between two looks at whether a line was read.
const PAUSE: Duration = Duration::from_micros(200);
/// How long a program gets to read a line, or to end, when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A program being told.
#[derive(Debug)]
pub struct HookOutput {
    target: Arc<Target>,
    rows: JsonRows,
    place: PushPlace,
    pipe: Option<Pipe>,
    /// Lines that the running program has read.
    read: u64,
    /// The first sequence number behind the last line that was read, and when, until it is known to be dealt with.
    last: Option<(u64, Instant)>,
    /// First sequence number that is not known to be dealt with.
    done: u64,
    works: bool,
}

impl HookOutput {
    /// Starts the program.
    pub fn open(target: Arc<Target>, rows: JsonRows, state: State, cursor: u64) -> Result<HookOutput, OutputError> {
        let place = PushPlace::open(&target, state, cursor);
        let pipe = Some(Pipe::start(target.command()).map_err(|e| target.pipe_error("starting", &e))?);
        Ok(HookOutput { target, rows, place, pipe, read: 0, last: None, done: cursor, works: false })
    }

    /// Hands over one line, which `behind` is the first sequence number behind.
    fn hand(&mut self, line: &[u8], behind: u64) -> Result<(), OutputError> {
        let target = Arc::clone(&self.target);
        let hurry = || target.hurry.load(Ordering::Relaxed);
        loop {
            self.look()?;
            let pipe = match &mut self.pipe {
                Some(pipe) => pipe,
                None => {
                    self.read = 0;
                    self.pipe.insert(Pipe::start(target.command()).map_err(|e| target.pipe_error("starting", &e))?)
                }
            };
            let mut failed = pipe.write(line, target.file.write_timeout, &hurry).err();
            let began = Instant::now();
            let patience = || if hurry() { LAST_WORDS } else { target.file.write_timeout };
            while failed.is_none() {
                if pipe.taken() >= pipe.written() {
                    self.dealt_with();
                    self.read += 1;
                    self.last = Some((behind, Instant::now()));
                    return Ok(());
                }
                if pipe.end().map_err(|e| target.pipe_error("executing", &e))?.is_some() {
                    break;
                }
                if began.elapsed() >= patience() {
                    let why = format!("it has read nothing for {} s", began.elapsed().as_secs());
                    failed = Some(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            // It may have ended in between, as it may. Its end shows a moment after its pipe does.
            let ended = (0..50).any(|_| {
                let ended = pipe.end().is_ok_and(|e| e.is_some());
                if !ended && failed.is_some() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                ended
            });
            if let Some(failed) = failed.filter(|_| !ended) {
                self.place.keep(self.done)?;
                return Err(target.pipe_error("writing to", &failed));
            }
        }
    }

    /// Whether the program has ended, and how.
    fn look(&mut self) -> Result<(), OutputError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.end() {
            Ok(None) => Ok(()),
            Ok(Some(status)) if status.success() && self.read > 0 => {
                self.dealt_with();
                self.pipe = None;
                Ok(())
            }
            Ok(Some(status)) => {
                self.place.keep(self.done)?;
                let nothing = if self.read == 0 { " before it read anything" } else { "" };
                Err(self.target.pipe_error("executing", &format!("it ended by itself with {status}{nothing}")))
            }
            Err(e) => Err(self.target.pipe_error("executing", &e)),
        }
    }

    /// The last line that was read has been dealt with.
    fn dealt_with(&mut self) {
        if let Some((behind, _)) = self.last.take() {
            self.done = self.done.max(behind);
            self.works = true;
        }
    }
}

impl Sink for HookOutput {
    fn write(&mut self, events: &[Event<'_>], _: Time) -> Result<(), OutputError> {
        let mut line = Vec::new();
        for event in events {
            line.clear();
            self.rows.push(&mut line, event);
            line.push(b'\n');
            self.hand(&line, event.seq + 1)?;
        }
        Ok(())
    }

    fn tick(&mut self, _: u64, _: bool, _: Time) -> Result<(), OutputError> {
        self.look()?;
        if self.last.is_some_and(|(_, since)| since.elapsed() >= SETTLED) {
            self.dealt_with();
        }
        Ok(())
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        if self.last.is_none() {
            self.done = self.done.max(next);
        }
        self.place.keep(self.done)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        if let Some(pipe) = &mut self.pipe {
            pipe.finish(LAST_WORDS);
            if pipe.end().is_ok_and(|e| e.is_some_and(|status| status.success())) {
                self.dealt_with();
            }
        }
        self.pipe = None;
        Sink::commit(self, next)
    }

    fn cursor(&self) -> u64 {
        self.place.cursor()
    }

    fn works(&self) -> bool {
        self.works
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), OutputError> {
        let mut line = Vec::new();
        self.rows.gap(&mut line, self.target.journal.store(), gap);
        line.push(b'\n');
        self.hand(&line, self.place.cursor())
    }
}
