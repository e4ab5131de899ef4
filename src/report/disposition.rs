//! What becomes of one mail that came to a bounce or feedback address: events, a copy for somebody to read, delivery to
//! the address it was sent to, the quarantine, or nothing (reference/accounting.md, 8.1).
//!
//! | what it is | events | copies | delivered |
//! | --- | --- | --- | --- |
//! | a report | yes | none | with `deliver-matched-email` |
//! | an automatic reply | none | none | no |
//! | no report | none | `forward-unmatched-to` | with `deliver-unmatched-email` |
//! | a bounce or status that names nobody, and no token says who it is | as for no report | | |
//! | declares itself a report and can't be read | none | `forward-errors-to` | yes |
//! | a copy of ours that came back and has its events already | none | none | no |
//! | another copy of ours that came back | if it is a report by now | none | no |
//! | mail to an unsubscribe address with a token of ours | yes | none | no |
//!
//! "Delivered" means the normal queue of the address's domain, and only where the configuration says where that queue
//! leads (`smtp-hosts`, `type pipe`, `file` or `discard`, there or in the `<domain>` of the reserved queue `{bounce}` or
//! `{feedbackLoop}`): by its MX records mail for a report address comes to this very server again.
//! What was not understood is quarantined, so that nothing is lost and a mended pattern can be tried on it; what people got
//! as well only with `quarantine-passed-on`.
//!
//! A report never causes a report: copies have the null sender, ask for no notification, and carry a mark by which this
//! store knows them when they come back ([`super::copies`]); they are not passed on twice, nor is what has more than
//! [`MAX_HOPS`] Received fields.

use crate::config::Entries;
use crate::config::model::{Config, Processor, Transport};
use crate::event::address::canonical_domain;
use crate::event::{Address, Event, MessageId, StoreId, Time};
use crate::store::{Envelope, Message, Route};

use super::attribute::{Attribution, Evidence, attribute};
use super::body_pattern;
use super::copies::{self, Mark};
use super::distinct;
use super::kind::{Recognised, ReportKind, recognise_mail};
use super::to_event::{self, Arrival};
use super::unsubscribe;

/// Received fields beyond which mail is not passed on.
pub const MAX_HOPS: usize = 50;

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
    /// A report that has its events already: a copy of it was passed on and came back.
    CameBack,
}

/// What is to be done with a report mail, besides ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// How it ends.
    pub outcome: Outcome,
    /// What it was recognised as.
    pub report: Recognised,
    /// The form that was understood: Carom's own, or the name of the pattern file.
    pub format: String,
    /// Which pattern file matched and what it found, when `log-match-info` asks for it.
    pub match_info: Option<String>,
    /// One for each result.
    pub attributions: Vec<Attribution>,
    /// Who gets a copy.
    pub forward_to: Vec<String>,
    /// It goes on to the address it was sent to.
    pub deliver: bool,
    /// Nobody understood it: it is kept.
    pub quarantine: bool,
}

impl Disposition {
    /// Somebody gets it, or a copy of it.
    pub fn is_passed_on(&self) -> bool {
        self.deliver || !self.forward_to.is_empty()
    }
}

/// What decides about one mail.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The processor whose address the mail came to.
    pub processor: Option<&'a Processor>,
    /// Headers of the original to keep with its events, in any case.
    pub kept_headers: &'a [String],
    /// The store whose copies are known when they come back.
    pub store: StoreId,
    /// The queues of its recipients lead somewhere else than back to us.
    pub has_way_on: bool,
    /// It comes from the quarantine: only what makes it a report counts.
    pub again: bool,
}

impl<'a> Settings<'a> {
    /// Those for mail with this envelope.
    pub fn of(config: &'a Config, envelope: &Envelope, store: StoreId) -> Settings<'a> {
        let processor = match envelope.route {
            Route::Feedback => config.feedback_loop_processor.as_ref(),
            Route::Unsubscribe => None,
            _ => config.bounce_processor.as_ref(),
        };
        let has_way_on = envelope.rcpts.iter().all(|r| {
            let (local, domain) = r.address.rsplit_once('@').unwrap_or_default();
            // Anybody may write to a report address. The host behind us, which trusts us, must not be made to follow a
            // way that stands in one (`user%other.example`).
            !local.contains(['%', '!', '@']) && leads_on(config, domain, &envelope.vmta)
        });
        Settings { processor, kept_headers: &config.kept_headers, store, has_way_on, again: false }
    }
}

/// Whether a bounce or a status has no recipient at all. Complaints often name nobody: providers take the name out.
fn names_nobody(report: &Recognised) -> bool {
    matches!(report.kind, ReportKind::Bounce | ReportKind::Status)
        && report.results.iter().all(|r| r.rcpt.is_empty() && r.orcpt.is_empty())
}

/// Whether the queue of a report address says itself where it leads.
fn leads_on(config: &Config, domain: &str, vmta: &str) -> bool {
    let settings = config.queue_settings(domain, vmta);
    settings.transport != Transport::Smtp || !settings.smtp_hosts.is_empty()
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
    if envelope.route == Route::Unsubscribe {
        return unsubscribe::dispose(message, settings.store, evidence, now, emit);
    }
    let mut report = recognise_mail(&message.body, envelope.orig.is_empty());
    let to: Vec<&str> = envelope.rcpts.iter().map(|r| &*r.address).collect();
    let mut attributions = attribute(&report, &to, evidence);
    // What names nobody and is tied to nothing helps nobody as a record.
    let nameless = names_nobody(&report) && attributions.iter().all(|a| a.message == MessageId::default());
    let mut matched = None;
    if (nameless || matches!(report.kind, ReportKind::None | ReportKind::AutoReply))
        && let Some(processor) = settings.processor
        && let Some(found) =
            body_pattern::read(&message.body, &processor.body_patterns, envelope.route == Route::Feedback)
    {
        report = found.report.clone();
        attributions = attribute(&report, &to, evidence);
        matched = Some(found);
    } else if nameless {
        report.kind = ReportKind::None;
    }
    let header = copies::header(&message.body);
    let mark = Mark::of(&header, settings.store);
    let came_back = mark.ours && !settings.again;
    let is_report = !matches!(report.kind, ReportKind::None | ReportKind::AutoReply);
    let mut disposition = Disposition {
        outcome: Outcome::CameBack,
        format: matched.as_ref().map_or(report.format, |m| &m.name).to_owned(),
        match_info: None,
        attributions: Vec::new(),
        forward_to: Vec::new(),
        deliver: false,
        quarantine: false,
        report,
    };
    if came_back && mark.recorded && is_report {
        return disposition;
    }
    distinct::by_send(&mut disposition.report.results, &mut attributions);
    let report = &disposition.report;
    let arrival = Arrival {
        to: to.first().copied().unwrap_or(""),
        src_type: envelope.src_type,
        src_mta: &envelope.src_mta,
        src_ip: envelope.src_ip,
        rcv_ip: envelope.rcv_ip,
        pattern: matched.as_ref().map(|m| &*m.name),
        originator: matched.as_ref().map_or("", |m| &m.originator),
    };
    let events = to_event::emit(report, &attributions, &arrival, settings.kept_headers, now, emit);
    let processor = settings.processor;
    let passes_on = !came_back && header.all("received").count() <= MAX_HOPS && !settings.again;
    let wants = |flag: fn(&Processor) -> bool| passes_on && settings.has_way_on && processor.is_some_and(flag);
    let copies = |list: fn(&Processor) -> &Vec<String>| {
        processor.filter(|_| passes_on).map(|p| list(p).clone()).unwrap_or_default()
    };
    (disposition.outcome, disposition.deliver, disposition.forward_to) = match report.kind {
        ReportKind::AutoReply => (Outcome::AutoReply, false, Vec::new()),
        ReportKind::None if report.unreadable => {
            (Outcome::Unreadable, wants(|_| true), copies(|p| &p.forward_errors_to))
        }
        ReportKind::None => {
            (Outcome::Unmatched, wants(|p| p.deliver_unmatched_email), copies(|p| &p.forward_unmatched_to))
        }
        _ => (Outcome::Recorded(events), wants(|p| p.deliver_matched_email), Vec::new()),
    };
    disposition.quarantine = matches!(disposition.outcome, Outcome::Unmatched | Outcome::Unreadable)
        && (!disposition.is_passed_on() || processor.is_some_and(|p| p.quarantine_passed_on));
    disposition.attributions = attributions;
    if let Some(m) = matched.filter(|_| processor.is_some_and(|p| p.log_match_info)) {
        disposition.match_info = Some(format!("matched body-pattern defined in file:{} ({})", m.file, m.found));
    }
    disposition
}

/// What of the configuration would not do what it seems to say; one readable line each. For start-up, reload and a check
/// of the configuration.
pub fn check(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let blocks =
        [("bounce-processor", &config.bounce_processor), ("feedback-loop-processor", &config.feedback_loop_processor)];
    let processors: Vec<(&str, &Processor)> =
        blocks.into_iter().filter_map(|(block, p)| Some((block, p.as_ref()?))).collect();
    let takes = |p: &Processor, address: &str| Address::parse(address).is_ok_and(|a| p.takes(&a, Entries::All));
    for (block, processor) in &processors {
        let mut astray: Vec<&str> =
            processor.list.named_domains().filter(|d| !leads_on(config, &canonical_domain(d), "{default}")).collect();
        astray.sort_unstable();
        astray.dedup();
        let asked = [
            ("deliver-matched-email", processor.deliver_matched_email),
            ("deliver-unmatched-email", processor.deliver_unmatched_email && processor.forward_unmatched_to.is_empty()),
        ];
        if let (Some(domain), Some((name, _))) = (astray.first(), asked.into_iter().find(|(_, on)| *on)) {
            let what = if name == "deliver-matched-email" { "dropped once it is recorded" } else { "quarantined" };
            notes.push(format!(
                "<{block}> {name} is on, but nothing says where mail for {domain} goes from here (its MX leads back): it \
                 is {what}; write <domain {domain}> with smtp-hosts, type pipe or type file, or {name} no"
            ));
        }
        for address in processor.forward_unmatched_to.iter().chain(&processor.forward_errors_to) {
            if processors.iter().any(|(_, p)| takes(p, address)) {
                notes.push(format!(
                    "<{block}> passes mail on to {address}, which a processor reads itself: the copy comes back and is \
                     quarantined"
                ));
            }
        }
    }
    notes
}
