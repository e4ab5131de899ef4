//! Why a reply gets its category: every rule that matches, in order, with the place; what its code alone would say.

use std::ops::Range;

use super::alone::Alone;
use super::codes::{Codes, basic_code, enhanced_code};
use super::mask::without_addresses;
use super::pattern_file::{self, PatternError, Rule};
use super::{RuleSet, builtin};
use crate::config::PatternSource;

/// The rules of these sources and the shipped ones behind them, in the order in which they are consulted; what could
/// not be read is told beside.
pub fn known_rules(sources: &[PatternSource]) -> (Vec<Rule>, Vec<PatternError>) {
    let (mut rules, mut errors) = configured_rules(sources);
    let (read, wrong) = pattern_file::parse(builtin::PATTERNS_NAME, builtin::PATTERNS);
    rules.extend(read);
    errors.extend(wrong);
    (rules, errors)
}

/// The same without the shipped ones.
pub fn configured_rules(sources: &[PatternSource]) -> (Vec<Rule>, Vec<PatternError>) {
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
    (rules, errors)
}

/// Whether a rule is one of ours.
pub fn is_shipped(rule: &Rule) -> bool {
    rule.file == builtin::PATTERNS_NAME
}

/// A rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// Its number among those given.
    pub number: usize,
    /// `file:line`.
    pub name: String,
    /// Which bytes of the text it sees match.
    pub span: Range<usize>,
    /// It sees the reply without the addresses in it.
    pub without_addresses: bool,
}

/// What rules make of replies, one by one.
#[derive(Debug)]
pub struct Explainer {
    rules: Vec<Rule>,
    compiled: Vec<Option<Alone>>,
    codes: Codes,
}

impl Explainer {
    /// For these rules, which are consulted in this order.
    pub fn new(rules: Vec<Rule>) -> Explainer {
        let compiled = rules.iter().map(|rule| Alone::new(&rule.regex).ok()).collect();
        let codes = Codes::parse(builtin::CODES_NAME, builtin::CODES, &mut Vec::new());
        Explainer { rules, compiled, codes }
    }

    /// The rule of this number.
    pub fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }

    /// The rules that match `reply`, in order.
    pub fn matching(&self, reply: &str) -> Vec<Matching> {
        let masked = without_addresses(reply);
        let one = |(number, (rule, alone)): (usize, (&Rule, &Option<Alone>))| {
            let without_addresses = is_shipped(rule);
            let span = alone.as_ref()?.find(if without_addresses { &masked } else { reply })?;
            Some(Matching { number, name: format!("{}:{}", rule.file, rule.line), span, without_addresses })
        };
        self.rules.iter().zip(&self.compiled).enumerate().filter_map(one).collect()
    }

    /// What the reply code alone says: category and name.
    pub fn by_code(&self, reply: &str) -> Option<(&str, &str)> {
        let entry = enhanced_code(reply)
            .and_then(|status| self.codes.enhanced(status))
            .or_else(|| basic_code(reply).and_then(|code| self.codes.basic(code)))?;
        Some((&entry.category, &entry.name))
    }
}

/// The reply as shipped rules see it.
pub fn seen_by_shipped(reply: &str) -> std::borrow::Cow<'_, str> {
    without_addresses(reply)
}

/// An example of a rule that does not turn out as the file says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wrong {
    /// `file:line` of the rule.
    pub rule: String,
    /// The reply.
    pub example: String,
    /// The category that was meant; for a `# not:` the one that was not.
    pub expected: String,
    /// What it gets.
    pub category: String,
    /// What decides.
    pub decided_by: String,
}

/// Runs the examples of `rules` through the set they are part of: how many there are, and those that fail.
pub fn run_examples(rules: &[Rule], set: &RuleSet) -> (usize, Vec<Wrong>) {
    let mut count = 0;
    let mut wrong = Vec::new();
    for rule in rules {
        let name = format!("{}:{}", rule.file, rule.line);
        for example in &rule.examples {
            count += 1;
            let verdict = set.classify_text(example);
            if verdict.category != rule.category || !verdict.by_pattern {
                wrong.push(Wrong {
                    rule: name.clone(),
                    example: example.clone(),
                    expected: rule.category.clone(),
                    category: verdict.category.to_owned(),
                    decided_by: verdict.rule.to_owned(),
                });
            }
        }
    }
    (count, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<PatternSource> {
        vec![PatternSource::File { file: "own.conf".into(), text: text.into() }]
    }

    #[test]
    fn the_first_rule_that_matches_is_the_one_that_decides() {
        let sources = file("/no such/ vip\n/such user/ other\n");
        let set = RuleSet::compile(&sources).unwrap();
        let explainer = Explainer::new(known_rules(&sources).0);
        for reply in ["550 5.1.1 no such user here", "550 5.1.1 <a@b.example> user unknown", "550 mailbox full"] {
            let matching = explainer.matching(reply);
            assert_eq!(matching[0].name, set.classify_text(reply).rule, "{reply}");
        }
        let matching = explainer.matching("550 no such user");
        assert_eq!((matching[0].span.clone(), matching[1].name.as_str()), (4..11, "own.conf:2"));
        assert_eq!(explainer.by_code("550 5.1.1 x"), Some(("bad-mailbox", "code 5.1.1")));
        assert_eq!(explainer.by_code("550 x"), None);
    }

    #[test]
    fn an_example_that_another_rule_decides_fails() {
        let sources = file("# e.g. 550 abc\n/a/ other\n# e.g. 550 abc\n/abc/ bad-mailbox\n");
        let (rules, _) = configured_rules(&sources);
        let (count, wrong) = run_examples(&rules, &RuleSet::compile(&sources).unwrap());
        assert_eq!(count, 2);
        assert_eq!(
            (wrong.len(), wrong[0].rule.as_str(), wrong[0].decided_by.as_str()),
            (1, "own.conf:4", "own.conf:2")
        );
    }
}
