//! The jobs that have mail in the queues, by number, and which jobs are paused. Pure.
//!
//! Promises: a number is given to a job when its first recipient comes and taken back with its last one; what a queue
//! asks for each recipient is one look into a row. Jobs are numbered in 16 bits, which fit into a queued recipient
//! without making it larger. Beyond [`MAX_NUMBERED`] jobs at a time the others share [`CROWD`]: their pauses are kept
//! right before the attempt instead, where the message names its job.

use hashbrown::{HashMap, HashSet};

/// Number of a job while it has mail in the queues; used again after.
pub type JobId = u16;

/// Mail of no job.
pub const NO_JOB: JobId = 0;
/// Mail of a job that came when all numbers were given.
pub const CROWD: JobId = JobId::MAX;
/// Jobs that have numbers at a time.
pub const MAX_NUMBERED: usize = CROWD as usize - 1;

/// One job, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// Its name.
    pub job: String,
    /// Its recipients in the queues, those in a session's hands included.
    pub recipients: u64,
    /// Whether it is paused.
    pub paused: bool,
}

/// The jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    by_name: HashMap<Box<str>, JobId, foldhash::fast::RandomState>,
    /// Row `n` is the job with the number `n + 1`.
    rows: Vec<Row>,
    free: Vec<JobId>,
    /// By name, since a job without mail can be paused too.
    paused: HashSet<Box<str>>,
}

#[derive(Debug, Default)]
struct Row {
    name: Box<str>,
    recipients: u64,
    paused: bool,
}

impl Jobs {
    /// A recipient of this job has come; an empty name is no job.
    pub fn enter(&mut self, name: &str) -> JobId {
        if name.is_empty() {
            return NO_JOB;
        }
        if let Some(id) = self.by_name.get(name).copied() {
            if let Some(row) = self.rows.get_mut(usize::from(id) - 1) {
                row.recipients += 1;
            }
            return id;
        }
        let row = Row { name: name.into(), recipients: 1, paused: self.paused.contains(name) };
        let id = match self.free.pop() {
            Some(id) => {
                self.rows[usize::from(id) - 1] = row;
                id
            }
            None if self.rows.len() < MAX_NUMBERED => {
                self.rows.push(row);
                self.rows.len() as JobId
            }
            None => return CROWD,
        };
        self.by_name.insert(name.into(), id);
        id
    }

    /// A recipient of this job has left the queues.
    pub fn leave(&mut self, id: JobId) {
        let Some(row) = id.checked_sub(1).and_then(|n| self.rows.get_mut(usize::from(n))) else { return };
        row.recipients = row.recipients.saturating_sub(1);
        if row.recipients == 0 {
            let gone = std::mem::take(row);
            self.by_name.remove(&gone.name);
            self.free.push(id);
        }
    }

    /// Whether any job is paused.
    pub fn any_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Whether the job with this number is paused.
    pub fn is_paused(&self, id: JobId) -> bool {
        self.any_paused() && id.checked_sub(1).and_then(|n| self.rows.get(usize::from(n))).is_some_and(|row| row.paused)
    }

    /// Pauses a job, or lets it go on; its number, if it has one, when that changes anything.
    pub fn set_paused(&mut self, name: &str, paused: bool) -> (bool, Option<JobId>) {
        let changed = match paused {
            true if name.is_empty() => false,
            true => self.paused.insert(name.into()),
            false => self.paused.remove(name),
        };
        let id = self.by_name.get(name).copied().filter(|_| changed);
        if let Some(row) = id.and_then(|id| self.rows.get_mut(usize::from(id) - 1)) {
            row.paused = paused;
        }
        (changed, id)
    }

    /// The paused jobs.
    pub fn paused(&self) -> &HashSet<Box<str>> {
        &self.paused
    }

    /// Those with mail and those that are paused, in no order.
    pub fn status(&self) -> Vec<JobStatus> {
        let with_mail = self.rows.iter().filter(|row| row.recipients > 0).map(|row| JobStatus {
            job: row.name.to_string(),
            recipients: row.recipients,
            paused: row.paused,
        });
        let others = self.paused.iter().filter(|name| !self.by_name.contains_key(*name));
        with_mail.chain(others.map(|name| JobStatus { job: name.to_string(), recipients: 0, paused: true })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_with_the_first_recipient_and_used_again_after_the_last() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.enter(""), NO_JOB);
        let a = jobs.enter("a");
        assert_eq!(jobs.enter("a"), a);
        let b = jobs.enter("b");
        assert_ne!(a, b);
        jobs.leave(a);
        assert_eq!(jobs.status().len(), 2);
        jobs.leave(a);
        assert_eq!(jobs.enter("c"), a);
        jobs.leave(NO_JOB);
        jobs.leave(CROWD);
        assert_eq!(jobs.status().iter().map(|j| j.recipients).sum::<u64>(), 2);
    }

    #[test]
    fn a_pause_is_for_a_name_whether_or_not_it_has_mail() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.set_paused("a", true), (true, None));
        assert_eq!(jobs.set_paused("a", true), (false, None));
        let a = jobs.enter("a");
        assert!(jobs.is_paused(a) && !jobs.is_paused(NO_JOB) && !jobs.is_paused(CROWD));
        jobs.leave(a);
        assert_eq!(jobs.status(), [JobStatus { job: "a".into(), recipients: 0, paused: true }]);
        let a = jobs.enter("a");
        assert_eq!(jobs.set_paused("a", false), (true, Some(a)));
        assert!(!jobs.is_paused(a) && !jobs.any_paused());
    }

    #[test]
    fn too_many_jobs_share_one_number_and_do_no_harm() {
        let mut jobs = Jobs::default();
        for n in 0..MAX_NUMBERED {
            assert_ne!(jobs.enter(&n.to_string()), CROWD);
        }
        assert_eq!(jobs.enter("one more"), CROWD);
        jobs.set_paused("one more", true);
        assert!(!jobs.is_paused(CROWD));
        let first = jobs.by_name["0"];
        jobs.leave(first);
        assert_eq!(jobs.enter("another"), first);
    }
}
