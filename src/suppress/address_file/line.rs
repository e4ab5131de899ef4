//! A line of an address file: an address, a local part that stands for the mailbox of that name at any domain, or
//! `@domain` for all mailboxes of it. Pure.
//!
//! Blank lines and those that begin with `#` say nothing; blanks around, a CR at the end and a byte order mark in front of
//! the first line are left out. What is none of this is a bad line, with the reason.

use std::io::{self, Read};

use crate::event::address::canonical_domain;
use crate::event::{Address, AddressError};

/// Longest line looked at, in bytes; an address has 254.
pub const MAX_LINE: usize = 1024;
/// Bytes read at once.
const READ: usize = 1 << 20;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `local@domain`
    Address,
    /// `local`; its text has an `@` behind it, which no address and no domain has.
    Local,
    /// `@domain`
    Domain,
}

impl Subject {
    /// A bit of its own.
    pub const fn bit(self) -> u8 {
        match self {
            Subject::Address => 1,
            Subject::Local => 2,
            Subject::Domain => 4,
        }
    }
}

/// Why a line says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Longer than [`MAX_LINE`].
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// Octets that are no text.
    #[error("not UTF-8")]
    NotText,
    /// Neither an address, nor a local part, nor `@domain`.
    #[error("{0}")]
    NoAddress(#[from] AddressError),
}

/// What the line says, its text folded as its key is made from, in `folded`; `None` when it says nothing.
pub fn read(line: &[u8], folded: &mut String) -> Result<Option<Subject>, BadLine> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    folded.clear();
    let text = std::str::from_utf8(line).map_err(|_| BadLine::NotText)?.trim();
    if let Some(subject) = plain(text, folded) {
        return Ok(Some(subject));
    }
    folded.clear();
    Ok(Some(match text.split_once('@') {
        None => {
            Address::parse(&format!("{text}@x"))?;
            // As a whole: a sigma at the end of a word has a form of its own.
            folded.push_str(&text.to_lowercase());
            folded.push('@');
            Subject::Local
        }
        Some(("", domain)) => {
            let parsed = Address::parse(&format!("x@{domain}"))?;
            folded.push('@');
            folded.push_str(&canonical_domain(parsed.domain()));
            Subject::Domain
        }
        Some(_) => {
            folded.push_str(Address::parse(text)?.key().as_str());
            Subject::Address
        }
    }))
}

/// The same for what nearly all lines are, without memory of its own: ASCII, nothing quoted. `None`: look closer.
fn plain(text: &str, folded: &mut String) -> Option<Subject> {
    let is_local = |b: u8| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b);
    let is_domain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let (local, domain) = match text.split_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (text, None),
    };
    if local.len() > 64 || text.len() > 250 || !local.bytes().all(is_local) {
        return None;
    }
    if let Some(domain) = domain {
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-');
        if !domain.bytes().all(is_domain) || !domain.split('.').all(label) {
            return None;
        }
    }
    folded.extend(text.bytes().map(|b| char::from(b.to_ascii_lowercase())));
    Some(match (local, domain) {
        ("", _) => Subject::Domain,
        (_, Some(_)) => Subject::Address,
        (_, None) => {
            folded.push('@');
            Subject::Local
        }
    })
}

/// Calls `f` with each line, from number 1 on, without its end; `None` for one that is longer than [`MAX_LINE`]. After each
/// piece `progress` hears how many bytes were read; it ends the reading with `false`. Whether all was read comes back.
pub fn for_each(
    source: &mut dyn Read,
    f: &mut dyn FnMut(u64, Option<&[u8]>) -> io::Result<()>,
    progress: &mut dyn FnMut(u64) -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; READ];
    let (mut filled, mut number, mut read, mut too_long) = (0, 0, 0, false);
    loop {
        let n = match source.read(&mut buffer[filled..]) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        read += n as u64;
        if !progress(read) {
            return Ok(false);
        }
        let end = filled + n;
        let mut at = 0;
        while let Some(len) = memchr::memchr(b'\n', &buffer[at..end]) {
            let line = &buffer[at..at + len];
            number += 1;
            let line = if number == 1 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
            let whole = !std::mem::take(&mut too_long) && line.len() <= MAX_LINE;
            f(number, whole.then_some(line))?;
            at += len + 1;
        }
        if n == 0 {
            let rest = &buffer[at..end];
            if !rest.is_empty() || too_long {
                let rest = if number == 0 { rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest) } else { rest };
                f(number + 1, (!too_long && rest.len() <= MAX_LINE).then_some(rest))?;
            }
            return Ok(true);
        }
        if end - at > MAX_LINE {
            (too_long, at) = (true, end);
        }
        buffer.copy_within(at..end, 0);
        filled = end - at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(line: &str) -> Result<Option<(Subject, String)>, BadLine> {
        let mut folded = String::new();
        Ok(read(line.as_bytes(), &mut folded)?.map(|subject| (subject, folded)))
    }

    fn lines(text: &[u8]) -> Vec<(u64, Option<String>)> {
        let mut found = Vec::new();
        let mut f = |n, line: Option<&[u8]>| {
            found.push((n, line.map(|l| String::from_utf8_lossy(l).into_owned())));
            Ok(())
        };
        assert!(for_each(&mut &*text, &mut f, &mut |_| true).unwrap());
        found
    }

    #[test]
    fn a_line_is_an_address_a_local_part_a_domain_or_nothing() {
        let is = |subject, text: &str| Ok(Some((subject, text.to_owned())));
        assert_eq!(said(" Ann.Lee@EXAMPLE.net\r"), is(Subject::Address, "ann.lee@example.net"));
        assert_eq!(said("x@Bücher.example"), is(Subject::Address, "x@xn--bcher-kva.example"));
        assert_eq!(said("\"a b\"@example.net"), is(Subject::Address, "\"a b\"@example.net"));
        assert_eq!(said("Abuse"), is(Subject::Local, "abuse@"));
        assert_eq!(said("ÄRGER"), is(Subject::Local, "ärger@"));
        assert_eq!(said("@Gone.example."), is(Subject::Domain, "@gone.example"));
        for nothing in ["", "   ", "\r", "# ann@example.net", "\t#x"] {
            assert_eq!(said(nothing), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn a_bad_line_says_why() {
        let why = |line: &str| said(line).unwrap_err().to_string();
        assert!(why("ann@").contains("domain is empty"));
        assert!(why("ann @example.net").contains("not allowed"));
        assert!(why("ann@example..net").contains("not a valid name"));
        assert!(why("ann@example.net,bob@example.net").contains("not a"));
        assert_eq!(read(b"\xff@example.net", &mut String::new()), Err(BadLine::NotText));
    }

    #[test]
    fn lines_have_their_numbers_whatever_ends_them_and_a_mark_in_front_is_left_out() {
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\xEF\xBB\xBFa\r\n\nb"), [(1, text("a\r")), (2, text("")), (3, text("b"))]);
        let long = [b"a\n".to_vec(), vec![b'x'; 3 << 20], b"\nb\n".to_vec(), vec![b'y'; 2000]].concat();
        assert_eq!(lines(&long), [(1, text("a")), (2, None), (3, text("b")), (4, None)]);
    }

    proptest! {
        #[test]
        fn no_text_of_an_address_file_panics(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut folded = String::new();
            let mut f = |_, line: Option<&[u8]>| {
                let _ = line.map(|line| read(line, &mut folded));
                Ok(())
            };
            for_each(&mut &*text, &mut f, &mut |_| true).unwrap();
        }

        #[test]
        fn an_address_is_folded_as_it_is_looked_up(text in "[A-Za-z0-9.+\"ü_-]{1,8}@?[A-Za-z0-9.ü-]{0,12}|\\PC{0,20}") {
            let mut folded = String::new();
            match read(text.as_bytes(), &mut folded) {
                Ok(Some(Subject::Address)) => {
                    let key = Address::parse(text.trim()).unwrap().key();
                    prop_assert_eq!(folded.as_str(), key.as_str());
                }
                Ok(Some(Subject::Local)) => {
                    let key = Address::parse(&format!("{}@x.example", text.trim())).unwrap().key();
                    prop_assert_eq!(format!("{folded}x.example"), key.as_str());
                }
                Ok(Some(Subject::Domain)) => {
                    let key = Address::parse(&format!("x{}", text.trim())).unwrap().key();
                    prop_assert_eq!(format!("x{folded}"), key.as_str());
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}
