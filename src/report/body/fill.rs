//! What a text adds to results that leave things out, a DSN's as well: recipients, replies, the prose that explains.

use crate::event::{Address, EnhancedStatus};

use super::super::bounds::{MAX_LINES, MAX_REASON, MAX_SEARCHED, MAX_SENTENCES};
use super::super::kind::RcptResult;
use super::super::legacy::general::SURE;
use super::super::mime::Mail;
use super::super::{dsn, values};
use super::is_blank;
use super::phrases::{GAVE_UP, STILL_TRYING};
use super::reason::{closed, is_field, without_epilogue};
use super::recipients::reported;

/// Letters that an address has at least to be known by its beginning.
const MIN_CUT: usize = 3;

/// Gives results without a diagnostic the reply that the text has for them: in a line that names the recipient, else
/// in a transcript (`<<<`), else, where there is one recipient only, anywhere. And the recipient where there was none.
pub(in crate::report) fn fill_from_text(results: &mut [RcptResult], human: &str, mail: &Mail<'_>) {
    if let [only] = results
        && (only.rcpt.is_empty() || only.rcpt.starts_with('@') && Address::parse(&only.rcpt).is_err())
    {
        let failed = mail.header.first("x-failed-recipients").and_then(values::first_address).map(str::to_owned);
        if let Some(rcpt) = failed.or_else(|| reported(human).into_iter().next().map(|r| r.rcpt)) {
            only.rcpt = rcpt;
        }
    }
    complete(results, human);
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
    // A transcript goes from the cause to what it means for a recipient.
    let caused = |at: usize, address: &str| {
        let domain = address.rsplit('@').next().filter(|d| d.contains('.'))?;
        let (above, result) = (at.checked_sub(1).map(|above| &replies[above])?, &replies[at]);
        let is_cause = above.0 + 1 == result.0
            && above.1.as_bytes().first() == result.1.as_bytes().first()
            && !lines[above.0].contains('@')
            && lines[above.0].to_lowercase().contains(domain);
        is_cause.then_some(above)
    };
    for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(MAX_SEARCHED) {
        let address = result.rcpt.to_lowercase();
        let names = |i: usize| !address.is_empty() && lines[i].to_lowercase().contains(&address);
        let found = replies
            .iter()
            .position(|(i, _)| names(*i))
            .map(|at| caused(at, &address).unwrap_or(&replies[at]))
            .or_else(|| replies.iter().find(|(i, _)| single && lines[*i].trim_start().starts_with("<<<")))
            // What is said of the recipient in words is closer than a reply about something else.
            .or_else(|| replies.first().filter(|_| single && !lines.iter().any(|l| says_why(l, &address))));
        if let Some((_, reply)) = found {
            result.diag = values::reply_line(closed(without_epilogue(reply)));
            result.status = dsn::closer(result.status, &result.diag);
        }
    }
}

/// Whether a line of a transcript says what became of a recipient: `<ann@example.net>... Deferred`.
fn says_why(line: &str, address: &str) -> bool {
    let line = line.trim_start().trim_start_matches('<');
    let behind = line.get(..address.len()).filter(|a| !a.is_empty() && a.eq_ignore_ascii_case(address));
    let behind = behind.and_then(|_| line[address.len()..].trim_start_matches('>').strip_prefix("..."));
    behind.is_some_and(|why| why.contains(char::is_alphabetic))
}

/// Completes the address that a cut-off report ends in, where the text names the whole of it.
fn complete(results: &mut [RcptResult], human: &str) {
    let Some((last, others)) = results.split_last_mut() else { return };
    if last.rcpt.len() < MIN_CUT || last.rcpt.contains('@') {
        return;
    }
    let known = |address: &str| others.iter().any(|r| r.rcpt.eq_ignore_ascii_case(address));
    let begins =
        |address: &str| address.get(..last.rcpt.len()).is_some_and(|start| start.eq_ignore_ascii_case(&last.rcpt));
    let whole = reported(human).into_iter().map(|r| r.rcpt).find(|address| begins(address) && !known(address));
    if let Some(whole) = whole {
        last.rcpt = whole;
    }
}

/// Gives results that still have no diagnostic the prose that the text has for them: what stands behind the address,
/// or, where there is one recipient only, the sentences from the one that names him on.
pub(in crate::report) fn explain(results: &mut [RcptResult], human: &str) {
    if results.iter().all(|r| !r.diag.is_empty()) {
        return;
    }
    let said = reported(human);
    for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(MAX_SEARCHED) {
        if let Some(found) = said.iter().find(|s| s.rcpt.eq_ignore_ascii_case(&result.rcpt)) {
            result.diag.clone_from(&found.diag);
            result.status = dsn::closer(result.status, &result.diag);
        }
    }
    // "Reason: ..." below "Recipient: ..." says more than the sentences around them.
    if results.iter().any(|r| r.diag.is_empty()) {
        let said = SURE.results(human);
        for result in results.iter_mut().filter(|r| r.diag.is_empty()).take(MAX_SEARCHED) {
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
fn status_in_brackets(text: &str) -> Option<EnhancedStatus> {
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
    // An address alone says nothing: what stands below it does, unless that is a field of the mail; else the sentence
    // above that speaks of a failure, else what stands above.
    let words = |i: usize| lines[i].split_whitespace().filter(|w| !w.contains('@')).count();
    let named = named.map(|i| match words(i) {
        0 | 1 if lines.get(i + 1).is_some_and(|l| !is_field(l)) => i + 1,
        0 | 1 => lines[..i].iter().position(fails).unwrap_or(i.saturating_sub(1)),
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

/// The reply in this line with the lines it goes on in: up to a blank line, another reply or a mark of a transcript.
fn joined_reply(lines: &[&str], at: usize) -> String {
    let mut reply = values::reply_in(lines[at]).unwrap_or("").trim().to_owned();
    for line in lines[at + 1..].iter().take(8) {
        // What is indented goes on, also with an address in brackets.
        let marked = line.starts_with(['>', '<']);
        let line = line.trim_start_matches("<<< ").trim();
        let goes_on = reply.len() > 3 && line.starts_with(&reply[..3]);
        if line.is_empty()
            || marked && line.starts_with(['>', '<'])
            || line.starts_with(">>>")
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
