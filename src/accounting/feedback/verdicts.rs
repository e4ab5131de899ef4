//! What an event comes to for the suppression rules: its verdict, by the rule set it was stamped with.
//!
//! A message whose time was over is judged by what stood in its way: the reply it ended with, or the queue's last failure.

use crate::classify::{FailureKind, RuleKind, RuleSet, Verdict};
use crate::event::{Event, Kind};
use crate::suppress::rules::Judged;

/// What stands before the queue's last failure in the diagnostic of a message whose time was over (`delivery::attempt`).
pub const LAST_FAILURE: &str = "last failure of the queue: ";
/// Its category.
const EXPIRED: &str = "message-expired";

/// The verdict on a failure, with a category that is the caller's own.
pub struct Judgement {
    category: String,
    hard: bool,
    block: bool,
}

impl Judgement {
    /// For the rules.
    pub fn as_judged(&self) -> Judged<'_> {
        Judged { category: &self.category, hard: self.hard, block: self.block }
    }

    /// The category.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// Whether the address is dead.
    pub fn is_hard(&self) -> bool {
        self.hard
    }
}

/// Judges `event`, a failure.
pub fn judge(rules: &RuleSet, event: &Event<'_>) -> Judgement {
    if event.kind == Kind::Bounced && event.category.eq_ignore_ascii_case(EXPIRED) {
        let cause = match event.diag.split_once(LAST_FAILURE) {
            Some((_, cause)) => cause,
            None if event.reply_code().is_some() => event.reply_text(),
            None => return Judgement { category: EXPIRED.to_owned(), hard: false, block: false },
        };
        let stood_in_its_way =
            Event { kind: Kind::Transient, category: "", status: None, diag: cause, stage: None, ..*event };
        let verdict = rules.classify(&stood_in_its_way);
        // Whatever it was, the message was not refused for good.
        return Judgement { hard: false, ..of(&verdict) };
    }
    of(&rules.classify(event))
}

fn of(verdict: &Verdict<'_>) -> Judgement {
    Judgement {
        category: verdict.category.to_owned(),
        hard: verdict.kind() == FailureKind::Hard,
        block: verdict.said == Some(RuleKind::Block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Time;

    #[test]
    fn a_message_whose_time_was_over_is_judged_by_what_stood_in_its_way() {
        let rules = RuleSet::builtin();
        let judged = |diag| {
            let event = Event { diag, category: EXPIRED, ..Event::new(Kind::Bounced, Time(1)) };
            let judgement = judge(&rules, &event);
            (judgement.category().to_owned(), judgement.is_hard())
        };
        let queue = |cause: &str| {
            judged(
                format!("delivery time expired: not delivered within 9 s, after 0 attempts; {LAST_FAILURE}{cause}")
                    .as_str(),
            )
        };
        assert_eq!(judged("smtp;452 4.2.2 over quota"), ("quota-issues".into(), false));
        assert_eq!(judged("smtp;550 5.1.1 no such user"), ("bad-mailbox".into(), false), "it was only deferred");
        assert_eq!(judged("delivery time expired: not delivered within 9 s"), (EXPIRED.into(), false));
        let refused = queue("connection to mx.example (192.0.2.1): connection refused").0;
        assert!(["bad-connection", "no-answer-from-host"].contains(&&*refused), "{refused}");
    }
}
