//! Records to a webhook, `<acct-webhook URL>` and `bounce-hook URL`: JSON in HTTP requests, signed, each until the other
//! side has said 2xx.
//!
//! At least once: the cursor is committed only behind records of requests that were accepted. What fails is not tried
//! again here: the output is opened anew at its cursor when its time has come, so no more than one batch is ever in
//! memory. `eventId` tells what came twice.
#![expect(clippy::disallowed_methods, reason = "edge: HTTP, the clock")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use ring::hmac;
use tokio::task::JoinSet;

use super::closing::{Gap, State};
use super::json::JsonRows;
use super::push_place::{ALWAYS_SMALL, PushPlace};
use super::push_runtime::{PushRuntime, said};
use super::push_tls;
use super::sink::{LeftOut, Sink};
use super::target::{OutputError, Target};
use crate::config::{BatchFormat, Push, Secret};
use crate::event::{Event, EventId, Time};

/// A body this long is sent, however few its records are.
const MAX_BODY: usize = 1 << 20;
/// Requests under way at once where each holds one record.
const SINGLE_AT_ONCE: usize = 8;
/// No endpoint is left alone for longer than this at its own wish.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// What is shown of an answer, bytes.
const SHOWN: usize = 200;
/// What is read of an answer, so that the connection can be used again, bytes.
const READ: usize = 64 << 10;

/// A webhook being written to.
#[derive(Debug)]
pub struct WebhookOutput {
    target: Arc<Target>,
    rows: JsonRows,
    place: PushPlace,
    poster: Poster,
    runtime: PushRuntime,
    /// The records that wait, one behind the other, and where each ends.
    waiting: Vec<u8>,
    ends: Vec<End>,
    /// When the first of them came.
    since: Option<Instant>,
    /// First sequence number that was not accepted.
    accepted: u64,
    works: bool,
}

/// Where a record that waits ends.
#[derive(Debug, Clone, Copy)]
struct End {
    /// In the bytes.
    at: usize,
    /// Its sequence number; `None` for the record that tells of a gap.
    seq: Option<u64>,
}

impl WebhookOutput {
    /// Gets ready; nothing is sent yet.
    pub fn open(target: Arc<Target>, rows: JsonRows, state: State, cursor: u64) -> Result<WebhookOutput, OutputError> {
        let place = PushPlace::open(&target, state, cursor);
        let poster = Poster::new(&target.file.push).map_err(|why| target.push_error("setting up", &why))?;
        let runtime = PushRuntime::new("webhook", &target)?;
        Ok(WebhookOutput {
            target,
            rows,
            place,
            poster,
            runtime,
            waiting: Vec::new(),
            ends: Vec::new(),
            since: None,
            accepted: cursor,
            works: false,
        })
    }

    fn limit(&self) -> usize {
        match self.target.file.push.batch_format {
            BatchFormat::Single => SINGLE_AT_ONCE,
            _ => usize::try_from(self.target.file.push.batch_size).unwrap_or(usize::MAX),
        }
    }

    /// A record has been put behind the others.
    fn put(&mut self, seq: Option<u64>) -> Result<(), OutputError> {
        if self.ends.is_empty() {
            self.since = Some(Instant::now());
        }
        self.ends.push(End { at: self.waiting.len(), seq });
        if self.ends.len() >= self.limit() || self.waiting.len() >= MAX_BODY { self.send() } else { Ok(()) }
    }

    /// Sends what waits. What is too large for the endpoint goes in smaller pieces; a single record that is too large is
    /// left out, and told as a gap.
    fn send(&mut self) -> Result<(), OutputError> {
        let mut at_once = self.ends.len();
        while !self.ends.is_empty() {
            let n = at_once.min(self.ends.len());
            match self.post(n) {
                Ok(()) => self.drop_first(n),
                Err(failure) if failure.too_large && n > 1 => at_once = n / 2,
                Err(failure) if failure.too_large && self.ends[0].at > ALWAYS_SMALL => {
                    self.leave_out_first(&failure.details)?;
                }
                Err(failure) => {
                    // What was accepted before is not to come once more.
                    self.keep(self.accepted)?;
                    return Err(self.error(failure));
                }
            }
        }
        Ok(())
    }

    fn post(&self, n: usize) -> Result<(), Failure> {
        let ends: Vec<usize> = self.ends[..n].iter().map(|e| e.at).collect();
        let bodies = bodies(self.target.file.push.batch_format, &self.waiting, &ends);
        self.runtime.run(&self.target.hurry, "no answer yet, and the server stops", self.poster.post_all(bodies))
    }

    /// The first `n` records were accepted.
    fn drop_first(&mut self, n: usize) {
        let length = self.ends[n - 1].at;
        self.accepted = self.ends[..n].iter().filter_map(|e| e.seq).fold(self.accepted, |a, seq| a.max(seq + 1));
        self.waiting.drain(..length);
        self.ends.drain(..n);
        self.ends.iter_mut().for_each(|e| e.at -= length);
        self.since = self.since.filter(|_| !self.ends.is_empty());
        self.works = true;
    }

    /// The record that tells of the gap takes the place of the first.
    fn leave_out_first(&mut self, why: &str) -> Result<(), OutputError> {
        let End { at, seq } = self.ends[0];
        let now = jiff::Timestamp::now().as_microsecond();
        let why = format!("it is too large for the endpoint ({at} bytes; {why})");
        let gap = match seq {
            Some(seq) => self.place.leave_out(seq, now, why)?,
            None => None,
        };
        let mut told = Vec::new();
        if let Some(gap) = &gap {
            self.rows.gap(&mut told, self.target.journal.store(), gap);
        }
        let behind = told.len();
        self.waiting.splice(..at, told);
        self.ends.iter_mut().for_each(|e| e.at = e.at + behind - at);
        if gap.is_none() {
            self.ends.remove(0);
            self.accepted = seq.map_or(self.accepted, |seq| self.accepted.max(seq + 1));
        }
        Ok(())
    }

    fn error(&self, failure: Failure) -> OutputError {
        let mut details = failure.details;
        if failure.refused {
            let store = self.target.journal.store();
            let first = self.ends.iter().find_map(|e| e.seq).map(|seq| EventId { store, seq }.to_string());
            let first = first.unwrap_or_default();
            details.push_str(&format!(
                " (REFUSED: the batch from event {first} on is kept and sent again; see what the endpoint has against it)"
            ));
        }
        let output = self.target.file.path.display().to_string();
        OutputError::Push { what: "posting to", output, details, wait: failure.wait }
    }

    fn keep(&mut self, cursor: u64) -> Result<(), OutputError> {
        self.place.keep_told(cursor, self.works)
    }
}

impl Sink for WebhookOutput {
    fn write(&mut self, events: &[Event<'_>], _: Time) -> Result<(), OutputError> {
        for event in events {
            self.rows.push(&mut self.waiting, event);
            self.put(Some(event.seq))?;
        }
        Ok(())
    }

    fn caught_up(&mut self) -> Result<(), OutputError> {
        if self.target.file.push.batch_interval.is_zero() { self.send() } else { Ok(()) }
    }

    fn tick(&mut self, _: u64, _: bool, _: Time) -> Result<(), OutputError> {
        let interval = self.target.file.push.batch_interval;
        if self.since.is_some_and(|since| since.elapsed() >= interval) { self.send() } else { Ok(()) }
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        let safe = if self.ends.is_empty() { next.max(self.accepted) } else { self.accepted };
        self.keep(safe)
    }

    fn close(&mut self, next: u64) -> Result<(), OutputError> {
        self.send()?;
        Sink::commit(self, next)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        if let Err(error) = self.send() {
            self.place.left_for_next_start(&error);
            return Ok(());
        }
        Sink::commit(self, next)
    }

    fn cursor(&self) -> u64 {
        self.place.cursor()
    }

    fn left_out(&self) -> LeftOut {
        self.place.left_out()
    }

    fn works(&self) -> bool {
        self.works
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), OutputError> {
        self.rows.gap(&mut self.waiting, self.target.journal.store(), gap);
        self.put(None)
    }
}

/// The requests' bodies.
fn bodies(format: BatchFormat, records: &[u8], ends: &[usize]) -> Vec<Vec<u8>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let each = starts.zip(ends).map(|(start, end)| &records[start..*end]);
    match format {
        BatchFormat::Single => each.map(<[u8]>::to_vec).collect(),
        BatchFormat::Lines => {
            let mut body = Vec::with_capacity(records.len() + ends.len());
            for record in each {
                body.extend_from_slice(record);
                body.push(b'\n');
            }
            vec![body]
        }
        BatchFormat::Array => {
            let mut body = Vec::with_capacity(records.len() + ends.len() + 2);
            for (i, record) in each.enumerate() {
                body.extend_from_slice(if i == 0 { b"[" } else { b",\n" });
                body.extend_from_slice(record);
            }
            body.push(b']');
            vec![body]
        }
    }
}

/// Why a request was not accepted.
#[derive(Debug)]
struct Failure {
    details: String,
    /// The endpoint does not want what it was given.
    refused: bool,
    /// Because it is too large.
    too_large: bool,
    wait: Option<Duration>,
}

impl From<String> for Failure {
    fn from(details: String) -> Failure {
        Failure { details, refused: false, too_large: false, wait: None }
    }
}

/// Sends requests.
#[derive(Debug, Clone)]
struct Poster {
    client: Client,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    gzip: bool,
    timeout: Duration,
}

impl Poster {
    fn new(push: &Push) -> Result<Poster, String> {
        let url = Url::parse(push.url.reveal()).map_err(|e| e.to_string())?;
        let mut tls = push_tls::client(push.tls_ca_file.as_deref(), url.scheme() == "https")?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("Carom/", env!("CARGO_PKG_VERSION")))
            .timeout(push.timeout)
            .connect_timeout(push.timeout.min(Duration::from_secs(10)))
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .map_err(|e| said(&e.without_url()))?;
        let mut headers = HeaderMap::new();
        let form = if push.batch_format == BatchFormat::Lines { "application/x-ndjson" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
        if push.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, value) in &push.headers {
            let name_ = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header {name}: not a name"))?;
            let mut value =
                HeaderValue::from_str(value.reveal()).map_err(|_| format!("header {name}: its value can't be sent"))?;
            value.set_sensitive(true);
            headers.append(name_, value);
        }
        let (secrets, gzip, timeout) = (push.secrets.clone(), push.gzip, push.timeout);
        Ok(Poster { client, url, headers, secrets, gzip, timeout })
    }

    async fn post_all(&self, bodies: Vec<Vec<u8>>) -> Result<(), Failure> {
        let mut under_way = JoinSet::new();
        for body in bodies {
            let poster = self.clone();
            under_way.spawn(async move { poster.post(body).await });
        }
        let mut failed = None;
        while let Some(done) = under_way.join_next().await {
            match done {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => failed = Some(failure),
                Err(e) => failed = Some(Failure::from(e.to_string())),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        let mut request = self.client.post(self.url.clone()).headers(self.headers.clone());
        if !self.secrets.is_empty() {
            let now = jiff::Timestamp::now().as_second();
            request = request.header("Carom-Signature", signature(&self.secrets, now, &body));
        }
        let body = if self.gzip { packed(&body).map_err(|e| Failure::from(e.to_string()))? } else { body };
        let answer = request.body(body).send().await.map_err(|e| {
            if e.is_timeout() {
                return Failure::from(format!("no answer within {} s", self.timeout.as_secs()));
            }
            // The URL may hold a key.
            Failure::from(said(&e.without_url()))
        })?;
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
        let text = excerpt(answer).await;
        if status.is_success() {
            return Ok(());
        }
        let later = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let colon = if text.is_empty() { "" } else { ": " };
        let moved = if status.is_redirection() { "; redirects are not followed, write the new URL" } else { "" };
        Err(Failure {
            details: format!("HTTP {status}{moved}{colon}{text}"),
            refused: status.is_client_error() && !later,
            too_large: status == StatusCode::PAYLOAD_TOO_LARGE,
            wait,
        })
    }
}

/// The beginning of an answer; the rest of it is read and dropped, up to a bound.
async fn excerpt(mut answer: Response) -> String {
    let (mut kept, mut read) = (Vec::new(), 0);
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        let room = SHOWN - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read >= READ {
            break;
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(jiff::Timestamp::now())).ok()?
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// `t=SECONDS,v1=HEX[,v1=HEX]`: HMAC-SHA256 of `SECONDS.BODY` under each key; the body as it is before it is packed.
fn signature(secrets: &[Secret], seconds: i64, body: &[u8]) -> String {
    let mut text = format!("t={seconds}");
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let mut mac = hmac::Context::with_key(&key);
        mac.update(format!("{seconds}.").as_bytes());
        mac.update(body);
        text.push_str(",v1=");
        text.push_str(&data_encoding::HEXLOWER.encode(mac.sign().as_ref()));
    }
    text
}

fn packed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(body)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with `printf '1770000000.[{}]' | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn a_signature_is_that_of_openssl_over_time_and_body() {
        let one = Secret::new("0123456789abcdef0123456789abcdef".into());
        let text = signature(&[one.clone(), one], 1_770_000_000, b"[{}]");
        let mac = "cbbfc11ec2dc2332e6a036068ac6a3f27cd0ff199c6764b4e4b5500c89e2d57b";
        assert_eq!(text, format!("t=1770000000,v1={mac},v1={mac}"));
    }

    #[test]
    fn bodies_are_an_array_lines_or_one_each() {
        let (records, ends) = (br#"{"a":1}{"b":2}"#.as_slice(), [7, 14]);
        let text = |format| -> Vec<String> {
            bodies(format, records, &ends).into_iter().map(|b| String::from_utf8(b).unwrap()).collect()
        };
        assert_eq!(text(BatchFormat::Array), ["[{\"a\":1},\n{\"b\":2}]"]);
        assert_eq!(text(BatchFormat::Lines), ["{\"a\":1}\n{\"b\":2}\n"]);
        assert_eq!(text(BatchFormat::Single), ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), None, "it is over");
        assert_eq!(retry_after("soon"), None);
    }
}
