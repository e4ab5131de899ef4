//! Records to a stream of NATS JetStream, `<acct-nats URL>`: one JSON message each, its `Nats-Msg-Id` the event id, so that
//! the broker drops what comes twice (within the stream's duplicate window).
//!
//! At least once: the cursor is committed only behind messages that the broker has acknowledged as stored. As many as
//! `max-pending` are under way at once. After a failure the output connects anew and goes on at its cursor.
#![expect(clippy::disallowed_methods, reason = "edge: a broker, waiting")]

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::jetstream::context::{Context, GetStreamErrorKind, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode, stream};
use async_nats::{Client, ConnectOptions, ServerAddr};

use super::closing::{Gap, State};
use super::json::JsonRows;
use super::push_place::{ALWAYS_SMALL, PushPlace};
use super::push_runtime::{PushRuntime, said};
use super::push_tls;
use super::sink::{LeftOut, Sink};
use super::target::{OutputError, Target};
use crate::config::{AcctFile, Push};
use crate::event::fields::Field;
use crate::event::{Event, EventId, Time};

/// What stands in a subject for a value that is not known.
const UNKNOWN: &str = "none";

/// A stream being written to.
#[derive(Debug)]
pub struct NatsOutput {
    target: Arc<Target>,
    rows: JsonRows,
    place: PushPlace,
    context: Context,
    /// Under way, each with the first sequence number behind it.
    pending: VecDeque<(PublishAckFuture, u64)>,
    /// First sequence number that was not acknowledged.
    stored: u64,
    works: bool,
    /// Last, so that it ends behind what runs in it.
    runtime: PushRuntime,
}

impl NatsOutput {
    /// Connects, and looks for the stream.
    pub fn open(target: Arc<Target>, rows: JsonRows, state: State, cursor: u64) -> Result<NatsOutput, OutputError> {
        let place = PushPlace::open(&target, state, cursor);
        let runtime = PushRuntime::new("nats", &target)?;
        let opened = runtime.run(&target.hurry, "the server stops", connect(&target.file));
        let context = opened.map_err(|why: String| target.push_error("connecting to", &why))?;
        let (pending, stored) = (VecDeque::new(), cursor);
        Ok(NatsOutput { target, rows, place, context, pending, stored, works: false, runtime })
    }

    /// Does something with the broker, until it is done, has failed, or a stop can't wait any longer.
    fn run<T>(
        &mut self,
        f: impl AsyncFnOnce(&Context, &mut VecDeque<(PublishAckFuture, u64)>, &mut u64) -> Result<T, String>,
    ) -> Result<T, OutputError> {
        let before = self.stored;
        let work = f(&self.context, &mut self.pending, &mut self.stored);
        let late = "no acknowledgement yet, and the server stops";
        let done = self.runtime.run(&self.target.hurry, late, work);
        self.works |= self.stored > before;
        match done {
            Ok(value) => Ok(value),
            Err(why) => {
                // What was acknowledged is not to be sent once more.
                self.place.keep(self.stored)?;
                Err(self.target.push_error("publishing to", &why))
            }
        }
    }

    fn settle(&mut self) -> Result<(), OutputError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.run(async |_, pending, stored| settle(pending, stored, 0).await)
    }
}

impl Sink for NatsOutput {
    fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError> {
        let target = Arc::clone(&self.target);
        let push = &target.file.push;
        let most = usize::try_from(push.max_pending).unwrap_or(usize::MAX).max(1);
        let mut messages = Vec::with_capacity(events.len());
        for event in events {
            let mut payload = Vec::new();
            self.rows.push(&mut payload, event);
            let id = EventId { store: event.store, seq: event.seq }.to_string();
            let length = payload.len();
            messages.push((
                subject(&push.subject, |name| value_of(name, event)),
                message(push, &id, payload),
                event.seq,
                length,
            ));
        }
        let mut messages = messages.into_iter();
        loop {
            let refused = self.run(async |context, pending, stored| {
                for (subject, message, seq, length) in messages.by_ref() {
                    settle(pending, stored, most - 1).await?;
                    match context.send_publish(subject, message).await {
                        Ok(ack) => pending.push_back((ack, seq + 1)),
                        // However often it came, it would not be taken.
                        Err(e) if e.kind() == PublishErrorKind::MaxPayloadExceeded && length > ALWAYS_SMALL => {
                            return Ok(Some((seq, said(&e))));
                        }
                        Err(e) => return Err(said(&e)),
                    }
                }
                Ok(None)
            })?;
            let Some((seq, why)) = refused else { return Ok(()) };
            if let Some(gap) = self.place.leave_out(seq, now.0, format!("it is too large for the broker ({why})"))? {
                self.gap(&gap)?;
            }
        }
    }

    fn left_out(&self) -> LeftOut {
        self.place.left_out()
    }

    fn tick(&mut self, _: u64, _: bool, _: Time) -> Result<(), OutputError> {
        Ok(())
    }

    fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        self.settle()?;
        self.stored = self.stored.max(next);
        self.place.keep(self.stored)
    }

    fn stop(&mut self, next: u64) -> Result<(), OutputError> {
        if let Err(error) = Sink::commit(self, next) {
            self.place.left_for_next_start(&error);
        }
        Ok(())
    }

    fn cursor(&self) -> u64 {
        self.place.cursor()
    }

    fn works(&self) -> bool {
        self.works
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), OutputError> {
        let mut payload = Vec::new();
        let id = self.rows.gap(&mut payload, self.target.journal.store(), gap);
        let push = &self.target.file.push;
        let subject = subject(&push.subject, |name| if name == "type" { "gap".to_owned() } else { String::new() });
        let (message, behind) = (message(push, &id, payload), self.place.cursor());
        self.run(async |context, pending, stored| {
            let ack = context.send_publish(subject, message).await.map_err(|e| said(&e))?;
            pending.push_back((ack, behind));
            settle(pending, stored, 0).await
        })?;
        self.place.told(gap)
    }
}

/// Waits until no more than `left` are under way.
async fn settle(pending: &mut VecDeque<(PublishAckFuture, u64)>, stored: &mut u64, left: usize) -> Result<(), String> {
    while pending.len() > left
        && let Some((ack, behind)) = pending.pop_front()
    {
        ack.await.map_err(|e| said(&e))?;
        *stored = (*stored).max(behind);
    }
    Ok(())
}

async fn connect(file: &AcctFile) -> Result<Context, String> {
    let push = &file.push;
    let urls: Vec<&str> = push.url.reveal().split(',').map(str::trim).collect();
    let servers = urls.iter().map(|u| u.parse()).collect::<Result<Vec<ServerAddr>, _>>().map_err(|e| said(&e))?;
    let tls = push_tls::client(push.tls_ca_file.as_deref(), urls.iter().any(|u| u.starts_with("tls:")))?;
    let mut options = ConnectOptions::new().name("carom").connection_timeout(push.timeout).tls_client_config(tls);
    if push.tls_ca_file.is_some() {
        options = options.require_tls(true);
    }
    if !push.user.is_empty() {
        options = options.user_and_password(push.user.clone(), push.password.reveal().to_owned());
    }
    if !push.token.is_empty() {
        options = options.token(push.token.reveal().to_owned());
    }
    if let Some(path) = &push.credentials {
        let fail = |e: std::io::Error| format!("credentials {}: {e}", path.display());
        options = options.credentials_file(path).await.map_err(fail)?;
    }
    let client = tokio::time::timeout(push.timeout, options.connect(servers)).await;
    let client: Client = client.map_err(|_| "no answer in time".to_owned())?.map_err(|e| said(&e))?;
    let mut context = jetstream::new(client);
    context.set_timeout(push.timeout);
    if push.create_stream {
        make_stream(&context, push).await?;
    }
    Ok(context)
}

/// Makes the stream if it is not there. One that is there stays as its owner made it.
async fn make_stream(context: &Context, push: &Push) -> Result<(), String> {
    match context.get_stream(&push.stream).await {
        Ok(stream) => {
            let window = stream.cached_info().config.duplicate_window;
            if window < push.retry.1 {
                tracing::warn!(
                    stream = push.stream,
                    window_seconds = window.as_secs(),
                    "the stream's duplicate window is shorter than retry-interval: after an outage a message may stand in it twice"
                );
            }
            return Ok(());
        }
        Err(e) => match e.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(format!("looking for stream {}: {}", push.stream, said(&e))),
        },
    }
    let config = stream::Config {
        name: push.stream.clone(),
        subjects: vec![every_subject(&push.subject)],
        storage: stream::StorageType::File,
        num_replicas: usize::try_from(push.replicas).unwrap_or(1),
        duplicate_window: push.duplicate_window,
        description: Some("Mail events from Carom".to_owned()),
        ..stream::Config::default()
    };
    context.create_stream(config).await.map_err(|e| format!("making stream {}: {}", push.stream, said(&e)))?;
    tracing::info!(stream = push.stream, subjects = every_subject(&push.subject), "stream made");
    Ok(())
}

fn message(push: &Push, id: &str, payload: Vec<u8>) -> PublishMessage {
    PublishMessage::build().message_id(id).expected_stream(&push.stream).payload(payload.into())
}

/// The subject with what the record says in the place of what stands in braces.
fn subject(template: &str, value: impl Fn(&str) -> String) -> String {
    let words = template.split('.').map(|word| match word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
        Some(name) => token(&value(name)),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(".")
}

/// The subjects of all records.
fn every_subject(template: &str) -> String {
    template.split('.').map(|word| if word.starts_with('{') { "*" } else { word }).collect::<Vec<_>>().join(".")
}

/// One word of a subject.
fn token(value: &str) -> String {
    let safe = |c: char| if c.is_whitespace() || c.is_control() || "*>.".contains(c) { '_' } else { c };
    if value.is_empty() { UNKNOWN.to_owned() } else { value.chars().map(safe).collect() }
}

fn value_of(name: &str, event: &Event<'_>) -> String {
    let field = match name {
        "job" => "jobId",
        other => other,
    };
    let mut text = Vec::new();
    if let Some(field) = Field::by_name(field) {
        (field.value)(event).push_text(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    #[test]
    fn a_subject_says_what_the_record_says_in_words_that_nats_takes() {
        let event = Event { provider: "gmail.com", job: "spring sale", ..Event::new(Kind::Bounced, Time(1)) };
        let of = |template| subject(template, |name| value_of(name, &event));
        assert_eq!(of("carom.events.{type}"), "carom.events.b");
        assert_eq!(of("a.{provider}.{job}.{vmta}"), "a.gmail_com.spring_sale.none");
        assert_eq!(every_subject("a.{provider}.b.{type}"), "a.*.b.*");
    }
}
