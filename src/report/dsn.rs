//! Delivery status notifications (RFC 3464, RFC 6533): the `message/delivery-status` part, in or out of a
//! `multipart/report`, and the same fields where a broken mail system wrote them as plain text.

use crate::event::{Action, EnhancedStatus, Reply};

use super::body;
use super::fields::{self, Fields};
use super::kind::{MAX_RESULTS, RcptResult, Recognised, ReportKind};
use super::mime::Mail;
use super::returned;
use super::signs::Signs;
use super::values;

/// Media types of the machine-readable part.
const STATUS_PARTS: &[&str] = &[
    "message/delivery-status",
    "message/global-delivery-status",
    "text/delivery-status",
    "message/delivery_status",
    "message/deliverystatus",
    "application/delivery-status",
];
/// Fields that speak of one recipient (RFC 3464, 2.3).
const RECIPIENT_FIELDS: &[&str] = &[
    "final-recipient",
    "original-recipient",
    "action",
    "status",
    "diagnostic-code",
    "x-actual-recipient",
    "remote-mta",
];
/// Those that name him.
const NAMING: &[&str] = &["final-recipient", "original-recipient"];
/// Fields a status group can begin with.
const GROUP_STARTS: &[&str] = &["reporting-mta", "final-recipient", "original-recipient"];

/// Groups of fields read: one for the message and one for each recipient; a few more for what stands between.
const MAX_GROUPS: usize = MAX_RESULTS + 64;

/// Reads a mail as a DSN; `None` when it is none.
pub(super) fn read(mail: &Mail<'_>, signs: Signs) -> Option<Recognised> {
    let mut found = Groups::default();
    match mail.part(STATUS_PARTS) {
        // Somebody may pass a report on inline: then it is not about mail of ours.
        Some(_) if signs.answered && !signs.of_a_program() => return None,
        // Fields that a person attached are a question about them.
        Some(_) if mail.media != "multipart/report" && !signs.any() => return None,
        // Some collect reports and send them on as one.
        Some(_) => {
            for part in mail.parts.iter().filter(|p| STATUS_PARTS.contains(&p.media.as_str())) {
                found.add(&part.bytes());
            }
        }
        None => {
            if !signs.of_a_bounce() {
                return None;
            }
            match from_first_group(mail.text().as_bytes()) {
                Some(fields) => found.add(fields),
                // A gateway that does not know the type calls it a file.
                None => found.add(from_first_group(&mail.part(&["application/octet-stream"])?.bytes_ahead())?),
            }
        }
    }
    let mut recognised = Recognised { format: "dsn", left_out: found.left_out, ..Recognised::default() };
    for group in joined(found.groups) {
        if is_recipient(&group) {
            if recognised.results.len() < MAX_RESULTS {
                recognised.results.push(result(&group, signs));
            } else {
                recognised.left_out += 1;
            }
        } else {
            recognised.env_id = first_said(&recognised.env_id, group.any(&["original-envelope-id"]));
            recognised.arrival_date = first_said(&recognised.arrival_date, group.any(&["arrival-date"]));
        }
        let reporting = values::mta(group.any(&["reporting-mta"])).0;
        if recognised.reporting_mta.is_empty() {
            recognised.reporting_mta = reporting;
        }
    }
    if recognised.results.is_empty() {
        return None;
    }
    // What the fields say in full needs no text.
    if recognised.results.iter().any(|r| r.diag.is_empty() || !r.rcpt.contains('@') || r.rcpt.starts_with('@')) {
        body::fill_from_text(&mut recognised.results, mail.human(), mail);
        body::explain(&mut recognised.results, mail.human());
    }
    recognised.original = returned::returned(mail);
    recognised.kind = kind(&recognised.results);
    Some(recognised)
}

/// Bounce when anybody failed, else status.
pub(super) fn kind(results: &[RcptResult]) -> ReportKind {
    let failed = results.iter().any(|r| matches!(r.action, None | Some(Action::Failed)));
    if failed { ReportKind::Bounce } else { ReportKind::Status }
}

/// The groups of fields of a report's parts, up to [`MAX_GROUPS`].
#[derive(Default)]
struct Groups {
    groups: Vec<Fields>,
    /// How many on recipients did not fit.
    left_out: usize,
}

impl Groups {
    /// Adds those of a part; a second Final-Recipient begins a new one, as some systems leave the blank line out.
    fn add(&mut self, bytes: &[u8]) {
        // Where every line is indented, none begins a field.
        let indented: Vec<u8>;
        let mut lines = bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty());
        let mut rest = bytes;
        if lines.all(|l| l.starts_with(b" ")) {
            indented = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b'\n');
            rest = &indented;
        }
        while !rest.is_empty() {
            let block = Fields::read(&mut rest);
            if block.is_empty() {
                continue;
            }
            let found = block.split_at_repeated("final-recipient");
            if self.groups.len() < MAX_GROUPS {
                self.groups.extend(found);
            } else {
                self.left_out += found.iter().filter(|group| is_recipient(group)).count();
            }
        }
    }
}

/// The groups, with those put together that a blank line behind the address has torn apart.
fn joined(groups: Vec<Fields>) -> Vec<Fields> {
    let has = |group: &Fields, names: &[&str]| names.iter().any(|n| group.first(n).is_some());
    let mut joined: Vec<Fields> = Vec::with_capacity(groups.len());
    for group in groups {
        let torn = has(&group, &["action", "status"])
            && !has(&group, NAMING)
            && joined.last().is_some_and(|last| has(last, NAMING) && !has(last, &["action", "status"]));
        match joined.last_mut().filter(|_| torn) {
            Some(last) => last.append(group),
            None => joined.push(group),
        }
    }
    joined
}

fn is_recipient(group: &Fields) -> bool {
    let known = group.iter().filter(|(n, _)| RECIPIENT_FIELDS.iter().any(|f| n.eq_ignore_ascii_case(f))).count();
    let named = NAMING.iter().any(|n| group.first(n).is_some());
    named || known >= 2
}

fn result(group: &Fields, signs: Signs) -> RcptResult {
    let (diag_type, given) = values::typed(group.any(&["diagnostic-code"]));
    // The exit status of a program says nothing that the text would not say better.
    let diag = if given.contains(char::is_alphabetic) { diagnostic(given) } else { String::new() };
    let status: Option<EnhancedStatus> = values::status_in(group.any(&["status"]));
    let action = group.any(&["action"]).split([' ', ';', '(']).next().unwrap_or("");
    let (remote_mta, remote_ip) = values::mta(group.any(&["remote-mta"]));
    let orcpt = group.any(&["original-recipient"]);
    let mut rcpt = values::recipient(group.any(&["final-recipient"]));
    // A name that only the reporting system knows (`ann@server`) is not what we sent to.
    let known_here_only = |a: &str| !a.rsplit('@').next().is_some_and(|domain| domain.contains(['.', ':']));
    if crate::event::Address::parse(&rcpt).is_err() || known_here_only(&rcpt) {
        let other = values::recipient(group.any(&["original-recipient", "x-actual-recipient"]));
        if other.contains('@') && !known_here_only(&other) || rcpt.is_empty() {
            rcpt = other;
        }
    }
    RcptResult {
        rcpt,
        orcpt: orcpt.to_owned(),
        action: action_named(action).or_else(|| assumed_action(status, signs)),
        status: closer(closer(status, &diag), given),
        diag_type: diag_type.to_ascii_lowercase(),
        diag,
        remote_mta,
        remote_ip,
    }
}

/// The reply in a diagnostic, or the diagnostic as it stands when there is none. Where the time to deliver was over
/// (RFC 3463, x.4.7), the reply behind it is only the last of several, and not why it ended.
pub(super) fn diagnostic(text: &str) -> String {
    let expired = text.split([' ', ':']).next().and_then(|word| word.parse::<EnhancedStatus>().ok());
    let expired = expired.is_some_and(|status| (status.subject, status.detail) == (4, 7));
    values::reply_line(values::reply_in(text).filter(|_| !expired).unwrap_or(text))
}

/// The action under its name, or what some systems write instead; `deliverable` answers a Postfix address probe.
fn action_named(name: &str) -> Option<Action> {
    name.parse().ok().or_else(|| match name.to_ascii_lowercase().as_str() {
        "failure" | "fail" | "undeliverable" | "rejected" => Some(Action::Failed),
        "delay" | "warning" => Some(Action::Delayed),
        "deliverable" | "deliver" => Some(Action::Delivered),
        _ => None,
    })
}

/// The closer of a report's status and that of its diagnostic: the code with which the other side began its reply, since
/// what the reporting system makes of it is less than that; else the status; that of the diagnostic's words when there
/// is none or it says nothing but the class (X.0.0). Where the classes disagree the status stands: what is temporary for
/// the one who decides it is not permanent for us. So does what is temporary for the other side where the report says
/// no more than that it gave up.
pub(super) fn closer(status: Option<EnhancedStatus>, diag: &str) -> Option<EnhancedStatus> {
    let replied = Reply::parse(diag).and_then(|r| r.status).filter(|s| (s.subject, s.detail) != (0, 0));
    let vague = |s: EnhancedStatus| (s.subject, s.detail) == (0, 0);
    if let Some(r) = replied
        && status.is_none_or(|s| s.class == r.class || vague(s) && r.class == 4)
    {
        return replied;
    }
    match status {
        Some(s) if (s.subject, s.detail) != (0, 0) => status,
        Some(s) => values::status_in(diag).filter(|d| d.class == s.class).or(status),
        None => values::status_in(diag),
    }
}

/// What a report without Action means (the field is required: RFC 3464, 2.3.3).
fn assumed_action(status: Option<EnhancedStatus>, signs: Signs) -> Option<Action> {
    match status.map(|s| s.class) {
        Some(2) => Some(Action::Delivered),
        Some(4) if signs.subject_delay => Some(Action::Delayed),
        _ => Some(Action::Failed),
    }
}

/// The text from the first line on that begins a status group.
fn from_first_group(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    loop {
        let here = rest;
        let line = fields::next_line(&mut rest)?;
        let named = fields::split(line).filter(|(_, value)| !value.is_empty());
        if named.is_some_and(|(name, _)| GROUP_STARTS.iter().any(|s| name.eq_ignore_ascii_case(s))) {
            return Some(here);
        }
    }
}

fn first_said(a: &str, b: &str) -> String {
    if a.is_empty() { b.to_owned() } else { a.to_owned() }
}
