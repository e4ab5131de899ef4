//! Which events put whom on the suppression list.
//!
//! [`Engine`] counts: failures of distinct messages within a window, by rule, subject and scope, as `<auto-suppression>`
//! says; what it has to remember goes through [`State`], so that the consumer of the ledger and a simulation over history
//! share it. [`decide`] asks whether one event alone suppresses, for those who explain patterns.
//!
//! Promised whatever the rules say: a 4xx never counts as a dead address, however often it came; what was not attempted
//! because it was suppressed never counts; a report counts only when it was tied to mail we sent, because anyone may mail a
//! report that names anyone.

mod engine;
mod evidence;
mod once;
mod strikes;

pub use engine::{Decision, Engine, Standing, State};
pub use evidence::{Judged, Wants};
pub use once::{MANUAL, RULES, Rule, Says, decide};
pub use strikes::{Strike, StrikeKey, Strikes};
