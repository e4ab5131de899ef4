//! An output of accounting: `<acct-file>`, and the blocks of what records are handed on to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::acct::{HeaderToField, OnLag, Privacy, QueuePattern};
use crate::config::directives;
use crate::config::push::Push;
use crate::event::{Kind, Kinds};

/// `<acct-file>`.
#[derive(Debug, Clone, PartialEq)]
pub struct AcctFile {
    /// As configured; also the name of the output and its cursor.
    pub path: PathBuf,
    /// By the extension of `path`.
    pub format: AcctFormat,
    /// `records`: record types that are written.
    pub records: Kinds,
    /// Per record type: the fields asked for, in order; `None` is `*`.
    pub record_fields: BTreeMap<Kind, Vec<FieldChoice>>,
    /// CSV: start a new file at this many bytes.
    pub max_size: u64,
    /// `move-to`: folder of the same volume that finished files are moved to.
    pub move_to: Option<PathBuf>,
    /// `move-interval`: time between moves; without move-to it has no effect.
    pub move_interval: Duration,
    /// CSV: age at which finished files are removed; `None` is never, and always so for Parquet.
    pub delete_after: Option<Duration>,
    /// `iso-times`: times as YYYY-MM-DD HH:MM:SS+ZZZZ; no: seconds since 1970.
    pub iso_times: bool,
    /// `user-string`: what the field userString holds.
    pub user_string: String,
    /// `world-readable`: everybody may read the files.
    pub world_readable: bool,
    /// Leave Carom's own columns out (CSV).
    pub strict_columns: bool,
    /// Parquet: close at so many rows or after so long.
    pub close_rows: u64,
    /// `close-after`: close a Parquet file after so long.
    pub close_after: Duration,
    /// `row-group-rows`: rows of a row group of a Parquet file.
    pub row_group_rows: u64,
    /// `rotate`: so many finished CSV files are kept, the newest; `None` is all.
    pub rotate: Option<u64>,
    /// `queue-filter`, in order; empty is off.
    pub queue_filter: Vec<QueuePattern>,
    /// `map-header-to-field`, in order.
    pub map_header_to_field: Vec<HeaderToField>,
    /// `count-moved-records`: say how many records a file held when it is moved.
    pub count_moved_records: bool,
    /// `privacy-policy`: what recipients' local parts are replaced with.
    pub privacy_policy: Privacy,
    /// Pipes: start the program again so long after a failure.
    pub retry_interval: Duration,
    /// Pipes: give up on a program that has taken nothing for so long.
    pub write_timeout: Duration,
    /// `on-lag`: what happens at the ledger's limit.
    pub on_lag: OnLag,
    /// `compression`: how the columns of a Parquet file are compressed.
    pub compression: Compression,
    /// Of webhooks and brokers: how they are reached.
    pub push: Push,
}

impl AcctFile {
    /// With the defaults of every directive.
    pub fn new(path: PathBuf, format: AcctFormat) -> AcctFile {
        directives::acct_file::with_defaults(path, format)
    }
}

/// How the columns of a Parquet file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Zstandard at this level, from 1 (fast) to 22 (small).
    Zstd(u8),
}

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcctFormat {
    /// RFC 4180.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// CSV to the standard input of a program: `|COMMAND`.
    Pipe,
    /// JSON lines to the standard input of a program: `bounce-hook COMMAND`.
    Hook,
    /// JSON in HTTP requests: `<acct-webhook URL>`, `bounce-hook URL`.
    Webhook,
    /// JSON messages in a stream of NATS: `<acct-nats URL>`.
    Nats,
}

impl AcctFormat {
    /// Whether records are kept in files, not handed on.
    pub const fn is_files(self) -> bool {
        matches!(self, AcctFormat::Csv | AcctFormat::Parquet)
    }
}

/// One item of a `record-fields` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldChoice {
    /// `*`
    All,
    /// `name`
    Field(String),
    /// `!name`
    Not(String),
    /// `header_NAME`, the header's name
    Header(String),
}
