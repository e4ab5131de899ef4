//! `carom completions SHELL`.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

/// Arguments of `carom completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to make them for
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, super::Failure> {
    // By way of memory, where writing does not fail.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "carom", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
