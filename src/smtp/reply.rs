//! Replies of a server, cut out of the bytes as they arrive (RFC 5321, 4.2).
//!
//! Promises: any cutting of the stream gives the same replies; what is kept is bounded ([`MAX_REPLY`] octets on the
//! wire, [`MAX_TEXT`] octets of text); bytes that are no UTF-8 and control characters become harmless. Fails with
//! [`ReplyError`] on what is no reply; the connection is of no use then.

use crate::event::Reply;
use crate::event::plain::fit;

/// Octets one reply may have on the wire, all lines together.
pub const MAX_REPLY: usize = 64 * 1024;

/// Octets of text that are kept of a reply; RFC 5321, 4.5.3.1.5 allows lines of 512.
pub const MAX_TEXT: usize = 2048;

/// What came is no SMTP reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with a code from 200 to 599 and a space or hyphen.
    #[error("the server sent a line that is no SMTP reply")]
    NoReply,
    /// The lines of one reply have different codes (RFC 5321, 4.2.1 forbids it).
    #[error("the lines of the server's reply have different codes")]
    MixedCodes,
    /// More than [`MAX_REPLY`] octets.
    #[error("the server's reply is longer than 64 KiB")]
    TooLong,
}

/// Bytes received and not yet understood as replies.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Everything before was handed out.
    read: usize,
    /// Between `read` and here whole lines were seen, all of them continued.
    seen: usize,
}

/// A whole reply, still in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawReply<'a> {
    /// The three digits, 200 to 599.
    pub code: u16,
    /// All lines, the last line end included.
    bytes: &'a [u8],
}

impl Replies {
    /// Nothing received yet.
    pub const fn new() -> Replies {
        Replies { bytes: Vec::new(), read: 0, seen: 0 }
    }

    /// Where received bytes are appended. Only append.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.read == self.bytes.len() {
            self.clear();
        }
        &mut self.bytes
    }

    /// Forgets what was received: after STARTTLS nothing from before counts (RFC 3207, 4.2).
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.read = 0;
        self.seen = 0;
    }

    /// Whether bytes are waiting that no reply has been made of.
    pub fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// The next whole reply; `None` until more bytes are there.
    pub fn take(&mut self) -> Result<Option<RawReply<'_>>, ReplyError> {
        loop {
            let rest = &self.bytes[self.seen..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if self.bytes.len() - self.read > MAX_REPLY { Err(ReplyError::TooLong) } else { Ok(None) };
            };
            let line = trim_end(&rest[..end]);
            let (code, last) = code_of(line).ok_or(ReplyError::NoReply)?;
            if self.seen > self.read && line[..3] != self.bytes[self.read..self.read + 3] {
                return Err(ReplyError::MixedCodes);
            }
            self.seen += end + 1;
            if self.seen - self.read > MAX_REPLY {
                return Err(ReplyError::TooLong);
            }
            if last {
                let from = std::mem::replace(&mut self.read, self.seen);
                return Ok(Some(RawReply { code, bytes: &self.bytes[from..self.seen] }));
            }
        }
    }
}

impl<'a> RawReply<'a> {
    /// The lines without code, separator and line end.
    pub fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.split_inclusive(|b| *b == b'\n').map(|line| trim_end(line).get(4..).unwrap_or(b""))
    }

    /// The reply as events keep it: the lines joined by one space, their codes (also the enhanced one, where it is the
    /// same) left out but for the first.
    pub fn to_reply(self) -> Reply {
        let mut text = String::with_capacity(self.bytes.len().min(MAX_TEXT));
        text.push_str(&self.code.to_string());
        let first_status = self.lines().next().and_then(status_word);
        for (n, line) in self.lines().enumerate() {
            text.push(' ');
            // RFC 2034, 4 has the enhanced code on every line; once is enough to read it.
            let line = match status_word(line) {
                status if n > 0 && status.is_some() && status == first_status => &line[status.map_or(0, <[u8]>::len)..],
                _ => line,
            };
            for c in String::from_utf8_lossy(line).trim().chars() {
                // Control characters part words, so that rules see the same words with them as without.
                let c = if c.is_control() { ' ' } else { fit(c) };
                if text.len() + c.len_utf8() > MAX_TEXT {
                    break;
                }
                text.push(c);
            }
        }
        text.truncate(text.trim_end().len());
        // The text begins with a code that was checked, so that it is always a reply.
        Reply::parse(&text).unwrap_or(Reply { code: self.code, status: None, text })
    }
}

/// The word at the beginning of the text that has the form of an enhanced code.
fn status_word(text: &[u8]) -> Option<&[u8]> {
    let word = &text[..memchr::memchr(b' ', text).unwrap_or(text.len())];
    let is_status = word.len() >= 5 && word.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    is_status.then_some(word)
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The code, and whether this is the last line of its reply.
fn code_of(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    (200..600).contains(&code).then_some((code, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(chunks: &[&[u8]]) -> Result<Vec<Reply>, ReplyError> {
        let mut replies = Replies::new();
        let mut out = Vec::new();
        for chunk in chunks {
            replies.buffer().extend_from_slice(chunk);
            while let Some(r) = replies.take()? {
                out.push(r.to_reply());
            }
        }
        Ok(out)
    }

    #[test]
    fn the_lines_of_a_reply_are_joined_by_one_space_without_their_codes() {
        let got = all(&[b"550-5.1.1 The account\r\n550-5.1.1  does not exist.\r\n550 5.1.1 bye\r\n"]).unwrap();
        assert_eq!(got[0].text, "550 5.1.1 The account does not exist. bye");
        assert_eq!(got[0].status.unwrap().to_string(), "5.1.1");
    }

    #[test]
    fn pipelined_replies_come_one_by_one() {
        let got = all(&[b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n"]).unwrap();
        assert_eq!(got.iter().map(|r| r.code).collect::<Vec<_>>(), [250, 250, 354]);
    }

    #[test]
    fn a_reply_without_text_is_a_reply() {
        assert_eq!(all(&[b"250\r\n"]).unwrap()[0].text, "250");
        assert_eq!(all(&[b"250 \r\n"]).unwrap()[0].text, "250");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        assert_eq!(all(&[b"hello\r\n"]), Err(ReplyError::NoReply));
        assert_eq!(all(&[b"999 x\r\n"]), Err(ReplyError::NoReply));
        assert_eq!(all(&[b"25\r\n"]), Err(ReplyError::NoReply));
        assert_eq!(all(&[b"\r\n"]), Err(ReplyError::NoReply));
        assert_eq!(all(&[b"250-a\r\n251 b\r\n"]), Err(ReplyError::MixedCodes));
    }

    #[test]
    fn an_endless_reply_is_cut_off() {
        assert_eq!(all(&[&[b'2'; MAX_REPLY + 1]]), Err(ReplyError::TooLong));
        let lines = b"250-x\r\n".repeat(MAX_REPLY / 7 + 1);
        assert_eq!(all(&[&lines]), Err(ReplyError::TooLong));
    }

    #[test]
    fn a_long_text_is_kept_in_part_and_control_characters_are_not_kept() {
        let mut line = "550 a\x00b\u{202e}".as_bytes().to_vec();
        line.push(0xff);
        line.extend([b'x'; 5000]);
        line.extend(b"\r\n");
        let text = &all(&[&line]).unwrap()[0].text;
        assert!(text.len() <= MAX_TEXT && text.starts_with("550 a b\u{fffd}\u{fffd}x"), "{text}");
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_makes_no_difference(cuts in prop::collection::vec(0usize..60, 0..8)) {
            let stream = b"220 a\r\n250-x\r\n250-PIPELINING\r\n250 SIZE 1\r\n354 go\n451 4.3.0 no\r\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.push(0);
            cuts.push(stream.len());
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(all(&chunks), all(&[stream]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&[&bytes]);
        }
    }
}
