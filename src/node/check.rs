//! Reading a configuration as start-up and reload do: the parser, then the dry run of everything that would be built.

use std::path::Path;

use crate::accounting::columns::Columns;
use crate::classify::RuleSets;
use crate::config::{self, Config, Diagnostic, Loaded, Place, Severity};

/// Reads the configuration at `path` and adds what the other rooms have to say about it: pattern rules, columns of
/// accounting files, certificates, what the report processors can't do yet. There is a configuration in the answer when
/// it can be put in force, as far as that can be known without doing it.
pub fn load(path: &Path, root: Option<&Path>) -> Loaded {
    load_with(path, root, &RuleSets::default())
}

/// The same; the pattern rules are left compiled in `rules`, for who puts the configuration in force.
pub fn load_with(path: &Path, root: Option<&Path>, rules: &RuleSets) -> Loaded {
    let mut loaded = config::load(path, root);
    if let Some(config) = &loaded.config {
        let findings = check(config, &loaded, rules);
        if findings.iter().any(Diagnostic::is_error) {
            loaded.config = None;
        }
        loaded.diagnostics.extend(findings);
    }
    loaded
}

fn check(config: &Config, loaded: &Loaded, rules: &RuleSets) -> Vec<Diagnostic> {
    let whole = || Place { file: config.file.clone(), line: 0 };
    let named = |path: &Path| loaded.places.get(path).cloned().unwrap_or_else(whole);
    let mut findings = Vec::new();
    // The built-in rules alone are known to be good, and compiling takes its time.
    let rules = match config.bounce_category_patterns.as_slice() {
        [] => Ok(()),
        own => rules.compile(own).map(drop),
    };
    for error in rules.err().into_iter().flatten() {
        let place = Place { file: error.file.into(), line: error.line };
        findings.push(Diagnostic::at(Severity::Error, place, error.message));
    }
    for error in crate::delivery::steer::Steering::compile(config).err().into_iter().flatten() {
        let place = Place { file: error.file.into(), line: error.line };
        findings.push(Diagnostic::at(Severity::Error, place, error.message));
    }
    for file in &config.acct_files {
        for error in Columns::of(file).err().into_iter().flatten() {
            findings.push(Diagnostic::at(Severity::Error, named(&file.path), error.to_string()));
        }
    }
    let mut certificates: Vec<_> = config.listeners.iter().filter_map(|l| l.tls_certificate.as_deref()).collect();
    certificates.extend(config.unsubscribe_listeners.iter().filter_map(|l| l.tls_certificate.as_deref()));
    certificates.extend(config.smtp_server_tls_certificate.as_deref());
    certificates.extend(config.http.tls_certificate.as_deref());
    certificates.sort_unstable();
    certificates.dedup();
    for pem in certificates {
        if let Err(error) = crate::net::server_tls::server_config(Some(pem), &config.host_names) {
            findings.push(Diagnostic::at(Severity::Error, named(pem), error.to_string()));
        }
    }
    if let Some(token) = &config.return_path_token
        && !token.keys.iter().any(|key| key.holds(super::now()))
    {
        let message =
            "the time of every key of <return-path-token> is over: nothing is signed, and no token is believed";
        findings.push(Diagnostic::at(Severity::Warning, whole(), message.to_owned()));
    }
    let commands = config.commands();
    for command in &commands {
        if let Err(why) = crate::delivery::program::check(&command.program) {
            let place = named(Path::new(&command.program));
            let message = format!("{}: {why}; mail for it waits until it can be run", command.program);
            findings.push(Diagnostic::at(Severity::Warning, place, message));
        }
    }
    if let Some(command) = commands.first().filter(|_| rustix::process::geteuid().is_root()) {
        let place = named(Path::new(&command.program));
        let message =
            "commands of <domain> run with the rights of the server: run it as a user of its own, not as root";
        findings.push(Diagnostic::at(Severity::Warning, place, message.to_owned()));
    }
    let notes = crate::report::check(config).into_iter();
    findings.extend(notes.map(|note| Diagnostic::at(Severity::Warning, whole(), note)));
    findings
}
