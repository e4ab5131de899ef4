//! Unsubscribing: what of it a `<source>` asks for, and `<unsubscribe-listener>`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::Rate;
use super::values::{ValueError, in_prefix};
use crate::event::unsubscribe_token::MAX_LIST;

/// Bytes of the longest `list-unsubscribe-url`: with a token behind it, it fits a line of mail.
const MAX_URL: usize = 150;

/// `add-list-unsubscribe`: which mail of a source gets the header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddListUnsubscribe {
    /// None.
    #[default]
    No,
    /// All.
    Yes,
    /// What has an X-Unsubscribe-List field.
    OnRequest,
}

/// What a source says about unsubscribing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListUnsubscribe {
    /// `add-list-unsubscribe`.
    pub add: AddListUnsubscribe,
    /// `list-unsubscribe-url`, without a slash at the end.
    pub url: Option<String>,
    /// `list-unsubscribe-mailto`.
    pub mailto: Option<String>,
    /// `default-list`: the list of mail that names none.
    pub default_list: Option<String>,
}

/// `<unsubscribe-listener>`: where people unsubscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// `tls-certificate`: without it `smtp-server-tls-certificate`; not used where it speaks plain HTTP.
    pub tls_certificate: Option<PathBuf>,
    /// `plain`: HTTP without TLS, for a proxy in front.
    pub plain: bool,
    /// `trusted-proxy`: whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<(IpAddr, u8)>,
    /// `max-connections` at once.
    pub max_connections: u32,
    /// `max-request-rate` of one address; `None`: no limit.
    pub max_request_rate: Option<Rate>,
    /// `request-timeout`: how long a connection may last from its first octet to its last.
    pub request_timeout: Duration,
}

impl UnsubscribeListener {
    /// With the defaults.
    pub fn at(address: SocketAddr) -> UnsubscribeListener {
        UnsubscribeListener {
            address,
            tls_certificate: None,
            plain: false,
            trusted_proxies: Vec::new(),
            max_connections: 500,
            max_request_rate: Some(Rate { count: 600, per: Duration::from_secs(60) }),
            request_timeout: Duration::from_secs(15),
        }
    }

    /// Whether it speaks HTTP without TLS: where it is told to, and on the loopback where it has no certificate of its own.
    pub fn speaks_plain(&self) -> bool {
        self.plain || self.address.ip().is_loopback() && self.tls_certificate.is_none()
    }

    /// Whether this is a proxy of ours.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|(prefix, length)| in_prefix(ip, *prefix, *length))
    }
}

fn wrong<T>(message: impl Into<String>, help: &str) -> Result<T, ValueError> {
    Err(ValueError { message: message.into(), help: help.into() })
}

/// A `list-unsubscribe-url`: https (RFC 8058, 3.1), or http to this very machine, to try it out.
pub fn url(text: &str) -> Result<String, ValueError> {
    let help = "write https://host/path; a slash and the token of the recipient are put behind it";
    let parsed = match reqwest::Url::parse(text) {
        Ok(parsed) => parsed,
        Err(e) => return wrong(format!("`{text}` is no URL: {e}"), help),
    };
    let host = parsed.host_str().unwrap_or("");
    let here = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && here) {
        return wrong("mail providers accept unsubscribe links with https: only (RFC 8058, 3.1)", help);
    }
    if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
        return wrong("the URL has more than host and path", help);
    }
    let url = parsed.as_str().trim_end_matches('/').to_owned();
    if url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic() && !b"<>,\"".contains(&b)) {
        return wrong(format!("the URL is longer than {MAX_URL} characters, or has some that would end it"), help);
    }
    Ok(url)
}

/// The name of a list: one printable word.
pub fn list_name(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_LIST && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_https_and_leaves_room_for_the_token() {
        assert_eq!(url("https://u.example.com/out/").unwrap(), "https://u.example.com/out");
        assert_eq!(url("HTTPS://U.example.com").unwrap(), "https://u.example.com");
        assert_eq!(url("http://127.0.0.1:8080/u").unwrap(), "http://127.0.0.1:8080/u");
        let long = format!("https://u.example.com/{}", "x".repeat(200));
        for bad in ["http://u.example.com", "u.example.com", "https://u.example.com/?a=b", "mailto:a@b.example", &long]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_for_the_loopback_and_for_those_who_ask() {
        let at = |address: &str| UnsubscribeListener::at(address.parse().unwrap());
        assert!(at("127.0.0.1:80").speaks_plain() && !at("192.0.2.1:443").speaks_plain());
        assert!(UnsubscribeListener { plain: true, ..at("192.0.2.1:80") }.speaks_plain());
        assert!(!UnsubscribeListener { tls_certificate: Some("x.pem".into()), ..at("[::1]:443") }.speaks_plain());
    }
}
