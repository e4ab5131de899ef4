//! What becomes of one mail that came to a bounce or feedback address: events, a copy for somebody to read, or neither
//! (reference/accounting.md, 8.1).
//!
//! A report never causes a report: copies have the null sender, ask for no notification, and carry a mark by which
//! they are known when they come back, so that they are not passed on twice.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::config::model::{Config, Processor};
use crate::event::record::PairsBuf;
use crate::event::{Event, Events, Kind, MessageId, SourceType, Time};
use crate::store::{Envelope, Message, Recipient, Route};

use super::attribute::{Attribution, Evidence, attribute};
use super::kind::{Recognised, ReportKind, recognise_mail};
use super::to_event::{self, Arrival};

/// The header field that marks a copy which was passed on.
const FORWARDED_MARK: &str = "X-Carom-Report-Copy";

/// How a report mail ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Recognised: so many events.
    Recorded(usize),
    /// An automatic reply: counted, no event.
    AutoReply,
    /// No report: no event.
    Unmatched,
    /// Declares itself a report and can't be read: no event.
    Unreadable,
}

/// What is to be done with a report mail, besides ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// How it ends.
    pub outcome: Outcome,
    /// What it was recognised as.
    pub report: Recognised,
    /// One for each result.
    pub attributions: Vec<Attribution>,
    /// Who gets a copy.
    pub forward_to: Vec<String>,
}

/// What of the configuration decides about one mail.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The processor whose address the mail came to.
    pub processor: Option<&'a Processor>,
    /// Headers of the original to keep with its events, in any case.
    pub kept_headers: &'a [String],
}

impl<'a> Settings<'a> {
    /// Those for mail that intake sent this way.
    pub fn of(config: &'a Config, route: Route) -> Settings<'a> {
        let processor = match route {
            Route::Feedback => config.feedback_loop_processor.as_ref(),
            _ => config.bounce_processor.as_ref(),
        };
        Settings { processor, kept_headers: &config.kept_headers }
    }
}

/// Reads a report mail and hands its events to `emit`.
pub fn dispose(
    message: &Message,
    settings: Settings<'_>,
    evidence: &dyn Evidence,
    now: Time,
    emit: &mut dyn FnMut(&Event<'_>),
) -> Disposition {
    let envelope = &message.envelope;
    let report = recognise_mail(&message.body, envelope.orig.is_empty());
    let to: Vec<&str> = envelope.rcpts.iter().map(|r| &*r.address).collect();
    let attributions = attribute(&report, &to, evidence);
    let arrival = Arrival {
        to: to.first().copied().unwrap_or(""),
        src_type: envelope.src_type,
        src_mta: &envelope.src_mta,
        src_ip: envelope.src_ip,
    };
    let events = to_event::emit(&report, &attributions, &arrival, settings.kept_headers, now, emit);
    let (outcome, copy_to) = match report.kind {
        ReportKind::AutoReply => (Outcome::AutoReply, None),
        ReportKind::None if report.unreadable => {
            (Outcome::Unreadable, settings.processor.map(|p| &p.forward_errors_to))
        }
        ReportKind::None => (Outcome::Unmatched, settings.processor.map(|p| &p.forward_unmatched_to)),
        _ => (Outcome::Recorded(events), None),
    };
    let forward_to = copy_to.filter(|_| !is_copy(&message.body)).cloned().unwrap_or_default();
    Disposition { outcome, report, attributions, forward_to }
}

/// Whether a mail is a copy that a processor passed on, and has come back.
fn is_copy(body: &[u8]) -> bool {
    // Where a copy is passed on by others before it comes back, they put their fields in front.
    let mut rest = &body[..body.len().min(64 << 10)];
    super::fields::Fields::read(&mut rest).first(FORWARDED_MARK).is_some()
}

/// The copy of `report` for `to`, with its `r` events: the mail as it came, marked, from the null sender.
pub fn forwarded(report: &Message, to: &[String], id: MessageId, host_name: &str, now: Time) -> (Arc<Message>, Events) {
    let mark = format!("{FORWARDED_MARK}: {host_name}; message={}\r\n", report.envelope.id);
    let mut body = BytesMut::with_capacity(mark.len() + report.body.len());
    body.extend_from_slice(mark.as_bytes());
    body.extend_from_slice(&report.body);
    let body: Bytes = body.freeze();
    let envelope = Envelope {
        id,
        time_queued: now,
        orig: "".into(),
        env_id: "".into(),
        job: "".into(),
        vmta: "{default}".into(),
        pool: "".into(),
        src_type: SourceType::Internal,
        src_mta: host_name.into(),
        src_ip: None,
        user: "".into(),
        eight_bit: report.envelope.eight_bit,
        body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        message_id_header: report.envelope.message_id_header.clone(),
        headers: PairsBuf::default(),
        route: Route::Deliver,
        no_dsn: true,
        return_full: false,
        // NOTIFY=NEVER (RFC 3461, 4.1): the next hop is not to report on it either.
        rcpts: to.iter().map(|a| Recipient { address: a.as_str().into(), orcpt: "".into(), notify: 1 }).collect(),
    };
    let mut received = Events::new();
    for (index, rcpt) in envelope.rcpts.iter().enumerate() {
        received.push(&Event {
            message: id,
            rcpt_index: index as u16,
            time_queued: now,
            rcpt: &rcpt.address,
            src_type: Some(SourceType::Internal),
            src_mta: &envelope.src_mta,
            vmta: &envelope.vmta,
            ..Event::new(Kind::Received, now)
        });
    }
    (Arc::new(Message { envelope, body }), received)
}

/// What of the configuration this version does not do, or what would go wrong; one readable line each. For start-up,
/// reload and a check of the configuration.
pub fn check(config: &Config) -> Vec<String> {
    notes(config.bounce_processor.as_ref(), config.feedback_loop_processor.as_ref())
}

/// As [`check`], of the two blocks.
pub fn notes(bounce: Option<&Processor>, feedback: Option<&Processor>) -> Vec<String> {
    let mut notes = Vec::new();
    let blocks = [("bounce-processor", bounce), ("feedback-loop-processor", feedback)];
    let processors: Vec<(&str, &Processor)> = blocks.into_iter().filter_map(|(block, p)| Some((block, p?))).collect();
    for (block, processor) in &processors {
        if processor.deliver_matched_email {
            notes.push(format!(
                "<{block}> deliver-matched-email yes is not supported yet: a recognised report ends with its events"
            ));
        }
        if processor.deliver_unmatched_email && processor.forward_unmatched_to.is_empty() {
            notes.push(format!(
                "<{block}> deliver-unmatched-email yes is not supported yet: mail that is no report is logged and \
                 dropped; set forward-unmatched-to to see it"
            ));
        }
        for address in processor.forward_unmatched_to.iter().chain(&processor.forward_errors_to) {
            if processors.iter().any(|(_, p)| takes(p, address)) {
                notes.push(format!(
                    "<{block}> passes mail on to {address}, which a processor reads itself: the copy comes back and is \
                     dropped"
                ));
            }
        }
    }
    notes
}

/// Whether mail to this address goes to the processor.
fn takes(processor: &Processor, address: &str) -> bool {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    processor.domains.iter().any(|d| d.eq_ignore_ascii_case(domain))
        || processor.addresses.iter().any(|a| a.eq_ignore_ascii_case(address) || a.eq_ignore_ascii_case(local))
}
