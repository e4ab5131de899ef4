//! A Perl-style pattern of the operator's: run in linear time where that is possible, else with a limit to its steps.

use std::borrow::Cow;

use regex_syntax::hir::Look;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use crate::event::plain;
use crate::event::plain::is_unfit;

/// Steps that a pattern with look-around or back-references may take in one text; then it has not matched.
const MAX_STEPS: usize = 1_000_000;
/// Bytes of a compiled pattern.
const MAX_SIZE: usize = 8 << 20;

/// A compiled pattern. Two are equal when they are written alike.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    machine: Machine,
}

#[derive(Debug, Clone)]
enum Machine {
    /// No back-tracking: linear in the text.
    Linear(regex::Regex),
    /// Look-around, back-references, atomic groups: bounded by [`MAX_STEPS`].
    Stepping(fancy_regex::Regex),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// In words.
    pub message: String,
    /// The line of the pattern it is in, from 0.
    pub line: u32,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles it; `case` says whether upper and lower case differ.
    pub fn new(text: &str, case: bool) -> Result<Pattern, PatternError> {
        let linear = regex::RegexBuilder::new(text).case_insensitive(!case).size_limit(MAX_SIZE).build();
        let machine = match linear {
            Ok(regex) => Machine::Linear(regex),
            Err(regex::Error::CompiledTooBig(_)) => {
                let message = "the pattern is too large when compiled: make its repetitions smaller".to_owned();
                return Err(PatternError { message, line: 0 });
            }
            Err(_) => {
                let built = fancy_regex::RegexBuilder::new(text)
                    .case_insensitive(!case)
                    .backtrack_limit(MAX_STEPS)
                    .delegate_size_limit(MAX_SIZE)
                    .build();
                Machine::Stepping(built.map_err(|error| why(text, &error))?)
            }
        };
        Ok(Pattern { text: text.to_owned(), machine })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is found in `text`. One that takes too many steps is not.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.machine {
            Machine::Linear(regex) => regex.is_match(text),
            Machine::Stepping(regex) => regex.is_match(text).unwrap_or(false),
        }
    }

    /// The domains of the addresses that it can be found in, in lower case: every match ends where the address does, in one
    /// of these behind an `@`. Empty when that does not follow from how it is written, as in `^bounce-.*@`, or when there
    /// are too many.
    pub fn domains(&self) -> Vec<String> {
        // Whether a stepping pattern has other ways to match, its text alone does not say.
        let Machine::Linear(_) = self.machine else { return Vec::new() };
        let Ok(hir) = regex_syntax::Parser::new().parse(&self.text) else { return Vec::new() };
        if !hir.properties().look_set_suffix().contains(Look::End) {
            return Vec::new();
        }
        let endings = Extractor::new().kind(ExtractKind::Suffix).extract(&hir);
        let mut domains = Vec::new();
        for ending in endings.literals().unwrap_or_default() {
            let ending = String::from_utf8_lossy(ending.as_bytes()).to_lowercase();
            match ending.rsplit_once('@') {
                Some((_, domain)) if super::values::host(domain).is_ok() => domains.push(domain.to_owned()),
                _ => return Vec::new(),
            }
        }
        domains.sort_unstable();
        domains.dedup();
        domains
    }

    /// The names of its groups.
    pub fn group_names(&self) -> Vec<&str> {
        match &self.machine {
            Machine::Linear(regex) => regex.capture_names().flatten().collect(),
            Machine::Stepping(regex) => regex.capture_names().flatten().collect(),
        }
    }

    /// What its named groups matched, where it is found first; groups that took no part are left out. `Err` when it took
    /// too many steps.
    pub fn groups<'p, 't>(&'p self, text: &'t str) -> Result<Option<Groups<'p, 't>>, TooManySteps> {
        let found = |names: Vec<Option<&'p str>>, get: &dyn Fn(&str) -> Option<&'t str>| {
            Groups(names.into_iter().flatten().filter_map(|name| Some((name, get(name)?))).collect())
        };
        match &self.machine {
            Machine::Linear(regex) => Ok(regex
                .captures(text)
                .map(|c| found(regex.capture_names().collect(), &|name| c.name(name).map(|m| m.as_str())))),
            Machine::Stepping(regex) => {
                let captures = regex.captures(text).map_err(|_| TooManySteps)?;
                Ok(captures.map(|c| found(regex.capture_names().collect(), &|name| c.name(name).map(|m| m.as_str()))))
            }
        }
    }
}

/// A pattern that would have run for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pattern took more than {MAX_STEPS} steps: make it more definite, with fewer repetitions inside repetitions"
)]
pub struct TooManySteps;

/// Named groups and what they matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups<'p, 't>(Vec<(&'p str, &'t str)>);

impl<'t> Groups<'_, 't> {
    /// What a group matched, on one line and without white space around it; empty when it took no part.
    pub fn get(&self, name: &str) -> Cow<'t, str> {
        let Some((_, text)) = self.0.iter().find(|(n, _)| *n == name) else { return Cow::Borrowed("") };
        let text = text.trim();
        match text.contains(is_unfit) {
            true => Cow::Owned(plain(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()),
            false => Cow::Borrowed(text),
        }
    }

    /// Names and what they matched, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().copied()
    }
}

/// What is wrong, in one line, and where.
fn why(text: &str, error: &fancy_regex::Error) -> PatternError {
    // The plain parser says what it minds on its last line, and knows the line.
    let parsed = regex_syntax::Parser::new().parse(text);
    let (plain, line) = match &parsed {
        Err(regex_syntax::Error::Parse(e)) => (Some(e.kind().to_string()), e.span().start.line),
        Err(regex_syntax::Error::Translate(e)) => (Some(e.kind().to_string()), e.span().start.line),
        _ => (None, 1),
    };
    let unsupported = plain.as_deref().is_some_and(|p| p.contains("not supported"));
    match error {
        fancy_regex::Error::ParseError(at, kind) if unsupported || plain.is_none() => {
            let before = text.get(..(*at).min(text.len())).unwrap_or(text);
            PatternError { message: kind.to_string(), line: before.matches('\n').count() as u32 }
        }
        error => PatternError {
            message: plain.filter(|_| !unsupported).unwrap_or_else(|| error.to_string().replace('\n', " ")),
            line: (line as u32).saturating_sub(1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_by_name_with_either_machine() {
        for text in
            [r"to (?<r>[^ ]+) because\s+(?<diag>(?s:.+))", r"(?<=sent )to (?<r>[^ ]+) because\s+(?<diag>(?s:.+))"]
        {
            let pattern = Pattern::new(text, true).unwrap();
            let groups = pattern.groups("sent to ann@example.net because\n 550  no\r\n such user\n").unwrap().unwrap();
            assert_eq!(
                (&*groups.get("r"), &*groups.get("diag"), &*groups.get("x")),
                ("ann@example.net", "550 no such user", "")
            );
            assert!(pattern.groups("nothing").unwrap().is_none());
            assert_eq!(pattern.group_names(), ["r", "diag"]);
        }
    }

    #[test]
    fn a_pattern_that_would_run_for_ever_is_given_up() {
        let text = "a".repeat(60) + "dc";
        let outcome = |pattern: &str| Pattern::new(pattern, true).unwrap().groups(&text).map(|found| found.is_some());
        // Without back-references the time is linear whatever the pattern.
        assert_eq!(outcome("^(a|a)*(a+)+c"), Ok(false));
        assert_eq!(outcome(r"^(?:(a+)\1?|(a)\2?)+c"), Err(TooManySteps));
        assert!(!Pattern::new(r"^(?:(a+)\1?|(a)\2?)+c", true).unwrap().is_match(&text));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = Pattern::new("one\ntwo (?<r>[a-z\nthree", true).unwrap_err();
        assert_eq!(error.line, 1, "{error}");
        assert!(error.message.contains("unclosed"), "{error}");
        let error = Pattern::new("(?=a)\n(?<r>x", true).unwrap_err();
        assert!(!error.message.contains('\n') && error.message.len() < 120, "{error:?}");
    }

    #[test]
    fn a_pattern_names_its_domains_only_when_nothing_else_can_match() {
        for (text, domains) in [
            (r"^vb-[0-9]+@verp\.example$", &["verp.example"][..]),
            (r"@Verp\.Example$", &["verp.example"]),
            (r"^(?:a|b-.*)@(?:one|two)\.example$", &["one.example", "two.example"]),
            (r"^(a@one\.example|b@two\.example)$", &["one.example", "two.example"]),
            (r"^x@mx[12]\.example$", &["mx1.example", "mx2.example"]),
            // Each of these lets a stranger choose the domain.
            (r"^vb-[0-9]+@verp\.example", &[]),
            (r"^vb-[0-9]+@", &[]),
            (r"^b-.*$", &[]),
            (r"verp\.example$", &[]),
            (r"@.*verp\.example$", &[]),
            (r"@verp.example$", &[]),
            (r"^a@one\.example$|^b@", &[]),
            (r"^(a@one\.example)?$", &[]),
            (r"(?m)@verp\.example$", &[]),
            (r"@verp\.example$|", &[]),
            (r"(?<=b)@verp\.example$", &[]),
        ] {
            assert_eq!(Pattern::new(text, false).unwrap().domains(), domains, "{text}");
        }
    }
}
