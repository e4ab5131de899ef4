//! Table `jobs`: which jobs are paused, and what is counted of each. Key: a letter for which of the two, and the job's
//! name; value: of a pause JSON, of the counts opaque here.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;
use crate::event::Time;

const PAUSE: u8 = b'p';
const COUNTS: u8 = b'c';

/// Why a job is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPause {
    /// When it was.
    pub since: Time,
    /// Who did it: an operator's name, or the guard.
    pub by: String,
    /// Why, in a sentence; with the figures when the guard did it.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    since: i64,
    by: std::borrow::Cow<'a, str>,
    reason: std::borrow::Cow<'a, str>,
}

impl JobPause {
    fn encode(&self) -> Vec<u8> {
        let row = Row { since: self.since.0, by: self.by.as_str().into(), reason: self.reason.as_str().into() };
        // Numbers and texts always become JSON.
        serde_json::to_vec(&row).unwrap_or_default()
    }

    /// What can't be read is a pause all the same: mail that was held back must not go out for a damaged reason.
    fn decode(bytes: &[u8]) -> JobPause {
        match serde_json::from_slice::<Row<'_>>(bytes) {
            Ok(row) => JobPause { since: Time(row.since), by: row.by.into(), reason: row.reason.into() },
            Err(_) => JobPause { since: Time::UNKNOWN, by: String::new(), reason: "(the reason can't be read)".into() },
        }
    }
}

fn key(kind: u8, job: &str) -> Vec<u8> {
    [&[kind], job.as_bytes()].concat()
}

impl Tables {
    /// The paused jobs.
    pub fn job_pauses(&self) -> Result<Vec<(String, JobPause)>, StoreError> {
        Ok(self.jobs(PAUSE)?.into_iter().map(|(job, row)| (job, JobPause::decode(&row))).collect())
    }

    /// What was counted of jobs.
    pub fn job_counts(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.jobs(COUNTS)
    }

    fn jobs(&self, kind: u8) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut rows = Vec::new();
        self.for_each(Table::Jobs, &[kind], &mut |key, value| match key.split_first() {
            Some((found, job)) if *found == kind => {
                rows.push((String::from_utf8_lossy(job).into_owned(), value.to_vec()));
                true
            }
            _ => false,
        })?;
        Ok(rows)
    }
}

impl Tx<'_> {
    /// Pauses a job.
    pub fn put_job_pause(&mut self, job: &str, pause: &JobPause) {
        self.put(Table::Jobs, &key(PAUSE, job), pause.encode());
    }

    /// Forgets a pause.
    pub fn remove_job_pause(&mut self, job: &str) {
        self.remove(Table::Jobs, &key(PAUSE, job));
    }

    /// Keeps what was counted of a job.
    pub fn put_job_counts(&mut self, job: &str, row: Vec<u8>) {
        self.put(Table::Jobs, &key(COUNTS, job), row);
    }

    /// Forgets what was counted of a job.
    pub fn remove_job_counts(&mut self, job: &str) {
        self.remove(Table::Jobs, &key(COUNTS, job));
    }
}
