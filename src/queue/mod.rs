//! What is due, when, through which source.
//!
//! A queue is a destination domain and a VirtualMTA (`domain/vmta`). [`machine`] decides, without clock or threads;
//! [`engine`] is its only edge: a lock around the machine and the wake-ups that follow from what it says. Sessions draw
//! their next transaction straight from the machine, so that no message passes through a task of its own.

pub mod backlog;
pub mod engine;
pub mod jobs;
pub mod key;
pub mod limits;
pub mod machine;
pub mod mode;
pub mod pauses;
pub mod retry;
pub mod sources;
pub mod throttle;

pub use backlog::{Drawn, Fate};
pub use engine::{Engine, Permit};
pub use jobs::JobStatus;
pub use key::{QueueName, destination, is_meant};
pub use limits::Limits;
pub use machine::{Mail, Next, Purpose, QueueStatus, Steer};
pub use mode::Mode;
pub use pauses::Pauses;
pub use sources::Disabled;
