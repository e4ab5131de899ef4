//! The only place where a recipient ends: recipient out of the spool, event into the ledger, one record.
//!
//! Delivered, bounced, expired, deleted, suppressed, report processed: all come here. Why one recipient can't have two
//! terminal events: [`Store::finish`] looks whether every recipient named is still queued, and takes them all out, under
//! the lock that also gives the record its place in the journal. A second ending finds the recipient gone and is
//! refused before anything is written. After a crash the journal is replayed in the same order: either the record is
//! there, with recipient out and event in, or it is not, and the recipient is queued as before.

use std::sync::Arc;

use super::Store;
use super::error::StoreError;
use super::index::Place;
use super::message::Message;
use super::spool::{Brings, Inner, Pending, lock};
use crate::event::{Event, Events, MessageId};

/// Recipients that end, with their events and the messages this causes; one record.
#[derive(Debug, Default)]
pub struct Finish {
    pub(crate) done: Vec<(MessageId, u16)>,
    pub(crate) events: Events,
    pub(crate) messages: Vec<(Arc<Message>, Events)>,
}

impl Finish {
    /// Nothing yet.
    pub fn new() -> Finish {
        Finish::default()
    }

    /// This recipient ends with this event (its `d` or `b`; for a processed report, whatever the report became).
    pub fn recipient(&mut self, message: MessageId, rcpt: u16) -> &mut Finish {
        self.done.push((message, rcpt));
        self
    }

    /// An event that goes with the ending.
    pub fn event(&mut self, event: &Event<'_>) -> &mut Finish {
        self.events.push(event);
        self
    }

    /// Events that go with the ending, already encoded.
    pub fn events(&mut self, events: &Events) -> &mut Finish {
        self.events.append(events);
        self
    }

    /// A new message this ending causes (a DSN, a forwarded copy), with its `r` events.
    pub fn message(&mut self, message: Arc<Message>, received: Events) -> &mut Finish {
        self.messages.push((message, received));
        self
    }
}

impl Store {
    /// Ends recipients. The record is in line when this returns (it waits only for room) and durable soon after; when the
    /// finish brings new messages it returns only when they are durable, since they are then queued for delivery.
    ///
    /// Fails, and changes nothing, with [`StoreError::NotQueued`] when one of the recipients has ended before.
    pub async fn finish(&self, finish: Finish) -> Result<(), StoreError> {
        self.write(finish).await
    }

    /// Takes a message in of which some recipients end at once, in one record: either it is there with them ended, or it
    /// is not there. `events` are the `r` events of all and the `b` events of these; `caused` is the report about them.
    /// Durable when it returns; fails as [`Store::accept`] does.
    pub async fn accept_ending(
        &self,
        message: Arc<Message>,
        events: Events,
        ended: &[u16],
        caused: Option<(Arc<Message>, Events)>,
    ) -> Result<(), StoreError> {
        if let Some(why) = self.shared().refusal() {
            return Err(StoreError::Refused(why));
        }
        let id = message.envelope.id;
        let mut messages = vec![(message, Events::new())];
        messages.extend(caused);
        self.write(Finish { done: ended.iter().map(|rcpt| (id, *rcpt)).collect(), events, messages }).await
    }

    async fn write(&self, finish: Finish) -> Result<(), StoreError> {
        let (pending, done) = Pending::finish(finish)?;
        let new: Vec<(MessageId, u16)> = match &pending.brings {
            // At most 65535 recipients each: `Pending::finish` checked.
            Brings::Many(messages) => messages.iter().map(|m| (m.envelope.id, m.envelope.rcpts.len() as u16)).collect(),
            _ => Vec::new(),
        };
        let shared = self.shared();
        let mut ended = Vec::new();
        let commit = shared
            .hand_over(pending, !new.is_empty(), |inner| {
                check(inner, &done, &new)?;
                // First what comes: it may end at once.
                for (message, rcpts) in &new {
                    inner.index.insert_fresh(*message, Place::WAITING, *rcpts);
                }
                for (message, rcpt) in &done {
                    if let Some(place) = inner.index.end(*message, *rcpt) {
                        inner.dead(place);
                        ended.push(*message);
                    }
                }
                Ok(())
            })
            .await?;
        if !ended.is_empty() {
            let mut cache = lock(&shared.cache);
            ended.iter().for_each(|message| cache.remove(*message));
        }
        if new.is_empty() { Ok(()) } else { commit.wait().await }
    }
}

/// Every recipient must be queued and be named once; every new message must be new.
fn check(inner: &Inner, done: &[(MessageId, u16)], new: &[(MessageId, u16)]) -> Result<(), StoreError> {
    for &(message, rcpt) in done {
        let comes = new.iter().any(|&(id, rcpts)| id == message && rcpt < rcpts);
        if !comes && !inner.index.is_queued(message, rcpt) {
            return Err(StoreError::NotQueued { message, rcpt });
        }
    }
    if done.len() > 1 {
        let mut sorted = done.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
            return Err(StoreError::NotQueued { message: twice[0].0, rcpt: twice[0].1 });
        }
    }
    for (i, &(message, _)) in new.iter().enumerate() {
        if inner.index.contains(message) || new[..i].iter().any(|(other, _)| *other == message) {
            return Err(StoreError::AlreadyStored(message));
        }
    }
    Ok(())
}
