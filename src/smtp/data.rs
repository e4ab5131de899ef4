//! Reading the content of a message after DATA: the end is CRLF.CRLF and nothing else.
//!
//! SMTP smuggling lives from two systems that disagree where a message ends. So: (1) only the five octets of RFC 5321,
//! 4.1.1.4 end the content (the CRLF of the DATA line counts as the first two); `LF.LF`, `LF.CRLF`, `CR.CR`, `CRLF.LF`
//! and `CRLF.CR` are content; (2) content with a bare CR or LF anywhere is refused after it has been read to its true
//! end, neither repaired nor passed on, so that nobody behind us can disagree either. What is handed on has CRLF line
//! ends only and is not dot-stuffed.
//!
//! Content that is too large or has too long a line is read to its end, thrown away, and refused. Memory is bounded by
//! the size limit; the result does not depend on how the bytes are split over reads.

use super::answer::Answer;

/// Longest line of content, CRLF included. RFC 5322, 2.1.1 allows 998 and is widely ignored; beyond this no receiver is
/// known to take it, and a reader of ours would have to hold it whole.
pub const MAX_CONTENT_LINE: usize = 65_536;

/// Why content is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A CR or an LF that is not part of a CRLF.
    #[error("message contains bare CR or LF; end lines with CRLF")]
    BareLineEnd,
    /// A line above [`MAX_CONTENT_LINE`].
    #[error("message has a line of more than 65536 octets")]
    LineTooLong,
    /// More content than the limit.
    #[error("message exceeds the maximum size")]
    TooLarge,
    /// The server has no memory for it now.
    #[error("too much mail is coming in")]
    Busy,
}

impl DataError {
    /// The reply after the final dot.
    pub const fn answer(self) -> Answer {
        match self {
            DataError::BareLineEnd => {
                Answer::new(550, "5.6.11", "message contains bare CR or LF, which is not allowed; end lines with CRLF")
            }
            DataError::LineTooLong => Answer::new(550, "5.6.0", "message has a line of more than 65536 octets"),
            DataError::TooLarge => Answer::new(552, "5.3.4", "message exceeds the maximum size"),
            DataError::Busy => Answer::new(452, "4.3.1", "too much mail is coming in, try again later"),
        }
    }
}

/// Content as it was sent, un-dot-stuffed, with CRLF line ends only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The octets.
    pub bytes: Vec<u8>,
    /// Some are above 127.
    pub eight_bit: bool,
}

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Behind a CRLF.
    LineStart,
    /// Behind CRLF and a dot, which is not content.
    Dot,
    /// Behind CRLF, dot and CR.
    DotCr,
    /// In a line.
    Line,
    /// Behind a CR in a line, which is already in the content.
    Cr,
}

/// Reads content until its end.
#[derive(Debug)]
pub struct DataReader {
    at: At,
    content: Vec<u8>,
    limit: usize,
    line: usize,
    eight_bit: bool,
    fault: Option<DataError>,
}

impl DataReader {
    /// For content of up to `limit` bytes, of which `expected` were announced (SIZE).
    pub fn new(limit: usize, expected: usize) -> DataReader {
        // What is announced is reserved only as far as a lie costs nothing worth having.
        let content = Vec::with_capacity(expected.min(limit).clamp(4096, 256 * 1024));
        DataReader { at: At::LineStart, content, limit, line: 0, eight_bit: false, fault: None }
    }

    /// Takes from `input` what belongs to the content. Returns how much that was, and whether the end was in it.
    pub fn push(&mut self, input: &[u8]) -> (usize, bool) {
        let mut i = 0;
        while i < input.len() {
            match self.at {
                At::LineStart if input[i] == b'.' => {
                    self.at = At::Dot;
                    i += 1;
                }
                At::LineStart => self.at = At::Line,
                At::Dot if input[i] == b'\r' => {
                    self.at = At::DotCr;
                    i += 1;
                }
                // RFC 5321, 4.5.2: "If the first character is a period and there are other characters on the line, the
                // first character is deleted." A bare LF here is no end.
                At::Dot => self.at = At::Line,
                At::DotCr if input[i] == b'\n' => return (i + 1, true),
                At::DotCr => {
                    self.take(b"\r");
                    self.at = At::Cr;
                }
                At::Cr if input[i] == b'\n' => {
                    self.take(b"\n");
                    self.line = 0;
                    self.at = At::LineStart;
                    i += 1;
                }
                At::Cr => {
                    self.fail(DataError::BareLineEnd);
                    self.at = At::Line;
                }
                At::Line => i += self.line(&input[i..]),
            }
        }
        (i, false)
    }

    /// Takes whole lines at once while they are plain: `rest` begins within a line. Returns how much was taken; stops
    /// where a line begins with a dot.
    fn line(&mut self, rest: &[u8]) -> usize {
        let mut begin = 0;
        let end = loop {
            let Some(n) = memchr::memchr2(b'\r', b'\n', &rest[begin..]) else {
                self.line += rest.len() - begin;
                break rest.len();
            };
            let at = begin + n;
            self.line += n + 2;
            self.check_line();
            if rest[at] == b'\n' {
                self.fail(DataError::BareLineEnd);
                begin = at + 1;
                continue;
            }
            match rest.get(at + 1) {
                Some(b'\n') => {
                    self.line = 0;
                    begin = at + 2;
                    if matches!(rest.get(begin), None | Some(b'.')) {
                        self.at = At::LineStart;
                        break begin;
                    }
                }
                Some(_) => {
                    self.fail(DataError::BareLineEnd);
                    begin = at + 1;
                }
                None => {
                    self.at = At::Cr;
                    break at + 1;
                }
            }
        };
        self.check_line();
        self.take(&rest[..end]);
        end
    }

    fn check_line(&mut self) {
        if self.line > MAX_CONTENT_LINE {
            self.fail(DataError::LineTooLong);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if bytes.len() > self.limit - self.content.len() {
            return self.fail(DataError::TooLarge);
        }
        self.eight_bit |= !bytes.is_ascii();
        self.content.extend_from_slice(bytes);
    }

    /// Remembers the worst fault and lets the content go. Which one is reported must not depend on the splitting of the
    /// input, so a fault of form goes before size, whichever came first.
    fn fail(&mut self, fault: DataError) {
        let rank = |f: DataError| match f {
            DataError::BareLineEnd => 3,
            DataError::LineTooLong => 2,
            DataError::TooLarge => 1,
            DataError::Busy => 0,
        };
        if self.fault.is_none_or(|known| rank(fault) > rank(known)) {
            self.fault = Some(fault);
        }
        self.content = Vec::new();
    }

    /// Bytes kept so far.
    pub fn kept(&self) -> usize {
        self.content.len()
    }

    /// Lets the content go; what is still to come is read and thrown away, and the client told to try again.
    pub fn discard(&mut self) {
        self.fail(DataError::Busy);
    }

    /// The content, once the end has been seen.
    pub fn finish(self) -> Result<Content, DataError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Content { bytes: self.content, eight_bit: self.eight_bit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What was read, and what was left behind the end; `None` when there was no end.
    type Outcome<E> = Option<(Result<Vec<u8>, E>, Vec<u8>)>;

    fn read(limit: usize, pieces: &[&[u8]]) -> Outcome<DataError> {
        let mut reader = DataReader::new(limit, 0);
        let mut pieces = pieces.iter();
        while let Some(piece) = pieces.next() {
            let (used, ended) = reader.push(piece);
            if ended {
                let left = [&piece[used..]].into_iter().chain(pieces.copied()).collect::<Vec<_>>().concat();
                return Some((reader.finish().map(|c| c.bytes), left));
            }
            assert_eq!(used, piece.len());
        }
        None
    }

    #[test]
    fn content_comes_back_without_the_dots_that_protected_it() {
        let wire = b"Subject: x\r\n\r\n..a\r\n.b\r\n..\r\nc.\r\n.\r\nQUIT\r\n";
        let (content, left) = read(1000, &[wire]).unwrap();
        assert_eq!(content.unwrap(), b"Subject: x\r\n\r\n.a\r\nb\r\n.\r\nc.\r\n");
        assert_eq!(left, b"QUIT\r\n");
        assert_eq!(read(1000, &[b".\r\n"]).unwrap().0.unwrap(), b"");
    }

    #[test]
    fn no_variant_of_the_end_but_the_true_one_ends_the_content() {
        for fake in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r\n.\n",
            "\r\n.\r",
            "\r.\r\n",
            "\n.\r",
            "\r.\n",
            "\r\n\n.\r\n",
            "\r\r.\r\n",
            "\n\r.\r\n",
            "\r\n.\r\r",
            "\r\n.\0\r\n",
            "\r\n\0.\r\n",
            "\r\n. \r\n",
        ] {
            let wire = format!("a{fake}MAIL FROM:<evil@example.com>\r\n.\r\nQUIT\r\n");
            for size in [1, 2, 3, wire.len()] {
                let pieces: Vec<_> = wire.as_bytes().chunks(size).collect();
                let (content, left) = read(1000, &pieces).unwrap();
                assert_eq!(left, b"QUIT\r\n", "{fake:?} in pieces of {size}");
                // Content without a bare CR or LF is kept; the rest is refused.
                let clean = fake.replace("\r\n", "").chars().all(|c| c != '\r' && c != '\n');
                assert_eq!(content.is_ok(), clean, "{fake:?}");
                if !clean {
                    assert_eq!(content, Err(DataError::BareLineEnd));
                }
            }
        }
    }

    #[test]
    fn content_above_the_limit_is_read_to_its_end_and_refused() {
        let wire = [b"x".repeat(5000).as_slice(), b"\r\n.\r\nQUIT\r\n"].concat();
        let (content, left) = read(5001, &[&wire]).unwrap();
        assert_eq!((content, left.as_slice()), (Err(DataError::TooLarge), b"QUIT\r\n".as_slice()));
        assert_eq!(read(5002, &[&wire]).unwrap().0.unwrap().len(), 5002);
    }

    #[test]
    fn a_line_of_the_greatest_length_passes_and_one_octet_more_does_not() {
        for (len, ok) in [(MAX_CONTENT_LINE - 2, true), (MAX_CONTENT_LINE - 1, false), (MAX_CONTENT_LINE * 3, false)] {
            let wire = [b"x".repeat(len).as_slice(), b"\r\n.\r\n"].concat();
            for size in [1000, wire.len()] {
                let (content, _) = read(1 << 20, &wire.chunks(size).collect::<Vec<_>>()).unwrap();
                assert_eq!(content.is_ok(), ok, "{len} in pieces of {size}");
            }
        }
    }

    #[test]
    fn octets_above_127_are_noticed() {
        let mut reader = DataReader::new(100, 0);
        assert_eq!(reader.push("grün\r\n.\r\n".as_bytes()), (10, true));
        assert!(reader.finish().unwrap().eight_bit);
    }

    /// The rule of RFC 5321, 4.5.2 told in the plainest way, to compare with.
    fn plainly(wire: &[u8]) -> Outcome<()> {
        let framed = [b"\r\n", wire].concat();
        let end = framed.windows(5).position(|w| w == b"\r\n.\r\n")?;
        let (content, left) = (&framed[2..end + 2], framed[end + 5..].to_vec());
        let (mut out, mut bare, mut i, mut line_start) = (Vec::new(), false, 0, true);
        while i < content.len() {
            if line_start && content[i] == b'.' {
                i += 1;
                line_start = false;
                continue;
            }
            line_start = content[i..].starts_with(b"\r\n");
            if line_start {
                out.extend_from_slice(b"\r\n");
                i += 2;
            } else {
                bare |= matches!(content[i], b'\r' | b'\n');
                out.push(content[i]);
                i += 1;
            }
        }
        Some((if bare { Err(()) } else { Ok(out) }, left))
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_mean_what_the_rfc_says(
            wire in proptest::collection::vec(
                prop_oneof![3 => Just(b'\r'), 3 => Just(b'\n'), 3 => Just(b'.'), 1 => any::<u8>()], 0..60),
            size in 1usize..9,
        ) {
            let whole = read(1000, &[&wire]);
            prop_assert_eq!(&whole, &read(1000, &wire.chunks(size).collect::<Vec<_>>()));
            prop_assert_eq!(whole.map(|(c, left)| (c.map_err(|_| ()), left)), plainly(&wire));
        }
    }
}
