//! A mail taken apart into its leaf parts (RFC 2046), for reading reports only.
//!
//! [`split`] finds the parts, `mail-parser` reads the bounded pieces (parameters, encodings, character sets, encoded
//! words; [`part`]). An attached mail is one part and is not taken apart: a bounce that somebody forwards is not a bounce.

mod part;
mod split;

use std::borrow::Cow;
use std::cell::OnceCell;

use mail_parser::parsers::MessageStream;

use super::bounds::MAX_BYTES;
use super::fields::Fields;
use super::returned;
use crate::event::plain;

use part::{Media, Part};

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
        Mail {
            media: media.name.clone(),
            report_type: media.report_type.clone(),
            parts: split::parts(&header, media, rest),
            header,
            nested: false,
            text: OnceCell::new(),
            split: OnceCell::new(),
            lower_from: OnceCell::new(),
            lower_subject: OnceCell::new(),
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

/// The text of HTML; the cells of a table stand in lines of their own.
fn text_of_html(html: &str) -> String {
    use mail_parser::decoders::html::html_to_text;
    let text =
        if html.contains("</td>") { html_to_text(&html.replace("</td>", "<br></td>")) } else { html_to_text(html) };
    // A blank that keeps words together is a blank all the same.
    text.replace('\u{a0}', " ")
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

#[cfg(test)]
mod tests {
    use super::*;

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
