//! The client's side of the dialogue, without sockets (RFC 5321, 3 and 4; PIPELINING: RFC 2920).
//!
//! [`Opening`] goes from the greeting to a session that can send; [`Transaction`] is one MAIL with its RCPTs and content.
//! Both take replies one by one and say what to do next; what is to be written stands in [`Opening::take_output`] and
//! [`Transaction::output`]. Promises: replies are tied to the command they answer, whatever was pipelined; with
//! PIPELINING the whole envelope and DATA are one write. A server that answers out of turn gives an outcome, never a
//! panic.
//!
//! Where 8BITMIME is not offered, content with octets above 127 is sent as it is, without BODY: receivers that pass on
//! eight bits without saying so are the rule, and conversion would break signatures.

mod opening;
mod transaction;

pub use opening::{Opened, Opening, OpeningOptions};
pub use transaction::{Mail, Step, Transaction, TransactionResult};
