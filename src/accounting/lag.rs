//! Where each output is, for `show status` and metrics.

use std::path::PathBuf;

use crate::event::Time;

/// One output as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputStatus {
    /// As configured.
    pub path: PathBuf,
    /// The file in use; `None` between files.
    pub file: Option<PathBuf>,
    /// First sequence number that is not yet written.
    pub next: u64,
    /// First sequence number that is not yet durable in a file: the ledger is kept from here on.
    pub cursor: u64,
    /// Events in the ledger that are not yet written.
    pub lag_events: u64,
    /// Time of the last event written; unknown before the first.
    pub last_event: Time,
    /// Records written since start; those written again after an error count twice here, but not in the files.
    pub records: u64,
    /// Events that could not be read from the ledger since start.
    pub damaged: u64,
    /// Events left out since the output was configured because it lagged (`on-lag skip`).
    pub left_out: u64,
    /// Failed tries since something was last written.
    pub retries: u64,
    /// What went wrong last and when; `None` when the output works.
    pub error: Option<(Time, String)>,
}
