//! Blocks and files of patterns: about replies, and about the bodies of reports.

use super::{Draft, is_category, was_broken_at_a_blank};
use crate::config::body_pattern::{BOUNCE_GROUPS, BodyPattern, FEEDBACK_GROUPS};
use crate::config::directives::report::{EMAIL_PATTERNS, PatternsBlock};
use crate::config::directives::{Scope, Setting};
use crate::config::lexer::Line;
use crate::config::model::*;
use crate::config::names::no_blocks;
use crate::config::pattern_file;
use crate::config::tree::{Block, Node, Reading};

impl Draft {
    /// `bounce-pattern-file` of a `<domain>`: its rules are limited to that domain and consulted before the global ones.
    pub(super) fn domain_patterns<T>(
        &mut self,
        reading: &mut Reading<'_>,
        scope: &str,
        domain: &DomainPattern,
        setting: &Setting<T>,
    ) {
        if !scope.is_empty() {
            let message = format!("bounce-pattern-file: its patterns hold for {domain} whatever the VirtualMTA");
            reading.warning(setting.span, message, "put it into a <domain> at the top level");
        }
        let path = reading.resolve(setting.text.trim_matches('"'));
        match pattern_file::read(reading.files, &path, Some(domain.clone())) {
            Ok(file) => self.patterns.push(PatternSource::File(file)),
            Err(message) => {
                let help = "check the path and the permissions";
                reading.error(setting.span, format!("bounce-pattern-file: {message}"), help);
            }
        }
    }

    /// `/REGEX/ CATEGORY` lines. A regex that a text editor broke over two lines is joined again. A rule that can't be
    /// read is left out with a warning: the rules behind it and the built-in ones still decide.
    pub(super) fn patterns(&mut self, reading: &mut Reading<'_>, block: &Block) {
        let help = "write /REGEX/ CATEGORY on one line";
        let mut open: Option<Line> = None;
        for child in &block.children {
            let mut line = match child {
                Node::Line { line, .. } => line.clone(),
                Node::Block(inner) => {
                    no_blocks(reading, Scope::Patterns, &[inner]);
                    continue;
                }
            };
            match open.take() {
                Some(first) if line.text.starts_with('/') => {
                    reading.warning(first.span, "the pattern is not closed; the rule is left out", help);
                }
                Some(first) => {
                    let message = format!("the pattern of line {} goes on here; the lines are joined", first.span.line);
                    reading.warning(line.span, message, help);
                    let blank = if was_broken_at_a_blank(reading, &first, &line) { " " } else { "" };
                    line = Line { text: format!("{}{blank}{}", first.text, line.text), ..first };
                }
                None => {}
            }
            let mut args = line.words();
            match (args.regex(), args.word(), args.rest().map(|word| word.text).unwrap_or_default()) {
                (Some(regex), Some(category), rest) if is_category(&category.text) => {
                    if regex.text.is_empty() {
                        let help = "put it last, and write /./ if it is meant";
                        reading.warning(
                            regex.span,
                            "an empty pattern matches everything; no later rule is reached",
                            help,
                        );
                    }
                    let file = reading.texts.get(line.span.file as usize).map(|t| t.name.clone()).unwrap_or_default();
                    let (line, regex, category) = (line.span.line, regex.text, category.text.to_ascii_lowercase());
                    self.patterns.push(PatternSource::Inline { file, line, regex, category, rest });
                }
                (None, ..) if line.text.starts_with('/') && line.text.len() < 16_384 => open = Some(line),
                (Some(_), None, _) => reading.warning(line.span, "the category is missing; the rule is left out", help),
                _ => reading.warning(line.span, "not a pattern and its category; the rule is left out", help),
            }
        }
        if let Some(line) = open {
            reading.warning(line.span, "the pattern is not closed; the rule is left out", help);
        }
    }

    /// Each file is read by itself: which groups mean something depends on the processor.
    pub(super) fn email_patterns(
        &mut self,
        reading: &mut Reading<'_>,
        which: usize,
        block: &Block,
        processor: &mut Processor,
    ) {
        let (settings, blocks) = self.settings(reading, Scope::EmailPatterns, EMAIL_PATTERNS, &block.children);
        no_blocks(reading, Scope::EmailPatterns, &blocks);
        let groups = if which == 0 { BOUNCE_GROUPS } else { FEEDBACK_GROUPS };
        for setting in &settings {
            let mut said = PatternsBlock { log_match_info: processor.log_match_info, ..PatternsBlock::default() };
            setting.apply(&mut said);
            processor.log_match_info = said.log_match_info;
            for (file, content) in said.files {
                let mut doubts = Vec::new();
                match BodyPattern::from_bytes(&file, &content, groups, &mut doubts) {
                    Ok(pattern) => {
                        if pattern.lines() > 1 && !pattern.is_verbose() {
                            let lines = pattern.lines();
                            let message = format!("{}: its {lines} lines are one pattern", file.display());
                            let help = "fine if a match runs over several lines; else write a file for each pattern";
                            reading.note(setting.span, message, help);
                        }
                        processor.body_patterns.push(pattern);
                    }
                    Err(e) => {
                        let message = format!("{}:{}: {e}", file.display(), e.line + 1);
                        reading.error(setting.span, message, "a pattern file holds one Perl-style pattern");
                    }
                }
                for doubt in doubts {
                    reading.warning(setting.span, format!("{}: {doubt}", file.display()), "");
                }
            }
        }
    }
}
