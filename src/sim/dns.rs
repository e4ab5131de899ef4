#![expect(clippy::disallowed_types, reason = "edge: the simulated name server's sockets")]
//! A small authoritative name server in the process, over UDP and TCP on one loopback port, answering from [`Zones`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{MessageType, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, MX, PTR, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::zones::{Answer, Question, Zones};

/// Seconds for which answers may be cached. Short, so that a test's change of zones shows.
const TTL: u32 = 30;
const PORT_TRIES: usize = 50;

/// A name server, answering until it is dropped or stopped.
pub struct DnsServer {
    address: SocketAddr,
    server: hickory_server::Server<Authority>,
}

impl std::fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl DnsServer {
    /// Starts answering from `zones` on a port of 127.0.0.1 that is free for UDP and TCP.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(zones: Zones) -> io::Result<DnsServer> {
        for _ in 0..PORT_TRIES {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = udp.local_addr()?;
            let tcp = match TcpListener::bind(address).await {
                Ok(tcp) => tcp,
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => continue,
                Err(e) => return Err(e),
            };
            let mut server = hickory_server::Server::new(Authority { zones: Arc::new(zones) });
            server.register_socket(udp);
            server.register_listener(tcp, Duration::from_secs(10), 512);
            return Ok(DnsServer { address, server });
        }
        Err(io::Error::other("found no port of 127.0.0.1 that is free for both UDP and TCP"))
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops answering.
    pub async fn stop(mut self) {
        // It fails only when a socket's task did, which is over then too.
        let _ = self.server.shutdown_gracefully().await;
    }
}

/// A resolver that asks this name server only.
///
/// # Errors
/// When the resolver can't be built.
pub fn resolver(server: SocketAddr) -> io::Result<TokioResolver> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
        c.port = server.port();
        c
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().map_err(io::Error::other)
}

struct Authority {
    zones: Arc<Zones>,
}

impl Authority {
    /// The records of an answer; the code when there are none.
    fn records(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, ResponseCode> {
        let question = match kind {
            RecordType::MX => Question::Mx,
            RecordType::A => Question::A,
            RecordType::AAAA => Question::Aaaa,
            RecordType::TXT => Question::Txt,
            RecordType::PTR => Question::Ptr,
            _ => Question::Other,
        };
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        match self.zones.answer(&name.to_ascii(), question) {
            Answer::Mx(hosts) => hosts
                .iter()
                .map(|(preference, host)| {
                    // Zones are made by us; a host name that is none is a server failure, as in life.
                    let host = Name::from_str(&format!("{}.", host.trim_end_matches('.')));
                    host.map(|h| record(RData::MX(MX::new(*preference, h)))).map_err(|_| ResponseCode::ServFail)
                })
                .collect(),
            Answer::Addresses(addresses) => Ok(addresses
                .into_iter()
                .map(|a| match a {
                    IpAddr::V4(a) => record(RData::A(A(a))),
                    IpAddr::V6(a) => record(RData::AAAA(AAAA(a))),
                })
                .collect()),
            Answer::Txt(texts) => Ok(texts
                .iter()
                .map(|text| {
                    // A string holds 255 octets at most (RFC 1035, 3.3); readers put them together again.
                    let strings: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
                    record(RData::TXT(TXT::from_bytes(strings)))
                })
                .collect()),
            Answer::Ptr(names) => names
                .iter()
                .map(|name| {
                    let name = Name::from_str(&format!("{}.", name.trim_end_matches('.')));
                    name.map(|n| record(RData::PTR(PTR(n)))).map_err(|_| ResponseCode::ServFail)
                })
                .collect(),
            Answer::NoData => Ok(Vec::new()),
            Answer::NxDomain => Err(ResponseCode::NXDomain),
            Answer::ServFail => Err(ResponseCode::ServFail),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Authority {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.message_type = MessageType::Response;
        metadata.authoritative = true;
        let (answers, code) = match request.request_info() {
            Err(_) => (Vec::new(), ResponseCode::FormErr),
            Ok(info) => match self.records(&Name::from(info.query.name()), info.query.query_type()) {
                Ok(records) => (records, ResponseCode::NoError),
                Err(code) => (Vec::new(), code),
            },
        };
        metadata.response_code = code;
        // A negative answer says by its SOA for how long it holds (RFC 2308).
        let negative = answers.is_empty() && matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let soa: Vec<Record> = negative.then(soa).into_iter().collect();
        let builder = MessageResponseBuilder::from_message_request(request);
        let message = builder.build(metadata, &answers, [], &soa, []);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "DNS answer not sent");
                let header = hickory_server::proto::op::Header { metadata, counts: Default::default() };
                ResponseInfo::from(header)
            }
        }
    }
}

fn soa() -> Record {
    let name = |text: &str| Name::from_ascii(text).unwrap_or_else(|_| Name::root());
    let soa = SOA::new(name("ns.example."), name("hostmaster.example."), 1, 3600, 600, 86_400, TTL);
    Record::from_rdata(name("example."), TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::{DEAD_FIRST_MX, PROVIDERS};

    async fn asked(name: &str, kind: RecordType) -> Result<Vec<String>, String> {
        let server = DnsServer::start(Zones::of_the_world()).await.unwrap();
        let resolver = resolver(server.address()).unwrap();
        let found = resolver.lookup(name, kind).await;
        server.stop().await;
        match found {
            Ok(lookup) => Ok(lookup.answers().iter().map(|r| r.data.to_string()).collect()),
            Err(e) => Err(format!("{e:?}")),
        }
    }

    #[tokio::test]
    async fn a_resolver_finds_mail_hosts_and_their_addresses() {
        assert_eq!(asked("mailhost.example.", RecordType::MX).await.unwrap(), ["10 mx.mailhost.example."]);
        assert_eq!(asked("mx.mailhost.example.", RecordType::A).await.unwrap(), [PROVIDERS[0].address.to_string()]);
        let both = asked(&format!("{DEAD_FIRST_MX}."), RecordType::MX).await.unwrap();
        assert_eq!(both, ["10 dead.campus.example.", "20 mail.campus.example."]);
    }

    #[tokio::test]
    async fn a_null_mx_is_the_root_with_preference_zero() {
        assert_eq!(asked("no-mail.example.", RecordType::MX).await.unwrap(), ["0 ."]);
    }

    #[tokio::test]
    async fn what_does_not_exist_and_what_fails_are_told_apart() {
        let missing = asked("never-registered.example.", RecordType::MX).await.unwrap_err();
        let failing = asked("lame-delegation.example.", RecordType::MX).await.unwrap_err();
        assert!(missing.contains("NXDomain"), "{missing}");
        assert!(failing.contains("ServFail"), "{failing}");
        let empty = asked("labs.campus.example.", RecordType::MX).await.unwrap_err();
        assert!(empty.contains("NoError"), "{empty}");
    }
}
