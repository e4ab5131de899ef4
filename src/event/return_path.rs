//! The signed return path: a report that comes back to it proves which recipient of which message it is about.
//!
//! The local part is `b+` and a token: base32 (lower case, no padding) of a version octet, the name of the key (2
//! octets), the message id (8, big-endian), the recipient's index (2) and the first 12 octets of an HMAC-SHA256 over
//! these and the store's id: 42 octets in all, of 64 that a local part may have. Promises: what [`mint`] makes,
//! [`verify`] takes, with any key that still holds and however the letters' case was changed on the way; what was not
//! made with one of the keys for this store is refused (but for one chance in 2^96).

use super::token_key::{TAG, TokenKey, named, same, signing};
use super::{MessageId, StoreId, Time};

/// What the local part begins with. `cb-` is taken too: for domains where `+` does not pass.
const PREFIXES: [&str; 2] = ["b+", "cb-"];

const VERSION: u8 = 2;
const CLAIM: usize = 1 + TAG + 8 + 2;
const MAC: usize = 12;

/// The domain and keys of `<return-path-token>`.
#[derive(Debug, Clone, Copy)]
pub struct TokenKeys<'k> {
    /// Domain of the return path.
    pub domain: &'k str,
    /// The newest first.
    pub keys: &'k [TokenKey],
    /// Keys whose time is over by now count for nothing.
    pub now: Time,
}

/// The return path of one recipient; `None` when no key holds.
pub fn mint(keys: TokenKeys<'_>, store: StoreId, message: MessageId, rcpt: u16) -> Option<String> {
    let key = signing(keys.keys, keys.now)?;
    let mut token = [0; CLAIM + MAC];
    token[0] = VERSION;
    token[1..3].copy_from_slice(&key.tag());
    token[3..11].copy_from_slice(&message.0.to_be_bytes());
    token[11..CLAIM].copy_from_slice(&rcpt.to_be_bytes());
    let mac = key.mac(store, &token[..CLAIM]);
    token[CLAIM..].copy_from_slice(&mac[..MAC]);
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
    if claim[0] != VERSION {
        return None;
    }
    named(keys.keys, [claim[1], claim[2]], keys.now).find(|key| same(&key.mac(store, claim), given))?;
    let message = u64::from_be_bytes(claim[3..11].try_into().ok()?);
    let rcpt = u16::from_be_bytes(claim[11..].try_into().ok()?);
    Some((MessageId(message), rcpt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Address;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId(0xfeed);
    const NOW: Time = Time(1_000);

    fn key(id: &str) -> TokenKey {
        TokenKey { id: id.into(), secret: id.as_bytes().to_vec(), until: None }
    }

    fn with(keys: &[TokenKey]) -> TokenKeys<'_> {
        TokenKeys { domain: "bounce.example", keys, now: NOW }
    }

    #[test]
    fn the_address_is_valid_and_fits_a_local_part() {
        let list = [key("k")];
        let keys = with(&list);
        let address = mint(keys, STORE, MessageId(u64::MAX), u16::MAX).unwrap();
        assert_eq!(Address::parse(&address).unwrap().local().len(), 42);
        assert_eq!(verify(keys, STORE, &address), Some((MessageId(u64::MAX), u16::MAX)));
        assert_eq!(verify(keys, STORE, &address.to_uppercase()), Some((MessageId(u64::MAX), u16::MAX)));
        assert_eq!(verify(keys, STORE, &format!("<{}>", address.replace("b+", "cb-"))).map(|v| v.1), Some(u16::MAX));
        assert_eq!(verify(keys, StoreId(1), &address), None, "another store's");
        assert_eq!(verify(keys, STORE, &address.replace("bounce", "other")), None);
        assert_eq!(mint(with(&[]), STORE, MessageId(1), 0), None);
    }

    #[test]
    fn the_newest_key_signs_and_an_old_one_verifies_until_its_time_is_over_or_it_is_removed() {
        let old = mint(with(&[key("old")]), STORE, MessageId(5), 3).unwrap();
        let both = [key("new"), TokenKey { until: Some(Time(2_000)), ..key("old") }];
        assert_eq!(verify(with(&both), STORE, &old), Some((MessageId(5), 3)));
        assert_eq!(verify(TokenKeys { now: Time(2_000), ..with(&both) }, STORE, &old), None, "its time is over");
        assert_eq!(verify(with(&[key("new")]), STORE, &old), None, "it was removed");
        let new = mint(with(&both), STORE, MessageId(5), 3).unwrap();
        assert_eq!(verify(with(&[key("new")]), STORE, &new), Some((MessageId(5), 3)));
        let over = [TokenKey { until: Some(NOW), ..key("over") }, key("next")];
        let next = mint(with(&over), STORE, MessageId(5), 3).unwrap();
        assert!(verify(with(&[key("next")]), STORE, &next).is_some(), "a key whose time is over does not sign");
        assert_eq!(mint(with(&over[..1]), STORE, MessageId(5), 3), None);
    }

    proptest! {
        #[test]
        fn a_token_that_was_tampered_with_is_refused(message: u64, rcpt: u16, at in 2usize..42, by in "[a-z2-7]") {
            let list = [key("k")];
            let keys = with(&list);
            let mut address = mint(keys, STORE, MessageId(message), rcpt).unwrap();
            prop_assert_eq!(verify(keys, STORE, &address), Some((MessageId(message), rcpt)));
            let before = address.clone();
            address.replace_range(at..=at, &by);
            prop_assert_eq!(verify(keys, STORE, &address).is_some(), address == before);
        }

        #[test]
        fn no_text_makes_verifying_panic(s in "\\PC{0,80}") {
            let list = [key("k")];
            let _ = verify(with(&list), STORE, &format!("b+{s}@bounce.example"));
        }
    }
}
