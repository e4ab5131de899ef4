//! What the queues ask of the configuration, as a trait, so that the machine can be tested without files.

use std::sync::Arc;

use crate::config::model::{Config, QueueSettings, VirtualMta};

/// The limits in force; replaced as a whole by a reload.
pub trait Limits: Send + Sync {
    /// The settings of queue `domain/vmta`.
    fn queue_settings(&self, domain: &str, vmta: &str) -> Arc<QueueSettings>;
    /// The VirtualMTA of this name; `None` when there is none (any more).
    fn virtual_mta(&self, name: &str) -> Option<Arc<VirtualMta>>;
    /// `total-max-smtp-out`.
    fn total_max_smtp_out(&self) -> u32;
    /// Whether each recipient has a return path of its own, so that no two can share a transaction.
    fn one_recipient_per_transaction(&self) -> bool;
}

impl Limits for Config {
    fn queue_settings(&self, domain: &str, vmta: &str) -> Arc<QueueSettings> {
        Config::queue_settings(self, domain, vmta)
    }

    fn virtual_mta(&self, name: &str) -> Option<Arc<VirtualMta>> {
        match self.virtual_mtas.get(name) {
            Some(found) => Some(found.clone()),
            None => self.virtual_mtas.get(&name.to_lowercase()).cloned(),
        }
    }

    fn total_max_smtp_out(&self) -> u32 {
        self.total_max_smtp_out
    }

    fn one_recipient_per_transaction(&self) -> bool {
        self.return_path_token.as_ref().is_some_and(|t| t.domain.is_some())
    }
}
