//! As a recipient I unsubscribe: by the link, by my mail program's button, by mail. As an operator I have an endpoint that
//! stands in the open.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

mod endpoint;
mod flood;
mod whole;
