//! The command line: one file per subcommand. Each reads its arguments, calls one thing and prints.
//!
//! Exit codes: 0 done; 1 it did not work, or a check found something; 2 the arguments or the configuration are wrong.

/// A line on standard output. Fails when nobody reads it any more, as in `carom suppress list | head`; given up to
/// [`main`], that ends the command without a word.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout().lock(), $($arg)*)
    }};
}

mod acct;
mod acct_input;
mod check_config;
mod classify;
mod completions;
pub mod demo;
mod digest;
mod find;
mod forget;
mod given;
mod http_password;
mod patterns;
mod peer;
mod queue;
mod reload;
mod report;
mod rotate;
mod run;
pub mod send;
pub mod sink;
mod stats;
mod status;
mod store;
mod suppress;
mod suppress_simulate;
mod suppress_undo;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Diagnostic;
use crate::manage::{self, Answer};

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
    /// The suppression list: look, change, import, export
    Suppress(suppress::Args),
    /// Delete everything about a person but a hash that goes on suppressing
    Forget(forget::Args),
    /// Verify or repair a store
    Store(store::Args),
    /// Mode of queues by hand; disabled source addresses; pause and resume jobs
    Queue(queue::Args),
    /// End the accounting files in use and begin others
    Rotate(rotate::Args),
    /// Print what privacy-policy replaces a local part with
    Digest(digest::Args),
    /// Hash a password for http-mgmt-password-hash
    HttpPassword(http_password::Args),
    /// Classify SMTP replies: one a line on standard input, JSON lines out
    Classify(classify::Args),
    /// Pattern files: check, explain, measure on history, find what they miss, apply
    Patterns(patterns::Args),
    /// Read bounces and complaints: files, folders, mailboxes
    Report(report::Args),
    /// Statistics over accounting files, as pmtastats gives them
    Stats(stats::Args),
    /// Find records in accounting files, as acctfind does
    Find(find::Args),
    /// Everything known about an address or a message, in the order in which it happened
    Why(why::Args),
    /// Accounting records: live, verify, compact, convert, schema
    Acct(acct::Args),
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
    let cli = Cli::parse_from(by_own_name(std::env::args_os()));
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Send(args) => send::run(args),
        Command::Suppress(args) => suppress::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Rotate(args) => rotate::run(&args),
        Command::Digest(args) => digest::run(&args),
        Command::HttpPassword(args) => http_password::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Patterns(args) => patterns::run(args),
        Command::Report(args) => report::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Find(args) => find::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Acct(args) => acct::run(&args),
        Command::Sink(args) => sink::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|e| {
        let gone = e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe);
        if !gone {
            eprintln!("carom: {e}");
        }
        ExitCode::FAILURE
    })
}

/// A link named as one of PowerMTA's tools is that tool: `pmtastats ...` is `carom stats ...`.
fn by_own_name(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|a| std::path::Path::new(a).file_name()).unwrap_or_default();
    let command = match name.to_string_lossy().as_ref() {
        "pmtastats" => "stats",
        "acctfind" | "pmtaacctfind" => "find",
        _ => return arguments,
    };
    arguments.insert(1, command.into());
    arguments
}

/// `--config` and `--root`, shared by the commands that need the configuration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: $CAROM_CONFIG, /etc/carom/config, /etc/pmta/config]
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Relative paths in the configuration are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR", global = true)]
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

    /// Reads it; prints what keeps it from being used. `Err` holds the exit code to leave with.
    fn load(&self) -> Result<Result<crate::config::Config, ExitCode>, Failure> {
        let loaded = crate::config::load(&self.file()?, self.root.as_deref());
        Ok(loaded.config.ok_or_else(|| mistakes(&loaded.diagnostics)))
    }
}

/// Prints the errors among `diagnostics`; the exit code of a command that can't go on with them.
fn mistakes(diagnostics: &[Diagnostic]) -> ExitCode {
    for diagnostic in diagnostics.iter().filter(|d| d.is_error()) {
        eprint!("{}", diagnostic.render());
    }
    ExitCode::from(2)
}

/// How the commands for a running server find it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The server's command socket [default: that of the configuration; needed when spool or command-socket have
    /// changed in the file since the server started]
    #[arg(long, value_name = "SOCKET", global = true)]
    socket: Option<PathBuf>,
}

impl ServerArgs {
    /// The socket. It is found also by a configuration file that has errors by now, since the server is not to be out
    /// of reach for a slip in it.
    fn socket(&self) -> Result<Result<PathBuf, ExitCode>, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(Ok(socket.clone()));
        }
        let loaded = crate::config::load(&self.config.file()?, self.config.root.as_deref());
        Ok(loaded.command_socket.ok_or_else(|| mistakes(&loaded.diagnostics)))
    }

    /// Asks the running server.
    fn ask(&self, command: &manage::Command) -> Result<Result<Answer, ExitCode>, Failure> {
        let socket = match self.socket()? {
            Ok(socket) => socket,
            Err(code) => return Ok(Err(code)),
        };
        let answer = manage::socket::ask(&socket, command).map_err(|e| {
            format!("no server answers at {}: {e}; is it running, and with this configuration?", socket.display())
        })?;
        Ok(Ok(answer))
    }

    /// Tells the running server to do something, and prints its answer: its words, or with `json` an object.
    fn tell(&self, command: &manage::Command, json: bool) -> Result<ExitCode, Failure> {
        match self.ask(command)? {
            Ok(Answer::Success { message, .. }) if json => {
                say!("{}", serde_json::json!({ "status": "success", "message": message }))?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(Answer::Success { message, .. }) => {
                say!("{message}")?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(Answer::Error { message }) => Err(message.into()),
            Err(code) => Ok(code),
        }
    }
}

/// Who makes a change, for the record: as said, or as the system calls who runs this.
#[expect(clippy::disallowed_methods, reason = "edge: the environment knows the user's name")]
fn caller(said: Option<&str>) -> String {
    let from = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty() && v != "root");
    match said.map(str::trim).filter(|s| !s.is_empty()) {
        Some(said) => said.to_owned(),
        // With sudo the one who called it.
        None => ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(from).unwrap_or_else(|| "root".to_owned()),
    }
}

/// The runtime of the commands that talk to the network.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
