//! A mail taken apart into its leaf parts (RFC 2046), for reading reports only.
//!
//! One pass over the lines with a short stack of boundaries, so that no nesting and no unclosed boundary can make it
//! slower than linear; `mail-parser` then reads the bounded pieces (parameters, encodings, character sets, encoded
//! words). An attached mail is one part and is not taken apart: a bounce that somebody forwards is not a bounce.

use std::borrow::Cow;
use std::cell::OnceCell;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;

use super::fields::{self, Fields};
use super::returned;
use crate::event::plain;

/// Bytes read of one mail. What a report says stands before the returned message.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// Bytes read of one part: enough for a report on a thousand recipients of ten long lines each.
const MAX_PART: usize = 1 << 20;
/// Bytes read of a returned message, of which the header counts.
const MAX_HEADER: usize = 64 << 10;
/// Leaf parts kept.
const MAX_PARTS: usize = 64;
/// Multiparts within multiparts that are opened.
const MAX_DEPTH: usize = 8;

/// A mail's header and leaf parts.
#[derive(Debug)]
pub(super) struct Mail<'a> {
    pub(super) header: Fields,
    /// Media type of the whole, lower-cased, as `type/subtype`; `text/plain` when there is none.
    pub(super) media: String,
    /// The `report-type` parameter, lower-cased.
    pub(super) report_type: String,
    pub(super) parts: Vec<Part<'a>>,
    /// It was attached to another mail.
    pub(super) nested: bool,
    text: OnceCell<String>,
    /// Where in the text the report ends, and where the returned message begins.
    split: OnceCell<(usize, usize)>,
    lower_from: OnceCell<String>,
    lower_subject: OnceCell<String>,
}

/// One leaf part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Media type, lower-cased, as `type/subtype`.
    pub(super) media: String,
    encoding: Encoding,
    charset: String,
    body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Base64,
    QuotedPrintable,
}

/// What a Content-Type says, as far as we need it.
#[derive(Default)]
struct Media {
    name: String,
    boundary: String,
    charset: String,
    report_type: String,
}

/// The bytes to read: bounded, and with line feeds where a mail has only carriage returns.
pub(super) fn bounded(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    if memchr::memchr(b'\n', bytes).is_none() && memchr::memchr(b'\r', bytes).is_some() {
        return Cow::Owned(bytes.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }).collect());
    }
    Cow::Borrowed(bytes)
}

impl<'a> Mail<'a> {
    /// Takes `bytes` apart (as [`bounded`] gives them).
    pub(super) fn read(bytes: &'a [u8]) -> Mail<'a> {
        let mut rest = bytes;
        let header = Fields::read(&mut rest);
        let media = Media::of(&header);
        let mut mail = Mail {
            media: media.name.clone(),
            report_type: media.report_type.clone(),
            parts: Vec::new(),
            header,
            nested: false,
            text: OnceCell::new(),
            split: OnceCell::new(),
            lower_from: OnceCell::new(),
            lower_subject: OnceCell::new(),
        };
        let mut stack: Vec<Vec<u8>> = Vec::new();
        match boundary(&media, rest) {
            Some(b) => stack.push(b),
            None => {
                mail.parts.push(Part::new(&mail.header, media, rest));
                return mail;
            }
        }
        mail.read_parts(rest, stack);
        mail
    }

    fn read_parts(&mut self, bytes: &'a [u8], mut stack: Vec<Vec<u8>>) {
        let mut rest = bytes;
        // The part being read and where its body begins.
        let mut open: Option<(Fields, Media, usize)> = None;
        let at = |rest: &[u8]| bytes.len() - rest.len();
        // Each part may cost a search for its boundary, so their number is bounded, kept or not.
        let mut begun = 0;
        loop {
            let line_start = at(rest);
            let line = fields::next_line(&mut rest);
            let delimiter = match line {
                Some(line) => match delimiter(&stack, line) {
                    Some(d) => d,
                    None => continue,
                },
                None => (0, true),
            };
            if let Some((header, media, start)) = open.take()
                && self.parts.len() < MAX_PARTS
            {
                self.parts.push(Part::new(&header, media, &bytes[start..line_start.max(start)]));
            }
            let (depth, closes) = delimiter;
            stack.truncate(if closes { depth } else { depth + 1 });
            if line.is_none() || stack.is_empty() || self.parts.len() >= MAX_PARTS {
                return;
            }
            if closes {
                continue;
            }
            begun += 1;
            if begun > 2 * MAX_PARTS {
                return;
            }
            let header = part_header(&mut rest, &stack);
            let media = Media::of(&header);
            match boundary(&media, &rest[..rest.len().min(MAX_BYTES)]) {
                Some(b) if stack.len() < MAX_DEPTH => stack.push(b),
                _ => open = Some((header, media, at(rest))),
            }
        }
    }

    /// The first part of any of these media types.
    pub(super) fn part(&self, media: &[&str]) -> Option<&Part<'a>> {
        self.parts.iter().find(|p| media.contains(&p.media.as_str()))
    }

    /// The readable text: of all `text/plain` parts that are not a copy of the message, else of the `text/html` ones
    /// without its tags.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| self.read_text())
    }

    /// The text in front of the returned message.
    pub(super) fn human(&self) -> &str {
        &self.text()[..self.split().0]
    }

    /// The returned message, where it stands in the text; empty when there is none.
    pub(super) fn returned_text(&self) -> &str {
        &self.text()[self.split().1..]
    }

    fn split(&self) -> (usize, usize) {
        *self.split.get_or_init(|| returned::split_returned(self.text()))
    }

    /// From, or Sender, lower-cased.
    pub(super) fn lower_from(&self) -> &str {
        self.lower_from.get_or_init(|| self.header.any(&["from", "sender"]).to_lowercase())
    }

    /// The decoded subject, lower-cased.
    pub(super) fn lower_subject(&self) -> &str {
        self.lower_subject.get_or_init(|| self.subject().to_lowercase())
    }

    fn read_text(&self) -> String {
        let mut text = String::new();
        for part in self.parts.iter().filter(|p| p.media == "text/plain") {
            let plain = part.text();
            // Some say plain and write HTML.
            let begin = plain.trim_start().as_bytes();
            if [&b"<html"[..], b"<!doctype"]
                .iter()
                .any(|b| begin.len() > b.len() && begin[..b.len()].eq_ignore_ascii_case(b))
            {
                text.push_str(&text_of_html(&plain));
            } else {
                text.push_str(&plain);
            }
            text.push('\n');
        }
        if text.trim().is_empty()
            && let Some(part) = self.part(&["text/html"])
        {
            text = text_of_html(&part.text());
        }
        text
    }

    /// The decoded subject.
    pub(super) fn subject(&self) -> String {
        decoded_words(self.header.any(&["subject"]))
    }
}

impl<'a> Part<'a> {
    fn new(header: &Fields, media: Media, body: &'a [u8]) -> Part<'a> {
        let encoding = header.any(&["content-transfer-encoding"]).to_ascii_lowercase();
        Part {
            encoding: match encoding.trim_matches(['"', ' ']) {
                "base64" => Encoding::Base64,
                "quoted-printable" => Encoding::QuotedPrintable,
                _ => Encoding::Plain,
            },
            // A multipart that can't be taken apart is read as the text it stands in.
            media: if media.name.starts_with("multipart/") { "text/plain".into() } else { media.name },
            charset: media.charset,
            body: &body[..body.len().min(MAX_PART)],
        }
    }

    /// The decoded octets; as they stand when they can't be decoded.
    pub(super) fn bytes(&self) -> Cow<'a, [u8]> {
        let decoded = match self.encoding {
            Encoding::Plain => None,
            Encoding::Base64 => {
                // A cut or a line of padding in the middle must not lose the rest: only whole groups are decoded.
                let mut digits: Vec<u8> = self.body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                digits.truncate(digits.len() / 4 * 4);
                base64_decode(&digits)
            }
            Encoding::QuotedPrintable => quoted_printable_decode(self.body),
        };
        decoded.map_or(Cow::Borrowed(self.body), Cow::Owned)
    }

    /// The decoded octets of the part's beginning, where the header of a returned message stands.
    pub(super) fn bytes_ahead(&self) -> Cow<'a, [u8]> {
        let body = &self.body[..self.body.len().min(MAX_HEADER)];
        Part { body, media: String::new(), charset: String::new(), ..*self }.bytes()
    }

    /// The decoded text.
    pub(super) fn text(&self) -> String {
        let bytes = self.bytes();
        let decoder = Some(self.charset.as_str())
            .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("utf-8") && !c.eq_ignore_ascii_case("us-ascii"))
            .and_then(|c| charset_decoder(c.as_bytes()));
        match decoder {
            Some(decode) => decode(&bytes),
            None => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

impl Media {
    fn of(header: &Fields) -> Media {
        let Some(value) = header.first("content-type") else {
            return Media { name: "text/plain".into(), ..Media::default() };
        };
        let line = format!("{value}\n");
        let mut stream = MessageStream::new(line.as_bytes());
        let parsed = stream.parse_content_type();
        let Some(ct) = parsed.as_content_type() else {
            return Media { name: "text/plain".into(), ..Media::default() };
        };
        let attribute = |name| ct.attribute(name).unwrap_or("").trim().to_owned();
        Media {
            // Where a semicolon is missing, the parameters would be part of the name.
            name: format!(
                "{}/{}",
                ct.ctype(),
                ct.subtype().unwrap_or("").split_ascii_whitespace().next().unwrap_or("")
            )
            .to_ascii_lowercase(),
            boundary: attribute("boundary"),
            charset: attribute("charset"),
            report_type: attribute("report-type").to_ascii_lowercase(),
        }
    }
}

/// The text of HTML; the cells of a table stand in lines of their own.
fn text_of_html(html: &str) -> String {
    use mail_parser::decoders::html::html_to_text;
    if html.contains("</td>") { html_to_text(&html.replace("</td>", "<br></td>")) } else { html_to_text(html) }
}

/// The header of a part, which a delimiter line may cut short.
fn part_header(rest: &mut &[u8], stack: &[Vec<u8>]) -> Fields {
    let mut ahead = *rest;
    let mut end = 0;
    while let Some(line) = fields::next_line(&mut ahead) {
        if delimiter(stack, line).is_some() {
            break;
        }
        end = rest.len() - ahead.len();
        if line.trim_ascii().is_empty() {
            break;
        }
    }
    let (mut header, after) = rest.split_at(end);
    *rest = after;
    // A part may begin with its blank line: then it has no header, and what follows is its body.
    if fields::next_line(&mut { header }).is_none_or(|l| l.trim_ascii().is_empty()) {
        return Fields::default();
    }
    Fields::read(&mut header)
}

/// Which boundary of the stack (innermost first) this line is a delimiter of, and whether it closes it.
fn delimiter(stack: &[Vec<u8>], line: &[u8]) -> Option<(usize, bool)> {
    let after = line.strip_prefix(b"--")?;
    stack.iter().enumerate().rev().find_map(|(depth, b)| {
        let tail = after.strip_prefix(b.as_slice())?.trim_ascii_end();
        match tail {
            b"" => Some((depth, false)),
            b"--" => Some((depth, true)),
            _ => None,
        }
    })
}

/// The boundary of a multipart: the one its type names when the body uses it, else the first line of the body that
/// looks like one (some systems write another one than they announce, or none).
fn boundary(media: &Media, body: &[u8]) -> Option<Vec<u8>> {
    if !media.name.starts_with("multipart/") {
        return None;
    }
    if !media.boundary.is_empty() {
        let announced = format!("--{}", media.boundary);
        if memchr::memmem::find(body, announced.as_bytes()).is_some() {
            return Some(media.boundary.clone().into_bytes());
        }
    }
    let mut rest = body;
    while let Some(line) = fields::next_line(&mut rest) {
        if let Some(b) = line.strip_prefix(b"--")
            && (4..=72).contains(&b.trim_ascii_end().len())
            && !b.trim_ascii_end().contains(&b' ')
            && fields::next_line(&mut { rest })
                .and_then(fields::split)
                .is_some_and(|(name, _)| name.len() > 8 && name[..8].eq_ignore_ascii_case("content-"))
        {
            return Some(b.trim_ascii_end().to_vec());
        }
    }
    None
}

/// Text with its encoded words (RFC 2047) decoded; they may hold what the field itself could not, so it is made plain.
pub(super) fn decoded_words(value: &str) -> String {
    if !value.contains("=?") {
        return plain(value).into_owned();
    }
    let line = format!("{value}\n");
    let mut stream = MessageStream::new(line.as_bytes());
    plain(stream.parse_unstructured().as_text().unwrap_or(value)).into_owned()
}

/// Whether `text` (in lower case) stands in a mail: as it is, or in a part that is encoded. Deeply nested mails are
/// looked through to a bounded depth.
pub fn names(mail: &[u8], text: &str) -> bool {
    fn holds(bytes: &[u8], text: &str) -> bool {
        String::from_utf8_lossy(bytes).to_lowercase().contains(text)
    }
    fn parts(message: &mail_parser::Message<'_>, text: &str, depth: usize) -> bool {
        message.parts.iter().any(|part| match &part.body {
            mail_parser::PartType::Message(inner) if depth > 0 => parts(inner, text, depth - 1),
            _ => holds(part.contents(), text),
        })
    }
    holds(mail, text)
        || mail_parser::MessageParser::default().parse(mail).is_some_and(|message| parts(&message, text, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_an_encoded_part_too() {
        let mail = b"From: a@b.example\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n\
                     QW5uQEJvb2suZXhhbXBsZSB3cm90ZQ==\r\n";
        assert!(names(mail, "ann@book.example"));
        assert!(names(mail, "a@b.example"));
        assert!(!names(mail, "bob@book.example"));
    }

    fn media(text: &str) -> Vec<String> {
        Mail::read(text.as_bytes()).parts.into_iter().map(|p| p.media).collect()
    }

    #[test]
    fn nested_multiparts_are_taken_apart_and_attached_mails_are_not() {
        let text = "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=\"b\"\n\n\
            --b\nContent-Type: text/plain\n\nx\n--b\nContent-Type: text/html\n\ny\n--b--\n--a\nContent-Type: message/rfc822\n\n\
            Content-Type: multipart/mixed; boundary=c\n\n--c\n\nz\n--c--\n--a--\n";
        assert_eq!(media(text), ["text/plain", "text/html", "message/rfc822"]);
    }

    #[test]
    fn a_boundary_that_was_announced_wrongly_is_found() {
        let text = "Content-Type: multipart/report; boundary=\"announced\"\n\n--written\nContent-Type: text/plain\n\nx\n\
            --written\nContent-Type: message/delivery-status\n\nStatus: 5.1.1\n--written--\n";
        assert_eq!(media(text), ["text/plain", "message/delivery-status"]);
    }

    #[test]
    fn encodings_are_decoded_and_a_cut_one_keeps_what_is_there() {
        let part = |encoding: &str, body: &str| {
            let text = format!("Content-Transfer-Encoding: {encoding}\n\n{body}");
            Mail::read(text.as_bytes()).parts[0].text()
        };
        assert_eq!(part("base64", "U3RhdHVz\r\nOiA1LjEuMQ==\r\n"), "Status: 5.1.1");
        assert_eq!(part("base64", "U3RhdHVzOiA1LjEuM"), "Status: 5.1.");
        assert_eq!(part("quoted-printable", "a=\nb=3D"), "ab=");
    }

    #[test]
    fn a_mail_with_bare_carriage_returns_is_read() {
        let cr = bounded(b"Subject: x\rContent-Type: text/plain\r\rhello\r");
        let mail = Mail::read(&cr);
        assert_eq!((mail.subject().as_str(), mail.text().trim()), ("x", "hello"));
    }
}
