//! Statistics for programs: every table as a list of objects, numbers as numbers, times in UTC, spans in seconds.

use serde_json::{Map, Value, json};

use super::page::{Datum, Page, Section, Table};

/// The page as one JSON object.
pub fn render(page: &Page) -> Value {
    let groups: Vec<Value> = page
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "timeFrame": rows(&group.frame),
                "statistics": sections(&group.sections),
            })
        })
        .collect();
    let selection: Vec<Value> =
        page.selection.iter().map(|(field, value)| json!({ "field": field, "startsWith": value })).collect();
    json!({
        "selection": selection,
        "splitBy": page.split_by,
        "groups": groups,
        "global": sections(&page.global),
        "notes": page.notes,
    })
}

fn sections(sections: &[Section]) -> Value {
    let sections = sections.iter().map(|section| {
        let tables: Vec<Value> = section
            .tables
            .iter()
            .map(|t| json!({ "table": t.key, "title": t.title, "rows": rows(t), "notes": t.notes }))
            .collect();
        (section.name.to_owned(), Value::from(tables))
    });
    Value::Object(sections.collect())
}

fn rows(table: &Table) -> Value {
    let row = |row: &Vec<Datum>| {
        let cells = table.columns.iter().zip(row).map(|(column, datum)| {
            let name = match *column {
                "" => "name",
                "%" => "percent",
                "bounced%" => "bouncedPercent",
                "%rcpt" => "percentOfRecipients",
                "% of delivered" => "percentOfDelivered",
                other => other,
            };
            (name.to_owned(), value(datum))
        });
        Value::Object(cells.collect::<Map<_, _>>())
    };
    table.rows.iter().map(row).collect()
}

fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Text(text) => text.as_str().into(),
        Datum::Count(n) => (*n).into(),
        Datum::Percent(f) | Datum::Seconds(f) | Datum::Kb(f) => ((f * 1000.0).round() / 1000.0).into(),
        Datum::Time(t) => t.timestamp().map_or(Value::Null, |t| t.to_string().into()),
        Datum::NotAvailable => Value::Null,
    }
}
