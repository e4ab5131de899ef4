//! Events to JSON, one object each: the fields of the table by their names, as `carom find --json` and `carom acct tail
//! --json` show them. What is not known is left out; times are RFC 3339 in UTC; lists are arrays; `headers` and `arf` are
//! objects.

use serde_json::{Map, Value as Json};

use super::closing::Gap;
use super::columns::{Columns, Source};
use crate::event::fields::Value;
use crate::event::{Event, Pairs, StoreId, Time};

/// Writes the records of one output.
#[derive(Debug)]
pub struct JsonRows {
    columns: Columns,
}

impl JsonRows {
    /// For these columns.
    pub const fn new(columns: Columns) -> JsonRows {
        JsonRows { columns }
    }

    /// Appends the record of a classified event to `out`, without a line end; none is in it.
    pub fn push(&self, out: &mut Vec<u8>, event: &Event<'_>) {
        let mut named: [Map<String, Json>; 2] = Default::default();
        out.push(b'{');
        let begin = out.len();
        for column in self.columns.iter() {
            let found = self.columns.value(column, event);
            match &column.source {
                Source::Header(name) => put(&mut named[0], name, text(found)),
                Source::Arf(name) => {
                    for one in super::columns::arf_values(event.arf, name).filter(|_| found != Value::Absent) {
                        put(&mut named[1], name, Some(one));
                    }
                }
                Source::Field(_) => {
                    let Some(json) = value(found) else { continue };
                    member(out, begin, &column.name, &json);
                }
            }
        }
        for (name, map) in ["headers", "arf"].into_iter().zip(named) {
            if !map.is_empty() {
                member(out, begin, name, &Json::Object(map));
            }
        }
        out.push(b'}');
    }

    /// The record that stands for events that were left out, and its event id.
    pub fn gap(&self, out: &mut Vec<u8>, store: StoreId, gap: &Gap) -> String {
        let id = format!("{store}-{}..{}", gap.first, gap.last);
        let time = Time(gap.at).timestamp().map(|t| t.to_string());
        let record = serde_json::json!({
            "type": "gap",
            "timeLogged": time,
            "eventId": id,
            "dsnDiag": gap.words(),
            "gap": { "first": gap.first, "last": gap.last },
        });
        out.extend_from_slice(record.to_string().as_bytes());
        id
    }
}

const fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Values of one name stand behind each other with commas, as in HTTP.
fn put(map: &mut Map<String, Json>, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    match map.get_mut(name) {
        Some(Json::String(known)) => {
            known.push_str(", ");
            known.push_str(value);
        }
        _ => {
            map.insert(name.to_owned(), value.into());
        }
    }
}

fn member(out: &mut Vec<u8>, begin: usize, name: &str, value: &Json) {
    if out.len() > begin {
        out.push(b',');
    }
    // Writing to a Vec does not fail, and what is written has text for keys.
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}

fn pairs(pairs: Pairs<'_>) -> Json {
    let mut map = Map::new();
    for (name, value) in pairs.iter() {
        let known = map.keys().find(|k| k.eq_ignore_ascii_case(name)).cloned();
        put(&mut map, known.as_deref().unwrap_or(name), Some(value));
    }
    Json::Object(map)
}

/// A value of the field table; `None` when there is none.
pub fn value(value: Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Absent => return None,
        Value::Text(text) => text.into(),
        Value::Time(t) => t.timestamp()?.to_string().into(),
        Value::Number(n) => n.into(),
        Value::Bool(b) => b.into(),
        Value::List(words) => words.split(',').map(|w| Json::from(w.trim())).collect(),
        Value::Pairs(list) if list.iter().next().is_none() => return None,
        Value::Pairs(list) => pairs(list),
        composed => {
            let mut text = Vec::new();
            composed.push_text(&mut text);
            String::from_utf8_lossy(&text).into_owned().into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AcctFile, AcctFormat, FieldChoice};
    use crate::event::record::PairsBuf;
    use crate::event::{EnhancedStatus, Kind, Kinds};

    fn record(file: &AcctFile, event: &Event<'_>) -> Json {
        let rows = JsonRows::new(Columns::of(file).unwrap());
        let mut out = Vec::new();
        rows.push(&mut out, event);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_record_has_the_names_of_the_table_and_the_types_of_the_schema() {
        let file = AcctFile { records: Kinds::ALL, ..AcctFile::new("x".into(), AcctFormat::Webhook) };
        let mut arf = PairsBuf::default();
        arf.push("Original-Rcpt-To", "a@b.example");
        arf.push("original-rcpt-to", "c@d.example");
        let event = Event {
            rcpt: "ann@b.example",
            status: EnhancedStatus::new(5, 1, 1),
            diag: "smtp;550 no\nsuch \"user\"",
            dlv_esmtp: "PIPELINING,8BITMIME",
            attempt: 3,
            seq: 7,
            store: StoreId(0xab),
            ..Event::new(Kind::Bounced, Time(1_770_000_000_500_000))
        };
        let json = record(&file, &event);
        assert_eq!(json["type"], "b");
        assert_eq!(json["timeLogged"], "2026-02-02T02:40:00.5Z");
        assert_eq!(json["dsnStatus"], "5.1.1 (bad destination mailbox address)");
        assert_eq!(json["dsnDiag"], "smtp;550 no\nsuch \"user\"");
        assert_eq!(json["dlvEsmtpAvailable"], serde_json::json!(["PIPELINING", "8BITMIME"]));
        assert_eq!((&json["attempt"], &json["orig"]), (&3.into(), &"".into()));
        assert_eq!(json["eventId"], "00000000000000ab-7");
        assert!(json.get("vmta").is_none() && json.get("headers").is_none(), "{json}");
        let feedback = Event { arf: arf.as_pairs(), ..Event::new(Kind::Feedback, Time(1)) };
        let json = record(&file, &feedback);
        assert_eq!(json["arf"], serde_json::json!({ "Original-Rcpt-To": "a@b.example, c@d.example" }));
    }

    #[test]
    fn fields_that_were_chosen_are_those_that_stand_there() {
        let mut file = AcctFile { records: Kinds::ALL, ..AcctFile::new("x".into(), AcctFormat::Webhook) };
        let list = [FieldChoice::Field("rcpt".into()), FieldChoice::Header("X-Job".into())];
        file.record_fields.insert(Kind::Bounced, list.to_vec());
        let mut headers = PairsBuf::default();
        headers.push("x-job", "spring");
        headers.push("Subject", "hi");
        let event = Event {
            rcpt: "ann@b.example",
            job: "j",
            headers: headers.as_pairs(),
            ..Event::new(Kind::Bounced, Time::from_secs(1_770_000_000))
        };
        let json = record(&file, &event);
        assert_eq!(json["headers"], serde_json::json!({ "X-Job": "spring" }));
        assert_eq!(json["rcpt"], "ann@b.example");
        assert!(json.get("jobId").is_none() && json.get("eventId").is_some(), "{json}");
        // A type without a list has everything.
        let json = record(&file, &Event { kind: Kind::Delivered, ..event });
        assert_eq!(json["jobId"], "j");
        assert_eq!(json["headers"]["Subject"], "hi");
    }
}
