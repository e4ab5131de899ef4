//! The management API, wired: its port, what it shows in TLS, and the commands it passes on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::ServerConfig;

use super::{Inner, NodeError};
use crate::config::Config;
use crate::manage::door::{Door, Shown};
use crate::manage::http::HttpServer;
use crate::net::server_tls::server_config;

/// Binds the port, if the configuration has one; all that can be wrong with it is found here.
pub(super) fn bind(config: &Config) -> Result<Option<(Door, Shown)>, NodeError> {
    let Some(address) = config.http.listen() else { return Ok(None) };
    let door = Door::bind(address)
        .map_err(|e| NodeError::Other(format!("http-mgmt-port: {address}: {e} (is the port taken?)")))?;
    Ok(Some((door, Arc::new(ArcSwap::new(identity(config).map_err(NodeError::Other)?)))))
}

fn identity(config: &Config) -> Result<Arc<ServerConfig>, String> {
    server_config(config.http.tls_certificate.as_deref(), &config.host_names)
        .map_err(|e| format!("http-mgmt-port: {e}"))
}

/// Shows the certificate of `config` from now on. A self-signed one stays while the names do.
pub(super) fn renew(shown: &Shown, config: &Config, live: &Config) -> Result<(), String> {
    let same_names = config.host_names == live.host_names;
    if config.http.tls_certificate.is_none() && live.http.tls_certificate.is_none() && same_names {
        return Ok(());
    }
    shown.store(identity(config)?);
    Ok(())
}

/// Serves.
pub(super) fn serve(opened: Option<(Door, Shown)>, inner: &Arc<Inner>) -> Result<Option<HttpServer>, NodeError> {
    let Some((door, tls)) = opened else { return Ok(None) };
    let asked = inner.clone();
    let handler = Arc::new(move |command| asked.answer(command));
    HttpServer::start(door, tls, inner.live.clone(), handler).map(Some).map_err(super::other)
}
