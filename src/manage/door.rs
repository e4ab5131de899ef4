#![expect(clippy::disallowed_methods, reason = "edge: bounds the time of connections")]
#![expect(clippy::disallowed_types, reason = "edge: listening sockets")]
//! Where HTTP comes in, for the management API and for the unsubscribe endpoint: a port, its connections accepted, wrapped
//! in TLS, bounded, and handed to `axum`.
//!
//! [`Rules`] say who may come in, what is spoken and how long a connection may last; what stands behind the door is a
//! [`Router`] that finds the [`Peer`] beside each request. A client that is slow costs one place for the time that its
//! terms give it and no more. Who is not let in, or finds no place, is hung up on without an answer: saying so in TLS
//! would cost more than serving it. Handshakes are made beside each other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::intake::slots::{Slot, Slots};

/// How long connections may go on when the door closes.
const GRACE: Duration = Duration::from_secs(5);
/// For the handshake of a connection that may last as long as it is answered.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// That there is no place is said so often at most: a flood must not fill the log.
const SAID: Duration = Duration::from_secs(60);

/// What is shown in TLS; replaced when the certificate is renewed.
pub type Shown = Arc<ArcSwap<ServerConfig>>;

/// Who may come in.
pub trait Rules: Send + Sync + 'static {
    /// What the log calls the door.
    fn name(&self) -> String;

    /// On what terms a client may come in now; `None` hangs up on it.
    fn terms(&self, peer: IpAddr) -> Option<Terms>;
}

/// On what terms a client may come in.
#[derive(Debug)]
pub struct Terms {
    /// What is spoken.
    pub speaks: Speaks,
    /// Connections at once, of everybody.
    pub most: u32,
    /// Of them for this client.
    pub of_one: u32,
    /// Which client that is: its own address, or the one that stands for it and its neighbours.
    pub client: IpAddr,
    /// How long a connection may last.
    pub lasts: Lasts,
    /// Octets that a connection may bring; [`usize::MAX`] where requests are bounded one by one.
    pub octets: usize,
}

/// What a door speaks.
#[derive(Debug)]
pub enum Speaks {
    /// HTTP without TLS.
    Plain,
    /// HTTP over TLS.
    Tls(Arc<ServerConfig>),
    /// TLS with who begins with it; plain HTTP with this machine alone.
    TlsOrLocal(Arc<ServerConfig>),
}

/// How long a connection may last.
#[derive(Debug, Clone, Copy)]
pub enum Lasts {
    /// From the moment it is accepted, handshake, requests and answers together.
    InAll(Duration),
    /// As long as no more than this goes by without a piece of an answer going out.
    WhileAnswered(Duration),
}

/// The address on the other side.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Connected<IncomingStream<'_, Incoming>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Peer {
        *stream.remote_addr()
    }
}

/// A bound port.
#[derive(Debug)]
pub struct Door {
    socket: TcpListener,
    address: SocketAddr,
}

impl Door {
    /// Binds the address. Must be called within the runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Door> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Door { socket, address })
    }

    /// Where it is, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` turns true or its sender is gone: then nobody comes in any more, and what is under way
    /// has [`GRACE`] to end.
    pub async fn serve(self, rules: impl Rules, router: Router, mut shutdown: watch::Receiver<bool>) {
        let name = rules.name();
        // Connections are ready for HTTP when they go through.
        let (ready, incoming) = mpsc::channel(16);
        let incoming = Incoming { incoming, address: self.address };
        let mut stop = shutdown.clone();
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(incoming, service).with_graceful_shutdown(stopped).into_future();
        tokio::pin!(served);
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = accept(self.socket, rules, ready) => {}
            _ = &mut served => return,
        }
        if tokio::time::timeout(GRACE, served).await.is_err() {
            tracing::warn!("{name}: connections still open at the stop");
        }
    }
}

/// Accepts for ever.
async fn accept(socket: TcpListener, rules: impl Rules, ready: mpsc::Sender<(Connection, Peer)>) {
    let name = rules.name();
    let slots = Slots::default();
    let mut said: Option<Instant> = None;
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                // Out of file handles, or the client is gone already; neither gets better by hurrying.
                tracing::warn!("{name}: accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(terms) = rules.terms(peer) else {
            tracing::debug!(%peer, "{name}: not let in");
            continue;
        };
        let Ok(slot) = slots.take(terms.client, terms.most, terms.of_one) else {
            if said.is_none_or(|at| at.elapsed() >= SAID) {
                tracing::warn!(%peer, "{name}: too many connections");
                said = Some(Instant::now());
            }
            continue;
        };
        let ready = ready.clone();
        tokio::spawn(async move {
            let time = match terms.lasts {
                Lasts::InAll(time) => time,
                Lasts::WhileAnswered(_) => HANDSHAKE,
            };
            let until = Instant::now() + time;
            let enter = async {
                // Scanners and old clients fail here; nobody can do anything about them.
                let Some(stream) = greet(stream, peer, terms.speaks).await else { return };
                let (until, renewed) = match terms.lasts {
                    Lasts::InAll(_) => (until, None),
                    Lasts::WhileAnswered(time) => (Instant::now() + time, Some(time)),
                };
                let deadline = Box::pin(tokio::time::sleep_until(until));
                let connection = Connection { stream, deadline, renewed, left: terms.octets, _slot: slot };
                drop(ready.send((connection, Peer(peer))).await);
            };
            drop(tokio::time::timeout_at(until, enter).await);
        });
    }
}

/// The connection as it is ready for HTTP; `None` where it will not be.
async fn greet(mut stream: TcpStream, peer: IpAddr, speaks: Speaks) -> Option<Stream> {
    let _ = stream.set_nodelay(true);
    let tls = match speaks {
        Speaks::Plain => return Some(Stream::Plain(stream)),
        Speaks::Tls(tls) => tls,
        Speaks::TlsOrLocal(tls) => {
            let mut first = [0];
            stream.peek(&mut first).await.ok()?;
            match first[0] {
                // A TLS record that holds a handshake (RFC 8446, 5.1).
                0x16 => tls,
                _ if peer.is_loopback() => return Some(Stream::Plain(stream)),
                _ => {
                    let _ = stream.write_all(use_https().as_bytes()).await;
                    return None;
                }
            }
        }
    };
    Some(Stream::Tls(Box::new(TlsAcceptor::from(tls).accept(stream).await.ok()?)))
}

fn use_https() -> String {
    let text = "{\"error\":\"use https\"}";
    format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Where `axum` finds the connections.
#[derive(Debug)]
pub struct Incoming {
    incoming: mpsc::Receiver<(Connection, Peer)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.incoming.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer(self.address.ip()))
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with an end.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    deadline: Pin<Box<Sleep>>,
    /// How far off the deadline is again when something was written.
    renewed: Option<Duration>,
    left: usize,
    _slot: Slot,
}

impl Connection {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
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
        if this.left != usize::MAX {
            this.left -= filled;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Who does not read an answer is not waited for; each part that is taken gives the next one its time.
        if this.renewed.is_none() {
            this.in_time(cx)?;
        }
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        match this.renewed {
            Some(time) if written.is_ready() => this.deadline.as_mut().reset(Instant::now() + time),
            _ => {}
        }
        if written.is_pending() {
            this.in_time(cx)?;
        }
        written
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    struct Open(Lasts);

    impl Rules for Open {
        fn name(&self) -> String {
            "a test".to_owned()
        }

        fn terms(&self, peer: IpAddr) -> Option<Terms> {
            let (most, of_one, lasts) = (8, 1, self.0);
            Some(Terms { speaks: Speaks::Plain, most, of_one, client: peer, lasts, octets: usize::MAX })
        }
    }

    #[tokio::test]
    async fn a_connection_lasts_while_it_is_answered_and_gives_its_place_back_when_it_falls_silent() {
        let door = Door::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = door.address();
        let (stop, stopped) = watch::channel(false);
        let rules = Open(Lasts::WhileAnswered(Duration::from_millis(1500)));
        let router = Router::new().fallback(|| async { "hello" });
        let serving = tokio::spawn(door.serve(rules, router, stopped));
        let begun = Instant::now();
        let mut kept = TcpStream::connect(address).await.unwrap();
        let mut buffer = [0; 1024];
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let n = kept.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].ends_with(b"hello"), "{}", String::from_utf8_lossy(&buffer[..n]));
            let mut second = TcpStream::connect(address).await.unwrap();
            assert!(matches!(second.read(&mut buffer).await, Ok(0) | Err(_)), "one address has one place here");
        }
        assert!(begun.elapsed() > Duration::from_millis(1500), "longer than it may be silent");
        let end = tokio::time::timeout(Duration::from_secs(20), kept.read(&mut buffer)).await.expect("hung up on");
        assert!(matches!(end, Ok(0) | Err(_)));
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(next.read(&mut buffer).await.unwrap() > 0, "the place is free again");
        stop.send_replace(true);
        tokio::time::timeout(2 * GRACE, serving).await.expect("an end in time").unwrap();
        TcpStream::connect(address).await.unwrap_err();
    }
}
