//! Pattern files: one rule a line, `/REGEX/ CATEGORY`, read top to bottom, first match wins.
//!
//! `#` opens a comment line, or a comment behind a rule. A rule matches whatever the case unless its regex says
//! `(?-i)`. A comment `# e.g. 550 5.1.1 ...` above a rule is a reply that the rule is meant for. Reading does not stop
//! at the first mistake: all are reported in one go, each with file and line. The form is that of
//! reference/guide-dialect.md, "Pattern files"; its `include` and actions are refused by name, not ignored.

use crate::event::{Category, category};

/// Longest regex, in bytes.
pub const MAX_REGEX: usize = 4096;
/// Longest category name, in bytes.
pub const MAX_CATEGORY: usize = 64;

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

/// One rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// File as it was named in the configuration.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// The regex, without the slashes.
    pub regex: String,
    /// The category; a known one is in its usual (lower) case.
    pub category: String,
    /// Replies that the comments above the rule give as examples.
    pub examples: Vec<String>,
}

/// Reads a whole pattern file; `file` is only for messages and the names of the rules.
pub fn parse(file: &str, text: &str) -> (Vec<Rule>, Vec<PatternError>) {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    let mut examples = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1u32..).zip(text.lines()) {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(example) = comment.trim_start().strip_prefix("e.g. ") {
                examples.push(example.trim().to_owned());
            }
            continue;
        }
        if line.is_empty() {
            examples.clear();
            continue;
        }
        let examples = std::mem::take(&mut examples);
        match parse_rule(line).and_then(|(regex, category)| check(file, number, regex, category)) {
            Ok(rule) => rules.push(Rule { examples, ..rule }),
            Err(message) => errors.push(PatternError { file: file.to_owned(), line: number, message }),
        }
    }
    (rules, errors)
}

/// A rule from its parts, which may also come from a `<bounce-category-patterns>` entry.
pub fn check(file: &str, line: u32, regex: &str, category: &str) -> Result<Rule, String> {
    if regex.len() > MAX_REGEX {
        return Err(format!("the regex has {} bytes; at most {MAX_REGEX} are allowed", regex.len()));
    }
    if regex.contains(['\n', '\r']) {
        return Err("the regex goes over several lines; write it on one".into());
    }
    if category.len() > MAX_CATEGORY || !category.bytes().all(is_name_byte) || category.is_empty() {
        return Err(format!(
            "{:?} is no category name: letters, digits, hyphens, dots and underscores, at most {MAX_CATEGORY}",
            category.chars().take(MAX_CATEGORY).collect::<String>()
        ));
    }
    if category.eq_ignore_ascii_case(category::SUPPRESSED) {
        return Err("`suppressed` is given by Carom itself and can't come from a pattern".into());
    }
    Ok(Rule {
        // The name is part of verdicts, files and the stored text, where a tab or line break would end it.
        file: file.replace(|c: char| c.is_control(), "?"),
        line,
        regex: regex.to_owned(),
        category: Category::by_name(category).map_or(category, |known| known.name).to_owned(),
        examples: Vec::new(),
    })
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

/// Splits `/REGEX/ CATEGORY`. A slash inside the regex need not be escaped: the regex ends at the first slash that is
/// followed by white space and a category name that ends the line.
fn parse_rule(line: &str) -> Result<(&str, &str), String> {
    let Some(body) = line.strip_prefix('/') else {
        return Err(match line.split_whitespace().next() {
            Some(word) if word.eq_ignore_ascii_case("include") => {
                "`include` in a pattern file is not supported yet: name the other file in the configuration".into()
            }
            _ => "expected /REGEX/ CATEGORY, or a comment that begins with #".into(),
        });
    };
    let mut actions = false;
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        if byte == b'/' && !escaped {
            let rest = &body[at + 1..];
            let rest = rest.strip_prefix('i').unwrap_or(rest);
            if rest.starts_with([' ', '\t']) {
                let rest = rest.split_once(" #").map_or(rest, |(before, _)| before);
                let mut words = rest.split_whitespace();
                if let Some(category) = words.next().filter(|w| w.bytes().all(is_name_byte)) {
                    match words.next() {
                        None => return Ok((&body[..at], category)),
                        Some(_) => actions = true,
                    }
                }
            }
        }
        escaped = byte == b'\\' && !escaped;
    }
    Err(if actions {
        "more follows the category: actions in pattern files are not supported yet, write them in an \
         <smtp-pattern-list>"
            .into()
    } else {
        "expected a slash, a blank and a category name behind the regex".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn every_mistake_of_a_file_is_named_with_its_line() {
        let (rules, errors) = parse(
            "own.conf",
            "/a/ bad-mailbox\nno slashes\n\n/b/\n/c/ bad mailbox\ninclude other.conf\n/d/ suppressed\n/e/ x bounce-queue\n/f/ other\n",
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
