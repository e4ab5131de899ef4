//! Blocks of `Name: value` lines: a mail's header (RFC 5322, 2.2), a delivery-status group (RFC 3464, 2.1), a feedback
//! report (RFC 5965, 3).
//!
//! Lenient, because reports are often damaged: lines that are neither a field nor a continuation are skipped. Bounded:
//! beyond [`MAX_FIELDS`] fields or [`MAX_VALUE`] bytes of one value the rest is left out.

use mail_parser::decoders::charsets::map::charset_decoder;

use super::bounds::{MAX_FIELDS, MAX_NAME, MAX_VALUE};
use crate::event::plain;

/// The fields of one block, in order, values unfolded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads one block from the front of `rest`: leading blank lines, the fields, and the blank line that ends them.
    pub(super) fn read(rest: &mut &[u8]) -> Fields {
        Fields::read_up_to(MAX_FIELDS, rest)
    }

    /// As [`Fields::read`], with up to `most` fields.
    pub(super) fn read_up_to(most: usize, rest: &mut &[u8]) -> Fields {
        let mut list: Vec<(String, String)> = Vec::new();
        let mut begun = false;
        let mut last_kept = false;
        while let Some(line) = next_line(rest) {
            if line.trim_ascii().is_empty() {
                if begun {
                    break;
                }
                continue;
            }
            begun = true;
            if matches!(line[0], b' ' | b'\t') {
                if let (true, Some((_, value))) = (last_kept, list.last_mut()) {
                    append(value, line.trim_ascii());
                }
                continue;
            }
            last_kept = false;
            if let Some((name, value)) = split(line)
                && list.len() < most
            {
                let mut kept = String::new();
                append(&mut kept, value.trim_ascii());
                list.push((name.to_owned(), kept));
                last_kept = true;
            }
        }
        Fields(list)
    }

    /// The first value under `name`, whatever its case.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first non-empty value under any of `names`, in the order of `names`.
    pub(super) fn any(&self, names: &[&str]) -> &str {
        names.iter().find_map(|n| self.first(n).filter(|v| !v.is_empty())).unwrap_or("")
    }

    /// All values under `name`, whatever its case.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Names and values in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cut before each repetition of `name`.
    pub(super) fn split_at_repeated(self, name: &str) -> Vec<Fields> {
        let mut groups = vec![Fields::default()];
        let mut seen = false;
        for (n, v) in self.0 {
            if n.eq_ignore_ascii_case(name) {
                if seen {
                    groups.push(Fields::default());
                }
                seen = true;
            }
            if let Some(last) = groups.last_mut() {
                last.0.push((n, v));
            }
        }
        groups
    }

    /// Adds the fields of another block.
    pub(super) fn append(&mut self, other: Fields) {
        let room = MAX_FIELDS.saturating_sub(self.0.len());
        self.0.extend(other.0.into_iter().take(room));
    }

    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

/// The next line without its line end, which may be CRLF or LF; `None` at the end.
pub(super) fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
    let (line, after) = rest.split_at(end);
    *rest = after;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// A field's name and value, when the line begins with a name (RFC 5322, 2.2: printable, no colon, no space) and a colon.
pub(super) fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', &line[..line.len().min(MAX_NAME + 2)])?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, &line[colon + 1..]))
}

/// Adds text behind a space, up to the bound.
fn append(value: &mut String, more: &[u8]) {
    let room = MAX_VALUE.saturating_sub(value.len() + 1);
    if more.is_empty() || room == 0 {
        return;
    }
    if !value.is_empty() {
        value.push(' ');
    }
    let more = &more[..more.len().min(room)];
    // Nearly all header fields are plain text.
    match std::str::from_utf8(more) {
        Ok(text) if more.iter().all(|b| (b' '..=b'~').contains(b)) => value.push_str(text),
        _ => value.push_str(&plain(&text_of(more))),
    }
}

/// The text of octets whose character set nobody names: UTF-8 (also when it is cut off), else windows-1252.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let decoder = match std::str::from_utf8(bytes) {
        Err(wrong) if wrong.error_len().is_some() => charset_decoder(b"windows-1252"),
        _ => None,
    };
    decoder.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), |decode| decode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_at_the_blank_line_and_folds_are_joined() {
        let mut rest = &b"\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550\r\n\tno such\r\n user\r\n\r\nNext: 1\n"[..];
        let first = Fields::read(&mut rest);
        assert_eq!(first.first("diagnostic-code"), Some("smtp; 550 no such user"));
        assert_eq!(Fields::read(&mut rest).first("next"), Some("1"));
        assert!(Fields::read(&mut rest).is_empty());
    }

    #[test]
    fn what_is_no_field_is_skipped_with_its_continuation() {
        let mut rest = &b"Subject: a\nnot a field: x\n b\nFrom: c\n"[..];
        let f = Fields::read(&mut rest);
        assert_eq!(f.iter().collect::<Vec<_>>(), [("Subject", "a"), ("From", "c")]);
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let text = format!("A: x\n{}", " yyyyyyyyyyyyyyy\n".repeat(10_000));
        let f = Fields::read(&mut text.as_bytes());
        assert!(f.first("a").unwrap().len() <= MAX_VALUE);
    }
}
