//! What the ways in for lists (command line, HTTP) share: a line of a file as a row of an import.

use super::suppression::ImportRow;
use crate::event::Time;
use crate::suppress::transfer::Row;

/// Longest text of a row that is sent on, in bytes; entries keep no more.
const MAX_TEXT: usize = 500;

/// A row as it is sent: the operator's scope, end and reason hold where the file has none of its own.
pub fn row_of(row: Row, for_mail: &str, expires: Time, reason: &str) -> ImportRow {
    let cut = |text: String| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
    ImportRow {
        subject: row.subject,
        rule: if row.rule == "import" { String::new() } else { row.rule },
        time: row.time.0,
        category: cut(row.category),
        reply: cut(row.reply),
        note: cut(if row.note.is_empty() { reason.to_owned() } else { row.note }),
        scope: match row.scope {
            Some(own) if for_mail.is_empty() => own.to_string(),
            _ => for_mail.to_owned(),
        },
        expires: if row.expires.is_known() && !expires.is_known() { row.expires.0 } else { expires.0 },
    }
}
