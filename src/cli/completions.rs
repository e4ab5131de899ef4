//! `carom completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;

/// Arguments of `carom completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to make them for
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, super::Failure> {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "carom", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
