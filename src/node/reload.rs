//! Another configuration for a running server: all of it, or none.
//!
//! First everything that can be checked is checked. What can fail after that (the disk, a certificate that changes
//! while it is read) is tried in an order that can be taken back; only then is the new configuration what everybody
//! sees. What needs a restart keeps its old value until then, and is named here and by `carom status`.

use std::sync::{Arc, PoisonError};

use super::{Inner, check, now, rules};
use crate::classify::RuleSet;
use crate::config::{self, Config, Diagnostic};

/// Warnings that the answer to a reload has; all are in the log.
const MOST_SHOWN: usize = 20;

impl Inner {
    /// Reads the configuration file again. The answer says what came of it; it is in the log too.
    pub(super) fn reload(&self) -> Result<String, String> {
        let _one_at_a_time = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.load_full();
        let loaded = check::load_with(&old.file, self.options.root.as_deref(), &self.options.rules);
        let warnings: Vec<String> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity == config::Severity::Warning)
            .map(Diagnostic::one_line)
            .collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let result = match loaded.config {
            Some(new) => self.put_in_force(&old, new),
            None => Err(loaded.diagnostics.into_iter().filter(Diagnostic::is_error).collect()),
        };
        let mut configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                (configuration.since, configuration.refused) = (now(), None);
                tracing::info!("{message}");
                Ok(message + &shown(&warnings))
            }
            Err(refusal) => {
                let why: Vec<_> = refusal.lines().collect();
                for line in &why {
                    tracing::error!("configuration not reloaded, the old one stays in force: {line}");
                }
                configuration.refused = Some((now(), why.join("; ")));
                Err(format!("not reloaded, the old configuration stays in force\n{}", refusal.text()))
            }
        }
    }

    fn put_in_force(&self, old: &Config, new: Config) -> Result<String, Refusal> {
        let compiled = match old.bounce_category_patterns == new.bounce_category_patterns {
            true => None,
            false => Some(rules::compile(&new, &self.options.rules).map_err(Refusal::Words)?),
        };
        let changes = config::diff(old, &new);
        if let Err(error) = self.change_over(&new, compiled.as_deref()) {
            // Back to what was; this has worked before, so what fails now is the disk, which the error names.
            let _ = self.renew_certificates(old);
            let _ = self.change_outputs(old);
            return Err(Refusal::Words(error));
        }
        let restart = config::restart_needed(&self.started_with, &new);
        // Before anybody asks for one that is new.
        self.address_lists.use_config(&new);
        self.live.store(Arc::new(new));
        self.engine.config_changed();
        let mut message = match changes.is_empty() {
            true => "configuration reloaded: nothing in it has changed".to_owned(),
            false => format!("configuration reloaded: {}", changes.join(", ")),
        };
        if !restart.is_empty() {
            message.push_str(&format!("; waiting for a restart: {}", restart.join(", ")));
        }
        Ok(message)
    }

    fn change_over(&self, new: &Config, compiled: Option<&RuleSet>) -> Result<(), String> {
        self.renew_certificates(new)?;
        self.change_outputs(new)?;
        let mut configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = compiled.filter(|c| c.id() != configuration.rules) {
            rules::put_in_force(&self.store, compiled).map_err(|e| e.to_string())?;
            configuration.rules = compiled.id();
        }
        Ok(())
    }

    /// A certificate that was renewed on disk is shown from now on; a self-signed one only changes with the name.
    fn renew_certificates(&self, config: &Config) -> Result<(), String> {
        let live = self.live.load();
        if let Some(tls) = &self.http_tls {
            super::http::renew(tls, config, &live)?;
        }
        let from_files = |c: &Config| {
            c.smtp_server_tls_certificate.is_some()
                || c.listeners.iter().any(|l| l.tls_certificate.is_some())
                || c.unsubscribe_listeners.iter().any(|l| l.tls_certificate.is_some())
        };
        if !from_files(config) && !from_files(&live) && live.host_names == config.host_names {
            return Ok(());
        }
        self.identities.iter().try_for_each(|i| i.renew(config).map_err(|e| e.to_string()))?;
        self.unsubscribe.renew(config).map_err(|e| e.to_string())
    }

    fn change_outputs(&self, config: &Config) -> Result<(), String> {
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(self.outputs.reload(&config.acct_files)).map_err(|e| e.to_string())
    }
}

/// The warnings, as the answer to who asked for the reload has them.
fn shown(warnings: &[String]) -> String {
    let more = warnings.len().saturating_sub(MOST_SHOWN);
    let mut text: String = warnings.iter().take(MOST_SHOWN).map(|w| format!("\nwarning: {w}")).collect();
    if more > 0 {
        text.push_str(&format!("\n{more} more warnings: carom check-config shows them"));
    }
    text
}

/// Why a configuration is not put in force.
enum Refusal {
    Findings(Vec<Diagnostic>),
    Words(String),
}

impl FromIterator<Diagnostic> for Refusal {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(findings: I) -> Refusal {
        Refusal::Findings(findings.into_iter().collect())
    }
}

impl Refusal {
    /// For the log: one line for each cause.
    fn lines(&self) -> impl Iterator<Item = String> {
        let lines: Vec<String> = match self {
            Refusal::Findings(findings) => findings.iter().map(Diagnostic::one_line).collect(),
            Refusal::Words(words) => words.lines().map(str::to_owned).collect(),
        };
        lines.into_iter()
    }

    /// For people.
    fn text(&self) -> String {
        match self {
            Refusal::Findings(findings) => findings.iter().map(Diagnostic::render).collect(),
            Refusal::Words(words) => words.clone(),
        }
    }
}
