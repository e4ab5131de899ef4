//! A mail to a report address as intake hands it on.

use carom::event::record::PairsBuf;
use carom::event::{MessageId, SourceType, Time};
use carom::store::{Envelope, Message, Recipient, Route};

/// `body` that came to `to` some time ago; from the null sender when its header says so.
pub fn incoming(id: MessageId, to: &str, body: Vec<u8>) -> Message {
    let null_sender = body.starts_with(b"Return-Path: <>");
    Message {
        envelope: Envelope {
            id,
            time_queued: Time::from_secs(2),
            orig: if null_sender { "" } else { "someone@example.net" }.into(),
            env_id: "".into(),
            job: "".into(),
            vmta: "{default}".into(),
            pool: "".into(),
            src_type: SourceType::Smtp,
            src_mta: "mx.example.net".into(),
            src_ip: Some("192.0.2.8".parse().unwrap()),
            rcv_ip: Some("192.0.2.1".parse().unwrap()),
            user: "".into(),
            eight_bit: false,
            body_len: body.len() as u32,
            message_id_header: "".into(),
            headers: PairsBuf::default(),
            route: if to.starts_with("fbl") { Route::Feedback } else { Route::Bounce },
            terms: Default::default(),
            no_dsn: false,
            return_full: false,
            ret_given: false,
            rcpts: vec![Recipient { address: to.into(), orcpt: "".into(), notify: 0 }],
        },
        body: body.into(),
    }
}
