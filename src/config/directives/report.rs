//! What deals with reports that come back: `<bounce-processor>`, `<feedback-loop-processor>`, `<address-list>`
//! (directives.md, 2.3 to 2.5) and `<return-path-token>`, which is ours.

use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::lexer::Args;
use crate::config::model::Processor;
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};
use crate::event::address::canonical_domain;

/// The rows of both processors.
pub const PROCESSOR: &[Directive<Processor>] = &[
    Directive::one(
        "deliver-unmatched-email",
        Set::Bool(|p, v| p.deliver_unmatched_email = v),
        "yes",
        "Deliver mail that is no report; no: drop it",
    ),
    Directive::one(
        "deliver-matched-email",
        Set::Bool(|p, v| p.deliver_matched_email = v),
        "no",
        "Deliver reports after they were read; no: drop them",
    ),
    Directive::many(
        "forward-unmatched-to",
        Set::Email(|p, v| p.forward_unmatched_to.push(v)),
        "Address that gets a copy of mail that is no report",
    ),
    Directive::many(
        "forward-errors-to",
        Set::Email(|p, v| p.forward_errors_to.push(v)),
        "Address that gets reports that could not be read",
    ),
];

/// The rows of an `<address-list>` inside a processor.
pub const ADDRESS_LIST: &[Directive<Processor>] = &[
    Directive::many("domain", Set::Host(|p, v| p.domains.push(v)), "Every address at this domain"),
    Directive::many(
        "address",
        Set::Other("EMAIL or local part", "bounces@example.com", address),
        "One address, or a local part at any domain",
    ),
];

fn address(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Processor>, ValueError> {
    let help = "write an address or a local part; for all addresses of a domain write domain D";
    let Some(word) = args.rest() else { return Err(ValueError { message: "no address".into(), help: help.into() }) };
    if word.text.starts_with('/') {
        reading.warning(word.span, "patterns of addresses are not supported yet: this one is not in effect", help);
        return Ok(Arc::new(|_| ()));
    }
    let address = match word.text.rsplit_once('@') {
        Some((local, domain)) => {
            values::email(&word.text)?;
            format!("{local}@{}", canonical_domain(domain))
        }
        // A local part is checked as part of an address.
        None => values::email(&format!("{}@x", word.text)).map(|_| word.text.clone())?,
    };
    Ok(Arc::new(move |p| p.addresses.push(address.clone())))
}

/// What stands in a `<return-path-token>`.
#[derive(Clone, Default)]
pub struct TokenBlock {
    /// `domain`
    pub domain: Option<String>,
    /// `key`: id and secret.
    pub keys: Vec<(String, Vec<u8>)>,
}

/// The rows of `<return-path-token>`.
pub const TOKEN: &[Directive<TokenBlock>] = &[
    Directive::one(
        "domain",
        Set::Host(|t, v| t.domain = Some(v)),
        "",
        "Domain of the signed return path; reports must come back there",
    ),
    Directive::many(
        "key",
        Set::Other("ID SECRET", "k1 0123456789abcdef0123456789abcdef", key),
        "Key of the token: the first one signs, all of them verify, so that keys can be changed",
    ),
];

/// Messages never hold the secret.
fn key(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<TokenBlock>, ValueError> {
    let help = "write key ID SECRET: an id of up to 8 letters and digits, a secret of at least 16 characters";
    let bad = |message: &str| Err(ValueError { message: message.into(), help: help.into() });
    let (Some(id), Some(secret)) = (args.word(), args.word()) else { return bad("an id and a secret are needed") };
    if id.text.is_empty() || id.text.len() > 8 || !id.text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return bad("the id is not made of 1 to 8 letters and digits");
    }
    if secret.text.len() < 8 {
        return bad("the secret is shorter than 8 characters");
    }
    if secret.text.len() < 16 {
        reading.warning(id.span, "a secret of less than 16 characters can be guessed", help);
    }
    let pair = (id.text, secret.text.into_bytes());
    Ok(Arc::new(move |t| t.keys.push(pair.clone())))
}
