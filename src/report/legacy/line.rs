//! Line forms: how one line of a report names a recipient or a reason, as data.
//!
//! A form is literal text with holes: `{rcpt}` an address, with or without brackets and quotes; `{why}` the rest of the
//! line, the beginning of a reason; `{code}` a reply code; `{host}` a name or an address of a mail system; `{*}` as little
//! as possible of anything. Letters count whatever their case, a blank in a form stands for any number of blanks (none
//! as well), a colon for a wide one and for one behind blanks, and white space in front of a line does not count. Matching is linear in the line for each form: a hole
//! ends at the first place where the literal behind it is found, and nothing is tried again.

use super::super::bounds::MAX_LINE;
use super::super::values;

/// What a line says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::report) struct Said<'a> {
    pub(in crate::report) rcpt: Option<&'a str>,
    pub(in crate::report) why: Option<&'a str>,
    pub(in crate::report) code: Option<&'a str>,
    pub(in crate::report) host: Option<&'a str>,
}

/// A line as [`read`] takes it: bounded, without white space around it.
pub(in crate::report) fn bounded(line: &str) -> &str {
    line[..line.floor_char_boundary(MAX_LINE)].trim()
}

/// Whether a form's first letter is that of the line: what most forms are told by that do not fit.
fn may_begin(form: &str, line: &str) -> bool {
    match (form.as_bytes().first(), line.as_bytes().first()) {
        (Some(b'{' | b' '), _) => true,
        (Some(form), Some(line)) if line.is_ascii() => form.eq_ignore_ascii_case(line),
        _ => true,
    }
}

/// Reads `line` ([`bounded`]) in `form`; `None` when it has another one.
pub(in crate::report) fn read<'a>(form: &str, line: &'a str) -> Option<Said<'a>> {
    if !may_begin(form, line) {
        return None;
    }
    let (mut form, mut line) = (form, line);
    let mut said = Said::default();
    loop {
        let Some(open) = form.find('{') else {
            let rest = literal(form, line)?;
            return rest.trim_matches(['.', ':', ';', ',', ')', '>', ' ', '\u{a0}']).is_empty().then_some(said);
        };
        line = literal(&form[..open], line)?;
        let close = open + form[open..].find('}')?;
        let hole = &form[open + 1..close];
        form = &form[close + 1..];
        let next = form.split('{').next().unwrap_or("");
        match hole {
            "rcpt" => {
                let (address, rest) = address(line)?;
                said.rcpt = Some(address);
                line = unclosed(rest, next);
            }
            "code" => {
                let code = line.trim_start().get(..3).filter(|c| c.bytes().all(|b| b.is_ascii_digit()))?;
                said.code = Some(code);
                line = &line.trim_start()[3..];
            }
            "host" => {
                let start = line.trim_start_matches([' ', '<', '[', '(']);
                let end = start.find([' ', '>', ']', ')', ':', ',']).unwrap_or(start.len());
                said.host = Some(start[..end].trim_end_matches('.'));
                line = unclosed(&start[end..], next);
            }
            "why" if next.is_empty() => {
                said.why = Some(line.trim());
                return Some(said);
            }
            "*" if next.is_empty() => return Some(said),
            _ => {
                let end = find(next, line)?;
                if hole == "why" {
                    said.why = Some(line[..end].trim());
                }
                line = &line[end..];
            }
        }
    }
}

/// The line behind a literal that it begins with.
fn literal<'a>(literal: &str, line: &'a str) -> Option<&'a str> {
    let mut rest = line;
    for c in literal.chars() {
        if c == ' ' {
            rest = rest.trim_start();
        } else if c == ':' {
            rest = rest.trim_start().strip_prefix([':', '：'])?;
        } else {
            let first = rest.chars().next()?;
            if first != c && !first.to_lowercase().eq(c.to_lowercase()) {
                return None;
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(rest)
}

/// Where the first word of a literal stands in a line, whatever the case.
fn find(next: &str, line: &str) -> Option<usize> {
    let word = next.trim().split(' ').next().filter(|w| !w.is_empty())?;
    if !word.is_ascii() {
        return line.find(word);
    }
    line.as_bytes().windows(word.len()).position(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

/// The address at the front of a text, and what follows it.
pub(in crate::report) fn address(text: &str) -> Option<(&str, &str)> {
    let start = text.trim_start_matches([' ', '\t', '<', '"', '\'', '[', '(', '\u{201c}', '\u{2018}', '\u{a0}']);
    let start = if start.get(..7).is_some_and(|p| p.eq_ignore_ascii_case("mailto:")) { &start[7..] } else { start };
    let start = if start.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("smtp:")) { &start[5..] } else { start };
    let end = start
        .find(|c: char| {
            c.is_whitespace()
                || matches!(c, '<' | '>' | '"' | ',' | ';' | '(' | ')' | ':' | ']' | '\u{201d}' | '\u{2019}')
        })
        .unwrap_or(start.len());
    let address = values::first_address(&start[..end])?;
    if !start.starts_with(address) {
        return None;
    }
    Some((address, &start[address.len()..]))
}

/// What follows an address or a host: brackets and quotes that the form does not ask for do not count.
fn unclosed<'a>(rest: &'a str, next: &str) -> &'a str {
    let closes = |c: char| matches!(c, '>' | '"' | '\'' | ']' | ')' | '\u{201d}' | '\u{2019}');
    if next.starts_with(closes) { rest } else { rest.trim_start_matches(closes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_read_what_stands_in_their_holes() {
        let rcpt = |form, line| read(form, bounded(line)).and_then(|s| s.rcpt);
        assert_eq!(rcpt("Recipient: {rcpt}", "  RECIPIENT:   <ann@example.net>  "), Some("ann@example.net"));
        assert_eq!(rcpt("Recipient: [SMTP:{rcpt}]", "Recipient: [SMTP:ann@example.net]"), Some("ann@example.net"));
        assert_eq!(rcpt("Recipient: {rcpt}", "Recipient: ann@example.net is nice"), None);
        assert_eq!(rcpt("Recipient: {rcpt}", "Recipient   : ann@example.net"), Some("ann@example.net"));
        assert_eq!(rcpt("宛先: {rcpt}", "宛先：ann@example.net"), Some("ann@example.net"));
        assert_eq!(
            rcpt("Delivery failed {*} attempts: {rcpt}", "Delivery failed 20 attempts: ann@example.net"),
            Some("ann@example.net")
        );
        let said = read("{code} <{rcpt}>... {why}", "554 <ann@example.net>... 550 Host unknown").unwrap();
        assert_eq!((said.code, said.rcpt, said.why), (Some("554"), Some("ann@example.net"), Some("550 Host unknown")));
        assert_eq!(read("Reason:{why}", "Reason:").unwrap().why, Some(""));
    }
}
