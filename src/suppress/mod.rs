//! The suppression list: whom we never mail again, and why.
//!
//! [`rules`] decides which events suppress (pure). [`Suppression`] is the list in memory that the hot path asks for each
//! recipient, with what it knows of the [`Mail`]. [`Entry`] is how one entry is kept in the store's tables under its
//! [`Key`]; [`book`] is the only place where they are written; [`operate`] is what operators do by hand. The consumer of
//! the ledger that feeds it is `accounting::feedback`.

pub mod book;
mod entry;
mod key;
mod list;
mod mail;
pub mod operate;
pub mod rules;

pub use entry::{Entry, EntryError, Source, State};
pub use key::{Hasher, Key, SubjectKey};
pub use list::Suppression;
pub use mail::{Mail, Suppressed};
pub use operate::{Filter, Listed, Page, SuppressError, add, folded, list, remove, show};
pub use rules::{RULES, Rule, decide};
