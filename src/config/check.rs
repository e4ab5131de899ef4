//! What can only be checked when everything has been read: names that refer to each other, and what is dangerous.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::diagnose::nearest;
use super::directives::Reference;
use super::directives::global::Global;
use super::directives::virtual_mta::{PoolBlock, VirtualMtaBlock};
use super::inherit::{Domains, Overlay};
use super::lexer::Span;
use super::model::{
    AcctFile, AcctFormat, Listener, NamedAddressList, PatternSource, ReturnPathToken, Source, Transport,
};
use super::tree::Reading;
use super::unsubscribe::{AddListUnsubscribe, UnsubscribeListener};
use super::values::{covers, in_prefix};

type Named<T> = BTreeMap<String, (String, T, Span)>;

/// Everything that was read, with its places.
pub(super) struct Found<'a> {
    pub listeners: &'a [(Listener, Span)],
    pub virtual_mtas: &'a Named<VirtualMtaBlock>,
    pub pools: &'a Named<PoolBlock>,
    pub named: &'a BTreeMap<String, (Overlay, Span)>,
    pub prefixes: &'a BTreeMap<(u8, IpAddr), (Overlay, Span)>,
    pub token: &'a Option<(ReturnPathToken, Span)>,
    pub unsubscribe_listeners: &'a [(UnsubscribeListener, Span)],
    pub acct_files: &'a [(AcctFile, Span)],
    pub references: &'a [Reference],
    pub pattern_lists: &'a Named<Vec<PatternSource>>,
    pub list_references: &'a [(String, Span)],
    pub address_lists: &'a BTreeMap<String, (NamedAddressList, Span)>,
    pub address_list_references: &'a [(String, Span)],
    pub users: usize,
    pub global: &'a Global,
}

/// Reports what does not fit together.
pub(super) fn check(reading: &mut Reading<'_>, found: &Found<'_>) {
    references(reading, found);
    pattern_lists(reading, found);
    address_lists(reading, found);
    pools(reading, found);
    listeners(reading, found);
    open_relay(reading, found);
    required_logins(reading, found);
    token(reading, found);
    unsubscribe(reading, found);
    acct_files(reading, found);
}

fn references(reading: &mut Reading<'_>, found: &Found<'_>) {
    let lines = found.global.virtual_mtas.iter().map(String::as_str);
    let mtas = found.virtual_mtas.values().map(|(n, ..)| n.as_str());
    let pools = found.pools.values().map(|(n, ..)| n.as_str());
    let virtual_mtas: Vec<&str> = lines.chain(mtas).chain(pools).chain(["{default}"]).collect();
    let sources: Vec<&str> = found.named.values().map(|(o, _)| o.name.as_str()).chain(["{auth}", "{pickup}"]).collect();
    for r in found.references {
        let (names, what) = if r.virtual_mta { (&virtual_mtas, "VirtualMTA or pool") } else { (&sources, "<source>") };
        if names.contains(&r.name.as_str()) {
            continue;
        }
        if r.virtual_mta && r.name.eq_ignore_ascii_case("by-smtp-source-ip") {
            reading.warning(r.span, "by-smtp-source-ip is not supported yet: it is not in effect", "");
        } else if let Some(name) = names.iter().find(|n| n.to_lowercase() == r.name.to_lowercase()) {
            reading.warning(r.span, format!("{} differs in case from {name}", r.name), format!("write {name}"));
        } else {
            let help = match nearest(&r.name, names.iter().copied()) {
                Some(name) => format!("did you mean {name}?"),
                None if r.virtual_mta => format!("write <virtual-mta {}> and </virtual-mta>", r.name),
                None => format!("write <source {}> and </source>", r.name),
            };
            reading.error(r.span, format!("there is no {what} `{}`", r.name), help);
        }
    }
}

/// `smtp-pattern-list NAME`: the list may stand behind it, and in another case.
fn pattern_lists(reading: &mut Reading<'_>, found: &Found<'_>) {
    for (name, span) in found.list_references {
        let key = name.to_lowercase();
        match found.pattern_lists.get(&key) {
            Some((written, ..)) if written != name => {
                reading.warning(*span, format!("{name} differs in case from {written}"), format!("write {written}"));
            }
            Some(_) => {}
            None if key == super::BUILTIN_LIST => {}
            None => {
                let names = found.pattern_lists.values().map(|(n, ..)| n.as_str()).chain([super::BUILTIN_LIST]);
                let help = match nearest(name, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("write <smtp-pattern-list {name}> and </smtp-pattern-list>"),
                };
                reading.error(*span, format!("there is no <smtp-pattern-list {name}>"), help);
            }
        }
    }
}

/// Above so many patterns a list is slow (directives.md, 4.4).
const MANY_PATTERNS: usize = 500;

/// `suppression-lists NAME`: the list may stand behind it, and in another case.
fn address_lists(reading: &mut Reading<'_>, found: &Found<'_>) {
    for (name, span) in found.address_list_references {
        match found.address_lists.get(&name.to_lowercase()) {
            Some((list, _)) if list.name != *name => {
                let message = format!("{name} differs in case from {}", list.name);
                reading.warning(*span, message, format!("write {}", list.name));
            }
            Some(_) => {}
            None => {
                let help = match nearest(name, found.address_lists.values().map(|(list, _)| list.name.as_str())) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("write <address-list {name}> and </address-list> at the top level"),
                };
                reading.error(*span, format!("there is no <address-list {name}>"), help);
            }
        }
    }
    for (key, (list, span)) in found.address_lists {
        let name = &list.name;
        if list.list.is_empty() && list.files.is_empty() {
            let help = "write address A, domain D or address-file FILE inside it";
            reading.warning(*span, format!("<address-list {name}> names no address"), help);
        } else if !found.address_list_references.iter().any(|(cited, _)| cited.to_lowercase() == *key) {
            let help = format!("write suppression-lists {name} into a <source>");
            reading.warning(*span, format!("<address-list {name}> is in no source's suppression-lists"), help);
        }
        if list.list.patterns() > MANY_PATTERNS {
            let message = format!(
                "<address-list {name}> has more than {MANY_PATTERNS} patterns: each is tried on each recipient"
            );
            reading.warning(*span, message, "write addresses and domains instead");
        }
    }
}

fn pools(reading: &mut Reading<'_>, found: &Found<'_>) {
    for (key, (name, pool, span)) in found.pools {
        let same_line = found.global.virtual_mtas.iter().any(|n| n.to_lowercase() == *key);
        if found.virtual_mtas.contains_key(key) || same_line || key == "{default}" {
            let help = "VirtualMTAs and pools share one name space; rename one of them";
            reading.error(*span, format!("there is already a VirtualMTA `{name}`"), help);
        }
        if let Some(inner) = pool.members.iter().find(|m| found.pools.contains_key(&m.to_lowercase())) {
            reading.error(
                *span,
                format!("pool `{name}` has pool `{inner}` as a member"),
                "name its VirtualMTAs instead",
            );
        }
        if pool.members.is_empty() {
            let message = format!("pool `{name}` has no members");
            reading.error(*span, message, "write virtual-mta NAME inside it");
        }
    }
}

/// Which pool's `<domain>` blocks hold for a VirtualMTA. In two pools with blocks it would be undecided: an error.
pub(super) fn pool_of(
    reading: &mut Reading<'_>,
    pools: &Named<PoolBlock>,
    domains: &Domains,
) -> BTreeMap<String, String> {
    let mut pool_of: BTreeMap<String, String> = BTreeMap::new();
    for (key, (name, pool, span)) in pools {
        if domains.by_pool.get(key).is_none_or(|layers| *layers == Default::default()) {
            continue;
        }
        for member in &pool.members {
            if let Some(other) = pool_of.insert(member.to_lowercase(), key.clone())
                && other != *key
            {
                let message =
                    format!("`{member}` is in the pools `{other}` and `{name}`, which both hold <domain> blocks");
                reading.error(*span, message, "take it out of one pool, or the <domain> blocks out of one");
            }
        }
    }
    pool_of
}

/// A queue whose `type` needs something that nothing says could deliver nothing.
pub(super) fn transports(reading: &mut Reading<'_>, domains: &Domains) {
    for spoken in domains.spoken() {
        let Some(said) = spoken.of("type").last() else { continue };
        let settings = domains.settings(&spoken.domain, spoken.vmta);
        match settings.transport {
            Transport::Pipe if settings.command.is_none() => {
                reading.error(said.span, "type pipe needs a command", "write command \"/path/to/program $to\"");
            }
            Transport::File if settings.file_destination.is_none() => {
                let message = "type file without file-destination delivers nothing";
                reading.warning(said.span, message, "write file-destination /var/mail/$user");
            }
            _ => {}
        }
    }
}

fn listeners(reading: &mut Reading<'_>, found: &Found<'_>) {
    for (i, (listener, span)) in found.listeners.iter().enumerate() {
        let address = listener.address;
        let clash = found.listeners[..i].iter().find(|(other, _)| same_socket(other.address, address));
        if let Some((other, first)) = clash {
            let message = format!("{address} is taken by the listener on {}", other.address);
            reading.error(*span, message, format!("the other one is at {}", reading.place(*first)));
        }
    }
    if found.global.total_max_smtp_in == 0 {
        return;
    }
    if found.listeners.is_empty() {
        let file = reading.texts.first().map(|t| t.name.clone()).unwrap_or_default();
        let help = Some("write smtp-listener ADDRESS:PORT".to_owned());
        let message = "no smtp-listener is given; 0.0.0.0:25 is used".to_owned();
        reading.diagnostics.about_file(super::Severity::Note, file, message, help);
    }
}

/// Whether so many strangers are in the prefix that relaying for it is relaying for the world.
fn is_public_and_wide(ip: IpAddr, length: u8) -> bool {
    let private: [(&str, u8); 6] =
        [("10.0.0.0", 8), ("127.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 16), ("fc00::", 7), ("fe80::", 10)];
    let inside = private.iter().any(|(p, l)| length >= *l && p.parse().is_ok_and(|p| in_prefix(ip, p, *l)));
    !inside && length <= if ip.is_ipv4() { 15 } else { 28 }
}

/// Nothing relays unless it is told to; here it is said aloud when the whole world is told to.
fn open_relay(reading: &mut Reading<'_>, found: &Found<'_>) {
    let help = "allow it only for the networks of your own systems, such as <source 10/8>, or add require-auth yes";
    let relays = |s: &Source| s.always_allow_relaying && !s.require_auth && s.smtp_service;
    for ((length, ip), (overlay, span)) in found.prefixes {
        let mut merged = Source::default();
        let wider = found.prefixes.iter().filter(|((l, p), _)| l <= length && covers(*p, *l, *ip));
        for (_, (overlay, _)) in wider {
            overlay.apply(&mut merged);
        }
        if relays(&merged) && is_public_and_wide(*ip, *length) {
            let line = overlay.settings.iter().rfind(|s| s.name == "always-allow-relaying").map_or(*span, |s| s.span);
            let message = format!("OPEN RELAY: anybody in {ip}/{length} may send mail to any domain");
            reading.warning(line, message, help);
        }
    }
    // A named source that a listener gives to whoever connects there.
    for (listener, span) in found.listeners {
        let Some(name) = &listener.source else { continue };
        let Some((overlay, _)) = found.named.get(&name.to_lowercase()) else { continue };
        let mut merged = Source::default();
        if let Some(((_, _), (all, _))) = found.prefixes.iter().find(|((l, _), _)| *l == 0) {
            all.apply(&mut merged);
        }
        overlay.apply(&mut merged);
        if relays(&merged) && !listener.address.ip().is_loopback() {
            let message = format!("OPEN RELAY: source `{name}` lets anybody who reaches {} relay", listener.address);
            reading.warning(
                *span,
                message,
                "add require-auth yes to the source, or make sure that a firewall guards the port",
            );
        }
    }
}

/// A source that takes no mail before a login that nobody can make takes no mail at all.
fn required_logins(reading: &mut Reading<'_>, found: &Found<'_>) {
    if found.users > 0 {
        return;
    }
    let prefixes = found.prefixes.values().map(|(o, _)| o);
    let overlays = prefixes.chain(found.named.values().map(|(o, _)| o));
    let required = overlays.flat_map(|o| o.settings.iter().filter(|s| s.name == "require-auth"));
    for setting in required {
        let mut source = Source::default();
        setting.apply(&mut source);
        if source.require_auth {
            let message = "logging in is required, and there is no <smtp-user> who could";
            reading.warning(setting.span, message, "write <smtp-user NAME>, password P and </smtp-user>");
        }
    }
}

fn token(reading: &mut Reading<'_>, found: &Found<'_>) {
    let Some((token, span)) = found.token else { return };
    if token.domain.is_none() && token.header.is_none() && unsubscribing(found).next().is_none() {
        let help = "write domain D inside the block; for unsubscribe links alone: add-list-unsubscribe in a <source>";
        reading.error(*span, "<return-path-token> has neither a domain nor a header", help);
    }
}

/// Each `<source>` that adds unsubscribe links, as far as its own block and those that hold for everybody say; and the
/// place where it says so.
fn unsubscribing<'f>(found: &'f Found<'_>) -> impl Iterator<Item = (Source, Span)> + 'f {
    let wider = |length: u8, ip: Option<IpAddr>| {
        let covered = move |((l, p), _): &(&(u8, IpAddr), &(Overlay, Span))| match ip {
            Some(ip) => *l <= length && covers(*p, *l, ip),
            None => *l == 0,
        };
        found.prefixes.iter().filter(covered).map(|(_, (overlay, _))| overlay)
    };
    let merged = move |length, ip, own: &'f (Overlay, Span)| {
        let mut source = Source::default();
        wider(length, ip).chain([&own.0]).for_each(|overlay| overlay.apply(&mut source));
        let line = own.0.settings.iter().rfind(|s| s.name == "add-list-unsubscribe");
        let adds = line.is_some() && source.list_unsubscribe.add != AddListUnsubscribe::No;
        adds.then(|| (source, line.map_or(own.1, |s| s.span)))
    };
    let by_prefix = found.prefixes.iter().filter_map(move |((length, ip), own)| merged(*length, Some(*ip), own));
    by_prefix.chain(found.named.values().filter_map(move |own| merged(0, None, own)))
}

fn unsubscribe(reading: &mut Reading<'_>, found: &Found<'_>) {
    let settings = || found.prefixes.values().chain(found.named.values()).flat_map(|(o, _)| &o.settings);
    // A named source may be put over one that says it.
    let said = |name: &str| settings().any(|s| s.name == name);
    for (source, span) in unsubscribing(found) {
        let help =
            "write list-unsubscribe-url https://..., list-unsubscribe-mailto ADDRESS, or both, into the <source>";
        if source.list_unsubscribe.url.is_none() && !said("list-unsubscribe-url") {
            if source.list_unsubscribe.mailto.is_none() && !said("list-unsubscribe-mailto") {
                reading.error(span, "nothing says where people unsubscribe", help);
            } else {
                let message =
                    "without a link there is no one-click unsubscribe (RFC 8058), which large providers ask for";
                reading.warning(span, message, "write list-unsubscribe-url https://... as well");
            }
        }
        if found.token.is_none() {
            let help = "write <return-path-token>, key ID SECRET and </return-path-token>";
            reading.error(span, "there is no key to sign unsubscribe links with", help);
        }
    }
    let link = settings().find(|s| s.name == "list-unsubscribe-url");
    if let Some(link) = link.filter(|_| found.unsubscribe_listeners.is_empty()) {
        let message = "no <unsubscribe-listener> of this server answers under the link";
        reading.warning(link.span, message, "write <unsubscribe-listener ADDRESS:PORT>, unless another server answers");
    }
    for (i, (listener, span)) in found.unsubscribe_listeners.iter().enumerate() {
        let address = listener.address;
        let mail = found.listeners.iter().map(|(l, span)| (l.address, span));
        let others = found.unsubscribe_listeners[..i].iter().map(|(l, span)| (l.address, span));
        if let Some((_, first)) = mail.chain(others).find(|(other, _)| same_socket(*other, address)) {
            let help = format!("the other one is at {}", reading.place(*first));
            reading.error(*span, format!("{address} is taken by another listener"), help);
        }
        if listener.plain && !address.ip().is_loopback() && listener.trusted_proxies.is_empty() {
            let message = "plain yes without a trusted-proxy: all who come through a proxy count as one address";
            reading.warning(*span, message, "write trusted-proxy CIDR, or tls-certificate FILE when there is no proxy");
        }
        let certificate = listener.tls_certificate.is_some() || found.global.tls_certificate.is_some();
        if !listener.speaks_plain() && !certificate {
            let message =
                "there is no certificate: a self-signed one is shown, which browsers and mail providers refuse";
            reading.warning(*span, message, "write tls-certificate FILE, or plain yes behind a proxy that has one");
        }
        if listener.plain && listener.tls_certificate.is_some() {
            reading.warning(
                *span,
                "tls-certificate has no effect on a listener with plain yes",
                "take one of them out",
            );
        }
        if found.token.is_none() {
            let message = "there is no <return-path-token> with a key, so that no link is known here";
            reading.warning(*span, message, "write <return-path-token>, key ID SECRET and </return-path-token>");
        }
    }
}

fn same_socket(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip()
        || (one.ip().is_ipv4() == other.ip().is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    same_ip && one.port() == other.port() && one.port() != 0
}

fn acct_files(reading: &mut Reading<'_>, found: &Found<'_>) {
    for (i, (file, span)) in found.acct_files.iter().enumerate() {
        if let Some((_, first)) = found.acct_files[..i].iter().find(|(other, _)| other.path == file.path) {
            let (message, help) = match file.format {
                AcctFormat::Webhook | AcctFormat::Nats => (
                    format!("another output already sends to {}", file.path.display()),
                    format!("give this one a name NAME of its own; the other one is at {}", reading.place(*first)),
                ),
                _ => (
                    format!("{} is already written by another acct-file", file.path.display()),
                    format!("the other one is at {}", reading.place(*first)),
                ),
            };
            reading.error(*span, message, help);
        }
    }
}
