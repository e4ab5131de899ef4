//! Feedback reports (RFC 5965, with the fields of RFC 6591 and RFC 6692), X-ARF, SpamCop's notes, and Microsoft's JMRP,
//! which attaches the mail complained about and names the recipient in a header field of it.

use super::fields::Fields;
use super::kind::{Complaint, MAX_RESULTS, Original, RcptResult, Recognised, ReportKind};
use super::mime::Mail;
use super::{returned, values};

/// The header field by which Microsoft names who complained.
const JMRP_RECIPIENT: &str = "x-hmxmroriginalrecipient";

/// Fields read of a feedback report: one for each recipient, and some more that count only how many were left out.
const MOST_FIELDS: usize = 16 * MAX_RESULTS;

/// Who sends them.
const JMRP_SENDER: &str = "staff@hotmail.com";

/// Reads a mail as a complaint; `None` when it is none.
pub(super) fn read(mail: &Mail<'_>) -> Option<Recognised> {
    match mail.part(&["message/feedback-report", "text/feedback-report"]) {
        Some(part) => {
            let bytes = part.bytes();
            let fields = Fields::read_up_to(MOST_FIELDS, &mut &bytes[..]);
            // Feedback-Type, User-Agent and Version are required (RFC 5965, 3.1); providers leave out one or the other.
            let known = ["feedback-type", "user-agent", "version"].iter().filter(|n| fields.first(n).is_some()).count();
            (known >= 2).then(|| feedback_report(fields, returned::returned_part(mail)))
        }
        None => jmrp(mail)
            .or_else(|| as_text(mail))
            .or_else(|| attached(mail))
            .or_else(|| xarf(mail))
            .or_else(|| spamcop(mail)),
    }
}

/// The fields of a feedback report in a part of another type, in a mail that says it is such a report.
fn as_text(mail: &Mail<'_>) -> Option<Recognised> {
    if mail.report_type != "feedback-report" {
        return None;
    }
    let text = mail.text();
    let start = memchr::memmem::find(text.as_bytes(), b"Feedback-Type:")?;
    if start > 0 && !text[..start].ends_with('\n') {
        return None;
    }
    let fields = Fields::read_up_to(MOST_FIELDS, &mut &text.as_bytes()[start..]);
    Some(feedback_report(fields, returned::returned(mail)))
}

/// The fields of a feedback report as a file beside the mail that it is about, in a mail that says nothing of it.
fn attached(mail: &Mail<'_>) -> Option<Recognised> {
    mail.part(&["message/rfc822", "text/rfc822-headers"])?;
    let fields = mail.parts.iter().skip(1).filter(|p| p.media.starts_with("text/")).find_map(|part| {
        let fields = Fields::read_up_to(MOST_FIELDS, &mut part.text().as_bytes());
        ["feedback-type", "user-agent", "version"].iter().all(|n| fields.first(n).is_some()).then_some(fields)
    })?;
    Some(feedback_report(fields, returned::returned_part(mail)))
}

/// A note of SpamCop's to those responsible for an address: the subject names it, the offending message stands in the
/// text. Who complained is never said.
fn spamcop(mail: &Mail<'_>) -> Option<Recognised> {
    let from = values::mailbox(mail.header.any(&["from"])).to_ascii_lowercase();
    let subject = mail.subject();
    let source = subject.trim_start().strip_prefix("[SpamCop (").filter(|_| from.ends_with("@reports.spamcop.net"))?;
    let text = mail.text();
    let mut offending = text.split_once("[ Offending message ]").map_or("", |(_, m)| m.trim_start()).as_bytes();
    let complaint = Complaint {
        feedback_type: "abuse".into(),
        user_agent: "SpamCop".into(),
        source_ip: source.split(')').next().and_then(|ip| ip.trim().parse().ok()),
        ..Complaint::default()
    };
    Some(Recognised {
        kind: ReportKind::Feedback,
        format: "spamcop",
        results: results(Vec::new(), ""),
        original: values::original(Fields::read(&mut offending)),
        complaint: Some(complaint),
        ..Recognised::default()
    })
}

/// X-ARF (x-arf.org, version 0.1 and 0.2): the fields stand as YAML in a text part of a mail whose header says so.
fn xarf(mail: &Mail<'_>) -> Option<Recognised> {
    if mail.header.first("x-arf").is_none() && mail.header.first("x-xarf").is_none() {
        return None;
    }
    let fields = mail.parts.iter().filter(|p| p.media.starts_with("text/")).find_map(|part| {
        let fields = Fields::read(&mut part.text().as_bytes());
        ["reported-from", "report-type", "category"].iter().all(|n| fields.first(n).is_some()).then_some(fields)
    })?;
    // It reports attacks on log-ins and the like as well.
    let original = returned::returned_part(mail);
    if original.headers.is_empty() && !fields.any(&["report-type"]).eq_ignore_ascii_case("spam") {
        return None;
    }
    let category = fields.any(&["category"]).to_ascii_lowercase();
    let mut report = feedback_report(fields, original);
    report.format = "xarf";
    if let Some(complaint) = &mut report.complaint {
        complaint.feedback_type = category;
    }
    Some(report)
}

fn feedback_report(fields: Fields, original: Original) -> Recognised {
    // Removal-Recipient is that of an opt-out report (a draft of RFC 5965 had it, and it is still seen).
    let named = ["original-rcpt-to", "removal-recipient"].into_iter().flat_map(|n| fields.all(n));
    let mut rcpts: Vec<String> = named.map(values::recipient).filter(|r| !r.is_empty()).collect();
    if rcpts.is_empty() {
        rcpts = named_by_original(&original);
    }
    let (remote_mta, _) = values::mta(fields.any(&["received-from-mta"]));
    let complaint = Complaint {
        feedback_type: fields.any(&["feedback-type"]).trim().to_ascii_lowercase(),
        user_agent: fields.any(&["user-agent"]).to_owned(),
        source_ip: fields.any(&["source-ip", "source"]).trim_matches(['[', ']', ' ']).parse().ok(),
        reported_domain: fields.any(&["reported-domain"]).to_owned(),
        reporting_mta: values::mta(fields.any(&["reporting-mta"])).0,
        mail_from: values::mailbox(fields.any(&["original-mail-from"])).to_owned(),
        fields: Vec::new(),
    };
    Recognised {
        kind: ReportKind::Feedback,
        format: "arf",
        results: results(rcpts, &remote_mta),
        original,
        reporting_mta: complaint.reporting_mta.clone(),
        env_id: fields.any(&["original-envelope-id"]).to_owned(),
        arrival_date: fields.any(&["arrival-date", "received-date"]).to_owned(),
        complaint: Some(Complaint { fields: fields.into_pairs(), ..complaint }),
        ..Recognised::default()
    }
}

/// JMRP: no machine-readable part; the attached mail has [`JMRP_RECIPIENT`].
fn jmrp(mail: &Mail<'_>) -> Option<Recognised> {
    mail.part(&["message/rfc822"])?;
    let original = returned::returned_part(mail);
    // Older complaints name nobody: sender and subject are always the same.
    let by_subject = || {
        values::mailbox(mail.header.any(&["from"])).eq_ignore_ascii_case(JMRP_SENDER)
            && mail.subject().trim_start().to_ascii_lowercase().starts_with("complaint about message from")
    };
    if original.header(JMRP_RECIPIENT).is_none() && !by_subject() {
        return None;
    }
    let rcpts = named_by_original(&original);
    let source_ip = original.header("x-originating-ip").or_else(|| original.header("x-sender-ip"));
    let complaint = Complaint {
        feedback_type: "abuse".into(),
        source_ip: source_ip.and_then(|v| v.trim_matches(['[', ']', ' ']).parse().ok()),
        ..Complaint::default()
    };
    Some(Recognised {
        kind: ReportKind::Feedback,
        format: "jmrp",
        results: results(rcpts, ""),
        original,
        complaint: Some(complaint),
        ..Recognised::default()
    })
}

/// One result for each recipient; one without an address when the provider redacted it.
fn results(rcpts: Vec<String>, remote_mta: &str) -> Vec<RcptResult> {
    let result = |rcpt| RcptResult { rcpt, remote_mta: remote_mta.to_owned(), ..RcptResult::default() };
    if rcpts.is_empty() { vec![result(String::new())] } else { rcpts.into_iter().map(result).collect() }
}

/// The recipient as the returned header names it: by a provider's own field, else To when it has one address only.
fn named_by_original(original: &Original) -> Vec<String> {
    for name in [JMRP_RECIPIENT, "delivered-to", "x-original-to", "envelope-to", "to"] {
        let Some(value) = original.header(name) else { continue };
        let mut found = values::addresses(value);
        if let (Some(one), None) = (found.next(), found.next()) {
            return vec![one.to_owned()];
        }
    }
    Vec::new()
}
