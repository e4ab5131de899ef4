//! Forms of report that only the operator knows: his `body-pattern-file`s, matched when no form of Carom's own fits
//! (reference/accounting.md, 8.4). The first file that matches decides.

use crate::config::BodyPattern;
use crate::config::pattern::Groups;
use crate::event::Action;

use super::bounds::MAX_REASON;
use super::kind::{Complaint, RcptResult, Recognised, ReportKind, recognise};
use super::mime::{self, Mail};
use super::{returned, values};

/// What a pattern made of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// As if Carom had known the form.
    pub report: Recognised,
    /// The name of the file.
    pub name: String,
    /// Its path.
    pub file: String,
    /// The original sender; empty when the pattern does not find it.
    pub originator: String,
    /// Each group and what it matched, for people.
    pub found: String,
    /// The same, for programs.
    pub groups: Vec<(String, String)>,
}

/// Reads a mail as processors with these patterns do: what Carom does not know itself is tried with `bounce`, then with
/// `feedback`, those of the bounce and of the feedback-loop processor.
pub fn recognise_with(bytes: &[u8], bounce: &[BodyPattern], feedback: &[BodyPattern]) -> (Recognised, Option<Matched>) {
    let report = recognise(bytes);
    if !matches!(report.kind, ReportKind::None | ReportKind::AutoReply) {
        return (report, None);
    }
    match read(bytes, bounce, false).or_else(|| read(bytes, feedback, true)) {
        Some(matched) => (matched.report.clone(), Some(matched)),
        None => (report, None),
    }
}

/// Tries `patterns` in their order on the decoded text of a mail; `feedback` says which processor they are of.
pub(super) fn read(bytes: &[u8], patterns: &[BodyPattern], feedback: bool) -> Option<Matched> {
    if patterns.is_empty() {
        return None;
    }
    let bytes = mime::bounded(bytes);
    let mail = Mail::read(&bytes);
    let text = text(&mail);
    patterns.iter().find_map(|pattern| {
        let groups = match pattern.pattern.groups(&text) {
            Ok(groups) => groups?,
            Err(error) => {
                tracing::warn!(file = %pattern.file.display(), "body pattern given up on this mail: {error}");
                return None;
            }
        };
        let mut report = if feedback { complaint(&groups) } else { bounce(&groups) };
        report.original = returned::returned(&mail);
        if report.complaint.is_some() && report.results.iter().all(|r| r.rcpt.is_empty()) {
            // What the returned header says of him, as with complaints of providers.
            let named = report.original.header("x-hmxmroriginalrecipient").map(values::recipient);
            report.results[0].rcpt = named.unwrap_or_default();
        }
        let all: Vec<(String, String)> =
            groups.iter().map(|(name, _)| (name.to_owned(), group(&groups, name))).collect();
        let found: Vec<String> = all.iter().map(|(name, text)| format!("{name}={text:?}")).collect();
        Some(Matched {
            originator: values::mailbox(&group(&groups, if feedback { "orig" } else { "or" })).to_owned(),
            found: found.join(" "),
            groups: all,
            name: pattern.name.clone(),
            file: pattern.file.display().to_string(),
            report,
        })
    })
}

/// The readable text, then what else is text; lines end in a line feed.
fn text(mail: &Mail<'_>) -> String {
    let mut text = mail.text().to_owned();
    let machine = ["message/delivery-status", "message/feedback-report", "text/rfc822-headers"];
    for part in mail.parts.iter().filter(|p| machine.contains(&p.media.as_str())) {
        text.push('\n');
        text.push_str(&part.text());
    }
    text.replace("\r\n", "\n")
}

fn group(groups: &Groups<'_, '_>, name: &str) -> String {
    let text = groups.get(name);
    text[..text.floor_char_boundary(MAX_REASON)].to_owned()
}

fn bounce(groups: &Groups<'_, '_>) -> Recognised {
    let original = values::recipient(&group(groups, "orig"));
    let named = values::recipient(&group(groups, "r"));
    let said = group(groups, "diag");
    let diag = values::reply_line(values::reply_in(&said).unwrap_or(&said));
    let status = values::status_in(&diag);
    let action = action(&group(groups, "action"), status.map(|s| s.class));
    let (remote_mta, remote_ip) = values::mta(&group(groups, "remMta"));
    let result = RcptResult {
        orcpt: if original.is_empty() { String::new() } else { format!("rfc822;{original}") },
        rcpt: if named.is_empty() { original } else { named },
        action: Some(action),
        status,
        diag,
        remote_mta,
        remote_ip,
        ..RcptResult::default()
    };
    Recognised {
        kind: if action == Action::Failed { ReportKind::Bounce } else { ReportKind::Status },
        results: vec![result],
        reporting_mta: values::mta(&group(groups, "repMta")).0,
        ..Recognised::default()
    }
}

/// The action in RFC 3464's words or others; without one, as the status says, and failed where nothing says.
fn action(word: &str, class: Option<u8>) -> Action {
    let lower = word.to_lowercase();
    match word.parse() {
        Ok(action) => action,
        Err(_) if ["delay", "warn", "defer", "retry"].iter().any(|w| lower.contains(w)) => Action::Delayed,
        Err(_) if lower.starts_with("deliver") || lower.starts_with("success") => Action::Delivered,
        Err(_) if lower.is_empty() && class == Some(2) => Action::Delivered,
        Err(_) => Action::Failed,
    }
}

fn complaint(groups: &Groups<'_, '_>) -> Recognised {
    let domain = [group(groups, "reportedDomainTo"), group(groups, "reportedDomainFrom")];
    let complaint = Complaint {
        feedback_type: "abuse".into(),
        source_ip: group(groups, "dlvSourceIp").trim_matches(['[', ']']).parse().ok(),
        reported_domain: domain[0].clone(),
        reporting_mta: domain[1].clone(),
        mail_from: values::mailbox(&group(groups, "orig")).to_owned(),
        ..Complaint::default()
    };
    let result = RcptResult { rcpt: values::recipient(&group(groups, "rcpt")), ..RcptResult::default() };
    Recognised {
        kind: ReportKind::Feedback,
        results: vec![result],
        reporting_mta: complaint.reporting_mta.clone(),
        complaint: Some(complaint),
        ..Recognised::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::body_pattern::{BOUNCE_GROUPS, FEEDBACK_GROUPS};
    use crate::event::EnhancedStatus;

    fn pattern(name: &str, text: &str, groups: &[&str]) -> BodyPattern {
        BodyPattern::read(std::path::Path::new(name), text, groups, &mut Vec::new()).unwrap()
    }

    const MAIL: &[u8] = b"From: gateway@acme.example\r\nSubject: Notice 17\r\nContent-Type: text/plain; \
        charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nZur=FCck: an <d=65e@example.org> fu=\r\n\
        er <ann@example.net> von <news@example.com>\r\nGrund: 550 5.1.1 kein solcher\r\n Nutzer\r\nvia \
        mx.example.org [192.0.2.7] / gw.acme.example\r\n";

    #[test]
    fn the_groups_of_a_bounce_become_its_fields_from_the_decoded_text() {
        let wrong = pattern("/etc/p/other", "nothing of that kind", BOUNCE_GROUPS);
        let right = pattern(
            "/etc/p/acme.pattern",
            "Zurück: an (?<r>\\S+) fuer (?<orig>\\S+) von (?<or>\\S+)\nGrund: (?<diag>(?s:.*?))\nvia (?<remMta>[^/]+) / (?<repMta>\\S+)",
            BOUNCE_GROUPS,
        );
        let found = read(MAIL, &[wrong, right], false).unwrap();
        assert_eq!((found.name.as_str(), found.originator.as_str()), ("acme.pattern", "news@example.com"));
        assert_eq!((found.report.kind, found.report.reporting_mta.as_str()), (ReportKind::Bounce, "gw.acme.example"));
        let r = &found.report.results[0];
        assert_eq!((r.rcpt.as_str(), r.orcpt.as_str()), ("dee@example.org", "rfc822;ann@example.net"));
        assert_eq!((r.diag.as_str(), r.status), ("550 5.1.1 kein solcher Nutzer", EnhancedStatus::new(5, 1, 1)));
        assert_eq!((r.remote_mta.as_str(), r.remote_ip), ("mx.example.org", "192.0.2.7".parse().ok()));
        assert!(found.found.contains("r=\"<dee@example.org>\""), "{}", found.found);
    }

    #[test]
    fn the_groups_of_a_complaint_become_its_fields() {
        let text = "von (?<orig>\\S+)(?s:.*)an <(?<rcpt>[^>]+)>|an <(?<rcpt2>[^>]+)>(?s:.*)via \\S+ \\[(?<dlvSourceIp>[0-9.]+)\\] / (?<reportedDomainFrom>\\S+)";
        let found = read(MAIL, &[pattern("p", text, FEEDBACK_GROUPS)], true).unwrap();
        let complaint = found.report.complaint.unwrap();
        assert_eq!((found.report.kind, complaint.source_ip), (ReportKind::Feedback, "192.0.2.7".parse().ok()));
        assert_eq!((complaint.reporting_mta.as_str(), complaint.feedback_type.as_str()), ("gw.acme.example", "abuse"));
    }

    #[test]
    fn the_action_decides_between_bounce_and_status() {
        for (word, class, expected) in [
            ("failed", None, Action::Failed),
            ("delayed", None, Action::Delayed),
            ("will retry", None, Action::Delayed),
            ("delivered", None, Action::Delivered),
            ("", Some(2), Action::Delivered),
            ("", Some(5), Action::Failed),
            ("", None, Action::Failed),
            ("zugestellt", None, Action::Failed),
        ] {
            assert_eq!(action(word, class), expected, "{word}");
        }
    }
}
