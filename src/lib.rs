#![forbid(unsafe_code)]
//! Carom: an outbound mail transfer agent for bulk senders, whose product is what happens after the attempt.
//!
//! ```text
//!  SMTP                     (mail to send; bounces and complaints, mailed to the bounce and feedback addresses)
//!    |
//!  intake ---- suppressed? -----------------.
//!    |                                      |
//!    v                                      |
//!  store: spool  (durable before the 250) --|-----------> report   (RFC 3464, RFC 5965)
//!    |                                      |               |
//!  queue     domain/vmta, retry, throttle   |               |
//!    |                                      |               |
//!  delivery ---- suppressed? ---------------+               |
//!    |  one event per recipient and attempt |               |
//!    v                                      |               v
//!  store: ledger   one ordered, durable stream of events <--'
//!    |                                      |
//!    v                                      |
//!  accounting   classify, then each output with a cursor of its own
//!    |-- CSV files, Parquet files           |
//!    '-- suppression rules -> suppress -----'   (takes effect on mail already queued)
//! ```
//!
//! The modules below stand in the order of this flow; [`node`] builds and wires them. What a module may import is a
//! table in `tests/house.rs`.

// In, kept, out.
pub mod intake;

pub mod store;

pub mod queue;

pub mod delivery;

// What comes back, and what becomes of it.
pub mod report;

pub mod accounting;

pub mod classify;

pub mod suppress;

pub mod history;

// What all of them stand on.
pub mod config;

pub mod smtp;

pub mod net;

pub mod disk;

pub mod event;

// Putting it together, and talking to it.
pub mod node;

pub mod manage;

pub mod cli;

// The other side of the wire, simulated.
pub mod sim;
