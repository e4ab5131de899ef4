//! Is a mail a report, and what does it say? The one entrance to everything that reads mail content in this room.
//!
//! [`recognise`] never fails and never panics: what is no report, or can't be read as one, has kind
//! [`ReportKind::None`]. It reads a bounded part of the mail (2 MiB, 64 parts, 8 levels) in linear time. Ordinary mail
//! that quotes or carries a bounce is not a report: only a mail's own parts count, and its text only where the header
//! shows that a mail system wrote it.

use std::net::IpAddr;

use crate::event::{Action, EnhancedStatus, Reply};

use super::bounds::MAX_JOINED;
use super::legacy::sns;
use super::mime::{self, Mail};
use super::signs::Signs;
use super::{arf, body, distinct, dsn, mdn};

pub use super::bounds::MAX_RESULTS;

/// What a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReportKind {
    /// At least one recipient's mail was given up (RFC 3464, action `failed`).
    Bounce,
    /// Delayed, delivered, relayed or expanded; nobody failed.
    Status,
    /// A complaint or another feedback report (RFC 5965).
    Feedback,
    /// A vacation notice, a read receipt or another automatic answer (RFC 3834, RFC 8098).
    AutoReply,
    /// No report.
    #[default]
    None,
}

impl ReportKind {
    /// The name as `carom report --json` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            ReportKind::Bounce => "bounce",
            ReportKind::Status => "status",
            ReportKind::Feedback => "feedback",
            ReportKind::AutoReply => "auto-reply",
            ReportKind::None => "none",
        }
    }
}

/// What a mail says, if it is a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recognised {
    /// What it is.
    pub kind: ReportKind,
    /// The form that was understood: `dsn`, `qmail`, `text`, `arf`, `jmrp`; empty for what is no report.
    pub format: &'static str,
    /// One for each recipient it speaks of, up to [`MAX_RESULTS`]; what it says of one in several places is joined.
    pub results: Vec<RcptResult>,
    /// Further places at which it speaks of a recipient: at least so many, as a report is not read without end.
    pub left_out: usize,
    /// The mail it is about, as far as it was returned.
    pub original: Original,
    /// Who made the report: Reporting-MTA without its type.
    pub reporting_mta: String,
    /// Original-Envelope-Id.
    pub env_id: String,
    /// Arrival-Date, as it stands.
    pub arrival_date: String,
    /// What only feedback reports have.
    pub complaint: Option<Complaint>,
    /// It declares itself a report (`multipart/report`) and nothing in it could be read: what `forward-errors-to` is for.
    pub unreadable: bool,
}

/// What a report says of one recipient. Empty text is "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptResult {
    /// The address: Final-Recipient without its type, or what the form has instead.
    pub rcpt: String,
    /// Original-Recipient with its type, such as `rfc822;ann@example.net`.
    pub orcpt: String,
    /// What happened.
    pub action: Option<Action>,
    /// Enhanced status code.
    pub status: Option<EnhancedStatus>,
    /// Type of the diagnostic, lower-cased, such as `smtp`.
    pub diag_type: String,
    /// The diagnostic without its type, lines joined; the reply itself where there is one.
    pub diag: String,
    /// Remote-MTA without its type and address.
    pub remote_mta: String,
    /// Address of the remote MTA, where it was given.
    pub remote_ip: Option<IpAddr>,
}

impl RcptResult {
    /// The SMTP reply code that `diag` begins with.
    pub fn reply_code(&self) -> Option<u16> {
        Reply::parse(&self.diag).map(|r| r.code)
    }
}

/// The returned message or its header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Original {
    /// Message-ID without angle brackets; empty when it was not returned.
    pub message_id: String,
    /// From, as it stands.
    pub from: String,
    /// Subject, decoded.
    pub subject: String,
    /// All fields as they stand, unfolded (bounded in number and length).
    pub headers: Vec<(String, String)>,
}

impl Original {
    /// The first value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// The machine-readable part of a feedback report (RFC 5965, 3; RFC 6591; RFC 6692).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complaint {
    /// Feedback-Type, lower-cased; `abuse` where a provider's own form has none.
    pub feedback_type: String,
    /// User-Agent.
    pub user_agent: String,
    /// Source-IP: where the reported mail came from.
    pub source_ip: Option<IpAddr>,
    /// Reported-Domain (the first).
    pub reported_domain: String,
    /// Reporting-MTA without its type.
    pub reporting_mta: String,
    /// Original-Mail-From without brackets.
    pub mail_from: String,
    /// All fields as they stand.
    pub fields: Vec<(String, String)>,
}

/// Reads a mail whose envelope is not known; a `Return-Path: <>` in its header stands for the null sender.
pub fn recognise(bytes: &[u8]) -> Recognised {
    recognise_mail(bytes, false)
}

/// Reads a mail; `null_sender` when its envelope sender was the null one.
pub fn recognise_mail(bytes: &[u8], null_sender: bool) -> Recognised {
    let bytes = mime::bounded(bytes);
    let mut recognised = read(&Mail::read(&bytes), null_sender);
    if matches!(recognised.kind, ReportKind::Bounce | ReportKind::Status) {
        for further in joined(&bytes).take(MAX_JOINED) {
            let further = read(&Mail::read(further), null_sender);
            if further.kind == recognised.kind {
                recognised.results.extend(further.results);
                recognised.left_out += further.left_out;
            }
        }
    }
    distinct::by_recipient(&mut recognised.results);
    recognised.left_out += recognised.results.len().saturating_sub(MAX_RESULTS);
    recognised.results.truncate(MAX_RESULTS);
    recognised
}

/// The reports that were joined to a first one, each behind a blank line and a `From ` line as in a mailbox.
fn joined(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = memchr::memmem::find_iter(bytes, b"\nFrom ")
        .map(|at| at + 1)
        .filter(|at| bytes[..*at].ends_with(b"\n\n") || bytes[..*at].ends_with(b"\n\r\n"))
        .take(MAX_JOINED + 1)
        .collect();
    (0..starts.len()).map(move |i| &bytes[starts[i]..starts.get(i + 1).copied().unwrap_or(bytes.len())])
}

/// What a report says that is attached to another one, as gateways do that report about a report.
pub(super) fn nested(bytes: &[u8]) -> Option<Recognised> {
    let mut mail = Mail::read(bytes);
    mail.nested = true;
    Some(read(&mail, false)).filter(|r| matches!(r.kind, ReportKind::Bounce | ReportKind::Status))
}

fn read(mail: &Mail<'_>, null_sender: bool) -> Recognised {
    let signs = Signs::of(mail, null_sender);
    let read = arf::read(mail)
        .or_else(|| sns::read(mail))
        .or_else(|| mdn::refusal(mail))
        .or_else(|| dsn::read(mail, signs))
        .or_else(|| body::read(mail, signs))
        .or_else(|| (signs.auto_reply || signs.speaks_of_absence(mail)).then(|| auto_reply(mail)));
    read.unwrap_or_else(|| Recognised {
        unreadable: matches!(mail.report_type.as_str(), "delivery-status" | "feedback-report"),
        ..Recognised::default()
    })
}

/// Who answered automatically.
fn auto_reply(mail: &Mail<'_>) -> Recognised {
    let rcpt = super::values::mailbox(mail.header.any(&["from", "sender"])).to_owned();
    let results = if rcpt.is_empty() { Vec::new() } else { vec![RcptResult { rcpt, ..RcptResult::default() }] };
    Recognised { kind: ReportKind::AutoReply, results, ..Recognised::default() }
}
