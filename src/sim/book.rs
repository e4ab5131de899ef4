#![expect(clippy::disallowed_types, reason = "edge: the providers' log files")]
//! The book a provider keeps of what it saw: one JSON object a line, written by code that knows nothing of Carom's
//! records, so that the two can be reconciled.
//!
//! Lines are buffered and reach the file when the book is closed or dropped, or the buffer is full. A write that fails
//! is remembered and told by [`Book::close`]: a book with holes must not pass for a whole one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// How far the dialogue had come when the reply was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Stage {
    /// The greeting.
    Connect,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// After the final dot of DATA.
    Data,
}

/// One reply that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Microseconds since the epoch.
    pub time: i64,
    /// Name of the provider.
    pub provider: String,
    /// Number of the session.
    pub session: u64,
    /// Where in the dialogue.
    pub stage: Stage,
    /// The recipient concerned; empty when none is.
    pub rcpt: String,
    /// Reply code.
    pub code: u16,
    /// The reply, code first, in one line.
    pub reply: String,
    /// Message-ID of the content without brackets; empty before DATA.
    pub message_id: String,
    /// Whether the reply was positive.
    pub accepted: bool,
}

/// A book being written.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    writer: Mutex<(Option<BufWriter<File>>, Option<io::Error>)>,
}

impl Book {
    /// A new, empty book at `path`; an old one there is replaced.
    ///
    /// # Errors
    /// When the file can't be created.
    pub fn create(path: &Path) -> io::Result<Book> {
        let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        Ok(Book { path: path.to_owned(), writer: Mutex::new((Some(file), None)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds these lines.
    pub fn write(&self, lines: &[Line]) {
        let mut bytes = Vec::with_capacity(lines.len() * 256);
        for line in lines {
            // A struct of strings and numbers always serializes.
            if serde_json::to_writer(&mut bytes, line).is_ok() {
                bytes.push(b'\n');
            }
        }
        let mut guard = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (Some(writer), error) = &mut *guard else { return };
        if let Err(e) = writer.write_all(&bytes) {
            error.get_or_insert(e);
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The first write that failed since the book was created.
    pub fn close(&self) -> io::Result<()> {
        let mut guard = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(error) = guard.1.take() {
            return Err(error);
        }
        guard.0.take().map_or(Ok(()), |mut w| w.flush())
    }
}

/// Reads a book back.
///
/// # Errors
/// When it can't be read, or a line is not one of ours (the message names the line).
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (n, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let line = serde_json::from_str(&line?)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}:{}: {e}", path.display(), n + 1)))?;
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            time: 5,
            provider: "mailhost".into(),
            session: 3,
            stage: Stage::Rcpt,
            rcpt: "a@mailhost.example".into(),
            code: 550,
            reply: "550 5.1.1 \"nobody\"".into(),
            message_id: String::new(),
            accepted: false,
        }
    }

    #[test]
    fn a_closed_book_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::create(&dir.path().join("mailhost.jsonl")).unwrap();
        book.write(&[line(), line()]);
        book.close().unwrap();
        assert_eq!(read(book.path()).unwrap(), [line(), line()]);
    }

    #[test]
    fn a_line_that_is_not_ours_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let text = format!("{}\n{{\n", serde_json::to_string(&line()).unwrap());
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("x.jsonl:2"));
    }
}
