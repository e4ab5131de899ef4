#![expect(clippy::disallowed_methods, reason = "edge: reads the clock, waits for the store")]
//! The public endpoint for people who unsubscribe, by the link in the mail or by their mail program (RFC 8058).
//!
//! ```text
//!  listener, at a door (edge: sockets, TLS, limits of a connection) -> answer: limits -> token -> request -> store -> page
//! ```
//!
//! Promises: GET and HEAD change nothing; a POST is answered with 200 only when the event is durable in the ledger, from
//! where the suppression rules take it; who has no link of ours gets the same page whatever is wrong with it, and learns
//! nothing of anybody. Hostile input: a connection has one request, a time in which all of it must be over, and a number
//! of octets; addresses have a rate; the tables are bounded.

pub mod limits;
pub mod listener;
pub mod page;
pub mod request;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};

use self::limits::{Demand, Recent, Requests};
use self::page::Page;
use crate::config::{Live, UnsubscribeListener};
use crate::event::unsubscribe_token::{self, Unsubscription, Way};
use crate::event::{AddressKey, Events, Time};
use crate::store::{Store, StoreError};

/// Octets of a body that are read at all, so that one which is too large can be told so.
const MOST_READ: usize = 3 * request::MAX_BODY;
/// Entries of X-Forwarded-For that are looked at.
const MAX_PROXIES: usize = 16;

/// What has been asked since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pages shown to people with a link of ours.
    pub pages: AtomicU64,
    /// Unsubscriptions recorded.
    pub unsubscribed: AtomicU64,
    /// Requests without a link of ours.
    pub unknown: AtomicU64,
    /// Requests over the rate.
    pub limited: AtomicU64,
    /// Unsubscriptions that could not be recorded.
    pub failed: AtomicU64,
}

impl Counters {
    /// Names, as the status has them, and values.
    pub fn all(&self) -> [(&'static str, u64); 5] {
        [
            ("pages", &self.pages),
            ("unsubscribed", &self.unsubscribed),
            ("unknownLinks", &self.unknown),
            ("overRate", &self.limited),
            ("failed", &self.failed),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// What answers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    config: Live,
    requests: Mutex<Requests>,
    recent: Mutex<Recent>,
    counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters and times: nothing in them is ever left half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Records in `store`; keys and limits are those of the configuration in force.
    pub fn new(store: Store, config: Live) -> Service {
        Service(Arc::new(Inner {
            store,
            config,
            requests: Mutex::default(),
            recent: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// What has been asked.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The listener as it is configured now; what it was started with where it is no longer configured.
    fn settings(&self, started: &UnsubscribeListener) -> UnsubscribeListener {
        let config = self.0.config.load();
        let now = config.unsubscribe_listeners.iter().find(|l| l.address == started.address);
        now.unwrap_or(started).clone()
    }

    /// The answer to one request that came from `peer`.
    async fn answer(&self, settings: &UnsubscribeListener, peer: IpAddr, request: Request) -> Response {
        let now = Time::from(jiff::Timestamp::now());
        let client = client(settings, peer, request.headers());
        let (head, body) = request.into_parts();
        let asks = head.method == Method::POST;
        let found = request::token(head.uri.path()).and_then(|token| {
            let config = self.0.config.load();
            let keys = config.return_path_token.as_ref().map_or(&[][..], |t| &t.keys);
            unsubscribe_token::verify(keys, now, token)
        });
        let demand = match &found {
            None => Demand::Unknown,
            Some(_) if asks => Demand::Leave,
            Some(_) => Demand::Look,
        };
        if let Some(wait) = self.over_rate(settings, client, demand, now) {
            return Page::TooMany(wait).into_response();
        }
        if !asks && head.method != Method::GET && head.method != Method::HEAD {
            return Page::Method.into_response();
        }
        let Some(who) = found else {
            count(&self.0.counters.unknown);
            return Page::Unknown.into_response();
        };
        if !asks {
            count(&self.0.counters.pages);
            return Page::Ask(&who).into_response();
        }
        match read(&head.headers, body).await {
            Err(page) => page.into_response(),
            Ok(None) => Page::NotAsked.into_response(),
            Ok(Some(way)) => {
                let (service, leaver) = (self.clone(), who.clone());
                // On a task of its own: who has asked is unsubscribed also when he hangs up before he hears of it.
                let recorded = tokio::spawn(async move { service.record(&leaver, way, now).await }).await;
                let error = match recorded {
                    Ok(Ok(())) => return Page::Done(&who).into_response(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                count(&self.0.counters.failed);
                tracing::error!(list = who.list, "somebody could not be unsubscribed: {error}");
                Page::Later.into_response()
            }
        }
    }

    /// Seconds to wait, when the client is over its rate.
    fn over_rate(&self, settings: &UnsubscribeListener, client: IpAddr, demand: Demand, now: Time) -> Option<u64> {
        let wait = lock(&self.0.requests).count(client, demand, settings.max_request_rate, now).err()?;
        count(&self.0.counters.limited);
        Some(wait.as_secs_f64().ceil() as u64)
    }

    /// Durable when it returns.
    async fn record(&self, who: &Unsubscription, way: Way, now: Time) -> Result<(), StoreError> {
        let address = AddressKey::of(&who.rcpt);
        if lock(&self.0.recent).contains(address.as_str(), &who.list, now) {
            return Ok(());
        }
        let mut events = Events::new();
        events.push(&who.event(self.0.store.id(), way, now));
        self.0.store.append(events).await?;
        self.0.store.flush().await?;
        lock(&self.0.recent).add(address.as_str(), &who.list, now);
        count(&self.0.counters.unsubscribed);
        tracing::info!(list = who.list, original = %who.message, way = way.name(), "unsubscribed");
        Ok(())
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Who asks to unsubscribe in the body, if it does; an error is the answer.
async fn read(headers: &HeaderMap, body: Body) -> Result<Option<Way>, Page<'static>> {
    let said = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    if said(header::CONTENT_LENGTH).parse::<usize>().is_ok_and(|length| length > MOST_READ) {
        return Err(Page::TooLarge);
    }
    match axum::body::to_bytes(body, MOST_READ).await {
        Ok(body) if body.len() <= request::MAX_BODY => Ok(request::wish(said(header::CONTENT_TYPE), &body)),
        _ => Err(Page::TooLarge),
    }
}

/// Whom a request comes from: the peer, or, when that is a proxy of ours, the last one in X-Forwarded-For that is none.
fn client(settings: &UnsubscribeListener, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.to_canonical();
    if !settings.trusts(peer) {
        return peer;
    }
    let values = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let mut named: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
    let mut client = peer;
    for _ in 0..MAX_PROXIES {
        // What stands in front of something unreadable was not written by a proxy of ours.
        let Some(Ok(ip)) = named.pop().map(address) else { break };
        client = ip.to_canonical();
        if !settings.trusts(client) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone, in brackets, with a port.
fn address(text: &str) -> Result<IpAddr, std::net::AddrParseError> {
    text.parse::<std::net::SocketAddr>().map(|a| a.ip()).or_else(|_| text.trim_matches(['[', ']']).parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_says_whom_a_request_comes_from() {
        let mut settings = UnsubscribeListener::at("127.0.0.1:0".parse().unwrap());
        settings.trusted_proxies = vec![("10.0.0.0".parse().unwrap(), 8)];
        let from = |peer: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            client(&settings, peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger may write what he likes");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["6.6.6.6", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }
}
