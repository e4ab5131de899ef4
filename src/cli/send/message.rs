//! One message from a template and a row. Pure.
//!
//! What comes from a row can change nothing but the place it stands in: no CR, LF or other control character gets into a
//! header, a name can't become an address, an HTML part gets its values escaped, a quoted-printable one encoded.

use csv::StringRecord;
use mail_builder::MessageBuilder;
use mail_builder::headers::Header as _;
use mail_builder::headers::address::Address as Written;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_parser::MessageParser;

use super::recipients::Row;
use super::template::{Piece, Template, TemplateError};
use crate::event::{Address, Time};

/// Longest line without its line end (RFC 5322, 2.1.1).
const MAX_LINE: usize = 998;
/// Headers that hold addresses.
const ADDRESS_HEADERS: &[&str] = &["from", "sender", "reply-to", "to", "cc"];

/// Why no message can be made for a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// A value would break out of its header.
    #[error("column {column:?} has a line break or control character, which may not stand in the header {header}")]
    Control {
        /// The column.
        column: String,
        /// The header.
        header: String,
    },
    /// An address header does not hold addresses.
    #[error("the header {header} is no list of addresses: {value:?}")]
    BadAddresses {
        /// The header.
        header: String,
        /// What it would hold.
        value: String,
    },
    /// A line is too long.
    #[error("a line has {0} octets; a message may have {MAX_LINE} (break the line, or use quoted-printable)")]
    LongLine(usize),
}

/// Why a template file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmlError {
    /// A placeholder.
    #[error(transparent)]
    Placeholder(#[from] TemplateError),
    /// Not a header line.
    #[error("line {0}: not a header line; a template begins with headers, then an empty line, then the body")]
    NoHeader(usize),
    /// No empty line.
    #[error("no empty line between headers and body")]
    NoBody,
}

/// How values go into a part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Form {
    html: bool,
    quoted_printable: bool,
}

#[derive(Debug, Clone)]
struct HeaderLine {
    name: String,
    /// As it stands, folded.
    value: Template,
}

/// A message template: an .eml file.
#[derive(Debug, Clone)]
pub struct Eml {
    headers: Vec<HeaderLine>,
    body: Vec<(Piece, Form)>,
}

/// Where content comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A subject and a plain text.
    Plain {
        /// `--subject`
        subject: Template,
        /// `--body`
        body: Template,
    },
    /// A template file.
    Eml(Eml),
}

/// Makes messages.
#[derive(Debug, Clone)]
pub struct Composer {
    /// The content.
    pub source: Source,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Author: name (may be empty) and address.
    pub from: (String, String),
    /// `X-Job`.
    pub job: Option<String>,
    /// `X-Virtual-MTA`.
    pub vmta: Option<String>,
    /// Random name of the run, for Message-IDs.
    pub run: String,
}

impl Eml {
    /// Reads a template file.
    ///
    /// # Errors
    /// See [`EmlError`].
    pub fn parse(text: &str, columns: &[String]) -> Result<Eml, EmlError> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").ok_or(EmlError::NoBody)?;
        let mut raw: Vec<(usize, String, String)> = Vec::new();
        for (i, line) in head.split('\n').enumerate() {
            if line.starts_with([' ', '\t']) {
                let (_, _, value) = raw.last_mut().ok_or(EmlError::NoHeader(i + 1))?;
                value.push('\n');
                value.push_str(line);
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(EmlError::NoHeader(i + 1))?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(EmlError::NoHeader(i + 1));
            }
            raw.push((i + 1, name.to_owned(), value.trim_start().to_owned()));
        }
        let mut form = Form::default();
        let mut headers = Vec::new();
        for (line, name, value) in raw {
            form.heed(&format!("{name}: {value}"));
            let address = ADDRESS_HEADERS.contains(&&*name.to_ascii_lowercase());
            // "{{name}}" <...>: values are quoted where they must be, the template's own quotes would double that.
            let value = if address { value.replace("\"{{", "{{").replace("}}\"", "}}") } else { value };
            let value = Template::parse(&value, columns).map_err(|e| shifted(e, line - 1))?;
            headers.push(HeaderLine { name, value });
        }
        let lines = head.matches('\n').count() + 2;
        let template = Template::parse(body, columns).map_err(|e| shifted(e, lines))?;
        let mut pieces = Vec::new();
        for piece in template.pieces {
            if let Piece::Text(text) = &piece {
                text.split('\n').for_each(|line| form.heed(line));
            }
            pieces.push((piece, form));
        }
        Ok(Eml { headers, body: pieces })
    }
}

impl Form {
    /// Takes notice of a line that says how what follows is written.
    fn heed(&mut self, line: &str) {
        let line = line.to_ascii_lowercase();
        if line.starts_with("--") {
            *self = Form::default();
        } else if let Some(kind) = line.strip_prefix("content-type:") {
            self.html = kind.trim_start().starts_with("text/html");
        } else if let Some(encoding) = line.strip_prefix("content-transfer-encoding:") {
            self.quoted_printable = encoding.trim() == "quoted-printable";
        }
    }

    fn write(self, value: &str, out: &mut String) {
        let escaped = if self.html {
            value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        } else {
            value.to_owned()
        };
        if !self.quoted_printable {
            return out.push_str(&escaped);
        }
        for byte in escaped.bytes() {
            match byte {
                b'\n' | b' '..=b'<' | b'>'..=b'~' => out.push(char::from(byte)),
                b'\r' => {}
                _ => out.push_str(&format!("={byte:02X}")),
            }
        }
    }
}

fn shifted(error: TemplateError, by: usize) -> TemplateError {
    match error {
        TemplateError::Unknown { line, name, known } => TemplateError::Unknown { line: line + by, name, known },
        TemplateError::Open { line } => TemplateError::Open { line: line + by },
    }
}

impl Composer {
    /// The message for a row: CRLF line ends, not dot-stuffed, ending with CRLF.
    ///
    /// # Errors
    /// See [`ComposeError`].
    pub fn compose(&self, row: &Row, now: Time) -> Result<Vec<u8>, ComposeError> {
        let mut content = match &self.source {
            Source::Plain { subject, body } => self.plain(subject, body, row, now)?,
            Source::Eml(eml) => self.eml(eml, row, now)?,
        };
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        let longest = content.split(|b| *b == b'\n').map(|l| l.len().saturating_sub(1)).max().unwrap_or(0);
        if longest > MAX_LINE { Err(ComposeError::LongLine(longest)) } else { Ok(content) }
    }

    fn message_id(&self, row: &Row) -> String {
        let domain = self.from.1.rsplit_once('@').map_or("localhost", |(_, d)| d);
        format!("{}.{}@{domain}", row.number, self.run)
    }

    fn plain(&self, subject: &Template, body: &Template, row: &Row, now: Time) -> Result<Vec<u8>, ComposeError> {
        self.check(subject, &row.values, "Subject")?;
        let mut message = MessageBuilder::new()
            .from(Written::new_address(Some(&*self.from.0).filter(|n| !n.is_empty()), &*self.from.1))
            .to(Written::new_address(None::<&str>, &*row.address))
            .subject(subject.render(&row.values))
            .date(Date::new(now.secs()))
            .message_id(self.message_id(row))
            .text_body(body.render(&row.values));
        for (name, value) in [("X-Job", &self.job), ("X-Virtual-MTA", &self.vmta)] {
            if let Some(value) = value {
                message = message.header(name, Raw::new(value.clone()));
            }
        }
        // Writing to memory does not fail.
        let content = message.write_to_vec().unwrap_or_default();
        Ok(crlf(&content))
    }

    fn eml(&self, eml: &Eml, row: &Row, now: Time) -> Result<Vec<u8>, ComposeError> {
        let ours = |name: &str| {
            (name.eq_ignore_ascii_case("X-Job") && self.job.is_some())
                || (name.eq_ignore_ascii_case("X-Virtual-MTA") && self.vmta.is_some())
                // Blind copies are the envelope's business.
                || name.eq_ignore_ascii_case("Bcc")
        };
        let mut out = Vec::new();
        for header in eml.headers.iter().filter(|h| !ours(&h.name)) {
            self.header_line(header, row, &mut out)?;
        }
        let has = |name: &str| eml.headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
        if !has("From") {
            let from = Written::new_address(Some(&*self.from.0).filter(|n| !n.is_empty()), &*self.from.1);
            out.extend_from_slice(b"From: ");
            from.write_header(&mut out, 6);
        }
        let mut add = |name: &str, value: &str| {
            if !has(name) || ours(name) {
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        };
        add("To", &format!("<{}>", row.address));
        add("Date", &Date::new(now.secs()).to_rfc822());
        add("Message-ID", &format!("<{}>", self.message_id(row)));
        if let Some(job) = &self.job {
            add("X-Job", job);
        }
        if let Some(vmta) = &self.vmta {
            add("X-Virtual-MTA", vmta);
        }
        let mut body = String::new();
        for (piece, form) in &eml.body {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Column(i) => form.write(row.values.get(*i).unwrap_or(""), &mut body),
            }
        }
        if !body.is_ascii() && !has("Content-Type") {
            add("MIME-Version", "1.0");
            add("Content-Type", "text/plain; charset=utf-8");
            add("Content-Transfer-Encoding", "8bit");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&crlf(body.as_bytes()));
        Ok(out)
    }

    fn header_line(&self, header: &HeaderLine, row: &Row, out: &mut Vec<u8>) -> Result<(), ComposeError> {
        let name = &header.name;
        self.check(&header.value, &row.values, name)?;
        let fixed = header.value.columns().next().is_none();
        let address = ADDRESS_HEADERS.contains(&&*name.to_ascii_lowercase());
        let value =
            if address { header.value.render_with(&row.values, as_phrase) } else { header.value.render(&row.values) };
        out.extend_from_slice(format!("{name}: ").as_bytes());
        if fixed && value.is_ascii() {
            out.extend_from_slice(&crlf(value.as_bytes()));
            out.extend_from_slice(b"\r\n");
            return Ok(());
        }
        // Unfolded; writing folds it again.
        let value = value.replace('\n', "");
        if address {
            let bad = || ComposeError::BadAddresses { header: name.clone(), value: value.clone() };
            addresses(&value).ok_or_else(bad)?.write_header(out, name.len() + 2);
        } else {
            Text::new(value).write_header(out, name.len() + 2);
        }
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn check(&self, template: &Template, values: &StringRecord, header: &str) -> Result<(), ComposeError> {
        for i in template.columns() {
            if values.get(i).unwrap_or("").chars().any(char::is_control) {
                let column = self.header.get(i).cloned().unwrap_or_default();
                return Err(ComposeError::Control { column, header: header.to_owned() });
            }
        }
        Ok(())
    }
}

/// A value in an address header: an address as it stands, anything else as a quoted string (RFC 5322, 3.2.4).
fn as_phrase(value: &str) -> String {
    if Address::parse(value).is_ok() {
        return value.to_owned();
    }
    if value.is_empty() {
        return String::new();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Parses a list of addresses and gives it back to be written anew.
fn addresses(value: &str) -> Option<Written<'static>> {
    let raw = format!("To: {value}\r\n\r\n");
    let message = MessageParser::default().parse(raw.as_bytes())?;
    let list: Vec<Written<'static>> = message
        .to()?
        .iter()
        .map(|a| {
            let address = a.address()?;
            Address::parse(address).ok()?;
            Some(Written::new_address(a.name().map(str::to_owned), address.to_owned()))
        })
        .collect::<Option<_>>()?;
    match list.len() {
        0 => None,
        _ => Some(Written::new_list(list)),
    }
}

/// CRLF for every line end (LF, CRLF or a CR alone).
fn crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    let mut before = 0;
    for byte in text {
        match byte {
            b'\r' => out.extend_from_slice(b"\r\n"),
            b'\n' if before == b'\r' => {}
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(*other),
        }
        before = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn columns() -> Vec<String> {
        vec!["email".into(), "name".into()]
    }

    fn row(name: &str) -> Row {
        let values = StringRecord::from(vec!["ann@a.example", name]);
        Row { number: 7, address: "ann@a.example".into(), values }
    }

    fn composer(source: Source) -> Composer {
        Composer {
            source,
            header: columns(),
            from: ("News".into(), "news@s.example".into()),
            job: Some("job7".into()),
            vmta: Some("vmta1".into()),
            run: "r1".into(),
        }
    }

    fn plain(subject: &str, body: &str) -> Composer {
        let t = |s| Template::parse(s, &columns()).unwrap();
        composer(Source::Plain { subject: t(subject), body: t(body) })
    }

    fn eml(text: &str) -> Composer {
        composer(Source::Eml(Eml::parse(text, &columns()).unwrap()))
    }

    fn lines_are_whole(content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
    }

    #[test]
    fn a_plain_message_has_its_headers_and_reads_back_in_unicode() {
        let content = plain("Grüße, {{name}}", "Liebe {{name}},\nalles Gute\n").compose(&row("Zoë"), NOW).unwrap();
        lines_are_whole(&content);
        let m = MessageParser::default().parse(&content).unwrap();
        assert_eq!(m.subject(), Some("Grüße, Zoë"));
        assert_eq!(m.body_text(0).unwrap().replace("\r\n", "\n").trim_end(), "Liebe Zoë,\nalles Gute");
        assert_eq!(m.message_id(), Some("7.r1@s.example"));
        assert_eq!(m.header_raw("X-Job").map(str::trim), Some("job7"));
        assert_eq!(m.header_raw("X-Virtual-MTA").map(str::trim), Some("vmta1"));
        assert!(m.date().is_some());
    }

    #[test]
    fn a_value_with_a_line_break_is_refused_in_a_header_and_fine_in_the_body() {
        let evil = row("x\r\nBcc: all@b.example");
        assert!(matches!(plain("{{name}}", "").compose(&evil, NOW), Err(ComposeError::Control { .. })));
        assert!(matches!(eml("Subject: {{name}}\n\nx").compose(&evil, NOW), Err(ComposeError::Control { .. })));
        assert!(plain("x", "{{name}}").compose(&evil, NOW).is_ok());
    }

    #[test]
    fn a_name_in_an_address_header_stays_a_name() {
        let c = eml("To: \"{{name}}\" <{{email}}>\nSubject: x\n\nhi\n");
        for name in ["Ann Lee", "Lee, Ann", "Zoë \"Z\" O\\x", "a@x.example>, evil", "<evil@b.example>"] {
            let content = c.compose(&row(name), NOW).unwrap();
            lines_are_whole(&content);
            let m = MessageParser::default().parse(&content).unwrap();
            let to: Vec<_> = m.to().unwrap().iter().map(|a| (a.name(), a.address())).collect();
            assert_eq!(to, [(Some(name), Some("ann@a.example"))], "{}", String::from_utf8_lossy(&content));
        }
    }

    #[test]
    fn a_template_gets_what_it_lacks_and_keeps_what_it_has() {
        let content = eml("Subject: x\nX-Job: old\nBcc: b@b.example\nX-Long: a\n b\n\nGrüße {{name}}\n")
            .compose(&row("Ann"), NOW)
            .unwrap();
        let text = String::from_utf8(content).unwrap();
        for wanted in [
            "From: ",
            "To: <ann@a.example>\r\n",
            "Date: ",
            "Message-ID: <7.r1@s.example>\r\n",
            "X-Job: job7\r\n",
            "X-Long: a\r\n b\r\n",
            "Content-Transfer-Encoding: 8bit\r\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert!(!text.contains("old") && !text.contains("Bcc"));
        assert!(text.ends_with("\r\n\r\nGrüße Ann\r\n"));
    }

    #[test]
    fn values_are_written_as_the_part_is_written() {
        let text = "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\
            Content-Transfer-Encoding: quoted-printable\n\nA {{name}}\n--b\nContent-Type: text/html\n\n<p>{{name}}</p>\n--b--\n";
        let text = String::from_utf8(eml(text).compose(&row("<b>=é"), NOW).unwrap()).unwrap();
        assert!(text.contains("A <b>=3D=C3=A9\r\n"), "{text}");
        assert!(text.contains("<p>&lt;b&gt;=é</p>\r\n"), "{text}");
    }

    #[test]
    fn mistakes_in_a_template_are_named_with_their_line() {
        assert_eq!(Eml::parse("Subject: x\nnonsense\n\nb", &columns()).unwrap_err(), EmlError::NoHeader(2));
        assert_eq!(Eml::parse("Subject: x\n", &columns()).unwrap_err(), EmlError::NoBody);
        let error = Eml::parse("Subject: x\n\nb\n{{no}}", &columns()).unwrap_err();
        assert!(error.to_string().starts_with("line 4:"), "{error}");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let error = eml("Subject: x\n\n{{name}}").compose(&row(&"x".repeat(1000)), NOW).unwrap_err();
        assert_eq!(error, ComposeError::LongLine(1000));
    }

    proptest! {
        #[test]
        fn no_value_adds_a_header(name in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let c = eml("From: {{name}} <a@b.example>\nSubject: Hi {{name}}\nX-Note: {{name}}\n\nbody {{name}}\n");
            if let Ok(content) = c.compose(&row(&name), NOW) {
                let names: Vec<String> = MessageParser::default().parse(&content).unwrap().headers().iter()
                    .map(|h| h.name().to_owned()).filter(|n| !n.eq_ignore_ascii_case("mime-version") && !n.to_ascii_lowercase().starts_with("content-")).collect();
                prop_assert_eq!(names, ["From", "Subject", "X-Note", "To", "Date", "Message-ID", "X-Job", "X-Virtual-MTA"]);
                let end = memchr::memmem::find(&content, b"\r\n\r\n").unwrap();
                prop_assert!(content[..end].is_ascii());
            }
        }
    }
}
