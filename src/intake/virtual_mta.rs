//! Which VirtualMTA a message leaves through (reference/directives.md, 3.1): `x-virtual-mta`, else the source's
//! `default-virtual-mta`, else `{default}`. A pool may stand wherever a VirtualMTA may; it gives its members in turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::config::{Config, Source};

/// The VirtualMTA of mail that chose none.
pub const DEFAULT: &str = "{default}";
/// The value of `default-virtual-mta` that chooses by the address the client connected to.
const BY_ADDRESS: &str = "by-smtp-source-ip";

/// What was chosen. A VirtualMTA has its name as configured, whatever the case it was asked for in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The VirtualMTA.
    pub virtual_mta: Box<str>,
    /// The pool that gave it, lower-cased, so that it is one name however it was asked for; empty when none was.
    pub pool: Box<str>,
}

/// The message asks for a VirtualMTA that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VirtualMtaError {
    /// Neither a VirtualMTA nor a pool of this name, and `reject-invalid-virtual-mta` is on.
    #[error("VirtualMTA {0:?} does not exist")]
    Unknown(String),
    /// `x-virtual-mta` without a value.
    #[error("x-virtual-mta is empty")]
    Empty,
    /// The pool has no members.
    #[error("VirtualMTA pool {0:?} has no members")]
    EmptyPool(String),
}

/// Whose turn it is in each pool.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<Box<str>, usize>>);

impl Turns {
    /// The next member's index of this pool, which has `len` of them.
    fn next(&self, pool: &str, len: usize) -> usize {
        // A counter is never left half-written, so a poisoned lock loses nothing.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turn) = turns.get_mut(pool) else {
            turns.insert(pool.into(), 1);
            return 0;
        };
        let now = *turn % len;
        *turn = now + 1;
        now
    }
}

/// Chooses for a message with this `x-virtual-mta` that came from `source` to our address `local`.
pub fn choose(
    config: &Config,
    source: &Source,
    header: Option<&str>,
    local: Option<IpAddr>,
    turns: &Turns,
) -> Result<Chosen, VirtualMtaError> {
    let wanted = match (header, source.default_virtual_mta.as_deref()) {
        (Some(""), _) => return Err(VirtualMtaError::Empty),
        (Some(name), _) => name,
        (None, Some(BY_ADDRESS)) => return Ok(by_address(config, local)),
        (None, Some(name)) => name,
        (None, None) => DEFAULT,
    };
    let plain = |name: &str| Chosen { virtual_mta: name.into(), pool: "".into() };
    if wanted == DEFAULT {
        return Ok(plain(DEFAULT));
    }
    let key = wanted.to_lowercase();
    if let Some(vmta) = config.virtual_mtas.get(&key) {
        return Ok(plain(&vmta.name));
    }
    if let Some(members) = config.pools.get(&key) {
        if members.is_empty() {
            return Err(VirtualMtaError::EmptyPool(wanted.into()));
        }
        let member = &members[turns.next(&key, members.len())];
        let virtual_mta = config.virtual_mtas.get(&member.to_lowercase()).map_or(member, |v| &v.name);
        return Ok(Chosen { virtual_mta: virtual_mta.as_str().into(), pool: key.into() });
    }
    if source.reject_invalid_virtual_mta {
        return Err(VirtualMtaError::Unknown(wanted.into()));
    }
    // Accepted under its name: delivery bounces it with 5.3.5.
    Ok(plain(wanted))
}

fn by_address(config: &Config, local: Option<IpAddr>) -> Chosen {
    let owner = local.and_then(|local| {
        config.virtual_mtas.values().find(|v| v.smtp_source_hosts.iter().any(|(ip, _)| *ip == local))
    });
    Chosen { virtual_mta: owner.map_or(DEFAULT, |v| &v.name).into(), pool: "".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "host-name mx.example.com\nspool /s\nlog-file /l\n\
            <virtual-mta Va>\nsmtp-source-host 192.0.2.20 a.example.com\n</virtual-mta>\n<virtual-mta vb>\n</virtual-mta>\n\
            <virtual-mta-pool p>\nvirtual-mta Va\nvirtual-mta vb\n</virtual-mta-pool>\n\
            <virtual-mta-pool q>\nvirtual-mta vb\n</virtual-mta-pool>\n";
        let loaded = crate::config::parse_str("test.conf", text);
        loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
    }

    fn chosen(source: &Source, header: Option<&str>, turns: &Turns) -> Result<(String, String), VirtualMtaError> {
        let local = Some("192.0.2.20".parse().unwrap());
        choose(&config(), source, header, local, turns).map(|c| (c.virtual_mta.into(), c.pool.into()))
    }

    fn named(name: &str, pool: &str) -> Result<(String, String), VirtualMtaError> {
        Ok((name.into(), pool.into()))
    }

    #[test]
    fn the_header_goes_before_the_default_of_the_source() {
        let turns = Turns::default();
        let plain = Source::default();
        let with_default = Source { default_virtual_mta: Some("vb".into()), ..Source::default() };
        assert_eq!(chosen(&plain, None, &turns), named(DEFAULT, ""));
        assert_eq!(chosen(&with_default, None, &turns), named("vb", ""));
        assert_eq!(chosen(&with_default, Some("va"), &turns), named("Va", ""));
        assert_eq!(chosen(&with_default, Some("{default}"), &turns), named(DEFAULT, ""));
        let by_address = Source { default_virtual_mta: Some("by-smtp-source-ip".into()), ..Source::default() };
        assert_eq!(chosen(&by_address, None, &turns), named("Va", ""));
    }

    #[test]
    fn each_pool_gives_its_own_members_in_turn() {
        let (turns, source) = (Turns::default(), Source::default());
        let mut given = Vec::new();
        for _ in 0..4 {
            given.push(chosen(&source, Some("P"), &turns).unwrap().0);
            assert_eq!(chosen(&source, Some("q"), &turns), named("vb", "q"));
        }
        assert_eq!(given, ["Va", "vb", "Va", "vb"]);
    }

    #[test]
    fn an_unknown_name_is_refused_or_left_to_delivery() {
        let turns = Turns::default();
        let strict = Source::default();
        assert_eq!(chosen(&strict, Some("vx"), &turns), Err(VirtualMtaError::Unknown("vx".into())));
        assert_eq!(chosen(&strict, Some(""), &turns), Err(VirtualMtaError::Empty));
        let lax = Source { reject_invalid_virtual_mta: false, ..Source::default() };
        assert_eq!(chosen(&lax, Some("vx"), &turns), named("vx", ""));
    }
}
