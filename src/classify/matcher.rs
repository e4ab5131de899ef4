//! Which rules match a reply, in their order.
//!
//! A rule is searched in parts, which are the alternatives of its regex: the rule matches where one of them does. One pass
//! over the folded reply finds the literals that parts need ([`super::literals`]); a part whose needs are met, or that
//! needs nothing, is a candidate and is asked by its own automaton, which is made when the part is first a candidate. So
//! of hundreds of rules a handful of small automata are asked. One automaton for all rules was measured: the gaps that
//! rules leave between words make its states multiply, and it is a hundred times slower.
//!
//! Matching is linear in the reply, but for patterns with look-around and their like: those stop at a backtrack limit,
//! and are then no match, which is counted and logged.

use std::sync::atomic::{AtomicU64, Ordering};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;
use regex_automata::util::pool::Pool;
use regex_syntax::hir::{Hir, HirKind};

use super::automaton::{Automaton, GivenUp, Linear};
use super::literals::{self, fold_into};
use super::mask::Masked;
use super::pattern_file::PatternError;
use super::rule::Rule;

/// A regex with more alternatives is searched whole. One means that none is searched in parts: measured with the shipped
/// rules, parts cost up to twice as much as whole rules, because there are more automata to ask.
const MAX_PARTS: usize = 1;

/// All rules, ready to be asked.
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// Of all rules, in their order.
    parts: Vec<Part>,
    /// Parts by what they see.
    views: [View; 2],
    scratch: Pool<Scratch>,
    given_up: AtomicU64,
}

struct Pattern {
    /// The whole regex.
    automaton: Automaton,
    /// It sees no addresses.
    shipped: bool,
    /// `file:line`, for the warning.
    name: Box<str>,
}

struct Part {
    rule: u32,
    /// `None` when it is the whole regex.
    automaton: Option<Linear>,
}

/// The parts that see the same text.
#[derive(Default)]
struct View {
    literals: Option<AhoCorasick>,
    /// By literal: the parts that need it, and which of their clauses it meets, as a bit.
    needed_by: Vec<Box<[(u32, u8)]>>,
    /// Parts that need nothing.
    always: Vec<u32>,
    /// The parts that need something, and all the bits of their clauses.
    wanted_of: Vec<(u32, u8)>,
    parts: usize,
}

/// What a search needs room for; kept from one to the next.
#[derive(Default)]
struct Scratch {
    folded: String,
    /// By literal: whether it was seen, as a bit.
    seen: Vec<u64>,
    /// By place in `wanted_of`: the clauses that are met.
    met: Vec<u8>,
    /// Places that are to be emptied again.
    touched: Vec<u32>,
    candidates: Vec<u32>,
}

/// The bits of so many clauses.
fn wanted(clauses: usize) -> u8 {
    (1u16 << clauses).wrapping_sub(1) as u8
}

impl Matcher {
    pub(super) fn new(rules: &[Rule], errors: &mut Vec<PatternError>) -> Matcher {
        let mut patterns = Vec::with_capacity(rules.len());
        let mut parts: Vec<Part> = Vec::new();
        let mut views = [ViewBuilder::default(), ViewBuilder::default()];
        for (number, rule) in rules.iter().enumerate() {
            let automaton = match Automaton::new(&rule.regex) {
                Ok(automaton) => automaton,
                Err(broken) => {
                    let message = broken.told(&rule.regex);
                    errors.push(PatternError { file: rule.file.clone(), line: rule.line, message });
                    continue;
                }
            };
            let view = &mut views[usize::from(rule.shipped)];
            let mut add = |automaton: Option<Linear>, clauses| {
                view.add(parts.len() as u32, clauses);
                parts.push(Part { rule: number as u32, automaton });
            };
            match automaton.hir().map(alternatives) {
                None => add(None, Vec::new()),
                Some(alternatives) if alternatives.len() > 1 => {
                    for hir in alternatives {
                        let clauses = literals::required(&hir);
                        add(Some(Linear::new(hir)), clauses);
                    }
                }
                Some(_) => add(None, automaton.hir().map(literals::required).unwrap_or_default()),
            }
            patterns.push(Pattern { automaton, shipped: rule.shipped, name: rule.name().into() });
        }
        Matcher {
            patterns,
            parts,
            views: views.map(ViewBuilder::finish),
            scratch: Pool::new(Scratch::default),
            given_up: AtomicU64::new(0),
        }
    }

    /// Calls `found` for each rule that matches, in order, until it returns true; those that `asked` leaves out are not
    /// looked at.
    pub(super) fn each(&self, reply: &str, asked: impl Fn(usize) -> bool, mut found: impl FnMut(usize) -> bool) {
        let masked = Masked::new(reply);
        let mut guard = self.scratch.get();
        let scratch = &mut *guard;
        scratch.candidates.clear();
        for (view, text) in self.views.iter().zip([reply, masked.text()]) {
            if view.parts > 0 {
                view.candidates(text, scratch);
            }
        }
        scratch.candidates.sort_unstable();
        // The rule that needs no further look: it has matched, or is not asked for.
        let mut done = None;
        for part in &scratch.candidates {
            let part = &self.parts[*part as usize];
            let number = part.rule as usize;
            if done == Some(number) {
                continue;
            }
            if !asked(number) {
                done = Some(number);
                continue;
            }
            let pattern = &self.patterns[number];
            let text = if pattern.shipped { masked.text() } else { reply };
            let matches = match &part.automaton {
                Some(linear) => linear.is_match(text),
                None => self.is_match(pattern, text),
            };
            if matches {
                done = Some(number);
                if found(number) {
                    return;
                }
            }
        }
    }

    /// Whether one rule matches.
    pub(super) fn matches(&self, number: usize, reply: &str) -> bool {
        let masked = Masked::new(reply);
        self.patterns.get(number).is_some_and(|p| self.is_match(p, if p.shipped { masked.text() } else { reply }))
    }

    /// Where one rule matches first, in bytes of the reply; an address that it touches where it saw none is whole.
    pub(super) fn span(&self, number: usize, reply: &str) -> Option<(usize, usize)> {
        let pattern = self.patterns.get(number)?;
        if !pattern.shipped {
            return pattern.automaton.find(reply);
        }
        let masked = Masked::new(reply);
        let (start, end) = pattern.automaton.find(masked.text())?;
        Some(masked.original(start, end))
    }

    /// How often a pattern was given up at its backtrack limit.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    fn is_match(&self, pattern: &Pattern, text: &str) -> bool {
        pattern.automaton.try_match(text).unwrap_or_else(|GivenUp| {
            if self.given_up.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    rule = &*pattern.name,
                    "a pattern was given up at its backtrack limit and counts as no match; write it without nested \
                     repetitions (said once, counted in the status)"
                );
            }
            false
        })
    }

    /// Whether a rule matches an empty text, and with it everything.
    pub(super) fn matches_everything(&self, number: usize) -> bool {
        let hir = self.patterns.get(number).and_then(|pattern| pattern.automaton.hir());
        hir.is_some_and(|hir| hir.properties().minimum_len() == Some(0))
    }
}

/// The regexes of which one matches where `hir` does: its alternatives, with what stands before and behind all of them.
fn alternatives(hir: &Hir) -> Vec<Hir> {
    match hir.kind() {
        HirKind::Capture(capture) => alternatives(&capture.sub),
        HirKind::Alternation(all) if all.len() <= MAX_PARTS => {
            let split: Vec<Hir> = all.iter().flat_map(alternatives).collect();
            if split.len() <= MAX_PARTS { split } else { all.clone() }
        }
        // The parser takes what alternatives begin or end with out of them.
        HirKind::Concat(all) => {
            let largest = all.iter().enumerate().filter_map(|(n, part)| match part.kind() {
                HirKind::Alternation(them) if them.len() <= MAX_PARTS => Some((n, them)),
                _ => None,
            });
            match largest.max_by_key(|(_, them)| them.iter().map(weight).sum::<usize>()) {
                Some((n, them)) if all.len() <= 3 && them.iter().any(|h| weight(h) > 30) => them
                    .iter()
                    .map(|one| {
                        let mut all = all.clone();
                        all[n] = one.clone();
                        Hir::concat(all)
                    })
                    .collect(),
                _ => vec![hir.clone()],
            }
        }
        _ => vec![hir.clone()],
    }
}

/// About how much there is in a regex.
fn weight(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Repetition(repetition) => weight(&repetition.sub),
        HirKind::Capture(capture) => weight(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().map(weight).sum(),
    }
}

#[derive(Default)]
struct ViewBuilder {
    literals: HashMap<String, usize>,
    needed_by: Vec<Vec<(u32, u8)>>,
    view: View,
}

impl ViewBuilder {
    fn add(&mut self, part: u32, clauses: Vec<literals::Clause>) {
        self.view.parts += 1;
        if clauses.is_empty() {
            self.view.always.push(part);
            return;
        }
        self.view.wanted_of.push((part, wanted(clauses.len())));
        let place = self.view.wanted_of.len() as u32 - 1;
        for (n, clause) in clauses.into_iter().enumerate() {
            for literal in clause {
                let next = self.literals.len();
                let number = *self.literals.entry(literal).or_insert(next);
                if number == self.needed_by.len() {
                    self.needed_by.push(Vec::new());
                }
                self.needed_by[number].push((place, 1 << n));
            }
        }
    }

    fn finish(self) -> View {
        let ViewBuilder { literals, needed_by, mut view } = self;
        let mut ordered: Vec<(String, usize)> = literals.into_iter().collect();
        ordered.sort_unstable_by_key(|(_, number)| *number);
        let built = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .dense_depth(3)
            .build(ordered.iter().map(|(literal, _)| literal));
        match built {
            Ok(literals) if !ordered.is_empty() => view.literals = Some(literals),
            // Without the search every part is asked: slower, and the same verdicts.
            _ => view.always.extend(view.wanted_of.iter().map(|(part, _)| *part)),
        }
        view.needed_by = needed_by.into_iter().map(Vec::into_boxed_slice).collect();
        view
    }
}

impl View {
    /// Adds the parts that may match, in any order, each once.
    fn candidates(&self, text: &str, scratch: &mut Scratch) {
        let Scratch { folded, seen, met, touched, candidates } = scratch;
        candidates.extend(&self.always);
        let Some(literals) = &self.literals else { return };
        fold_into(text, folded);
        seen.clear();
        seen.resize(self.needed_by.len().div_ceil(64), 0);
        if met.len() < self.wanted_of.len() {
            met.resize(self.wanted_of.len(), 0);
        }
        for found in literals.find_overlapping_iter(folded.as_str()) {
            let literal = found.pattern().as_usize();
            let (word, bit) = (literal / 64, 1u64 << (literal % 64));
            if seen[word] & bit != 0 {
                continue;
            }
            seen[word] |= bit;
            for &(place, clause) in &self.needed_by[literal] {
                let met = &mut met[place as usize];
                if *met == 0 {
                    touched.push(place);
                }
                let (part, wanted) = self.wanted_of[place as usize];
                if *met != wanted {
                    *met |= clause;
                    if *met == wanted {
                        candidates.push(part);
                    }
                }
            }
        }
        for place in touched.drain(..) {
            met[place as usize] = 0;
        }
    }
}
