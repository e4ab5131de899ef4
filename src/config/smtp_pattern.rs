//! `<smtp-pattern-list NAME>` and `<smtp-pattern NAME>`: patterns of replies that steer queues.
//!
//! A list holds `reply /REGEX/ ACTION[,ACTION...]` (reference/directives.md, 2.15); queues name the lists they use. A
//! `<smtp-pattern>` holds for every queue, and may also name a category and a retry delay (reference/guide-dialect.md).
//! A regex that a text editor broke over two lines is joined again.

use std::path::PathBuf;
use std::time::Duration;

use super::actions::{ReplyAction, parse_actions};
use super::diagnose::nearest;
use super::dialect;
use super::lexer::{Line, Span};
use super::model::{PatternSource, RetryPattern};
use super::resolve::{Draft, is_category, was_broken_at_a_blank};
use super::tree::{Block, Node, Reading};
use super::values;

/// The list that ships with Carom, as `smtp-pattern-list` names it.
pub const BUILTIN_LIST: &str = "builtin";

/// What stands in a `<smtp-pattern>`.
const NAMES: &[&str] = &["pattern", "category", "action", "initial-pts", "max-pts"];

/// Wait after the first attempt, where only `max-pts` is given.
const INITIAL: Duration = Duration::from_secs(60);
/// Longest wait, where only `initial-pts` is given.
const MAX: Duration = Duration::from_secs(3600);
/// Longest of both.
const MOST: Duration = Duration::from_secs(366 * 86_400);
/// Longest regex that is still looked for the end of, in bytes.
const LONGEST: usize = 16_384;

impl Draft {
    /// Adds the entries of a `<smtp-pattern-list>`; the same name again adds to the list.
    pub(super) fn smtp_pattern_list(&mut self, reading: &mut Reading<'_>, name: &str, block: &Block) {
        let key = name.to_lowercase();
        if key == BUILTIN_LIST {
            let message = format!("`{BUILTIN_LIST}` is the name of the list that ships with Carom");
            return reading.error(block.span, message, "give the list another name");
        }
        let mut list = Vec::new();
        for line in joined(reading, block, &["reply"], "reply") {
            let mut args = line.args();
            if line.keyword() != "reply" {
                let help = "write reply /REGEX/ ACTION[,ACTION...]";
                let message = format!("`{}`: there is no such directive in <smtp-pattern-list>", first(&line));
                reading.error(line.span, message, help);
                continue;
            }
            let Some(regex) = args.regex() else {
                let help = "write reply /REGEX/ ACTION[,ACTION...] on one line";
                reading.warning(line.span, "the pattern is not closed; the entry is left out", help);
                continue;
            };
            if regex.text.is_empty() {
                let help = "put it last, and write /./ if it is meant";
                reading.warning(regex.span, "an empty pattern matches every reply, also those meant for others", help);
            }
            let span = args.rest_span();
            match parse_actions(&args.rest().map(|w| w.text).unwrap_or_default()) {
                Ok(actions) => list.push(source(reading, line.span, regex.text, "-", &actions)),
                Err(message) => {
                    let help = "write reply /REGEX/ ACTION[,ACTION...]";
                    reading.error(span, format!("reply: {message}"), help);
                }
            }
        }
        match self.pattern_lists.get_mut(&key) {
            Some((_, entries, first)) => {
                let message = format!("<smtp-pattern-list {name}> is given again; both are one list");
                let help = format!("the first one is at {}", reading.place(*first));
                reading.warning(block.span, message, help);
                entries.append(&mut list);
            }
            None => {
                self.pattern_lists.insert(key, (name.to_owned(), list, block.span));
            }
        }
    }

    /// Adds what a `<smtp-pattern>` says: category and actions to the patterns of the configuration, the delay to the
    /// delays.
    pub(super) fn smtp_pattern(&mut self, reading: &mut Reading<'_>, name: &str, block: &Block) {
        let (mut pattern, mut category, mut actions) = (None, None, Vec::new());
        let (mut initial, mut max) = (None, None);
        for line in joined(reading, block, NAMES, "pattern") {
            let keyword = line.keyword();
            let mut args = line.args();
            let span = args.rest_span();
            if !NAMES.contains(&keyword.as_str()) {
                let near = nearest(&keyword, NAMES.iter().copied());
                let help =
                    near.map_or_else(|| format!("write one of {}", NAMES.join(", ")), |n| format!("did you mean {n}?"));
                let message = format!("`{}`: there is no such directive in <smtp-pattern>", first(&line));
                reading.error(line.span, message, help);
                continue;
            }
            if args.is_empty() {
                reading.error(
                    line.span,
                    format!("{keyword}: argument missing"),
                    format!("write {keyword} and a value"),
                );
                continue;
            }
            let given = match keyword.as_str() {
                "pattern" => {
                    let slashed = args.clone().regex().filter(|_| line.text.trim_end().ends_with('/'));
                    let regex = slashed.or_else(|| args.rest()).map(|w| w.text).unwrap_or_default();
                    pattern.replace((regex, line.span)).is_some()
                }
                "category" => {
                    let word = args.rest().map(|w| w.text).unwrap_or_default();
                    if !is_category(&word) {
                        let help = "write letters, digits, hyphens, dots and underscores";
                        reading.error(span, format!("category: {word:?} is no category name"), help);
                        continue;
                    }
                    category.replace(word.to_ascii_lowercase()).is_some()
                }
                "action" => match parse_actions(&args.rest().map(|w| w.text).unwrap_or_default()) {
                    Ok(read) => !std::mem::replace(&mut actions, read).is_empty(),
                    Err(message) => {
                        reading.error(span, format!("action: {message}"), "");
                        continue;
                    }
                },
                _ => match values::time(&args.rest().map(|w| w.text).unwrap_or_default()) {
                    Ok(time) if time.is_zero() || time > MOST => {
                        reading.error(span, format!("{keyword}: out of range"), "write a time from 1s to 366d");
                        continue;
                    }
                    Ok(time) if keyword == "initial-pts" => initial.replace(time).is_some(),
                    Ok(time) => max.replace(time).is_some(),
                    Err(e) => {
                        reading.error(span, format!("{keyword}: {e}"), e.help);
                        continue;
                    }
                },
            };
            if given {
                reading.warning(line.span, format!("{keyword} is given twice; the later one holds"), "");
            }
        }
        let Some((regex, span)) = pattern else {
            let help = "write pattern REGEX inside the block";
            return reading.error(block.span, format!("<smtp-pattern {name}> has no pattern"), help);
        };
        if regex.is_empty() {
            reading.warning(span, "an empty pattern matches every reply", "write /./ if it is meant");
        }
        if initial.is_some() || max.is_some() {
            let first = initial.unwrap_or_else(|| max.map_or(INITIAL, |max| INITIAL.min(max)));
            let longest = max.unwrap_or(MAX.max(first));
            if longest < first {
                let message = "max-pts is shorter than initial-pts: the wait is max-pts from the first time on";
                reading.warning(block.span, message, "write the shorter time as initial-pts");
            }
            // Of a rule without a category only its pattern counts here; it needs some action to be one.
            let source = source(reading, span, regex.clone(), "-", &[ReplyAction::DeferQueue]);
            self.retry_patterns.push(RetryPattern { source, initial: first.min(longest), max: longest });
        } else if category.is_none() && actions.is_empty() {
            let help = "write category, action, or initial-pts and max-pts";
            reading.warning(block.span, format!("<smtp-pattern {name}> says nothing of what to do"), help);
        }
        if category.is_some() || !actions.is_empty() {
            let category = category.as_deref().unwrap_or("-");
            self.patterns.push(source(reading, span, regex, category, &actions));
        }
    }
}

/// An entry as the engine of patterns reads it.
fn source(reading: &Reading<'_>, span: Span, regex: String, category: &str, actions: &[ReplyAction]) -> PatternSource {
    let file: PathBuf = reading.texts.get(span.file as usize).map(|t| t.name.clone()).unwrap_or_default();
    let rest = actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    PatternSource::Inline { file, line: span.line, regex, category: category.to_owned(), rest }
}

fn first(line: &Line) -> String {
    line.keyword().chars().take(60).collect()
}

/// The lines of a block, those on the line of the tag taken apart. A line with the keyword `open` whose pattern is not
/// closed goes on in the next one, if that has no keyword.
fn joined(reading: &mut Reading<'_>, block: &Block, names: &[&str], open: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for child in &block.children {
        let own = match child {
            Node::Line { line, several: false } => vec![line.clone()],
            Node::Line { line, several: true } => dialect::split(line, |word| names.contains(&word)),
            Node::Block(inner) => {
                let message = format!("<{}> has no place in <{}>", inner.tag, block.tag);
                reading.error(inner.span, message, format!("close <{}> before", block.tag));
                continue;
            }
        };
        for line in own {
            if let Some(last) = lines.last_mut()
                && last.keyword() == open
                && last.args().rest().is_some_and(|w| w.text.starts_with('/'))
                && !is_closed(last, open == "reply")
                && last.text.len() < LONGEST
                && !names.contains(&line.keyword().as_str())
            {
                let message = format!("the pattern of line {} goes on here; the lines are joined", last.span.line);
                reading.warning(line.span, message, format!("write {open} and its pattern on one line"));
                if was_broken_at_a_blank(reading, last, &line) {
                    last.text.push(' ');
                }
                last.text.push_str(&line.text);
            } else {
                lines.push(line);
            }
        }
    }
    lines
}

/// Whether the pattern of a line ends on it. Where actions follow, an escaped slash in the middle is none that ends it.
fn is_closed(line: &Line, actions: bool) -> bool {
    let mut args = line.args();
    let Some(regex) = args.regex() else { return false };
    let ends = !regex.text.ends_with('\\') || regex.text.ends_with("\\\\");
    ends && (!actions || args.rest().is_some_and(|rest| parse_actions(&rest.text).is_ok() || !rest.text.contains('\\')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse_str};

    const HEAD: &str = "host-name m.example.com\npostmaster p@example.com\nspool /s\nsmtp-listener 127.0.0.1:25\n";

    fn read(text: &str) -> (Option<Config>, Vec<String>) {
        let loaded = parse_str("c", &format!("{HEAD}{text}"));
        (loaded.config, loaded.diagnostics.iter().map(|d| d.message.clone()).collect())
    }

    fn good(text: &str) -> Config {
        let (config, messages) = read(text);
        assert!(messages.is_empty(), "{messages:?}");
        config.unwrap()
    }

    fn entries(list: &[PatternSource]) -> Vec<String> {
        let show = |s: &PatternSource| match s {
            PatternSource::Inline { line, regex, category, rest, .. } => format!("{line} {regex} {category} {rest}"),
            PatternSource::File(_) => "file".to_owned(),
        };
        list.iter().map(show).collect()
    }

    #[test]
    fn a_list_is_read_in_order_and_found_by_the_queues_that_name_it() {
        let config = good(
            "<domain b.example>\nsmtp-pattern-list b-errors\n</domain>\n\
             <smtp-pattern-list b-errors>\nreply /^421 .*\\/too many/ mode=backoff, disable-source-ip, reenable-after=7m\n\
             reply /554/ skip-mx\n</smtp-pattern-list>\n",
        );
        assert_eq!(
            entries(&config.smtp_pattern_lists["b-errors"]),
            ["9 ^421 .*\\/too many - mode=backoff,disable-source-ip,reenable-after=420s", "10 554 - skip-mx"]
        );
        assert_eq!(config.queue_settings("b.example", "v").smtp_pattern_lists, ["b-errors"]);
        assert!(config.queue_settings("c.example", "v").smtp_pattern_lists.is_empty());
    }

    #[test]
    fn the_lists_of_a_domain_stand_before_those_of_all_in_the_order_they_are_named() {
        let config = good(
            "<smtp-pattern-list a>\nreply /1/ skip-mx\n</smtp-pattern-list>\n\
             <smtp-pattern-list b>\nreply /2/ skip-mx\n</smtp-pattern-list>\n\
             <domain b.example>\nsmtp-pattern-list a\nsmtp-pattern-list b\n</domain>\n\
             <domain *>\nsmtp-pattern-list builtin,b\n</domain>\n\
             <domain c.example>\nsmtp-pattern-list \"\"\n</domain>\n",
        );
        let of = |domain: &str| config.queue_settings(domain, "v").smtp_pattern_lists.join(" ");
        assert_eq!(
            (of("b.example"), of("x.example"), of("c.example")),
            ("a b builtin".into(), "builtin b".into(), "".into())
        );
    }

    #[test]
    fn a_name_that_does_not_exist_is_refused_and_one_in_another_case_is_told() {
        let (config, messages) = read(
            "<domain *>\nsmtp-pattern-list gmail-errors\n</domain>\n\
             <smtp-pattern-list Gmail-errors>\nreply /x/ mode=backoff\n</smtp-pattern-list>\n",
        );
        assert_eq!(messages, ["gmail-errors differs in case from Gmail-errors"]);
        assert_eq!(config.unwrap().queue_settings("a.example", "v").smtp_pattern_lists, ["gmail-errors"]);
        let (config, messages) = read("<domain *>\nsmtp-pattern-list nobody\n</domain>\n");
        assert!(config.is_none());
        assert_eq!(messages, ["there is no <smtp-pattern-list nobody>"]);
    }

    #[test]
    fn a_reply_broken_over_two_lines_is_joined_and_a_wrong_action_is_an_error_at_its_line() {
        let (config, messages) = read(
            "<smtp-pattern-list x>\nreply /too many err\nors today/ mode=backoff\nreply /b/ skip-mx\n</smtp-pattern-list>\n",
        );
        assert_eq!(messages, ["the pattern of line 6 goes on here; the lines are joined"]);
        assert_eq!(
            entries(&config.unwrap().smtp_pattern_lists["x"]),
            ["6 too many errors today - mode=backoff", "8 b - skip-mx"]
        );
        let (config, messages) =
            read("<smtp-pattern-list x>\nreply /a/ skip-mx,bounce-queue\nreplay /a/ skip-mx\n</smtp-pattern-list>\n");
        assert!(config.is_none());
        assert!(messages[0].contains("contradicts"), "{messages:?}");
        assert!(messages[1].contains("no such directive"), "{messages:?}");
    }

    #[test]
    fn a_pattern_block_gives_a_delay_a_category_and_actions() {
        let config = good(
            "<smtp-pattern 4xx>\n  pattern ^4[0-9]2\n  initial-pts 60\n  max-pts 3600\n</smtp-pattern>\n\
             <smtp-pattern slow>\npattern /slow down/\ncategory policy-related\naction mode=backoff\ninitial-pts 2m\n</smtp-pattern>\n\
             <smtp-pattern act>\npattern /x/\naction skip-mx\n</smtp-pattern>\n",
        );
        let delays: Vec<_> = config.retry_patterns.iter().map(|p| (p.initial.as_secs(), p.max.as_secs())).collect();
        assert_eq!(delays, [(60, 3600), (120, 3600)]);
        assert_eq!(
            entries(&config.bounce_category_patterns),
            ["11 slow down policy-related mode=backoff", "17 x - skip-mx"]
        );
        let (_, messages) = read("<smtp-pattern x> pattern ^4 initial-pts 60 </smtp-pattern>");
        assert_eq!(messages, ["directives on the line of their tag"]);
        let (config, messages) =
            read("<smtp-pattern x>\ninitial-pts 60\n</smtp-pattern>\n<smtp-pattern y>\npattern x\n</smtp-pattern>");
        assert!(config.is_none());
        assert_eq!(messages, ["<smtp-pattern x> has no pattern", "<smtp-pattern y> says nothing of what to do"]);
    }

    #[test]
    fn backoff_directives_are_read() {
        let config = good(
            "<domain *>\nbackoff-retry-after 20m,1h\nbackoff-max-smtp-out 1\nbackoff-max-msg-rate 1/m\n\
             backoff-to-normal-after 1h\nbackoff-to-normal-after-delivery yes\nmax-errors-per-domain 5\n</domain>",
        );
        let q = config.queue_settings("a.example", "v");
        assert_eq!(q.backoff_retry_after, [1200, 3600].map(Duration::from_secs));
        assert_eq!((q.backoff_max_smtp_out, q.max_errors_per_domain), (1, 5));
        assert_eq!(q.backoff_max_msg_rate.flatten().map(|r| r.count), Some(1));
        assert_eq!(q.backoff_to_normal_after, Some(Duration::from_secs(3600)));
        assert!(q.backoff_to_normal_after_delivery && q.backoff_max_connect_rate.is_none());
    }
}
