//! The command line: one file per subcommand. Each reads its arguments, calls one thing and prints.
//!
//! Exit codes: 0 done; 1 it did not work, or a check found something; 2 the arguments or the configuration are wrong.

mod check_config;
mod classify;
mod completions;
pub mod demo;
mod reload;
mod report;
mod run;
pub mod send;
pub mod sink;
mod status;
mod store;
mod suppress;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where the configuration is looked for when `--config` does not say.
const CONFIG_PLACES: &[&str] = &["/etc/carom/config", "/etc/pmta/config"];

#[derive(Debug, Parser)]
#[command(name = "carom", version, about = "Outbound mail transfer agent for bulk senders", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server in the foreground
    Run(run::Args),
    /// Check a configuration file and show every mistake in it
    CheckConfig(check_config::Args),
    /// Make the running server read its configuration again
    Reload(reload::Args),
    /// Show queues, outputs and store of the running server
    Status(status::Args),
    /// Send a campaign: recipients from a CSV, a template, a summary
    Send(send::Args),
    /// List, add, remove and check suppressed addresses
    Suppress(suppress::Args),
    /// Verify or repair a store
    Store(store::Args),
    /// Classify SMTP replies: one a line on standard input, JSON lines out
    Classify(classify::Args),
    /// Read bounces and complaints: files, folders, mailboxes
    Report(report::Args),
    /// Simulated mailbox providers as a server, for load tests and rehearsals
    Sink(sink::Args),
    /// Two campaigns through a whole Carom with simulated providers, and the books compared
    Demo(demo::Args),
    /// Print shell completions
    Completions(completions::Args),
}

/// What went wrong, for the terminal.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the arguments, runs the subcommand, gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Send(args) => send::run(args),
        Command::Suppress(args) => suppress::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Sink(args) => sink::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|e| {
        eprintln!("carom: {e}");
        ExitCode::FAILURE
    })
}

/// `--config` and `--root`, shared by the commands that need the configuration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: $CAROM_CONFIG, /etc/carom/config, /etc/pmta/config]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Relative paths in the configuration are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file that is meant.
    #[expect(clippy::disallowed_methods, reason = "edge: the environment may name the configuration")]
    fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        if let Some(file) = std::env::var_os("CAROM_CONFIG") {
            return Ok(file.into());
        }
        CONFIG_PLACES.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
            format!("no configuration: give --config FILE (looked at {})", CONFIG_PLACES.join(", ")).into()
        })
    }

    /// Reads it; prints what is wrong with it. `Err` holds the exit code to leave with.
    fn load(&self) -> Result<Result<crate::config::Config, ExitCode>, Failure> {
        let file = self.file()?;
        let loaded = crate::config::load(&file, self.root.as_deref());
        for diagnostic in &loaded.diagnostics {
            eprint!("{}", diagnostic.render());
        }
        Ok(loaded.config.ok_or(ExitCode::from(2)))
    }
}

/// The runtime of the commands that talk to the network.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
