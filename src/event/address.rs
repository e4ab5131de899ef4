//! Envelope addresses (RFC 5321, 4.1.2) and the key under which two spellings of one mailbox are the same.

use std::borrow::Cow;
use std::fmt;

/// `local@domain` as it was given, checked for form and bounded: local part up to 64 octets, the whole up to 254
/// (RFC 5321, 4.5.3.1). The domain may be a name (also in Unicode) or an address literal in brackets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Box<str>, u16);

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("address has no @")]
    NoAt,
    /// Nothing before the `@`, or more than 64 octets.
    #[error("local part is empty or longer than 64 octets")]
    LocalLength,
    /// Nothing after the `@`, or more than 254 octets in all.
    #[error("domain is empty, or the address is longer than 254 octets")]
    Length,
    /// A control character, a space, or a bracket outside quotes.
    #[error("local part has a character that is not allowed there")]
    LocalCharacter,
    /// The domain is neither a name nor a literal.
    #[error("domain is not a valid name or address literal")]
    Domain,
}

impl Address {
    /// Checks `text`, which has no angle brackets around it.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::NoAt)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.is_empty() || local.len() > 64 {
            return Err(AddressError::LocalLength);
        }
        if domain.is_empty() || text.len() > 254 {
            return Err(AddressError::Length);
        }
        check_local(local)?;
        check_domain(domain)?;
        Ok(Address(text.into(), at as u16))
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the last `@`.
    pub fn local(&self) -> &str {
        &self.0[..usize::from(self.1)]
    }

    /// What stands after the last `@`, as given.
    pub fn domain(&self) -> &str {
        &self.0[usize::from(self.1) + 1..]
    }

    /// The key of this mailbox; see [`AddressKey`].
    pub fn key(&self) -> AddressKey {
        AddressKey::of(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A local part is a dot-atom in a wide sense (mail systems in the field accept more than the RFC) or a quoted string.
fn check_local(local: &str) -> Result<(), AddressError> {
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let allowed = |c: char| {
        !c.is_control()
            && (quoted || !matches!(c, ' ' | '<' | '>' | '"' | '(' | ')' | ',' | ';' | ':' | '@' | '[' | ']' | '\\'))
    };
    if local.chars().all(allowed) { Ok(()) } else { Err(AddressError::LocalCharacter) }
}

fn check_domain(domain: &str) -> Result<(), AddressError> {
    if let Some(literal) = domain.strip_prefix('[') {
        let inside = literal.strip_suffix(']').ok_or(AddressError::Domain)?;
        let inside = inside.strip_prefix("IPv6:").or_else(|| inside.strip_prefix("ipv6:")).unwrap_or(inside);
        return inside.parse::<std::net::IpAddr>().map(|_| ()).map_err(|_| AddressError::Domain);
    }
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let label_ok = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && l.chars().all(|c| {
                c.is_ascii_alphanumeric()
                    || c == '-'
                    || c == '_'
                    || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
            })
    };
    if !name.is_empty() && name.split('.').all(label_ok) { Ok(()) } else { Err(AddressError::Domain) }
}

/// The domain lower-cased and in A-label form (RFC 5891), without a final dot; as given, lower-cased, if it can't be converted.
pub fn canonical_domain(domain: &str) -> Cow<'_, str> {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    if name.is_ascii() {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Owned(idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase()))
}

/// One mailbox, however it is spelt: local part case-folded, domain lower-cased and in A-label form. What suppression
/// and strikes are counted under.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AddressKey(Box<str>);

impl AddressKey {
    /// The key of `address`, which need not be well-formed: what has no `@` is folded as a whole.
    pub fn of(address: &str) -> AddressKey {
        let address = address.trim();
        AddressKey(match address.rfind('@') {
            Some(at) => {
                let domain = canonical_domain(&address[at + 1..]);
                let mut key = String::with_capacity(at + 1 + domain.len());
                push_folded(&mut key, &address[..at]);
                key.push('@');
                key.push_str(&domain);
                key.into_boxed_str()
            }
            None => address.to_lowercase().into_boxed_str(),
        })
    }

    /// The key as text, `local@domain`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain part; empty when there is none.
    pub fn domain(&self) -> &str {
        self.0.rfind('@').map_or("", |at| &self.0[at + 1..])
    }
}

fn push_folded(out: &mut String, s: &str) {
    if s.is_ascii() {
        out.extend(s.chars().map(|c| c.to_ascii_lowercase()));
    } else {
        out.push_str(&s.to_lowercase());
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_addresses_are_accepted_and_take_apart() {
        for ok in [
            "ann@example.net",
            "a.b+c=d@sub.example.org",
            "\"a b\"@example.com",
            "x@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
            "x@bücher.example",
            "x@a_b.example",
        ] {
            let a = Address::parse(ok).unwrap_or_else(|e| panic!("{ok}: {e}"));
            assert_eq!(format!("{}@{}", a.local(), a.domain()), ok);
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_the_reason() {
        let long = format!("{}@example.com", "x".repeat(65));
        for (bad, why) in [
            ("plain", AddressError::NoAt),
            ("@example.com", AddressError::LocalLength),
            (long.as_str(), AddressError::LocalLength),
            ("x@", AddressError::Length),
            ("a b@example.com", AddressError::LocalCharacter),
            ("a\r\n@example.com", AddressError::LocalCharacter),
            ("x@exa mple.com", AddressError::Domain),
            ("x@.com", AddressError::Domain),
            ("x@a..b", AddressError::Domain),
            ("x@[300.1.1.1]", AddressError::Domain),
            ("x@-a.com", AddressError::Domain),
        ] {
            assert_eq!(Address::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn two_spellings_of_one_mailbox_have_one_key() {
        assert_eq!(AddressKey::of("Ann.Lee@EXAMPLE.net."), AddressKey::of("ann.lee@example.net"));
        assert_eq!(AddressKey::of("x@BÜCHER.example").as_str(), "x@xn--bcher-kva.example");
        assert_ne!(AddressKey::of("a@example.net"), AddressKey::of("b@example.net"));
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_or_folding_panic(s in "\\PC{0,80}") {
            let _ = Address::parse(&s);
            let key = AddressKey::of(&s);
            prop_assert_eq!(AddressKey::of(key.as_str()).as_str().len() <= 4 * (s.len() + 16), true);
        }
    }
}
