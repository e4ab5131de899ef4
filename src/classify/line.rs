//! One reply with all that is to be said of it: what `carom classify` prints, one JSON object a line.

use serde::Serialize;

use super::codes::{basic_code, enhanced_code};
use super::compile::RuleSet;
use crate::event::Category;

/// How lasting a failure is, and against whom it is directed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineKind {
    /// The address is dead.
    Hard,
    /// This mail did not reach the mailbox, and the mailbox may well be there: full, expired, misrouted.
    Soft,
    /// The receiver refuses this sender, this content or this way of sending.
    Block,
    /// Not now.
    Transient,
}

/// A classified reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// The reply.
    pub text: &'a str,
    /// Its category.
    pub category: &'a str,
    /// How lasting the failure is.
    pub kind: LineKind,
    /// What decided: `file:line`, `code 5.1.1`, or empty.
    pub rule: &'a str,
    /// Whether such a reply to RCPT or DATA takes the address off the list.
    pub suppress: bool,
}

/// Classifies one reply (or local diagnostic) as the server would.
pub fn classify_line<'a>(rules: &'a RuleSet, text: &'a str) -> Line<'a> {
    let verdict = rules.classify_text(text);
    let class = basic_code(text).map(|code| code / 100).or_else(|| enhanced_code(text).map(|s| s.class.into()));
    let transient = class == Some(4);
    let dead = Category::by_name(verdict.category).is_some_and(|category| category.dead_address);
    let kind = match verdict.category {
        _ if dead && !transient => LineKind::Hard,
        "quota-issues" | "message-expired" => LineKind::Soft,
        _ if transient => LineKind::Transient,
        "bad-connection" | "no-answer-from-host" => LineKind::Transient,
        "other" | "bad-configuration" | "routing-errors" => LineKind::Soft,
        _ => LineKind::Block,
    };
    Line { text, category: verdict.category, kind, rule: verdict.rule, suppress: kind == LineKind::Hard }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permanent_refusal_of_a_dead_address_suppresses() {
        let rules = RuleSet::builtin();
        let line = |text| classify_line(&rules, text);
        assert_eq!(
            (line("550 5.1.1 User unknown").kind, line("550 5.1.1 User unknown").suppress),
            (LineKind::Hard, true)
        );
        assert!(!line("450 4.1.1 User unknown").suppress);
        assert!(!line("550 5.7.1 Message rejected as spam").suppress);
        assert_eq!(line("452 4.2.2 Mailbox full").kind, LineKind::Soft);
        assert_eq!(line("451 4.7.1 Greylisted").kind, LineKind::Transient);
        assert_eq!(line("554 5.7.1 Blocked by Spamhaus").kind, LineKind::Block);
    }

    #[test]
    fn a_line_is_one_json_object() {
        let rules = RuleSet::builtin();
        let json = serde_json::to_string(&classify_line(&rules, "556 5.1.10 x")).unwrap();
        assert_eq!(
            json,
            r#"{"text":"556 5.1.10 x","category":"bad-domain","kind":"hard","rule":"code 5.1.10","suppress":true}"#
        );
    }
}
