#![expect(clippy::disallowed_methods, reason = "edge: clock and deadlines of a connection")]
#![expect(clippy::disallowed_types, reason = "edge: a connection")]
//! One SMTP connection: moves bytes between a socket and the session machine, and messages from there to the store.
//!
//! All that has arrived is worked through before anything is written, and is answered with one write. A client that is
//! slow on purpose is bounded: a whole command must arrive within `smtp-command-timeout`, and content must bring
//! [`PROGRESS`] bytes within each `smtp-data-timeout`; single bytes do not win time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::event::Time;
use crate::smtp::answer::Answer;
use crate::smtp::server::{Action, Received, Session};

use super::smtp_policy::{Peer, SmtpPolicy};
use super::submit::{Accepted, Intake, Spool, SubmitError, Taken};

/// Bytes of content that must come within a data timeout.
const PROGRESS: usize = 4096;
/// Bytes read at once.
const READ: usize = 32 * 1024;
/// How long we wait for the client to take note of our last reply.
const LINGER: Duration = Duration::from_secs(1);

/// Why the dialogue ended.
enum End {
    Closed,
    StartTls,
}

/// Serves one connection until it ends.
pub async fn run<S: Spool>(
    mut stream: TcpStream,
    peer: Peer,
    tls: Arc<ServerConfig>,
    intake: Intake<S>,
    mut shutdown: watch::Receiver<bool>,
) {
    let client = peer.ip;
    let policy = SmtpPolicy::new(intake.clone(), peer);
    let log = policy.source().log_connections;
    let host = policy.host_name().to_owned();
    if log {
        tracing::info!(%client, "SMTP session begins");
    }
    let mut session = match policy.turned_away() {
        None => Session::new(policy, &host, false),
        Some(answer) => Session::refused(policy, &host, &answer),
    };
    let mut result = converse(&mut stream, &mut session, &intake, &mut shutdown).await;
    if matches!(result, Ok(End::StartTls)) {
        result = encrypted(stream, tls, &mut session, &intake, &mut shutdown).await;
    }
    match result {
        Err(error) if log => tracing::info!(%client, "SMTP session ends: {error}"),
        Err(error) => tracing::debug!(%client, "SMTP session ends: {error}"),
        Ok(_) if log => tracing::info!(%client, "SMTP session ends"),
        Ok(_) => {}
    }
}

async fn encrypted<S: Spool>(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    session: &mut Session<SmtpPolicy<S>>,
    intake: &Intake<S>,
    shutdown: &mut watch::Receiver<bool>,
) -> io::Result<End> {
    let limit = session.policy().source().smtp_command_timeout;
    let mut stream = timeout(limit, TlsAcceptor::from(tls).accept(stream)).await.map_err(io::Error::other)??;
    session.secured();
    converse(&mut stream, session, intake, shutdown).await
}

/// Until the session is over or wants TLS. What was read and not used by then is dropped.
async fn converse<T: AsyncRead + AsyncWrite + Unpin, S: Spool>(
    io: &mut T,
    session: &mut Session<SmtpPolicy<S>>,
    intake: &Intake<S>,
    shutdown: &mut watch::Receiver<bool>,
) -> io::Result<End> {
    let mut input = BytesMut::with_capacity(READ);
    let mut output = Vec::new();
    let mut patience = Patience::new(session);
    let mut stopping = false;
    let mut held = intake.held().part();
    loop {
        let (used, action) = session.advance(&input);
        input.advance(used);
        patience.progress += used;
        match action {
            // Nothing is written before: what is to come belongs to the same write.
            Action::Accept(received) => {
                held.set(received.content.bytes.len());
                let answer = submit(session, intake, received).await;
                session.accepted(&answer);
                if stopping {
                    session.stop();
                }
                continue;
            }
            Action::Read | Action::StartTls | Action::Close => {}
        }
        if !held.set(session.content_held()) {
            session.discard_content();
            held.set(0);
        }
        session.take_output(&mut output);
        if !output.is_empty() {
            let limit = session.policy().source().smtp_command_timeout;
            timeout(limit, write(io, &output)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        match action {
            Action::StartTls => return Ok(End::StartTls),
            Action::Close => {
                linger(io).await;
                return Ok(End::Closed);
            }
            Action::Read | Action::Accept(_) => {}
        }
        patience.renew(session);
        input.reserve(READ);
        let wait = async {
            tokio::select! {
                biased;
                read = io.read_buf(&mut input) => Some(read),
                () = stopped(shutdown), if !stopping => None,
            }
        };
        match timeout_at(patience.deadline, wait).await {
            Ok(Some(read)) => {
                if read? == 0 {
                    return Ok(End::Closed);
                }
            }
            Ok(None) => {
                stopping = true;
                session.stop();
            }
            Err(_) => session.timed_out(),
        }
    }
}

/// Until the server is to stop.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await; // fails when nobody is left to say so, which means the same
}

async fn write<T: AsyncWrite + Unpin>(io: &mut T, output: &[u8]) -> io::Result<()> {
    io.write_all(output).await?;
    io.flush().await
}

/// Ends our side and waits a little for the client to end its own: closing with bytes unread would make the system
/// reset the connection, and the client might never see the last reply.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(io: &mut T) {
    let drain = async {
        io.shutdown().await?;
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if io.read(&mut rest).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Whatever goes wrong now, the connection is over.
    let _ = timeout(LINGER, drain).await;
}

async fn submit<S: Spool>(
    session: &Session<SmtpPolicy<S>>,
    intake: &Intake<S>,
    received: Received<Accepted>,
) -> Answer {
    let now = Time::from(jiff::Timestamp::now());
    let submission = session.policy().submission(received, session.hello(), session.is_secure(), now);
    let client = session.policy().peer().ip;
    let (rcpts, size) = (submission.rcpts.len(), submission.content.bytes.len());
    match intake.submit(submission).await {
        Ok(taken) => {
            let Taken { id, suppressed, .. } = taken;
            tracing::debug!(%client, %id, rcpts, suppressed, size, "message accepted");
            taken.answer()
        }
        Err(error) => {
            match &error {
                SubmitError::Store(_) => tracing::warn!(%client, "message not accepted: {error}"),
                _ => tracing::info!(%client, "message refused: {error}"),
            }
            error.answer()
        }
    }
}

/// How long the client may keep us waiting.
struct Patience {
    deadline: Instant,
    in_data: bool,
    lines: u64,
    progress: usize,
}

impl Patience {
    fn new<S: Spool>(session: &Session<SmtpPolicy<S>>) -> Patience {
        let limit = session.policy().source().smtp_command_timeout;
        Patience { deadline: Instant::now() + limit, in_data: false, lines: session.lines(), progress: 0 }
    }

    /// Before waiting: a command counts when it is whole, content by the [`PROGRESS`] it makes.
    fn renew<S: Spool>(&mut self, session: &Session<SmtpPolicy<S>>) {
        let source = session.policy().source();
        let (in_data, lines) = (session.in_data(), session.lines());
        let moved = in_data != self.in_data || lines != self.lines || (in_data && self.progress >= PROGRESS);
        if moved {
            let limit = if in_data { source.smtp_data_timeout } else { source.smtp_command_timeout };
            *self = Patience { deadline: Instant::now() + limit, in_data, lines, progress: 0 };
        }
    }
}
