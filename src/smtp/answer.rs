//! What the server says: a reply code, an enhanced status and a text (RFC 5321, 4.2; RFC 2034).
//!
//! Promises that what is written is one well-formed reply: no control character of the text (which may repeat what a
//! client sent) gets through, and no line is longer than 512 octets.

use std::borrow::Cow;
use std::io::Write as _;

/// One reply of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The three digits.
    pub code: u16,
    /// Enhanced status; empty where RFC 2034 forbids one (greeting, EHLO, 3yz).
    pub status: &'static str,
    /// The rest of the line.
    pub text: Cow<'static, str>,
}

/// Text that fits behind code and status in a reply line of 512 octets (RFC 5321, 4.5.3.1.5).
const MAX_TEXT: usize = 480;

impl Answer {
    /// A reply with a fixed text.
    pub const fn new(code: u16, status: &'static str, text: &'static str) -> Answer {
        Answer { code, status, text: Cow::Borrowed(text) }
    }

    /// A reply whose text is made for the occasion.
    pub fn with(code: u16, status: &'static str, text: String) -> Answer {
        Answer { code, status, text: Cow::Owned(text) }
    }

    /// 2yz.
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Appends the reply as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        push_code(out, self.code, b' ');
        if !self.status.is_empty() {
            out.extend_from_slice(self.status.as_bytes());
            out.push(b' ');
        }
        push_text(out, &self.text);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one reply of several lines, without enhanced status (EHLO, HELP).
pub fn write_lines<'a>(out: &mut Vec<u8>, code: u16, lines: impl IntoIterator<Item = &'a str>) {
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        push_code(out, code, if lines.peek().is_some() { b'-' } else { b' ' });
        push_text(out, line);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_code(out: &mut Vec<u8>, code: u16, after: u8) {
    let _ = write!(out, "{code:03}"); // a Vec takes everything
    out.push(after);
}

/// Printable ASCII as it is, everything else as `?`; cut at [`MAX_TEXT`].
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().take(MAX_TEXT).map(|b| if matches!(b, b' '..=b'~') { b } else { b'?' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_can_not_forge_a_second_reply() {
        let mut out = Vec::new();
        Answer::with(550, "5.7.1", format!("no <a\r\n250 ok@b> {}", "x".repeat(2000))).write(&mut out);
        assert!(out.starts_with(b"550 5.7.1 no <a??250 ok@b> xxx"));
        assert!(out.len() <= 512 && out.iter().filter(|b| **b == b'\n').count() == 1);
    }

    #[test]
    fn only_the_last_line_of_many_has_a_blank_behind_the_code() {
        let mut out = Vec::new();
        write_lines(&mut out, 250, ["mx.example.com", "PIPELINING", "SIZE 0"]);
        assert_eq!(out, b"250-mx.example.com\r\n250-PIPELINING\r\n250 SIZE 0\r\n");
    }
}
