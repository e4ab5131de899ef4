//! Where log lines go: standard error, or the configured file (appended to; one line an event).
#![expect(clippy::disallowed_types, reason = "edge: the log file")]

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process. `CAROM_LOG` (or `RUST_LOG`) chooses the level, as in `info,carom::delivery=debug`.
pub fn start(file: Option<&Path>) -> Result<(), std::io::Error> {
    let filter = EnvFilter::try_from_env("CAROM_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let result = match file {
        Some(file) => {
            if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
                std::fs::create_dir_all(dir)
                    .map_err(|e| std::io::Error::new(e.kind(), format!("log-file {}: {e}", file.display())))?;
            }
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .map_err(|e| std::io::Error::new(e.kind(), format!("log-file {}: {e}", file.display())))?;
            format.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
        None => format
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_writer(std::io::stderr)
            .try_init(),
    };
    // A second server in one process (tests, the demo) keeps the first one's log.
    let _ = result;
    Ok(())
}
