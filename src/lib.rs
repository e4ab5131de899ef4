#![forbid(unsafe_code)]
//! Carom: an outbound mail transfer agent for bulk senders, whose product is what happens after the attempt.

pub mod classify;
pub mod config;
pub mod disk;
pub mod event;
pub mod sim;
pub mod store;
pub mod suppress;
