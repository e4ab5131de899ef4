//! The stories of those who use Carom, each a module: its file opens with whose story it is.
//!
//! One program for all of them: as many programs they took twice as long to build after a change of the library; and what
//! they share is used by one or another.
//! `cargo test --test stories running::` and `cargo nextest run -E 'test(/^running::/)'` run one story alone.

mod acct_compact;
mod acct_fields;
mod acct_files;
mod acct_golden_store;
mod acct_outputs;
mod acct_power_cut;
mod analysts;
mod crash;
mod delivery;
mod demo;
mod dsn;
mod inbound;
mod jobs;
mod mail;
mod managing;
mod outputs;
mod patterns;
mod power_cut;
mod preflight;
mod programs;
mod push;
mod report_command;
mod reports;
mod running;
mod sim;
mod smtp_in;
mod smtp_in_store;
mod stats;
mod unsubscribe;
