//! Reply -> category, with reasons. Pure: a reply in, a verdict out.
//!
//! A [`RuleSet`] is the configured pattern sources, then the built-in `patterns/bounce-categories.conf`, then the table
//! of reply codes. All patterns are searched at once; the first in that order that matches decides, so entries of the
//! operator outrank ours. What no pattern knows is decided by enhanced code, then by basic code, then it is `other`.
//! A set is immutable and has an id that its whole content decides: whoever classifies with the set an event is stamped
//! with comes to the same verdict (reference/accounting.md, section 7).

mod automaton;
mod builtin;
mod cache;
pub mod cause;
mod codes;
mod compile;
pub mod explain;
mod limits;
mod line;
pub mod lint;
mod literals;
mod mask;
mod matcher;
pub mod novelty;
mod pattern_file;
mod pcre;
mod rule;
mod shared;
mod stored;
pub mod suggest;
pub mod template;
mod verdict;

pub(crate) use builtin::BACKOFF;
pub use compile::{MAX_REPLY, Note, RuleSet};
pub use limits::{Facts, Limits};
pub use line::{Line, classify_line};
pub use pattern_file::{PatternError, parse as parse_pattern_file, parse_source as parse_pattern_source};
pub use rule::{Rule, RuleKind};
pub use shared::RuleSets;
pub use verdict::{FailureKind, Match, Verdict, VerdictSource, combine};
