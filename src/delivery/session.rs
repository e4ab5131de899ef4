#![expect(clippy::disallowed_methods, reason = "edge: the clock of outcomes, reading from the store")]
//! One permit of a queue: reach a host, send what the queue has, record what comes of it.
//!
//! Promises: right before RCPT is written the suppression list is asked; per transaction the queue's lock is taken once
//! and the store told once. A session that ends anyhow leaves no recipient behind: the permit returns those whose fate
//! it does not know, and those for whom the final dot was out are recorded as in doubt.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::model::Transport;
use crate::event::address::canonical_domain;
use crate::event::header_token;
use crate::event::return_path::{self, TokenKeys};
use crate::event::{Action, DeliveryType, Event, Events, Kind, MessageId, Stage, Time};
use crate::net::dns::RouteError;
use crate::queue::{Fate, Limits, Next, Permit, Purpose};
use crate::smtp::client::{Mail, Transaction};
use crate::smtp::dsn::{Dsn, RcptDsn, Return};
use crate::store::{Envelope, Finish, LoadError, Message, RcptState, StoreError};

use super::attempt::{self, Attempt, Facts, Ledgered};
use super::dialogue::Connection;
use super::notify::{self, Ending};
use super::outcome::{CONNECTION_LOST, Outcome, Verdict, of_recipient, status};
use super::reach::{Unreached, Way, reach};
use super::run::Context;
use super::steer::Course;
use super::unsubscribe;

/// How long a message that could not be read for an I/O error is left alone.
const UNREADABLE_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

/// Runs a permit to its end, or to the cut at the stop.
pub async fn run(permit: Permit, context: Arc<Context>) {
    let mut cut = context.cut.clone();
    let mut session = Session {
        permit,
        context,
        output: Vec::new(),
        current: None,
        at_dot: false,
        facts: Facts::default(),
        skip: false,
    };
    let ended = tokio::select! {
        biased;
        () = session.drive() => true,
        _ = cut.wait_for(|cut| *cut) => false,
    };
    if !ended {
        session.cut_off().await;
    }
}

pub(super) struct Session {
    pub(super) permit: Permit,
    pub(super) context: Arc<Context>,
    output: Vec<u8>,
    /// The message under way.
    current: Option<Arc<Message>>,
    /// Its final dot may have reached the server.
    at_dot: bool,
    /// The connection it is under way on.
    facts: Facts,
    /// The host is to be given up, and another one to go on with.
    skip: bool,
}

pub(super) fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

impl Session {
    async fn drive(&mut self) {
        self.look_at_holds().await;
        self.end_expired("").await;
        if !self.permit.has_ready() {
            return;
        }
        let settings = self.permit.settings().clone();
        if settings.transport != Transport::Smtp {
            return super::local::run(self, settings.transport).await;
        }
        let config = self.context.config.load_full();
        let queue = self.permit.queue().clone();
        let Some(vmta) = Limits::virtual_mta(&*config, queue.vmta()) else {
            let why = Outcome {
                category: "bad-configuration",
                ..local(status(5, 3, 5), "specified VirtualMTA does not exist")
            };
            return self.dispose(why).await;
        };
        let mut way = Way { disabled: self.permit.disabled_sources(), ..Way::default() };
        let unreached = loop {
            let reached = reach(&self.context, &config, &vmta, &queue, &settings, &mut way).await;
            let mut goes_on = true;
            for (orders, facts) in std::mem::take(&mut way.orders) {
                self.obey(&orders, &facts).await;
                goes_on &= !orders.defer && orders.bounce_queue.is_none();
            }
            let disabled = std::mem::replace(&mut way.disabled, self.permit.disabled_sources());
            match reached {
                Ok(connection) => match self.transact(connection).await {
                    Some(host) => {
                        way.given_up.push(host);
                        way.disabled = self.permit.disabled_sources();
                    }
                    None => return,
                },
                // A host that turned one source address away may take another.
                Err(Unreached::Hosts(..))
                    if goes_on
                        && way.disabled.len() > disabled.len()
                        && vmta.smtp_source_hosts.iter().any(|(ip, _)| !way.disabled.contains(ip)) => {}
                Err(unreached) => break unreached,
            }
        };
        match unreached {
            Unreached::BounceAll => {}
            Unreached::Queue(error) => {
                let text = error.to_string();
                let (code, category) = match error {
                    RouteError::NullMx => (status(5, 1, 10), "bad-domain"),
                    RouteError::Loop => (status(5, 4, 6), "routing-errors"),
                    RouteError::NoHosts => (status(5, 4, 4), "bad-domain"),
                    _ => (status(5, 1, 2), "bad-domain"),
                };
                self.dispose(Outcome { category, ..local(code, &text) }).await;
            }
            Unreached::BounceOne(facts, stage, reply) => {
                if let Next::Transaction(id) | Next::Expired(id) = self.permit.next(Purpose::Dispose) {
                    self.record_all(id, &facts, Outcome::refused(&reply, stage)).await;
                }
            }
            Unreached::Hosts(facts, code, why) => {
                let diag = why.strip_prefix("smtp;").unwrap_or(&why);
                if self.permit.failed(diag) {
                    tracing::info!(queue = queue.as_str(), mta = &*facts.mta, "queue deferred: {diag}");
                    if !settings.disable_acct_records.contains(Kind::TransientQueue) {
                        let mut events = Events::new();
                        events.push(&attempt::queue_failed(&queue, &facts, code, &why, now()));
                        let told = self.context.store.append(events).await;
                        self.check(told);
                    }
                }
                self.end_expired(diag).await;
            }
        }
    }

    /// Looks again at the recipients on hold whose time it is: those whose entry was let go are queued as before, those
    /// whose entry was confirmed end as suppressed, and those whose time is over expire. Makes no attempt.
    pub(super) async fn look_at_holds(&mut self) {
        loop {
            self.permit.next_on_hold();
            while let Some(next) = self.permit.drawn.iter().find(|d| d.fate == Fate::Again && !d.looked_at) {
                self.look_at(next.entry.message()).await;
            }
            if self.permit.drawn.is_empty() {
                return;
            }
        }
    }

    async fn look_at(&mut self, id: MessageId) {
        let Some(message) = self.load(id).await else { return };
        let queue = self.permit.queue().clone();
        let settings = self.permit.settings().clone();
        let (facts, envelope) = (Facts::default(), &message.envelope);
        let attempt = Attempt { envelope, queue: &queue, settings: &settings, facts: &facts, now: now() };
        let mut told = Ledgered::default();
        for drawn in self.permit.drawn.iter_mut().filter(|d| d.entry.message() == id && d.fate == Fate::Again) {
            drawn.looked_at = true;
            match attempt.why_not(&self.context.suppression, drawn.entry.state().index) {
                Some(why) if !why.held => attempt.suppressed(drawn, &why, &mut told),
                why if drawn.entry.expires(settings.bounce_after) <= attempt.now => {
                    let held = why.map(|why| format!("on hold, {} is held back", why.list)).unwrap_or_default();
                    attempt.expired(drawn, &held, &mut told);
                }
                Some(why) => attempt.suppressed(drawn, &why, &mut told),
                None => {}
            }
        }
        self.hand_over(&message, told).await;
    }

    /// One transaction after the other, until queue, server or limits end it, or a reply says to go on with another host:
    /// then this one comes back, to be given up.
    async fn transact(&mut self, mut connection: Connection) -> Option<(Box<str>, u16)> {
        self.permit.connected_from(connection.facts.source_ip);
        self.skip = false;
        while !connection.out_of_step() {
            if self.permit.look_is_due {
                self.look_at_holds().await;
            }
            match self.permit.next(Purpose::Deliver) {
                Next::Idle(_) if self.permit.look_is_due => {}
                // Mail that is to stay here by now must not go out.
                Next::Transaction(_) if self.permit.settings().transport != Transport::Smtp => {
                    connection.quit().await;
                    return None;
                }
                Next::Transaction(id) => {
                    if !self.send(&mut connection, id).await {
                        let host = self.skip.then(|| connection.host.clone());
                        if connection.leaving {
                            connection.quit().await;
                        }
                        return host;
                    }
                }
                Next::Expired(id) => self.expire(id, "").await,
                Next::Idle(until) => {
                    if !connection.idle(self.permit.woken(), until.since(now())).await {
                        return None;
                    }
                }
                Next::Close => {
                    connection.quit().await;
                    return None;
                }
            }
        }
        None
    }

    /// Sends one message. `false` when the connection is of no more use.
    async fn send(&mut self, connection: &mut Connection, id: MessageId) -> bool {
        let Some(message) = self.load(id).await else { return true };
        let envelope = &message.envelope;
        if self.is_paused(envelope) {
            return true;
        }
        let queue = self.permit.queue().clone();
        let settings = self.permit.settings().clone();
        let mut told = Ledgered::default();

        // RFC 1870, 6.1: what is larger than the host takes is refused for good, without sending it.
        let too_large = match connection.ehlo.size {
            Some(limit) if limit > 0 && message.body.len() as u64 > limit => Some(format!(
                "message size of {} octets exceeds the limit of {limit} that the host states",
                message.body.len()
            )),
            _ => None,
        };

        // Who is not to be written to is sorted out right before the others' RCPT is.
        let mut active = Vec::with_capacity(self.permit.drawn.len());
        let mut addresses = Vec::with_capacity(self.permit.drawn.len());
        let mut needs_utf8 = false;
        let attempt = Attempt { envelope, queue: &queue, settings: &settings, facts: &connection.facts, now: now() };
        for (n, drawn) in self.permit.drawn.iter_mut().enumerate() {
            let Some(recipient) = envelope.rcpts.get(usize::from(drawn.entry.state().index)) else {
                drawn.fate = Fate::Done;
                continue;
            };
            if let Some(why) = attempt.why_not(&self.context.suppression, drawn.entry.state().index) {
                attempt.suppressed(drawn, &why, &mut told);
                continue;
            }
            if let Some(why) = &too_large {
                let outcome = Outcome::local(Verdict::Bounced, status(5, 3, 4), why, Stage::Mail, "content-related");
                attempt.record(drawn, outcome, &mut told);
                continue;
            }
            match wire_address(&recipient.address, connection.ehlo.smtp_utf8) {
                Ok(address) => {
                    needs_utf8 |= !address.is_ascii();
                    active.push(n);
                    addresses.push(address);
                }
                Err(outcome) => attempt.record(drawn, outcome, &mut told),
            }
        }
        if active.is_empty() {
            self.hand_over(&message, told).await;
            return true;
        }

        let sender = match active.as_slice() {
            [only] => self.return_path(&message, self.permit.drawn[*only].entry.state().index),
            _ => Cow::Borrowed(&*envelope.orig),
        };
        let marked = match active.as_slice() {
            [only] => {
                let index = self.permit.drawn[*only].entry.state().index;
                self.with_own_fields(&message, index, settings.add_token_header)
            }
            _ => None,
        };
        let content = marked.as_ref().unwrap_or(&message.body);
        let wishes = self.wishes(connection, envelope, &active);
        let dsn = connection.facts.reports.then_some(Dsn {
            ret: envelope.ret_given.then_some(if envelope.return_full { Return::Full } else { Return::Headers }),
            env_id: &envelope.env_id,
            rcpts: &wishes,
        });
        let mail = Mail {
            sender: &sender,
            size: content.len() as u64,
            eight_bit: envelope.eight_bit && !settings.ignore_8bitmime,
            utf8: needs_utf8 || !sender.is_ascii(),
            dsn,
            reset: std::mem::take(&mut connection.reset),
        };
        let output = std::mem::take(&mut self.output);
        if settings.ignore_pipelining {
            connection.ehlo.pipelining = false;
        }
        let ehlo = std::mem::take(&mut connection.ehlo);
        let mut transaction = Transaction::new(&ehlo, mail, addresses.len(), |n| &*addresses[n], output);
        connection.ehlo = ehlo;
        self.at_dot = false;
        self.current = Some(message.clone());
        if self.facts.mta_ip != connection.facts.mta_ip {
            self.facts = connection.facts.clone();
        }
        let lost = connection.converse(&mut transaction, content, &settings, &mut self.at_dot).await.err();
        let lost = lost.map(|lost| lost.to_string());
        let (result, output) = transaction.into_result();
        self.output = output;
        self.current = None;

        let attempt = Attempt { envelope, queue: &queue, settings: &settings, facts: &connection.facts, now: now() };
        let steering = self.context.steering();
        let mut course = Course::new(&steering, &settings, queue.domain(), &connection.facts.mta, connection.others);
        for (n, place) in active.iter().enumerate() {
            let outcome = of_recipient(&result, n, lost.as_deref(), connection.used);
            let drawn = &mut self.permit.drawn[*place];
            let outcome = course.bend(outcome, drawn.entry.state().attempts);
            attempt.record(drawn, outcome, &mut told);
        }
        if let Some(text) = result.session_failure().or(lost.as_deref()) {
            course.failed(text);
        }
        let orders = course.orders;
        if let (Some(lost), true) = (&lost, settings.log_transfer_failures) {
            tracing::warn!(queue = queue.as_str(), mta = &*connection.facts.mta, "transfer failed: {lost}");
        }
        self.hand_over(&message, told).await;
        connection.used = true;
        connection.reset = result.unfinished;
        let keep = self.obey(&orders, &connection.facts).await;
        let alive = lost.is_none() && result.closing.is_none();
        (self.skip, connection.leaving) = (orders.skip_mx, alive);
        alive && keep
    }

    /// What the next hop is to be told of each recipient's NOTIFY and ORCPT, where it understands it (RFC 3461, 5.2.1).
    fn wishes<'e>(&self, connection: &Connection, envelope: &'e Envelope, active: &[usize]) -> Vec<RcptDsn<'e>> {
        if !connection.facts.reports {
            return Vec::new();
        }
        let rcpt = |place: &usize| {
            let index = usize::from(self.permit.drawn[*place].entry.state().index);
            envelope
                .rcpts
                .get(index)
                .map_or(RcptDsn { notify: 0, orcpt: "" }, |r| RcptDsn { notify: r.notify, orcpt: &r.orcpt })
        };
        active.iter().map(rcpt).collect()
    }

    /// The sender to give: signed for this recipient where that is configured; the null sender is left alone.
    fn return_path<'m>(&self, message: &'m Message, rcpt: u16) -> Cow<'m, str> {
        let envelope = &message.envelope;
        let config = self.context.config.load();
        match &config.return_path_token {
            Some(token) if !envelope.orig.is_empty() => {
                let Some(domain) = &token.domain else { return Cow::Borrowed(&envelope.orig) };
                let keys = TokenKeys { domain, keys: &token.keys, now: now() };
                match return_path::mint(keys, self.context.store.id(), envelope.id, rcpt) {
                    Some(signed) => Cow::Owned(signed),
                    None => Cow::Borrowed(&envelope.orig),
                }
            }
            _ => Cow::Borrowed(&envelope.orig),
        }
    }

    /// The content with the header fields in front that only this recipient's copy has; `None` when it has none.
    fn with_own_fields(&self, message: &Message, rcpt: u16, token_header: bool) -> Option<bytes::Bytes> {
        // Mail of the null sender is left alone: no report comes about it, and it belongs to no list.
        if message.envelope.orig.is_empty() || !token_header && message.envelope.terms.unsubscribe.is_none() {
            return None;
        }
        let config = self.context.config.load();
        let token = config.return_path_token.as_ref()?;
        let (store, now) = (self.context.store.id(), now());
        let mut fields = String::new();
        if let Some(name) = token.header.as_ref().filter(|_| token_header)
            && let Some(value) =
                header_token::mint(&token.keys, now, token.encrypt_header, store, (message.envelope.id, rcpt))
        {
            fields = format!("{name}: {value}\r\n");
        }
        fields.extend(unsubscribe::fields(&message.envelope, rcpt, store, &token.keys, now));
        if fields.is_empty() {
            return None;
        }
        let mut content = Vec::with_capacity(fields.len() + message.body.len());
        content.extend_from_slice(fields.as_bytes());
        content.extend_from_slice(&message.body);
        Some(content.into())
    }

    /// The message; `None` when it can't be had, what is drawn of it being dealt with.
    pub(super) async fn load(&mut self, id: MessageId) -> Option<Arc<Message>> {
        let store = &self.context.store;
        if let Some(message) = store.cached(id) {
            return Some(message);
        }
        let loaded = match tokio::runtime::Handle::current().runtime_flavor() {
            tokio::runtime::RuntimeFlavor::CurrentThread => store.load(id),
            _ => tokio::task::block_in_place(|| store.load(id)),
        };
        let error = match loaded {
            Ok(message) => return Some(message),
            Err(error) => error,
        };
        tracing::error!(message = id.0, queue = self.permit.queue().as_str(), "{error}");
        let queue = self.permit.queue().clone();
        let of_it = self.permit.drawn.iter_mut().filter(|d| d.entry.message() == id);
        match error {
            LoadError::Gone(_) => of_it.for_each(|d| d.fate = Fate::Done),
            LoadError::Io(..) => {
                let not_before = now() + UNREADABLE_PAUSE;
                of_it.for_each(|d| d.fate = Fate::Retry(RcptState { not_before, ..d.entry.state() }));
            }
            LoadError::Damaged(..) => {
                let mut finish = Finish::new();
                let diag = error.to_string();
                for drawn in of_it {
                    let state = drawn.entry.state();
                    drawn.fate = Fate::Done;
                    finish.recipient(id, state.index).event(&Event {
                        message: id,
                        rcpt_index: state.index,
                        attempt: 0,
                        in_doubt: state.in_doubt,
                        action: Some(Action::Failed),
                        status: Some(status(5, 3, 0)),
                        diag: &diag,
                        category: "other",
                        vmta: queue.vmta(),
                        queue: queue.as_str(),
                        provider: queue.domain(),
                        ..Event::new(Kind::Bounced, now())
                    });
                }
                let told = self.context.store.finish(finish).await;
                self.check(told);
            }
        }
        None
    }

    /// Whether the job of this message was paused after its recipients were drawn: they go back then.
    pub(super) fn is_paused(&mut self, envelope: &Envelope) -> bool {
        if !self.permit.pauses(&envelope.job) {
            return false;
        }
        let of_it = self.permit.drawn.iter_mut().filter(|d| d.entry.message() == envelope.id);
        of_it.filter(|d| d.fate == Fate::Again).for_each(|d| d.fate = Fate::Paused);
        true
    }

    /// Gives one outcome to all that is drawn of a message.
    pub(super) async fn record_all(&mut self, id: MessageId, facts: &Facts, outcome: Outcome<'_>) {
        let Some(message) = self.load(id).await else { return };
        // What is in doubt was attempted before the pause or the entry came: that is said first.
        if !outcome.in_doubt && self.is_paused(&message.envelope) {
            return;
        }
        let queue = self.permit.queue().clone();
        let settings = self.permit.settings().clone();
        let attempt = Attempt { envelope: &message.envelope, queue: &queue, settings: &settings, facts, now: now() };
        let mut told = Ledgered::default();
        for drawn in self.permit.drawn.iter_mut().filter(|d| d.entry.message() == id && d.fate == Fate::Again) {
            match attempt.why_not(&self.context.suppression, drawn.entry.state().index) {
                Some(why) if !outcome.in_doubt => attempt.suppressed(drawn, &why, &mut told),
                _ => attempt.record(drawn, outcome, &mut told),
            }
        }
        self.hand_over(&message, told).await;
    }

    /// Ends all that is ready in the queue with this outcome.
    async fn dispose(&mut self, outcome: Outcome<'_>) {
        while let Next::Transaction(id) | Next::Expired(id) = self.permit.next(Purpose::Dispose) {
            self.record_all(id, &Facts::default(), outcome).await;
        }
    }

    /// Ends what is drawn of a message: its time is over.
    pub(super) async fn expire(&mut self, id: MessageId, last_error: &str) {
        let Some(message) = self.load(id).await else { return };
        let queue = self.permit.queue().clone();
        let settings = self.permit.settings().clone();
        let facts = Facts::default();
        let attempt =
            Attempt { envelope: &message.envelope, queue: &queue, settings: &settings, facts: &facts, now: now() };
        let mut told = Ledgered::default();
        for drawn in self.permit.drawn.iter_mut().filter(|d| d.entry.message() == id && d.fate == Fate::Again) {
            attempt.expired(drawn, last_error, &mut told);
        }
        self.hand_over(&message, told).await;
    }

    /// Ends all recipients of the queue whose time is over, whether or not a host can be reached.
    async fn end_expired(&mut self, last_error: &str) {
        loop {
            self.permit.next_expired();
            let Some(first) = self.permit.drawn.first() else { return };
            let mut id = first.entry.message();
            self.expire(id, last_error).await;
            while let Some(next) = self.permit.drawn.iter().find(|d| d.fate == Fate::Again) {
                id = next.entry.message();
                self.expire(id, last_error).await;
            }
        }
    }

    /// Tells the store: what ends, with the report about what failed, in one record; what is deferred in another.
    pub(super) async fn hand_over(&mut self, message: &Message, mut told: Ledgered) {
        self.permit.delivered |= told.delivered;
        if told.finished {
            let (failures, successes) = (std::mem::take(&mut told.failures), std::mem::take(&mut told.successes));
            let reports = [failures, successes].map(|endings| self.report(message, &endings, &mut told.finish));
            if self.finish(told.finish).await {
                // Durable now. If the process dies before the next line, start-up finds them in the spool.
                let now = now();
                let state = RcptState { index: 0, attempts: 0, not_before: now, in_doubt: false };
                reports.iter().flatten().for_each(|r| self.context.engine.admit(&r.envelope, &[state], now));
            }
        }
        if !told.states.is_empty() {
            let result = self.context.store.retry(message.envelope.id, &told.states, told.events).await;
            self.check(result);
        }
    }

    /// The report to the sender about what failed, or what went well, put into the record that ends it; `None` when there
    /// is none to make.
    fn report(&self, message: &Message, endings: &[Ending], finish: &mut Finish) -> Option<Arc<Message>> {
        if endings.is_empty() {
            return None;
        }
        let (config, store) = (self.context.config.load(), &self.context.store);
        if !notify::wanted(&config, &message.envelope) {
            return None;
        }
        let ids = (store.id(), store.next_message_id());
        let (report, received) = notify::report(&config, message, endings, ids, now());
        tracing::debug!(message = message.envelope.id.0, report = ids.1.0, "the sender gets a report");
        finish.message(report.clone(), received);
        Some(report)
    }

    /// Ends recipients in one record, with the messages that this causes; whether those are in the store. The store
    /// refuses the whole of it when one of the recipients has ended otherwise meanwhile (or when it is too large for a
    /// record): then each recipient is ended by itself, and the messages come last.
    async fn finish(&self, finish: Finish) -> bool {
        let copy = (finish.done.len() > 1).then(|| Finish {
            done: finish.done.clone(),
            events: finish.events.clone(),
            messages: finish.messages.clone(),
        });
        let mut result = self.context.store.finish(finish).await;
        if let (Err(StoreError::NotQueued { .. } | StoreError::TooLarge { .. }), Some(whole)) = (&result, copy) {
            result = Ok(());
            for part in attempt::one_by_one(whole, self.context.store.id()) {
                self.check(std::mem::replace(&mut result, self.context.store.finish(part).await));
            }
        }
        let written = result.is_ok();
        self.check(result);
        written
    }

    /// A store that takes no outcomes ends delivery: what was sent but not recorded would be sent again and again.
    fn check(&self, told: Result<(), StoreError>) {
        match told {
            Ok(()) => {}
            Err(error @ (StoreError::NotQueued { .. } | StoreError::TooLarge { .. })) => {
                tracing::error!(queue = self.permit.queue().as_str(), "an outcome was not recorded: {error}");
            }
            Err(error) => {
                tracing::error!("delivery stops, outcomes can't be recorded: {error}");
                self.context.engine.stop();
            }
        }
    }

    /// A delivery without a dialogue begins, which may be done when we are cut off.
    pub(super) fn under_way(&mut self, message: &Arc<Message>, facts: &Facts) {
        (self.current, self.facts, self.at_dot) = (Some(message.clone()), facts.clone(), true);
    }

    /// It has ended, and what came of it is known.
    pub(super) fn no_longer_under_way(&mut self) {
        (self.current, self.at_dot) = (None, false);
    }

    /// The stop does not wait any longer. What is in doubt is said so; the rest returns to the queue.
    async fn cut_off(&mut self) {
        if !std::mem::take(&mut self.at_dot) {
            return;
        }
        if let Some(message) = self.current.take() {
            let facts = std::mem::take(&mut self.facts);
            let (code, text) = match facts.delivery {
                None | Some(DeliveryType::Smtp) => (CONNECTION_LOST, "stopped before the reply after the final dot"),
                Some(_) => (status(4, 3, 0), "the server stopped before it was done"),
            };
            let outcome = Outcome { in_doubt: true, ..Outcome::local(Verdict::Deferred, code, text, Stage::Eod, "") };
            self.record_all(message.envelope.id, &facts, outcome).await;
        }
    }
}

fn local(code: crate::event::EnhancedStatus, text: &str) -> Outcome<'_> {
    Outcome::local(Verdict::Bounced, code, text, Stage::Connect, "")
}

/// The address as it may stand in RCPT; a domain beyond ASCII in A-label form, unless the server takes it as it is.
fn wire_address(address: &str, utf8: bool) -> Result<Cow<'_, str>, Outcome<'static>> {
    if address.bytes().any(|b| b < b' ' || b == 0x7f || b == b'<' || b == b'>') {
        let text = "the recipient address has a character that can't be sent";
        return Err(Outcome::local(Verdict::Bounced, status(5, 1, 3), text, Stage::Rcpt, ""));
    }
    if address.is_ascii() || utf8 {
        return Ok(Cow::Borrowed(address));
    }
    match address.rsplit_once('@') {
        Some((local, domain)) if local.is_ascii() => {
            let domain = canonical_domain(domain);
            Ok(Cow::Owned([local, "@", &domain].concat()))
        }
        _ => {
            let text = "the recipient address has characters beyond ASCII and the host does not offer SMTPUTF8";
            Err(Outcome::local(Verdict::Bounced, status(5, 6, 7), text, Stage::Rcpt, ""))
        }
    }
}
