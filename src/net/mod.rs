//! Names and TLS, shared by both directions: [`dns`] finds where mail goes, [`client_tls`] secures mail sent,
//! [`server_tls`] mail received.

pub mod client_tls;
pub mod dns;
pub mod sender;
pub mod server_tls;
