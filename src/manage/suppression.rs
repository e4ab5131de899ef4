//! What can be asked about the suppression list. Each command is bounded: what may be long comes in pieces, with `next` in
//! the answer to go on from. The command line and the HTTP API speak the same words.

use serde::{Deserialize, Serialize};

/// A request about the suppression list. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum SuppressionCommand {
    /// Entries in the order of their keys, behind the key `after` (hexadecimal; empty is the beginning).
    List {
        /// Which of them.
        #[serde(default)]
        filter: EntryFilter,
        /// `next` of the answer before.
        #[serde(default)]
        after: String,
        /// At most so many (the server caps this at 10,000). An answer may hold fewer and still have a `next`.
        limit: u32,
    },
    /// Everything about one subject, in all scopes, with its history.
    Show {
        /// An address, or `@domain`.
        subject: String,
    },
    /// Are these suppressed for such mail, and which entry decides?
    Check {
        /// Addresses or `@domain`s; with `hashed`, SHA-256 sums in hexadecimal. At most 10,000.
        subjects: Vec<String>,
        /// What is known of the mail.
        #[serde(default)]
        mail: MailFacts,
        /// Whether `subjects` are sums.
        #[serde(default)]
        hashed: bool,
    },
    /// Suppress these by hand.
    Add {
        /// Addresses or `@domain`s, at most 10,000.
        subjects: Vec<String>,
        /// For whose mail; empty is all.
        #[serde(default)]
        scope: String,
        /// Why, for the record.
        reason: String,
        /// When it ends; 0 is never.
        #[serde(default)]
        expires: i64,
        /// Who says so.
        #[serde(default)]
        who: String,
    },
    /// Mail may go to these again.
    Remove {
        /// Addresses or `@domain`s, at most 10,000.
        subjects: Vec<String>,
        /// The entry for whose mail; empty is the global one.
        #[serde(default)]
        scope: String,
        /// In all scopes.
        #[serde(default)]
        all_scopes: bool,
        /// Why, for the record.
        reason: String,
        /// Who says so.
        #[serde(default)]
        who: String,
    },
    /// How many entries there are of which kind; the numbers of the pieces are to be added up.
    Stats {
        /// `next` of the piece before.
        #[serde(default)]
        after: String,
    },
    /// What was done, in the order of time, the latest last.
    History {
        /// Only to this subject.
        #[serde(default)]
        subject: String,
        /// At or after this time.
        #[serde(default)]
        since: i64,
        /// `next` of the answer before.
        #[serde(default)]
        after: String,
        /// At most so many (the server caps this at 10,000).
        limit: u32,
    },
    /// Delete entries for good.
    Purge {
        /// Which of them.
        which: PurgeFilter,
        /// Only count them.
        #[serde(default)]
        dry_run: bool,
        /// Why, for the record.
        #[serde(default)]
        reason: String,
        /// Who says so.
        #[serde(default)]
        who: String,
        /// `next` of the piece before.
        #[serde(default)]
        after: String,
    },
    /// An import begins, or goes on: the answer holds its `batch` and how many records it has passed (`done`).
    ImportBegin {
        /// About all of it.
        info: ImportInfo,
    },
    /// Some records of an import.
    ImportRows {
        /// Which one.
        batch: u32,
        /// Number of records before these; those that the server has passed already are skipped.
        from: u64,
        /// Number of records of the file that these rows stand for, with those that became no row.
        records: u64,
        /// At most 10,000.
        rows: Vec<ImportRow>,
    },
    /// An import has ended.
    ImportEnd {
        /// Which one.
        batch: u32,
        /// Records that are on no list: they say why themselves.
        #[serde(default)]
        skipped: u64,
        /// Records that could not be read.
        #[serde(default)]
        rejected: u64,
    },
    /// A large import begins, whose entries are sorted and then merged: the answer holds its `batch`. Nothing is entered
    /// before its end; one that is not ended is begun again.
    BulkBegin {
        /// About all of it. One of the same `identity` that is still being read is given up; `anew` does not count.
        info: ImportInfo,
    },
    /// Some rows of a large import.
    BulkRows {
        /// Which one.
        batch: u32,
        /// At most 10,000. One that is wrong ends the import.
        rows: Vec<ImportRow>,
    },
    /// All rows of a large import were sent: they are merged from now on. Answers at once.
    BulkEnd {
        /// Which one.
        batch: u32,
        /// Records that are on no list: they say why themselves.
        #[serde(default)]
        skipped: u64,
        /// Records that could not be read.
        #[serde(default)]
        rejected: u64,
    },
    /// How far a large import is.
    BulkStatus {
        /// Which one.
        batch: u32,
    },
    /// Delete everything about a person but a hash that goes on suppressing. In pieces.
    Forget {
        /// The address.
        address: String,
        /// Who says so.
        #[serde(default)]
        who: String,
        /// `next` of the piece before.
        #[serde(default)]
        after: String,
    },
}

impl SuppressionCommand {
    /// Whether mail that is on hold may go out after it.
    pub const fn takes_off(&self) -> bool {
        matches!(self, SuppressionCommand::Remove { .. } | SuppressionCommand::Purge { .. })
    }
}

/// Which entries are asked for; what is empty asks for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntryFilter {
    /// Name of the rule.
    pub rule: Option<String>,
    /// `auto`, `manual`, `import`, `unsubscribe`.
    pub source: Option<String>,
    /// `active`, `held`, `removed`; without it, all but the removed ones.
    pub state: Option<String>,
    /// Domain of the address.
    pub domain: Option<String>,
    /// Part of the address.
    pub contains: Option<String>,
    /// Entered at or after.
    pub since: Option<i64>,
    /// Provider of the event.
    pub provider: Option<String>,
    /// `global`, `job NAME`, or a kind alone for all of its names.
    pub scope: Option<String>,
    /// Number of the import.
    pub batch: Option<u32>,
}

/// Which entries are deleted: those of which everything that is given here is true. Nothing given deletes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PurgeFilter {
    /// Taken off before this time.
    pub removed_before: Option<i64>,
    /// Those whose time is over.
    pub expired: bool,
    /// `auto`, `manual`, `import`, `unsubscribe`.
    pub source: Option<String>,
    /// Number of the import.
    pub batch: Option<u32>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// `global`, `job NAME`, or a kind alone for all of its names.
    pub scope: Option<String>,
}

/// What is known of a mail; what is empty is not known, and entries of that scope then do not count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailFacts {
    /// Domain of the envelope sender.
    pub sender_domain: String,
    /// Name of the `<source>`.
    pub source: String,
    /// Job.
    pub job: String,
    /// Mailing list.
    pub list: String,
    /// VirtualMTA.
    pub vmta: String,
    /// Pool.
    pub pool: String,
}

/// About a whole import.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImportInfo {
    /// What the same import begun again has in common with the first time: file and options, as a sum.
    pub identity: String,
    /// The file, in words.
    pub name: String,
    /// The format.
    pub format: String,
    /// For whose mail; empty is all.
    pub scope: String,
    /// When the entries end; 0 is never.
    pub expires: i64,
    /// Why, for the record.
    pub reason: String,
    /// Who says so.
    pub who: String,
    /// Whether the subjects are sums.
    pub hashed: bool,
    /// Do not go on where an earlier one stopped.
    pub anew: bool,
}

/// One record of an import that becomes an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportRow {
    /// Address, `@domain`, or sum.
    #[serde(rename = "s")]
    pub subject: String,
    /// Name of the rule; empty is `import`.
    #[serde(rename = "r", skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// When it happened; 0 is not known.
    #[serde(rename = "t", skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Category.
    #[serde(rename = "c", skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// The reply.
    #[serde(rename = "y", skip_serializing_if = "String::is_empty")]
    pub reply: String,
    /// What else the record says of the reason.
    #[serde(rename = "n", skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Its own scope, where the record has one.
    #[serde(rename = "o", skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Its own end, where the record has one; 0 for none.
    #[serde(rename = "e", skip_serializing_if = "is_zero")]
    pub expires: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_a_word_nobody_knows_is_refused() {
        // What asks for less than it seems to would delete or show too much.
        assert!(serde_json::from_str::<PurgeFilter>(r#"{"expird":true}"#).is_err());
        assert!(serde_json::from_str::<EntryFilter>(r#"{"rule":"hard"}"#).is_ok());
    }

    #[test]
    fn a_row_of_an_import_is_short_and_comes_back() {
        let row = ImportRow { subject: "a@b.example".into(), time: 5, ..ImportRow::default() };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, r#"{"s":"a@b.example","t":5}"#);
        assert_eq!(serde_json::from_str::<ImportRow>(&text).unwrap(), row);
    }
}
