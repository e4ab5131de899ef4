//! The report that tells a sender what became of its mail: a delivery status notification (RFC 3464 in RFC 6522). Pure.
//!
//! Promises:
//! - [`wanted`] never lets a report be made about mail of the null sender (so none about a report: RFC 5321, 6.1), nor to
//!   an address whose mail our own processors read, where it would be counted as a second bounce.
//! - One report names all recipients that ended together in the same way; [`report`] gives it with its `r` event, to go
//!   into the same record as their `b` or `d` events. Nothing here fails: what does not fit is left out, and the text says so.
//! - Replies, addresses and the returned message come from outside. They stand in the report as text that can neither end
//!   a line, nor a field, nor a part: control characters become blanks, the machine-readable part is ASCII, lines are
//!   folded, the boundary is one that the returned message does not hold.
//!
//! Failures are reported unless NOTIFY leaves them out: those of recipients that were refused, whose time is over, or that
//! were suppressed when they were accepted. What is suppressed while it waits was not tried, what `type discard` threw away nobody refused; a message that can't be read from the disk
//! names no sender any more. Success is reported where NOTIFY=SUCCESS asks for it and nobody behind us will do so: the
//! next hop was not told of the wish (RFC 3461, 5.2.2), or there is none. Delays are reported only where NOTIFY=DELAY asks
//! for it (`delay`). Not supported is `dsn-format plain-text`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use crate::config::{Config, Entries};
use crate::event::address::canonical_domain;
use crate::event::{Action, Address, EnhancedStatus, Events, MessageId, StoreId, Time};
use crate::smtp::dsn::{FAILURE, SUCCESS};
use crate::store::{Envelope, Message, OwnMail, Recipient};

use super::outcome::{DiagType, EXPIRED};

/// Bytes of one recipient's reply.
const MAX_REPLY: usize = 2000;
/// Bytes of the machine-readable part; recipients that no longer fit are not listed.
const MAX_STATUS: usize = 4 << 20;
/// Recipients named in the text for people.
const MAX_NAMED: usize = 100;
/// Bytes of the returned header.
const MAX_HEADER: usize = 64 << 10;
/// Largest message that is returned whole; of a larger one the header is.
const MAX_RETURNED: usize = 1 << 20;

/// A recipient that has ended, or still waits, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its index in [`Envelope::rcpts`].
    pub rcpt: u16,
    /// Failed, relayed (to a host that will not report), delivered or, where it has not ended, delayed.
    pub action: Action,
    /// As its event has it.
    pub status: EnhancedStatus,
    /// The reply, or what else is known.
    pub text: Box<str>,
    /// Whose words `text` is.
    pub diag_type: DiagType,
    /// The remote host; empty when there was none.
    pub mta: Box<str>,
    /// Its address.
    pub mta_ip: Option<IpAddr>,
    /// When it was last tried; unknown when this ending was no attempt.
    pub last_attempt: Time,
    /// Until when it is tried again; unknown when it is not.
    pub retry_until: Time,
}

/// Whether a failure of this recipient is to be reported, as far as message and recipient say.
pub fn asked_for(envelope: &Envelope, rcpt: &Recipient) -> bool {
    // RFC 3461, 5.2: without NOTIFY a failure is reported.
    !envelope.no_dsn && !envelope.orig.is_empty() && (rcpt.notify == 0 || rcpt.notify & FAILURE != 0)
}

/// Whether a success is to be reported, as far as message and recipient say.
pub fn success_asked_for(envelope: &Envelope, rcpt: &Recipient) -> bool {
    !envelope.no_dsn && !envelope.orig.is_empty() && rcpt.notify & SUCCESS != 0
}

/// Whether a report can be sent to the sender of this message: not to the null sender, not to what is no address, and
/// not to an address that a processor of ours reads.
pub fn wanted(config: &Config, envelope: &Envelope) -> bool {
    let Ok(sender) = Address::parse(&envelope.orig) else { return false };
    let domain = canonical_domain(sender.domain());
    let processors = [&config.bounce_processor, &config.feedback_loop_processor];
    !envelope.no_dsn
        && !config.return_path_token.as_ref().is_some_and(|t| t.is_its_domain(&domain))
        && !processors.into_iter().flatten().any(|p| p.takes(&sender, Entries::All))
}

/// The report about these endings of `message`, all failures, successes or delays, to its sender, with its `r` event. It has
/// the null sender, and no report is ever made about it. Call it only where [`wanted`] says so; `store` and `id` make its Message-ID.
pub fn report(
    config: &Config,
    message: &Message,
    endings: &[Ending],
    (store, id): (StoreId, MessageId),
    now: Time,
) -> (Arc<Message>, Events) {
    let host = canonical_domain(config.host_names.first().map_or("localhost", String::as_str)).into_owned();
    let message_id_header = format!("{store}.{id}.dsn@{host}");
    let failed = endings.iter().any(|e| e.action == Action::Failed);
    let whole = returned_whole(message, failed);
    let returned = if whole { &message.body[..] } else { header(&message.body) };
    // A whole message may not be encoded (RFC 2046, 5.2.1); a header alone is text like any other.
    let eight_bit = whole && !returned.is_ascii();
    let (status, listed) = status_part(&host, message, endings);
    let text = text_part(&host, message, &endings[..listed], endings.len());

    let transfer = if eight_bit { "8bit" } else { "7bit" };
    let third = match whole {
        true => MimePart::new("message/rfc822", returned).transfer_encoding(transfer),
        false => MimePart::new("text/rfc822-headers", returned),
    };
    let boundary = boundary(store, id, now, returned);
    let content_type = ContentType::new("multipart/report")
        .attribute("report-type", "delivery-status")
        .attribute("boundary", boundary);
    let parts = vec![
        MimePart::new("text/plain", text),
        MimePart::new("message/delivery-status", status.into_bytes()).transfer_encoding("7bit"),
        third,
    ];
    let mut body = MimePart::new(content_type, BodyPart::Multipart(parts));
    if eight_bit {
        body = body.transfer_encoding(transfer);
    }
    let from = match &config.custom_dsn_from_header {
        Some((name, address)) => Mailbox::new_address(Some(name.as_str()).filter(|n| !n.is_empty()), address.as_str()),
        None => Mailbox::new_address(Some("Mail Delivery System"), format!("MAILER-DAEMON@{host}")),
    };
    let mut built = Vec::with_capacity(4096 + returned.len());
    MessageBuilder::new()
        .from(from)
        .header("To", Raw::new(to(&message.envelope.orig)))
        .subject(match endings.first().map(|e| e.action) {
            _ if failed => "Your message could not be delivered",
            Some(Action::Delayed) => "Your message is delayed",
            _ => "Your message was passed on",
        })
        .date(Date::new(now.secs()))
        .message_id(message_id_header.as_str())
        .header("Auto-Submitted", Raw::new("auto-replied"))
        .body(body)
        .serialize(&mut built);

    let to = [&*message.envelope.orig];
    let mail = OwnMail { id, now, host: &host, message_id: &message_id_header, eight_bit, to: &to };
    let (report, received) = Message::own(mail, built.into());
    (Arc::new(report), received)
}

/// The report about recipients of `message` that were accepted though they are suppressed, each with its reason, with its
/// `r` event; `None` where nobody asked for one. `ids` are asked for when one is made.
pub fn report_suppressed(
    config: &Config,
    message: &Message,
    suppressed: &[(u16, &str)],
    ids: &dyn Fn() -> (StoreId, MessageId),
    now: Time,
) -> Option<(Arc<Message>, Events)> {
    let envelope = &message.envelope;
    let asked = |rcpt: &u16| envelope.rcpts.get(usize::from(*rcpt)).is_some_and(|rcpt| asked_for(envelope, rcpt));
    let ending = |(rcpt, why): &(u16, &str)| Ending {
        rcpt: *rcpt,
        action: Action::Failed,
        status: super::outcome::status(5, 7, 1),
        text: (*why).into(),
        diag_type: DiagType::Own,
        mta: "".into(),
        mta_ip: None,
        last_attempt: Time::UNKNOWN,
        retry_until: Time::UNKNOWN,
    };
    let endings: Vec<Ending> = suppressed.iter().filter(|(rcpt, _)| asked(rcpt)).map(ending).collect();
    (!endings.is_empty() && wanted(config, envelope)).then(|| report(config, message, &endings, ids(), now))
}

/// RFC 3461, 4.3: RET=FULL is about failures only.
fn returned_whole(message: &Message, failed: bool) -> bool {
    failed && message.envelope.return_full && message.body.len() <= MAX_RETURNED
}

/// The sender as To shows it. Beyond ASCII a header can't hold an address without SMTPUTF8; the envelope has it.
fn to(sender: &str) -> String {
    match sender.rsplit_once('@') {
        Some((local, domain)) if local.bytes().all(|b| b.is_ascii_graphic() || b == b' ') => {
            format!("<{local}@{}>", canonical_domain(domain))
        }
        _ => "undisclosed-recipients:;".to_owned(),
    }
}

/// A boundary that `returned` does not hold. The other parts hold none: the lines of the texts are ours or indented.
fn boundary(store: StoreId, id: MessageId, now: Time, returned: &[u8]) -> String {
    let candidate = |n: u32| format!("=_{store}_{id}_{:x}_{n}", now.0);
    let absent = |b: &String| memchr::memmem::find(returned, b.as_bytes()).is_none();
    (0..).map(candidate).find(absent).unwrap_or_default()
}

/// The header of a message, without the empty line; cut at the end of a line when it is too long.
fn header(body: &[u8]) -> &[u8] {
    let end = match body {
        [b'\r', b'\n', ..] => 0,
        _ => memchr::memmem::find(body, b"\r\n\r\n").map_or(body.len(), |at| at + 2),
    };
    if end <= MAX_HEADER {
        return &body[..end];
    }
    let lines = memchr::memmem::rfind(&body[..MAX_HEADER], b"\r\n").map_or(0, |at| at + 2);
    &body[..lines]
}

/// The part for programs (RFC 3464, 2.1), and how many of the endings it has.
fn status_part(host: &str, message: &Message, endings: &[Ending]) -> (String, usize) {
    let envelope = &message.envelope;
    let mut out = String::with_capacity(256 + 400 * endings.len().min(1000));
    if !envelope.env_id.is_empty() {
        field(&mut out, "Original-Envelope-Id", &ascii(&envelope.env_id));
    }
    field(&mut out, "Reporting-MTA", &format!("dns; {host}"));
    if envelope.time_queued.is_known() {
        field(&mut out, "Arrival-Date", &date(envelope.time_queued));
    }
    for (n, ending) in endings.iter().enumerate() {
        if out.len() > MAX_STATUS {
            return (out, n);
        }
        out.push_str("\r\n");
        if let Some(rcpt) = envelope.rcpts.get(usize::from(ending.rcpt)) {
            if rcpt.orcpt.contains(';') {
                field(&mut out, "Original-Recipient", &ascii(&rcpt.orcpt));
            }
            field(&mut out, "Final-Recipient", &typed_address(&rcpt.address));
        }
        field(&mut out, "Action", ending.action.name());
        field(&mut out, "Status", &ending.status.to_string());
        if !ending.mta.is_empty() {
            field(&mut out, "Remote-MTA", &format!("dns; {}", mta(ending, false)));
        }
        if !ending.text.is_empty() {
            // A text that is no reply has a type of our own (RFC 3464, 2.1.2).
            let kind = match ending.diag_type {
                DiagType::Smtp => "smtp",
                DiagType::Unix => "x-unix",
                DiagType::Own => "X-Carom",
            };
            field(&mut out, "Diagnostic-Code", &format!("{kind}; {}", ascii(short(&ending.text))));
        }
        if ending.last_attempt.is_known() {
            field(&mut out, "Last-Attempt-Date", &date(ending.last_attempt));
        }
        if ending.retry_until.is_known() {
            field(&mut out, "Will-Retry-Until", &date(ending.retry_until));
        }
    }
    (out, endings.len())
}

/// The part for people.
fn text_part(host: &str, message: &Message, listed: &[Ending], all: usize) -> String {
    let envelope = &message.envelope;
    let mut out = format!("This is the mail system at {host}.\r\n\r\n");
    out.push_str("Your message");
    if envelope.time_queued.is_known() {
        let _ = write!(out, " of {}", date(envelope.time_queued));
    }
    let recipients = if all == 1 { "this recipient".to_owned() } else { format!("these {all} recipients") };
    let failed = listed.iter().any(|e| e.action == Action::Failed);
    let _ = match listed.first().map(|e| e.action) {
        Some(Action::Delivered) => write!(out, "\r\nwas delivered to {recipients}:\r\n"),
        Some(Action::Relayed) => {
            write!(out, "\r\nwas passed on for {recipients}, to hosts that may not report what becomes of it:\r\n")
        }
        Some(Action::Delayed) => {
            write!(
                out,
                "\r\nstill waits for {recipients}.\r\nIt is tried again by itself; nothing needs to be done:\r\n"
            )
        }
        _ => write!(out, "\r\ncould not be delivered to {recipients}, and will not be tried again:\r\n"),
    };
    let named = &listed[..listed.len().min(MAX_NAMED)];
    for ending in named {
        let address = envelope.rcpts.get(usize::from(ending.rcpt)).map_or("", |r| &r.address);
        let _ = write!(out, "\r\n  <{}>\r\n", plain(address));
        // Nobody refused it for good: the Diagnostic-Code alone does not say so.
        if ending.action == Action::Failed && ending.status == EXPIRED && ending.last_attempt.is_known() {
            let _ = write!(out, "    Its time ran out. The last attempt was on {}.\r\n", date(ending.last_attempt));
        }
        if ending.diag_type == DiagType::Smtp {
            let _ = write!(out, "    {} said:\r\n", mta(ending, true));
        }
        wrap(&mut out, &plain(short(&ending.text)));
        if ending.retry_until.is_known() {
            let _ = write!(out, "    It is given up after {}.\r\n", date(ending.retry_until));
        }
    }
    if named.len() < listed.len() {
        out.push_str("\r\nThe others are listed in the report for programs that comes with this text.\r\n");
    }
    if listed.len() < all {
        let _ = write!(out, "\r\n{} of the recipients are too many for this report.\r\n", all - listed.len());
    }
    let what = if returned_whole(message, failed) { "Your message" } else { "Its header" };
    let _ = write!(out, "\r\n{what} is attached.\r\n");
    out
}

/// The remote host: an address literal where it has no name of its own.
fn mta(ending: &Ending, with_address: bool) -> String {
    let name = ascii(&ending.mta);
    match ending.mta_ip {
        Some(ip) if name.is_empty() || name.parse::<IpAddr>().is_ok() => format!("[{ip}]"),
        Some(ip) if with_address => format!("{name} ({ip})"),
        None if name.is_empty() => "the remote host".to_owned(),
        _ => name,
    }
}

/// `rfc822; address`; beyond ASCII the 7-bit form of `utf-8` (RFC 6533, 3).
fn typed_address(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let at = if domain.is_empty() { "" } else { "@" };
    let domain = canonical_domain(domain);
    if local.is_ascii() && domain.is_ascii() {
        return format!("rfc822; {}{at}{}", ascii(local), ascii(&domain));
    }
    let mut out = String::from("utf-8; ");
    for c in local.chars().chain(at.chars()).chain(domain.chars()) {
        match c {
            '\\' | '+' | '=' => _ = write!(out, "\\x{{{:X}}}", u32::from(c)),
            '!'..='~' => out.push(c),
            c => _ = write!(out, "\\x{{{:X}}}", u32::from(c)),
        }
    }
    out
}

/// One field, folded between words at 76 columns; a word that no line can hold is cut (RFC 5322, 2.1.1).
fn field(out: &mut String, name: &str, value: &str) {
    const LINE: usize = 76;
    const WORD: usize = 900;
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in value.split(' ') {
        let mut rest = word;
        loop {
            // `value` is ASCII: any place is a boundary between characters.
            let (piece, more) = rest.split_at(rest.len().min(WORD));
            if column + 1 + piece.len() > LINE && column > name.len() + 1 && !piece.is_empty() {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            out.push_str(piece);
            column += 1 + piece.len();
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
    }
    out.push_str("\r\n");
}

/// A paragraph, indented and wrapped; so no line of it can be mistaken for a boundary.
fn wrap(out: &mut String, text: &str) {
    const LINE: usize = 76;
    let mut column = 0;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        if column == 0 || column + 1 + word.len() > LINE {
            out.push_str(if column == 0 { "    " } else { "\r\n    " });
            column = 4;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

fn date(time: Time) -> String {
    Date::new(time.secs()).to_rfc822()
}

/// At most [`MAX_REPLY`] bytes.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REPLY)]
}

/// Control characters become blanks.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As [`plain`], and what is beyond ASCII becomes `?`.
fn ascii(text: &str) -> String {
    let safe = |c: char| match c {
        ' '..='~' => c,
        c if c.is_control() => ' ',
        _ => '?',
    };
    text.chars().map(safe).collect()
}
