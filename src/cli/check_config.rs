//! `carom check-config FILE`: the parser, then everything that would happen at start-up short of starting.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{counts, render};

/// Arguments of `carom check-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Errors and warnings go to standard error, or with --json to standard output.\n\
    Exit code: 0 the server would start with it; 2 it would not.")]
pub struct Args {
    /// The configuration file
    file: PathBuf,
    /// Relative paths in it are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Show the suppression rules in force, with what nobody wrote
    #[arg(long)]
    rules: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, super::Failure> {
    let loaded = crate::node::load(&args.file, args.root.as_deref());
    let good = loaded.config.is_some();
    if args.json {
        let rules = loaded.config.as_ref().map(|config| config.auto_suppression.to_string());
        let rules: Option<Vec<&str>> = rules.as_ref().map(|rules| rules.lines().collect());
        say!("{}", serde_json::json!({ "ok": good, "diagnostics": loaded.diagnostics, "autoSuppression": rules }))?;
    } else {
        eprint!("{}", render(&loaded.diagnostics));
        let counts = counts(&loaded.diagnostics);
        match good {
            true => {
                say!("{}: good ({counts})", args.file.display())?;
                // What nobody writes is in force too, so it is shown.
                if let Some(config) = loaded.config.as_ref().filter(|_| args.rules) {
                    say!("<auto-suppression>")?;
                    config.auto_suppression.to_string().lines().try_for_each(|line| say!("    {line}"))?;
                    say!("</auto-suppression>")?;
                }
            }
            false => eprintln!("{}: {counts}; the server would not start with it", args.file.display()),
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
