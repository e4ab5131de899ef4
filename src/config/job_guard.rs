//! `<job-guard PATTERN>`: how much of a job's mail may bounce or be complained about before the job is paused, or the
//! operator told. Pure.

use std::fmt;
use std::time::Duration;

use super::model::Config;

/// A part of a whole, in millionths: so that limits compare exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// `10%`, `0.3%` or `0.003`; nothing for what is no share.
    pub fn parse(text: &str) -> Option<Share> {
        let (number, unit) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 10_000.0),
            None => (text.trim(), 1_000_000.0),
        };
        let is_plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let millionths = number.parse::<f64>().ok().filter(|_| is_plain)? * unit;
        (millionths <= 1_000_000.0).then_some(Share(millionths.round() as u32))
    }

    /// What `part` is of `whole`; nothing of nothing is zero, and more than all is all.
    pub fn of(part: u64, whole: u64) -> Share {
        let millionths = (u128::from(part) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0);
        Share(millionths.min(1_000_000) as u32)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.0) / 10_000.0;
        let text = if percent < 1.0 { format!("{percent:.4}") } else { format!("{percent:.2}") };
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What is done when a limit is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardAction {
    /// The job is paused, and the operator told.
    Pause,
    /// The operator is told.
    Alarm,
}

/// The limits of the jobs whose name fits a pattern. A limit that is `None` does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobGuard {
    /// The argument: names of jobs, with `*` for any text and `?` for any one character.
    pub pattern: String,
    /// `action`.
    pub action: GuardAction,
    /// `max-hard-bounce-share`: of the mail that has ended, what went to dead addresses.
    pub max_hard_bounce_share: Option<Share>,
    /// `max-bounce-share`: of the mail that has ended, what bounced for any reason but that it was suppressed.
    pub max_bounce_share: Option<Share>,
    /// `max-complaint-share`: of the mail that was delivered, what was complained about.
    pub max_complaint_share: Option<Share>,
    /// `min-volume`: mails that must have ended before a bounce share counts.
    pub min_volume: u64,
    /// `min-complaint-volume`: mails that must have been delivered before a complaint share counts.
    pub min_complaint_volume: u64,
    /// `window`: only what happened in about this time is counted.
    pub window: Duration,
}

impl Default for JobGuard {
    fn default() -> JobGuard {
        JobGuard {
            pattern: "*".to_owned(),
            action: GuardAction::Alarm,
            max_hard_bounce_share: Some(Share(100_000)),
            max_bounce_share: Some(Share(300_000)),
            max_complaint_share: Some(Share(3_000)),
            min_volume: 1_000,
            min_complaint_volume: 5_000,
            window: Duration::from_secs(86_400),
        }
    }
}

impl Config {
    /// The guard of a job: the first block whose pattern fits its name; where none does, the one that holds without any
    /// block, which only tells the operator.
    pub fn job_guard(&self, job: &str) -> JobGuard {
        let first = self.job_guards.iter().find(|g| super::include::matches(g.pattern.as_bytes(), job.as_bytes()));
        first.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_as_they_are_written_and_compare_exactly() {
        for (text, millionths, shown) in
            [("10%", 100_000, "10%"), ("0.3%", 3000, "0.3%"), ("0.003", 3000, "0.3%"), ("100 %", 1_000_000, "100%")]
        {
            assert_eq!(Share::parse(text), Some(Share(millionths)), "{text}");
            assert_eq!(Share(millionths).to_string(), shown);
        }
        for bad in ["", "%", "101%", "-1%", "ten", "1e-3", "nan", "5"] {
            assert_eq!(Share::parse(bad), None, "{bad}");
        }
        assert_eq!(Share::of(1, 3), Share(333_333));
        assert_eq!(Share::of(5, 0), Share(0));
        assert!(Share::of(101, 1000) > Share(100_000) && Share::of(100, 1000) <= Share(100_000));
    }

    #[test]
    fn the_first_guard_that_fits_holds_and_without_one_the_operator_is_only_told() {
        let text = "<job-guard spring-*>\naction pause\nmax-hard-bounce-share 5%\nmin-volume 200\n</job-guard>\n\
                    <job-guard *>\nmax-hard-bounce-share no\n</job-guard>\n";
        let config = crate::config::parse_str("t", text).config.unwrap();
        let spring = config.job_guard("spring-1");
        assert_eq!((spring.action, spring.min_volume), (GuardAction::Pause, 200));
        assert_eq!(spring.max_hard_bounce_share, Some(Share(50_000)));
        assert_eq!(config.job_guard("other").max_hard_bounce_share, None);
        let config = crate::config::parse_str("t", "").config.unwrap();
        assert_eq!(config.job_guard("any"), JobGuard::default());
        assert_eq!(JobGuard::default().action, GuardAction::Alarm);
    }

    #[test]
    fn a_wrong_limit_is_an_error_that_says_how_it_is_written() {
        for (line, part) in [("max-bounce-share 500%", "10%"), ("action stop", "pause"), ("min-volume x", "number")] {
            let read = crate::config::parse_str("t", &format!("<job-guard *>\n{line}\n</job-guard>\n"));
            assert!(read.config.is_none(), "{line}");
            let said: String = read.diagnostics.iter().map(|d| d.render()).collect();
            assert!(said.contains(part) && said.contains("t:2"), "{said}");
        }
    }
}
