//! Large lists on their way in: those that are being read, and what becomes of those that are merged or taken back.
//!
//! Few are read at a time, and one that is left alone gives its place to the next. Merging and taking back go on in
//! threads of their own; a stop ends them behind a transaction, and the next start goes on with the merging.
#![expect(clippy::disallowed_methods, reason = "edge: reads the clock, waits for threads")]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::now;
use super::suppression::{On, Said, few, hash_of, named, scope_of, words};
use crate::event::Time;
use crate::manage::Answer;
use crate::manage::suppression::{ImportInfo, ImportRow};
use crate::store::{Store, StoreError};
use crate::suppress::Suppression;
use crate::suppress::bulk::{self, Batch, Import, Phase, Progress, Row, Standing};

/// Lists that are read at the same time; each has some megabytes of buffers and 256 open files.
const MOST_READ: usize = 4;
/// One that got nothing for so long may be dropped.
const IDLE: Duration = Duration::from_secs(600);
/// Works that are remembered when they are over.
const REMEMBERED: usize = 64;
/// How long one answer waits for the end of a taking back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where a purge goes on while a list is taken back.
const TAKING_BACK: &str = "undo";

/// See the head of the file. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct BulkImports(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    reading: Mutex<HashMap<u32, Reading>>,
    works: Mutex<HashMap<u32, Work>>,
}

#[derive(Debug)]
struct Reading {
    import: Import,
    /// What the same list begun again has in common with it.
    identity: String,
    fed: Instant,
}

/// A merging, or a taking back.
#[derive(Debug, Default)]
struct Work {
    running: bool,
    /// Rows dealt with.
    done: u64,
    error: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BulkImports {
    /// Begins to read one.
    pub(super) fn begin(&self, on: &On<'_>, info: ImportInfo) -> Said<Answer> {
        if info.hashed && on.list.hasher().is_keyed() {
            return Err(
                "this list is kept with a suppression-hash-key, so a list of plain sums can't be taken in".into()
            );
        }
        let batch = Batch {
            name: info.name.into(),
            who: named(&info.who).into(),
            why: info.reason.into(),
            scope: scope_of(&info.scope)?,
            rule: "import".into(),
            expires: Time(info.expires),
            now: now(),
            hashed_only: on.config.suppression_hashed,
        };
        let mut reading = lock(&self.0.reading);
        // Begun again: whoever sent it before is gone.
        reading.retain(|_, r| r.identity.is_empty() || r.identity != info.identity);
        if reading.len() >= MOST_READ {
            reading.retain(|_, r| r.fed.elapsed() < IDLE);
        }
        if reading.len() >= MOST_READ {
            return Err(format!("{MOST_READ} large lists are coming in already: try again when one of them has ended"));
        }
        let import = Import::begin(on.store, on.list, batch).map_err(words)?;
        let number = import.number();
        reading.insert(number, Reading { import, identity: info.identity, fed: Instant::now() });
        Ok(Answer::data(json!({ "batch": number })))
    }

    /// Takes rows of one; an error ends it, and nothing is entered.
    pub(super) fn rows(&self, on: &On<'_>, number: u32, rows: &[ImportRow]) -> Said<Answer> {
        few(rows.len())?;
        let mut reading = lock(&self.0.reading);
        let Some(one) = reading.get_mut(&number) else { return Err(not_open(number)) };
        if let Err(error) = rows.iter().try_for_each(|row| add(on, &mut one.import, row)) {
            reading.remove(&number);
            return Err(format!("{error}; nothing of import {number} was entered"));
        }
        one.fed = Instant::now();
        Ok(Answer::data(json!({ "batch": number })))
    }

    /// Begins to merge one.
    pub(super) fn end(&self, on: &On<'_>, number: u32, (skipped, rejected): (u64, u64)) -> Said<Answer> {
        let one = lock(&self.0.reading).remove(&number);
        match one {
            Some(Reading { mut import, .. }) => {
                import.left_out(skipped, rejected);
                self.work(number, move |told| import.finish(told).map(|done| done.rows))?;
            }
            // The answer to the first time was lost.
            None if lock(&self.0.works).contains_key(&number) => {}
            None => return Err(not_open(number)),
        }
        self.status(on.store, number)
    }

    /// How far one is.
    pub(super) fn status(&self, store: &Store, number: u32) -> Said<Answer> {
        let standing = bulk::find(store.suppression(), number).map_err(words)?;
        let standing = standing.ok_or_else(|| format!("there is no large import {number}"))?;
        Ok(Answer::data(self.said(number, &standing)))
    }

    /// All of them.
    pub(super) fn all(&self, store: &Store) -> Said<Vec<Value>> {
        let all = bulk::batches(store.suppression()).map_err(words)?;
        Ok(all.iter().map(|(number, standing)| self.said(*number, standing)).collect())
    }

    fn said(&self, number: u32, s: &Standing) -> Value {
        let works = lock(&self.0.works);
        let work = works.get(&number);
        // The table is told at the end of each work file only.
        let live = work.filter(|w| w.running && s.phase == Phase::Merging).map_or(0, |w| w.done);
        json!({
            "batch": number, "name": s.name, "who": s.who, "reason": s.why, "begun": s.began, "phase": s.phase,
            "rows": s.rows, "merged": s.merged.max(live), "entered": s.entered, "kept": s.kept, "doubles": s.doubles,
            "skipped": s.skipped, "rejected": s.rejected, "undone": s.undone,
            "running": work.is_some_and(|w| w.running), "error": work.and_then(|w| w.error.clone()),
        })
    }

    /// Takes one back, if it is a large one: in a thread, for the end of which the caller asks again and again.
    pub(super) fn take_back(&self, on: &On<'_>, number: u32, said: (&str, &str), after: &str) -> Option<Said<Answer>> {
        match bulk::find(on.store.suppression(), number) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(Err(words(error))),
        }
        if after != TAKING_BACK {
            let (store, list) = (on.store.clone(), on.list.clone());
            let (who, why) = (said.0.to_owned(), said.1.to_owned());
            let undo =
                move |told: &mut dyn FnMut(&Progress)| bulk::undo(&store, &list, number, (&who, &why), now(), told);
            if let Err(error) = self.work(number, undo) {
                return Some(Err(error));
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match lock(&self.0.works).get(&number) {
                None => return Some(Err(format!("import {number} is not being taken back: begin again"))),
                Some(Work { running: false, error: Some(error), .. }) => return Some(Err(error.clone())),
                Some(Work { running: false, done, .. }) => {
                    return Some(Ok(Answer::data(json!({ "entries": done, "active": done, "next": null }))));
                }
                Some(_) => {}
            }
            if Instant::now() >= end {
                return Some(Ok(Answer::data(json!({ "entries": 0, "active": 0, "next": TAKING_BACK }))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether one is being merged or taken back.
    pub(super) fn is_running(&self, number: u32) -> bool {
        lock(&self.0.works).get(&number).is_some_and(|w| w.running)
    }

    /// Goes on with what the last server did not finish.
    pub(super) fn resume(&self, store: &Store, list: &Suppression) {
        let left = match bulk::unfinished(store.suppression()) {
            Ok(left) => left,
            Err(error) => return tracing::error!(%error, "imports that were interrupted can't be found"),
        };
        for (number, standing) in left {
            tracing::info!(import = number, list = &*standing.name, rows = standing.rows, "an import goes on");
            let (store, list) = (store.clone(), list.clone());
            let merge =
                move |told: &mut dyn FnMut(&Progress)| bulk::resume(&store, &list, number, told).map(|d| d.rows);
            if let Err(error) = self.work(number, merge) {
                tracing::error!(import = number, error, "an import does not go on");
            }
        }
    }

    /// Gives up what is read, and ends all else behind a transaction each; [`BulkImports::is_busy`] until then.
    pub(super) fn stop(&self, list: &Suppression) {
        lock(&self.0.reading).clear();
        bulk::end_all(list);
    }

    /// Whether anything is merged or taken back.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.0.works).values().any(|w| w.running)
    }

    /// Does it in a thread.
    fn work(
        &self,
        number: u32,
        what: impl FnOnce(&mut dyn FnMut(&Progress)) -> Result<u64, StoreError> + Send + 'static,
    ) -> Said<()> {
        let mut works = lock(&self.0.works);
        if works.get(&number).is_some_and(|w| w.running) {
            return Err(format!("import {number} is being merged or taken back: wait for its end"));
        }
        if works.len() >= REMEMBERED {
            works.retain(|_, w| w.running);
        }
        works.insert(number, Work { running: true, ..Work::default() });
        drop(works);
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("carom-import".into()).spawn(move || {
            let change = |f: &dyn Fn(&mut Work)| {
                if let Some(work) = lock(&shared.works).get_mut(&number) {
                    f(work);
                }
            };
            let mut told = |p: &Progress| change(&|w| w.done = p.done);
            let ended = catch_unwind(AssertUnwindSafe(|| what(&mut told)))
                .unwrap_or_else(|_| Err(StoreError::other("it failed; the log says more")));
            match ended {
                Ok(done) => change(&|w| (w.running, w.done) = (false, done)),
                Err(error) => {
                    tracing::error!(import = number, %error, "an import, or its taking back, ended early");
                    change(&|w| (w.running, w.error) = (false, Some(error.to_string())));
                }
            }
        });
        if let Err(error) = thread {
            lock(&self.0.works).remove(&number);
            return Err(format!("no thread for the import: {error}"));
        }
        Ok(())
    }
}

fn not_open(number: u32) -> String {
    format!("no import {number} is being read: begin it again")
}

fn add(on: &On<'_>, import: &mut Import, row: &ImportRow) -> Said<()> {
    let scope = if row.scope.is_empty() { None } else { Some(scope_of(&row.scope)?) };
    let said = Row {
        time: Time(row.time),
        expires: Time(row.expires),
        scope: scope.as_ref(),
        rule: &row.rule,
        category: &row.category,
        reply: &row.reply,
        note: &row.note,
    };
    match row.subject.contains('@') {
        true => import.add(&row.subject, &said).map_err(words),
        false => import.add_hashed(hash_of(on, &row.subject)?, &said).map_err(words),
    }
}
