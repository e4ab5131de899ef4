//! The signed token in a header field of the message: it comes back in the copy that a complaint returns, also where
//! the provider has blotted out every address.
//!
//! Two forms, both base32 (lower case, no padding), so that no change of letters' case and no folding breaks them:
//! signed, the version octet 0x11, the name of the key (2 octets), message id (8), recipient's index (2) and 16 octets of
//! an HMAC-SHA256 over these and the store's id; encrypted, the version octet 0x12, the name of the key, a nonce (12) and
//! message id and index under ChaCha20-Poly1305 (10 and 16 octets), with what stands in front and the store's id as
//! associated data. The nonce is an HMAC of what is encrypted, so it repeats only with it: minting needs no random
//! numbers, and a message that is sent again has the same token. Encrypted, nobody can tell from it how many messages we
//! send, or that two of them belong together.

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};

use super::token_key::{TAG, TokenKey, named, same, signing};
use super::{MessageId, StoreId, Time};

const SIGNED: u8 = 0x11;
const ENCRYPTED: u8 = 0x12;
const HEAD: usize = 1 + TAG;
const WHAT: usize = 8 + 2;
const MAC: usize = 16;
const NONCE: usize = 12;
/// Letters of the longest token, and some white space.
const MAX_LETTERS: usize = 200;

/// The value of the header field for one recipient; `None` when no key holds.
pub fn mint(
    keys: &[TokenKey],
    now: Time,
    encrypted: bool,
    store: StoreId,
    (message, rcpt): (MessageId, u16),
) -> Option<String> {
    let key = signing(keys, now)?;
    let mut what = [0; WHAT];
    what[..8].copy_from_slice(&message.0.to_be_bytes());
    what[8..].copy_from_slice(&rcpt.to_be_bytes());
    let mut token = Vec::with_capacity(HEAD + NONCE + WHAT + MAC);
    token.push(if encrypted { ENCRYPTED } else { SIGNED });
    token.extend_from_slice(&key.tag());
    if encrypted {
        let nonce = nonce(key, store, &what);
        let (aad, cipher) = (aad(&token, store), cipher(key, store)?);
        token.extend_from_slice(&nonce);
        let mut sealed = what.to_vec();
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed).ok()?;
        token.extend_from_slice(&sealed);
    } else {
        token.extend_from_slice(&what);
        let mac = key.mac(store, &token);
        token.extend_from_slice(&mac[..MAC]);
    }
    let mut text = data_encoding::BASE32_NOPAD.encode(&token);
    text.make_ascii_lowercase();
    Some(text)
}

/// Which recipient of which message the value was made for, in either form; `None` when it was not made by us.
pub fn verify(keys: &[TokenKey], now: Time, store: StoreId, value: &str) -> Option<(MessageId, u16)> {
    if value.len() > MAX_LETTERS {
        return None;
    }
    let letters: Vec<u8> = value.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b.to_ascii_uppercase()).collect();
    let token = data_encoding::BASE32_NOPAD.decode(&letters).ok()?;
    let (head, rest) = token.split_at_checked(HEAD)?;
    let mut keys = named(keys, [head[1], head[2]], now);
    let what: [u8; WHAT] = match head[0] {
        SIGNED if rest.len() == WHAT + MAC => {
            let (claim, given) = token.split_at(HEAD + WHAT);
            keys.find(|key| same(&key.mac(store, claim), given))?;
            rest[..WHAT].try_into().ok()?
        }
        ENCRYPTED if rest.len() == NONCE + WHAT + MAC => keys.find_map(|key| open(key, store, head, rest))?,
        _ => return None,
    };
    let (message, rcpt) = what.split_first_chunk::<8>()?;
    Some((MessageId(u64::from_be_bytes(*message)), u16::from_be_bytes(rcpt.try_into().ok()?)))
}

fn open(key: &TokenKey, store: StoreId, head: &[u8], rest: &[u8]) -> Option<[u8; WHAT]> {
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(key, store)?.open_in_place(nonce, Aad::from(aad(head, store)), &mut sealed).ok()?;
    (&*opened).try_into().ok()
}

fn nonce(key: &TokenKey, store: StoreId, what: &[u8]) -> [u8; NONCE] {
    let mac = key.mac(store, &[b"nonce of a header token", what].concat());
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&mac[..NONCE]);
    nonce
}

/// A key of its own, so that the secret is never used for two purposes.
fn cipher(key: &TokenKey, store: StoreId) -> Option<LessSafeKey> {
    let derived = key.mac(store, b"cipher of a header token");
    UnboundKey::new(&aead::CHACHA20_POLY1305, &derived).ok().map(LessSafeKey::new)
}

fn aad(head: &[u8], store: StoreId) -> [u8; HEAD + 8] {
    let mut aad = [0; HEAD + 8];
    aad[..HEAD].copy_from_slice(head);
    aad[HEAD..].copy_from_slice(&store.0.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId(0xfeed);
    const NOW: Time = Time(1_000);

    fn key(id: &str) -> TokenKey {
        TokenKey { id: id.into(), secret: id.as_bytes().to_vec(), until: None }
    }

    #[test]
    fn both_forms_survive_folding_and_a_change_of_case_and_name_their_key() {
        let keys = [key("new"), TokenKey { until: Some(Time(2_000)), ..key("old") }];
        for encrypted in [false, true] {
            let token = mint(&keys[1..], NOW, encrypted, STORE, (MessageId(7), 3)).unwrap();
            assert!(token.len() <= 66 && token.bytes().all(|b| b.is_ascii_alphanumeric()), "{token}");
            let folded = format!(" {}\r\n\t{}", token[..20].to_uppercase(), &token[20..]);
            assert_eq!(verify(&keys, NOW, STORE, &folded), Some((MessageId(7), 3)));
            assert_eq!(verify(&keys, Time(2_000), STORE, &token), None, "its time is over");
            assert_eq!(verify(&keys[..1], NOW, STORE, &token), None, "it was removed");
            assert_eq!(verify(&keys, NOW, StoreId(1), &token), None, "another store's");
        }
    }

    #[test]
    fn an_encrypted_token_tells_nothing_and_is_the_same_when_it_is_made_again() {
        let keys = [key("k")];
        let make = |n| mint(&keys, NOW, true, STORE, (MessageId(n), 0)).unwrap();
        assert_eq!(make(1), make(1));
        let (one, two) = (make(1), make(2));
        // The key's name is in front of both; behind it nothing is alike.
        let alike = one.bytes().zip(two.bytes()).skip(6).filter(|(a, b)| a == b).count();
        assert!(alike < 15, "{one} {two}");
    }

    proptest! {
        #[test]
        fn a_token_that_was_tampered_with_is_refused(message: u64, rcpt: u16, encrypted: bool, at in 0usize..66, by in "[a-z2-7]") {
            let keys = [key("k")];
            let token = mint(&keys, NOW, encrypted, STORE, (MessageId(message), rcpt)).unwrap();
            prop_assert_eq!(verify(&keys, NOW, STORE, &token), Some((MessageId(message), rcpt)));
            let mut other = token.clone();
            let at = at % token.len();
            other.replace_range(at..=at, &by);
            prop_assert_eq!(verify(&keys, NOW, STORE, &other).is_some(), token == other);
        }

        #[test]
        fn no_text_makes_verifying_panic(s in "\\PC{0,100}", t in "[a-z2-7]{40,70}") {
            let keys = [key("k")];
            let _ = verify(&keys, NOW, STORE, &s);
            prop_assert_eq!(verify(&keys, NOW, STORE, &t), None);
        }
    }
}
