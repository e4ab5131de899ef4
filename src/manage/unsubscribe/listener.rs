#![expect(clippy::disallowed_methods, reason = "edge: bounds the time of connections")]
#![expect(clippy::disallowed_types, reason = "edge: listening sockets")]
//! The sockets of the unsubscribe endpoint: accepted, wrapped in TLS, bounded, and handed to `axum` one request at a time.
//!
//! A connection lasts for `request-timeout` at most, from the moment it is accepted to the end of the answer, and brings
//! [`MAX_OCTETS`] at most; so one that sends a letter a second costs one place of `max-connections` for that time and no
//! more. One address gets a quarter of the places. Who finds no place is not answered: saying so in TLS would cost more
//! than serving it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::Service;
use super::limits::one_client;
use crate::config::UnsubscribeListener;
use crate::intake::slots::{Slot, Slots};

/// Octets that one connection may send.
const MAX_OCTETS: usize = 96 << 10;
/// How long connections may go on when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a listener shows in TLS; replaced when the certificate is renewed.
pub type Shown = Arc<ArcSwap<ServerConfig>>;

/// A listener that is bound.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    listener: UnsubscribeListener,
    tls: Option<Shown>,
}

/// The port is taken, or may not be taken by us.
#[derive(Debug, thiserror::Error)]
#[error("unsubscribe-listener {address}: {cause} (is the port taken, or are privileges missing?)")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

impl Bound {
    /// Binds it; with `None` it speaks plain HTTP. Must be called within the runtime.
    pub fn new(listener: &UnsubscribeListener, tls: Option<Shown>) -> Result<Bound, BindError> {
        let open = || {
            let socket = std::net::TcpListener::bind(listener.address)?;
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let socket = open().map_err(|cause| BindError { address: listener.address, cause })?;
        Ok(Bound { socket, listener: listener.clone(), tls })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or(self.listener.address)
    }

    /// Serves until `shutdown` turns true or its sender is gone, and then until the connections have ended.
    pub async fn serve(self, service: Service, mut shutdown: watch::Receiver<bool>) {
        let Bound { socket, listener, tls } = self;
        let address = listener.address;
        // Connections are ready for HTTP when they go through; the handshakes are made beside each other.
        let (ready, incoming) = mpsc::channel(16);
        let door = Door { incoming, address };
        let accepting = accept(socket, listener.clone(), service.clone(), tls, ready);
        let app = Router::new().fallback(answer).with_state((service, Arc::new(listener)));
        let mut stop = shutdown.clone();
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        let served =
            axum::serve(door, app.into_make_service_with_connect_info::<Peer>()).with_graceful_shutdown(stopped);
        let cut = async {
            drop(shutdown.wait_for(|stop| *stop).await);
            tokio::time::sleep(GRACE).await;
        };
        let serving = async {
            tokio::select! {
                // Ends only with the task.
                () = accepting => {}
                served = served => drop(served),
            }
        };
        tokio::select! {
            () = serving => {}
            () = cut => tracing::warn!(listener = %address, "unsubscribe connections cut off by the stop"),
        }
    }
}

async fn answer(
    State((service, listener)): State<(Service, Arc<UnsubscribeListener>)>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let settings = service.settings(&listener);
    service.answer(&settings, peer, request).await
}

/// Accepts for ever. What is said here is said once in a while: a flood must not fill the log.
async fn accept(
    socket: TcpListener,
    listener: UnsubscribeListener,
    service: Service,
    tls: Option<Shown>,
    ready: mpsc::Sender<(Guarded, Peer)>,
) {
    let slots = Slots::default();
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!(listener = %listener.address, "accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let settings = service.settings(&listener);
        let most = settings.max_connections;
        let of_one = if settings.trusts(peer) { most } else { (most / 4).max(1) };
        let Ok(slot) = slots.take(one_client(peer), most, of_one) else { continue };
        let until = Instant::now() + settings.request_timeout;
        let tls = tls.as_ref().map(|shown| TlsAcceptor::from(shown.load_full()));
        let ready = ready.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let stream = match tls {
                None => Stream::Plain(stream),
                Some(tls) => match tokio::time::timeout_at(until, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    // Scanners and old clients; nobody can do anything about them.
                    _ => return,
                },
            };
            let deadline = Box::pin(tokio::time::sleep_until(until));
            let guarded = Guarded { stream, deadline, left: MAX_OCTETS, _slot: slot };
            drop(tokio::time::timeout_at(until, ready.send((guarded, Peer(peer)))).await);
        });
    }
}

/// The address on the other side.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Peer {
        *stream.remote_addr()
    }
}

/// Where `axum` finds the connections.
struct Door {
    incoming: mpsc::Receiver<(Guarded, Peer)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Door {
    type Io = Guarded;
    type Addr = Peer;

    async fn accept(&mut self) -> (Guarded, Peer) {
        match self.incoming.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer(self.address.ip()))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with an end.
struct Guarded {
    stream: Stream,
    deadline: Pin<Box<Sleep>>,
    left: usize,
    _slot: Slot,
}

impl Guarded {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        let most = this.left.min(buf.remaining());
        if most == 0 && buf.remaining() > 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        let read = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, &mut part),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, &mut part),
        };
        let filled = part.filled().len();
        buf.advance(filled);
        this.left -= filled;
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
