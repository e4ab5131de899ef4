//! One rule: `/REGEX/ CATEGORY [ACTION[,ACTION...]] [key=value ...]`. Pure.

use serde::Serialize;

use super::limits::Limits;
use crate::config::{ReplyAction, is_action, parse_actions};
use crate::event::{Category, category};

/// Longest regex, in bytes, its macros expanded.
pub const MAX_REGEX: usize = 8192;
/// Longest category name, in bytes.
pub const MAX_CATEGORY: usize = 64;

/// What `kind=` makes of a permanent failure, whatever the category implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// The address is dead.
    Hard,
    /// The mailbox may well be there.
    Soft,
    /// The receiver refuses this sender, this content or this way of sending.
    Block,
}

impl RuleKind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            RuleKind::Hard => "hard",
            RuleKind::Soft => "soft",
            RuleKind::Block => "block",
        }
    }

    fn by_name(name: &str) -> Option<RuleKind> {
        [RuleKind::Hard, RuleKind::Soft, RuleKind::Block]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// One rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// File as it was named in the configuration.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// The regex, without the slashes, its macros expanded.
    pub regex: String,
    /// The category; a known one is in its usual (lower) case. Empty for `-`: such a rule decides none, it only acts.
    pub category: String,
    /// `kind=`, which overrides what the category implies.
    pub kind: Option<RuleKind>,
    /// What it makes the queue do, in order.
    pub actions: Vec<ReplyAction>,
    /// Where it holds.
    pub limits: Limits,
    /// One of those that ship with Carom: it does not see addresses.
    pub shipped: bool,
    /// Replies that the comments above the rule give as examples (`# e.g. `).
    pub examples: Vec<String>,
    /// Replies that the comments above the rule say it must not decide (`# not: `).
    pub nots: Vec<String>,
}

impl Rule {
    /// A rule from its parts: `what` is the category and all behind it, `limits` those of an `only` line above it.
    pub fn new(file: &str, line: u32, regex: &str, what: &str, limits: &Limits) -> Result<Rule, String> {
        if regex.len() > MAX_REGEX {
            return Err(format!("the regex has {} bytes; at most {MAX_REGEX} are allowed", regex.len()));
        }
        if regex.contains(['\n', '\r']) {
            return Err("the regex goes over several lines; write it on one".into());
        }
        let (category, rest) = what.trim().split_once([' ', '\t']).unwrap_or((what.trim(), ""));
        if category.len() > MAX_CATEGORY || !category.bytes().all(is_name_byte) || category.is_empty() {
            return Err(format!(
                "{:?} is no category name: letters, digits, hyphens, dots and underscores, at most {MAX_CATEGORY}",
                category.chars().take(MAX_CATEGORY).collect::<String>()
            ));
        }
        if category.eq_ignore_ascii_case(category::SUPPRESSED) {
            return Err("`suppressed` is given by Carom itself and can't come from a pattern".into());
        }
        let category = if category == "-" { "" } else { category };
        let mut rule = Rule {
            // The name is part of verdicts, files and the stored text, where a tab or line break would end it.
            file: file.replace(|c: char| c.is_control(), "?"),
            line,
            regex: regex.to_owned(),
            category: Category::by_name(category).map_or(category, |known| known.name).to_owned(),
            kind: None,
            actions: Vec::new(),
            limits: limits.clone(),
            shipped: false,
            examples: Vec::new(),
            nots: Vec::new(),
        };
        rule.read_rest(rest)?;
        if rule.category.is_empty() && rule.actions.is_empty() {
            return Err("a rule without a category (-) needs an action".into());
        }
        if rule.category.is_empty() && rule.kind.is_some() {
            return Err("kind= is for rules with a category".into());
        }
        Ok(rule)
    }

    /// Actions and `key=value` words, in any order.
    fn read_rest(&mut self, rest: &str) -> Result<(), String> {
        let mut actions = String::new();
        let mut own: Vec<&str> = Vec::new();
        for word in rest.split_whitespace() {
            if is_action(word.split(',').find(|w| !w.is_empty()).unwrap_or(word)) {
                actions.push_str(word);
                actions.push(',');
                continue;
            }
            match word.split_once('=') {
                Some((key, value)) => {
                    let key = key.to_ascii_lowercase();
                    if key == "kind" {
                        let kind = RuleKind::by_name(value);
                        self.kind = Some(kind.ok_or_else(|| format!("kind={value}: write hard, soft or block"))?);
                        continue;
                    }
                    if key == "for" {
                        return Err("\"for\" is no limit: write domain=".into());
                    }
                    if own.contains(&word.split('=').next().unwrap_or(word)) {
                        return Err(format!("{key}= is given twice: write its values with commas between them"));
                    }
                    own.push(word.split('=').next().unwrap_or(word));
                    // A rule's own limit replaces the one of the `only` line that has the same key.
                    self.limits.clear(&key);
                    self.limits.add(&key, value)?;
                }
                None => {
                    return Err(format!(
                        "{:?} behind the category is neither an action nor key=value (a comment begins with #)",
                        word.chars().take(64).collect::<String>()
                    ));
                }
            }
        }
        if !actions.is_empty() {
            self.actions = parse_actions(&actions)?;
        }
        Ok(())
    }

    /// `file:line`, as verdicts name it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// The actions as they are written, with commas.
    pub fn actions_text(&self) -> String {
        self.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// What category names are made of.
pub(super) const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}
