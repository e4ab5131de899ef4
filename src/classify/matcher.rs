//! Which rules match a reply, in their order.

use std::sync::atomic::{AtomicU64, Ordering};

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::ast::ErrorKind;
use regex_syntax::hir::Hir;

use super::mask::without_addresses;
use super::pattern_file::PatternError;
use super::rule::Rule;

/// Most memory one pattern may take when compiled, in bytes.
const MAX_PATTERN_SIZE: usize = 2 << 20;
const STATES_SIZE: usize = 8 << 20;

pub(super) struct Matcher {
    regexes: Vec<(Regex, bool)>,
    given_up: AtomicU64,
}

impl Matcher {
    pub(super) fn new(rules: &[Rule], errors: &mut Vec<PatternError>) -> Matcher {
        let mut regexes = Vec::new();
        for rule in rules {
            match parse(&rule.regex).and_then(|hir| search(&hir)) {
                Ok(regex) => regexes.push((regex, rule.shipped)),
                Err(message) => errors.push(PatternError { file: rule.file.clone(), line: rule.line, message }),
            }
        }
        Matcher { regexes, given_up: AtomicU64::new(0) }
    }

    /// Calls `found` for each rule that matches and that `known` does not decide otherwise, until it returns true.
    pub(super) fn each(
        &self,
        reply: &str,
        mut known: impl FnMut(usize) -> Option<bool>,
        mut found: impl FnMut(usize) -> bool,
    ) {
        let masked = without_addresses(reply);
        for (number, (regex, shipped)) in self.regexes.iter().enumerate() {
            let matches = known(number).unwrap_or_else(|| regex.is_match(if *shipped { &*masked } else { reply }));
            if matches && found(number) {
                return;
            }
        }
    }

    pub(super) fn matches(&self, number: usize, reply: &str) -> bool {
        self.span(number, reply).is_some()
    }

    pub(super) fn span(&self, number: usize, reply: &str) -> Option<(usize, usize)> {
        let (regex, shipped) = self.regexes.get(number)?;
        let masked = without_addresses(reply);
        let found = regex.find(if *shipped { &*masked } else { reply })?;
        Some((found.start(), found.end()))
    }

    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    pub(super) fn matches_everything(regex: &str) -> bool {
        parse(regex).is_ok_and(|hir| hir.properties().minimum_len() == Some(0))
    }
}

fn parse(regex: &str) -> Result<Hir, String> {
    let parsed = regex_syntax::ParserBuilder::new().case_insensitive(true).nest_limit(100).build().parse(regex);
    parsed.map_err(|error| match &error {
        regex_syntax::Error::Parse(e) => {
            let column = e.span().start.column;
            match e.kind() {
                ErrorKind::UnsupportedLookAround => {
                    format!("look-around at column {column} of the regex is not supported yet")
                }
                ErrorKind::UnsupportedBackreference => {
                    format!("the back-reference at column {column} of the regex is not supported yet")
                }
                kind => format!("at column {column} of the regex: {kind}"),
            }
        }
        regex_syntax::Error::Translate(e) => format!("at column {} of the regex: {}", e.span().start.column, e.kind()),
        _ => "the regex is not valid".into(),
    })
}

fn search(parsed: &Hir) -> Result<Regex, String> {
    Regex::builder()
        .configure(
            Regex::config()
                .which_captures(WhichCaptures::Implicit)
                .nfa_size_limit(Some(MAX_PATTERN_SIZE))
                .hybrid_cache_capacity(STATES_SIZE)
                .onepass(false)
                .backtrack(false),
        )
        .build_from_hir(parsed)
        .map_err(|_| "the regex grows too large when compiled: use smaller repetitions".into())
}
