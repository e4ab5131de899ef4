#![expect(clippy::disallowed_methods, reason = "edge: asks name servers, and chance to choose among equal hosts")]
//! Where mail for a domain is to be taken (RFC 5321, 5.1; null MX: RFC 7505).
//!
//! Promises: hosts come in order of preference, equals in random order; what DNS says for good ([`RouteError::is_permanent`])
//! is told from what may pass: SERVFAIL, refusals and time-outs are never permanent. Answers are cached for their TTL,
//! negative ones too, [`CACHED_ANSWERS`] at most. Host names that lead back to one of our own listeners are dropped with
//! all that are no better (RFC 5321, 5.1), so that no loop can begin.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use rand::seq::SliceRandom;

/// Answers that are kept.
const CACHED_ANSWERS: u64 = 100_000;

/// Addresses of one route that are looked up; more are never tried in one attempt.
const MAX_ADDRESSES: usize = 20;

/// Time for the addresses of one route: a domain with many hosts whose name servers are silent holds a connection's slot.
const MAX_LOOKING: Duration = Duration::from_secs(30);

/// Hosts of one route that are looked at.
const MAX_HOSTS: usize = 50;

/// Asks DNS; cheap to clone, the cache is shared.
#[derive(Clone)]
pub struct Resolver {
    pub(super) inner: TokioResolver,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

/// The resolver can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("the system's name servers can't be read from /etc/resolv.conf ({0}); name them with `name-server IP`")]
pub struct ResolverError(String);

/// One host of a route, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name; for an address literal the address.
    pub name: Box<str>,
    /// Where it listens, in the order to try.
    pub addresses: Vec<SocketAddr>,
}

/// One item of `smtp-hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop<'a> {
    /// 0 is tried first; equal ones are chosen among at random.
    pub preference: u16,
    /// Where it leads.
    pub to: HopTo<'a>,
    /// Its port, if not the usual one.
    pub port: Option<u16>,
}

/// Where an item of `smtp-hosts` leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopTo<'a> {
    /// Its A and AAAA records.
    Host(&'a str),
    /// This address.
    Address(IpAddr),
    /// The MX of another name.
    LookupMx(&'a str),
}

/// What a route is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// Destination domain, an A-label name or an address literal in brackets.
    pub domain: &'a str,
    /// `smtp-hosts`; empty means DNS decides.
    pub smtp_hosts: &'a [Hop<'a>],
    /// `default-smtp-port`.
    pub port: u16,
    /// `bounce-upon-no-mx`: without MX there is no way, whatever addresses there are.
    pub need_mx: bool,
    /// The source has IPv4 addresses.
    pub v4: bool,
    /// The source has IPv6 addresses.
    pub v6: bool,
    /// Our own listeners.
    pub own: &'a [SocketAddr],
}

/// There is no way to the domain, for now or for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// NXDOMAIN.
    #[error("bad destination system: no such domain")]
    NoSuchDomain,
    /// The domain takes no mail (RFC 7505).
    #[error("bad destination system: the domain accepts no mail (null MX)")]
    NullMx,
    /// `bounce-upon-no-mx`, and there is none.
    #[error("bad destination system: the domain has no MX record")]
    NoMx,
    /// Neither MX nor address.
    #[error("unable to route: no mail hosts for domain")]
    NoHosts,
    /// The best hosts are this one.
    #[error("routing loop detected: the domain's best mail hosts are this system")]
    Loop,
    /// The hosts have no address of a family that the source has, though perhaps of the other.
    #[error("unable to route: no mail host has an address of a family that the source addresses have")]
    Family,
    /// No answer, or one that says nothing.
    #[error("unable to route: dns lookup failure: {0}")]
    Temporary(String),
}

impl RouteError {
    /// Whether it will be so tomorrow too.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, RouteError::Family | RouteError::Temporary(_))
    }
}

/// The outcome of one look-up that found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nothing {
    /// The name does not exist.
    NoName,
    /// The name exists, without such records.
    NoRecords,
    /// No word.
    Unknown(String),
}

impl From<NetError> for Nothing {
    fn from(error: NetError) -> Nothing {
        match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Nothing::NoName,
                ResponseCode::NoError => Nothing::NoRecords,
                code => Nothing::Unknown(code.to_string()),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => Nothing::Unknown(code.to_string()),
            _ => Nothing::Unknown(error.to_string()),
        }
    }
}

impl Resolver {
    /// With these name servers, UDP first and TCP for long answers; with none, the system's.
    pub fn new(name_servers: &[SocketAddr]) -> Result<Resolver, ResolverError> {
        Resolver::with_timeout(name_servers, Duration::from_secs(5))
    }

    /// As [`Resolver::new`]; each question waits so long for its answer, and is asked twice.
    pub fn with_timeout(name_servers: &[SocketAddr], timeout: Duration) -> Result<Resolver, ResolverError> {
        let mut builder = if name_servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|e| ResolverError(e.to_string()))?
        } else {
            let servers = name_servers.iter().map(|server| {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                udp.port = server.port();
                tcp.port = server.port();
                NameServerConfig::new(server.ip(), true, vec![udp, tcp])
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.timeout = timeout;
        options.cache_size = CACHED_ANSWERS;
        // Long enough that a busy queue does not ask at each connection, short enough to follow a move.
        options.negative_max_ttl = Some(Duration::from_secs(300));
        options.positive_max_ttl = Some(Duration::from_secs(86_400));
        Ok(Resolver { inner: builder.build().map_err(|e| ResolverError(e.to_string()))? })
    }

    /// The hosts to try, best first; never empty.
    pub async fn route(&self, query: &RouteQuery<'_>) -> Result<Vec<Host>, RouteError> {
        if !query.smtp_hosts.is_empty() {
            return self.configured(query).await;
        }
        if let Some(address) = literal(query.domain) {
            return self.to_hosts(vec![(0, Target::Address(address, query.port))], query).await;
        }
        let targets = match self.mx(query.domain, query.port, 0).await {
            Ok(targets) => targets,
            Err(MxNone::Null) => return Err(RouteError::NullMx),
            Err(MxNone::Nothing(Nothing::NoName)) => return Err(RouteError::NoSuchDomain),
            Err(MxNone::Nothing(Nothing::Unknown(why))) => return Err(RouteError::Temporary(why)),
            Err(MxNone::Nothing(Nothing::NoRecords)) if query.need_mx => return Err(RouteError::NoMx),
            // RFC 5321, 5.1: without MX the name itself is the host, with preference 0.
            Err(MxNone::Nothing(Nothing::NoRecords)) => {
                vec![(0, Target::Name(query.domain.into(), query.port))]
            }
        };
        self.to_hosts(targets, query).await
    }

    /// `smtp-hosts` instead of DNS. Our own listeners are not looked for: the operator said where to go.
    async fn configured(&self, query: &RouteQuery<'_>) -> Result<Vec<Host>, RouteError> {
        let mut targets = Vec::new();
        let mut problem = None;
        for host in query.smtp_hosts {
            let port = host.port.unwrap_or(query.port);
            let level = u32::from(host.preference) << 16;
            match host.to {
                HopTo::Host(name) => targets.push((level, Target::Name(name.into(), port))),
                HopTo::Address(ip) => targets.push((level, Target::Address(ip, port))),
                HopTo::LookupMx(domain) => match self.mx(domain, port, level).await {
                    Ok(found) => targets.extend(found),
                    Err(MxNone::Nothing(Nothing::NoRecords)) => {
                        targets.push((level, Target::Name(domain.into(), port)));
                    }
                    Err(MxNone::Null) => problem = Some("null MX".to_owned()),
                    Err(MxNone::Nothing(Nothing::NoName)) => problem = Some(format!("no such domain: {domain}")),
                    Err(MxNone::Nothing(Nothing::Unknown(why))) => problem = Some(why),
                },
            }
        }
        if let (true, Some(problem)) = (targets.is_empty(), problem) {
            // A mistake of ours must not bounce the queue.
            return Err(RouteError::Temporary(format!("smtp-hosts: {problem}")));
        }
        let query = RouteQuery { own: &[], ..*query };
        self.to_hosts(targets, &query).await.map_err(|e| match e {
            RouteError::NoHosts | RouteError::NoSuchDomain => {
                RouteError::Temporary("smtp-hosts: none of the hosts has an address".into())
            }
            other => other,
        })
    }

    async fn mx(&self, domain: &str, port: u16, level: u32) -> Result<Vec<(u32, Target)>, MxNone> {
        let name = absolute(domain).ok_or(MxNone::Nothing(Nothing::NoName))?;
        let answer = self.inner.lookup(name, RecordType::MX).await.map_err(|e| MxNone::Nothing(e.into()))?;
        let mut null = false;
        let mut targets = Vec::new();
        for record in answer.answers() {
            if let RData::MX(mx) = &record.data {
                if mx.exchange.is_root() {
                    null = true;
                } else {
                    let host = mx.exchange.to_ascii();
                    let host = host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase();
                    targets.push((level + u32::from(mx.preference), Target::Name(host.into(), port)));
                }
            }
        }
        match (targets.is_empty(), null) {
            (true, true) => Err(MxNone::Null),
            (true, false) => Err(MxNone::Nothing(Nothing::NoRecords)),
            (false, _) => Ok(targets),
        }
    }

    /// Sorts, looks up addresses, drops what leads back to us.
    async fn to_hosts(&self, mut targets: Vec<(u32, Target)>, query: &RouteQuery<'_>) -> Result<Vec<Host>, RouteError> {
        targets.shuffle(&mut rand::rng());
        targets.sort_by_key(|(preference, _)| *preference);
        targets.truncate(MAX_HOSTS);
        let mut hosts: Vec<(u32, Host)> = Vec::new();
        let begun = Instant::now();
        let (mut unknown, mut other_family, mut addresses) = (None, false, 0);
        for (preference, target) in targets {
            if addresses >= MAX_ADDRESSES && hosts.last().is_some_and(|(p, _)| *p < preference) {
                break;
            }
            if begun.elapsed() > MAX_LOOKING {
                if hosts.is_empty() {
                    unknown.get_or_insert_with(|| "the look-ups take too long".to_owned());
                }
                break;
            }
            let (name, port, found) = match target {
                Target::Address(ip, port) => (ip.to_string().into_boxed_str(), port, Ok(vec![ip])),
                Target::Name(name, port) => {
                    let found = match name.parse() {
                        Ok(ip) => Ok(vec![ip]),
                        Err(_) => self.addresses(&name, query).await,
                    };
                    (name, port, found)
                }
            };
            let found = match found {
                Ok(found) => found,
                Err(Nothing::Unknown(why)) => {
                    unknown = Some(why);
                    continue;
                }
                // The name exists; that it has no address of the other family either was not asked.
                Err(Nothing::NoRecords) if !(query.v4 && query.v6) => {
                    other_family = true;
                    continue;
                }
                Err(_) => continue,
            };
            let mut usable: Vec<SocketAddr> = found
                .iter()
                .filter(|ip| if ip.is_ipv4() { query.v4 } else { query.v6 })
                .map(|ip| (*ip, port).into())
                .collect();
            if usable.is_empty() {
                other_family = true;
                continue;
            }
            if usable.iter().any(|address| is_own(*address, query.own)) {
                hosts.retain(|(p, _)| *p < preference);
                if hosts.is_empty() {
                    return Err(RouteError::Loop);
                }
                break;
            }
            usable.truncate(MAX_ADDRESSES);
            addresses += usable.len();
            hosts.push((preference, Host { name, addresses: usable }));
        }
        if hosts.is_empty() {
            return Err(match (unknown, other_family) {
                (Some(why), _) => RouteError::Temporary(why),
                (None, true) => RouteError::Family,
                (None, false) => RouteError::NoHosts,
            });
        }
        Ok(hosts.into_iter().map(|(_, host)| host).collect())
    }

    /// All addresses of a name, of both families.
    pub(super) async fn all_addresses(&self, host: &str) -> Result<Vec<IpAddr>, Nothing> {
        let all = RouteQuery { domain: host, smtp_hosts: &[], port: 25, need_mx: false, v4: true, v6: true, own: &[] };
        self.addresses(host, &all).await
    }

    /// The host's addresses, in random order within each family, IPv6 first.
    async fn addresses(&self, host: &str, query: &RouteQuery<'_>) -> Result<Vec<IpAddr>, Nothing> {
        let name = absolute(host).ok_or(Nothing::NoName)?;
        let (v6, v4) = tokio::join!(
            async { if query.v6 { Some(self.inner.lookup(name.clone(), RecordType::AAAA).await) } else { None } },
            async { if query.v4 { Some(self.inner.lookup(name.clone(), RecordType::A).await) } else { None } },
        );
        let mut found = Vec::new();
        let mut nothing = None;
        for answer in [v6, v4].into_iter().flatten() {
            match answer {
                Ok(answer) => {
                    let from = found.len();
                    found.extend(answer.answers().iter().filter_map(|record| match &record.data {
                        RData::A(a) => Some(IpAddr::V4(a.0)),
                        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
                        _ => None,
                    }));
                    found[from..].shuffle(&mut rand::rng());
                }
                Err(error) => {
                    let this = Nothing::from(error);
                    // No word of one family outweighs "none" of the other.
                    if !matches!(nothing, Some(Nothing::Unknown(_))) {
                        nothing = Some(this);
                    }
                }
            }
        }
        if found.is_empty() { Err(nothing.unwrap_or(Nothing::NoRecords)) } else { Ok(found) }
    }
}

enum Target {
    Name(Box<str>, u16),
    Address(IpAddr, u16),
}

enum MxNone {
    Null,
    Nothing(Nothing),
}

/// The name as an absolute one, so that no search list applies; `None` when it is no name.
fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The address in `[...]` (RFC 5321, 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    inside.strip_prefix("ipv6:").or_else(|| inside.strip_prefix("IPv6:")).unwrap_or(inside).parse().ok()
}

fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    // `::ffff:127.0.0.1` is 127.0.0.1, and a connection to 0.0.0.0 reaches this very host.
    let ip = address.ip().to_canonical();
    own.iter().any(|o| {
        o.port() == address.port()
            && (o.ip() == ip
                || (o.ip().is_unspecified() && ip.is_loopback())
                || (ip.is_unspecified() && o.ip().is_loopback()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_our_own_addresses_known() {
        assert_eq!(literal("[192.0.2.1]"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(literal("[ipv6:2001:db8::1]"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(literal("example.net"), None);
        let address = |text: &str| text.parse().unwrap();
        assert!(is_own(address("127.0.0.1:25"), &[address("0.0.0.0:25")]));
        assert!(!is_own(address("192.0.2.1:25"), &[address("0.0.0.0:25")]), "whose it is can't be known");
        assert!(!is_own(address("127.0.0.1:25"), &[address("127.0.0.1:2525")]));
        assert!(is_own(address("[::ffff:127.0.0.1]:25"), &[address("127.0.0.1:25")]));
        assert!(is_own(address("[::ffff:127.0.0.1]:25"), &[address("0.0.0.0:25")]));
        assert!(is_own(address("0.0.0.0:25"), &[address("127.0.0.1:25")]));
    }
}
