//! Which send is a report about, and what proves it?
//!
//! Reports are unauthenticated mail that may name anyone, so a report counts against an address only when it proves
//! that it is about mail we sent to that address:
//!
//! 1. **return-path**: it came to a return path with a token that we signed, which names message and recipient. The
//!    token has no address in it; the send index has it. Without that row the report's own word is all there is for the
//!    address, and that is no proof (the mailbox may have been forwarded): the send is named, but nothing is proved.
//! 2. **message-id**: the returned header has a Message-ID that the send index knows for the recipient that the report
//!    names. A complaint whose recipient was redacted may instead be found by Message-ID alone, where the index has
//!    exactly one recipient for it.
//!
//! Everything else is recorded with an empty `attributed_by` and suppresses nobody.

use crate::event::{AddressKey, MessageId, SendEntry, Time};

use super::kind::{RcptResult, Recognised, ReportKind};
use super::values;

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
            time_sent: e.time_queued,
        }
    }
}

/// What can be looked up: implemented over the store's tables by [`super::processor`], by a map in tests.
pub trait Evidence {
    /// The message and recipient that a signed return path names; `None` when the address has no token of ours.
    fn token(&self, address: &str) -> Option<(MessageId, u16)>;
    /// The send of this recipient of this message.
    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent>;
    /// The send with this Message-ID (without brackets) to this recipient; without a recipient, the only one it went to.
    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent>;
}

/// What proves that a report is about a send of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The signed token in the return path.
    ReturnPath,
    /// A Message-ID that the send index knows for the recipient.
    MessageId,
}

impl Proof {
    /// As `attributedBy` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Proof::ReturnPath => "return-path",
            Proof::MessageId => "message-id",
        }
    }
}

/// The send one result is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// What proves it; `None` when nothing does: then the result counts against nobody, even if `message` is known.
    pub proof: Option<Proof>,
    /// The message; zero when it is not known.
    pub message: MessageId,
    /// Which of its recipients.
    pub rcpt_index: u16,
    /// What the send index has of it.
    pub sent: Option<Sent>,
}

/// One attribution for each result of the report; `report_rcpts` are the addresses that the report was sent to.
pub fn attribute(report: &Recognised, report_rcpts: &[&str], evidence: &dyn Evidence) -> Vec<Attribution> {
    let token = report_rcpts.iter().find_map(|address| evidence.token(address));
    let by_token = token.map(|(message, rcpt_index)| (message, rcpt_index, evidence.send_of(message, rcpt_index)));
    report
        .results
        .iter()
        .map(|result| match &by_token {
            Some((message, rcpt_index, sent)) => {
                // A token names one recipient. Of a report on several, only what speaks of that one is about it; of a
                // report on one, that one is the token's, whatever address it was forwarded to.
                let about_it = sent.as_ref().is_some_and(|s| report.results.len() == 1 || names(result, &s.rcpt));
                Attribution {
                    proof: about_it.then_some(Proof::ReturnPath),
                    message: *message,
                    rcpt_index: *rcpt_index,
                    sent: sent.clone(),
                }
            }
            None => by_message_id(report, result, evidence),
        })
        .collect()
}

fn by_message_id(report: &Recognised, result: &RcptResult, evidence: &dyn Evidence) -> Attribution {
    let id = report.original.message_id.as_str();
    if id.is_empty() {
        return Attribution::default();
    }
    let named = addresses_of(result)
        .filter(|a| !a.is_empty())
        .find_map(|a| evidence.send_by_message_id(id, Some(&AddressKey::of(&a))));
    // Providers redact the complainant, or put a code in his place.
    let alone = report.kind == ReportKind::Feedback && report.results.len() == 1;
    let sent = named.or_else(|| alone.then(|| evidence.send_by_message_id(id, None)).flatten());
    sent.map_or_else(Attribution::default, |sent| Attribution {
        proof: Some(Proof::MessageId),
        message: sent.message,
        rcpt_index: sent.rcpt_index,
        sent: Some(sent),
    })
}

/// The addresses a result gives for its recipient: the original one first.
fn addresses_of(result: &RcptResult) -> impl Iterator<Item = String> {
    [values::recipient(&result.orcpt), result.rcpt.clone()].into_iter()
}

fn names(result: &RcptResult, rcpt: &str) -> bool {
    let key = AddressKey::of(rcpt);
    addresses_of(result).any(|a| AddressKey::of(&a) == key)
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
            time_sent: Time::from_secs(1),
        }
    }

    impl Evidence for Index {
        fn token(&self, address: &str) -> Option<(MessageId, u16)> {
            let n = address.strip_prefix("token")?.strip_suffix("@bounce.example.com")?;
            Some((MessageId(7), n.parse().ok()?))
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
        assert_eq!((a.proof, a.sent.unwrap().rcpt.as_str()), (Some(Proof::ReturnPath), "bob@example.net"));
    }

    #[test]
    fn a_token_whose_send_is_forgotten_names_the_message_but_proves_no_address() {
        let r = report(ReportKind::Bounce, "", &["victim@example.org"]);
        let a = one(&r, "token1@bounce.example.com", false);
        assert_eq!((a.proof, a.message, a.rcpt_index, a.sent), (None, MessageId(7), 1, None));
    }

    #[test]
    fn a_token_proves_nothing_about_other_recipients_of_the_report() {
        let r = report(ReportKind::Bounce, "", &["victim@example.org", "ANN@example.net"]);
        let all = attribute(&r, &["token0@bounce.example.com"], &Index { rows: true });
        assert_eq!([all[0].proof, all[1].proof], [None, Some(Proof::ReturnPath)]);
    }

    #[test]
    fn a_message_id_proves_only_the_recipients_it_was_sent_to() {
        let known = report(ReportKind::Bounce, "m@example.com", &["Bob@Example.net"]);
        assert_eq!(one(&known, "bounce@example.com", true).proof, Some(Proof::MessageId));
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
    fn a_redacted_complaint_is_tied_by_a_message_id_that_went_to_one_recipient() {
        assert_eq!(
            one(&report(ReportKind::Feedback, "one@example.com", &[""]), "fbl@example.com", true).proof,
            Some(Proof::MessageId)
        );
        assert_eq!(one(&report(ReportKind::Feedback, "m@example.com", &[""]), "fbl@example.com", true).proof, None);
        assert_eq!(one(&report(ReportKind::Bounce, "one@example.com", &[""]), "fbl@example.com", true).proof, None);
    }

    #[test]
    fn a_report_without_proof_is_tied_to_nothing() {
        assert_eq!(
            one(&report(ReportKind::Feedback, "", &["victim@example.org"]), "x@example.com", true),
            Attribution::default()
        );
    }
}
