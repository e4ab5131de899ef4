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
}

#[expect(clippy::disallowed_methods, reason = "edge: reads the pattern files named by the arguments")]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut sources = Vec::new();
    for file in &args.patterns {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        sources.push(PatternSource::File { file: file.clone(), text });
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
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        serde_json::to_writer(&mut out, &crate::classify::classify_line(&rules, &line))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
