//! What the send index knows of one delivered recipient, so that a report that names its Message-ID can be tied to the
//! send (attribution: design, "Trust").
//!
//! Layout (version 1): a version byte, the numbers as LEB128, the time as 8 bytes little-endian, the texts as length
//! (LEB128) and UTF-8, in the order of the fields. What follows is skipped, so that fields can be added behind.

use std::borrow::Cow;

use super::encode::{put_number, put_str, take_number, take_str};
use super::{AddressKey, Event, MessageId, Time};

const VERSION: u8 = 1;

/// What the keys of our own kinds begin with: no Message-ID has a colon before its `@`.
const TOKEN_KEY: &str = "m:";
const ENV_ID_KEY: &str = "e:";

/// The first key of each send, by which the recipient that a signed token names is found.
pub fn token_key(message: MessageId, rcpt_index: u16) -> (String, String) {
    (format!("{TOKEN_KEY}{message}"), rcpt_index.to_string())
}

/// What a send with this ENVID is found by, together with its recipient.
pub fn env_id_key(env_id: &str) -> String {
    format!("{ENV_ID_KEY}{env_id}")
}

/// Whether a text that came from outside looks like a key of our own kinds; as a Message-ID it is then not looked up.
pub fn is_own_key(text: &str) -> bool {
    text.starts_with(TOKEN_KEY) || text.starts_with(ENV_ID_KEY)
}

/// One delivered recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendEntry<'a> {
    /// The message.
    pub message: MessageId,
    /// Which of its recipients.
    pub rcpt_index: u16,
    /// Sequence number of the `d` event.
    pub seq: u64,
    /// When the message was spooled.
    pub time_queued: Time,
    /// Envelope sender.
    pub orig: &'a str,
    /// Envelope recipient.
    pub rcpt: &'a str,
    /// Job.
    pub job: &'a str,
    /// VirtualMTA.
    pub vmta: &'a str,
    /// VirtualMTA pool.
    pub pool: &'a str,
    /// ENVID.
    pub env_id: &'a str,
    /// Mailing list; entries of older servers have none.
    pub list: &'a str,
    /// The queue it went through.
    pub queue: SentQueue<'a>,
}

/// The queue of a send. Nearly all are named for the recipient's domain and the VirtualMTA, which are known: those take a
/// byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentQueue<'a> {
    /// An entry of an older server does not say.
    Unknown,
    /// The recipient's domain, a slash, the VirtualMTA.
    Own,
    /// Another one, as after roll-up.
    Named(&'a str),
}

/// The bytes are no entry of a version that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged send index entry, or one of a newer version")]
pub struct SendEntryError;

impl<'a> SendEntry<'a> {
    /// What is kept of a `d` event.
    pub fn of(event: &Event<'a>) -> SendEntry<'a> {
        SendEntry {
            message: event.message,
            rcpt_index: event.rcpt_index,
            seq: event.seq,
            time_queued: event.time_queued,
            orig: event.orig,
            rcpt: event.rcpt,
            job: event.job,
            vmta: event.vmta,
            pool: event.pool,
            env_id: event.env_id,
            list: event.list,
            queue: if event.queue.is_empty() { SentQueue::Unknown } else { SentQueue::Named(event.queue) },
        }
    }

    /// `domain/vmta`; empty when it is not known.
    pub fn queue(&self) -> Cow<'a, str> {
        match self.queue {
            SentQueue::Unknown => Cow::Borrowed(""),
            SentQueue::Own => Cow::Owned(self.own_queue()),
            SentQueue::Named(name) => Cow::Borrowed(name),
        }
    }

    fn own_queue(&self) -> String {
        format!("{}/{}", AddressKey::of(self.rcpt).domain(), self.vmta)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let texts = [self.orig, self.rcpt, self.job, self.vmta, self.pool, self.env_id, self.list];
        let mut out = Vec::with_capacity(32 + texts.iter().map(|text| text.len() + 2).sum::<usize>());
        out.push(VERSION);
        put_number(&mut out, self.message.0);
        put_number(&mut out, self.rcpt_index.into());
        put_number(&mut out, self.seq);
        out.extend_from_slice(&self.time_queued.0.to_le_bytes());
        texts.into_iter().for_each(|text| put_str(&mut out, text));
        match self.queue {
            SentQueue::Unknown => {}
            SentQueue::Named(name) if name != self.own_queue() => put_str(&mut out, name),
            SentQueue::Own | SentQueue::Named(_) => put_str(&mut out, ""),
        }
        out
    }

    /// Reads what [`SendEntry::encode`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Result<SendEntry<'a>, SendEntryError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => SendEntry::read(rest).ok_or(SendEntryError),
            _ => Err(SendEntryError),
        }
    }

    fn read(mut rest: &'a [u8]) -> Option<SendEntry<'a>> {
        let rest = &mut rest;
        let message = MessageId(take_number(rest)?);
        let rcpt_index = u16::try_from(take_number(rest)?).ok()?;
        let seq = take_number(rest)?;
        let (time, after) = rest.split_first_chunk::<8>()?;
        *rest = after;
        Some(SendEntry {
            message,
            rcpt_index,
            seq,
            time_queued: Time(i64::from_le_bytes(*time)),
            orig: take_str(rest)?,
            rcpt: take_str(rest)?,
            job: take_str(rest)?,
            vmta: take_str(rest)?,
            pool: take_str(rest)?,
            env_id: take_str(rest)?,
            list: if rest.is_empty() { "" } else { take_str(rest)? },
            queue: match rest.is_empty() {
                true => SentQueue::Unknown,
                false => Some(take_str(rest)?).filter(|q| !q.is_empty()).map_or(SentQueue::Own, SentQueue::Named),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_comes_back(message: u64, rcpt_index: u16, seq: u64, time: i64, a in "\\PC{0,40}", b in ".{0,200}") {
            let entry = SendEntry {
                message: MessageId(message), rcpt_index, seq, time_queued: Time(time),
                orig: &a, rcpt: &b, job: "", vmta: &a, pool: &b, env_id: &a, list: &b, queue: SentQueue::Named("gmail.rollup/v"),
            };
            let mut bytes = entry.encode();
            prop_assert_eq!(SendEntry::decode(&bytes), Ok(entry));
            bytes.push(0);
            prop_assert_eq!(SendEntry::decode(&bytes), Ok(entry));
            // The queue of its own domain is not spelt out.
            let own = SendEntry { queue: SentQueue::Named(&entry.own_queue()), ..entry }.encode();
            prop_assert_eq!(own.last(), Some(&0));
            let own = SendEntry::decode(&own).unwrap();
            prop_assert_eq!((own.queue, own.queue()), (SentQueue::Own, entry.own_queue().into()));
            // As they were kept before there were queues in them, and before there were lists.
            let without = SendEntry { queue: SentQueue::Unknown, ..entry };
            let older = without.encode();
            prop_assert_eq!(SendEntry::decode(&older), Ok(without));
            prop_assert_eq!(without.queue(), "");
            let without = SendEntry { list: "", ..without };
            let mut older = without.encode();
            older.pop();
            prop_assert_eq!(SendEntry::decode(&older), Ok(without));
        }

        #[test]
        fn no_bytes_make_reading_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = SendEntry::decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = SendEntry::decode(&bytes);
        }
    }
}
