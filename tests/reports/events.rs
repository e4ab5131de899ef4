//! What a report leaves in the ledger.

use carom::event::{Action, AddressKey, Event, Kind, MessageId, SourceType, Time};
use carom::report::attribute::attribute;
use carom::report::to_event::{Arrival, emit};
use carom::report::{Evidence, Sent, recognise};

use super::forms::mail;

/// A send index in which every mail of `mails/` went to the address that its report names.
pub struct Index(pub &'static [(&'static str, &'static str)]);

/// What the index knows of a send to `rcpt`.
pub fn sent(rcpt: &str) -> Sent {
    Sent {
        message: MessageId(42),
        rcpt_index: 3,
        orig: "news@example.com".into(),
        rcpt: rcpt.into(),
        job: "spring".into(),
        vmta: "v1".into(),
        pool: "p1".into(),
        env_id: "our-env".into(),
        list: "weekly".into(),
        queue: "example.net/v1".into(),
        time_sent: Time::from_secs(1_700_000_000),
    }
}

impl Evidence for Index {
    fn token(&self, address: &str) -> Option<(MessageId, u16)> {
        (address == "token@bounce.example.com").then_some((MessageId(42), 3))
    }
    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent> {
        (message.0 == 42 && rcpt_index == 3).then(|| sent("first@example.net"))
    }
    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent> {
        let found = self.0.iter().find(|(id, r)| *id == message_id && rcpt.is_none_or(|k| k == &AddressKey::of(r)));
        found.map(|(_, r)| sent(r))
    }
}

/// What a test wants to see of an event; events borrow from what they are made of.
fn seen<T>(name: &str, to: &str, index: &Index, look: impl Fn(&Event<'_>) -> T) -> Vec<T> {
    let report = recognise(&mail(name));
    let attributions = attribute(&report, &[to], index);
    let arrival = Arrival {
        to,
        src_type: SourceType::Smtp,
        src_mta: "mx.example.net",
        src_ip: Some("192.0.2.8".parse().unwrap()),
        rcv_ip: Some("192.0.2.1".parse().unwrap()),
        pattern: None,
        originator: "",
    };
    let kept = ["subject".to_owned(), "x-job".to_owned()];
    let mut all = Vec::new();
    let count =
        emit(&report, &attributions, &arrival, &kept, Time::from_secs(1_700_000_100), &mut |e| all.push(look(e)));
    assert_eq!(count, all.len());
    all
}

const NOTHING: Index = Index(&[]);

#[test]
fn a_bounce_of_a_known_send_carries_the_sends_own_fields() {
    let index = Index(&[("m1@example.com", "Ann@Example.net")]);
    seen("dsn-failed", "bounce@bounce.example.com", &index, |e| {
        assert_eq!(
            (e.kind, e.attributed_by, e.message, e.rcpt_index),
            (Kind::RemoteBounce, "message-id", MessageId(42), 3)
        );
        assert_eq!((e.orig, e.rcpt, e.orcpt), ("news@example.com", "Ann@Example.net", "rfc822;Ann@Example.net"));
        assert_eq!((e.job, e.vmta, e.pool, e.env_id), ("spring", "v1", "p1", "our-env"));
        assert_eq!(e.queue, "example.net/v1");
        assert_eq!((e.time_sent, e.time), (Time::from_secs(1_700_000_000), Time::from_secs(1_700_000_100)));
        assert_eq!(e.diag, "smtp;550 5.1.1 There is no mailbox of that name. Ask the postmaster");
        assert_eq!((e.mta, e.mta_ip), ("mail.example.net", Some("192.0.2.9".parse().unwrap())));
        assert_eq!((e.reporting_mta, e.format, e.provider), ("mx.example.net", "dsn", "example.net"));
        assert_eq!(
            (e.src_type, e.src_mta, e.src_ip),
            (Some(SourceType::Smtp), "mx.example.net", Some("192.0.2.8".parse().unwrap()))
        );
        assert_eq!(
            (e.headers.get("Subject"), e.headers.get("X-Job"), e.headers.get("From")),
            (Some("Frühling"), Some("spring"), None)
        );
        assert!(e.is_permanent_failure());
    });
}

#[test]
fn a_bounce_of_an_unknown_send_is_recorded_and_proves_nothing() {
    seen("dsn-failed", "bounce@bounce.example.com", &NOTHING, |e| {
        assert_eq!((e.attributed_by, e.message, e.job), ("", MessageId(0), ""));
        assert_eq!((e.orig, e.rcpt, e.env_id), ("bounce@bounce.example.com", "ann@example.net", "env-42"));
    });
}

#[test]
fn the_signed_return_path_decides_who_it_was_even_when_the_report_names_a_forwarded_address() {
    seen("dsn-failed", "token@bounce.example.com", &NOTHING, |e| {
        assert_eq!((e.attributed_by, e.rcpt), ("return-path", "first@example.net"));
    });
}

#[test]
fn failed_recipients_bounce_and_the_others_have_a_status() {
    let kinds = seen("dsn-several", "bounce@bounce.example.com", &NOTHING, |e| (e.kind, e.action));
    assert_eq!(
        kinds,
        [
            (Kind::RemoteBounce, Some(Action::Failed)),
            (Kind::RemoteStatus, Some(Action::Delayed)),
            (Kind::RemoteBounce, Some(Action::Failed)),
        ]
    );
    assert_eq!(seen("dsn-delivered", "b@example.com", &NOTHING, |e| e.kind), [Kind::RemoteStatus; 3]);
}

#[test]
fn giving_up_on_a_4xx_is_no_permanent_failure() {
    assert_eq!(
        seen("exim", "b@example.com", &NOTHING, |e| (e.kind, e.is_permanent_failure())),
        [(Kind::RemoteBounce, false)]
    );
}

#[test]
fn a_complaint_carries_its_arf_fields_for_each_recipient() {
    let index = Index(&[("m7@example.com", "ann@example.net")]);
    let all = seen("arf-abuse", "fbl@bounce.example.com", &index, |e| {
        assert_eq!((e.kind, e.feedback_type, e.user_agent), (Kind::Feedback, "abuse", "ExampleFBL/2.1"));
        assert_eq!((e.dlv_source_ip, e.reported_domain), (Some("192.0.2.20".parse().unwrap()), "example.com"));
        assert_eq!((e.reporting_mta, e.format, e.headers.get("x-job")), ("mx.example.net", "arf", Some("spring")));
        assert_eq!(e.report_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(e.arf.iter().filter(|(n, _)| *n == "Reported-URI").count(), 2);
        (e.rcpt.to_owned(), e.attributed_by.to_owned())
    });
    // The Message-ID is known for ann only: who is merely named beside her is not suppressed.
    assert_eq!(
        all,
        [("ann@example.net".to_owned(), "message-id".to_owned()), ("bob@example.net".to_owned(), String::new())]
    );
}

#[test]
fn a_redacted_complaint_names_the_recipient_that_the_send_index_knows() {
    let index = Index(&[("m9@example.com", "ann@example.net")]);
    assert_eq!(
        seen("arf-redacted", "fbl@bounce.example.com", &index, |e| (e.rcpt.to_owned(), e.attributed_by.to_owned())),
        [("ann@example.net".to_owned(), "message-id-alone".to_owned())],
        "anybody who got the mail could have written it: it is no proof"
    );
    assert_eq!(seen("arf-redacted", "fbl@bounce.example.com", &NOTHING, |e| e.rcpt.to_owned()), [""]);
}

#[test]
fn what_is_no_report_makes_no_event() {
    for name in ["vacation", "receipt", "ordinary-quoting", "ordinary-carrying", "claims-to-be-a-report"] {
        assert!(seen(name, "bounce@bounce.example.com", &NOTHING, |_| ()).is_empty(), "{name}");
    }
}

#[test]
fn the_events_of_the_largest_report_fit_one_record() {
    let long = "x".repeat(3000);
    let fields: String = (0..200).map(|i| format!("X-Field-{i}: {long}\r\n")).collect();
    let rcpts: String = (0..1000).map(|i| format!("Original-Rcpt-To: u{i}@example.net\r\n")).collect();
    let text = format!(
        "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
         User-Agent: {long}\r\nVersion: 1\r\n{rcpts}{fields}\r\n--b--\r\n"
    );
    let report = recognise(text.as_bytes());
    assert!(report.results.len() > 200);
    let attributions = attribute(&report, &["fbl@example.com"], &NOTHING);
    let arrival = Arrival {
        to: "fbl@example.com",
        src_type: SourceType::Smtp,
        src_mta: "",
        src_ip: None,
        rcv_ip: None,
        pattern: None,
        originator: "",
    };
    let mut events = carom::event::Events::new();
    emit(&report, &attributions, &arrival, &[], Time::from_secs(1), &mut |e| events.push(e));
    assert!(events.as_bytes().len() < 32 << 20, "{}", events.as_bytes().len());
}

#[test]
fn a_small_report_on_a_thousand_recipients_makes_no_megabytes() {
    let named: String = (0..1000).map(|n| format!("Original-Rcpt-To: a{n}@b.example\r\n")).collect();
    let mail = format!(
        "From: fbl@there.example\r\nSubject: complaint\r\nContent-Type: multipart/report; report-type=feedback-report; \
         boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\n\
         Version: 1\r\n{named}\r\n--b--\r\n"
    );
    let report = recognise(mail.as_bytes());
    let attributions = attribute(&report, &["fbl@here.example"], &Index(&[]));
    let arrival = Arrival {
        to: "fbl@here.example",
        src_type: SourceType::Smtp,
        src_mta: "",
        src_ip: None,
        rcv_ip: None,
        pattern: None,
        originator: "",
    };
    let mut bytes = 0;
    let mut count = |e: &Event<'_>| bytes += e.arf.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    assert_eq!(emit(&report, &attributions, &arrival, &[], Time(1), &mut count), 1000);
    assert!((1000..1 << 20).contains(&bytes), "{bytes}");
}
