//! The room as its users see it: a text goes in, a configuration or diagnostics come out.

mod auto_suppression;
mod errors;
mod precedence;
mod programs;
mod table;
mod typed;
mod whole_files;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::directives::{self, Scope, Set};
use super::tree::tests::Memory;
use super::*;
use crate::event::{Kind, Kinds};

/// The configuration of a text without errors.
fn good(text: &str) -> Config {
    let loaded = parse_str("c", text);
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|d| d.is_error()).map(Diagnostic::render).collect();
    loaded.config.unwrap_or_else(|| panic!("{}", errors.concat()))
}

/// Errors and warnings of a text as people see them.
fn findings(text: &str) -> String {
    let loaded = parse_str("c", &format!("spool s\n{text}"));
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
    let shown = loaded.diagnostics.iter().filter(|d| d.severity != Severity::Note);
    shown.map(Diagnostic::render).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
