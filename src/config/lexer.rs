//! Bytes to lines, lines to words, each with its position.
//!
//! What web pages, Windows editors and word processors put into configuration files is read as what was meant: a
//! byte-order mark, CRLF, non-breaking blanks and hyphens. A `#` starts a comment unless it stands inside double quotes
//! that are closed on the same line. Nothing here fails: bytes that are no UTF-8 are replaced and reported by the caller.

use std::path::PathBuf;

/// A place in what was read: file number, line and column from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Which of the files read, in the order of reading.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters.
    pub length: u32,
}

/// One file's text.
#[derive(Debug, Clone)]
pub struct Text {
    /// As it is called in diagnostics.
    pub name: PathBuf,
    /// Its lines without line ends, blanks and hyphens made plain.
    pub lines: Vec<String>,
    /// Whether bytes had to be replaced because they are no UTF-8; the first line where it happened, from 1.
    pub broken_utf8: Option<u32>,
}

impl Text {
    /// Decodes a file.
    pub fn decode(name: PathBuf, bytes: &[u8]) -> Text {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let broken_utf8 = std::str::from_utf8(bytes).err().map(|e| {
            let lines_before = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            u32::try_from(lines_before + 1).unwrap_or(u32::MAX)
        });
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(|l| l.trim_end_matches('\r').chars().filter_map(plain).collect()).collect();
        Text { name, lines, broken_utf8 }
    }
}

/// The character that a lookalike stands for; `None` drops it.
fn plain(c: char) -> Option<char> {
    match c {
        '\u{a0}' | '\u{2002}' | '\u{2003}' | '\u{2007}' | '\u{2009}' | '\u{202f}' => Some(' '),
        '\u{2010}' | '\u{2011}' => Some('-'),
        '\u{feff}' | '\u{200b}' | '\u{ad}' => None,
        c if c != '\t' && c.is_control() => Some(' '),
        c => Some(c),
    }
}

/// A line that holds something: without comment and without blanks around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Never empty.
    pub text: String,
    /// Where it stands; as long as `text`.
    pub span: Span,
    /// Whether something follows a `#` on this line: a missing argument may be there.
    pub has_comment: bool,
}

impl Line {
    /// What line `number` (from 1) of file `file` holds; `None` when it is blank or only a comment.
    pub fn of(raw: &str, file: u32, number: u32) -> Option<Line> {
        let body = without_comment(raw);
        let has_comment = body.len() + 1 < raw.len();
        let start = body.len() - body.trim_start().len();
        let text = body.trim();
        if text.is_empty() {
            return None;
        }
        let column = raw[..start].chars().count() as u32 + 1;
        let length = text.chars().count() as u32;
        Some(Line { text: text.to_owned(), span: Span { file, line: number, column, length }, has_comment })
    }

    /// The part of the line at these bytes, which are character borders, as a line of its own, without blanks around.
    pub fn part(&self, from: usize, to: usize) -> Line {
        let part = &self.text[from..to];
        let from = from + (part.len() - part.trim_start().len());
        let text = part.trim().to_owned();
        let span = self.span_of(from, from + text.len());
        Line { text, span, has_comment: self.has_comment }
    }

    /// Where these bytes of the line stand.
    pub fn span_of(&self, from: usize, to: usize) -> Span {
        let column = self.span.column + self.text[..from].chars().count() as u32;
        Span { column, length: self.text[from..to].chars().count() as u32, ..self.span }
    }

    /// Its first word in lower case: the directive's name.
    pub fn keyword(&self) -> String {
        self.text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase()
    }

    /// The words after the first.
    pub fn args(&self) -> Args<'_> {
        let at = self.text.find(char::is_whitespace).unwrap_or(self.text.len());
        Args { line: self, at }
    }

    /// All words.
    pub fn words(&self) -> Args<'_> {
        Args { line: self, at: 0 }
    }
}

/// What stands before the comment.
fn without_comment(raw: &str) -> &str {
    let mut in_quotes = false;
    for (i, c) in raw.char_indices() {
        match c {
            '"' if !raw[..i].ends_with('\\') => in_quotes = !in_quotes,
            '#' if !in_quotes || !raw[i..].contains('"') => return &raw[..i],
            _ => {}
        }
    }
    raw
}

/// A word, quotes and escapes taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// Whether it stood in double quotes; `""` is an empty quoted word.
    pub quoted: bool,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// Reads a line's words one after the other.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    line: &'a Line,
    at: usize,
}

impl<'a> Args<'a> {
    fn skip_blanks(&mut self) {
        let rest = &self.line.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The line read from.
    pub fn line(&self) -> &'a Line {
        self.line
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.line.text[self.at..].trim().is_empty()
    }

    /// Where the rest of the line stands.
    pub fn rest_span(&self) -> Span {
        let rest = &self.line.text[self.at..];
        let from = self.at + rest.len() - rest.trim_start().len();
        self.line.span_of(from, self.line.text.len())
    }

    /// The next word: up to a blank, or a text in double quotes. A backslash keeps its special meaning only before a
    /// blank, a quote and (inside quotes) a backslash, so that Windows paths and regexes survive.
    pub fn word(&mut self) -> Option<Word> {
        self.skip_blanks();
        let (from, rest) = (self.at, &self.line.text[self.at..]);
        let mut chars = rest.char_indices().peekable();
        let quoted = rest.starts_with('"');
        if quoted {
            chars.next();
        }
        let mut text = String::new();
        let mut end = rest.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => match chars.peek().copied() {
                    Some((_, e)) if e == '"' || (e == ' ' && !quoted) || (e == '\\' && quoted) => {
                        text.push(e);
                        chars.next();
                    }
                    _ => text.push('\\'),
                },
                '"' if quoted => {
                    end = i + 1;
                    break;
                }
                c if c.is_whitespace() && !quoted => {
                    end = i;
                    break;
                }
                c => text.push(c),
            }
        }
        self.at += end;
        (end > 0).then(|| Word { text, quoted, span: self.line.span_of(from, from + end) })
    }

    /// Everything that is left, as it stands; one pair of quotes around all of it is taken away.
    pub fn rest(&mut self) -> Option<Word> {
        self.skip_blanks();
        let mut one = self.clone();
        if self.line.text[self.at..].starts_with('"')
            && let Some(word) = one.word()
            && one.is_empty()
        {
            *self = one;
            return Some(word);
        }
        let (from, to) = (self.at, self.line.text.len());
        self.at = to;
        let text = self.line.text[from..to].trim_end().to_owned();
        (!text.is_empty()).then(|| Word { text, quoted: false, span: self.line.span_of(from, to) })
    }

    /// A regular expression between slashes, which may hold blanks; it ends at the last slash of the line. `None`, and
    /// nothing is taken, when there is none.
    pub fn regex(&mut self) -> Option<Word> {
        self.skip_blanks();
        let rest = &self.line.text[self.at..];
        let inside = rest.strip_prefix('/')?;
        let end = inside.rfind('/')?;
        let span = self.line.span_of(self.at, self.at + end + 2);
        self.at += end + 2;
        Some(Word { text: inside[..end].to_owned(), quoted: false, span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(raw: &str) -> Option<Line> {
        Line::of(raw, 0, 1)
    }

    fn words(raw: &str) -> Vec<String> {
        let line = line(raw).unwrap();
        let mut args = line.words();
        std::iter::from_fn(|| args.word()).map(|w| w.text).collect()
    }

    #[test]
    fn comments_and_blanks_go_and_positions_stay() {
        let l = line("\t max-smtp-out 20 # a comment").unwrap();
        assert_eq!((l.text.as_str(), l.span.column, l.has_comment), ("max-smtp-out 20", 3, true));
        assert_eq!(line("   # only that"), None);
        assert_eq!(line(""), None);
        let mut args = l.args();
        assert_eq!(args.word().unwrap().span.column, 16);
    }

    #[test]
    fn closed_quotes_protect_a_number_sign_and_open_ones_do_not() {
        assert_eq!(words("a \"b # c\" d # e"), ["a", "b # c", "d"]);
        assert_eq!(words("a \"b # c"), ["a", "b"]);
    }

    #[test]
    fn what_web_pages_and_windows_put_in_is_read_as_meant() {
        let t = Text::decode("x".into(), b"\xef\xbb\xbffeedback\xe2\x80\x91loop\xc2\xa0x\r\nb\r\n");
        assert_eq!(t.lines, ["feedback-loop x", "b"]);
        assert_eq!(t.broken_utf8, None);
        assert_eq!(Text::decode("x".into(), b"a\nb\xff\n").broken_utf8, Some(2));
    }

    #[test]
    fn escapes_keep_paths_and_quotes() {
        assert_eq!(words(r#"c:\pmta\m.pem "a \"b\" c" d\ e"#), [r"c:\pmta\m.pem", r#"a "b" c"#, "d e"]);
        assert_eq!(words("x \"\""), ["x", ""]);
    }

    #[test]
    fn a_regex_ends_at_the_last_slash() {
        let l = line(r"/^5\d\d a/b c/ bad-mailbox").unwrap();
        let mut args = l.words();
        assert_eq!(args.regex().unwrap().text, r"^5\d\d a/b c");
        assert_eq!(args.word().unwrap().text, "bad-mailbox");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_lexer_panic_and_every_span_lies_in_its_line(raw in "[\\PC\t#\"\\\\/<>]{0,60}") {
            if let Some(l) = line(&raw) {
                let mut args = l.words();
                while let Some(w) = args.word() {
                    prop_assert!(w.span.column + w.span.length <= l.span.column + l.span.length);
                }
                let _ = l.args().rest();
                let _ = l.words().regex();
            }
        }
    }
}
