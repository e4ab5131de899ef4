//! `carom run`: the server in the foreground, until SIGTERM or SIGINT; SIGHUP reads the configuration again.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Failure};
use crate::config::Severity;
use crate::node::{Node, Options};
use crate::sim::kill_disk::KillDisk;

/// Arguments of `carom run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGTERM and SIGINT drain and stop; SIGHUP reads the configuration again, as `carom reload` does.\n\
    CAROM_LOG sets what is logged: error, warn, info (the default) or debug.\n\
    Exit code: 0 stopped in order; 1 it could not start, or failed; 2 the configuration is wrong."
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// For crash tests: die by SIGKILL at this step of the disk
    #[arg(long, value_name = "STEP", hide = true)]
    kill_at: Option<crate::sim::kill_disk::Step>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut options = Options { root: args.config.root.clone(), ..Options::default() };
    let loaded = crate::node::load_with(&args.config.file()?, options.root.as_deref(), &options.rules);
    let Some(config) = loaded.config else {
        return Ok(super::mistakes(&loaded.diagnostics));
    };
    crate::node::log::start(config.log_file.as_deref())?;
    for diagnostic in &loaded.diagnostics {
        match diagnostic.severity {
            Severity::Note => tracing::debug!("{}", diagnostic.one_line()),
            _ => tracing::warn!("{}", diagnostic.one_line()),
        }
    }
    if let Some(step) = args.kill_at {
        options.disk = Arc::new(KillDisk::new(options.disk, step));
    }
    super::runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let in_file = config.log_file.is_some();
        let node = Node::start(config, options).await.inspect_err(|error| {
            // Standard error has it from the exit; whoever looks into the log later is to find it as well.
            if in_file {
                tracing::error!("not started: {error}");
            }
        })?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // What came of it stands in the log.
                _ = hang_up.recv() => { let _ = node.reload().await; }
            }
        }
        node.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}
