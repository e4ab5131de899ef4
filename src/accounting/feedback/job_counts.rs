//! What became of each job's mail lately, and whether that is more than its guard allows. Pure.
//!
//! Counted in two halves of the guard's window, so that what is counted is never older than the window, and what is
//! younger than half of it always counts. A limit that is passed is told once; when the job goes on after that (an
//! operator resumed it, or the guard only tells), counting begins anew, and the share it had is tolerated: it trips again
//! only when at least the minimum volume of further mail is worse than that by a fifth.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::config::{GuardAction, JobGuard, Share};
use crate::event::Time;

/// Jobs that are remembered; beyond it those go that were quiet for longest.
pub const MAX_JOBS: usize = 10_000;
/// Bytes of a job's name that is counted; longer ones are nobody's campaign.
pub const MAX_NAME: usize = 256;

/// What became of mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Delivered.
    pub delivered: u64,
    /// Ended here: delivered or bounced, but not suppressed.
    pub ended: u64,
    /// Bounced, here or by a report that came later; those in `hard` too.
    pub bounced: u64,
    /// Bounced because the address is dead.
    pub hard: u64,
    /// Complained about.
    pub complaints: u64,
}

impl std::ops::Add for Counts {
    type Output = Counts;
    fn add(self, other: Counts) -> Counts {
        Counts {
            delivered: self.delivered.saturating_add(other.delivered),
            ended: self.ended.saturating_add(other.ended),
            bounced: self.bounced.saturating_add(other.bounced),
            hard: self.hard.saturating_add(other.hard),
            complaints: self.complaints.saturating_add(other.complaints),
        }
    }
}

/// What a guard watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// `max-hard-bounce-share`
    HardBounces,
    /// `max-bounce-share`
    Bounces,
    /// `max-complaint-share`
    Complaints,
}

impl Measure {
    const ALL: [Measure; 3] = [Measure::HardBounces, Measure::Bounces, Measure::Complaints];

    /// Its directive.
    pub const fn directive(self) -> &'static str {
        match self {
            Measure::HardBounces => "max-hard-bounce-share",
            Measure::Bounces => "max-bounce-share",
            Measure::Complaints => "max-complaint-share",
        }
    }

    fn limit(self, guard: &JobGuard) -> (Option<Share>, u64) {
        match self {
            Measure::HardBounces => (guard.max_hard_bounce_share, guard.min_volume),
            Measure::Bounces => (guard.max_bounce_share, guard.min_volume),
            Measure::Complaints => (guard.max_complaint_share, guard.min_complaint_volume),
        }
    }

    /// The part and the whole.
    fn of(self, counts: &Counts) -> (u64, u64) {
        match self {
            Measure::HardBounces => (counts.hard, counts.ended),
            Measure::Bounces => (counts.bounced, counts.ended),
            Measure::Complaints => (counts.complaints, counts.delivered),
        }
    }
}

/// A limit was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trip {
    /// The job.
    pub job: String,
    /// When, in microseconds since 1970: the time of the event that did it.
    pub time: i64,
    /// Whether the job is paused for it.
    pub pauses: bool,
    /// Which share.
    pub measure: Measure,
    /// So many mails ...
    pub part: u64,
    /// ... of so many.
    pub whole: u64,
    /// The share, as a percentage.
    pub share: String,
    /// The limit, as a percentage.
    pub limit: String,
    /// What the guard had tolerated after an earlier alarm or pause, as a percentage; empty when nothing.
    pub tolerated: String,
    /// All that was counted.
    pub counts: Counts,
    /// The argument of the `<job-guard>`.
    pub guard: String,
}

impl Trip {
    /// Why, in a sentence with the figures.
    pub fn reason(&self) -> String {
        let what = match self.measure {
            Measure::HardBounces => "mails that have ended went to addresses that do not exist",
            Measure::Bounces => "mails that have ended bounced",
            Measure::Complaints => "delivered mails were complained about",
        };
        let Trip { part, whole, share, limit, tolerated, .. } = self;
        let directive = self.measure.directive();
        let tolerated = match tolerated.is_empty() {
            true => String::new(),
            false => format!(", and worse than the {tolerated} it went on with"),
        };
        format!("{part} of {whole} {what} ({share}), more than {directive} {limit}{tolerated}")
    }
}

/// What is known of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    /// When the newer half began.
    since: i64,
    newer: Counts,
    older: Counts,
    /// The last event.
    last: i64,
    /// Shares it goes on with, in millionths, in the order of [`Measure::ALL`].
    tolerated: [u32; 3],
    /// It was paused by its guard and has not gone on yet.
    paused: bool,
    /// When a limit was passed last, and why.
    told: Option<(i64, String)>,
}

impl Tally {
    fn turn(&mut self, guard: &JobGuard, now: Time) {
        let half = i64::try_from(guard.window.as_micros() / 2).unwrap_or(i64::MAX).max(1);
        let passed = now.0.saturating_sub(self.since);
        if passed >= half.saturating_mul(2) {
            (self.older, self.newer, self.since) = (Counts::default(), Counts::default(), now.0);
        } else if passed >= half {
            (self.older, self.newer) = (self.newer, Counts::default());
            self.since += half;
        }
    }

    fn counts(&self) -> Counts {
        self.older + self.newer
    }

    fn judge(&self, job: &str, guard: &JobGuard) -> Option<Trip> {
        let counts = self.counts();
        Measure::ALL.into_iter().zip(self.tolerated).find_map(|(measure, tolerated)| {
            let (Some(limit), min_volume) = measure.limit(guard) else { return None };
            let (part, whole) = measure.of(&counts);
            let share = Share::of(part, whole);
            let worse = Share(tolerated.saturating_add(tolerated / 5));
            if whole < min_volume || share <= limit.max(worse) {
                return None;
            }
            Some(Trip {
                job: job.to_owned(),
                time: self.last,
                pauses: guard.action == GuardAction::Pause,
                measure,
                part,
                whole,
                share: share.to_string(),
                limit: limit.to_string(),
                tolerated: if worse > limit { Share(tolerated).to_string() } else { String::new() },
                counts,
                guard: guard.pattern.clone(),
            })
        })
    }

    /// Counting begins anew; what the shares are now is tolerated.
    fn go_on(&mut self) {
        let counts = self.counts();
        for (measure, tolerated) in Measure::ALL.into_iter().zip(&mut self.tolerated) {
            let (part, whole) = measure.of(&counts);
            *tolerated = (*tolerated).max(Share::of(part, whole).0);
        }
        (self.older, self.newer, self.since) = (Counts::default(), Counts::default(), self.last);
        self.paused = false;
    }
}

/// What is known of one job, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The job.
    pub job: String,
    /// What was counted within the window.
    pub counts: Counts,
    /// When a limit was passed last, and why.
    pub told: Option<(Time, String)>,
}

/// The jobs.
#[derive(Debug, Default)]
pub struct JobCounts {
    jobs: HashMap<Box<str>, Tally>,
    /// Jobs whose row is to be written; those that are in here and not in `jobs` are to be forgotten.
    changed: HashSet<Box<str>>,
    /// Those that were given out to be written and are not known to be durable.
    writing: HashSet<Box<str>>,
}

impl JobCounts {
    /// What was kept. `is_paused` says which jobs are: one that its guard had paused and that is not any more was
    /// resumed while the server died.
    pub fn load(rows: &[(String, Vec<u8>)], is_paused: impl Fn(&str) -> bool) -> JobCounts {
        let mut counts = JobCounts::default();
        for (job, row) in rows {
            // A row of another version is forgotten: the job is counted anew.
            let Ok(tally) = serde_json::from_slice::<Tally>(row) else { continue };
            let resumed = tally.paused && !is_paused(job);
            counts.jobs.insert(job.as_str().into(), tally);
            if resumed {
                counts.resumed(job);
            }
        }
        counts
    }

    /// One more of this job: `what` is added to its counts. Tells when that passes a limit of `guard`.
    pub fn count(&mut self, job: &str, what: Counts, now: Time, guard: &JobGuard) -> Option<Trip> {
        if job.is_empty() || job.len() > MAX_NAME {
            return None;
        }
        if !self.jobs.contains_key(job) {
            self.make_room();
            self.jobs.insert(job.into(), Tally { since: now.0, ..Tally::default() });
        }
        let tally = self.jobs.get_mut(job)?;
        if !self.changed.contains(job) {
            self.changed.insert(job.into());
        }
        tally.turn(guard, now);
        tally.newer = tally.newer + what;
        tally.last = tally.last.max(now.0);
        if tally.paused {
            return None;
        }
        let trip = tally.judge(job, guard)?;
        tally.told = Some((trip.time, trip.reason()));
        match trip.pauses {
            true => tally.paused = true,
            false => tally.go_on(),
        }
        Some(trip)
    }

    /// A job goes on after a pause, whoever had paused it.
    pub fn resumed(&mut self, job: &str) {
        if let Some(tally) = self.jobs.get_mut(job) {
            tally.go_on();
            self.changed.insert(job.into());
        }
    }

    /// The rows that have changed since they were durable; `None` for one that is to be forgotten.
    pub fn changed(&mut self) -> impl Iterator<Item = (&str, Option<Vec<u8>>)> {
        self.writing.extend(self.changed.drain());
        self.writing.iter().map(|job| {
            // Numbers and texts always become JSON.
            (&**job, self.jobs.get(job).map(|tally| serde_json::to_vec(tally).unwrap_or_default()))
        })
    }

    /// What [`JobCounts::changed`] gave is durable.
    pub fn kept(&mut self) {
        self.writing.clear();
    }

    /// One job.
    pub fn get(&self, job: &str) -> Option<Watched> {
        self.jobs.get_key_value(job).map(watched)
    }

    /// Those that have passed a limit, the latest first.
    pub fn told(&self) -> Vec<Watched> {
        let mut all: Vec<Watched> = self.jobs.iter().filter(|(_, t)| t.told.is_some()).map(watched).collect();
        all.sort_by_key(|w| std::cmp::Reverse(w.told.as_ref().map(|(time, _)| *time)));
        all
    }

    /// Drops a tenth of the jobs when all places are taken: those that were quiet for longest and are not paused.
    fn make_room(&mut self) {
        if self.jobs.len() < MAX_JOBS {
            return;
        }
        let mut quiet: Vec<(bool, i64, Box<str>)> =
            self.jobs.iter().map(|(job, t)| (t.paused, t.last, job.clone())).collect();
        quiet.sort_unstable();
        for (_, _, job) in quiet.into_iter().take(MAX_JOBS / 10) {
            self.jobs.remove(&job);
            self.changed.insert(job);
        }
    }
}

fn watched((job, tally): (&Box<str>, &Tally)) -> Watched {
    let told = tally.told.as_ref().map(|(time, why)| (Time(*time), why.clone()));
    Watched { job: job.to_string(), counts: tally.counts(), told }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DELIVERED: Counts = Counts { delivered: 1, ended: 1, bounced: 0, hard: 0, complaints: 0 };
    const HARD: Counts = Counts { delivered: 0, ended: 1, bounced: 1, hard: 1, complaints: 0 };
    const SOFT: Counts = Counts { delivered: 0, ended: 1, bounced: 1, hard: 0, complaints: 0 };
    const COMPLAINT: Counts = Counts { delivered: 0, ended: 0, bounced: 0, hard: 0, complaints: 1 };

    fn guard() -> JobGuard {
        JobGuard {
            action: GuardAction::Pause,
            min_volume: 100,
            min_complaint_volume: 100,
            window: Duration::from_secs(3600),
            ..JobGuard::default()
        }
    }

    /// So many of each, the bad ones last; the first trip.
    fn run(jobs: &mut JobCounts, good: usize, what: Counts, bad: usize, at: i64) -> Option<Trip> {
        let now = Time::from_secs(at);
        let all = std::iter::repeat_n(DELIVERED, good).chain(std::iter::repeat_n(what, bad));
        let mut trips = all.filter_map(|one| jobs.count("j", one, now, &guard()));
        let first = trips.next();
        assert_eq!(trips.count(), 0, "it is told once");
        first
    }

    #[test]
    fn a_share_at_its_limit_is_fine_and_one_more_trips_once_with_the_figures() {
        let mut jobs = JobCounts::default();
        assert_eq!(run(&mut jobs, 90, HARD, 10, 1000), None, "10% is the limit");
        let trip = run(&mut jobs, 0, HARD, 5, 1000).unwrap();
        assert_eq!((trip.part, trip.whole, trip.measure, trip.pauses), (11, 101, Measure::HardBounces, true));
        assert_eq!(
            trip.reason(),
            "11 of 101 mails that have ended went to addresses that do not exist (10.89%), more than \
             max-hard-bounce-share 10%"
        );
    }

    #[test]
    fn nothing_is_said_below_the_minimum_volume() {
        let mut jobs = JobCounts::default();
        assert_eq!(run(&mut jobs, 0, HARD, 99, 1000), None);
        assert!(run(&mut jobs, 0, HARD, 1, 1000).is_some());
    }

    #[test]
    fn complaints_and_other_bounces_have_limits_of_their_own() {
        let mut jobs = JobCounts::default();
        assert_eq!(run(&mut jobs, 999, COMPLAINT, 2, 1000), None);
        assert_eq!(run(&mut jobs, 0, COMPLAINT, 1, 1000).unwrap().measure, Measure::Complaints);
        let mut jobs = JobCounts::default();
        assert_eq!(run(&mut jobs, 70, SOFT, 30, 1000), None);
        assert_eq!(run(&mut jobs, 0, SOFT, 1, 1000).unwrap().measure, Measure::Bounces);
    }

    #[test]
    fn a_job_that_was_resumed_trips_again_only_when_it_is_worse_over_a_further_minimum_volume() {
        let mut jobs = JobCounts::default();
        assert!(run(&mut jobs, 80, HARD, 20, 1000).is_some());
        assert_eq!(run(&mut jobs, 0, HARD, 50, 1000), None, "it is paused: what was under way is only counted");
        let at_resume = 70.0 / 150.0;
        jobs.resumed("j");
        // The same again, however long.
        assert_eq!(run(&mut jobs, 540, HARD, 460, 1100), None, "46% is no worse than {at_resume}");
        // Far worse, but too few.
        jobs.resumed("j");
        assert_eq!(run(&mut jobs, 0, HARD, 99, 1200), None);
        let trip = run(&mut jobs, 0, HARD, 1, 1200).unwrap();
        assert!(trip.reason().ends_with("and worse than the 46.67% it went on with"), "{}", trip.reason());
    }

    #[test]
    fn an_alarm_is_not_raised_again_for_the_same() {
        let mut jobs = JobCounts::default();
        let guard = JobGuard { action: GuardAction::Alarm, ..guard() };
        let mut count =
            |n: usize, what| (0..n).filter_map(|_| jobs.count("j", what, Time::from_secs(1000), &guard)).count();
        assert_eq!(count(88, DELIVERED) + count(12, HARD), 1);
        assert_eq!(count(880, DELIVERED) + count(120, HARD), 0);
        assert_eq!(count(60, HARD), 1, "it has become worse");
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut jobs = JobCounts::default();
        assert_eq!(run(&mut jobs, 0, HARD, 99, 1000), None);
        assert_eq!(run(&mut jobs, 99, HARD, 1, 1000 + 3601), None);
        assert_eq!(jobs.get("j").unwrap().counts.ended, 100);
        // Half a window later the older half still counts.
        assert_eq!(run(&mut jobs, 1, HARD, 0, 1000 + 3601 + 1900), None);
        assert_eq!(jobs.get("j").unwrap().counts.ended, 101);
    }

    #[test]
    fn what_was_counted_survives_a_restart_and_so_does_that_it_was_resumed() {
        let mut jobs = JobCounts::default();
        assert!(run(&mut jobs, 80, HARD, 20, 1000).is_some());
        let rows: Vec<(String, Vec<u8>)> = jobs.changed().map(|(j, row)| (j.to_owned(), row.unwrap())).collect();
        let mut paused = JobCounts::load(&rows, |_| true);
        assert_eq!(run(&mut paused, 0, HARD, 200, 1000), None);
        let mut resumed = JobCounts::load(&rows, |_| false);
        assert_eq!(run(&mut resumed, 80, HARD, 20, 1000), None, "no worse than when it was resumed");
        assert_eq!(resumed.told()[0].job, "j");
        assert!(JobCounts::load(&[("j".into(), b"{".to_vec())], |_| true).get("j").is_none());
    }

    #[test]
    fn only_so_many_jobs_are_remembered_and_the_quiet_ones_go() {
        let mut jobs = JobCounts::default();
        assert!(run(&mut jobs, 80, HARD, 20, 1).is_some());
        for n in 0..MAX_JOBS + 10 {
            jobs.count(&format!("n{n}"), DELIVERED, Time::from_secs(2 + n as i64), &guard());
        }
        assert!(jobs.jobs.len() <= MAX_JOBS);
        assert!(jobs.get("j").is_some(), "a paused job is not forgotten");
        assert!(jobs.get("n0").is_none() && jobs.get(&format!("n{}", MAX_JOBS + 9)).is_some());
        assert!(jobs.changed().any(|(job, row)| job == "n0" && row.is_none()), "its row goes too");
        assert_eq!(jobs.count(&"x".repeat(300), DELIVERED, Time(1), &guard()), None);
    }
}
