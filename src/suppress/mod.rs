//! The suppression list: whom we never mail again, and why.
//!
//! [`rules`] decides which events suppress (pure). [`Suppression`] is the list in memory that the hot path asks for each
//! recipient, with what it knows of the [`Mail`]. [`Entry`] is how one entry is kept in the store's tables under its
//! [`Key`]; [`book`] is the only place where they are written; [`operate`] is what operators do by hand.
//! [`address_lists`] are the operator's own lists, which sources cite. The consumer of
//! the ledger that feeds it is `accounting::feedback`.

pub mod address_file;
pub mod address_lists;
mod batch;
pub mod book;
pub mod breaker;
pub mod bulk;
mod entry;
mod expiry;
mod facts;
mod filter;
pub mod fold;
mod key;
mod list;
mod mail;
mod merge;
mod migrate;
pub mod operate;
pub mod rules;
mod shard;
#[cfg(test)]
mod tests;
mod upkeep;

pub use address_lists::{AddressLists, NotLoaded};
pub use entry::{Entry, EntryError, Source, State};
pub use expiry::expire;
pub use key::{Hasher, Key, SubjectKey};
pub use list::{Suppression, UNREADABLE};
pub use mail::{Mail, Suppressed};
pub use operate::{Filter, Listed, Page, SuppressError, add, folded, list, remove, show};
pub use rules::{RULES, Rule, decide};
