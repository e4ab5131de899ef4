//! The addresses of an `<address-list>` (directives.md, 2.5): which a report processor takes, or, of a list at the top
//! level, which are suppressed. Everybody who asks whether mail to an address is a report asks [`AddressList::takes`].

use std::collections::HashSet;

use super::pattern::Pattern;
use crate::event::Address;
use crate::event::address::canonical_domain;

/// Domains, addresses, local parts and patterns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressList {
    /// Canonical, without a dot at the end.
    domains: HashSet<String>,
    /// Local part in lower case, canonical domain.
    addresses: HashSet<String>,
    /// In lower case; each stands for the mailbox of that name at any domain.
    local_parts: HashSet<String>,
    /// Looked for in the whole address.
    patterns: Vec<AddressPattern>,
}

/// A pattern, and the domains that it names.
#[derive(Debug, Clone, PartialEq)]
struct AddressPattern {
    pattern: Pattern,
    /// Each address in which the pattern is found is at one of these; empty when it may be at any.
    domains: Vec<String>,
}

/// Whether an entry without a domain is meant.
///
/// `address bounces` sends mail for `bounces` at any domain to the processor, but says nothing about any domain being
/// ours. The same holds for a pattern, which may match more than its author thought of, unless it is written so that
/// nothing can match but at domains that stand in it ([`Pattern::domains`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// All entries: does this mail go to the processor?
    All,
    /// Only those that name a domain, a whole address, or a pattern with its domain: is the mailbox the processor's own?
    WithDomain,
}

impl AddressList {
    /// Every address at this domain.
    pub fn add_domain(&mut self, domain: &str) {
        self.domains.insert(canonical_domain(domain).to_lowercase());
    }

    /// One address, or, without `@`, a local part at any domain.
    pub fn add_address(&mut self, address: &str) {
        match address.rsplit_once('@') {
            Some((local, domain)) => self.addresses.insert(whole(local, domain)),
            None => self.local_parts.insert(address.to_lowercase()),
        };
    }

    /// Every address in which this is found.
    pub fn add_pattern(&mut self, pattern: Pattern) {
        let domains = pattern.domains();
        self.patterns.push(AddressPattern { pattern, domains });
    }

    /// All that is in the other one.
    pub fn add_all(&mut self, other: &AddressList) {
        self.domains.extend(other.domains.iter().cloned());
        self.addresses.extend(other.addresses.iter().cloned());
        self.local_parts.extend(other.local_parts.iter().cloned());
        self.patterns.extend(other.patterns.iter().cloned());
    }

    /// Whether every address at this domain is taken.
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains.contains(&canonical_domain(domain).to_lowercase())
    }

    /// The domains that are taken whole.
    pub fn whole_domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// Whether any domain is taken whole.
    pub fn takes_domains(&self) -> bool {
        !self.domains.is_empty()
    }

    /// The domains that are taken whole, and those of single addresses and patterns.
    pub fn named_domains(&self) -> impl Iterator<Item = &str> {
        let of_addresses = self.addresses.iter().filter_map(|a| Some(a.rsplit_once('@')?.1));
        let of_patterns = self.patterns.iter().flat_map(|p| &p.domains);
        self.domains.iter().chain(of_patterns).map(String::as_str).chain(of_addresses)
    }

    /// The local parts that are taken at any domain, in order.
    pub fn local_parts(&self) -> Vec<&str> {
        let mut locals: Vec<&str> = self.local_parts.iter().map(String::as_str).collect();
        locals.sort_unstable();
        locals
    }

    /// The patterns that may match at any domain.
    pub fn patterns_of_any_domain(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().filter(|p| p.domains.is_empty()).map(|p| p.pattern.text())
    }

    /// Domains, addresses and local parts that the other one has, too; in order.
    pub fn shared_with<'a>(&'a self, other: &'a AddressList) -> Vec<&'a str> {
        let both = self.domains.intersection(&other.domains).chain(self.addresses.intersection(&other.addresses));
        let mut both: Vec<&str> =
            both.chain(self.local_parts.intersection(&other.local_parts)).map(String::as_str).collect();
        both.sort_unstable();
        both
    }

    /// How many patterns are in it.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.addresses.is_empty() && self.local_parts.is_empty() && self.patterns.is_empty()
    }

    /// Whether this address is in the list, as far as these entries go; whatever its case.
    pub fn takes(&self, address: &Address, entries: Entries) -> bool {
        if self.is_empty() {
            return false;
        }
        let address = whole(address.local(), address.domain());
        let (local, domain) = address.rsplit_once('@').unwrap_or((&address, ""));
        self.domains.contains(domain)
            || self.addresses.contains(&address)
            || entries == Entries::All && self.local_parts.contains(local)
            || self.patterns.iter().any(|p| match p.domains.as_slice() {
                [] => entries == Entries::All && p.pattern.is_match(&address),
                domains => domains.iter().any(|d| d == domain) && p.pattern.is_match(&address),
            })
    }
}

fn whole(local: &str, domain: &str) -> String {
    format!("{}@{}", local.to_lowercase(), canonical_domain(domain).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_entry_takes_what_it_names_and_nothing_else() {
        let mut list = AddressList::default();
        list.add_domain("Bounce.example.");
        list.add_address("FBL@example.com");
        list.add_address("returns");
        list.add_pattern(Pattern::new(r"^b-\d+@", false).unwrap());
        list.add_pattern(Pattern::new(r"^vb-\d+@Verp\.example$", false).unwrap());
        let cases = [
            ("x@bounce.example", true, true),
            ("X@BOUNCE.EXAMPLE", true, true),
            ("x@sub.bounce.example", false, false),
            ("fbl@Example.com", true, true),
            ("fbl@example.net", false, false),
            // What names no domain routes mail, but makes no mailbox ours.
            ("Returns@anywhere.example", true, false),
            ("b-17@anywhere.example", true, false),
            ("b-x@anywhere.example", false, false),
            // What is written with its domain makes it ours.
            ("VB-17@verp.EXAMPLE", true, true),
            ("vb-17@verp.example.net", false, false),
            ("vb-17@verpxexample", false, false),
        ];
        for (address, all, with_domain) in cases {
            let parsed = Address::parse(address).unwrap();
            assert_eq!(list.takes(&parsed, Entries::All), all, "{address}");
            assert_eq!(list.takes(&parsed, Entries::WithDomain), with_domain, "{address}");
        }
        assert!(!AddressList::default().takes(&Address::parse("a@b.example").unwrap(), Entries::All));
    }
}
