//! The pattern file and the code table that ship with Carom, as they stood when it was built.

/// Name of the shipped pattern file in the verdicts of its rules.
pub(super) const PATTERNS_NAME: &str = "bounce-categories.conf";
/// The shipped pattern file.
pub(super) const PATTERNS: &str = include_str!("../../patterns/bounce-categories.conf");
/// Name of the shipped code table in messages.
pub(super) const CODES_NAME: &str = "reply-codes.conf";
/// The shipped code table.
pub(super) const CODES: &str = include_str!("../../patterns/reply-codes.conf");
/// The shipped pattern files, in the order in which they are consulted. Behind them, `reply-codes.conf`.
pub(super) const FILES: [(&str, &str); 1] = [(PATTERNS_NAME, PATTERNS)];
/// Name of the shipped table of providers in messages.
pub(super) const PROVIDERS_NAME: &str = "providers.conf";
/// The shipped table of providers.
pub(super) const PROVIDERS: &str = include_str!("../../patterns/providers.conf");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{RuleSet, parse_pattern_file};
    use crate::event::Category;

    #[test]
    fn every_example_gets_the_category_of_the_rule_below_it() {
        let rules = RuleSet::builtin();
        let (read, errors) = parse_pattern_file(PATTERNS_NAME, PATTERNS);
        assert_eq!(errors, []);
        let wrong: Vec<String> = read
            .iter()
            .flat_map(|rule| rule.examples.iter().map(move |example| (rule, example)))
            .map(|(rule, example)| (rule, example, rules.classify_text(example)))
            .filter(|(rule, _, got)| got.category != rule.category || !got.by_pattern())
            .map(|(rule, example, got)| format!("line {}: {example:?} is {} by {}", rule.line, got.category, got.rule))
            .collect();
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn every_rule_has_an_example_that_it_matches_itself() {
        let (read, _) = parse_pattern_file(PATTERNS_NAME, PATTERNS);
        let missing: Vec<u32> = read
            .iter()
            .filter(|rule| {
                let regex = regex::RegexBuilder::new(&rule.regex).case_insensitive(true).build().unwrap();
                !rule.examples.iter().any(|example| regex.is_match(example))
            })
            .map(|rule| rule.line)
            .collect();
        assert_eq!(missing, Vec::<u32>::new(), "lines of rules without an example of their own");
    }

    #[test]
    fn every_known_category_has_a_rule_of_its_own() {
        let (read, _) = parse_pattern_file(PATTERNS_NAME, PATTERNS);
        for rule in &read {
            assert!(Category::by_name(&rule.category).is_some(), "line {}: {}", rule.line, rule.category);
        }
        for category in crate::event::category::CATEGORIES {
            assert!(
                category.name == "suppressed" || read.iter().any(|rule| rule.category == category.name),
                "{}",
                category.name
            );
        }
    }
}
