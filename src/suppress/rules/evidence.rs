//! What one event says for a rule, and about whom. Pure: no counting here.

use crate::config::{Evidence, RuleSubject, SuppressionRule};
use crate::event::{Category, Event, Kind, Scope, ScopeKind, Stage, category};

/// The verdict on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judged<'a> {
    /// Its category; of a message that expired that of what stood in its way.
    pub category: &'a str,
    /// It says that the address is dead: by its category, or because the deciding pattern says `kind=hard`.
    pub hard: bool,
    /// The deciding pattern says `kind=block`: whatever the category, this is about the sender.
    pub block: bool,
}

/// What the rules want to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Nothing: it can't count.
    Nothing,
    /// That there was a delivery.
    Delivery,
    /// Its category.
    Verdict,
    /// What it says itself.
    Report,
}

/// What an event says for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub subject: RuleSubject,
    /// Beyond doubt, however many the rule asks for.
    pub at_once: bool,
    /// Counts only if other names were resolved since the last one.
    pub needs_dns: bool,
}

const ADDRESS: Hit = Hit { subject: RuleSubject::Address, at_once: false, needs_dns: false };

/// Whether `event` counts for `rule`.
pub(super) fn hit(rule: &SuppressionRule, never: &[Box<str>], event: &Event<'_>, judged: Judged<'_>) -> Option<Hit> {
    let named = |names: &[Box<str>], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    match (&rule.evidence, event.kind) {
        (Evidence::Feedback(types), Kind::Feedback) => {
            (event.is_proved() && named(types, event.feedback_type)).then_some(ADDRESS)
        }
        (Evidence::Unsubscribe, Kind::Feedback) => (event.is_proved() && is_unsubscribe(event)).then_some(ADDRESS),
        (Evidence::Category(names), Kind::Bounced | Kind::RemoteBounce | Kind::Transient) => {
            let name = judged.category;
            if name.is_empty() || judged.block || named(never, name) {
                return None;
            }
            if event.kind == Kind::RemoteBounce && !event.is_proved() {
                return None;
            }
            let dead = judged.hard && event.is_permanent_failure() && is_about_the_recipient(event);
            let of_dead = Category::by_name(name).is_some_and(|c| c.dead_address);
            let counts = match (named(names, name), of_dead) {
                (true, true) => dead,
                (true, false) => true,
                // `kind=hard` of a pattern: as good as "no such recipient".
                (false, false) => dead && named(names, "bad-mailbox"),
                (false, true) => false,
            };
            counts.then(|| about(rule.subject, event, name))
        }
        _ => None,
    }
}

/// About whom a failure is. That a domain does not exist is for DNS to say; where a server says so, of its own domain, it is
/// one mailbox that leads nowhere.
fn about(subject: RuleSubject, event: &Event<'_>, name: &str) -> Hit {
    let no_domain = name.eq_ignore_ascii_case("bad-domain");
    let from_dns = event.kind == Kind::Bounced && event.reply_code().is_none();
    if subject == RuleSubject::Address || no_domain && !from_dns {
        return ADDRESS;
    }
    // RFC 7505: the domain says itself that it takes no mail.
    let null_mx = event.status.is_some_and(|s| (s.class, s.subject, s.detail) == (5, 1, 10));
    Hit { subject, at_once: no_domain && null_mx, needs_dns: no_domain }
}

/// A server that refuses the connection, our greeting or the sender has not heard of the recipient, whatever words it
/// uses ("550 5.1.2 domain does not exist" after MAIL is about the sender's). And a report whose status says "temporary"
/// (RFC 3463, class 4) contradicts a 5xx in its diagnostic: then it is not certain that the address is dead.
pub(super) fn is_about_the_recipient(event: &Event<'_>) -> bool {
    match event.kind {
        Kind::Bounced => {
            event.reply_code().is_none() || !matches!(event.stage, Some(Stage::Connect | Stage::Ehlo | Stage::Mail))
        }
        _ => event.status.is_none_or(|status| status.class == 5),
    }
}

/// RFC 5965's registry: off one list, or off everything of this sender.
fn is_unsubscribe(event: &Event<'_>) -> bool {
    ["opt-out-list", "opt-out"].iter().any(|t| event.feedback_type.eq_ignore_ascii_case(t))
}

/// Whether an event concerns nobody whom a rule could mean.
pub(super) fn concerns_nobody(event: &Event<'_>) -> bool {
    event.rcpt.is_empty() || event.category.eq_ignore_ascii_case(category::SUPPRESSED)
}

/// For whose mail an entry by this event counts. Where the event does not name what the rule's scope goes by, the next
/// wider thing that it does name: the recipient asked not to be mailed, and is not to be mailed on because a name is
/// missing.
pub(super) fn scope(kind: ScopeKind, event: &Event<'_>) -> Scope {
    let sender = event.orig.rsplit_once('@').map_or("", |(_, domain)| domain);
    // Off everything is more than off one list.
    let everything = event.feedback_type.eq_ignore_ascii_case("opt-out");
    let kind = match kind {
        ScopeKind::List | ScopeKind::Job if everything => ScopeKind::SenderDomain,
        kind => kind,
    };
    let named = match kind {
        ScopeKind::Global => None,
        ScopeKind::SenderDomain => None,
        // Records do not say which source a mail came through.
        ScopeKind::Source => None,
        ScopeKind::Job => Scope::of(kind, event.job),
        ScopeKind::List => Scope::of(kind, list(event)).or_else(|| Scope::of(ScopeKind::Job, event.job)),
        ScopeKind::Vmta => Scope::of(kind, event.vmta),
    };
    match kind {
        ScopeKind::Global => Scope::global(),
        _ => named.or_else(|| Scope::of(ScopeKind::SenderDomain, sender)).unwrap_or_default(),
    }
}

/// The mailing list that an event is about. THE place where the record's own field for it is to be read.
fn list<'a>(_event: &Event<'a>) -> &'a str {
    ""
}
