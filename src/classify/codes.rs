//! What a reply code says when no pattern knows the words: enhanced status codes (RFC 3463) first, basic ones after.
//!
//! The table is data (`patterns/reply-codes.conf`), so that a stored rule set carries the one it was made with. Lines
//! are `CODE CATEGORY`, where CODE is `5.1.1`, `X.1.1` (classes 4 and 5), `X.7` (a subject whose details are not
//! listed) or a basic code such as `552`. Codes that say nothing (`X.0.0`, `550`) are not in it.

use hashbrown::HashMap;

use super::limits::Limits;
use super::pattern_file::PatternError;
use super::rule::Rule;
use crate::event::EnhancedStatus;

/// What one code leads to.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) category: Box<str>,
    /// `code 5.1.1`: what the verdict names as its rule.
    pub(super) name: Box<str>,
}

/// Categories by code.
#[derive(Debug, Default)]
pub(super) struct Codes {
    by_key: HashMap<u32, Entry>,
    /// As they were written, in order: code and category.
    lines: Vec<(Box<str>, Box<str>)>,
}

/// Stands for "any detail"; larger than any detail of RFC 3463.
const ANY_DETAIL: u32 = 1000;

fn enhanced_key(class: u8, subject: u16, detail: u32) -> u32 {
    u32::from(class) * 10_000_000 + u32::from(subject) * 10_000 + detail
}

impl Codes {
    /// Reads the lines of a table; mistakes go to `errors`.
    pub(super) fn parse(file: &str, text: &str, errors: &mut Vec<PatternError>) -> Codes {
        let mut codes = Codes::default();
        for (number, line) in (1u32..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let mut words = line.split_whitespace();
            let read = match (words.next(), words.next(), words.next()) {
                (Some(code), Some(category), None) => codes.add(code, category),
                _ => Err("expected CODE CATEGORY".into()),
            };
            if let Err(message) = read {
                errors.push(PatternError { file: file.to_owned(), line: number, message });
            }
        }
        codes
    }

    /// Adds one line's worth.
    pub(super) fn add(&mut self, code: &str, category: &str) -> Result<(), String> {
        let rule = Rule::new("", 0, "", category, &Limits::default())?;
        let keys = read_code(code).ok_or_else(|| format!("{code:?} is no reply code (5.1.1, X.1.1, X.7 or 552)"))?;
        for (key, name) in keys {
            let name = format!("code {name}").into_boxed_str();
            self.by_key.insert(key, Entry { category: rule.category.clone().into_boxed_str(), name });
        }
        self.lines.push((code.into(), rule.category.into_boxed_str()));
        Ok(())
    }

    /// Code and category of each line, as [`Codes::add`] took them.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(code, category)| (&**code, &**category))
    }

    /// What an enhanced code says; nothing of a success.
    pub(super) fn enhanced(&self, status: EnhancedStatus) -> Option<&Entry> {
        let exact = enhanced_key(status.class, status.subject, status.detail.into());
        self.by_key.get(&exact).or_else(|| self.by_key.get(&enhanced_key(status.class, status.subject, ANY_DETAIL)))
    }

    /// What a basic code says.
    pub(super) fn basic(&self, code: u16) -> Option<&Entry> {
        self.by_key.get(&u32::from(code))
    }
}

/// The keys a written code stands for, with how each is spelt out.
fn read_code(code: &str) -> Option<Vec<(u32, String)>> {
    if let Ok(basic @ 400..600) = code.parse::<u16>() {
        return Some(vec![(basic.into(), basic.to_string())]);
    }
    let (class, rest) = code.split_once('.')?;
    let classes: &[u8] = match class {
        "X" | "x" => &[4, 5],
        "4" => &[4],
        "5" => &[5],
        _ => return None,
    };
    let (subject, detail) = match rest.split_once('.') {
        Some((subject, detail)) => (subject.parse().ok()?, Some(detail.parse::<u16>().ok()?)),
        None => (rest.parse().ok()?, None),
    };
    // The bounds are those of EnhancedStatus.
    EnhancedStatus::new(5, subject, detail.unwrap_or(0))?;
    let spell = |class: u8| match detail {
        Some(detail) => (enhanced_key(class, subject, detail.into()), format!("{class}.{subject}.{detail}")),
        None => (enhanced_key(class, subject, ANY_DETAIL), format!("{class}.{subject}")),
    };
    Some(classes.iter().map(|&class| spell(class)).collect())
}

/// The basic code that `text` begins with.
pub(super) fn basic_code(text: &str) -> Option<u16> {
    let digits = text.as_bytes().first_chunk::<3>()?;
    if text.as_bytes().get(3).is_some_and(|b| !matches!(b, b' ' | b'-')) {
        return None;
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    (200..600).contains(&code).then_some(code)
}

/// The first enhanced code of class 4 or 5 anywhere in `text`: many systems put it behind the words, as `(#5.1.1)`.
/// Addresses and version numbers (more dots or digits on either side) are none.
pub(super) fn enhanced_code(text: &str) -> Option<EnhancedStatus> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(dot) = memchr::memchr(b'.', &bytes[from..]).map(|at| from + at) {
        from = dot + 1;
        let Some(start) = dot.checked_sub(1) else { continue };
        let before = start.checked_sub(1).map(|at| bytes[at]);
        if !matches!(bytes[start], b'4' | b'5') || before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.') {
            continue;
        }
        let is_part = |b: &u8| b.is_ascii_digit() || *b == b'.';
        let end = bytes[start..].iter().position(|b| !is_part(b)).map_or(bytes.len(), |n| start + n);
        // A full stop behind the code belongs to the sentence.
        let code = text[start..end].strip_suffix('.').unwrap_or(&text[start..end]);
        if bytes.get(end).is_none_or(|b| !b.is_ascii_alphabetic())
            && let Ok(status) = code.parse()
        {
            return Some(status);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_enhanced_code_is_found_wherever_it_stands() {
        let found = |text| enhanced_code(text).map(|s| s.to_string());
        assert_eq!(found("550 5.1.1 no").as_deref(), Some("5.1.1"));
        assert_eq!(found("553 sorry (#5.7.1)").as_deref(), Some("5.7.1"));
        assert_eq!(found("sorry 5.7.1.").as_deref(), Some("5.7.1"));
        assert_eq!(found("550-5.1.10 x").as_deref(), Some("5.1.10"));
        for none in ["550 from 5.1.1.7 refused", "192.5.1.1", "v5.1.1b", "250 2.0.0 ok", "5.1", "", ".", "5."] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn a_listed_detail_goes_before_its_subject() {
        let mut errors = Vec::new();
        let codes = Codes::parse("f", "X.7 policy-related # all\n5.7.8 other\n552 quota-issues\n", &mut errors);
        assert_eq!(errors, []);
        let name = |code: &str| codes.enhanced(code.parse().unwrap()).map(|e| (&*e.category, &*e.name));
        assert_eq!(name("5.7.8"), Some(("other", "code 5.7.8")));
        assert_eq!(name("4.7.8"), Some(("policy-related", "code 4.7")));
        assert_eq!(name("2.7.8"), None);
        assert_eq!(codes.basic(552).map(|e| &*e.name), Some("code 552"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let mut errors = Vec::new();
        Codes::parse("f", "X.7\n9.1.1 other\n999 other\n5.1.1 !\n5.1000.1 other\n", &mut errors);
        assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_basic_code_stands_alone_at_the_beginning() {
        assert_eq!(basic_code("550 x"), Some(550));
        assert_eq!(basic_code("550-x"), Some(550));
        assert_eq!(basic_code("550"), Some(550));
        for none in ["5500 x", "150 x", "55", "a50 x", "", "550x", "５50 x"] {
            assert_eq!(basic_code(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_looking_for_codes_panic(text in "(?s)[45.0-9é ]{0,40}|.{0,60}") {
            let _ = (basic_code(&text), enhanced_code(&text));
            let _ = Codes::parse("f", &text, &mut Vec::new());
        }
    }
}
