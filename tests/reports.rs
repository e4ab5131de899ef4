//! Inbound reports, from mail bytes to accounting events: what a user sees of bounces, delays and complaints.

#[path = "reports/abuse.rs"]
mod abuse;
#[path = "reports/corpus.rs"]
mod corpus;
#[path = "reports/disposition.rs"]
mod disposition;
#[path = "reports/events.rs"]
mod events;
#[path = "reports/families.rs"]
mod families;
#[path = "reports/forms.rs"]
mod forms;
#[path = "reports/hostile.rs"]
mod hostile;
#[path = "reports/processor.rs"]
mod processor;
