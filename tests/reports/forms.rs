//! Each form of report, from a mail in `mails/` to what is read from it.

use carom::event::Action;
use carom::report::{Recognised, ReportKind, Summary, recognise};

/// The mails of `mails/`, with CRLF line ends as the spool keeps them.
pub fn mail(name: &str) -> Vec<u8> {
    let text = match name {
        "dsn-failed" => include_str!("mails/dsn-failed.eml"),
        "dsn-delayed" => include_str!("mails/dsn-delayed.eml"),
        "dsn-delivered" => include_str!("mails/dsn-delivered.eml"),
        "dsn-several" => include_str!("mails/dsn-several.eml"),
        "dsn-base64" => include_str!("mails/dsn-base64.eml"),
        "dsn-wrong-subtype" => include_str!("mails/dsn-wrong-subtype.eml"),
        "arf-abuse" => include_str!("mails/arf-abuse.eml"),
        "arf-not-spam" => include_str!("mails/arf-not-spam.eml"),
        "arf-redacted" => include_str!("mails/arf-redacted.eml"),
        "jmrp" => include_str!("mails/jmrp.eml"),
        "qmail" => include_str!("mails/qmail.eml"),
        "exim" => include_str!("mails/exim.eml"),
        "warning" => include_str!("mails/warning.eml"),
        "vacation" => include_str!("mails/vacation.eml"),
        "receipt" => include_str!("mails/receipt.eml"),
        "ordinary-quoting" => include_str!("mails/ordinary-quoting.eml"),
        "ordinary-carrying" => include_str!("mails/ordinary-carrying.eml"),
        "claims-to-be-a-report" => include_str!("mails/claims-to-be-a-report.eml"),
        _ => panic!("no mail {name}"),
    };
    text.replace('\n', "\r\n").into_bytes()
}

fn read(name: &str) -> Recognised {
    recognise(&mail(name))
}

/// Recipient, action, status and reply code of each result.
fn results(r: &Recognised) -> Vec<(&str, Option<Action>, String, Option<u16>)> {
    let status = |s: Option<carom::event::EnhancedStatus>| s.map(|s| s.to_string()).unwrap_or_default();
    r.results.iter().map(|x| (x.rcpt.as_str(), x.action, status(x.status), x.reply_code())).collect()
}

#[test]
fn a_failure_report_gives_every_field_of_rfc_3464() {
    let r = read("dsn-failed");
    assert_eq!((r.kind, r.format), (ReportKind::Bounce, "dsn"));
    assert_eq!(results(&r), [("ann@example.net", Some(Action::Failed), "5.1.1".into(), Some(550))]);
    let one = &r.results[0];
    assert_eq!(one.orcpt, "rfc822;Ann@Example.net");
    assert_eq!(
        (one.diag_type.as_str(), one.diag.as_str()),
        ("smtp", "550 5.1.1 There is no mailbox of that name. Ask the postmaster")
    );
    assert_eq!((one.remote_mta.as_str(), one.remote_ip), ("mail.example.net", Some("192.0.2.9".parse().unwrap())));
    assert_eq!((r.reporting_mta.as_str(), r.env_id.as_str()), ("mx.example.net", "env-42"));
    assert!(r.arrival_date.starts_with("Mon, 6 May 2024"));
    assert_eq!((r.original.message_id.as_str(), r.original.subject.as_str()), ("m1@example.com", "Fr\u{fc}hling"));
    assert_eq!((r.original.from.as_str(), r.original.header("x-job")), ("News <news@example.com>", Some("spring")));
}

#[test]
fn a_delay_is_a_status_and_no_bounce() {
    let r = read("dsn-delayed");
    assert_eq!(r.kind, ReportKind::Status);
    assert_eq!(results(&r), [("bob@example.net", Some(Action::Delayed), "4.4.1".into(), None)]);
    assert_eq!((r.results[0].diag_type.as_str(), r.original.message_id.as_str()), ("x-example", "m2@example.com"));
}

#[test]
fn success_reports_tell_delivered_relayed_and_expanded_apart() {
    let r = read("dsn-delivered");
    assert_eq!(r.kind, ReportKind::Status);
    let actions: Vec<_> = r.results.iter().map(|x| x.action.unwrap()).collect();
    assert_eq!(actions, [Action::Delivered, Action::Relayed, Action::Expanded]);
}

#[test]
fn each_recipient_has_its_own_result_even_where_the_blank_lines_are_missing() {
    let r = read("dsn-several");
    assert_eq!(r.kind, ReportKind::Bounce);
    assert_eq!(
        results(&r),
        [
            ("ann@example.net", Some(Action::Failed), "5.2.1".into(), Some(550)),
            ("bob@example.net", Some(Action::Delayed), "4.2.2".into(), Some(452)),
            ("cy@example.net", Some(Action::Failed), "5.1.3".into(), Some(553)),
        ]
    );
}

#[test]
fn encoded_parts_are_decoded() {
    let r = read("dsn-base64");
    assert_eq!(results(&r), [("ann@example.net", Some(Action::Failed), "5.1.10".into(), Some(550))]);
    assert_eq!(r.original.message_id, "m5@example.com");
}

#[test]
fn a_report_with_wrong_types_and_a_wrong_boundary_is_still_read() {
    let r = read("dsn-wrong-subtype");
    assert_eq!(results(&r), [("dee@example.org", Some(Action::Failed), "5.1.1".into(), Some(550))]);
    assert_eq!(r.original.message_id, "m6@example.com");
}

#[test]
fn line_ends_of_any_kind_give_the_same_result() {
    for name in ["dsn-failed", "dsn-several", "arf-abuse", "qmail", "exim"] {
        let crlf = mail(name);
        let lf: Vec<u8> = crlf.iter().copied().filter(|b| *b != b'\r').collect();
        let cr: Vec<u8> = crlf.iter().copied().filter(|b| *b != b'\n').collect();
        assert_eq!(recognise(&lf), recognise(&crlf), "{name}, bare LF");
        assert_eq!(recognise(&cr), recognise(&crlf), "{name}, bare CR");
    }
}

#[test]
fn a_complaint_gives_one_result_for_each_recipient_and_every_field_of_rfc_5965() {
    let r = read("arf-abuse");
    assert_eq!((r.kind, r.format), (ReportKind::Feedback, "arf"));
    assert_eq!(r.results.iter().map(|x| x.rcpt.as_str()).collect::<Vec<_>>(), ["ann@example.net", "bob@example.net"]);
    assert_eq!((r.env_id.as_str(), r.original.message_id.as_str()), ("env-7", "m7@example.com"));
    let c = r.complaint.unwrap();
    assert_eq!((c.feedback_type.as_str(), c.user_agent.as_str()), ("abuse", "ExampleFBL/2.1"));
    assert_eq!((c.mail_from.as_str(), c.reported_domain.as_str()), ("news@example.com", "example.com"));
    assert_eq!((c.source_ip, c.reporting_mta.as_str()), (Some("192.0.2.20".parse().unwrap()), "mx.example.net"));
    assert_eq!(c.fields.iter().filter(|(n, _)| n == "Reported-URI").count(), 2);
}

#[test]
fn a_report_that_something_is_not_spam_says_so() {
    assert_eq!(read("arf-not-spam").complaint.unwrap().feedback_type, "not-spam");
}

#[test]
fn a_redacted_complaint_has_one_result_without_an_address() {
    let r = read("arf-redacted");
    assert_eq!((r.kind, r.results.len(), r.results[0].rcpt.as_str()), (ReportKind::Feedback, 1, ""));
    assert_eq!(r.complaint.unwrap().source_ip, Some("2001:db8::20".parse().unwrap()));
}

#[test]
fn microsofts_complaint_names_its_recipient_in_the_attached_header() {
    let r = read("jmrp");
    assert_eq!((r.kind, r.format, r.results[0].rcpt.as_str()), (ReportKind::Feedback, "jmrp", "ann@hotmail.example"));
}

#[test]
fn qmail_names_each_address_with_its_reason() {
    let r = read("qmail");
    assert_eq!((r.kind, r.format), (ReportKind::Bounce, "qmail"));
    assert_eq!(
        results(&r),
        [
            ("ann@example.org", Some(Action::Failed), "5.1.1".into(), Some(550)),
            ("bob@example.org", Some(Action::Failed), "5.1.1".into(), None),
        ]
    );
    assert_eq!(r.original.message_id, "m11@example.com");
}

#[test]
fn a_text_bounce_that_gave_up_on_a_4xx_failed_with_that_4xx() {
    let r = read("exim");
    assert_eq!(results(&r), [("cy@example.org", Some(Action::Failed), "4.2.2".into(), Some(452))]);
    assert_eq!(r.results[0].remote_mta, "mail.example.org");
}

#[test]
fn a_text_warning_is_a_delay() {
    let r = read("warning");
    assert_eq!(
        (r.kind, results(&r)),
        (ReportKind::Status, vec![("dee@example.org", Some(Action::Delayed), String::new(), None)])
    );
}

#[test]
fn automatic_replies_and_receipts_are_no_bounces() {
    for name in ["vacation", "receipt"] {
        assert_eq!(read(name).kind, ReportKind::AutoReply, "{name}");
    }
}

#[test]
fn ordinary_mail_that_quotes_or_carries_a_bounce_is_no_report() {
    for name in ["ordinary-quoting", "ordinary-carrying"] {
        let r = read(name);
        assert_eq!((r.kind, r.unreadable), (ReportKind::None, false), "{name}");
    }
}

#[test]
fn a_report_in_which_nothing_can_be_read_is_known_as_such() {
    let r = read("claims-to-be-a-report");
    assert_eq!((r.kind, r.unreadable), (ReportKind::None, true));
}

#[test]
fn the_summary_has_the_published_form() {
    let json = serde_json::to_value(Summary::from(&read("dsn-failed"))).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "kind": "bounce", "format": "dsn",
            "results": [{
                "rcpt": "ann@example.net", "orcpt": "rfc822;Ann@Example.net", "action": "failed", "status": "5.1.1", "replyCode": 550,
                "diag": "smtp;550 5.1.1 There is no mailbox of that name. Ask the postmaster", "remoteMta": "mail.example.net",
            }],
            "original": {"messageId": "m1@example.com", "from": "News <news@example.com>", "subject": "Fr\u{fc}hling"},
        })
    );
    let json = serde_json::to_value(Summary::from(&read("arf-abuse"))).unwrap();
    assert_eq!((json["kind"].as_str(), json["results"][1]["feedbackType"].as_str()), (Some("feedback"), Some("abuse")));
}

#[test]
fn a_bounce_in_prose_keeps_the_sentence_that_names_the_recipient_and_invents_no_status() {
    let text = "From: MAILER-DAEMON@mail.example.net\r\nSubject: Undeliverable: May\r\n\r\n\
        This is Example Mailer 5.1.2.\r\n\r\nYour mail to dee@example.net\r\nwas not delivered, because the mailbox is closed.\r\n";
    let r = recognise(text.as_bytes());
    assert_eq!(results(&r), [("dee@example.net", Some(Action::Failed), String::new(), None)]);
    assert_eq!(r.results[0].diag, "Your mail to dee@example.net was not delivered, because the mailbox is closed.");
}
