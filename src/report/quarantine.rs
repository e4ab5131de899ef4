#![expect(clippy::disallowed_methods, reason = "edge: reads the store on a blocking thread")]
//! Mail to report addresses that nobody understood, kept until somebody looks at it, drops it, or has taught Carom to read
//! it and replays it.
//!
//! Such a mail simply stays in the spool: its recipients have not ended. So a replay is the ordinary end of a report, one
//! record of the journal with its recipients out and its events in ([`Store::finish`]): it happens once or not at all,
//! whenever the power fails, and two who replay the same mail at once get one set of events. The table `quarantine` only
//! says which mails need not be read again at the next start. It may lag behind: a mail whose row is missing is read
//! again then, and quarantined again; a row without a mail is dropped.
//!
//! The size is bounded (`report-quarantine-size`): of one mail at most a share is kept, and what is too much ends without
//! events, the oldest of the sender that takes most first ([`super::budget`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::event::{MessageId, StoreId, Time};
use crate::store::{Finish, LoadError, Message, Route, Store, StoreError};

use super::budget::{self, Budget, OVERHEAD};
use super::copies::{self, Mark};
use super::disposition::{self, Outcome, Settings};
use super::evidence::StoreEvidence;
use super::{mention, mime};

/// Bytes kept of an address or a subject.
const MAX_TEXT: usize = 200;
/// Rows that wait to be written, at most.
const MAX_UNWRITTEN: usize = 64;

/// What is known of a quarantined mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it came: microseconds since 1970.
    pub time: i64,
    /// The processor it came to.
    pub processor: Which,
    /// Why it is here.
    pub why: Why,
    /// Envelope sender; empty for the null sender.
    pub from: String,
    /// The address it came to (the first).
    pub to: String,
    /// Subject, decoded.
    pub subject: String,
    /// Bytes of the mail as it came.
    pub size: u64,
    /// Recipients it has, as far as they are kept.
    pub rcpts: u16,
    /// Bytes that are kept of it, when it was too large to be kept whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<u64>,
    /// It was delivered or forwarded as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed_on: bool,
    /// Bytes of its recipients' addresses.
    #[serde(default)]
    pub addresses: u64,
    /// The network it came from; empty when it did not come by SMTP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// `<bounce-processor>`
    Bounce,
    /// `<feedback-loop-processor>`
    Feedback,
    /// The reader of mail to unsubscribe addresses.
    Unsubscribe,
}

/// Why a mail was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is no report of a known form.
    Unmatched,
    /// It declares itself a report and can't be read.
    Unreadable,
}

impl Entry {
    /// What there is to say about a mail in this store.
    pub fn of(message: &Message, outcome: Outcome, store: StoreId) -> Entry {
        let envelope = &message.envelope;
        let header = copies::header(&message.body);
        let subject = mime::decoded_words(header.any(&["subject"]));
        let held = copies::as_it_came(message, store).len() as u64;
        let mark = Mark::of(&header, store).kept;
        let size = mark.map_or(held, |m| m.size.max(held));
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
        Entry {
            time: envelope.time_queued.0,
            processor: match envelope.route {
                Route::Feedback => Which::Feedback,
                Route::Unsubscribe => Which::Unsubscribe,
                _ => Which::Bounce,
            },
            why: if outcome == Outcome::Unreadable { Why::Unreadable } else { Why::Unmatched },
            from: cut(&envelope.orig),
            to: cut(envelope.rcpts.first().map_or("", |r| &r.address)),
            subject: cut(&subject),
            size,
            rcpts: envelope.rcpts.len() as u16,
            kept: (held < size).then_some(held),
            passed_on: mark.is_some_and(|m| m.passed_on),
            addresses: copies::addresses(&envelope.rcpts) as u64,
            source: budget::network(envelope.src_ip),
        }
    }

    /// Bytes that count against the limit.
    pub(super) fn counts_for(&self) -> u64 {
        self.kept.unwrap_or(self.size) + self.addresses + OVERHEAD
    }
}

/// Which mails are asked for. An empty filter is all; texts are looked for whatever their case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Of this processor.
    pub processor: Option<Which>,
    /// For this reason.
    pub why: Option<Why>,
    /// This stands in the envelope sender.
    pub from: Option<String>,
    /// This stands in the address it came to.
    pub to: Option<String>,
    /// This stands in the subject.
    pub subject: Option<String>,
    /// Came at or after this: microseconds since 1970.
    pub since: Option<i64>,
    /// Came before this: microseconds since 1970.
    pub before: Option<i64>,
}

impl Filter {
    fn lets_pass(&self, entry: &Entry) -> bool {
        let has = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|w| text.to_lowercase().contains(&w.to_lowercase()))
        };
        self.processor.is_none_or(|p| p == entry.processor)
            && self.why.is_none_or(|w| w == entry.why)
            && self.since.is_none_or(|s| entry.time >= s)
            && self.before.is_none_or(|b| entry.time < b)
            && has(&self.from, &entry.from)
            && has(&self.to, &entry.to)
            && has(&self.subject, &entry.subject)
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Mails.
    pub mails: u64,
    /// Recipients of them.
    pub rcpts: u64,
    /// Bytes as they count against the limit.
    pub bytes: u64,
    /// When the oldest came.
    pub oldest: Option<Time>,
    /// Mails that had to go for newer ones since the start.
    pub evicted: u64,
}

/// What a replay made of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is a report now: so many events, and the form that was understood.
    Recorded(usize, String),
    /// It is an automatic reply now, and has ended.
    AutoReply,
    /// It is still not understood, and stays.
    NotYet,
    /// It is not in the quarantine (any more).
    Gone,
}

/// The quarantine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quarantine {
    store: Store,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    budget: Budget,
    evicted: u64,
    /// Rows to write, with the entry as it is then.
    unwritten: Vec<MessageId>,
}

impl Quarantine {
    /// What the tables know of it; rows whose mail has ended are left out.
    pub fn open(store: &Store) -> Result<Quarantine, StoreError> {
        let mut kept = Kept::default();
        store.tables().for_each_quarantined(&mut |id, row| {
            match serde_json::from_slice::<Entry>(row) {
                Ok(entry) if store.is_queued(id) => kept.budget.insert(id, entry),
                // A row that can't be read is as if it were not there: the mail is read again.
                _ => kept.unwritten.push(id),
            }
        })?;
        Ok(Quarantine { store: store.clone(), kept: Arc::new(Mutex::new(kept)) })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a mail is in it.
    pub fn contains(&self, id: MessageId) -> bool {
        self.lock().budget.mails().contains_key(&id)
    }

    /// What is known of a mail; `None` when it is not in it.
    pub fn entry(&self, id: MessageId) -> Option<Entry> {
        self.lock().budget.mails().get(&id).cloned()
    }

    /// How much is in it.
    pub fn usage(&self) -> Usage {
        let kept = self.lock();
        let mails = kept.budget.mails();
        Usage {
            mails: mails.len() as u64,
            rcpts: mails.values().map(|e| u64::from(e.rcpts)).sum(),
            bytes: kept.budget.bytes(),
            oldest: mails.values().map(|e| Time(e.time)).min(),
            evicted: kept.evicted,
        }
    }

    /// Keeps a mail that is in the spool and stays there, which should be no larger than its [`budget::share`] of `limit`
    /// bytes. What has to go for it ends with this.
    pub async fn keep(&self, id: MessageId, entry: Entry, limit: u64) -> Result<(), StoreError> {
        let gone = {
            let mut kept = self.lock();
            kept.budget.insert(id, entry);
            kept.unwritten.push(id);
            let gone = kept.budget.evict(limit, id);
            kept.evicted += gone.len() as u64;
            kept.unwritten.extend(gone.iter().map(|(id, _)| *id));
            gone
        };
        for (id, entry) in gone {
            let (source, size) = (entry.source, entry.size);
            tracing::info!(message = %id, source, size, "report dropped from the full quarantine (report-quarantine-size)");
            self.end(id, entry.rcpts, Finish::new()).await?;
        }
        Ok(())
    }

    /// Writes what the tables do not know yet: all, or only when it has become much. Blocks.
    pub fn write(&self, all: bool) -> Result<(), StoreError> {
        let rows: Vec<(MessageId, Option<Vec<u8>>)> = {
            let mut kept = self.lock();
            if kept.unwritten.is_empty() || !all && kept.unwritten.len() < MAX_UNWRITTEN {
                return Ok(());
            }
            let ids = std::mem::take(&mut kept.unwritten);
            // Text without map keys that are no text: this does not fail.
            ids.into_iter()
                .map(|id| (id, kept.budget.mails().get(&id).and_then(|e| serde_json::to_vec(e).ok())))
                .collect()
        };
        let written = self.store.tables().write(|tx| {
            for (id, row) in &rows {
                match row {
                    Some(row) => tx.put_quarantined(*id, row),
                    None => tx.remove_quarantined(*id),
                }
            }
            Ok(())
        });
        if written.is_err() {
            self.lock().unwritten.extend(rows.into_iter().map(|(id, _)| id));
        }
        written
    }

    /// Mails in the order in which they came, behind `after`, at most `most`.
    pub fn list(&self, filter: &Filter, after: Option<MessageId>, most: usize) -> Vec<(MessageId, Entry)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let kept = self.lock();
        let rows = kept.budget.mails().range((from, std::ops::Bound::Unbounded)).filter(|(_, e)| filter.lets_pass(e));
        rows.take(most).map(|(id, e)| (*id, e.clone())).collect()
    }

    /// One mail with its content, as it came or the beginning of it; `None` when it is not in the quarantine. Blocks.
    pub fn show(&self, id: MessageId) -> Result<Option<(Entry, Arc<Message>)>, LoadError> {
        let Some(entry) = self.lock().budget.mails().get(&id).cloned() else { return Ok(None) };
        match self.store.load(id) {
            Ok(message) => {
                let body = copies::as_it_came(&message, self.store.id());
                Ok(Some((entry, Arc::new(Message { envelope: message.envelope.clone(), body }))))
            }
            Err(LoadError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a mail names this address (in lower case): in its envelope, or anywhere in its content, also where that is
    /// encoded. Blocks.
    pub fn names(&self, id: MessageId, address: &str) -> Result<bool, LoadError> {
        let Some((_, message)) = self.show(id)? else { return Ok(false) };
        let is = |text: &str| crate::event::AddressKey::of(text).as_str() == address;
        let envelope = &message.envelope;
        Ok(is(&envelope.orig)
            || envelope.rcpts.iter().any(|r| is(&r.address) || is(&super::values::recipient(&r.orcpt)))
            || mention::names(&message.body, address))
    }

    /// Ends a mail without events; `false` when it is not in the quarantine.
    pub async fn discard(&self, id: MessageId) -> Result<bool, StoreError> {
        let Some(rcpts) = self.lock().budget.mails().get(&id).map(|e| e.rcpts) else { return Ok(false) };
        self.end(id, rcpts, Finish::new()).await
    }

    /// Reads a mail again as `config` has it now; when it is a report by now, it ends with its events.
    pub async fn replay(&self, id: MessageId, config: &Arc<Config>, now: Time) -> Result<Replayed, ReplayError> {
        let (quarantine, config) = (self.clone(), config.clone());
        // Reading the disk and the mail doesn't belong on a thread that serves sockets.
        let read = tokio::task::spawn_blocking(move || quarantine.read(id, &config, now)).await;
        let Some((outcome, format, finish, rcpts)) = read.map_err(|_| ReplayError::BrokeOff)?? else {
            return Ok(Replayed::Gone);
        };
        let replayed = match outcome {
            Outcome::Recorded(events) => Replayed::Recorded(events, format),
            Outcome::AutoReply => Replayed::AutoReply,
            _ => return Ok(Replayed::NotYet),
        };
        match self.end(id, rcpts, finish).await? {
            true => {
                tracing::info!(message = %id, result = ?replayed, "report replayed from the quarantine");
                Ok(replayed)
            }
            false => Ok(Replayed::Gone),
        }
    }

    fn read(
        &self,
        id: MessageId,
        config: &Config,
        now: Time,
    ) -> Result<Option<(Outcome, String, Finish, u16)>, LoadError> {
        let Some((entry, message)) = self.show(id)? else { return Ok(None) };
        let mut finish = Finish::new();
        let evidence = StoreEvidence { store: &self.store, config, now };
        let settings = Settings { again: true, ..Settings::of(config, &message.envelope, self.store.id()) };
        let disposition = disposition::dispose(&message, settings, &evidence, now, &mut |event| {
            finish.event(event);
        });
        Ok(Some((disposition.outcome, disposition.format, finish, entry.rcpts)))
    }

    /// The mail ends with what is in `finish`; `false` when it has ended before.
    async fn end(&self, id: MessageId, rcpts: u16, mut finish: Finish) -> Result<bool, StoreError> {
        (0..rcpts).for_each(|rcpt| {
            finish.recipient(id, rcpt);
        });
        let ended = match self.store.finish(finish).await {
            Ok(()) => true,
            Err(StoreError::NotQueued { .. }) => false,
            Err(error) => return Err(error),
        };
        let mut kept = self.lock();
        if kept.budget.remove(id).is_some() {
            kept.unwritten.push(id);
        }
        Ok(ended)
    }
}

/// Why a replay did not come to an end; the mail is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be read from the disk.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store takes nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of the program.
    #[error("reading it broke off; the log says more")]
    BrokeOff,
}
