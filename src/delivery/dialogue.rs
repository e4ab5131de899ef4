#![expect(clippy::disallowed_methods, reason = "edge: reads and writes sockets, with time limits")]
//! One connection: bytes to and from the client machines of `smtp`, within the time limits of RFC 5321, 4.5.3.2.
//!
//! Promises: an envelope is one write; content and final dot are one vectored write without copying, where the socket
//! takes it. Fails with [`Lost`]: the connection is of no use then.

use std::io::{self, IoSlice};
use std::time::Duration;

use crate::config::model::QueueSettings;
use crate::event::Stage;
use crate::net::client_tls::{ClientStream, ClientTls, TlsError};
use crate::smtp::client::{Step, Transaction};
use crate::smtp::ehlo::Ehlo;
use crate::smtp::reply::{RawReply, Replies, ReplyError};
use crate::smtp::transcript;
use crate::smtp::transparency::Stuffed;

use super::attempt::Facts;
use super::connect;

/// Time for the replies to EHLO, MAIL, RCPT; RFC 5321, 4.5.3.2.2 and 4.5.3.2.3.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Time for the reply to DATA; RFC 5321, 4.5.3.2.4.
const DATA_TIMEOUT: Duration = Duration::from_secs(120);

/// Time that a server gets to close after QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Octets of content that must be taken within `data-send-timeout`: who reads octet by octet wins no time.
const PROGRESS: usize = 4096;

/// Slices given to one vectored write; the system takes no more than 1024.
const SLICES: usize = 512;

/// The connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Nothing came in time.
    #[error("no reply within {} s", .0.as_secs())]
    NoReply(Duration),
    /// The other side took no bytes in time.
    #[error("the other side takes no data since {} s", .0.as_secs())]
    NotTaken(Duration),
    /// Closed or broken.
    #[error("{}", connect::describe(.0))]
    Io(#[from] io::Error),
    /// What came is no SMTP.
    #[error("{0}")]
    Garbage(#[from] ReplyError),
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: ClientStream,
    replies: Replies,
    /// What the server offers.
    pub ehlo: Ehlo,
    /// What events say of it.
    pub facts: Facts,
    /// The next transaction begins with RSET.
    pub reset: bool,
    /// It has carried a transaction.
    pub used: bool,
    /// Name and port of the host.
    pub host: (Box<str>, u16),
    /// There is another host of the queue to go on with.
    pub others: bool,
    /// It works, and is to be left all the same.
    pub leaving: bool,
    /// `log-commands`.
    log: bool,
}

impl Connection {
    /// Over a fresh stream.
    pub fn new(stream: ClientStream, facts: Facts, log: bool) -> Connection {
        let replies = Replies::new();
        let host = (facts.mta.clone(), 0);
        let (reset, used, others, leaving) = (false, false, false, false);
        Connection { stream, replies, ehlo: Ehlo::default(), facts, reset, used, host, others, leaving, log }
    }

    /// After STARTTLS was granted: what was received in plaintext is dropped.
    pub async fn encrypt(
        self,
        tls: &ClientTls,
        settings: &QueueSettings,
        timeout: Duration,
    ) -> Result<Connection, TlsError> {
        let Connection { stream, facts, log, .. } = self;
        let plain = stream.into_plain().ok_or_else(|| io::Error::other("encrypted twice"))?;
        let stream = tls.handshake(plain, &facts.mta, settings.smtp_tls_ca_file.as_deref(), timeout).await?;
        let (tls_protocol, tls_cipher) = stream.tls_names();
        Ok(Connection::new(stream, Facts { tls_protocol, tls_cipher, ..facts }, log))
    }

    /// Waits for the next reply and gives it to `use_it`. All of it must come within `timeout`: single octets or lines
    /// win no time.
    pub async fn reply<T>(&mut self, timeout: Duration, use_it: impl FnOnce(RawReply<'_>) -> T) -> Result<T, Lost> {
        let mut deadline = None;
        loop {
            if let Some(reply) = self.replies.take()? {
                if self.log {
                    tracing::info!(mta = &*self.facts.mta, "< {}", reply.to_reply().text);
                }
                return Ok(use_it(reply));
            }
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + timeout);
            let read = tokio::time::timeout_at(deadline, self.stream.read(self.replies.buffer()));
            if read.await.map_err(|_| Lost::NoReply(timeout))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Lost> {
        if self.log {
            tracing::info!(mta = &*self.facts.mta, "> {}", transcript::line(bytes));
        }
        tokio::time::timeout(timeout, self.stream.write_all(bytes)).await.map_err(|_| Lost::NotTaken(timeout))??;
        Ok(())
    }

    /// Writes content and final dot.
    async fn write_content(&mut self, content: &[u8], timeout: Duration) -> Result<(), Lost> {
        let stuffed = Stuffed::of(content);
        let mut slices = stuffed.slices(content);
        let mut rest: &mut [IoSlice<'_>] = &mut slices;
        let (mut deadline, mut progress) = (None, 0);
        while !rest.is_empty() {
            let by = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + timeout);
            let some = self.stream.write_some(&rest[..rest.len().min(SLICES)]);
            let n = tokio::time::timeout_at(by, some).await.map_err(|_| Lost::NotTaken(timeout))??;
            IoSlice::advance_slices(&mut rest, n);
            progress += n;
            if progress >= PROGRESS {
                (deadline, progress) = (None, 0);
            }
        }
        tokio::time::timeout(timeout, self.stream.flush()).await.map_err(|_| Lost::NotTaken(timeout))??;
        Ok(())
    }

    /// Whether the server said more than it was asked. What comes next could be taken for the answer to another command,
    /// so nothing more can be sent.
    pub fn out_of_step(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Carries one transaction to its end. `at_dot` becomes true once the final dot may have reached the server.
    pub async fn converse<'a, R: Fn(usize) -> &'a str>(
        &mut self,
        transaction: &mut Transaction<'a, R>,
        content: &[u8],
        settings: &QueueSettings,
        at_dot: &mut bool,
    ) -> Result<(), Lost> {
        loop {
            match transaction.step() {
                Step::Send => {
                    self.write(transaction.output(), settings.data_send_timeout).await?;
                    transaction.output_sent();
                }
                Step::Read => {
                    let timeout = match transaction.stage() {
                        Stage::Data => DATA_TIMEOUT,
                        Stage::Eod => settings.smtp_data_termination_timeout,
                        _ => COMMAND_TIMEOUT,
                    };
                    self.reply(timeout, |reply| transaction.reply(reply)).await?;
                }
                Step::Content => {
                    // In plaintext a write that fails left the end of the dot with us. Under TLS it can't be known.
                    if !self.facts.tls_protocol.is_empty() {
                        transaction.dot_begins();
                        *at_dot = true;
                    }
                    self.write_content(content, settings.data_send_timeout).await?;
                    *at_dot = true;
                    transaction.content_sent();
                }
                Step::EmptyContent => {
                    self.write(b".\r\n", settings.data_send_timeout).await?;
                    transaction.content_sent();
                }
                Step::Done => return Ok(()),
            }
        }
    }

    /// Waits for `woken` or the end of `wait`; `false` when the server closed or spoke meanwhile (421, as a rule).
    pub async fn idle(&mut self, woken: impl Future<Output = ()>, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = woken => true,
            _ = self.stream.socket().readable() => {
                // Under TLS it may be a session ticket; a read without data tells.
                let mut came = Vec::new();
                match tokio::time::timeout(Duration::ZERO, self.stream.read(&mut came)).await {
                    Ok(Ok(0) | Err(_)) => false,
                    Ok(Ok(_)) => false,
                    Err(_) => true,
                }
            }
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Says goodbye and waits a moment for the server to close, so that it is not cut off by a reset.
    pub async fn quit(mut self) {
        if self.write(b"QUIT\r\n", QUIT_TIMEOUT).await.is_ok() {
            let _ = self.reply(QUIT_TIMEOUT, |_| ()).await;
        }
    }
}
