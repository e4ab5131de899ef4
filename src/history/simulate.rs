//! Suppression rules over history: what they would have suppressed, what that would have saved, and what it would have cost.
//!
//! The same engine as the server's. A mail to an address that would have been on the list is taken for not sent: what became
//! of it is counted as saved or lost, and teaches the rules nothing. Pure: events in, figures out. Memory grows with the
//! addresses that are entered (about 100 bytes each) and those that have strikes at the moment (about 150 each), not with
//! the history.

use std::collections::BTreeMap;
use std::convert::Infallible;

use hashbrown::HashMap;

use crate::classify::RuleSet;
use crate::classify::cause;
use crate::config::AutoSuppression;
use crate::event::{AddressKey, Event, Kind, Scope, ScopeKind, Time, category};
use crate::suppress::rules::{Engine, Judged, Standing, State, StrikeKey, Strikes, Wants};
use crate::suppress::{Hasher, Key, Source, State as EntryState, SubjectKey};

/// What one rule would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// Its name.
    pub rule: String,
    /// Addresses entered.
    pub addresses: u64,
    /// Domains entered.
    pub domains: u64,
    /// Mails not sent: recipients that ended in a `d` or `b`.
    pub mails: u64,
    /// Of those, bounced: `b`, or `rb` after a `d`.
    pub bounces: u64,
    /// Temporary failures that would not have been.
    pub deferrals: u64,
    /// Complaints that would not have been.
    pub complaints: u64,
    /// Mails that were delivered and neither bounced later nor were complained about.
    pub good_deliveries: u64,
}

/// What all of them would have done, and out of how much.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// In the order of the rules.
    pub rules: Vec<Effect>,
    /// Recipients that ended in a `d` or `b`, those that were suppressed at the time left out.
    pub mails: u64,
    /// Of those, `b`; and all `rb`.
    pub bounces: u64,
    /// All `f`.
    pub complaints: u64,
    /// Mails that were suppressed at the time: nobody knows what would have become of them.
    pub already_suppressed: u64,
    /// Records that are more than an hour older than one before them: counting goes by the order of the records.
    pub out_of_order: u64,
}

#[derive(Debug, Clone)]
struct Listed {
    since: Time,
    rule: usize,
    standing: Standing,
}

/// All in memory.
#[derive(Debug, Default)]
struct Books {
    strikes: BTreeMap<StrikeKey, Strikes>,
    list: HashMap<Key, Listed>,
    resolved: Time,
    domains: bool,
}

/// A simulation under way.
#[derive(Debug)]
pub struct Simulation {
    engine: Engine,
    hasher: Hasher,
    books: Books,
    outcome: Outcome,
    /// Kinds of the scopes of any entry.
    kinds: Vec<ScopeKind>,
    seq: u64,
    newest: Time,
}

impl Simulation {
    /// With these rules and an empty list.
    pub fn new(rules: &AutoSuppression) -> Simulation {
        let name = |rule: &crate::config::SuppressionRule| Effect { rule: rule.name.to_string(), ..Effect::default() };
        let outcome = Outcome { rules: rules.rules.iter().map(name).collect(), ..Outcome::default() };
        let engine = Engine::new(rules);
        let hasher = Hasher::default();
        hasher.set_folding(engine.folding().clone());
        let (books, newest) = (Books::default(), Time::UNKNOWN);
        Simulation { engine, hasher, books, outcome, kinds: Vec::new(), seq: 0, newest }
    }

    /// Takes one record in, in the order of time; `patterns` classify what has no category.
    pub fn see(&mut self, event: &Event<'_>, patterns: &RuleSet) {
        self.seq += 1;
        let event = &Event { seq: self.seq, ..*event };
        self.outcome.out_of_order += u64::from(self.newest.since(event.time).as_secs() > 3600);
        self.newest = self.newest.max(event.time);
        if event.category.eq_ignore_ascii_case(category::SUPPRESSED) {
            self.outcome.already_suppressed += u64::from(event.kind == Kind::Bounced);
            return;
        }
        self.outcome.mails += u64::from(event.kind.is_terminal());
        self.outcome.bounces += u64::from(matches!(event.kind, Kind::Bounced | Kind::RemoteBounce));
        self.outcome.complaints += u64::from(event.kind == Kind::Feedback);
        if let Some(rule) = self.would_stop(event) {
            let effect = &mut self.outcome.rules[rule];
            effect.mails += u64::from(event.kind.is_terminal());
            effect.bounces += u64::from(matches!(event.kind, Kind::Bounced | Kind::RemoteBounce));
            effect.deferrals += u64::from(event.kind == Kind::Transient);
            effect.complaints += u64::from(event.kind == Kind::Feedback);
            match event.kind {
                Kind::Delivered => effect.good_deliveries += 1,
                // It was not a good one after all.
                Kind::RemoteBounce | Kind::Feedback => {
                    effect.good_deliveries = effect.good_deliveries.saturating_sub(1);
                }
                _ => {}
            }
            return;
        }
        if event.mta_ip.is_some() || event.dlv_destination_ip.is_some() {
            self.books.resolved = self.books.resolved.max(event.time);
        }
        let judgement = match self.engine.wants(event) {
            Wants::Nothing => return,
            Wants::Verdict => cause::judge(patterns, event),
            Wants::Delivery | Wants::Report => cause::Judgement::default(),
        };
        let judged = Judged { category: &judgement.category, hard: judgement.hard, block: judgement.block };
        let Ok(decisions) = self.engine.take(event, judged, &self.hasher, &mut self.books);
        for decision in decisions {
            let effect = &mut self.outcome.rules[decision.rule];
            let of_domain = decision.subjects.first().is_some_and(|(_, subject)| subject.starts_with('@'));
            effect.addresses += u64::from(!of_domain);
            effect.domains += u64::from(of_domain);
            if !self.kinds.contains(&decision.scope.kind()) {
                self.kinds.push(decision.scope.kind());
            }
            let standing =
                Standing { state: EntryState::Active, source: Source::Auto, expires: decision.expires, seq: event.seq };
            for (key, _) in decision.subjects {
                let listed = Listed { since: event.time, rule: decision.rule, standing: standing.clone() };
                self.books.list.insert(key, listed);
            }
        }
    }

    /// The rule by which the mail that this is about would not have been sent.
    fn would_stop(&self, event: &Event<'_>) -> Option<usize> {
        if self.kinds.is_empty() || event.kind == Kind::Received {
            return None;
        }
        // A report is about a mail that went out before.
        let sent = match event.kind {
            Kind::RemoteBounce | Kind::RemoteStatus | Kind::Feedback => {
                [event.time_sent, event.time_queued].into_iter().find(|t| t.is_known()).unwrap_or(event.time)
            }
            _ => event.time,
        };
        let sender = event.orig.rsplit_once('@').map_or("", |(_, domain)| domain);
        let subjects = self.hasher.subjects(&AddressKey::of(event.rcpt));
        self.kinds.iter().find_map(|kind| {
            let name = match kind {
                ScopeKind::Global | ScopeKind::Source => "",
                ScopeKind::SenderDomain => sender,
                ScopeKind::Job => event.job,
                ScopeKind::List => event.job,
                ScopeKind::Vmta => event.vmta,
            };
            let scope = Scope::of(*kind, name)?;
            let listed = subjects.clone().find_map(|subject| self.books.list.get(&subject.in_scope(&scope)))?;
            let ended = listed.standing.expires.is_known() && listed.standing.expires <= sent;
            (listed.since < sent && !ended).then_some(listed.rule)
        })
    }

    /// What it comes to so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The sum over all rules.
    pub fn total(&self) -> Effect {
        self.outcome.rules.iter().fold(Effect { rule: "all".into(), ..Effect::default() }, |sum, e| Effect {
            addresses: sum.addresses + e.addresses,
            domains: sum.domains + e.domains,
            mails: sum.mails + e.mails,
            bounces: sum.bounces + e.bounces,
            deferrals: sum.deferrals + e.deferrals,
            complaints: sum.complaints + e.complaints,
            good_deliveries: sum.good_deliveries + e.good_deliveries,
            rule: sum.rule,
        })
    }
}

impl State for Books {
    type Error = Infallible;

    fn standing(&mut self, key: &Key) -> Result<Option<Standing>, Infallible> {
        Ok(self.list.get(key).map(|listed| listed.standing.clone()))
    }

    fn strikes(&mut self, key: &StrikeKey) -> Result<Strikes, Infallible> {
        Ok(self.strikes.get(key).cloned().unwrap_or_default())
    }

    fn keep(&mut self, key: StrikeKey, strikes: Strikes) {
        self.domains |= strikes.is_about_domain();
        match strikes.is_empty() {
            true => self.strikes.remove(&key),
            false => self.strikes.insert(key, strikes),
        };
    }

    fn may_have_strikes(&mut self, _: &SubjectKey) -> bool {
        !self.strikes.is_empty()
    }

    fn may_have_domains(&mut self) -> bool {
        self.domains && !self.strikes.is_empty()
    }

    fn strikes_of(&mut self, subject: &SubjectKey) -> Result<Vec<(StrikeKey, Strikes)>, Infallible> {
        let first = StrikeKey { key: subject.in_scope(&Scope::global()), rule: 0 };
        let of = self.strikes.range(first..).take_while(|(key, _)| key.key.subject == *subject);
        Ok(of.map(|(key, strikes)| (*key, strikes.clone())).collect())
    }

    fn resolved(&self) -> Time {
        self.resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MessageId;

    fn event<'a>(kind: Kind, day: i64, rcpt: &'a str, diag: &'a str) -> Event<'a> {
        let time = Time::from_secs(1_800_000_000 + day * 86_400);
        Event { rcpt, diag, message: MessageId(day as u64 + 1), time_queued: time, ..Event::new(kind, time) }
    }

    #[test]
    fn what_a_rule_saves_and_costs_is_counted_mail_by_mail() {
        let patterns = RuleSet::builtin();
        let mut play = Simulation::new(&AutoSuppression::default());
        let dead = "smtp;550 5.1.1 no such user";
        // Dead since day 0, mailed daily; on day 5 it lives again.
        (0..5).for_each(|day| play.see(&event(Kind::Bounced, day, "ann@example.net", dead), &patterns));
        (5..8).for_each(|day| play.see(&event(Kind::Delivered, day, "Ann@example.net", ""), &patterns));
        // One who complains about every mail.
        for day in 0..4 {
            play.see(&event(Kind::Delivered, day, "bob@example.net", ""), &patterns);
            let complaint = Event {
                feedback_type: "abuse",
                attributed_by: "message-id",
                time_sent: event(Kind::Delivered, day, "", "").time,
                ..event(Kind::Feedback, day, "bob@example.net", "")
            };
            play.see(&Event { time: complaint.time + std::time::Duration::from_secs(60), ..complaint }, &patterns);
        }
        let of = |name: &str| play.outcome().rules.iter().find(|e| e.rule == name).cloned().unwrap();
        let hard = of("hard");
        assert_eq!((hard.addresses, hard.mails, hard.bounces, hard.good_deliveries), (1, 7, 4, 3));
        let complaint = of("complaint");
        assert_eq!(
            (complaint.addresses, complaint.mails, complaint.complaints, complaint.good_deliveries),
            (1, 3, 3, 0)
        );
        assert_eq!((play.total().mails, play.outcome().mails, play.outcome().complaints), (10, 12, 4));
    }

    #[test]
    fn soft_bounces_count_as_in_the_server_and_end_with_their_time() {
        let patterns = RuleSet::builtin();
        let mut play = Simulation::new(&AutoSuppression::default());
        for day in 0..120 {
            play.see(&event(Kind::Bounced, day, "ann@example.net", "smtp;552 5.2.2 Mailbox full"), &patterns);
        }
        let full = play.outcome().rules.iter().find(|e| e.rule == "full").unwrap();
        // Entered on day 4, ends on day 94, counted anew from there: again on day 98.
        assert_eq!((full.addresses, full.mails), (2, 89 + 21));
        let mut patient = Simulation::new(&AutoSuppression::default());
        for day in 0..120 {
            patient.see(&event(Kind::Bounced, day * 7, "ann@example.net", "smtp;552 5.2.2 Mailbox full"), &patterns);
        }
        assert_eq!(patient.total().mails / 12, 9, "five within thirty days, then ninety days' rest");
    }
}
