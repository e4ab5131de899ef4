//! One leaf part of a mail: what its header says of it, and its content decoded.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;

use super::super::bounds::{MAX_HEADER, MAX_PART};
use super::super::fields::{Fields, text_of};

/// One leaf part.
#[derive(Debug)]
pub(in crate::report) struct Part<'a> {
    /// Media type, lower-cased, as `type/subtype`.
    pub(in crate::report) media: String,
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
pub(super) struct Media {
    pub(super) name: String,
    pub(super) boundary: String,
    charset: String,
    pub(super) report_type: String,
}

impl<'a> Part<'a> {
    pub(super) fn new(header: &Fields, media: Media, body: &'a [u8]) -> Part<'a> {
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
    pub(in crate::report) fn bytes(&self) -> Cow<'a, [u8]> {
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
    pub(in crate::report) fn bytes_ahead(&self) -> Cow<'a, [u8]> {
        let body = &self.body[..self.body.len().min(MAX_HEADER)];
        Part { body, media: String::new(), charset: String::new(), ..*self }.bytes()
    }

    /// The decoded text.
    pub(in crate::report) fn text(&self) -> String {
        let bytes = self.bytes();
        let decoder = Some(self.charset.as_str())
            .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("utf-8") && !c.eq_ignore_ascii_case("us-ascii"))
            .and_then(|c| charset_decoder(c.as_bytes()));
        match decoder {
            Some(decode) => decode(&bytes),
            None if self.charset.eq_ignore_ascii_case("utf-8") => String::from_utf8_lossy(&bytes).into_owned(),
            None => text_of(&bytes),
        }
    }
}

impl Media {
    pub(super) fn of(header: &Fields) -> Media {
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
