//! Rules about replies, before they are compiled: entries of blocks, and pattern files as they stood when they were read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DomainPattern;

/// Where a pattern rule comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternSource {
    /// One entry of `<bounce-category-patterns>`.
    Inline {
        /// Where it stands.
        file: PathBuf,
        /// Its line, from 1.
        line: u32,
        /// Between the slashes.
        regex: String,
        /// Lower-cased.
        category: String,
        /// What follows the category: actions and limits, as in a pattern file.
        rest: String,
    },
    /// A whole pattern file, already read, so that what was checked is what is used.
    File(PatternFile),
}

impl PatternSource {
    /// A pattern file that includes no other.
    pub fn file(file: impl Into<PathBuf>, text: impl Into<String>) -> PatternSource {
        PatternSource::File(PatternFile { file: file.into(), text: text.into(), ..PatternFile::default() })
    }

    /// Whether a rule of it may give this category; a word of that spelling in a file is taken for one.
    pub fn may_give(&self, name: &str) -> bool {
        let speaks_of =
            |text: &str| text.split_whitespace().any(|word| word.trim_end_matches(';').eq_ignore_ascii_case(name));
        match self {
            PatternSource::Inline { category, .. } => category.eq_ignore_ascii_case(name),
            PatternSource::File(file) => {
                speaks_of(&file.text) || file.included.values().flatten().any(|(_, text)| speaks_of(text))
            }
        }
    }
}

/// A pattern file as it stood when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatternFile {
    /// Its path.
    pub file: PathBuf,
    /// Its content.
    pub text: String,
    /// What it and the files it includes include: by the path as [`PatternFile::path_of`] makes it, the files meant.
    pub included: BTreeMap<PathBuf, Vec<(PathBuf, String)>>,
    /// Only for mail to this destination: `bounce-pattern-file` inside `<domain>`.
    pub domain: Option<DomainPattern>,
}

impl PatternFile {
    /// What `include NAME` in `file` means: relative names are taken from the folder of the file they stand in.
    pub fn path_of(file: &Path, name: &str) -> PathBuf {
        let name = name.trim().trim_matches('"');
        file.parent().map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    /// The name behind `include` when `line` of a pattern file is such a line.
    pub fn included_name(line: &str) -> Option<&str> {
        let line = line.trim();
        let (word, name) = line.split_once([' ', '\t'])?;
        word.eq_ignore_ascii_case("include").then(|| name.split(" #").next().unwrap_or(name).trim())
    }
}

/// `initial-pts` and `max-pts` of a `<smtp-pattern>`: when a recipient is tried again whose refusal matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPattern {
    /// The pattern, with the place where it stands. Decides no category.
    pub source: PatternSource,
    /// The wait after the first attempt; doubled after each further one.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}
