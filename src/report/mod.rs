//! Inbound reports become accounting events: a bounce or delay notice (RFC 3464) becomes `rb` or `rs`, a complaint
//! (RFC 5965) becomes `f`, each tied to the send it is about where that can be proved.
//!
//! ```text
//!  mail bytes -> mime (parts) -> kind: is it a report? -> arf | dsn | body (legacy: the families) | body_pattern -> Recognised
//!                                                                               |
//!  send index, signed tokens (evidence) -> attribute (which send? proved how?)  |
//!                                                                               v
//!                            disposition: to_event, forwards -> processor (edge) -> store.finish | quarantine (edge)
//! ```
//!
//! What a report says of one recipient in several places is joined (`distinct`); `copies` and `budget` say what is passed on
//! and kept of a mail that nobody understood.
//!
//! Everything but `processor`, `quarantine` and `evidence`, which reach for the store, is pure: bytes in, values out.
//! Reports are hostile input: what is read of one mail is bounded in bytes, parts, depth, fields and recipients, the time
//! is linear in the bytes read, nothing panics, and a mail that is no report is never taken for one because of what its
//! text quotes.

pub mod attribute;
pub mod budget;
pub mod copies;
pub mod disposition;
pub mod evidence;
pub mod kind;
pub mod processor;
pub mod quarantine;
pub mod summary;
pub mod to_event;

mod arf;
mod body;
mod body_pattern;
mod bounds;
mod distinct;
mod dsn;
mod fields;
mod legacy;
mod mdn;
mod mention;
mod mime;
mod returned;
mod signs;
mod unsubscribe;
mod values;
mod words;

pub use attribute::{Attribution, Evidence, Sent, Way};
pub use body_pattern::{Matched, recognise_with};
pub use disposition::check;
pub use kind::{Complaint, Original, RcptResult, Recognised, ReportKind, recognise, recognise_mail};
pub use legacy::formats as legacy_formats;
pub use processor::{Counters, Processor};
pub use quarantine::Quarantine;
pub use summary::Summary;
