//! JSON, as APIs give lists out: an object around an array of objects, an array, or an object a line. Read as it comes,
//! one small object at a time, whatever is around it.

use serde_json::Value;

use super::MAX_RECORD;
use super::formats::normalised;
use super::table::Fields;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// An object of the list, or what could not be read.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) line: u64,
    pub(super) lines: u64,
    pub(super) found: Result<Found, String>,
    pub(super) raw: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Found {
    /// An object's fields.
    Fields(Fields),
    /// A text in an array.
    Text(String),
}

/// Finds the objects.
#[derive(Debug)]
pub(super) struct Objects {
    /// Number of the line that is read.
    pub(super) line: u64,
    stack: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// What is captured, from which depth and line on.
    captured: Option<(usize, u64)>,
    buffer: Vec<u8>,
    /// Since a line that is no JSON: the rest of it is dropped.
    garbage: bool,
    /// Too deep, or out of order: nothing more is found.
    broken: bool,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects {
            line: 1,
            stack: Vec::new(),
            in_string: false,
            escaped: false,
            captured: None,
            buffer: Vec::new(),
            garbage: false,
            broken: false,
        }
    }
}

impl Objects {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Object> {
        let mut found = Vec::new();
        for &byte in bytes {
            if !self.broken {
                self.byte(byte, &mut found);
            }
            if byte == b'\n' {
                self.line += 1;
                self.garbage = false;
            }
        }
        found
    }

    pub(super) fn finish(&mut self) -> Vec<Object> {
        let mut found = Vec::new();
        if !self.broken && (!self.stack.is_empty() || self.in_string) {
            self.reject(&mut found, "the file is cut off here");
        }
        found
    }

    fn byte(&mut self, byte: u8, found: &mut Vec<Object>) {
        if self.captured.is_some() {
            self.buffer.push(byte);
            if self.buffer.len() > MAX_RECORD {
                self.too_large(found);
            }
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.captured.is_some_and(|(depth, _)| depth == self.stack.len())
                        && self.buffer.first() == Some(&b'"')
                    {
                        self.emit(found);
                    }
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.captured.is_none() && self.stack.last() == Some(&b'[') {
                    self.capture(byte);
                }
            }
            b'{' => {
                let in_array = self.stack.last() == Some(&b'[');
                // An object with a list of objects in it is what is around the list.
                if in_array && self.captured.is_some_and(|(depth, _)| depth == 0) && self.stack.first() == Some(&b'{') {
                    self.captured = None;
                }
                if self.captured.is_none() && (in_array || self.stack.is_empty()) {
                    self.capture(byte);
                }
                self.open(byte, found);
            }
            b'[' => self.open(byte, found),
            b'}' | b']' => {
                let opening = if byte == b'}' { b'{' } else { b'[' };
                if self.stack.pop() != Some(opening) {
                    self.reject(found, "brackets do not match: nothing behind this place can be read");
                    self.broken = true;
                } else if self.captured.is_some_and(|(depth, _)| depth == self.stack.len()) {
                    self.emit(found);
                }
            }
            _ if self.stack.is_empty() && !byte.is_ascii_whitespace() && !self.garbage && byte != b',' => {
                self.garbage = true;
                self.reject(found, "this is not JSON");
            }
            _ => {}
        }
    }

    fn open(&mut self, byte: u8, found: &mut Vec<Object>) {
        self.stack.push(byte);
        if self.stack.len() > MAX_DEPTH {
            self.reject(found, "nested too deeply: nothing behind this place can be read");
            self.broken = true;
        }
    }

    fn capture(&mut self, byte: u8) {
        self.captured = Some((self.stack.len(), self.line));
        self.buffer.clear();
        self.buffer.push(byte);
    }

    fn too_large(&mut self, found: &mut Vec<Object>) {
        // The outermost object may be what is around the list.
        if self.captured.is_some_and(|(depth, _)| depth > 0) {
            self.reject(found, "longer than 64 KiB");
        }
        self.captured = None;
        self.buffer.clear();
    }

    fn reject(&mut self, found: &mut Vec<Object>, why: &str) {
        let line = self.captured.map_or(self.line, |(_, line)| line);
        let raw = std::mem::take(&mut self.buffer);
        found.push(Object { line, lines: self.line.saturating_sub(line) + 1, found: Err(why.to_owned()), raw });
        self.captured = None;
    }

    fn emit(&mut self, found: &mut Vec<Object>) {
        let Some((_, line)) = self.captured.take() else { return };
        let raw = std::mem::take(&mut self.buffer);
        let read = match serde_json::from_slice::<Value>(&raw) {
            Ok(Value::String(text)) => Ok(Found::Text(text)),
            Ok(Value::Object(object)) => Ok(Found::Fields(fields(&object))),
            Ok(_) => Err("neither an object nor a text".to_owned()),
            Err(error) => Err(format!("this is not JSON: {error}")),
        };
        found.push(Object { line, lines: self.line.saturating_sub(line) + 1, found: read, raw });
    }
}

fn fields(object: &serde_json::Map<String, Value>) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in object {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Array(items) => {
                fields.is_wrapper |= !items.iter().any(Value::is_string);
                let texts = items.iter().filter_map(Value::as_str).map(str::to_owned);
                texts.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        fields.pairs.push((normalised(name), text));
    }
    fields
}
