//! What becomes of mail to a bounce or feedback address besides its events.

use std::sync::Arc;

use carom::config::model::Processor;
use carom::event::record::PairsBuf;
use carom::event::{EventBatch, Kind, MessageId, RuleSetId, SourceType, StoreId, Time};
use carom::report::disposition::{Disposition, Outcome, Settings, dispose, forwarded, notes};
use carom::store::{Envelope, Message, Recipient, Route};

use super::events::Index;
use super::forms::mail;

fn message(body: Vec<u8>) -> Message {
    Message {
        envelope: Envelope {
            id: MessageId(9),
            time_queued: Time::from_secs(1),
            orig: if body.starts_with(b"Return-Path: <>") { "" } else { "someone@example.net" }.into(),
            env_id: "".into(),
            job: "".into(),
            vmta: "{default}".into(),
            pool: "".into(),
            src_type: SourceType::Smtp,
            src_mta: "mx.example.net".into(),
            src_ip: None,
            user: "".into(),
            eight_bit: false,
            body_len: body.len() as u32,
            message_id_header: "".into(),
            headers: PairsBuf::default(),
            route: Route::Bounce,
            no_dsn: false,
            return_full: false,
            rcpts: vec![Recipient { address: "bounce@bounce.example.com".into(), orcpt: "".into(), notify: 0 }],
        },
        body: body.into(),
    }
}

fn processor() -> Processor {
    Processor {
        domains: vec!["bounce.example.com".into()],
        forward_unmatched_to: vec!["people@example.com".into()],
        forward_errors_to: vec!["postmaster@example.com".into()],
        ..Processor::default()
    }
}

fn disposed(message: &Message) -> (Disposition, usize) {
    let processor = processor();
    let settings = Settings { processor: Some(&processor), kept_headers: &[] };
    let mut events = 0;
    let d = dispose(message, settings, &Index(&[]), Time::from_secs(2), &mut |_| events += 1);
    (d, events)
}

#[test]
fn a_recognised_report_makes_its_events_and_is_not_passed_on() {
    let (d, events) = disposed(&message(mail("dsn-several")));
    assert_eq!((d.outcome, events, d.forward_to.len()), (Outcome::Recorded(3), 3, 0));
}

#[test]
fn an_automatic_reply_is_counted_and_goes_nowhere() {
    let (d, events) = disposed(&message(mail("vacation")));
    assert_eq!((d.outcome, events, d.forward_to.len()), (Outcome::AutoReply, 0, 0));
}

#[test]
fn what_is_no_report_goes_to_people_and_what_cannot_be_read_to_the_postmaster() {
    let (d, events) = disposed(&message(mail("ordinary-quoting")));
    assert_eq!((d.outcome, events, d.forward_to), (Outcome::Unmatched, 0, vec!["people@example.com".to_owned()]));
    let (d, events) = disposed(&message(mail("claims-to-be-a-report")));
    assert_eq!((d.outcome, events, d.forward_to), (Outcome::Unreadable, 0, vec!["postmaster@example.com".to_owned()]));
}

#[test]
fn a_copy_has_the_null_sender_asks_for_no_report_and_is_not_passed_on_again() {
    let report = message(mail("ordinary-quoting"));
    let to = ["people@example.com".to_owned(), "more@example.com".to_owned()];
    let (copy, received): (Arc<Message>, _) =
        forwarded(&report, &to, MessageId(10), "mta.example.com", Time::from_secs(3));
    let e = &copy.envelope;
    assert_eq!((&*e.orig, e.no_dsn, e.route, e.id), ("", true, Route::Deliver, MessageId(10)));
    assert_eq!(e.body_len as usize, copy.body.len());
    assert!(e.rcpts.iter().all(|r| r.notify == 1), "NOTIFY=NEVER");
    assert!(copy.body.ends_with(&report.body), "the mail stands in it as it came");
    let batch = EventBatch {
        store: StoreId(1),
        first_seq: 1,
        rules: RuleSetId(0),
        count: received.len() as u32,
        bytes: received.as_bytes(),
    };
    let events: Vec<_> = batch.iter().map(Result::unwrap).collect();
    assert_eq!(
        events.iter().map(|e| (e.kind, e.rcpt)).collect::<Vec<_>>(),
        to.iter().map(|a| (Kind::Received, a.as_str())).collect::<Vec<_>>()
    );

    let mut come_back = b"Received: by mx.example.com\r\n".to_vec();
    come_back.extend_from_slice(&copy.body);
    let (d, _) = disposed(&message(come_back));
    assert_eq!((d.outcome, d.forward_to.len()), (Outcome::Unmatched, 0));
}

#[test]
fn what_is_not_done_is_said_beforehand() {
    let quiet = Processor { deliver_unmatched_email: true, ..processor() };
    assert_eq!(notes(Some(&quiet), None), [] as [&str; 0]);
    let loud = Processor {
        deliver_matched_email: true,
        deliver_unmatched_email: true,
        forward_unmatched_to: Vec::new(),
        forward_errors_to: vec!["x@Bounce.example.com".into()],
        ..processor()
    };
    let said = notes(None, Some(&loud));
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|n| n.starts_with("<feedback-loop-processor> ")), "{said:?}");
    assert!(
        said[0].contains("deliver-matched-email")
            && said[1].contains("forward-unmatched-to")
            && said[2].contains("x@Bounce")
    );
}
