//! The suppression list: whom we never mail again, and why.
//!
//! [`rules`] decides which events suppress (pure). [`Suppression`] is the list in memory that the hot path asks for each
//! recipient, with what it knows of the [`Mail`]. [`Entry`] is how one entry is kept in the store's tables under its
//! [`Key`]; [`book`] is the only place where they are written, and [`storage`] says how much of them. The consumer of the
//! ledger that feeds it is `accounting::feedback`; [`operate`] is what operators do by hand, [`erase`] what they take out
//! for good, [`incoming`] what they bring in, [`audit`] what was done; [`transfer`] reads and writes files.

pub mod audit;
pub mod book;
mod entry;
pub mod erase;
pub mod incoming;
mod key;
mod list;
mod mail;
pub mod operate;
#[cfg(test)]
mod operate_tests;
pub mod rules;
pub mod storage;
pub mod transfer;

pub use entry::{Entry, EntryError, Source, State};
pub use key::{Hasher, Key, SubjectKey};
pub use list::Suppression;
pub use mail::{Mail, Suppressed};
pub use operate::{Filter, Listed, Page, SuppressError, add, folded, list, remove, show};
pub use rules::{RULES, Rule, decide};
