#![expect(clippy::disallowed_methods, reason = "edge: waits for mail")]
//! Queues whose mail ends on this machine: what they have in common.
//!
//! Promises: they keep to the limits of their queue as those that speak SMTP do, a session of theirs standing for a
//! connection; they look at who is on hold, and end whose time is over, in the same way.

use crate::config::model::Transport;
use crate::event::DeliveryType;
use crate::queue::{Next, Purpose};

use super::attempt::Facts;
use super::session::{Session, now};
use super::{discard, file, pipe};

/// Delivers what the queue has, until it has no more, or its `type` is another one.
pub(super) async fn run(session: &mut Session, transport: Transport) {
    let delivery = match transport {
        Transport::Smtp => return,
        Transport::Discard => DeliveryType::Discard,
        Transport::File => DeliveryType::File,
        Transport::Pipe => DeliveryType::Pipe,
    };
    let facts = Facts { delivery: Some(delivery), ..Facts::default() };
    loop {
        if session.permit.look_is_due {
            session.look_at_holds().await;
        }
        match session.permit.next(Purpose::Deliver) {
            Next::Idle(_) if session.permit.look_is_due => {}
            // What was drawn goes back to the queue, whose next session is of the new type.
            Next::Transaction(_) if session.permit.settings().transport != transport => return,
            Next::Transaction(id) => match transport {
                Transport::Smtp => return,
                Transport::Discard => discard::deliver(session, id, &facts).await,
                Transport::File => file::deliver(session, id, &facts).await,
                Transport::Pipe => pipe::deliver(session, id, &facts).await,
            },
            Next::Expired(id) => session.expire(id, "").await,
            Next::Idle(until) => {
                let _ = tokio::time::timeout(until.since(now()), session.permit.woken()).await;
            }
            Next::Close => return,
        }
    }
}

/// The lines of a content, without their ends.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = body.strip_suffix(b"\n").unwrap_or(body);
    whole.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// A line as files and programs of this system have it, with LF.
pub(super) fn put_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.push(b'\n');
}
