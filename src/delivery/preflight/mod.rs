//! Before a campaign: is the sender one that providers will believe, does the message have what they ask for, is the list
//! fit to be mailed? Nothing is sent.
//!
//! - [`sender`] asks DNS, by way of [`crate::net::sender`], and judges the answers; [`content`] judges the message, [`list`]
//!   the recipients. Judging is pure; whoever wants a report (the command line today) brings the message and the list.
//! - What could not be found out is a finding of its own ([`Grade::Unknown`]), never taken for "missing".

pub mod content;
pub mod list;
pub mod sender;

use serde::Serialize;

/// How bad a finding is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Fine,
    /// Good to know.
    Note,
    /// It will cost deliveries at some.
    Warning,
    /// Nobody could say.
    Unknown,
    /// It will hurt.
    Problem,
}

impl Grade {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Grade::Fine => "fine",
            Grade::Note => "note",
            Grade::Warning => "warning",
            Grade::Unknown => "not known",
            Grade::Problem => "PROBLEM",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `spf`, `reverse-dns`, `dkim`, `dmarc`, `return-path`, `source`, `header`, `unsubscribe`, `list`.
    pub check: &'static str,
    /// Of what: an address, a domain, a header; may be empty.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to do; may be empty.
    pub help: String,
}

impl Finding {
    /// From its parts.
    pub fn new(
        grade: Grade,
        check: &'static str,
        subject: impl Into<String>,
        text: impl Into<String>,
        help: impl Into<String>,
    ) -> Finding {
        Finding { grade, check, subject: subject.into(), text: text.into(), help: help.into() }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which things were looked at.
    pub findings: Vec<Finding>,
    /// The list.
    pub list: list::Summary,
}

impl Report {
    /// Whether the campaign may go: nothing that will hurt, and nothing that nobody could say.
    pub fn is_fine(&self) -> bool {
        self.findings.iter().all(|f| f.grade < Grade::Unknown)
    }
}
