#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: the submission client's socket")]
//! The submitting side of SMTP: one connection, one recipient per message, pipelined (RFC 2920).
//!
//! The envelope of the next message travels with the content of the current one, so that a message costs one round trip.
//! The client never decides what an unclear end means: when the connection breaks after the final dot was written, the
//! reply is an [`ClientError`], and whoever asked must treat the message as in doubt.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::event::Reply;

/// How long a reply may take, the one after the final dot included (RFC 5321, 4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(600);
const MAX_REPLY: usize = 64 << 10;

/// Where to submit and how.
#[derive(Clone)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What to say in EHLO.
    pub ehlo: String,
    /// User and password for AUTH PLAIN.
    pub credentials: Option<(String, String)>,
    /// When STARTTLS is used.
    pub tls: TlsUse,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// When STARTTLS is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsUse {
    /// Never.
    Off,
    /// Required; the certificate is verified against the system's roots.
    Verified,
    /// Required; any certificate will do.
    Unverified,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed or the server hung up.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server refused to be used: greeting, EHLO, STARTTLS or AUTH.
    #[error("{stage} refused: {reply}")]
    Refused {
        /// Where in the dialogue.
        stage: &'static str,
        /// What it said.
        reply: String,
    },
    /// What came back is no SMTP.
    #[error("not an SMTP reply: {0:?}")]
    Garbled(String),
    /// TLS or AUTH was asked for and is not there.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// The TLS set-up failed.
    #[error("TLS: {0}")]
    Tls(String),
}

/// What the server made of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeOutcome {
    /// It waits for the content.
    Ready,
    /// It refused MAIL, RCPT or DATA with this.
    Refused(Reply),
}

/// Sender and recipient of a message.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Envelope sender.
    pub from: &'a str,
    /// Envelope recipient.
    pub rcpt: &'a str,
    /// The content has octets above 127.
    pub eight_bit: bool,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection that is ready for envelopes.
pub struct Client {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
    pipelining: bool,
    eight_bit: bool,
    /// A transaction is open that came to nothing; RSET goes before the next MAIL.
    stale: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("pipelining", &self.pipelining).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, greets, secures and authenticates as `server` says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn connect(server: &Server) -> Result<Client, ClientError> {
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
        tcp.set_nodelay(true)?;
        let mut client = Client {
            stream: Box::new(tcp),
            buffer: BytesMut::with_capacity(4096),
            pipelining: false,
            eight_bit: false,
            stale: false,
        };
        client.reply_to("greeting").await?;
        let mut keywords = client.ehlo(server).await?;
        if server.tls != TlsUse::Off {
            if !offers(&keywords, "STARTTLS") {
                return Err(ClientError::NotOffered("STARTTLS"));
            }
            client.write(b"STARTTLS\r\n").await?;
            client.reply_to("STARTTLS").await?;
            client = client.secure(server).await?;
            keywords = client.ehlo(server).await?;
        }
        if let Some((user, password)) = &server.credentials {
            let plain = |k: &String| k.strip_prefix("AUTH ").is_some_and(|m| m.split(' ').any(|m| m == "PLAIN"));
            if !keywords.iter().any(plain) {
                return Err(ClientError::NotOffered("AUTH PLAIN (perhaps only with STARTTLS: see --starttls)"));
            }
            // RFC 4616: authorization identity, user, password, parted by NUL.
            let secret = BASE64.encode(format!("\0{user}\0{password}").as_bytes());
            client.write(format!("AUTH PLAIN {secret}\r\n").as_bytes()).await?;
            client.reply_to("AUTH").await?;
        }
        client.pipelining = offers(&keywords, "PIPELINING");
        client.eight_bit = offers(&keywords, "8BITMIME");
        Ok(client)
    }

    /// Offers an envelope.
    ///
    /// # Errors
    /// When the connection is of no more use.
    pub async fn envelope(&mut self, envelope: Envelope<'_>) -> Result<EnvelopeOutcome, ClientError> {
        let commands = self.commands(envelope);
        if self.pipelining {
            self.write(commands.concat().as_bytes()).await?;
            return self.envelope_replies(commands.len() - 3).await;
        }
        for (i, command) in commands.iter().enumerate() {
            self.write(command.as_bytes()).await?;
            let reply = self.reply().await?;
            let data = i + 1 == commands.len();
            if !(reply.is_positive() || data && reply.code == 354) {
                self.stale = true;
                return Ok(EnvelopeOutcome::Refused(reply));
            }
        }
        self.stale = false;
        Ok(EnvelopeOutcome::Ready)
    }

    /// Sends the content that the server waits for and, behind it, the next envelope if there is one. `content` has CRLF
    /// line ends, the last line included, and is not dot-stuffed. The second value says what became of `next`.
    pub async fn content(
        &mut self,
        content: &[u8],
        next: Option<Envelope<'_>>,
    ) -> (Result<Reply, ClientError>, Option<Result<EnvelopeOutcome, ClientError>>) {
        let mut bytes = stuff(content);
        bytes.extend_from_slice(b".\r\n");
        self.stale = false;
        let mut behind = 0;
        if let (Some(envelope), true) = (next, self.pipelining) {
            let commands = self.commands(envelope);
            behind = commands.len();
            bytes.extend_from_slice(commands.concat().as_bytes());
        }
        if let Err(error) = self.write(&bytes).await {
            return (Err(error), None);
        }
        let reply = match self.reply().await {
            Ok(reply) => reply,
            Err(error) => return (Err(error), None),
        };
        let Some(envelope) = next else { return (Ok(reply), None) };
        let outcome = match behind {
            0 => self.envelope(envelope).await,
            n => self.envelope_replies(n - 3).await,
        };
        (Ok(reply), Some(outcome))
    }

    /// Takes back an envelope that the server waits for content for, by closing: SMTP has no other way.
    pub async fn abandon(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Says goodbye. Whatever comes of it changes nothing.
    pub async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.reply()).await;
        }
    }

    fn commands(&mut self, envelope: Envelope<'_>) -> Vec<String> {
        let body = if envelope.eight_bit && self.eight_bit { " BODY=8BITMIME" } else { "" };
        let mut commands = Vec::with_capacity(4);
        if self.stale {
            commands.push("RSET\r\n".to_owned());
        }
        commands.push(format!("MAIL FROM:<{}>{body}\r\n", envelope.from));
        commands.push(format!("RCPT TO:<{}>\r\n", envelope.rcpt));
        commands.push("DATA\r\n".to_owned());
        commands
    }

    /// The replies to `before` commands and to MAIL, RCPT, DATA.
    async fn envelope_replies(&mut self, before: usize) -> Result<EnvelopeOutcome, ClientError> {
        for _ in 0..before {
            self.reply().await?;
        }
        self.stale = false;
        let mut refusal = None;
        for _ in 0..2 {
            let reply = self.reply().await?;
            if !reply.is_positive() {
                // 421 means that the server closes now (RFC 5321, 3.8).
                if reply.code == 421 {
                    return Err(ClientError::Refused { stage: "envelope", reply: reply.text });
                }
                refusal.get_or_insert(reply);
            }
        }
        let data = self.reply().await?;
        match (data.code, refusal) {
            (354, None) => Ok(EnvelopeOutcome::Ready),
            (354, Some(refusal)) => {
                // It waits for content although nobody is to get it: an empty message ends that (RFC 2920, 3.1).
                self.write(b".\r\n").await?;
                self.reply().await?;
                Ok(EnvelopeOutcome::Refused(refusal))
            }
            (_, refusal) => {
                self.stale = true;
                Ok(EnvelopeOutcome::Refused(refusal.unwrap_or(data)))
            }
        }
    }

    async fn ehlo(&mut self, server: &Server) -> Result<Vec<String>, ClientError> {
        self.write(format!("EHLO {}\r\n", server.ehlo).as_bytes()).await?;
        let reply = self.reply_to("EHLO").await?;
        Ok(reply.lines().map(|l| l.get(4..).unwrap_or("").trim().to_ascii_uppercase()).collect())
    }

    async fn secure(mut self, server: &Server) -> Result<Client, ClientError> {
        let config = tls::client_config(server.tls == TlsUse::Verified).map_err(ClientError::Tls)?;
        let name = match server.host.parse::<IpAddr>() {
            Ok(ip) => rustls::pki_types::ServerName::from(ip),
            Err(_) => server.host.clone().try_into().map_err(|_| ClientError::Tls("bad host name".into()))?,
        };
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.stream).await?;
        // What came in the clear behind the 220 is not to be believed (RFC 3207, 4.2).
        self.buffer.clear();
        Ok(Client { stream: Box::new(stream), buffer: self.buffer, pipelining: false, eight_bit: false, stale: false })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let work = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(PATIENCE, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    /// The whole of a positive reply, lines parted by LF.
    async fn reply_to(&mut self, stage: &'static str) -> Result<String, ClientError> {
        let text = self.reply_text().await?;
        match text.as_bytes().first() {
            Some(b'2') => Ok(text),
            _ => Err(ClientError::Refused { stage, reply: joined(&text) }),
        }
    }

    async fn reply(&mut self) -> Result<Reply, ClientError> {
        let text = joined(&self.reply_text().await?);
        Reply::parse(&text).ok_or_else(|| ClientError::Garbled(text.chars().take(200).collect()))
    }

    async fn reply_text(&mut self) -> Result<String, ClientError> {
        loop {
            if let Some(length) = reply_length(&self.buffer) {
                let bytes = self.buffer.split_to(length);
                let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
                return Ok(text.trim_end().to_owned());
            }
            if self.buffer.len() > MAX_REPLY {
                return Err(ClientError::Garbled("a reply without end".into()));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into());
            }
        }
    }
}

/// The lines of a reply in one, the code only at its beginning.
fn joined(text: &str) -> String {
    let mut lines = text.split('\n').map(str::trim_end);
    let first = lines.next().unwrap_or("").replacen('-', " ", usize::from(text.as_bytes().get(3) == Some(&b'-')));
    lines.fold(first, |all, line| format!("{all} {}", line.get(4..).unwrap_or("")))
}

fn offers(keywords: &[String], wanted: &str) -> bool {
    keywords.iter().any(|k| k.split(' ').next() == Some(wanted))
}

/// How many bytes the first whole reply in the buffer takes, if one is there.
fn reply_length(buffer: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start + memchr::memchr(b'\n', &buffer[start..])? + 1;
        if buffer.get(start + 3) != Some(&b'-') {
            return Some(end);
        }
        start = end;
    }
}

/// Doubles the dot of lines that begin with one (RFC 5321, 4.5.2).
fn stuff(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 512);
    if content.starts_with(b".") {
        bytes.push(b'.');
    }
    let mut rest = content;
    while let Some(at) = memchr::memmem::find(rest, b"\n.") {
        bytes.extend_from_slice(&rest[..at + 2]);
        bytes.push(b'.');
        rest = &rest[at + 2..];
    }
    bytes.extend_from_slice(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_first_line_without_hyphen() {
        assert_eq!(reply_length(b"250-a\r\n250 b\r\n354 c\r\n"), Some(14));
        assert_eq!(reply_length(b"250-a\r\n250 b"), None);
        assert_eq!(reply_length(b""), None);
    }

    #[test]
    fn the_lines_of_a_reply_become_one() {
        assert_eq!(joined("550-5.1.1 no\n550 5.1.1 such-user"), "550 5.1.1 no 5.1.1 such-user");
        assert_eq!(joined("250 ok-ay"), "250 ok-ay");
    }

    #[test]
    fn a_leading_dot_is_doubled_on_every_line() {
        assert_eq!(stuff(b".a\r\nb\r\n..c\r\n"), b"..a\r\nb\r\n...c\r\n");
        assert_eq!(stuff(b"\r\n.\r\n"), b"\r\n..\r\n");
    }
}
