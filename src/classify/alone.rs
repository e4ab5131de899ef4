//! One rule's regex on its own, for the commands that explain and check rules one by one: where it matches, what is
//! wrong with it and at which place, and whether it can take long.

use fancy_regex::Expr;
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::ErrorKind;

/// How often a regex with look-around or back-references may go back before it counts as no match.
const BACKTRACK_LIMIT: usize = 100_000;

/// A compiled regex.
#[derive(Debug)]
pub enum Alone {
    /// Searched in linear time.
    Plain(Regex),
    /// Uses what only a backtracking search can do.
    Fancy(fancy_regex::Regex),
}

/// What is wrong with a regex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Broken {
    /// In words.
    pub message: String,
    /// At which byte of the regex; beyond its end when something is missing there.
    pub at: Option<usize>,
}

impl Alone {
    /// Compiles a regex as rules have it: whatever the case, unless it says otherwise.
    pub fn new(regex: &str) -> Result<Alone, Broken> {
        let parsed = regex_syntax::ast::parse::ParserBuilder::new().nest_limit(100).build().parse(regex);
        let broken = match parsed {
            Ok(_) => return Alone::plain(regex),
            Err(e) => e,
        };
        // Look-around, back-references, atomic groups, \K: fancy-regex knows them.
        let may_be_fancy = matches!(
            broken.kind(),
            ErrorKind::UnsupportedLookAround
                | ErrorKind::UnsupportedBackreference
                | ErrorKind::FlagUnrecognized
                | ErrorKind::EscapeUnrecognized
        );
        if may_be_fancy {
            let built =
                fancy_regex::RegexBuilder::new(regex).case_insensitive(true).backtrack_limit(BACKTRACK_LIMIT).build();
            match built {
                Ok(regex) => return Ok(Alone::Fancy(regex)),
                Err(fancy_regex::Error::ParseError(at, e)) => {
                    return Err(Broken { message: e.to_string(), at: Some(at) });
                }
                Err(_) => {}
            }
        }
        Err(Broken { message: broken.kind().to_string(), at: Some(broken.span().start.offset) })
    }

    fn plain(regex: &str) -> Result<Alone, Broken> {
        let built = RegexBuilder::new(regex).case_insensitive(true).build();
        built
            .map(Alone::Plain)
            .map_err(|e| translated(regex).unwrap_or_else(|| Broken { message: e.to_string(), at: None }))
    }

    /// Whether it matches; not when the search was given up.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Alone::Plain(regex) => regex.is_match(text),
            Alone::Fancy(regex) => regex.is_match(text).unwrap_or(false),
        }
    }

    /// Whether a backtracking search may take time beyond all measure: a repetition without end within another.
    pub fn is_catastrophic(&self, regex: &str) -> bool {
        matches!(self, Alone::Fancy(_)) && Expr::parse_tree(regex).is_ok_and(|tree| nested(&tree.expr, false))
    }
}

/// What fails only when it is translated, with its place.
fn translated(regex: &str) -> Option<Broken> {
    match regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(regex) {
        Err(regex_syntax::Error::Translate(t)) => {
            Some(Broken { message: t.kind().to_string(), at: Some(t.span().start.offset) })
        }
        _ => None,
    }
}

fn nested(expr: &Expr, repeated: bool) -> bool {
    let endless = matches!(expr, Expr::Repeat { hi: usize::MAX, .. });
    if endless && repeated {
        return true;
    }
    !expr.is_leaf_node() && expr.children_iter().any(|child| nested(child, repeated || endless))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_broken_regex_is_shown_its_place() {
        for (regex, at) in [("user (unknown", 5), ("a[z-b]c", 2), ("x{2,1}", 1), (r"a\", 1), ("a(?!b", 5)] {
            let broken = Alone::new(regex).unwrap_err();
            let found = broken.at.unwrap();
            assert!(found.abs_diff(at) <= 1, "{regex}: {broken:?}");
        }
    }

    #[test]
    fn look_around_is_understood_and_nested_repetition_in_it_is_told() {
        let plain = Alone::new("(a+)+b").unwrap();
        assert!(!plain.is_catastrophic("(a+)+b"), "linear all the same");
        let fancy = Alone::new("spam(?! folder)").unwrap();
        assert!(fancy.is_match("SPAM here") && !fancy.is_match("spam folder"));
        assert!(!fancy.is_catastrophic("spam(?! folder)"));
        let bad = r"^(\w+\s?)+$(?<!x)";
        assert!(Alone::new(bad).unwrap().is_catastrophic(bad));
    }

    proptest! {
        #[test]
        fn no_regex_makes_it_panic(regex in "[a-z()\\[\\]{}*+?\\\\|.^$!<=:0-9é]{0,20}", text in "[a-zé ]{0,20}") {
            if let Ok(alone) = Alone::new(&regex) {
                let _ = (alone.is_match(&text), alone.is_catastrophic(&regex));
            }
        }
    }
}
