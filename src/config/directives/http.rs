//! How the lines about the management API, and those about how the suppression list is kept, are read.

use std::net::IpAddr;
use std::sync::Arc;

use super::global::{Global, read_certificate};
use super::set::Change;
use crate::config::lexer::Args;
use crate::config::model::HttpAccess;
use crate::config::push::Secret;
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

/// Of the word `sample`; for documentation and tests.
pub const SAMPLE_HASH: &str = "pbkdf2-sha256:100000:00112233445566778899aabbccddeeff:0000000000000000000000000000000000000000000000000000000000000000";

type Read = Result<Change<Global>, ValueError>;

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError { message: message.into(), help: help.into() })
}

fn word(args: &mut Args<'_>) -> String {
    args.word().map(|w| w.text).unwrap_or_default()
}

pub(super) fn suppression_storage(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let hashed = match word(args).to_ascii_lowercase().as_str() {
        "plain" => false,
        "hashed" => true,
        _ => return wrong("neither plain nor hashed", "write suppression-storage plain or suppression-storage hashed"),
    };
    Ok(Arc::new(move |g| g.suppression_hashed = hashed))
}

pub(super) fn suppression_hash_key(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let key = word(args);
    if key.len() < 16 {
        return wrong("the key is too short", "write at least 16 characters; a # begins a comment, also inside a key");
    }
    let key = Secret::new(key);
    Ok(Arc::new(move |g| g.suppression_hash_key = Some(key.clone())))
}

pub(super) fn address(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let text = word(args);
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => Ok(Arc::new(move |g| g.http.address = Some(ip))),
        Err(_) => wrong("not an IP address", "write http-mgmt-address 127.0.0.1; the port is http-mgmt-port"),
    }
}

pub(super) fn access(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let help =
        "write http-access CIDR and one of none, monitor, operator and admin, such as http-access 127.0.0.1 admin";
    let (ip, length) = values::cidr(&word(args))?;
    let level = word(args).to_ascii_lowercase();
    // PowerMTA's deny-logs hides logs, of which there are none here.
    let access = match level.split(',').next().unwrap_or_default() {
        "none" => HttpAccess::None,
        "monitor" => HttpAccess::Monitor,
        "operator" => HttpAccess::Operator,
        "admin" => HttpAccess::Admin,
        _ => return wrong("no such access", help),
    };
    Ok(Arc::new(move |g| g.http.access.push((ip, length, access))))
}

pub(super) fn password(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let password = word(args);
    if password.len() < 8 {
        return wrong(
            "the password is too short",
            "write at least 8 characters; a # begins a comment, also inside a value",
        );
    }
    let password = Secret::new(password);
    Ok(Arc::new(move |g| g.http.password = Some(password.clone())))
}

pub(super) fn password_hash(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let text = word(args);
    let is_hex = |part: Option<&str>, digits: usize| {
        part.is_some_and(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let mut parts = text.split(':');
    let right = parts.next() == Some("pbkdf2-sha256")
        && parts.next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| (1..=10_000_000).contains(&n))
        && is_hex(parts.next(), 32)
        && is_hex(parts.next(), 64)
        && parts.next().is_none();
    if !right {
        return wrong(
            "not a hash of a password",
            "write what carom http-password prints: pbkdf2-sha256:ROUNDS:SALT:HASH",
        );
    }
    let hash = Secret::new(text);
    Ok(Arc::new(move |g| g.http.password_hash = Some(hash.clone())))
}

pub(super) fn api_key(args: &mut Args<'_>, _: &mut Reading<'_>) -> Read {
    let key = word(args);
    let right = (32..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !right {
        return wrong("not an API key", "write 32 to 128 letters, digits and underscores");
    }
    let key = Secret::new(key);
    Ok(Arc::new(move |g| g.http.api_keys.push(key.clone())))
}

pub(super) fn certificate(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Read {
    let path = read_certificate(args, reading)?;
    Ok(Arc::new(move |g| g.http.tls_certificate = Some(path.clone())))
}
