//! What a failure comes to in the end: its verdict, and for a message whose time was over the verdict on what stood in its
//! way, which is the reply it ended with or the queue's last failure.

use super::{FailureKind, RuleKind, RuleSet, Verdict};
use crate::event::{Event, Kind};

/// What stands before the queue's last failure in the diagnostic of a message whose time was over (`delivery::attempt`).
pub const LAST_FAILURE: &str = "last failure of the queue: ";
/// Its category.
const EXPIRED: &str = "message-expired";

/// The verdict on a failure, without what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// The category.
    pub category: String,
    /// The address is dead: by the category, or because the deciding pattern says `kind=hard`.
    pub hard: bool,
    /// The deciding pattern says `kind=block`.
    pub block: bool,
}

/// Judges `event`, a failure.
pub fn judge(rules: &RuleSet, event: &Event<'_>) -> Judgement {
    if event.kind == Kind::Bounced && event.category.eq_ignore_ascii_case(EXPIRED) {
        let cause = match event.diag.split_once(LAST_FAILURE) {
            Some((_, cause)) => cause,
            None if event.reply_code().is_some() => event.reply_text(),
            None => return Judgement { category: EXPIRED.to_owned(), ..Judgement::default() },
        };
        let stood_in_its_way =
            Event { kind: Kind::Transient, category: "", status: None, diag: cause, stage: None, ..*event };
        // Whatever it was, the message was not refused for good.
        return Judgement { hard: false, ..of(&rules.classify(&stood_in_its_way)) };
    }
    of(&rules.classify(event))
}

/// What the producer of `event` decided itself, for an event whose rules can't be had; `None` where it left the category to
/// the rules.
pub fn said(event: &Event<'_>) -> Option<Judgement> {
    let category = (!event.category.is_empty()).then_some(event.category)?;
    let hard = FailureKind::of(category, None, false) == FailureKind::Hard;
    Some(Judgement { category: category.to_owned(), hard, block: false })
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
    fn what_the_producer_decided_stands_where_the_rules_are_gone() {
        let event = |category| Event { category, diag: "smtp;550 5.1.1 x", ..Event::new(Kind::Bounced, Time(1)) };
        assert_eq!(said(&event("bad-mailbox")).map(|j| (j.category, j.hard)), Some(("bad-mailbox".to_owned(), true)));
        assert_eq!(said(&event(EXPIRED)).map(|j| j.hard), Some(false));
        assert_eq!(said(&event("")), None);
    }

    #[test]
    fn a_message_whose_time_was_over_is_judged_by_what_stood_in_its_way() {
        let rules = RuleSet::builtin();
        let judged = |diag: &str| {
            let event = Event { diag, category: EXPIRED, ..Event::new(Kind::Bounced, Time(1)) };
            let judgement = judge(&rules, &event);
            (judgement.category, judgement.hard)
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
