//! What may have been under way when a server went down without a word: the next attempt says so (`inDoubt`).
//!
//! Which recipients these are is known at the start that follows: those that were due. Instead of writing each of them
//! anew, the time of that start is noted in the tables. Who was accepted before it, and has not been tried since, stays
//! in doubt, however many starts and orderly stops come before that attempt: an attempt either ends a recipient or puts
//! it off to a later time.

use std::borrow::Cow;

use crate::event::Time;
use crate::store::{Envelope, Opened, RcptState, StoreError};

/// The counter in the tables: microseconds since 1970 of the last start after an end without a word.
const MARK: &str = "in-doubt-until";

/// Who is in doubt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    until: Time,
}

impl Doubt {
    /// Of a store that was opened at `now`; when the last server did not end in order, that is noted before anything
    /// else happens, so that an orderly end of this one can't make it forgotten.
    pub(super) fn of(opened: &Opened, now: Time) -> Result<Doubt, StoreError> {
        let tables = opened.store.tables();
        let mut until = Time(i64::try_from(tables.counter(MARK)?).unwrap_or(i64::MAX));
        if opened.unclean && now > until {
            tables.write(|tx| tx.put_counter(MARK, u64::try_from(now.0).unwrap_or(0)))?;
            until = now;
        }
        Ok(Doubt { until })
    }

    /// The states of a message's recipients, with what is in doubt said so.
    pub(super) fn said<'s>(&self, envelope: &Envelope, states: &'s [RcptState]) -> Cow<'s, [RcptState]> {
        let new = |s: &RcptState| !s.in_doubt && s.not_before <= self.until;
        if envelope.time_queued > self.until || !states.iter().any(new) {
            return Cow::Borrowed(states);
        }
        states.iter().map(|s| RcptState { in_doubt: s.in_doubt || new(s), ..*s }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::disk::RealDisk;
    use crate::event::{Events, MessageId};
    use crate::store::{Message, Options, OwnMail, Store};

    fn message(id: MessageId, time_queued: Time) -> Arc<Message> {
        let to = &["ann@example.net"];
        let mail = OwnMail { id, now: time_queued, host: "mta.example.com", message_id: "", eight_bit: false, to };
        Arc::new(Message::own(mail, Bytes::from_static(b"x")).0)
    }

    /// Opens the store at `now`; who is in doubt, in the order of acceptance.
    fn start(dir: &Path, now: i64) -> (Store, Vec<bool>) {
        let opened = Store::open(Arc::new(RealDisk), dir, &Options::default()).unwrap();
        let doubt = Doubt::of(&opened, Time::from_secs(now)).unwrap();
        let mut found = Vec::new();
        opened
            .store
            .for_each_queued(&mut |envelope, states| {
                found.extend(doubt.said(envelope, states).iter().map(|s| s.in_doubt))
            })
            .unwrap();
        (opened.store, found)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_due_at_a_crash_stays_in_doubt_through_orderly_stops_until_it_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = start(dir.path(), 100);
        let (due, put_off) = (store.next_message_id(), store.next_message_id());
        for id in [due, put_off] {
            store.accept(message(id, Time::from_secs(101)), Events::new()).await.unwrap();
        }
        let later = RcptState { index: 0, attempts: 1, not_before: Time::from_secs(900), in_doubt: false };
        store.retry(put_off, &[later], Events::new()).await.unwrap();
        store.flush().await.unwrap();
        drop(store); // without a word

        let (store, found) = start(dir.path(), 200);
        assert_eq!(found, [true, false]);
        let young = store.next_message_id();
        store.accept(message(young, Time::from_secs(201)), Events::new()).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        for now in [300, 400] {
            let (store, found) = start(dir.path(), now);
            assert_eq!(found, [true, false, false], "at {now}");
            store.close().await.unwrap();
            drop(store);
        }

        // Tried again and put off: what is known of it then is what the store has.
        let (store, _) = start(dir.path(), 500);
        let tried = RcptState { index: 0, attempts: 1, not_before: Time::from_secs(501), in_doubt: false };
        store.retry(due, &[tried], Events::new()).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        assert_eq!(start(dir.path(), 600).1, [false, false, false]);
    }
}
