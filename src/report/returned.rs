//! The returned message: as a part of the report, or behind the words of a plain text.

use super::fields::{self, Fields};
use super::kind::Original;
use super::mime::Mail;
use super::values;

/// Parts that hold the returned message or its header.
pub(super) const RETURNED_PARTS: &[&str] = &[
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "text/rfc822-header",
    "text/rfc822",
    "message/global",
    "message/global-headers",
    "message/partial",
];

/// Lines behind which the returned message stands, lower-cased; anywhere in the line.
const RETURNED_MARKS: &[&str] = &[
    "this is a copy of the message",
    "below this line is a copy",
    "original message",
    "unsent message",
    "returned message",
    "message follows",
    "message header",
    "undelivered message",
    "start of message",
    "your message reads",
    "headers follow",
    "message contents",
    "message text follows",
    "returned mail follows",
    "texte du message",
];

/// The returned message's header: of the part that holds it, else from where it begins in the text.
pub(super) fn returned(mail: &Mail<'_>) -> Original {
    if mail.part(RETURNED_PARTS).is_some() {
        return returned_part(mail);
    }
    values::original(Fields::read(&mut mail.returned_text().as_bytes()))
}

/// The returned message's header where a part holds it; nothing otherwise.
pub(super) fn returned_part(mail: &Mail<'_>) -> Original {
    match mail.part(RETURNED_PARTS) {
        Some(part) => values::original(Fields::read(&mut &part.bytes_ahead()[..])),
        None => Original::default(),
    }
}

/// Bytes before the words of a mark in a sentence.
const MAX_AHEAD: usize = 14;
/// Letters and digits that a report has at least before what it returns.
const MIN_BEFORE: usize = 40;

/// Where the text before the returned message ends, and where the returned message begins (at the end of the text when
/// there is none).
pub(super) fn split_returned(text: &str) -> (usize, usize) {
    let bytes = text.as_bytes();
    let mut rest = bytes;
    let mut marked = None;
    // Nothing but empty lines since a mark.
    let mut announced = false;
    while !rest.is_empty() {
        let here = bytes.len() - rest.len();
        let mut block = rest;
        let Some(line) = fields::next_line(&mut rest) else { break };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let announced_here = std::mem::take(&mut announced);
        // What is announced may begin with any field, and have few.
        let mut beginning = block;
        if announced_here && fields::split(line).is_some() && is_a_header(&Fields::read(&mut beginning)) {
            return (marked.unwrap_or(here), here);
        }
        if begins_header(line) {
            let header = Fields::read(&mut block);
            // A report may itself begin with the fields of a mail: what is returned has something before it.
            if looks_like_a_mail(&header)
                && text[..here].chars().filter(|c| c.is_alphanumeric()).nth(MIN_BEFORE).is_some()
            {
                return (marked.unwrap_or(here), here);
            }
            // Nothing in this block begins a header either: what each line costs stays bounded.
            rest = block;
        } else if marked.is_none() && is_mark(line) {
            marked = Some(here);
            announced = true;
        }
    }
    (marked.unwrap_or(text.len()), text.len())
}

fn begins_header(line: &[u8]) -> bool {
    fields::split(line).is_some_and(|(name, _)| {
        [
            "received",
            "return-path",
            "message-id",
            "from",
            "date",
            "subject",
            "to",
            "mime-version",
            "delivered-to",
            "x-sender",
        ]
        .iter()
        .any(|n| name.eq_ignore_ascii_case(n))
    })
}

fn looks_like_a_mail(header: &Fields) -> bool {
    fields_of_mail(header) >= 3
}

/// Whether a block that is announced as a mail's header is one: prose may have a line that looks like a field.
fn is_a_header(header: &Fields) -> bool {
    header.iter().count() >= 2 && fields_of_mail(header) >= 1
}

fn fields_of_mail(header: &Fields) -> usize {
    let names =
        ["received", "return-path", "message-id", "from", "to", "subject", "date", "mime-version", "content-type"];
    names.iter().filter(|n| header.first(n).is_some()).count()
}

fn is_mark(line: &[u8]) -> bool {
    if line.len() > 200 {
        return false;
    }
    let first = line.trim_ascii_start().first().copied().unwrap_or(0);
    let last = line.trim_ascii_end().last().copied().unwrap_or(0);
    let drawn = matches!(first, b'-' | b'=' | b'*' | b'_' | b'#' | b'>');
    let ends = line.len() < 80 && matches!(last, b':' | b'-' | b'=' | b'.');
    // Most lines of a text are neither, and cost no more than this.
    if !drawn && !ends {
        return false;
    }
    let line = String::from_utf8_lossy(line).to_lowercase();
    // "Do not resend your original message." is about it.
    if line.contains("resend") || line.contains("re-send") {
        return false;
    }
    let Some(at) = RETURNED_MARKS.iter().find_map(|m| line.find(m)) else { return false };
    // Prose may speak of the message as well: "A transcript of the attempts to send the message follows."
    let announces = ends && (at <= MAX_AHEAD || !line.trim_end().ends_with('.'));
    drawn || announces
}

#[cfg(test)]
mod tests {
    use super::super::words::{ANYWHERE, idle};
    use super::*;

    #[test]
    fn every_mark_counts() {
        assert_eq!(idle(RETURNED_MARKS, ANYWHERE), [""; 0]);
    }
}
