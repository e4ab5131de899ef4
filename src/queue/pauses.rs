//! The jobs that are paused, with who did it, when and why: in the queues at once, and in the tables so that it holds over
//! a restart.
//!
//! Promises: a pause takes effect in memory first, so that no attempt begins while the disk is waited for; one that can't
//! be kept is in effect all the same, and the answer says that it will not outlive the server. A job goes on only after
//! its row is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{JobPause, Store, StoreError, Tables};

use super::engine::Engine;

/// The paused jobs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pauses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    tables: Tables,
    rows: Mutex<BTreeMap<String, JobPause>>,
}

impl Pauses {
    /// Pauses again what was paused when the last server ended. To be called before mail is admitted.
    pub fn open(store: &Store, engine: &Engine) -> Result<Pauses, StoreError> {
        let tables = store.tables().clone();
        let rows: BTreeMap<String, JobPause> = tables.job_pauses()?.into_iter().collect();
        for (job, pause) in &rows {
            engine.pause_job(job);
            tracing::warn!(job, by = pause.by, "job is paused still: {}", pause.reason);
        }
        Ok(Pauses(Arc::new(Shared { engine: engine.clone(), tables, rows: Mutex::new(rows) })))
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, JobPause>> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses a job in memory only, for one who keeps the row himself; how many recipients were put aside, `None` when
    /// it is paused already (it keeps its reason).
    pub fn apply(&self, job: &str, pause: &JobPause) -> Option<u64> {
        let put_aside = self.0.engine.pause_job(job)?;
        self.rows().insert(job.to_owned(), pause.clone());
        tracing::warn!(job, by = pause.by, recipients = put_aside, "job paused: {}", pause.reason);
        Some(put_aside)
    }

    /// Pauses a job; as [`Pauses::apply`], and kept. Blocks for the disk.
    pub fn pause(&self, job: &str, pause: &JobPause) -> (Option<u64>, Result<(), StoreError>) {
        let Some(put_aside) = self.apply(job, pause) else { return (None, Ok(())) };
        let kept = self.0.tables.write(|tx| {
            tx.put_job_pause(job, pause);
            Ok(())
        });
        (Some(put_aside), kept)
    }

    /// Lets a job go on; why it was paused, and how many recipients were put aside. `None` when it was not. Blocks for
    /// the disk.
    pub fn resume(&self, job: &str) -> Result<Option<(JobPause, u64)>, StoreError> {
        let Some(pause) = self.rows().get(job).cloned() else { return Ok(None) };
        self.0.tables.write(|tx| {
            tx.remove_job_pause(job);
            Ok(())
        })?;
        self.rows().remove(job);
        let back = self.0.engine.resume_job(job).unwrap_or(0);
        Ok(Some((pause, back)))
    }

    /// The paused jobs, by name.
    pub fn all(&self) -> Vec<(String, JobPause)> {
        self.rows().iter().map(|(job, pause)| (job.clone(), pause.clone())).collect()
    }
}
