//! As a recipient I unsubscribe: by the link, by my mail program's button, by mail. As an operator I have an endpoint that
//! stands in the open.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

mod unsubscribe {
    pub mod endpoint;
    pub mod flood;
    pub mod whole;
}

#[allow(dead_code)] // Shared with tests/running.rs, which uses all of it.
mod running {
    pub mod client;
    pub mod next_hop;
    pub mod server;
}
