//! Statistics as one HTML page that needs nothing else. Everything that came from outside is escaped by the template.

use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, html};

use super::page::{Datum, Page, Section, Table};
use super::text::show;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b2733;--soft:#5b6b7b;--line:#d9e0e7;--bar:#8fb8de;--back:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#dfe6ee;--soft:#93a3b3;--line:#33404d;--bar:#2f5f8f;--back:#14191f}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:2rem auto;max-width:70rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;border-bottom:2px solid var(--line);margin-top:2.5rem}h3{font-size:1rem;margin:1.5rem 0 .3rem}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;border-bottom:1px solid var(--line)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
p.note{color:var(--soft);margin:.2rem 0}svg{display:block}rect{fill:var(--bar)}";

/// The page as HTML; times in `zone`.
pub fn render(page: &Page, zone: &TimeZone) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Accounting statistics" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "Accounting statistics" }
                @if !page.selection.is_empty() {
                    p { "Only records with: " @for (name, value) in &page.selection { (name) " " b { (value) "…" } " " } }
                }
                @for group in &page.groups {
                    @if let Some(name) = &group.name { h2 { (page.split_by.as_deref().unwrap_or("")) ": " (name) } }
                    (table(&group.frame, zone))
                    (sections(&group.sections, zone))
                }
                (sections(&page.global, zone))
                @for note in &page.notes { p.note { (note) } }
            }
        }
    };
    markup.into_string() + "\n"
}

fn sections(sections: &[Section], zone: &TimeZone) -> Markup {
    html! {
        @for section in sections { section id=(section.name) { @for t in &section.tables { (table(t, zone)) } } }
    }
}

fn table(table: &Table, zone: &TimeZone) -> Markup {
    let is_text = |column: usize| table.rows.iter().any(|row| matches!(row[column], Datum::Text(_)));
    let class = |column: usize| if is_text(column) { None } else { Some("n") };
    let length = |row: &[Datum], column: usize| match row[column] {
        Datum::Percent(f) | Datum::Seconds(f) | Datum::Kb(f) => f,
        Datum::Count(n) => n as f64,
        _ => 0.0,
    };
    // A row of totals would dwarf the others.
    let rows = || table.rows.iter().filter(|row| row.first() != Some(&Datum::Text("total".to_owned())));
    let longest = |column: usize| rows().map(|row| length(row, column)).fold(0.0, f64::max);
    html! {
        h3 { (table.title) }
        @if table.rows.is_empty() { p.note { "none" } } @else {
            table {
                tr {
                    @for (column, name) in table.columns.iter().enumerate() { th class=[class(column)] { (name) } }
                    @if table.bars.is_some() { th {} }
                }
                @for row in &table.rows {
                    tr {
                        @for (column, datum) in row.iter().enumerate() {
                            td class=[class(column)] { (show(datum, zone)) }
                        }
                        @if let Some(column) = table.bars {
                            td { (bar(length(row, column) / longest(column).max(f64::MIN_POSITIVE))) }
                        }
                    }
                }
            }
        }
        @for note in &table.notes { p.note { (note) } }
    }
}

fn bar(share: f64) -> Markup {
    let width = format!("{:.0}", share.clamp(0.0, 1.0) * 160.0);
    html! { svg width="160" height="14" role="presentation" { rect width=(width) height="12" y="1" rx="2" {} } }
}
