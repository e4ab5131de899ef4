//! A mail to a report address as intake hands it on.

use carom::event::{MessageId, Time};
use carom::store::{Envelope, Message, Route};

use crate::mail::handed_in;

/// `body` that came to `to` some time ago; from the null sender when its header says so.
pub fn incoming(id: MessageId, to: &str, body: Vec<u8>) -> Message {
    let orig = if body.starts_with(b"Return-Path: <>") { "" } else { "someone@example.net" };
    let mail = handed_in(id, Time::from_secs(2), orig, [to], body);
    let envelope = Envelope {
        src_mta: "mx.example.net".into(),
        src_ip: Some("192.0.2.8".parse().unwrap()),
        rcv_ip: Some("192.0.2.1".parse().unwrap()),
        route: if to.starts_with("fbl") { Route::Feedback } else { Route::Bounce },
        ..mail.envelope
    };
    Message { envelope, ..mail }
}
