//! Very many entries at once: lists that operators bring in, take back and carry out, in bounded memory.
//!
//! ```text
//! let mut import = Import::begin(&store, &list, batch)?;      a number, a line in the facts
//! import.add("ann@example.net", &Row::default())?;            into one of 256 work files, by the key's first byte
//! let done = import.finish(&mut |progress| ...)?;             each file sorted and merged into the table
//! ```
//!
//! What an import has merged suppresses at once, while it goes on. After a kill before `finish` the work files are thrown
//! away at the next start, and nothing was entered; after a kill during `finish` it stands in [`unfinished`], and
//! [`resume`] goes on where it was. An entry that is there already and suppresses stays as it is.

use crate::event::{Address, Scope, Time};
use crate::store::{Store, StoreError, Tables};

use super::operate::SuppressError;
use super::{Entry, Key, Source, SubjectKey, Suppression};

/// What all rows of a list have in common.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the operator knows it by: the file's name.
    pub name: Box<str>,
    /// Who brings it in, for the history.
    pub who: Box<str>,
    /// Why, for the history; not kept with each entry.
    pub why: Box<str>,
    /// For whose mail its entries count.
    pub scope: Scope,
    /// Rule of its entries; `import` where nothing better is known.
    pub rule: Box<str>,
    /// When its entries end; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// Now: when the entries are made, unless a row says otherwise.
    pub now: Time,
    /// Only hashes are kept: no subjects and no notes.
    pub hashed_only: bool,
}

/// What one row of a list says for itself; what is unknown, empty or `None` is as the batch says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<'a> {
    /// When it happened.
    pub time: Time,
    /// When it ends.
    pub expires: Time,
    /// For whose mail it counts.
    pub scope: Option<&'a Scope>,
    /// By what rule.
    pub rule: &'a str,
    /// Bounce category.
    pub category: &'a str,
    /// The reply.
    pub reply: &'a str,
    /// The reason.
    pub note: &'a str,
}
