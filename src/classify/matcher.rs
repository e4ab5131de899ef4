//! Which rules match a reply, in their order.
//!
//! One pass over the folded reply finds the literals that rules need ([`super::literals`]); a rule whose needs are met,
//! or that needs nothing, is a candidate and is asked by its own automaton. That automaton is made when the rule is first
//! a candidate, or at once where it may be large, so that what grows too large is found when the rules are read. One
//! automaton for all rules was measured: the gaps that rules leave between words make its states multiply, and it is a
//! hundred times slower.
//!
//! Matching is linear in the reply, but for patterns with look-around and their like: those stop at a backtrack limit,
//! and are then no match, which is counted and logged.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::literals::{self, fold};
use super::mask::Masked;
use super::pattern_file::PatternError;
use super::pcre::{self, Translated};
use super::rule::Rule;

/// Most memory one pattern may take when compiled, in bytes.
const MAX_PATTERN_SIZE: usize = 2 << 20;
/// Patterns estimated smaller than this many states can't pass [`MAX_PATTERN_SIZE`]: they are made when needed.
const SURELY_SMALL: usize = 8 << 10;
/// Most memory the states of one automaton that are made while searching may take, in bytes for each thread. The large
/// rules need a few MiB: with one MiB their states are thrown away and made again, four times slower.
const STATES_SIZE: usize = 8 << 20;
/// Steps back after which a pattern that backtracks is given up.
const BACKTRACK_LIMIT: usize = 100_000;

/// All rules, ready to be asked.
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// Rules by what they see.
    views: [View; 2],
    given_up: AtomicU64,
}

struct Pattern {
    hir: Option<Hir>,
    engine: OnceLock<Engine>,
    /// It sees no addresses.
    shipped: bool,
    /// `file:line`, for the warning.
    name: Box<str>,
}

enum Engine {
    Linear(Box<Regex>),
    Backtracking(Box<fancy_regex::Regex>),
    /// It can't be made after all: no match.
    None,
}

/// The rules that see the same text.
#[derive(Default)]
struct View {
    literals: Option<AhoCorasick>,
    /// By literal: the rules that need it, and which of their clauses it meets, as a bit.
    needed_by: Vec<Vec<(u32, u8)>>,
    /// Rules that need nothing.
    always: Vec<u32>,
    /// The rules that need something, and all the bits of their clauses.
    wanted_of: Vec<(u32, u8)>,
    rules: usize,
}

/// The bits of so many clauses.
fn wanted(clauses: usize) -> u8 {
    (1u16 << clauses).wrapping_sub(1) as u8
}

impl Matcher {
    pub(super) fn new(rules: &[Rule], errors: &mut Vec<PatternError>) -> Matcher {
        let mut patterns = Vec::with_capacity(rules.len());
        let mut views = [ViewBuilder::default(), ViewBuilder::default()];
        for (number, rule) in rules.iter().enumerate() {
            match Pattern::new(rule) {
                Ok(pattern) => {
                    let clauses = pattern.hir.as_ref().map(literals::required).unwrap_or_default();
                    views[usize::from(rule.shipped)].add(number as u32, clauses);
                    patterns.push(pattern);
                }
                Err(message) => errors.push(PatternError { file: rule.file.clone(), line: rule.line, message }),
            }
        }
        Matcher { patterns, views: views.map(ViewBuilder::finish), given_up: AtomicU64::new(0) }
    }

    /// Calls `found` for each rule that matches, in order, until it returns true; those that `asked` leaves out are not
    /// looked at.
    pub(super) fn each(&self, reply: &str, asked: impl Fn(usize) -> bool, mut found: impl FnMut(usize) -> bool) {
        let masked = Masked::new(reply);
        let mut candidates: Vec<u32> = Vec::new();
        for (view, text) in self.views.iter().zip([reply, masked.text()]) {
            if view.rules > 0 {
                view.candidates(text, &mut candidates);
            }
        }
        candidates.sort_unstable();
        for number in candidates {
            let number = number as usize;
            if !asked(number) {
                continue;
            }
            let pattern = &self.patterns[number];
            let text = if pattern.shipped { masked.text() } else { reply };
            if self.is_match(pattern, text) && found(number) {
                return;
            }
        }
    }

    /// Whether one rule matches.
    pub(super) fn matches(&self, number: usize, reply: &str) -> bool {
        let masked = Masked::new(reply);
        self.patterns.get(number).is_some_and(|p| self.is_match(p, if p.shipped { masked.text() } else { reply }))
    }

    /// Where one rule matches first, in bytes of the reply.
    pub(super) fn span(&self, number: usize, reply: &str) -> Option<(usize, usize)> {
        let pattern = self.patterns.get(number)?;
        let masked = Masked::new(reply);
        let text = if pattern.shipped { masked.text() } else { reply };
        let (start, end) = match pattern.engine() {
            Engine::Linear(regex) => regex.find(text).map(|m| (m.start(), m.end()))?,
            Engine::Backtracking(regex) => regex.find(text).ok().flatten().map(|m| (m.start(), m.end()))?,
            Engine::None => return None,
        };
        Some(if pattern.shipped { masked.original(start, end) } else { (start, end) })
    }

    /// How often a pattern was given up at its backtrack limit.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    fn is_match(&self, pattern: &Pattern, text: &str) -> bool {
        match pattern.engine() {
            Engine::Linear(regex) => regex.is_match(text),
            Engine::Backtracking(regex) => regex.is_match(text).unwrap_or_else(|_| {
                if self.given_up.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        rule = &*pattern.name,
                        "a pattern was given up at its backtrack limit and counts as no match; write it without nested \
                         repetitions (said once, counted in the status)"
                    );
                }
                false
            }),
            Engine::None => false,
        }
    }

    /// Whether the regex matches an empty text, and with it everything.
    pub(super) fn matches_everything(regex: &str) -> bool {
        let plain = pcre::translate(regex).ok().filter(|t| !t.backtracks);
        plain.is_some_and(|t| parse(&t.regex).is_ok_and(|hir| hir.properties().minimum_len() == Some(0)))
    }
}

#[derive(Default)]
struct ViewBuilder {
    literals: HashMap<String, usize>,
    view: View,
    /// By rule.
    wanted: Vec<(u32, u8)>,
}

impl ViewBuilder {
    fn add(&mut self, rule: u32, clauses: Vec<literals::Clause>) {
        self.view.rules += 1;
        if clauses.is_empty() {
            self.view.always.push(rule);
            return;
        }
        self.wanted.push((rule, wanted(clauses.len())));
        let place = self.wanted.len() as u32 - 1;
        for (n, clause) in clauses.into_iter().enumerate() {
            for literal in clause {
                let next = self.literals.len();
                let number = *self.literals.entry(literal).or_insert(next);
                if number == self.view.needed_by.len() {
                    self.view.needed_by.push(Vec::new());
                }
                self.view.needed_by[number].push((place, 1 << n));
            }
        }
    }

    fn finish(self) -> View {
        let ViewBuilder { literals, mut view, wanted } = self;
        let mut ordered: Vec<(String, usize)> = literals.into_iter().collect();
        ordered.sort_unstable_by_key(|(_, number)| *number);
        let built = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(ordered.iter().map(|(literal, _)| literal));
        match built {
            Ok(literals) if !ordered.is_empty() => view.literals = Some(literals),
            // Without the search every rule is asked: slower, and the same verdicts.
            _ => view.always.extend(wanted.iter().map(|(rule, _)| *rule)),
        }
        view.wanted_of = wanted;
        view
    }
}

impl View {
    /// Adds the rules that may match, in any order, each once.
    fn candidates(&self, text: &str, into: &mut Vec<u32>) {
        into.extend(&self.always);
        let Some(literals) = &self.literals else { return };
        let text = fold(text);
        let mut seen = vec![0u64; self.needed_by.len().div_ceil(64)];
        let mut met = vec![0u8; self.wanted_of.len()];
        for found in literals.find_overlapping_iter(&*text) {
            let literal = found.pattern().as_usize();
            let (word, bit) = (literal / 64, 1u64 << (literal % 64));
            if seen[word] & bit != 0 {
                continue;
            }
            seen[word] |= bit;
            for (place, clause) in &self.needed_by[literal] {
                let met = &mut met[*place as usize];
                let (rule, wanted) = self.wanted_of[*place as usize];
                if *met != wanted {
                    *met |= clause;
                    if *met == wanted {
                        into.push(rule);
                    }
                }
            }
        }
    }
}

impl Pattern {
    fn new(rule: &Rule) -> Result<Pattern, String> {
        let Translated { regex, backtracks } = pcre::translate(&rule.regex)?;
        let engine = OnceLock::new();
        let mut hir = None;
        if backtracks {
            let made = fancy_regex::RegexBuilder::new(&regex)
                .case_insensitive(true)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(MAX_PATTERN_SIZE)
                .build()
                .map_err(|error| format!("the regex can't be used: {error}"))?;
            let _ = engine.set(Engine::Backtracking(Box::new(made)));
        } else {
            let parsed = parse(&regex)?;
            if states(&parsed) > SURELY_SMALL {
                let made = search(&parsed);
                let made =
                    made.map_err(|()| "the regex grows too large when compiled: use smaller repetitions".to_owned())?;
                let _ = engine.set(Engine::Linear(Box::new(made)));
            }
            hir = Some(parsed);
        }
        Ok(Pattern { hir, engine, shipped: rule.shipped, name: rule.name().into() })
    }

    fn engine(&self) -> &Engine {
        self.engine.get_or_init(|| match self.hir.as_ref().map(search) {
            Some(Ok(regex)) => Engine::Linear(Box::new(regex)),
            _ => {
                tracing::error!(rule = &*self.name, "a pattern could not be made and matches nothing");
                Engine::None
            }
        })
    }
}

/// At least as many states as the automaton has, roughly.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().saturating_mul(4),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Repetition(r) => {
            let times = r.max.unwrap_or(r.min.saturating_add(1)).max(1) as usize;
            states(&r.sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1usize, |sum, part| sum.saturating_add(states(part)).saturating_add(1))
        }
    }
}

fn parse(regex: &str) -> Result<Hir, String> {
    let parsed = regex_syntax::ParserBuilder::new().case_insensitive(true).nest_limit(100).build().parse(regex);
    parsed.map_err(|error| match &error {
        regex_syntax::Error::Parse(e) => format!("at column {} of the regex: {}", e.span().start.column, e.kind()),
        regex_syntax::Error::Translate(e) => format!("at column {} of the regex: {}", e.span().start.column, e.kind()),
        _ => "the regex is not valid".into(),
    })
}

fn search(parsed: &Hir) -> Result<Regex, ()> {
    let config = Regex::config()
        .which_captures(WhichCaptures::Implicit)
        .nfa_size_limit(Some(MAX_PATTERN_SIZE))
        .hybrid_cache_capacity(STATES_SIZE)
        .onepass(false)
        .backtrack(false);
    Regex::builder().configure(config).build_from_hir(parsed).map_err(|_| ())
}
