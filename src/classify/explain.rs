//! Why a reply gets its category: every rule that matches, in order, with the place; what its code alone would say.

use super::codes::{Codes, basic_code, enhanced_code};
use super::pattern_file::{self, PatternError};
use super::{Facts, Rule, RuleSet, builtin};
use crate::config::PatternSource;
use crate::event::Stage;

/// The rules of these sources and the shipped ones behind them, in the order in which they are consulted; what could
/// not be read is told beside.
pub fn known_rules(sources: &[PatternSource]) -> (Vec<Rule>, Vec<PatternError>) {
    let (mut rules, mut errors) = configured_rules(sources);
    for (name, text) in builtin::FILES {
        let (read, wrong) = pattern_file::parse(name, text);
        rules.extend(read.into_iter().map(|rule| Rule { shipped: true, ..rule }));
        errors.extend(wrong);
    }
    (rules, errors)
}

/// The same without the shipped ones.
pub fn configured_rules(sources: &[PatternSource]) -> (Vec<Rule>, Vec<PatternError>) {
    super::compile::read(sources)
}

/// What the code of a reply alone says by the shipped table: category and name.
#[derive(Debug)]
pub struct ByCode(Codes);

impl Default for ByCode {
    fn default() -> ByCode {
        ByCode(Codes::parse(builtin::CODES_NAME, builtin::CODES, &mut Vec::new()))
    }
}

impl ByCode {
    /// Category and name (`code 5.1.1`); `None` when it says nothing.
    pub fn of(&self, reply: &str) -> Option<(&str, &str)> {
        let entry = enhanced_code(reply)
            .and_then(|status| self.0.enhanced(status))
            .or_else(|| basic_code(reply).and_then(|code| self.0.basic(code)))?;
        Some((&entry.category, &entry.name))
    }
}

/// Circumstances in which a limited rule holds, so that its examples can be tried.
#[derive(Debug, Default)]
pub struct Circumstances {
    provider: String,
    domain: String,
    mx: String,
    stage: Option<Stage>,
}

impl Circumstances {
    /// Those of a rule: of each limit the first.
    pub fn of(rule: &Rule) -> Circumstances {
        let mut made = Circumstances::default();
        for limit in rule.limits.to_string().split_whitespace() {
            let (key, values) = limit.split_once('=').unwrap_or((limit, ""));
            let first = values.split(',').next().unwrap_or("");
            // Of what a pattern matches: its shortest host or domain.
            let plain = first.trim_start_matches("[*.]").replace('*', "x");
            match key {
                "provider" => made.provider = first.to_owned(),
                "mx" => made.mx = plain,
                "stage" => made.stage = first.parse().ok(),
                "domain" => made.domain = plain,
                _ => {}
            }
        }
        made
    }

    /// As the rules are given them.
    pub fn facts(&self) -> Facts<'_> {
        Facts { provider: &self.provider, domain: &self.domain, mx: &self.mx, stage: self.stage, status: None }
    }
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

/// Runs the examples of `rules` through the set they are part of, limited rules where they hold: how many there are, and
/// those that fail. What must not be decided counts too.
pub fn run_examples(rules: &[Rule], set: &RuleSet) -> (usize, Vec<Wrong>) {
    let mut count = 0;
    let mut wrong = Vec::new();
    for rule in rules {
        let name = rule.name();
        let circumstances = Circumstances::of(rule);
        let facts = circumstances.facts();
        let all = rule.examples.iter().map(|e| (e, true)).chain(rule.nots.iter().map(|n| (n, false)));
        for (example, meant) in all {
            count += 1;
            let verdict = set.classify_with(example, &facts);
            let good = match meant {
                // Such a rule only acts: it must match.
                true if rule.category.is_empty() => set.matches(example, &facts).iter().any(|m| m.rule.name() == name),
                true => verdict.category == rule.category && verdict.by_pattern(),
                false => verdict.rule != name,
            };
            if !good {
                let expected = if meant { rule.category.clone() } else { format!("not {}", rule.category) };
                wrong.push(Wrong {
                    rule: name.clone(),
                    example: example.clone(),
                    expected,
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
        vec![PatternSource::file("own.conf", text)]
    }

    #[test]
    fn codes_alone_say_what_the_table_says() {
        let codes = ByCode::default();
        assert_eq!(codes.of("550 5.1.1 x"), Some(("bad-mailbox", "code 5.1.1")));
        assert_eq!(codes.of("550 x"), None);
    }

    #[test]
    fn an_example_that_another_rule_decides_fails_and_so_does_one_that_must_not_be_decided() {
        let sources =
            file("# e.g. 550 abc\n/a/ other\n# e.g. 550 abc\n/abc/ bad-mailbox\n# not: 550 xyz\n/xyz/ other\n");
        let (rules, _) = configured_rules(&sources);
        let (count, wrong) = run_examples(&rules, &RuleSet::compile(&sources).unwrap());
        assert_eq!(count, 3);
        let found: Vec<_> = wrong.iter().map(|w| (w.rule.as_str(), w.decided_by.as_str())).collect();
        assert_eq!(found, [("own.conf:4", "own.conf:2"), ("own.conf:6", "own.conf:6")]);
    }

    #[test]
    fn the_examples_of_a_limited_rule_are_tried_where_it_holds() {
        let text = "# e.g. 421 4.9.9 wibble\n/wibble/ policy-related provider=gmail stage=eod mx=*.google.example\n";
        let sources = file(text);
        let (rules, errors) = configured_rules(&sources);
        assert_eq!(errors, []);
        let (count, wrong) = run_examples(&rules, &RuleSet::compile(&sources).unwrap());
        assert_eq!((count, wrong), (1, Vec::new()));
    }
}
