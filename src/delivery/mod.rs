//! One attempt, one outcome per recipient: plan, resolve, connect, speak, record.
//!
//! - A permit of the queue engine becomes a [`session`]: resolve the hosts, connect, then one transaction after the other.
//! - [`outcome`] says what a reply or a failure means, [`steer`] what the operator's patterns make of it; [`attempt`] makes the events of it; both are pure.
//! - Mail that ends on this machine (`local`): in files, in a program, nowhere.
//! - The store is told once per transaction. A recipient that fails for good brings the sender's report ([`notify`]) in the
//!   same record. Of mail that only waits it is told by `delay_watch`, if it asked for that.

pub mod attempt;
pub mod connect;
mod delay;
mod delay_watch;
pub mod dialogue;
mod discard;
mod file;
mod local;
mod macros;
pub mod notify;
mod obey;
pub mod outcome;
mod pipe;
pub mod plan;
pub mod preflight;
pub mod program;
pub mod reach;
pub mod run;
pub mod session;
pub mod steer;
mod sysexits;
mod unsubscribe;

pub use run::{Context, run, run_with_grace};
