//! `carom run`: the server in the foreground, until SIGTERM or SIGINT; SIGHUP reads the configuration again.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Failure};
use crate::node::{Node, Options};
use crate::sim::kill_disk::KillDisk;

/// Arguments of `carom run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// For crash tests: die by SIGKILL at this step of the disk
    #[arg(long, value_name = "STEP", hide = true)]
    kill_at: Option<crate::sim::kill_disk::Step>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = match args.config.load()? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    crate::node::log::start(config.log_file.as_deref())?;
    let problems = crate::node::check(&config);
    if !problems.is_empty() {
        for problem in problems {
            eprintln!("error: {problem}");
        }
        return Ok(ExitCode::from(2));
    }
    let mut options = Options { root: args.config.root.clone(), ..Options::default() };
    if let Some(step) = args.kill_at {
        options.disk = Arc::new(KillDisk::new(options.disk, step));
    }
    super::runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let node = Node::start(config, options).await?;
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
