//! A recognised report as accounting events: `rb` for who failed, `rs` for who was delayed or delivered, `f` for who
//! complained (reference/accounting.md, 3.2 and 8). Automatic replies and what is no report make none.
//!
//! Where the send is known its fields win over the report's own words; every text taken from a report is bounded, so
//! that a report on a thousand recipients still fits one record of the journal.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::event::record::PairsBuf;
use crate::event::{Action, AddressKey, Event, Kind, Reply, SourceType, Time};

use super::attribute::Attribution;
use super::bounds::MAX_REASON;
use super::kind::{RcptResult, Recognised, ReportKind};

/// Bytes kept of other texts.
const MAX_TEXT: usize = 255;
/// Bytes kept of all headers, and of all ARF fields, of one event.
const MAX_PAIRS: usize = 8192;
/// The same of all events of one report, but at least [`MIN_PAIRS`] for each: a small mail that names a thousand
/// recipients must not become many megabytes of records.
const MAX_PAIRS_OF_ALL: usize = 32 * MAX_PAIRS;
/// Bytes that each event has at least.
const MIN_PAIRS: usize = 512;

/// How the report came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The address it was sent to.
    pub to: &'a str,
    /// `srcType`.
    pub src_type: SourceType,
    /// EHLO name of who brought it.
    pub src_mta: &'a str,
    /// Address of who brought it.
    pub src_ip: Option<IpAddr>,
    /// Our address that it came to.
    pub rcv_ip: Option<IpAddr>,
    /// Name of the operator's pattern file that recognised it; `None` when Carom knows the form itself.
    pub pattern: Option<&'a str>,
    /// Sender of the original mail as the operator's pattern found it; empty when it did not.
    pub originator: &'a str,
}

/// Hands `emit` one event for each result; returns how many. `attributions` are those of
/// [`super::attribute::attribute`]; `kept_headers` the names of the original's headers to keep, in any case.
pub fn emit(
    report: &Recognised,
    attributions: &[Attribution],
    arrival: &Arrival<'_>,
    kept_headers: &[String],
    now: Time,
    emit: &mut dyn FnMut(&Event<'_>),
) -> usize {
    if matches!(report.kind, ReportKind::AutoReply | ReportKind::None) {
        return 0;
    }
    let room = (MAX_PAIRS_OF_ALL / report.results.len().max(1)).clamp(MIN_PAIRS, MAX_PAIRS);
    let headers =
        kept(&report.original.headers, room, |name| kept_headers.iter().any(|k| k.eq_ignore_ascii_case(name)));
    let arf = report.complaint.as_ref().map_or_else(PairsBuf::default, |c| kept(&c.fields, room, |_| true));
    for (result, attribution) in report.results.iter().zip(attributions) {
        let sent = attribution.sent.as_ref();
        // What is only probable does not overrule the report, but it may fill what the report leaves open.
        let certain = sent.filter(|_| attribution.is_proved() || attribution.way.is_some() && result.rcpt.is_empty());
        let rcpt = certain.map_or(result.rcpt.as_str(), |s| &s.rcpt);
        let provider = AddressKey::of(rcpt);
        let diag = diag(result);
        let base = Event {
            message: attribution.message,
            rcpt_index: attribution.rcpt_index,
            orig: sent.map_or_else(|| orig_of(report, arrival), |s| s.orig.as_str()),
            rcpt,
            job: sent.map_or("", |s| &s.job),
            vmta: sent.map_or("", |s| &s.vmta),
            pool: sent.map_or("", |s| &s.pool),
            list: sent.map_or("", |s| &s.list),
            queue: sent.map_or("", |s| &s.queue),
            env_id: sent.map(|s| s.env_id.as_str()).filter(|e| !e.is_empty()).unwrap_or(cut(&report.env_id, MAX_TEXT)),
            time_sent: sent.map_or(Time::UNKNOWN, |s| s.time_sent),
            attributed_by: attribution.way.map_or("", super::Way::name),
            provider: provider.domain(),
            format: arrival.pattern.map_or(report.format, |name| cut(name, MAX_TEXT)),
            report_ip: arrival.rcv_ip,
            src_type: Some(arrival.src_type),
            src_mta: arrival.src_mta,
            src_ip: arrival.src_ip,
            reporting_mta: cut(&report.reporting_mta, MAX_TEXT),
            headers: headers.as_pairs(),
            ..Event::new(Kind::Feedback, now)
        };
        match &report.complaint {
            Some(complaint) => emit(&Event {
                feedback_type: cut(&complaint.feedback_type, MAX_TEXT),
                user_agent: cut(&complaint.user_agent, MAX_TEXT),
                reported_domain: cut(&complaint.reported_domain, MAX_TEXT),
                dlv_source_ip: complaint.source_ip,
                arf: arf.as_pairs(),
                ..base
            }),
            None => emit(&Event {
                kind: if result.action.unwrap_or(Action::Failed) == Action::Failed {
                    Kind::RemoteBounce
                } else {
                    Kind::RemoteStatus
                },
                orcpt: cut(&result.orcpt, MAX_TEXT),
                action: result.action,
                status: result.status,
                diag: cut(&diag, MAX_REASON),
                mta: cut(&result.remote_mta, MAX_TEXT),
                mta_ip: result.remote_ip,
                ..base
            }),
        }
    }
    report.results.len().min(attributions.len())
}

/// `dsnDiag` of a result: `smtp;` and the reply, or `type;` and the text, or the text alone.
pub(super) fn diag(result: &RcptResult) -> String {
    if result.diag.is_empty() {
        return String::new();
    }
    match result.diag_type.as_str() {
        _ if Reply::parse(&result.diag).is_some() => format!("smtp;{}", result.diag),
        "" | "smtp" => result.diag.clone(),
        other => format!("{other};{}", result.diag),
    }
}

/// The original sender, as far as the report tells: what it was sent to, for a complaint what it says.
fn orig_of<'a>(report: &'a Recognised, arrival: &Arrival<'a>) -> &'a str {
    match &report.complaint {
        _ if !arrival.originator.is_empty() => cut(arrival.originator, MAX_TEXT),
        Some(c) if !c.mail_from.is_empty() => cut(&c.mail_from, MAX_TEXT),
        Some(_) => cut(report.original.header("return-path").map_or("", super::values::mailbox), MAX_TEXT),
        None => arrival.to,
    }
}

/// The pairs that are wanted, up to so many bytes.
fn kept(fields: &[(String, String)], mut room: usize, wanted: impl Fn(&str) -> bool) -> PairsBuf {
    let mut pairs = PairsBuf::default();
    for (name, value) in fields.iter().filter(|(n, _)| wanted(n)) {
        let value = decoded(value);
        let Some(left) = room.checked_sub(name.len() + value.len()) else { break };
        room = left;
        pairs.push(name, &value);
    }
    pairs
}

fn decoded(value: &str) -> Cow<'_, str> {
    if value.contains("=?") { Cow::Owned(super::mime::decoded_words(value)) } else { Cow::Borrowed(value) }
}

/// At most `max` bytes of a text, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
