//! The end of every way in: a submission becomes a message with its `r` events, durable before anybody hears of it.
//!
//! [`prepare`] is pure: headers read and completed, VirtualMTA chosen, envelope and events made. [`Intake::submit`] has
//! the store keep them (the `250` comes after that), ends suppressed recipients at once, and hands the rest to the queue.
//! If the process dies in between, the store still has the message, and start-up queues what is left of it; a suppressed
//! recipient is then ended by delivery, which asks the suppression list too.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::config::model::DsnReturn;
use crate::config::{Config, Source};
use crate::event::address::canonical_domain;
use crate::event::category::SUPPRESSED;
use crate::event::{Action, EnhancedStatus, Event, Events, Kind, MessageId, SourceType, Time};
use crate::queue::Engine;
use crate::smtp::answer::Answer;
use crate::smtp::data::Content;
use crate::smtp::dsn::Return;
use crate::store::{Envelope, Finish, Message, RcptState, Recipient, Route, Store, StoreError};
use crate::suppress::{Mail, Suppressed, Suppression};

use super::header::{self, HeaderError, Stamp};
use super::slots::Held;
use super::virtual_mta::{self, Turns, VirtualMtaError};

/// Largest content, whatever the configuration says: an accepted message is one record of the store, which takes 64 MiB.
pub const MAX_CONTENT: usize = 50 << 20;

/// What intake needs of the rooms behind it. [`Rooms`] are the real ones; tests and load measurements bring their own.
pub trait Spool: Clone + Send + Sync + 'static {
    /// Why no mail can be taken now, if so.
    fn refused(&self) -> Option<String>;
    /// Whether this mail to this recipient is suppressed.
    fn suppressed(&self, rcpt: &str, mail: &Mail<'_>) -> Option<Suppressed>;
    /// An id that was never given before.
    fn next_message_id(&self) -> MessageId;
    /// Durable when it returns.
    fn accept(&self, message: Arc<Message>, received: Events) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The recipients that these events name (message and index) end with them.
    fn end(&self, events: &[Event<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Queues these recipients of a message that is in the store.
    fn admit(&self, envelope: &Envelope, states: &[RcptState], now: Time);
}

/// The store, the queue and the suppression list.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// Where messages are kept.
    pub store: Store,
    /// Where they wait.
    pub queue: Engine,
    /// Who is not mailed.
    pub suppression: Suppression,
    /// The clock: entries of the list may end.
    pub now: fn() -> Time,
}

impl Spool for Rooms {
    fn refused(&self) -> Option<String> {
        self.store.intake_refused()
    }

    fn suppressed(&self, rcpt: &str, mail: &Mail<'_>) -> Option<Suppressed> {
        self.suppression.check(rcpt, mail, (self.now)())
    }

    fn next_message_id(&self) -> MessageId {
        self.store.next_message_id()
    }

    async fn accept(&self, message: Arc<Message>, received: Events) -> Result<(), StoreError> {
        self.store.accept(message, received).await
    }

    fn end(&self, events: &[Event<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send {
        let mut finish = Finish::new();
        for event in events {
            finish.recipient(event.message, event.rcpt_index).event(event);
        }
        async move { self.store.finish(finish).await }
    }

    fn admit(&self, envelope: &Envelope, states: &[RcptState], now: Time) {
        self.queue.admit(envelope, states, now);
    }
}

/// Takes mail in; cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake<S = Rooms> {
    spool: S,
    config: Arc<ArcSwap<Config>>,
    turns: Arc<Turns>,
    held: Held,
}

impl Intake<Rooms> {
    /// For the real rooms. `config` is read anew for each session and transaction, so that a reload applies to them.
    pub fn new(
        store: Store,
        queue: Engine,
        suppression: Suppression,
        config: Arc<ArcSwap<Config>>,
        now: fn() -> Time,
    ) -> Intake<Rooms> {
        Intake::with_spool(Rooms { store, queue, suppression, now }, config)
    }
}

/// A message as a channel hands it in, its recipients already judged.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The configuration it was judged by.
    pub config: Arc<Config>,
    /// What its submitter may do.
    pub source: Arc<Source>,
    /// `srcType`.
    pub src_type: SourceType,
    /// What the submitter called itself; empty where it did not.
    pub src_mta: Box<str>,
    /// Its address.
    pub src_ip: Option<IpAddr>,
    /// Our address that it reached.
    pub local_ip: Option<IpAddr>,
    /// The authenticated user; empty when there is none.
    pub user: Box<str>,
    /// For Received: `ESMTPSA` and its kin (RFC 3848).
    pub with: &'static str,
    /// Envelope sender; empty for the null sender.
    pub from: Box<str>,
    /// RET, if it was given.
    pub ret: Option<Return>,
    /// ENVID; empty when not given. A header that gives one (`process-x-envid`) wins over it.
    pub env_id: Box<str>,
    /// At least one; all with the same route.
    pub rcpts: Vec<Accepted>,
    /// With CRLF line ends.
    pub content: Content,
    /// When it came.
    pub now: Time,
}

/// A recipient that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Where the mail goes.
    pub address: Box<str>,
    /// ORCPT, decoded (`rfc822;address`); what was asked for, when that is not the same; else empty.
    pub orcpt: Box<str>,
    /// NOTIFY, in the bits of [`crate::smtp::dsn`]; 0 when not given.
    pub notify: u8,
    /// What is to be done with the mail.
    pub route: Route,
    /// Accepted only to be bounced at once (`accept-invalid-recipients`).
    pub suppressed: Option<Suppressed>,
}

/// Why a submission was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Its headers.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The VirtualMTA it asks for.
    #[error(transparent)]
    VirtualMta(#[from] VirtualMtaError),
    /// Too large to be kept, with what was added to it; or nobody to send it to, or more recipients than can be kept.
    #[error("message is too large to be kept")]
    TooLarge,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SubmitError {
    /// The reply after the final dot. Causes inside the house are for the log, not for the client.
    pub fn answer(&self) -> Answer {
        match self {
            SubmitError::Header(error) => error.answer(),
            SubmitError::VirtualMta(error) => Answer::with(550, "5.6.0", error.to_string()),
            SubmitError::TooLarge | SubmitError::Store(StoreError::TooLarge { .. }) => {
                Answer::new(552, "5.3.4", "message exceeds the maximum size; make it smaller or its recipients fewer")
            }
            SubmitError::Store(_) => STORE_REFUSES,
        }
    }
}

/// The reply while the store takes no mail.
pub const STORE_REFUSES: Answer = Answer::new(452, "4.3.1", "insufficient system storage, try again later");

/// A message ready to be kept.
#[derive(Debug)]
pub struct Prepared {
    /// The message.
    pub message: Arc<Message>,
    /// One `r` event for each recipient.
    pub received: Events,
    /// Recipients that are to be served.
    pub states: Vec<RcptState>,
    /// Recipients that end at once.
    pub suppressed: Vec<Ended>,
}

/// A recipient that ends with its acceptance.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    index: u16,
    suppressed_by: u64,
    diag: String,
    queue: String,
}

impl<S: Spool> Intake<S> {
    /// For any spool.
    pub fn with_spool(spool: S, config: Arc<ArcSwap<Config>>) -> Intake<S> {
        Intake { spool, config, turns: Arc::default(), held: Held::default() }
    }

    /// What is behind.
    pub fn spool(&self) -> &S {
        &self.spool
    }

    /// The content that all sessions hold together.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes a message in. It is durable, with its `r` events, when this returns `Ok`.
    pub async fn submit(&self, submission: Submission) -> Result<MessageId, SubmitError> {
        let now = submission.now;
        let prepared = prepare(submission, self.spool.next_message_id(), &self.turns)?;
        let message = prepared.message;
        self.spool.accept(message.clone(), prepared.received).await?;
        if !prepared.states.is_empty() {
            self.spool.admit(&message.envelope, &prepared.states, now);
        }
        if !prepared.suppressed.is_empty() {
            // The message is accepted whatever happens here; a failed store has stopped intake and says so itself.
            if let Err(error) = self.spool.end(&suppressed_events(&message, &prepared.suppressed, now)).await {
                tracing::error!(message = %message.envelope.id, "suppressed recipients could not be ended: {error}");
            }
        }
        Ok(message.envelope.id)
    }
}

/// Makes the message and its events. Pure, but for whose turn it is in a pool.
pub fn prepare(submission: Submission, id: MessageId, turns: &Turns) -> Result<Prepared, SubmitError> {
    let Submission { config, source, rcpts, env_id, now, .. } = &submission;
    let stamp = Stamp {
        from: submission.src_ip.map(|ip| (&*submission.src_mta, ip)),
        by: config.host_names.first().map_or("localhost", String::as_str),
        with: submission.with,
        id,
        rcpt: match rcpts.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        },
        now: *now,
    };
    let processed = header::process(&submission.content.bytes, source, &config.kept_headers, &stamp)?;
    let chosen = virtual_mta::choose(config, source, processed.virtual_mta.as_deref(), submission.local_ip, turns)?;
    if rcpts.is_empty() || rcpts.len() > usize::from(u16::MAX) || processed.body.len() > MAX_CONTENT + 4096 {
        return Err(SubmitError::TooLarge);
    }
    let body_len = u32::try_from(processed.body.len()).map_err(|_| SubmitError::TooLarge)?;

    let route = rcpts[0].route;
    let mut states = Vec::with_capacity(rcpts.len());
    let mut suppressed = Vec::new();
    for (index, rcpt) in (0u16..).zip(rcpts) {
        match &rcpt.suppressed {
            None => states.push(RcptState { index, attempts: 0, not_before: *now, in_doubt: false }),
            Some(why) => suppressed.push(Ended {
                index,
                suppressed_by: why.by,
                diag: format!("smtp;550 5.7.1 {}", why.text(&rcpt.address)),
                queue: queue_name(&rcpt.address, &chosen.virtual_mta),
            }),
        }
    }
    let envelope = Envelope {
        id,
        time_queued: *now,
        no_dsn: source.suppress_local_dsn || submission.from.is_empty(),
        return_full: match submission.ret {
            Some(ret) => ret == Return::Full,
            None => source.dsn_return_default == DsnReturn::Full,
        },
        ret_given: submission.ret.is_some(),
        env_id: if processed.env_id.is_empty() { env_id.clone() } else { processed.env_id.into() },
        job: processed.job.into(),
        vmta: chosen.virtual_mta,
        pool: chosen.pool,
        src_type: submission.src_type,
        src_ip: submission.src_ip,
        rcv_ip: submission.local_ip,
        eight_bit: submission.content.eight_bit,
        body_len,
        message_id_header: processed.message_id.into(),
        headers: processed.kept,
        route,
        terms: Default::default(),
        rcpts: rcpts
            .iter()
            .map(|r| Recipient { address: r.address.clone(), orcpt: r.orcpt.clone(), notify: r.notify })
            .collect(),
        orig: submission.from,
        src_mta: submission.src_mta,
        user: submission.user,
    };
    let received = received_events(&envelope, submission.local_ip);
    let message = Arc::new(Message { envelope, body: Bytes::from(processed.body) });
    Ok(Prepared { message, received, states, suppressed })
}

/// What all events of this message's reception share (reference/accounting.md, 3.2).
fn base<'a>(kind: Kind, envelope: &'a Envelope, index: u16, now: Time) -> Event<'a> {
    let rcpt = &envelope.rcpts[usize::from(index)]; // made from this very list
    Event {
        message: envelope.id,
        rcpt_index: index,
        orig: &envelope.orig,
        rcpt: &rcpt.address,
        orcpt: &rcpt.orcpt,
        src_type: Some(envelope.src_type),
        src_mta: &envelope.src_mta,
        src_ip: envelope.src_ip,
        user: &envelope.user,
        vmta: &envelope.vmta,
        pool: &envelope.pool,
        job: &envelope.job,
        env_id: &envelope.env_id,
        headers: envelope.headers.as_pairs(),
        ..Event::new(kind, now)
    }
}

/// One `r` event for each recipient. Its `vmta` is the pool's name when a pool was asked for.
fn received_events(envelope: &Envelope, local_ip: Option<IpAddr>) -> Events {
    let mut events = Events::default();
    for (index, _) in (0u16..).zip(&envelope.rcpts) {
        let mut event = base(Kind::Received, envelope, index, envelope.time_queued);
        event.rcv_ip = local_ip;
        event.time_queued = envelope.time_queued;
        if !envelope.pool.is_empty() {
            event.vmta = &envelope.pool;
        }
        events.push(&event);
    }
    events
}

/// `domain/vmta`.
fn queue_name(rcpt: &str, virtual_mta: &str) -> String {
    let domain = rcpt.rsplit_once('@').map_or(rcpt, |(_, domain)| domain);
    format!("{}/{virtual_mta}", canonical_domain(domain))
}

/// The `b` events of recipients that are suppressed (reference/submission.md, section 8).
fn suppressed_events<'a>(message: &'a Message, ended: &'a [Ended], now: Time) -> Vec<Event<'a>> {
    let envelope = &message.envelope;
    let event = |ended: &'a Ended| Event {
        time_queued: envelope.time_queued,
        action: Some(Action::Failed),
        status: EnhancedStatus::new(5, 7, 1),
        diag: &ended.diag,
        category: SUPPRESSED,
        suppressed_by: ended.suppressed_by,
        queue: &ended.queue,
        provider: ended.queue.split('/').next().unwrap_or_default(),
        ..base(Kind::Bounced, envelope, ended.index, now)
    };
    ended.iter().map(event).collect()
}
