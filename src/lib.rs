#![forbid(unsafe_code)]
//! Carom: an outbound mail transfer agent for bulk senders, whose product is what happens after the attempt.

pub mod accounting;
pub mod classify;
pub mod config;
pub mod delivery;
pub mod disk;
pub mod event;
pub mod intake;
pub mod net;
pub mod queue;
pub mod report;
pub mod sim;
pub mod smtp;
pub mod store;
pub mod suppress;
