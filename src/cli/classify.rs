//! `carom classify`: what the pattern files make of replies, one a line in, one JSON object a line out.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Failure;
use super::given::GivenArgs;
use crate::classify::{BACKOFF, Line, RuleSet, classify_line};
use crate::config::{PatternSource, QueueMode, ReplyAction};

/// Arguments of `carom classify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One reply a line in, one JSON object a line out: text, category, kind (hard, soft, block, transient), \
    rule, source, action, suppress, backoff (by the rules given, or by the shipped list that `smtp-pattern-list builtin` puts \
    in force).\n\n\
    Examples:\n  \
    echo '550 5.1.1 no such user' | carom classify\n  \
    carom classify --config /etc/carom/config --provider gmail < replies.txt | jq -r .category | sort | uniq -c"
)]
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
    #[command(flatten)]
    given: GivenArgs,
}

/// What is printed of a reply.
#[derive(serde::Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    /// Whether a sender should slow down: a rule that matches, of those asked or of the shipped list, says `mode=backoff`.
    backoff: bool,
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
    let shipped = RuleSet::compile_alone(&[PatternSource::file(Path::new(BACKOFF.0), BACKOFF.1.to_owned())])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let facts = args.given.facts();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut input = std::io::stdin().lock();
    let mut bytes = Vec::new();
    while input.read_until(b'\n', &mut bytes)? > 0 {
        // Servers answer in any charset; what is no UTF-8 is shown as such and classified by the rest.
        let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        bytes.clear();
        let line = classify_line(&rules, &line, &facts);
        let slow = ReplyAction::Mode(QueueMode::Backoff);
        let backoff =
            line.action.split(',').any(|a| a == slow.to_string()) || shipped.actions(line.text, &facts).contains(&slow);
        serde_json::to_writer(&mut out, &Printed { line, backoff }).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
