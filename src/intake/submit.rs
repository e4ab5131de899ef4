//! The end of every way in: a submission becomes a message with its `r` events, durable before anybody hears of it.
//!
//! [`prepare`] is pure: headers read and completed, VirtualMTA chosen, every recipient judged once more (see
//! [`judge`](super::judge)), envelope and events made. [`Intake::submit`] has the store keep them (the `250` comes after
//! that) and hands to the queue who is to be served. Suppressed recipients end in the record that brings the message:
//! there is no moment at which a crash would leave them queued.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::config::model::DsnReturn;
use crate::config::{Config, Source, SuppressionOutcome};
use crate::event::address::canonical_domain;
use crate::event::category::SUPPRESSED;
use crate::event::{Action, EnhancedStatus, Event, Events, Kind, MessageId, SourceType, Time};
use crate::queue::Engine;
use crate::smtp::answer::Answer;
use crate::smtp::data::Content;
use crate::smtp::dsn::Return;
use crate::store::message::SuppressionTerms;
use crate::store::{Envelope, Message, RcptState, Recipient, Route, Store, StoreError};
use crate::suppress::{AddressLists, Mail, NotLoaded, Suppressed, Suppression};

use super::header::{self, HeaderError, Stamp};
use super::judge::judge;
use super::slots::Held;
use super::unsubscribe::list_and_link;
use super::virtual_mta::{self, Turns, VirtualMtaError};

/// Largest content, whatever the configuration says: an accepted message is one record of the store, which takes 64 MiB.
pub const MAX_CONTENT: usize = 50 << 20;

/// What intake needs of the rooms behind it. [`Rooms`] are the real ones; tests and load measurements bring their own.
pub trait Spool: Clone + Send + Sync + 'static {
    /// Why no mail can be taken now, if so.
    fn refused(&self) -> Option<String>;
    /// Whether this mail to this recipient is suppressed.
    fn suppressed(&self, rcpt: &str, mail: &Mail<'_>) -> Option<Suppressed>;
    /// Whether the recipient is in one of these `<address-list>`s, given by their lower-cased names.
    fn listed(&self, lists: &[String], rcpt: &str) -> Result<Option<Suppressed>, NotLoaded>;
    /// An id that was never given before.
    fn next_message_id(&self) -> MessageId;
    /// Keeps a message in one record: with these events, these of its recipients ended, and, if there is one, the report
    /// about those. Durable when it returns.
    fn accept(
        &self,
        message: Arc<Message>,
        events: Events,
        ended: &[u16],
        report: Option<(Arc<Message>, Events)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
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
    /// The operator's own lists of that.
    pub address_lists: AddressLists,
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

    fn listed(&self, lists: &[String], rcpt: &str) -> Result<Option<Suppressed>, NotLoaded> {
        self.address_lists.find(lists, rcpt)
    }

    async fn accept(
        &self,
        message: Arc<Message>,
        events: Events,
        ended: &[u16],
        report: Option<(Arc<Message>, Events)>,
    ) -> Result<(), StoreError> {
        match ended {
            [] => self.store.accept(message, events).await,
            _ => self.store.accept_ending(message, events, ended, report).await,
        }
    }

    fn admit(&self, envelope: &Envelope, states: &[RcptState], now: Time) {
        self.queue.admit(envelope, states, now);
    }
}

/// Makes the report to the sender about recipients of a message that have ended, with its `r` event; `None` where none is
/// to be made. Reports are delivery's business, which the composition root lends to intake.
pub type Report = dyn Fn(&Config, &Message, &[(u16, &str)], Time) -> Option<(Arc<Message>, Events)> + Send + Sync;

/// Takes mail in; cheap to clone.
#[derive(Clone)]
pub struct Intake<S = Rooms> {
    spool: S,
    report: Option<Arc<Report>>,
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
        address_lists: AddressLists,
        config: Arc<ArcSwap<Config>>,
        now: fn() -> Time,
    ) -> Intake<Rooms> {
        Intake::with_spool(Rooms { store, queue, suppression, address_lists, now }, config)
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Intake<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("spool", &self.spool).finish_non_exhaustive()
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
    /// A suppression list that its source asks for.
    #[error(transparent)]
    NotLoaded(#[from] NotLoaded),
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
            SubmitError::NotLoaded(error) => list_not_loaded(error),
            SubmitError::Store(_) => STORE_REFUSES,
        }
    }
}

/// The reply while the store takes no mail.
pub const STORE_REFUSES: Answer = Answer::new(452, "4.3.1", "insufficient system storage, try again later");

/// The reply while nobody can say whether a recipient is in a list.
pub fn list_not_loaded(error: &NotLoaded) -> Answer {
    Answer::with(451, "4.3.0", format!("suppression list \"{}\" is not available, try again later", error.list))
}

/// A message that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its id.
    pub id: MessageId,
    /// Its recipients.
    pub rcpts: u16,
    /// How many of them are suppressed: they have ended, the others are queued.
    pub suppressed: u16,
}

impl Taken {
    /// The reply after the final dot. It says how many recipients are suppressed, so that a client that counts them hears
    /// also of those that could not be refused.
    pub fn answer(&self) -> Answer {
        let Taken { id, rcpts, suppressed } = self;
        let text = match suppressed {
            0 => format!("message accepted, id {id}"),
            _ => format!("message accepted, id {id}, {suppressed} of {rcpts} recipients suppressed"),
        };
        Answer::with(250, "2.6.0", text)
    }
}

/// A message ready to be kept.
#[derive(Debug)]
pub struct Prepared {
    /// The message.
    pub message: Arc<Message>,
    /// One `r` event for each recipient, then the `b` events of those that end at once.
    pub events: Events,
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
        Intake { spool, report: None, config, turns: Arc::default(), held: Held::default() }
    }

    /// With reports to senders about recipients that are suppressed; without it there are none.
    #[must_use]
    pub fn reporting(self, report: Arc<Report>) -> Intake<S> {
        Intake { report: Some(report), ..self }
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

    /// Takes a message in. It is durable, with its events, when this returns `Ok`. All channels end here, and here all
    /// recipients are judged, whatever the channel knew of them.
    pub async fn submit(&self, submission: Submission) -> Result<Taken, SubmitError> {
        let (now, config, source) = (submission.now, submission.config.clone(), submission.source.clone());
        let judge = |rcpt: &str, mail: &Mail<'_>| judge(&self.spool, &source, rcpt, mail);
        let prepared = prepare(submission, self.spool.next_message_id(), &self.turns, &judge)?;
        let Prepared { message, events, states, suppressed } = prepared;
        let report = match &self.report {
            Some(report) if !suppressed.is_empty() && source.outcome_of_suppressed() != SuppressionOutcome::Drop => {
                let endings: Vec<(u16, &str)> = suppressed.iter().map(|e| (e.index, e.reply())).collect();
                report(&config, &message, &endings, now)
            }
            _ => None,
        };
        let told = report.as_ref().map(|(report, _)| report.clone());
        let ended: Vec<u16> = suppressed.iter().map(|e| e.index).collect();
        self.spool.accept(message.clone(), events, &ended, report).await?;
        if !states.is_empty() {
            self.spool.admit(&message.envelope, &states, now);
        }
        if let Some(report) = told {
            let state = RcptState { index: 0, attempts: 0, not_before: now, in_doubt: false };
            self.spool.admit(&report.envelope, &[state], now);
        }
        // `prepare` made sure that the numbers fit.
        let (rcpts, suppressed) = (message.envelope.rcpts.len() as u16, ended.len() as u16);
        Ok(Taken { id: message.envelope.id, rcpts, suppressed })
    }
}

/// Says why a mail is not to go to this address, if so.
pub type Judge<'a> = dyn Fn(&str, &Mail<'_>) -> Result<Option<Suppressed>, NotLoaded> + 'a;

/// Makes the message and its events. Pure, but for whose turn it is in a pool and what `judge` looks at, which says why a
/// recipient is suppressed.
pub fn prepare(
    submission: Submission,
    id: MessageId,
    turns: &Turns,
    judge: &Judge<'_>,
) -> Result<Prepared, SubmitError> {
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
    let (list, unsubscribe) = match route {
        Route::Deliver => list_and_link(source, &processed, &submission.from),
        _ => Default::default(),
    };
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
        terms: SuppressionTerms {
            source: source.name.as_str().into(),
            list,
            exempt_scopes: source.suppression_exempt_scopes,
            exempt_rules: source.suppression_exempt_rules.clone(),
            unsubscribe,
        },
        rcpts: rcpts
            .iter()
            .map(|r| Recipient { address: r.address.clone(), orcpt: r.orcpt.clone(), notify: r.notify })
            .collect(),
        orig: submission.from,
        src_mta: submission.src_mta,
        user: submission.user,
    };
    let mut states = Vec::with_capacity(envelope.rcpts.len());
    let mut suppressed = Vec::new();
    let mail = Mail::of(&envelope);
    for (index, rcpt) in (0u16..).zip(&submission.rcpts) {
        let why = match (&rcpt.suppressed, route) {
            (Some(why), _) => Some(why.clone()),
            (None, Route::Deliver) => judge(&rcpt.address, &mail)?,
            // Reports to us are never held back.
            (None, Route::Bounce | Route::Feedback | Route::Unsubscribe) => None,
        };
        match why {
            None => states.push(RcptState { index, attempts: 0, not_before: envelope.time_queued, in_doubt: false }),
            Some(why) => suppressed.push(Ended {
                index,
                suppressed_by: why.by,
                diag: format!("smtp;550 5.7.1 {}", why.text(&rcpt.address)),
                queue: queue_name(&rcpt.address, &envelope.vmta),
            }),
        }
    }
    let mut events = received_events(&envelope, submission.local_ip);
    let message = Arc::new(Message { envelope, body: Bytes::from(processed.body) });
    suppressed_events(&message, &suppressed).for_each(|event| events.push(&event));
    Ok(Prepared { message, events, states, suppressed })
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
        list: &envelope.terms.list,
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
fn suppressed_events<'a>(message: &'a Message, ended: &'a [Ended]) -> impl Iterator<Item = Event<'a>> {
    let envelope = &message.envelope;
    ended.iter().map(|ended| Event {
        time_queued: envelope.time_queued,
        action: Some(Action::Failed),
        status: EnhancedStatus::new(5, 7, 1),
        diag: &ended.diag,
        category: SUPPRESSED,
        suppressed_by: ended.suppressed_by,
        queue: &ended.queue,
        provider: ended.queue.split('/').next().unwrap_or_default(),
        ..base(Kind::Bounced, envelope, ended.index, envelope.time_queued)
    })
}

impl Ended {
    /// What a reply at RCPT would have been.
    fn reply(&self) -> &str {
        self.diag.strip_prefix("smtp;").unwrap_or(&self.diag)
    }
}
