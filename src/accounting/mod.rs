//! The ledger's events, classified, into CSV and Parquet files: each exactly once.
//!
//! ```text
//!  journal ----> stage ----> output --+-- csv_output ------ csv, iso_time ---> csv_file
//!  (ledger,      (rule set   (cursor, |
//!   rows)         stamped     steps)  '-- parquet_output -- parquet ---------> parquet_file
//!                 on it)  |                     both by the order of steps in closing
//!                         |-- pipe_output ----- csv -----------------> pipe
//!                         |-- hook_output ----- json ----------------> pipe
//!                         |-- webhook_output -- json ----------------> HTTP
//!                         '-- nats_output ----- json ----------------> JetStream
//! ```
//!
//! [`outputs`] runs one thread per acct-file and is what the rest of the house calls. Everything below it takes `now`
//! and does one step when asked, so that a test can cut the power between any two. [`columns`] makes the columns of an
//! acct-file from the field table ([`crate::event::fields`]), [`names`] the names of its files, [`schema`] the published
//! schema. [`stage::Stage::events`] with [`csv::CsvRows`] or [`parquet::ParquetRows`] is the way from ledger to rows
//! without any files, for verification. What an output writes to is a [`sink::Sink`]; [`privacy`] hides recipients.
//!
//! What it promises: summed over the files of an output, every event of the types asked for, from the output's start on,
//! stands exactly once, whatever crashed when; files under their final names are whole; delivery never waits for it.
//! How it fails: an output that can't write keeps its place in the ledger, says why once, and tries again; the others
//! go on.

pub mod closing;
pub mod columns;
pub mod csv;
pub mod csv_file;
pub mod csv_output;
pub mod feedback;
pub mod hook_output;
pub mod iso_time;
pub mod journal;
pub mod json;
pub mod lag;
pub mod names;
pub mod nats_output;
pub mod output;
pub mod outputs;
pub mod parquet;
pub mod parquet_file;
pub mod parquet_output;
pub mod pipe;
pub mod pipe_output;
pub mod privacy;
mod push_place;
mod push_runtime;
pub mod push_tls;
pub mod schema;
pub mod sink;
pub mod stage;
pub mod target;
pub mod webhook_output;

pub use columns::{Columns, FieldError};
pub use lag::OutputStatus;
pub use outputs::{Outputs, Settings};
pub use target::OutputError;
