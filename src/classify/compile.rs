//! All rules compiled into one search, and the verdict it gives.
//!
//! The patterns are tried in order, each by its own automaton, until one matches. One automaton for all of them was
//! measured: the gaps that rules leave between words make its states multiply, and it is a hundred times slower.
//! The shipped patterns see a reply without the addresses in it ([`super::mask`]), those of the operator as it is.
//! Matching is linear in the length of the reply whatever the patterns are: there is no look-around and there are no
//! back-references, and a pattern that asks for them is refused with its place. A set keeps its canonical text, from
//! which [`RuleSet::from_text`] makes the same set with the same id again.

use std::fmt;

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::ast::ErrorKind;
use regex_syntax::hir::Hir;

use super::cache::Cache;
use super::codes::{Codes, basic_code, enhanced_code};
use super::mask::without_addresses;
use super::pattern_file::{self, MAX_REGEX, PatternError, Rule};
use super::{builtin, codes};
use crate::config::PatternSource;
use crate::event::{Action, EnhancedStatus, Event, Kind, RuleSetId};

/// Most rules in a set, the built-in ones included.
const MAX_RULES: usize = 20_000;
/// Most memory one pattern may take when compiled, in bytes.
const MAX_PATTERN_SIZE: usize = 2 << 20;
/// Most memory all patterns may take together when compiled, in bytes.
const MAX_SET_SIZE: usize = 64 << 20;
/// Most memory the states of one automaton that are made while searching may take, in bytes for each thread. The large
/// rules need a few MiB: with one MiB their states are thrown away and made again, four times slower.
const STATES_SIZE: usize = 8 << 20;
/// How much of a reply is looked at, in bytes: longer ones are cut here.
const MAX_REPLY: usize = 4096;
/// First line of the canonical text; its number changes with the form.
const TEXT_HEADER: &str = "carom rules 1";
/// The category of what nothing decides.
const OTHER: &str = "other";

/// A compiled, immutable set of rules.
pub struct RuleSet {
    id: RuleSetId,
    text: String,
    rules: Vec<Compiled>,
    codes: Codes,
    cache: Option<Cache>,
    notes: Vec<Note>,
}

struct Compiled {
    regex: Regex,
    category: Box<str>,
    /// `file:line`.
    name: Box<str>,
    /// One of ours: it does not see addresses.
    shipped: bool,
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'r> {
    /// The category; empty for what has none (deliveries, receptions, complaints).
    pub category: &'r str,
    /// `file:line` of the pattern; `code 5.1.1` or `code 550` when no pattern matched; empty when nothing decided, or
    /// when the producer of the event did.
    pub rule: &'r str,
    /// Whether a pattern decided.
    pub by_pattern: bool,
}

impl Verdict<'_> {
    const NONE: Verdict<'static> = Verdict { category: "", rule: "", by_pattern: false };
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
    /// The configured sources in their order, and behind them the built-in patterns. All errors are reported at once.
    pub fn compile(sources: &[PatternSource]) -> Result<RuleSet, Vec<PatternError>> {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                PatternSource::Inline { file, line, regex, category } => {
                    let file = file.display().to_string();
                    match pattern_file::check(&file, *line, regex, category) {
                        Ok(rule) => rules.push(rule),
                        Err(message) => errors.push(PatternError { file, line: *line, message }),
                    }
                }
                PatternSource::File { file, text } => {
                    let (read, wrong) = pattern_file::parse(&file.display().to_string(), text);
                    rules.extend(read);
                    errors.extend(wrong);
                }
            }
        }
        let notes = note(&rules);
        let (shipped, wrong) = pattern_file::parse(builtin::PATTERNS_NAME, builtin::PATTERNS);
        rules.extend(shipped);
        errors.extend(wrong);
        let codes = Codes::parse(builtin::CODES_NAME, builtin::CODES, &mut errors);
        RuleSet::build(rules, codes, notes, errors)
    }

    /// Only what ships with Carom.
    pub fn builtin() -> RuleSet {
        RuleSet::compile(&[]).expect("the shipped pattern file is compiled by the tests")
    }

    /// The set that [`RuleSet::text`] was taken of: same id, same verdicts, same names of rules.
    pub fn from_text(text: &str) -> Result<RuleSet, Vec<PatternError>> {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        let mut codes = Codes::default();
        let mut lines = (1u32..).zip(text.split('\n'));
        let header = lines.next();
        if header != Some((1, TEXT_HEADER)) {
            errors.push(stored(
                1,
                format!("not a stored rule set (expected `{TEXT_HEADER}`), or one of a newer version"),
            ));
            return Err(errors);
        }
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let read = match line.splitn(5, '\t').collect::<Vec<_>>()[..] {
                ["pattern", file, at, category, regex] => at
                    .parse()
                    .map_err(|_| "no line number".into())
                    .and_then(|at| pattern_file::check(file, at, regex, category))
                    .map(|rule| rules.push(rule)),
                ["code", code, category] => codes.add(code, category),
                _ => Err("neither a pattern nor a code".into()),
            };
            if let Err(message) = read {
                errors.push(stored(number, message));
            }
        }
        RuleSet::build(rules, codes, Vec::new(), errors)
    }

    fn build(
        rules: Vec<Rule>,
        codes: Codes,
        notes: Vec<Note>,
        mut errors: Vec<PatternError>,
    ) -> Result<RuleSet, Vec<PatternError>> {
        if let Some(rule) = rules.get(MAX_RULES) {
            errors.push(at(rule, format!("more than {MAX_RULES} rules, the built-in ones included")));
            return Err(errors);
        }
        let mut compiled = Vec::with_capacity(rules.len());
        let mut size = 0;
        for rule in &rules {
            match parse(&rule.regex).and_then(|hir| search(&hir)) {
                Ok(regex) => {
                    size += regex.memory_usage();
                    let name = format!("{}:{}", rule.file, rule.line).into();
                    let shipped = rule.file == builtin::PATTERNS_NAME;
                    compiled.push(Compiled { regex, name, category: rule.category.as_str().into(), shipped });
                }
                Err(message) => errors.push(at(rule, message)),
            }
            if size > MAX_SET_SIZE {
                errors.push(at(
                    rule,
                    "with this one the rules grow too large together: use fewer or smaller ones".into(),
                ));
                break;
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let text = canonical(&rules, &codes);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let first = digest.as_ref().first_chunk::<8>().expect("a SHA-256 digest has 32 bytes");
        Ok(RuleSet {
            id: RuleSetId(u64::from_be_bytes(*first)),
            text,
            rules: compiled,
            codes,
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

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no patterns at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The verdict on an event. What its producer decided itself (`suppressed`, `message-expired`) stays, with no rule;
    /// deliveries, receptions, complaints and reports of success have no category.
    pub fn classify<'v>(&'v self, event: &Event<'v>) -> Verdict<'v> {
        if !event.category.is_empty() {
            return Verdict { category: event.category, ..Verdict::NONE };
        }
        let successful = match event.kind {
            Kind::Delivered | Kind::Received | Kind::Feedback => true,
            // A delay notice may say no status, and still says why.
            Kind::RemoteStatus if event.action == Some(Action::Delayed) => false,
            Kind::RemoteStatus => event.status.is_none_or(|status| status.class == 2),
            Kind::Bounced | Kind::Transient | Kind::TransientQueue | Kind::RemoteBounce => false,
        };
        if successful { Verdict::NONE } else { self.decide(event.reply_text(), event.status) }
    }

    /// The verdict on a reply: code, enhanced code and text, the lines joined by blanks.
    pub fn classify_text(&self, reply: &str) -> Verdict<'_> {
        self.decide(reply, None)
    }

    /// `status` is what is known beside the reply; a code in the reply itself is more precise.
    fn decide(&self, reply: &str, status: Option<EnhancedStatus>) -> Verdict<'_> {
        let reply = &reply[..reply.floor_char_boundary(MAX_REPLY)];
        let matched = match &self.cache {
            Some(cache) => cache.find(reply, || self.first_match(reply)),
            None => self.first_match(reply),
        };
        if let Some(Compiled { category, name, .. }) = matched.and_then(|number| self.rules.get(number as usize)) {
            return Verdict { category, rule: name, by_pattern: true };
        }
        let enhanced = |status: Option<EnhancedStatus>| status.and_then(|status| self.codes.enhanced(status));
        let entry = enhanced(enhanced_code(reply))
            .or_else(|| enhanced(status))
            .or_else(|| basic_code(reply).and_then(|code| self.codes.basic(code)));
        match entry {
            Some(codes::Entry { category, name }) => Verdict { category, rule: name, by_pattern: false },
            None => Verdict { category: OTHER, rule: "", by_pattern: false },
        }
    }

    fn first_match(&self, reply: &str) -> Option<u32> {
        let masked = without_addresses(reply);
        let matches = |rule: &Compiled| rule.regex.is_match(if rule.shipped { &*masked } else { reply });
        let number = self.rules.iter().position(matches)?;
        u32::try_from(number).ok()
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet").field("id", &self.id).field("patterns", &self.rules.len()).finish_non_exhaustive()
    }
}

/// One line for each rule and code; files, categories and regexes hold no line breaks, all but regexes no tabs.
fn canonical(rules: &[Rule], codes: &Codes) -> String {
    let mut text = String::from(TEXT_HEADER);
    for Rule { file, line, regex, category, .. } in rules {
        text.push_str(&format!("\npattern\t{file}\t{line}\t{category}\t{regex}"));
    }
    for (code, category) in codes.lines() {
        text.push_str(&format!("\ncode\t{code}\t{category}"));
    }
    text.push('\n');
    text
}

fn at(rule: &Rule, message: String) -> PatternError {
    PatternError { file: rule.file.clone(), line: rule.line, message }
}

fn stored(line: u32, message: String) -> PatternError {
    PatternError { file: "stored rule set".into(), line, message }
}

fn parse(regex: &str) -> Result<Hir, String> {
    if regex.len() > MAX_REGEX {
        return Err(format!("the regex has more than {MAX_REGEX} bytes"));
    }
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
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(MAX_PATTERN_SIZE))
                .hybrid_cache_capacity(STATES_SIZE)
                .onepass(false)
                .backtrack(false),
        )
        .build_from_hir(parsed)
        .map_err(|_| "the regex grows too large when compiled: use smaller repetitions".into())
}

fn note(rules: &[Rule]) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut say = |rule: &Rule, message| notes.push(Note { file: rule.file.clone(), line: rule.line, message });
    for (number, rule) in rules.iter().enumerate() {
        if crate::event::Category::by_name(&rule.category).is_none() {
            say(rule, format!("{:?} is a category of your own: it is reported, and never suppresses", rule.category));
        }
        if parse(&rule.regex).is_ok_and(|hir| hir.properties().minimum_len() == Some(0)) {
            say(rule, "this matches every reply: the rules after it are never reached".into());
        } else if rules[..number].iter().any(|earlier| earlier.regex == rule.regex) {
            say(rule, "an earlier rule has the same regex: this one is never reached".into());
        }
    }
    notes
}

#[cfg(test)]
mod tests;
