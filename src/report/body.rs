//! Bounces without a machine-readable part: qmail, Exim, old sendmail and the many that write an address and a reply
//! into a text. Also what a text can add to a DSN that leaves things out.
//!
//! Only mails whose header shows that a mail system wrote them come here ([`Signs::of_a_bounce`]); only the text before
//! the returned message counts, and of that a bounded number of lines.

use std::cell::OnceCell;

use crate::event::{Action, Address, Reply};

use super::dsn;
use super::kind::{MAX_RESULTS, RcptResult, Recognised};
use super::legacy::general::{LIKELY, SURE};
use super::legacy::{BOOK, Looks};
use super::mime::Mail;
use super::returned::{RETURNED_PARTS, returned};
use super::signs::Signs;
use super::values;
use super::words::Seen;

/// Lines of text read.
const MAX_LINES: usize = 20_000;
/// Bytes of a reason kept.
const MAX_REASON: usize = 2048;

/// Bytes of prose kept where there is nothing better.
const MAX_SENTENCES: usize = 400;

/// Bytes of the text in which words are looked for.
const MAX_LOWER: usize = 16 << 10;

/// How a report begins that says so nowhere in its header, lower-cased.
pub(super) const OPENINGS: &[&str] = &[
    "could not be delivered",
    "couldn't be delivered",
    "could not deliver",
    "cannot be delivered",
    "can not be delivered",
    "was not delivered",
    "were not delivered",
    "has not been delivered",
    "wasn't delivered",
    "unable to deliver",
    "not able to deliver",
    "failed to deliver",
    "delivery failed",
    "delivery has failed",
    "delivery to the following",
    "did not reach",
    "undeliverable",
    "undelivered",
    "failed recipient",
    "failed address",
    "non-delivery report",
    "has been returned",
    "is being returned",
    "was rejected by",
    "blocked by our",
    "delivery of email",
    "konnte nicht zugestellt",
    "nicht zugestellt werden",
    "unzustellbar",
    "pas pu \u{ea}tre",
    "pas pu etre",
    "n'a pas \u{e9}t\u{e9} remis",
    "no se ha podido entregar",
    "no pudo ser entregado",
    "no se pudo entregar",
    "non \u{e8} stato possibile",
    "impossibile recapitare",
    "n\u{e3}o p\u{f4}de ser entregue",
    "nao pode ser",
    "n\u{e3}o foi entregue",
    "kon niet worden bezorgd",
    "niet worden afgeleverd",
    "nie mo\u{17c}na dostarczy\u{107}",
    "nie zosta\u{142}a dostarczona",
    "kunde inte levereras",
    "kunne ikke leveres",
    "\u{43d}\u{435} \u{434}\u{43e}\u{441}\u{442}\u{430}\u{432}\u{43b}\u{435}\u{43d}",
    "\u{43d}\u{435} \u{43c}\u{43e}\u{436}\u{435}\u{442} \u{431}\u{44b}\u{442}\u{44c} \u{434}\u{43e}\u{441}\u{442}\u{430}\u{432}\u{43b}\u{435}\u{43d}",
    "\u{914d}\u{4fe1}\u{3067}\u{304d}\u{307e}\u{305b}\u{3093}",
    "\u{9001}\u{4fe1}\u{3067}\u{304d}\u{307e}\u{305b}\u{3093}",
    "\u{5c4a}\u{3051}\u{3089}\u{308c}",
    "\u{65e0}\u{6cd5}\u{6295}\u{9012}",
    "\u{9000}\u{4fe1}",
    "\u{672a}\u{80fd}\u{6295}\u{9012}",
];

/// Words that say somebody gave up, lower-cased.
pub(super) const GAVE_UP: &[&str] = &[
    "giving up",
    "gave up",
    "permanent",
    "fatal error",
    "could not be delivered",
    "couldn't be delivered",
    "not be delivered to",
    "unable to deliver",
    "undeliverable",
    "not delivered",
    "delivery failed",
    "failed to deliver",
    "user unknown",
    "unknown user",
    "no such user",
    "has been returned",
    "is being returned",
    "returned to sender",
    "delivery has failed",
    "was rejected",
    "rejected your message",
    "delivery to the following",
    "can't be delivered",
    "cannot be delivered",
    "did not reach",
    "failed",
];

/// Words that say nobody tries again, lower-cased; what else says that somebody failed is said of delays as well.
pub(super) const FOR_GOOD: &[&str] = &[
    "giving up",
    "given up",
    "gave up",
    "permanent error",
    "permanent failure",
    "permanent fatal",
    "failed permanently",
    "fatal error",
    "returned to sender",
    "has been returned",
    "is being returned",
    "no further",
    "not going to try",
    "will not be retried",
    "will be deleted",
];

/// Words that say somebody is still trying, lower-cased.
pub(super) const STILL_TRYING: &[&str] = &[
    "will continue to try",
    "will continue trying",
    "will be retried",
    "still being retried",
    "do not need to resend",
    "warning message only",
    "keep trying",
    "will try again",
    "has not been delivered yet",
    "not yet been delivered",
    "has been delayed",
    "will retry",
    "no action is required",
    "delivery attempts will continue",
    "not been able to deliver your message yet",
    "continue to be made",
    "attempts will continue",
    "will be retried",
    "is still awaiting delivery",
    "only a temporary failure",
    "do not need to re-send",
    "do not need to send it again",
    "has been postponed",
    "additional attempts will be made",
];

/// Labels that a line may have before an address it reports on, lower-cased.
const LABELS: &[&str] = &[
    "recipient",
    "to:",
    "rcpt to",
    "failed",
    "address",
    "user",
    "mailbox",
    "deliver to",
    "delivered to",
    "delivery to",
    "unknown",
    "not found",
    "sent to",
    "could not",
    "couldn't",
    "your message to",
    "mail to",
    "message for",
    "for ",
    "invalid",
    "undeliverable",
    "unable to deliver",
];

/// Labels of addresses that are not the recipient's, lower-cased.
const NOT_LABELS: &[&str] = &[
    "from",
    "reply",
    "sender",
    "contact",
    "cc",
    "support",
    "help",
    "postmaster",
    "von:",
    "de:",
    "von :",
    "mail from",
    "e-mail us",
    "admin",
    "abuse",
    "subject",
    "message-id",
    "return-path",
    "envelope-from",
];

/// Reads a mail's text as a bounce or a delay notice; `None` when it is none.
pub(super) fn read(mail: &Mail<'_>, signs: Signs) -> Option<Recognised> {
    // Of ordinary mail the text is not even decoded.
    let read = OnceCell::new();
    let read = || -> &(String, Seen) {
        read.get_or_init(|| {
            let human = mail.human();
            let lower = human[..human.floor_char_boundary(MAX_LOWER)].to_lowercase();
            let seen = BOOK.words_of(&lower);
            (lower, seen)
        })
    };
    let looks = Looks { mail, signs, from: mail.lower_from(), subject: mail.lower_subject() };
    let family = BOOK.family(&looks, &mut || read().1);
    let known = matches!(family, Some((_, true)));
    let family = family.map(|(family, _)| family);
    // Where nothing but the subject and the first words tell, a recipient must stand in its place as well.
    let by_opening = !known && !signs.of_a_bounce();
    if by_opening && !(signs.subject_of_failure() && !signs.auto_reply && opens_as_failure(read(), signs)) {
        return None;
    }
    let human = mail.human();
    let seen = read().1;
    let gave_up = seen.any(BOOK.gave_up.clone());
    let trying = seen.any(BOOK.still_trying.clone());
    // What a mail system returns with words of another language is returned all the same.
    let sent_back = signs.machine && mail.part(RETURNED_PARTS).is_some();
    let opens = || seen.any(BOOK.openings.clone()) || values::reply_in(human).is_some();
    let said = signs.subject_bounce || signs.subject_delay || gave_up || trying || sent_back || known || opens();
    if !said || signs.auto_reply && !signs.subject_bounce && !signs.declared && !signs.machine {
        return None;
    }
    let section = family.map_or(human, |f| f.section(human));
    let mut results = family.map(|f| f.results(section)).unwrap_or_default();
    if results.is_empty() {
        results = reported(section);
    }
    if let Some(failed) = mail.header.first("x-failed-recipients") {
        named_in_header(&mut results, failed);
    }
    if results.is_empty() {
        results = SURE.results(human);
    }
    if results.is_empty() {
        results = labelled(human, mail);
    }
    // The report on a report of another system says nothing itself.
    if results.is_empty()
        && signs.machine
        && !mail.nested
        && let Some(inner) = mail.part(&["message/rfc822"])
        && let Some(read) = super::kind::nested(&inner.bytes())
    {
        return Some(read);
    }
    if results.is_empty() {
        results = LIKELY.results(human);
    }
    if results.is_empty() {
        results = beside_a_reply(human, mail);
    }
    if results.is_empty() && !by_opening {
        results = the_only_one(human, mail);
    }
    without_addressee(&mut results, mail);
    if results.is_empty() && by_opening {
        return None;
    }
    let original = returned(mail);
    if results.is_empty() {
        let to = original.header("to").or_else(|| original.header("x-original-to")).unwrap_or("");
        let mut to = values::addresses(to);
        let rcpt = match (to.next(), to.next()) {
            (Some(one), None) => one.to_owned(),
            _ => String::new(),
        };
        // Nothing but a subject to go by is not enough.
        if rcpt.is_empty() && values::reply_in(human).is_none() && original.message_id.is_empty() {
            return None;
        }
        results.push(RcptResult { rcpt, ..RcptResult::default() });
    }
    // A reply says more than the prose that stands nearest to the address.
    let prose: Vec<String> = results
        .iter_mut()
        .map(|r| if r.reply_code().is_none() { std::mem::take(&mut r.diag) } else { String::new() })
        .collect();
    fill_from_text(&mut results, section, mail);
    for (result, prose) in results.iter_mut().zip(prose) {
        if result.diag.is_empty() {
            result.diag = prose;
        }
    }
    explain(&mut results, human);
    let for_good = seen.any(BOOK.for_good.clone());
    let delayed = (trying || signs.subject_delay) && !(for_good && signs.subject_bounce && !signs.subject_delay);
    for r in &mut results {
        let class = r.reply_code().map(|c| c / 100).or(r.status.map(|s| u16::from(s.class)));
        r.action = Some(match class {
            Some(2) if !gave_up => Action::Delivered,
            Some(5) => Action::Failed,
            _ if delayed => Action::Delayed,
            _ => Action::Failed,
        });
    }
    let format = family.map_or("text", |f| f.name);
    Some(Recognised { kind: dsn::kind(&results), format, results, original, ..Recognised::default() })
}

/// Whether the text begins by saying that a mail was not delivered. Under `Re:` or `Fwd:` it must say so at once: what a
/// person writes about a bounce stands above the bounce.
fn opens_as_failure((lower, seen): &(String, Seen), signs: Signs) -> bool {
    let opening = &lower[..lower.floor_char_boundary(if signs.answered { 160 } else { 700 })];
    seen.any(BOOK.openings.clone()) && !opening.contains("\n>") && OPENINGS.iter().any(|p| opening.contains(p))
}

/// Leaves out the one the report was sent to, where somebody else is named.
fn without_addressee(results: &mut Vec<RcptResult>, mail: &Mail<'_>) {
    if results.len() < 2 {
        return;
    }
    let ours = values::mailbox(mail.header.any(&["to"]));
    if results.iter().any(|r| !r.rcpt.eq_ignore_ascii_case(ours)) {
        results.retain(|r| !r.rcpt.eq_ignore_ascii_case(ours));
    }
}

/// The addresses that lines begin with, each with the reason that stands behind or below it.
fn reported(human: &str) -> Vec<RcptResult> {
    let mut results: Vec<RcptResult> = Vec::new();
    let mut reason: Option<String> = None;
    let close = |results: &mut Vec<RcptResult>, reason: Option<String>| {
        if let (Some(r), Some(last)) = (reason, results.last_mut()) {
            take_reason(last, &r);
        }
    };
    for line in human.lines().take(MAX_LINES) {
        let leading = leading_address(line);
        // A reason that is wrapped may have the address at the beginning of a line again.
        let again = leading.is_some_and(|(a, _)| results.last().is_some_and(|r| r.rcpt.eq_ignore_ascii_case(a)));
        if let Some((address, behind)) = leading.filter(|_| !again || reason.is_none()) {
            close(&mut results, reason.take());
            if results.len() >= MAX_RESULTS {
                break;
            }
            // Transcripts name a recipient again; the first mention has the place.
            if results.last().is_none_or(|r| !r.rcpt.eq_ignore_ascii_case(address)) {
                results.push(RcptResult { rcpt: address.to_owned(), ..RcptResult::default() });
            }
            reason = Some(behind.to_owned());
        } else if line.trim_start().starts_with("---") && line.contains(char::is_alphanumeric) {
            // A heading: what follows is about something else.
            close(&mut results, reason.take());
        } else if let Some(r) = &mut reason {
            if is_blank(line) {
                if !r.trim().is_empty() {
                    close(&mut results, reason.take());
                }
            } else if r.len() < MAX_REASON {
                r.push(' ');
                r.push_str(line.trim());
            }
        }
    }
    close(&mut results, reason.take());
    let mut seen = std::collections::HashSet::new();
    results.retain(|r| seen.insert(r.rcpt.to_ascii_lowercase()));
    results
}

/// The address a line begins with (a bracket, a quote or a mark of a list may stand before it), and what follows it.
fn leading_address(line: &str) -> Option<(&str, &str)> {
    memchr::memchr(b'@', line.as_bytes())?;
    let start = line.trim_start_matches([' ', '\t', '<', '>', '"', '\'', '*', '\u{2022}']);
    let start = start.strip_prefix("- ").or_else(|| start.strip_prefix("mailto:")).unwrap_or(start);
    // 1. or 1) in a list
    let numbered = start.trim_start_matches(|c: char| c.is_ascii_digit());
    let start = match numbered.strip_prefix(['.', ')']) {
        Some(behind) if numbered.len() < start.len() && behind.starts_with(' ') => {
            behind.trim_start_matches([' ', '\t', '<', '"'])
        }
        _ => start,
    };
    let end = start
        .find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | ',' | ';' | '(' | ')' | ':'))
        .unwrap_or(start.len());
    let address = values::first_address(&start[..end])?;
    if !start.starts_with(address) {
        return None;
    }
    let behind = start[address.len()..].trim_start_matches(['>', '"', '\'', ':', '.', ',', ' ', '\t']);
    // A sentence that happens to begin a line with an address is no report on it.
    Some((address, behind))
}

/// Addresses behind a label such as "Recipient:".
fn labelled(human: &str, mail: &Mail<'_>) -> Vec<RcptResult> {
    let ours = values::mailbox(mail.header.any(&["to"])).to_ascii_lowercase();
    let mut results: Vec<RcptResult> = Vec::new();
    for line in human.lines().take(MAX_LINES).filter(|l| l.contains('@')) {
        let Some(address) = values::first_address(line) else { continue };
        let before = line[..line.find(address).unwrap_or(0)].to_lowercase();
        // What an earlier sentence says is no label.
        let sentence = [". ", "? ", "! "].iter().filter_map(|end| before.rfind(end)).max().unwrap_or(0);
        let before = &before[sentence..];
        // A label of its own kind, and the address alone behind it.
        let alone = before.trim_end().ends_with(':')
            && before.split_whitespace().count() <= 4
            && line.trim_end().trim_end_matches(['>', '"', '\'', ']', '.']).ends_with(address)
            && !NOT_LABELS.iter().any(|l| before.contains(l));
        let known = results.iter().any(|r| r.rcpt.eq_ignore_ascii_case(address));
        if !known
            && !address.eq_ignore_ascii_case(&ours)
            && (alone || LABELS.iter().any(|l| before.contains(l)))
            && results.len() < 20
        {
            results.push(RcptResult { rcpt: address.to_owned(), ..RcptResult::default() });
        }
    }
    results
}

/// Addresses in a line that holds a reply as well, or next to one.
fn beside_a_reply(human: &str, mail: &Mail<'_>) -> Vec<RcptResult> {
    let lines: Vec<&str> = human.lines().take(MAX_LINES).filter(|l| !is_blank(l)).collect();
    let ours = values::mailbox(mail.header.any(&["to"]));
    let replies =
        |i: usize| lines.get(i).is_some_and(|l| values::reply_in(l).is_some_and(|r| r.starts_with(['4', '5'])));
    for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.contains('@')).take(100) {
        if replies(i) || replies(i + 1) || i > 0 && replies(i - 1) {
            let named = values::addresses(line).find(|a| !a.eq_ignore_ascii_case(ours));
            if let Some(rcpt) = named {
                return vec![RcptResult { rcpt: rcpt.to_owned(), ..RcptResult::default() }];
            }
        }
    }
    Vec::new()
}

/// The address in a report that names only one besides those that it was sent from and to: in whatever language.
fn the_only_one(human: &str, mail: &Mail<'_>) -> Vec<RcptResult> {
    let (from, to) = (values::mailbox(mail.header.any(&["from"])), values::mailbox(mail.header.any(&["to"])));
    let mut only: Option<&str> = None;
    for line in human.lines().take(MAX_LINES).filter(|l| l.contains('@')) {
        let mut behind = line;
        for address in values::addresses(line) {
            // What stands in front of it, behind the address before it.
            let (before, after) = behind.split_once(address).unwrap_or(("", behind));
            behind = after;
            let before = before.to_lowercase();
            let of_another = [from, to].iter().any(|a| a.eq_ignore_ascii_case(address))
                || NOT_LABELS.iter().any(|l| before.trim_start().starts_with(l))
                || is_of_the_office(address);
            if of_another || only.is_some_and(|o| o.eq_ignore_ascii_case(address)) {
                continue;
            }
            if only.is_some() {
                return Vec::new();
            }
            only = Some(address);
        }
    }
    only.map(|rcpt| RcptResult { rcpt: rcpt.to_owned(), ..RcptResult::default() }).into_iter().collect()
}

/// Whether one writes to this address about a report, and does not find it in one.
fn is_of_the_office(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or("").to_ascii_lowercase();
    ["postmaster", "mailer-daemon", "abuse", "support", "help", "helpdesk", "admin", "noreply", "no-reply"]
        .contains(&local.as_str())
}

/// X-Failed-Recipients (Exim, Gmail): the recipients are those; the text's other addresses are not.
fn named_in_header(results: &mut Vec<RcptResult>, value: &str) {
    let named: Vec<&str> = values::addresses(value).take(MAX_RESULTS).collect();
    if named.is_empty() {
        return;
    }
    let mut by_address: std::collections::HashMap<String, RcptResult> =
        std::mem::take(results).into_iter().map(|r| (r.rcpt.to_ascii_lowercase(), r)).collect();
    *results = named
        .into_iter()
        .map(|n| {
            let found = by_address.remove(&n.to_ascii_lowercase()).unwrap_or_default();
            RcptResult { rcpt: n.to_owned(), ..found }
        })
        .collect();
}

/// Sets diagnostic, status and remote MTA from the words behind an address.
pub(super) fn take_reason(result: &mut RcptResult, reason: &str) {
    let reason = reason.trim();
    // "because:" announces the reason and is none.
    if reason.is_empty() || reason.ends_with(':') || !result.diag.is_empty() {
        return;
    }
    let reply = values::reply_in(reason).map(without_epilogue);
    result.diag = values::reply_line(closed(reply.unwrap_or(reason)));
    result.status = dsn::closer(dsn::closer(status_of(&result.diag), &result.diag), reason);
    (result.remote_mta, result.remote_ip) = remote_host(reason);
}

/// A reply without what qmail says behind it, which is not the other side's and sounds as if time had run out.
fn without_epilogue(reply: &str) -> &str {
    match reply.find("Giving up on ") {
        Some(at) if !reply[..at].trim_ascii_end().is_empty() => reply[..at].trim_ascii_end(),
        _ => reply,
    }
}

/// A text without the brackets and quotes at its end that were opened before it.
fn closed(text: &str) -> &str {
    let mut text = text.trim_end();
    for (open, close) in [('(', ')'), ('[', ']'), ('<', '>'), ('"', '"'), ('\'', '\'')] {
        let count = |c| text.chars().filter(|x| *x == c).count();
        let unopened = if open == close { count(close) % 2 == 1 } else { count(close) > count(open) };
        if unopened {
            text = text
                .strip_suffix(close)
                .or_else(|| text.strip_suffix('.')?.strip_suffix(close))
                .unwrap_or(text)
                .trim_end();
        }
    }
    text
}

fn status_of(diag: &str) -> Option<crate::event::EnhancedStatus> {
    Reply::parse(diag).and_then(|r| r.status)
}

/// The host that a sentence says it talked to: `host mx.example.net[192.0.2.1] said`, `while talking to mx.example.net.`
fn remote_host(text: &str) -> (String, Option<std::net::IpAddr>) {
    for mark in ["host ", "talking to ", "by the server ", "from "] {
        let Some(at) = text.find(mark) else { continue };
        let word = text[at + mark.len()..].split_whitespace().next().unwrap_or("");
        let (name, ip) = values::mta(word);
        if ip.is_some() || name.contains('.') && !name.contains('@') {
            return (name, ip);
        }
    }
    (String::new(), None)
}

/// Gives results without a diagnostic the reply that the text has for them: in a line that names the recipient, else
/// in a transcript (`<<<`), else, where there is one recipient only, anywhere. And the recipient where there was none.
pub(super) fn fill_from_text(results: &mut [RcptResult], human: &str, mail: &Mail<'_>) {
    if let [only] = results
        && (only.rcpt.is_empty() || only.rcpt.starts_with('@') && Address::parse(&only.rcpt).is_err())
    {
        let failed = mail.header.first("x-failed-recipients").and_then(values::first_address).map(str::to_owned);
        if let Some(rcpt) = failed.or_else(|| reported(human).into_iter().next().map(|r| r.rcpt)) {
            only.rcpt = rcpt;
        }
    }
    if results.iter().all(|r| !r.diag.is_empty()) {
        return;
    }
    let lines: Vec<&str> = human.lines().take(MAX_LINES).collect();
    let replies: Vec<(usize, String)> = lines
        .iter()
        .enumerate()
        .filter_map(|(i, l)| values::reply_in(l).map(|_| (i, joined_reply(&lines, i))))
        .filter(|(_, r)| !r.starts_with('2'))
        .take(200)
        .collect();
    let single = results.len() == 1;
    for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(100) {
        let address = result.rcpt.to_lowercase();
        let names = |i: usize| !address.is_empty() && lines[i].to_lowercase().contains(&address);
        let found = replies
            .iter()
            .find(|(i, _)| names(*i))
            .or_else(|| replies.iter().find(|(i, _)| single && lines[*i].trim_start().starts_with("<<<")))
            .or_else(|| replies.first().filter(|_| single));
        if let Some((_, reply)) = found {
            result.diag = values::reply_line(closed(without_epilogue(reply)));
            result.status = dsn::closer(result.status, &result.diag);
        }
    }
}

/// Gives results that still have no diagnostic the prose that the text has for them: what stands behind the address,
/// or, where there is one recipient only, the sentences from the one that names him on.
pub(super) fn explain(results: &mut [RcptResult], human: &str) {
    if results.iter().all(|r| !r.diag.is_empty()) {
        return;
    }
    let said = reported(human);
    for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(100) {
        if let Some(found) = said.iter().find(|s| s.rcpt.eq_ignore_ascii_case(&result.rcpt)) {
            result.diag.clone_from(&found.diag);
            result.status = dsn::closer(result.status, &result.diag);
        }
    }
    // "Reason: ..." below "Recipient: ..." says more than the sentences around them.
    if results.iter().any(|r| r.diag.is_empty()) {
        let said = SURE.results(human);
        for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(100) {
            let named = said.iter().find(|s| s.rcpt.eq_ignore_ascii_case(&result.rcpt) && !s.diag.contains('@'));
            if let Some(found) = named {
                result.diag.clone_from(&found.diag);
                result.status = dsn::closer(result.status, &result.diag);
            }
        }
    }
    if let [only] = results
        && only.diag.is_empty()
    {
        only.diag = sentences_on(&only.rcpt, human);
        // In prose, 5.1.2 may be the version of a program; alone in brackets it is a status.
        only.status = only.status.or_else(|| status_in_brackets(&only.diag));
    }
}

/// The first status that stands alone in brackets: `(4.4.1)`, `(#5.2.2)`.
fn status_in_brackets(text: &str) -> Option<crate::event::EnhancedStatus> {
    let mut inside = text.split(['(', '[']).skip(1).filter_map(|t| t.split([')', ']']).next());
    inside.find_map(|t| t.trim_start_matches('#').parse().ok())
}

/// The lines from the first one on that names the recipient, or says that something failed; joined and bounded.
fn sentences_on(rcpt: &str, human: &str) -> String {
    let lines: Vec<&str> = human.lines().take(MAX_LINES).filter(|l| !is_blank(l)).collect();
    let rcpt = rcpt.to_lowercase();
    let names = |l: &&str| !rcpt.is_empty() && l.to_lowercase().contains(&rcpt);
    let fails = |l: &&str| {
        let line = l.to_lowercase();
        GAVE_UP.iter().chain(STILL_TRYING).any(|p| line.contains(p))
    };
    let named = lines.iter().position(names);
    // An address alone says nothing: what stands below it does, else what stands above.
    let words = |i: usize| lines[i].split_whitespace().filter(|w| !w.contains('@')).count();
    let named = named.map(|i| match words(i) {
        0 | 1 if i + 1 < lines.len() => i + 1,
        0 | 1 => i.saturating_sub(1),
        _ => i,
    });
    let (first, most, room) = match named.or_else(|| lines.iter().position(fails)) {
        Some(first) => (first, 6, MAX_SENTENCES),
        // What is in a language that we do not know may still be known by a word at its end.
        None => (0, 40, MAX_REASON - 64),
    };
    let mut text = String::new();
    for word in lines.iter().skip(first).take(most).flat_map(|l| l.split_whitespace()) {
        if text.len() + word.len() > room {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// Whether a line has nothing to say: blank, or a drawn line.
fn is_blank(line: &str) -> bool {
    !line.contains(char::is_alphanumeric)
}

/// The reply in this line with the lines it goes on in: up to a blank line, another reply or a mark of a transcript.
fn joined_reply(lines: &[&str], at: usize) -> String {
    let mut reply = values::reply_in(lines[at]).unwrap_or("").trim().to_owned();
    for line in lines[at + 1..].iter().take(8) {
        let line = line.trim_start_matches("<<< ").trim();
        let goes_on = reply.len() > 3 && line.starts_with(&reply[..3]);
        if line.is_empty()
            || line.starts_with(['>', '<'])
            || (values::reply_in(line).is_some() && !goes_on)
            || reply.len() > MAX_REASON
        {
            break;
        }
        reply.push(' ');
        reply.push_str(line);
    }
    reply
}
