//! What a reply comes to: category, how lasting the failure is, what to do, and why. Pure.

use serde::Serialize;

use super::rule::{Rule, RuleKind};
use crate::config::{ReplyAction, conflicts};
use crate::event::Category;

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictSource {
    /// A pattern.
    Pattern,
    /// An enhanced code (RFC 3463) of the table `reply-codes.conf`.
    EnhancedCode,
    /// A basic code of that table.
    Code,
    /// The producer of the event, which knew it without a reply.
    Producer,
    /// Nothing: `other`, or no category at all.
    Nothing,
}

/// How lasting a failure is, and against whom it is directed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The address is dead.
    Hard,
    /// This mail did not reach the mailbox, and the mailbox may well be there: full, expired, misrouted.
    Soft,
    /// The receiver refuses this sender, this content or this way of sending.
    Block,
    /// Not now.
    Transient,
}

impl FailureKind {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            FailureKind::Hard => "hard",
            FailureKind::Soft => "soft",
            FailureKind::Block => "block",
            FailureKind::Transient => "transient",
        }
    }

    /// What a category implies, unless the rule says otherwise. A failure that is temporary by its code is never hard.
    pub fn of(category: &str, said: Option<RuleKind>, temporary: bool) -> FailureKind {
        match said {
            Some(RuleKind::Hard) if temporary => return FailureKind::Transient,
            Some(RuleKind::Hard) => return FailureKind::Hard,
            Some(RuleKind::Soft) => return FailureKind::Soft,
            Some(RuleKind::Block) => return FailureKind::Block,
            None => {}
        }
        let dead = Category::by_name(category).is_some_and(|category| category.dead_address);
        match category {
            _ if dead && !temporary => FailureKind::Hard,
            "quota-issues" | "message-expired" => FailureKind::Soft,
            _ if temporary => FailureKind::Transient,
            "bad-connection" | "no-answer-from-host" => FailureKind::Transient,
            "other" | "bad-configuration" | "routing-errors" => FailureKind::Soft,
            _ => FailureKind::Block,
        }
    }
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'r> {
    /// The category; empty for what has none (deliveries, receptions, complaints).
    pub category: &'r str,
    /// `file:line` of the pattern; `code 5.1.1` or `code 550` when no pattern matched; empty when nothing decided, or
    /// when the producer of the event did.
    pub rule: &'r str,
    /// What kind of rule decided.
    pub source: VerdictSource,
    /// `kind=` of the deciding rule, which overrides what the category implies.
    pub said: Option<RuleKind>,
    /// The failure is temporary by its code.
    pub temporary: bool,
    /// The deciding rule's own actions. All that apply to a reply: [`super::RuleSet::actions`].
    pub actions: &'r [ReplyAction],
}

impl Verdict<'_> {
    /// No category.
    pub const NONE: Verdict<'static> =
        Verdict { category: "", rule: "", source: VerdictSource::Nothing, said: None, temporary: false, actions: &[] };

    /// Whether a pattern decided.
    pub fn by_pattern(&self) -> bool {
        self.source == VerdictSource::Pattern
    }

    /// How lasting the failure is.
    pub fn kind(&self) -> FailureKind {
        FailureKind::of(self.category, self.said, self.temporary)
    }
}

/// A rule that matches a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match<'r> {
    /// Its place among the rules, from 0.
    pub number: usize,
    /// The rule.
    pub rule: &'r Rule,
    /// The first match in the reply, in bytes of the reply as it was given; an address that stood masked is whole.
    pub start: usize,
    /// Its end.
    pub end: usize,
}

/// The actions of several entries together: they combine, and of two that contradict each other the first stays
/// (reference/directives.md, 4.2). `reenable-after` stays with the `disable-source-ip` it came with.
pub fn combine<'a>(entries: impl IntoIterator<Item = &'a [ReplyAction]>) -> Vec<ReplyAction> {
    let mut all: Vec<ReplyAction> = Vec::new();
    for entry in entries {
        let disabled = all.contains(&ReplyAction::DisableSourceIp);
        for action in entry {
            let stays = match action {
                ReplyAction::ReenableAfter(_) => !disabled,
                _ => !all.iter().any(|earlier| conflicts(*earlier, *action)),
            };
            if stays && !all.contains(action) {
                all.push(*action);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_actions;

    #[test]
    fn entries_combine_and_the_first_wins_where_they_conflict() {
        let all = |entries: &[&str]| {
            let entries: Vec<_> = entries.iter().map(|e| parse_actions(e).unwrap()).collect();
            let all = combine(entries.iter().map(Vec::as_slice));
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!(all(&["mode=backoff", "skip-mx", "mode=normal,defer-queue"]), "mode=backoff,skip-mx,defer-queue");
        assert_eq!(all(&["skip-mx", "bounce-queue"]), "skip-mx");
        assert_eq!(all(&["bounce-queue", "skip-mx,mode=normal"]), "bounce-queue,mode=normal");
        assert_eq!(
            all(&["disable-source-ip", "disable-source-ip,reenable-after=1h"]),
            "disable-source-ip",
            "the first entry said: for as long as reenable-source-ip-after does"
        );
    }

    #[test]
    fn a_rule_s_kind_overrides_its_category_but_never_makes_a_temporary_failure_hard() {
        use FailureKind::*;
        assert_eq!(FailureKind::of("bad-mailbox", None, false), Hard);
        assert_eq!(FailureKind::of("bad-mailbox", Some(RuleKind::Soft), false), Soft);
        assert_eq!(FailureKind::of("policy-related", Some(RuleKind::Hard), false), Hard);
        assert_eq!(FailureKind::of("policy-related", Some(RuleKind::Hard), true), Transient);
        assert_eq!(FailureKind::of("policy-related", None, true), Transient);
    }
}
