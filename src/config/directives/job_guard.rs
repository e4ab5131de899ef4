//! What stands in a `<job-guard PATTERN>` (ours).

use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::job_guard::{GuardAction, JobGuard, Share};
use crate::config::lexer::Args;
use crate::config::tree::Reading;
use crate::config::values::ValueError;

/// The rows of `<job-guard>`.
pub const JOB_GUARD: &[Directive<JobGuard>] = &[
    Directive::one(
        "action",
        Set::Other("pause or alarm", "pause", action),
        "alarm",
        "What is done when a limit is passed: pause the job and tell the operator, or only tell",
    ),
    Directive::one(
        "max-hard-bounce-share",
        Set::Other("PERCENT or no", "10%", |args, _| share(args, |g, v| g.max_hard_bounce_share = v)),
        "10%",
        "Of a job's mail that has ended, how much may have gone to addresses that do not exist",
    ),
    Directive::one(
        "max-bounce-share",
        Set::Other("PERCENT or no", "30%", |args, _| share(args, |g, v| g.max_bounce_share = v)),
        "30%",
        "Of a job's mail that has ended, how much may have bounced for any reason; what was suppressed does not count",
    ),
    Directive::one(
        "max-complaint-share",
        Set::Other("PERCENT or no", "0.3%", |args, _| share(args, |g, v| g.max_complaint_share = v)),
        "0.3%",
        "Of a job's mail that was delivered, how much may be complained about; only proved complaints count",
    ),
    Directive::one(
        "min-volume",
        Set::Int(1, 1 << 40, |g, v| g.min_volume = v),
        "1000",
        "Mails of a job that must have ended before the share that bounced is looked at",
    ),
    Directive::one(
        "min-complaint-volume",
        Set::Int(1, 1 << 40, |g, v| g.min_complaint_volume = v),
        "5000",
        "Mails of a job that must have been delivered before the share that complained is looked at",
    ),
    Directive::one(
        "window",
        Set::Time(60, 366 * 86_400, |g, v| g.window = v),
        "1d",
        "What happened longer ago than this does not count; of what is younger than half of it, all does",
    ),
];

fn action(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<JobGuard>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let action = match text.to_ascii_lowercase().as_str() {
        "pause" => GuardAction::Pause,
        "alarm" => GuardAction::Alarm,
        _ => {
            let message = format!("{text:?} is nothing that a guard can do");
            return Err(ValueError { message, help: "write action pause or action alarm".into() });
        }
    };
    Ok(Arc::new(move |g| g.action = action))
}

fn share(args: &mut Args<'_>, set: fn(&mut JobGuard, Option<Share>)) -> Result<Change<JobGuard>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let share = match text.trim() {
        no if no.eq_ignore_ascii_case("no") => None,
        text => Some(Share::parse(text).ok_or_else(|| ValueError {
            message: format!("{text:?} is no share"),
            help: "write a percentage from 0% to 100%, such as 10% or 0.3%; no takes the limit away".into(),
        })?),
    };
    Ok(Arc::new(move |g| set(g, share)))
}
