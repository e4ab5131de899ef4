//! A message as it is kept: its envelope (all but the content) and the content as it will be sent.

use std::net::IpAddr;

use bytes::Bytes;

use crate::event::{Event, Events, Kind, MessageId, ScopeKinds, SourceType, Time, record::PairsBuf};

/// A queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Everything but the content.
    pub envelope: Envelope,
    /// The content with CRLF line ends, not dot-stuffed, as it will be sent (signatures aside).
    pub body: Bytes,
}

/// What is known of a message besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its id in the store.
    pub id: MessageId,
    /// When it was accepted.
    pub time_queued: Time,
    /// Envelope sender; empty for the null sender.
    pub orig: Box<str>,
    /// ENVID or its equivalent.
    pub env_id: Box<str>,
    /// Job.
    pub job: Box<str>,
    /// The chosen VirtualMTA; `{default}` when none was.
    pub vmta: Box<str>,
    /// The chosen pool; empty when none was.
    pub pool: Box<str>,
    /// How it came in.
    pub src_type: SourceType,
    /// EHLO name of the submitter.
    pub src_mta: Box<str>,
    /// Address of the submitter.
    pub src_ip: Option<IpAddr>,
    /// Our address that it came to; `None` when that was not noted.
    pub rcv_ip: Option<IpAddr>,
    /// Authenticated user.
    pub user: Box<str>,
    /// The content has octets above 127, or was announced as BODY=8BITMIME.
    pub eight_bit: bool,
    /// Content length in bytes.
    pub body_len: u32,
    /// The content's Message-ID without angle brackets; empty when it has none.
    pub message_id_header: Box<str>,
    /// Headers asked for by accounting (`header_X`), kept with each event of the message.
    pub headers: PairsBuf,
    /// What is to be done with it.
    pub route: Route,
    /// No delivery report is to be made about it (`suppress-local-dsn`, or it is itself a report).
    pub no_dsn: bool,
    /// A delivery report is to return the whole message, not only its header (`dsn-return-default full`; RET=FULL).
    pub return_full: bool,
    /// The submitter said so itself, by RET, which then goes on to the next hop.
    pub ret_given: bool,
    /// The recipients, in the order of RCPT.
    pub rcpts: Vec<Recipient>,
    /// What the suppression list is asked for it.
    pub terms: SuppressionTerms,
}

/// Under which terms the suppression list counts for a mail; by default all of it does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuppressionTerms {
    /// Name of the `<source>` that handed it in.
    pub source: Box<str>,
    /// The mailing list it belongs to; empty when none is known.
    pub list: Box<str>,
    /// Scopes whose entries do not count (`suppression-exempt-scopes`).
    pub exempt_scopes: ScopeKinds,
    /// Rules whose entries do not count, separated by commas (`suppression-exempt-rules`).
    pub exempt_rules: Box<str>,
    /// Where its recipients leave the list, when the fields that say so are to be added to each one's copy.
    pub unsubscribe: Option<Box<UnsubscribeLink>>,
}

/// Where people unsubscribe (`list-unsubscribe-url`, `list-unsubscribe-mailto`); either may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnsubscribeLink {
    /// What stands before the slash and the token.
    pub url: Box<str>,
    /// The address of the mail.
    pub mailto: Box<str>,
}

/// Mail that Carom writes or passes on itself: what differs from one to the next.
#[derive(Debug, Clone, Copy)]
pub struct OwnMail<'a> {
    /// Its id in the store.
    pub id: MessageId,
    /// When it was made.
    pub now: Time,
    /// Our name.
    pub host: &'a str,
    /// Its Message-ID without angle brackets.
    pub message_id: &'a str,
    /// It has octets above 127.
    pub eight_bit: bool,
    /// Who gets it.
    pub to: &'a [&'a str],
}

impl Message {
    /// A mail of ours with its `r` events: from the null sender, through the default VirtualMTA; nobody is told when it
    /// can't be delivered, neither by us nor by the next hop (RFC 3461, 4.1).
    pub fn own(mail: OwnMail<'_>, body: Bytes) -> (Message, Events) {
        let OwnMail { id, now, host, message_id, eight_bit, to } = mail;
        let rcpt = |a: &&str| Recipient { address: (*a).into(), orcpt: "".into(), notify: NOTIFY_NEVER };
        let envelope = Envelope {
            id,
            time_queued: now,
            orig: "".into(),
            env_id: "".into(),
            job: "".into(),
            vmta: "{default}".into(),
            pool: "".into(),
            src_type: SourceType::Internal,
            src_mta: host.into(),
            src_ip: None,
            rcv_ip: None,
            user: "".into(),
            eight_bit,
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            message_id_header: message_id.into(),
            headers: PairsBuf::default(),
            route: Route::Deliver,
            no_dsn: true,
            return_full: false,
            ret_given: false,
            terms: SuppressionTerms::default(),
            rcpts: to.iter().map(rcpt).collect(),
        };
        let mut received = Events::new();
        for (index, rcpt) in envelope.rcpts.iter().enumerate() {
            received.push(&Event {
                message: id,
                rcpt_index: index as u16,
                time_queued: now,
                rcpt: &rcpt.address,
                src_type: Some(SourceType::Internal),
                src_mta: &envelope.src_mta,
                vmta: &envelope.vmta,
                ..Event::new(Kind::Received, now)
            });
        }
        (Message { envelope, body }, received)
    }
}

/// The bit of [`Recipient::notify`] for NEVER.
const NOTIFY_NEVER: u8 = 1;
/// That for DELAY.
const NOTIFY_DELAY: u8 = 8;

impl Recipient {
    /// Whether its sender asks to be told while it waits (RFC 3461, 4.1). Without NOTIFY nobody is.
    pub fn asks_for_delays(&self) -> bool {
        self.notify & NOTIFY_DELAY != 0 && self.notify & NOTIFY_NEVER == 0
    }
}

impl Envelope {
    /// Whether anybody is to be told while a recipient of it waits, as far as message and recipients say.
    pub fn asks_for_delays(&self) -> bool {
        !self.no_dsn && !self.orig.is_empty() && self.rcpts.iter().any(Recipient::asks_for_delays)
    }
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Route {
    /// Deliver it.
    Deliver = 1,
    /// It came to a bounce address: the bounce processor reads it (queue `{bounce}`).
    Bounce = 2,
    /// It came to a feedback address: the feedback-loop processor reads it (queue `{feedbackLoop}`).
    Feedback = 3,
    /// It came to an unsubscribe address: the report room reads who leaves which list (queue `{feedbackLoop}`).
    Unsubscribe = 4,
}

/// One recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address as given in RCPT.
    pub address: Box<str>,
    /// ORCPT, decoded (`type;address`); empty when it was not given.
    pub orcpt: Box<str>,
    /// NOTIFY as given: bits NEVER 1, SUCCESS 2, FAILURE 4, DELAY 8; 0 when not.
    pub notify: u8,
}

/// Where a recipient that is still queued stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RcptState {
    /// Index in [`Envelope::rcpts`].
    pub index: u16,
    /// Attempts made so far.
    pub attempts: u16,
    /// Not to be attempted before this.
    pub not_before: Time,
    /// An attempt may have succeeded without our hearing of it.
    pub in_doubt: bool,
}
