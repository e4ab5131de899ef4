//! What is asked of the list, and what it answers.

use crate::event::{ScopeKind, ScopeKinds};
use crate::store::{Envelope, message::SuppressionTerms};

/// What is known of a mail whose recipient is looked up. A part that is not known (yet), or that there is not, is empty:
/// entries of that scope then do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mail<'a> {
    /// Domain of the envelope sender, as given.
    pub sender_domain: &'a str,
    /// Name of the `<source>` that handed it in.
    pub source: &'a str,
    /// Job.
    pub job: &'a str,
    /// Mailing list.
    pub list: &'a str,
    /// The chosen VirtualMTA.
    pub vmta: &'a str,
    /// The pool that was asked for, if one was; entries for a VirtualMTA count for a pool of that name too.
    pub pool: &'a str,
    /// Scopes that do not count for this mail (`suppression-exempt-scopes`).
    pub exempt_scopes: ScopeKinds,
    /// Names of rules whose entries do not count, separated by commas (`suppression-exempt-rules`).
    pub exempt_rules: &'a str,
}

/// Why a recipient is not mailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// Sequence number of the event that suppressed it; 0 when no event did.
    pub by: u64,
    /// The list's name in replies and records: `auto:RULE`, `manual`, `import`, `unsubscribe`, or that of an
    /// `<address-list>`.
    pub list: Box<str>,
    /// The circuit breaker doubts the entry: the mail is to be kept, neither sent nor bounced.
    pub held: bool,
}

impl Suppressed {
    /// What is said about it, in the reply as in the `b` record (reference/submission.md, section 8), without code and
    /// status.
    pub fn text(&self, rcpt: &str) -> String {
        format!("recipient is in suppression list \"{}\": <{rcpt}>", self.list)
    }
}

impl<'a> Mail<'a> {
    /// All that is known of a mail that was accepted.
    pub fn of(envelope: &'a Envelope) -> Mail<'a> {
        let SuppressionTerms { source, list, exempt_scopes, exempt_rules, .. } = &envelope.terms;
        Mail {
            sender_domain: domain(&envelope.orig),
            source,
            job: &envelope.job,
            list,
            vmta: &envelope.vmta,
            pool: &envelope.pool,
            exempt_scopes: *exempt_scopes,
            exempt_rules,
        }
    }

    /// The name by which entries of this scope count for it; empty when none do.
    pub fn name(&self, kind: ScopeKind) -> &'a str {
        match kind {
            ScopeKind::Global => "",
            ScopeKind::SenderDomain => self.sender_domain,
            ScopeKind::Source => self.source,
            ScopeKind::Job => self.job,
            ScopeKind::List => self.list,
            ScopeKind::Vmta => self.vmta,
        }
    }

    /// Whether entries by this rule do not count for it.
    pub fn is_exempt(&self, rule: &str) -> bool {
        !self.exempt_rules.is_empty()
            && self.exempt_rules.split(',').any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case(rule))
    }
}

/// What stands behind the `@`.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_rules_are_compared_by_name() {
        let mail = Mail { exempt_rules: "complaint, unsub", ..Mail::default() };
        assert!(mail.is_exempt("Complaint") && mail.is_exempt("unsub") && !mail.is_exempt("hard"));
        assert!(Mail { exempt_rules: "*", ..Mail::default() }.is_exempt("hard"));
        assert!(!Mail::default().is_exempt("hard"));
    }

    #[test]
    fn the_lists_name_stands_in_the_text() {
        let why = Suppressed { by: 1, list: "auto:complaint".into(), held: false };
        assert_eq!(why.text("a@b.example"), "recipient is in suppression list \"auto:complaint\": <a@b.example>");
    }
}
