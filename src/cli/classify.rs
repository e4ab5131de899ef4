//! `carom classify`: what the pattern files make of replies, one a line in, one JSON object a line out.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::classify::RuleSet;
use crate::config::PatternSource;

/// Arguments of `carom classify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pattern file consulted before the built-in rules; may be repeated
    #[arg(long, value_name = "FILE")]
    patterns: Vec<PathBuf>,
    /// Configuration file whose rules are consulted after those of --patterns and before the built-in ones
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Relative paths in the configuration are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR", requires = "config")]
    root: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "edge: reads the pattern files named by the arguments")]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut sources = Vec::new();
    for file in &args.patterns {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        sources.push(PatternSource::file(file, text));
    }
    if let Some(file) = &args.config {
        let loaded = crate::config::load(file, args.root.as_deref());
        match loaded.config {
            Some(config) => sources.extend(config.bounce_category_patterns),
            None => return Ok(super::mistakes(&loaded.diagnostics)),
        }
    }
    let rules = match RuleSet::compile(&sources) {
        Ok(rules) => rules,
        Err(errors) => {
            for e in errors {
                eprintln!("error: {e}");
            }
            return Ok(ExitCode::from(2));
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut input = std::io::stdin().lock();
    let mut bytes = Vec::new();
    while input.read_until(b'\n', &mut bytes)? > 0 {
        // Servers answer in any charset; what is no UTF-8 is shown as such and classified by the rest.
        let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        bytes.clear();
        serde_json::to_writer(
            &mut out,
            &crate::classify::classify_line(&rules, &line, &crate::classify::Facts::default()),
        )
        .map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
