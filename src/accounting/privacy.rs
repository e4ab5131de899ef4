//! `privacy-policy`: recipients' local parts out of records (reference/accounting.md, section 6). Pure.
//!
//! The local part, lower-cased, is replaced in `rcpt` and in ORCPT, wherever it stands as a word of its own in the reply,
//! in the VERP form `LOCAL=DOMAIN` of an originator, and in headers and report fields that hold the recipient's
//! address. The digests are those of `carom digest`: upper-case hexadecimal, and of SipHash the least significant byte
//! first.

use std::hash::Hasher as _;

use data_encoding::HEXUPPER;
use siphasher::sip::SipHasher24;

use crate::config::{AcctFile, Privacy};
use crate::event::record::PairsBuf;
use crate::event::{Event, Pairs};

/// What the local part `local` is replaced with; nothing when it is retained.
pub fn digest(policy: &Privacy, local: &str) -> Option<String> {
    let local = local.to_lowercase();
    Some(match policy {
        Privacy::Retain => return None,
        Privacy::Redact(text) => text.clone(),
        Privacy::SipHash(key) => {
            let mut hash = SipHasher24::new_with_key(key);
            hash.write(local.as_bytes());
            HEXUPPER.encode(&hash.finish().to_le_bytes())
        }
        Privacy::HmacSha256(key) => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
            HEXUPPER.encode(ring::hmac::sign(&key, local.as_bytes()).as_ref())
        }
    })
}

/// What an acct-file does with the addresses of its records.
#[derive(Debug)]
pub struct Mask<'f> {
    file: &'f AcctFile,
}

impl<'f> Mask<'f> {
    /// Of this acct-file; `None` when it retains them.
    pub fn of(file: &'f AcctFile) -> Option<Mask<'f>> {
        (file.privacy_policy != Privacy::Retain).then_some(Mask { file })
    }

    /// Runs `f` on the events as they may be seen.
    pub fn over<R>(mask: Option<&Mask<'_>>, events: &[Event<'_>], f: impl FnOnce(&[Event<'_>]) -> R) -> R {
        let Some(mask) = mask else { return f(events) };
        let texts: Vec<Masked> = events.iter().map(|e| mask.texts(e)).collect();
        let seen: Vec<Event<'_>> = events.iter().zip(&texts).map(|(e, t)| t.over(e)).collect();
        f(&seen)
    }

    fn texts(&self, event: &Event<'_>) -> Masked {
        // A recipient that a header is to stand in for is hidden like any other.
        let mapped = self.file.map_header_to_field.iter().filter(|m| m.kind == event.kind && m.field == "rcpt");
        let rcpt = mapped.into_iter().find_map(|m| event.headers.get(&m.header)).unwrap_or(event.rcpt);
        let known = self.whole(rcpt);
        let pairs = |pairs: Pairs<'_>| {
            let mut out = PairsBuf::default();
            for (name, value) in pairs.iter() {
                let names_recipient =
                    ["original-rcpt-to", "original-recipient", "final-recipient", "removal-recipient"]
                        .iter()
                        .any(|n| name.eq_ignore_ascii_case(n));
                out.push(name, &if names_recipient { self.address(value) } else { known.in_text(value) });
            }
            out
        };
        Masked {
            rcpt: self.address(event.rcpt),
            orcpt: self.address(event.orcpt),
            diag: known.in_reply(event.diag),
            orig: known.in_originator(event.orig),
            headers: pairs(event.headers),
            arf: pairs(event.arf),
        }
    }

    /// An address, whatever stands before it (`rfc822;`) or around it (`<`, `>`).
    fn address(&self, text: &str) -> String {
        let start = text.find([';', '<']).map_or(0, |at| at + 1);
        let (before, address) = text.split_at(start);
        let local = address.rsplit_once('@').map_or(address, |(l, _)| l);
        let trimmed = local.trim();
        if trimmed.is_empty() {
            return text.to_owned();
        }
        let hidden = digest(&self.file.privacy_policy, trimmed).unwrap_or_default();
        format!("{before}{hidden}{}", &address[local.len()..])
    }

    fn whole<'r>(&self, rcpt: &'r str) -> Known<'r> {
        let (local, domain) = rcpt.rsplit_once('@').unwrap_or((rcpt, ""));
        Known { local, domain, hidden: digest(&self.file.privacy_policy, local).unwrap_or_default() }
    }
}

/// The recipient of an event, and what takes the place of its local part.
struct Known<'r> {
    local: &'r str,
    domain: &'r str,
    hidden: String,
}

impl Known<'_> {
    /// Wherever the local part is a word of its own.
    fn in_reply(&self, text: &str) -> String {
        replaced(text, self.local, "", &self.hidden)
    }

    /// Where it stands before the recipient's domain: as an address, or in VERP form.
    fn in_text(&self, text: &str) -> String {
        if self.domain.is_empty() {
            return replaced(text, self.local, "", &self.hidden);
        }
        let text = replaced(text, self.local, &format!("@{}", self.domain), &self.hidden);
        self.in_originator(&text)
    }

    /// In VERP form: `bounces+LOCAL=DOMAIN@sender.example`.
    fn in_originator(&self, text: &str) -> String {
        if self.domain.is_empty() {
            return text.to_owned();
        }
        replaced(text, self.local, &format!("={}", self.domain), &self.hidden)
    }
}

/// `text` with each `word` that is followed by `tail`, and not part of a longer word, replaced; ASCII letters of both
/// cases are the same.
fn replaced(text: &str, word: &str, tail: &str, with: &str) -> String {
    if word.is_empty() {
        return text.to_owned();
    }
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let found = starts_with(rest, word) && starts_with(&rest[word.len()..], tail);
        let after = if found { rest[word.len() + tail.len()..].chars().next() } else { None };
        if found && !inside(before) && !inside(after) {
            out.push_str(with);
            before = word.chars().next_back();
            rest = &rest[word.len()..];
        } else {
            out.push(first);
            before = Some(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word))
}

/// The texts of one event with what is hidden replaced.
#[derive(Debug)]
struct Masked {
    rcpt: String,
    orcpt: String,
    diag: String,
    orig: String,
    headers: PairsBuf,
    arf: PairsBuf,
}

impl Masked {
    fn over<'a>(&'a self, event: &Event<'a>) -> Event<'a> {
        Event {
            rcpt: &self.rcpt,
            orcpt: &self.orcpt,
            diag: &self.diag,
            orig: &self.orig,
            headers: self.headers.as_pairs(),
            arf: self.arf.as_pairs(),
            ..*event
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AcctFormat, HeaderToField};
    use crate::event::{Kind, Time};

    fn siphash(key: &[u8]) -> Privacy {
        let mut padded = [0; 16];
        padded[..key.len()].copy_from_slice(key);
        Privacy::SipHash(padded)
    }

    /// The vectors of reference/commands.md, 4.6.
    #[test]
    fn digests_are_those_that_powermta_prints() {
        assert_eq!(digest(&siphash(b"secret"), "jane").unwrap(), "005E1B17129FD45F");
        assert_eq!(digest(&siphash(&[0, 0xff, 0x10]), "JANE").unwrap(), "43E68EDFC79C9B7A");
        assert_eq!(
            digest(&Privacy::HmacSha256(b"secret".to_vec()), "Jane").unwrap(),
            "E54C7B107098BA9D8DA6C367884810500349B64AF8ED0AF4FC758830C2BACD81"
        );
        assert_eq!(digest(&Privacy::Redact("...".into()), "jane").unwrap(), "...");
        assert_eq!(digest(&Privacy::Retain, "jane"), None);
    }

    #[test]
    fn the_local_part_is_gone_from_address_reply_and_verp_and_the_domain_stays() {
        let mut file = AcctFile::new("a.csv".into(), AcctFormat::Csv);
        file.privacy_policy = Privacy::Redact("X".into());
        let (mut headers, mut arf) = (PairsBuf::default(), PairsBuf::default());
        headers.push("To", "\"Ann\" <Ann.Lee@example.net>");
        headers.push("List-Unsubscribe", "<mailto:u+ann.lee=example.net@example.com>");
        headers.push("Subject", "to ann.lee");
        arf.push("Original-Rcpt-To", "<Ann.Lee@example.net>");
        arf.push("Feedback-Type", "abuse");
        let event = Event {
            rcpt: "Ann.Lee@example.net",
            orcpt: "rfc822;Ann.Lee@example.net",
            orig: "bounces+ann.lee=example.net@example.com",
            diag: "smtp;550 5.1.1 <ANN.LEE@example.net>: no ann.lee here, nor joann.lee, nor ann.leeds",
            headers: headers.as_pairs(),
            arf: arf.as_pairs(),
            ..Event::new(Kind::Bounced, Time(1))
        };
        Mask::over(Mask::of(&file).as_ref(), &[event], |seen| {
            let e = &seen[0];
            assert_eq!((e.rcpt, e.orcpt), ("X@example.net", "rfc822;X@example.net"));
            assert_eq!(e.orig, "bounces+X=example.net@example.com");
            assert_eq!(e.diag, "smtp;550 5.1.1 <X@example.net>: no X here, nor joann.lee, nor ann.leeds");
            assert_eq!(e.headers.get("to"), Some("\"Ann\" <X@example.net>"));
            assert_eq!(e.headers.get("list-unsubscribe"), Some("<mailto:u+X=example.net@example.com>"));
            assert_eq!(e.arf.get("original-rcpt-to"), Some("<X@example.net>"));
            assert_eq!(e.arf.get("feedback-type"), Some("abuse"));
        });
        // The same name at another domain is the sender's own.
        let own = Event { rcpt: "news@example.net", orig: "news@example.com", ..Event::new(Kind::Delivered, Time(1)) };
        Mask::over(Mask::of(&file).as_ref(), &[own], |seen| assert_eq!(seen[0].orig, "news@example.com"));
        let none = Event::new(Kind::Feedback, Time(1));
        Mask::over(Mask::of(&file).as_ref(), &[none], |seen| assert_eq!(seen[0], none));
    }

    #[test]
    fn a_recipient_that_a_header_stands_in_for_is_hidden_too() {
        let mut file = AcctFile::new("a.csv".into(), AcctFormat::Csv);
        file.privacy_policy = siphash(b"secret");
        file.map_header_to_field =
            vec![HeaderToField { kind: Kind::Feedback, header: "X-HmXmrOriginalRecipient".into(), field: "rcpt" }];
        let mut headers = PairsBuf::default();
        headers.push("x-hmxmroriginalrecipient", "jane@hotmail.example");
        let event = Event { headers: headers.as_pairs(), ..Event::new(Kind::Feedback, Time(1)) };
        Mask::over(Mask::of(&file).as_ref(), &[event], |seen| {
            assert_eq!(seen[0].headers.get("X-HmXmrOriginalRecipient"), Some("005E1B17129FD45F@hotmail.example"));
        });
    }
}
