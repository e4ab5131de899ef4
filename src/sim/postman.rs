#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: mails reports by SMTP")]
//! Mails the reports of the providers when they are due, by SMTP, to where the sender's mail is taken.
//!
//! A report that is refused or can't be delivered is tried again a few times and then dropped, with a warning: whoever
//! waits for it must have a time limit of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::report::Report;
use crate::event::Time;

const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(30);

/// Where reports are taken to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// This server, whatever the address.
    Server(SocketAddr),
    /// The mail host of the recipient's domain by MX look-up, at this port.
    Mx(Arc<TokioResolver>, u16),
}

/// Why a report was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server said no.
    #[error("refused: {0}")]
    Refused(String),
    /// No mail host was found.
    #[error("no mail host for {0}: {1}")]
    NoHost(String, String),
}

/// How many reports went out.
#[derive(Debug, Default)]
pub struct Tally {
    /// Taken by the destination.
    pub delivered: AtomicU64,
    /// Given up.
    pub lost: AtomicU64,
}

/// Delivers what comes out of `reports` until the channel ends, from local address `from`, announcing itself as `host`.
pub async fn carry(
    mut reports: mpsc::UnboundedReceiver<Report>,
    destination: Destination,
    from: Option<IpAddr>,
    host: &'static str,
    tally: Arc<Tally>,
) {
    let mut bag: Vec<(Report, u32)> = Vec::new();
    loop {
        let wait = bag.iter().map(|(r, _)| r.due).min().map(|due| due.since(now()));
        let more = match wait {
            None => reports.recv().await,
            Some(wait) => tokio::time::timeout(wait, reports.recv()).await.unwrap_or(None),
        };
        match more {
            Some(report) => {
                bag.push((report, 0));
                continue;
            }
            None if reports.is_closed() && bag.is_empty() => return,
            // The senders are gone: what is in the bag still goes out in time.
            None if wait.is_some_and(|w| w > Duration::ZERO) && reports.is_closed() => {
                tokio::time::sleep(wait.unwrap_or_default()).await;
            }
            None => {}
        }
        let now = now();
        let due: Vec<_> = bag.extract_if(.., |(r, _)| r.due <= now).collect();
        for (mut report, tries) in due {
            match deliver(&report, &destination, from, host).await {
                Ok(()) => {
                    tally.delivered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if tries + 1 < TRIES => {
                    tracing::debug!(to = report.to, %error, "report not taken yet");
                    report.due = now + Duration::from_secs(1 << tries);
                    bag.push((report, tries + 1));
                }
                Err(error) => {
                    tracing::warn!(to = report.to, %error, "report given up");
                    tally.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

async fn deliver(
    report: &Report,
    destination: &Destination,
    from: Option<IpAddr>,
    host: &str,
) -> Result<(), PostError> {
    let server = match destination {
        Destination::Server(address) => *address,
        Destination::Mx(resolver, port) => {
            let domain = report.to.rsplit_once('@').map_or("", |(_, d)| d);
            SocketAddr::new(mail_host(resolver, domain).await?, *port)
        }
    };
    let work = async {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from.filter(|f| f.is_ipv4() == server.is_ipv4()) {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let mut stream = BufReader::new(socket.connect(server).await?);
        stream.get_ref().set_nodelay(true)?;
        expect(&mut stream, None, 2).await?;
        expect(&mut stream, Some(&format!("EHLO {host}")), 2).await?;
        expect(&mut stream, Some(&format!("MAIL FROM:<{}>", report.from)), 2).await?;
        expect(&mut stream, Some(&format!("RCPT TO:<{}>", report.to)), 2).await?;
        expect(&mut stream, Some("DATA"), 3).await?;
        stream.get_mut().write_all(&stuff(&report.content)).await?;
        expect(&mut stream, Some("."), 2).await?;
        // It has been taken; what the server thinks of QUIT changes nothing.
        let _ = expect(&mut stream, Some("QUIT"), 2).await;
        Ok(())
    };
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| PostError::Io(std::io::ErrorKind::TimedOut.into()))?
}

async fn expect(stream: &mut BufReader<TcpStream>, command: Option<&str>, class: u8) -> Result<(), PostError> {
    if let Some(command) = command {
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await?;
    }
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(PostError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        // Only the last line of a reply has no hyphen after the code (RFC 5321, 4.2.1).
        if line.as_bytes().get(3) != Some(&b'-') {
            break;
        }
    }
    if line.as_bytes().first() == Some(&(b'0' + class)) {
        Ok(())
    } else {
        Err(PostError::Refused(line.trim_end().chars().take(200).collect()))
    }
}

/// Doubles the dot of lines that begin with one (RFC 5321, 4.5.2). The content ends with CRLF.
fn stuff(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}

async fn mail_host(resolver: &TokioResolver, domain: &str) -> Result<IpAddr, PostError> {
    let none = |why: String| PostError::NoHost(domain.to_owned(), why);
    let name = format!("{domain}.");
    let mx = resolver.mx_lookup(name.as_str()).await.map_err(|e| none(e.to_string()))?;
    let best = mx
        .answers()
        .iter()
        .filter_map(|r| match &r.data {
            RData::MX(mx) => Some(mx),
            _ => None,
        })
        .min_by_key(|mx| mx.preference)
        .ok_or_else(|| none("no MX".into()))?;
    let ips = resolver.lookup_ip(best.exchange.to_utf8()).await.map_err(|e| none(e.to_string()))?;
    ips.iter().next().ok_or_else(|| none("no address".into()))
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}
