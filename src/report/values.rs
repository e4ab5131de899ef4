//! The values inside report fields: typed values (`rfc822; ann@example.net`), addresses, MTA names, SMTP replies.

use std::net::IpAddr;

use crate::event::plain::is_unfit;
use crate::event::{Address, EnhancedStatus, Reply, plain};

use super::bounds::MAX_REPLY;
use super::fields::Fields;
use super::kind::Original;
use super::mime;

/// The address in a header value: what stands in angle brackets, else the value without comments.
pub(super) fn mailbox(value: &str) -> &str {
    if let Some(open) = value.rfind('<') {
        let inside = &value[open + 1..];
        return inside.split('>').next().unwrap_or("").trim();
    }
    let value = value.split('(').next().unwrap_or("").trim();
    value.split([' ', ',']).find(|w| w.contains('@')).unwrap_or(value)
}

/// Type and text of `type; text` (RFC 3464, 2.1.2); the type is empty when there is none.
pub(super) fn typed(value: &str) -> (&str, &str) {
    match value.split_once(';') {
        Some((kind, text)) if !kind.trim().is_empty() && !kind.trim().contains([' ', '@', '<']) => {
            (kind.trim(), text.trim())
        }
        _ => ("", value.trim().trim_start_matches(';').trim_start()),
    }
}

/// The address of a recipient field (RFC 3464, 2.3.1), without type, brackets and comments; empty when there is none.
pub(super) fn recipient(value: &str) -> String {
    let (kind, text) = typed(value);
    let decoded = kind.eq_ignore_ascii_case("utf-8").then(|| embedded_characters(text));
    let text = plain(decoded.as_deref().unwrap_or(text));
    let text = text.as_ref();
    let text = if text.contains('<') { mailbox(text) } else { text.split(" (").next().unwrap_or("").trim() };
    let text = text.trim_matches(['"', '\'', ',', '>', '<']).trim();
    // X.400 and other foreign addresses are kept as they stand, what is mere prose is not.
    if text.contains(char::is_whitespace) || text.len() > 254 {
        return first_address(text).unwrap_or("").to_owned();
    }
    // A source route (RFC 5321, appendix C) is no part of the mailbox.
    match text.split_once(':') {
        Some((route, mailbox)) if route.starts_with('@') => mailbox.to_owned(),
        _ => text.to_owned(),
    }
}

/// An address of type `utf-8` whose characters are written as `\x{F6}` (utf-8-addr-xtext: RFC 6533, 3); what is none of
/// these, or stands for a control character, is left as it is.
fn embedded_characters(text: &str) -> String {
    let mut pieces = text.split("\\x{");
    let mut decoded = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        let character = piece.split_once('}').filter(|(hex, _)| (2..=6).contains(&hex.len()));
        let character = character.and_then(|(hex, rest)| Some((u32::from_str_radix(hex, 16).ok()?, rest)));
        let character = character.and_then(|(point, rest)| Some((char::from_u32(point)?, rest)));
        match character {
            Some((c, rest)) if !c.is_control() && !c.is_whitespace() => {
                decoded.push(c);
                decoded.push_str(rest);
            }
            _ => {
                decoded.push_str("\\x{");
                decoded.push_str(piece);
            }
        }
    }
    decoded
}

/// The first well-formed address in a text.
pub(super) fn first_address(text: &str) -> Option<&str> {
    addresses(text).next()
}

/// The well-formed addresses in a text, in order: what stands around an `@` up to white space and brackets.
pub(super) fn addresses(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| {
        c.is_whitespace()
            || is_unfit(c)
            || matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '"' | '\'' | '`' | '\\')
            // Quotation marks, brackets, commas and colons of other scripts, which look like those above: ‘…‟ « » 、…】 （ ） ， ： ； ＜ ＞.
            || matches!(c, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{3000}'..='\u{3011}' | '\u{ff08}' | '\u{ff09}' | '\u{ff0c}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1c}' | '\u{ff1e}')
    };
    // Most texts that are asked have none.
    let text = if memchr::memchr(b'@', text.as_bytes()).is_some() { text } else { "" };
    text.split(ends).filter_map(|word| {
        // Words of prose carry dots and the like behind an address.
        let word = word.trim_end_matches(['.', '!', '?', '*']).trim_start_matches(['*', '.']);
        (word.contains('@')
            && word.len() <= 254
            && Address::parse(word).is_ok()
            && word.rsplit('@').next()?.contains('.'))
        .then_some(word)
    })
}

/// Name and address of an MTA field (RFC 3464, 2.3.5): `dns; mx.example.net (192.0.2.1)`.
pub(super) fn mta(value: &str) -> (String, Option<IpAddr>) {
    let value = plain(value);
    let (_, text) = typed(&value);
    let ip = text
        .split(['(', ')', '[', ']', ' ', ',', ';'])
        .find_map(|w| w.trim_start_matches("IPv6:").parse::<IpAddr>().ok());
    let name = text.split([' ', '(', '[', ',', ';']).next().unwrap_or("").trim_matches(['<', '>', '"', '.']);
    let name = if name.parse::<IpAddr>().is_ok() { "" } else { name };
    (name.chars().take(255).collect(), ip)
}

/// The first SMTP reply in a text, up to the text's end (bounded): a code of class 2, 4 or 5 that stands alone and is followed by text.
pub(super) fn reply_in(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = memchr::memchr3(b'2', b'4', b'5', &bytes[from..]) {
        let i = from + found;
        from = i + 1;
        let Some(code) = bytes.get(i..i + 3) else { break };
        let alone = i == 0
            || !(bytes[i - 1].is_ascii_alphanumeric()
                || matches!(bytes[i - 1], b'.' | b'-' | b'_' | b'@' | b'/' | b'+'));
        if !alone
            || !matches!(code[1], b'0'..=b'5')
            || !code[2].is_ascii_digit()
            || !matches!(bytes.get(i + 3), Some(b' ' | b'-'))
        {
            continue;
        }
        let rest = text[i + 4..].trim_start();
        let word = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("").to_ascii_lowercase();
        // Counts, not codes: "500 bytes", "250 messages".
        let count = matches!(
            word.as_str(),
            "bytes"
                | "byte"
                | "kb"
                | "mb"
                | "k"
                | "seconds"
                | "minutes"
                | "hours"
                | "days"
                | "messages"
                | "recipients"
                | "lines"
                | "times"
        );
        // The beginning is enough to tell, and keeps a text of nothing but codes linear.
        let beginning = &text[i..text.floor_char_boundary(i + 16)];
        if !rest.is_empty() && !count && Reply::parse(beginning).is_some() {
            return Some(&text[i..text.floor_char_boundary(i + MAX_REPLY)]);
        }
    }
    None
}

/// The first enhanced status code in a text (RFC 3463, 2), alone between blanks and punctuation.
pub(super) fn status_in(text: &str) -> Option<EnhancedStatus> {
    text.split(|c: char| {
        c.is_whitespace()
            || matches!(c, '(' | ')' | '[' | ']' | '<' | '>' | ',' | ';' | ':' | '#' | '-' | '"' | '\'' | '=')
    })
    .filter(|w| w.len() >= 5 && w.as_bytes()[1] == b'.')
    .find_map(|w| w.trim_end_matches('.').parse().ok())
}

/// A reply as [`Reply::text`] has it: one line, the codes of its continuation lines left out.
pub(super) fn reply_line(reply: &str) -> String {
    let reply = &reply[..reply.floor_char_boundary(MAX_REPLY)];
    let reply = plain(&reply.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned();
    let Some(code) = reply.get(..3).filter(|c| c.bytes().all(|b| b.is_ascii_digit())) else { return reply };
    let status = Reply::parse(&reply).and_then(|r| r.status).map(|s| s.to_string()).unwrap_or_default();
    let (continued, last) = (format!("{code}-"), code);
    let mut line = String::with_capacity(reply.len());
    let mut strip_status = false;
    for (i, word) in reply.split(' ').enumerate() {
        let mut word = word;
        if i == 0 {
            // `550-5.1.1` and `550 5.1.1` begin alike.
            line.push_str(code);
            word = word[3..].trim_start_matches('-');
            if word.is_empty() {
                continue;
            }
        } else if let Some(text) = word.strip_prefix(continued.as_str()) {
            word = text;
            strip_status = true;
            if word.is_empty() {
                continue;
            }
            if word == status {
                strip_status = false;
                continue;
            }
        } else if word == last && reply.contains(&continued) {
            strip_status = true;
            continue;
        } else if strip_status && word == status {
            strip_status = false;
            continue;
        }
        strip_status = false;
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// What of a returned header we use.
pub(super) fn original(header: Fields) -> Original {
    let message_id = header.any(&["message-id"]).trim();
    let message_id = message_id.split('>').next().unwrap_or("").trim_start_matches('<').trim();
    Original {
        message_id: message_id.to_owned(),
        from: header.any(&["from"]).to_owned(),
        subject: mime::decoded_words(header.any(&["subject"])),
        headers: header.into_pairs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_come_without_type_brackets_and_comments() {
        for (value, address) in [
            ("rfc822; ann@example.net", "ann@example.net"),
            ("RFC822;<ann@example.net>", "ann@example.net"),
            ("<ann@example.net>", "ann@example.net"),
            ("rfc822; ann@example.net (Ann Lee)", "ann@example.net"),
            ("rfc822;Ann Lee <ann@example.net>", "ann@example.net"),
            ("utf-8; j\\x{F6}rg@example.net", "j\u{f6}rg@example.net"),
            ("UTF-8;j\u{f6}rg\\x{2B}\\x{1F600}@example.net", "j\u{f6}rg+\u{1f600}@example.net"),
            ("utf-8;a\\x{1B}b\\x{D800}\\x{zz}\\x{@example.net", "a\\x{1B}b\\x{D800}\\x{zz}\\x{@example.net"),
            ("rfc822;a\\x{F6}@example.net", "a\\x{F6}@example.net"),
            ("", ""),
        ] {
            assert_eq!(recipient(value), address, "{value}");
        }
    }

    #[test]
    fn a_reply_is_found_in_prose_and_a_number_is_not_taken_for_one() {
        let found = |t| reply_in(t).map(|r| r.split(' ').next().unwrap());
        assert_eq!(found("host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user"), Some("550"));
        assert_eq!(found("message of 500 bytes was 12.550 too big"), None);
        assert_eq!(found("192.0.2.250 said nothing"), None);
        assert_eq!(found("id 4F550 x"), None);
        assert_eq!(found("(reason: 554-no)"), Some("554-no)"));
    }

    #[test]
    fn the_lines_of_a_reply_are_joined_without_their_codes() {
        assert_eq!(
            reply_line("550-5.1.1 The account\n550-5.1.1 does not\n550 5.1.1 exist"),
            "550 5.1.1 The account does not exist"
        );
        assert_eq!(reply_line("550 5.1.1 no user 550"), "550 5.1.1 no user 550");
        assert_eq!(reply_line("no such user"), "no such user");
    }

    #[test]
    fn what_a_field_hides_in_encoded_words_or_odd_characters_is_made_plain() {
        let mut header =
            &b"Subject: =?utf-8?q?=1B[31mred=0D=0Aline=E2=80=AE?=\r\nFrom: a\x1b\xe2\x80\xaeb@c.example\r\n"[..];
        let original = original(Fields::read(&mut header));
        assert_eq!(
            (original.subject.as_str(), original.from.as_str()),
            ("\u{fffd}[31mred  line\u{fffd}", "a\u{fffd}\u{fffd}b@c.example")
        );
        assert_eq!(reply_line("550 5.1.1 \u{1b}[2Jno\u{202e}user"), "550 5.1.1 \u{fffd}[2Jno\u{fffd}user");
        assert_eq!(mta("dns; mx\u{1b}.example.net").0, "mx\u{fffd}.example.net");
        // Else it would be another address.
        assert_eq!(recipient("rfc822; a\u{1b}[31mb@x.example"), "a\u{fffd}[31mb@x.example");
    }

    #[test]
    fn an_mta_is_a_name_and_an_address() {
        let ip = |s: &str| Some(s.parse().unwrap());
        assert_eq!(mta("dns; mx.example.net (192.0.2.1)"), ("mx.example.net".into(), ip("192.0.2.1")));
        assert_eq!(mta("mx.example.net"), ("mx.example.net".into(), None));
        assert_eq!(mta("DNS;[192.0.2.1]"), (String::new(), ip("192.0.2.1")));
    }
}
