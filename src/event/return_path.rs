//! The signed return path: a report that comes back to it proves which recipient of which message it is about.
//!
//! The local part is `b+` and a token: base32 (lower case, no padding) of a version octet, the message id (8 octets,
//! big-endian), the recipient's index (2) and the first 12 octets of an HMAC-SHA256 over these and the store's id: 40
//! octets in all, of 64 that a local part may have. Promises: what [`mint`] makes, [`verify`] takes, with any key that is
//! still configured and however the letters' case was changed on the way; what was not made with one of the keys for
//! this store is refused (but for one chance in 2^96).

use ring::hmac;

use super::{MessageId, StoreId};

/// What the local part begins with. `cb-` is taken too: for domains where `+` does not pass.
const PREFIXES: [&str; 2] = ["b+", "cb-"];

const VERSION: u8 = 1;
const CLAIM: usize = 1 + 8 + 2;
const MAC: usize = 12;

/// The domain and keys of `<return-path-token>`.
#[derive(Debug, Clone, Copy)]
pub struct TokenKeys<'k> {
    /// Domain of the return path.
    pub domain: &'k str,
    /// (key id, secret). The first signs, all verify; the ids are for people only and may be empty.
    pub keys: &'k [(String, Vec<u8>)],
}

/// The return path of one recipient; `None` when no key is configured.
pub fn mint(keys: TokenKeys<'_>, store: StoreId, message: MessageId, rcpt: u16) -> Option<String> {
    let (_, secret) = keys.keys.first()?;
    let claim = claim(message, rcpt);
    let mut token = [0; CLAIM + MAC];
    token[..CLAIM].copy_from_slice(&claim);
    token[CLAIM..].copy_from_slice(&mac(secret, store, &claim)[..MAC]);
    let mut address = String::with_capacity(48 + keys.domain.len());
    address.push_str(PREFIXES[0]);
    data_encoding::BASE32_NOPAD.encode_append(&token, &mut address);
    address.make_ascii_lowercase();
    address.push('@');
    address.push_str(keys.domain);
    Some(address)
}

/// Which recipient of which message the address was made for; `None` when it was not made by us.
pub fn verify(keys: TokenKeys<'_>, store: StoreId, address: &str) -> Option<(MessageId, u16)> {
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    let (local, domain) = address.rsplit_once('@')?;
    if !domain.strip_suffix('.').unwrap_or(domain).eq_ignore_ascii_case(keys.domain) || local.len() > 64 {
        return None;
    }
    let text = PREFIXES.iter().find_map(|prefix| {
        let start = local.get(..prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then(|| &local[prefix.len()..])
    })?;
    let token = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    let token: &[u8; CLAIM + MAC] = token.as_slice().try_into().ok()?;
    let (claim, given) = token.split_at(CLAIM);
    let genuine = keys.keys.iter().any(|(_, secret)| {
        // All octets are compared whatever differs, so that a token can't be guessed octet by octet.
        mac(secret, store, claim).iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    });
    if !genuine || claim[0] != VERSION {
        return None;
    }
    let message = u64::from_be_bytes(claim[1..9].try_into().ok()?);
    let rcpt = u16::from_be_bytes(claim[9..11].try_into().ok()?);
    Some((MessageId(message), rcpt))
}

fn claim(message: MessageId, rcpt: u16) -> [u8; CLAIM] {
    let mut claim = [VERSION; CLAIM];
    claim[1..9].copy_from_slice(&message.0.to_be_bytes());
    claim[9..].copy_from_slice(&rcpt.to_be_bytes());
    claim
}

fn mac(secret: &[u8], store: StoreId, claim: &[u8]) -> [u8; 32] {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signing.update(&store.0.to_be_bytes());
    signing.update(claim);
    let mut out = [0; 32];
    out.copy_from_slice(signing.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Address;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId(0xfeed);

    fn keys(secrets: &[&str]) -> Vec<(String, Vec<u8>)> {
        secrets.iter().map(|s| (String::new(), s.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_address_is_valid_and_fits_a_local_part() {
        let keys = keys(&["k"]);
        let keys = TokenKeys { domain: "bounce.example", keys: &keys };
        let address = mint(keys, STORE, MessageId(u64::MAX), u16::MAX).unwrap();
        assert_eq!(Address::parse(&address).unwrap().local().len(), 39);
        assert_eq!(verify(keys, STORE, &address), Some((MessageId(u64::MAX), u16::MAX)));
        assert_eq!(verify(keys, STORE, &address.to_uppercase()), Some((MessageId(u64::MAX), u16::MAX)));
        assert_eq!(verify(keys, STORE, &format!("<{}>", address.replace("b+", "cb-"))).map(|v| v.1), Some(u16::MAX));
        assert_eq!(verify(keys, StoreId(1), &address), None, "another store's");
        assert_eq!(verify(keys, STORE, &address.replace("bounce", "other")), None);
        assert_eq!(mint(TokenKeys { keys: &[], ..keys }, STORE, MessageId(1), 0), None);
    }

    #[test]
    fn an_old_key_still_verifies_and_a_removed_one_does_not() {
        let (old, both, new) = (keys(&["old"]), keys(&["new", "old"]), keys(&["new"]));
        let with = |keys| TokenKeys { domain: "b.example", keys };
        let address = mint(with(&old), STORE, MessageId(5), 3).unwrap();
        assert_eq!(verify(with(&both), STORE, &address), Some((MessageId(5), 3)));
        assert_eq!(verify(with(&new), STORE, &address), None);
    }

    proptest! {
        #[test]
        fn a_token_that_was_tampered_with_is_refused(message: u64, rcpt: u16, at in 2usize..39, with in "[a-z2-7]") {
            let keys = keys(&["k"]);
            let keys = TokenKeys { domain: "b.example", keys: &keys };
            let mut address = mint(keys, STORE, MessageId(message), rcpt).unwrap();
            prop_assert_eq!(verify(keys, STORE, &address), Some((MessageId(message), rcpt)));
            let before = address.clone();
            address.replace_range(at..=at, &with);
            // The last letter has bits that stand for nothing and must be zero.
            prop_assert_eq!(verify(keys, STORE, &address).is_some(), address == before);
        }

        #[test]
        fn no_text_makes_verifying_panic(s in "\\PC{0,80}") {
            let keys = keys(&["k"]);
            let _ = verify(TokenKeys { domain: "b.example", keys: &keys }, STORE, &format!("b+{s}@b.example"));
        }
    }
}
