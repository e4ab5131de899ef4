//! Pausing jobs: what operators ask for, what the guard decides, and what the operator is told of it.

use serde_json::{Value, json};

use super::commands::text;
use super::notice::{Notice, Notices};
use super::now;
use crate::accounting::feedback::job_counts::{Counts, Trip, Watched};
use crate::accounting::feedback::job_guard;
use crate::config::Live;
use crate::event::Time;
use crate::manage::Answer;
use crate::queue::{Engine, JobStatus, Pauses};
use crate::store::JobPause;

/// Jobs shown in one answer.
const MAX_JOBS: usize = 1_000;
/// Alarms shown in the status.
const MAX_ALARMS: usize = 20;
/// Bytes of a reason.
const MAX_REASON: usize = 1_000;

/// The jobs, as the commands see them.
#[derive(Debug)]
pub(super) struct Jobs {
    engine: Engine,
    pauses: Pauses,
    counted: job_guard::Shared,
}

impl Jobs {
    pub(super) fn new(engine: Engine, pauses: Pauses, counted: job_guard::Shared) -> Jobs {
        Jobs { engine, pauses, counted }
    }

    /// Blocks for the disk.
    pub(super) fn pause(&self, job: &str, reason: &str, by: &str) -> Answer {
        if job.is_empty() {
            return Answer::error("name a job: carom queue jobs shows those there are");
        }
        if reason.trim().is_empty() || reason.len() > MAX_REASON {
            return Answer::error(format!("give a reason of at most {MAX_REASON} bytes"));
        }
        let by = if by.is_empty() { "an operator" } else { by };
        let pause = JobPause { since: now(), by: by.to_owned(), reason: reason.to_owned() };
        match self.pauses.pause(job, &pause) {
            (None, _) => Answer::done(format!("{job} is paused already.")),
            (Some(n), Ok(())) => Answer::done(format!("{job} is paused: {n} recipients are put aside.")),
            (Some(n), Err(error)) => Answer::error(format!(
                "{job} is paused, {n} recipients are put aside; but this could not be kept, and would not outlive a \
                 restart: {error}"
            )),
        }
    }

    /// Blocks for the disk.
    pub(super) fn resume(&self, job: &str, by: &str) -> Answer {
        // First, so that a pause which the guard has not written yet is not written after it was taken back.
        self.counted.resumed(job);
        match self.pauses.resume(job) {
            Ok(Some((pause, n))) => {
                tracing::warn!(job, by, recipients = n, "job goes on; it was paused by {}: {}", pause.by, pause.reason);
                Answer::done(format!("{job} goes on with {n} recipients."))
            }
            Ok(None) => Answer::error(format!("{job} is not paused: carom queue jobs shows those that are")),
            Err(error) => Answer::error(format!("{job} stays paused: {error}")),
        }
    }

    /// All jobs with mail and all that are paused, the paused and the largest first.
    pub(super) fn list(&self) -> Value {
        let pauses = self.pauses.all();
        let mut jobs = self.engine.jobs();
        jobs.sort_by(|a, b| (b.paused, b.recipients, &a.job).cmp(&(a.paused, a.recipients, &b.job)));
        let all = jobs.len();
        jobs.truncate(MAX_JOBS);
        let one = |job: &JobStatus| {
            let pause = pauses.iter().find(|(name, _)| *name == job.job).map(|(_, pause)| pause);
            let watched = self.counted.with(|counted| counted.get(&job.job));
            json!({
                "job": job.job,
                "recipients": job.recipients,
                "paused": job.paused,
                "since": pause.map(|p| text(p.since)),
                "by": pause.map(|p| &p.by),
                "reason": pause.map(|p| &p.reason),
                "counts": watched.map(|w| w.counts),
            })
        };
        json!({ "jobs": jobs.iter().map(one).collect::<Vec<_>>(), "count": all })
    }

    /// The paused jobs, for the status.
    pub(super) fn paused(&self) -> Vec<Value> {
        let pauses = self.pauses.all();
        if pauses.is_empty() {
            return Vec::new();
        }
        let jobs: std::collections::HashMap<String, u64> =
            self.engine.jobs().into_iter().filter(|j| j.paused).map(|j| (j.job, j.recipients)).collect();
        let one = |(job, pause): &(String, JobPause)| {
            json!({
                "job": job,
                "recipients": jobs.get(job).copied().unwrap_or(0),
                "since": text(pause.since),
                "by": pause.by,
                "reason": pause.reason,
            })
        };
        pauses.iter().take(MAX_JOBS).map(one).collect()
    }

    /// The limits passed last, for the status.
    pub(super) fn alarms(&self) -> Vec<Value> {
        let one = |w: Watched| {
            let (time, why) = w.told.unwrap_or_default();
            json!({ "job": w.job, "time": text(time), "reason": why, "counts": w.counts })
        };
        self.counted.with(|counted| counted.told()).into_iter().take(MAX_ALARMS).map(one).collect()
    }
}

/// Carries out what the guard decides.
pub(super) struct Act {
    pauses: Pauses,
    notices: Notices,
    live: Live,
}

impl Act {
    pub(super) fn new(pauses: Pauses, notices: Notices, live: Live) -> Act {
        Act { pauses, notices, live }
    }
}

impl job_guard::Act for Act {
    fn pause(&self, job: &str, pause: &JobPause) -> bool {
        self.pauses.apply(job, pause).is_some()
    }

    fn tell(&self, trip: &Trip) {
        let waits = self.live.load().job_guards.is_empty();
        // Nobody listens any more: the server is stopping, and the status will show it.
        let _ = self.notices.send(notice(trip, waits));
    }
}

/// What the operator is told of a limit that was passed.
fn notice(trip: &Trip, built_in: bool) -> Notice {
    let Counts { delivered, ended, bounced, hard, complaints } = trip.counts;
    let job: String = trip.job.chars().take(80).collect();
    let (subject, what) = match trip.pauses {
        true => (format!("Job {job} is paused"), "is paused"),
        false => (format!("Job {job} needs a look"), "goes on, but needs a look"),
    };
    let mut lines = vec![
        format!("Job {} {what}: {}.", trip.job, trip.reason()),
        String::new(),
        format!("Ended:        {ended}"),
        format!("Delivered:    {delivered}"),
        format!("Bounced:      {bounced}"),
        format!("  dead addresses: {hard}"),
        format!("Complaints:   {complaints}"),
        format!("Last event:   {}", text(Time(trip.time))),
        format!("Decided by:   <job-guard {}>", trip.guard),
        String::new(),
    ];
    match trip.pauses {
        true => lines.extend([
            "Its mail stays in the queue; none of it is attempted until you say so. When the list is mended:"
                .to_owned(),
            format!("    carom queue resume-job {}", trip.job),
            "It is then paused again only when further mail is worse than this.".to_owned(),
        ]),
        false => {
            lines.push("To stop it while you look:".to_owned());
            lines.push(format!("    carom queue pause-job {} --reason WHY", trip.job));
        }
    }
    if built_in {
        lines.push(String::new());
        lines.push("No <job-guard> is configured; with `action pause` in one, a job pauses by itself.".to_owned());
    }
    Notice {
        kind: "job-guard",
        subject,
        text: lines.iter().map(|line| format!("{line}\r\n")).collect(),
        to: Vec::new(),
        command: None,
        data: json!({ "alarm": "job-guard", "reason": trip.reason(), "trip": trip }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::feedback::job_counts::Measure;

    #[test]
    fn the_notice_says_what_happened_with_which_figures_and_what_to_do() {
        let trip = Trip {
            job: "spring".into(),
            time: 1_000_000,
            pauses: true,
            measure: Measure::HardBounces,
            part: 12,
            whole: 100,
            share: "12%".into(),
            limit: "10%".into(),
            tolerated: String::new(),
            counts: Counts { delivered: 88, ended: 100, bounced: 12, hard: 12, complaints: 0 },
            guard: "*".into(),
        };
        let said = notice(&trip, false);
        assert_eq!(said.subject, "Job spring is paused");
        for part in ["12 of 100", "max-hard-bounce-share 10%", "carom queue resume-job spring", "Delivered:    88"] {
            assert!(said.text.contains(part), "{part}: {}", said.text);
        }
        assert_eq!(said.data["trip"]["counts"]["hard"], 12);
        let said = notice(&Trip { pauses: false, ..trip }, true);
        assert!(said.text.contains("pause-job spring") && said.text.contains("No <job-guard>"), "{}", said.text);
    }
}
