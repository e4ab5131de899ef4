//! Whose mail is taken, and to whom: the rules that keep this server from being an open relay.
//!
//! A recipient is accepted when one of these holds, and refused with `550 5.7.1 relaying denied` otherwise:
//!
//! 1. the source has `always-allow-relaying`;
//! 2. the client has authenticated as an `<smtp-user>` and no source says otherwise: PowerMTA lets `<source {auth}>`, or
//!    the user's own `source`, decide what users may do, and so do we; where neither is configured, an operator who gave
//!    somebody a name and a password is taken to mean that they may send;
//! 3. its domain is a `relay-domain` or one of our host names, and its local part names no further destination;
//! 4. it belongs to the bounce or feedback-loop processor (see [`route`](super::route) for the exact words);
//! 5. it is `postmaster` without a domain (RFC 5321, 4.5.1) and `postmaster` is configured. Mail to it, and to `postmaster`
//!    at one of our host names, goes to the addresses configured.

use crate::config::{Config, Source, User};
use crate::event::Address;
use crate::event::address::canonical_domain;
use crate::smtp::answer::Answer;

use super::route;

/// The refusal of a recipient that nobody allowed.
pub const RELAYING_DENIED: Answer = Answer::new(550, "5.7.1", "relaying denied");

/// Whether mail of this client to this recipient is taken (rules 1 to 4). `source` is the one that applies to the client
/// and, once it has authenticated, its user.
pub fn may_send_to(config: &Config, source: &Source, user: Option<&User>, rcpt: &Address) -> bool {
    source.always_allow_relaying
        || user.is_some_and(|u| u.source.is_none() && !config.sources.by_name.contains_key("{auth}"))
        || (is_relay_domain(config, rcpt.domain()) && !routes_on(rcpt.local()))
        || route::is_processors_own(config, rcpt)
}

/// Whether the local part names another destination (`user%other.example`, `other!user`, `"user@other.example"`): the
/// host behind us that takes mail for the domain may follow it, because it trusts us, and so relay for strangers.
fn routes_on(local: &str) -> bool {
    local.contains(['%', '!', '@'])
}

/// Whether mail for this domain is taken from anybody: a `relay-domain`, or one of our host names, each of which is one
/// (reference/directives.md, `host-name`).
fn is_relay_domain(config: &Config, domain: &str) -> bool {
    let domain = canonical_domain(domain);
    config.relay_domains.iter().any(|p| p.matches(&domain))
        || config.host_names.iter().any(|h| h.eq_ignore_ascii_case(&domain))
}

/// Whether this is the mailbox that every host has (RFC 5321, 4.5.1), at one of our names.
pub fn is_our_postmaster(config: &Config, rcpt: &Address) -> bool {
    rcpt.local().eq_ignore_ascii_case("postmaster")
        && config.host_names.iter().any(|h| h.eq_ignore_ascii_case(&canonical_domain(rcpt.domain())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_str;

    fn config(lines: &str) -> Config {
        let text = format!("host-name mx.example.com\nspool /s\nlog-file /l\n{lines}\n");
        let loaded = parse_str("test.conf", &text);
        loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
    }

    fn allowed(lines: &str, user: Option<&str>, rcpt: &str) -> bool {
        let config = config(lines);
        let user = user.map(|name| config.users[name].clone());
        let source = config.source("192.0.2.5".parse().unwrap(), None, user.as_ref());
        may_send_to(&config, &source, user.as_ref(), &Address::parse(rcpt).unwrap())
    }

    #[test]
    fn nobody_may_relay_by_default() {
        assert!(!allowed("", None, "x@example.net"));
        assert!(!allowed("relay-domain ours.example", None, "x@notours.example"));
        assert!(!allowed("relay-domain *.ours.example", None, "x@ours.example"));
        assert!(!allowed("<source 198.51.100.0/24>\nalways-allow-relaying yes\n</source>", None, "x@example.net"));
        assert!(!allowed("<smtp-user ann>\npassword p\n</smtp-user>", None, "x@example.net"));
    }

    #[test]
    fn sources_domains_and_our_own_names_open_what_they_say() {
        assert!(allowed("<source 192.0.2.0/24>\nalways-allow-relaying yes\n</source>", None, "x@example.net"));
        assert!(allowed("relay-domain ours.example", None, "x@OURS.example."));
        assert!(allowed("relay-domain *.ours.example", None, "x@a.ours.example"));
        assert!(allowed("", None, "postmaster@mx.example.com"));
    }

    #[test]
    fn a_user_may_relay_unless_a_source_for_users_does_not_let_them() {
        let user = "<smtp-user ann>\npassword p\n</smtp-user>\n";
        let own = "<smtp-user ann>\npassword p\nsource feed\n</smtp-user>\n";
        let source = |name: &str, may: &str| format!("<source {name}>\nalways-allow-relaying {may}\n</source>\n");
        for (lines, may) in [
            (user.to_owned(), true),
            (user.to_owned() + &source("{auth}", "no"), false),
            (user.to_owned() + &source("{auth}", "yes"), true),
            (own.to_owned() + &source("feed", "no"), false),
            (own.to_owned() + &source("feed", "yes") + &source("{auth}", "no"), true),
        ] {
            assert_eq!(allowed(&lines, Some("ann"), "x@example.net"), may, "{lines}");
        }
    }
}
