#![expect(clippy::disallowed_methods, reason = "edge: asks the terminal and the environment for colour")]
//! Colour and alignment: colour only on a terminal, and never when `NO_COLOR` is set (no-color.org).

use std::io::IsTerminal;
use std::ops::Range;

use comfy_table::{CellAlignment, Table};

use crate::event::plain;

/// Whether standard output takes colour, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// For standard output as it is.
    pub(super) fn stdout() -> Paint {
        Paint::on(std::io::stdout().is_terminal())
    }

    /// For standard error as it is.
    pub(super) fn stderr() -> Paint {
        Paint::on(std::io::stderr().is_terminal())
    }

    fn on(terminal: bool) -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Paint(terminal && !refused && !dumb)
    }

    #[cfg(test)]
    pub(super) const fn plain() -> Paint {
        Paint(false)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// The text with one part of it marked: by colour, or where there is none by `[[` and `]]`.
    pub(super) fn marked(self, text: &str, part: &Range<usize>) -> String {
        let (Some(before), Some(inside), Some(after)) =
            (text.get(..part.start), text.get(part.clone()), text.get(part.end..))
        else {
            return text.to_owned();
        };
        match self.0 {
            true => format!("{before}{}{after}", self.wrap("1;30;43", inside)),
            false => format!("{before}[[{inside}]]{after}"),
        }
    }
}

/// A table without lines; the columns named in `right` are numbers.
pub(super) fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    right: &[usize],
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share in per cent, as precise as a small one needs.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let share = part as f64 * 100.0 / whole as f64;
    if share > 0.0 && share < 0.1 { format!("{share:.3} %") } else { format!("{share:.1} %") }
}

/// The same for programs: from 0 to 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e6).round() / 1e6 }
}

/// A reply on one line, cut for people at `most` characters; control characters would move the cursor.
pub(super) fn on_one_line(text: &str, most: usize) -> String {
    let mut out: String = plain(text).chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        out.push_str(" ...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_small_shares_are_not_nothing() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(1, 10_000), "0.010 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "-");
    }

    #[test]
    fn the_matched_part_is_marked_also_without_colour() {
        assert_eq!(Paint::plain().marked("550 user unknown", &(4..8)), "550 [[user]] unknown");
        assert_eq!(Paint(true).marked("ab", &(1..2)), "a\x1b[1;30;43mb\x1b[0m");
        assert_eq!(Paint::plain().marked("é", &(0..1)), "é");
    }
}
