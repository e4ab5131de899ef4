#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: programs, threads, the clock")]
//! One run of a program that takes a mail on its standard input.
//!
//! Promises:
//! - no shell is involved; the program gets the arguments as they are, an environment of [`KEPT`] alone, `/` as its
//!   working directory and no file of ours but its input and output;
//! - its input is the whole mail, with LF at the end of lines, as a file in memory: a server that dies leaves it whole, and
//!   a program that does not read it holds nobody up;
//! - it runs in a process group of its own, which ends with it: what it has started and left behind is killed, what is to
//!   go on must leave the group (`setsid`). One that takes too long is told to end (SIGTERM), then killed; when the caller
//!   does not wait any longer, killed at once;
//! - of what it says on standard output and error, the end is kept, [`KEPT_OUTPUT`] bytes; the rest is read and dropped.
//!
//! Fails by saying so in `End`; nothing here panics or waits without an end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::oneshot;

use super::local::{lines, put_line};

/// What of our environment a program gets.
pub const KEPT: &[&str] = &["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"];
/// `PATH` where we have none ourselves.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Bytes of output.
pub const KEPT_OUTPUT: usize = 1024;
/// Between SIGTERM and SIGKILL, and once more until nobody waits for the program any longer.
const GRACE: Duration = Duration::from_secs(3);
/// Output that is read when the program has ended; more has only one that left its group.
const LAST_OUTPUT: usize = 1 << 20;

/// What is to be run.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// A path, or a name to be looked for in `PATH`.
    pub program: String,
    pub arguments: Vec<String>,
    /// The mail.
    pub content: Bytes,
    /// How long it may take.
    pub limit: Duration,
}

/// How a run has ended.
#[derive(Debug)]
pub(super) enum End {
    /// It could not be started.
    NotStarted(io::Error),
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// By us, or not at all: it took too long.
    TimedOut,
    /// How is not known.
    Unknown(io::Error),
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ran {
    pub end: End,
    /// The end of what it has said.
    pub output: Vec<u8>,
}

impl Ran {
    fn not_started(error: io::Error) -> Ran {
        Ran { end: End::NotStarted(error), output: Vec::new() }
    }
}

/// How far a run is; what kills the program asks here, so that it never kills a process that took over its number.
#[derive(Debug)]
enum Stage {
    Waiting,
    Running(Pid),
    Over,
}

/// Kills the program when it is dropped before the run is over.
struct Leash(Arc<Mutex<Stage>>);

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    // Nothing is done under it that could leave it half-changed.
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Leash {
    fn drop(&mut self) {
        let mut stage = lock(&self.0);
        if let Stage::Running(group) = *stage {
            let _ = kill_process_group(group, Signal::KILL); // it may just have ended
        }
        *stage = Stage::Over;
    }
}

/// Runs a program to its end. When the future is dropped, the program is killed.
pub(super) async fn run(task: Task) -> Ran {
    let stage = Arc::new(Mutex::new(Stage::Waiting));
    let leash = Leash(stage.clone());
    let (done, ran) = oneshot::channel();
    // A thread of its own: programs may hang in hundreds, and the pool's threads have other work to do.
    let started = std::thread::Builder::new().name("program".to_owned()).spawn(move || {
        let (ran, child) = attend(&task, &stage);
        let _ = done.send(ran); // nobody may wait any longer
        if let Some(mut child) = child {
            let _ = child.wait(); // whatever it was, it is not ours any more
        }
    });
    let ran = match started {
        Ok(_) => ran.await.unwrap_or_else(|_| Ran {
            end: End::Unknown(io::Error::other("the thread that attends it broke off")),
            output: Vec::new(),
        }),
        Err(error) => Ran::not_started(error),
    };
    drop(leash);
    ran
}

/// Starts the program and stays with it.
fn attend(task: &Task, stage: &Mutex<Stage>) -> (Ran, Option<Child>) {
    let prepared = input(&task.content).and_then(|input| Ok((input, io::pipe()?)));
    let (input, (output, theirs)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return (Ran::not_started(error), None),
    };
    let started = {
        let mut stage = lock(stage);
        if matches!(*stage, Stage::Over) {
            return (Ran::not_started(io::ErrorKind::Interrupted.into()), None);
        }
        let started = start(task, input, theirs);
        if let Ok(child) = &started {
            *stage = Stage::Running(Pid::from_child(child));
        }
        started
    };
    match started {
        Ok(child) => {
            let ran = watch(Pid::from_child(&child), output, task.limit);
            *lock(stage) = Stage::Over;
            (ran, Some(child))
        }
        Err(error) => (Ran::not_started(error), None),
    }
}

/// The mail as a file that is in no folder.
fn input(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("mail", MemfdFlags::CLOEXEC)?);
    let mut text = Vec::with_capacity(content.len() + 1);
    lines(content).for_each(|line| put_line(&mut text, line));
    file.write_all(&text)?;
    file.rewind()?;
    Ok(file)
}

fn start(task: &Task, input: File, output: io::PipeWriter) -> io::Result<Child> {
    let mut command = Command::new(&task.program);
    command.args(&task.arguments).current_dir("/").process_group(0).env_clear().env("PATH", PATH);
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(input).stdout(output.try_clone()?).stderr(Stdio::from(output)).spawn()
}

/// Waits for the end of a program, or for that of our patience.
fn watch(group: Pid, mut output: PipeReader, limit: Duration) -> Ran {
    const SHORTEST: Duration = Duration::from_micros(500);
    const LONGEST: Duration = Duration::from_millis(20);
    let (begun, mut pause, mut told, mut kept) = (Instant::now(), SHORTEST, false, Vec::new());
    let mut readable = rustix::io::ioctl_fionbio(&output, true).is_ok();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let end = loop {
        readable = readable && read(&mut output, &mut kept, usize::MAX);
        match waitid(WaitId::Pid(group), options) {
            Ok(Some(_)) if told => break End::TimedOut,
            Ok(Some(ended)) => match (ended.exit_status(), ended.terminating_signal()) {
                (Some(exit), _) => break End::Exit(exit),
                (None, Some(signal)) => break End::Signal(signal),
                (None, None) => break End::Unknown(io::Error::other("it ended, but not as programs do")),
            },
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => break End::Unknown(error.into()),
        }
        let taken = begun.elapsed();
        if taken >= limit && !told {
            told = true;
            let _ = kill_process_group(group, Signal::TERM); // it may just have ended
        }
        if taken >= limit + GRACE {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if taken >= limit + 2 * GRACE {
            break End::TimedOut;
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST);
    };
    // It has not been waited for, so that nobody else has its number yet.
    let _ = kill_process_group(group, Signal::KILL);
    if readable {
        read(&mut output, &mut kept, LAST_OUTPUT);
    }
    Ran { end, output: kept }
}

/// Reads what there is, up to `most` bytes, and keeps the end of it. `false` when no more will come.
fn read(output: &mut PipeReader, kept: &mut Vec<u8>, most: usize) -> bool {
    let mut piece = [0; 16 << 10];
    let mut so_far = 0;
    // One that writes without a pause must not keep us from looking at the clock.
    while so_far < most.min(LAST_OUTPUT) {
        match output.read(&mut piece) {
            Ok(0) => return false,
            Ok(n) => {
                so_far += n;
                kept.extend_from_slice(&piece[..n]);
                let over = kept.len().saturating_sub(KEPT_OUTPUT);
                kept.drain(..over);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// Why a program could not be run, as far as that can be known without doing so.
pub fn check(program: &str) -> Result<(), String> {
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let found = std::env::split_paths(OsStr::new(&folders)).any(|folder| runs(&folder.join(program)).is_ok());
    if found { Ok(()) } else { Err("there is no such program in PATH".to_owned()) }
}

fn runs(path: &Path) -> Result<(), String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|_| "it can't be executed".to_owned())
}
