//! The token of an unsubscribe link: who leaves which list, sealed so that only we can make it or read it.
//!
//! It carries all that the unsubscription needs, so that a link works for as long as its key does, also after the send
//! index has forgotten the message, and on every node that has the key. Since links end up in the logs of others, the
//! address in it is encrypted.
//!
//! Base32 (lower case, no padding), as the other tokens are: no change of letters' case and no folding breaks it, in a
//! URL or in the subject of a mail. Its octets: the version 0x21, the name of the key (2), a nonce (12), and under
//! ChaCha20-Poly1305 (16 more), with what stands in front as associated data: the store's id (8, big-endian), message id,
//! recipient's index and the second in which the message was spooled (LEB128), then recipient, list, sender and job, each
//! with its length in front. The nonce is an HMAC of what is encrypted: it repeats only with it, and a message that is
//! sent again has the same link. Promises: at most [`MAX_LETTERS`] letters; what [`mint`] makes, [`verify`] takes while
//! the key holds; anything else is refused (but for one chance in 2^128).

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};

use super::leb128::{put_number, put_str, take_number, take_str};
use super::token_key::{TAG, TokenKey, named, signing};
use super::{Event, Kind, MessageId, StoreId, Time};

/// Letters of the longest token: with the URL before it, it fits a line of 998 octets (RFC 5322, 2.1.1).
pub const MAX_LETTERS: usize = 768;
/// Bytes of the longest name of a list.
pub const MAX_LIST: usize = 100;

const VERSION: u8 = 0x21;
const HEAD: usize = 1 + TAG;
const NONCE: usize = 12;
const MAC: usize = 16;
/// Octets under the encryption.
const MAX_CLAIM: usize = MAX_LETTERS * 5 / 8 - HEAD - NONCE - MAC;
/// Letters of the shortest that could be one.
const MIN_LETTERS: usize = 60;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscription {
    /// Whose message it was in.
    pub store: StoreId,
    /// The message.
    pub message: MessageId,
    /// Which of its recipients.
    pub rcpt_index: u16,
    /// When it was spooled, to the second.
    pub time_queued: Time,
    /// Who leaves.
    pub rcpt: String,
    /// Which list.
    pub list: String,
    /// The message's envelope sender; empty where it would not have fitted.
    pub orig: String,
    /// Its job; empty where it would not have fitted.
    pub job: String,
}

/// `feedbackType` of somebody who has unsubscribed (the registry of RFC 5965, 7.3: `opt-out-list` is about one list).
pub const FEEDBACK_TYPE: &str = "opt-out-list";
/// `format` of somebody who has unsubscribed.
pub const FORMAT: &str = "unsubscribe";

/// How somebody unsubscribed; `userAgent` of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The mail program did, by the header field (RFC 8058).
    OneClick,
    /// By the button on the page.
    Page,
    /// By mail.
    Mail,
}

impl Way {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Way::OneClick => "one-click",
            Way::Page => "page",
            Way::Mail => "mail",
        }
    }
}

impl Unsubscription {
    /// The event of an unsubscription that came to `store`. The message is named only where it is one of that store's.
    pub fn event(&self, store: StoreId, way: Way, now: Time) -> Event<'_> {
        let ours = self.store == store;
        Event {
            message: if ours { self.message } else { MessageId(0) },
            rcpt_index: if ours { self.rcpt_index } else { 0 },
            orig: &self.orig,
            rcpt: &self.rcpt,
            job: &self.job,
            list: &self.list,
            provider: self.rcpt.rsplit_once('@').map_or("", |(_, domain)| domain),
            time_sent: self.time_queued,
            format: FORMAT,
            feedback_type: FEEDBACK_TYPE,
            attributed_by: "header-token",
            user_agent: way.name(),
            ..Event::new(Kind::Feedback, now)
        }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let texts = [&self.rcpt, &self.list, &self.orig, &self.job];
        // What accounting alone would miss is left out first.
        [4, 3, 2].into_iter().find_map(|kept| {
            let mut out = self.store.0.to_be_bytes().to_vec();
            put_number(&mut out, self.message.0);
            put_number(&mut out, self.rcpt_index.into());
            put_number(&mut out, u64::try_from(self.time_queued.secs()).unwrap_or(0));
            texts.iter().take(kept).for_each(|text| put_str(&mut out, text));
            (out.len() <= MAX_CLAIM).then_some(out)
        })
    }

    fn decode(mut bytes: &[u8]) -> Option<Unsubscription> {
        let b = &mut bytes;
        let (store, rest) = b.split_first_chunk::<8>()?;
        *b = rest;
        let message = MessageId(take_number(b)?);
        let rcpt_index = u16::try_from(take_number(b)?).ok()?;
        let time_queued = match i64::try_from(take_number(b)?).ok().filter(|secs| *secs < i64::from(u32::MAX))? {
            0 => Time::UNKNOWN,
            secs => Time::from_secs(secs),
        };
        let (rcpt, list) = (take_str(b)?.to_owned(), take_str(b)?.to_owned());
        let mut further = || take_str(b).unwrap_or_default().to_owned();
        let (orig, job) = (further(), further());
        Some(Unsubscription {
            store: StoreId(u64::from_be_bytes(*store)),
            message,
            rcpt_index,
            time_queued,
            rcpt,
            list,
            orig,
            job,
        })
    }
}

/// The token; `None` when no key holds, or when address and list are longer than mail allows.
pub fn mint(keys: &[TokenKey], now: Time, what: &Unsubscription) -> Option<String> {
    let key = signing(keys, now)?;
    let mut sealed = what.encode()?;
    let mut token = Vec::with_capacity(HEAD + NONCE + sealed.len() + MAC);
    token.push(VERSION);
    token.extend_from_slice(&key.tag());
    let nonce = nonce(key, &sealed);
    let head = Aad::from([token[0], token[1], token[2]]);
    token.extend_from_slice(&nonce);
    cipher(key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), head, &mut sealed).ok()?;
    token.extend_from_slice(&sealed);
    let mut text = data_encoding::BASE32_NOPAD.encode(&token);
    text.make_ascii_lowercase();
    Some(text)
}

/// What the token says, whatever the case of its letters; `None` when it was not made with one of these keys.
pub fn verify(keys: &[TokenKey], now: Time, token: &str) -> Option<Unsubscription> {
    if !is_likely(token) {
        return None;
    }
    let token = data_encoding::BASE32_NOPAD.decode(token.to_ascii_uppercase().as_bytes()).ok()?;
    let (head, rest) = token.split_first_chunk::<HEAD>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    if head[0] != VERSION {
        return None;
    }
    named(keys, [head[1], head[2]], now).find_map(|key| {
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = cipher(key)?.open_in_place(nonce, Aad::from(*head), &mut sealed).ok()?;
        Unsubscription::decode(opened)
    })
}

/// Whether a word looks like a token; most of what is not one is told by that.
pub fn is_likely(word: &str) -> bool {
    (MIN_LETTERS..=MAX_LETTERS).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b))
}

/// All nodes that have the key know each other's links: no store's id is mixed in here.
const NO_STORE: StoreId = StoreId(0);

fn nonce(key: &TokenKey, claim: &[u8]) -> [u8; NONCE] {
    let mac = key.mac(NO_STORE, &[b"nonce of an unsubscribe token", claim].concat());
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&mac[..NONCE]);
    nonce
}

/// A key of its own, so that the secret is never used for two purposes.
fn cipher(key: &TokenKey) -> Option<LessSafeKey> {
    let derived = key.mac(NO_STORE, b"cipher of an unsubscribe token");
    UnboundKey::new(&aead::CHACHA20_POLY1305, &derived).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(1_000);

    fn key(id: &str) -> TokenKey {
        TokenKey { id: id.into(), secret: id.as_bytes().to_vec(), until: None }
    }

    fn ann() -> Unsubscription {
        Unsubscription {
            store: StoreId(0xfeed),
            message: MessageId(7),
            rcpt_index: 3,
            time_queued: Time::from_secs(1_800_000_000),
            rcpt: "ann@example.net".into(),
            list: "weekly".into(),
            orig: "news@example.com".into(),
            job: "spring".into(),
        }
    }

    #[test]
    fn a_link_says_who_leaves_which_list_and_hides_both() {
        let keys = [key("k")];
        let token = mint(&keys, NOW, &ann()).unwrap();
        assert!(token.len() < 170 && token.bytes().all(|b| b.is_ascii_alphanumeric()), "{token}");
        assert_eq!(verify(&keys, NOW, &token), Some(ann()));
        assert_eq!(verify(&keys, NOW, &token.to_uppercase()), Some(ann()));
        assert_eq!(mint(&keys, NOW, &ann()).unwrap(), token, "the same when the message is sent again");
        let octets = data_encoding::BASE32_NOPAD.decode(token.to_uppercase().as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&octets);
        assert!(!text.contains("ann") && !text.contains("weekly"), "{text}");
        let other = mint(&keys, NOW, &Unsubscription { rcpt_index: 4, ..ann() }).unwrap();
        // The key's name is in front of both; behind it nothing is alike.
        let alike = token.bytes().zip(other.bytes()).skip(6).filter(|(a, b)| a == b).count();
        assert!(alike < 25, "{token} {other}");
    }

    #[test]
    fn links_outlive_a_change_of_keys_until_the_old_one_ends_or_is_removed() {
        let old = mint(&[key("old")], NOW, &ann()).unwrap();
        let both = [key("new"), TokenKey { until: Some(Time(2_000)), ..key("old") }];
        assert_eq!(verify(&both, NOW, &old), Some(ann()));
        assert_eq!(verify(&both, Time(2_000), &old), None, "its time is over");
        assert_eq!(verify(&both[..1], NOW, &old), None, "it was removed");
        let new = mint(&both, NOW, &ann()).unwrap();
        assert_eq!(verify(&both[1..], NOW, &new), None, "made with the new one");
        // Another secret under the same name is another key.
        let swapped = TokenKey { secret: b"other".to_vec(), ..key("new") };
        assert_eq!(verify(&[swapped], NOW, &new), None);
        assert_eq!(mint(&[], NOW, &ann()), None);
    }

    #[test]
    fn the_longest_addresses_still_fit_and_only_accounting_misses_something() {
        let keys = [key("k")];
        let long = Unsubscription {
            rcpt: format!("{}@{}.example", "x".repeat(64), "y".repeat(240)),
            list: "l".repeat(MAX_LIST),
            orig: format!("{}@z.example", "o".repeat(64)),
            job: "j".repeat(255),
            message: MessageId(u64::MAX),
            ..ann()
        };
        let token = mint(&keys, NOW, &long).unwrap();
        assert!(token.len() <= MAX_LETTERS, "{}", token.len());
        let said = verify(&keys, NOW, &token).unwrap();
        assert_eq!((said.rcpt, said.list, said.orig.as_str(), said.job.as_str()), (long.rcpt, long.list, "", ""));
    }

    proptest! {
        #[test]
        fn what_was_made_is_taken_and_what_was_tampered_with_is_not(
            rcpt in "\\PC{0,60}", list in "[a-z.-]{0,100}", message: u64, index: u16, at: usize, by in "[a-z2-7]", cut: usize,
        ) {
            let keys = [key("k")];
            let what = Unsubscription { rcpt, list, message: MessageId(message), rcpt_index: index, ..ann() };
            let token = mint(&keys, NOW, &what).unwrap();
            prop_assert!(token.len() <= MAX_LETTERS);
            prop_assert_eq!(verify(&keys, NOW, &token), Some(what));
            let mut other = token.clone();
            let at = at % token.len();
            other.replace_range(at..=at, &by);
            prop_assert_eq!(verify(&keys, NOW, &other).is_some(), token == other);
            prop_assert_eq!(verify(&keys, NOW, &token[..cut % token.len()]), None);
            prop_assert_eq!(verify(&[key("another")], NOW, &token), None);
        }

        #[test]
        fn no_text_makes_verifying_panic(s in "\\PC{0,100}", t in "[a-z2-7]{40,300}") {
            let keys = [key("k")];
            prop_assert_eq!(verify(&keys, NOW, &s), None);
            prop_assert_eq!(verify(&keys, NOW, &t), None);
        }
    }
}
