//! Simulated mailbox providers, DNS and traffic: the other side of the wire, for the demo, tests and load runs.
//!
//! What becomes of a recipient is decided in advance by [`script`] from a seed and the address alone, so that whoever
//! judges the outcome need not ask the simulation. [`world`] says which providers and domains there are, [`dns`] answers
//! for them, [`provider`] speaks SMTP for them and keeps the book of what it saw, [`postman`] mails the bounces and
//! complaints that come back later, [`traffic`] makes the recipients of a campaign. [`disk`] is a file system that loses
//! what was not synced, [`kill_disk`] one that dies at a chosen step. Pure: all but `dns`, `provider`, `postman`, `book`
//! and `kill_disk`.

pub mod book;
pub mod chance;
pub mod desk;
pub mod disk;
pub mod dns;
pub mod kill_disk;
pub mod postman;
pub mod provider;
pub mod report;
pub mod script;
pub mod session;
pub mod traffic;
pub mod wording;
pub mod world;
pub mod zones;
