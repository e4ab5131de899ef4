//! Who may do what over HTTP. Pure but for the random key of the process.
//!
//! The address decides what is possible at all (`http-access`); where a password or an API key is configured, it must be
//! shown, and a key opens everything. What is shown is compared in constant time. After [`MAX_FAILURES`] wrong ones from
//! an address, none is looked at for [`REST`]. What a browser sends for a page of another site is refused, whatever it
//! holds; so is a name of ours that is not ours, where no password is asked for (DNS rebinding).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::{hmac, pbkdf2};

use super::http_routes::Problem;
use crate::config::{Config, HttpAccess};
use crate::event::Time;

/// Wrong passwords or keys within [`REST`], from one address (of IPv6: one /64).
pub const MAX_FAILURES: u32 = 5;
/// How long an address that failed too often is not listened to.
pub const REST: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered, at most.
const MAX_ADDRESSES: usize = 4096;

/// What of a request tells who asks.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// `Authorization`
    pub authorization: Option<String>,
    /// `X-API-Key`
    pub api_key: Option<String>,
    /// `Host`
    pub host: Option<String>,
    /// `Origin`
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`
    pub fetch_site: Option<String>,
}

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What they may do.
    pub access: HttpAccess,
    /// For the record of what they change.
    pub who: String,
}

/// Decides; remembers failures.
pub struct Guard {
    /// Of this process: comparisons go by tags under it.
    key: hmac::Key,
    failures: Mutex<HashMap<IpAddr, (u32, Time)>>,
    /// Tag of the last right password with the hash it was right for, so that each request need not derive it anew.
    right: Mutex<Option<Vec<u8>>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// With this random key.
    pub fn new(key: &[u8; 32]) -> Guard {
        Guard { key: hmac::Key::new(hmac::HMAC_SHA256, key), failures: Mutex::default(), right: Mutex::default() }
    }

    /// Who asks from `ip`; a [`Problem`] with status 401, 403 or 429 when they may not. Deriving a password takes a
    /// while: call it where one may block.
    pub fn caller(&self, config: &Config, ip: IpAddr, shown: &Shown, now: Time) -> Result<Caller, Problem> {
        let http = &config.http;
        let access = http.access(ip);
        if access == HttpAccess::None {
            return Err(Problem::new(403, "http-access does not let you in"));
        }
        let host = shown.host.as_deref().unwrap_or_default();
        if let Some(origin) = &shown.origin
            && origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host))
        {
            return Err(Problem::new(403, "pages of other sites may not ask here"));
        }
        if shown.fetch_site.as_deref().is_some_and(|s| !matches!(s, "same-origin" | "none")) {
            return Err(Problem::new(403, "pages of other sites may not ask here"));
        }
        if !http.has_credentials() {
            let name = bare(host);
            let ours = name.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || config.host_names.iter().any(|h| h.eq_ignore_ascii_case(name));
            return match ours {
                true => Ok(Caller { access, who: format!("http {ip}") }),
                false => Err(Problem::new(403, "ask by address, as localhost, or by a host-name of the configuration")),
            };
        }
        let place = network(ip);
        if self.is_resting(place, now) {
            return Err(Problem::new(429, "too many wrong passwords or keys: wait a minute"));
        }
        if let Some(key) = &shown.api_key {
            if http.api_keys.iter().fold(false, |found, k| found | self.same(k.reveal().as_bytes(), key.as_bytes())) {
                return Ok(Caller { access: HttpAccess::Admin, who: format!("api-key {ip}") });
            }
            return Err(self.failed(place, now));
        }
        let Some((user, password)) = shown.authorization.as_deref().and_then(basic) else {
            return Err(Problem::new(401, "a password (HTTP Basic) or X-API-Key is needed"));
        };
        let plain = http.password.as_ref().is_some_and(|p| self.same(p.reveal().as_bytes(), password.as_bytes()));
        if plain || http.password_hash.as_ref().is_some_and(|h| self.derives(h.reveal(), &password)) {
            let user: String = user.chars().filter(|c| !c.is_control()).take(64).collect();
            let user = if user.is_empty() { "password" } else { user.as_str() };
            return Ok(Caller { access, who: format!("{user} {ip}") });
        }
        Err(self.failed(place, now))
    }

    /// Compares in a time that does not tell where they differ.
    fn same(&self, expected: &[u8], given: &[u8]) -> bool {
        let tag = hmac::sign(&self.key, expected);
        hmac::verify(&self.key, given, tag.as_ref()).is_ok()
    }

    fn derives(&self, hash: &str, password: &str) -> bool {
        let both = [hash.as_bytes(), b"\0", password.as_bytes()].concat();
        let known = self.right.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some_and(|tag| hmac::verify(&self.key, &both, &tag).is_ok()) {
            return true;
        }
        let right = verify(hash, password);
        if right {
            let tag = hmac::sign(&self.key, &both).as_ref().to_vec();
            *self.right.lock().unwrap_or_else(PoisonError::into_inner) = Some(tag);
        }
        right
    }

    fn is_resting(&self, place: IpAddr, now: Time) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&place).is_some_and(|(n, since)| *n >= MAX_FAILURES && now.since(*since) < REST)
    }

    fn failed(&self, place: IpAddr, now: Time) -> Problem {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (_, since)| now.since(*since) < REST);
        }
        if failures.len() >= MAX_ADDRESSES {
            failures.clear();
        }
        let (n, since) = failures.entry(place).or_insert((0, now));
        if now.since(*since) >= REST {
            *n = 0;
        }
        // The rest begins with the last failure.
        (*n, *since) = (*n + 1, now);
        tracing::warn!(address = %place, failures = *n, "wrong password or key at the management API");
        Problem::new(401, "wrong password or key")
    }
}

/// A host without its port and brackets.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Somebody has a whole /64 of IPv6 addresses.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        ip => ip,
    }
}

/// User and password of HTTP Basic (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let bytes = data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (user.to_owned(), password.to_owned()))
}

/// Rounds of a hash that is made now.
const ROUNDS: u32 = 210_000;

/// The hash of a password for `http-mgmt-password-hash`, with this random salt.
pub fn hash_password(password: &str, salt: &[u8; 16]) -> String {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut out = [0; 32];
    if let Some(rounds) = std::num::NonZeroU32::new(ROUNDS) {
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut out);
    }
    format!("pbkdf2-sha256:{ROUNDS}:{}:{}", hex(salt), hex(&out))
}

fn verify(hash: &str, password: &str) -> bool {
    let mut parts = hash.split(':').skip(1);
    let rounds = parts.next().and_then(|n| n.parse().ok());
    let mut bytes = || data_encoding::HEXLOWER_PERMISSIVE.decode(parts.next()?.as_bytes()).ok();
    match (rounds, bytes(), bytes()) {
        (Some(rounds), Some(salt), Some(expected)) => {
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &expected).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn config(more: &str) -> Config {
        let loaded =
            crate::config::parse_str("c", &format!("spool s\nhost-name mta.example\nhttp-mgmt-port 1\n{more}"));
        loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    fn ask(guard: &Guard, config: &Config, ip: &str, shown: Shown) -> Result<Caller, u16> {
        let shown = Shown { host: shown.host.or(Some("127.0.0.1:8080".into())), ..shown };
        guard.caller(config, ip.parse().unwrap(), &shown, NOW).map_err(|p| p.status)
    }

    fn basic_of(user: &str, password: &str) -> Shown {
        let encoded = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
        Shown { authorization: Some(format!("Basic {encoded}")), ..Shown::default() }
    }

    #[test]
    fn the_address_decides_and_the_first_line_that_matches_holds() {
        let config =
            config("http-access 127.0.0.1 admin\nhttp-access 10.1.0.0/16 none\nhttp-access 10.0.0.0/8 monitor\n");
        let guard = Guard::new(&[7; 32]);
        let access = |ip| ask(&guard, &config, ip, Shown::default()).map(|c| c.access);
        assert_eq!(access("127.0.0.1"), Ok(HttpAccess::Admin));
        assert_eq!(access("::ffff:127.0.0.1"), Ok(HttpAccess::Admin));
        assert_eq!(access("10.1.2.3"), Err(403));
        assert_eq!(access("10.2.2.3"), Ok(HttpAccess::Monitor));
        assert_eq!(access("192.0.2.1"), Err(403));
    }

    #[test]
    fn a_configured_password_is_asked_of_everybody_and_names_the_operator() {
        let plain = config("http-access 0.0.0.0/0 operator\nhttp-mgmt-password correct-horse\n");
        let hash = hash_password("correct-horse", &[3; 16]);
        let hashed = config(&format!("http-access 0.0.0.0/0 operator\nhttp-mgmt-password-hash {hash}\n"));
        for config in [plain, hashed] {
            let guard = Guard::new(&[7; 32]);
            assert_eq!(ask(&guard, &config, "127.0.0.1", Shown::default()), Err(401));
            assert_eq!(ask(&guard, &config, "127.0.0.1", basic_of("ann", "wrong")), Err(401));
            for _ in 0..2 {
                let caller = ask(&guard, &config, "10.0.0.9", basic_of("ann", "correct-horse")).unwrap();
                assert_eq!(caller, Caller { access: HttpAccess::Operator, who: "ann 10.0.0.9".into() });
            }
        }
    }

    #[test]
    fn a_key_opens_everything_to_addresses_that_are_let_in_at_all() {
        let key = "0123456789abcdef0123456789abcdef";
        let config = config(&format!("http-access 10.0.0.0/8 monitor\nhttp-api-key {key}\n"));
        let guard = Guard::new(&[7; 32]);
        let with = |key: &str| Shown { api_key: Some(key.into()), ..Shown::default() };
        assert_eq!(ask(&guard, &config, "10.0.0.1", with(key)).unwrap().access, HttpAccess::Admin);
        assert_eq!(ask(&guard, &config, "10.0.0.1", with("0123")), Err(401));
        assert_eq!(ask(&guard, &config, "192.0.2.1", with(key)), Err(403));
    }

    #[test]
    fn who_guesses_is_not_listened_to_for_a_minute_and_others_are() {
        let config =
            config("http-access 0.0.0.0/0 monitor\nhttp-access ::/0 monitor\nhttp-mgmt-password correct-horse\n");
        let guard = Guard::new(&[7; 32]);
        for _ in 0..MAX_FAILURES {
            assert_eq!(ask(&guard, &config, "2001:db8::1", basic_of("a", "guess-again")), Err(401));
        }
        assert_eq!(ask(&guard, &config, "2001:db8::2", basic_of("a", "correct-horse")), Err(429), "the same /64");
        assert!(ask(&guard, &config, "2001:db8:0:1::2", basic_of("a", "correct-horse")).is_ok());
        let shown = Shown { host: Some("h".into()), ..basic_of("a", "correct-horse") };
        let later = guard.caller(&config, "2001:db8::2".parse().unwrap(), &shown, NOW + REST);
        assert!(later.is_ok());
    }

    #[test]
    fn what_a_browser_sends_for_another_site_is_refused() {
        let config = config("http-access 127.0.0.1 admin\n");
        let guard = Guard::new(&[7; 32]);
        let ask = |shown| ask(&guard, &config, "127.0.0.1", shown).map(|c| c.access);
        let origin = |origin: &str| Shown { origin: Some(origin.into()), ..Shown::default() };
        assert_eq!(ask(origin("http://evil.example")), Err(403));
        assert_eq!(ask(origin("null")), Err(403));
        assert!(ask(origin("http://127.0.0.1:8080")).is_ok());
        assert_eq!(ask(Shown { fetch_site: Some("cross-site".into()), ..Shown::default() }), Err(403));
        let host = |host: &str| Shown { host: Some(host.into()), ..Shown::default() };
        assert_eq!(ask(host("evil.example:8080")), Err(403), "a name that was made to lead here");
        for ours in ["localhost:1", "mta.example", "[::1]:80", "127.0.0.1"] {
            assert!(ask(host(ours)).is_ok(), "{ours}");
        }
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let config = config("http-access 127.0.0.1 admin\nhttp-mgmt-password correct-horse\n");
        assert!(!format!("{config:?}").contains("correct-horse"));
    }
}
