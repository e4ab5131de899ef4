#![expect(clippy::disallowed_methods, reason = "edge: a server in the foreground")]
//! `carom sink`: the simulated mailbox providers as a server of their own, for load tests and rehearsals.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::sim::desk::{Counts, Role};
use crate::sim::postman::{self, Destination, Tally};
use crate::sim::provider::Server;
use crate::sim::script::Script;
use crate::sim::world::{PROVIDERS, Provider};

/// Arguments of `carom sink`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --profile providers every address behaves as the seed decides: most take the mail, some are \
unknown, full, disabled, greylisted, or bounce or complain later (by mail to --reports-to). It answers for every domain."
)]
pub struct Args {
    /// Where to listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2600")]
    listen: SocketAddr,
    /// accept takes everything; providers acts as mailbox providers do
    #[arg(long, value_enum, default_value_t = Profile::Accept)]
    profile: Profile,
    /// Decides how each mailbox behaves
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Write every reply that matters to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Wording of this provider
    #[arg(long, value_name = "NAME", default_value = "mailhost")]
    provider: String,
    /// Hold to the provider's limits on connections, messages per connection and connection rate
    #[arg(long)]
    limits: bool,
    /// Connections at a time, more get 421; implies --limits
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Connections per second, more get 421; implies --limits
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Mail bounces and complaints to this server
    #[arg(long, value_name = "IP:PORT")]
    reports_to: Option<SocketAddr>,
    /// Where complaints go when a message has no X-Feedback-Address
    #[arg(long, value_name = "ADDRESS", default_value = "", requires = "reports_to")]
    feedback_address: String,
    /// Offer STARTTLS, with a self-signed certificate
    #[arg(long)]
    starttls: bool,
    /// Stop by itself after so many seconds
    #[arg(long, value_name = "SECONDS")]
    stop_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    Accept,
    Providers,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let known = || PROVIDERS.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let provider = PROVIDERS
        .iter()
        .find(|p| p.name == args.provider)
        .ok_or_else(|| format!("no provider {:?}; there are {}", args.provider, known()))?;
    // The limits of the command line are those of a provider of its own, which lasts as long as the process.
    let provider: &'static Provider = Box::leak(Box::new(Provider {
        max_connections: args.max_connections.unwrap_or(provider.max_connections),
        max_connect_rate: args.rate.unwrap_or(provider.max_connect_rate),
        ..*provider
    }));
    let role = Role {
        provider,
        script: if args.profile == Profile::Accept { Script::accept_all() } else { Script::new(args.seed) },
        limits: args.limits || args.max_connections.is_some() || args.rate.is_some(),
        feedback_address: args.feedback_address.clone(),
        reports: args.reports_to.is_some(),
        starttls: args.starttls,
        own_domains_only: false,
    };
    super::runtime()?.block_on(serve(&args, role))
}

async fn serve(args: &Args, role: Role) -> Result<ExitCode, Failure> {
    let host = role.provider.host;
    let (server, reports) = Server::listen(args.listen, role, args.log.as_deref()).await?;
    say!("listening on {}", server.address())?;
    let tally = Arc::new(Tally::default());
    let postman = args
        .reports_to
        .map(|to| tokio::spawn(postman::carry(reports, Destination::Server(to), None, host, tally.clone())));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        match args.stop_after {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(stop);
    let began = Instant::now();
    let mut before = Counts::default();
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut stop => break,
            _ = every.tick() => {
                let now = server.counts();
                if now != before {
                    let _ = say!("{} (+{} messages/s)", line(&now), now.accepted - before.accepted);
                    before = now;
                }
            }
        }
    }
    let counts = server.counts();
    server.stop().await?;
    if let Some(postman) = postman {
        postman.abort();
    }
    let _ = say!("in {:.1} s: {}", began.elapsed().as_secs_f64(), line(&counts));
    Ok(ExitCode::SUCCESS)
}

fn line(c: &Counts) -> String {
    format!(
        "{} messages to {} recipients accepted, {} deferred, {} refused; {} connections, {} of them refused; {} reports; {:.1} MB",
        c.accepted,
        c.accepted_recipients,
        c.deferred,
        c.refused,
        c.connections,
        c.refused_connections,
        c.reports,
        c.bytes as f64 / 1e6
    )
}
