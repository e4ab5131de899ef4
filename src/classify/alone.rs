//! One rule's regex on its own, for the commands that explain and check rules one by one: where it matches, what is
//! wrong with it and at which place, and whether it can take long.

use fancy_regex::{Expr, Regex, RegexBuilder};
use regex_syntax::ast::ErrorKind;

/// How often a regex with look-around or back-references may go back before it counts as no match.
const BACKTRACK_LIMIT: usize = 100_000;

/// A compiled regex.
#[derive(Debug)]
pub struct Alone {
    regex: Regex,
    /// Uses what only a backtracking search can do.
    fancy: bool,
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
        // Look-around, back-references, possessive quantifiers, atomic groups, \K: fancy-regex knows them.
        let fancy = parsed.is_err() && Expr::parse_tree(regex).is_ok();
        // For what neither of them knows the words of regex-syntax are the clearer ones, and they have a place.
        let plain = parsed
            .err()
            .filter(|e| !matches!(e.kind(), ErrorKind::UnsupportedLookAround | ErrorKind::UnsupportedBackreference));
        let plain = plain.map(|e| Broken { message: e.kind().to_string(), at: Some(e.span().start.offset) });
        if let Some(broken) = plain.clone().filter(|_| !fancy) {
            return Err(broken);
        }
        let built = RegexBuilder::new(regex).case_insensitive(true).backtrack_limit(BACKTRACK_LIMIT).build();
        match built {
            Ok(regex) => Ok(Alone { regex, fancy }),
            Err(fancy_regex::Error::ParseError(at, e)) => {
                let at = usize::try_from(at).ok();
                Err(Broken { message: e.to_string(), at })
            }
            Err(e) => Err(plain.or_else(|| translated(regex)).unwrap_or(Broken { message: e.to_string(), at: None })),
        }
    }

    /// Whether it matches; not when the search was given up.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text).unwrap_or(false)
    }

    /// Whether a backtracking search may take time beyond all measure: a repetition without end within another.
    pub fn is_catastrophic(&self, regex: &str) -> bool {
        self.fancy && Expr::parse_tree(regex).is_ok_and(|tree| nested(&tree.expr, false))
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
        for (regex, at) in [("user (unknown", 5), ("a[z-b]c", 2), ("x{2,1}", 1), ("a**", 2), (r"a\", 1), ("a(?!b", 5)] {
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
