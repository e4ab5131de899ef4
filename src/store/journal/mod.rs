//! The journal: spool and ledger in one append-only log of segments. Byte layouts: [`segment`], [`record`].
//!
//! What holds at any instant, whatever is cut off:
//! - a record counts when its header, meta and (in the last batch) body match their checksums, and all records before it do;
//! - what was acknowledged had been synced; a torn tail was never acknowledged and is sealed off at the next open;
//! - segments go oldest first, so what ends a message never goes before the message;
//! - a write or sync that failed is never tried again: the store stops, and says why.

pub(crate) mod keeper;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod relocate;
pub(crate) mod segment;
pub(crate) mod writer;
