//! The dry run of start-up: what other rooms have to say about a configuration before it is put in force.

use crate::accounting::columns::Columns;
use crate::config::Config;

/// Everything that would keep this configuration from starting, as far as it can be known without starting it: pattern
/// rules, columns of accounting files, certificates, what the report processors can't do yet. Empty when all is well.
pub fn check(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(errors) = super::rules::compile(config) {
        problems.extend(errors.lines().map(str::to_owned));
    }
    for file in &config.acct_files {
        if let Err(errors) = Columns::of(file) {
            problems.extend(errors.iter().map(|error| format!("acct-file {}: {error}", file.path.display())));
        }
    }
    let certificates = config.listeners.iter().filter_map(|l| l.tls_certificate.as_deref());
    for pem in certificates.chain(config.smtp_server_tls_certificate.as_deref()) {
        if let Err(error) = crate::net::server_tls::server_config(Some(pem), &config.host_names) {
            problems.push(error.to_string());
        }
    }
    problems
}
