//! What replies make of a queue: the patterns of `<smtp-pattern-list>`, `<smtp-pattern>` and pattern files with actions
//! (reference/directives.md, 4.2; reference/guide-dialect.md). Pure.
//!
//! - A reply that refuses (4yz, 5yz) is held against the lists that the queue names, in that order, then against the
//!   patterns that hold for every queue. Greeting and EHLO count; what is no reply does not, and neither does success.
//! - All entries that match combine; the first wins only where two conflict.
//! - Of several recipients refused in one transaction each has its own fate; what is done to the queue is decided by the
//!   first reply that asks for it.
//! - The events say what the host said: an action changes whether a refusal is a `t` or a `b`, never its text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use hashbrown::HashMap;

use crate::classify::{self, FailureKind, PatternError, RuleSet, combine};
use crate::config::model::{Config, PatternSource, QueueSettings, RetryPattern};
use crate::config::{BUILTIN_LIST, QueueMode, ReplyAction};
use crate::event::{EnhancedStatus, Stage};
use crate::queue::Steer;

use super::outcome::{DiagType, Outcome, Verdict};

/// How much of a reply is told as the reason for something, in bytes.
const MOST_TOLD: usize = 200;

/// The patterns of a configuration, compiled.
#[derive(Default)]
pub struct Steering {
    lists: HashMap<String, RuleSet>,
    /// The one that ships with Carom; made when a queue asks for it.
    builtin: OnceLock<Option<RuleSet>>,
    /// What holds for every queue; `None` when no pattern has an action.
    everywhere: Option<RuleSet>,
    delays: Option<RuleSet>,
    /// What they were made of.
    sources: Written,
    /// For categories; made when first needed.
    categories: OnceLock<Option<RuleSet>>,
}

/// Patterns as they stand in a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Written {
    lists: BTreeMap<String, Vec<PatternSource>>,
    everywhere: Vec<PatternSource>,
    delays: Vec<RetryPattern>,
}

impl Written {
    fn of(config: &Config) -> Written {
        Written {
            lists: config.smtp_pattern_lists.clone(),
            everywhere: config.bounce_category_patterns.clone(),
            delays: config.retry_patterns.clone(),
        }
    }
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").field("lists", &self.lists.len()).finish_non_exhaustive()
    }
}

impl Steering {
    /// Compiles the patterns. All that is wrong is reported at once, with its place.
    pub fn compile(config: &Config) -> Result<Steering, Vec<PatternError>> {
        let mut errors = Vec::new();
        let mut compile = |sources: &[PatternSource]| match RuleSet::compile_alone(sources) {
            Ok(set) => Some(set.without_cache()),
            Err(wrong) => {
                errors.extend(wrong);
                None
            }
        };
        let mut lists = HashMap::new();
        for (name, sources) in &config.smtp_pattern_lists {
            lists.extend(compile(sources).map(|set| (name.clone(), set)));
        }
        let has_actions = |set: &RuleSet| set.rules().iter().any(|rule| !rule.actions.is_empty());
        let everywhere = match config.bounce_category_patterns.as_slice() {
            [] => None,
            // What is wrong with these is reported where they are compiled for their categories.
            sources => RuleSet::compile_alone(sources).ok().filter(has_actions).map(RuleSet::without_cache),
        };
        let delays: Vec<_> = config.retry_patterns.iter().map(|p| p.source.clone()).collect();
        let delays = if delays.is_empty() { None } else { compile(&delays) };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Steering { lists, everywhere, delays, sources: Written::of(config), ..Steering::default() })
    }

    /// Whether it is what this configuration asks for.
    pub fn is_of(&self, config: &Config) -> bool {
        self.sources == Written::of(config)
    }

    fn list(&self, name: &str) -> Option<&RuleSet> {
        if name != BUILTIN_LIST {
            return self.lists.get(name);
        }
        let compile = || {
            let (file, text) = classify::BACKOFF;
            RuleSet::compile_alone(&[PatternSource::file(file, text)]).ok().map(RuleSet::without_cache)
        };
        self.builtin.get_or_init(compile).as_ref()
    }

    /// What the reply asks for.
    fn actions(&self, settings: &QueueSettings, reply: &str, facts: &classify::Facts<'_>) -> Asked {
        let mut entries: Vec<Vec<ReplyAction>> = Vec::new();
        let mut rules = Vec::new();
        let lists = settings.smtp_pattern_lists.iter().filter_map(|name| self.list(name));
        for set in lists.chain(&self.everywhere) {
            // Nearly all replies match nothing, which is found out at once.
            if set.actions(reply, facts).is_empty() {
                continue;
            }
            for found in set.matches(reply, facts) {
                if !found.rule.actions.is_empty() {
                    entries.push(found.rule.actions.clone());
                    rules.push(found.rule.name());
                }
            }
        }
        let actions = combine(entries.iter().map(Vec::as_slice));
        let by = |action: &ReplyAction| {
            let n = entries.iter().position(|entry| entry.contains(action)).unwrap_or(0);
            rules.get(n).cloned().unwrap_or_default()
        };
        let asked = Asked { rules: actions.iter().map(by).collect(), actions, delay: None };
        let delay = self.delays.as_ref().and_then(|set| {
            let n = (0..set.len()).find(|n| set.rule_matches(*n, reply))?;
            self.sources.delays.get(n).map(|p| (p.initial, p.max))
        });
        Asked { delay, ..asked }
    }

    /// The category for recipients that are bounced with what was said of another one: empty where the reply decides, as
    /// always; never one that calls an address dead of which the host has said nothing.
    pub fn category_of_others(&self, reply: &str) -> &'static str {
        let sources = &self.sources.everywhere;
        let rules = self.categories.get_or_init(|| RuleSet::compile(sources).ok());
        let hard = rules.as_ref().is_none_or(|r| r.classify_text(reply).kind() == FailureKind::Hard);
        if hard { "other" } else { "" }
    }
}

/// What a reply asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    actions: Vec<ReplyAction>,
    /// `file:line` of the pattern behind each.
    rules: Vec<String>,
    /// First and longest wait of the recipient.
    delay: Option<(Duration, Duration)>,
}

/// A reply that ends a whole queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The reply.
    pub text: String,
    /// Its status.
    pub status: EnhancedStatus,
    /// Where it was said.
    pub stage: Stage,
}

/// What is to be done to a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Change its mode.
    pub mode: Option<QueueMode>,
    /// Not to use the source address: for so long, for good, or for as long as the settings say.
    pub disable: Option<Option<Option<Duration>>>,
    /// Go on with another host.
    pub skip_mx: bool,
    /// Sleep now.
    pub defer: bool,
    /// Bounce all of it.
    pub bounce_queue: Option<Sentence>,
    /// The session failed in a way that counts.
    pub error: bool,
    /// The first pattern and the reply.
    pub why: String,
}

impl Orders {
    /// Whether there is anything for the queue to do, `source` being the address of the connection.
    pub fn for_queue(&self, source: Option<IpAddr>) -> Option<Steer<'_>> {
        let disable = self.disable.and_then(|after| source.map(|ip| (ip, after)));
        let steer = Steer { mode: self.mode, disable, defer: self.defer, error: self.error, why: &self.why };
        (steer.mode.is_some() || disable.is_some() || steer.defer || steer.error).then_some(steer)
    }

    /// Whether the connection is to be left.
    pub fn leave(&self) -> bool {
        self.skip_mx || self.defer || self.disable.is_some()
    }
}

/// Replies of one host, what they ask for, and what comes of it for recipients.
#[derive(Debug)]
pub struct Course<'a> {
    steering: &'a Steering,
    settings: &'a QueueSettings,
    facts: classify::Facts<'a>,
    /// There is another host to go on with.
    others: bool,
    last: Option<(String, Stage, Asked)>,
    /// What is to be done to the queue.
    pub orders: Orders,
}

impl<'a> Course<'a> {
    /// Nothing said yet by host `mx` to the queue of `domain`.
    pub fn new(
        steering: &'a Steering,
        settings: &'a QueueSettings,
        domain: &'a str,
        mx: &'a str,
        others: bool,
    ) -> Course<'a> {
        let facts = classify::Facts { provider: domain, domain, mx, ..Default::default() };
        Course { steering, settings, facts, others, last: None, orders: Orders::default() }
    }

    /// The outcome as the patterns want it, after so many attempts before this one.
    pub fn bend<'r>(&mut self, mut outcome: Outcome<'r>, attempts: u16) -> Outcome<'r> {
        if outcome.diag_type != DiagType::Smtp || !matches!(outcome.verdict, Verdict::Bounced | Verdict::Deferred) {
            return outcome;
        }
        let is_new = !self.last.as_ref().is_some_and(|(text, at, _)| text == outcome.text && *at == outcome.stage);
        if is_new {
            let facts = classify::Facts { stage: Some(outcome.stage), status: Some(outcome.status), ..self.facts };
            let asked = self.steering.actions(self.settings, outcome.text, &facts);
            self.order(&asked, &outcome);
            self.last = Some((outcome.text.to_owned(), outcome.stage, asked));
        }
        let Some((_, _, asked)) = &self.last else { return outcome };
        let mut skips = false;
        for action in &asked.actions {
            match action {
                ReplyAction::BounceQueue => outcome.verdict = Verdict::Bounced,
                ReplyAction::BounceRcpt if outcome.stage == Stage::Rcpt => outcome.verdict = Verdict::Bounced,
                ReplyAction::SkipMx => skips = true,
                _ => {}
            }
        }
        if skips {
            outcome.verdict = Verdict::Deferred;
        }
        if outcome.verdict == Verdict::Deferred {
            let doubled = |(first, most): (Duration, Duration)| {
                first.saturating_mul(1u32.checked_shl(u32::from(attempts)).unwrap_or(u32::MAX)).min(most)
            };
            outcome.wait = asked.delay.map(doubled);
            if skips && self.others {
                outcome.wait = Some(Duration::ZERO);
            }
        }
        outcome
    }

    fn order(&mut self, asked: &Asked, outcome: &Outcome<'_>) {
        let orders = &mut self.orders;
        for (action, rule) in asked.actions.iter().zip(&asked.rules) {
            let ordered = match action {
                ReplyAction::Mode(mode) => orders.mode.is_none() && orders.mode.replace(*mode).is_none(),
                ReplyAction::DisableSourceIp => {
                    orders.disable.is_none() && {
                        let after = asked.actions.iter().find_map(|a| match a {
                            ReplyAction::ReenableAfter(after) => Some(*after),
                            _ => None,
                        });
                        orders.disable.replace(after).is_none()
                    }
                }
                ReplyAction::SkipMx => orders.bounce_queue.is_none() && !std::mem::replace(&mut orders.skip_mx, true),
                ReplyAction::DeferQueue => !std::mem::replace(&mut orders.defer, true),
                ReplyAction::BounceQueue => {
                    orders.bounce_queue.is_none() && !orders.skip_mx && {
                        let (text, status, stage) = (outcome.text.to_owned(), outcome.status, outcome.stage);
                        orders.bounce_queue.replace(Sentence { text, status, stage }).is_none()
                    }
                }
                ReplyAction::BounceRcpt | ReplyAction::ReenableAfter(_) => false,
            };
            if ordered && orders.why.is_empty() {
                orders.why = format!("{rule}: {}", told(outcome.text));
            }
        }
    }

    /// The session failed; `max-errors-per-domain` counts it.
    pub fn failed(&mut self, text: &str) {
        if self.settings.max_errors_per_domain > 0 {
            self.orders.error = true;
            if self.orders.why.is_empty() {
                self.orders.why = told(text).to_owned();
            }
        }
    }
}

/// The beginning of a text, for people.
fn told(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_TOLD)]
}
