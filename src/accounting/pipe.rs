//! A program that reads what is written to its standard input, watched: it may not start, die, or stop reading.
//!
//! What it has taken is known from what is left in the pipe, so that the rest can be written again to the next one.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a child process, the clock")]

use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::config::command::words;

/// How long a full pipe is left alone before it is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// A running program.
#[derive(Debug)]
pub struct Pipe {
    child: Child,
    /// `None` once it was told that no more follows.
    input: Option<ChildStdin>,
    written: u64,
}

impl Pipe {
    /// Starts the program. What it says on standard error goes where ours goes.
    pub fn start(command: &str) -> io::Result<Pipe> {
        let words = words(command);
        let Some((program, arguments)) = words.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        };
        let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let input = child.stdin.take();
        let pipe = Pipe { child, input, written: 0 };
        if let Some(input) = &pipe.input {
            rustix::io::ioctl_fionbio(input, true)?;
        }
        Ok(pipe)
    }

    /// Writes all of `bytes`. Fails when the program has taken nothing for `patience`, or, once `hurry` says so, has not
    /// taken all in a few seconds.
    pub fn write(&mut self, mut bytes: &[u8], patience: Duration, hurry: &dyn Fn() -> bool) -> io::Result<()> {
        const HURRIED: Duration = Duration::from_secs(3);
        let mut since = Instant::now();
        let mut hurried: Option<Instant> = None;
        let Some(input) = &mut self.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
        while !bytes.is_empty() {
            match input.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n as u64;
                    bytes = &bytes[n..];
                    since = Instant::now();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // One that reads little by little would hold back a stop as long as one that does not read.
                    if hurry() && hurried.get_or_insert_with(Instant::now).elapsed() >= HURRIED.min(patience) {
                        let why = "it reads too slowly for a stop to wait";
                        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    if since.elapsed() >= patience {
                        let why = format!("it has read nothing for {} s", patience.as_secs());
                        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the program has read.
    pub fn taken(&self) -> u64 {
        let left = self.input.as_ref().and_then(|i| rustix::io::ioctl_fionread(i).ok()).unwrap_or(self.written);
        self.written.saturating_sub(left)
    }

    /// The status it has ended with, if it has.
    pub fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| format!("it ended by itself with {status}")))
    }

    /// Waits until it has read all that was written; whether it has.
    pub fn wait_taken(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.taken() < self.written {
            if Instant::now() >= end || !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }

    /// Tells it that no more follows, and waits for its end; after `patience` it is killed.
    pub fn finish(&mut self, patience: Duration) {
        self.input = None;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.input = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            // A program given up on must not go on beside the next one.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
