//! How a running server is spoken to: by a command socket on the same machine, and over HTTP; and the public page for
//! unsubscribing.
//!
//! [`command`] and [`suppression`] are the vocabulary, without sockets; [`socket`] and [`http`] carry it. At the socket
//! the permissions of its file decide who may speak: its owner, and root. Over HTTP [`http_guard`] decides, and
//! [`http_routes`] is the table of what can be asked. All HTTP comes in at a [`door`].

pub mod command;
pub mod door;
pub mod http;
pub mod http_guard;
pub mod http_routes;
pub mod import;
pub mod socket;
pub mod suppression;
pub mod unsubscribe;

pub use command::{Answer, BreakerCommand, Command, QuarantineCommand};
pub use suppression::SuppressionCommand;
