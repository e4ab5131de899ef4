//! Cutting what a client sends into command lines, strictly.
//!
//! A line ends with CRLF and nothing else (RFC 5321, 2.3.8: "SMTP client implementations MUST NOT transmit these
//! characters except when they are intended as line terminators"). A bare LF ends a line too, but a faulty one, whose
//! content nobody looks at; so does a bare CR, a NUL or too great a length spoil its line. However the bytes are split
//! over reads, the lines and faults are the same. At most [`MAX_LINE`] bytes of an unfinished line wait.

/// Longest line, CRLF included. RFC 5321, 4.5.3.1.4 asks for 512; RFC 4954, 4 for 12,288 where AUTH is offered.
pub const MAX_LINE: usize = 12_288;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// More than [`MAX_LINE`] bytes.
    #[error("line too long")]
    TooLong,
    /// LF without CR before it.
    #[error("bare LF received; end lines with CRLF")]
    BareLf,
    /// CR without LF behind it.
    #[error("bare CR received; end lines with CRLF")]
    BareCr,
    /// A NUL octet.
    #[error("NUL received")]
    Nul,
}

/// Finds lines; knows whether it is in the middle of one that is too long.
#[derive(Debug, Default)]
pub struct LineReader {
    skipping: bool,
}

/// The outcome of looking for a line at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A line, without its CRLF, or what was wrong with it.
    Line(Result<&'a [u8], LineError>),
    /// No end of line yet. What was not consumed is to be given again, with more behind it.
    More,
}

impl LineReader {
    /// Looks for a line at the beginning of `input`. Returns how many bytes were used up.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Found<'a>) {
        let Some(lf) = memchr::memchr(b'\n', input) else {
            if self.skipping || input.len() >= MAX_LINE {
                self.skipping = true;
                return (input.len(), Found::More);
            }
            return (0, Found::More);
        };
        let used = lf + 1;
        if std::mem::take(&mut self.skipping) || used > MAX_LINE {
            return (used, Found::Line(Err(LineError::TooLong)));
        }
        (used, Found::Line(check(&input[..lf])))
    }
}

/// `line` is everything before an LF.
fn check(line: &[u8]) -> Result<&[u8], LineError> {
    let line = line.strip_suffix(b"\r").ok_or(LineError::BareLf)?;
    match memchr::memchr2(b'\r', 0, line) {
        None => Ok(line),
        Some(at) if line[at] == 0 => Err(LineError::Nul),
        Some(_) => Err(LineError::BareCr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Lines = Vec<Result<Vec<u8>, LineError>>;

    fn read(pieces: &[&[u8]]) -> Lines {
        let (mut reader, mut kept, mut lines) = (LineReader::default(), Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            loop {
                let (used, found) = reader.next(&kept);
                let line = match found {
                    Found::Line(line) => Some(line.map(<[u8]>::to_vec)),
                    Found::More => None,
                };
                kept.drain(..used);
                match line {
                    Some(line) => lines.push(line),
                    None => break,
                }
            }
            assert!(kept.len() < MAX_LINE);
        }
        lines
    }

    #[test]
    fn only_crlf_ends_a_good_line() {
        assert_eq!(
            read(&[b"NOOP\r\nRSET\nQU\rIT\r\nA\0B\r\n\r\nrest"]),
            [
                Ok(b"NOOP".to_vec()),
                Err(LineError::BareLf),
                Err(LineError::BareCr),
                Err(LineError::Nul),
                Ok(b"".to_vec())
            ]
        );
    }

    #[test]
    fn a_line_of_any_length_is_one_fault_and_the_next_line_is_good() {
        for len in [MAX_LINE - 2, MAX_LINE - 1, MAX_LINE, MAX_LINE * 5] {
            let mut input = vec![b'x'; len];
            input.extend_from_slice(b"\r\nNOOP\r\n");
            let lines = read(&input.chunks(1000).collect::<Vec<_>>());
            assert_eq!(lines, read(&[&input]));
            assert_eq!(lines.len(), 2);
            assert_eq!(lines[0].is_ok(), len + 2 <= MAX_LINE, "{len}");
            assert_eq!(lines[1], Ok(b"NOOP".to_vec()));
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(input.len());
            let whole = read(&[&input]);
            prop_assert_eq!(&whole, &read(&[&input[..cut], &input[cut..]]));
            prop_assert_eq!(whole, read(&input.chunks(1).collect::<Vec<_>>()));
        }
    }
}
