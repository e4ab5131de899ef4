//! The list on its way out: CSV, a line each, JSON lines; in words or as hashes.

use ring::{digest, hmac};

/// How subjects are written.
#[derive(Clone, Default)]
pub enum Naming {
    /// As they are.
    #[default]
    Plain,
    /// As SHA-256 over the folded subject, in hexadecimal.
    Sha256,
    /// As HMAC-SHA-256 under a key.
    Hmac(hmac::Key),
}

impl std::fmt::Debug for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Naming::Plain => "Plain",
            Naming::Sha256 => "Sha256",
            Naming::Hmac(_) => "Hmac",
        })
    }
}

/// What of an entry is written, in the order of the columns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line<'a> {
    /// Folded; empty where only a hash is kept.
    pub subject: &'a str,
    /// The key's hash in hexadecimal, which begins the plain SHA-256 sum where the list has no hash key.
    pub hash: &'a str,
    /// For whose mail.
    pub scope: &'a str,
    /// `active`, `held`, `removed`.
    pub state: &'a str,
    /// Who entered it.
    pub source: &'a str,
    /// The rule.
    pub rule: &'a str,
    /// When, as RFC 3339.
    pub time: &'a str,
    /// When it ends; empty for never.
    pub expires: &'a str,
    /// Provider of the event.
    pub provider: &'a str,
    /// Category of it.
    pub category: &'a str,
    /// The reply.
    pub reply: &'a str,
    /// The reason.
    pub note: &'a str,
}

/// Names of the columns.
pub const COLUMNS: [&str; 11] =
    ["subject", "scope", "state", "source", "rule", "time", "expires", "provider", "category", "reply", "note"];

impl<'a> Line<'a> {
    /// Of an entry as the server's answers have it.
    pub fn of_json(entry: &'a serde_json::Value) -> Line<'a> {
        let field = |name| entry.get(name).and_then(serde_json::Value::as_str).unwrap_or("");
        Line {
            subject: field("address"),
            // The key of an entry that is not global has its scope behind the hash.
            hash: field("key").get(..32).unwrap_or_default(),
            scope: field("scope"),
            state: field("state"),
            source: field("source"),
            rule: field("rule"),
            time: field("time"),
            expires: field("expires"),
            provider: field("provider"),
            category: field("category"),
            reply: field("reply"),
            note: field("note"),
        }
    }

    /// The columns, with the subject as it is to be written; `None` where only a hash is kept and that does not give
    /// what is asked for. A hash goes out without words that could name whom it stands for.
    pub fn columns(&self, naming: &Naming) -> Option<[String; 11]> {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let subject = match naming {
            Naming::Plain if self.subject.is_empty() => return None,
            Naming::Plain => self.subject.to_owned(),
            // Half a sum finds as well: Carom reads it, and who compares whole ones is told.
            Naming::Sha256 if self.subject.is_empty() => self.hash.to_owned(),
            Naming::Sha256 => hex(digest::digest(&digest::SHA256, self.subject.as_bytes()).as_ref()),
            Naming::Hmac(_) if self.subject.is_empty() => return None,
            Naming::Hmac(key) => hex(hmac::sign(key, self.subject.as_bytes()).as_ref()),
        };
        let words = |text: &str| if matches!(naming, Naming::Plain) { text.to_owned() } else { String::new() };
        let [scope, state, source, rule, time, expires, provider, category] =
            [self.scope, self.state, self.source, self.rule, self.time, self.expires, self.provider, self.category]
                .map(str::to_owned);
        let (reply, note) = (words(self.reply), words(self.note));
        Some([subject, scope, state, source, rule, time, expires, provider, category, reply, note])
    }
}

/// The columns as one line of CSV. A field that a spreadsheet would take for a formula is as it is: it is read back, and
/// what opens it is to be told that these are texts.
pub fn csv_line(columns: &[impl AsRef<str>]) -> String {
    let mut line = String::new();
    for (at, column) in columns.iter().enumerate() {
        let column = column.as_ref();
        if at > 0 {
            line.push(',');
        }
        if column.contains([',', '"', '\n', '\r']) || column.starts_with(['#', ' ']) {
            line.push('"');
            line.push_str(&column.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(column);
        }
    }
    line
}

/// The columns as a JSON object.
pub fn json_line(columns: &[String; 11]) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        COLUMNS.iter().zip(columns).map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    serde_json::Value::Object(object).to_string()
}
