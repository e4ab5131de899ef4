//! A message as intake hands it to the store, for the stories that begin behind it.

use bytes::Bytes;
use carom::event::{MessageId, SourceType, Time};
use carom::store::message::OwnMail;
use carom::store::{Envelope, Message, Recipient};

/// Handed in by SMTP, with nothing asked for and nothing known of it; what a story is about it puts in itself.
pub fn handed_in<A: Into<Box<str>>>(
    id: MessageId,
    time_queued: Time,
    orig: &str,
    rcpts: impl IntoIterator<Item = A>,
    body: impl Into<Bytes>,
) -> Message {
    let own = OwnMail { id, now: time_queued, host: "", message_id: "", eight_bit: false, to: &[] };
    let (Message { envelope, body }, _) = Message::own(own, body.into());
    let rcpt = |address: A| Recipient { address: address.into(), orcpt: "".into(), notify: 0 };
    let rcpts = rcpts.into_iter().map(rcpt).collect();
    let envelope = Envelope { orig: orig.into(), src_type: SourceType::Smtp, no_dsn: false, rcpts, ..envelope };
    Message { envelope, body }
}
