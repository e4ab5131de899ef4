#![expect(clippy::disallowed_methods, reason = "edge: reads the pattern files named by the arguments")]
//! Which rules a command works with: pattern files named on the command line, those of a configuration, the shipped ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::classify::{PatternError, RuleSet};
use crate::cli::{CONFIG_PLACES, Failure, mistakes};
use crate::config::{Config, PatternFile, PatternSource};

/// Which rules.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RulesArgs {
    /// Pattern file, consulted before the rules of the configuration; may be repeated
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
}

/// Which configuration's rules stand behind.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BaseArgs {
    /// Configuration whose rules are consulted before the shipped ones [default: $CAROM_CONFIG, /etc/carom/config,
    /// /etc/pmta/config, if there is one]
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Relative paths in the configuration are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Only the shipped rules behind, even if there is a configuration
    #[arg(long, conflicts_with = "config")]
    pub(super) shipped: bool,
}

/// Rules ready to be used.
pub(super) struct Loaded {
    pub(super) set: RuleSet,
    /// Where they come from, in order, before the shipped ones.
    pub(super) sources: Vec<PatternSource>,
    /// For people: what they are.
    pub(super) name: String,
}

/// What a command works with, or the exit code to leave with: what is wrong is on standard error.
pub(super) type OrExit<T> = Result<T, ExitCode>;

/// A pattern file with what it includes.
pub(super) fn read(file: &Path) -> Result<PatternSource, Failure> {
    let text = content(file)?;
    let mut included = BTreeMap::new();
    includes(file, &text, &mut included, 0);
    Ok(PatternSource::File(PatternFile { file: file.to_owned(), text, included, domain: None }))
}

/// What is no UTF-8 is found by lint; a comment in another charset is no reason to stop.
fn content(file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `text` includes, and those files in turn. What can't be read is left out: reading the rules tells its line.
fn includes(file: &Path, text: &str, found: &mut BTreeMap<PathBuf, Vec<(PathBuf, String)>>, depth: usize) {
    const DEEPEST: usize = 10;
    for name in text.lines().filter_map(PatternFile::included_name) {
        let path = PatternFile::path_of(file, name);
        if depth >= DEEPEST || found.contains_key(&path) {
            continue;
        }
        let matching = glob::glob(&path.to_string_lossy()).map(|paths| paths.flatten().collect()).unwrap_or_default();
        let files: Vec<PathBuf> = matching;
        let read: Vec<(PathBuf, String)> = files.iter().filter_map(|f| Some((f.clone(), content(f).ok()?))).collect();
        let is_pattern = name.contains(['*', '?', '[']);
        if !read.is_empty() || is_pattern {
            found.insert(path, read.clone());
        }
        for (file, text) in &read {
            includes(file, text, found, depth + 1);
        }
    }
}

impl BaseArgs {
    /// The configuration, if one is meant.
    pub(super) fn load(&self) -> Result<OrExit<Option<Config>>, Failure> {
        let places = || CONFIG_PLACES.iter().map(PathBuf::from).find(|p| p.exists());
        let file = match &self.config {
            _ if self.shipped => None,
            Some(file) => Some(file.clone()),
            None => std::env::var_os("CAROM_CONFIG").map(PathBuf::from).or_else(places),
        };
        let Some(file) = file else { return Ok(Ok(None)) };
        let loaded = crate::config::load(&file, self.root.as_deref());
        Ok(loaded.config.map(Some).ok_or_else(|| mistakes(&loaded.diagnostics)))
    }
}

impl RulesArgs {
    /// The rules, compiled.
    pub(super) fn load(&self) -> Result<OrExit<Loaded>, Failure> {
        let mut sources = self.rules.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let mut parts: Vec<String> = self.rules.iter().map(|f| f.display().to_string()).collect();
        match self.base.load()? {
            Err(code) => return Ok(Err(code)),
            Ok(None) => {}
            Ok(Some(config)) => {
                parts.push(config.file.display().to_string());
                sources.extend(config.bounce_category_patterns);
            }
        }
        parts.push("the shipped rules".to_owned());
        Ok(compile(&sources).map(|set| Loaded { set, sources, name: parts.join(", ") }))
    }

    /// Whether rules were named, so that history is to be classified anew.
    pub(super) fn is_given(&self) -> bool {
        !self.rules.is_empty() || self.base.config.is_some() || self.base.shipped
    }
}

/// Compiles; prints what is wrong.
pub(super) fn compile(sources: &[PatternSource]) -> OrExit<RuleSet> {
    RuleSet::compile(sources).map_err(|errors| refused(&errors))
}

fn refused(errors: &[PatternError]) -> ExitCode {
    for error in errors {
        eprintln!("error: {error}");
    }
    eprintln!("carom: `carom patterns lint` shows the places");
    ExitCode::from(2)
}
