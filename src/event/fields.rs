//! THE field table: what the columns of a record are called, what they hold, and where the value comes from.
//!
//! The CSV header, the Parquet schema, `schemas/` and the check of `record-fields` are all derived from [`FIELDS`].
//! Names are PowerMTA's own (reference/accounting.md, section 3) and are the same in CSV and in Parquet; what Carom adds
//! is named in the same manner. A field is looked up whatever the case of its name, because PowerMTA's own documents
//! spell some in two ways. Getters borrow from the event and never allocate; a value that is put together of several
//! parts ([`Value::Status`], [`Value::Host`]) is put together by [`Value::push_text`] in the caller's buffer.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{EnhancedStatus, Event, EventId, Kind, Kinds, Pairs, Time};

/// Version of the schema in `schemas/`: fields are only ever added to it.
pub const SCHEMA_VERSION: u32 = 1;

/// One column of a record.
#[derive(Debug)]
pub struct Field {
    /// Name in CSV and Parquet.
    pub name: &'static str,
    /// What kind of value it holds.
    pub ty: Type,
    /// Where the column comes from.
    pub origin: Origin,
    /// The record types that can carry it.
    pub kinds: Kinds,
    /// The record types whose CSV has it without being asked: PowerMTA's `*`, or Carom's own columns behind it.
    pub star: Kinds,
    /// What it means, with the source.
    pub doc: &'static str,
    /// Its value in an event, whether or not the record type should carry it.
    pub value: Getter,
}

/// Gets a value out of an event.
pub type Getter = for<'a> fn(&Event<'a>) -> Value<'a>;

/// Who defined a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// PowerMTA: stands first, in its order.
    PowerMta,
    /// Carom: stands behind; `strict-columns` leaves it out of CSV.
    Carom,
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// Text with many different values.
    Text,
    /// Text with few different values: kept as a dictionary in Parquet.
    Word,
    /// A point in time: microseconds in UTC in Parquet, whole seconds in CSV.
    Time,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// `true` or `false`.
    Bool,
    /// An IP address as text.
    Ip,
    /// A list of words; comma separated in CSV.
    List,
    /// Names and values; Parquet only, in CSV one column per name (`header_NAME`, `arf_NAME`).
    Map,
}

/// A value on its way into a column.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// Not known, or not applicable: an empty cell, or null.
    Absent,
    /// Text; may be empty (the null sender).
    Text(&'a str),
    /// A point in time.
    Time(Time),
    /// A number.
    Number(u64),
    /// Yes or no.
    Bool(bool),
    /// An address.
    Ip(IpAddr),
    /// `X.Y.Z`.
    Code(EnhancedStatus),
    /// `X.Y.Z (words)`.
    Status(EnhancedStatus, &'a str),
    /// `name (address)`.
    Host(&'a str, Option<IpAddr>),
    /// Comma separated words.
    List(&'a str),
    /// Names and values.
    Pairs(Pairs<'a>),
    /// `STORE-SEQ`.
    Id(EventId),
    /// 16 hexadecimal digits.
    Hex(u64),
}

impl Value<'_> {
    /// The value as text at the end of `out`; times as seconds since the epoch, pairs as nothing.
    pub fn push_text(self, out: &mut Vec<u8>) {
        match self {
            Value::Absent | Value::Pairs(_) => {}
            Value::Text(s) | Value::List(s) => out.extend_from_slice(s.as_bytes()),
            Value::Time(t) => push_display(out, t.secs()),
            Value::Number(n) => push_number(out, n),
            Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
            Value::Ip(ip) => push_ip(out, ip),
            Value::Code(code) => push_code(out, code),
            Value::Status(code, words) => {
                push_code(out, code);
                out.extend_from_slice(b" (");
                out.extend_from_slice(words.as_bytes());
                out.push(b')');
            }
            Value::Host(name, ip) => {
                out.extend_from_slice(name.as_bytes());
                if let Some(ip) = ip {
                    if name.is_empty() {
                        // A host that gave no name is named as SMTP names it: by its address literal.
                        out.push(b'[');
                        push_ip(out, ip);
                        out.push(b']');
                    }
                    out.extend_from_slice(b" (");
                    push_ip(out, ip);
                    out.push(b')');
                }
            }
            Value::Id(id) => {
                push_hex(out, id.store.0);
                out.push(b'-');
                push_number(out, id.seq);
            }
            Value::Hex(n) => push_hex(out, n),
        }
    }
}

struct Bytes<'v>(&'v mut Vec<u8>);

impl std::fmt::Write for Bytes<'_> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

fn push_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec does not fail.
    let _ = write!(Bytes(out), "{value}");
}

fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn push_hex(out: &mut Vec<u8>, n: u64) {
    out.extend((0..16).rev().map(|i| b"0123456789abcdef"[(n >> (i * 4) & 0xf) as usize]));
}

fn push_code(out: &mut Vec<u8>, code: EnhancedStatus) {
    push_number(out, code.class.into());
    out.push(b'.');
    push_number(out, code.subject.into());
    out.push(b'.');
    push_number(out, code.detail.into());
}

fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                push_number(out, octet.into());
            }
        }
        IpAddr::V6(ip) => push_display(out, ip),
    }
}

impl Field {
    /// The field of this name, whatever its case.
    pub fn by_name(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|f| f.name.eq_ignore_ascii_case(name))
    }

    /// What `*` stands for in `record-fields` of this record type, in order, without `type`.
    pub fn star(kind: Kind) -> Vec<&'static Field> {
        let fields = || FIELDS.iter().filter(|f| f.origin == Origin::PowerMta && f.star.contains(kind));
        if kind != Kind::Feedback {
            return fields().collect();
        }
        // Complaints alone have an order of their own.
        let mut all: Vec<_> = fields().collect();
        all.sort_by_key(|f| FEEDBACK_ORDER.iter().position(|n| *n == f.name).unwrap_or(usize::MAX));
        all
    }

    /// Carom's own columns that stand behind PowerMTA's without being asked for.
    pub fn own(kind: Kind) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(move |f| f.origin == Origin::Carom && f.star.contains(kind))
    }

    /// Whether a record always has it.
    pub fn is_required(&self) -> bool {
        matches!(self.name, "type" | "timeLogged" | "eventId")
    }
}

/// The order of `*` for `f`: the one of the sample record, then what newer versions add.
const FEEDBACK_ORDER: &[&str] = &[
    "type",
    "timeLogged",
    "format",
    "userAgent",
    "envId",
    "orig",
    "rcpt",
    "reportingMta",
    "dlvSourceIp",
    "feedbackType",
    "reportedDomain",
    "repSourceIp",
];

const fn text(s: &str) -> Value<'_> {
    if s.is_empty() { Value::Absent } else { Value::Text(s) }
}

fn time(t: Time) -> Value<'static> {
    if t.is_known() { Value::Time(t) } else { Value::Absent }
}

fn ip(ip: Option<IpAddr>) -> Value<'static> {
    ip.map_or(Value::Absent, Value::Ip)
}

const fn positive(n: u64) -> Value<'static> {
    if n == 0 { Value::Absent } else { Value::Number(n) }
}

fn host<'a>(name: &'a str, ip: Option<IpAddr>) -> Value<'a> {
    if name.is_empty() && ip.is_none() { Value::Absent } else { Value::Host(name, ip) }
}

const D: Kind = Kind::Delivered;
const B: Kind = Kind::Bounced;
const T: Kind = Kind::Transient;
const TQ: Kind = Kind::TransientQueue;
const R: Kind = Kind::Received;
const RB: Kind = Kind::RemoteBounce;
const RS: Kind = Kind::RemoteStatus;
const F: Kind = Kind::Feedback;

const ALL: &[Kind] = Kind::ALL;
const DBT: &[Kind] = &[D, B, T];
const NOT_TQ: &[Kind] = &[D, B, T, R, RB, RS, F];
const NONE: &[Kind] = &[];

const fn pmta(name: &'static str, ty: Type, kinds: &[Kind], star: &[Kind], doc: &'static str, value: Getter) -> Field {
    Field { name, ty, origin: Origin::PowerMta, kinds: Kinds::of(kinds), star: Kinds::of(star), doc, value }
}

const fn ours(name: &'static str, ty: Type, kinds: &[Kind], star: &[Kind], doc: &'static str, value: Getter) -> Field {
    Field { name, ty, origin: Origin::Carom, kinds: Kinds::of(kinds), star: Kinds::of(star), doc, value }
}

/// Every column there is: PowerMTA's in the order that explains all its samples (reference/accounting.md, 3.1), then
/// Carom's.
pub const FIELDS: &[Field] = &[
    pmta("type", Type::Word, ALL, ALL, "record type: d, b, t, tq, r, rb, rs, f", |e| Value::Text(e.kind.name())),
    pmta("timeLogged", Type::Time, ALL, ALL, "when it happened", |e| Value::Time(e.time)),
    pmta("timeQueued", Type::Time, DBT, DBT, "when the message was spooled", |e| time(e.time_queued)),
    pmta("totalSecondsQueued", Type::Long, DBT, NONE, "whole seconds from reception to this event", |e| {
        if e.time_queued.is_known() { Value::Number(e.time.since(e.time_queued).as_secs()) } else { Value::Absent }
    }),
    pmta(
        "orig",
        Type::Word,
        NOT_TQ,
        NOT_TQ,
        "envelope sender, empty for the null sender; in rb, rs, f: of the original message",
        |e| if matches!(e.kind, D | B | T | R) { Value::Text(e.orig) } else { text(e.orig) },
    ),
    pmta(
        "rcpt",
        Type::Text,
        NOT_TQ,
        NOT_TQ,
        "envelope recipient as given; in rb, rs, f: of the original message",
        |e| text(e.rcpt),
    ),
    pmta("orcpt", Type::Text, &[D, B, T, R, RB, RS], &[D, B, T, R, RB, RS], "ORCPT as given (RFC 3461, 4.2)", |e| {
        text(e.orcpt)
    }),
    pmta(
        "dsnAction",
        Type::Word,
        &[D, B, T, RB, RS],
        &[D, B, T, RS],
        "relayed, delivered, failed, delayed, expanded (RFC 3464, 2.3.3)",
        |e| e.action.map_or(Value::Absent, |a| Value::Text(a.name())),
    ),
    pmta(
        "dsnStatus",
        Type::Word,
        &[D, B, T, TQ, RB, RS],
        &[D, B, T, TQ, RB, RS],
        "enhanced status code and its words: X.Y.Z (text) (RFC 3463)",
        |e| match e.status {
            Some(s) if e.status_text.is_empty() => Value::Status(s, s.description()),
            Some(s) => Value::Status(s, e.status_text),
            None => Value::Absent,
        },
    ),
    pmta(
        "dsnDiag",
        Type::Text,
        &[D, B, T, TQ, RB, RS],
        &[D, B, T, TQ, RB, RS],
        "smtp; and the remote reply, its lines joined by a space (RFC 3464, 2.3.6)",
        |e| text(e.diag),
    ),
    pmta(
        "dsnMta",
        Type::Word,
        &[D, B, T, TQ, RB, RS],
        &[D, B, T, TQ, RB, RS],
        "the remote MTA: host (ip) (RFC 3464, 2.3.5)",
        |e| host(e.mta, e.mta_ip),
    ),
    pmta("dsnReportingMta", Type::Word, &[RB, RS], &[RB], "the MTA that made the report (RFC 3464, 2.2.2)", |e| {
        text(e.reporting_mta)
    }),
    pmta(
        "bounceCat",
        Type::Word,
        &[D, B, T, TQ, RB, RS],
        // A file of d alone has no such column, as header lines that PowerMTA wrote show.
        &[B, T, RB, RS],
        "bounce category: by the producer (suppressed, ...), else by the pattern rules; empty in d",
        |e| text(e.category),
    ),
    pmta("srcType", Type::Word, &[D, B, T, R, RB, RS], &[D, B, T, R, RB, RS], "smtp, api, pickup, internal", |e| {
        e.src_type.map_or(Value::Absent, |t| Value::Text(t.name()))
    }),
    pmta(
        "srcMta",
        Type::Word,
        &[D, B, T, R, RB, RS],
        &[D, B, T, R, RB, RS],
        "who handed it in: EHLO name (ip); in rb, rs: who sent the report",
        |e| host(e.src_mta, e.src_ip),
    ),
    pmta("rcvSourceIp", Type::Ip, &[R], &[R], "address of the submitting client", |e| ip(e.src_ip)),
    pmta("rcvDestinationIp", Type::Ip, &[R], &[R], "our address that the client connected to", |e| ip(e.rcv_ip)),
    pmta("dlvType", Type::Word, &[D, B, T, TQ], &[D, B, T, TQ], "smtp, pipe, discard, file", |e| {
        e.dlv_type.map_or(Value::Absent, |t| Value::Text(t.name()))
    }),
    pmta(
        "dlvSourceIp",
        Type::Ip,
        &[D, B, T, TQ, F],
        &[D, B, T, TQ, F],
        "our address that was used; 0.0.0.0 in tq when none was bound; in f: where the reported message came from",
        |e| match e.dlv_source_ip {
            None if e.kind == TQ => Value::Ip(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
            known => ip(known),
        },
    ),
    pmta("dlvDestinationIp", Type::Ip, &[D, B, T, TQ], &[D, B, T, TQ], "address of the remote MTA", |e| {
        ip(e.dlv_destination_ip)
    }),
    pmta("dlvEsmtpAvailable", Type::List, DBT, DBT, "EHLO keywords of the remote MTA (RFC 5321, 4.1.1.1)", |e| {
        if e.dlv_esmtp.is_empty() { Value::Absent } else { Value::List(e.dlv_esmtp) }
    }),
    pmta("dlvSize", Type::Long, DBT, DBT, "bytes sent; empty in b and t when nothing was", |e| {
        if e.kind == D { Value::Number(e.dlv_size) } else { positive(e.dlv_size) }
    }),
    pmta("vmta", Type::Word, ALL, &[D, B, T, TQ, R], "the VirtualMTA; in r the pool when one was asked for", |e| {
        if e.kind == R && !e.pool.is_empty() { Value::Text(e.pool) } else { text(e.vmta) }
    }),
    pmta("jobId", Type::Word, NOT_TQ, &[D, B, T, R], "job; in rb, rs, f: of the original message", |e| text(e.job)),
    pmta("envId", Type::Word, NOT_TQ, NOT_TQ, "ENVID or its equivalent (RFC 3461, 4.4)", |e| text(e.env_id)),
    pmta("queue", Type::Word, &[D, B, T, TQ, RB, RS, F], &[D, B, T, TQ], "domain/vmta, after roll-up", |e| {
        text(e.queue)
    }),
    pmta("vmtaPool", Type::Word, NOT_TQ, DBT, "the VirtualMTA pool that was chosen", |e| text(e.pool)),
    pmta("format", Type::Word, &[RB, RS, F], &[F], "which parser understood the report: dsn, arf, jmrp, ...", |e| {
        text(e.format)
    }),
    pmta(
        "headers",
        Type::Map,
        NOT_TQ,
        NONE,
        "headers of the (original) message that were kept; CSV: header_NAME",
        |e| {
            if e.headers.is_empty() { Value::Absent } else { Value::Pairs(e.headers) }
        },
    ),
    // The constant of the acct-file; the column puts it in.
    pmta("userString", Type::Word, &[D, B, T, TQ, R], NONE, "user-string of the acct-file", |_| Value::Absent),
    pmta("dlvTlsProtocol", Type::Word, DBT, NONE, "negotiated TLS version", |e| text(e.tls_protocol)),
    pmta("dlvTlsCipher", Type::Word, DBT, NONE, "negotiated TLS cipher suite", |e| text(e.tls_cipher)),
    pmta("rcvSmtpUser", Type::Word, &[D, B, T, R], NONE, "the authenticated user that handed it in", |e| text(e.user)),
    pmta("repSourceIp", Type::Ip, &[F], &[F], "our address that received the report", |e| ip(e.report_ip)),
    pmta("feedbackType", Type::Word, &[F], &[F], "abuse, fraud, virus, not-spam, ... (RFC 5965, 3.1)", |e| {
        text(e.feedback_type)
    }),
    pmta("userAgent", Type::Word, &[F], &[F], "User-Agent of the report (RFC 5965, 3.1)", |e| text(e.user_agent)),
    pmta("reportingMta", Type::Word, &[F], &[F], "Reporting-MTA of the report (RFC 5965, 3.2)", |e| {
        text(e.reporting_mta)
    }),
    pmta("reportedDomain", Type::Word, &[F], &[F], "Reported-Domain (RFC 5965, 3.2)", |e| text(e.reported_domain)),
    pmta("arf", Type::Map, &[F], NONE, "all ARF fields as they stood; CSV: arf_NAME", |e| {
        if e.arf.is_empty() { Value::Absent } else { Value::Pairs(e.arf) }
    }),
    ours("eventId", Type::Text, ALL, ALL, "unique for ever: store id and sequence number, STORE-SEQ", |e| {
        Value::Id(EventId { store: e.store, seq: e.seq })
    }),
    ours(
        "messageId",
        Type::Long,
        NOT_TQ,
        NOT_TQ,
        "the message in its store; in rb, rs, f: the original, if found",
        |e| positive(e.message.0),
    ),
    ours("rcptIndex", Type::Int, NOT_TQ, NOT_TQ, "which recipient of the message, from 0", |e| {
        if e.message.0 == 0 { Value::Absent } else { Value::Number(e.rcpt_index.into()) }
    }),
    ours("attempt", Type::Int, DBT, DBT, "number of the attempt for this recipient, from 1", |e| {
        positive(e.attempt.into())
    }),
    ours("inDoubt", Type::Bool, DBT, DBT, "an earlier attempt may have succeeded without our hearing of it", |e| {
        Value::Bool(e.in_doubt)
    }),
    ours(
        "provider",
        Type::Word,
        ALL,
        ALL,
        "the destination as operators see it: rolled-up queue, else the recipient's domain",
        |e| if e.provider.is_empty() { text(e.rcpt.rsplit_once('@').map_or("", |(_, d)| d)) } else { text(e.provider) },
    ),
    ours(
        "bounceRule",
        Type::Word,
        &[B, T, TQ, RB, RS],
        &[B, T, RB, RS],
        "pattern file and line that decided bounceCat",
        |e| text(e.rule),
    ),
    ours(
        "classifierVersion",
        Type::Word,
        &[B, T, TQ, RB, RS],
        &[B, T, RB, RS],
        "id of the pattern rules it was classified with",
        // `other` without a rule is a verdict, too; other categories without one are the producer's.
        |e| if e.rule.is_empty() && e.category != "other" { Value::Absent } else { Value::Hex(e.rules.0) },
    ),
    ours(
        "suppressedBy",
        Type::Text,
        &[B],
        &[B],
        "for bounceCat suppressed: event id of what suppressed the address; empty when entered by hand",
        |e| {
            if e.suppressed_by == 0 {
                Value::Absent
            } else {
                Value::Id(EventId { store: e.store, seq: e.suppressed_by })
            }
        },
    ),
    ours(
        "attributedBy",
        Type::Word,
        &[RB, RS, F],
        &[RB, RS, F],
        "how the report was tied to what we sent: return-path, header-token, message-id prove it; envelope-id, message-id-alone, headers do not; empty: not at all",
        |e| text(e.attributed_by),
    ),
    ours("timeSent", Type::Time, &[RB, RS, F], &[RB, RS, F], "when the original message was spooled", |e| {
        time(e.time_sent)
    }),
    ours("queueMs", Type::Long, DBT, NONE, "milliseconds from reception to this event", |e| {
        if e.time_queued.is_known() {
            Value::Number(u64::try_from(e.time.since(e.time_queued).as_millis()).unwrap_or(u64::MAX))
        } else {
            Value::Absent
        }
    }),
    ours("replyCode", Type::Int, &[D, B, T, TQ, RB, RS], NONE, "basic reply code (RFC 5321, 4.2)", |e| {
        e.reply_code().map_or(Value::Absent, |c| Value::Number(c.into()))
    }),
    ours("enhancedStatus", Type::Word, &[D, B, T, TQ, RB, RS], NONE, "dsnStatus without the words", |e| {
        e.status.map_or(Value::Absent, Value::Code)
    }),
    ours(
        "smtpStage",
        Type::Word,
        &[D, B, T, TQ],
        NONE,
        "how far the dialogue had come: connect, ehlo, mail, rcpt, data, eod",
        |e| e.stage.map_or(Value::Absent, |s| Value::Text(s.name())),
    ),
    ours("dsnMtaHost", Type::Word, &[D, B, T, TQ, RB, RS], NONE, "the name in dsnMta", |e| text(e.mta)),
    ours("dsnMtaIp", Type::Ip, &[D, B, T, TQ, RB, RS], NONE, "the address in dsnMta", |e| ip(e.mta_ip)),
    ours("latencyMs", Type::Long, &[RB, RS, F], NONE, "milliseconds from timeSent to the arrival of the report", |e| {
        if e.time_sent.is_known() {
            Value::Number(u64::try_from(e.time.since(e.time_sent).as_millis()).unwrap_or(u64::MAX))
        } else {
            Value::Absent
        }
    }),
    ours(
        "list",
        Type::Word,
        NOT_TQ,
        &[F],
        "the mailing list that the mail belongs to; in feedbackType opt-out-list: the one that was left",
        |e| text(e.list),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn shown(name: &str, event: &Event<'_>) -> String {
        let mut out = Vec::new();
        (Field::by_name(name).unwrap().value)(event).push_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn star(kind: Kind) -> String {
        Field::star(kind).iter().map(|f| f.name).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn names_are_unique_whatever_their_case_and_ours_come_last() {
        for (i, f) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..i].iter().all(|g| !g.name.eq_ignore_ascii_case(f.name)), "{}", f.name);
            assert!(!f.doc.is_empty() && !f.kinds.is_empty(), "{}", f.name);
            assert!(f.star.iter().all(|k| f.kinds.contains(k)), "{}: in * of a type that can't carry it", f.name);
        }
        assert!(FIELDS.is_sorted_by_key(|f| f.origin == Origin::Carom));
    }

    #[test]
    fn the_star_set_is_what_the_sample_records_contain() {
        let dbt = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,\
                   srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool";
        assert_eq!(star(D), dbt.replace("bounceCat,", ""));
        assert_eq!(star(B), dbt);
        assert_eq!(star(T), dbt);
        assert_eq!(
            star(TQ),
            "type,timeLogged,dsnStatus,dsnDiag,dsnMta,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue"
        );
        assert_eq!(
            star(R),
            "type,timeLogged,orig,rcpt,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,vmta,jobId,envId"
        );
        assert_eq!(
            star(RB),
            "type,timeLogged,orig,rcpt,orcpt,dsnStatus,dsnDiag,dsnMta,dsnReportingMta,bounceCat,srcType,srcMta,envId"
        );
        assert!(star(F).starts_with("type,timeLogged,format,userAgent,envId,orig,rcpt,reportingMta,dlvSourceIp"));
    }

    #[test]
    fn composed_values_read_as_in_the_samples() {
        let e = Event {
            status: EnhancedStatus::new(5, 1, 1),
            mta: "mx.example.net",
            mta_ip: Some(Ipv4Addr::new(198, 51, 100, 8).into()),
            src_ip: Some("2001:db8::5".parse().unwrap()),
            diag: "smtp;550 5.1.1 no such user",
            time_queued: Time::from_secs(5),
            ..Event::new(B, Time(7_900_000))
        };
        assert_eq!(shown("DSNSTATUS", &e), "5.1.1 (bad destination mailbox address)");
        assert_eq!(shown("dsnMta", &e), "mx.example.net (198.51.100.8)");
        assert_eq!(shown("srcMta", &e), "[2001:db8::5] (2001:db8::5)");
        assert_eq!(shown("enhancedStatus", &e), "5.1.1");
        assert_eq!(shown("replyCode", &e), "550");
        assert_eq!(shown("queueMs", &e), "2900");
        assert_eq!(shown("totalSecondsQueued", &e), "2");
        assert_eq!(shown("suppressedBy", &e), "");
        let own_words =
            Event { status_text: "specified VirtualMTA does not exist", status: EnhancedStatus::new(5, 3, 5), ..e };
        assert_eq!(shown("dsnStatus", &own_words), "5.3.5 (specified VirtualMTA does not exist)");
        assert_eq!(shown("dlvSourceIp", &Event { kind: TQ, ..e }), "0.0.0.0");
        assert_eq!(shown("vmta", &Event { kind: R, vmta: "v", pool: "p", ..e }), "p");
    }

    #[test]
    fn numbers_and_ids_are_written_in_full() {
        let mut out = Vec::new();
        Value::Number(u64::MAX).push_text(&mut out);
        out.push(b' ');
        Value::Id(EventId { store: super::super::StoreId(0xab), seq: 40 }).push_text(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "18446744073709551615 00000000000000ab-40");
    }
}
