//! Under what an entry of the list is kept: a hash of whom it is about, and for whose mail it counts.
//!
//! The first 16 bytes are those of SHA-256 over the folded subject (`local@domain`, or `@domain` for a whole domain);
//! with a `suppression-hash-key`, of HMAC-SHA-256 under that key, so that a stolen table can't be searched for known
//! addresses. A scope other than the global one adds eight bytes: its number and seven of SHA-256 over its name. So all
//! entries of one subject stand side by side, and a list of plain SHA-256 sums that others share can be looked up as it is.
//!
//! That two subjects share 128 bits is not expected in the life of any list.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::{digest, hmac};

use super::fold::Folding;
use crate::event::{AddressKey, Scope, ScopeKind};

/// Turns subjects into keys. Clones share how mailboxes are folded.
#[derive(Clone, Default)]
pub struct Hasher(Option<hmac::Key>, Arc<ArcSwap<Folding>>);

/// The hashed subject: an address or a domain, whatever the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(pub [u8; 16]);

/// The key of one entry; ordered by subject, then the global scope first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whom it is about.
    pub subject: SubjectKey,
    /// For whose mail it counts; zero is global.
    scope: [u8; 8],
}

impl Hasher {
    /// Keyed with the operator's `suppression-hash-key`.
    pub fn keyed(secret: &[u8]) -> Hasher {
        Hasher(Some(hmac::Key::new(hmac::HMAC_SHA256, secret)), Arc::default())
    }

    /// Folds mailboxes so from now on.
    pub fn set_folding(&self, folding: Folding) {
        if **self.1.load() != folding {
            self.1.store(Arc::new(folding));
        }
    }

    /// Under what all may stand that is about this mailbox: as it is spelt, as its provider folds it, its domain.
    pub fn subjects(&self, address: &AddressKey) -> impl Iterator<Item = SubjectKey> + Clone + use<> {
        let folded = self.1.load().fold(address);
        [Some(self.address(address)), folded.map(|f| self.address(&f)), Some(self.domain(address.domain()))]
            .into_iter()
            .flatten()
    }

    /// The mailbox that is meant, where its provider folds another spelling to it.
    pub fn fold(&self, address: &AddressKey) -> Option<AddressKey> {
        self.1.load().fold(address)
    }

    /// Of one mailbox.
    pub fn address(&self, address: &AddressKey) -> SubjectKey {
        self.subject(address.as_str())
    }

    /// Of every mailbox of a domain, which is lower-case and in A-label form.
    pub fn domain(&self, domain: &str) -> SubjectKey {
        let mut text = String::with_capacity(domain.len() + 1);
        text.push('@');
        text.push_str(domain);
        self.subject(&text)
    }

    /// Of a folded subject: `local@domain` or `@domain`.
    pub fn subject(&self, subject: &str) -> SubjectKey {
        SubjectKey(match &self.0 {
            None => first(digest::digest(&digest::SHA256, subject.as_bytes()).as_ref()),
            Some(key) => first(hmac::sign(key, subject.as_bytes()).as_ref()),
        })
    }
}

impl Hasher {
    /// Tells one hash key from another without giving anything of it away; plain hashing has one too.
    pub fn fingerprint(&self) -> [u8; 8] {
        // No subject ends with its "@".
        first_chunk(&self.subject("carom suppression-hash-key@").0)
    }

    /// Whether there is a hash key: plain SHA-256 sums from elsewhere then mean nothing.
    pub const fn is_keyed(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hasher(keyed)" } else { "Hasher" })
    }
}

impl SubjectKey {
    /// The entry of this subject that counts in `scope`.
    pub fn in_scope(self, scope: &Scope) -> Key {
        Key { subject: self, scope: scope_bytes(scope) }
    }
}

impl Key {
    /// As it stands in the table: 16 bytes, or 24 where the scope is not global.
    pub fn bytes(&self) -> ([u8; 24], usize) {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.subject.0);
        bytes[16..].copy_from_slice(&self.scope);
        (bytes, if self.scope == [0; 8] { 16 } else { 24 })
    }

    /// Reads what [`Key::bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let (subject, scope) = bytes.split_first_chunk()?;
        let scope = if scope.is_empty() { [0; 8] } else { scope.try_into().ok()? };
        Some(Key { subject: SubjectKey(*subject), scope })
    }

    /// The kind of its scope.
    pub fn scope_kind(&self) -> ScopeKind {
        ScopeKind::from_number(self.scope[0]).unwrap_or(ScopeKind::Global)
    }

    /// 64 bits of it, for filters; evenly spread.
    pub fn fingerprint(&self) -> u64 {
        let part = |bytes: &[u8]| u64::from_le_bytes(first_chunk(bytes));
        part(&self.subject.0[8..]) ^ part(&self.scope).rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn scope_bytes(scope: &Scope) -> [u8; 8] {
    if scope.kind() == ScopeKind::Global {
        return [0; 8];
    }
    let mut bytes: [u8; 8] = first_chunk(digest::digest(&digest::SHA256, scope.name().as_bytes()).as_ref());
    bytes[0] = scope.kind() as u8;
    bytes
}

fn first(bytes: &[u8]) -> [u8; 16] {
    first_chunk(bytes)
}

/// The first bytes; a digest has more of them than are asked for.
fn first_chunk<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn the_key_of_an_address_is_the_sha_256_that_others_share_too() {
        // printf ann@example.net | sha256sum
        let key = Hasher::default().address(&AddressKey::of("Ann@EXAMPLE.net."));
        assert_eq!(HEXLOWER.encode(&key.0), "2a8d4e854810707b345245fead4fe36f");
    }

    #[test]
    fn the_entries_of_a_subject_stand_side_by_side_and_come_back() {
        let subject = Hasher::default().domain("example.net");
        let scopes = ["global", "job a", "job b", "list a"].map(|s| s.parse::<Scope>().unwrap());
        let mut keys: Vec<Key> = scopes.iter().map(|scope| subject.in_scope(scope)).collect();
        for key in &keys {
            let (bytes, len) = key.bytes();
            assert_eq!(Key::from_bytes(&bytes[..len]), Some(*key));
            assert!(bytes[..len].starts_with(&subject.0));
        }
        assert_eq!(keys[0].bytes().1, 16);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 4);
        assert_eq!(keys[0].scope_kind(), ScopeKind::Global);
        let prints: std::collections::BTreeSet<u64> = keys.iter().map(Key::fingerprint).collect();
        assert_eq!(prints.len(), 4);
    }

    #[test]
    fn a_hash_key_gives_other_keys() {
        let ann = AddressKey::of("ann@example.net");
        assert_ne!(Hasher::default().address(&ann), Hasher::keyed(b"secret").address(&ann));
        assert_eq!(Hasher::keyed(b"secret").address(&ann), Hasher::keyed(b"secret").address(&ann));
        assert!(!format!("{:?}", Hasher::keyed(b"secret")).contains("secret"));
    }
}
