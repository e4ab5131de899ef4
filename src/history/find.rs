//! Which records are looked for: patterns over fields, as acctfind has them (reference/accounting.md, section 10).

use regex::{Regex, RegexBuilder};

use super::{Cell, Row, names};

/// A pattern and where it is looked for.
#[derive(Debug, Clone)]
pub struct Match {
    /// Canonical names; empty is every column.
    pub fields: Vec<String>,
    regex: Regex,
}

/// A pattern that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?}: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl Match {
    /// From `PATTERN`: text that is contained, whatever the case, or `m/REGEX/`.
    ///
    /// # Errors
    /// When the regular expression is malformed, or uses look-around or back-references.
    pub fn of(fields: &[&str], pattern: &str) -> Result<Match, PatternError> {
        let regex = match pattern.strip_prefix("m/").and_then(|rest| rest.rsplit_once('/')) {
            Some((regex, "" | "i")) => regex.to_owned(),
            _ => regex::escape(pattern),
        };
        let failed = |e: regex::Error| PatternError { pattern: pattern.to_owned(), why: e.to_string() };
        let regex = RegexBuilder::new(&regex).case_insensitive(true).build().map_err(failed)?;
        Ok(Match { fields: fields.iter().map(|f| names::canonical(f)).collect(), regex })
    }

    /// From `[f1,f2]PATTERN` or `PATTERN`.
    ///
    /// # Errors
    /// As [`Match::of`].
    pub fn parse(text: &str) -> Result<Match, PatternError> {
        match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((fields, pattern)) => {
                Match::of(&fields.split(',').map(str::trim).filter(|f| !f.is_empty()).collect::<Vec<_>>(), pattern)
            }
            None => Match::of(&[], text),
        }
    }

    /// Whether one of the cells of `row` in `columns` matches. An empty cell is matched as empty text.
    pub fn is_in(&self, row: &Row<'_>, columns: &[usize], scratch: &mut String) -> bool {
        columns.iter().any(|column| match row.cell(*column) {
            Cell::Text(text) => self.regex.is_match(text),
            cell => {
                scratch.clear();
                cell.push_text(scratch);
                self.regex.is_match(scratch)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_text_or_an_expression_and_may_name_fields() {
        let m = Match::parse("[to, dsnDiag]m/^5\\.[12]/").unwrap();
        assert_eq!(m.fields, ["rcpt", "dsnDiag"]);
        assert!(m.regex.is_match("5.1.1") && !m.regex.is_match("x5.1.1"));
        let text = Match::parse("a.B").unwrap();
        assert!(text.fields.is_empty() && text.regex.is_match("xA.by") && !text.regex.is_match("aXb"));
        assert!(Match::parse("m/(/").unwrap_err().to_string().contains("m/(/"));
    }
}
