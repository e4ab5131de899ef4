//! Which simulated providers there are: their hosts, domains, addresses and habits. All names are invented.
//!
//! Every provider has its own loopback address and all share one port, so that a sender finds them as in life: MX, then
//! A, then the well-known port (here `default-smtp-port`).

use std::net::Ipv4Addr;

use super::wording::Style;

/// One mailbox provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Short name; also names its log file.
    pub name: &'static str,
    /// Its mail host.
    pub host: &'static str,
    /// The loopback address it listens on.
    pub address: Ipv4Addr,
    /// How it words its replies.
    pub style: Style,
    /// The domains it takes mail for, with their part in the traffic (relative weights).
    pub domains: &'static [(&'static str, u32)],
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// Connections it takes at a time; more are greeted with 421. Zero is unlimited.
    pub max_connections: u32,
    /// Messages it takes per connection; after that MAIL is answered 421 and the connection closed. Zero is unlimited.
    pub max_messages: u32,
    /// Connections it takes per second; faster ones are greeted with 421. Zero is unlimited.
    pub max_connect_rate: u32,
}

const fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 80, last)
}

/// The address of a host on which nothing listens.
pub const REFUSING_ADDRESS: Ipv4Addr = at(250);

/// The providers, in the order of their addresses.
pub const PROVIDERS: &[Provider] = &[
    Provider {
        name: "mailhost",
        host: "mx.mailhost.example",
        address: at(1),
        style: Style::Folded,
        domains: &[("mailhost.example", 30), ("mh.example", 4)],
        starttls: true,
        max_connections: 0,
        max_messages: 100,
        max_connect_rate: 0,
    },
    Provider {
        name: "outpost",
        host: "mx.outpost.example",
        address: at(2),
        style: Style::Coded,
        domains: &[("outpost.example", 14), ("warmpost.example", 6), ("post-live.example", 3)],
        starttls: true,
        max_connections: 30,
        max_messages: 0,
        max_connect_rate: 0,
    },
    Provider {
        name: "yonder",
        host: "mta.yonder.example",
        address: at(3),
        style: Style::Linked,
        domains: &[("yonder.example", 10), ("y-post.example", 3)],
        starttls: true,
        max_connections: 0,
        max_messages: 20,
        max_connect_rate: 0,
    },
    Provider {
        name: "iris",
        host: "mx.iris-mail.example",
        address: at(4),
        style: Style::Plain,
        domains: &[("iris-mail.example", 6), ("iris.example", 2)],
        starttls: true,
        max_connections: 0,
        max_messages: 0,
        max_connect_rate: 0,
    },
    Provider {
        name: "freipost",
        host: "mx00.freipost.example",
        address: at(5),
        style: Style::Terse,
        domains: &[("freipost.example", 6), ("netzpost.example", 2)],
        starttls: false,
        max_connections: 0,
        max_messages: 0,
        max_connect_rate: 20,
    },
    Provider {
        name: "lakeside",
        host: "smtp-in.lakeside.example",
        address: at(6),
        style: Style::Telco,
        domains: &[("lakeside.example", 4), ("cable.lakeside.example", 1)],
        starttls: false,
        max_connections: 0,
        max_messages: 0,
        max_connect_rate: 0,
    },
    Provider {
        name: "campus",
        host: "mail.campus.example",
        address: at(7),
        style: Style::Plain,
        domains: &[("campus.example", 2), ("students.campus.example", 2), ("labs.campus.example", 1)],
        starttls: true,
        max_connections: 0,
        max_messages: 0,
        max_connect_rate: 0,
    },
    Provider {
        name: "workshop",
        host: "mx.workshop-hosting.example",
        address: at(8),
        style: Style::Coded,
        domains: &[
            ("joinery.example", 1),
            ("linden-partner.example", 1),
            ("northfield.example", 1),
            ("orchard.example", 1),
        ],
        starttls: true,
        max_connections: 0,
        max_messages: 0,
        max_connect_rate: 0,
    },
];

/// A domain that has no ordinary mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// Null MX (RFC 7505): takes no mail.
    NullMx,
    /// The name does not exist.
    NoDomain,
    /// The name servers fail to answer for it.
    ServFail,
    /// Its mail host refuses connections.
    Refusing,
    /// All its mailboxes are over quota, for now: every RCPT gets 452.
    OverQuota,
}

/// The domains that are not like others, with their part in the traffic, of [`ODDITY_SCALE`].
pub const ODDITIES: &[(&str, Oddity, u32)] = &[
    ("no-mail.example", Oddity::NullMx, 12),
    ("parked.example", Oddity::NullMx, 3),
    ("never-registered.example", Oddity::NoDomain, 10),
    ("mailhots.example", Oddity::NoDomain, 8),
    ("lame-delegation.example", Oddity::ServFail, 5),
    ("closed-down.example", Oddity::Refusing, 8),
    ("moved-out.example", Oddity::Refusing, 4),
    ("attic.lakeside.example", Oddity::OverQuota, 30),
];

/// What the weights in [`ODDITIES`] are parts of.
pub const ODDITY_SCALE: u32 = 10_000;

/// The domain whose first mail host is dead, so that senders must go on to the second.
pub const DEAD_FIRST_MX: &str = "students.campus.example";

/// The domain without MX, whose A record must do (RFC 5321, 5.1).
pub const NO_MX: &str = "labs.campus.example";

/// What kind of odd domain this is, if it is one. `domain` is lower-case.
pub fn oddity(domain: &str) -> Option<Oddity> {
    ODDITIES.iter().find(|(name, ..)| *name == domain).map(|(_, oddity, _)| *oddity)
}

/// The provider that takes mail for this domain. `domain` is lower-case.
pub fn provider_of(domain: &str) -> Option<&'static Provider> {
    PROVIDERS
        .iter()
        .find(|p| p.domains.iter().any(|(d, _)| *d == domain))
        .or_else(|| (oddity(domain) == Some(Oddity::OverQuota)).then(|| provider_of("lakeside.example")).flatten())
}

/// Domains whose mail can end only by `bounce-after`: those that refuse, fail to resolve or are over quota.
pub fn expiring_domains() -> impl Iterator<Item = &'static str> {
    ODDITIES
        .iter()
        .filter(|(_, o, _)| matches!(o, Oddity::Refusing | Oddity::OverQuota | Oddity::ServFail))
        .map(|(d, ..)| *d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_providers_share_a_domain_a_host_or_an_address() {
        let mut seen = HashSet::new();
        for p in PROVIDERS {
            assert!(seen.insert(p.name.to_owned()) && seen.insert(p.host.to_owned()));
            assert!(seen.insert(p.address.to_string()) && p.address.is_loopback());
            assert!(p.domains.iter().all(|(d, _)| seen.insert((*d).to_owned())));
        }
        assert!(ODDITIES.iter().all(|(d, ..)| seen.insert((*d).to_owned())));
    }

    #[test]
    fn the_over_quota_domain_belongs_to_a_provider_and_the_others_to_none() {
        for (domain, oddity, _) in ODDITIES {
            assert_eq!(provider_of(domain).is_some(), *oddity == Oddity::OverQuota, "{domain}");
        }
    }
}
