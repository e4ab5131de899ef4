//! One `address-file`: millions of lines that are looked up within a microsecond and take about a byte each in memory.
//!
//! A line ([`line`]) becomes a key of 16 bytes ([`Hasher`](super::Hasher)). A small file's keys are kept in memory; those of
//! a large one are sorted into an index file ([`index`], built by [`build`]), with filters in memory in front of it, so that
//! an address that is not in it costs no disk access and one that is costs one.
//!
//! [`address_lists`](super::address_lists) keeps the files: reads them when they change, and answers what is in which.

pub mod build;
pub mod index;
pub mod line;
pub mod source;

pub use build::{BuildError, build};
pub use index::{Facts, Index, IndexError};
pub use line::{BadLine, Subject};
pub use source::{Identity, identity};
