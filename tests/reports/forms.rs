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
        "mdn-refusal" => include_str!("mails/mdn-refusal.eml"),
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
    assert_eq!((r.original.message_id.as_str(), r.original.subject.as_str()), ("m1@example.com", "Frühling"));
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
            "original": {"messageId": "m1@example.com", "from": "News <news@example.com>", "subject": "Frühling"},
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

#[test]
fn a_mailbox_that_refuses_by_a_receipt_bounced() {
    let r = read("mdn-refusal");
    assert_eq!((r.kind, r.format), (ReportKind::Bounce, "mdn"));
    assert_eq!(results(&r), [("ann@example.net", Some(Action::Failed), String::new(), None)]);
    assert!(r.results[0].diag.contains("Quota exceeded"), "{}", r.results[0].diag);
    assert_eq!(r.original.message_id, "m1@example.com");
}

#[test]
fn automatic_replies_are_known_in_many_languages() {
    for (header, text) in [
        ("Subject: Automatic reply: May", "I am away."),
        ("Subject: Out of Office: May", "Back on Monday."),
        ("Subject: =?utf-8?B?QWJ3ZXNlbmhlaXRzbm90aXo6IE1haQ==?=", "Ich bin nicht da."),
        ("Subject: Risposta automatica: maggio", "Sono fuori sede."),
        ("Subject: =?utf-8?B?UsOpcG9uc2UgYXV0b21hdGlxdWUgOiBtYWk=?=", "Je reviens lundi."),
        ("Subject: =?utf-8?B?0JDQstGC0L7QvtGC0LLQtdGC?=", "Я в отпуске."),
        ("Subject: =?utf-8?B?6Ieq5YuV5b+c562UOiDkupTmnIg=?=", "休暇中です。"),
        ("Subject: Re: May\r\nReturn-Path: <>", "Mr Lee no longer works here. Please write to Ms Ray."),
        ("Subject: Re: May\r\nPrecedence: junk", "Ich bin bis Montag im Urlaub."),
        ("Subject: Please confirm your message\r\nPrecedence: bulk", "Answer this mail and yours is delivered."),
        ("Subject: Re: May\r\nAuto-Submitted: auto-replied", "Thank you."),
        ("Subject: Automatic reply: Undeliverable: May\r\nReturn-Path: <>", "I am away. Write to bob@example.net."),
        ("Subject: =?utf-8?B?7J6Q64+ZIO2ajOyLoDogNeyblA==?=", "부재중입니다."),
        (
            "Subject: [Request received] May\r\nAuto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All",
            "Your request has been received.",
        ),
        ("Subject: Re: May\r\nReturn-Path: <>", "This mailbox is no longer monitored."),
        ("Subject: [T-17] Maio\r\nAuto-Submitted: auto-generated\r\nPrecedence: bulk", "Recebemos o seu pedido."),
    ] {
        let mail = format!(
            "From: ann@example.net\r\nTo: news@example.com\r\n{header}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        );
        let r = recognise(mail.as_bytes());
        assert_eq!((r.kind, r.results.len()), (ReportKind::AutoReply, 1), "{header}");
    }
    // The same words of a person, without any sign of a program.
    let mail =
        "From: ann@example.net\r\nSubject: Re: May\r\n\r\nMr Lee no longer works here. Please write to Ms Ray.\r\n";
    assert_eq!(recognise(mail.as_bytes()).kind, ReportKind::None);
}

#[test]
fn complaints_that_are_no_feedback_reports_by_type_are_read() {
    let original = "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: news@example.com\r\nTo: ann@example.net\r\nMessage-ID: <m1@example.com>\r\nSubject: May\r\n\r\nx\r\n--b--\r\n";
    let as_text = format!(
        "From: fbl@example.net\r\nSubject: complaint\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: Example/1\r\nVersion: 1\r\n\r\n{original}"
    );
    let old_jmrp = format!(
        "From: staff@hotmail.com\r\nSubject: complaint about message from 192.0.2.1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{original}"
    );
    let attached = format!(
        "From: fbl@example.net\r\nSubject: complaint\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
         Content-Type: text/plain\r\n\r\nSomebody complains.\r\n--b\r\nContent-Type: text/plain; name=report.txt\r\n\r\n\
         Feedback-Type: abuse\r\nUser-Agent: Example/1\r\nVersion: 1\r\n\r\n{original}"
    );
    for (mail, format) in [(as_text, "arf"), (old_jmrp, "jmrp"), (attached, "arf")] {
        let r = recognise(mail.as_bytes());
        assert_eq!((r.kind, r.format, r.results[0].rcpt.as_str()), (ReportKind::Feedback, format, "ann@example.net"));
        assert_eq!(r.complaint.unwrap().feedback_type, "abuse");
        assert_eq!(r.original.message_id, "m1@example.com");
    }
}

#[test]
fn reports_joined_in_one_mail_give_the_results_of_each() {
    let mut both = mail("dsn-failed");
    both.extend_from_slice(b"\r\nFrom MAILER-DAEMON Mon May  6 10:00:00 2024\r\n");
    both.extend_from_slice(&mail("dsn-wrong-subtype"));
    let r = recognise(&both);
    assert_eq!(r.results.iter().map(|x| x.rcpt.as_str()).collect::<Vec<_>>(), ["ann@example.net", "dee@example.org"]);
}

#[test]
fn a_report_about_a_report_says_what_the_inner_one_says() {
    let inner = String::from_utf8(mail("dsn-failed")).unwrap();
    let outer = format!(
        "From: MAILER-DAEMON@gate.example.net\r\nTo: postmaster@example.com\r\nSubject: Returned mail: User unknown\r\n\
         Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\n\
         The original message was received today.\r\n\r\n--outer\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--outer--\r\n"
    );
    let r = recognise(outer.as_bytes());
    assert_eq!((r.kind, r.results[0].rcpt.as_str()), (ReportKind::Bounce, "ann@example.net"));
}

#[test]
fn the_code_of_the_other_side_is_closer_than_the_status_of_the_reporting_system_unless_one_is_temporary() {
    let status = |status: &str, diag: &str| {
        let mail = format!(
            "From: MAILER-DAEMON@example.org\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; example.org\r\n\r\n\
             Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {diag}\r\n--b--\r\n"
        );
        recognise(mail.as_bytes()).results[0].status.unwrap().to_string()
    };
    assert_eq!(status("5.1.1", "550 5.7.1 listed"), "5.7.1");
    assert_eq!(status("5.0.0", "550 5.1.1 unknown"), "5.1.1");
    assert_eq!(status("4.4.7", "450 4.7.1 not yet"), "4.7.1");
    assert_eq!(status("4.4.7", "550 5.1.1 unknown"), "4.4.7");
    assert_eq!(status("5.1.1", "550 5.0.0 no"), "5.1.1");
    assert_eq!(status("5.0.0", "421 4.7.0 not so fast"), "4.7.0");
}

#[test]
fn labels_in_the_text_say_why_where_the_fields_of_a_report_do_not() {
    let text = "From: postmaster@mx.example.org\r\nReturn-Path: <>\r\nSubject: Delivery Notification: Delivery has failed\r\n\
        Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\n\
        Your message cannot be delivered to the following recipients:\r\n\r\n\
        Recipient address: ann@example.net\r\nReason: host/domain does not accept mail\r\n\r\n--b\r\n\
        Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n\
        Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.4.4\r\n\r\n--b--\r\n";
    let r = recognise(text.as_bytes());
    assert_eq!(r.results[0].diag, "host/domain does not accept mail");
}

#[test]
fn what_qmail_says_behind_a_reply_is_no_part_of_it() {
    let text = "From: MAILER-DAEMON@mx.example.org\r\nSubject: failure notice\r\n\r\n\
        Hi. This is the qmail-send program at mx.example.org.\r\n\r\n<ann@example.net>:\r\n\
        192.0.2.77 does not like recipient.\r\nRemote host said: 550 5.1.1 nobody here\r\nGiving up on 192.0.2.77.\r\n";
    assert_eq!(recognise(text.as_bytes()).results[0].diag, "550 5.1.1 nobody here");
}

#[test]
fn a_notice_that_a_parcel_or_a_member_bounced_is_no_report() {
    for mail in [
        "From: users-request@lists.example.net\r\nSubject: Digest 17: undeliverable mail\r\nPrecedence: list\r\n\r\n\
         1. undeliverable mail (Bob)\r\n\r\nMy mail could not be delivered: 550 5.1.1 <ann@example.net>: unknown\r\n",
        "From: Bob <bob@example.net>\r\nSubject: What is this?\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\n\r\nI got the file below.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--\r\n",
        "From: Ann <ann@example.net>\r\nSubject: Fwd: Undeliverable: May\r\n\r\n\
         ---------- Forwarded message ---------\r\nFrom: Mailer <mailer-daemon@mx.example.org>\r\n\r\n\
         Your message to bob@example.net could not be delivered.\r\n",
        "From: Shop <noreply@shop.example>\r\nTo: cy@example.org\r\nSubject: Your order could not be delivered\r\n\r\n\
         Dear customer,\r\n\r\nyour order 17 could not be delivered to the address that you gave. This message was \
         sent to ann@example.net, please send us an e-mail: user help@shop.example.\r\n",
        "From: Billing <billing@shop.example>\r\nSubject: Returned mail: your invoice\r\n\r\n\
         We were unable to deliver the goods of invoice 12 to ann@example.net, because the card was declined.\r\n",
        "From: News <news@shop.example>\r\nSubject: Why your mail was not delivered\r\n\r\n\
         Mail that could not be delivered costs you readers: 550 5.1.1 is for good. Write to tips@shop.example.\r\n",
        "From: Postmaster <postmaster@example.net>\r\nTo: ann@example.org\r\nSubject: Delivery problems\r\n\r\n\
         Hello Ann,\r\n\r\nour server sees many mails from yours to nobody, such as\r\n\
         550 5.1.1 <bob@example.net>\r\nPlease look after your list.\r\n\r\nCy\r\n",
        "Return-Path: <>\r\nFrom: postmaster@example.net\r\nTo: ann@example.net\r\nSubject: Warning: mailbox almost full\r\n\r\n\
         The mailbox ann@example.net is full to 95%. When it is full, senders will see 552 mailbox full.\r\n",
        "From: Parcels <noreply@parcel.example>\r\nSubject: Delivery failed: parcel 12\r\nPrecedence: bulk\r\n\r\n\
         We were unable to deliver your parcel to 12 Main Street. Write to help@parcel.example, or pay at x.example.\r\n",
        "From: shop@example.net\r\nSubject: Your order\r\nAuto-Submitted: auto-generated\r\n\r\nThank you for your message.\r\n",
    ] {
        assert_eq!(recognise(mail.as_bytes()).kind, ReportKind::None, "{mail}");
    }
}

/// A DSN with this text and these recipient groups.
fn dsn(text: &str, groups: &str) -> Recognised {
    let mail = format!(
        "From: MAILER-DAEMON@mx.example.org\r\nSubject: Returned mail\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n{groups}"
    );
    recognise(mail.as_bytes())
}

#[test]
fn reports_collected_as_parts_of_one_mail_give_the_results_of_each() {
    let one = |rcpt: &str, status: &str| {
        format!(
            "--a\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=in-{rcpt}\r\n\r\n\
             --in-{rcpt}\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n\
             Final-Recipient: rfc822; {rcpt}@example.net\r\nAction: failed\r\nStatus: {status}\r\n\
             Diagnostic-Code: smtp; 550 {status} no\r\n\r\n--in-{rcpt}--\r\n"
        )
    };
    let mail = format!(
        "Return-Path: <>\r\nFrom: bounces@mx.example.org\r\nSubject: 2 bounces\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n{}{}--a--\r\n",
        one("ann", "5.1.1"),
        one("bob", "5.7.1"),
    );
    assert_eq!(
        results(&recognise(mail.as_bytes())),
        [
            ("ann@example.net", Some(Action::Failed), "5.1.1".into(), Some(550)),
            ("bob@example.net", Some(Action::Failed), "5.7.1".into(), Some(550)),
        ]
    );
}

#[test]
fn a_report_that_is_cut_off_in_an_address_has_the_rest_from_its_text() {
    let r = dsn(
        "<ann@example.net>: host mx.example.net said: 550 5.1.1 nobody\r\n\r\n\
         <bob@example.net>: host mx.example.net said: 552 5.2.2\r\n    <bob@example.net>: full",
        "Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\nFinal-Recipient: rfc822; bob",
    );
    assert_eq!(
        results(&r),
        [
            ("ann@example.net", Some(Action::Failed), "5.1.1".into(), Some(550)),
            ("bob@example.net", Some(Action::Failed), "5.2.2".into(), Some(552)),
        ]
    );
    assert_eq!(r.results[1].diag, "552 5.2.2 <bob@example.net>: full");
}

#[test]
fn a_transcript_gives_the_cause_and_not_what_is_said_of_another_host() {
    let group = |status: &str, action: &str| {
        format!(
            "Final-Recipient: rfc822; ann@shop.example.net\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
        )
    };
    let loops = dsn(
        "   ----- Transcript of session follows -----\r\n553 5.3.5 shop.example.net. config error: mail loops back to me\r\n\
         554 5.3.5 <ann@shop.example.net>... Local configuration error",
        &group("5.3.5", "failed"),
    );
    assert_eq!(loops.results[0].diag, "553 5.3.5 shop.example.net. config error: mail loops back to me");
    let late = dsn(
        "   ----- Transcript of session follows -----\r\n451 shop.example.net: Name server timeout\r\n\
         <ann@shop.example.net>... Deferred: Connection timed out with mx2.example.net.\r\n\
         Warning: message still undelivered after 4 hours\r\nWill keep trying until message is 5 days old",
        &group("4.4.1", "delayed"),
    );
    assert_eq!(late.results[0].diag, "Deferred: Connection timed out with mx2.example.net.");
}

#[test]
fn text_in_no_known_character_set_is_read_as_that_of_windows() {
    let mut mail = b"Return-Path: <>\r\nFrom: postmaster@example.net\r\nSubject: Nachricht unzustellbar\r\n\
        Content-Type: text/plain; charset=x-own\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        Ihre Nachricht konnte nicht zugestellt werden.\r\n\r\nAn: <ann@example.net>\r\nGrund: 550 kein Empf"
        .to_vec();
    mail.extend_from_slice(b"\xe4nger\r\n");
    assert_eq!(recognise(&mail).results[0].diag, "550 kein Empfänger");
}

#[test]
fn a_reply_in_html_may_have_blanks_that_keep_it_together() {
    let mail = "Return-Path: <>\r\nFrom: postmaster@example.net\r\nSubject: Niet bezorgd: mei\r\nContent-Type: text/html\r\n\r\n\
        <p>Uw bericht is niet bezorgd.</p><table><tr><td>Ontvanger:</td><td>ann@example.net</td></tr>\
        <tr><td>Reden:</td><td>[550&nbsp;5.1.1 niet bekend]</td></tr></table>";
    assert_eq!(
        results(&recognise(mail.as_bytes())),
        [("ann@example.net", Some(Action::Failed), "5.1.1".into(), Some(550))]
    );
}

#[test]
fn an_x_arf_report_on_mail_is_a_complaint_and_one_on_an_attack_is_none() {
    let report = |kind: &str, rest: &str| {
        format!(
            "From: reports@trap.example.net\r\nSubject: report\r\nX-XARF: PLAIN\r\nAuto-Submitted: auto-generated\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nDear team, see below.\r\n\
             --b\r\nContent-Type: text/plain; name=report.txt\r\n\r\n---\r\nReported-From: reports@trap.example.net\r\n\
             Category: abuse\r\nReport-Type: {kind}\r\nSource-Type: ip-address\r\nSource: 192.0.2.7\r\n{rest}--b--\r\n"
        )
    };
    let mail = "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: news@example.com\r\nTo: ann@example.net\r\nSubject: May\r\n\r\n";
    let r = recognise(report("spam", mail).as_bytes());
    assert_eq!((r.kind, r.format, r.results[0].rcpt.as_str()), (ReportKind::Feedback, "xarf", "ann@example.net"));
    let complaint = r.complaint.unwrap();
    assert_eq!((complaint.feedback_type.as_str(), complaint.source_ip), ("abuse", "192.0.2.7".parse().ok()));
    assert_eq!(recognise(report("login-attack", "").as_bytes()).kind, ReportKind::None);
}

#[test]
fn a_damaged_status_part_is_read_as_it_was_meant() {
    let fields = "Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; ann@example.net\r\n\
                  Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 nobody\r\n";
    let mail = |media: &str, fields: &str| {
        format!(
            "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example.org\r\nSubject: Returned mail\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\n\r\nNot delivered.\r\n--b\r\nContent-Type: {media}\r\n\r\n{fields}\r\n--b--\r\n"
        )
    };
    let type_of = "message/delivery-status";
    for (what, mail) in [
        ("a blank line in a group", mail(type_of, &fields.replace("\r\nAction", "\r\n\r\nAction"))),
        ("all lines indented", mail(type_of, &fields.replace("\r\n", "\r\n  ").replacen("Rep", "  Rep", 1))),
        ("called a file", mail("application/octet-stream; name=details.txt", fields)),
        ("called plain text", mail("text/plain; name=details.txt", fields)),
        ("no blank line between the groups", mail(type_of, &fields.replace("\r\n\r\n", "\r\n"))),
    ] {
        let read = recognise(mail.as_bytes());
        assert_eq!(results(&read), [("ann@example.net", Some(Action::Failed), "5.1.1".into(), Some(550))], "{what}");
    }
    let mut raw = mail(type_of, &fields.replace("nobody", "kein Empf\u{1}nger")).into_bytes();
    raw.iter_mut().filter(|b| **b == 1).for_each(|b| *b = 0xe4);
    assert_eq!(recognise(&raw).results[0].diag, "550 5.1.1 kein Empfänger");
}

#[test]
fn a_mail_system_that_answers_by_itself_that_an_address_is_given_up_bounces() {
    let mail = "Return-Path: <>\r\nFrom: postmaster@example.net\r\nSubject: Address given up\r\nAuto-Submitted: auto-replied\r\n\r\n\
        The address ann@example.net is no longer in use. Your message was not delivered.\r\n";
    let r = recognise(mail.as_bytes());
    assert_eq!((r.kind, r.results[0].rcpt.as_str()), (ReportKind::Bounce, "ann@example.net"));
}

#[test]
fn a_note_of_spamcops_is_a_complaint_about_an_address_and_names_nobody() {
    let note = "From: 4711@reports.spamcop.net\r\nSubject: [SpamCop (192.0.2.9) id:4711]May\r\n\r\n[ SpamCop V5 ]\r\n\
                Email from 192.0.2.9\r\n\r\n[ Offending message ]\r\nFrom: news@example.com\r\n\
                Message-ID: <m1@example.com>\r\nSubject: May\r\n\r\nx\r\n";
    let r = recognise(note.as_bytes());
    assert_eq!((r.kind, r.format, r.results.len()), (ReportKind::Feedback, "spamcop", 1));
    assert_eq!((r.results[0].rcpt.as_str(), r.original.message_id.as_str()), ("", "m1@example.com"));
    assert_eq!(r.complaint.unwrap().source_ip, Some("192.0.2.9".parse().unwrap()));
    let other = note.replace("4711@reports.spamcop.net", "ann@example.net");
    assert_eq!(recognise(other.as_bytes()).kind, ReportKind::None);
}

#[test]
fn status_fields_are_read_under_a_type_that_is_misspelt_and_a_time_that_ran_out_is_the_reason() {
    let dsn = |media: &str, diag: &str| {
        format!(
            "Return-Path: <>\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: failure\r\nContent-Type: multipart/report; \
             report-type=disposition-notification; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nDelivery \
             failed.\r\n--b\r\nContent-Type: {media}\r\n\r\nReporting-MTA: dns; example.net\r\n\r\nFinal-Recipient: \
             rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: smtp; {diag}\r\n\r\n--b--\r\n"
        )
    };
    let r = recognise(dsn("message/delivery_status", "550 5.2.1 mailbox disabled").as_bytes());
    assert_eq!((r.kind, r.results[0].rcpt.as_str()), (ReportKind::Bounce, "ann@example.net"));
    let expired = "5.4.7 - Delivery expired (message too old) 451-'4.3.0 queue file write error'";
    let r = recognise(dsn("message/delivery-status", expired).as_bytes());
    assert_eq!(r.results[0].diag, expired);
    let r = recognise(dsn("message/delivery-status", "5.1.0 - Unknown address error 550-'no such user'").as_bytes());
    assert_eq!(r.results[0].reply_code(), Some(550));
}
