#![expect(clippy::disallowed_methods, reason = "edge: reads the pattern files it is given")]
//! What mails are read with: the forms that Carom knows, and body patterns and categories of the operator's, from a
//! configuration or from pattern files by themselves, without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::classify::{RuleSet, RuleSets};
use crate::cli::mistakes;
use crate::config::body_pattern::{BOUNCE_GROUPS, FEEDBACK_GROUPS};
use crate::config::{BodyPattern, Processor};
use crate::report::{Matched, Recognised, recognise_with};

/// Rules and patterns.
pub(super) struct Forms {
    /// What gives results their category.
    pub rules: Arc<RuleSet>,
    bounce: Vec<BodyPattern>,
    feedback: Vec<BodyPattern>,
}

impl Forms {
    /// Those of a configuration, if one is named, behind those of `files`. The exit code when something is wrong with
    /// them, which has been said by then.
    pub(super) fn of(config: Option<&Path>, root: Option<&Path>, files: &[PathBuf]) -> Result<Forms, ExitCode> {
        let mut forms = Forms { rules: Arc::new(RuleSet::builtin()), bounce: Vec::new(), feedback: Vec::new() };
        let mut good = true;
        for file in files {
            match forms.add(file) {
                Ok(doubts) => doubts.iter().for_each(|doubt| eprintln!("carom: {}: {doubt}", file.display())),
                Err(why) => {
                    eprintln!("carom: {}: {why}", file.display());
                    good = false;
                }
            }
        }
        if let Some(config) = config {
            let rules = RuleSets::default();
            let loaded = crate::node::load_with(config, root, &rules);
            let Some(config) = loaded.config else { return Err(mistakes(&loaded.diagnostics)) };
            // It has been compiled in the check.
            forms.rules = rules.compile(&config.bounce_category_patterns).unwrap_or(forms.rules);
            let patterns = |p: Option<Processor>| p.map(|p| p.body_patterns).unwrap_or_default();
            forms.bounce.extend(patterns(config.bounce_processor));
            forms.feedback.extend(patterns(config.feedback_loop_processor));
        }
        if good { Ok(forms) } else { Err(ExitCode::from(2)) }
    }

    /// Adds a pattern file: its groups show which processor it is for.
    fn add(&mut self, file: &Path) -> Result<Vec<String>, String> {
        let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
        let mut doubts = Vec::new();
        let read = |groups, doubts: &mut Vec<String>| {
            BodyPattern::from_bytes(file, &bytes, groups, doubts).map_err(|e| format!("line {}: {e}", e.line + 1))
        };
        let pattern = read(BOUNCE_GROUPS, &mut doubts)?;
        let names = pattern.pattern.group_names();
        let only = |groups: &[&str], others: &[&str]| names.iter().any(|n| groups.contains(n) && !others.contains(n));
        if only(FEEDBACK_GROUPS, BOUNCE_GROUPS) && !only(BOUNCE_GROUPS, FEEDBACK_GROUPS) {
            doubts.clear();
            self.feedback.push(read(FEEDBACK_GROUPS, &mut doubts)?);
        } else {
            self.bounce.push(pattern);
        }
        Ok(doubts)
    }

    /// What a mail is, and the pattern that recognised it where Carom does not know the form itself.
    pub(super) fn recognise(&self, mail: &[u8]) -> (Recognised, Option<Matched>) {
        recognise_with(mail, &self.bounce, &self.feedback)
    }
}
