#![expect(clippy::disallowed_methods, reason = "edge: waits out a lack of file handles, bounds the end")]
#![expect(clippy::disallowed_types, reason = "edge: listening sockets")]
//! Accepting SMTP connections, and ending them in order.
//!
//! No more than `total-max-smtp-in` sessions are served at once; one client address gets a quarter of them at most,
//! unless its source has `always-allow-relaying` (a feeder may use all). Whoever comes over a limit gets `421 4.3.2` or
//! `421 4.7.0` and is not served. On shutdown no connection is accepted any more, sessions that have a transaction under
//! way finish it, and after [`GRACE`] what is left is cut off: those clients have not heard a `250`, and try again.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;

use crate::config::{Config, Listener};
use crate::net::server_tls::{ServerTlsError, server_config};

use super::slots::{Full, Slots};
use super::smtp_policy::Peer;
use super::smtp_session;
use super::submit::{Intake, Spool};

/// How long sessions may take to finish their transaction when the server stops.
pub const GRACE: Duration = Duration::from_secs(10);

/// A listener that is bound.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: TcpListener,
    /// As configured, with what TLS shows.
    pub identity: Identity,
}

/// What a listener shows in TLS. A clone kept by the caller of [`serve`] renews it while the listener is served.
#[derive(Debug, Clone)]
pub struct Identity {
    listener: Listener,
    tls: Arc<ArcSwap<ServerConfig>>,
}

impl Identity {
    fn new(config: &Config, listener: &Listener) -> Result<Identity, ListenError> {
        let tls = load(config, listener)?;
        Ok(Identity { listener: listener.clone(), tls: Arc::new(ArcSwap::new(tls)) })
    }

    /// Reads certificate and key again, for sessions that begin from now on. On an error the old ones stay.
    pub fn renew(&self, config: &Config) -> Result<(), ListenError> {
        self.tls.store(load(config, &self.listener)?);
        Ok(())
    }
}

fn load(config: &Config, listener: &Listener) -> Result<Arc<ServerConfig>, ListenError> {
    let pem = listener.tls_certificate.as_deref().or(config.smtp_server_tls_certificate.as_deref());
    server_config(pem, &config.host_names).map_err(|cause| ListenError::Tls { address: listener.address, cause })
}

/// Why a listener can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address.
    #[error("smtp-listener {address}: {cause} (is the port taken, or are privileges missing?)")]
    Bind {
        /// Which one.
        address: std::net::SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The certificate.
    #[error("smtp-listener {address}: {cause}")]
    Tls {
        /// Which one.
        address: std::net::SocketAddr,
        /// What is wrong with it.
        cause: ServerTlsError,
    },
}

/// Binds all listeners of a configuration; all or none. Must be called within the runtime.
pub fn bind(config: &Config) -> Result<Vec<Bound>, ListenError> {
    config.listeners.iter().map(|listener| bind_one(config, listener)).collect()
}

fn bind_one(config: &Config, listener: &Listener) -> Result<Bound, ListenError> {
    let address = listener.address;
    let identity = Identity::new(config, listener)?;
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // An IPv4 listener on the same port is a listener of its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    };
    let socket = open().map_err(|cause| ListenError::Bind { address, cause })?;
    Ok(Bound { socket, identity })
}

/// Serves until `shutdown` turns true (or its sender is gone), and then until the sessions have ended.
pub async fn serve<S: Spool>(listeners: Vec<Bound>, intake: Intake<S>, shutdown: watch::Receiver<bool>) {
    let slots = Slots::default();
    let mut loops = JoinSet::new();
    for bound in listeners {
        loops.spawn(accept(bound, intake.clone(), slots.clone(), shutdown.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        if let Err(error) = ended {
            tracing::error!("an SMTP listener failed: {error}");
        }
    }
}

async fn accept<S: Spool>(bound: Bound, intake: Intake<S>, slots: Slots, shutdown: watch::Receiver<bool>) {
    let Bound { socket, identity } = bound;
    let listener = &identity.listener;
    let mut sessions = JoinSet::new();
    let mut stop = shutdown.clone();
    loop {
        tokio::select! {
            biased;
            () = smtp_session::stopped(&mut stop) => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => report(ended),
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(session) = admit(stream, &identity, &intake, &slots, &shutdown) {
                        sessions.spawn(session);
                    }
                }
                Err(error) => {
                    // Out of file handles, or the client is gone already; neither gets better by hurrying.
                    tracing::warn!(listener = %listener.address, "accepting a connection failed: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(socket);
    let drain = async {
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(GRACE, drain).await.is_err() {
        tracing::warn!(listener = %listener.address, sessions = sessions.len(), "SMTP sessions cut off by the stop");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("an SMTP session failed: {error}");
    }
}

/// The session to be run for a new connection, if it may have one.
fn admit<S: Spool>(
    stream: TcpStream,
    identity: &Identity,
    intake: &Intake<S>,
    slots: &Slots,
    shutdown: &watch::Receiver<bool>,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    // Either fails when the client is gone already.
    let (ip, local_ip) = (stream.peer_addr().ok()?.ip(), stream.local_addr().ok()?.ip());
    let config = intake.config();
    let total = config.total_max_smtp_in;
    let source = &identity.listener.source;
    let feeder = config.source(ip, source.as_deref(), None).always_allow_relaying;
    let per_address = if feeder { total } else { (total / 4).max(1) };
    let slot = match slots.take(ip, total, per_address) {
        Ok(slot) => slot,
        Err(full) => {
            turn_away(stream, full);
            return None;
        }
    };
    // Replies are written whole; waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let peer = Peer { ip, local_ip, listener_source: source.clone() };
    let session = smtp_session::run(stream, peer, identity.tls.load_full(), intake.clone(), shutdown.clone());
    Some(async move {
        session.await;
        drop(slot);
    })
}

/// Says why, as far as the socket takes it at once.
fn turn_away(stream: TcpStream, full: Full) {
    let text: &[u8] = match full {
        Full::Total => b"421 4.3.2 too many connections, try again later\r\n",
        Full::Address => b"421 4.7.0 too many connections from your address, try again later\r\n",
    };
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(text);
    }
}
