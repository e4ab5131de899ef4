//! All outputs of a running server: one thread each, so that a slow or broken one holds back nobody but itself.
//!
//! A thread waits for the ledger to grow, for a command, or for the time of the next commit, whichever is first; when the
//! ledger grows, it lets events gather for a moment, since a thread that is woken by each commit of the store costs more
//! than all else here. What goes wrong is logged (the same words once per interval), shown in the status, and tried again from the kept state;
//! the ledger keeps what was not written meanwhile.
#![expect(clippy::disallowed_methods, reason = "edge: threads, the clock, and waiting")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot};

use super::closing::{Files, State};
use super::columns::Columns;
use super::journal::Journal;
use super::lag::OutputStatus;
use super::names::Names;
use super::output::{Output, Step, Written};
use super::target::{OutputError, Target, configured_path, consumer_name};
use crate::classify::RuleSets;
use crate::config::{AcctFile, AcctFormat, OnLag};
use crate::disk::Disk;
use crate::event::Time;

/// How outputs are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Relative paths of acct-files are below this folder.
    pub root: PathBuf,
    /// The operator's zone: CSV times, file dates, midnight of CSV files.
    pub zone: TimeZone,
    /// New outputs start at the first event that the ledger still has; otherwise at its present end.
    pub start_at_beginning: bool,
    /// CSV files are synced and their cursors committed this often. Events are written after half as long at most.
    pub commit_every: Duration,
    /// After an error, the output is tried again after this long; the same error is logged once per twenty tries.
    pub retry_after: Duration,
    /// The rule sets that others have compiled; shared with them.
    pub rules: RuleSets,
}

impl Settings {
    /// The usual ones, in the machine's zone.
    pub fn new(root: PathBuf) -> Settings {
        Settings {
            root,
            zone: TimeZone::system(),
            start_at_beginning: false,
            commit_every: Duration::from_millis(400),
            retry_after: Duration::from_secs(3),
            rules: RuleSets::default(),
        }
    }
}

/// The outputs at work. Dropping it ends the threads without ending the files, as a crash would; see [`Outputs::stop`].
#[derive(Debug)]
pub struct Outputs {
    journal: Arc<dyn Journal>,
    disk: Arc<dyn Disk>,
    settings: Settings,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    target: Arc<Target>,
    commands: mpsc::UnboundedSender<Command>,
    status: Arc<Mutex<OutputStatus>>,
}

#[derive(Debug)]
enum Command {
    Rotate(oneshot::Sender<Result<(), String>>),
    Flush(oneshot::Sender<Result<(), String>>),
    /// What failed is tried again now.
    Retry,
    Stop(oneshot::Sender<Result<(), String>>),
}

/// How long an output that is behind goes on writing before it obeys a stop or a rotation.
const BEHIND_FOR: Duration = Duration::from_secs(10);

impl Outputs {
    /// Starts a thread per acct-file. Rows of outputs that are not configured any more are dropped, with a log line.
    /// Fails, and starts nothing, when `record-fields` of one are wrong or the store can't be read.
    pub fn start(
        journal: Arc<dyn Journal>,
        files: &[AcctFile],
        disk: Arc<dyn Disk>,
        settings: Settings,
    ) -> Result<Outputs, OutputError> {
        let outputs = Outputs { journal, disk, settings, running: Mutex::new(Vec::new()) };
        let targets = outputs.targets(files)?;
        for (consumer, row) in outputs.journal.rows()? {
            let Some(path) = configured_path(&consumer) else { continue };
            // The ledger must not go on without those that are still to read it.
            outputs.journal.hold(&consumer, row.cursor);
            if !targets.iter().any(|t| t.consumer == consumer) {
                outputs.drop_row(&consumer, path)?;
            }
        }
        targets.into_iter().try_for_each(|t| outputs.run(t))?;
        Ok(outputs)
    }

    /// Goes over to other acct-files: new ones start, removed ones end in order, changed ones end and start again; what
    /// stays as it is is not touched. Wrong `record-fields` change nothing.
    pub async fn reload(&self, files: &[AcctFile]) -> Result<(), OutputError> {
        let targets = self.targets(files)?;
        let ending: Vec<Running> = {
            let mut running = self.running();
            let (stay, end) = running.drain(..).partition(|r| targets.iter().any(|t| t.file == r.target.file));
            *running = stay;
            end
        };
        for r in ending {
            let consumer = r.target.consumer.clone();
            r.target.hurry.store(true, Ordering::Relaxed);
            if let Err(error) = ask(&r.commands, Command::Stop).await {
                tracing::error!(path = %r.target.file.path.display(), error, "accounting output did not end in order");
            }
            if !targets.iter().any(|t| t.consumer == consumer) {
                self.drop_row(&consumer, &r.target.file.path.to_string_lossy())?;
            }
        }
        let new: Vec<_> = {
            let running = self.running();
            for r in running.iter() {
                let _ = r.commands.send(Command::Retry);
            }
            targets.into_iter().filter(|t| !running.iter().any(|r| r.target.consumer == t.consumer)).collect()
        };
        new.into_iter().try_for_each(|t| self.run(t))
    }

    /// Writes what is durable now and ends the file in use, of every output or of the one configured under `path`; says
    /// what went wrong.
    pub async fn rotate(&self, path: Option<&Path>) -> Result<(), String> {
        let commands = self.commands(path);
        if commands.is_empty() {
            return Err(format!("no acct-file {}", path.unwrap_or(Path::new("is configured")).display()));
        }
        ask_all(commands, Command::Rotate).await
    }

    /// Returns when every event that is durable now has been written, and made durable as far as it can be without
    /// ending a file.
    pub async fn flush(&self) -> Result<(), String> {
        ask_all(self.commands(None), Command::Flush).await
    }

    /// Ends the outputs: what is in the ledger is written (for ten seconds at most; the rest is for the next start),
    /// CSV files are synced and committed, Parquet files are finished and published.
    pub async fn stop(&self) -> Result<(), String> {
        self.running().iter().for_each(|r| r.target.hurry.store(true, Ordering::Relaxed));
        let commands = self.commands(None);
        let result = ask_all(commands, Command::Stop).await;
        self.running().clear();
        result
    }

    /// Where each output is.
    pub fn status(&self) -> Vec<OutputStatus> {
        let end = self.journal.end();
        let running = self.running();
        let status = |r: &Running| {
            let s = lock(&r.status).clone();
            // What waits to be sent is not yet where it should be.
            let sent_on = matches!(r.target.file.format, AcctFormat::Webhook | AcctFormat::Nats);
            let reached = if sent_on { s.cursor } else { s.next };
            OutputStatus { lag_events: end.saturating_sub(reached), ..s }
        };
        running.iter().map(status).collect()
    }

    fn targets(&self, files: &[AcctFile]) -> Result<Vec<Arc<Target>>, OutputError> {
        let target = |file: &AcctFile| {
            Columns::of(file).map_err(|errors| OutputError::Fields { path: file.path.clone(), errors })?;
            Ok(Arc::new(Target {
                consumer: consumer_name(&file.path),
                names: Names::of(&self.settings.root, &file.path),
                move_to: file.move_to.as_ref().map(|d| self.settings.root.join(d)),
                file: file.clone(),
                journal: Arc::clone(&self.journal),
                rules: self.settings.rules.clone(),
                disk: Arc::clone(&self.disk),
                zone: self.settings.zone.clone(),
                start_at_beginning: self.settings.start_at_beginning,
                hurry: Arc::new(AtomicBool::new(false)),
            }))
        };
        let targets: Vec<Arc<Target>> = files.iter().map(target).collect::<Result<_, OutputError>>()?;
        for (i, one) in targets.iter().enumerate() {
            let same = |other: &Target| match (other.file.format.is_files(), one.file.format.is_files()) {
                (false, false) => other.consumer == one.consumer,
                (true, true) => other.names.is_same(&one.names),
                _ => false,
            };
            if targets[..i].iter().any(|other| same(other)) {
                return Err(OutputError::SamePath { path: one.file.path.clone() });
            }
        }
        Ok(targets)
    }

    /// Forgets an output. An unfinished Parquet file of it goes too: its records are in no file, which is what removing
    /// an output means.
    fn drop_row(&self, consumer: &str, path: &str) -> Result<(), OutputError> {
        if let Some(row) = self.journal.row(consumer)? {
            let names = Names::of(&self.settings.root, Path::new(path));
            if let Ok(State { files: Files::Parquet(p), .. }) = State::decode(&row.state) {
                for name in p.open.iter().chain(p.closing.as_ref().map(|c| &c.name)) {
                    // Nothing depends on it any more; if it can't be removed it is only in the way.
                    let _ = self.disk.remove(&names.dir().join(Names::in_progress(name)));
                }
            }
            self.journal.remove_row(consumer)?;
            tracing::warn!(path, first_unwritten = row.cursor, "accounting output removed from the configuration");
        }
        self.journal.release(consumer);
        Ok(())
    }

    fn run(&self, target: Arc<Target>) -> Result<(), OutputError> {
        Output::register(&target)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let row = self.journal.row(&target.consumer)?;
        let cursor = row.as_ref().map_or_else(|| self.journal.end(), |r| r.cursor.max(self.journal.start()));
        let left_out = row.and_then(|r| State::decode(&r.state).ok()).map_or(0, |s| left_out(&s));
        let status = Arc::new(Mutex::new(OutputStatus {
            path: target.file.path.clone(),
            next: cursor,
            cursor,
            left_out,
            ..OutputStatus::default()
        }));
        let worker = Worker {
            target: Arc::clone(&target),
            settings: self.settings.clone(),
            status: Arc::clone(&status),
            output: None,
            retry_at: None,
            failures: 0,
            earlier: Written::default(),
            left_out: 0,
        };
        // A thread is needed even to report errors, so failing to make one is a failure to start.
        let failed =
            |source| OutputError::File { what: "starting a thread for", path: target.file.path.clone(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        std::thread::Builder::new()
            .name("accounting".into())
            .spawn(move || worker.work(&runtime, inbox))
            .map_err(failed)?;
        self.running().push(Running { target, commands, status });
        Ok(())
    }

    fn commands(&self, path: Option<&Path>) -> Vec<mpsc::UnboundedSender<Command>> {
        // As configured, or as much of its end as was given.
        let wanted = |r: &&Running| path.is_none_or(|p| p == r.target.file.path || r.target.file.path.ends_with(p));
        self.running().iter().filter(wanted).map(|r| r.commands.clone()).collect()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        lock(&self.running)
    }
}

/// What is behind these locks is whole whenever they are free.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Question = fn(oneshot::Sender<Result<(), String>>) -> Command;

async fn ask(commands: &mpsc::UnboundedSender<Command>, question: Question) -> Result<(), String> {
    let (answer, answered) = oneshot::channel();
    let _ = commands.send(question(answer));
    answered.await.unwrap_or_else(|_| Err("the output's thread has ended".into()))
}

async fn ask_all(commands: Vec<mpsc::UnboundedSender<Command>>, question: Question) -> Result<(), String> {
    let mut answers = Vec::new();
    for c in &commands {
        let (answer, answered) = oneshot::channel();
        let _ = c.send(question(answer));
        answers.push(answered);
    }
    let mut errors = Vec::new();
    for answered in answers {
        if let Err(e) = answered.await.unwrap_or_else(|_| Err("the output's thread has ended".into())) {
            errors.push(e);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

fn left_out(state: &State) -> u64 {
    state.gaps.iter().map(|g| g.last + 1 - g.first).sum()
}

fn now() -> Time {
    jiff::Timestamp::now().into()
}

/// One output's thread.
struct Worker {
    target: Arc<Target>,
    settings: Settings,
    status: Arc<Mutex<OutputStatus>>,
    output: Option<Output>,
    /// Not before then, after an error. By a clock that nobody puts back or forward.
    retry_at: Option<Instant>,
    failures: u64,
    /// By outputs that failed and were opened again.
    earlier: Written,
    /// Events that the sink at work has left out, as far as the status says so.
    left_out: u64,
}

impl Worker {
    /// Works outside of the runtime, so that an output may block, or run a runtime of its own; waits inside.
    fn work(mut self, runtime: &tokio::runtime::Runtime, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut commit_at = Instant::now();
        loop {
            let command = match inbox.try_recv() {
                Ok(command) => Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) if self.step() == Step::Worked => None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    let next = self.output.as_ref().map_or(u64::MAX, Output::next);
                    let waited = runtime.block_on(async {
                        tokio::select! {
                            command = inbox.recv() => command.ok_or(()).map(Some),
                            () = gathered(self.target.journal.as_ref(), next, self.settings.commit_every / 2) => Ok(None),
                            () = tokio::time::sleep(self.settings.commit_every) => Ok(None),
                        }
                    });
                    match waited {
                        Ok(command) => command,
                        Err(()) => return,
                    }
                }
            };
            match command {
                Some(Command::Stop(answer)) => {
                    let result = self.stop();
                    drop(self);
                    let _ = answer.send(result);
                    return;
                }
                Some(Command::Flush(answer)) => {
                    let end = self.target.journal.end();
                    let result = self.catch_up(end, None).and_then(|()| self.with(|o, _| o.commit()));
                    self.show();
                    let _ = answer.send(result);
                }
                Some(Command::Rotate(answer)) => {
                    let (end, until) = (self.target.journal.end(), now() + BEHIND_FOR);
                    let result = self.catch_up(end, Some(until)).and_then(|()| self.with(|o, _| o.rotate()));
                    self.show();
                    let _ = answer.send(result);
                }
                Some(Command::Retry) => self.retry_at = None,
                None => {}
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + self.settings.commit_every;
                self.skip_if_overdue();
                let _ = self.with(|o, now| o.tick(false, now).and_then(|()| o.commit()));
                self.show();
            }
        }
    }

    /// With `on-lag skip`: leaves out what it is behind with before new mail must be refused for it.
    fn skip_if_overdue(&mut self) {
        let target = Arc::clone(&self.target);
        if target.file.on_lag != OnLag::Skip || !target.journal.lags_too_far(&target.consumer) {
            return;
        }
        if let Some(output) = self.output.take() {
            self.earlier.records += output.written.records;
            self.earlier.damaged += output.written.damaged;
        }
        match Output::skip(&target, now()) {
            Ok(Some(gap)) => {
                let mut status = lock(&self.status);
                status.left_out += gap.last + 1 - gap.first;
                status.next = gap.last + 1;
                status.cursor = gap.last + 1;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(output = %target.file.path.display(), %error, "can't leave events out"),
        }
    }

    /// Writes some events. An output that is broken, and not yet due to be tried again, has nothing to do.
    fn step(&mut self) -> Step {
        let step = self.with(|o, now| {
            let step = o.step(now)?;
            if step == Step::CaughtUp {
                o.tick(true, now)?;
            }
            Ok(step)
        });
        step.unwrap_or(Step::CaughtUp)
    }

    fn catch_up(&mut self, end: u64, until: Option<Time>) -> Result<(), String> {
        // A flush asks for more than waiting for the next try.
        self.retry_at = None;
        while self.with(|o, now| Ok((o.next(), o.step(now)?)))?.1 == Step::Worked {
            if self.output.as_ref().is_none_or(|o| o.next() >= end) || until.is_some_and(|t| now() >= t) {
                break;
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), String> {
        let end = self.target.journal.end();
        if self.output.is_none() && self.retry_at.is_some() && !self.target.file.format.is_files() {
            // Known and told: it is not started once more for the end. The next start goes on at its cursor.
            return Ok(());
        }
        self.catch_up(end, Some(now() + BEHIND_FOR))?;
        match self.output.take() {
            Some(output) => output.stop().map_err(|e| self.failed(&e)),
            None => Ok(()),
        }
    }

    /// Does something with the output, opening it if need be; after an error it is opened anew, later.
    fn with<T>(&mut self, f: impl FnOnce(&mut Output, Time) -> Result<T, OutputError>) -> Result<T, String> {
        let now = now();
        if self.output.is_none() {
            if self.retry_at.is_some_and(|at| Instant::now() < at) {
                return Err(lock(&self.status).error.clone().map_or_else(String::new, |(_, e)| e));
            }
            match Output::open(Arc::clone(&self.target), now) {
                Ok(output) => self.output = Some(output),
                Err(e) => return Err(self.failed(&e)),
            }
        }
        // Opened above.
        let Some(output) = &mut self.output else { return Err(String::new()) };
        match f(output, now) {
            Ok(value) => {
                if self.failures > 0 && self.output.as_ref().is_some_and(Output::works) {
                    tracing::info!(path = %self.target.file.path.display(), "accounting output works again");
                    self.failures = 0;
                    let mut status = lock(&self.status);
                    status.error = None;
                    status.retries = 0;
                }
                Ok(value)
            }
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn failed(&mut self, error: &OutputError) -> String {
        /// Tries between two log lines of the same error.
        const LOG_EVERY: u64 = 20;
        let (now, text) = (now(), error.to_string());
        self.show();
        if let Some(output) = self.output.take() {
            lock(&self.status).cursor = output.cursor();
            let handed_on =
                matches!(self.target.file.format, AcctFormat::Hook | AcctFormat::Webhook | AcctFormat::Nats);
            if handed_on && output.works() {
                // It got on before it failed: this is the first failure since.
                self.failures = 0;
            }
            self.earlier.records += output.written.records;
            self.earlier.damaged += output.written.damaged;
            self.left_out = 0;
        }
        let retry_after = match self.target.file.format {
            AcctFormat::Pipe | AcctFormat::Hook => self.target.file.retry_interval,
            AcctFormat::Csv | AcctFormat::Parquet => self.settings.retry_after,
            AcctFormat::Webhook | AcctFormat::Nats => self.back_off(error),
        };
        self.retry_at = Some(Instant::now() + retry_after);
        let mut status = lock(&self.status);
        let same = status.error.as_ref().is_some_and(|(_, last)| *last == text);
        if !same || self.failures.is_multiple_of(LOG_EVERY) {
            tracing::error!(
                path = %self.target.file.path.display(), error = text,
                "accounting output failed; trying again, the ledger keeps its records"
            );
        }
        self.failures += 1;
        status.error = Some((now, text.clone()));
        status.retries = self.failures;
        text
    }

    /// Twice as long as the last time, less up to a quarter by chance, so that many do not come back at once; as long as
    /// was asked for, if that is more.
    fn back_off(&self, error: &OutputError) -> Duration {
        let (first, longest) = self.target.file.push.retry;
        let doubled = first.saturating_mul(1 << self.failures.min(20)).min(longest);
        let wait = doubled.mul_f64(1.0 - 0.25 * rand::random::<f64>());
        match error {
            OutputError::Push { wait: Some(asked), .. } => wait.max(*asked),
            _ => wait,
        }
    }

    fn show(&mut self) {
        let Some(output) = &self.output else { return };
        let mut status = lock(&self.status);
        status.file = output.current();
        status.next = output.next();
        status.cursor = output.cursor();
        status.last_event = output.written.last_event;
        status.records = self.earlier.records + output.written.records;
        let left_out = output.left_out();
        if left_out.events > self.left_out {
            status.left_out += left_out.events - self.left_out;
            status.error = left_out.why.map(|why| (now(), why));
        }
        self.left_out = left_out.events;
        status.damaged = self.earlier.damaged + output.written.damaged;
    }
}

/// Waits until the ledger goes past `next - 1`, and then for `more` to come. An output that is broken waits for its next
/// try only.
async fn gathered(journal: &dyn Journal, next: u64, more: Duration) {
    if next == u64::MAX {
        return std::future::pending().await;
    }
    // A store that is closing answers at once, with nothing new: leave it to the timer.
    if journal.wait_past(next).await <= next {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(more).await;
}
