//! Reports that speak of several recipients, or of one several times; what is left out of long ones; reports that name
//! nobody.

use std::fmt::Write;

use carom::event::return_path::{TokenKeys, mint};
use carom::event::{Action, Kind, MessageId, Time};
use carom::report::quarantine::Filter;
use carom::report::{Recognised, ReportKind, Summary, recognise};

use super::desk::Desk;

/// A DSN with these blocks and this returned header.
fn dsn(blocks: &[&str], returned: &str) -> Vec<u8> {
    let mut text = String::from(
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.net\nSubject: Undelivered\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=B\n\n--B\n\nSorry.\n\n\
         --B\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n",
    );
    for block in blocks {
        let _ = write!(text, "{block}\n\n");
    }
    let _ = write!(text, "--B\nContent-Type: text/rfc822-headers\n\n{returned}\n\n--B--\n");
    text.replace('\n', "\r\n").into_bytes()
}

/// A complaint with these fields more and this returned header.
fn arf(fields: &str, returned: &str) -> Vec<u8> {
    let text = format!(
        "From: fbl@provider.example\nSubject: complaint\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=B\n\n--B\n\nSpam.\n\n\
         --B\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n{fields}\n\
         --B\nContent-Type: message/rfc822\n\n{returned}\n\nhi\n\n--B--\n"
    );
    text.replace('\n', "\r\n").into_bytes()
}

fn rcpts(r: &Recognised) -> Vec<&str> {
    r.results.iter().map(|x| x.rcpt.as_str()).collect()
}

#[test]
fn a_complaint_that_names_somebody_twice_is_one_complaint() {
    let pair =
        "Original-Rcpt-To: <cy@example.net>\nRemoval-Recipient: <CY@Example.net>\nOriginal-Rcpt-To: cy@example.net\n";
    assert_eq!(rcpts(&recognise(&arf(pair, "Subject: x"))), ["cy@example.net"]);
    let two = "Original-Rcpt-To: <cy@example.net>\nRemoval-Recipient: di@example.net\n";
    assert_eq!(rcpts(&recognise(&arf(two, "Subject: x"))), ["cy@example.net", "di@example.net"]);
}

#[test]
fn a_bounce_with_several_blocks_on_one_recipient_says_the_worst_of_them_once() {
    let r = recognise(&dsn(
        &[
            "Final-Recipient: rfc822; same@example.net\nAction: delayed\nStatus: 4.2.0",
            "Final-Recipient: rfc822; SAME@example.net\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 gone",
            "Final-Recipient: rfc822; other@example.net\nAction: delivered\nStatus: 2.0.0",
            "Final-Recipient: rfc822; <same@EXAMPLE.net>\nAction: delivered\nStatus: 2.0.0",
        ],
        "Subject: x",
    ));
    assert_eq!((r.kind, rcpts(&r)), (ReportKind::Bounce, vec!["same@example.net", "other@example.net"]));
    assert_eq!((r.results[0].action, r.results[0].reply_code()), (Some(Action::Failed), Some(550)));
}

#[test]
fn how_many_recipients_were_left_out_is_said() {
    let mut fields = String::new();
    (0..1200).for_each(|n| writeln!(fields, "Original-Rcpt-To: <u{n}@example.net>").unwrap());
    let r = recognise(&arf(&fields, "Message-ID: <m1@example.com>\nSubject: x"));
    assert_eq!((r.results.len(), r.left_out, r.original.message_id.as_str()), (1000, 200, "m1@example.com"));
    let block = |n: usize| format!("Final-Recipient: rfc822; u{n}@example.net\nAction: failed\nStatus: 5.1.1");
    let blocks: Vec<String> = (0..1201).map(block).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    let r = recognise(&dsn(&blocks, "Subject: x"));
    assert_eq!((r.results.len(), r.left_out), (1000, 201));
    let json = |r: &Recognised| serde_json::to_value(Summary::from(r)).unwrap();
    assert_eq!(json(&r)["leftOut"], 201);
    let r = recognise(&dsn(&blocks[..1000], "Subject: x"));
    assert_eq!((r.results.len(), r.left_out), (1000, 0));
    assert!(json(&r).get("leftOut").is_none());
}

#[test]
fn a_control_character_in_an_address_does_not_make_it_another_ones() {
    let r = recognise(&dsn(
        &["Final-Recipient: rfc822; a\x1b[31mb@x.example\nAction: failed\nStatus: 5.1.1"],
        "Subject: x",
    ));
    assert_eq!(rcpts(&r), ["a\u{fffd}[31mb@x.example"]);
    let r =
        recognise(&dsn(&["Final-Recipient: utf-8; j\\x{F6}rg@x.example\nAction: failed\nStatus: 5.1.1"], "Subject: x"));
    assert_eq!(rcpts(&r), ["j\u{f6}rg@x.example"]);
}

#[test]
fn a_returned_header_is_read_behind_the_words_that_announce_it_whatever_it_begins_with() {
    let qmail = |returned: &str| {
        let text = format!(
            "From: MAILER-DAEMON@mx.example.org\nSubject: failure notice\n\nHi. This is the qmail-send program at mx.example.org.\n\
             I'm afraid I wasn't able to deliver your message to the following addresses.\n\n<ann@example.net>:\n\
             Remote host said: 550 5.1.1 user unknown\n\n--- Below this line is a copy of the message.\n\n{returned}\n\nhi\n"
        );
        recognise(text.replace('\n', "\r\n").as_bytes()).original
    };
    for returned in ["Subject: x\nX-Ref: 123", "X-Ref: 123\nSubject: x", "Return-Path: <a@b.example>\nX-Ref: 123"] {
        assert_eq!(qmail(returned).header("x-ref"), Some("123"), "{returned}");
    }
    assert!(qmail("Note: this is prose\nand no header").headers.is_empty());
}

/// The address of recipient 0 of message 5, as the desk remembers it.
fn token(desk: &Desk) -> String {
    let token = desk.config.return_path_token.as_ref().unwrap();
    let keys = TokenKeys { domain: token.domain.as_ref().unwrap(), keys: &token.keys, now: Time(1) };
    mint(keys, desk.store.id(), MessageId(5), 0).unwrap()
}

#[tokio::test]
async fn recipients_that_a_token_does_not_name_stay_without_its_send() {
    let desk = Desk::open();
    desk.remember_send("m1@example.com");
    let block = |rcpt: &str| format!("Final-Recipient: rfc822; {rcpt}\nAction: failed\nStatus: 5.1.1");
    let blocks = [block("eve@example.org"), block("ann@example.net")];
    let blocks = blocks.each_ref().map(String::as_str);
    let ids = [desk.take(&token(&desk), dsn(&blocks, "Subject: x")).await];
    desk.process(&ids).await;
    let seen = desk
        .ledger(|e| (e.rcpt.to_owned(), e.message, e.job.to_owned(), e.queue.to_owned(), e.attributed_by.to_owned()));
    let nothing = ("eve@example.org".into(), MessageId(0), String::new(), String::new(), String::new());
    let ann =
        ("ann@example.net".into(), MessageId(5), "spring".into(), "example.rollup/v1".into(), "return-path".into());
    assert_eq!(seen, [nothing, ann]);
}

#[tokio::test]
async fn the_return_path_that_a_report_quotes_proves_what_it_is_about() {
    let desk = Desk::open();
    desk.remember_send("m1@example.com");
    let to = "bounce@bounce.example.com";
    let complaint = desk.take(to, arf(&format!("Original-Mail-From: <{}>\n", token(&desk)), "Subject: x")).await;
    let block = "Final-Recipient: rfc822; forwarded@example.org\nAction: failed\nStatus: 5.1.1";
    let bounce = desk.take(to, dsn(&[block], &format!("Return-Path: <{}>\nSubject: x", token(&desk)))).await;
    let forged = token(&desk).replace('@', "0@");
    let forged = desk.take(to, arf(&format!("Original-Mail-From: <{forged}>\n"), "Subject: x")).await;
    desk.process(&[complaint, bounce, forged]).await;
    let mut seen = desk.ledger(|e| (e.kind, e.orig.to_owned(), e.rcpt.to_owned(), e.attributed_by.to_owned()));
    seen.sort_by_key(|e| e.3.is_empty());
    let proved = |kind| (kind, "news@example.com".to_owned(), "ann@example.net".to_owned(), "return-path".to_owned());
    assert_eq!(seen.len(), 3);
    assert!(seen[..2].contains(&proved(Kind::Feedback)) && seen[..2].contains(&proved(Kind::RemoteBounce)), "{seen:?}");
    assert_eq!(seen[2].2, "");
}

#[tokio::test]
async fn a_bounce_that_names_nobody_is_kept_unless_a_token_says_whom_it_means() {
    let desk = Desk::with(
        "host-name mta.example.com\nspool /s\n<return-path-token>\ndomain bounce.example.com\n\
         key k1 0123456789abcdef0123456789abcdef\n</return-path-token>\n<bounce-processor>\ndeliver-unmatched-email no\n\
         <address-list>\ndomain bounce.example.com\n</address-list>\n</bounce-processor>\n",
    );
    desk.remember_send("m1@example.com");
    let nobody = dsn(&["Action: failed\nStatus: 5.0.0"], "Subject: x");
    assert_eq!(recognise(&nobody).kind, ReportKind::Bounce, "the test is about a form that is understood");
    let unknown = desk.take("bounce@bounce.example.com", nobody.clone()).await;
    let known = desk.take(&token(&desk), nobody).await;
    desk.process(&[unknown, known]).await;
    assert_eq!(desk.ledger(|e| (e.kind, e.rcpt.to_owned())), [(Kind::RemoteBounce, "ann@example.net".to_owned())]);
    let kept = desk.quarantine.list(&Filter::default(), None, 10);
    assert_eq!(kept.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [unknown]);
}
