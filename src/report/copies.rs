//! The copies of a report mail: those that are passed on, the one that goes on to where it was sent, and the one that is
//! kept in the quarantine when the mail itself can't stay there.
//!
//! Each begins with a field by which this store knows it again ([`Mark`]). It says whether the mail has its events
//! already: a copy that comes back is then dropped; one that nobody understood when it was passed on is read like any
//! mail, so that whoever has taught Carom its form may send it in again. Neither is passed on a second time.
//!
//! A mail that is kept stays in the spool as it came, unless it is too large, or people get it as well. Then a copy takes
//! its place: in the record that ends the mail, so that after a crash it is neither passed on twice nor lost. The field
//! of the copy says what it lacks; what is shown and replayed is the mail without the field.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::event::{Events, MessageId, StoreId, Time};
use crate::store::{Envelope, Message, OwnMail};

use super::bounds::MAX_HEADER;
use super::fields::Fields;

/// The field's name.
const NAME: &str = "X-Carom-Report-Copy";

/// Who makes a copy.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Our store.
    pub store: StoreId,
    /// The copy's id in it.
    pub id: MessageId,
    /// Our name.
    pub host_name: &'a str,
    /// When.
    pub now: Time,
}

/// What the fields of a mail say of its being a copy of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// A copy made by this store.
    pub(super) ours: bool,
    /// The events were made when the mail came.
    pub(super) recorded: bool,
    /// What a kept copy stands for.
    pub(super) kept: Option<Kept>,
}

/// What a copy in the quarantine stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Bytes of the mail as it came.
    pub(super) size: u64,
    /// Others got it as well.
    pub(super) passed_on: bool,
}

impl Mark {
    /// The marks in a header. A stranger who has seen a copy may write one too: it keeps his mail from being passed on, and
    /// has the quarantine show what it says of the mail's size; room is counted by what is held.
    pub(super) fn of(header: &Fields, store: StoreId) -> Mark {
        let mut mark = Mark::default();
        for value in header.all(NAME) {
            let mut words = value.split(';').map(str::trim);
            if words.next() != Some(store.to_string().as_str()) {
                continue;
            }
            let words: Vec<&str> = words.take(8).collect();
            mark.recorded |= words.contains(&"recorded");
            if !mark.ours && words.contains(&"kept") {
                let size = words.iter().find_map(|w| w.strip_prefix("size=")?.parse().ok());
                mark.kept = size.map(|size| Kept { size, passed_on: words.contains(&"passed-on") });
            }
            mark.ours = true;
        }
        mark
    }
}

/// The header of a mail, as far as marks are looked for.
pub(super) fn header(body: &[u8]) -> Fields {
    Fields::read(&mut &body[..body.len().min(MAX_HEADER)])
}

/// The mail on its way to the addresses it was sent to. Its `r` events were made when it came.
pub fn delivered(report: &Message, recorded: bool, by: By<'_>) -> (Arc<Message>, Events) {
    let to: Vec<String> = report.envelope.rcpts.iter().map(|r| r.address.to_string()).collect();
    (forwarded(report, &to, recorded, by).0, Events::new())
}

/// The copy of `report` for `to`, with its `r` events: the mail as it came, marked, from the null sender; `recorded`
/// when it has its events.
pub fn forwarded(report: &Message, to: &[String], recorded: bool, by: By<'_>) -> (Arc<Message>, Events) {
    let body = marked(report, if recorded { "; recorded" } else { "" }, &report.body, by);
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let (message, received) = Message::own(
        OwnMail {
            id: by.id,
            now: by.now,
            host: by.host_name,
            message_id: &report.envelope.message_id_header,
            eight_bit: report.envelope.eight_bit,
            to: &to,
        },
        body,
    );
    (Arc::new(message), received)
}

/// The copy that is kept in the place of `report`: its envelope, and of its content and its recipients' addresses as much
/// as `share` bytes hold, whole lines where there are lines. It has no events of its own.
pub fn kept(report: &Message, share: u64, passed_on: bool, by: By<'_>) -> Arc<Message> {
    let share = usize::try_from(share).unwrap_or(usize::MAX);
    // One that stands for a larger mail already goes on standing for that one.
    let before = stands_for(report, by.store);
    let came = as_it_came(report, by.store);
    let size = before.map_or(0, |kept| kept.size).max(came.len() as u64);
    let also = if passed_on || before.is_some_and(|kept| kept.passed_on) { "; passed-on" } else { "" };
    // Who had it sent to a thousand addresses has no more room than others; one address is always kept.
    let mut room = share / 4;
    let more = report.envelope.rcpts.iter().skip(1).take_while(|r| {
        let left = room.checked_sub(r.address.len() + r.orcpt.len());
        room = left.unwrap_or(room);
        left.is_some()
    });
    let rcpts = 1 + more.count();
    let rcpts = &report.envelope.rcpts[..rcpts.min(report.envelope.rcpts.len())];
    let room = share.saturating_sub(addresses(rcpts));
    let content = &came[..came.len().min(room)];
    let content = match content.len() < came.len() {
        true => &content[..memchr::memrchr(b'\n', content).map_or(content.len(), |at| at + 1)],
        false => content,
    };
    let body = marked(report, &format!("; kept; size={size}{also}"), content, by);
    let envelope = Envelope {
        id: by.id,
        body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        rcpts: rcpts.to_vec(),
        ..report.envelope.clone()
    };
    Arc::new(Message { envelope, body })
}

/// Bytes that the addresses of recipients take.
pub(super) fn addresses(rcpts: &[crate::store::Recipient]) -> usize {
    rcpts.iter().map(|r| r.address.len() + r.orcpt.len()).sum()
}

/// What came, of a mail that may be a kept copy: without the field that stands in front of it.
pub(super) fn as_it_came(message: &Message, store: StoreId) -> Bytes {
    let body = &message.body;
    if stands_for(message, store).is_some() { body.slice(first_line(body)..) } else { body.clone() }
}

/// What a kept copy stands for, by the field in front of it; `None` for other mail.
fn stands_for(message: &Message, store: StoreId) -> Option<Kept> {
    let body = &message.body;
    Mark::of(&Fields::read(&mut &body[..first_line(body)]), store).kept
}

/// Where the second line begins.
fn first_line(body: &[u8]) -> usize {
    memchr::memchr(b'\n', body).map_or(0, |at| at + 1)
}

fn marked(report: &Message, says: &str, content: &[u8], by: By<'_>) -> Bytes {
    let By { store, host_name, .. } = by;
    let mark = format!("{NAME}: {store}; host={host_name}; message={}{says}\r\n", report.envelope.id);
    let mut body = BytesMut::with_capacity(mark.len() + content.len());
    body.extend_from_slice(mark.as_bytes());
    body.extend_from_slice(content);
    body.freeze()
}
