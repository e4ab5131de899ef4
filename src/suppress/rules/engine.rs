//! The rules at work: an event in, what is to be entered out. Pure but for what [`State`] reads.

use std::sync::Arc;

use super::evidence::{self, Hit, Judged, Wants};
use super::strikes::{Count, Strike, StrikeKey, Strikes, fnv};
use crate::config::{AutoSuppression, Evidence, RuleSubject, SuppressionRule};
use crate::event::{AddressKey, Event, Kind, Scope, Time};
use crate::suppress::fold::Folding;
use crate::suppress::{Entry, Hasher, Key, Source, State as EntryState, SubjectKey};

/// What the engine remembers between events, and what stands on the list.
pub trait State {
    /// Why it can't be read.
    type Error;

    /// How the list stands to this key.
    fn standing(&mut self, key: &Key) -> Result<Option<Standing>, Self::Error>;

    /// The strikes kept under this key; empty when there are none.
    fn strikes(&mut self, key: &StrikeKey) -> Result<Strikes, Self::Error>;

    /// Keeps these; none when empty.
    fn keep(&mut self, key: StrikeKey, strikes: Strikes);

    /// Whether there may be strikes against this subject. Cheap: asked for each delivery.
    fn may_have_strikes(&mut self, subject: &SubjectKey) -> bool;

    /// Whether there may be strikes against any domain. Cheaper still.
    fn may_have_domains(&mut self) -> bool;

    /// All strikes against a subject.
    fn strikes_of(&mut self, subject: &SubjectKey) -> Result<Vec<(StrikeKey, Strikes)>, Self::Error>;

    /// When a domain's name was last resolved for certain: a mail went to, or was refused by, a server.
    fn resolved(&self) -> Time;
}

/// How the list stands to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it suppresses, holds, or was taken off.
    pub state: EntryState,
    /// Who entered it.
    pub source: Source,
    /// When it ends; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// The event that entered it; of one that was taken off, the last event that this covers.
    pub seq: u64,
}

impl Standing {
    /// That of an entry.
    pub fn of(entry: &Entry) -> Standing {
        Standing { state: entry.state, source: entry.source, expires: entry.expires, seq: entry.by.seq }
    }

    /// Whether an event of this time and number, which would enter something that lasts until `expires`, has nothing to
    /// add. What lasts for ever takes the place of what ends; what a breaker can't doubt takes the place of what it holds.
    pub fn covers(&self, (seq, time): (u64, Time), expires: Time, certain: bool) -> bool {
        match self.state {
            EntryState::Removed => seq <= self.seq,
            _ if self.expires.is_known() && self.expires <= time => false,
            EntryState::Held if certain => false,
            _ => self.source != Source::Auto || !self.expires.is_known() || expires.is_known(),
        }
    }
}

/// Something to be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Number of the rule among those of the configuration.
    pub rule: usize,
    /// Under which keys, and whom each is about: the mailbox as its provider folds it first, then as it was spelt.
    pub subjects: Vec<(Key, Box<str>)>,
    /// For whose mail.
    pub scope: Scope,
    /// By an event or by the recipient.
    pub source: Source,
    /// When it ends; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// A failure, which a circuit breaker may doubt; not a complaint or an unsubscribe.
    pub doubtful: bool,
    /// How many messages it took.
    pub strikes: usize,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Engine {
    rules: Arc<AutoSuppression>,
    folding: Folding,
    /// Some rule goes by categories; some by categories that a temporary failure has too.
    by_category: bool,
    by_transient: bool,
    by_feedback: bool,
}

impl Engine {
    /// With these rules.
    pub fn new(rules: &AutoSuppression) -> Engine {
        let dead = |name: &str| crate::event::Category::by_name(name).is_some_and(|c| c.dead_address);
        let categories = rules.rules.iter().filter_map(|rule| match &rule.evidence {
            Evidence::Category(names) => Some(names),
            _ => None,
        });
        Engine {
            folding: Folding::of(rules),
            by_category: categories.clone().next().is_some(),
            by_transient: categories.clone().flatten().any(|name| !dead(name)),
            by_feedback: rules.rules.iter().any(|rule| !matches!(rule.evidence, Evidence::Category(_))),
            rules: Arc::new(rules.clone()),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &AutoSuppression {
        &self.rules
    }

    /// How mailboxes are folded.
    pub fn folding(&self) -> &Folding {
        &self.folding
    }

    /// What must be known of an event before [`Engine::take`] is asked.
    pub fn wants(&self, event: &Event<'_>) -> Wants {
        match event.kind {
            _ if evidence::concerns_nobody(event) => Wants::Nothing,
            Kind::Delivered => Wants::Delivery,
            Kind::Bounced if self.by_category => Wants::Verdict,
            Kind::RemoteBounce if self.by_category && event.is_proved() => Wants::Verdict,
            Kind::Transient if self.by_transient => Wants::Verdict,
            Kind::Feedback if self.by_feedback && event.is_proved() => Wants::Report,
            _ => Wants::Nothing,
        }
    }

    /// Takes an event in that [`Engine::wants`] something of. Taking one again that was taken changes nothing, so that
    /// after an error, which leaves it half taken, it may come again.
    pub fn take<S: State>(
        &self,
        event: &Event<'_>,
        judged: Judged<'_>,
        hasher: &Hasher,
        state: &mut S,
    ) -> Result<Vec<Decision>, S::Error> {
        if evidence::concerns_nobody(event) {
            return Ok(Vec::new());
        }
        if event.kind == Kind::Delivered {
            self.delivered(event, hasher, state)?;
            return Ok(Vec::new());
        }
        let mut decisions = Vec::new();
        for (number, rule) in self.rules.rules.iter().enumerate() {
            if let Some(hit) = evidence::hit(rule, &self.rules.never, event, judged) {
                decisions.extend(self.count((number, rule), hit, event, hasher, state)?);
            }
        }
        Ok(decisions)
    }

    fn count<S: State>(
        &self,
        (number, rule): (usize, &SuppressionRule),
        hit: Hit,
        event: &Event<'_>,
        hasher: &Hasher,
        state: &mut S,
    ) -> Result<Option<Decision>, S::Error> {
        let scope = evidence::scope(self.rules.scope_of(rule), event);
        let address = AddressKey::of(event.rcpt);
        let subjects: Vec<(Key, Box<str>)> = match hit.subject {
            RuleSubject::Domain if address.domain().is_empty() => return Ok(None),
            RuleSubject::Domain => {
                let key = hasher.domain(address.domain()).in_scope(&scope);
                vec![(key, format!("@{}", address.domain()).into())]
            }
            RuleSubject::Address => {
                let spellings = self.folding.fold(&address).into_iter().chain([address]);
                spellings.map(|a| (hasher.address(&a).in_scope(&scope), a.as_str().into())).collect()
            }
        };
        let Some((key, _)) = subjects.first() else { return Ok(None) };
        let doubtful = matches!(rule.evidence, Evidence::Category(_));
        let expires = rule.expire.map_or(Time::UNKNOWN, |expire| event.time + expire);
        let standing = state.standing(key)?;
        if standing.as_ref().is_some_and(|s| s.covers((event.seq, event.time), expires, !doubtful)) {
            return Ok(None);
        }
        let strikes = match hit.at_once || rule.after <= 1 {
            true => 1,
            false => {
                let strike_key = StrikeKey::of(*key, &rule.name);
                let mut strikes = state.strikes(&strike_key)?;
                let before = strikes.clone();
                strikes.lasting = !doubtful;
                strikes.of_domain = hit.subject == RuleSubject::Domain;
                if let Some(removed) = standing.filter(|s| s.state == EntryState::Removed) {
                    strikes.forget_until(removed.seq);
                }
                // When our own resolver fails, it fails for all names.
                if hit.needs_dns && strikes.last().is_some_and(|last| state.resolved() < last.time) {
                    return Ok(None);
                }
                let strike = Strike {
                    time: event.time,
                    seq: event.seq,
                    message: message(event, hit.subject),
                    reported: event.kind == Kind::RemoteBounce,
                };
                let count = Count { after: rule.after as usize, within: rule.within, over: rule.over };
                if !strikes.add(strike, count) {
                    if strikes != before {
                        state.keep(strike_key, strikes);
                    }
                    return Ok(None);
                }
                state.keep(strike_key, Strikes::default());
                rule.after as usize
            }
        };
        let source = match rule.evidence {
            Evidence::Unsubscribe => Source::Unsubscribe,
            _ => Source::Auto,
        };
        Ok(Some(Decision { rule: number, subjects, scope, source, expires, doubtful, strikes }))
    }

    /// What was counted against an address that takes mail does not count any more.
    fn delivered<S: State>(&self, event: &Event<'_>, hasher: &Hasher, state: &mut S) -> Result<(), S::Error> {
        let address = AddressKey::of(event.rcpt);
        let spelt = self.folding.fold(&address);
        let subject = hasher.address(spelt.as_ref().unwrap_or(&address));
        if state.may_have_strikes(&subject) {
            for (key, mut strikes) in state.strikes_of(&subject)? {
                if strikes.deliver(message(event, RuleSubject::Address)) {
                    state.keep(key, strikes);
                }
            }
        }
        if state.may_have_domains() {
            let subject = hasher.domain(address.domain());
            if state.may_have_strikes(&subject) {
                for (key, _) in state.strikes_of(&subject)? {
                    state.keep(key, Strikes::default());
                }
            }
        }
        Ok(())
    }
}

/// A number that tells mails and their recipients apart; for a domain, mails alone. What has no id goes by what it is.
fn message(event: &Event<'_>, subject: RuleSubject) -> u64 {
    let index = if subject == RuleSubject::Domain { 0 } else { event.rcpt_index };
    if event.message.0 != 0 {
        return fnv(event.message.0.to_le_bytes().into_iter().chain(index.to_le_bytes()));
    }
    let when = match (event.time_queued.is_known(), event.time_sent.is_known()) {
        (true, _) => event.time_queued.0,
        (false, true) => event.time_sent.0,
        (false, false) => event.seq as i64 ^ event.time.0,
    };
    let texts = [
        event.orig,
        if index == 0 && subject == RuleSubject::Domain { "" } else { event.rcpt },
        event.job,
        event.env_id,
    ];
    fnv(when.to_le_bytes().into_iter().chain(texts.iter().flat_map(|t| t.bytes().chain([0]))))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
