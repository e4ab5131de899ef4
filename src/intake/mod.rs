//! Taking mail in: who may send, to whom, how the headers are read and completed, where the message goes.
//!
//! - [`smtp_listener`] accepts connections, [`smtp_session`] moves bytes between a socket and [`crate::smtp::server`].
//! - [`smtp_policy`] answers what that session asks: [`login`], [`policy`] (relaying), [`route`] (reports), suppression.
//! - [`judge`] is where all of them ask whether a recipient is suppressed.
//! - [`slots`] bounds how many sessions there are.
//! - [`header`] reads and completes the header section, [`virtual_mta`] chooses the VirtualMTA.
//! - [`submit`] makes the message and its `r` events and hands both to the store and the queue. Every channel ends there.
//!
//! A `250` is said only after [`submit::Intake::submit`] has returned, which is after the message is on disk.

pub mod header;
pub mod judge;
mod list_name;
pub mod login;
pub mod policy;
pub mod route;
pub mod slots;
pub mod smtp_listener;
pub mod smtp_policy;
pub mod smtp_session;
pub mod submit;
pub mod unsubscribe;
pub mod virtual_mta;
