//! THE table of what may stand in a configuration file.
//!
//! One row per directive and scope: name, further spellings, value type, default, what a change needs, what it means,
//! and what it sets in the typed model. The parser, the checker, `show settings`, `diff`, the documentation and the
//! suggestions for misspelt names are derived from the rows; tests walk them. Names that PowerMTA has and Carom does not
//! obey are in `unsupported.rs`.

pub mod acct_file;
pub mod address_list;
pub mod auto_suppression;
pub mod domain;
pub mod global;
mod http;
pub mod job_guard;
pub mod push;
pub mod report;
pub mod set;
pub mod source;
pub mod source_suppression;
pub mod unsubscribe;
pub mod virtual_mta;

pub use set::{Change, Reference, Set, Setting};

/// Where a directive may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Outside of all blocks.
    Global,
    /// `<spool DIR>`
    Spool,
    /// `<smtp-listener ADDRESS>`
    Listener,
    /// `<source X>`
    Source,
    /// `<smtp-user NAME>`
    User,
    /// `<virtual-mta NAME>`
    VirtualMta,
    /// `<virtual-mta-pool NAME>`
    Pool,
    /// `<domain PATTERN>`
    Domain,
    /// `<acct-file PATH>`
    AcctFile,
    /// `<acct-webhook URL>`
    Webhook,
    /// `<acct-nats URL>`
    Nats,
    /// `<bounce-category-patterns>`
    Patterns,
    /// `<bounce-processor>` and `<feedback-loop-processor>`
    Processor,
    /// `<address-list>` inside a processor
    AddressList,
    /// `<address-list NAME>` at the top level
    SuppressionList,
    /// `<email-patterns>` inside a processor
    EmailPatterns,
    /// `<return-path-token>`
    Token,
    /// `<job-guard PATTERN>`
    JobGuard,
    /// `<unsubscribe-listener ADDRESS:PORT>`
    UnsubscribeListener,
    /// `<auto-suppression>`
    AutoSuppression,
}

impl Scope {
    /// All scopes.
    pub const ALL: &'static [Scope] = &[
        Scope::Global,
        Scope::Spool,
        Scope::Listener,
        Scope::Source,
        Scope::User,
        Scope::VirtualMta,
        Scope::Pool,
        Scope::Domain,
        Scope::AcctFile,
        Scope::Webhook,
        Scope::Nats,
        Scope::Patterns,
        Scope::Processor,
        Scope::AddressList,
        Scope::SuppressionList,
        Scope::EmailPatterns,
        Scope::Token,
        Scope::JobGuard,
        Scope::UnsubscribeListener,
        Scope::AutoSuppression,
    ];

    /// As it is called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Global => "the top level",
            Scope::Spool => "<spool>",
            Scope::Listener => "<smtp-listener>",
            Scope::Source => "<source>",
            Scope::User => "<smtp-user>",
            Scope::VirtualMta => "<virtual-mta>",
            Scope::Pool => "<virtual-mta-pool>",
            Scope::Domain => "<domain>",
            Scope::AcctFile => "<acct-file>",
            Scope::Webhook => "<acct-webhook>",
            Scope::Nats => "<acct-nats>",
            Scope::Patterns => "<bounce-category-patterns>",
            Scope::Processor => "<bounce-processor> or <feedback-loop-processor>",
            Scope::AddressList => "<address-list> of a processor",
            Scope::SuppressionList => "<address-list>",
            Scope::EmailPatterns => "<email-patterns>",
            Scope::Token => "<return-path-token>",
            Scope::JobGuard => "<job-guard>",
            Scope::UnsubscribeListener => "<unsubscribe-listener>",
            Scope::AutoSuppression => "<auto-suppression>",
        }
    }

    /// As a sentence goes on to say where something stands.
    pub fn within(self) -> String {
        if self == Scope::Global { "at the top level".to_owned() } else { format!("in {}", self.name()) }
    }

    /// Whether the values there are secrets, so that an unknown line is not shown.
    pub const fn holds_secrets(self) -> bool {
        matches!(self, Scope::User | Scope::Token | Scope::Webhook | Scope::Nats)
    }
}

/// What a changed value needs to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// `carom reload`.
    Reload,
    /// A restart.
    Restart,
}

/// A row of the table; `T` is what it sets something in.
#[derive(Debug)]
pub struct Directive<T: 'static> {
    /// PowerMTA's name, or ours.
    pub name: &'static str,
    /// Further spellings: deprecated names and those of how-to guides. Using one gives a note.
    pub aliases: &'static [&'static str],
    /// Value type and what it sets.
    pub set: Set<T>,
    /// As it would be written; empty when there is none.
    pub default: &'static str,
    /// Whether it may be given several times, each adding to the ones before.
    pub repeatable: bool,
    /// What a change needs.
    pub needs: Needs,
    /// What it means.
    pub doc: &'static str,
}

impl<T: 'static> Directive<T> {
    /// A row that is given once and can be reloaded.
    pub const fn one(name: &'static str, set: Set<T>, default: &'static str, doc: &'static str) -> Directive<T> {
        Directive { name, aliases: &[], set, default, repeatable: false, needs: Needs::Reload, doc }
    }

    /// A row that may be given several times.
    pub const fn many(name: &'static str, set: Set<T>, doc: &'static str) -> Directive<T> {
        Directive { name, aliases: &[], set, default: "", repeatable: true, needs: Needs::Reload, doc }
    }

    /// With further spellings.
    pub const fn also(self, aliases: &'static [&'static str]) -> Directive<T> {
        Directive { aliases, ..self }
    }

    /// A change needs a restart.
    pub const fn restart(self) -> Directive<T> {
        Directive { needs: Needs::Restart, ..self }
    }

    /// Whether `keyword`, in lower case, means this row.
    pub fn is_called(&self, keyword: &str) -> bool {
        self.name == keyword || self.aliases.contains(&keyword)
    }
}

/// The row of this name, if there is one.
pub fn find<T>(table: &'static [Directive<T>], keyword: &str) -> Option<&'static Directive<T>> {
    table.iter().find(|row| row.is_called(keyword))
}

/// A row without what it sets: for documentation, suggestions and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Where it may stand.
    pub scope: Scope,
    /// Its name.
    pub name: &'static str,
    /// Further spellings.
    pub aliases: &'static [&'static str],
    /// The value type, as directives.md abbreviates it.
    pub value: &'static str,
    /// Empty when there is none.
    pub default: &'static str,
    /// Whether it may be given several times.
    pub repeatable: bool,
    /// What a change needs.
    pub needs: Needs,
    /// What it means.
    pub doc: &'static str,
}

/// Every directive that Carom obeys.
pub fn all() -> Vec<Row> {
    fn rows<T>(scope: Scope, table: &'static [Directive<T>]) -> impl Iterator<Item = Row> {
        table.iter().map(move |d| Row {
            scope,
            name: d.name,
            aliases: d.aliases,
            value: d.set.type_name(),
            default: d.default,
            repeatable: d.repeatable,
            needs: d.needs,
            doc: d.doc,
        })
    }
    rows(Scope::Global, global::GLOBAL)
        .chain(rows(Scope::Spool, global::SPOOL))
        .chain(rows(Scope::Listener, global::LISTENER))
        .chain(rows(Scope::Source, source::SOURCE))
        .chain(rows(Scope::User, source::USER))
        .chain(rows(Scope::VirtualMta, virtual_mta::VIRTUAL_MTA))
        .chain(rows(Scope::Pool, virtual_mta::POOL))
        .chain(rows(Scope::Domain, domain::DOMAIN))
        .chain(rows(Scope::AcctFile, acct_file::ACCT_FILE))
        .chain(rows(Scope::Webhook, push::WEBHOOK))
        .chain(rows(Scope::Nats, push::NATS))
        .chain(rows(Scope::Processor, report::PROCESSOR))
        .chain(rows(Scope::AddressList, address_list::ADDRESS_LIST))
        .chain(rows(Scope::SuppressionList, address_list::SUPPRESSION_LIST))
        .chain(rows(Scope::EmailPatterns, report::EMAIL_PATTERNS))
        .chain(rows(Scope::Token, report::TOKEN))
        .chain(rows(Scope::JobGuard, job_guard::JOB_GUARD))
        .chain(rows(Scope::UnsubscribeListener, unsubscribe::UNSUBSCRIBE_LISTENER))
        .chain(rows(Scope::AutoSuppression, auto_suppression::AUTO_SUPPRESSION))
        .collect()
}

/// Blocks that Carom obeys: tag, what its argument is (empty: none), where it may stand.
pub const BLOCKS: &[(&str, &str, &[Scope])] = &[
    ("spool", "DIR", &[Scope::Global]),
    ("smtp-listener", "ADDRESS:PORT", &[Scope::Global]),
    ("source", "IP, CIDR or NAME", &[Scope::Global]),
    ("smtp-user", "NAME", &[Scope::Global]),
    ("virtual-mta", "NAME", &[Scope::Global]),
    ("virtual-mta-pool", "NAME", &[Scope::Global]),
    ("domain", "PATTERN", &[Scope::Global, Scope::VirtualMta, Scope::Pool]),
    ("acct-file", "PATH", &[Scope::Global]),
    ("acct-webhook", "URL", &[Scope::Global]),
    ("acct-nats", "URL", &[Scope::Global]),
    ("bounce-category-patterns", "", &[Scope::Global]),
    ("bounce-processor", "", &[Scope::Global]),
    ("feedback-loop-processor", "", &[Scope::Global]),
    ("address-list", "", &[Scope::Global, Scope::Processor]),
    ("email-patterns", "", &[Scope::Processor]),
    ("return-path-token", "", &[Scope::Global]),
    ("job-guard", "PATTERN", &[Scope::Global]),
    ("unsubscribe-listener", "ADDRESS:PORT", &[Scope::Global]),
    ("auto-suppression", "", &[Scope::Global]),
    ("smtp-pattern-list", "NAME", &[Scope::Global]),
    ("smtp-pattern", "NAME", &[Scope::Global]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_documented_and_no_name_stands_twice_in_a_scope() {
        let mut seen = BTreeSet::new();
        for row in all() {
            assert!(row.doc.len() > 8 && !row.doc.ends_with('.'), "{}: {:?}", row.name, row.doc);
            assert!(!row.value.is_empty(), "{}", row.name);
            for name in std::iter::once(&row.name).chain(row.aliases) {
                assert_eq!(*name, name.to_ascii_lowercase());
                assert!(seen.insert((row.scope, *name)), "{name} twice in {}", row.scope.name());
            }
        }
        assert!(seen.len() > 100, "only {} names", seen.len());
    }
}
