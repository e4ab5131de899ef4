//! Which words a text must hold so that a regex can match it. Pure.
//!
//! [`required`] gives clauses: of each, one literal must stand in the folded text ([`fold`]), or the regex does not match.
//! Sound whatever the regex: a node that nothing is known of demands nothing. A class whose members all fold to one
//! character, as case-insensitive letters do, counts as that character.

use std::borrow::Cow;

use regex_syntax::hir::{Class, Hir, HirKind};

/// Most literals in one clause; the longest alternations of names of lists have a few hundred.
const MAX_LITERALS: usize = 400;
/// Most strings a node may stand for to be taken letter by letter.
const MAX_EXACT: usize = 64;
/// Clauses that are kept of a regex: the most telling ones.
pub(super) const MAX_CLAUSES: usize = 4;
/// Shorter literals are in every reply.
const MIN_LENGTH: usize = 3;

/// One of these must stand in the text.
pub(super) type Clause = Vec<String>;

/// The character that stands for all that are equal without case.
fn fold_char(c: char) -> char {
    match c {
        'A'..='Z' => c.to_ascii_lowercase(),
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c if c.is_ascii() => c,
        c => {
            let mut lower = c.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        }
    }
}

/// The text with each character folded.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
    }
    Cow::Owned(text.chars().map(fold_char).collect())
}

/// The same into room that is there.
pub(super) fn fold_into(text: &str, folded: &mut String) {
    folded.clear();
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
    } else {
        folded.extend(text.chars().map(fold_char));
    }
}

/// What is known of a node.
struct Known {
    /// All the folded texts it can match, when they are few.
    exact: Option<Vec<String>>,
    /// What a text must hold for it to match.
    clauses: Vec<Clause>,
}

impl Known {
    fn exactly(strings: Vec<String>) -> Known {
        Known { exact: Some(strings), clauses: Vec::new() }
    }

    const NOTHING: Known = Known { exact: None, clauses: Vec::new() };

    /// The clauses, with what the exact texts demand.
    fn all_clauses(self) -> Vec<Clause> {
        let mut clauses = self.clauses;
        clauses.extend(self.exact.and_then(clause_of));
        clauses
    }
}

fn clause_of(strings: Vec<String>) -> Option<Clause> {
    let telling = !strings.is_empty() && strings.iter().all(|s| s.chars().take(MIN_LENGTH).count() == MIN_LENGTH);
    telling.then_some(strings)
}

/// How much a clause tells: long literals, few of them.
fn worth(clause: &Clause) -> usize {
    let shortest = clause.iter().map(String::len).min().unwrap_or(0).min(12);
    shortest * 16 - clause.len().ilog2() as usize * 8
}

/// The clauses of a regex, the most telling first, at most [`MAX_CLAUSES`]; none when nothing is known.
pub(super) fn required(hir: &Hir) -> Vec<Clause> {
    let mut clauses = of(hir, 0).all_clauses();
    for clause in &mut clauses {
        clause.sort_unstable();
        clause.dedup();
    }
    clauses.sort_by_key(|clause| std::cmp::Reverse(worth(clause)));
    clauses.dedup();
    clauses.truncate(MAX_CLAUSES);
    clauses
}

fn of(hir: &Hir, depth: usize) -> Known {
    if depth > 60 {
        return Known::NOTHING;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Known::exactly(vec![String::new()]),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => Known::exactly(vec![fold(text).into_owned()]),
            Err(_) => Known::NOTHING,
        },
        HirKind::Class(class) => of_class(class),
        HirKind::Capture(capture) => of(&capture.sub, depth + 1),
        HirKind::Repetition(repetition) => {
            let sub = of(&repetition.sub, depth + 1);
            match (repetition.min, repetition.max) {
                (1, Some(1)) => sub,
                (0, Some(1)) => match sub.exact {
                    Some(mut strings) if strings.len() < MAX_EXACT => {
                        strings.push(String::new());
                        Known::exactly(strings)
                    }
                    _ => Known::NOTHING,
                },
                (0, _) => Known::NOTHING,
                _ => Known { exact: None, clauses: sub.all_clauses() },
            }
        }
        HirKind::Concat(parts) => of_concat(parts, depth),
        HirKind::Alternation(parts) => of_alternation(parts, depth),
    }
}

fn of_class(class: &Class) -> Known {
    let Class::Unicode(class) = class else { return Known::NOTHING };
    let mut chars: Vec<char> = Vec::new();
    for range in class.ranges() {
        for c in range.start()..=range.end() {
            let folded = fold_char(c);
            if !chars.contains(&folded) {
                chars.push(folded);
            }
            if chars.len() > 6 {
                return Known::NOTHING;
            }
        }
    }
    match chars.is_empty() {
        true => Known::NOTHING,
        false => Known::exactly(chars.into_iter().map(String::from).collect()),
    }
}

fn of_concat(parts: &[Hir], depth: usize) -> Known {
    let mut clauses = Vec::new();
    let mut run = vec![String::new()];
    // Whether all so far is in `run`.
    let mut whole = true;
    for part in parts {
        let known = of(part, depth + 1);
        match known.exact {
            Some(strings) if run.len() * strings.len() <= MAX_EXACT => {
                run = run.iter().flat_map(|head| strings.iter().map(move |tail| format!("{head}{tail}"))).collect();
            }
            Some(strings) => {
                whole = false;
                clauses.extend(clause_of(std::mem::replace(&mut run, strings)));
                if run.len() > MAX_EXACT {
                    clauses.extend(clause_of(std::mem::replace(&mut run, vec![String::new()])));
                }
            }
            None => {
                whole = false;
                clauses.extend(clause_of(std::mem::replace(&mut run, vec![String::new()])));
                clauses.extend(known.clauses);
            }
        }
    }
    match whole {
        true => Known::exactly(run),
        false => {
            clauses.extend(clause_of(run));
            Known { exact: None, clauses }
        }
    }
}

fn of_alternation(parts: &[Hir], depth: usize) -> Known {
    let all: Vec<Known> = parts.iter().map(|part| of(part, depth + 1)).collect();
    if all.iter().all(|known| known.exact.is_some()) {
        let strings: Vec<String> = all.into_iter().filter_map(|known| known.exact).flatten().collect();
        return match strings.len() <= MAX_LITERALS {
            true => Known::exactly(strings),
            false => Known::NOTHING,
        };
    }
    // Of each alternative its most telling clause; together they are one.
    let mut together = Clause::new();
    for known in all {
        let Some(best) = known.all_clauses().into_iter().max_by_key(worth) else { return Known::NOTHING };
        together.extend(best);
        if together.len() > MAX_LITERALS {
            return Known::NOTHING;
        }
    }
    Known { exact: None, clauses: vec![together] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clauses(regex: &str) -> Vec<Clause> {
        let hir = regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(regex).unwrap();
        required(&hir)
    }

    #[test]
    fn what_every_match_holds_is_demanded() {
        assert_eq!(clauses("User.{0,40}Unknown"), [["unknown"], ["user"]]);
        assert_eq!(clauses("(mail ?box|account) full"), [["account full", "mail box full", "mailbox full"]]);
        assert_eq!(clauses("quota\\b|no .*space"), [["quota", "space"]]);
        assert_eq!(clauses("[0-9]+|foo"), Vec::<Clause>::new());
        assert_eq!(clauses("(blocked )+by"), [["blocked "]]);
        assert_eq!(clauses(".?"), Vec::<Clause>::new());
        assert_eq!(clauses("МАЙЛ"), [["майл"]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_text_matches_without_them(
            regex in "((a|bB|cde|[f-h]|k|s|É|xyz|uvw)(\\?|\\+|\\{2\\}|\\*|\\||\\.|\\\\b)?){1,8}",
            text in "[abBcdefghkKsSſKéÉxyzuvw ]{0,24}",
        ) {
            let Ok(found) = regex::RegexBuilder::new(&regex).case_insensitive(true).build() else { return Ok(()) };
            if found.is_match(&text) {
                let text = fold(&text);
                for clause in clauses(&regex) {
                    prop_assert!(clause.iter().any(|l| text.contains(l.as_str())), "{clause:?} {text}");
                }
            }
        }
    }
}
