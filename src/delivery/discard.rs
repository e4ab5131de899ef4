//! `type discard`: a queue whose mail is thrown away on purpose, with the same events as if it had been sent.

use crate::event::{MessageId, Stage};

use super::attempt::Facts;
use super::outcome::{Outcome, Verdict, status};
use super::session::Session;

/// Discards one message for the recipients drawn.
pub(super) async fn deliver(session: &mut Session, id: MessageId, facts: &Facts) {
    let outcome = if session.permit.settings().discard_as_bounce {
        Outcome::local(Verdict::Bounced, status(5, 0, 0), "discarded", Stage::Eod, "other")
    } else {
        Outcome::local(Verdict::Delivered, status(2, 0, 0), "discarded", Stage::Eod, "")
    };
    session.record_all(id, facts, outcome).await;
}
