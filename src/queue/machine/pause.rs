//! Pausing a job: its recipients are put aside, in every queue, until it goes on.
//!
//! It costs a walk over the queues when it begins and one when it ends, and nothing in between: what is put aside is not
//! met by those who draw, however much of it there is.

use std::time::Duration;

use hashbrown::HashSet;

use crate::event::Time;
use crate::queue::backlog::{Drawn, Entry, Fate};

use super::{JobId, JobStatus, Machine, QueueId};

/// How long a recipient of a paused job is left alone that could not be put aside (see [`crate::queue::jobs::CROWD`]).
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// Recipients on hold are looked at no faster than one in this time, all those of a queue together: each look reads the
/// message.
const HOLD_PACE: Duration = Duration::from_millis(5);

impl Machine {
    /// From now on no recipient of this job is drawn; how many were put aside. `None` when it is paused already.
    pub fn pause_job(&mut self, job: &str) -> Option<u64> {
        let (changed, id) = self.jobs.set_paused(job, true);
        let mut count = 0;
        for queue_id in 0..self.queues.len() as QueueId {
            let (Some(queue), Some(id)) = (self.queues[queue_id as usize].as_mut(), id) else { continue };
            let put_aside = queue.backlog.pause(id);
            if put_aside > 0 {
                count += put_aside as u64;
                self.run(queue_id);
            }
        }
        changed.then_some(count)
    }

    /// The recipients of this job may be drawn again; how many were put aside. `None` when it is not paused.
    pub fn resume_job(&mut self, job: &str, now: Time) -> Option<u64> {
        let (changed, id) = self.jobs.set_paused(job, false);
        let mut count = 0;
        for queue_id in 0..self.queues.len() as QueueId {
            let (Some(queue), Some(id)) = (self.queues[queue_id as usize].as_mut(), id) else { continue };
            let back = queue.backlog.resume(id, queue.settings.bounce_after, now);
            if back > 0 {
                count += back as u64;
                self.ready_grew(queue_id, now);
                self.run(queue_id);
            }
        }
        changed.then_some(count)
    }

    /// The names of the paused jobs.
    pub fn paused_jobs(&self) -> &HashSet<Box<str>> {
        self.jobs.paused()
    }

    /// The jobs with mail in the queues, and those that are paused.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.jobs.status()
    }

    /// Takes back what was drawn and is not done: put aside where its job is paused by now, else by its fate.
    pub(super) fn take_back(&mut self, id: QueueId, drawn: &[Drawn], now: Time) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        let is_paused = |job: JobId| self.jobs.is_paused(job);
        for one in drawn {
            match one.fate {
                Fate::Done => {}
                Fate::Again | Fate::Paused if is_paused(one.entry.job()) => queue.backlog.put_aside(one.entry),
                Fate::Again => {}
                Fate::Paused => {
                    let mut state = one.entry.state();
                    state.not_before = now + LEFT_ALONE;
                    queue.backlog.add(one.entry.with(&state), queue.settings.bounce_after, now);
                }
                Fate::Hold if is_paused(one.entry.job()) => queue.backlog.put_aside(one.entry),
                Fate::Hold => {
                    let pace = HOLD_PACE * u32::try_from(queue.backlog.on_hold()).unwrap_or(u32::MAX);
                    let until = now + queue.settings.suppression_hold_retry.max(pace);
                    queue.backlog.hold(one.entry, until, queue.settings.bounce_after);
                }
                Fate::Retry(state) if is_paused(one.entry.job()) => queue.backlog.put_aside(one.entry.with(&state)),
                Fate::Retry(state) => queue.backlog.add(one.entry.with(&state), queue.settings.bounce_after, now),
            }
        }
        let again = drawn.iter().filter(|d| d.fate == Fate::Again && !is_paused(d.entry.job()));
        queue.backlog.put_back(again.map(|d| d.entry));
        if let Some(due) = queue.backlog.next_due(queue.settings.bounce_after)
            && drawn.iter().any(|d| d.fate != Fate::Done)
        {
            self.arm(id, due);
        }
    }

    /// The same for recipients that were to be ended and were not.
    pub(super) fn put_back(&mut self, id: QueueId, entries: &[Entry]) {
        let Some(queue) = self.queues[id as usize].as_mut() else { return };
        let is_paused = |entry: &&Entry| self.jobs.is_paused(entry.job());
        entries.iter().filter(is_paused).for_each(|entry| queue.backlog.put_aside(*entry));
        queue.backlog.put_back(entries.iter().filter(|e| !is_paused(e)).copied());
    }
}
