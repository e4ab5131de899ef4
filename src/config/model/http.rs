//! The management API as configured: where it listens and what one may do there from which address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::push::Secret;
use crate::config::values;

/// The management API over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpMgmt {
    /// `http-mgmt-port`; 0 is off.
    pub port: u16,
    /// `http-mgmt-address`; without it all addresses when [`HttpMgmt::access`] lets other machines in, else loopback.
    pub address: Option<IpAddr>,
    /// `http-access` in file order; the first that matches holds, no match is [`HttpAccess::None`].
    pub access: Vec<(IpAddr, u8, HttpAccess)>,
    /// `http-mgmt-password`.
    pub password: Option<Secret>,
    /// `http-mgmt-password-hash`: `pbkdf2-sha256:ROUNDS:SALT:HASH`.
    pub password_hash: Option<Secret>,
    /// `http-api-key`s.
    pub api_keys: Vec<Secret>,
    /// `http-tls-certificate`; without it a self-signed one is made.
    pub tls_certificate: Option<PathBuf>,
}

impl HttpMgmt {
    /// Where to listen; `None` when it is off.
    pub fn listen(&self) -> Option<SocketAddr> {
        let others = self.access.iter().any(|(ip, _, access)| !ip.is_loopback() && *access > HttpAccess::None);
        let any = if others { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([127, 0, 0, 1]) };
        (self.port != 0).then(|| SocketAddr::new(self.address.unwrap_or(any), self.port))
    }

    /// What somebody at this address may do, if nothing else is in the way.
    pub fn access(&self, ip: IpAddr) -> HttpAccess {
        let ip = ip.to_canonical();
        let found = self.access.iter().find(|(network, length, _)| values::in_prefix(ip, *network, *length));
        found.map_or(HttpAccess::None, |(_, _, access)| *access)
    }

    /// Whether one has to prove who one is.
    pub fn has_credentials(&self) -> bool {
        self.password.is_some() || self.password_hash.is_some() || !self.api_keys.is_empty()
    }
}

/// What one may do over HTTP; each includes those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum HttpAccess {
    /// Nothing.
    #[default]
    None,
    /// Look.
    Monitor,
    /// Change what can be changed back.
    Operator,
    /// Everything.
    Admin,
}
