//! What becomes of mail to a bounce or feedback address besides its events.

use std::sync::Arc;

use carom::config::BodyPattern;
use carom::config::body_pattern::BOUNCE_GROUPS;
use carom::config::model::Processor;
use carom::event::{EventBatch, Kind, MessageId, RuleSetId, StoreId, Time};
use carom::report::copies::{By, delivered, forwarded};
use carom::report::disposition::{Disposition, MAX_HOPS, Outcome, Settings, check, dispose};
use carom::store::{Message, Route};

use super::events::Index;
use super::forms::mail;
use super::incoming::incoming;

fn message(body: Vec<u8>) -> Message {
    incoming(MessageId(9), "bounce@bounce.example.com", body)
}

fn processor() -> Processor {
    Processor {
        forward_unmatched_to: vec!["people@example.com".into()],
        forward_errors_to: vec!["postmaster@example.com".into()],
        ..Processor::default()
    }
}

fn disposed(message: &Message) -> (Disposition, usize) {
    disposed_by(&processor(), message)
}

const OURS: StoreId = StoreId(0xabc);
const BY: By<'static> = By { store: OURS, id: MessageId(10), host_name: "mta.example.com", now: Time::from_secs(3) };

fn disposed_by(processor: &Processor, message: &Message) -> (Disposition, usize) {
    let settings =
        Settings { processor: Some(processor), kept_headers: &[], store: OURS, has_way_on: true, again: false };
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
    let (copy, received): (Arc<Message>, _) = forwarded(&report, &to, false, BY);
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
fn what_nobody_gets_is_kept_and_what_somebody_gets_is_not() {
    let alone = Processor { deliver_unmatched_email: false, ..Processor::default() };
    for (name, outcome) in [("ordinary-quoting", Outcome::Unmatched), ("claims-to-be-a-report", Outcome::Unreadable)] {
        let m = message(mail(name));
        let (d, _) = disposed_by(&processor(), &m);
        assert!(!d.quarantine && d.forward_to.len() == 1, "{name}");
        // What can't be read goes on whatever deliver-unmatched-email says.
        let (d, _) = disposed_by(&alone, &m);
        assert_eq!((d.outcome, d.deliver), (outcome, outcome == Outcome::Unreadable), "{name}");
        assert_eq!(d.quarantine, outcome == Outcome::Unmatched);
        let delivers = Processor { deliver_unmatched_email: true, ..Processor::default() };
        assert!(disposed_by(&delivers, &m).0.deliver, "{name}");
        // Where the queue would lead back to us, delivering is no way out.
        let settings =
            Settings { processor: Some(&delivers), kept_headers: &[], store: OURS, has_way_on: false, again: false };
        let d = dispose(&m, settings, &Index(&[]), Time::from_secs(2), &mut |_| ());
        assert!(!d.deliver && d.quarantine, "{name}");
    }
    let (d, _) = disposed_by(&alone, &message(mail("vacation")));
    assert!(!d.quarantine && !d.deliver, "automatic replies are not worth keeping");
}

#[test]
fn a_report_goes_on_to_its_address_only_where_that_is_asked_for_and_only_once() {
    let asked = Processor { deliver_matched_email: true, ..Processor::default() };
    let m = message(mail("dsn-several"));
    let (d, events) = disposed_by(&asked, &m);
    assert_eq!((d.outcome, d.deliver, events), (Outcome::Recorded(3), true, 3));
    let (on, received) = delivered(&m, true, BY);
    assert_eq!((&*on.envelope.rcpts[0].address, &*on.envelope.orig), ("bounce@bounce.example.com", ""));
    assert_eq!((on.envelope.route, received.len()), (Route::Deliver, 0), "its reception was recorded when it came");
    // Its way leads back to us: it is not recorded twice and not delivered again.
    let (d, events) = disposed_by(&asked, &message(on.body.to_vec()));
    assert_eq!((d.outcome, d.deliver, d.quarantine, events), (Outcome::CameBack, false, false, 0));
    // To another server that reads reports it is a report like any other.
    let settings =
        Settings { processor: Some(&asked), kept_headers: &[], store: StoreId(1), has_way_on: true, again: false };
    let d = dispose(&message(on.body.to_vec()), settings, &Index(&[]), Time::from_secs(2), &mut |_| ());
    assert_eq!(d.outcome, Outcome::Recorded(3));
}

#[test]
fn what_goes_in_circles_is_kept_instead_of_passed_on() {
    let mut body = b"Received: by a.example\r\n".repeat(MAX_HOPS + 1);
    body.extend_from_slice(&mail("ordinary-quoting"));
    let (d, _) = disposed(&message(body));
    assert_eq!((d.outcome, d.forward_to.len(), d.deliver, d.quarantine), (Outcome::Unmatched, 0, false, true));
}

#[test]
fn a_pattern_file_reads_what_no_form_fits_and_leaves_the_known_forms_alone() {
    let text = "(?<r>\\S+@\\S+) (?:konnte|could) not";
    let pattern =
        BodyPattern::read(std::path::Path::new("p/acme.pattern"), text, BOUNCE_GROUPS, &mut Vec::new()).unwrap();
    let with = Processor { body_patterns: vec![pattern], log_match_info: true, ..Processor::default() };
    let m = message(b"From: gw@acme.example\r\nSubject: note\r\n\r\nann@example.net could not be found\r\n".to_vec());
    assert_eq!(disposed(&m).0.outcome, Outcome::Unmatched);
    let (d, events) = disposed_by(&with, &m);
    assert_eq!((d.outcome, d.format.as_str(), events), (Outcome::Recorded(1), "acme.pattern", 1));
    let info = d.match_info.unwrap();
    assert!(
        info.starts_with("matched body-pattern defined in file:p/acme.pattern") && info.contains("ann@example.net")
    );
    let (d, _) = disposed_by(&with, &message(mail("dsn-failed")));
    assert_eq!((d.format.as_str(), d.match_info), ("dsn", None));
}

fn notes(text: &str) -> Vec<String> {
    let loaded = carom::config::parse_str("c", &format!("host-name mta.example.com\nspool /s\nlog-file /l\n{text}"));
    check(&loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

#[test]
fn what_would_not_do_what_it_seems_to_say_is_said_beforehand() {
    let list = "<address-list>\ndomain bounce.example.com\n</address-list>\n";
    let block = |inner: &str| format!("<bounce-processor>\n{inner}{list}</bounce-processor>\n");
    let quiet = [
        block("deliver-unmatched-email no\n"),
        block("forward-unmatched-to people@example.com\n"),
        block("deliver-matched-email yes\n")
            + "<domain bounce.example.com>\nsmtp-hosts mailbox.example.com\n</domain>\n",
    ];
    for text in quiet {
        assert_eq!(notes(&text), [] as [&str; 0], "{text}");
    }
    let said = notes(&block("deliver-matched-email yes\n"));
    assert!(said.len() == 1 && said[0].contains("deliver-matched-email is on"), "{said:?}");
    let said = notes(&block(""));
    assert!(
        said.len() == 1 && said[0].contains("deliver-unmatched-email is on") && said[0].contains("smtp-hosts"),
        "{said:?}"
    );
    let said = notes(&block("deliver-unmatched-email no\nforward-errors-to x@Bounce.example.com\n"));
    assert!(said.len() == 1 && said[0].contains("x@Bounce"), "{said:?}");
}

#[test]
fn a_copy_of_what_was_not_understood_is_read_when_it_is_sent_in_again_and_goes_no_further() {
    let m = message(b"From: gw@acme.example\r\nSubject: note\r\n\r\nann@example.net could not be found\r\n".to_vec());
    let with = |patterns| Processor {
        body_patterns: patterns,
        deliver_matched_email: true,
        deliver_unmatched_email: true,
        quarantine_passed_on: true,
        ..Processor::default()
    };
    let (d, _) = disposed_by(&with(Vec::new()), &m);
    assert!(d.deliver && d.quarantine && d.outcome == Outcome::Unmatched);
    let (copy, _) = delivered(&m, false, BY);
    let mut again = b"Received: by mailbox.example.com\r\n".to_vec();
    again.extend_from_slice(&copy.body);
    let again = message(again);
    let (d, events) = disposed_by(&with(Vec::new()), &again);
    assert_eq!((d.outcome, d.deliver, d.quarantine, events), (Outcome::Unmatched, false, true, 0));
    // The operator has mended the pattern: nothing was recorded of it before.
    let text = "(?<r>\\S+@\\S+) could not";
    let pattern = BodyPattern::read(std::path::Path::new("a.pattern"), text, BOUNCE_GROUPS, &mut Vec::new()).unwrap();
    let (d, events) = disposed_by(&with(vec![pattern]), &again);
    assert_eq!((d.outcome, d.deliver, d.quarantine, events), (Outcome::Recorded(1), false, false, 1));
}
