//! One record as the statistics look at it.

use std::borrow::Cow;

use crate::event::{Kind, Time};
use crate::history::{Row, Scan};

/// The columns the statistics need, beside those of filters and splits; [`Record::of`] numbers them so.
const COLUMNS: &[&str] = &[
    "type",
    "timeLogged",
    "timeQueued",
    "rcpt",
    "orig",
    "dsnStatus",
    "dsnDiag",
    "dsnMta",
    "bounceCat",
    "dlvSize",
    "vmta",
    "dlvSourceIp",
    "nRcpt",
    "feedbackType",
    "reportingMta",
];

/// A scan of the columns that are needed, and of `more` behind them.
pub(super) fn scan(more: &[String]) -> Scan {
    let all: Vec<&str> = COLUMNS.iter().copied().chain(more.iter().map(String::as_str)).collect();
    Scan::new(&all).required(&["type"])
}

/// Where the columns behind the needed ones begin.
pub(super) const MORE: usize = COLUMNS.len();

/// 5.X.X or 4.X.X.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// For good.
    Permanent,
    /// For now.
    Temporary,
    /// Neither is said.
    Unknown,
}

/// A record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'r> {
    /// Its type.
    pub kind: Kind,
    /// When it was logged.
    pub logged: Option<Time>,
    /// When its message was queued.
    pub queued: Option<Time>,
    /// The recipient as written.
    pub rcpt: &'r str,
    /// Behind its last `@`, as written; `(no domain)` when there is none.
    pub domain: &'r str,
    /// The sender.
    pub orig: &'r str,
    /// `dsnStatus` with its words.
    pub status: &'r str,
    /// `dsnDiag`.
    pub diag: &'r str,
    /// `dsnMta`.
    pub mta: &'r str,
    /// `bounceCat`.
    pub category: &'r str,
    /// Bytes delivered.
    pub size: u64,
    /// The VirtualMTA.
    pub vmta: &'r str,
    /// Our address.
    pub source_ip: &'r str,
    /// Recipients it stands for: 1, except in files of old versions that put several into one.
    pub recipients: u64,
    /// For complaints: what kind, and who reported.
    pub feedback: (&'r str, &'r str),
}

impl<'r> Record<'r> {
    /// `None` when the row's type is none of PowerMTA's.
    pub(super) fn of(row: &Row<'r>) -> Option<Record<'r>> {
        let rcpt = row.str(3);
        Some(Record {
            kind: row.kind(0)?,
            logged: row.time(1),
            queued: row.time(2),
            rcpt,
            domain: rcpt.rsplit_once('@').map_or("(no domain)", |(_, d)| d.trim_end_matches('>')),
            orig: row.str(4),
            status: row.str(5),
            diag: row.str(6),
            mta: row.str(7),
            category: row.str(8),
            size: row.number(9).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            vmta: row.str(10),
            source_ip: row.str(11),
            recipients: row.number(12).and_then(|n| u64::try_from(n).ok()).unwrap_or(1).max(1),
            feedback: (row.str(13), row.str(14)),
        })
    }

    /// The domain in lower case.
    pub fn domain_key(&self) -> Cow<'r, str> {
        if self.domain.bytes().any(|b| b.is_ascii_uppercase()) || !self.domain.is_ascii() {
            Cow::Owned(self.domain.to_lowercase())
        } else {
            Cow::Borrowed(self.domain)
        }
    }

    /// The code in `dsnStatus`; where it holds none, that of the reply, as `5.1.1` or else `550`; `(none)` at last.
    pub fn code(&self) -> &'r str {
        let status = self.status.split([' ', '(']).next().unwrap_or("");
        if is_code(status) {
            return status;
        }
        let mut words = self.reply().split([' ', '-', '\r', '\n']);
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let basic = first.len() == 3 && first.starts_with(['2', '4', '5']) && first.bytes().all(|b| b.is_ascii_digit());
        match (basic, is_code(second)) {
            (true, true) => second,
            (true, false) => first,
            _ if !status.is_empty() => status,
            _ => "(none)",
        }
    }

    /// By the status code, or by the reply where there is none.
    pub fn class(&self) -> Class {
        match self.code().as_bytes().first() {
            Some(b'5') => Class::Permanent,
            Some(b'4') => Class::Temporary,
            _ => Class::Unknown,
        }
    }

    fn reply(&self) -> &'r str {
        match self.diag.split_once(';') {
            Some((kind, rest)) if kind.eq_ignore_ascii_case("smtp") => rest.trim_start(),
            _ => self.diag,
        }
    }

    /// Whole seconds in the queue, as PowerMTA counts them; `None` when a time is missing. A clock that jumped back
    /// gives 0.
    pub fn seconds_queued(&self) -> Option<u64> {
        Some(u64::try_from(self.logged?.secs() - self.queued?.secs()).unwrap_or(0))
    }
}

/// Whether it is `X.Y.Z`.
fn is_code(word: &str) -> bool {
    word.len() >= 5
        && word.bytes().filter(|b| *b == b'.').count() == 2
        && word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// `name`, or something to show when it is empty.
pub(super) const fn or_none(name: &str) -> &str {
    if name.is_empty() { "(none)" } else { name }
}
