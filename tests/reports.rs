//! Inbound reports, from mail bytes to accounting events: what a user sees of bounces, delays and complaints.

mod abuse;
mod corpus;
mod desk;
mod disposition;
mod duplicates;
mod events;
mod families;
mod forms;
mod hostile;
mod incoming;
mod processor;
mod quarantine;
#[path = "reports/several.rs"]
mod several;
