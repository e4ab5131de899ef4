//! The header section of a submitted message: read once, completed, and rid of what was meant for us.
//!
//! Reads the headers of reference/submission.md, section 3 (`x-job`, `x-envid`, `x-virtual-mta`, the `jobid-header`),
//! `x-unsubscribe-list`, the `list-id-header`, List-Id, Message-ID and those that accounting keeps; counts Received; puts
//! Received (RFC 5321, 4.4), Message-ID and Date in
//! front where the source asks for it. Everything else passes through unchanged, octet by octet.
//!
//! Received fields above `max-message-hops` mean a loop (RFC 5321, 6.3): the message is refused. Mail that goes round
//! through this very server is caught by the same count, since each round adds one; where `add-received-header` is off,
//! only the other hosts of the loop add to it.
//!
//! The header section ends at the first empty line. Where it breaks off at a line that is no header field, an empty line
//! is put in, so that whoever reads the message next sees the same header section as we did.

use std::net::IpAddr;

use crate::config::Source;
use crate::config::unsubscribe;
use crate::event::record::PairsBuf;
use crate::event::unsubscribe_token::MAX_LIST;
use crate::event::{MessageId, Time, plain};
use crate::smtp::answer::Answer;

use super::list_name::list_name;

/// Bytes of a header value that are kept with each event.
const MAX_KEPT: usize = 1024;
/// Bytes of a job, an envelope id or a VirtualMTA name.
const MAX_WORD: usize = 255;

/// Why a message is refused for its headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// More Received fields than `max-message-hops`.
    #[error("too many hops ({0}), mail loop suspected")]
    TooManyHops(u32),
    /// A header that we act on does not hold one printable word.
    #[error("{0} must be up to 255 printable characters without blanks")]
    NotAWord(String),
    /// X-Unsubscribe-List does not name a list.
    #[error("x-unsubscribe-list must be up to {MAX_LIST} printable characters without blanks")]
    NotAList,
    /// A header that may stand once stands twice.
    #[error("{0} is given more than once")]
    Repeated(&'static str),
}

impl HeaderError {
    /// The reply after the final dot.
    pub fn answer(&self) -> Answer {
        match self {
            HeaderError::TooManyHops(_) => Answer::with(554, "5.4.6", self.to_string()),
            HeaderError::NotAWord(_) | HeaderError::NotAList | HeaderError::Repeated(_) => {
                Answer::with(550, "5.6.0", self.to_string())
            }
        }
    }
}

/// What is stamped on a message when it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The submitter's name for itself and its address; `None` where there is no SMTP client.
    pub from: Option<(&'a str, IpAddr)>,
    /// Our name.
    pub by: &'a str,
    /// `ESMTPSA` and its kin (RFC 3848), `HTTP`, `PICKUP`.
    pub with: &'a str,
    /// The message's id.
    pub id: MessageId,
    /// The recipient, if there is only one: of several, none may learn of the others (RFC 5321, 7.2).
    pub rcpt: Option<&'a str>,
    /// When.
    pub now: Time,
}

/// What the header section said, and the content as it is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processed {
    /// The content.
    pub body: Vec<u8>,
    /// `x-job`, else the `jobid-header`; empty when there is none.
    pub job: String,
    /// `x-envid`.
    pub env_id: String,
    /// `x-virtual-mta`; `Some("")` when it stands there without a value.
    pub virtual_mta: Option<String>,
    /// The mailing list: `x-unsubscribe-list`, else the `list-id-header`, else what stands in the brackets of List-Id
    /// (RFC 2919); empty when none is named.
    pub list: String,
    /// It has an `x-unsubscribe-list`.
    pub asks_to_unsubscribe: bool,
    /// List-Unsubscribe may be added: it has none of its own, and no signature says that it has none.
    pub lets_unsubscribe: bool,
    /// Message-ID without brackets, ours if we added one.
    pub message_id: String,
    /// The first field of each kept name, with the name as it stood there.
    pub kept: PairsBuf,
}

/// One header field: where it begins and ends (line end included), and what it is.
struct Field<'a> {
    begin: usize,
    end: usize,
    name: &'a str,
    value: &'a [u8],
}

/// The field at `begin`; `None` when there is none: an empty line, the end, or a line that is no field.
fn field(content: &[u8], begin: usize) -> Option<Field<'_>> {
    let line_end = |from: usize| memchr::memchr(b'\n', &content[from..]).map_or(content.len(), |n| from + n + 1);
    let mut end = line_end(begin);
    let colon = begin + memchr::memchr(b':', &content[begin..end])?;
    // RFC 5322, 4.5: obsolete syntax has blanks before the colon.
    let name = content[begin..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    while matches!(content.get(end), Some(b' ' | b'\t')) {
        end = line_end(end);
    }
    Some(Field { begin, end, name: std::str::from_utf8(name).ok()?, value: &content[colon + 1..end] })
}

/// The value on one line, trimmed, at most `max` bytes; octets that are not UTF-8 replaced.
fn unfolded(value: &[u8], max: usize) -> String {
    let mut text = String::from_utf8_lossy(value).replace(['\r', '\n'], "");
    if text.len() > 2 * max {
        text.truncate(text.floor_char_boundary(2 * max));
    }
    let mut text = text.trim().to_owned();
    text.truncate(text.floor_char_boundary(max));
    text
}

fn word(field: &Field<'_>) -> Result<String, HeaderError> {
    let word = unfolded(field.value, MAX_WORD + 1);
    if !word.is_empty() && word.len() <= MAX_WORD && word.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(word)
    } else {
        Err(HeaderError::NotAWord(field.name.chars().take(64).collect()))
    }
}

/// The list that a field of the manner of List-Id names; what is no name is not ours to judge.
fn list_of(field: &Field<'_>) -> String {
    unsubscribe::list_name(list_name(&unfolded(field.value, MAX_KEPT))).unwrap_or_default().to_owned()
}

/// Reads and completes `content`, which has CRLF line ends. `kept` are lower-cased names.
pub fn process(content: &[u8], source: &Source, kept: &[String], stamp: &Stamp<'_>) -> Result<Processed, HeaderError> {
    let mut found = Processed { lets_unsubscribe: true, ..Processed::default() };
    let (mut at, mut hops, mut has_date, mut has_message_id) = (0, 0u32, false, false);
    let (mut x_job, mut other_job) = (None, None);
    let (mut list_id, mut other_list) = (String::new(), String::new());
    let mut removed: Vec<(usize, usize)> = Vec::new();
    let mut seen = vec![false; kept.len()];
    while at < content.len() {
        let Some(field) = field(content, at) else { break };
        at = field.end;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let mut remove = false;
        if is("received") {
            hops += 1;
        } else if is("message-id") {
            if !std::mem::replace(&mut has_message_id, true) {
                found.message_id = message_id(&unfolded(field.value, MAX_KEPT)).to_owned();
            }
        } else if is("date") {
            has_date = true;
        } else if is("list-id") && list_id.is_empty() {
            list_id = list_of(&field);
        } else if is("x-job") && source.process_x_job {
            if x_job.replace(word(&field)?).is_some() {
                return Err(HeaderError::Repeated("x-job"));
            }
            remove = !source.retain_x_job;
        } else if is("x-envid") && source.process_x_envid {
            if !std::mem::replace(&mut found.env_id, word(&field)?).is_empty() {
                return Err(HeaderError::Repeated("x-envid"));
            }
            remove = true;
        } else if is("x-unsubscribe-list") {
            if std::mem::replace(&mut found.asks_to_unsubscribe, true) {
                return Err(HeaderError::Repeated("x-unsubscribe-list"));
            }
            found.list =
                unsubscribe::list_name(&unfolded(field.value, MAX_WORD + 1)).ok_or(HeaderError::NotAList)?.to_owned();
            // It is meant for us, and nobody else is to learn how it is called here.
            remove = true;
        } else if is("list-unsubscribe") || is("list-unsubscribe-post") {
            found.lets_unsubscribe = false;
        } else if is("dkim-signature") {
            found.lets_unsubscribe &= !signs_absence(&unfolded(field.value, 16 * MAX_KEPT));
        } else if is("x-virtual-mta") && source.process_x_virtual_mta {
            // Of several, the first one counts; none of them leaves the house.
            if found.virtual_mta.is_none() {
                found.virtual_mta = Some(unfolded(field.value, MAX_WORD));
            }
            remove = !source.retain_x_virtual_mta;
        }
        if other_job.is_none() && source.jobid_header.as_deref().is_some_and(is) {
            other_job = Some(word(&field)?);
        }
        if other_list.is_empty() && source.list_id_header.as_deref().is_some_and(is) {
            other_list = list_of(&field);
        }
        if let Some(n) = kept.iter().position(|k| is(k))
            && !std::mem::replace(&mut seen[n], true)
        {
            let value = unfolded(field.value, MAX_KEPT);
            let value = plain(&value);
            found.kept.push(field.name, &value[..value.floor_char_boundary(MAX_KEPT)]);
        }
        if remove {
            removed.push((field.begin, field.end));
        }
    }
    if hops > source.max_message_hops {
        return Err(HeaderError::TooManyHops(hops));
    }
    found.job = x_job.or(other_job).unwrap_or_default();
    if found.list.is_empty() {
        found.list = if other_list.is_empty() { list_id } else { other_list };
    }

    let mut body = Vec::with_capacity(content.len() + 512);
    if source.add_received_header {
        received(&mut body, source.hide_message_source, stamp);
    }
    if source.add_message_id_header && !has_message_id {
        found.message_id = format!("{:x}.{}@{}", stamp.now.0, stamp.id, stamp.by);
        body.extend_from_slice(format!("Message-ID: <{}>\r\n", found.message_id).as_bytes());
    }
    if source.add_date_header && !has_date {
        body.extend_from_slice(format!("Date: {}\r\n", date(stamp.now)).as_bytes());
    }
    let mut from = 0;
    for (begin, end) in removed {
        body.extend_from_slice(&content[from..begin]);
        from = end;
    }
    body.extend_from_slice(&content[from..at]);
    let rest = &content[at..];
    if !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(rest);
    found.body = body;
    Ok(found)
}

/// Whether a DKIM signature names List-Unsubscribe among what it signs (RFC 6376, 3.5, `h=`): then one that is added behind
/// it would break it.
fn signs_absence(signature: &str) -> bool {
    let tags = signature.split(';').filter_map(|tag| tag.split_once('='));
    let mut signed =
        tags.filter(|(name, _)| name.trim().eq_ignore_ascii_case("h")).flat_map(|(_, names)| names.split(':'));
    signed.any(|name| {
        let name = name.trim();
        name.eq_ignore_ascii_case("list-unsubscribe") || name.eq_ignore_ascii_case("list-unsubscribe-post")
    })
}

/// What stands in the brackets, or the whole when there are none.
fn message_id(value: &str) -> &str {
    let inside = value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(id, _)| id);
    inside.trim()
}

fn received(out: &mut Vec<u8>, hide: bool, stamp: &Stamp<'_>) {
    let mut text = String::with_capacity(256);
    text.push_str("Received: ");
    if let Some((name, ip)) = stamp.from.filter(|_| !hide) {
        // RFC 5321, 4.1.3: an IPv6 literal has a tag.
        let tag = if ip.is_ipv6() { "IPv6:" } else { "" };
        text.push_str(&format!("from {name} ([{tag}{ip}])\r\n\t"));
    }
    text.push_str(&format!("by {} with {} id {}", stamp.by, stamp.with, stamp.id));
    if let Some(rcpt) = stamp.rcpt {
        text.push_str(&format!("\r\n\tfor <{rcpt}>"));
    }
    text.push_str(&format!(";\r\n\t{}\r\n", date(stamp.now)));
    out.extend_from_slice(text.as_bytes());
}

/// RFC 5322, 3.3, in UTC.
fn date(now: Time) -> String {
    let utc = now.timestamp().unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    // Fails only for years below zero, which no clock gives.
    jiff::fmt::rfc2822::to_string(&utc).unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp<'static> {
        Stamp {
            from: Some(("feeder.example", "192.0.2.5".parse().unwrap())),
            by: "mx.example.com",
            with: "ESMTP",
            id: MessageId(7),
            rcpt: Some("ann@example.net"),
            now: Time::from_secs(1_714_550_400),
        }
    }

    fn quiet() -> Source {
        Source { add_received_header: false, ..Source::default() }
    }

    fn run(content: &str, source: &Source, kept: &[&str]) -> Result<Processed, HeaderError> {
        let kept: Vec<_> = kept.iter().map(|s| (*s).to_owned()).collect();
        process(content.as_bytes(), source, &kept, &stamp())
    }

    #[test]
    fn received_says_who_gave_it_to_whom_and_when() {
        let p = run("Subject: x\r\n\r\nhi\r\n", &Source::default(), &[]).unwrap();
        assert_eq!(
            String::from_utf8(p.body).unwrap(),
            "Received: from feeder.example ([192.0.2.5])\r\n\tby mx.example.com with ESMTP id 7\r\n\
             \tfor <ann@example.net>;\r\n\tWed, 1 May 2024 08:00:00 +0000\r\nSubject: x\r\n\r\nhi\r\n"
        );
        let hidden = Source { hide_message_source: true, ..Source::default() };
        let p = run("Subject: x\r\n\r\n", &hidden, &[]).unwrap();
        assert!(p.body.starts_with(b"Received: by mx.example.com with"));
    }

    #[test]
    fn our_headers_are_read_and_taken_out() {
        let source = Source { process_x_job: true, process_x_envid: true, process_x_virtual_mta: true, ..quiet() };
        let content = "X-Job: spring\r\nFrom: a@b.example\r\nx-virtual-mta:\r\n vmta1\r\nX-EnvId: e-1\r\nSubject: s\r\n\r\nX-Job: body\r\n";
        let p = run(content, &source, &["x-job", "subject"]).unwrap();
        assert_eq!((p.job.as_str(), p.env_id.as_str(), p.virtual_mta.as_deref()), ("spring", "e-1", Some("vmta1")));
        assert_eq!(p.body, b"From: a@b.example\r\nSubject: s\r\n\r\nX-Job: body\r\n");
        let kept: Vec<_> = p.kept.as_pairs().iter().collect();
        assert_eq!(kept, [("X-Job", "spring"), ("Subject", "s")]);

        let retain = Source { retain_x_job: true, retain_x_virtual_mta: true, ..source };
        let p = run(content, &retain, &[]).unwrap();
        assert!(p.body.starts_with(b"X-Job: spring\r\nFrom: a@b.example\r\nx-virtual-mta:\r\n vmta1\r\nSubject"));
    }

    #[test]
    fn what_is_not_processed_stays_and_means_nothing() {
        let content = "X-Job: two words\r\nX-EnvID: e\r\nX-Virtual-MTA: v\r\n\r\n";
        let p = run(content, &quiet(), &[]).unwrap();
        assert_eq!((p.job.as_str(), p.env_id.as_str(), p.virtual_mta), ("", "", None));
        assert_eq!(p.body, content.as_bytes());
    }

    #[test]
    fn a_job_is_one_printable_word_given_once() {
        let source = Source { process_x_job: true, ..quiet() };
        for bad in ["two words", "", "jöb", &"x".repeat(256)] {
            let error = run(&format!("X-Job: {bad}\r\n\r\n"), &source, &[]).unwrap_err();
            assert_eq!(error.answer().code, 550, "{bad}");
        }
        assert_eq!(run("X-Job: a\r\nX-Job: b\r\n\r\n", &source, &[]), Err(HeaderError::Repeated("x-job")));
    }

    #[test]
    fn another_header_gives_the_job_when_x_job_does_not() {
        let source = Source { process_x_job: true, jobid_header: Some("X-Campaign".into()), ..quiet() };
        let p = run("X-Campaign: c1\r\n\r\n", &source, &[]).unwrap();
        assert_eq!((p.job.as_str(), p.body.as_slice()), ("c1", b"X-Campaign: c1\r\n\r\n".as_slice()));
        assert_eq!(run("X-Campaign: c1\r\nX-Job: j\r\n\r\n", &source, &[]).unwrap().job, "j");
    }

    #[test]
    fn an_envelope_id_is_given_once_and_of_several_virtual_mtas_the_first_counts() {
        let source = Source { process_x_envid: true, process_x_virtual_mta: true, ..quiet() };
        assert_eq!(run("X-Envid: a\r\nX-EnvID: b\r\n\r\n", &source, &[]), Err(HeaderError::Repeated("x-envid")));
        let p = run("X-Virtual-MTA: a\r\nX-Virtual-MTA: b\r\n\r\n", &source, &[]).unwrap();
        assert_eq!((p.virtual_mta.as_deref(), p.body.as_slice()), (Some("a"), b"\r\n".as_slice()));
    }

    #[test]
    fn the_list_is_named_by_our_header_which_is_taken_out_or_by_list_id_which_stays() {
        let p =
            run("List-Id: News of \"x\"\r\n <News.example.com>\r\nX-Unsubscribe-List: weekly\r\n\r\n", &quiet(), &[])
                .unwrap();
        assert_eq!((p.list.as_str(), p.asks_to_unsubscribe, p.lets_unsubscribe), ("weekly", true, true));
        assert_eq!(p.body, b"List-Id: News of \"x\"\r\n <News.example.com>\r\n\r\n");
        let p = run("List-Id: News of \"x\"\r\n <News.example.com>\r\n\r\n", &quiet(), &[]).unwrap();
        assert_eq!((p.list.as_str(), p.asks_to_unsubscribe), ("News.example.com", false));
        let p = run("List-Id: no name at all\r\nSubject: s\r\n\r\n", &quiet(), &[]).unwrap();
        assert_eq!(p.list, "");
        for bad in ["two words", "", &"x".repeat(101)] {
            let error = run(&format!("X-Unsubscribe-List: {bad}\r\n\r\n"), &quiet(), &[]).unwrap_err();
            assert_eq!(error, HeaderError::NotAList, "{bad}");
        }
        let twice = "X-Unsubscribe-List: a\r\nX-Unsubscribe-List: b\r\n\r\n";
        assert_eq!(run(twice, &quiet(), &[]), Err(HeaderError::Repeated("x-unsubscribe-list")));
    }

    #[test]
    fn fields_of_its_own_and_signatures_over_their_absence_are_seen() {
        for (content, lets) in [
            ("Subject: s\r\n\r\nList-Unsubscribe: in the text\r\n", true),
            ("List-Unsubscribe: <https://a.example/>\r\n\r\n", false),
            ("list-unsubscribe-post: List-Unsubscribe=One-Click\r\n\r\n", false),
            ("DKIM-Signature: v=1; a=rsa-sha256; h=From:Subject\r\n :Date; b=list-unsubscribe\r\n\r\n", true),
            ("DKIM-Signature: v=1; h=From:Subject:\r\n\tList-Unsubscribe :Date; b=x\r\n\r\n", false),
        ] {
            assert_eq!(run(content, &quiet(), &[]).unwrap().lets_unsubscribe, lets, "{content}");
        }
    }

    #[test]
    fn a_message_that_went_round_too_often_is_refused() {
        let source = Source { max_message_hops: 2, ..quiet() };
        let hops = |n: usize| "Received: from a\r\n\tby b\r\n".repeat(n) + "\r\nReceived: not a header\r\n";
        assert!(run(&hops(2), &source, &[]).is_ok());
        let error = run(&hops(3), &source, &[]).unwrap_err();
        assert_eq!((error.answer().code, error.answer().status), (554, "5.4.6"));
    }

    #[test]
    fn message_id_and_date_are_added_only_where_they_are_missing() {
        let source = Source { add_message_id_header: true, add_date_header: true, ..quiet() };
        let p = run("Subject: x\r\n\r\n", &source, &[]).unwrap();
        let text = String::from_utf8(p.body).unwrap();
        assert!(text.starts_with(&format!("Message-ID: <{}>\r\nDate: Wed, 1 May 2024", p.message_id)), "{text}");
        let full = "date: today\r\nMessage-Id: <a.b@c>\r\n\r\n";
        let p = run(full, &source, &[]).unwrap();
        assert_eq!((p.body.as_slice(), p.message_id.as_str()), (full.as_bytes(), "a.b@c"));
    }

    #[test]
    fn a_message_without_header_section_gets_an_end_for_ours() {
        let p = run("Hello\r\nX-Job: 1\r\n", &Source { process_x_job: true, ..Source::default() }, &[]).unwrap();
        let text = String::from_utf8(p.body).unwrap();
        assert!(text.ends_with("+0000\r\n\r\nHello\r\nX-Job: 1\r\n"), "{text}");
        assert_eq!(p.job, "");
        assert!(run("", &quiet(), &[]).unwrap().body.is_empty());
    }

    #[test]
    fn kept_headers_are_unfolded_bounded_and_the_first_counts() {
        let long = "ü".repeat(2000);
        let content = format!("Subject: a\r\n b\u{1b}[2J\u{202e}\r\nSUBJECT: c\r\nX-Long: {long}\r\n\r\n");
        let p = run(&content, &quiet(), &["subject", "x-long", "none"]).unwrap();
        assert_eq!(p.kept.as_pairs().get("subject"), Some("a b\u{fffd}[2J\u{fffd}"));
        assert_eq!(p.kept.as_pairs().get("x-long").unwrap().len(), 1024);
        assert_eq!(p.kept.as_pairs().iter().count(), 2);
    }

    proptest! {
        #[test]
        fn no_content_panics_and_nothing_is_lost_that_is_not_ours(
            content in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'x'), any::<u8>()], 0..200),
        ) {
            let source = Source { max_message_hops: u32::MAX, ..quiet() };
            let p = process(&content, &source, &["x".into()], &stamp()).unwrap();
            // Unchanged, or an empty line was put in.
            let added = p.body.len() - content.len();
            prop_assert!(added == 0 || added == 2);
            prop_assert!(added == 2 || p.body == content);
        }
    }
}
