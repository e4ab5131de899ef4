//! The management API over HTTP: the same commands as at the socket, as JSON.
//!
//! TLS and plain HTTP come in at one port: who begins with a TLS handshake gets TLS, and plain HTTP is taken from this
//! machine alone. Addresses that `http-access` does not let in are hung up on. Connections, bodies and times are bounded;
//! a client that is slow costs one of [`MAX_CONNECTIONS`] for [`STALLED`].
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: an HTTP server")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{Request as HttpRequest, Response, header};
use axum::serve::IncomingStream;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::http_guard::{Caller, Guard, Shown};
use super::http_routes::{self, Asked, ExportOptions, ImportOptions, Problem, Request, Route};
use super::import::row_of;
use super::socket::Handler;
use super::suppression::{ImportInfo, SuppressionCommand};
use super::{Answer, Command};
use crate::config::{HttpAccess, Live};
use crate::event::Time;
use crate::suppress::transfer::{self, Outcome, Reader, write};

/// Connections at once.
pub const MAX_CONNECTIONS: u32 = 128;
/// Of them from one address.
const MAX_OF_ADDRESS: u32 = 32;
/// A connection on which nothing was answered for so long while it was read from is closed.
pub const STALLED: Duration = Duration::from_secs(120);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a body.
const BODY: Duration = Duration::from_secs(100);
/// For requests under way when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Rejected lines named in an answer.
const MAX_REJECTED: usize = 1000;
/// Rows of an import in one command.
const ROWS: usize = 5000;

/// A server; ends with [`HttpServer::stop`].
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
    serving: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// A bound port.
#[derive(Debug)]
pub struct Bound(TcpListener);

impl Bound {
    /// Binds the address. Must be called within the runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Bound> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Bound(TcpListener::from_std(socket)?))
    }

    /// Serves until it is stopped. `tls` is what is shown; it may be replaced while it is in use.
    pub fn serve(self, tls: Arc<ArcSwap<ServerConfig>>, live: Live, handler: Handler) -> io::Result<HttpServer> {
        let address = self.0.local_addr()?;
        let mut key = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let desk = Arc::new(Desk { guard: Guard::new(&key), live: live.clone(), handler });
        let (ready, incoming) = mpsc::channel(16);
        let accepting = tokio::spawn(accept(self.0, tls, live, ready));
        let (stop, mut stopped) = watch::channel(false);
        let router = Router::new().fallback(answer).with_state(desk);
        let service = router.into_make_service_with_connect_info::<Peer>();
        let serving = tokio::spawn(async move {
            let until = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let served = axum::serve(Incoming { incoming, address }, service).with_graceful_shutdown(until).await;
            if let Err(error) = served {
                tracing::error!("the management API ended: {error}");
            }
        });
        tracing::info!(%address, "management API");
        Ok(HttpServer { address, accepting, serving, stop })
    }
}

impl HttpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nothing more, and ends what is under way within a few seconds.
    pub async fn stop(mut self) {
        self.accepting.abort();
        self.stop.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.stop.send_replace(true);
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

impl Connected<IncomingStream<'_, Incoming>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Peer {
        *stream.remote_addr()
    }
}

/// Connections that are ready to be served.
struct Incoming {
    incoming: mpsc::Receiver<(Io, Peer)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Incoming {
    type Io = Io;
    type Addr = Peer;

    async fn accept(&mut self) -> (Io, Peer) {
        match self.incoming.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer(self.address.ip()))
    }
}

/// How many connections there are of each address.
type Counts = Arc<Mutex<HashMap<IpAddr, u32>>>;

/// The right to a connection.
struct Slot(Counts, IpAddr);

impl Slot {
    fn take(counts: &Counts, ip: IpAddr) -> Option<Slot> {
        let mut taken = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = taken.values().sum();
        let of_address = taken.entry(ip).or_default();
        if all >= MAX_CONNECTIONS || *of_address >= MAX_OF_ADDRESS {
            return None;
        }
        *of_address += 1;
        Some(Slot(counts.clone(), ip))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = taken.get_mut(&self.1) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

async fn accept(listener: TcpListener, tls: Arc<ArcSwap<ServerConfig>>, live: Live, ready: mpsc::Sender<(Io, Peer)>) {
    let counts = Counts::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!("management API: accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if live.load().http.access(peer) == HttpAccess::None {
            tracing::debug!(%peer, "management API: http-access lets nobody in from there");
            continue;
        }
        let Some(slot) = Slot::take(&counts, peer) else {
            tracing::warn!(%peer, "management API: too many connections");
            continue;
        };
        let (tls, ready) = (tls.load_full(), ready.clone());
        tokio::spawn(async move {
            if let Ok(Some(io)) = tokio::time::timeout(HANDSHAKE, greet(stream, peer, tls, slot)).await {
                let _ = ready.send((io, Peer(peer))).await;
            }
        });
    }
}

/// TLS for who begins with it; plain HTTP for who is on this machine.
async fn greet(mut stream: TcpStream, peer: IpAddr, tls: Arc<ServerConfig>, slot: Slot) -> Option<Io> {
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    let _ = stream.set_nodelay(true);
    // A TLS record that holds a handshake (RFC 8446, 5.1).
    let stream = match first[0] {
        0x16 => Stream::Tls(Box::new(TlsAcceptor::from(tls).accept(stream).await.ok()?)),
        _ if peer.is_loopback() => Stream::Plain(stream),
        _ => {
            let text = "{\"error\":\"use https\"}";
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            return None;
        }
    };
    Some(Io { stream, stalled: Box::pin(tokio::time::sleep(STALLED)), _slot: slot })
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// A connection; reading fails when nothing was written for [`STALLED`].
struct Io {
    stream: Stream,
    stalled: Pin<Box<tokio::time::Sleep>>,
    _slot: Slot,
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if written.is_ready() {
            self.stalled.as_mut().reset(tokio::time::Instant::now() + STALLED);
        } else if self.stalled.as_mut().poll(cx).is_ready() {
            // Nor does who does not read keep a connection.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What requests are answered with.
struct Desk {
    guard: Guard,
    live: Live,
    handler: Handler,
}

fn now() -> Time {
    jiff::Timestamp::now().into()
}

/// Everything comes here; the table of routes is [`http_routes::ROUTES`].
async fn answer(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Peer(ip)): ConnectInfo<Peer>,
    request: HttpRequest<Body>,
) -> Response<Body> {
    serve(desk, ip, request).await.unwrap_or_else(|problem| {
        let mut response = reply(problem.status, "application/json", json!({ "error": problem.message }).to_string());
        if problem.status == 401 {
            let basic = header::HeaderValue::from_static("Basic realm=\"carom\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    })
}

fn reply(status: u16, content_type: &str, body: String) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from(body));
    // Only a bad header fails, and these are ours.
    response.unwrap_or_default()
}

fn broke_off() -> Problem {
    Problem::new(500, "it broke off; the log says more")
}

async fn serve(desk: Arc<Desk>, ip: IpAddr, request: HttpRequest<Body>) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let shown = Shown {
        authorization: text("authorization"),
        api_key: text("x-api-key"),
        host: text("host").or_else(|| parts.uri.host().map(str::to_owned)),
        origin: text("origin"),
        fetch_site: text("sec-fetch-site"),
    };
    let asks = desk.clone();
    let caller = tokio::task::spawn_blocking(move || asks.guard.caller(&asks.live.load(), ip, &shown, now()));
    let Caller { access, who } = caller.await.map_err(|_| broke_off())??;
    let (route, part): (&'static Route, String) = http_routes::find(parts.method.as_str(), parts.uri.path())?;
    if access < route.access {
        let need = format!("{:?}", route.access).to_lowercase();
        return Err(Problem::new(403, format!("that needs http-access {need}")));
    }
    let body = tokio::time::timeout(BODY, to_bytes(body, route.most())).await;
    let body = body.map_err(|_| Problem::new(408, "the body did not come in time"))?;
    let body =
        body.map_err(|_| Problem::new(413, format!("the body is longer than {} bytes, or broke off", route.most())))?;
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let Query(query) = query.map_err(|_| Problem::new(400, "the part behind the ? is not well encoded"))?;
    let content_type = text("content-type").unwrap_or_default();
    let request = Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query,
        content_type: content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
        body: body.to_vec(),
        who,
        now: now(),
    };
    let asked = route.read(&request, &part)?;
    let work = move || match asked {
        Asked::Command(command) => done((desk.handler)(command)),
        Asked::Import(options) => import(&desk.handler, &options, &request),
        Asked::Export(options) => export(&desk.handler, options),
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| broke_off())?
}

fn done(answer: Answer) -> Result<Response<Body>, Problem> {
    let data = match answer {
        Answer::Success { message, data: Value::Null } => json!({ "message": message }),
        Answer::Success { data, .. } => data,
        Answer::Error { message } => return Err(Problem::new(400, message)),
    };
    Ok(reply(200, "application/json", data.to_string()))
}

fn ask(handler: &Handler, command: SuppressionCommand) -> Result<Value, Problem> {
    match handler(Command::Suppression(command)) {
        Answer::Success { data, .. } => Ok(data),
        Answer::Error { message } => Err(Problem::new(400, message)),
    }
}

/// Reads the list in the body and enters it. The same body sent again after a failure goes on where it stopped.
fn import(handler: &Handler, options: &ImportOptions, request: &Request) -> Result<Response<Body>, Problem> {
    let reading = transfer::Options {
        format: options.format.clone(),
        column: options.column.clone(),
        hashed: options.hashed,
        temporary: options.temporary,
        scoped: !options.scope.is_empty(),
        name: String::new(),
    };
    let refused = |e: transfer::Refusal| Problem::new(400, e.to_string());
    let mut reader = Reader::new(reading).map_err(refused)?;
    let mut records = Vec::new();
    reader.push(&request.body, &mut |record| records.push(record)).map_err(refused)?;
    reader.finish(&mut |record| records.push(record)).map_err(refused)?;
    let (mut entries, mut skipped, mut lines, mut rejected) = (0u64, 0u64, Vec::new(), 0u64);
    for record in &records {
        match &record.outcome {
            Outcome::Entry(_) => entries += 1,
            Outcome::Skipped(_) => skipped += 1,
            Outcome::Rejected(why) => {
                rejected += 1;
                if lines.len() < MAX_REJECTED {
                    lines.push(json!({ "line": record.line, "why": why }));
                }
            }
            Outcome::Nothing => {}
        }
    }
    let mut said = json!({
        "format": reader.format(), "entries": entries, "skipped": skipped, "rejected": rejected,
        "rejectedLines": lines, "remarks": reader.remarks(), "dryRun": options.dry_run,
    });
    if options.dry_run {
        return Ok(reply(200, "application/json", said.to_string()));
    }
    let reason = Some(options.reason.as_str()).filter(|r| !r.is_empty()).unwrap_or("imported over HTTP");
    let mut identity = ring::digest::Context::new(&ring::digest::SHA256);
    identity.update(&request.body);
    identity.update(format!("{options:?}").as_bytes());
    let begun = ask(
        handler,
        SuppressionCommand::ImportBegin {
            info: ImportInfo {
                identity: data_encoding::HEXLOWER.encode(identity.finish().as_ref()),
                name: "HTTP".to_owned(),
                format: options.format.clone(),
                scope: options.scope.clone(),
                expires: options.expires.0,
                reason: reason.to_owned(),
                who: request.who.clone(),
                hashed: options.hashed,
                anew: false,
            },
        },
    )?;
    let number = |name: &str| begun.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (batch, mut from) = (u32::try_from(number("batch")).unwrap_or(0), number("done"));
    let mut rest = records.into_iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
    loop {
        let piece: Vec<_> = rest.by_ref().take(ROWS).collect();
        if piece.is_empty() {
            break;
        }
        let records = piece.len() as u64;
        let rows = piece.into_iter().filter_map(|record| match record.outcome {
            Outcome::Entry(row) => Some(row_of(*row, &options.scope, options.expires, reason)),
            _ => None,
        });
        ask(handler, SuppressionCommand::ImportRows { batch, from, records, rows: rows.collect() })?;
        from += records;
    }
    let ended = ask(handler, SuppressionCommand::ImportEnd { batch, skipped, rejected })?;
    for name in ["batch", "entered", "already", "reentered"] {
        said[name] = ended.get(name).cloned().unwrap_or_default();
    }
    Ok(reply(200, "application/json", said.to_string()))
}

/// A page of entries as a file; `X-Next` says behind which key the next page begins.
fn export(handler: &Handler, options: ExportOptions) -> Result<Response<Body>, Problem> {
    let ExportOptions { filter, after, limit, format, hashed } = options;
    let first = after.is_empty();
    let data = ask(handler, SuppressionCommand::List { filter, after, limit })?;
    let naming = if hashed { write::Naming::Sha256 } else { write::Naming::Plain };
    let mut out = String::new();
    if first && format == "csv" {
        out = write::csv_line(&write::COLUMNS) + "\n";
    }
    let mut left_out = 0;
    for entry in data.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let Some(columns) = write::Line::of_json(entry).columns(&naming) else {
            left_out += 1;
            continue;
        };
        out.push_str(&match format.as_str() {
            "newline" => columns[0].clone(),
            "json" => write::json_line(&columns),
            _ => write::csv_line(&columns),
        });
        out.push('\n');
    }
    let content_type = match format.as_str() {
        "newline" => "text/plain; charset=utf-8",
        "json" => "application/x-ndjson",
        _ => "text/csv; charset=utf-8",
    };
    let mut response = reply(200, content_type, out);
    if let Some(next) = data.get("next").and_then(Value::as_str).and_then(|n| header::HeaderValue::from_str(n).ok()) {
        response.headers_mut().insert("x-next", next);
    }
    if left_out > 0 {
        response.headers_mut().insert("x-left-out", header::HeaderValue::from(left_out));
    }
    Ok(response)
}
