#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: the simulated providers' sockets")]
//! The simulated providers on real sockets: listeners on loopback addresses, TLS, and the books.
//!
//! [`Providers::start`] gives every provider its own address `127.0.80.n` and all of them one port that was free on each.
//! Only Linux answers on all of 127.0.0.0/8 by itself; elsewhere the addresses must be added to the loopback interface
//! first, and the error says so. [`Server::listen`] is one provider on any address, for `carom sink`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::book::Book;
use super::desk::{Counts, Desk, Role};
use super::report::Report;
use super::script::Script;
use super::session::{Next, Output, Session};
use super::world::{PROVIDERS, Provider};
use crate::event::Time;

/// How often a common port is looked for.
const PORT_TRIES: usize = 50;
/// A client that says nothing for so long is dropped.
const IDLE: Duration = Duration::from_secs(300);

/// Why providers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A loopback address is not there.
    #[error(
        "can't listen on {0}: {1}; the simulated providers need the addresses 127.0.80.1 to 127.0.80.{n} on the loopback \
         interface (Linux has them; on macOS add each with: ifconfig lo0 alias ADDRESS)",
        n = PROVIDERS.len()
    )]
    Address(SocketAddr, io::Error),
    /// No port was free on all addresses.
    #[error("found no port that is free on all the providers' loopback addresses, after {PORT_TRIES} tries")]
    NoPort,
    /// The self-signed certificate could not be made.
    #[error("can't make a certificate for {host}: {why}")]
    Certificate {
        /// For which host.
        host: &'static str,
        /// What failed.
        why: String,
    },
    /// A book could not be created.
    #[error("can't create the provider's log {0}: {1}", path.display(), source)]
    Book {
        /// Where.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The socket failed.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// How all providers of a play act.
#[derive(Debug, Clone)]
pub struct Options {
    /// What becomes of whom.
    pub script: Script,
    /// Whether limits on connections and messages hold.
    pub limits: bool,
    /// Where complaints go when the message does not say.
    pub feedback_address: String,
    /// Folder for the books, which must exist; `None` keeps none.
    pub books: Option<PathBuf>,
}

/// All providers, running.
#[derive(Debug)]
pub struct Providers {
    servers: Vec<Server>,
    port: u16,
}

impl Providers {
    /// Starts every provider of [`PROVIDERS`]. Reports to be mailed later come out of the channel of the same index.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: &Options) -> Result<(Providers, Vec<mpsc::UnboundedReceiver<Report>>), StartError> {
        let (listeners, port) = bind_all().await?;
        let (mut servers, mut reports) = (Vec::new(), Vec::new());
        for (listener, provider) in listeners.into_iter().zip(PROVIDERS) {
            let role = Role {
                provider,
                script: options.script,
                limits: options.limits,
                feedback_address: options.feedback_address.clone(),
                reports: true,
                starttls: provider.starttls,
                own_domains_only: true,
            };
            let book = options.books.as_deref().map(|dir| dir.join(format!("{}.jsonl", provider.name)));
            let (server, later) = Server::serve(listener, role, book.as_deref())?;
            servers.push(server);
            reports.push(later);
        }
        Ok((Providers { servers, port }, reports))
    }

    /// The one port on which all of them listen.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Each provider with what it has seen.
    pub fn counts(&self) -> Vec<(&'static str, Counts)> {
        self.servers.iter().map(|s| (s.provider.name, s.counts())).collect()
    }

    /// Stops listening, drops the connections and closes the books; their paths.
    ///
    /// # Errors
    /// When a book could not be written.
    pub async fn stop(self) -> io::Result<Vec<PathBuf>> {
        let mut books = Vec::new();
        for server in self.servers {
            books.extend(server.stop().await?);
        }
        Ok(books)
    }
}

/// Binds one port on the address of every provider.
async fn bind_all() -> Result<(Vec<TcpListener>, u16), StartError> {
    'tries: for _ in 0..PORT_TRIES {
        let mut listeners: Vec<TcpListener> = Vec::with_capacity(PROVIDERS.len());
        let mut port = 0;
        for provider in PROVIDERS {
            let address = SocketAddr::from((provider.address, port));
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    port = listener.local_addr().map_err(|e| StartError::Listen(address, e))?.port();
                    listeners.push(listener);
                }
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => continue 'tries,
                Err(e) => return Err(StartError::Address(address, e)),
            }
        }
        return Ok((listeners, port));
    }
    Err(StartError::NoPort)
}

/// One provider on one address.
#[derive(Debug)]
pub struct Server {
    provider: &'static Provider,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    role: Arc<Role>,
    desk: Mutex<Desk>,
    book: Option<Book>,
    reports: mpsc::UnboundedSender<Report>,
    sessions: AtomicU64,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens on `address` and acts as `role` says, with a book at `book` if one is wanted.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn listen(
        address: SocketAddr,
        role: Role,
        book: Option<&Path>,
    ) -> Result<(Server, mpsc::UnboundedReceiver<Report>), StartError> {
        let listener = TcpListener::bind(address).await.map_err(|e| StartError::Listen(address, e))?;
        Server::serve(listener, role, book)
    }

    fn serve(
        listener: TcpListener,
        role: Role,
        book: Option<&Path>,
    ) -> Result<(Server, mpsc::UnboundedReceiver<Report>), StartError> {
        let provider = role.provider;
        let address = listener.local_addr().map_err(|e| StartError::Listen(([0, 0, 0, 0], 0).into(), e))?;
        let acceptor = role.starttls.then(|| acceptor(provider.host)).transpose()?;
        let book = match book {
            Some(path) => {
                Some(Book::create(path).map_err(|source| StartError::Book { path: path.to_owned(), source })?)
            }
            None => None,
        };
        let (reports, later) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            role: Arc::new(role),
            desk: Mutex::default(),
            book,
            reports,
            sessions: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, shared.clone(), acceptor, stopped));
        Ok((Server { provider, address, shared, stop, task }, later))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.shared.desk().counts()
    }

    /// Stops listening, drops the connections, closes the book; the book's path.
    ///
    /// # Errors
    /// When the book could not be written.
    pub async fn stop(self) -> io::Result<Option<PathBuf>> {
        self.stop.send_replace(true);
        // The accept task ends after its sessions; it fails only if it panicked, which is a bug worth telling.
        self.task.await.map_err(io::Error::other)?;
        match &self.shared.book {
            Some(book) => book.close().map(|()| Some(book.path().to_owned())),
            None => Ok(None),
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        while sessions.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let (shared, acceptor, mut stopped) = (shared.clone(), acceptor.clone(), stopped.clone());
                sessions.spawn(async move {
                    tokio::select! {
                        _ = converse(stream, peer.ip(), &shared, acceptor) => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
            // Out of file descriptors, mostly: wait for some to come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// Leaves the desk when the session ends, however it ends.
struct Seat<'a>(&'a Shared);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.desk().leave();
    }
}

async fn converse(
    mut stream: TcpStream,
    peer: IpAddr,
    shared: &Shared,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let id = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    let mut out = Output::default();
    let (mut session, next) = Session::open(shared.role.clone(), id, peer, now(), &mut shared.desk(), &mut out);
    let seat = (next == Next::Read).then(|| Seat(shared));
    tell(&mut stream, shared, &mut out).await?;
    if next == Next::Close {
        return stream.shutdown().await;
    }
    let next = speak(&mut stream, &mut session, shared, &mut out).await?;
    match (next, acceptor) {
        (Next::StartTls, Some(acceptor)) => {
            let mut stream = acceptor.accept(stream).await?;
            session.secured();
            speak(&mut stream, &mut session, shared, &mut out).await?;
            stream.shutdown().await?;
        }
        _ => stream.shutdown().await?,
    }
    drop(seat);
    Ok(())
}

/// Reads and answers until the session wants something else than reading.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    session: &mut Session,
    shared: &Shared,
    out: &mut Output,
) -> io::Result<Next> {
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        match tokio::time::timeout(IDLE, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) | Err(_) => return Ok(Next::Close),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(e),
        }
        let next = session.input(&mut buffer, now(), &mut shared.desk(), out);
        tell(stream, shared, out).await?;
        if next != Next::Read {
            return Ok(next);
        }
    }
}

/// Writes the book first and the replies then: what a client has been told stands in the book.
async fn tell<S: AsyncWrite + Unpin>(stream: &mut S, shared: &Shared, out: &mut Output) -> io::Result<()> {
    if let Some(book) = shared.book.as_ref().filter(|_| !out.lines.is_empty()) {
        book.write(&out.lines);
    }
    out.lines.clear();
    for report in out.reports.drain(..) {
        // Nobody mails reports: then there are none.
        let _ = shared.reports.send(report);
    }
    if !out.replies.is_empty() {
        stream.write_all(&out.replies).await?;
        stream.flush().await?;
        out.replies.clear();
    }
    Ok(())
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

/// TLS with a certificate that nobody else signed, as many mail hosts have.
fn acceptor(host: &'static str) -> Result<TlsAcceptor, StartError> {
    let failed = |why: String| StartError::Certificate { host, why };
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).map_err(|e| failed(e.to_string()))?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()))
        .map_err(|e| failed(e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
