//! A set of rules, and the verdict it gives.
//!
//! [`super::matcher`] finds out which rules match; here their order, limits and categories decide. The shipped patterns
//! see a reply without the addresses in it ([`super::mask`]), those of the operator as it is. Replies are cut at
//! [`MAX_REPLY`]. A set keeps its canonical text, from which [`RuleSet::from_text`] makes the same set with the same id
//! again: everything that can change a verdict is in it ([`super::stored`]).

use std::fmt;

use super::cache::Cache;
use super::codes::{self, Codes, basic_code, enhanced_code};
use super::limits::{Facts, Limits, Providers, parse_providers};
use super::matcher::Matcher;
use super::pattern_file::{self, PatternError};
use super::rule::Rule;
use super::verdict::{Match, Verdict, VerdictSource, combine};
use super::{builtin, stored};
use crate::config::{DomainPattern, PatternSource, ReplyAction};
use crate::event::{Action, EnhancedStatus, Event, Kind, RuleSetId};

/// Most rules in a set, the built-in ones included.
const MAX_RULES: usize = 20_000;
/// How much of a reply is looked at, in bytes: longer ones are cut here.
pub const MAX_REPLY: usize = 4096;
/// The category of what nothing decides.
const OTHER: &str = "other";

/// A compiled, immutable set of rules.
pub struct RuleSet {
    id: RuleSetId,
    text: String,
    rules: Vec<Rule>,
    /// `file:line` of each.
    names: Vec<Box<str>>,
    /// The different limits there are.
    limits: Vec<Limits>,
    /// Which of them each rule has; `None` when it holds everywhere.
    limited: Vec<Option<u32>>,
    matcher: Matcher,
    codes: Codes,
    providers: Providers,
    cache: Option<Cache>,
    notes: Vec<Note>,
}

/// Something in a pattern source that works and may still not be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// File as it was named in the configuration.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// What is unusual.
    pub message: String,
}

impl RuleSet {
    /// The configured sources in their order, what is for one destination before what is for all, and behind them the
    /// built-in patterns. All errors are reported at once.
    pub fn compile(sources: &[PatternSource]) -> Result<RuleSet, Vec<PatternError>> {
        Read::of(sources).compile()
    }

    /// The sources alone, without anything that ships with Carom: for looking at a file by itself.
    pub fn compile_alone(sources: &[PatternSource]) -> Result<RuleSet, Vec<PatternError>> {
        let (rules, errors) = read(sources);
        let codes = Codes::default();
        let text = stored::write(&rules, &codes, builtin::PROVIDERS);
        Read { own: rules.len(), rules, codes, providers: builtin::PROVIDERS.to_owned(), text, errors }.compile()
    }

    /// Only what ships with Carom.
    pub fn builtin() -> RuleSet {
        RuleSet::compile(&[]).expect("the shipped pattern files are compiled by the tests")
    }

    /// The set that [`RuleSet::text`] was taken of: same id, same verdicts, same names of rules.
    pub fn from_text(text: &str) -> Result<RuleSet, Vec<PatternError>> {
        let mut errors = Vec::new();
        let stored::Stored { rules, codes, providers } = stored::read(text, &mut errors);
        // An older version's text keeps its form and its id.
        Read { rules, own: 0, codes, providers, text: text.to_owned(), errors }.compile()
    }

    fn build(read: Read) -> Result<RuleSet, Vec<PatternError>> {
        let id = read.id();
        let Read { rules, own, codes, providers, text, mut errors } = read;
        if let Some(rule) = rules.get(MAX_RULES) {
            errors.push(at(rule, format!("more than {MAX_RULES} rules, the built-in ones included")));
            return Err(errors);
        }
        let matcher = Matcher::new(&rules, &mut errors);
        let known = parse_providers(&providers).unwrap_or_else(|(line, message)| {
            errors.push(PatternError { file: builtin::PROVIDERS_NAME.into(), line, message });
            Providers::new()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        let notes = note(&rules[..own], &matcher);
        let mut limits: Vec<Limits> = Vec::new();
        let mut places = hashbrown::HashMap::new();
        let limited = rules.iter().map(|rule| {
            (!rule.limits.is_empty()).then(|| {
                *places.entry(rule.limits.to_string()).or_insert_with(|| {
                    limits.push(rule.limits.clone());
                    limits.len() as u32 - 1
                })
            })
        });
        Ok(RuleSet {
            id,
            text,
            names: rules.iter().map(|rule| rule.name().into()).collect(),
            limited: limited.collect(),
            limits,
            matcher,
            rules,
            codes,
            providers: known,
            cache: Some(Cache::new()),
            notes,
        })
    }

    /// The same set without its memory of verdicts: for measuring, and for reading history once.
    pub fn without_cache(mut self) -> RuleSet {
        self.cache = None;
        self
    }

    /// Canonical text, to be kept under the id; compiles to the same set again.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// First eight bytes of the SHA-256 of the canonical text.
    pub const fn id(&self) -> RuleSetId {
        self.id
    }

    /// What is unusual in the configured sources (not in the built-in ones); empty for a set made from stored text.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The rules in the order in which they decide.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no patterns at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How often a pattern was given up at its backtrack limit since the set was made.
    pub fn given_up(&self) -> u64 {
        self.matcher.given_up()
    }

    /// The verdict on an event. What its producer decided itself (`suppressed`, `message-expired`) stays, with no rule;
    /// deliveries, receptions, complaints and reports of success have no category.
    pub fn classify<'v>(&'v self, event: &Event<'v>) -> Verdict<'v> {
        if !event.category.is_empty() {
            let temporary = event.status.is_some_and(|status| status.class == 4);
            return Verdict { category: event.category, source: VerdictSource::Producer, temporary, ..Verdict::NONE };
        }
        let successful = match event.kind {
            Kind::Delivered | Kind::Received | Kind::Feedback => true,
            // A delay notice may say no status, and still says why.
            Kind::RemoteStatus if event.action == Some(Action::Delayed) => false,
            Kind::RemoteStatus => event.status.is_none_or(|status| status.class == 2),
            Kind::Bounced | Kind::Transient | Kind::TransientQueue | Kind::RemoteBounce => false,
        };
        if successful { Verdict::NONE } else { self.classify_with(event.reply_text(), &facts_of(event)) }
    }

    /// The verdict on a reply of which nothing else is known: code, enhanced code and text, the lines joined by blanks.
    pub fn classify_text(&self, reply: &str) -> Verdict<'_> {
        self.classify_with(reply, &Facts::default())
    }

    /// The verdict on a reply. A code in the reply itself is more precise than the status that is known beside it.
    pub fn classify_with(&self, reply: &str, facts: &Facts<'_>) -> Verdict<'_> {
        let reply = cut(reply);
        let codes = ReplyCodes::of(reply, facts);
        let matched = match &self.cache {
            Some(cache) => match self.holding_bits(facts, &codes) {
                Some(bits) => cache.find(reply, bits, || self.deciding(reply, facts, &codes)),
                None => self.deciding(reply, facts, &codes),
            },
            None => self.deciding(reply, facts, &codes),
        };
        let temporary = codes.class() == Some(4);
        if let Some(number) = matched
            && let (Some(rule), Some(name)) = (self.rules.get(number as usize), self.names.get(number as usize))
        {
            let (category, said, actions) = (&rule.category, rule.kind, &rule.actions);
            return Verdict { category, rule: name, source: VerdictSource::Pattern, said, temporary, actions };
        }
        let enhanced = |status: Option<EnhancedStatus>| status.and_then(|status| self.codes.enhanced(status));
        let (source, entry) = match enhanced(codes.own).or_else(|| enhanced(facts.status)) {
            Some(entry) => (VerdictSource::EnhancedCode, Some(entry)),
            None => (VerdictSource::Code, codes.basic.and_then(|code| self.codes.basic(code))),
        };
        match entry {
            Some(codes::Entry { category, name }) => {
                Verdict { category, rule: name, source, temporary, ..Verdict::NONE }
            }
            None => Verdict { category: OTHER, temporary, ..Verdict::NONE },
        }
    }

    /// What the reply makes the queue do, by all rules that match it: they combine, the first wins where two conflict.
    pub fn actions(&self, reply: &str, facts: &Facts<'_>) -> Vec<ReplyAction> {
        let reply = cut(reply);
        let codes = ReplyCodes::of(reply, facts);
        let mut entries: Vec<&[ReplyAction]> = Vec::new();
        self.matcher.each(
            reply,
            |number| {
                let rule = &self.rules[number];
                !rule.actions.is_empty() && self.holds(number, facts, &codes)
            },
            |number| {
                entries.push(&self.rules[number].actions);
                false
            },
        );
        combine(entries)
    }

    /// Every rule that matches the reply, in the order in which they decide, with the place of its first match. Slower
    /// than a verdict: for explaining one.
    pub fn matches(&self, reply: &str, facts: &Facts<'_>) -> Vec<Match<'_>> {
        let reply = cut(reply);
        let codes = ReplyCodes::of(reply, facts);
        let mut found = Vec::new();
        self.matcher.each(
            reply,
            |number| self.holds(number, facts, &codes),
            |number| {
                let (start, end) = self.matcher.span(number, reply).unwrap_or((0, 0));
                found.push(Match { number, rule: &self.rules[number], start, end });
                false
            },
        );
        found
    }

    /// Whether this one rule matches the reply, its limits left aside.
    pub fn rule_matches(&self, number: usize, reply: &str) -> bool {
        self.matcher.matches(number, cut(reply))
    }

    /// The rule that decides the category.
    fn deciding(&self, reply: &str, facts: &Facts<'_>, codes: &ReplyCodes) -> Option<u32> {
        let mut decided = None;
        self.matcher.each(
            reply,
            |number| !self.rules[number].category.is_empty() && self.holds(number, facts, codes),
            |number| {
                decided = u32::try_from(number).ok();
                true
            },
        );
        decided
    }

    fn holds(&self, number: usize, facts: &Facts<'_>, codes: &ReplyCodes) -> bool {
        match self.limited.get(number).copied().flatten() {
            None => true,
            Some(n) => self.limits[n as usize].hold(facts, codes.class(), codes.own.or(facts.status), &self.providers),
        }
    }

    /// Which of the limits hold, as bits: with the text they are all a verdict depends on. `None` where there are more
    /// limits than bits, and one of the rest holds.
    fn holding_bits(&self, facts: &Facts<'_>, codes: &ReplyCodes) -> Option<u128> {
        let mut bits = 0;
        for (n, limits) in self.limits.iter().enumerate() {
            if limits.hold(facts, codes.class(), codes.own.or(facts.status), &self.providers) {
                bits |= 1u128.checked_shl(n as u32).filter(|_| n < 128)?;
            }
        }
        Some(bits)
    }
}

/// All that makes a set, read and not yet compiled: enough to know its id.
pub(super) struct Read {
    rules: Vec<Rule>,
    /// So many of them, the first, are the operator's.
    own: usize,
    codes: Codes,
    providers: String,
    /// The canonical text.
    text: String,
    /// What could not be read.
    pub(super) errors: Vec<PatternError>,
}

impl Read {
    /// The sources, and what ships with Carom behind them.
    pub(super) fn of(sources: &[PatternSource]) -> Read {
        let (mut rules, mut errors) = read(sources);
        let own = rules.len();
        for (name, text) in builtin::FILES {
            let (shipped, wrong) = pattern_file::parse(name, text);
            rules.extend(shipped.into_iter().map(|rule| Rule { shipped: true, ..rule }));
            errors.extend(wrong);
        }
        let codes = Codes::parse(builtin::CODES_NAME, builtin::CODES, &mut errors);
        let text = stored::write(&rules, &codes, builtin::PROVIDERS);
        Read { rules, own, codes, providers: builtin::PROVIDERS.to_owned(), text, errors }
    }

    /// First eight bytes of the SHA-256 of the text.
    pub(super) fn id(&self) -> RuleSetId {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes());
        let first = digest.as_ref().first_chunk::<8>().expect("a SHA-256 digest has 32 bytes");
        RuleSetId(u64::from_be_bytes(*first))
    }

    pub(super) fn compile(self) -> Result<RuleSet, Vec<PatternError>> {
        RuleSet::build(self)
    }
}

/// What the text itself says by codes.
struct ReplyCodes {
    basic: Option<u16>,
    own: Option<EnhancedStatus>,
    known: Option<EnhancedStatus>,
}

impl ReplyCodes {
    fn of(reply: &str, facts: &Facts<'_>) -> ReplyCodes {
        ReplyCodes { basic: basic_code(reply), own: enhanced_code(reply), known: facts.status }
    }

    /// First digit of the basic code, else of an enhanced one.
    fn class(&self) -> Option<u8> {
        let basic = self.basic.map(|code| (code / 100) as u8);
        basic.or_else(|| self.own.or(self.known).map(|status| status.class))
    }
}

/// What a rule may ask of an event.
fn facts_of<'e>(event: &Event<'e>) -> Facts<'e> {
    let domain = match event.rcpt.rsplit_once('@') {
        Some((_, domain)) => domain,
        None => event.queue.split('/').next().unwrap_or(""),
    };
    Facts { provider: event.provider, domain, mx: event.mta, stage: event.stage, status: event.status }
}

fn cut(reply: &str) -> &str {
    &reply[..reply.floor_char_boundary(MAX_REPLY)]
}

/// The rules of the sources in the order in which they decide.
pub(super) fn read(sources: &[PatternSource]) -> (Vec<Rule>, Vec<PatternError>) {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    let mut ordered: Vec<&PatternSource> = sources.iter().collect();
    ordered.sort_by_key(|source| match source {
        PatternSource::File(file) => breadth(file.domain.as_ref()),
        PatternSource::Inline { .. } => breadth(None),
    });
    for source in ordered {
        match source {
            PatternSource::Inline { file, line, regex, category, rest } => {
                let file = file.display().to_string();
                match Rule::new(&file, *line, regex, &format!("{category} {rest}"), &Limits::default()) {
                    Ok(rule) => rules.push(rule),
                    Err(message) => errors.push(PatternError { file, line: *line, message }),
                }
            }
            PatternSource::File(file) => {
                let (read, wrong) = pattern_file::parse_source(file);
                rules.extend(read);
                errors.extend(wrong);
            }
        }
    }
    (rules, errors)
}

/// What is for fewer destinations sorts first; what is for all stays in the order of the configuration.
fn breadth(domain: Option<&DomainPattern>) -> (u8, usize) {
    match domain {
        Some(DomainPattern::Exact(_)) => (0, 0),
        Some(DomainPattern::Literal(_, length)) => (1, 128 - usize::from(*length).min(128)),
        Some(DomainPattern::NameAndSubdomains(name) | DomainPattern::Subdomains(name)) => (1, usize::MAX - name.len()),
        Some(DomainPattern::Any) => (2, 0),
        None => (3, 0),
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet").field("id", &self.id).field("patterns", &self.rules.len()).finish_non_exhaustive()
    }
}

fn at(rule: &Rule, message: String) -> PatternError {
    PatternError { file: rule.file.clone(), line: rule.line, message }
}

/// `rules` are the first of those in `matcher`.
fn note(rules: &[Rule], matcher: &Matcher) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut say = |rule: &Rule, message| notes.push(Note { file: rule.file.clone(), line: rule.line, message });
    let mut seen = hashbrown::HashSet::new();
    for (number, rule) in rules.iter().enumerate() {
        if !rule.category.is_empty() && crate::event::Category::by_name(&rule.category).is_none() {
            say(rule, format!("{:?} is a category of your own: it is reported, and never suppresses", rule.category));
        }
        if rule.limits.is_empty() && matcher.matches_everything(number) {
            say(rule, "this matches every reply: the rules after it are never reached".into());
        } else if !seen.insert((&rule.regex, rule.limits.to_string())) {
            say(rule, "an earlier rule has the same regex: this one is never reached".into());
        }
    }
    notes
}

#[cfg(test)]
mod tests;
