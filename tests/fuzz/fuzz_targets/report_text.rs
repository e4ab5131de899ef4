//! Any text in the place where a mail system writes its reason: the header is a bounce's, so that the forms and the
//! general reading see every input. The first byte picks the header.
//!
//! Run like `report`, see there.
#![no_main]

use carom::report::kind::MAX_RESULTS;
use carom::report::{ReportKind, recognise_mail};

const HEADERS: &[&str] = &[
    "From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n\n",
    "From: postmaster@mx.example.net\nSubject: Undeliverable: May\nContent-Type: text/html\n\n",
    "From: MAILER-DAEMON@mx.example.net\nSubject: Returned mail\nContent-Type: multipart/report; boundary=b\n\n--b\n\
     Content-Type: message/delivery-status\n\n",
    "From: fbl@mx.example.net\nSubject: complaint\nContent-Type: multipart/report; boundary=b\n\n--b\n\
     Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n",
    "From: no-reply@sns.amazonaws.com\nSubject: AWS Notification Message\nx-amz-sns-message-id: 1\n\n",
    "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.net\nX-Failed-Recipients: ann@example.net\nSubject: Warning\n\n",
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((pick, text)) = data.split_first() else { return };
    let mut mail = HEADERS[usize::from(*pick) % HEADERS.len()].as_bytes().to_vec();
    mail.extend_from_slice(text);
    let read = recognise_mail(&mail, true);
    assert!(read.results.len() <= MAX_RESULTS);
    assert!(read.kind != ReportKind::None || read.results.is_empty(), "what is no report speaks of nobody");
});
