//! A name server with a few zones, on real sockets.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_resolver::proto::op::{Message, Metadata, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

pub struct Dns {
    pub address: SocketAddr,
    asked: Arc<AtomicU32>,
}

/// The zones, one record a line. `-` stands for "the name exists", `!` for SERVFAIL, `~` for no answer at all.
const ZONES: &str = "
    plain.example         MX    10 mx2.plain.example
    plain.example         MX    5  mx1.plain.example
    mx1.plain.example     A     127.0.0.1
    mx2.plain.example     A     127.0.0.2
    mx2.plain.example     AAAA  ::1
    equal.example         MX    10 mx1.plain.example
    equal.example         MX    10 mx2.plain.example
    null.example          MX    0  .
    nomx.example          A     127.0.0.1
    empty.example         -
    fails.example         !
    silent.example        ~
    mxfails.example       MX    10 fails.example
    mxfails.example       MX    20 mx1.plain.example
    allfail.example       MX    10 fails.example
    loop.example          MX    10 mx1.plain.example
    loop.example          MX    20 mx2.plain.example
    backup.example        MX    10 mx2.plain.example
    backup.example        MX    20 mx1.plain.example
    six.example           MX    10 six.host.example
    six.host.example      AAAA  ::1
    long.example          MX    10 mx1.plain.example
    dead.example          MX    10 gone.example
";

impl Dns {
    pub async fn start() -> Dns {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((n, from)) = udp.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(mut answer) = answer(&buffer[..n]) {
                    if answer.queries[0].name().to_ascii().starts_with("long.") {
                        answer.answers.clear();
                        answer.metadata.truncation = true;
                    }
                    udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                tokio::spawn(async move {
                    while let Ok(n) = stream.read_u16().await {
                        let mut query = vec![0; usize::from(n)];
                        stream.read_exact(&mut query).await.unwrap();
                        let answer = answer(&query).unwrap().to_vec().unwrap();
                        stream.write_u16(answer.len() as u16).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        Dns { address, asked }
    }

    /// Queries answered over UDP so far.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(query: &[u8]) -> Option<Message> {
    let query = Message::from_vec(query).unwrap();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&query.metadata);
    answer.queries = query.queries.clone();
    let asked = &query.queries[0];
    let name = asked.name().to_ascii().trim_end_matches('.').to_lowercase();
    let mut exists = false;
    for line in ZONES.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words.first() != Some(&name.as_str()) {
            continue;
        }
        exists = true;
        let host = |text: &str| Name::from_str(&format!("{}.", text.trim_end_matches('.'))).unwrap();
        let data = match (words[1], asked.query_type()) {
            ("!", _) => {
                answer.metadata.response_code = ResponseCode::ServFail;
                return Some(answer);
            }
            ("~", _) => return None,
            ("MX", RecordType::MX) => RData::MX(MX::new(words[2].parse().unwrap(), host(words[3]))),
            ("A", RecordType::A) => RData::A(A(words[2].parse().unwrap())),
            ("AAAA", RecordType::AAAA) => RData::AAAA(AAAA(words[2].parse().unwrap())),
            _ => continue,
        };
        answer.answers.push(Record::from_rdata(asked.name().clone(), 300, data));
    }
    if answer.answers.is_empty() {
        if !exists {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let name = Name::from_str("example.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 3600, 600, 86_400, 300);
        answer.authorities.push(Record::from_rdata(name, 300, RData::SOA(soa)));
    }
    Some(answer)
}
