//! Dot-stuffing of content on its way out (RFC 5321, 4.5.2), without copying it.
//!
//! Promises: the slices, joined, are the content with one dot put before each line that begins with one, and the line
//! `.` that ends it; taking the dots out again gives the content (followed by CRLF if it did not end with one). Content
//! is expected with CRLF line ends; a lone LF begins no line. Can't fail.

use std::io::IoSlice;

use memchr::memmem;

/// Where the content must be cut so that a dot can be put between: the places of dots that begin a line.
#[derive(Debug, Default)]
pub struct Stuffed {
    /// Slices to be written one after the other begin here; the dot at a cut is written twice.
    cuts: Vec<usize>,
}

impl Stuffed {
    /// Finds the dots. Most messages have none: no allocation then.
    pub fn of(content: &[u8]) -> Stuffed {
        let mut cuts = Vec::new();
        if content.first() == Some(&b'.') {
            cuts.push(0);
        }
        cuts.extend(memmem::find_iter(content, b"\r\n.").map(|at| at + 2));
        Stuffed { cuts }
    }

    /// The slices of `content`, which is the same that was looked through, and the final dot.
    pub fn slices<'c>(&self, content: &'c [u8]) -> Vec<IoSlice<'c>> {
        let mut slices = Vec::with_capacity(self.cuts.len() + 2);
        let mut from = 0;
        for &cut in &self.cuts {
            // Up to and with the dot; the next slice begins with the same dot again.
            slices.push(IoSlice::new(&content[from..=cut]));
            from = cut;
        }
        if from < content.len() {
            slices.push(IoSlice::new(&content[from..]));
        }
        slices.push(IoSlice::new(end_of(content)));
        slices
    }
}

/// What ends the content: `.` alone on a line.
pub fn end_of(content: &[u8]) -> &'static [u8] {
    if content.is_empty() || content.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuff(content: &[u8]) -> Vec<u8> {
        Stuffed::of(content).slices(content).iter().flat_map(|s| s.iter().copied()).collect()
    }

    /// As a receiver reads it: line by line until the single dot, one leading dot taken off.
    fn unstuff(wire: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), wire);
        loop {
            let end = memmem::find(rest, b"\r\n")? + 2;
            let (line, after) = rest.split_at(end);
            if line == b".\r\n" {
                return after.is_empty().then_some(out);
            }
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            rest = after;
        }
    }

    #[test]
    fn a_usual_message_is_one_slice_and_the_end() {
        let content = b"Subject: x\r\n\r\nHello. Bye.\r\n";
        assert_eq!(Stuffed::of(content).slices(content).len(), 2);
        assert_eq!(stuff(content), b"Subject: x\r\n\r\nHello. Bye.\r\n.\r\n");
    }

    #[test]
    fn a_line_that_begins_with_a_dot_gets_another() {
        assert_eq!(stuff(b".\r\n..\r\na\r\n.b"), b"..\r\n...\r\na\r\n..b\r\n.\r\n");
        assert_eq!(stuff(b""), b".\r\n");
        assert_eq!(stuff(b"."), b"..\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn a_receiver_gets_what_was_given(lines in prop::collection::vec("[.a\r\n]{0,6}", 0..20), ended: bool) {
            let mut content = lines.join("\r\n").into_bytes();
            if ended && !content.is_empty() {
                content.extend_from_slice(b"\r\n");
            }
            let mut expected = content.clone();
            if !content.is_empty() && !content.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(unstuff(&stuff(&content)), Some(expected));
        }
    }
}
