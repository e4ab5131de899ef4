#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: runs a whole Carom and its world")]
//! `carom demo`: two campaigns through a whole Carom, with simulated providers on real sockets, and the books compared.
//!
//! Needs no root, no network and no configuration. Ends with exit code 1 when any book differs from another.

pub mod books;
pub mod campaign;
pub mod conf;
pub mod reconcile;
pub mod show;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::Failure;
use super::send::client::{Server, TlsUse};
use super::send::post::{self, Letter, Outcome};
use crate::event::Time;
use crate::history::{self, Found};
use crate::node::{Node, Options};
use crate::sim::dns::{self, DnsServer};
use crate::sim::postman::{self, Destination};
use crate::sim::provider::{self, Providers};
use crate::sim::script::Script;
use crate::sim::world::PROVIDERS;
use crate::sim::zones::Zones;
use campaign::{Campaign, Tally};
use reconcile::{Books, Record, Submission};

/// How long a campaign may take, beside a hundredth of a second per recipient.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `carom demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipients of each campaign
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    recipients: u64,
    /// Decides who the recipients are and how each mailbox behaves
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where configuration, store, accounting files and logs go [default: a new folder among the temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Campaigns, each to the same recipients
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    campaigns: u32,
    /// Print one JSON object and nothing else on standard output
    #[arg(long)]
    json: bool,
    /// Keep the store (spool and ledger) in the folder; the other files are kept anyway
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("carom-demo-{}-{:08x}", std::process::id(), rand::random::<u32>())),
    };
    std::fs::create_dir_all(dir.join("simulator"))?;
    let dir = std::fs::canonicalize(dir)?;
    if dir.join("spool").exists() || dir.join("acct").exists() {
        return Err(format!("{} holds an earlier run; give --dir a new folder", dir.display()).into());
    }
    crate::node::log::start(Some(&dir.join("carom.log")))?;
    super::runtime()?.block_on(play(&args, &dir))
}

async fn play(args: &Args, dir: &Path) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let say = |line: String| if args.json { Ok(()) } else { say!("{line}") };
    let dns = DnsServer::start(Zones::of_the_world()).await?;
    let options = provider::Options {
        script: Script::new(args.seed),
        limits: true,
        feedback_address: conf::FEEDBACK_ADDRESS.to_owned(),
        books: Some(dir.join("simulator")),
    };
    let (providers, reports) = Providers::start(&options).await?;
    say(format!(
        "{} simulated providers on port {} of 127.0.80.1 to 127.0.80.{}, their name server on {}",
        PROVIDERS.len(),
        providers.port(),
        PROVIDERS.len(),
        dns.address()
    ))?;
    let file = dir.join("carom.conf");
    let places = conf::Places {
        listener: free_port()?,
        name_server: dns.address(),
        provider_port: providers.port(),
        secret: &format!("{:032x}", rand::random::<u128>()),
    };
    std::fs::write(&file, conf::text(&places))?;
    let node = start(&file, dir).await?;
    let carom = node.smtp_addresses().first().copied().ok_or("Carom does not listen")?;
    say(format!("Carom on {carom}, configured by {}", file.display()))?;

    // What comes back by mail finds Carom as mail finds any host: by the MX of its domains. Only the port is not 25.
    let own = own_zones(carom);
    let own_dns = DnsServer::start(own).await?;
    let resolver = Arc::new(dns::resolver(own_dns.address())?);
    let tally = Arc::new(postman::Tally::default());
    let postmen: Vec<_> = reports
        .into_iter()
        .zip(PROVIDERS)
        .map(|(reports, p)| {
            let destination = Destination::Mx(resolver.clone(), carom.port());
            tokio::spawn(postman::carry(reports, destination, Some(p.address.into()), p.host, tally.clone()))
        })
        .collect();

    let mut books = Books::default();
    let mut reader = node.store().ledger().reader(1)?;
    let (mut begun, mut rates) = (Vec::new(), Vec::new());
    let mut trouble = Vec::new();
    for number in 1..=args.campaigns {
        let campaign = Campaign { number, seed: args.seed, recipients: args.recipients, begun: now() };
        begun.push(campaign.begun);
        let sent = Clerk { campaign: number, ..Clerk::default() };
        let ended = mail(args, campaign, carom, &sent, &mut reader, &mut books.ledger).await?;
        let (submitted, refused) = sent.results();
        if !refused.is_empty() {
            trouble.push(format!(
                "Carom did not take {} messages of campaign {number}, such as {}",
                refused.len(),
                refused[0]
            ));
        }
        books.submitted.extend(submitted);
        rates.push(ended.tally.rate(campaign.begun));
        if !ended.complete {
            let t = &ended.tally;
            trouble.push(format!(
                "campaign {number} was not complete in time: {} of {} ended, {} bounces and {} complaints came back by mail",
                t.ended, args.recipients, t.bounces, t.complaints
            ));
        }
    }
    node.stop().await?;
    let rest = books::follow(&mut reader, |event| books.ledger.push(books::record(event)))?;
    tracing::debug!(rest, "events after the last campaign");
    let logs = providers.stop().await?;
    for postman in postmen {
        postman.abort();
    }
    dns.stop().await;
    own_dns.stop().await;

    let Found { csv, parquet } = history::find(&dir.join("acct"))?;
    books.csv = books::records(&csv)?;
    books.parquet = books::records(&parquet)?;
    books.seen = books::seen(&logs, &begun)?;
    let script = Script::new(args.seed);
    let mut reconciled = reconcile::reconcile(&books, |rcpt| script.behaviour(rcpt));
    reconciled.count += trouble.len() as u64;
    reconciled.differences.splice(0..0, trouble);
    let files: Vec<PathBuf> = csv.into_iter().chain(parquet).collect();
    let ending = show::Ending {
        dir,
        reconciled: &reconciled,
        rates: &rates,
        files: &files,
        logs: &logs,
        seconds: began.elapsed().as_secs_f64(),
    };
    if args.json {
        say!("{}", show::json(&ending))?;
    } else {
        say!("\n{}", show::text(&ending))?;
    }
    if reconciled.agrees() && !args.keep {
        std::fs::remove_dir_all(dir.join("spool"))?;
    }
    Ok(if reconciled.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the configuration and starts Carom with it, as `carom run` would.
async fn start(file: &Path, dir: &Path) -> Result<Node, Failure> {
    let loaded = crate::config::load(file, Some(dir));
    let mistakes: Vec<String> = loaded.diagnostics.iter().map(|d| d.render()).collect();
    let Some(config) = loaded.config else {
        return Err(format!("the demo's own configuration is refused:\n{}", mistakes.join("\n")).into());
    };
    let options =
        Options { root: Some(dir.to_owned()), keep_ledger: true, acct_from_start: true, ..Options::default() };
    Ok(Node::start(config, options).await?)
}

/// A port of 127.0.0.1 that was free just now; the configuration file names it.
fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The sender's own names, as the providers see them.
fn own_zones(carom: SocketAddr) -> Zones {
    let mut zones = Zones::new();
    zones.address(conf::HOST, carom.ip());
    zones.mx(conf::BOUNCE_DOMAIN, 10, conf::HOST).mx(conf::FEEDBACK_DOMAIN, 10, conf::HOST);
    zones
}

struct Ended {
    tally: Tally,
    complete: bool,
}

/// Sends a campaign and waits until everything expected has come of it, or time is up.
async fn mail(
    args: &Args,
    campaign: Campaign,
    carom: SocketAddr,
    clerk: &Clerk,
    reader: &mut crate::store::Reader,
    ledger: &mut Vec<Record>,
) -> Result<Ended, Failure> {
    let options = post::Options {
        server: Server {
            host: carom.ip().to_string(),
            port: carom.port(),
            ehlo: "client.sender.example".into(),
            credentials: None,
            tls: TlsUse::Off,
        },
        connections: 16,
        rate: None,
        tries: 12,
        backoff: Duration::from_millis(100),
        connect_tries: 5,
    };
    let (_stop, stopped) = watch::channel(false);
    let sending = post::send_all(&options, campaign.letters(), clerk, stopped);
    tokio::pin!(sending);
    let job = reconcile::job(campaign.number);
    let reports = campaign.reports();
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(10 * args.recipients);
    let progress = Progress::new(args, campaign.number);
    let (mut tally, mut sent) = (Tally::default(), false);
    loop {
        tokio::select! {
            end = &mut sending, if !sent => {
                end?;
                sent = true;
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        tokio::task::block_in_place(|| {
            books::follow(reader, |event| {
                tally.take(event, &job);
                ledger.push(books::record(event));
            })
        })?;
        progress.show(&tally);
        let complete = sent && tally.is_complete(clerk.taken(), reports);
        if complete || Instant::now() > deadline {
            progress.end(&tally);
            return Ok(Ended { tally, complete });
        }
    }
}

/// Notes what the client got a 250 for.
#[derive(Debug, Default)]
struct Clerk {
    campaign: u32,
    notes: Mutex<(Vec<Submission>, Vec<String>)>,
}

impl Clerk {
    fn taken(&self) -> u64 {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).0.len() as u64
    }

    fn results(self) -> (Vec<Submission>, Vec<String>) {
        self.notes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl post::Ledger for Clerk {
    async fn started(&self, _row: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn ended(&self, letter: &Letter, outcome: &Outcome) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Sent(_) => notes.0.push(Submission { campaign: self.campaign, rcpt: letter.rcpt.clone() }),
            other => notes.1.push(format!("{}: {other:?}", letter.rcpt)),
        }
    }
}

/// A bar on a terminal, a line every ten seconds otherwise, nothing with `--json`.
struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    number: u32,
    recipients: u64,
    last: Mutex<Instant>,
}

impl Progress {
    fn new(args: &Args, number: u32) -> Progress {
        let terminal = !args.json && std::io::stdout().is_terminal();
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} ended, {msg}");
            let bar = ProgressBar::new(args.recipients).with_prefix(format!("campaign {number}"));
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let plain = !args.json && !terminal;
        Progress { bar, plain, number, recipients: args.recipients, last: Mutex::new(Instant::now()) }
    }

    fn line(&self, tally: &Tally) -> String {
        format!(
            "{} delivered, {} deferrals, {} bounces and {} complaints by mail",
            tally.delivered.len(),
            tally.deferred,
            tally.bounces,
            tally.complaints
        )
    }

    fn show(&self, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_position(tally.ended);
            bar.set_message(self.line(tally));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plain && last.elapsed() >= Duration::from_secs(10) {
            *last = Instant::now();
            let _ = say!("campaign {}: {}/{} ended, {}", self.number, tally.ended, self.recipients, self.line(tally));
        }
    }

    fn end(&self, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.plain || self.bar.is_some() {
            let _ = say!("campaign {}: {}/{} ended, {}", self.number, tally.ended, self.recipients, self.line(tally));
        }
    }
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}
