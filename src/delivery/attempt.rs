//! From outcomes to events and to what the store is told: one call per transaction and kind. Pure.
//!
//! Promises: a recipient that ends has its event in the same [`Finish`]; a deferred one its event with its new state.
//! `disable-acct-records` leaves the event out, not the ending. What its sender is to hear of is noted beside it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::model::QueueSettings;
use crate::event::{
    Action, DeliveryType, EnhancedStatus, Event, EventBatch, Events, Kind, MessageId, RuleSetId, Stage, StoreId, Time,
    category,
};
use crate::queue::{Drawn, Fate, QueueName};
use crate::store::{Envelope, Finish, RcptState};
use crate::suppress::{Mail, Suppressed, Suppression};

use super::notify::{self, Ending};
use super::outcome::{DiagType, EXPIRED, Outcome, Verdict, status};

/// What events say of the connection.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `dlvType`; `None` when nothing was tried.
    pub delivery: Option<DeliveryType>,
    /// Name of the host.
    pub mta: Box<str>,
    /// Its address.
    pub mta_ip: Option<IpAddr>,
    /// Our address.
    pub source_ip: Option<IpAddr>,
    /// What it offered in EHLO.
    pub esmtp: String,
    /// It was told what the sender wants to hear (RFC 3461): reports are its business now.
    pub reports: bool,
    /// TLS version; empty in plaintext.
    pub tls_protocol: &'static str,
    /// TLS cipher suite.
    pub tls_cipher: String,
}

/// What a transaction comes to for the store.
#[derive(Debug, Default)]
pub struct Ledgered {
    /// Recipients that end.
    pub finish: Finish,
    /// Whether `finish` has any.
    pub finished: bool,
    /// New states of those deferred.
    pub states: Vec<RcptState>,
    /// Their events.
    pub events: Events,
    /// Something was delivered.
    pub delivered: bool,
    /// Of those in `finish`, the ones whose sender may want a report.
    pub failures: Vec<Ending>,
    /// Of those in `finish`, the ones that went well and whose sender asked to be told of it by us.
    pub successes: Vec<Ending>,
    diag: String,
}

/// The outcome of recipients of one message on one connection.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The message, without its content.
    pub envelope: &'a Envelope,
    /// The queue.
    pub queue: &'a QueueName,
    /// Its settings.
    pub settings: &'a QueueSettings,
    /// The connection.
    pub facts: &'a Facts,
    /// When the outcome was known.
    pub now: Time,
}

impl Attempt<'_> {
    /// Records one recipient's outcome in `ledgered` and its fate in `drawn`.
    pub fn record(&self, drawn: &mut Drawn, outcome: Outcome<'_>, ledgered: &mut Ledgered) {
        let state = drawn.entry.state();
        let attempts = state.attempts.saturating_add(1);
        let expired =
            outcome.verdict == Verdict::Deferred && self.envelope.time_queued + self.settings.bounce_after <= self.now;
        let kind = match outcome.verdict {
            Verdict::Again => return,
            Verdict::Delivered => Kind::Delivered,
            Verdict::Bounced => Kind::Bounced,
            Verdict::Deferred if expired => Kind::Bounced,
            Verdict::Deferred => Kind::Transient,
        };
        let Ledgered { finish, finished, states, events, delivered, failures, successes, diag } = ledgered;
        diag.clear();
        diag.push_str(outcome.diag_type.prefix());
        diag.push_str(outcome.text);
        let event = Event {
            attempt: attempts,
            stage: Some(outcome.stage),
            action: Some(match kind {
                // Nobody behind us: the final delivery is ours (RFC 3464, 2.3.3).
                Kind::Delivered if self.facts.delivery != Some(DeliveryType::Smtp) => Action::Delivered,
                Kind::Delivered => Action::Relayed,
                Kind::Transient => Action::Delayed,
                _ => Action::Failed,
            }),
            status: Some(if expired { EXPIRED } else { outcome.status }),
            category: if expired { "message-expired" } else { outcome.category },
            diag: diag.as_str(),
            dlv_size: if kind == Kind::Delivered { u64::from(self.envelope.body_len) } else { 0 },
            // One that ends without the reply after its final dot may have been delivered.
            in_doubt: state.in_doubt || expired && outcome.in_doubt,
            ..self.event(kind, &state)
        };
        log(&event);
        if kind == Kind::Transient {
            let state = RcptState {
                index: state.index,
                attempts,
                not_before: self.now + outcome.wait.unwrap_or(self.settings.retry_recipients_after),
                in_doubt: state.in_doubt || outcome.in_doubt,
            };
            drawn.fate = Fate::Retry(state);
            states.push(state);
            self.push(events, &event);
        } else {
            drawn.fate = Fate::Done;
            finish.recipient(self.envelope.id, state.index);
            *finished = true;
            *delivered |= kind == Kind::Delivered;
            let status = event.status.unwrap_or(outcome.status);
            let ending = |action| self.ending(state.index, action, status, outcome.text, outcome.diag_type, self.now);
            // What an operator has thrown away on purpose was not refused by anybody, and reached nobody.
            match (kind, event.action) {
                _ if self.facts.delivery == Some(DeliveryType::Discard) => {}
                (Kind::Bounced, _) => failures.extend(ending(Action::Failed)),
                (_, Some(action)) if !self.facts.reports => successes.extend(ending(action)),
                _ => {}
            }
            if !self.settings.disable_acct_records.contains(kind) {
                finish.event(&event);
            }
        }
    }

    /// Why this recipient gets no attempt now, if so: the list is asked under all that is known of the mail.
    pub fn why_not(&self, list: &Suppression, index: u16) -> Option<Suppressed> {
        list.check(self.rcpt(index), &Mail::of(self.envelope), self.now)
    }

    /// Ends a recipient that is on the suppression list, without an attempt; or puts it on hold, where the entry is held
    /// back.
    pub fn suppressed(&self, drawn: &mut Drawn, why: &Suppressed, ledgered: &mut Ledgered) {
        let state = drawn.entry.state();
        let rcpt = self.rcpt(state.index);
        if why.held {
            drawn.fate = Fate::Hold;
            let queue = self.queue.as_str();
            tracing::debug!(message = self.envelope.id.0, queue, rcpt, "on hold: {} is held back", why.list);
            return;
        }
        let diag = format!("smtp;550 5.7.1 {}", why.text(rcpt));
        self.end_without_attempt(drawn, status(5, 7, 1), &diag, category::SUPPRESSED, why.by, ledgered);
    }

    /// Ends a recipient, without an attempt, with what a host has said of another one of its queue (`bounce-queue`).
    pub fn condemned(&self, drawn: &mut Drawn, outcome: Outcome<'_>, ledgered: &mut Ledgered) {
        let state = drawn.entry.state();
        let diag = format!("smtp;{}", outcome.text);
        let event = Event {
            attempt: state.attempts,
            stage: Some(outcome.stage),
            action: Some(Action::Failed),
            status: Some(outcome.status),
            category: outcome.category,
            diag: &diag,
            ..self.event(Kind::Bounced, &state)
        };
        log(&event);
        drawn.fate = Fate::Done;
        ledgered.finish.recipient(self.envelope.id, state.index);
        ledgered.finished = true;
        ledgered.failures.extend(self.ending(
            state.index,
            Action::Failed,
            outcome.status,
            outcome.text,
            DiagType::Smtp,
            Time::UNKNOWN,
        ));
        if !self.settings.disable_acct_records.contains(Kind::Bounced) {
            ledgered.finish.event(&event);
        }
    }

    /// Ends a recipient whose time is over.
    pub fn expired(&self, drawn: &mut Drawn, last_error: &str, ledgered: &mut Ledgered) {
        let attempts = drawn.entry.state().attempts;
        let after = self.settings.bounce_after.as_secs();
        let plural = if attempts == 1 { "" } else { "s" };
        let mut diag =
            format!("delivery time expired: not delivered within {after} s, after {attempts} attempt{plural}");
        if !last_error.is_empty() {
            diag.push_str("; last failure of the queue: ");
            diag.push_str(last_error);
        }
        self.end_without_attempt(drawn, EXPIRED, &diag, "message-expired", 0, ledgered);
        let index = drawn.entry.state().index;
        ledgered.failures.extend(self.ending(index, Action::Failed, EXPIRED, &diag, DiagType::Own, Time::UNKNOWN));
    }

    /// What a report would say of a recipient that has ended; `None` where none is asked for.
    fn ending(
        &self,
        index: u16,
        action: Action,
        status: EnhancedStatus,
        text: &str,
        diag_type: DiagType,
        last_attempt: Time,
    ) -> Option<Ending> {
        let rcpt = self.envelope.rcpts.get(usize::from(index))?;
        let asked = match action {
            Action::Failed => notify::asked_for(self.envelope, rcpt),
            _ => notify::success_asked_for(self.envelope, rcpt),
        };
        let is_reply = diag_type == DiagType::Smtp;
        asked.then(|| Ending {
            rcpt: index,
            action,
            status,
            text: text.into(),
            diag_type,
            mta: if is_reply { self.facts.mta.clone() } else { "".into() },
            mta_ip: self.facts.mta_ip.filter(|_| is_reply),
            last_attempt,
            retry_until: Time::UNKNOWN,
        })
    }

    fn end_without_attempt(
        &self,
        drawn: &mut Drawn,
        status: EnhancedStatus,
        diag: &str,
        category: &str,
        suppressed_by: u64,
        ledgered: &mut Ledgered,
    ) {
        let state = drawn.entry.state();
        let event = Event {
            attempt: 0,
            action: Some(Action::Failed),
            status: Some(status),
            diag,
            category,
            suppressed_by,
            dlv_type: None,
            mta: "",
            mta_ip: None,
            dlv_source_ip: None,
            dlv_destination_ip: None,
            dlv_esmtp: "",
            tls_protocol: "",
            tls_cipher: "",
            ..self.event(Kind::Bounced, &state)
        };
        log(&event);
        drawn.fate = Fate::Done;
        ledgered.finish.recipient(self.envelope.id, state.index);
        ledgered.finished = true;
        if !self.settings.disable_acct_records.contains(Kind::Bounced) {
            ledgered.finish.event(&event);
        }
    }

    fn push(&self, events: &mut Events, event: &Event<'_>) {
        if !self.settings.disable_acct_records.contains(event.kind) {
            events.push(event);
        }
    }

    /// The recipient's address.
    pub fn rcpt(&self, index: u16) -> &str {
        self.envelope.rcpts.get(usize::from(index)).map_or("", |r| &r.address)
    }

    /// What all events of this message on this connection have in common.
    fn event<'e>(&'e self, kind: Kind, state: &RcptState) -> Event<'e> {
        let (envelope, facts) = (self.envelope, self.facts);
        Event {
            message: envelope.id,
            rcpt_index: state.index,
            in_doubt: state.in_doubt,
            time_queued: envelope.time_queued,
            orig: &envelope.orig,
            rcpt: self.rcpt(state.index),
            orcpt: envelope.rcpts.get(usize::from(state.index)).map_or("", |r| &r.orcpt),
            mta: &facts.mta,
            mta_ip: facts.mta_ip,
            src_type: Some(envelope.src_type),
            src_mta: &envelope.src_mta,
            src_ip: envelope.src_ip,
            user: &envelope.user,
            dlv_type: facts.delivery,
            dlv_source_ip: facts.source_ip,
            dlv_destination_ip: facts.mta_ip,
            dlv_esmtp: &facts.esmtp,
            tls_protocol: facts.tls_protocol,
            tls_cipher: &facts.tls_cipher,
            vmta: &envelope.vmta,
            pool: &envelope.pool,
            job: &envelope.job,
            list: &envelope.terms.list,
            env_id: &envelope.env_id,
            queue: self.queue.as_str(),
            provider: self.queue.domain(),
            headers: envelope.headers.as_pairs(),
            ..Event::new(kind, self.now)
        }
    }
}

/// The same endings, each in a record of its own with its events; what they cause is a record behind them.
pub fn one_by_one(whole: Finish, store: StoreId) -> Vec<Finish> {
    let (bytes, count) = (whole.events.as_bytes(), whole.events.len() as u32);
    let batch = EventBatch { store, first_seq: 0, rules: RuleSetId::default(), count, bytes };
    let mut parts: HashMap<(MessageId, u16), Finish> = HashMap::with_capacity(whole.done.len());
    for &(message, rcpt) in &whole.done {
        parts.entry((message, rcpt)).or_default().recipient(message, rcpt);
    }
    // They were encoded a moment ago by this very process: none is damaged, each names one of the recipients.
    for event in batch.iter().flatten() {
        if let Some(part) = parts.get_mut(&(event.message, event.rcpt_index)) {
            part.event(&event);
        }
    }
    let mut parts: Vec<Finish> = whole.done.iter().filter_map(|one| parts.remove(one)).collect();
    if !whole.messages.is_empty() {
        parts.push(Finish { messages: whole.messages, ..Finish::new() });
    }
    parts
}

/// The `tq` event of a queue that went to sleep.
pub fn queue_failed<'e>(
    queue: &'e QueueName,
    facts: &'e Facts,
    failure: EnhancedStatus,
    diag: &'e str,
    now: Time,
) -> Event<'e> {
    Event {
        queue: queue.as_str(),
        vmta: queue.vmta(),
        provider: queue.domain(),
        status: Some(failure),
        diag,
        mta: &facts.mta,
        mta_ip: facts.mta_ip,
        dlv_type: Some(DeliveryType::Smtp),
        dlv_source_ip: Some(facts.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        dlv_destination_ip: facts.mta_ip,
        stage: Some(Stage::Connect),
        ..Event::new(Kind::TransientQueue, now)
    }
}

/// One line per outcome. Deliveries at debug: at thousands a second the lines would cost more than the deliveries, and
/// each is in the accounting anyway; what an operator looks for in a log is what did not go through.
fn log(event: &Event<'_>) {
    let (queue, rcpt, diag) = (event.queue, event.rcpt, event.diag);
    match event.kind {
        Kind::Delivered => tracing::debug!(message = event.message.0, queue, rcpt, "delivered: {diag}"),
        Kind::Transient => tracing::info!(message = event.message.0, queue, rcpt, "deferred: {diag}"),
        _ => tracing::info!(message = event.message.0, queue, rcpt, "bounced: {diag}"),
    }
}
