//! One rule's regex, ready to be searched: the one way in which rules are compiled, for the server and for the commands
//! that check rules alike.
//!
//! What the regex asks for is read at once, and mistakes are told with their place. The automaton itself is made when
//! the regex is first searched; that it does not grow too large is made sure of before.

use std::sync::OnceLock;

use fancy_regex::Expr;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::pcre::{self, Translated};

/// Most memory one pattern may take when compiled, in bytes.
const MAX_PATTERN_SIZE: usize = 2 << 20;
/// Patterns estimated smaller than this many states can't pass [`MAX_PATTERN_SIZE`]: they are made when needed.
const SURELY_SMALL: usize = 24 << 10;
/// Most memory the states of one automaton that are made while searching may take, in bytes for each thread. The large
/// rules need a few MiB: with one MiB their states are thrown away and made again, four times slower.
const STATES_SIZE: usize = 8 << 20;
/// Steps back after which a pattern that backtracks is given up.
const BACKTRACK_LIMIT: usize = 100_000;

/// A regex that can be searched.
#[derive(Debug)]
pub(super) enum Automaton {
    /// In linear time.
    Linear(Linear),
    /// It uses look-around, back-references or the like: up to a limit of steps.
    Backtracking(Box<Backtracking>),
}

/// A regex without look-around.
#[derive(Debug)]
pub(super) struct Linear {
    hir: Hir,
    made: OnceLock<Option<Box<Regex>>>,
}

/// One with it.
#[derive(Debug)]
pub(super) struct Backtracking {
    regex: fancy_regex::Regex,
    catastrophic: bool,
}

/// A search that came to its limit of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp;

/// What is wrong with a regex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// In words.
    pub message: String,
    /// At which byte of the regex; beyond its end when something is missing there.
    pub at: Option<usize>,
}

impl Broken {
    /// In words, with the column (from 1).
    pub(super) fn told(&self, regex: &str) -> String {
        match self.at {
            Some(at) => {
                let before = regex.get(..at).map_or(at, |before| before.chars().count());
                format!("at column {} of the regex: {}", before + 1, self.message)
            }
            None => self.message.clone(),
        }
    }
}

impl Automaton {
    /// Compiles a regex as rules have it: whatever the case, unless it says otherwise.
    pub(super) fn new(regex: &str) -> Result<Automaton, Broken> {
        let translated = pcre::translate(regex).map_err(|unsupported| Broken {
            message: format!("{} is not supported", unsupported.what),
            at: Some(unsupported.at),
        })?;
        match translated.backtracks {
            true => Automaton::backtracking(&translated),
            false => {
                let hir = parse(&translated)?;
                if states(&hir) > SURELY_SMALL && is_too_large(&hir) {
                    let message = "the regex grows too large when compiled: use smaller repetitions".to_owned();
                    return Err(Broken { message, at: None });
                }
                Ok(Automaton::Linear(Linear::new(hir)))
            }
        }
    }

    fn backtracking(translated: &Translated) -> Result<Automaton, Broken> {
        let made = fancy_regex::RegexBuilder::new(&translated.regex)
            .case_insensitive(true)
            .backtrack_limit(BACKTRACK_LIMIT)
            .delegate_size_limit(MAX_PATTERN_SIZE)
            .build();
        let regex = made.map_err(|error| match error {
            fancy_regex::Error::ParseError(at, kind) => {
                Broken { message: kind.to_string(), at: Some(translated.origin(at)) }
            }
            error => Broken { message: format!("the regex can't be used: {error}"), at: None },
        })?;
        let catastrophic = Expr::parse_tree(&translated.regex).is_ok_and(|tree| nested(&tree.expr, false));
        Ok(Automaton::Backtracking(Box::new(Backtracking { regex, catastrophic })))
    }

    /// What it asks for, of one that is searched in linear time.
    pub(super) fn hir(&self) -> Option<&Hir> {
        match self {
            Automaton::Linear(linear) => Some(&linear.hir),
            Automaton::Backtracking(_) => None,
        }
    }

    /// Whether it matches.
    pub(super) fn try_match(&self, text: &str) -> Result<bool, GivenUp> {
        match self {
            Automaton::Linear(linear) => Ok(linear.is_match(text)),
            Automaton::Backtracking(one) => one.regex.is_match(text).map_err(|_| GivenUp),
        }
    }

    /// Whether it matches; not when the search was given up.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.try_match(text).unwrap_or(false)
    }

    /// Where it matches first, in bytes.
    pub(super) fn find(&self, text: &str) -> Option<(usize, usize)> {
        match self {
            Automaton::Linear(linear) => linear.regex()?.find(text).map(|m| (m.start(), m.end())),
            Automaton::Backtracking(one) => one.regex.find(text).ok().flatten().map(|m| (m.start(), m.end())),
        }
    }

    /// Whether the search may take time beyond all measure, but for its limit: a repetition without end within another.
    pub(super) fn is_catastrophic(&self) -> bool {
        matches!(self, Automaton::Backtracking(one) if one.catastrophic)
    }
}

impl Linear {
    pub(super) fn new(hir: Hir) -> Linear {
        Linear { hir, made: OnceLock::new() }
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(text))
    }

    fn regex(&self) -> Option<&Regex> {
        let made = self.made.get_or_init(|| {
            let made = search(&self.hir).map(Box::new);
            if made.is_none() {
                tracing::error!(regex = %self.hir, "a pattern could not be made and matches nothing");
            }
            made
        });
        made.as_deref()
    }
}

/// At least as many states as the automaton has, roughly.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
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

/// Tried with what [`search`] refuses, without the rest that it makes: the automaton of either direction.
fn is_too_large(hir: &Hir) -> bool {
    let config = thompson::Config::new().nfa_size_limit(Some(MAX_PATTERN_SIZE));
    let forward = config.clone().which_captures(WhichCaptures::Implicit);
    let backward = config.which_captures(WhichCaptures::None).reverse(true);
    [forward, backward]
        .into_iter()
        .any(|config| thompson::Compiler::new().configure(config).build_from_hir(hir).is_err())
}

fn parse(translated: &Translated) -> Result<Hir, Broken> {
    let mut parser = regex_syntax::ParserBuilder::new().case_insensitive(true).nest_limit(100).build();
    let broken = |message: String, at: usize| Broken { message, at: Some(translated.origin(at)) };
    parser.parse(&translated.regex).map_err(|error| match &error {
        regex_syntax::Error::Parse(e) => broken(e.kind().to_string(), e.span().start.offset),
        regex_syntax::Error::Translate(e) => broken(e.kind().to_string(), e.span().start.offset),
        _ => Broken { message: "the regex is not valid".into(), at: None },
    })
}

fn search(parsed: &Hir) -> Option<Regex> {
    let config = Regex::config()
        .which_captures(WhichCaptures::Implicit)
        .nfa_size_limit(Some(MAX_PATTERN_SIZE))
        .hybrid_cache_capacity(STATES_SIZE)
        .onepass(false)
        .backtrack(false);
    Regex::builder().configure(config).build_from_hir(parsed).ok()
}

fn nested(expr: &Expr, repeated: bool) -> bool {
    let endless = matches!(expr, Expr::Repeat { hi: usize::MAX, .. });
    if endless && repeated {
        return true;
    }
    !expr.is_leaf_node() && expr.children_iter().any(|child| nested(child, repeated || endless))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_broken_regex_is_shown_its_place() {
        for (regex, at) in [
            ("user (unknown", 5),
            ("a[z-b]c", 2),
            ("x{2,1}", 1),
            (r"a\", 1),
            ("a(?!b", 5),
            (r"\<\>user (unknown", 9),
            (r"\Q.\Ea\K", 6),
        ] {
            let broken = Automaton::new(regex).unwrap_err();
            let found = broken.at.unwrap();
            assert!(found.abs_diff(at) <= 1, "{regex}: {broken:?}");
        }
    }

    #[test]
    fn look_around_is_understood_and_nested_repetition_in_it_is_told() {
        let plain = Automaton::new("(a+)+b").unwrap();
        assert!(!plain.is_catastrophic(), "linear all the same");
        let fancy = Automaton::new("spam(?! folder)").unwrap();
        assert!(fancy.is_match("SPAM here") && !fancy.is_match("spam folder"));
        assert!(!fancy.is_catastrophic());
        assert!(Automaton::new(r"^(\w+\s?)+$(?<!x)").unwrap().is_catastrophic());
    }

    #[test]
    fn what_is_not_found_too_large_can_be_made() {
        // Of all sizes around the limit.
        let mut refused = 0;
        for times in (50..1000).step_by(50) {
            match Automaton::new(&format!(r"(?:\w{{{}}}|x{{{times}}})y", times / 4)) {
                Ok(automaton) => assert!(matches!(&automaton, Automaton::Linear(l) if l.regex().is_some()), "{times}"),
                Err(broken) => {
                    assert!(broken.message.contains("too large"), "{broken:?}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
    }

    proptest! {
        #[test]
        fn no_regex_makes_it_panic(regex in "[a-z()\\[\\]{}*+?\\\\|.^$!<=:0-9é]{0,20}", text in "[a-zé ]{0,20}") {
            match Automaton::new(&regex) {
                Ok(automaton) => {
                    let _ = (automaton.is_match(&text), automaton.find(&text), automaton.is_catastrophic());
                }
                Err(broken) => {
                    let _ = broken.told(&regex);
                }
            }
        }
    }
}
