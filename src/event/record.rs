//! One accounting record, as producers fill it and consumers read it.
//!
//! An event borrows: from the message it is about when it is made, from the ledger's bytes when it is read. Making or
//! reading one costs no allocation. Empty text, `None` and zero stand for "not known". Which fields a record type
//! carries follows reference/accounting.md, 3.2; [`super::fields`] has their names in files.

use std::net::IpAddr;

use super::leb128::{put_str, take_str};
use super::{Action, DeliveryType, EnhancedStatus, Kind, MessageId, RuleSetId, SourceType, Stage, StoreId, Time};

/// Ways of tying a report to its send that prove it (design, "Trust"): a token that we signed, in the return path or in a
/// header field; a Message-ID that the send index knows for the recipient that the report names.
pub const PROOFS: &[&str] = &["return-path", "header-token", "message-id"];
/// Ways that prove nothing, since anybody could have written what they go by: an ENVID, a Message-ID for which the report
/// names no recipient, the returned header.
pub const HINTS: &[&str] = &["envelope-id", "message-id-alone", "headers"];

/// One delivery, bounce, deferral, reception or report.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Event<'a> {
    /// Which store's ledger it stands in; with `seq` the event id. Set by the ledger's reader.
    pub store: StoreId,
    /// Place in the ledger, from 1, without gaps; 0 until the store has appended it.
    pub seq: u64,
    /// When it happened (`timeLogged`).
    pub time: Time,
    /// The record type.
    pub kind: Kind,
    /// The pattern rules in force when it was appended; set by the store.
    pub rules: RuleSetId,

    /// The message it is about; for reports the original one, if it was found.
    pub message: MessageId,
    /// Which recipient of that message, from 0.
    pub rcpt_index: u16,
    /// Number of this attempt for this recipient, from 1; 0 when there was none.
    pub attempt: u16,
    /// An earlier attempt may have succeeded without our hearing of it.
    pub in_doubt: bool,
    /// How far the dialogue had come when the reply was given.
    pub stage: Option<Stage>,
    /// `timeQueued`: when the message was spooled.
    pub time_queued: Time,

    /// Envelope sender; empty for the null sender. For reports: of the original mail.
    pub orig: &'a str,
    /// Envelope recipient. For reports: of the original mail.
    pub rcpt: &'a str,
    /// ORCPT, as given.
    pub orcpt: &'a str,
    /// `dsnAction`.
    pub action: Option<Action>,
    /// `dsnStatus`, the code.
    pub status: Option<EnhancedStatus>,
    /// `dsnStatus`, the words in parentheses, where they are not the usual ones of the code.
    pub status_text: &'a str,
    /// `dsnDiag`: `smtp;` and the reply, or what else is known, without the type prefix when there was no reply.
    pub diag: &'a str,
    /// Name of the remote MTA.
    pub mta: &'a str,
    /// Address of the remote MTA (`dsnMta` is `name (address)`).
    pub mta_ip: Option<IpAddr>,
    /// The MTA that made the report.
    pub reporting_mta: &'a str,
    /// `bounceCat`. In the ledger only where the producer decided it itself (`suppressed`, `message-expired`, ...);
    /// else empty until accounting has classified the event.
    pub category: &'a str,
    /// Pattern file and line that decided the category; filled by accounting, never kept in the ledger.
    pub rule: &'a str,
    /// `srcType`.
    pub src_type: Option<SourceType>,
    /// Name the submitter gave in EHLO.
    pub src_mta: &'a str,
    /// Address of the submitter (`srcMta` is `name (address)`; `rcvSourceIp` in `r`).
    pub src_ip: Option<IpAddr>,
    /// Our address that the submitter connected to (`rcvDestinationIp`).
    pub rcv_ip: Option<IpAddr>,
    /// The authenticated user (`rcvSmtpUser`).
    pub user: &'a str,
    /// `dlvType`.
    pub dlv_type: Option<DeliveryType>,
    /// `dlvSourceIp`; for `f` the address the reported mail came from.
    pub dlv_source_ip: Option<IpAddr>,
    /// `dlvDestinationIp`.
    pub dlv_destination_ip: Option<IpAddr>,
    /// `dlvEsmtpAvailable`: the remote's EHLO keywords, comma separated.
    pub dlv_esmtp: &'a str,
    /// `dlvSize`: bytes sent.
    pub dlv_size: u64,
    /// Negotiated TLS version, such as `TLSv1.3`.
    pub tls_protocol: &'a str,
    /// Negotiated TLS cipher suite.
    pub tls_cipher: &'a str,
    /// The VirtualMTA.
    pub vmta: &'a str,
    /// The VirtualMTA pool.
    pub pool: &'a str,
    /// `jobId`.
    pub job: &'a str,
    /// `envId`.
    pub env_id: &'a str,
    /// `queue`: `domain/vmta`.
    pub queue: &'a str,
    /// The destination as operators see it: the rolled-up queue's name, else the recipient's domain.
    pub provider: &'a str,
    /// For a suppressed recipient: sequence number of the event that suppressed it; 0 when it was entered by hand.
    pub suppressed_by: u64,
    /// Headers of the (original) message that were asked for.
    pub headers: Pairs<'a>,

    /// `format`: the parser that understood the report.
    pub format: &'a str,
    /// How a report was tied to its send ([`PROOFS`], [`HINTS`]); empty when it was not.
    pub attributed_by: &'a str,
    /// When the original message was spooled.
    pub time_sent: Time,
    /// `feedbackType`, lower-cased: `abuse`, `fraud`, `virus`, `not-spam`, ...
    pub feedback_type: &'a str,
    /// ARF User-Agent.
    pub user_agent: &'a str,
    /// ARF Reported-Domain.
    pub reported_domain: &'a str,
    /// Our address that received the report (`repSourceIp`).
    pub report_ip: Option<IpAddr>,
    /// All ARF fields as they stood.
    pub arf: Pairs<'a>,
    /// The mailing list that the (original) mail belongs to, as its submitter named it; what somebody who unsubscribes
    /// leaves. Empty: it belongs to none, or that is not known.
    pub list: &'a str,
}

impl<'a> Event<'a> {
    /// An event of this type at this time, with everything else unknown.
    pub const fn new(kind: Kind, time: Time) -> Event<'a> {
        Event {
            store: StoreId(0),
            seq: 0,
            time,
            kind,
            rules: RuleSetId(0),
            message: MessageId(0),
            rcpt_index: 0,
            attempt: 0,
            in_doubt: false,
            stage: None,
            time_queued: Time::UNKNOWN,
            orig: "",
            rcpt: "",
            orcpt: "",
            action: None,
            status: None,
            status_text: "",
            diag: "",
            mta: "",
            mta_ip: None,
            reporting_mta: "",
            category: "",
            rule: "",
            src_type: None,
            src_mta: "",
            src_ip: None,
            rcv_ip: None,
            user: "",
            dlv_type: None,
            dlv_source_ip: None,
            dlv_destination_ip: None,
            dlv_esmtp: "",
            dlv_size: 0,
            tls_protocol: "",
            tls_cipher: "",
            vmta: "",
            pool: "",
            job: "",
            env_id: "",
            queue: "",
            provider: "",
            suppressed_by: 0,
            headers: Pairs::EMPTY,
            format: "",
            attributed_by: "",
            time_sent: Time::UNKNOWN,
            feedback_type: "",
            user_agent: "",
            reported_domain: "",
            report_ip: None,
            arf: Pairs::EMPTY,
            list: "",
        }
    }

    /// Whether it is proved that a report is about mail of ours to its recipient.
    pub fn is_proved(&self) -> bool {
        PROOFS.contains(&self.attributed_by)
    }

    /// The reply in `diag` without its type prefix (`smtp;`); what patterns are matched against.
    pub fn reply_text(&self) -> &'a str {
        match self.diag.split_once(';') {
            Some((kind, rest)) if kind.eq_ignore_ascii_case("smtp") => rest.trim_start(),
            _ => self.diag,
        }
    }

    /// The reply's basic code, when `diag` holds a reply.
    pub fn reply_code(&self) -> Option<u16> {
        super::Reply::code_of(self.reply_text())
    }

    /// Whether this says for good that the mail will not be taken: a 5xx reply or, where the report gives no reply, a
    /// 5.x.x status; never a 4xx, whatever gave up on it in the end. A report that calls a failure temporary by its status
    /// (4.x.x, RFC 3463, 2) is taken at its word, whatever reply it quotes beside that. Only such a `b` or `rb` can count
    /// against an address.
    pub fn is_permanent_failure(&self) -> bool {
        if !matches!(self.kind, Kind::Bounced | Kind::RemoteBounce) {
            return false;
        }
        match (self.reply_code(), self.status) {
            (_, Some(status)) if self.kind == Kind::RemoteBounce && status.class == 4 => false,
            (Some(code), _) => (500..600).contains(&code),
            (None, Some(status)) => status.class == 5,
            (None, None) => false,
        }
    }
}

/// Names and values, in order; kept as they are encoded, so that passing them on copies nothing.
///
/// Layout: for each pair, the length of the name (LEB128), the name, the length of the value, the value; UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pairs<'a>(pub(super) &'a [u8]);

impl<'a> Pairs<'a> {
    /// No pairs.
    pub const EMPTY: Pairs<'static> = Pairs(&[]);

    /// Over bytes that [`PairsBuf`] made. Damaged bytes end the iteration early; they never panic.
    pub const fn from_bytes(bytes: &'a [u8]) -> Pairs<'a> {
        Pairs(bytes)
    }

    /// The encoded bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The pairs in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let name = take_str(&mut rest)?;
            let value = take_str(&mut rest)?;
            Some((name, value))
        })
    }

    /// The first value under `name`, whatever its case.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }
}

impl std::fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Pairs being collected.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PairsBuf(Vec<u8>);

impl PairsBuf {
    /// Adds one at the end.
    pub fn push(&mut self, name: &str, value: &str) {
        put_str(&mut self.0, name);
        put_str(&mut self.0, value);
    }

    /// What was collected.
    pub fn as_pairs(&self) -> Pairs<'_> {
        Pairs(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permanent_refusal_counts_against_an_address() {
        let event = |kind, diag, status: Option<&str>| Event {
            diag,
            status: status.map(|s| s.parse().unwrap()),
            ..Event::new(kind, Time(1))
        };
        assert!(event(Kind::Bounced, "smtp;550 5.1.1 no such user", None).is_permanent_failure());
        assert!(event(Kind::RemoteBounce, "", Some("5.1.1")).is_permanent_failure());
        assert!(event(Kind::RemoteBounce, "x-unix; no such user", Some("5.1.1")).is_permanent_failure());
        // Expired after deferrals: the status we gave it is 4.4.7 or even 5.4.7, the reply was a 4xx.
        assert!(!event(Kind::RemoteBounce, "smtp;550 5.1.1 no such user", Some("4.4.7")).is_permanent_failure());
        assert!(event(Kind::RemoteBounce, "smtp;550 5.1.1 no such user", Some("5.4.7")).is_permanent_failure());
        assert!(!event(Kind::Bounced, "smtp;450 4.2.1 try later", Some("5.4.7")).is_permanent_failure());
        assert!(!event(Kind::Transient, "smtp;550 5.1.1 no such user", None).is_permanent_failure());
        assert!(!event(Kind::Feedback, "smtp;550 x", Some("5.1.1")).is_permanent_failure());
        assert!(!event(Kind::Bounced, "", None).is_permanent_failure());
    }

    #[test]
    fn pairs_come_back_in_order() {
        let mut b = PairsBuf::default();
        b.push("From", "a@example.com");
        b.push("X-Job", "");
        let p = b.as_pairs();
        assert_eq!(p.iter().collect::<Vec<_>>(), [("From", "a@example.com"), ("X-Job", "")]);
        assert_eq!(p.get("from"), Some("a@example.com"));
        assert_eq!(p.get("none"), None);
        // Cut anywhere, it ends early and does not panic.
        for n in 0..p.as_bytes().len() {
            let _ = Pairs::from_bytes(&p.as_bytes()[..n]).iter().count();
        }
    }
}
