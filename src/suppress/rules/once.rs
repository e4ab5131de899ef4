//! Whether one event alone puts its recipient on the list, by the rules that hold without a configuration and need no
//! second message: for those who explain patterns and compare sets of them.

use super::evidence::{concerns_nobody, is_about_the_recipient};
use crate::event::{Event, Kind};

/// Name of the rule that stands for "entered by hand".
pub const MANUAL: &str = "manual";

/// One way in which an event suppresses its recipient. All parts must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What the entry and the record name as the reason.
    pub name: &'static str,
    /// The record type.
    pub kind: Kind,
    /// What the event must say.
    pub says: Says,
    /// The event must have been tied to its send by proof (`attributed_by`).
    pub attributed: bool,
}

/// What an event must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// A permanent failure that was judged to say that the address is dead.
    DeadAddress,
    /// DNS says that the domain takes no mail (RFC 7505).
    NullMx,
    /// A complaint of one of these feedback types (RFC 5965, 7.3).
    Complaint(&'static [&'static str]),
}

/// The rules in force.
pub const RULES: &[Rule] = &[
    Rule { name: "domain", kind: Kind::Bounced, says: Says::NullMx, attributed: false },
    Rule { name: "hard", kind: Kind::Bounced, says: Says::DeadAddress, attributed: false },
    Rule { name: "hard", kind: Kind::RemoteBounce, says: Says::DeadAddress, attributed: true },
    Rule { name: "unsub", kind: Kind::Feedback, says: Says::Complaint(&["opt-out-list", "opt-out"]), attributed: true },
    Rule {
        name: "complaint",
        kind: Kind::Feedback,
        says: Says::Complaint(&["abuse", "fraud", "virus"]),
        attributed: true,
    },
];

/// The rule by which `event`, classified as `category`, suppresses its recipient at once. `hard` is the verdict on it: the
/// address is dead, because of its category or because the deciding rule says `kind=hard`; one that says `kind=soft` or
/// `kind=block` is not hard whatever the category.
pub fn decide(event: &Event<'_>, category: &str, hard: bool) -> Option<&'static Rule> {
    if concerns_nobody(event) || category.eq_ignore_ascii_case(crate::event::category::SUPPRESSED) {
        return None;
    }
    RULES.iter().find(|rule| rule.applies(event, category, hard))
}

impl Rule {
    fn applies(&self, event: &Event<'_>, category: &str, hard: bool) -> bool {
        // A domain that is not found is counted first: resolvers fail too.
        let of_domain = category.eq_ignore_ascii_case("bad-domain");
        let dead = || hard && event.is_permanent_failure() && is_about_the_recipient(event);
        event.kind == self.kind
            && (!self.attributed || event.is_proved())
            && match self.says {
                Says::DeadAddress => !of_domain && dead(),
                Says::NullMx => {
                    let null_mx = event.status.is_some_and(|s| (s.class, s.subject, s.detail) == (5, 1, 10));
                    of_domain && null_mx && event.reply_code().is_none() && dead()
                }
                Says::Complaint(types) => types.iter().any(|t| event.feedback_type.eq_ignore_ascii_case(t)),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Stage, Time};
    use proptest::prelude::*;

    fn bounce<'a>(kind: Kind, diag: &'a str) -> Event<'a> {
        Event { rcpt: "ann@example.net", diag, ..Event::new(kind, Time(1)) }
    }

    fn rule(event: &Event<'_>, category: &str) -> Option<&'static str> {
        let dead = crate::event::Category::by_name(category).is_some_and(|c| c.dead_address);
        decide(event, category, dead).map(|rule| rule.name)
    }

    #[test]
    fn a_permanent_refusal_of_a_dead_address_suppresses_at_once() {
        let event = bounce(Kind::Bounced, "smtp;550 5.1.1 no such user");
        for dead in ["bad-mailbox", "inactive-mailbox"] {
            assert_eq!(rule(&event, dead), Some("hard"));
        }
        for alive in
            ["spam-related", "policy-related", "content-related", "quota-issues", "other", "our-own", "", "bad-domain"]
        {
            assert_eq!(rule(&event, alive), None, "{alive}");
        }
    }

    #[test]
    fn what_a_rule_says_of_the_kind_counts_and_not_the_category() {
        let refused = bounce(Kind::Bounced, "smtp;550 5.4.4 unrouteable");
        assert_eq!(decide(&refused, "routing-errors", true).map(|r| r.name), Some("hard"));
        assert_eq!(decide(&refused, "bad-mailbox", false), None);
        assert_eq!(decide(&bounce(Kind::Bounced, "smtp;450 4.4.4 unrouteable"), "routing-errors", true), None);
    }

    #[test]
    fn a_temporary_failure_never_suppresses_even_when_it_ends_in_a_bounce() {
        assert_eq!(rule(&bounce(Kind::Transient, "smtp;550 no such user"), "bad-mailbox"), None);
        assert_eq!(rule(&bounce(Kind::Bounced, "smtp;450 4.1.1 no such user"), "bad-mailbox"), None);
        assert_eq!(rule(&bounce(Kind::TransientQueue, "smtp;550 no such user"), "bad-mailbox"), None);
    }

    #[test]
    fn a_refusal_before_the_recipient_was_named_is_not_about_it() {
        let reply = bounce(Kind::Bounced, "smtp;550 5.1.2 domain does not exist");
        for stage in [Stage::Connect, Stage::Ehlo, Stage::Mail] {
            assert_eq!(rule(&Event { stage: Some(stage), ..reply }, "bad-mailbox"), None, "{stage:?}");
        }
        for stage in [Stage::Rcpt, Stage::Data, Stage::Eod] {
            assert_eq!(rule(&Event { stage: Some(stage), ..reply }, "bad-mailbox"), Some("hard"), "{stage:?}");
        }
    }

    #[test]
    fn a_null_mx_is_the_domain_s_own_word_and_no_such_domain_is_counted_first() {
        let of = |status: &str, diag| {
            let event =
                Event { stage: Some(Stage::Connect), status: status.parse().ok(), ..bounce(Kind::Bounced, diag) };
            rule(&event, "bad-domain")
        };
        assert_eq!(of("5.1.10", "the domain accepts no mail (null MX)"), Some("domain"));
        assert_eq!(of("5.1.2", "no such domain"), None);
        assert_eq!(of("5.1.10", "smtp;556 5.1.10 null MX"), None, "said by a server");
    }

    #[test]
    fn a_report_that_contradicts_itself_about_being_permanent_suppresses_nobody() {
        let report =
            Event { attributed_by: "return-path", ..bounce(Kind::RemoteBounce, "smtp;550 5.1.1 no such user") };
        for (status, expected) in [("4.4.7", None), ("4.1.1", None), ("2.0.0", None), ("5.1.1", Some("hard"))] {
            assert_eq!(rule(&Event { status: status.parse().ok(), ..report }, "bad-mailbox"), expected, "{status}");
        }
        let words = Event { attributed_by: "return-path", ..bounce(Kind::RemoteBounce, "smtp;550 5.1.1 no such user") };
        assert_eq!(rule(&words, "bad-mailbox"), Some("hard"));
    }

    #[test]
    fn a_suppressed_recipient_is_no_new_strike() {
        assert_eq!(rule(&bounce(Kind::Bounced, "smtp;550 5.1.1 x"), "suppressed"), None);
    }

    #[test]
    fn a_report_counts_only_when_it_is_about_mail_we_sent() {
        let forged = bounce(Kind::RemoteBounce, "smtp;550 5.1.1 no such user");
        assert_eq!(rule(&forged, "bad-mailbox"), None);
        assert_eq!(rule(&Event { attributed_by: "return-path", ..forged }, "bad-mailbox"), Some("hard"));
        let complaint = Event { feedback_type: "abuse", ..bounce(Kind::Feedback, "") };
        assert_eq!(rule(&complaint, ""), None);
        assert_eq!(rule(&Event { attributed_by: "message-id", ..complaint }, ""), Some("complaint"));
    }

    #[test]
    fn taking_a_complaint_back_suppresses_nobody() {
        for harmless in ["not-spam", "auth-failure", "other", "opt-out-not", ""] {
            let event = Event { feedback_type: harmless, attributed_by: "message-id", ..bounce(Kind::Feedback, "") };
            assert_eq!(rule(&event, ""), None, "{harmless}");
        }
    }

    proptest! {
        #[test]
        fn no_4xx_reply_suppresses_whatever_else_an_event_says(
            kind in prop::sample::select(Kind::ALL), code in 400u16..500, text in "[ -~]{0,30}",
            category in prop::sample::select(crate::event::category::CATEGORIES), by in "[a-z]{0,3}", hard: bool,
        ) {
            let diag = format!("smtp;{code} {text}");
            let event = Event { attributed_by: &by, status: "5.1.1".parse().ok(), ..bounce(kind, &diag) };
            prop_assert_eq!(decide(&event, category.name, hard), None);
        }
    }
}
