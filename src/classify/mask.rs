//! What a reply says without the addresses in it: `virus@policy.example` is neither about a virus nor about a policy.
//!
//! Every address becomes [`STANDS_FOR`], so that the shipped rules see the same words whoever is written to, and a
//! sender or recipient can't choose a category by his name. Pure, linear; never fails.

use std::borrow::Cow;

/// What stands in the place of each address.
const STANDS_FOR: &str = "x@x.example";

/// A reply with [`STANDS_FOR`] for each address, and what stood there. One without any is kept as it is.
pub(super) struct Masked<'r> {
    text: Cow<'r, str>,
    /// Of each address: where its stand-in begins, and where the address began and ended in the reply.
    places: Vec<(usize, usize, usize)>,
}

impl<'r> Masked<'r> {
    pub(super) fn new(reply: &'r str) -> Masked<'r> {
        let bytes = reply.as_bytes();
        let mut masked = String::new();
        let mut places = Vec::new();
        // Everything before this is in `masked`.
        let mut done = 0;
        for at in memchr::memchr_iter(b'@', bytes) {
            if at < done {
                continue;
            }
            let local = bytes[done..at].iter().rev().take_while(|b| is_local(**b)).count();
            let mut domain = bytes[at + 1..].iter().take_while(|b| is_domain(**b)).count();
            while domain > 0 && matches!(bytes[at + domain], b'.' | b'-') {
                // A full stop or a dash behind the address belongs to the sentence.
                domain -= 1;
            }
            if local > 0 && domain > 0 {
                // Both ends are beside ASCII characters, so that characters are never cut.
                masked.push_str(&reply[done..at - local]);
                places.push((masked.len(), at - local, at + 1 + domain));
                masked.push_str(STANDS_FOR);
                done = at + 1 + domain;
            }
        }
        if done == 0 {
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
        for &(stands, from, to) in &self.places {
            if at < stands || at == stands && end {
                break;
            }
            let behind = stands + STANDS_FOR.len();
            if at < behind {
                return if end { to } else { from };
            }
            moved = to + (at - behind);
        }
        moved
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
    fn a_place_in_the_masked_text_is_one_in_the_reply() {
        let reply = "550 <someone.long@domain.example> gone";
        let masked = Masked::new(reply);
        let place = |words: &str| {
            let at = masked.text().find(words).unwrap();
            let (start, end) = masked.original(at, at + words.len());
            &reply[start..end]
        };
        assert_eq!((place("gone"), place("550 <"), place("x.ex")), ("gone", "550 <", "someone.long@domain.example"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a@.é< ]{0,40}") {
            let masked = Masked::new(&text);
            for at in 0..=masked.text().len() {
                let (start, end) = masked.original(at, masked.text().len());
                prop_assert!(start <= end && end == text.len());
            }
        }
    }
}
