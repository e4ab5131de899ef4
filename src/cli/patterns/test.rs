//! `carom patterns test`: the examples in pattern files, each through all the rules it would meet.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::paint::{Paint, grouped, on_one_line};
use super::rules::{BaseArgs, compile, read};
use crate::classify::explain::{configured_rules, run_examples};
use crate::cli::Failure;

/// Arguments of `carom patterns test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "An example is a comment `# e.g. REPLY` above a rule: that rule, or one before it of the same \
    category, must decide it. `# not: REPLY` is a reply that the rule below it must not decide.\n\n\
    Examples:\n  \
    carom patterns test own.conf\n  \
    carom patterns test patterns/*.conf --json\n\n\
    Exit code: 0 all as the files say; 1 some are not; 2 a file can't be read or is broken.")]
pub(super) struct Args {
    /// Pattern files, consulted in this order before the rules of the configuration and the shipped ones
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let own = match args.files.iter().map(|f| read(f)).collect::<Result<Vec<_>, _>>() {
        Ok(own) => own,
        Err(e) => {
            eprintln!("carom: {e}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut sources = own.clone();
    match args.base.load()? {
        Ok(config) => sources.extend(config.map(|c| c.bounce_category_patterns).unwrap_or_default()),
        Err(code) => return Ok(code),
    }
    let set = match compile(&sources) {
        Ok(set) => set,
        Err(code) => return Ok(code),
    };
    let (rules, _) = configured_rules(&own);
    let (examples, wrong) = run_examples(&rules, &set);
    let without = rules.iter().filter(|r| r.examples.is_empty()).count();
    if args.json {
        let object = json!({
            "ok": wrong.is_empty(), "rules": rules.len(), "examples": examples, "rulesWithoutExamples": without,
            "failed": wrong,
        });
        say!("{object}")?;
    } else {
        let paint = Paint::stdout();
        for w in &wrong {
            let by = if w.decided_by.is_empty() { "nothing" } else { &w.decided_by };
            say!("{}: {} {}", paint.bold(&w.rule), paint.error("failed:"), on_one_line(&w.example, 200))?;
            say!("    expected {}, got {} by {by}", w.expected, w.category)?;
        }
        let result =
            if wrong.is_empty() { paint.good("all good") } else { paint.error(&format!("{} failed", wrong.len())) };
        let examples = grouped(examples as u64);
        say!(
            "{examples} examples of {} rules: {result}{}",
            rules.len(),
            match without {
                0 => String::new(),
                n => format!(" ({n} rules have no example)"),
            }
        )?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
