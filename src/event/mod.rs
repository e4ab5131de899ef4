//! The language of the house: what every other room speaks, and nothing that knows about sockets, files or clocks.
//!
//! An [`Event`] is one accounting record: one attempt, bounce, reception, report. [`fields`] is THE table of what a
//! record's columns are called and mean; the CSV header, the Parquet schema and `schemas/` are derived from it.
//! [`encode`] is how events are kept in the ledger.

pub mod address;
pub mod category;
pub mod encode;
pub mod fields;
pub mod header_token;
pub mod ids;
pub mod kind;
pub mod leb128;
pub mod manifest;
pub mod plain;
pub mod record;
pub mod reply;
pub mod return_path;
pub mod row_order;
pub mod scope;
pub mod send_entry;
pub mod time;
pub mod token_key;
pub mod unsubscribe_token;

pub use address::{Address, AddressError, AddressKey};
pub use category::Category;
pub use encode::{DecodeError, EventBatch, Events};
pub use ids::{EventId, MessageId, RuleSetId, StoreId};
pub use kind::{Action, DeliveryType, Kind, Kinds, SourceType, Stage};
pub use plain::plain;
pub use record::{Event, Pairs};
pub use reply::{EnhancedStatus, Reply};
pub use scope::{Scope, ScopeError, ScopeKind, ScopeKinds};
pub use send_entry::{SendEntry, SendEntryError};
pub use time::Time;
pub use token_key::TokenKey;
