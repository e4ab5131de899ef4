#![expect(clippy::disallowed_methods, reason = "edge: waits for mail")]
//! `type discard`: a queue whose mail is thrown away on purpose, with the same events as if it had been sent.

use crate::event::{DeliveryType, Stage};
use crate::queue::{Next, Purpose};

use super::attempt::Facts;
use super::outcome::{Outcome, Verdict, status};
use super::session::{Session, now};

/// Discards what the queue has, until it has no more.
pub(super) async fn run(session: &mut Session) {
    let facts = Facts { delivery: Some(DeliveryType::Discard), ..Facts::default() };
    loop {
        if session.permit.look_is_due {
            session.look_at_holds().await;
        }
        match session.permit.next(Purpose::Deliver) {
            Next::Idle(_) if session.permit.look_is_due => {}
            Next::Transaction(id) => {
                let outcome = if session.permit.settings().discard_as_bounce {
                    Outcome::local(Verdict::Bounced, status(5, 0, 0), "discarded", Stage::Eod, "other")
                } else {
                    Outcome::local(Verdict::Delivered, status(2, 0, 0), "discarded", Stage::Eod, "")
                };
                session.record_all(id, &facts, outcome).await;
            }
            Next::Expired(id) => session.expire(id, "").await,
            Next::Idle(until) => {
                let _ = tokio::time::timeout(until.since(now()), session.permit.woken()).await;
            }
            Next::Close => return,
        }
    }
}
