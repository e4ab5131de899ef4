//! What strangers may mail to our report addresses, and whom it takes off the list: nobody but the one whose mail it
//! proves to be about.

use std::sync::LazyLock;

use carom::classify::RuleSet;
use carom::event::header_token;
use carom::event::return_path::{TokenKeys, mint, verify};
use carom::event::{AddressKey, MessageId, SourceType, StoreId, Time, TokenKey};
use carom::report::attribute::attribute;
use carom::report::to_event::{Arrival, emit};
use carom::report::{Evidence, Original, Sent, recognise};
use carom::suppress::rules::decide;

use super::events::sent;

/// Compiled once: it takes seconds without optimisation.
static RULES: LazyLock<RuleSet> = LazyLock::new(RuleSet::builtin);

const OURS: StoreId = StoreId(77);

fn keys() -> Vec<TokenKey> {
    vec![TokenKey { id: "k1".into(), secret: b"0123456789abcdef0123456789abcdef".to_vec(), until: None }]
}

fn token_of(store: StoreId, message: u64, rcpt: u16) -> String {
    mint(TokenKeys { domain: "bounce.example.com", keys: &keys(), now: Time(1) }, store, MessageId(message), rcpt)
        .unwrap()
}

/// Message 5 went to ann (recipient 0) and bob (1), each under a Message-ID of its own; message 6 to 0 only, without
/// a row in the send index.
struct Index;

impl Evidence for Index {
    fn token(&self, address: &str) -> Option<(MessageId, u16)> {
        verify(TokenKeys { domain: "bounce.example.com", keys: &keys(), now: Time(1) }, OURS, address)
    }
    fn header_token(&self, original: &Original) -> Option<(MessageId, u16)> {
        header_token::verify(&keys(), Time(1), OURS, original.header("x-ref")?)
    }
    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent> {
        match (message.0, rcpt_index) {
            (5, 0) => Some(sent("ann@example.net")),
            (5, 1) => Some(sent("bob@example.net")),
            _ => None,
        }
    }
    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent> {
        let known = [("m-ann@example.com", "ann@example.net"), ("m-bob@example.com", "bob@example.net")];
        let row = known.iter().find(|(id, r)| *id == message_id && rcpt.is_none_or(|k| *k == AddressKey::of(r)));
        row.map(|(_, rcpt)| sent(rcpt))
    }
}

/// (recipient, what proves it, whether it is suppressed) for each event of a mail that came to `to`.
fn outcome(mail: &str, to: &str) -> Vec<(String, String, bool)> {
    let report = recognise(mail.replace('\n', "\r\n").as_bytes());
    let attributions = attribute(&report, &[to], &Index);
    let arrival = Arrival {
        to,
        src_type: SourceType::Smtp,
        src_mta: "evil.example",
        src_ip: None,
        rcv_ip: None,
        pattern: None,
        originator: "",
    };
    let mut all = Vec::new();
    emit(&report, &attributions, &arrival, &[], Time::from_secs(9), &mut |event| {
        let verdict = RULES.classify(event);
        let hard = verdict.kind() == carom::classify::FailureKind::Hard;
        all.push((
            event.rcpt.to_owned(),
            event.attributed_by.to_owned(),
            decide(event, verdict.category, hard).is_some(),
        ));
    });
    all
}

fn event(rcpt: &str, by: &str, suppressed: bool) -> (String, String, bool) {
    (rcpt.into(), by.into(), suppressed)
}

/// An RFC 3464 report with these (recipient, action, status, diagnostic).
fn dsn(message_id: &str, rcpts: &[(&str, &str, &str, &str)]) -> String {
    let groups: String = rcpts
        .iter()
        .map(|(rcpt, action, status, diag)| {
            format!(
                "Final-Recipient: rfc822; {rcpt}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {diag}\n\n"
            )
        })
        .collect();
    format!(
        "From: MAILER-DAEMON@evil.example\nSubject: Undelivered Mail\nContent-Type: multipart/report; \
         report-type=delivery-status; boundary=b\n\n--b\nContent-Type: text/plain\n\nSorry.\n--b\nContent-Type: \
         message/delivery-status\n\nReporting-MTA: dns; evil.example\n\n{groups}--b\nContent-Type: \
         text/rfc822-headers\n\nMessage-ID: <{message_id}>\nFrom: news@example.com\nSubject: x\n\n--b--\n"
    )
}

/// An RFC 5965 report.
fn arf(kind: &str, message_id: &str, rcpt: &str) -> String {
    let rcpt = if rcpt.is_empty() { String::new() } else { format!("Original-Rcpt-To: <{rcpt}>\n") };
    format!(
        "From: fbl@evil.example\nSubject: x\nContent-Type: multipart/report; report-type=feedback-report; \
         boundary=b\n\n--b\nContent-Type: text/plain\n\nComplaint.\n--b\nContent-Type: \
         message/feedback-report\n\nFeedback-Type: {kind}\nUser-Agent: x/1\nVersion: 1\n{rcpt}\n--b\nContent-Type: \
         text/rfc822-headers\n\nMessage-ID: <{message_id}>\nFrom: news@example.com\nSubject: x\n\n--b--\n"
    )
}

const GONE: &str = "550 5.1.1 no such user";
const PLAIN: &str = "bounces@bounce.example.com";

#[test]
fn a_bounce_counts_against_the_one_whose_token_or_message_id_it_has() {
    let ann = [("ann@example.net", "failed", "5.1.1", GONE)];
    let by_token = dsn("unknown@evil.example", &ann);
    assert_eq!(outcome(&by_token, &token_of(OURS, 5, 0)), [event("ann@example.net", "return-path", true)]);
    assert_eq!(outcome(&dsn("m-ann@example.com", &ann), PLAIN), [event("ann@example.net", "message-id", true)]);
}

#[test]
fn a_forged_bounce_is_recorded_and_suppresses_nobody() {
    let victim = [("ann@example.net", "failed", "5.1.1", GONE)];
    let forged = dsn("made-up@example.com", &victim);
    let nothing = [event("ann@example.net", "", false)];
    assert_eq!(outcome(&forged, PLAIN), nothing);
    assert_eq!(outcome(&forged, &token_of(StoreId(78), 5, 0)), nothing, "a token of another store");
    let mut broken = token_of(OURS, 5, 0);
    broken.replace_range(10..11, if broken.as_bytes()[10] == b'a' { "b" } else { "a" });
    assert_eq!(outcome(&forged, &broken), nothing, "a token somebody changed");
    assert_eq!(outcome(&forged, &token_of(OURS, 5, 0).replace("bounce.", "other.")), nothing, "at another domain");
    assert_eq!(outcome(&forged, &token_of(OURS, 6, 0)), nothing, "a token whose send is not known any more");
    // Who knows the Message-ID of his own mail can't use it against others.
    assert_eq!(outcome(&dsn("m-bob@example.com", &victim), PLAIN), nothing);
}

#[test]
fn a_token_used_again_for_somebody_else_counts_against_its_owner_alone() {
    let other = dsn("m-bob@example.com", &[("bob@example.net", "failed", "5.1.1", GONE)]);
    assert_eq!(outcome(&other, &token_of(OURS, 5, 0)), [event("ann@example.net", "return-path", true)]);
    let gone = ("failed", "5.1.1", GONE);
    let several = ["cy@example.org", "bob@example.net", "ann@example.net"].map(|r| (r, gone.0, gone.1, gone.2));
    assert_eq!(
        outcome(&dsn("m-bob@example.com", &several), &token_of(OURS, 5, 0)),
        [
            event("cy@example.org", "", false),
            event("bob@example.net", "message-id", true),
            event("ann@example.net", "return-path", true)
        ],
        "bob's mail was returned: that proves him, wherever the report came to, and nobody else"
    );
    assert_eq!(
        outcome(&dsn("made-up@example.com", &several), &token_of(OURS, 5, 0))[..2],
        [event("cy@example.org", "", false), event("bob@example.net", "", false)]
    );
    assert_eq!(
        outcome(&dsn("m-bob@example.com", &several), PLAIN),
        [
            event("cy@example.org", "", false),
            event("bob@example.net", "message-id", true),
            event("ann@example.net", "", false)
        ]
    );
}

#[test]
fn what_is_not_permanent_suppresses_nobody_though_it_is_proved() {
    let cases = [
        ("delayed", "4.2.2", "452 4.2.2 mailbox full"),
        ("delayed", "4.4.1", "550 5.1.1 no such user"),
        ("delayed", "5.1.1", "550 5.1.1 no such user"),
        ("failed", "4.1.1", "450 4.1.1 user unknown"),
        ("failed", "4.4.7", "550 5.1.1 no such user"),
        ("failed", "5.4.7", "450 4.1.1 user unknown"),
        ("delivered", "2.0.0", "250 ok"),
        ("relayed", "5.1.1", "550 5.1.1 no such user"),
        ("failed", "5.7.1", "554 5.7.1 your message looks like spam"),
    ];
    for (action, status, diag) in cases {
        let mail = dsn("m-ann@example.com", &[("ann@example.net", action, status, diag)]);
        for (to, by) in [(token_of(OURS, 5, 0), "return-path"), (PLAIN.to_owned(), "message-id")] {
            assert_eq!(outcome(&mail, &to), [event("ann@example.net", by, false)], "{action} {status} {diag}");
        }
    }
}

#[test]
fn a_complaint_needs_proof_and_only_abuse_counts() {
    let known = [event("ann@example.net", "message-id", true)];
    assert_eq!(outcome(&arf("abuse", "m-ann@example.com", "ann@example.net"), PLAIN), known);
    assert_eq!(
        outcome(&arf("abuse", "m-ann@example.com", ""), PLAIN),
        [event("ann@example.net", "message-id-alone", false)],
        "who complains is hidden: whoever got the mail may have written it"
    );
    let token = header_token::mint(&keys(), Time(1), true, OURS, (MessageId(5), 0)).unwrap();
    let marked =
        arf("abuse", "made-up@example.com", "").replace("Subject: x\n\n--b--", &format!("X-Ref: {token}\n\n--b--"));
    assert_eq!(
        outcome(&marked, PLAIN),
        [event("ann@example.net", "header-token", true)],
        "the token in the header says who it is"
    );
    let forged =
        marked.replace(&token, &header_token::mint(&keys(), Time(1), true, StoreId(78), (MessageId(5), 0)).unwrap());
    assert_eq!(outcome(&forged, PLAIN), [event("", "", false)]);
    assert_eq!(
        outcome(&arf("abuse", "made-up@example.com", "ann@example.net"), PLAIN),
        [event("ann@example.net", "", false)]
    );
    assert_eq!(outcome(&arf("abuse", "made-up@example.com", ""), PLAIN), [event("", "", false)]);
    for kind in ["not-spam", "auth-failure", "other", ""] {
        let mail = arf(kind, "m-ann@example.com", "ann@example.net");
        assert!(outcome(&mail, &token_of(OURS, 5, 0)).iter().all(|(_, _, suppressed)| !suppressed), "{kind}");
    }
}

#[test]
fn automatic_replies_to_a_signed_return_path_suppress_nobody() {
    let texts = [
        "I have left; this mailbox is no longer in use.",
        "550 5.1.1 <ann@example.net>: user unknown",
        "The user ann@example.net does not exist any more, your message could not be delivered.",
    ];
    for subject in ["Out of office", "Automatic reply: your warning", "Re: Delivery Status", "Auto: not yet back"] {
        for text in texts {
            for extra in ["Auto-Submitted: auto-replied", "Precedence: auto_reply", "X-Autoreply: yes"] {
                let mail =
                    format!("From: Ann <ann@example.net>\nReturn-Path: <>\nSubject: {subject}\n{extra}\n\n{text}\n");
                assert_eq!(outcome(&mail, &token_of(OURS, 5, 0)), [], "{subject:?} {text:?} {extra:?}");
            }
        }
    }
}

#[test]
fn a_bounce_that_somebody_passes_on_to_us_is_not_about_our_mail() {
    let inner = dsn("m-bob@example.com", &[("bob@example.net", "failed", "5.1.1", GONE)]);
    let passed_on = format!(
        "From: Cy <cy@example.org>\nSubject: Fwd: Undelivered Mail\nContent-Type: multipart/mixed; \
         boundary=o\n\n--o\nContent-Type: text/plain\n\nWhat is this?\n--o\nContent-Type: message/rfc822\n\n{inner}\n--o--\n"
    );
    assert_eq!(outcome(&passed_on, PLAIN), []);
}
