//! Forms that how-to guides and generators write and PowerMTA does not (guide-dialect.md): several directives on the
//! line of their tag, several domains and macros in one `<domain>`, a regex broken over two lines.

use std::collections::BTreeMap;

use super::lexer::Line;

/// Splits a line with several directives: a directive begins at each known name that is not the only argument the one
/// before could have.
pub fn split(line: &Line, is_name: impl Fn(&str) -> bool) -> Vec<Line> {
    let mut starts = vec![0];
    let mut words_since = 0;
    let mut at = 0;
    for word in line.text.split_inclusive(char::is_whitespace) {
        let bare = word.trim().to_ascii_lowercase();
        if !bare.is_empty() {
            if words_since >= 2 && is_name(&bare) {
                starts.push(at);
                words_since = 0;
            }
            words_since += 1;
        }
        at += word.len();
    }
    let ends = starts.iter().skip(1).copied().chain([line.text.len()]).collect::<Vec<_>>();
    starts.iter().zip(ends).map(|(from, to)| line.part(*from, to)).collect()
}

/// Why a macro can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacroError {
    /// There is no macro of this name.
    #[error("there is no domain-macro `{0}`")]
    Unknown(String),
    /// It stands for itself, through this chain.
    #[error("the domain-macros go in a circle: {0}")]
    Circle(String),
    /// It stands for too much.
    #[error("the argument stands for more than {MOST} domains")]
    TooMany,
}

const MOST: usize = 100_000;
const DEEPEST: usize = 32;

/// The patterns that one word of a `<domain>` argument stands for: `$isp`, `aol.$tld` and `$name.$tld` are replaced by
/// each item of the macro, in every combination. A `$` that begins no name stands for itself.
pub fn expand(word: &str, macros: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, MacroError> {
    let mut out = Vec::new();
    expand_into(word, macros, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn expand_into(
    word: &str,
    macros: &BTreeMap<String, Vec<String>>,
    chain: &mut Vec<String>,
    out: &mut Vec<String>,
) -> Result<(), MacroError> {
    let Some((before, name, after)) = first_macro(word) else {
        if out.len() >= MOST {
            return Err(MacroError::TooMany);
        }
        out.push(word.to_owned());
        return Ok(());
    };
    let key = name.to_ascii_lowercase();
    if let Some(first) = chain.iter().position(|c| *c == key) {
        let steps: Vec<&str> = chain[first..].iter().map(String::as_str).chain([key.as_str()]).collect();
        return Err(MacroError::Circle(steps.join(" -> ")));
    }
    if chain.len() >= DEEPEST {
        return Err(MacroError::TooMany);
    }
    let items = macros.get(&key).ok_or_else(|| MacroError::Unknown(name.to_owned()))?;
    for item in items {
        // An item may hold macros itself; they are expanded within this macro, the rest of the word outside of it.
        let mut inner = Vec::new();
        chain.push(key.clone());
        expand_into(item, macros, chain, &mut inner)?;
        chain.pop();
        for text in inner {
            // `name$tld` with `.com` and `name.$tld` with `com` or `.com` all mean `name.com`.
            let text = if before.ends_with('.') { text.strip_prefix('.').unwrap_or(&text) } else { &text };
            if before.len() + text.len() + after.len() > 1024 {
                return Err(MacroError::TooMany);
            }
            expand_into(&format!("{before}{text}{after}"), macros, chain, out)?;
        }
    }
    Ok(())
}

/// What stands before the first macro, its name, what stands behind it.
fn first_macro(word: &str) -> Option<(&str, &str, &str)> {
    for (dollar, _) in word.match_indices('$') {
        let rest = &word[dollar + 1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end > 0 {
            return Some((&word[..dollar], &rest[..end], &rest[end..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        list.iter().map(|(n, items)| ((*n).to_owned(), items.iter().map(|i| (*i).to_owned()).collect())).collect()
    }

    #[test]
    fn a_line_is_split_at_each_known_name() {
        let line = Line::of("max-smtp-out 20 retry-after 5m,10m type discard", 0, 1).unwrap();
        let parts = split(&line, |w| ["max-smtp-out", "retry-after", "type", "discard"].contains(&w));
        let texts: Vec<_> = parts.iter().map(|l| (l.text.as_str(), l.span.column)).collect();
        assert_eq!(texts, [("max-smtp-out 20", 1), ("retry-after 5m,10m", 17), ("type discard", 36)]);
    }

    #[test]
    fn macros_stand_for_every_combination() {
        let m = macros(&[("isp", &["aol", "yahoo"]), ("tld", &[".com", ".de"]), ("all", &["$isp.$tld", "x.org"])]);
        assert_eq!(expand("$isp.$tld", &m).unwrap(), ["aol.com", "aol.de", "yahoo.com", "yahoo.de"]);
        assert_eq!(expand("aol$tld", &m).unwrap(), ["aol.com", "aol.de"]);
        assert_eq!(expand("$ALL", &m).unwrap().len(), 5);
        assert_eq!(expand("plain.com", &m).unwrap(), ["plain.com"]);
        assert_eq!(expand("$none", &m), Err(MacroError::Unknown("none".into())));
    }

    #[test]
    fn macros_in_a_circle_or_beyond_measure_are_errors() {
        let m = macros(&[("a", &["$b"]), ("b", &["x.com", "$a"])]);
        assert_eq!(expand("$a", &m), Err(MacroError::Circle("a -> b -> a".into())));
        let many: Vec<String> = (0..100).map(|i| format!("d{i}")).collect();
        let m = BTreeMap::from([("m".to_owned(), many)]);
        assert_eq!(expand("$m.$m.$m.$m", &m), Err(MacroError::TooMany));
    }
}
