//! Keys of the signed tokens by which a report proves which send it is about.
//!
//! Keys have ids and are replaced while old tokens are still under way: the first key in the configuration whose time
//! is not over signs, every key whose time is not over verifies. A token names the key it was made with by the first two
//! octets of the SHA-256 of the id.

use ring::{digest, hmac};

use super::{StoreId, Time};

/// One key of `<return-path-token>`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// As the operator calls it.
    pub id: String,
    /// What nobody else knows.
    pub secret: Vec<u8>,
    /// From then on it is as if the key were not there; `None`: it stays.
    pub until: Option<Time>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).field("until", &self.until).finish_non_exhaustive()
    }
}

/// How the key is named in a token.
pub(super) const TAG: usize = 2;

impl TokenKey {
    /// Whether it holds at this time.
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    pub(super) fn tag(&self) -> [u8; TAG] {
        let digest = digest::digest(&digest::SHA256, self.id.as_bytes());
        [digest.as_ref()[0], digest.as_ref()[1]]
    }

    /// HMAC-SHA256 over the store's id and these octets.
    pub(super) fn mac(&self, store: StoreId, claim: &[u8]) -> [u8; 32] {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret));
        signing.update(&store.0.to_be_bytes());
        signing.update(claim);
        let mut out = [0; 32];
        out.copy_from_slice(signing.sign().as_ref());
        out
    }
}

/// The key that signs: the first that holds.
pub(super) fn signing(keys: &[TokenKey], now: Time) -> Option<&TokenKey> {
    keys.iter().find(|key| key.holds(now))
}

/// The keys by which a token may have been made that names its key so.
pub(super) fn named(keys: &[TokenKey], tag: [u8; TAG], now: Time) -> impl Iterator<Item = &TokenKey> {
    keys.iter().filter(move |key| key.holds(now) && key.tag() == tag)
}

/// Compares all octets whatever differs, so that a token can't be guessed octet by octet. `given` may be shorter.
pub(super) fn same(made: &[u8], given: &[u8]) -> bool {
    made.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
