//! The consumer that watches how each job's mail ends (`job_counts`), and pauses a job or raises an alarm when too much of
//! it bounces or is complained about (`<job-guard>`).
//!
//! Promises: counts, pauses and cursor are committed in one transaction, so a crash neither counts twice nor loses a
//! pause. A pause is in effect as soon as the event that caused it is durable; the operator is told when it is kept.
//! Only complaints that are proved count (design, "Trust"): else a stranger could stop a campaign. What was suppressed
//! was not sent and does not count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::follow::{Effect, Follower, Urgency};
use super::job_counts::{Counts, JobCounts, Trip};
use crate::classify::{FailureKind, RuleSets};
use crate::config::Live;
use crate::event::{Event, Kind, Time, category};
use crate::store::{JobPause, Store, StoreError, Tables, Tx};

/// The name of the consumer in the tables.
pub const CONSUMER: &str = "job guard";
/// Who has paused a job that its guard has paused.
pub const BY: &str = "job-guard";

/// What is counted, for those who show it.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    counts: JobCounts,
    /// Limits passed since the last commit, and whether the job was paused for it.
    trips: Vec<(Trip, bool)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the counts.
    pub fn with<T>(&self, f: impl FnOnce(&JobCounts) -> T) -> T {
        f(&self.lock().counts)
    }

    /// A job is about to be let go on: it is counted anew, and a pause that is not kept yet will not be. To be called
    /// before the pause is taken out of the tables.
    pub fn resumed(&self, job: &str) {
        let mut state = self.lock();
        state.trips.retain(|(trip, _)| trip.job != job);
        state.counts.resumed(job);
    }
}

/// Who carries out what the guard decides. Must not block.
pub trait Act: Send + 'static {
    /// Pause this job now; `false` when it is paused already, for another reason. The row is kept by the guard.
    fn pause(&self, job: &str, pause: &JobPause) -> bool;
    /// A limit was passed; called when it is kept.
    fn tell(&self, trip: &Trip);
}

/// What the consumer does with each event.
pub struct Guarding {
    shared: Shared,
    config: Live,
    tables: Tables,
    rules: RuleSets,
    act: Box<dyn Act>,
}

impl std::fmt::Debug for Guarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarding").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Opens the consumer where it stopped; also gives what it counts. `rules` are the sets compiled already.
pub fn open(
    store: &Store,
    config: Live,
    rules: RuleSets,
    act: Box<dyn Act>,
) -> Result<(Follower<Guarding>, Shared), StoreError> {
    let tables = store.tables().clone();
    let paused = tables.job_pauses()?;
    let counts = JobCounts::load(&tables.job_counts()?, |job| paused.iter().any(|(name, _)| name == job));
    let shared = Shared(Arc::new(Mutex::new(State { counts, trips: Vec::new() })));
    let effect = Guarding { shared: shared.clone(), config, tables, rules, act };
    Ok((Follower::open(store, effect)?, shared))
}

impl Guarding {
    /// What an event adds to its job's counts; `None` when nothing.
    fn counts(&mut self, event: &Event<'_>) -> Result<Option<Counts>, StoreError> {
        let one = Counts::default();
        Ok(match event.kind {
            Kind::Delivered => Some(Counts { delivered: 1, ended: 1, ..one }),
            Kind::Bounced | Kind::RemoteBounce if event.category == category::SUPPRESSED => None,
            Kind::RemoteBounce if !event.is_proved() => None,
            Kind::Bounced | Kind::RemoteBounce => {
                let here = u64::from(event.kind == Kind::Bounced);
                let hard = u64::from(event.is_permanent_failure() && self.is_hard(event)?);
                Some(Counts { ended: here, bounced: 1, hard, ..one })
            }
            Kind::Feedback if event.is_proved() && matches!(event.feedback_type, "abuse" | "fraud" | "virus") => {
                Some(Counts { complaints: 1, ..one })
            }
            _ => None,
        })
    }

    fn is_hard(&mut self, event: &Event<'_>) -> Result<bool, StoreError> {
        if !event.category.is_empty() {
            return Ok(FailureKind::of(event.category, None, false) == FailureKind::Hard);
        }
        let rules = self.rules.of(event.rules, || self.tables.rule_set(event.rules))?;
        Ok(rules.is_some_and(|rules| rules.classify(event).kind() == FailureKind::Hard))
    }
}

/// The row of the pause that a trip causes.
fn pause_of(trip: &Trip) -> JobPause {
    JobPause { since: Time(trip.time), by: BY.to_owned(), reason: trip.reason() }
}

impl Effect for Guarding {
    const NAME: &'static str = CONSUMER;

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        if event.job.is_empty() {
            return Ok(());
        }
        let Some(what) = self.counts(event)? else { return Ok(()) };
        let guard = self.config.load().job_guard(event.job);
        let mut state = self.shared.lock();
        if let Some(trip) = state.counts.count(event.job, what, event.time, &guard) {
            let paused = trip.pauses && self.act.pause(&trip.job, &pause_of(&trip));
            state.trips.push((trip, paused));
        }
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        // Counts alone are progress; they go with the cursor.
        if self.shared.lock().trips.is_empty() { Urgency::Whenever } else { Urgency::Soon }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        for (job, row) in state.counts.changed() {
            match row {
                Some(row) => tx.put_job_counts(job, row),
                None => tx.remove_job_counts(job),
            }
        }
        for (trip, _) in state.trips.iter().filter(|(_, paused)| *paused) {
            tx.put_job_pause(&trip.job, &pause_of(trip));
        }
        Ok(())
    }

    fn committed(&mut self) {
        let trips = {
            let mut state = self.shared.lock();
            state.counts.kept();
            std::mem::take(&mut state.trips)
        };
        for (trip, paused) in trips {
            if !paused {
                tracing::warn!(job = trip.job, "job-guard {}: {}", trip.guard, trip.reason());
            }
            self.act.tell(&trip);
        }
    }
}
