//! The processor over a real store and real queues: what stands in the ledger and the spool when a report mail has been
//! taken from the queue.

use carom::event::return_path::{TokenKeys, mint};
use carom::event::{Kind, MessageId, SourceType, Time};

use super::desk::Desk;
use super::forms::mail;

#[tokio::test]
async fn a_report_to_a_signed_return_path_leaves_the_spool_as_one_attributed_bounce() {
    let house = Desk::open();
    house.remember_send("m1@example.com");
    let token = house.config.return_path_token.as_ref().unwrap();
    let keys = TokenKeys { domain: token.domain.as_ref().unwrap(), keys: &token.keys, now: Time(1) };
    let address = mint(keys, house.store.id(), MessageId(5), 0).unwrap();
    let id = house.take(&address, mail("dsn-wrong-subtype")).await;
    house.process(&[id]).await;
    let seen = house.ledger(|e| (e.kind, e.message, e.rcpt.to_owned(), e.job.to_owned(), e.attributed_by.to_owned()));
    assert_eq!(
        seen,
        [(Kind::RemoteBounce, MessageId(5), "ann@example.net".into(), "spring".into(), "return-path".into())],
        "the report names another address: the token decides"
    );
}

#[tokio::test]
async fn a_report_with_a_known_message_id_is_attributed_and_one_without_is_only_recorded() {
    let house = Desk::open();
    house.remember_send("m1@example.com");
    let known = house.take("bounce@bounce.example.com", mail("dsn-failed")).await;
    let unknown = house.take("bounce@bounce.example.com", mail("exim")).await;
    house.process(&[known, unknown]).await;
    assert_eq!(
        house.ledger(|e| (e.rcpt.to_owned(), e.attributed_by.to_owned())),
        [("ann@example.net".to_owned(), "message-id".to_owned()), ("cy@example.org".to_owned(), String::new())]
    );
}

#[tokio::test]
async fn mail_that_is_no_report_is_queued_for_people_and_leaves_no_bounce() {
    let house = Desk::open();
    let id = house.take("bounce@bounce.example.com", mail("ordinary-carrying")).await;
    house.process(&[id]).await;
    assert_eq!(
        house.ledger(|e| (e.kind, e.rcpt.to_owned(), e.src_type)),
        [(Kind::Received, "people@example.org".to_owned(), Some(SourceType::Internal))]
    );
    assert_eq!(house.engine.queued_recipients(), 1);
    let mut queued = Vec::new();
    house.store.for_each_queued(&mut |envelope, _| queued.push((envelope.orig.to_string(), envelope.no_dsn))).unwrap();
    queued.sort();
    assert_eq!(queued, [(String::new(), true), ("someone@example.net".into(), false)], "and stays in the quarantine");
    assert_eq!(house.quarantine.usage().mails, 1);
}
