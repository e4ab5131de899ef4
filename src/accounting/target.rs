//! What both kinds of output need at hand, and how they fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::closing::{State, StateError};
use super::columns::FieldError;
use super::journal::{Journal, JournalError};
use super::names::Names;
use super::parquet_file::ParquetFileError;
use crate::classify::RuleSets;
use crate::config::AcctFile;
use crate::disk::Disk;
use crate::event::Time;
use crate::store::ConsumerRow;

/// One output: what was configured, and where its ledger, its row and its files are.
#[derive(Debug)]
pub struct Target {
    /// As configured.
    pub file: AcctFile,
    /// Name of its row.
    pub consumer: String,
    /// How its files are named.
    pub names: Names,
    /// `move-to`, in full.
    pub move_to: Option<PathBuf>,
    /// The ledger and the rows.
    pub journal: Arc<dyn Journal>,
    /// The rule sets compiled already.
    pub rules: RuleSets,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// The operator's zone: CSV times and file dates.
    pub zone: TimeZone,
    /// A new output starts at the first event kept, instead of the present end.
    pub start_at_beginning: bool,
    /// The output is to end soon: a program that does not read is not waited for long.
    pub hurry: Arc<AtomicBool>,
}

/// What an output can't do; it tries again.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file or folder.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The store.
    #[error("store: {0}")]
    Journal(#[from] JournalError),
    /// A Parquet file.
    #[error("{path}: {source}")]
    Parquet {
        /// Which.
        path: PathBuf,
        /// What came of it.
        source: ParquetFileError,
    },
    /// A program.
    #[error("Error {what} \"{command}\": {details}")]
    Pipe {
        /// `starting`, `writing to`, `executing`.
        what: &'static str,
        /// As configured.
        command: String,
        /// What came of it.
        details: String,
    },
    /// A webhook or a broker.
    #[error("{what} {output}: {details}")]
    Push {
        /// `posting to`, `connecting to`, `publishing to`, ...
        what: &'static str,
        /// As it is called.
        output: String,
        /// What came of it.
        details: String,
        /// It asked to be left alone for so long.
        wait: Option<std::time::Duration>,
    },
    /// The kept state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two acct-files are one, spelled differently.
    #[error("acct-file {path}: another acct-file writes the same files; give this one a name of its own")]
    SamePath {
        /// The second.
        path: PathBuf,
    },
    /// `record-fields` of an acct-file.
    #[error("acct-file {path}: {}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields {
        /// The acct-file.
        path: PathBuf,
        /// All that is wrong.
        errors: Vec<FieldError>,
    },
}

/// Names the file in an I/O error.
pub(super) trait At<T> {
    /// `what` was tried with `path`.
    fn at(self, what: &'static str, path: &Path) -> Result<T, OutputError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, OutputError> {
        self.map_err(|source| OutputError::File { what, path: path.to_owned(), source })
    }
}

/// Rows of outputs are told from those of other consumers by this.
const PREFIX: &str = "acct-file ";

/// The name of the row of the output configured under `path`.
pub(super) fn consumer_name(path: &Path) -> String {
    format!("{PREFIX}{}", path.display())
}

/// The configured path of an output's row; `None` for other consumers.
pub(super) fn configured_path(consumer: &str) -> Option<&str> {
    consumer.strip_prefix(PREFIX)
}

impl Target {
    /// The `queue-filter`, as text.
    pub(super) fn queues(&self) -> String {
        self.file.queue_filter.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The program of a pipe.
    pub(super) fn command(&self) -> &str {
        let path = self.file.path.to_str().unwrap_or_default();
        path.strip_prefix("bounce-hook ").unwrap_or(path).trim_start_matches('|')
    }

    /// What went wrong with it.
    pub(super) fn pipe_error(&self, what: &'static str, details: &dyn std::fmt::Display) -> OutputError {
        OutputError::Pipe { what, command: self.command().to_owned(), details: details.to_string() }
    }

    /// What went wrong with a webhook or a broker.
    pub(super) fn push_error(&self, what: &'static str, details: &dyn std::fmt::Display) -> OutputError {
        let output = self.file.path.display().to_string();
        OutputError::Push { what, output, details: details.to_string(), wait: None }
    }

    /// A file of this output, below the folder of its path.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.names.dir().join(name)
    }

    /// Commits cursor and state, then lets the ledger go up to the cursor.
    pub(super) fn commit(&self, cursor: u64, state: &State) -> Result<(), OutputError> {
        self.journal.put_row(&self.consumer, &ConsumerRow { cursor, state: state.encode() })?;
        self.journal.hold(&self.consumer, cursor);
        Ok(())
    }

    /// The date where the operator is.
    pub(super) fn local_date(&self, now: Time) -> Date {
        let timestamp = now.timestamp().unwrap_or_default();
        self.zone.to_datetime(timestamp).date()
    }

    /// Whether a file is there.
    pub(super) fn exists(&self, path: &Path) -> Result<bool, OutputError> {
        match self.disk.open_read(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).at("opening", path),
        }
    }

    /// Removes a file if it is there.
    pub(super) fn remove(&self, path: &Path) -> Result<(), OutputError> {
        match self.disk.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("removing", path),
            _ => Ok(()),
        }
    }

    /// Renames and makes it durable in both folders, that of the new name first.
    pub(super) fn publish(&self, from: &Path, to: &Path) -> Result<(), OutputError> {
        self.disk.rename(from, to).at("renaming", from)?;
        self.sync_folders(from, to)
    }

    /// Makes what happened to two names durable.
    pub(super) fn sync_folders(&self, from: &Path, to: &Path) -> Result<(), OutputError> {
        let folder = |p: &Path| p.parent().unwrap_or(Path::new("")).to_owned();
        let (old, new) = (folder(from), folder(to));
        self.disk.sync_dir(&new).at("syncing folder", &new)?;
        if old != new {
            self.disk.sync_dir(&old).at("syncing folder", &old)?;
        }
        Ok(())
    }

    /// Lets others read a new file, if that was asked for.
    pub(super) fn set_mode(&self, path: &Path) -> Result<(), OutputError> {
        if self.file.world_readable { self.disk.make_world_readable(path).at("making readable", path) } else { Ok(()) }
    }
}
