//! Pattern files: one rule a line, read top to bottom, first match wins.
//!
//! ```text
//! # comment                                  also behind a rule, after a blank
//! # e.g. 550 5.1.1 no such user              a reply that the rule below is meant for; several are allowed
//! # not: 450 4.1.1 no such user today        a reply that the rule below must not decide
//! /REGEX/ CATEGORY [ACTION[,ACTION...]] [key=value[,value...] ...]
//! define NAME REGEX                          ${NAME} in the regexes below, in this file, is (?:REGEX)
//! only key=value[,value...] ...              limits for the rules below, until the next such line; `only any` ends it
//! include FILE                               its rules stand here; wildcards are allowed
//! ```
//!
//! A rule matches whatever the case unless its regex says `(?-i)`. CATEGORY `-` decides nothing: such a rule only acts.
//! Keys are `kind` (hard, soft, block: overrides what the category implies) and the limits `provider`, `domain`, `mx`,
//! `stage`, `class` and `status` ([`super::limits`]). An included file has its own macros, and the limits in force where
//! it is included. Reading does not stop at the first mistake: all are reported in one go, each with file and line.
//! The form is that of reference/guide-dialect.md, "Pattern files".

use std::path::Path;

use hashbrown::HashMap;

use super::limits::Limits;
use super::rule::{MAX_REGEX, Rule, is_name_byte};
use crate::config::PatternFile;

/// Deepest chain of includes.
const MAX_DEPTH: usize = 10;

/// A rule or pattern file that can't be used, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct PatternError {
    /// File as it was named in the configuration.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// Reads a whole pattern file that includes no other; `file` is only for messages and the names of the rules.
pub fn parse(file: &str, text: &str) -> (Vec<Rule>, Vec<PatternError>) {
    parse_source(&PatternFile { file: file.into(), text: text.into(), ..PatternFile::default() })
}

/// Reads a pattern file and what it includes.
pub fn parse_source(source: &PatternFile) -> (Vec<Rule>, Vec<PatternError>) {
    let mut reader = Reader { source, rules: Vec::new(), errors: Vec::new(), chain: Vec::new() };
    let limits = Limits { queue_domain: source.domain.clone(), ..Limits::default() };
    reader.file(&source.file, &source.text, &limits);
    (reader.rules, reader.errors)
}

struct Reader<'s> {
    source: &'s PatternFile,
    rules: Vec<Rule>,
    errors: Vec<PatternError>,
    /// The files that are being read, the outermost first.
    chain: Vec<&'s Path>,
}

impl<'s> Reader<'s> {
    fn file(&mut self, path: &'s Path, text: &'s str, outer: &Limits) {
        self.chain.push(path);
        let file = path.display().to_string();
        let mut limits = outer.clone();
        let mut macros = HashMap::new();
        let (mut examples, mut nots) = (Vec::new(), Vec::new());
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1u32..).zip(text.lines()) {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                let comment = comment.trim_start();
                if let Some(example) = comment.strip_prefix("e.g. ") {
                    examples.push(example.trim().to_owned());
                } else if let Some(not) = comment.strip_prefix("not: ") {
                    nots.push(not.trim().to_owned());
                }
                continue;
            }
            let (examples, nots) = (std::mem::take(&mut examples), std::mem::take(&mut nots));
            if line.is_empty() {
                continue;
            }
            let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
            let rest = line[word.len()..].trim();
            let read = match word.as_str() {
                "only" => only(rest, outer).map(|new| limits = new),
                "define" => define(rest, &mut macros),
                "include" => self.include(path, line, &limits),
                _ => parse_rule(line)
                    .and_then(|(regex, what)| expand(regex, &macros).map(|regex| (regex, what)))
                    .and_then(|(regex, what)| Rule::new(&file, number, &regex, what, &limits))
                    .map(|rule| self.rules.push(Rule { examples, nots, ..rule })),
            };
            if let Err(message) = read {
                self.errors.push(PatternError { file: file.clone(), line: number, message });
            }
        }
        self.chain.pop();
    }

    fn include(&mut self, from: &Path, line: &str, limits: &Limits) -> Result<(), String> {
        let name = PatternFile::included_name(line).unwrap_or("");
        if name.is_empty() {
            return Err("include without a file: write include FILE".into());
        }
        let Some(files) = self.source.included.get(&PatternFile::path_of(from, name)) else {
            return Err(format!("{name} can't be read: check the path and the permissions"));
        };
        for (path, text) in files {
            if self.chain.len() >= MAX_DEPTH || self.chain.contains(&path.as_path()) {
                let chain: Vec<_> = self.chain.iter().map(|p| p.display().to_string()).collect();
                return Err(format!("{} is included in a circle or too deep: {}", path.display(), chain.join(" > ")));
            }
            self.file(path, text, limits);
        }
        Ok(())
    }
}

/// The limits behind `only`, over those of the place where the file is included.
fn only(rest: &str, outer: &Limits) -> Result<Limits, String> {
    let mut limits = outer.clone();
    let rest = rest.split_once(" #").map_or(rest, |(before, _)| before).trim();
    if rest.eq_ignore_ascii_case("any") {
        return Ok(limits);
    }
    if rest.is_empty() {
        return Err("only without a limit: write only key=value, or only any to end it".into());
    }
    for word in rest.split_whitespace() {
        let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.eq_ignore_ascii_case("for")) else {
            return Err(format!(
                "{word:?} is no limit: write key=value with one of {}",
                super::limits::KEYS.join(", ")
            ));
        };
        let key = key.to_ascii_lowercase();
        limits.clear(&key);
        limits.add(&key, value)?;
    }
    Ok(limits)
}

fn define(rest: &str, macros: &mut HashMap<String, String>) -> Result<(), String> {
    let Some((name, regex)) = rest.split_once([' ', '\t']) else {
        return Err("expected define NAME REGEX".into());
    };
    if !is_macro_name(name) {
        return Err(format!(
            "{name:?} is no name of a macro: letters, digits, hyphens and underscores, a letter first"
        ));
    }
    let regex = expand(regex.trim(), macros)?;
    macros.insert(name.to_owned(), regex);
    Ok(())
}

fn is_macro_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The regex with `(?:REGEX)` for each `${NAME}`. Other uses of `$` and of braces are the regex's own.
fn expand(regex: &str, macros: &HashMap<String, String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(regex.len());
    let mut rest = regex;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let name = rest[at + 2..].split_once('}').map(|(name, _)| name).filter(|name| is_macro_name(name));
        match name {
            Some(name) if !escaped => {
                let Some(value) = macros.get(name) else {
                    return Err(format!(
                        "${{{name}}} is not defined above: write `define {name} REGEX` before this line"
                    ));
                };
                expanded.push_str(&rest[..at]);
                expanded.push_str("(?:");
                expanded.push_str(value);
                expanded.push(')');
                rest = &rest[at + 3 + name.len()..];
            }
            _ => {
                expanded.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
        if expanded.len() > MAX_REGEX {
            return Err(format!("with its macros the regex has more than {MAX_REGEX} bytes"));
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Splits `/REGEX/ WHAT`. A slash inside the regex need not be escaped: the regex ends at the first slash behind which
/// a category stands that ends the line, or behind which what follows can be read; else at the first that could be one.
fn parse_rule(line: &str) -> Result<(&str, &str), String> {
    let Some(body) = line.strip_prefix('/') else {
        return Err("expected /REGEX/ CATEGORY, or a comment that begins with #".into());
    };
    let mut first = None;
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        if byte == b'/' && !escaped {
            let rest = &body[at + 1..];
            let rest = rest.strip_prefix('i').unwrap_or(rest);
            if rest.starts_with([' ', '\t']) {
                let rest = rest.split_once(" #").map_or(rest, |(before, _)| before).trim();
                let category = rest.split_whitespace().next().unwrap_or("");
                if !category.is_empty() && category.bytes().all(is_name_byte) {
                    let end = (&body[..at], rest);
                    if Rule::new("", 0, "", rest, &Limits::default()).is_ok() {
                        return Ok(end);
                    }
                    first.get_or_insert(end);
                }
            }
        }
        escaped = byte == b'\\' && !escaped;
    }
    // What is wrong with it is said by whoever reads the rest.
    first.ok_or_else(|| "expected a slash, a blank and a category name behind the regex".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::rule::RuleKind;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<(String, String), String> {
        let (rules, errors) = parse("f", line);
        match (rules.as_slice(), errors.as_slice()) {
            ([rule], []) => Ok((rule.regex.clone(), rule.category.clone())),
            ([], [error]) => Err(error.message.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_is_a_regex_between_slashes_and_a_category() {
        let ok =
            |line, regex: &str, category: &str| assert_eq!(one(line), Ok((regex.into(), category.into())), "{line}");
        ok("/no such user/ bad-mailbox", "no such user", "bad-mailbox");
        ok("  /no such user/\tBad-Mailbox  # seen in March", "no such user", "bad-mailbox");
        ok("/see https://example.com/block/ spam-related", "see https://example.com/block", "spam-related");
        ok(r"/a\/ b/ Our-Own", r"a\/ b", "Our-Own");
        ok("/issue #5/ other", "issue #5", "other");
        ok("/x/i other", "x", "other");
    }

    #[test]
    fn the_rest_of_a_rule_is_actions_kind_and_limits() {
        let (rules, errors) = parse(
            "own.conf",
            "# not: 421 fine\n/rate/ - mode=backoff,skip-mx provider=gmail,yahoo class=4 # slow\n\
             /full/ quota-issues kind=soft mode=backoff disable-source-ip reenable-after=1h\n",
        );
        assert_eq!(errors, []);
        let brief: Vec<_> = rules.iter().map(|r| (&*r.category, r.actions_text(), r.limits.to_string())).collect();
        assert_eq!(brief[0], ("", "mode=backoff,skip-mx".into(), "provider=gmail,yahoo class=4".into()));
        assert_eq!(
            brief[1],
            ("quota-issues", "mode=backoff,disable-source-ip,reenable-after=3600s".into(), String::new())
        );
        assert_eq!(
            (rules[0].nots.as_slice(), rules[1].kind),
            (["421 fine".to_owned()].as_slice(), Some(RuleKind::Soft))
        );
        for (line, words) in [
            ("/a/ -", "needs an action"),
            ("/a/ other mode=slow", "no action"),
            ("/a/ other colour=red", "no limit"),
            ("/a/ other kind=odd", "hard, soft or block"),
            ("/a/ other class=4 class=5", "given twice"),
            ("/a/ other nonsense", "neither an action nor key=value"),
            ("/a ${none} b/ other", "not defined"),
            ("only colour=red", "no limit"),
            ("define 1 x", "no name of a macro"),
        ] {
            let (_, errors) = parse("f", line);
            assert!(errors.len() == 1 && errors[0].message.contains(words), "{line}: {errors:?}");
        }
    }

    #[test]
    fn only_limits_the_rules_below_it_until_the_next_one() {
        let (rules, errors) = parse(
            "f",
            "only provider=gmail\n/a/ other\n/b/ other class=4\n/c/ other provider=yahoo\nonly stage=rcpt\n/d/ other\nonly any\n/e/ other\n",
        );
        assert_eq!(errors, []);
        let limits: Vec<_> = rules.iter().map(|r| r.limits.to_string()).collect();
        assert_eq!(limits, ["provider=gmail", "provider=gmail class=4", "provider=yahoo", "stage=rcpt", ""]);
    }

    #[test]
    fn a_macro_stands_for_its_regex() {
        let (rules, errors) =
            parse("f", "define user user|mailbox\ndefine who the ${user}\n/${who} x$|\\${user}/ other");
        assert_eq!(errors, []);
        assert_eq!(rules[0].regex, r"(?:the (?:user|mailbox)) x$|\${user}");
    }

    #[test]
    fn an_included_file_stands_where_it_is_included_with_the_limits_of_that_place() {
        let mut source = PatternFile { file: "/p/a.conf".into(), ..PatternFile::default() };
        source.text =
            "define m x\nonly provider=gmail\ninclude b.conf\n/y/ other\ninclude none.conf\ninclude a.conf".into();
        source.included.insert("/p/b.conf".into(), vec![("/p/b.conf".into(), "/${m}/ other\n/b/ other\n".into())]);
        source.included.insert("/p/a.conf".into(), vec![("/p/a.conf".into(), source.text.clone())]);
        let (rules, errors) = parse_source(&source);
        let names: Vec<_> = rules.iter().map(|r| (r.name(), r.limits.to_string())).collect();
        assert_eq!(
            names,
            [("/p/b.conf:2".into(), "provider=gmail".into()), ("/p/a.conf:4".into(), "provider=gmail".into())]
        );
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(errors[0].starts_with("/p/b.conf:1: ${m} is not defined"), "{errors:?}");
        assert!(errors[1].starts_with("/p/a.conf:5: none.conf can't be read"), "{errors:?}");
        assert!(errors[2].starts_with("/p/a.conf:6: /p/a.conf is included in a circle"), "{errors:?}");
    }

    #[test]
    fn every_mistake_of_a_file_is_named_with_its_line() {
        let (rules, errors) = parse(
            "own.conf",
            "/a/ bad-mailbox\nno slashes\n\n/b/\n/c/ bad mailbox\ninclude other.conf\n/d/ suppressed\n/e/ x bounce-queues\n/f/ other\n",
        );
        assert_eq!(rules.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 9]);
        assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 4, 5, 6, 7, 8]);
        assert_eq!(errors[0].to_string(), "own.conf:2: expected /REGEX/ CATEGORY, or a comment that begins with #");
    }

    #[test]
    fn examples_belong_to_the_rule_below_them() {
        let (rules, _) =
            parse("f", "# unknown user\n# e.g. 550 a\n# e.g. 550 b\n/x/ other\n/y/ other\n# e.g. 1\n\n/z/ other");
        assert_eq!(rules[0].examples, ["550 a", "550 b"]);
        assert!(rules[1].examples.is_empty() && rules[2].examples.is_empty());
    }

    #[test]
    fn a_byte_order_mark_and_crlf_are_read_over() {
        let (rules, errors) = parse("f", "\u{feff}/a/ other\r\n/b/ other\r\n");
        assert_eq!((rules.len(), errors.len()), (2, 0));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(?s).{0,300}", rule in "/.{0,40}/ ?.{0,20}") {
            let _ = parse("f", &text);
            let _ = parse("f", &rule);
        }
    }
}
