//! Reports of mail systems that follow no standard, described as data: one [`Family`] for each, in one place.
//!
//! A family says by which signs its reports are known, between which lines the report stands, and in which line forms
//! ([`line`]) it names recipients and reasons. What a family leaves open is read the general way (`super::body`), so
//! many need no more than their signs. To add one, write it into the table it belongs to and an example of it into
//! `tests/reports/families/`: the tests look for both.

mod book;
mod devices;
mod gateways;
pub(super) mod general;
pub(super) mod line;
mod providers;
mod servers;
pub(super) mod sns;
mod unix;

pub(super) use book::BOOK;

use super::body;
use super::bounds::{MAX_LINES, MAX_REASON, MAX_RESULTS};
use super::kind::RcptResult;
use super::mime::Mail;
use super::signs::Signs;
use super::values;
use super::words::holds;

/// One mail system's way to report.
pub(super) struct Family {
    /// `format` of what it reads.
    pub(super) name: &'static str,
    /// How it is known: all signs of any one group.
    signs: &'static [&'static [Sign]],
    /// The report begins behind the first line that holds one of these, lower-cased; with the text when there is none.
    begin: &'static [&'static str],
    /// It ends before the next line that holds one of these, lower-cased.
    end: &'static [&'static str],
    /// Its line forms, the first that fits counts; none: read the general way.
    lines: &'static [&'static str],
    /// Where a reason stands.
    reason: Place,
}

/// Where a reason stands, seen from the recipient it is for.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// In or below the line of the recipient.
    #[default]
    Below,
    /// In lines of its form above the recipient.
    Above,
    /// In the prose above the recipient.
    Prose,
}

/// One sign. All words are lower-case and count anywhere in what they are looked for in.
enum Sign {
    From(&'static str),
    Subject(&'static str),
    /// A header field and a word in its value (empty: any value).
    Header(&'static str, &'static str),
    Text(&'static str),
    NoText(&'static str),
}

/// What a family is unless it says otherwise.
const PLAIN: Family = Family { name: "", signs: &[], begin: &[], end: &[], lines: &[], reason: Place::Below };

/// All families; the first whose signs are there reads the mail.
const TABLES: &[&[Family]] =
    &[providers::FAMILIES, devices::FAMILIES, gateways::FAMILIES, servers::FAMILIES, unix::FAMILIES];

/// The formats of all families, in the order in which they are tried.
pub fn formats() -> impl Iterator<Item = &'static str> {
    TABLES.iter().flat_map(|t| t.iter()).map(|f| f.name)
}

/// What of a mail the signs are looked for in.
pub(super) struct Looks<'a> {
    pub(super) mail: &'a Mail<'a>,
    pub(super) signs: Signs,
    /// From, lower-cased.
    pub(super) from: &'a str,
    /// Subject, decoded and lower-cased.
    pub(super) subject: &'a str,
}

impl Family {
    /// The part of the text that is the report.
    pub(super) fn section<'t>(&self, human: &'t str) -> &'t str {
        if self.begin.is_empty() && self.end.is_empty() {
            return human;
        }
        let (mut from, mut to, mut at) = (None, human.len(), 0);
        for line in human.split_inclusive('\n').take(MAX_LINES) {
            let start = &line[..line.floor_char_boundary(400)];
            let has = |marks: &[&str]| marks.iter().any(|m| holds(start, m));
            if from.is_none() && has(self.begin) {
                from = Some(at + line.len());
            } else if (from.is_some() || self.begin.is_empty()) && has(self.end) {
                to = at;
                break;
            }
            at += line.len();
        }
        let from = from.unwrap_or(0);
        &human[from..to.max(from)]
    }

    /// The recipients it names with their reasons; empty when it has no line forms or they fit nowhere.
    pub(super) fn results(&self, section: &str) -> Vec<RcptResult> {
        let mut reading = Reading { place: self.reason, ..Reading::default() };
        if !self.lines.is_empty() {
            reading.read(section, self.lines);
        }
        reading.finish()
    }
}

/// The state between two lines.
#[derive(Default)]
struct Reading {
    place: Place,
    results: Vec<RcptResult>,
    /// Which result the lines speak of.
    current: Option<usize>,
    /// The line in which a result was found, for those that get no reason.
    found_in: Vec<String>,
    /// A reason that is being read, and whether it is for the recipient to come.
    reason: Option<(String, bool)>,
    /// The reason stands behind a label of its own.
    labelled: bool,
    /// The reason for the recipient to come.
    ahead: String,
    blank: bool,
}

impl Reading {
    fn read(&mut self, section: &str, forms: &[&str]) {
        for text in section.lines().take(MAX_LINES) {
            if !text.contains(char::is_alphanumeric) {
                self.blank = true;
                if self.reason.as_ref().is_some_and(|(r, _)| !r.trim().is_empty()) {
                    self.close();
                }
                continue;
            }
            let bounded = line::bounded(text);
            match forms.iter().find_map(|form| line::read(form, bounded)) {
                Some(said) => {
                    self.close();
                    self.said(said, text);
                }
                None => self.more(text),
            }
            self.blank = false;
        }
        self.close();
    }

    fn said(&mut self, said: line::Said<'_>, text: &str) {
        // The end of a sentence is no reason.
        let said = line::Said { why: said.why.map(|why| why.trim_start_matches(['.', ':', ',', ' '])), ..said };
        let is_reply = |r: &str| values::reply_in(r).is_some();
        // A sentence is kept whole: "Your mail to ann@example.net was refused" says more than its end.
        let sentence = said.rcpt.is_some() && text.trim_start().starts_with(char::is_alphabetic) && {
            let words = text.split_whitespace().take_while(|w| !w.contains('@')).count();
            words >= 1
        };
        let why = said.why.map(|why| match said.code {
            Some(code) if !is_reply(why) => format!("{code} {why}"),
            None if sentence && !is_reply(why) && (!why.is_empty() || !text.trim_end().ends_with([':', '>', '.'])) => {
                text.trim().to_owned()
            }
            _ => why.to_owned(),
        });
        self.labelled = said.rcpt.is_none();
        if let Some(rcpt) = said.rcpt {
            self.recipient(rcpt, text);
            let ahead = std::mem::take(&mut self.ahead);
            // What the other side answered says more than what this side makes of it.
            let own = said.why.unwrap_or("");
            self.reason = match why {
                Some(_) if is_reply(&ahead) && !is_reply(own) => Some((ahead, false)),
                Some(why) if !own.is_empty() || ahead.is_empty() => Some((why, false)),
                _ if !ahead.is_empty() => Some((ahead, false)),
                // What stands below it, up to a line of another form.
                _ if self.place == Place::Below => Some((String::new(), false)),
                _ => None,
            };
        } else if let Some(why) = why {
            // A transcript has good answers as well.
            if values::reply_in(&why).is_some_and(|r| r.starts_with(['2', '3'])) {
                return;
            }
            self.reason = Some((why, self.place != Place::Below || self.results.is_empty()));
        } else if let Some(host) = said.host {
            self.ahead.clear();
            if let Some(result) = self.current.and_then(|i| self.results.get_mut(i)).filter(|r| r.remote_mta.is_empty())
            {
                (result.remote_mta, result.remote_ip) = values::mta(host);
            }
        }
    }

    fn recipient(&mut self, rcpt: &str, text: &str) {
        // Recent ones only, so that the cost of a line stays bounded; the rest is sorted out in the end.
        let recent = self.results.len().saturating_sub(16);
        let known = self.results[recent..].iter().position(|r| r.rcpt.eq_ignore_ascii_case(rcpt));
        self.current = known.map(|i| i + recent);
        if known.is_none() && self.results.len() < MAX_RESULTS {
            self.current = Some(self.results.len());
            self.results.push(RcptResult { rcpt: rcpt.to_owned(), ..RcptResult::default() });
            self.found_in.push(text.trim().to_owned());
        }
    }

    /// A line of no form: a reason goes on, or prose stands above a recipient.
    fn more(&mut self, text: &str) {
        if ["---", "===", "***", "___"].iter().any(|drawn| text.trim_start().starts_with(drawn)) {
            return self.close();
        }
        match &mut self.reason {
            Some((reason, _)) if reason.len() < MAX_REASON => {
                reason.push(' ');
                reason.push_str(text.trim());
            }
            Some(_) => {}
            None if self.place == Place::Prose => {
                if self.blank {
                    self.ahead.clear();
                }
                if self.ahead.len() < MAX_REASON {
                    self.ahead.push(' ');
                    self.ahead.push_str(text.trim());
                }
            }
            None => {}
        }
    }

    fn close(&mut self) {
        let Some((reason, ahead)) = self.reason.take() else { return };
        if ahead {
            self.ahead = reason;
        } else if let Some(result) = self.current.and_then(|i| self.results.get_mut(i)) {
            // A reply is more than the prose that was there before it, and a label more than the sentence that names
            // the recipient.
            let says_more = values::reply_in(&reason).is_some() || self.labelled && result.diag.contains(&result.rcpt);
            if result.reply_code().is_none() && (result.diag.is_empty() || says_more && !reason.trim().is_empty()) {
                result.diag.clear();
                body::take_reason(result, &reason);
            }
        }
    }

    fn finish(mut self) -> Vec<RcptResult> {
        let ahead = std::mem::take(&mut self.ahead);
        for (result, line) in self.results.iter_mut().zip(&self.found_in) {
            if result.diag.is_empty() {
                body::take_reason(result, &ahead);
            }
            // "Unknown user: ann@example.net" is a reason, a mere address is none.
            let words = line.split_whitespace().filter(|w| !w.contains('@')).count();
            if result.diag.is_empty() && words >= 2 {
                result.diag.clone_from(line);
            }
        }
        let mut seen = std::collections::HashSet::new();
        self.results.retain(|r| seen.insert(r.rcpt.to_ascii_lowercase()));
        self.results
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{ANYWHERE, AS_A_WHOLE, idle};
    use super::*;

    #[test]
    fn every_line_of_every_family_counts() {
        let all = TABLES.iter().flat_map(|t| t.iter()).chain([&general::SURE, &general::LIKELY]);
        for family in all {
            assert_eq!(idle(family.lines, AS_A_WHOLE), [""; 0], "{}", family.name);
            assert_eq!(idle(family.begin, ANYWHERE), [""; 0], "{}", family.name);
            assert_eq!(idle(family.end, ANYWHERE), [""; 0], "{}", family.name);
        }
    }
}
