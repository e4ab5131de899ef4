//! The consumer that fills the send index: to whom each message was delivered, by Message-ID and by the key that a
//! signed token leads to, and by ENVID.
//!
//! A bounce report or complaint is believed only if it is about mail we sent; where no signed token says so, the
//! Message-ID of a `d` event does. Kept for `send-index-retention`, and at most `send-index-max` of them. It runs only when
//! a bounce or feedback-loop processor is configured, because only then is the Message-ID kept with the events.

use std::time::Duration;

use super::follow::{Effect, Follower, Urgency};
use crate::event::send_entry::{env_id_key, is_own_key, token_key};
use crate::event::{AddressKey, Event, Kind, Kinds, MessageId, SendEntry, Time};
use crate::store::{Store, StoreError, Tx};

/// The name of the consumer in the tables.
pub const CONSUMER: &str = "send-index";
/// Most sends held in memory for one commit.
const MAX_WAITING: usize = 8192;

/// What the consumer does with each event.
#[derive(Debug)]
pub struct SendIndex {
    retention: Duration,
    most: u64,
    waiting: Vec<Send>,
    /// The newest event seen: age is counted from it, so that events read late do not outlive their time.
    now: Time,
}

#[derive(Debug)]
struct Send {
    message: MessageId,
    rcpt_index: u16,
    /// Empty when the mail had none.
    message_id: Box<str>,
    /// Empty when there was none.
    env_id: Box<str>,
    key: AddressKey,
    /// The address in ORCPT, where it is another one: reports name it beside the ENVID (RFC 3464, 2.3.1).
    orcpt: Option<AddressKey>,
    entry: Vec<u8>,
    time: Time,
}

impl SendIndex {
    /// Opens the consumer where it stopped. `retention` is `send-index-retention`, `most` is `send-index-max`.
    pub fn open(store: &Store, retention: Duration, most: u64) -> Result<Follower<SendIndex>, StoreError> {
        Follower::open(store, SendIndex { retention, most, waiting: Vec::new(), now: Time::UNKNOWN })
    }
}

impl Effect for SendIndex {
    const NAME: &'static str = CONSUMER;
    const GATHER: Duration = Duration::from_millis(100);
    const KINDS: Kinds = Kinds::of(&[Kind::Delivered]);

    fn apply(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        if event.rcpt.is_empty() {
            return Ok(());
        }
        self.now = self.now.max(event.time);
        let key = AddressKey::of(event.rcpt);
        let orcpt = event.orcpt.split_once(';').map(|(_, address)| AddressKey::of(address));
        self.waiting.push(Send {
            message: event.message,
            rcpt_index: event.rcpt_index,
            message_id: event.headers.get("message-id").map(bare).unwrap_or_default().into(),
            env_id: event.env_id.into(),
            orcpt: orcpt.filter(|o| *o != key && !event.env_id.is_empty()),
            key,
            entry: SendEntry::of(event).encode(),
            time: event.time,
        });
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        match self.waiting.len() {
            0 => Urgency::Whenever,
            MAX_WAITING.. => Urgency::Now,
            _ => Urgency::Soon,
        }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for send in &self.waiting {
            let (message, rcpt) = token_key(send.message, send.rcpt_index);
            let env_id = env_id_key(&send.env_id);
            let mut further = Vec::with_capacity(3);
            if !send.message_id.is_empty() && !is_own_key(&send.message_id) {
                further.push((&*send.message_id, send.key.as_str()));
            }
            if !send.env_id.is_empty() {
                further.push((&*env_id, send.key.as_str()));
                further.extend(send.orcpt.as_ref().map(|orcpt| (&*env_id, orcpt.as_str())));
            }
            tx.put_send((&message, &rcpt), &further, &send.entry, send.time)?;
        }
        if self.now.is_known() {
            let retention = i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX);
            tx.trim_sends(Time(self.now.0.saturating_sub(retention)), self.most)?;
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.waiting.clear();
    }
}

/// A Message-ID without white space and angle brackets around it.
fn bare(message_id: &str) -> &str {
    let id = message_id.trim();
    id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_kept_without_its_brackets() {
        assert_eq!(bare(" <a@b> "), "a@b");
        assert_eq!(bare("a@b"), "a@b");
        assert_eq!(bare("<a@b"), "<a@b");
    }
}
