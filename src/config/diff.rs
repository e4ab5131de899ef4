//! What a reload changes, in words.

use super::directives::{Needs, all};
use super::model::Config;

/// One line for each thing that differs between the configurations: the directive's or block's name, and whether a
/// restart is needed for it to take effect. Empty when nothing that matters differs.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let words = |(name, restart)| match restart {
        true => format!("{name} changed; it takes effect after a restart"),
        false => format!("{name} changed"),
    };
    changes(old, new).map(words).collect()
}

/// What of `new` a server that was started with `old` does not do before it is started again.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    changes(old, new).filter(|(_, restart)| *restart).map(|(name, _)| name).collect()
}

/// What differs, and whether a restart is needed for it.
fn changes(old: &Config, new: &Config) -> impl Iterator<Item = (&'static str, bool)> {
    let changes = [
        ("host-name", old.host_names != new.host_names),
        ("postmaster", old.postmaster != new.postmaster),
        ("custom-dsn-from-header", old.custom_dsn_from_header != new.custom_dsn_from_header),
        ("spool", old.spool != new.spool),
        ("min-free-space", old.min_free_space != new.min_free_space),
        ("log-file", old.log_file != new.log_file),
        ("smtp-listener", old.listeners != new.listeners),
        ("total-max-smtp-in", old.total_max_smtp_in != new.total_max_smtp_in),
        ("total-max-smtp-out", old.total_max_smtp_out != new.total_max_smtp_out),
        ("spool-max-recipients", old.spool_max_recipients != new.spool_max_recipients),
        ("name-server", old.name_servers != new.name_servers),
        ("smtp-server-tls-certificate", old.smtp_server_tls_certificate != new.smtp_server_tls_certificate),
        ("relay-domain", old.relay_domains != new.relay_domains),
        ("<source>", old.sources != new.sources),
        ("<smtp-user>", old.users != new.users),
        ("<virtual-mta>", old.virtual_mtas != new.virtual_mtas),
        ("<virtual-mta-pool>", old.pools != new.pools),
        ("<domain>", old.domains != new.domains),
        ("<acct-file>", old.acct_files != new.acct_files),
        ("<bounce-category-patterns>", old.bounce_category_patterns != new.bounce_category_patterns),
        ("<smtp-pattern-list>", old.smtp_pattern_lists != new.smtp_pattern_lists),
        ("<smtp-pattern>", old.retry_patterns != new.retry_patterns),
        ("<address-list>", old.address_lists != new.address_lists),
        ("<bounce-processor>", old.bounce_processor != new.bounce_processor),
        ("<feedback-loop-processor>", old.feedback_loop_processor != new.feedback_loop_processor),
        ("<return-path-token>", old.return_path_token != new.return_path_token),
        ("<job-guard>", old.job_guards != new.job_guards),
        ("<unsubscribe-listener>", old.unsubscribe_listeners != new.unsubscribe_listeners),
        ("ledger-retention", {
            (old.ledger_retention, old.ledger_retention_bytes) != (new.ledger_retention, new.ledger_retention_bytes)
        }),
        ("send-index-retention", old.send_index_retention != new.send_index_retention),
        ("send-index-max", old.send_index_max != new.send_index_max),
        ("report-quarantine-size", old.report_quarantine_size != new.report_quarantine_size),
        ("alarm-to", old.alarm_to != new.alarm_to),
        ("alarm-command", old.alarm_command != new.alarm_command),
        ("novelty-alarm", old.novelty_alarm != new.novelty_alarm),
        ("<auto-suppression>", old.auto_suppression != new.auto_suppression),
        ("suppression-storage", old.suppression_hashed != new.suppression_hashed),
        ("suppression-hash-key", old.suppression_hash_key != new.suppression_hash_key),
        ("http-mgmt-port", old.http.port != new.http.port),
        ("http-mgmt-address", old.http.listen() != new.http.listen() && old.http.port == new.http.port),
        ("http-access", old.http.access != new.http.access),
        ("http-mgmt-password", {
            (&old.http.password, &old.http.password_hash) != (&new.http.password, &new.http.password_hash)
        }),
        ("http-api-key", old.http.api_keys != new.http.api_keys),
        ("http-tls-certificate", old.http.tls_certificate != new.http.tls_certificate),
        ("command-socket", old.command_socket != new.command_socket),
    ];
    let rows = all();
    let restart = move |name: &str| rows.iter().any(|r| r.name == name && r.needs == Needs::Restart);
    // The index that knows a returned mail by its Message-ID is kept only while there is a processor to ask it.
    let reads_reports = |c: &Config| c.bounce_processor.is_some() || c.feedback_loop_processor.is_some();
    let first_processor = reads_reports(new) && !reads_reports(old);
    let sockets =
        |c: &Config| -> Vec<_> { c.unsubscribe_listeners.iter().map(|l| (l.address, l.speaks_plain())).collect() };
    let other_sockets = sockets(new) != sockets(old);
    changes.into_iter().filter(|(_, changed)| *changed).map(move |(name, _)| {
        let restart = restart(name)
            || first_processor && matches!(name, "<bounce-processor>" | "<feedback-loop-processor>")
            || other_sockets && name == "<unsubscribe-listener>";
        (name, restart)
    })
}
