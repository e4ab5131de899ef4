//! The management API over HTTP: the same commands as at the socket, as JSON.
//!
//! TLS and plain HTTP come in at one port ([`super::door`]): who begins with a TLS handshake gets TLS, and plain HTTP is
//! taken from this machine alone. Addresses that `http-access` does not let in are hung up on. Connections, bodies and
//! times are bounded; a client that is slow costs one of [`MAX_CONNECTIONS`] for [`STALLED`].
#![expect(clippy::disallowed_methods, reason = "edge: an HTTP server")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{Request as HttpRequest, Response, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::door::{Door, Lasts, Peer, Rules, Shown as Certificate, Speaks, Terms};
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
/// For a body.
const BODY: Duration = Duration::from_secs(100);
/// Rejected lines named in an answer.
const MAX_REJECTED: usize = 1000;
/// Rows of an import in one command.
const ROWS: usize = 5000;

/// A server; ends with [`HttpServer::stop`].
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl HttpServer {
    /// Serves at `door` until it is stopped. `tls` is what is shown; it may be replaced while it is in use.
    pub fn start(door: Door, tls: Certificate, live: Live, handler: Handler) -> io::Result<HttpServer> {
        let address = door.address();
        let mut key = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let desk = Arc::new(Desk { guard: Guard::new(&key), live: live.clone(), handler });
        let router = Router::new().fallback(answer).with_state(desk);
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(door.serve(Access { tls, live }, router, stopped));
        tracing::info!(%address, "management API");
        Ok(HttpServer { address, serving, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nothing more, and ends what is under way within a few seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!("the management API ended: {error}");
        }
    }
}

/// Who may come in: whom `http-access` lets.
struct Access {
    tls: Certificate,
    live: Live,
}

impl Rules for Access {
    fn name(&self) -> String {
        "management API".to_owned()
    }

    fn terms(&self, peer: IpAddr) -> Option<Terms> {
        (self.live.load().http.access(peer) > HttpAccess::None).then(|| Terms {
            speaks: Speaks::TlsOrLocal(self.tls.load_full()),
            most: MAX_CONNECTIONS,
            of_one: MAX_OF_ADDRESS,
            client: peer,
            lasts: Lasts::WhileAnswered(STALLED),
            octets: usize::MAX,
        })
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
