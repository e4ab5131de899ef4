//! The unsubscribe endpoint in the house: its listeners with their certificates, started and stopped.
#![expect(clippy::disallowed_methods, reason = "edge: starts the tasks of the endpoint")]

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{NodeError, join, other};
use crate::config::{Config, Live, UnsubscribeListener};
use crate::manage::door::Shown;
use crate::manage::unsubscribe::Service;
use crate::manage::unsubscribe::listener::Bound;
use crate::net::server_tls::{ServerTlsError, server_config};
use crate::store::Store;

/// A listener and what it shows in TLS, if it speaks TLS.
pub(super) struct Opened {
    bound: Bound,
    listener: UnsubscribeListener,
    shown: Option<Shown>,
}

/// Binds all unsubscribe listeners of a configuration; all or none.
pub(super) fn bind(config: &Config) -> Result<Vec<Opened>, NodeError> {
    let one = |listener: &UnsubscribeListener| {
        let failed = |e: ServerTlsError| other(format!("unsubscribe-listener {}: {e}", listener.address));
        let shown = match listener.speaks_plain() {
            true => None,
            false => Some(Arc::new(ArcSwap::new(certificate(config, listener).map_err(failed)?))),
        };
        let bound = Bound::new(listener, shown.clone()).map_err(other)?;
        Ok(Opened { bound, listener: listener.clone(), shown })
    };
    config.unsubscribe_listeners.iter().map(one).collect()
}

/// Its certificate and key, as the configuration has them now.
fn certificate(
    config: &Config,
    listener: &UnsubscribeListener,
) -> Result<Arc<tokio_rustls::rustls::ServerConfig>, ServerTlsError> {
    let own = config.unsubscribe_listeners.iter().find(|l| l.address == listener.address).unwrap_or(listener);
    let pem = own.tls_certificate.as_deref().or(config.smtp_server_tls_certificate.as_deref());
    server_config(pem, &config.host_names)
}

/// What commands and reload need of the endpoint.
#[derive(Debug)]
pub(super) struct Shared {
    /// What answers.
    pub(super) service: Service,
    shown: Vec<(UnsubscribeListener, Shown)>,
}

impl Shared {
    pub(super) fn new(opened: &[Opened], store: &Store, live: &Live) -> Shared {
        let shown = opened.iter().filter_map(|o| Some((o.listener.clone(), o.shown.clone()?)));
        Shared { service: Service::new(store.clone(), live.clone()), shown: shown.collect() }
    }

    /// Reads the certificates again, for connections that begin from now on. On an error the old ones stay.
    pub(super) fn renew(&self, config: &Config) -> Result<(), ServerTlsError> {
        let new =
            self.shown.iter().map(|(listener, _)| certificate(config, listener)).collect::<Result<Vec<_>, _>>()?;
        self.shown.iter().zip(new).for_each(|((_, shown), new)| shown.store(new));
        Ok(())
    }
}

/// The running listeners.
#[derive(Debug)]
pub(super) struct Endpoint {
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Endpoint {
    pub(super) fn start(opened: Vec<Opened>, shared: &Shared) -> Endpoint {
        let (stop, stopped) = watch::channel(false);
        let addresses = opened.iter().map(|o| o.bound.address()).collect();
        let serve = |o: Opened| tokio::spawn(o.bound.serve(shared.service.clone(), stopped.clone()));
        Endpoint { addresses, tasks: opened.into_iter().map(serve).collect(), stop }
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, and ends when those under way have.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            join("an unsubscribe listener", task).await;
        }
    }
}
