//! Which send is a report about, and what says so?
//!
//! Reports are unauthenticated mail that may name anyone, so a report counts against an address only when it proves
//! that it is about mail we sent to that address. The proofs, in the order in which they are looked for:
//!
//! 1. **return-path**: it came to a return path with a token that we signed, which names message and recipient. The
//!    token has no address in it; the send index has it. Without that row the report's own word is all there is for the
//!    address, and that is no proof (the mailbox may have been forwarded): the send is named, but nothing is proved.
//! 2. **header-token**: the returned header has a field with such a token. Only who got the mail knows it, and blotting
//!    out addresses leaves it alone.
//!
//!    **return-path** again: the content names such a return path, as Original-Mail-From of a complaint (RFC 5965, 3.2)
//!    or Return-Path of the returned header (RFC 5321, 4.4). It proves what arriving there proves, no more and no less,
//!    and so it has no name of its own: the token is known to those through whose hands the mail went and to nobody else,
//!    and each of them could as well have sent the report to that very address. Members of a mailing list don't see it, as
//!    the list's return path, but it is known to the relays, the recipient and whom he sends the whole header on to; all
//!    that they can say with it is that mail to this one recipient came back, or that he complained.
//! 3. **message-id**: the returned header has a Message-ID that the send index knows for the recipient that the report
//!    names.
//!
//! Where there is no proof, what follows says which send is probably meant. It is recorded, and it suppresses nobody:
//!
//! 4. **envelope-id**: the ENVID of the report is that of a send to the recipient that the report names, by its Original-
//!    or Final-Recipient. Senders choose ENVIDs, and many choose them so that they can be guessed. (It is asked for in
//!    front of the Message-ID, whose proof wins when both are there.)
//! 5. **message-id-alone**: the report names no recipient, and the send index knows only one for its Message-ID: who got
//!    the mail himself, by a list or by chance, can make such a complaint about another.
//! 6. **headers**: the Received field that we put into the message was returned, with our number of it.
//!
//! Everything else is recorded with an empty `attributed_by`.

use std::collections::HashMap;

use crate::event::unsubscribe_token::Unsubscription;
use crate::event::{AddressKey, MessageId, SendEntry, Time};

use super::kind::{Original, RcptResult, Recognised, ReportKind};
use super::values;

/// Tokens of one kind that are looked at in one report.
const MAX_TOKENS: usize = 8;

/// A send as the send index remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The message.
    pub message: MessageId,
    /// Which of its recipients.
    pub rcpt_index: u16,
    /// Envelope sender, before a signed return path replaced it.
    pub orig: String,
    /// Envelope recipient.
    pub rcpt: String,
    /// Job.
    pub job: String,
    /// VirtualMTA.
    pub vmta: String,
    /// Pool.
    pub pool: String,
    /// ENVID.
    pub env_id: String,
    /// Mailing list.
    pub list: String,
    /// `domain/vmta`; empty when it is not known any more.
    pub queue: String,
    /// When it was spooled.
    pub time_sent: Time,
}

impl From<SendEntry<'_>> for Sent {
    fn from(e: SendEntry<'_>) -> Sent {
        Sent {
            message: e.message,
            rcpt_index: e.rcpt_index,
            orig: e.orig.into(),
            rcpt: e.rcpt.into(),
            job: e.job.into(),
            vmta: e.vmta.into(),
            pool: e.pool.into(),
            env_id: e.env_id.into(),
            list: e.list.into(),
            queue: e.queue().into_owned(),
            time_sent: e.time_queued,
        }
    }
}

/// What can be looked up: implemented over the store's tables by [`super::evidence`], by a map in tests.
pub trait Evidence {
    /// The message and recipient that a signed return path names; `None` when the address has no token of ours.
    fn token(&self, address: &str) -> Option<(MessageId, u16)>;
    /// The message and recipient that a signed header field of the returned message names.
    fn header_token(&self, _original: &Original) -> Option<(MessageId, u16)> {
        None
    }
    /// What the token of an unsubscribe link says; `None` when it was not made by us.
    fn unsubscription(&self, _token: &str) -> Option<Unsubscription> {
        None
    }
    /// The send of this recipient of this message.
    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent>;
    /// The send with this Message-ID (without brackets) to this recipient; without a recipient, the only one it went to.
    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent>;
    /// The send with this ENVID to this recipient.
    fn send_by_env_id(&self, _env_id: &str, _rcpt: &AddressKey) -> Option<Sent> {
        None
    }
    /// The message whose Received field, as we wrote it, this is.
    fn received_by_us(&self, _received: &str) -> Option<MessageId> {
        None
    }
    /// The send of this message to this recipient; without a recipient, the only one it went to.
    fn send_to(&self, _message: MessageId, _rcpt: Option<&AddressKey>) -> Option<Sent> {
        None
    }
}

/// How a report was tied to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The signed token in the return path.
    ReturnPath,
    /// The signed token in a header field of the returned message.
    HeaderToken,
    /// A Message-ID that the send index knows for the recipient.
    MessageId,
    /// An ENVID that the send index knows for the recipient.
    EnvelopeId,
    /// A Message-ID that went to one recipient only, whom the report does not name.
    MessageIdAlone,
    /// Our own Received field.
    Headers,
}

impl Way {
    /// As `attributedBy` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Way::ReturnPath => "return-path",
            Way::HeaderToken => "header-token",
            Way::MessageId => "message-id",
            Way::EnvelopeId => "envelope-id",
            Way::MessageIdAlone => "message-id-alone",
            Way::Headers => "headers",
        }
    }

    /// Whether it proves that the report is about mail that we sent to that recipient.
    pub const fn proves(self) -> bool {
        matches!(self, Way::ReturnPath | Way::HeaderToken | Way::MessageId)
    }
}

/// The send one result is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// How it was found; `None` when it was not, or only by a token whose send is forgotten.
    pub way: Option<Way>,
    /// The message; zero when it is not known.
    pub message: MessageId,
    /// Which of its recipients.
    pub rcpt_index: u16,
    /// What the send index has of it.
    pub sent: Option<Sent>,
}

impl Attribution {
    /// Whether it is proved; else the result counts against nobody, even if the message is known.
    pub fn is_proved(&self) -> bool {
        self.way.is_some_and(Way::proves)
    }

    /// From the time the original was spooled to the report's arrival.
    pub fn latency(&self, arrived: Time) -> Option<std::time::Duration> {
        let sent = self.sent.as_ref()?.time_sent;
        sent.is_known().then(|| arrived.since(sent))
    }

    fn found(way: Way, sent: Sent) -> Attribution {
        Attribution { way: Some(way), message: sent.message, rcpt_index: sent.rcpt_index, sent: Some(sent) }
    }
}

/// One attribution for each result of the report; `report_rcpts` are the addresses that the report was sent to. Looks up
/// at most a handful of rows for each result, of which a report has at most [`super::kind::MAX_RESULTS`].
pub fn attribute(report: &Recognised, report_rcpts: &[&str], evidence: &dyn Evidence) -> Vec<Attribution> {
    let tokens = tokens(report, report_rcpts, evidence);
    let ours = received_by_us(report, evidence);
    // A token names one recipient. Of a report on several, only what speaks of that one is about it, and the others ask
    // for evidence of their own; of a report on one, that one is the token's, whatever address it was forwarded to.
    let alone = report.results.len() == 1;
    let known = tokens.iter().find(|t| t.sent.is_some()).filter(|_| alone);
    let forgotten = tokens.first().filter(|_| alone);
    let by_key: HashMap<AddressKey, &Attribution> =
        tokens.iter().rev().filter_map(|t| Some((AddressKey::of(&t.sent.as_ref()?.rcpt), t))).collect();
    let attribute_one = |result: &RcptResult| {
        let named = addresses_of(result).find_map(|a| by_key.get(&AddressKey::of(&a)).copied());
        if let Some(found) = named.or(known) {
            return found.clone();
        }
        let found = without_token(report, result, ours, evidence);
        match forgotten {
            // It names a message of ours, which is more than a hint does.
            Some(token) if !found.is_proved() => Attribution { way: None, ..token.clone() },
            _ => found,
        }
    };
    report.results.iter().map(attribute_one).collect()
}

/// What the tokens of a report name, in the order in which they are believed: where it came to, the header field of the
/// returned message, the return path as the report's content gives it. Each with the send, where it is still known.
fn tokens(report: &Recognised, report_rcpts: &[&str], evidence: &dyn Evidence) -> Vec<Attribution> {
    let in_path = report_rcpts.iter().filter_map(|address| evidence.token(address)).map(|t| (Way::ReturnPath, t));
    let in_header = evidence.header_token(&report.original).map(|t| (Way::HeaderToken, t));
    let mail_from = report.complaint.iter().map(|c| c.mail_from.as_str());
    let returned = report.original.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("return-path"));
    let quoted = mail_from.chain(returned.map(|(_, value)| values::mailbox(value)).take(MAX_TOKENS));
    let quoted = quoted.filter_map(|address| evidence.token(address)).map(|t| (Way::ReturnPath, t));
    let mut found: Vec<Attribution> = Vec::new();
    for (way, (message, rcpt_index)) in in_path.take(MAX_TOKENS).chain(in_header).chain(quoted) {
        if !found.iter().any(|t| (t.message, t.rcpt_index) == (message, rcpt_index)) {
            let sent = evidence.send_of(message, rcpt_index);
            found.push(Attribution { way: Some(way), message, rcpt_index, sent });
        }
    }
    found
}

fn without_token(
    report: &Recognised,
    result: &RcptResult,
    ours: Option<MessageId>,
    evidence: &dyn Evidence,
) -> Attribution {
    let id = report.original.message_id.as_str();
    let keys: Vec<AddressKey> = addresses_of(result).filter(|a| !a.is_empty()).map(|a| AddressKey::of(&a)).collect();
    let by_message_id = || keys.iter().find_map(|key| evidence.send_by_message_id(id, Some(key)));
    if let Some(sent) = Some(()).filter(|()| !id.is_empty()).and_then(|()| by_message_id()) {
        return Attribution::found(Way::MessageId, sent);
    }
    if !report.env_id.is_empty()
        && let Some(sent) = keys.iter().find_map(|key| evidence.send_by_env_id(&report.env_id, key))
    {
        return Attribution::found(Way::EnvelopeId, sent);
    }
    // Providers redact the complainant, or put a code in his place.
    let alone = report.kind == ReportKind::Feedback && report.results.len() == 1 && !id.is_empty();
    if let Some(sent) = Some(()).filter(|()| alone).and_then(|()| evidence.send_by_message_id(id, None)) {
        return Attribution::found(Way::MessageIdAlone, sent);
    }
    let Some(message) = ours else { return Attribution::default() };
    let named = keys.iter().find_map(|key| evidence.send_to(message, Some(key)));
    let sent = named
        .or_else(|| Some(()).filter(|()| report.results.len() == 1).and_then(|()| evidence.send_to(message, None)));
    sent.map_or_else(Attribution::default, |sent| Attribution::found(Way::Headers, sent))
}

/// The message that we took in and whose Received field came back; the oldest is at the bottom.
fn received_by_us(report: &Recognised, evidence: &dyn Evidence) -> Option<MessageId> {
    let fields = report.original.headers.iter().rev();
    fields.filter(|(name, _)| name.eq_ignore_ascii_case("received")).find_map(|(_, v)| evidence.received_by_us(v))
}

/// The addresses a result gives for its recipient: the original one first.
fn addresses_of(result: &RcptResult) -> impl Iterator<Item = String> {
    [values::recipient(&result.orcpt), result.rcpt.clone()].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message (id 7) to ann and bob, whose Message-ID is `m@example.com`.
    struct Index {
        rows: bool,
    }

    fn sent(rcpt_index: u16, rcpt: &str) -> Sent {
        Sent {
            message: MessageId(7),
            rcpt_index,
            orig: "news@example.com".into(),
            rcpt: rcpt.into(),
            job: "job7".into(),
            vmta: "v1".into(),
            pool: String::new(),
            env_id: String::new(),
            list: String::new(),
            queue: String::new(),
            time_sent: Time::from_secs(1),
        }
    }

    impl Evidence for Index {
        fn token(&self, address: &str) -> Option<(MessageId, u16)> {
            let n = address.strip_prefix("token")?.strip_suffix("@bounce.example.com")?;
            Some((MessageId(7), n.parse().ok()?))
        }
        fn header_token(&self, original: &Original) -> Option<(MessageId, u16)> {
            self.token(&format!("{}@bounce.example.com", original.header("x-token")?))
        }
        fn send_by_env_id(&self, env_id: &str, rcpt: &AddressKey) -> Option<Sent> {
            (env_id == "spring-7" && rcpt.as_str() == "ann@example.net").then(|| sent(0, "ann@example.net"))
        }
        fn received_by_us(&self, received: &str) -> Option<MessageId> {
            received.strip_prefix("by us id ")?.parse().ok().map(MessageId)
        }
        fn send_to(&self, message: MessageId, rcpt: Option<&AddressKey>) -> Option<Sent> {
            (message.0 == 7 && rcpt.is_some_and(|k| k.as_str() == "ann@example.net"))
                .then(|| sent(0, "ann@example.net"))
        }
        fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent> {
            (self.rows && message.0 == 7)
                .then(|| sent(rcpt_index, if rcpt_index == 0 { "ann@example.net" } else { "bob@example.net" }))
        }
        fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent> {
            match (message_id, rcpt.map(AddressKey::as_str)) {
                ("m@example.com", Some("ann@example.net")) => Some(sent(0, "ann@example.net")),
                ("m@example.com", Some("bob@example.net")) => Some(sent(1, "bob@example.net")),
                ("one@example.com", None) => Some(sent(0, "ann@example.net")),
                _ => None,
            }
        }
    }

    fn report(kind: ReportKind, message_id: &str, rcpts: &[&str]) -> Recognised {
        let mut r = Recognised { kind, ..Recognised::default() };
        r.original.message_id = message_id.into();
        r.results = rcpts.iter().map(|a| RcptResult { rcpt: (*a).into(), ..RcptResult::default() }).collect();
        r
    }

    fn one(report: &Recognised, to: &str, rows: bool) -> Attribution {
        attribute(report, &[to], &Index { rows }).remove(0)
    }

    #[test]
    fn a_signed_return_path_names_the_recipient_whatever_address_the_report_gives() {
        let r = report(ReportKind::Bounce, "", &["forwarded-to@example.org"]);
        let a = one(&r, "token1@bounce.example.com", true);
        assert_eq!((a.way, a.sent.unwrap().rcpt.as_str()), (Some(Way::ReturnPath), "bob@example.net"));
    }

    #[test]
    fn a_token_whose_send_is_forgotten_names_the_message_but_proves_no_address() {
        let r = report(ReportKind::Bounce, "", &["victim@example.org"]);
        let a = one(&r, "token1@bounce.example.com", false);
        assert_eq!((a.way, a.message, a.rcpt_index, a.sent), (None, MessageId(7), 1, None));
    }

    #[test]
    fn a_token_proves_nothing_about_other_recipients_of_the_report() {
        let r = report(ReportKind::Bounce, "", &["victim@example.org", "ANN@example.net"]);
        let all = attribute(&r, &["token0@bounce.example.com"], &Index { rows: true });
        assert_eq!([all[0].way, all[1].way], [None, Some(Way::ReturnPath)]);
        assert_eq!(all[0], Attribution::default(), "and names no send of theirs");
    }

    #[test]
    fn each_recipient_of_a_report_asks_for_evidence_of_its_own() {
        let r = report(ReportKind::Bounce, "m@example.com", &["ann@example.net", "BOB@example.net", "eve@example.org"]);
        let all = attribute(&r, &["token1@bounce.example.com"], &Index { rows: true });
        let of = |a: &Attribution| (a.way, a.rcpt_index, a.sent.as_ref().map(|s| s.rcpt.clone()));
        assert_eq!(of(&all[0]), (Some(Way::MessageId), 0, Some("ann@example.net".into())));
        assert_eq!(of(&all[1]), (Some(Way::ReturnPath), 1, Some("bob@example.net".into())));
        assert_eq!(of(&all[2]), (None, 0, None));
        // A report that came to the return paths of two of them.
        let r = report(ReportKind::Bounce, "", &["bob@example.net", "ann@example.net"]);
        let to = ["token0@bounce.example.com", "token1@bounce.example.com"];
        let all = attribute(&r, &to, &Index { rows: true });
        assert_eq!([of(&all[0]).1, of(&all[1]).1], [1, 0]);
        assert!(all.iter().all(|a| a.way == Some(Way::ReturnPath)));
    }

    #[test]
    fn a_return_path_of_ours_in_the_content_proves_what_arriving_there_would() {
        let mut r = report(ReportKind::Feedback, "", &[""]);
        r.complaint =
            Some(crate::report::Complaint { mail_from: "token1@bounce.example.com".into(), ..Default::default() });
        let found = one(&r, "fbl@example.com", true);
        assert_eq!((found.way, found.sent.map(|s| s.rcpt)), (Some(Way::ReturnPath), Some("bob@example.net".into())));
        assert!(!one(&r, "fbl@example.com", false).is_proved(), "the send is forgotten");
        r.complaint =
            Some(crate::report::Complaint { mail_from: "token1@elsewhere.example".into(), ..Default::default() });
        assert_eq!(one(&r, "fbl@example.com", true), Attribution::default());

        let mut r = report(ReportKind::Bounce, "", &["ann@example.net", "victim@example.org"]);
        r.original.headers.push(("Return-Path".into(), "<token0@bounce.example.com>".into()));
        let all = attribute(&r, &["bounce@example.com"], &Index { rows: true });
        assert_eq!([all[0].way, all[1].way], [Some(Way::ReturnPath), None]);
    }

    #[test]
    fn a_message_id_proves_only_the_recipients_it_was_sent_to() {
        let known = report(ReportKind::Bounce, "m@example.com", &["Bob@Example.net"]);
        assert_eq!(one(&known, "bounce@example.com", true).way, Some(Way::MessageId));
        let stranger = report(ReportKind::Bounce, "m@example.com", &["victim@example.org"]);
        assert_eq!(one(&stranger, "bounce@example.com", true), Attribution::default());
    }

    #[test]
    fn the_original_recipient_is_asked_for_when_the_final_one_is_unknown() {
        let mut r = report(ReportKind::Bounce, "m@example.com", &["ann@forwarded.example.org"]);
        r.results[0].orcpt = "rfc822;ann@example.net".into();
        assert_eq!(one(&r, "bounce@example.com", true).rcpt_index, 0);
    }

    #[test]
    fn a_redacted_complaint_is_tied_by_a_message_id_that_went_to_one_recipient_which_proves_nothing() {
        let to_one = |kind| one(&report(kind, "one@example.com", &[""]), "fbl@example.com", true);
        let found = to_one(ReportKind::Feedback);
        assert_eq!((found.way, found.is_proved()), (Some(Way::MessageIdAlone), false));
        assert_eq!(one(&report(ReportKind::Feedback, "m@example.com", &[""]), "fbl@example.com", true).way, None);
        assert_eq!(to_one(ReportKind::Bounce).way, None);
    }

    #[test]
    fn a_signed_header_field_names_whom_a_redacted_complaint_hides() {
        let mut r = report(ReportKind::Feedback, "one@example.com", &[""]);
        r.original.headers.push(("X-Token".into(), "token1".into()));
        let found = one(&r, "fbl@example.com", true);
        assert_eq!((found.way, found.sent.map(|s| s.rcpt)), (Some(Way::HeaderToken), Some("bob@example.net".into())));
        // The return path is asked first.
        assert_eq!(one(&r, "token0@bounce.example.com", true).way, Some(Way::ReturnPath));
        assert_eq!(one(&r, "fbl@example.com", false).way, None, "the send is forgotten: nobody knows who it was");
    }

    #[test]
    fn an_envelope_id_and_our_own_received_field_lead_to_the_send_and_prove_nothing() {
        let mut r = report(ReportKind::Bounce, "unknown@example.com", &["ann@example.net"]);
        r.original.headers.push(("Received".into(), "by us id 7".into()));
        let found = one(&r, "bounce@example.com", true);
        assert_eq!((found.way, found.message, found.is_proved()), (Some(Way::Headers), MessageId(7), false));
        assert_eq!(found.latency(Time::from_secs(61)), Some(std::time::Duration::from_secs(60)));
        r.env_id = "spring-7".into();
        assert_eq!(one(&r, "bounce@example.com", true).way, Some(Way::EnvelopeId));
        r.original.message_id = "m@example.com".into();
        assert_eq!(one(&r, "bounce@example.com", true).way, Some(Way::MessageId), "a proof wins over a hint");
        r.results[0].rcpt = "victim@example.org".into();
        r.original.headers.clear();
        assert_eq!(one(&r, "bounce@example.com", true), Attribution::default());
    }

    #[test]
    fn a_report_without_proof_is_tied_to_nothing() {
        assert_eq!(
            one(&report(ReportKind::Feedback, "", &["victim@example.org"]), "x@example.com", true),
            Attribution::default()
        );
    }
}
