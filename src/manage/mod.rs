//! How a running server is spoken to: today a command socket on the same machine.
//!
//! [`command`] is the vocabulary, without sockets; [`socket`] carries it. Who may speak is decided by the permissions
//! of the socket file: its owner, and root.

pub mod command;
pub mod socket;
pub mod suppression;

pub use command::{Answer, Command, QuarantineCommand};
pub use suppression::SuppressionCommand;
