//! Bounces without a machine-readable part: qmail, Exim, old sendmail and the many that write an address and a reply
//! into a text. Also what a text can add to a DSN that leaves things out.
//!
//! Only mails whose header shows that a mail system wrote them come here ([`Signs::of_a_bounce`]), or whose subject and
//! first words say so; only the text before the returned message counts, and of that a bounded number of lines.
//!
//! ```text
//!  phrases: is it a report at all? -> recipients: whom is it about? -> fill (reason): what became of them?
//! ```

mod fill;
mod phrases;
mod reason;
mod recipients;

use std::cell::OnceCell;

use crate::event::Action;

use super::bounds::{MAX_LOWER, MAX_OPENING, MAX_OPENING_IN_ANSWER};
use super::dsn;
use super::kind::{self, Original, RcptResult, Recognised};
use super::legacy::{BOOK, Looks};
use super::mime::Mail;
use super::returned::{RETURNED_PARTS, returned};
use super::signs::Signs;
use super::values;
use super::words::Seen;

pub(super) use fill::{explain, fill_from_text};
pub(super) use phrases::{FOR_GOOD, GAVE_UP, OPENINGS, REFUSED, STILL_TRYING};
use phrases::{FORWARDS, MAIL_WORDS};
pub(super) use reason::take_reason;

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
    // A postmaster may write himself, about a delivery as well.
    let by_person = family.is_none()
        && signs.of_a_person_too()
        && !opens_as_failure(read(), signs)
        && mail.part(RETURNED_PARTS).is_none()
        && mail.returned_text().is_empty();
    let human = mail.human();
    let said = Said::of(read().1);
    if !known && !said.anything(mail, signs) {
        return None;
    }
    // A mail system answers by itself, too: that an address is given up.
    let by_postmaster = || signs.daemon && signs.null_sender && said.gave_up && opens_as_failure(read(), signs);
    if signs.auto_reply && !(signs.subject_bounce || signs.declared || signs.machine || by_postmaster()) {
        return None;
    }
    let section = family.map_or(human, |f| f.section(human));
    let mut results = recipients::named(family, section, mail);
    if results.is_empty() && !by_person {
        results = recipients::labelled(mail);
    }
    // The report on a report of another system says nothing itself.
    if results.is_empty()
        && signs.machine
        && !mail.nested
        && let Some(inner) = mail.part(&["message/rfc822"])
        && let Some(read) = kind::nested(&inner.bytes())
    {
        return Some(read);
    }
    if results.is_empty() && !by_opening && !by_person {
        results = recipients::guessed(mail);
    }
    recipients::without_addressee(&mut results, mail);
    if results.is_empty() && (by_opening || by_person) {
        return None;
    }
    let original = returned(mail);
    let of_a_system = signs.machine || signs.declared || family.is_some() || !original.headers.is_empty();
    // What a postmaster writes of a mailbox to its owner is no report.
    if !of_a_system && recipients::is_addressee(&results, mail) {
        return None;
    }
    if results.is_empty() {
        results.push(of_returned(&original, of_a_system && values::reply_in(human).is_some())?);
    }
    give_reasons(&mut results, section, mail);
    for result in &mut results {
        result.action = Some(said.action(result, signs));
    }
    let format = family.map_or("text", |f| f.name);
    Some(Recognised { kind: dsn::kind(&results), format, results, original, ..Recognised::default() })
}

/// What the phrases of a text say.
struct Said {
    seen: Seen,
    gave_up: bool,
    trying: bool,
    /// Nobody tries again; what else says that somebody failed is said of delays as well.
    for_good: bool,
    refused: bool,
}

impl Said {
    fn of(seen: Seen) -> Said {
        Said {
            seen,
            gave_up: seen.any(BOOK.gave_up.clone()),
            trying: seen.any(BOOK.still_trying.clone()),
            for_good: seen.any(BOOK.for_good.clone()),
            refused: seen.any(BOOK.refused.clone()),
        }
    }

    /// Whether anything says that a mail was not delivered, or not yet.
    fn anything(&self, mail: &Mail<'_>, signs: Signs) -> bool {
        // What a mail system returns with words of another language is returned all the same.
        let sent_back = || signs.machine && mail.part(RETURNED_PARTS).is_some();
        let opens = || self.seen.any(BOOK.openings.clone()) || values::reply_in(mail.human()).is_some();
        signs.subject_bounce || signs.subject_delay || self.gave_up || self.trying || sent_back() || opens()
    }

    /// What became of a recipient: as the code he got says, else as the words of the report do.
    fn action(&self, result: &RcptResult, signs: Signs) -> Action {
        let for_good = self.for_good && signs.subject_bounce && !signs.subject_delay;
        let delayed = (self.trying || signs.subject_delay && !self.refused) && !for_good;
        let class = result.reply_code().map(|c| c / 100).or(result.status.map(|s| u16::from(s.class)));
        match class {
            Some(2) if !self.gave_up => Action::Delivered,
            Some(5) => Action::Failed,
            _ if delayed => Action::Delayed,
            _ => Action::Failed,
        }
    }
}

/// Whether the text begins by saying that a mail was not delivered, and not a parcel. Under `Re:` or `Fwd:` it must say
/// so at once: what a person writes about a bounce stands above the bounce.
fn opens_as_failure((lower, seen): &(String, Seen), signs: Signs) -> bool {
    if !seen.any(BOOK.openings.clone()) {
        return false;
    }
    let most = if signs.answered { MAX_OPENING_IN_ANSWER } else { MAX_OPENING };
    let opening = &lower[..lower.floor_char_boundary(most)];
    // Below such a line stands what another has written.
    let forwarded = FORWARDS.iter().filter_map(|mark| opening.find(mark)).min();
    let opening = &opening[..forwarded.unwrap_or(opening.len())];
    let holds = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
    let sentences = ["\r\n\r\n", "\n\n", ". ", ".\r\n", ".\n", "? ", "! ", "。"]
        .into_iter()
        .fold(vec![opening], |texts, end| texts.into_iter().flat_map(|text| text.split(end)).collect());
    // What was not delivered is named with it or before: what stands behind is a footer.
    let mut of_mail = false;
    let fails = sentences.iter().any(|sentence| {
        of_mail |= holds(sentence, MAIL_WORDS);
        of_mail && holds(sentence, OPENINGS)
    });
    fails && !opening.contains("\n>")
}

/// A report that names nobody is about the only one that the returned mail was addressed to; `None` where it has
/// nothing but a subject to go by, neither the returned mail's name nor a reply.
fn of_returned(original: &Original, replied: bool) -> Option<RcptResult> {
    let to = original.header("to").or_else(|| original.header("x-original-to")).unwrap_or("");
    let mut to = values::addresses(to);
    let rcpt = match (to.next(), to.next()) {
        (Some(one), None) => one.to_owned(),
        _ => String::new(),
    };
    if rcpt.is_empty() && !replied && original.message_id.is_empty() {
        return None;
    }
    Some(RcptResult { rcpt, ..RcptResult::default() })
}

/// A reply that the text has for a recipient says more than the prose that stands nearest to the address.
fn give_reasons(results: &mut [RcptResult], section: &str, mail: &Mail<'_>) {
    let prose: Vec<String> = results
        .iter_mut()
        .map(|r| if r.reply_code().is_none() { std::mem::take(&mut r.diag) } else { String::new() })
        .collect();
    fill_from_text(results, section, mail);
    for (result, prose) in results.iter_mut().zip(prose) {
        if result.diag.is_empty() {
            result.diag = prose;
        }
    }
    explain(results, mail.human());
}

/// Whether a line has nothing to say: blank, or a drawn line.
fn is_blank(line: &str) -> bool {
    !line.contains(char::is_alphanumeric)
}
