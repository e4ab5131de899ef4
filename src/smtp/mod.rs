//! The protocol without sockets: lines, commands, replies, session machines for both sides.
//!
//! Receiving: [`line`] and [`data`] cut what arrives, [`command`] (with [`dsn`]) reads it, [`sasl`] authenticates, [`server`] is the
//! session, [`answer`] what it says. Sending: [`client`] is the session, [`ehlo`] and [`reply`] read what the other side
//! says, [`transparency`] stuffs dots, [`transcript`] keeps the dialogue for the log.

pub mod answer;
pub mod client;
pub mod command;
pub mod data;
pub mod dsn;
pub mod ehlo;
pub mod line;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod transcript;
pub mod transparency;
