//! Inbound reports, from mail bytes to accounting events: what a user sees of bounces, delays and complaints.

#[path = "reports/abuse.rs"]
mod abuse;
#[path = "reports/corpus.rs"]
mod corpus;
#[path = "reports/desk.rs"]
mod desk;
#[path = "reports/disposition.rs"]
mod disposition;
#[path = "reports/duplicates.rs"]
mod duplicates;
#[path = "reports/events.rs"]
mod events;
#[path = "reports/families.rs"]
mod families;
#[path = "reports/forms.rs"]
mod forms;
#[path = "reports/hostile.rs"]
mod hostile;
#[path = "reports/incoming.rs"]
mod incoming;
#[path = "reports/processor.rs"]
mod processor;
#[path = "reports/quarantine.rs"]
mod quarantine;
#[path = "reports/several.rs"]
mod several;
