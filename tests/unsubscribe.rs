//! As a recipient I unsubscribe: by the link, by my mail program's button, by mail. As an operator I have an endpoint that
//! stands in the open.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

#[allow(dead_code)] // Shared with tests/running.rs, which uses all of it.
#[path = "running/client.rs"]
mod client;
#[path = "unsubscribe/endpoint.rs"]
mod endpoint;
#[path = "unsubscribe/flood.rs"]
mod flood;
#[allow(dead_code)] // As above.
#[path = "running/next_hop.rs"]
mod next_hop;
#[allow(dead_code)] // As above.
#[path = "running/server.rs"]
mod server;
#[path = "unsubscribe/whole.rs"]
mod whole;
