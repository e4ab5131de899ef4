//! Notices of Amazon SES that come by mail through Amazon SNS: a JSON text instead of a report.
//!
//! Bounce, complaint, delivery and delay, as events of a configuration set or as notifications of an identity; the JSON
//! may stand in the `Message` of another one. SNS breaks lines by an exclamation mark, a line end and a blank.

use serde_json::Value;

use super::super::kind::{Complaint, MAX_RESULTS, Original, RcptResult, Recognised, ReportKind};
use super::super::mime::Mail;
use super::super::{dsn, values};
use crate::event::{Action, plain};

/// Headers kept of the mail it is about.
const MAX_HEADERS: usize = 256;

/// Reads a mail as such a notice; `None` when it is none.
pub(in crate::report) fn read(mail: &Mail<'_>) -> Option<Recognised> {
    let from_sns = mail.header.first("x-amz-sns-message-id").is_some()
        || mail.header.any(&["from"]).to_ascii_lowercase().contains("sns.amazonaws.com");
    if !from_sns {
        return None;
    }
    let text = mail.text();
    let text = text[text.find('{')?..].replace("!\r\n ", "").replace("!\n ", "");
    let mut notice = first_value(&text)?;
    if let Some(message) = notice.get("Message").and_then(Value::as_str) {
        notice = first_value(message)?;
    }
    read_notice(&made_plain(notice))
}

/// The first JSON value of a text; what follows it does not count.
fn first_value(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
}

/// The notice with every text in it made plain: JSON writes what it likes as `\u001b`. The depth is that of the parser.
fn made_plain(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain(&text).into_owned()),
        Value::Array(list) => list.into_iter().map(made_plain).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(name, value)| (plain(&name).into_owned(), made_plain(value))).collect()
        }
        other => other,
    }
}

fn read_notice(notice: &Value) -> Option<Recognised> {
    let kind = text(notice, "notificationType");
    let kind = if kind.is_empty() { text(notice, "eventType") } else { kind };
    let mail = &notice["mail"];
    let base = Recognised { format: "sns", original: original(mail), ..Recognised::default() };
    match kind {
        "Bounce" => {
            let bounce = &notice["bounce"];
            let results: Vec<_> = list(&bounce["bouncedRecipients"]).map(|r| failed(r, Action::Failed)).collect();
            let reporting_mta = values::mta(text(bounce, "reportingMTA")).0;
            Some(Recognised { kind: dsn::kind(&results), results, reporting_mta, ..base })
        }
        "DeliveryDelay" => {
            let results =
                list(&notice["deliveryDelay"]["delayedRecipients"]).map(|r| failed(r, Action::Delayed)).collect();
            Some(Recognised { kind: ReportKind::Status, results, ..base })
        }
        "Delivery" => {
            let delivery = &notice["delivery"];
            let diag = values::reply_line(text(delivery, "smtpResponse"));
            let status = dsn::closer(None, &diag);
            let result = |rcpt: &Value| RcptResult {
                rcpt: values::recipient(rcpt.as_str().unwrap_or("")),
                action: Some(Action::Delivered),
                status,
                diag: diag.clone(),
                ..RcptResult::default()
            };
            let reporting_mta = values::mta(text(delivery, "reportingMTA")).0;
            let results = list(&delivery["recipients"]).map(result).collect();
            Some(Recognised { kind: ReportKind::Status, results, reporting_mta, ..base })
        }
        "Complaint" => {
            let complaint = &notice["complaint"];
            let named = text(complaint, "complaintFeedbackType").to_ascii_lowercase();
            let result =
                |r: &Value| RcptResult { rcpt: values::recipient(text(r, "emailAddress")), ..RcptResult::default() };
            Some(Recognised {
                kind: ReportKind::Feedback,
                results: list(&complaint["complainedRecipients"]).map(result).collect(),
                complaint: Some(Complaint {
                    feedback_type: if named.is_empty() { "abuse".into() } else { named },
                    user_agent: text(complaint, "userAgent").to_owned(),
                    source_ip: text(mail, "sourceIp").parse().ok(),
                    mail_from: values::mailbox(text(mail, "source")).to_owned(),
                    ..Complaint::default()
                }),
                ..base
            })
        }
        _ => None,
    }
    .filter(|r| !r.results.is_empty())
}

fn failed(r: &Value, otherwise: Action) -> RcptResult {
    let (diag_type, diag) = values::typed(text(r, "diagnosticCode"));
    let diag = dsn::diagnostic(diag);
    RcptResult {
        rcpt: values::recipient(text(r, "emailAddress")),
        action: text(r, "action").parse().ok().or(Some(otherwise)),
        status: dsn::closer(values::status_in(text(r, "status")), &diag),
        diag_type: diag_type.to_ascii_lowercase(),
        diag,
        ..RcptResult::default()
    }
}

fn original(mail: &Value) -> Original {
    let common = &mail["commonHeaders"];
    let headers: Vec<(String, String)> = list(&mail["headers"])
        .take(MAX_HEADERS)
        .map(|h| (text(h, "name").to_owned(), text(h, "value").to_owned()))
        .collect();
    let named = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.as_str());
    let first = |name: &str, of: &Value| of.as_str().map_or_else(|| named(name).to_owned(), str::to_owned);
    Original {
        message_id: first("message-id", &common["messageId"]).trim_matches(['<', '>', ' ']).to_owned(),
        from: first("from", &common["from"][0]),
        subject: first("subject", &common["subject"]),
        headers,
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten().take(MAX_RESULTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_escapes_is_made_plain() {
        let notice = r#"{"notificationType":"Bounce","mail":{"commonHeaders":{"subject":"a\u001b[31m\r\nb\u202e"},
            "headers":[{"name":"X-A","value":"\u009b2J"}]},"bounce":{"bouncedRecipients":[{"emailAddress":
            "ann@example.net","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 \u001b[2Jgone"}]}}"#;
        let report = read_notice(&made_plain(first_value(notice).unwrap())).unwrap();
        assert_eq!(report.original.subject, "a\u{fffd}[31m  b\u{fffd}");
        assert_eq!(report.original.headers, [("X-A".to_owned(), "\u{fffd}2J".to_owned())]);
        assert_eq!(report.results[0].diag, "550 5.1.1 \u{fffd}[2Jgone");
    }
}
