//! How a running server is spoken to: a command socket on the same machine, and the public page for unsubscribing.
//!
//! [`command`] is the vocabulary, without sockets; [`socket`] carries it. Who may speak is decided by the permissions
//! of the socket file: its owner, and root.

pub mod command;
pub mod socket;
pub mod unsubscribe;

pub use command::{Answer, BreakerCommand, Command, QuarantineCommand};
