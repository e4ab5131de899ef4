//! Replies without what differs from one recipient to the next, so that equal reasons can be counted
//! (reference/accounting.md, section 9).

use std::net::IpAddr;

use crate::event::plain::fit;

/// What of a record may stand in its reply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The recipient.
    pub rcpt: &'a str,
    /// The sender.
    pub orig: &'a str,
    /// Our address.
    pub source_ip: &'a str,
    /// The remote MTA: `name (address)`.
    pub mta: &'a str,
}

/// `diag` without its type prefix, with tokens for what varies: `<RCPT_USER>`, `<ORIG>`, `<OTHER_USER>` for addresses,
/// `<RCPT_SERVER>`, `<SENDER_IPADDRESS>`, `<IPADDRESS>`, `<HEXDUMP>` for ids and long numbers.
pub fn generalise(diag: &str, known: Known<'_>) -> String {
    let reply = match diag.split_once(';') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("smtp") => rest.trim_start(),
        _ => diag,
    };
    let mut out = String::with_capacity(reply.len());
    let mut word_from = None;
    for (at, c) in reply.char_indices() {
        let is_word = c.is_alphanumeric() || matches!(c, '@' | '.' | '_' | '+' | '-' | '=' | ':' | '%' | '~');
        match (is_word, word_from) {
            (true, None) => word_from = Some(at),
            (false, Some(from)) => {
                word(&reply[from..at], known, &mut out);
                word_from = None;
                out.push(fit(c));
            }
            (false, None) => out.push(fit(c)),
            (true, Some(_)) => {}
        }
    }
    if let Some(from) = word_from {
        word(&reply[from..], known, &mut out);
    }
    out
}

fn word(word: &str, known: Known<'_>, out: &mut String) {
    // What ends a sentence is no part of the word.
    let bare = word.trim_end_matches(['.', ':', '-', '=']);
    let end = &word[bare.len()..];
    // `host=192.0.2.1`, `id:4F3A...`: what stands behind the sign is the value.
    if !bare.contains('@')
        && bare.parse::<IpAddr>().is_err()
        && let Some(sign) = bare.find(['=', ':'])
    {
        self::word(&bare[..sign], known, out);
        out.push_str(&bare[sign..=sign]);
        self::word(&bare[sign + 1..], known, out);
        out.push_str(end);
        return;
    }
    out.push_str(token(bare, known).unwrap_or(bare));
    out.push_str(end);
}

fn token(word: &str, known: Known<'_>) -> Option<&'static str> {
    let host = known.mta.split([' ', '(']).next().unwrap_or("");
    let is = |what: &str| !what.is_empty() && word.eq_ignore_ascii_case(what);
    let local = known.rcpt.rsplit_once('@').map_or("", |(local, _)| local);
    if is(known.rcpt) || (local.len() > 3 && is(local)) {
        return Some("<RCPT_USER>");
    }
    if is(known.orig) {
        return Some("<ORIG>");
    }
    if word.contains('@') {
        return Some("<OTHER_USER>");
    }
    if is(host) {
        return Some("<RCPT_SERVER>");
    }
    if is(known.source_ip) {
        return Some("<SENDER_IPADDRESS>");
    }
    if word.len() > 6 && word.parse::<IpAddr>().is_ok() {
        return Some("<IPADDRESS>");
    }
    is_id(word).then_some("<HEXDUMP>")
}

/// Whether a machine made it: long, with several digits, and not a word with a number such as `mx01` or `5.7.1`.
fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let all = |is: fn(&u8) -> bool| word.bytes().all(|b| is(&b) || b == b'-' || b == b'.');
    match word.len() {
        // Status codes and versions.
        _ if word.bytes().all(|b| b.is_ascii_digit() || b == b'.') && word.contains('.') => word.len() > 11,
        0..=5 => false,
        n if all(u8::is_ascii_digit) => n > 5,
        n if n > 7 && all(u8::is_ascii_hexdigit) => digits > 0,
        n => {
            n > 9
                && digits > 2
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'~'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: Known<'_> = Known {
        rcpt: "Jane.Roe@b.example",
        orig: "news@a.example",
        source_ip: "192.0.2.7",
        mta: "mx1.b.example (198.51.100.3)",
    };

    #[test]
    fn what_varies_becomes_a_token_and_what_is_said_stays() {
        for (diag, reason) in [
            ("smtp;550 5.1.1 <jane.roe@b.example>: no such user", "550 5.1.1 <<RCPT_USER>>: no such user"),
            ("smtp;550 jane.roe unknown", "550 <RCPT_USER> unknown"),
            ("smtp;550 from news@a.example refused", "550 from <ORIG> refused"),
            ("smtp;550 see postmaster@c.example.", "550 see <OTHER_USER>."),
            (
                "smtp;554 5.7.1 [192.0.2.7] listed, ip=203.0.113.9",
                "554 5.7.1 [<SENDER_IPADDRESS>] listed, ip=<IPADDRESS>",
            ),
            ("smtp;421 mx1.b.example: busy", "421 <RCPT_SERVER>: busy"),
            ("smtp;550 5.7.1 spam 4fa2c81e-77b0 - gsmtp", "550 5.7.1 spam <HEXDUMP> - gsmtp"),
            ("smtp;451 4.7.650 x1-20020a05600c4f05si1234 try later", "451 4.7.650 <HEXDUMP> try later"),
            ("smtp;550 id 2001:db8::1 (S3150)", "550 id <IPADDRESS> (S3150)"),
            ("no such domain", "no such domain"),
        ] {
            assert_eq!(generalise(diag, KNOWN), reason);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(diag in "(smtp;)?[ -~é\r\n=:@.]{0,60}") {
            let _ = generalise(&diag, KNOWN);
        }
    }
}
