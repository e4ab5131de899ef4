//! What holds for a queue, as text: for `show settings DOMAIN[/VMTA]`.

use super::directives::domain::DOMAIN;
use super::model::Config;

impl Config {
    /// Every `<domain>` directive that is in force for queue `domain/vmta`, in the order of the table: its name and its
    /// value as written, or the default. Empty text means that nothing is set.
    pub fn settings_of(&self, domain: &str, vmta: &str) -> Vec<(&'static str, String)> {
        let mut settings: Vec<(&'static str, String)> = DOMAIN.iter().map(|r| (r.name, r.default.to_owned())).collect();
        self.domains.each(domain, vmta, |s| {
            if let Some((_, text)) = settings.iter_mut().find(|(name, _)| *name == s.name) {
                text.clone_from(&s.text);
            }
        });
        settings
    }
}
