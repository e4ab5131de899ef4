//! Whatever a mail holds: no panic, bounded time, bounded results.

use std::time::{Duration, Instant};

use carom::report::kind::MAX_RESULTS;
use carom::report::{ReportKind, recognise};
use proptest::prelude::*;

use super::forms::mail;

const ALL: &[&str] =
    &["dsn-failed", "dsn-several", "dsn-base64", "dsn-wrong-subtype", "arf-abuse", "jmrp", "qmail", "exim", "vacation"];

/// Generous for a slow machine and a build without optimisation; what is not linear takes minutes.
const LIMIT: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "measures")]
fn in_time(what: &str, bytes: &[u8]) -> carom::report::Recognised {
    let start = Instant::now();
    let r = recognise(bytes);
    let took = start.elapsed();
    assert!(took < LIMIT, "{what}: {took:?} for {} bytes", bytes.len());
    r
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = recognise(&bytes);
    }

    #[test]
    fn no_damage_to_a_report_makes_it_panic(
        which in 0..ALL.len(), at in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = mail(ALL[which]);
        let (a, b) = (at.index(bytes.len()), end.index(bytes.len()));
        bytes.splice(a.min(b)..a.max(b), with);
        let r = recognise(&bytes);
        prop_assert!(r.results.len() <= MAX_RESULTS);
    }

    #[test]
    fn no_order_of_a_reports_lines_makes_it_panic(which in 0..ALL.len(), order in prop::collection::vec(any::<prop::sample::Index>(), 0..80)) {
        let text = String::from_utf8(mail(ALL[which])).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let shuffled: String = order.iter().map(|i| *i.get(&lines)).collect();
        let _ = recognise(shuffled.as_bytes());
    }
}

#[test]
fn twenty_megabytes_of_header_lines_are_no_burden() {
    let line = "X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
    let r = in_time("header lines", line.repeat(20_000_000 / line.len()).as_bytes());
    assert_eq!(r.kind, ReportKind::None);
    in_time("one header line", format!("Subject: {}", "a".repeat(20_000_000)).as_bytes());
    in_time("continuations", format!("Subject: x\r\n{}", " y\r\n".repeat(5_000_000)).as_bytes());
}

#[test]
fn ten_thousand_nested_parts_are_no_burden() {
    let mut nested = String::from("From: MAILER-DAEMON@example.net\r\n");
    for i in 0..10_000 {
        nested.push_str(&format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n"));
    }
    in_time("nested multiparts", nested.as_bytes());
    in_time("nested mails", "Content-Type: message/rfc822\r\n\r\n".repeat(100_000).as_bytes());
    in_time(
        "flat parts",
        format!("Content-Type: multipart/report; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(200_000)).as_bytes(),
    );
    // Each multipart's boundary stands only at the very end.
    let ends: String = (0..10_000).map(|i| format!("--c{i}--\r\n")).collect();
    let opens: String =
        (0..10_000).map(|i| format!("--a\r\nContent-Type: multipart/mixed; boundary=c{i}\r\n\r\n")).collect();
    in_time("late boundaries", format!("Content-Type: multipart/mixed; boundary=a\r\n\r\n{opens}{ends}").as_bytes());
    let parameters = "; a*1=x".repeat(200_000);
    in_time("parameters", format!("Content-Type: multipart/report{parameters}\r\n\r\nx").as_bytes());
}

#[test]
fn texts_made_to_be_slow_are_no_burden() {
    let bounce = |body: &str| {
        format!("Return-Path: <>\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: failure notice\r\n\r\n{body}")
    };
    for (what, line) in [
        ("addresses", "<a@example.net>: 550 x\r\n"),
        ("headers that never become a mail", "From: x\r\nzz\r\n"),
        ("headers in blocks of their own", "From: x\r\n\r\n"),
        ("codes", "550 550 550 550 550 550 550 550\r\n"),
        ("at signs", "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"),
        ("marks", "--- original message ---\r\n"),
        ("labels", "Recipient: a@example.net\r\nReason: 550 no\r\n"),
        ("labels without an address", "Your message to x Your message to x\r\n"),
        ("answers of a transcript", "<<< 550 5.1.1 no\r\n"),
        ("headings", "--- Transcript of session follows ---\r\n"),
        (
            "mails of a mailbox",
            "\r\n\r\nFrom x\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: failure notice\r\n\r\n<a@example.net>: 550 x\r\n",
        ),
    ] {
        in_time(what, bounce(&line.repeat(3_000_000 / line.len())).as_bytes());
    }
    let different: String =
        (0..100_000).map(|i| format!("<a{i}@example.net>:\r\n550 no such user {i}\r\n\r\n")).collect();
    assert_eq!(in_time("a hundred thousand recipients", bounce(&different).as_bytes()).results.len(), MAX_RESULTS);
    in_time("a line of a megabyte", bounce(&format!("Recipient: {}", "x".repeat(1 << 20))).as_bytes());
    in_time("html", bounce(&format!("<html>{}", "<td>a@example.net</td>".repeat(100_000))).as_bytes());
    let sns = |json: &str| format!("From: no-reply@sns.amazonaws.com\r\nSubject: x\r\n\r\n{json}");
    in_time("json of a thousand levels", sns(&"{\"Message\":[".repeat(100_000)).as_bytes());
    in_time("one line of codes", bounce(&"550 ".repeat(500_000)).as_bytes());
    in_time("one line of addresses", bounce(&"a@b.c ".repeat(400_000)).as_bytes());
}

#[test]
fn a_report_on_a_million_recipients_gives_a_thousand_results() {
    let group =
        |n: usize| format!("Final-Recipient: rfc822; a{n}@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n");
    let text = |groups: String| {
        format!(
            "From: MAILER-DAEMON@example.net\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n{groups}"
        )
    };
    let r = in_time("recipients", text((0..1_000_000).map(group).collect()).as_bytes());
    assert!(r.results.len() == MAX_RESULTS && r.left_out > 1000, "{}", r.left_out);
    let r = in_time("one recipient a million times", text(group(1).repeat(1_000_000)).as_bytes());
    assert_eq!(r.results.len(), 1);
    let fields: String = (0..100_000).map(|n| format!("Original-Rcpt-To: a{n}@example.net\r\n")).collect();
    let complaint = format!(
        "From: fbl@example.net\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n{fields}"
    );
    let r = in_time("complainants", complaint.as_bytes());
    assert!(r.results.len() == MAX_RESULTS && r.left_out > 10_000, "{}", r.left_out);
}

#[test]
fn a_thousand_recipients_of_ten_lines_each_are_all_told() {
    let mut text = String::from(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: failure notice\r\n\r\n\
         Hi. This is the qmail-send program at mx.example.net.\r\n\
         I'm afraid I wasn't able to deliver your message to the following addresses.\r\n\r\n",
    );
    for i in 0..MAX_RESULTS {
        text.push_str(&format!(
            "<user{i}@example.net>:\r\n192.0.2.77 does not like recipient.\r\n\
             Remote host said: 550-5.1.1 The account user{i} that you tried to reach\r\n"
        ));
        text.push_str(&"550-5.1.1 does not exist, in one of the many lines of this system\r\n".repeat(6));
        text.push_str("550 5.1.1 goodbye\r\nGiving up on 192.0.2.77.\r\n\r\n");
    }
    let r = in_time("ten lines each", text.as_bytes());
    assert_eq!(r.results.len(), MAX_RESULTS);
    assert!(r.results.iter().all(|x| x.reply_code() == Some(550) && x.diag.ends_with("goodbye")));
    assert_eq!(r.results[MAX_RESULTS - 1].rcpt, format!("user{}@example.net", MAX_RESULTS - 1));
}
