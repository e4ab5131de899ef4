//! Where a rule holds: provider, domain, host, stage, class and status of a reply. Pure.
//!
//! All limits of a rule must hold; of the members of one limit any. A limit about something that is not known of a reply
//! does not hold. `provider=NAME` is the destination as events name it (`provider`, with or without `.rollup`), or a
//! name of the shipped table `patterns/providers.conf`.

use std::fmt;

use hashbrown::HashMap;

use crate::config::DomainPattern;
use crate::config::values::domain_pattern;
use crate::event::{EnhancedStatus, Stage};

/// What is known of a reply beside its words. Empty and `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts<'a> {
    /// The destination as events name it.
    pub provider: &'a str,
    /// The recipient's domain.
    pub domain: &'a str,
    /// Name of the host that replied.
    pub mx: &'a str,
    /// How far the dialogue had come.
    pub stage: Option<Stage>,
    /// `dsnStatus`, for a reply that has no enhanced code itself.
    pub status: Option<EnhancedStatus>,
}

/// Hosts and domains of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provider {
    /// Patterns of host names.
    pub mx: Vec<Glob>,
    /// Patterns of recipient domains.
    pub domains: Vec<DomainPattern>,
}

/// Providers by name, lower-cased.
pub type Providers = HashMap<Box<str>, Provider>;

/// Reads a table of providers: `NAME mx=... domain=...` a line.
pub fn parse_providers(text: &str) -> Result<Providers, (u32, String)> {
    let mut providers = Providers::new();
    for (number, line) in (1u32..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or("").trim();
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let mut provider = Provider::default();
        for word in words {
            let (key, list) = word.split_once('=').unwrap_or((word, ""));
            for member in list.split(',') {
                match key {
                    "mx" => provider.mx.push(Glob::new(member)),
                    "domain" => provider.domains.push(domain_pattern(member).map_err(|e| (number, e.to_string()))?),
                    _ => return Err((number, format!("{key:?} is neither mx nor domain"))),
                }
            }
        }
        providers.insert(name.to_ascii_lowercase().into(), provider);
    }
    Ok(providers)
}

/// A host name in which `*` is any text; lower-cased, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern as it is written.
    pub fn new(text: &str) -> Glob {
        Glob(text.trim_end_matches('.').to_ascii_lowercase().into())
    }

    /// Whether the host fits, whatever its case. Linear but for patterns with several `*`.
    pub fn matches(&self, host: &str) -> bool {
        let (pattern, host) = (self.0.as_bytes(), host.trim_end_matches('.').as_bytes());
        let (mut p, mut h) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while h < host.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, h));
                    p += 1;
                }
                Some(c) if *c == host[h].to_ascii_lowercase() => (p, h) = (p + 1, h + 1),
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        (p, h) = (at + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

/// An enhanced code, or a part of one: `None` is any number.
type Status = [Option<u16>; 3];

/// The limits of a rule; without any it holds everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// `provider=`, lower-cased.
    pub providers: Vec<Box<str>>,
    /// `domain=`
    pub domains: Vec<DomainPattern>,
    /// `mx=`
    pub mx: Vec<Glob>,
    /// `stage=`
    pub stages: Vec<Stage>,
    /// `class=`
    pub classes: Vec<u8>,
    /// `status=`
    pub statuses: Vec<Status>,
    /// The `<domain>` whose pattern file the rule stands in.
    pub queue_domain: Option<DomainPattern>,
}

/// The keys of limits, as they are written.
pub const KEYS: [&str; 6] = ["provider", "domain", "mx", "stage", "class", "status"];

impl Limits {
    /// Whether the rule holds everywhere.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Takes the limit of this key away.
    pub fn clear(&mut self, key: &str) {
        match key {
            "provider" => self.providers.clear(),
            "domain" => self.domains.clear(),
            "mx" => self.mx.clear(),
            "stage" => self.stages.clear(),
            "class" => self.classes.clear(),
            "status" => self.statuses.clear(),
            _ => {}
        }
    }

    /// Reads one `key=value,value`. `for=` is the queue's domain, which only stored text has.
    pub fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        let members: Vec<&str> = value.split(',').map(str::trim).filter(|m| !m.is_empty()).collect();
        if members.is_empty() {
            return Err(format!("{key}= limits the rule to nothing: write at least one value"));
        }
        for member in members {
            match key {
                "provider" => self.providers.push(member.to_ascii_lowercase().into()),
                "domain" => self.domains.push(domain_pattern(member).map_err(|e| format!("domain={member}: {e}"))?),
                "for" => self.queue_domain = Some(domain_pattern(member).map_err(|e| format!("for={member}: {e}"))?),
                "mx" => self.mx.push(Glob::new(member)),
                "stage" => self.stages.push(stage(member)?),
                "class" => match member.trim_end_matches("xx") {
                    "2" => self.classes.push(2),
                    "4" => self.classes.push(4),
                    "5" => self.classes.push(5),
                    _ => return Err(format!("class={member}: write 4 or 5, the first digit of the reply code")),
                },
                "status" => self.statuses.push(status(member)?),
                _ => return Err(format!("{key:?} is no limit: write one of {}", KEYS.join(", "))),
            }
        }
        Ok(())
    }

    /// Whether they hold. `class` is the first digit of the reply code, `code` the reply's enhanced code.
    pub fn hold(&self, facts: &Facts<'_>, class: Option<u8>, code: Option<EnhancedStatus>, known: &Providers) -> bool {
        let any = |list: &[DomainPattern]| !facts.domain.is_empty() && list.iter().any(|d| d.matches(facts.domain));
        (self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(&class)))
            && (self.statuses.is_empty() || code.is_some_and(|code| self.statuses.iter().any(|s| fits(s, code))))
            && (self.stages.is_empty() || facts.stage.is_some_and(|stage| self.stages.contains(&stage)))
            && (self.mx.is_empty() || !facts.mx.is_empty() && self.mx.iter().any(|mx| mx.matches(facts.mx)))
            && (self.domains.is_empty() || any(&self.domains))
            && self.queue_domain.as_ref().is_none_or(|d| any(std::slice::from_ref(d)))
            && (self.providers.is_empty() || self.providers.iter().any(|name| is_provider(name, facts, known)))
    }
}

fn is_provider(name: &str, facts: &Facts<'_>, known: &Providers) -> bool {
    let same = |given: &str| !given.is_empty() && given.eq_ignore_ascii_case(name);
    if same(facts.provider) || facts.provider.strip_suffix(".rollup").is_some_and(same) {
        return true;
    }
    let Some(provider) = known.get(name) else { return false };
    // The host decides where it is known: mail for hosted domains comes from the same receivers.
    if !facts.mx.is_empty() && !provider.mx.is_empty() {
        return provider.mx.iter().any(|mx| mx.matches(facts.mx));
    }
    !facts.domain.is_empty() && provider.domains.iter().any(|d| d.matches(facts.domain))
}

fn stage(word: &str) -> Result<Stage, String> {
    let word = if word.eq_ignore_ascii_case("helo") { "ehlo" } else { word };
    Stage::ALL
        .iter()
        .copied()
        .find(|stage| stage.name().eq_ignore_ascii_case(word))
        .ok_or_else(|| format!("stage={word}: write connect, ehlo, mail, rcpt, data or eod"))
}

fn status(word: &str) -> Result<Status, String> {
    let bad = || format!("status={word}: write a code such as 5.7.26, 5.1.* or *.7.1");
    let mut parts = word.split('.');
    let mut part = || match parts.next() {
        None | Some("*" | "x" | "X") => Ok(None),
        Some(number) => number.parse::<u16>().map(Some).map_err(|_| bad()),
    };
    let status = [part()?, part()?, part()?];
    if parts.next().is_some() || status == [None; 3] { Err(bad()) } else { Ok(status) }
}

fn fits(pattern: &Status, code: EnhancedStatus) -> bool {
    let [class, subject, detail] = pattern;
    class.is_none_or(|n| n == u16::from(code.class))
        && subject.is_none_or(|n| n == code.subject)
        && detail.is_none_or(|n| n == code.detail)
}

/// As they are written, in a fixed order, so that equal limits have equal text.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blank = "";
        let mut write = |key: &str, members: Vec<String>| {
            if members.is_empty() {
                return Ok(());
            }
            write!(f, "{blank}{key}={}", members.join(","))?;
            blank = " ";
            Ok(())
        };
        write("provider", self.providers.iter().map(ToString::to_string).collect())?;
        write("domain", self.domains.iter().map(ToString::to_string).collect())?;
        write("mx", self.mx.iter().map(|mx| mx.0.to_string()).collect())?;
        write("stage", self.stages.iter().map(|stage| stage.name().to_owned()).collect())?;
        write("class", self.classes.iter().map(ToString::to_string).collect())?;
        let number = |n: &Option<u16>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write("status", self.statuses.iter().map(|s| s.iter().map(number).collect::<Vec<_>>().join(".")).collect())?;
        write("for", self.queue_domain.iter().map(ToString::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        let mut limits = Limits::default();
        for word in text.split(' ') {
            let (key, value) = word.split_once('=').unwrap();
            limits.add(key, value).unwrap();
        }
        limits
    }

    #[test]
    fn a_limit_holds_only_for_what_is_known_and_fits() {
        let known = parse_providers("gmail mx=*.google.com domain=gmail.com").unwrap();
        let at = Facts {
            provider: "aol.rollup",
            domain: "mail.example.com",
            mx: "ASPMX.l.google.com.",
            stage: Some(Stage::Rcpt),
            status: None,
        };
        let code = "5.7.1".parse().ok();
        for text in [
            "provider=aol",
            "provider=gmail,yahoo",
            "domain=*.example.com",
            "mx=*.google.com",
            "stage=mail,rcpt",
            "class=5",
            "status=5.7.*",
            "status=*.7.1",
            "for=mail.example.com",
        ] {
            assert!(limits(text).hold(&at, Some(5), code, &known), "{text}");
            assert!(!limits(text).hold(&Facts::default(), None, None, &known), "{text}: nothing known");
            assert_eq!(limits(&limits(text).to_string()), limits(text));
        }
        for text in ["provider=yahoo", "domain=example.com", "mx=google.com", "stage=eod", "class=4", "status=5.1"] {
            assert!(!limits(text).hold(&at, Some(5), code, &known), "{text}");
        }
        let reported = Facts { domain: "gmail.com", ..Facts::default() };
        assert!(limits("provider=gmail").hold(&reported, None, None, &known));
        assert!(!limits("provider=gmail class=4").hold(&reported, Some(5), None, &known), "all limits must hold");
    }

    #[test]
    fn a_limit_that_means_nothing_is_refused() {
        for (key, value) in [
            ("stage", "quit"),
            ("class", "3"),
            ("status", "5.x.y.z"),
            ("status", "*"),
            ("provider", ","),
            ("colour", "x"),
        ] {
            assert!(Limits::default().add(key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn the_shipped_table_of_providers_can_be_read() {
        let known = parse_providers(super::super::builtin::PROVIDERS).unwrap();
        assert!(known["gmail"].mx[0].matches("gmail-smtp-in.l.google.com"));
        assert!(known.len() > 20);
    }
}
