//! A listener of the unsubscribe endpoint: what its settings make of a connection at its [`door`](crate::manage::door).
//!
//! A connection lasts for `request-timeout` at most, from the moment it is accepted to the end of the answer, and brings
//! [`MAX_OCTETS`] at most; so one that sends a letter a second costs one place of `max-connections` for that time and no
//! more. One address gets a quarter of the places.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use tokio::sync::watch;

use super::Service;
use super::limits::one_client;
use crate::config::UnsubscribeListener;
use crate::manage::door::{Door, Lasts, Peer, Rules, Shown, Speaks, Terms};

/// Octets that one connection may send.
const MAX_OCTETS: usize = 96 << 10;

/// A listener that is bound.
#[derive(Debug)]
pub struct Bound {
    door: Door,
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
        let door = Door::bind(listener.address).map_err(|cause| BindError { address: listener.address, cause })?;
        Ok(Bound { door, listener: listener.clone(), tls })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Serves until `shutdown` turns true or its sender is gone, and then until the connections have ended, five seconds at
    /// most.
    pub async fn serve(self, service: Service, shutdown: watch::Receiver<bool>) {
        let Bound { door, listener, tls } = self;
        let app = Router::new().fallback(answer).with_state((service.clone(), Arc::new(listener.clone())));
        door.serve(Settings { service, listener, tls }, app, shutdown).await;
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

/// Everybody may come in, as long as there is room.
struct Settings {
    service: Service,
    listener: UnsubscribeListener,
    tls: Option<Shown>,
}

impl Rules for Settings {
    fn name(&self) -> String {
        format!("unsubscribe-listener {}", self.listener.address)
    }

    fn terms(&self, peer: IpAddr) -> Option<Terms> {
        let settings = self.service.settings(&self.listener);
        let most = settings.max_connections;
        Some(Terms {
            speaks: self.tls.as_ref().map_or(Speaks::Plain, |shown| Speaks::Tls(shown.load_full())),
            most,
            of_one: if settings.trusts(peer) { most } else { (most / 4).max(1) },
            client: one_client(peer),
            lasts: Lasts::InAll(settings.request_timeout),
            octets: MAX_OCTETS,
        })
    }
}
