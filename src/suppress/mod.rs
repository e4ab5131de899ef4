//! The suppression list: whom we never mail again, and why.
//!
//! [`rules`] decides which events suppress (pure). [`Suppression`] is the list in memory that the hot path asks for each
//! recipient, with what it knows of the [`Mail`]. [`Entry`] is how one entry is kept in the store's tables under its
//! [`Key`]; [`book`] is the only place where they are written, and [`storage`] says how much of them. The consumer of the
//! ledger that feeds it is `accounting::feedback`, by [`rules`] and behind the [`breaker`]; [`operate`] is what operators
//! do by hand, [`erase`] what they take out for good, [`incoming`] and [`bulk`] what they bring in, [`audit`] what was
//! done; [`transfer`] reads and writes files. [`address_lists`] are the operator's own lists, which sources cite.

pub mod address_file;
pub mod address_lists;
pub mod audit;
mod batch;
pub mod book;
pub mod breaker;
pub mod bulk;
mod entry;
pub mod erase;
mod expiry;
mod facts;
mod filter;
pub mod fold;
pub mod incoming;
mod key;
mod list;
mod mail;
mod merge;
mod migrate;
pub mod operate;
#[cfg(test)]
mod operate_tests;
pub mod rules;
mod shard;
pub mod storage;
#[cfg(test)]
mod tests;
pub mod transfer;
mod upkeep;

pub use address_lists::{AddressLists, NotLoaded};
pub use entry::{Entry, EntryError, Source, State};
pub use expiry::expire;
pub use key::{Hasher, Key, SubjectKey};
pub use list::{Suppression, UNREADABLE};
pub use mail::{Mail, Suppressed};
pub use operate::{Filter, Listed, Page, SuppressError, add, folded, list, remove, show};
pub use rules::{RULES, Rule, decide};
