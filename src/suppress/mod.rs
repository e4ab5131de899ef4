//! The suppression list: what is never mailed again, and why.
//!
//! [`rules`] decides which events suppress (pure). [`Suppression`] is the list in memory that the hot path asks for
//! each recipient. [`Entry`] is how one address is kept in the store's tables, and [`operate`] is what operators do
//! with the list by hand. The consumer of the ledger that feeds it is `accounting::feedback`.

mod entry;
mod list;
pub mod operate;
pub mod rules;

pub use entry::{Entry, EntryError, Source};
pub use list::{Suppressed, Suppression};
pub use operate::{Filter, Listed, Page, SuppressError, add, list, remove, show};
pub use rules::{RULES, Rule, decide};
