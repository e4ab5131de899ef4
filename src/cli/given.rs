//! Where and when a reply was given, as arguments of the commands that classify one.

use crate::classify::Facts;
use crate::event::Stage;

/// What is known besides the reply's text; rules limited to other circumstances do not hold.
#[derive(Debug, clap::Args)]
pub(super) struct GivenArgs {
    /// The replies were given at this provider (rules limited to others do not hold)
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// For recipients of this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// By this host
    #[arg(long, value_name = "HOST")]
    mx: Option<String>,
    /// At this stage: connect, ehlo, mail, rcpt, data, eod
    #[arg(long, value_name = "STAGE")]
    stage: Option<Stage>,
}

impl GivenArgs {
    /// For the classifier; what was not said is empty.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            provider: self.provider.as_deref().unwrap_or(""),
            domain: self.domain.as_deref().unwrap_or(""),
            mx: self.mx.as_deref().unwrap_or(""),
            stage: self.stage,
            status: None,
        }
    }
}
