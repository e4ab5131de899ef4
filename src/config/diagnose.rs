//! What is wrong with a configuration, where, and what to do about it.
//!
//! A file is never given up at its first fault: everything found is collected, sorted by place, and shown at once. A
//! diagnostic carries a copy of the offending line, so it can be shown (or sent as JSON) when the file is long gone;
//! passwords and keys are blanked in that copy.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::lexer::{Span, Text};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but does not do what its text seems to say, or is dangerous.
    Warning,
    /// Works as meant; an official or newer spelling exists, or it is easily misread.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 when the finding is about the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 when the finding is about the whole line.
    pub column: u32,
    /// How many characters are meant.
    pub length: u32,
    /// The line as it stands in the file, secrets blanked.
    pub excerpt: String,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// From 1; 0 is the file as a whole.
    pub line: u32,
}

impl Diagnostic {
    /// What another room has to say about a line of the configuration.
    pub fn at(severity: Severity, place: Place, message: String) -> Diagnostic {
        let Place { file, line } = place;
        Diagnostic { severity, message, help: None, file, line, column: 0, length: 0, excerpt: String::new() }
    }

    /// On one line, for logs: `FILE:LINE: MESSAGE (HELP)`.
    pub fn one_line(&self) -> String {
        let place = match self.line {
            0 => self.file.display().to_string(),
            line => format!("{}:{line}", self.file.display()),
        };
        let help = self.help.as_ref().map_or(String::new(), |h| format!(" ({h})"));
        format!("{place}: {}{help}", self.message)
    }

    /// Whether it keeps the configuration from being used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// As people see it: `FILE:LINE:COLUMN: error: MESSAGE`, the line, a caret line, the help. Ends with a line end.
    pub fn render(&self) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let mut out = String::new();
        let file = self.file.display();
        // Writing to a String does not fail.
        let _ = match (self.line, self.column) {
            (0, _) => writeln!(out, "{file}: {word}: {}", self.message),
            (line, 0) => writeln!(out, "{file}:{line}: {word}: {}", self.message),
            (line, column) => writeln!(out, "{file}:{line}:{column}: {word}: {}", self.message),
        };
        if self.line > 0 && !self.excerpt.is_empty() {
            let number = self.line.to_string();
            let _ = writeln!(out, " {number} | {}", self.excerpt);
            let shown = self.excerpt.chars().count();
            let column = self.column as usize;
            if column > 0 && column <= shown {
                // Tabs are kept, so that the carets stand below what they mean whatever the tab width.
                let lead: String =
                    self.excerpt.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
                let carets = (self.length.max(1) as usize).min(shown - column + 1);
                let _ = writeln!(out, " {} | {lead}{}", " ".repeat(number.len()), "^".repeat(carets));
            }
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "   help: {help}");
        }
        out
    }
}

/// All of them as people see them.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::render).collect()
}

/// How many there are of each kind: `1 error, 2 warnings`, and the notes where there are any.
pub fn counts(diagnostics: &[Diagnostic]) -> String {
    let count = |severity, what: &str| {
        let n = diagnostics.iter().filter(|d| d.severity == severity).count();
        (n, format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
    };
    let (errors, warnings) = (count(Severity::Error, "error").1, count(Severity::Warning, "warning").1);
    match count(Severity::Note, "note") {
        (0, _) => format!("{errors}, {warnings}"),
        (_, notes) => format!("{errors}, {warnings}, {notes}"),
    }
}

/// Beyond so many findings the rest is counted, not kept: a file that is no configuration at all has one in each line.
const MOST: usize = 2000;

/// Findings while a configuration is being read.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    left_out: usize,
    left_out_error: bool,
    /// Messages that are shown where they apply first, and how often they apply beside that.
    repeated: HashMap<String, usize>,
}

impl Diagnostics {
    /// Adds one about `span`, whose line is found in `texts`.
    pub fn add(&mut self, texts: &[Text], severity: Severity, span: Span, message: String, help: Option<String>) {
        if self.list.len() >= MOST {
            self.left_out += 1;
            self.left_out_error |= severity == Severity::Error;
            return;
        }
        let text = texts.get(span.file as usize);
        let line = text.and_then(|t| t.lines.get((span.line as usize).wrapping_sub(1)));
        self.list.push(Diagnostic {
            severity,
            message,
            help,
            file: text.map(|t| t.name.clone()).unwrap_or_default(),
            line: span.line,
            column: span.column,
            length: span.length,
            excerpt: line.map(|l| excerpt(l)).unwrap_or_default(),
        });
    }

    /// Adds one that is the same at every place it applies to: the first place is shown and the others are counted.
    pub fn add_once(&mut self, texts: &[Text], severity: Severity, span: Span, message: String) {
        match self.repeated.get_mut(&message) {
            Some(times) => *times += 1,
            None => {
                self.repeated.insert(message.clone(), 0);
                self.add(texts, severity, span, message, None);
            }
        }
    }

    /// Adds one about a file as a whole.
    pub fn about_file(&mut self, severity: Severity, file: PathBuf, message: String, help: Option<String>) {
        let excerpt = String::new();
        self.list.push(Diagnostic { severity, message, help, file, line: 0, column: 0, length: 0, excerpt });
    }

    /// Blanks what the copies of `span`'s line show: everything behind the first word, or `all` of it.
    pub fn blank(&mut self, texts: &[Text], span: Span, all: bool) {
        let Some(text) = texts.get(span.file as usize) else { return };
        for d in self.list.iter_mut().filter(|d| d.line == span.line && d.file == text.name) {
            if let Some((word, end)) = first_word(&d.excerpt) {
                let keep = if all { end - word.len() } else { end };
                d.excerpt.truncate(keep);
                d.excerpt.push_str(if all { BLANK.trim_start() } else { BLANK });
            }
        }
    }

    /// Whether further ones are only counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// Whether any of them is an error.
    pub fn any_error(&self) -> bool {
        self.left_out_error || self.list.iter().any(Diagnostic::is_error)
    }

    /// Sorted by file (in the order of reading), line and column, without repetitions.
    pub fn finish(mut self, texts: &[Text]) -> Vec<Diagnostic> {
        for d in &mut self.list {
            if let Some(times) = self.repeated.get(&d.message).filter(|n| **n > 0) {
                let places = if *times == 1 { "place" } else { "places" };
                d.message.push_str(&format!(" (here and at {times} further {places})"));
            }
        }
        let place = |d: &Diagnostic| texts.iter().position(|t| t.name == d.file).unwrap_or(0);
        self.list.sort_by_cached_key(|d| (place(d), d.line, d.column, d.severity, d.message.clone()));
        self.list.dedup();
        if self.left_out > 0 {
            let severity = if self.left_out_error { Severity::Error } else { Severity::Warning };
            let file = texts.first().map(|t| t.name.clone()).unwrap_or_default();
            let message = format!("{} further findings are not shown", self.left_out);
            self.list.push(Diagnostic {
                severity,
                message,
                help: None,
                file,
                line: 0,
                column: 0,
                length: 0,
                excerpt: String::new(),
            });
        }
        self.list
    }
}

/// Stands for what may not be shown.
const BLANK: &str = " ***";

/// Directives whose values are secrets, also of those that are not obeyed.
const SECRETS: &[&str] = &[
    "password",
    "key",
    "api-key",
    "http-api-key",
    "auth-password",
    "admin-password",
    "http-mgmt-password",
    "http-mgmt-password-hash",
    "suppression-hash-key",
    "privacy-policy",
];

/// Directives that take a file and then a secret.
const FILE_AND_SECRET: &[&str] = &["smtp-server-tls-certificate", "tls-certificate", "http-tls-certificate"];

/// Of webhooks and brokers: too near to ordinary words for any but the name itself to count.
const SECRETS_BY_NAME: &[&str] = &["secret", "token", "header"];

/// What takes a URL, which may hold a login or a key.
const URLS: &[&str] = &["<acct-webhook", "<acct-nats", "bounce-hook"];

/// Where in `url` that begins which is not shown.
fn secret_of_url(url: &str) -> Option<usize> {
    let host = url.find("://")? + 3;
    let query = url.find('?');
    if url[host..query.unwrap_or(url.len())].contains('@') { Some(host) } else { query }
}

/// Whether `word` is, or is nearly, the name of a directive that takes a secret.
fn announces_secret(word: &str) -> bool {
    let word = word.trim_matches('"').to_ascii_lowercase();
    SECRETS_BY_NAME.contains(&word.as_str())
        || SECRETS.iter().any(|s| word == *s || (word.len() > 4 && s.len() > 4 && distance(&word, s) <= 2))
}

/// Whether what follows `header` is the name of a field and nothing more: only a value may be a secret. One that may also be
/// a value whose name was forgotten is none.
fn is_name(rest: &str) -> bool {
    const KNOWN: &[&str] =
        &["from", "to", "subject", "date", "message-id", "received", "return-path", "sender", "reply-to", "list-id"];
    let rest = rest.trim().to_ascii_lowercase();
    KNOWN.contains(&rest.as_str())
        || rest.starts_with("x-") && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn first_word(line: &str) -> Option<(&str, usize)> {
    let start = line.find(|c: char| !c.is_whitespace())?;
    let end = line[start..].find(char::is_whitespace).map_or(line.len(), |e| start + e);
    Some((&line[start..end], end))
}

/// The line, bounded, with everything after the name of a secret blanked.
fn excerpt(line: &str) -> String {
    let mut shown: String = line.chars().take(400).collect();
    if shown.len() < line.len() {
        shown.push_str("...");
    }
    let mut at = 0;
    while let Some((word, end)) = first_word(&shown[at..]).map(|(w, e)| (w.to_ascii_lowercase(), at + e)) {
        if announces_secret(&word) && !(word == "header" && is_name(&shown[end..])) {
            shown.truncate(end);
            shown.push_str(BLANK);
            break;
        }
        if URLS.contains(&word.as_str())
            && let Some(secret) = secret_of_url(&shown[end..])
        {
            shown.truncate(end + secret);
            shown.push_str(BLANK);
            break;
        }
        if FILE_AND_SECRET.contains(&word.as_str()) {
            if let Some((_, file_end)) = first_word(&shown[end..])
                && end + file_end < shown.trim_end().len()
            {
                shown.truncate(end + file_end);
                shown.push_str(BLANK);
            }
            break;
        }
        at = end;
    }
    shown
}

/// The nearest of `names` to `word`, if it is near enough to be what was meant. Case does not matter.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    let limit = (length / 3).clamp(1, 4);
    names
        .into_iter()
        // The distance is at least the difference in length.
        .filter(|name| name.chars().count().abs_diff(length) <= limit)
        .map(|name| (distance(&word, &name.to_lowercase()), name))
        .filter(|(d, _)| *d <= limit)
        .min_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(b.1)))
        .map(|(_, name)| name)
}

/// How many insertions, deletions, substitutions and swaps of neighbours lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitute = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = substitute.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nonsense_has_none() {
        let names = ["max-smtp-out", "max-msg-rate", "retry-after"];
        assert_eq!(nearest("max-stmp-out", names), Some("max-smtp-out"));
        assert_eq!(nearest("Retry-After", names), Some("retry-after"));
        assert_eq!(nearest("banana", names), None);
    }

    #[test]
    fn secrets_are_blanked_even_when_the_name_is_misspelt() {
        assert_eq!(excerpt("  password hunter2"), "  password ***");
        assert_eq!(excerpt("  pasword hunter2"), "  pasword ***");
        assert_eq!(excerpt("<smtp-user a> password hunter2 </smtp-user>"), "<smtp-user a> password ***");
        assert_eq!(excerpt("key k1 s3cret"), "key ***");
        assert_eq!(excerpt(" secret s3cret"), " secret ***");
        assert_eq!(excerpt("  header Subject"), "  header Subject");
        assert_eq!(excerpt("header Bearer:s3cret"), "header ***");
        assert_eq!(excerpt("header Authorization \"Bearer s3cret\""), "header ***");
        assert_eq!(excerpt("<acct-webhook https://h.example/a?key=s3cret>"), "<acct-webhook https://h.example/a ***");
        assert_eq!(excerpt("bounce-hook https://me:s3cret@h.example/a"), "bounce-hook https:// ***");
        assert_eq!(excerpt("bounce-hook https://h.example/a"), "bounce-hook https://h.example/a");
        assert_eq!(excerpt("tls-certificate /a.pem hunter2"), "tls-certificate /a.pem ***");
        assert_eq!(excerpt("max-smtp-out 20"), "max-smtp-out 20");
    }

    #[test]
    fn carets_stand_below_the_offending_text() {
        let d = Diagnostic {
            severity: Severity::Error,
            message: "no".into(),
            help: Some("do".into()),
            file: "c.conf".into(),
            line: 12,
            column: 3,
            length: 4,
            excerpt: "a bcde f".into(),
        };
        assert_eq!(d.render(), "c.conf:12:3: error: no\n 12 | a bcde f\n    |   ^^^^\n   help: do\n");
    }
}
