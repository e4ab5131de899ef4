//! What the suppression consumer does with each event: judge it, let the rules count, enter what they decide; with the
//! circuit breaker in between.

use std::sync::Arc;

use super::doubt::{self, Notice, SharedBreaker, Tell};
use super::follow::{Effect, Urgency};
use super::memory::{Memory, Waiting};
use crate::classify::RuleSets;
use crate::classify::cause::{self, Judgement};
use crate::config::{Config, Live};
use crate::event::{Event, EventId, Kind, Time};
use crate::store::{Store, StoreError, Tables, Tx};
use crate::suppress::book::Change;
use crate::suppress::breaker::{Breaker, Circuit, Turn};
use crate::suppress::rules::{Decision, Engine, Judged, Wants};
use crate::suppress::{Entry, State, Suppression};

/// Most changes that wait for one commit.
const MAX_WAITING: usize = 10_000;
/// The breaker's memory is kept so often, in microseconds; what it counted since is lost with a crash, and nothing else.
const KEEP_BREAKER: i64 = 10_000_000;

/// See the head of the file.
pub struct Suppressing {
    list: Suppression,
    store: Store,
    rules: RuleSets,
    config: Option<Live>,
    seen: Option<Arc<Config>>,
    engine: Engine,
    memory: Memory,
    breaker: SharedBreaker,
    /// The time of the newest event.
    now: Time,
    /// When the breaker was kept; unknown when it must be with the next commit.
    kept: Time,
    keeping: bool,
    tell: Tell,
}

impl std::fmt::Debug for Suppressing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppressing").field("waiting", &self.memory.len()).finish_non_exhaustive()
    }
}

impl Suppressing {
    /// With what is committed.
    pub(super) fn open(
        store: &Store,
        list: &Suppression,
        rules: RuleSets,
        config: Option<Live>,
        breaker: SharedBreaker,
        tell: Tell,
    ) -> Result<Suppressing, StoreError> {
        let seen = config.as_ref().map(|live| live.load_full());
        let engine = Engine::new(&seen.as_ref().map(|c| c.auto_suppression.clone()).unwrap_or_default());
        list.hasher().set_folding(engine.folding().clone());
        *doubt::lock(&breaker) = doubt::load(store.suppression())?;
        let memory = Memory::open(store.suppression())?;
        let (list, store) = (list.clone(), store.clone());
        let (now, kept) = (Time::UNKNOWN, Time::UNKNOWN);
        Ok(Suppressing { list, store, rules, config, seen, engine, memory, breaker, now, kept, keeping: false, tell })
    }

    /// A reload holds for the events from then on.
    fn refresh(&mut self) {
        let Some(live) = &self.config else { return };
        let config = live.load();
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &config)) {
            return;
        }
        if config.auto_suppression != *self.engine.rules() {
            self.engine = Engine::new(&config.auto_suppression);
            self.list.hasher().set_folding(self.engine.folding().clone());
        }
        self.seen = Some(Arc::clone(&config));
    }

    fn judge(&mut self, event: &Event<'_>) -> Result<Option<Judgement>, StoreError> {
        let rules = self.rules.of(event.rules, || self.store.tables().rule_set(event.rules))?;
        Ok(rules.map_or_else(|| cause::said(event), |rules| Some(cause::judge(&rules, event))))
    }

    /// Tells the breaker of an outcome; the template of a hard bounce comes back.
    fn watch(&mut self, event: &Event<'_>, hard: bool) -> Result<Option<String>, StoreError> {
        let late = match event.kind {
            Kind::Delivered | Kind::Bounced => false,
            Kind::RemoteBounce if hard => true,
            _ => return Ok(None),
        };
        // What DNS or we ourselves say is no provider's mistake.
        let template = (hard && event.reply_code().is_some()).then(|| doubt::template(event.reply_text()));
        let terms = &self.engine.rules().breaker;
        let turns = doubt::lock(&self.breaker).see(provider(event), template.as_deref(), late, event.time, terms);
        for turn in turns {
            self.turn(turn, event)?;
        }
        Ok(template)
    }

    /// A breaker has tripped, or it is over.
    fn turn(&mut self, turn: Turn, event: &Event<'_>) -> Result<(), StoreError> {
        self.kept = Time::UNKNOWN;
        let by = EventId { store: event.store, seq: event.seq };
        let (circuit, tripped, ended) = match turn {
            Turn::Trips(circuit, tripped) => (circuit, tripped, false),
            Turn::Ends(circuit, tripped) => (circuit, tripped, true),
        };
        let changes = match ended {
            false => doubt::to_hold(self.store.suppression(), &self.memory, &circuit, Time(tripped.from))?,
            true => doubt::to_release(self.store.suppression(), &self.memory, &circuit, Time(tripped.from), by)?,
        };
        let entries = changes.len();
        for (key, waiting) in changes {
            self.list.apply(&key, &waiting.entry);
            self.memory.waiting.insert(key, waiting);
        }
        let notice = Notice { time: event.time.0, circuit, tripped, ended, entries };
        notice.log();
        (self.tell)(notice);
        Ok(())
    }

    fn enter(&mut self, decision: Decision, event: &Event<'_>, judged: Judged<'_>, doubted: Option<&Circuit>) {
        let rule = &self.engine.rules().rules[decision.rule].name;
        for (key, subject) in decision.subjects {
            let held = doubted.filter(|_| decision.doubtful);
            let entry = Entry {
                source: decision.source,
                state: if held.is_some() { State::Held } else { State::Active },
                rule: rule.clone(),
                by: EventId { store: event.store, seq: event.seq },
                time: event.time,
                expires: decision.expires,
                scope: decision.scope.clone(),
                subject,
                provider: event.provider.into(),
                category: judged.category.into(),
                reply: event.reply_text().into(),
                note: held.map_or_else(|| event.feedback_type.into(), |circuit| circuit.to_string().into()),
                batch: 0,
            };
            self.list.apply(&key, &entry);
            // The log is kept as well: where only hashes are, it names nobody.
            let hashed = self.seen.as_ref().is_some_and(|config| config.suppression_hashed);
            let hash = data_encoding::HEXLOWER.encode(&key.subject.0);
            tracing::info!(
                subject = if hashed { &hash } else { &*entry.subject },
                scope = %entry.scope,
                rule = &*entry.rule,
                state = entry.state.name(),
                messages = decision.strikes,
                category = &*entry.category,
                event = %entry.by,
                reply = if hashed { "" } else { &*entry.reply },
                "suppressed"
            );
            let (who, why, certain) = (entry.rule.clone(), entry.reply.clone(), !decision.doubtful);
            self.memory.waiting.insert(key, Waiting { entry, change: Change::Enter, who, why, certain });
        }
    }
}

fn judged(judgement: &Judgement) -> Judged<'_> {
    let Judgement { category, hard, block } = judgement;
    Judged { category, hard: *hard, block: *block }
}

/// The destination as operators see it.
fn provider<'a>(event: &Event<'a>) -> &'a str {
    match event.provider {
        "" => event.rcpt.rsplit_once('@').map_or("", |(_, domain)| domain),
        provider => provider,
    }
}

impl Effect for Suppressing {
    const NAME: &'static str = super::CONSUMER;

    fn tables(store: &Store) -> &Tables {
        store.suppression()
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        self.refresh();
        self.now = self.now.max(event.time);
        // The mail went as far as a server: its name was found.
        let ours = matches!(event.kind, Kind::Delivered | Kind::Bounced | Kind::Transient | Kind::TransientQueue);
        if ours && (event.mta_ip.is_some() || event.dlv_destination_ip.is_some()) {
            self.memory.resolved_at(event.time);
        }
        // Classifying costs more than all else here: only what a rule may count is.
        let judgement = match self.engine.wants(event) {
            Wants::Nothing => return Ok(()),
            Wants::Verdict => match self.judge(event)? {
                Some(judgement) => Some(judgement),
                None => return Ok(()),
            },
            Wants::Delivery | Wants::Report => None,
        };
        let judged = judgement.as_ref().map(judged).unwrap_or_default();
        let hard = judged.hard && event.is_permanent_failure();
        let template = self.watch(event, hard)?;
        let decisions = self.engine.take(event, judged, self.list.hasher(), &mut self.memory)?;
        if decisions.is_empty() {
            return Ok(());
        }
        let doubted = match event.reply_code() {
            Some(_) => {
                let template = template.unwrap_or_else(|| doubt::template(event.reply_text()));
                doubt::lock(&self.breaker).doubts(provider(event), &template)
            }
            None => None,
        };
        for decision in decisions {
            self.enter(decision, event, judged, doubted.as_ref());
        }
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        match self.memory.len() {
            0 => Urgency::Whenever,
            MAX_WAITING.. => Urgency::Now,
            _ => Urgency::Soon,
        }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.memory.write(tx, self.now)?;
        self.keeping = !self.kept.is_known() || self.now.0.saturating_sub(self.kept.0) >= KEEP_BREAKER;
        if self.keeping {
            doubt::keep(tx, &doubt::lock(&self.breaker));
        }
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.keeping) {
            self.kept = self.now;
        }
        let entered = self.memory.committed();
        let stands = |key: &crate::suppress::Key| self.memory.entry(key).ok();
        for (key, waiting) in entered {
            // An operator may have taken the address off between our look and our writing.
            match stands(&key) {
                Some(Some(row)) if row != waiting.entry => self.list.apply(&key, &row),
                _ => {}
            }
        }
    }
}

/// A breaker that nobody else looks at.
pub(super) fn own_breaker() -> SharedBreaker {
    Arc::new(std::sync::Mutex::new(Breaker::default()))
}
