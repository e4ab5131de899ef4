//! Files -> one immutable, validated [`Config`].
//!
//! A configuration goes through this room in steps that each have their file: bytes to lines and words (`lexer`), lines
//! to a tree with includes in place (`tree`, with `include` as the edge that reads files), lines to typed values by THE
//! table (`directives`), blocks to what they
//! describe (`resolve`, with `names` for what is out of place), that to a whole (`assemble`) which is checked (`check`, `reports`), and what holds for a queue or a
//! submitter looked up in it (`inherit`). All faults are found in one reading and shown with their place (`diagnose`).
//! What other rooms must check, such as whether a regex compiles or a key can be read, is left to a dry run of `node`.

mod acct;
mod actions;
pub mod address_list;
mod assemble;
pub mod auto_suppression;
pub mod body_pattern;
mod check;
pub mod command;
pub mod delivery_macro;
pub mod diagnose;
mod dialect;
pub mod diff;
pub mod directives;
mod include;
mod inherit;
pub mod job_guard;
mod lexer;
pub mod model;
mod names;
pub mod pattern;
mod pattern_file;
pub mod push;
mod reports;
mod resolve;
mod show;
mod smtp_pattern;
mod tree;
pub mod unsubscribe;
mod unsupported;
pub mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use acct::{HeaderToField, OnLag, Privacy, QueuePattern, is_wanted, privacy};
pub use actions::{ACTION_NAMES, QueueMode, ReplyAction, conflicts, is_action, parse_actions};
pub use address_list::{AddressList, Entries};
pub use auto_suppression::{AutoSuppression, Breaker, Evidence, RuleSubject, SuppressionRule};
pub use body_pattern::BodyPattern;
pub use command::Command;
pub use delivery_macro::{DeliveryMacro, Template};
pub use diagnose::{Diagnostic, Place, Severity, counts, render};
pub use diff::{diff, restart_needed};
pub use job_guard::{GuardAction, JobGuard, Share};
pub use model::*;
pub use pattern_file::read_pattern_file;
pub use push::{BatchFormat, Push, Secret};
pub use smtp_pattern::BUILTIN_LIST;
pub use unsubscribe::{AddListUnsubscribe, ListUnsubscribe, UnsubscribeListener};

/// The configuration in force: replaced as a whole by a reload.
pub type Live = Arc<arc_swap::ArcSwap<Config>>;

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when any of the diagnostics is an error.
    pub config: Option<Config>,
    /// Everything found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// Where a server that runs with this file takes commands, also when the file has errors now; `None` when it can't
    /// be read.
    pub command_socket: Option<PathBuf>,
    /// Where accounting files, certificates and programs are named, for what only other rooms can find out about them.
    pub places: BTreeMap<PathBuf, Place>,
}

/// Reads the configuration at `path`. Relative paths in it are taken from `root`, or from the current directory. Never
/// fails otherwise than by diagnostics; reads only what the configuration names.
pub fn load(path: &Path, root: Option<&Path>) -> Loaded {
    read(path, root, &include::Disk)
}

/// Reads a configuration from a text, for tests and for editors. It can't include files.
pub fn parse_str(name: &str, text: &str) -> Loaded {
    let mut reading = tree::Reading::new(None, &tree::NoFiles);
    let nodes = tree::read_text(&mut reading, PathBuf::from(name), text.as_bytes(), &mut Vec::new());
    finish(reading, PathBuf::from(name), &nodes)
}

fn read(path: &Path, root: Option<&Path>, files: &dyn tree::Files) -> Loaded {
    let mut reading = tree::Reading::new(root, files);
    let nodes = tree::read_file(&mut reading, path);
    finish(reading, path.to_owned(), &nodes)
}

fn finish(mut reading: tree::Reading<'_>, path: PathBuf, nodes: &[tree::Node]) -> Loaded {
    if reading.texts.is_empty() {
        // There is no file: nothing can be said about what it leaves out.
        let diagnostics = reading.diagnostics.finish(&reading.texts);
        return Loaded { config: None, diagnostics, command_socket: None, places: reading.places };
    }
    let config = resolve::resolve(&mut reading, path, nodes);
    let command_socket = Some(config.command_socket.clone());
    let config = (!reading.diagnostics.any_error()).then_some(config);
    let diagnostics = reading.diagnostics.finish(&reading.texts);
    Loaded { config, diagnostics, command_socket, places: reading.places }
}
