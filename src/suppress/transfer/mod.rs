//! Lists that come in and go out as files: pure, bytes in and records out.
//!
//! [`Reader`] takes a file in pieces of any size and gives a [`Record`] for each line (of JSON: each object): an entry, or
//! why it is none. It promises that no line is lost without a word, that no bytes make it fail otherwise than by a
//! [`Refusal`] of the whole file, and that a record of any length costs bounded memory. [`formats`] knows what other
//! services export; [`write`] is the way out.

pub mod formats;
mod json;
mod table;
mod when;
pub mod write;

#[cfg(test)]
mod tests;

use crate::event::{Scope, Time};

use super::operate::folded;
use formats::Format;
use json::Objects;
use table::{Lines, Table};
pub use when::time;

/// Longest line, or longest JSON object, in bytes.
pub const MAX_RECORD: usize = 64 << 10;

/// A line of a file as an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// `local@domain` or `@domain`, folded; or a sum in lower-case hexadecimal.
    pub subject: String,
    /// Name of the rule: `hard`, `complaint`, `unsub`, or `import`.
    pub rule: String,
    /// When it happened; [`Time::UNKNOWN`] when the line does not say.
    pub time: Time,
    /// Category.
    pub category: String,
    /// The reply.
    pub reply: String,
    /// What else the line says of the reason.
    pub note: String,
    /// Its own scope.
    pub scope: Option<Scope>,
    /// Its own end; [`Time::UNKNOWN`] for none.
    pub expires: Time,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One to be entered.
    Entry(Box<Row>),
    /// Understood, and no reason to suppress anybody.
    Skipped(String),
    /// Not understood.
    Rejected(String),
    /// A header, a blank line, a comment.
    Nothing,
}

/// A line of a file, or several where a quoted field holds line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of its first line, from 1.
    pub line: u64,
    /// How many lines.
    pub lines: u64,
    /// What it is.
    pub outcome: Outcome,
    /// As it stands in the file, cut to [`MAX_RECORD`], without the last line end. Kept for rejected ones only.
    pub raw: Vec<u8>,
}

/// How a file is to be read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name of a [`Format`], or the service's for all of its formats, `csv`, `newline`, or `auto`.
    pub format: String,
    /// The column with the addresses: its name, or its number from 1.
    pub column: Option<String>,
    /// The lines are SHA-256 sums.
    pub hashed: bool,
    /// Enter also what is no permanent reason.
    pub temporary: bool,
    /// The operator says for whose mail the entries count.
    pub scoped: bool,
    /// Name of the file: it may tell what the header does not.
    pub name: String,
}

/// Why a whole file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such format.
    #[error("there is no format {0}; there are {1}")]
    Format(String, String),
    /// Not in the format that was named.
    #[error("the file is not in the format {0}: its first line has none of the columns of it ({1})")]
    OtherFormat(String, String),
    /// UTF-16.
    #[error("the file is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")]
    Utf16,
    /// No column holds addresses.
    #[error("no column with addresses was found; name it with --column (by name, or by number from 1)")]
    NoColumn,
    /// The named column is not there.
    #[error("there is no column {0}; the first line has: {1}")]
    OtherColumn(String, String),
    /// A list of people who do want mail.
    #[error(
        "this is Mailchimp's export of subscribers, who do want mail: take the file of cleaned or of unsubscribed \
         contacts; if they are really all to be suppressed, use --format csv"
    )]
    Subscribers,
}

/// Reads a file that comes in pieces.
#[derive(Debug)]
pub struct Reader {
    options: Options,
    lines: Lines,
    state: State,
    /// Times that were there and could not be read.
    unread_times: u64,
    temporary: u64,
}

#[derive(Debug)]
enum State {
    /// Nothing but blank space so far.
    Begin,
    /// A line each.
    Plain,
    /// Lines with columns.
    Table(Table),
    /// Objects.
    Json(Objects, Option<&'static Format>),
}

impl Reader {
    /// For a file to be read so; fails where there is no such format.
    pub fn new(options: Options) -> Result<Reader, Refusal> {
        formats::check_name(&options.format)?;
        Ok(Reader { options, lines: Lines::default(), state: State::Begin, unread_times: 0, temporary: 0 })
    }

    /// Takes the next piece; `each` is called for each record that is whole by now.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Record)) -> Result<(), Refusal> {
        if let State::Json(objects, format) = &mut self.state {
            let found = objects.push(bytes);
            let (format, mut chosen) = (*format, None);
            for object in found {
                let (record, by) = self.object(object, chosen.or(format));
                chosen = chosen.or(by);
                each(record);
            }
            if let State::Json(_, format) = &mut self.state {
                *format = format.or(chosen);
            }
            return Ok(());
        }
        self.lines.push(bytes);
        self.drain(false, each)
    }

    /// The file has ended.
    pub fn finish(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), Refusal> {
        self.drain(true, each)?;
        if let State::Json(objects, format) = &mut self.state {
            let format = *format;
            let last = objects.finish();
            for object in last {
                let (record, _) = self.object(object, format);
                each(record);
            }
        }
        Ok(())
    }

    /// The format that was recognised.
    pub fn format(&self) -> &'static str {
        match &self.state {
            State::Begin => "empty",
            State::Plain => "newline",
            State::Table(table) => table.format.map_or("csv", |f| f.name),
            State::Json(_, format) => format.map_or("json", |f| f.name),
        }
    }

    /// What the operator should know besides.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.format() == "sendgrid-bounces" {
            remarks.push(
                "read as SendGrid's bounces; its blocks have the same columns and are no reason to suppress: if these are \
                 blocks, say --format sendgrid-blocks"
                    .to_owned(),
            );
        }
        if self.temporary > 0 {
            let n = self.temporary;
            remarks.push(format!("{n} left out, since their reason is not permanent; --include-temporary enters them"));
        }
        if self.unread_times > 0 {
            let n = self.unread_times;
            remarks.push(format!("{n} times could not be read; those entries have the time of the import"));
        }
        remarks
    }

    fn drain(&mut self, last: bool, each: &mut dyn FnMut(Record)) -> Result<(), Refusal> {
        loop {
            if matches!(self.state, State::Begin) && !self.begin(last, each)? {
                return Ok(());
            }
            match &mut self.state {
                State::Begin => {}
                State::Json(..) => {
                    // What was read as lines so far goes on as it is.
                    let (rest, line) = self.lines.take_all();
                    let mut found = Vec::new();
                    if let State::Json(objects, _) = &mut self.state
                        && !rest.is_empty()
                    {
                        objects.line = line;
                        found = objects.push(&rest);
                    }
                    let mut chosen = None;
                    for object in found {
                        let (record, by) = self.object(object, chosen);
                        chosen = chosen.or(by);
                        each(record);
                    }
                    if let State::Json(_, format) = &mut self.state {
                        *format = format.or(chosen);
                    }
                    return Ok(());
                }
                State::Plain => {
                    let Some(line) = self.lines.next(last) else { return Ok(()) };
                    let outcome = match line.text() {
                        Err(why) => Outcome::Rejected(why.to_owned()),
                        Ok(text) => self.plain(text),
                    };
                    each(line.record(1, outcome));
                }
                State::Table(table) => {
                    let Some((line, lines, fields)) = table.next(&mut self.lines, last) else { return Ok(()) };
                    let outcome = match fields {
                        Err(why) => Outcome::Rejected(why),
                        Ok(None) => Outcome::Nothing,
                        Ok(Some(fields)) => {
                            if let Some(wrong) = table.settle(&fields)? {
                                Outcome::Rejected(wrong)
                            } else {
                                let mapped = table.map(&fields, &self.options);
                                self.settled(mapped)
                            }
                        }
                    };
                    each(line.record(lines, outcome));
                }
            }
        }
    }

    /// Looks at the first line that is not blank and decides what the file is; whether it did.
    fn begin(&mut self, last: bool, each: &mut dyn FnMut(Record)) -> Result<bool, Refusal> {
        self.lines.skip_mark()?;
        while let Some(first) = self.lines.first_byte() {
            if (first == b'{' || first == b'[') && formats::may_be_json(&self.options.format) {
                self.state = State::Json(Objects::default(), formats::only(&self.options.format));
                return Ok(true);
            }
            self.lines.is_no_json();
            let Some(line) = self.lines.peek(last) else { return Ok(false) };
            let text = match line.text() {
                Ok(text) => text.to_owned(),
                Err(why) => {
                    each(line.record(1, Outcome::Rejected(why.to_owned())));
                    self.lines.next(last);
                    continue;
                }
            };
            if text.trim().is_empty() || is_comment(&text) {
                each(line.record(1, Outcome::Nothing));
                self.lines.next(last);
                continue;
            }
            let is_plain = |text: &str| self.subject(text).is_ok();
            // A lone word is the header of a list, or a bad line of one.
            let lone = !text.contains([',', ';', '\t']) && !formats::is_header(&text, self.options.hashed);
            let any = self.options.column.is_none() && formats::is_any(&self.options.format);
            if self.options.format == "newline" || any && (lone || is_plain(&text)) {
                self.state = State::Plain;
                return Ok(true);
            }
            let (table, has_header) = Table::begin(&text, &self.options)?;
            if has_header {
                each(line.record(1, Outcome::Nothing));
                self.lines.next(last);
            }
            self.state = State::Table(table);
            return Ok(true);
        }
        Ok(false)
    }

    fn plain(&self, text: &str) -> Outcome {
        let text = text.trim();
        if text.is_empty() {
            return Outcome::Nothing;
        }
        match self.subject(text) {
            Ok(subject) => Outcome::Entry(Box::new(Row { subject, rule: "import".into(), ..Row::default() })),
            Err(_) if is_comment(text) => Outcome::Nothing,
            Err(why) => Outcome::Rejected(why),
        }
    }

    fn subject(&self, text: &str) -> Result<String, String> {
        subject(text, self.options.hashed)
    }

    fn object(&mut self, object: json::Object, format: Option<&'static Format>) -> (Record, Option<&'static Format>) {
        let (line, lines) = (object.line, object.lines);
        let (outcome, format) = match object.found {
            Err(why) => (Outcome::Rejected(why), None),
            Ok(json::Found::Text(text)) => (self.plain(&text), None),
            Ok(json::Found::Fields(fields)) => {
                let format = format.or_else(|| formats::by_columns(&fields.names(), &self.options));
                let (mapped, empty) = match format {
                    Some(format) => (formats::map(format, &fields, &self.options), false),
                    None => (formats::map_plain(&fields, &self.options), fields.is_wrapper),
                };
                (if empty { Outcome::Nothing } else { self.settled(mapped) }, format)
            }
        };
        let raw = if matches!(outcome, Outcome::Rejected(_)) { object.raw } else { Vec::new() };
        (Record { line, lines, outcome, raw }, format)
    }

    /// What a format made of a record, with the subject checked.
    fn settled(&mut self, mapped: formats::Mapped) -> Outcome {
        match mapped {
            formats::Mapped::Row(mut row, unread_time) => match self.subject(&row.subject) {
                Ok(subject) => {
                    row.subject = subject;
                    self.unread_times += u64::from(unread_time);
                    Outcome::Entry(row)
                }
                Err(why) => Outcome::Rejected(why),
            },
            formats::Mapped::Temporary(why) => {
                self.temporary += 1;
                Outcome::Skipped(why)
            }
            formats::Mapped::Skipped(why) => Outcome::Skipped(why),
            formats::Mapped::Rejected(why) => Outcome::Rejected(why),
        }
    }
}

/// A subject as entries have it; a reason when it is none.
fn subject(text: &str, hashed: bool) -> Result<String, String> {
    let text = text.trim();
    if hashed {
        let digits = matches!(text.len(), 32 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let wrong = || "no SHA-256 sum in hexadecimal (64 digits, or the first 32)".to_owned();
        return digits.then(|| text.to_ascii_lowercase()).ok_or_else(wrong);
    }
    if text.is_empty() {
        return Err("no address".to_owned());
    }
    // Exports of address books have <ann@b.example>.
    let bare = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
    folded(bare).map_err(|e| e.to_string())
}

/// What a file of rejected lines has above each of them, and other comments.
fn is_comment(text: &str) -> bool {
    text.trim_start().strip_prefix('#').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '#', '\t']))
}
