//! The formats in which found records are written.

use std::io::Write as _;

use serde_json::{Map, Value};

use super::known;
use crate::event::fields::{Field, Type};
use crate::event::{Time, plain};
use crate::history::{Cell, Row, times};

/// A format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// A block of `field: value` lines for each record.
    Standard,
    Csv,
    Tsv,
    Html,
    Xml {
        pretty: bool,
    },
    Json,
    /// Text around fields.
    Custom(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// Number of the shown field.
    Field(usize),
}

/// Reads `FORMAT[FIELDS]`.
pub(super) fn parse(text: &str) -> Result<(Format, Vec<String>), String> {
    let (name, inside) = match text.split_once('[') {
        Some((name, rest)) => {
            (name, rest.strip_suffix(']').ok_or_else(|| format!("--output {text}: no ] at the end"))?)
        }
        None => (text, ""),
    };
    let field = |name: &str| known(name).map_err(|_| format!("--output {text}: unknown field {name}"));
    if name.eq_ignore_ascii_case("custom") {
        let (mut pieces, mut fields) = (Vec::new(), Vec::new());
        let mut rest = inside;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(|| format!("--output {text}: no }} behind {{"))?;
            pieces.push(Piece::Text(unescape(before)));
            pieces.push(Piece::Field(fields.len()));
            fields.push(field(name)?);
            rest = behind;
        }
        pieces.push(Piece::Text(unescape(rest)));
        if fields.is_empty() {
            return Err("--output custom needs fields in braces, such as custom[{timeLogged} {to}]".to_owned());
        }
        return Ok((Format::Custom(pieces), fields));
    }
    let fields = inside.split(',').map(str::trim).filter(|f| !f.is_empty()).map(field).collect::<Result<_, _>>()?;
    let format = match name.to_ascii_lowercase().as_str() {
        "standard" | "text" => Format::Standard,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        "html" => Format::Html,
        "xml" => Format::Xml { pretty: false },
        "prettyxml" => Format::Xml { pretty: true },
        "json" => Format::Json,
        _ => return Err(format!("--output {name}: of standard, csv, tsv, html, xml, prettyxml, json, custom")),
    };
    Ok((format, fields))
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// A field that is shown.
#[derive(Debug)]
pub(super) struct Shown {
    name: String,
    column: usize,
    ty: Option<Type>,
}

impl Shown {
    pub(super) fn new(name: &str, column: usize) -> Shown {
        Shown { name: name.to_owned(), column, ty: Field::by_name(name).map(|f| f.ty) }
    }
}

/// Writes records in one format.
pub(super) struct Printer {
    format: Format,
    shown: Vec<Shown>,
    iso_times: bool,
    text: String,
}

impl Printer {
    pub(super) fn new(format: Format, shown: Vec<Shown>, iso_times: bool) -> Printer {
        Printer { format, shown, iso_times, text: String::new() }
    }

    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        let names = || self.shown.iter().map(|s| s.name.as_str());
        match &self.format {
            Format::Csv => row(out, names(), b','),
            Format::Tsv => row(out, names().map(|n| n.replace('\t', " ")), b'\t'),
            Format::Html => {
                out.extend_from_slice(
                    b"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Accounting records</title>\
                      <style>body{font:14px system-ui,sans-serif}table{border-collapse:collapse}td,th{text-align:left;\
                      padding:.2rem .6rem;border-bottom:1px solid #8884;vertical-align:top}</style></head><body>\n<table>\n<tr>",
                );
                names().for_each(|n| element(out, "th", n));
                out.extend_from_slice(b"</tr>\n");
            }
            Format::Xml { pretty } => {
                out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<acct>");
                if *pretty {
                    out.push(b'\n');
                }
            }
            Format::Standard | Format::Json | Format::Custom(_) => {}
        }
    }

    pub(super) fn end(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Html => out.extend_from_slice(b"</table>\n</body></html>\n"),
            Format::Xml { .. } => out.extend_from_slice(b"</acct>\n"),
            _ => {}
        }
    }

    /// The text of a shown field, in `self.text`.
    fn cell(&mut self, record: &Row<'_>, field: usize) {
        self.text.clear();
        let shown = &self.shown[field];
        match record.cell(shown.column) {
            Cell::Text(text) if self.iso_times && shown.ty == Some(Type::Time) => match times::parse(text) {
                Some(time) => Cell::Time(time).push_text(&mut self.text),
                None => self.text.push_str(text),
            },
            cell => cell.push_text(&mut self.text),
        }
    }

    pub(super) fn record(&mut self, record: &Row<'_>, out: &mut Vec<u8>) {
        match self.format.clone() {
            Format::Csv => {
                for field in 0..self.shown.len() {
                    self.cell(record, field);
                    if field > 0 {
                        out.push(b',');
                    }
                    quoted(out, &self.text);
                }
                out.extend_from_slice(b"\r\n");
            }
            Format::Tsv => {
                for field in 0..self.shown.len() {
                    self.cell(record, field);
                    if field > 0 {
                        out.push(b'\t');
                    }
                    out.extend(self.text.bytes().map(|b| if matches!(b, b'\t' | b'\n' | b'\r') { b' ' } else { b }));
                }
                out.push(b'\n');
            }
            Format::Standard => {
                let width = self.shown.iter().map(|s| s.name.len()).max().unwrap_or(0);
                for field in 0..self.shown.len() {
                    self.cell(record, field);
                    if !self.text.is_empty() {
                        // What a remote server said is not to move the cursor.
                        let text = plain(&self.text);
                        // Writing to a Vec does not fail.
                        let _ = writeln!(out, "{:>width$}: {text}", self.shown[field].name);
                    }
                }
                out.push(b'\n');
            }
            Format::Html => {
                out.extend_from_slice(b"<tr>");
                for field in 0..self.shown.len() {
                    self.cell(record, field);
                    element(out, "td", &self.text);
                }
                out.extend_from_slice(b"</tr>\n");
            }
            Format::Xml { pretty } => {
                out.extend_from_slice(if pretty { b"  <record>\n" } else { b"<record>" });
                for field in 0..self.shown.len() {
                    self.cell(record, field);
                    if !self.text.is_empty() {
                        if pretty {
                            out.extend_from_slice(b"    ");
                        }
                        element(out, &xml_name(&self.shown[field].name), &self.text);
                        if pretty {
                            out.push(b'\n');
                        }
                    }
                }
                out.extend_from_slice(if pretty { b"  </record>\n" } else { b"</record>" });
            }
            Format::Json => {
                let object: Map<String, Value> = self
                    .shown
                    .iter()
                    .filter_map(|s| Some((s.name.clone(), json(record.cell(s.column), s.ty)?)))
                    .collect();
                let _ = writeln!(out, "{}", Value::Object(object));
            }
            Format::Custom(pieces) => {
                for piece in &pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => {
                            self.cell(record, *field);
                            out.extend_from_slice(self.text.as_bytes());
                        }
                    }
                }
                if !matches!(pieces.last(), Some(Piece::Text(text)) if text.ends_with('\n')) {
                    out.push(b'\n');
                }
            }
        }
    }
}

/// The value as its type, whatever file it comes from; `None` when there is none.
pub(in crate::cli) fn json(cell: Cell<'_>, ty: Option<Type>) -> Option<Value> {
    let time = |t: Time| t.timestamp().map(|t| t.to_string().into());
    Some(match cell {
        Cell::Absent => return None,
        Cell::Time(t) => time(t)?,
        Cell::Number(n) => n.into(),
        Cell::Bool(b) => b.into(),
        Cell::List(words) => words.iter().map(Value::from).collect(),
        Cell::Pairs(pairs) => {
            Value::Object(pairs.iter().map(|(n, v)| (n.to_owned(), v.into())).collect::<Map<String, Value>>())
        }
        Cell::Text(text) => match ty {
            Some(Type::Time) => times::parse(text).and_then(time).unwrap_or_else(|| text.into()),
            Some(Type::Int | Type::Long) => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            Some(Type::Bool) => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
            Some(Type::List) => text.split(',').map(|w| Value::from(w.trim())).collect(),
            _ => text.into(),
        },
    })
}

fn row<S: AsRef<str>>(out: &mut Vec<u8>, cells: impl Iterator<Item = S>, comma: u8) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(comma);
        }
        if comma == b',' { quoted(out, cell.as_ref()) } else { out.extend_from_slice(cell.as_ref().as_bytes()) }
    }
    out.extend_from_slice(if comma == b',' { b"\r\n" } else { b"\n" });
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    if text.contains([',', '"', '\r', '\n']) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// `<name>text</name>`, escaped; characters that XML does not know are replaced.
fn element(out: &mut Vec<u8>, name: &str, text: &str) {
    let clean: String = text
        .chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        })
        .collect();
    let _ = write!(out, "<{name}>{}</{name}>", quick_xml::escape::escape(clean.as_str()));
}

/// A field's name as the name of an element.
fn xml_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' }).collect()
}
