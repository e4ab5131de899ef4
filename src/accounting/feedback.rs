//! The arrow back up: the consumer of the ledger that puts dead addresses and complainers on the suppression list.
//!
//! A consumer of its own, not behind the files. It takes effect in memory as soon as an event is durable, and commits
//! entries, strikes and cursor in one transaction within 250 ms. At start-up [`Suppressor::catch_up`] reaches the end of
//! the ledger before the first attempt is made. Exactly once: what was applied and not committed is read again after a
//! crash, from the same strikes; and an entry that exists is not written twice. If the tables can't be written, the list in
//! memory goes on working, the entries wait, the ledger keeps their events, and an error is logged at each try.

pub mod doubt;
mod follow;
pub mod job_counts;
pub mod job_guard;
#[cfg(test)]
mod job_guard_tests;
mod memory;
pub mod novelty;
mod send_index;
mod suppressing;
#[cfg(test)]
mod tests;
pub mod undo;

use crate::classify::RuleSets;
use crate::config::Live;
use crate::store::{Store, StoreError};
use crate::suppress::Suppression;
pub use doubt::{SharedBreaker, Tell};
pub use follow::{Follower, Running};
pub use send_index::SendIndex;
pub use suppressing::Suppressing;

/// The name of the suppression consumer in the tables.
pub const CONSUMER: &str = "suppression";

/// The suppression consumer before it runs by itself.
pub type Suppressor = Follower<Suppressing>;

/// Loads the list from the tables into `list` and opens the consumer where it stopped, with the rules that hold without a
/// configuration. `rules` are the sets that are compiled already; others are fetched by the stamp of the events.
pub fn open(store: &Store, list: &Suppression, rules: RuleSets) -> Result<Suppressor, StoreError> {
    load(store, list)?;
    let breaker = suppressing::own_breaker();
    Follower::open(store, Suppressing::open(store, list, rules, None, breaker, Box::new(drop))?)
}

/// The same with the rules of a configuration, in which later ones may take their place. `tell` hears of the circuit
/// breaker, which comes back for those who show it and end it.
pub fn open_with(
    store: &Store,
    list: &Suppression,
    rules: RuleSets,
    config: Live,
    tell: Tell,
) -> Result<(Suppressor, SharedBreaker), StoreError> {
    load(store, list)?;
    let breaker = suppressing::own_breaker();
    let effect = Suppressing::open(store, list, rules, Some(config), breaker.clone(), tell)?;
    Ok((Follower::open(store, effect)?, breaker))
}

fn load(store: &Store, list: &Suppression) -> Result<(), StoreError> {
    let loaded = list.load(store)?;
    tracing::info!(addresses = loaded, "suppression list loaded");
    Ok(())
}
