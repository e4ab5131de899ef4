//! Whom a text reports on: the ways to find the addresses, from the sure ones to the guesses.

use std::collections::{HashMap, HashSet};

use super::super::bounds::{MAX_LINES, MAX_REASON, MAX_RESULTS};
use super::super::kind::RcptResult;
use super::super::legacy::Family;
use super::super::legacy::general::{LIKELY, SURE};
use super::super::mime::Mail;
use super::super::values;
use super::is_blank;
use super::reason::take_reason;

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

/// The recipients that a report names in the place for it: in its family's lines, at the beginning of a line, in its
/// header, behind a label that stands for nothing else. `section` is the part of its text that its family gives it.
pub(super) fn named(family: Option<&Family>, section: &str, mail: &Mail<'_>) -> Vec<RcptResult> {
    let mut results = family.map(|f| f.results(section)).unwrap_or_default();
    if results.is_empty() {
        results = reported(section);
    }
    if let Some(failed) = mail.header.first("x-failed-recipients") {
        named_in_header(&mut results, failed);
    }
    if results.is_empty() {
        results = SURE.results(mail.human());
    }
    results
}

/// The recipients where none is [`named`] or [`labelled`]: behind labels that other addresses have as well, beside a reply, or as the
/// only address there is.
pub(super) fn guessed(mail: &Mail<'_>) -> Vec<RcptResult> {
    let mut results = LIKELY.results(mail.human());
    if results.is_empty() {
        results = beside_a_reply(mail);
    }
    if results.is_empty() {
        results = the_only_one(mail);
    }
    results
}

/// Whether nobody is named but the one the mail was sent to.
pub(super) fn is_addressee(results: &[RcptResult], mail: &Mail<'_>) -> bool {
    let ours = values::mailbox(mail.header.any(&["to"]));
    results.iter().all(|r| r.rcpt.eq_ignore_ascii_case(ours))
}

/// Leaves out the one the report was sent to, where somebody else is named.
pub(super) fn without_addressee(results: &mut Vec<RcptResult>, mail: &Mail<'_>) {
    if results.len() < 2 {
        return;
    }
    let ours = values::mailbox(mail.header.any(&["to"]));
    if results.iter().any(|r| !r.rcpt.eq_ignore_ascii_case(ours)) {
        results.retain(|r| !r.rcpt.eq_ignore_ascii_case(ours));
    }
}

/// The addresses that lines begin with, each with the reason that stands behind or below it.
pub(super) fn reported(human: &str) -> Vec<RcptResult> {
    let mut results: Vec<RcptResult> = Vec::new();
    let mut reason: Option<String> = None;
    let close = |results: &mut Vec<RcptResult>, reason: Option<String>| {
        if let (Some(r), Some(last)) = (reason, results.last_mut()) {
            take_reason(last, &r);
        }
    };
    // A list of sendmail's may name a program, and the address that led to it in the line below.
    let mut of_a_program = false;
    for line in human.lines().take(MAX_LINES) {
        let expanded = line.trim_start().strip_prefix("(expanded from:").filter(|_| of_a_program);
        of_a_program = line.trim_start().trim_start_matches('"').starts_with(['|', '/']);
        let leading = match expanded {
            Some(behind) => leading_address(behind).map(|(address, _)| (address, "")),
            None => leading_address(line),
        };
        // It says who got it, too.
        if leading.is_some_and(|(_, behind)| behind.starts_with("(delivered to ")) {
            close(&mut results, reason.take());
            continue;
        }
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
        } else if line.trim_start().trim_start_matches('|').starts_with("---") && line.contains(char::is_alphanumeric) {
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
    let mut seen = HashSet::new();
    results.retain(|r| seen.insert(r.rcpt.to_ascii_lowercase()));
    results
}

/// The address a line begins with (a bracket, a quote or a mark of a list may stand before it), and what follows it.
fn leading_address(line: &str) -> Option<(&str, &str)> {
    memchr::memchr(b'@', line.as_bytes())?;
    let start = line.trim_start_matches([' ', '\t', '<', '>', '"', '\'', '*', '•']);
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

/// Addresses behind a word that may be a label, such as "recipient" or "unable to deliver".
pub(super) fn labelled(mail: &Mail<'_>) -> Vec<RcptResult> {
    let ours = values::mailbox(mail.header.any(&["to"])).to_ascii_lowercase();
    let mut results: Vec<RcptResult> = Vec::new();
    for line in mail.human().lines().take(MAX_LINES).filter(|l| l.contains('@')) {
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
fn beside_a_reply(mail: &Mail<'_>) -> Vec<RcptResult> {
    let lines: Vec<&str> = mail.human().lines().take(MAX_LINES).filter(|l| !is_blank(l)).collect();
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
fn the_only_one(mail: &Mail<'_>) -> Vec<RcptResult> {
    let (from, to) = (values::mailbox(mail.header.any(&["from"])), values::mailbox(mail.header.any(&["to"])));
    let mut only: Option<&str> = None;
    for line in mail.human().lines().take(MAX_LINES).filter(|l| l.contains('@')) {
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
    let mut by_address: HashMap<String, RcptResult> =
        std::mem::take(results).into_iter().map(|r| (r.rcpt.to_ascii_lowercase(), r)).collect();
    *results = named
        .into_iter()
        .map(|n| {
            let found = by_address.remove(&n.to_ascii_lowercase()).unwrap_or_default();
            RcptResult { rcpt: n.to_owned(), ..found }
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::super::super::words::{ANYWHERE, AS_A_WHOLE, idle};
    use super::*;

    #[test]
    fn every_label_counts() {
        assert_eq!(idle(LABELS, ANYWHERE), [""; 0]);
        assert_eq!(idle(NOT_LABELS, AS_A_WHOLE), [""; 0]);
    }
}
