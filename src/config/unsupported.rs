//! Names that PowerMTA or the guides have and Carom does not obey.
//!
//! An operator's file must stay usable, so these are no errors; but a file must not seem to say what does not happen, so
//! each is reported as not in effect. Names that nobody misses here (they tune what Carom does by itself) only get a note.

use super::directives::Scope;

/// Why a name is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has an effect in PowerMTA and none here yet: a warning.
    NotYet,
    /// Its purpose is met or without object here: a note with the reason.
    Needless(&'static str),
}

/// What there is to say about the directive `keyword` (in lower case) in `scope`; `None` if the name is unknown there.
pub fn directive(scope: Scope, keyword: &str) -> Option<Verdict> {
    if let Some((_, why)) = NEEDLESS.iter().find(|(name, _)| *name == keyword) {
        return Some(Verdict::Needless(why));
    }
    names(scope).contains(&keyword).then_some(Verdict::NotYet)
}

/// Whether the name is known in any scope, and in which.
pub fn anywhere(keyword: &str) -> Option<Scope> {
    Scope::ALL.iter().copied().find(|s| names(*s).contains(&keyword))
}

/// The names that are known but not obeyed in `scope`.
pub fn names(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::Global => GLOBAL,
        Scope::Spool => &["deliver-only", "priority"],
        Scope::Listener => &["await-slot", "immediate-tls", "tls-ca-file", "tls-ciphers"],
        Scope::Source => SOURCE,
        Scope::User => &["tls-certificate"],
        Scope::VirtualMta | Scope::Pool => VIRTUAL_MTA,
        Scope::Domain => DOMAIN,
        Scope::AcctFile => ACCT_FILE,
        Scope::Webhook | Scope::Nats => &[],
        Scope::Patterns | Scope::Token | Scope::JobGuard | Scope::UnsubscribeListener => &[],
        Scope::Processor | Scope::AddressList | Scope::SuppressionList | Scope::EmailPatterns => &[],
        Scope::AutoSuppression => &[],
    }
}

/// Blocks that are known and passed over.
pub const BLOCKS: &[&str] = &[
    "accepted-connect",
    "aliases",
    "bind",
    "binding",
    "dkim",
    "dns",
    "domain-key-list",
    "http-mgmt-listener",
    "limit",
    "limits",
    "mx-rollup-list",
    "pattern-list",
    "proxy",
    "rewrite-list",
    "signals",
    "signals-filter",
    "source-group",
    "sparkpost-analytics",
    "suppression-list",
    "transmissions-api",
    "transmission-api-listener",
    "transmissions-api-listener",
];

/// Names whose purpose is met or without object here, in any scope.
pub const NEEDLESS: &[(&str, &str)] = &[
    ("add-gm-token", "it was withdrawn by PowerMTA"),
    ("broken-auth-clients", "it was withdrawn by PowerMTA"),
    ("check-spf-inbound-best-guess", "it was withdrawn by PowerMTA"),
    ("delete-file-holders", "the spool has no placeholder files"),
    ("dk-sign", "DomainKeys has been replaced by DKIM"),
    ("host-id", "Message-IDs are unique without it"),
    ("license", "Carom needs none"),
    ("log-auto-rotation", "leave rotation to logrotate or journald"),
    ("log-file-world-readable", "set the permissions of the log's folder"),
    ("log-rotate", "leave rotation to logrotate or journald"),
    ("pickup-retry-interval", "it was withdrawn by PowerMTA"),
    ("pmc-acct-min-free-space", "there is no PowerMTA console"),
    ("run-as-root", "start the service as the user it shall run as"),
    ("spool-delete-corrupted", "damaged records are set aside, never lost silently"),
    ("sync-msg-create", "what is accepted is always flushed"),
    ("sync-msg-update", "what is written is always flushed"),
    ("thread-max-priority", "threads are not tuned by hand"),
    ("thread-min-priority", "threads are not tuned by hand"),
    ("thread-reuse", "threads are not tuned by hand"),
    ("dns-workers", "look-ups do not need threads"),
    ("smtp-server-tls-allow-sslv3", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-server-tls-allow-tlsv1", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-server-tls-allow-tlsv1.1", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-server-tls-allow-tlsv1.2", "TLS 1.2 and 1.3 are spoken"),
    ("smtp-server-tls-ciphers", "only safe ciphers are offered"),
    ("smtp-tls-allow-sslv3", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-tls-allow-tlsv1", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-tls-allow-tlsv1.1", "only TLS 1.2 and 1.3 are spoken"),
    ("smtp-tls-allow-tlsv1.2", "TLS 1.2 and 1.3 are spoken"),
    ("smtp-tls-ciphers", "only safe ciphers are offered"),
    ("tls-allow-sslv3", "only TLS 1.2 and 1.3 are spoken"),
    ("tls-allow-tlsv1", "only TLS 1.2 and 1.3 are spoken"),
    ("tls-allow-tlsv1.1", "only TLS 1.2 and 1.3 are spoken"),
    ("tls-allow-tlsv1.2", "TLS 1.2 and 1.3 are spoken"),
];

const GLOBAL: &[&str] = &[
    "alias",
    "domain-key",
    "domain-suffix",
    "dummy-smtp-await-slot",
    "dummy-smtp-has-chunking",
    "dummy-smtp-has-pipelining",
    "dummy-smtp-has-verp",
    "dummy-smtp-ip",
    "dummy-smtp-latency",
    "dummy-smtp-port",
    "dummy-smtp-update-stats",
    "edns-udp-length",
    "enable-signals",
    "http-csrf-protection",
    "http-default-max-items",
    "http-default-sort-order",
    "http-log-data",
    "http-log-requests",
    "http-log-tls",
    "http-mgmt-source",
    "http-redirect-to-https",
    "http-strict-transport-security-max-age",
    "http-tls-allow-sslv3",
    "http-tls-allow-tlsv1",
    "http-tls-allow-tlsv1.1",
    "http-tls-allow-tlsv1.2",
    "http-tls-ca-file",
    "http-tls-ciphers",
    "include-headers-from",
    "invalid-virtual-mta-fallback",
    "ip-connection-limit",
    "ip-pool",
    "mailmerge-expands-undefined-variables",
    "max-memory",
    "mx-connection-limit",
    "no-http-mgmt-source",
    "password",
    "pickup",
    "pickup-remove-dot",
    "relay-address",
    "relay-debug",
    "remove-received-headers",
    "smtp-await-slot",
    "smtp-ip",
    "smtp-port",
    "smtp-server-tls-ca-file",
    "smtp-server-tls-enable",
    "smtp-server-tls-private-key",
    "smtp-user",
    "smtp-users-authentication",
    "use-proxy",
];

const SOURCE: &[&str] = &[
    "add-x-virtual-mta-header",
    "allow-chunking",
    "allow-empty-x-virtual-mta",
    "allow-mailmerge",
    "allow-smtputf8",
    "always-allow-api-submission",
    "auto-qualify-domain",
    "bcc",
    "check-dkim-inbound",
    "check-iprev-inbound",
    "check-mfrom-inbound",
    "check-pra-inbound",
    "check-spf-inbound",
    "check-spf-inbound-max-void-lookups",
    "date-header-time",
    "disconnect-on-transient-error",
    "jobid-prefix",
    "log-data",
    "log-tls",
    "pattern-list",
    "process-x-dkim-key",
    "process-x-dkim-options",
    "process-x-schedule",
    "reject-iprev-check-fail",
    "reject-iprev-check-permerror",
    "reject-iprev-check-temperror",
    "reject-spf-check-fail",
    "reject-spf-check-permerror",
    "reject-spf-check-temperror",
    "remove-header",
    "remove-received-headers",
    "retain-x-dkim-key",
    "retain-x-dkim-options",
    "retain-x-schedule",
    "rewrite-list",
    "smtp-max-auth-failure-rate",
    "source-group",
    "too-many-rcpts-fails-message",
    "trace-dkim-check",
    "trace-iprev-check",
    "trace-spf-check",
    "verp-default",
];

const VIRTUAL_MTA: &[&str] = &[
    "auto-cold-virtual-mta",
    "cold-virtual-mta",
    "domain-key",
    "enable-signals",
    "include-headers-from",
    "max-smtp-data-volume-rate",
    "rewrite-list",
    "smtp-proxy-source-host",
    "use-proxy",
    "warmup",
];

const DOMAIN: &[&str] = &[
    "421-means-mx-unavailable",
    "add-x-msys-api-header",
    "allow-cancel-during-transfer",
    "allow-priority-interruption",
    "allow-priority-interruption-during-transfer",
    "assume-delivery-upon-data-termination-timeout",
    "auth-password",
    "auth-username",
    "backoff-max-data-volume-rate",
    "backoff-notify",
    "backoff-reroute-to-virtual-mta",
    "bcc-upon-delivery",
    "bounce-upon-pix-transfer-failure",
    "bounce-upon-transfer-failure",
    "check-mfrom-outbound",
    "check-pra-outbound",
    "check-spf-outbound",
    "deliver-local-dsn",
    "delivery-priority",
    "disable-mx-rollup",
    "disabled-source-ip-notify",
    "dkim-add-body-limit",
    "dkim-add-timestamp",
    "dkim-algorithm",
    "dkim-body-canon",
    "dkim-disallow-adding-headers",
    "dkim-domain",
    "dkim-expire-after",
    "dkim-headers",
    "dkim-headers-canon",
    "dkim-identity",
    "dkim-identity-fallback",
    "dkim-key",
    "dkim-key-file",
    "dkim-key-selector",
    "dkim-query-method",
    "dkim-selector",
    "dkim-sign",
    "dns-timeout",
    "dsn-format",
    "http-delivery-extra-headers",
    "http-delivery-url",
    "ignore-chunking",
    "log-data",
    "log-disabled-ips",
    "log-resolution",
    "log-tls",
    "max-cold-virtual-mta-msg",
    "max-data-volume-rate",
    "max-errors-per-connection",
    "max-events-recorded",
    "max-smtp-out-per-ip",
    "max-smtp-out-per-source-ip",
    "mx-connection-attempts",
    "pix-bug-workaround",
    "queue-priority",
    "queue-to",
    "remove-header",
    "replace-smtp-421-service-response",
    "reroute-to-virtual-mta",
    "retry-upon-new-mail",
    "reuse-ssl-session",
    "second-dkim-add-body-limit",
    "second-dkim-add-timestamp",
    "second-dkim-algorithm",
    "second-dkim-body-canon",
    "second-dkim-disallow-adding-headers",
    "second-dkim-expire-after",
    "second-dkim-headers",
    "second-dkim-headers-canon",
    "second-dkim-identity",
    "second-dkim-identity-fallback",
    "second-dkim-query-method",
    "second-dkim-sign",
    "sign",
    "smtp-421-means-mx-unavailable",
    "smtp-553-means-invalid-mailbox",
    "smtp-client-certificate",
    "smtp-multiple-line-response-timeout",
    "smtp-out-rampup-interval",
    "source-ip-max-connect-rate",
    "source-ip-max-data-volume-rate",
    "source-ip-max-msg-rate",
    "source-ip-max-smtp-out",
    "sparkpost-ip-pool",
    "sparkpost-sandbox",
    "track-recipient-events",
    "use-dane",
    "use-unencrypted-plain-auth",
    "warmup",
];

const ACCT_FILE: &[&str] = &[];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::directives;

    #[test]
    fn nothing_is_both_obeyed_and_unsupported() {
        for row in directives::all() {
            for name in std::iter::once(&row.name).chain(row.aliases) {
                assert_eq!(directive(row.scope, name), None, "{name} in {}", row.scope.name());
            }
        }
        for (tag, ..) in directives::BLOCKS {
            assert!(!BLOCKS.contains(tag), "{tag}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        for scope in Scope::ALL {
            let mut list = names(*scope).to_vec();
            list.sort_unstable();
            let before = list.len();
            list.dedup();
            assert_eq!(list.len(), before, "{}", scope.name());
        }
    }
}
