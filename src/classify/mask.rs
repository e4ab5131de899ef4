//! What a reply says, as the shipped rules see it: without the addresses in it, and without the codes that its lines
//! begin with.
//!
//! Every address becomes [`STANDS_FOR`]: `virus@policy.example` is neither about a virus nor about a policy, and a sender
//! or recipient can't choose a category by his name. Reports often join the lines of a reply with their codes (RFC 5321,
//! 4.2.1), so that `550-5.1.1 The account does 550 5.1.1 not exist` would break every sentence; the marks behind the
//! first are left out. Pure, linear; never fails.

use std::borrow::Cow;

use memchr::memmem;

/// What stands in the place of each address.
const STANDS_FOR: &str = "x@x.example";

/// A reply with [`STANDS_FOR`] for each address and nothing for each mark of a further line, and what stood there. One
/// without any is kept as it is.
pub(super) struct Masked<'r> {
    text: Cow<'r, str>,
    places: Vec<Place>,
}

/// Where something was replaced.
struct Place {
    /// In the masked text, and how much stands there now.
    at: usize,
    len: usize,
    /// In the reply.
    from: usize,
    to: usize,
}

impl<'r> Masked<'r> {
    pub(super) fn new(reply: &'r str) -> Masked<'r> {
        let mut marks = Marks::of(reply);
        let mut masked = String::new();
        let mut places: Vec<Place> = Vec::new();
        // Everything before this is in `masked`.
        let mut done = 0;
        let mut replace = |from: usize, to: usize, by: &str| {
            // What looks like a mark may be the beginning of an address that has been replaced.
            if from >= done {
                masked.push_str(&reply[done..from]);
                places.push(Place { at: masked.len(), len: by.len(), from, to });
                masked.push_str(by);
                done = to;
            }
        };
        for (start, end) in addresses(reply) {
            marks.before(start).for_each(|(from, to)| replace(from, to, ""));
            replace(start, end, STANDS_FOR);
        }
        marks.before(reply.len()).for_each(|(from, to)| replace(from, to, ""));
        if places.is_empty() {
            return Masked { text: Cow::Borrowed(reply), places };
        }
        masked.push_str(&reply[done..]);
        Masked { text: Cow::Owned(masked), places }
    }

    /// What is matched.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where in the reply that is which stands at these places of the text; an address that is touched is whole.
    pub(super) fn original(&self, start: usize, end: usize) -> (usize, usize) {
        (self.place(start, false), self.place(end, true))
    }

    fn place(&self, at: usize, end: bool) -> usize {
        let mut moved = at;
        for place in &self.places {
            if at < place.at || at == place.at && end {
                break;
            }
            let behind = place.at + place.len;
            if at < behind {
                return if end { place.to } else { place.from };
            }
            moved = place.to + (at - behind);
        }
        moved
    }
}

/// Where the addresses of a reply begin and end.
fn addresses(reply: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = reply.as_bytes();
    let mut done = 0;
    memchr::memchr_iter(b'@', bytes).filter_map(move |at| {
        if at < done {
            return None;
        }
        let local = bytes[done..at].iter().rev().take_while(|b| is_local(**b)).count();
        let mut domain = bytes[at + 1..].iter().take_while(|b| is_domain(**b)).count();
        while domain > 0 && matches!(bytes[at + domain], b'.' | b'-') {
            // A full stop or a dash behind the address belongs to the sentence.
            domain -= 1;
        }
        // Both ends are beside ASCII characters, so that characters are never cut.
        (local > 0 && domain > 0).then(|| {
            done = at + 1 + domain;
            (at - local, done)
        })
    })
}

/// The marks of further lines, in their order.
struct Marks<'r> {
    reply: &'r str,
    /// Blank and code, such as ` 550`; empty when the reply has one line.
    code: [u8; 4],
    /// The enhanced code of the first line, which every line repeats; may be empty.
    enhanced: &'r str,
    from: usize,
}

impl<'r> Marks<'r> {
    fn of(reply: &'r str) -> Marks<'r> {
        let bytes = reply.as_bytes();
        let code = match bytes {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b'-', ..] => [b' ', *a, *b, *c],
            _ => return Marks { reply, code: *b"    ", enhanced: "", from: reply.len() },
        };
        let said = &reply[4..];
        let word = said.split(' ').next().unwrap_or("");
        let is_status = word.len() >= 5
            && word.split('.').count() == 3
            && word.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        Marks { reply, code, enhanced: if is_status { word } else { "" }, from: 4 }
    }

    /// The next marks that end before this place; they reach from behind the blank to the line's own words.
    fn before(&mut self, limit: usize) -> impl Iterator<Item = (usize, usize)> {
        std::iter::from_fn(move || {
            loop {
                let Some(found) = memmem::find(self.reply.as_bytes().get(self.from..limit)?, &self.code) else {
                    // Looked through once; a mark may begin at the end.
                    self.from = self.from.max(limit.saturating_sub(self.code.len()));
                    return None;
                };
                let (start, mut end) = (self.from + found + 1, self.from + found + self.code.len());
                self.from = end;
                let rest = &self.reply[end..];
                let Some(rest) = rest.strip_prefix(['-', ' ']) else { continue };
                end += 1;
                if !self.enhanced.is_empty() {
                    let Some(rest) = rest.strip_prefix(self.enhanced) else { continue };
                    end += self.enhanced.len();
                    // Some put two blanks there.
                    end += rest.bytes().take_while(|b| *b == b' ').count();
                }
                // A mark has words behind it.
                if end > limit || end == self.reply.len() {
                    return None;
                }
                self.from = end - 1;
                return Some((start, end));
            }
        })
    }
}

/// What local parts are made of in replies. `=`, `/`, `?` and `&` end it: they stand before addresses in URLs.
fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-' | b'%' | b'~')
}

fn is_domain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_address_looks_the_same() {
        for (reply, masked) in [
            ("550 5.1.1 <no.such-user+x@spam.example>: unknown", "550 5.1.1 <x@x.example>: unknown"),
            ("550 a@b.example, c_d@e-f.example.", "550 x@x.example, x@x.example."),
            ("550 用户virus@b.example不存在", "550 用户x@x.example不存在"),
            ("550 see https://spamhaus.org/?to=a@b.example", "550 see https://spamhaus.org/?to=x@x.example"),
            ("550 a@b@c", "550 x@x.example@c"),
        ] {
            assert_eq!(Masked::new(reply).text(), masked);
        }
        for same in ["550 none", "550 @b.example", "550 a@ b", "@", "", "550 é@é"] {
            assert!(matches!(Masked::new(same).text, Cow::Borrowed(text) if text == same));
        }
    }

    #[test]
    fn the_marks_of_further_lines_are_left_out() {
        for (reply, masked) in [
            (
                "550-5.1.1 The account does not exist. Please try 550-5.1.1 again 550 5.1.1  see there",
                "550-5.1.1 The account does not exist. Please try again see there",
            ),
            ("554-Refused 554 see 554-x 550 none", "554-Refused see x 550 none"),
            ("550-5.1.1 <a@b.example> is 550 5.1.1 c@d.example", "550-5.1.1 <x@x.example> is x@x.example"),
            ("550-5.1.1 no 550 5.7.1 other 5501 550x", "550-5.1.1 no 550 5.7.1 other 5501 550x"),
            ("550-a 550 b 550 ", "550-a b 550 "),
            ("550-no 550-x@b.example then c@d.example", "550-no x@x.example then x@x.example"),
        ] {
            assert_eq!(Masked::new(reply).text(), masked);
        }
        for same in ["550 5.1.1 said: 550 5.1.1 no", "550-5.1.1 no 550 5.1.1", "550-", "x 550-y 550 z"] {
            assert!(matches!(Masked::new(same).text, Cow::Borrowed(text) if text == same));
        }
    }

    #[test]
    fn a_place_in_the_masked_text_is_one_in_the_reply() {
        let reply = "550 <someone.long@domain.example> gone";
        let masked = Masked::new(reply);
        let place = |words: &str| {
            let at = masked.text().find(words).unwrap();
            let (start, end) = masked.original(at, at + words.len());
            &reply[start..end]
        };
        assert_eq!((place("gone"), place("550 <"), place("x.ex")), ("gone", "550 <", "someone.long@domain.example"));
        let reply = "550-5.1.1 does not 550 5.1.1 exist";
        let masked = Masked::new(reply);
        let at = masked.text().find("not exist").unwrap();
        let (start, end) = masked.original(at, at + 9);
        assert_eq!(&reply[start..end], "not 550 5.1.1 exist");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(550-(5\\.1\\.1 )?)?([a@.é< -]|550|5\\.1\\.1| 550-| a@a){0,40}") {
            let masked = Masked::new(&text);
            for at in 0..=masked.text().len() {
                let (start, end) = masked.original(at, masked.text().len());
                prop_assert!(start <= end && end == text.len());
            }
        }
    }
}
