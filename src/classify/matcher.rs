//! Which rules match a reply, in their order.
//!
//! One pass over the folded reply finds the literals that rules need ([`super::literals`]); a rule whose needs are met, or
//! that needs nothing, is a candidate and is asked by its own automaton, which is made when the rule is first a
//! candidate. So of hundreds of rules some are asked. Two other ways were measured: one automaton for all rules is a
//! hundred times slower, because the gaps that rules leave between words make its states multiply; an automaton for each
//! alternative of a rule is up to two times slower, because there are more to ask.
//!
//! Matching is linear in the reply, but for patterns with look-around and their like: those stop at a backtrack limit,
//! and are then no match, which is counted and logged.

use std::sync::atomic::{AtomicU64, Ordering};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;
use regex_automata::util::pool::Pool;

use super::automaton::{Automaton, GivenUp};
use super::literals::{self, fold_into};
use super::mask::Masked;
use super::pattern_file::PatternError;
use super::rule::Rule;

/// All rules, ready to be asked.
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// Rules by what they see.
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

/// The rules that see the same text.
#[derive(Default)]
struct View {
    literals: Option<AhoCorasick>,
    /// By literal: the rules that need it, and which of their clauses it meets, as a bit.
    needed_by: Vec<Box<[(u32, u8)]>>,
    /// Rules that need nothing.
    always: Vec<u32>,
    /// The rules that need something, and all the bits of their clauses.
    wanted_of: Vec<(u32, u8)>,
    rules: usize,
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
            let clauses = automaton.hir().map(literals::required).unwrap_or_default();
            views[usize::from(rule.shipped)].add(number as u32, clauses);
            patterns.push(Pattern { automaton, shipped: rule.shipped, name: rule.name().into() });
        }
        Matcher {
            patterns,
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
            if view.rules > 0 {
                view.candidates(text, scratch);
            }
        }
        scratch.candidates.sort_unstable();
        for number in &scratch.candidates {
            let number = *number as usize;
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

#[derive(Default)]
struct ViewBuilder {
    literals: HashMap<String, usize>,
    needed_by: Vec<Vec<(u32, u8)>>,
    view: View,
}

impl ViewBuilder {
    fn add(&mut self, rule: u32, clauses: Vec<literals::Clause>) {
        self.view.rules += 1;
        if clauses.is_empty() {
            self.view.always.push(rule);
            return;
        }
        self.view.wanted_of.push((rule, wanted(clauses.len())));
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
            // Without the search every rule is asked: slower, and the same verdicts.
            _ => view.always.extend(view.wanted_of.iter().map(|(rule, _)| *rule)),
        }
        view.needed_by = needed_by.into_iter().map(Vec::into_boxed_slice).collect();
        view
    }
}

impl View {
    /// Adds the rules that may match, in any order, each once.
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
                let (rule, wanted) = self.wanted_of[place as usize];
                if *met != wanted {
                    *met |= clause;
                    if *met == wanted {
                        candidates.push(rule);
                    }
                }
            }
        }
        for place in touched.drain(..) {
            met[place as usize] = 0;
        }
    }
}
