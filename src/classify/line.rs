//! One reply with all that is to be said of it: what `carom classify` prints, one JSON object a line.

use serde::Serialize;

use super::compile::RuleSet;
use super::limits::Facts;
use super::verdict::{FailureKind, VerdictSource};

/// A classified reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// The reply.
    pub text: &'a str,
    /// Its category.
    pub category: &'a str,
    /// How lasting the failure is.
    pub kind: FailureKind,
    /// What decided: `file:line`, `code 5.1.1`, or empty.
    pub rule: &'a str,
    /// What kind of rule decided.
    pub source: VerdictSource,
    /// What the matching rules would make the queue do, with commas.
    pub action: String,
    /// Whether such a reply to RCPT or DATA takes the address off the list.
    pub suppress: bool,
}

/// Classifies one reply (or local diagnostic) as the server would.
pub fn classify_line<'a>(rules: &'a RuleSet, text: &'a str, facts: &Facts<'_>) -> Line<'a> {
    let verdict = rules.classify_with(text, facts);
    let kind = verdict.kind();
    let actions: Vec<_> = rules.actions(text, facts).iter().map(ToString::to_string).collect();
    Line {
        text,
        category: verdict.category,
        kind,
        rule: verdict.rule,
        source: verdict.source,
        action: actions.join(","),
        suppress: kind == FailureKind::Hard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permanent_refusal_of_a_dead_address_suppresses() {
        let rules = RuleSet::builtin();
        let line = |text| classify_line(&rules, text, &Facts::default());
        assert_eq!(
            (line("550 5.1.1 User unknown").kind, line("550 5.1.1 User unknown").suppress),
            (FailureKind::Hard, true)
        );
        assert!(!line("450 4.1.1 User unknown").suppress);
        assert!(!line("550 5.7.1 Message rejected as spam").suppress);
        assert_eq!(line("452 4.2.2 Mailbox full").kind, FailureKind::Soft);
        assert_eq!(line("451 4.7.1 Greylisted").kind, FailureKind::Transient);
        assert_eq!(line("554 5.7.1 Blocked by Spamhaus").kind, FailureKind::Block);
    }

    #[test]
    fn a_line_is_one_json_object() {
        let rules = RuleSet::builtin();
        let json = serde_json::to_string(&classify_line(&rules, "556 5.1.10 x", &Facts::default())).unwrap();
        assert_eq!(
            json,
            r#"{"text":"556 5.1.10 x","category":"bad-domain","kind":"hard","rule":"code 5.1.10","source":"enhanced-code","action":"","suppress":true}"#
        );
    }
}
