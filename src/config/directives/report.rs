//! What deals with reports that come back: `<bounce-processor>`, `<feedback-loop-processor>`, `<email-patterns>`
//! (directives.md, 2.3 to 2.6) and `<return-path-token>`, which is ours.

use std::path::PathBuf;
use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::lexer::Args;
use crate::config::model::Processor;
use crate::config::tree::Reading;
use crate::config::values::ValueError;
use crate::event::{Time, TokenKey};

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
    Directive::one(
        "deliver-email",
        Set::Bool(|p, v| (p.deliver_unmatched_email, p.deliver_matched_email) = (v, v)),
        "",
        "Deprecated: sets deliver-unmatched-email and deliver-matched-email, of which the last one given holds",
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
    Directive::one(
        "quarantine-passed-on",
        Set::Bool(|p, v| p.quarantine_passed_on = v),
        "yes",
        "Keep what was not understood in the quarantine also when it is delivered or forwarded; no: only what nobody gets",
    ),
];

pub(super) fn read(reading: &Reading<'_>, path: &std::path::Path) -> Result<String, ValueError> {
    Ok(String::from_utf8_lossy(&read_bytes(reading, path)?).into_owned())
}

fn read_bytes(reading: &Reading<'_>, path: &std::path::Path) -> Result<Vec<u8>, ValueError> {
    reading.files.read(path).map_err(|e| {
        let message = format!("{} can't be read: {e}", path.display());
        ValueError { message, help: "check the path and the permissions".into() }
    })
}

/// What stands in an `<email-patterns>`.
#[derive(Clone, Default)]
pub struct PatternsBlock {
    /// `body-pattern-file`: path and content.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// `log-match-info`
    pub log_match_info: bool,
}

/// The rows of an `<email-patterns>` inside a processor.
pub const EMAIL_PATTERNS: &[Directive<PatternsBlock>] = &[
    Directive::many(
        "body-pattern-file",
        Set::Other("FILE", "/etc/carom/acme.pattern", body_pattern_file),
        "A file with a pattern of a form of report of your own; its named groups fill the fields of the record",
    ),
    Directive::one(
        "log-match-info",
        Set::Bool(|b, v| b.log_match_info = v),
        "no",
        "Log which pattern file a mail matched, and what was found",
    ),
];

fn body_pattern_file(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<PatternsBlock>, ValueError> {
    let path = reading.resolve(&args.rest().map(|w| w.text).unwrap_or_default());
    let content = read_bytes(reading, &path)?;
    Ok(Arc::new(move |b| b.files.push((path.clone(), content.clone()))))
}

/// What stands in a `<return-path-token>`.
#[derive(Clone, Default)]
pub struct TokenBlock {
    /// `domain`
    pub domain: Option<String>,
    /// `key`
    pub keys: Vec<TokenKey>,
    /// `header`
    pub header: Option<String>,
    /// `encrypt-header`
    pub encrypt_header: bool,
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
        Set::Other("ID SECRET [until=DATE]", "k1 0123456789abcdef0123456789abcdef", key),
        "Key of the tokens: the first one signs, all of them verify until the end of their DATE (YYYY-MM-DD, UTC)",
    ),
    Directive::one(
        "header",
        Set::Other("NAME", "X-Report-Token", header),
        "",
        "Header field that gets a signed token too, in queues with add-token-header; it survives redacted complaints",
    ),
    Directive::one(
        "encrypt-header",
        Set::Bool(|t, v| t.encrypt_header = v),
        "no",
        "Encrypt the token in the header, so that it tells nothing about how much is sent",
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
    let until = match args.word() {
        None => None,
        Some(word) => Some(word.text.strip_prefix("until=").and_then(end_of_day).ok_or(ValueError {
            message: "what stands behind the secret is no date".into(),
            help: "write until=YYYY-MM-DD: the last day on which tokens of this key count".into(),
        })?),
    };
    let key = TokenKey { id: id.text, secret: secret.text.into_bytes(), until };
    Ok(Arc::new(move |t| t.keys.push(key.clone())))
}

/// The end of a day in UTC.
fn end_of_day(text: &str) -> Option<Time> {
    let next = text.parse::<jiff::civil::Date>().ok()?.tomorrow().ok()?;
    Some(next.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

fn header(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<TokenBlock>, ValueError> {
    let name = args.word().map(|w| w.text).unwrap_or_default();
    let taken = ["received", "from", "to", "subject", "date", "message-id", "return-path", "dkim-signature"];
    let fit = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !fit || taken.contains(&name.to_ascii_lowercase().as_str()) {
        let message = format!("`{name}` can't be the name of this header field");
        return Err(ValueError { message, help: "write a name of your own, such as X-Report-Token".into() });
    }
    Ok(Arc::new(move |t| t.header = Some(name.clone())))
}
