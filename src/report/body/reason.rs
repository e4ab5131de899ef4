//! What words behind an address say of it: the reply, its status, the host it came from.

use std::net::IpAddr;

use crate::event::{EnhancedStatus, Reply};

use super::super::kind::RcptResult;
use super::super::{dsn, values};

/// Words with which lines begin that tell the mail from others, lower-cased.
const FIELDS: &[&str] = &[
    "subject",
    "date",
    "sent",
    "from",
    "sender",
    "message-id",
    "file",
    "size",
    "attachment",
    "betreff",
    "datum",
    "von",
    "absender",
    "gesendet",
    "objet",
    "expéditeur",
    "asunto",
    "fecha",
    "oggetto",
    "assunto",
    "onderwerp",
    "temat",
    "тема",
    "件名",
    "主题",
    "主旨",
];

/// Sets diagnostic, status and remote MTA from the words behind an address.
pub(in crate::report) fn take_reason(result: &mut RcptResult, reason: &str) {
    let reason = reason.trim();
    // "because:" announces the reason and is none.
    if reason.is_empty() || reason.ends_with(':') || !result.diag.is_empty() {
        return;
    }
    let reply = values::reply_in(reason).map(without_epilogue);
    if reply.is_none() && is_field(reason) {
        return;
    }
    result.diag = values::reply_line(closed(reply.unwrap_or(without_outlook(reason))));
    result.status = dsn::closer(dsn::closer(status_of(&result.diag), &result.diag), reason);
    (result.remote_mta, result.remote_ip) = remote_host(reason);
}

/// A reply without what qmail says behind it, which is not the other side's and sounds as if time had run out.
pub(super) fn without_epilogue(reply: &str) -> &str {
    match reply.find("Giving up on ") {
        Some(at) if !reply[..at].trim_ascii_end().is_empty() => reply[..at].trim_ascii_end(),
        _ => reply,
    }
}

/// A reason without what sendmail says of the time to come.
fn without_outlook(reason: &str) -> &str {
    match reason.find("Warning: message still undelivered after") {
        Some(at) if at > 0 => reason[..at].trim_ascii_end(),
        _ => reason,
    }
}

/// Whether a line says something of the mail and not of its delivery: `Subject: May`, `Date of the message: ...`.
pub(super) fn is_field(line: &str) -> bool {
    let Some((label, _)) = line.split_once(':') else { return false };
    let mut words = label.split_whitespace();
    let first = words.next().unwrap_or("").to_lowercase();
    FIELDS.contains(&first.as_str()) && words.count() <= 3
}

/// A text without the brackets and quotes at its end that were opened before it.
pub(super) fn closed(text: &str) -> &str {
    let mut text = text.trim_end();
    for (open, close) in [('(', ')'), ('[', ']'), ('<', '>'), ('"', '"'), ('\'', '\'')] {
        let count = |c| text.chars().filter(|x| *x == c).count();
        let unopened = if open == close { count(close) % 2 == 1 } else { count(close) > count(open) };
        if unopened {
            text = text
                .strip_suffix(close)
                .or_else(|| text.strip_suffix('.')?.strip_suffix(close))
                .unwrap_or(text)
                .trim_end();
        }
    }
    text
}

fn status_of(diag: &str) -> Option<EnhancedStatus> {
    Reply::parse(diag).and_then(|r| r.status)
}

/// The host that a sentence says it talked to: `host mx.example.net[192.0.2.1] said`, `while talking to mx.example.net.`
fn remote_host(text: &str) -> (String, Option<IpAddr>) {
    for mark in ["host ", "talking to ", "by the server ", "from "] {
        let Some(at) = text.find(mark) else { continue };
        let word = text[at + mark.len()..].split_whitespace().next().unwrap_or("");
        let (name, ip) = values::mta(word);
        if ip.is_some() || name.contains('.') && !name.contains('@') {
            return (name, ip);
        }
    }
    (String::new(), None)
}
