//! Statistics for a terminal.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::event::plain;

use super::page::{Datum, Page, Section, Table};

/// The page as text; times in `zone`.
pub fn render(page: &Page, zone: &TimeZone) -> String {
    let mut out = String::new();
    if !page.selection.is_empty() {
        let selection: Vec<_> = page.selection.iter().map(|(name, value)| format!("{name} {value}...")).collect();
        let _ = writeln!(out, "Only records with: {}\n", selection.join(", "));
    }
    for group in &page.groups {
        if let Some(name) = &group.name {
            let line = format!("{}: {name}", page.split_by.as_deref().unwrap_or(""));
            let _ = writeln!(out, "{line}\n{}\n", "=".repeat(line.chars().count()));
        }
        table(&mut out, &group.frame, zone);
        sections(&mut out, &group.sections, zone);
    }
    sections(&mut out, &page.global, zone);
    for note in &page.notes {
        let _ = writeln!(out, "note: {note}");
    }
    // One empty line between tables, none at the end.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn sections(out: &mut String, sections: &[Section], zone: &TimeZone) {
    sections.iter().flat_map(|s| &s.tables).for_each(|t| table(out, t, zone));
}

fn table(out: &mut String, table: &Table, zone: &TimeZone) {
    let _ = writeln!(out, "{}\n{}", table.title, "-".repeat(table.title.chars().count()));
    if table.rows.is_empty() {
        out.push_str("  none\n");
    } else {
        let cells: Vec<Vec<String>> =
            table.rows.iter().map(|row| row.iter().map(|d| show(d, zone)).collect()).collect();
        let width = |column: usize| {
            let heading = table.columns[column].chars().count();
            cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(heading)
        };
        let widths: Vec<_> = (0..table.columns.len()).map(width).collect();
        let right = |column: usize| table.rows.iter().all(|row| !matches!(row[column], Datum::Text(_)));
        let headings: Vec<_> = table.columns.iter().map(|c| (*c).to_owned()).collect();
        for row in std::iter::once(&headings).filter(|h| h.iter().any(|c| !c.is_empty())).chain(&cells) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let _ = if right(column) { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:<width$}") };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    for note in &table.notes {
        let _ = writeln!(out, "  ({note})");
    }
    out.push('\n');
}

/// One value for people.
pub(super) fn show(datum: &Datum, zone: &TimeZone) -> String {
    match datum {
        // What a remote server said is not to move the cursor.
        Datum::Text(text) => plain(text).into_owned(),
        Datum::Count(n) => n.to_string(),
        Datum::Percent(p) => format!("{p:.1} %"),
        Datum::Seconds(s) => duration(*s),
        Datum::Kb(kb) => format!("{kb:.1}"),
        Datum::Time(t) => t
            .timestamp()
            .map(|t| t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%z").to_string())
            .unwrap_or_default(),
        Datum::NotAvailable => "n/a".to_owned(),
    }
}

/// `4.2s`, `1m05s`, `2h00m05s`, `1d03h00m`.
fn duration(seconds: f64) -> String {
    // Spans are counted, not measured: they are far from where a float loses whole seconds.
    let whole = seconds.round() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match whole {
        0..60 if seconds < 59.95 => format!("{seconds:.1}s"),
        0..3600 => format!("{minutes}m{rest:02}s"),
        3600..86_400 => format!("{hours}h{minutes:02}m{rest:02}s"),
        _ => format!("{days}d{hours:02}h{minutes:02}m"),
    }
}
