//! `{{column}}` placeholders: a text is parsed once against the header of the CSV and rendered for each row. Pure.

use csv::StringRecord;

/// Why a template can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No such column.
    #[error("line {line}: there is no column {name:?}; there are {known}")]
    Unknown {
        /// Line of the text, from 1.
        line: usize,
        /// What the placeholder says.
        name: String,
        /// The columns.
        known: String,
    },
    /// `{{` without `}}`.
    #[error("line {line}: {{{{ without }}}}")]
    Open {
        /// Line of the text, from 1.
        line: usize,
    },
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The value of the column with this index.
    Column(usize),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// Its parts in order.
    pub pieces: Vec<Piece>,
}

impl Template {
    /// Reads a text. A placeholder is `{{name}}`, blanks inside the braces and case of the name do not matter.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str, header: &[String]) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let line = text[..text.len() - rest.len() + at].matches('\n').count() + 1;
            let (before, behind) = (&rest[..at], &rest[at + 2..]);
            let end = behind.find("}}").filter(|end| !behind[..*end].contains('\n'));
            let end = end.ok_or(TemplateError::Open { line })?;
            let name = behind[..end].trim();
            let column = header.iter().position(|h| h.eq_ignore_ascii_case(name)).ok_or_else(|| {
                let known = header.iter().map(|h| format!("{h:?}")).collect::<Vec<_>>().join(", ");
                TemplateError::Unknown { line, name: name.to_owned(), known }
            })?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Column(column));
            rest = &behind[end + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template { pieces })
    }

    /// The text for a row, each value passed through `value` first.
    pub fn render_with(&self, row: &StringRecord, value: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(t) => text.push_str(t),
                Piece::Column(i) => text.push_str(&value(row.get(*i).unwrap_or(""))),
            }
        }
        text
    }

    /// The text for a row, values as they stand.
    pub fn render(&self, row: &StringRecord) -> String {
        self.render_with(row, str::to_owned)
    }

    /// The columns it uses.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().filter_map(|p| match p {
            Piece::Column(i) => Some(*i),
            Piece::Text(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Vec<String> {
        vec!["email".into(), "Name".into()]
    }

    #[test]
    fn placeholders_take_the_values_of_the_row() {
        let t = Template::parse("Hi {{ name }}, {{EMAIL}}!", &header()).unwrap();
        assert_eq!(t.render(&StringRecord::from(vec!["a@b.example", "Ann"])), "Hi Ann, a@b.example!");
    }

    #[test]
    fn a_value_with_braces_is_not_read_again() {
        let t = Template::parse("{{name}}", &header()).unwrap();
        assert_eq!(t.render(&StringRecord::from(vec!["a", "{{email}}"])), "{{email}}");
    }

    #[test]
    fn an_unknown_column_is_named_with_its_line() {
        let error = Template::parse("a\n{{nmae}}", &header()).unwrap_err();
        assert!(matches!(error, TemplateError::Unknown { line: 2, .. }), "{error}");
        assert_eq!(Template::parse("{{name", &header()), Err(TemplateError::Open { line: 1 }));
    }

    proptest! {
        #[test]
        fn text_without_placeholders_stays_as_it_is(text in "[^{]{0,60}") {
            let t = Template::parse(&text, &header()).unwrap();
            prop_assert_eq!(t.render(&StringRecord::new()), text);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,60}") {
            let _ = Template::parse(&text, &header());
        }
    }
}
