//! A rule for replies that no rule knows: from what they have in common, as short as tells them apart from the others.
//!
//! The constant parts of a [`Template`] are tried from the most telling on, then more of them in a row, then all behind
//! the reply code, until one matches every example and none of the replies that other rules decide. Pure.

use regex::{Regex, RegexBuilder};

use super::template::{ANY, Template, is_variable};

/// Most words of one constant part in a rule: as many as tell a sentence apart.
const MAX_WORDS: usize = 8;
/// Fewer letters than this say nothing (scripts without an alphabet need fewer).
const MIN_LETTERS: usize = 8;
/// Most constant parts in a rule.
const MAX_PARTS: usize = 4;

/// A rule that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Between the slashes.
    pub regex: String,
    /// What its replies were by their code; `other` where that said nothing.
    pub category: String,
    /// Replies it was made for.
    pub examples: Vec<String>,
}

impl Suggestion {
    /// As it is written in a pattern file, with its examples above it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for example in &self.examples {
            text.push_str(&format!("# e.g. {example}\n"));
        }
        text.push_str(&format!("/{}/ {}\n", self.regex, self.category));
        text
    }
}

/// Replies that are decided by other rules, to which a suggestion must not lay claim.
#[derive(Debug, Default)]
pub struct Decided {
    /// One a line.
    lines: String,
    seen: hashbrown::HashSet<u64, foldhash::fast::FixedState>,
    most: usize,
    left_out: u64,
}

impl Decided {
    /// None yet; at most so many bytes of them are kept.
    pub fn new(most: usize) -> Decided {
        Decided { most, ..Decided::default() }
    }

    /// Adds a reply, unless one like it is there: `masked` is what [`super::template::masked`] made of it.
    pub fn add(&mut self, masked: &str, reply: &str) {
        use std::hash::BuildHasher;
        let hash = foldhash::fast::FixedState::default().hash_one(masked);
        if self.seen.contains(&hash) {
            return;
        }
        if self.lines.len() + reply.len() >= self.most {
            self.left_out += 1;
            return;
        }
        self.seen.insert(hash);
        self.lines.push_str(&one_line(reply));
        self.lines.push('\n');
    }

    /// How many were left out because there were too many.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn has_match(&self, regex: &str) -> bool {
        let each_line = RegexBuilder::new(regex).case_insensitive(true).multi_line(true).build();
        each_line.is_ok_and(|r| r.is_match(&self.lines))
    }
}

/// As one line, as patterns see a reply.
fn one_line(reply: &str) -> String {
    reply.replace(['\r', '\n'], " ")
}

/// A rule for replies of this template. `None` when they have too little in common, or when whatever they have in common
/// is said in replies of `decided` too.
pub fn suggest(template: &Template, examples: &[String], category: &str, decided: &Decided) -> Option<Suggestion> {
    let parts = constant_parts(template);
    let examples: Vec<String> = examples.iter().map(|e| one_line(e)).collect();
    let regex = candidates(template, &parts).into_iter().find(|regex| {
        let built: Option<Regex> = RegexBuilder::new(regex).case_insensitive(true).build().ok();
        built.is_some_and(|r| examples.iter().all(|e| r.is_match(e))) && !decided.has_match(regex)
    })?;
    let category = if category.is_empty() { "other" } else { category }.to_owned();
    Some(Suggestion { regex, category, examples })
}

/// The texts between the masks, without the punctuation at their ends, each with its worth.
fn constant_parts(template: &Template) -> Vec<(String, usize)> {
    let mut text = String::new();
    for word in template.words().skip(template.codes()) {
        text.push_str(word);
        text.push(' ');
    }
    let masks = ["<address>", "<ip>", "<host>", "<time>", "<id>", "<n>", ANY];
    for mask in masks {
        text = text.replace(mask, "\n");
    }
    text.lines()
        .map(|part| part.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|part| !part.is_empty())
        .map(|part| (cut(part), worth(part)))
        .collect()
}

/// Its first words.
fn cut(part: &str) -> String {
    let words: Vec<&str> = part.split(' ').take(MAX_WORDS).collect();
    let text = words.join(" ");
    // Without blanks between the words one may be a whole sentence.
    let end = text.floor_char_boundary(120);
    text[..end].trim_end_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

/// How much it says: letters, of which those beyond ASCII may be words of their own.
fn worth(part: &str) -> usize {
    part.chars().filter(|c| c.is_alphabetic()).map(|c| if (c as u32) < 0x2e80 { 1 } else { 4 }).sum()
}

/// From the shortest on.
fn candidates(template: &Template, parts: &[(String, usize)]) -> Vec<String> {
    let mut by_worth: Vec<usize> = (0..parts.len()).collect();
    by_worth.sort_by_key(|at| std::cmp::Reverse(parts[*at].1));
    let mut found = Vec::new();
    for many in 1..=parts.len().min(MAX_PARTS) {
        let mut chosen = by_worth[..many].to_vec();
        if chosen.iter().map(|at| parts[*at].1).sum::<usize>() < MIN_LETTERS {
            continue;
        }
        chosen.sort_unstable();
        let texts: Vec<&str> = chosen.iter().map(|at| parts[*at].0.as_str()).collect();
        for blank in [" ", r"\s+"] {
            let joined = texts.iter().map(|t| escaped(t, blank)).collect::<Vec<_>>().join(".*");
            found.push(joined.clone());
            let codes: Vec<&str> = template.words().take(template.codes()).collect();
            if !codes.is_empty() {
                let codes = codes.iter().map(|c| escaped(c, blank)).collect::<Vec<_>>().join("[ -]");
                found.push(format!("^{codes}.*{joined}"));
            }
        }
    }
    // The shortest that does will do; what stands behind a code is more special than what does not.
    found.sort_by_key(|regex| (regex.matches(".*").count(), regex.contains(r"\s+"), regex.len()));
    found
}

/// Every character for itself, in the way a pattern file asks for: no bare slash, no `#`.
fn escaped(text: &str, blank: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            ' ' => out.push_str(blank),
            '#' => out.push_str(r"\x23"),
            '/' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether a template says enough for a rule at all.
pub fn is_telling(template: &Template) -> bool {
    let words = template.words().skip(template.codes()).filter(|w| !is_variable(w));
    words.map(worth).sum::<usize>() >= MIN_LETTERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(replies: &[&str], decided: &[&str]) -> Option<String> {
        let examples: Vec<String> = replies.iter().map(|r| (*r).to_owned()).collect();
        let mut others = Decided::new(1 << 20);
        for reply in decided {
            others.add(reply, reply);
        }
        suggest(&Template::of(replies[0]), &examples, "policy-related", &others).map(|s| s.regex)
    }

    #[test]
    fn the_most_telling_words_are_enough() {
        let replies = [
            "550 5.9.1 <ann@b.example> frobnicated by the gatekeeper (id 77)",
            "550 5.9.1 <x@y.example> frobnicated by the gatekeeper (id 8)",
        ];
        assert_eq!(
            found(&replies, &[]).as_deref(),
            Some("frobnicated by the gatekeeper (id".replace('(', r"\(").as_str())
        );
    }

    #[test]
    fn what_other_rules_decide_is_left_to_them() {
        let replies = ["550 5.9.1 mailbox closed for repair by ann@b.example since monday morning"];
        let others = ["550 5.1.1 mailbox closed for repair since 3"];
        let regex = found(&replies, &others).unwrap();
        let built = RegexBuilder::new(&regex).case_insensitive(true).build().unwrap();
        assert!(built.is_match(replies[0]) && !built.is_match(others[0]), "{regex}");
        let same = ["550 5.9.1 mailbox closed for repair by xyz@b.example since monday morning"];
        assert_eq!(found(&replies, &same), None, "another rule decides all of it");
    }

    #[test]
    fn a_code_alone_is_no_rule() {
        assert_eq!(found(&["550 5.9.1 id 123"], &[]), None);
        assert!(!is_telling(&Template::of("550 5.9.1 id 123")));
        assert!(is_telling(&Template::of("550 用户不存在")));
    }

    #[test]
    fn a_suggestion_is_read_back_from_its_text_and_matches_its_examples() {
        for reply in [
            "550 5.9.1 see https://help.example/why/123 #17 (really?) [x] $5 a|b to ann@b.example / again",
            "550 用户 ann@qq.example 不存在或者已经停用",
            "554 5.9.9 two  blanks   between the words",
        ] {
            let examples = vec![reply.to_owned()];
            let made = suggest(&Template::of(reply), &examples, "", &Decided::new(0)).unwrap();
            let (rules, errors) = crate::classify::parse_pattern_file("f", &made.text());
            assert!(errors.is_empty(), "{errors:?} {}", made.text());
            assert_eq!((rules[0].regex.as_str(), rules[0].category.as_str()), (made.regex.as_str(), "other"));
            assert_eq!(rules[0].examples, examples);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_suggested_matches_its_example(reply in "(550 5\\.9\\.1 )?[ -~é用]{0,80}") {
            if let Some(made) = suggest(&Template::of(&reply), std::slice::from_ref(&reply), "other", &Decided::new(0)) {
                let built = RegexBuilder::new(&made.regex).case_insensitive(true).build().unwrap();
                prop_assert!(built.is_match(&reply));
            }
        }
    }
}
