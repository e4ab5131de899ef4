//! `carom patterns apply`: the rules of the configuration are checked, then the running server is to use them.

use std::process::ExitCode;

use serde_json::json;

use super::lint;
use super::paint::Paint;
use crate::classify::lint::Finding;
use crate::cli::{Failure, ServerArgs};
use crate::manage::{Answer, Command};

/// Arguments of `carom patterns apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The rules that the configuration names are checked first; with errors in them nothing is done, \
    warnings are shown. Then the server reads its whole configuration again, as by `carom reload`: all of it, or \
    none.\n\n\
    Example:\n  \
    carom patterns apply --config /etc/carom/config\n\n\
    Exit code: 0 the server has it; 1 no server answers; 2 it was refused, and the old rules stay in force."
)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Refuse also over warnings
    #[arg(long)]
    strict: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = match args.server.config.load()? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let findings = lint::of_sources(&config.bounce_category_patterns);
    let paint = Paint::stderr();
    if !args.json {
        for finding in &findings {
            eprintln!("{}", lint::text(finding, paint));
        }
    }
    let refused = findings.iter().any(|f| f.is_error() || args.strict && f.is_warning());
    let (done, message) = if refused {
        (false, "nothing was applied: the rules in force stay".to_owned())
    } else {
        match args.server.ask(&Command::Reload)? {
            Ok(Answer::Success { message, .. }) => (true, message),
            Ok(Answer::Error { message }) => (false, message.trim_end().to_owned()),
            Err(code) => return Ok(code),
        }
    };
    if args.json {
        let count = |wanted: fn(&Finding) -> bool| findings.iter().filter(|f| wanted(f)).count();
        let object = json!({
            "applied": done, "message": message, "errors": count(Finding::is_error), "warnings": count(Finding::is_warning),
            "findings": findings,
        });
        say!("{object}")?;
    } else if done {
        say!("{message}")?;
    } else {
        eprintln!("carom: {message}");
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
