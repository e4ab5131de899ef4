//! What the simulated name server knows, and how it answers (RFC 1035, 4.1.1; RFC 7505). Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::world::{self, Oddity, PROVIDERS, REFUSING_ADDRESS};

/// What stands under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Preference and host; the host `.` with preference 0 is a null MX.
    pub mx: Vec<(u16, String)>,
    /// A and AAAA records.
    pub addresses: Vec<IpAddr>,
    /// TXT records.
    pub txt: Vec<String>,
    /// PTR records.
    pub ptr: Vec<String>,
    /// Every question about the name is answered SERVFAIL.
    pub broken: bool,
}

/// The names the server knows. What is not among them does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    names: HashMap<String, Entry>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Mail hosts.
    Mx,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Texts.
    Txt,
    /// The names of an address.
    Ptr,
    /// Anything else; no name has it.
    Other,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Mail hosts, by preference and host name.
    Mx(Vec<(u16, String)>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Texts.
    Txt(Vec<String>),
    /// The names of an address.
    Ptr(Vec<String>),
    /// The name exists, but has no such record.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// The server fails.
    ServFail,
}

impl Zones {
    /// Nothing at all.
    pub fn new() -> Zones {
        Zones::default()
    }

    /// The zones of [`world`]: all providers and odd domains.
    pub fn of_the_world() -> Zones {
        let mut zones = Zones::new();
        zones.address("dead.campus.example", REFUSING_ADDRESS.into());
        zones.address("mail.refusing.example", REFUSING_ADDRESS.into());
        for provider in PROVIDERS {
            zones.address(provider.host, provider.address.into());
            for (domain, _) in provider.domains {
                match *domain {
                    world::NO_MX => {
                        zones.address(domain, provider.address.into());
                    }
                    world::DEAD_FIRST_MX => {
                        zones.mx(domain, 10, "dead.campus.example").mx(domain, 20, provider.host);
                    }
                    _ => {
                        zones.mx(domain, 10, provider.host);
                    }
                }
            }
        }
        for (domain, oddity, _) in world::ODDITIES {
            match oddity {
                Oddity::NullMx => zones.mx(domain, 0, "."),
                Oddity::NoDomain => &mut zones,
                Oddity::ServFail => zones.broken(domain),
                Oddity::Refusing => zones.mx(domain, 10, "mail.refusing.example"),
                Oddity::OverQuota => {
                    zones.mx(domain, 10, world::provider_of(domain).map_or("mail.refusing.example", |p| p.host))
                }
            };
        }
        zones
    }

    /// Adds a mail host to a name.
    pub fn mx(&mut self, name: &str, preference: u16, host: &str) -> &mut Zones {
        self.entry(name).mx.push((preference, host.to_owned()));
        self
    }

    /// Adds an address to a name.
    pub fn address(&mut self, name: &str, address: IpAddr) -> &mut Zones {
        self.entry(name).addresses.push(address);
        self
    }

    /// Adds a text to a name.
    pub fn txt(&mut self, name: &str, text: &str) -> &mut Zones {
        self.entry(name).txt.push(text.to_owned());
        self
    }

    /// Gives an address a name, in reverse DNS (RFC 1035, 3.5; RFC 3596, 2.5).
    pub fn ptr(&mut self, address: IpAddr, name: &str) -> &mut Zones {
        self.entry(&reverse(address)).ptr.push(name.to_owned());
        self
    }

    /// Makes every question about a name fail.
    pub fn broken(&mut self, name: &str) -> &mut Zones {
        self.entry(name).broken = true;
        self
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.names.entry(key(name)).or_default()
    }

    /// The answer to a question about this name, whatever its case and with or without the final dot.
    pub fn answer(&self, name: &str, question: Question) -> Answer {
        let name = key(name);
        let Some(entry) = self.names.get(&name) else {
            // A name above one that exists does exist, without records (RFC 8020).
            let suffix = format!(".{name}");
            let above = self.names.keys().any(|n| n.ends_with(&suffix));
            return if above { Answer::NoData } else { Answer::NxDomain };
        };
        if entry.broken {
            return Answer::ServFail;
        }
        let of = |v4: bool| entry.addresses.iter().copied().filter(|a| a.is_ipv4() == v4).collect::<Vec<_>>();
        let found = match question {
            Question::Mx => Answer::Mx(entry.mx.clone()),
            Question::A => Answer::Addresses(of(true)),
            Question::Aaaa => Answer::Addresses(of(false)),
            Question::Txt => Answer::Txt(entry.txt.clone()),
            Question::Ptr => Answer::Ptr(entry.ptr.clone()),
            Question::Other => Answer::NoData,
        };
        match found {
            Answer::Mx(v) if v.is_empty() => Answer::NoData,
            Answer::Addresses(v) if v.is_empty() => Answer::NoData,
            Answer::Txt(v) | Answer::Ptr(v) if v.is_empty() => Answer::NoData,
            found => found,
        }
    }
}

/// The name that reverse DNS has for an address.
fn reverse(address: IpAddr) -> String {
    let (labels, zone): (Vec<String>, _) = match address {
        IpAddr::V4(v4) => (v4.octets().iter().rev().map(u8::to_string).collect(), "in-addr.arpa"),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            (nibbles.map(|n| format!("{n:x}")).collect(), "ip6.arpa")
        }
    };
    format!("{}.{zone}", labels.join("."))
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_leads_to_its_provider_whatever_the_spelling() {
        let zones = Zones::of_the_world();
        let Answer::Mx(mx) = zones.answer("MailHost.Example.", Question::Mx) else { panic!("no MX") };
        let Answer::Addresses(a) = zones.answer(&mx[0].1, Question::A) else { panic!("no A") };
        assert_eq!(a, [IpAddr::from(PROVIDERS[0].address)]);
    }

    #[test]
    fn odd_domains_answer_oddly() {
        let zones = Zones::of_the_world();
        assert_eq!(zones.answer("no-mail.example", Question::Mx), Answer::Mx(vec![(0, ".".into())]));
        assert_eq!(zones.answer("never-registered.example", Question::Mx), Answer::NxDomain);
        assert_eq!(zones.answer("lame-delegation.example", Question::Mx), Answer::ServFail);
        assert_eq!(zones.answer(world::NO_MX, Question::Mx), Answer::NoData);
        assert!(matches!(zones.answer(world::NO_MX, Question::A), Answer::Addresses(_)));
        assert_eq!(zones.answer(world::NO_MX, Question::Aaaa), Answer::NoData);
        let Answer::Mx(mx) = zones.answer(world::DEAD_FIRST_MX, Question::Mx) else { panic!("no MX") };
        assert_eq!(mx.len(), 2);
    }

    #[test]
    fn texts_and_names_of_addresses_are_found() {
        let mut zones = Zones::new();
        zones.txt("a.example", "v=spf1 -all").ptr("192.0.2.7".parse().unwrap(), "mx.a.example");
        zones.ptr("2001:db8::1".parse().unwrap(), "mx.a.example");
        assert_eq!(zones.answer("a.example.", Question::Txt), Answer::Txt(vec!["v=spf1 -all".into()]));
        assert_eq!(zones.answer("7.2.0.192.in-addr.arpa", Question::Ptr), Answer::Ptr(vec!["mx.a.example".into()]));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert!(matches!(zones.answer(v6, Question::Ptr), Answer::Ptr(_)));
        assert_eq!(zones.answer("a.example", Question::Ptr), Answer::NoData);
    }

    #[test]
    fn a_name_above_one_that_exists_has_no_data_but_exists() {
        assert_eq!(Zones::of_the_world().answer("example", Question::Mx), Answer::NoData);
    }
}
