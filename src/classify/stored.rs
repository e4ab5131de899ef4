//! The canonical text of a rule set: what is kept under its id, and all that can change a verdict. Pure.
//!
//! One line for each rule, code and provider; files, categories and limits hold neither tabs nor line breaks, regexes no
//! line breaks. Version 1, of stores from before rules had limits and actions, is read as well.

use super::codes::Codes;
use super::limits::Limits;
use super::pattern_file::PatternError;
use super::rule::Rule;

/// First line; its number changes with the form.
const HEADER: &str = "carom rules 2";
/// First line of the oldest form.
const HEADER_1: &str = "carom rules 1";
/// The one shipped file that version 1 knew.
const SHIPPED_1: &str = "bounce-categories.conf";

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) rules: Vec<Rule>,
    pub(super) codes: Codes,
    /// The table of providers.
    pub(super) providers: String,
}

/// The text of a set.
pub(super) fn write(rules: &[Rule], codes: &Codes, providers: &str) -> String {
    let mut text = String::from(HEADER);
    for rule in rules {
        let whose = if rule.shipped { "shipped" } else { "own" };
        let Rule { file, line, regex, limits, .. } = rule;
        let category = if rule.category.is_empty() { "-" } else { &rule.category };
        let kind = rule.kind.map_or(String::new(), |kind| format!("kind={}", kind.name()));
        let rest = format!("{} {kind}", rule.actions_text());
        let rest = rest.trim();
        text.push_str(&format!("\nrule\t{whose}\t{file}\t{line}\t{category}\t{rest}\t{limits}\t{regex}"));
    }
    for (code, category) in codes.lines() {
        text.push_str(&format!("\ncode\t{code}\t{category}"));
    }
    for line in providers.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty()) {
        text.push_str(&format!("\nprovider\t{}", line.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    text.push('\n');
    text
}

/// Reads a text that [`write`] made; mistakes go to `errors`.
pub(super) fn read(text: &str, errors: &mut Vec<PatternError>) -> Stored {
    let mut stored = Stored::default();
    let wrong = |line, message: String| PatternError { file: "stored rule set".into(), line, message };
    let mut lines = (1u32..).zip(text.split('\n'));
    let header = lines.next().map_or("", |(_, header)| header);
    if header != HEADER && header != HEADER_1 {
        errors.push(wrong(1, format!("not a stored rule set (expected `{HEADER}`), or one of a newer version")));
        return stored;
    }
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let read = match line.splitn(8, '\t').collect::<Vec<_>>()[..] {
            ["rule", whose, file, at, category, rest, limits, regex] if header == HEADER => {
                rule(whose == "shipped", file, at, &format!("{category} {rest}"), limits, regex)
                    .map(|rule| stored.rules.push(rule))
            }
            ["pattern", file, at, category, ..] if header == HEADER_1 => {
                let regex = line.splitn(5, '\t').nth(4).unwrap_or("");
                rule(file == SHIPPED_1, file, at, category, "", regex).map(|rule| stored.rules.push(rule))
            }
            ["code", code, category] => stored.codes.add(code, category),
            ["provider", provider] => {
                stored.providers.push_str(provider);
                stored.providers.push('\n');
                Ok(())
            }
            _ => Err("neither a pattern nor a code".into()),
        };
        if let Err(message) = read {
            errors.push(wrong(number, message));
        }
    }
    stored
}

fn rule(shipped: bool, file: &str, at: &str, what: &str, limits: &str, regex: &str) -> Result<Rule, String> {
    let at = at.parse().map_err(|_| "no line number")?;
    let mut all = Limits::default();
    for word in limits.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or("a limit without a value")?;
        all.add(key, value)?;
    }
    Ok(Rule { shipped, ..Rule::new(file, at, regex, what, &all)? })
}
