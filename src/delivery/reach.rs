//! From a queue to an open session with one of its hosts: resolve, connect, greet, encrypt.
//!
//! Promises: hosts in order of preference, [`MAX_TRIES`] addresses at most; TLS that fails is followed by one attempt in
//! plaintext with the same address, where that is allowed. What goes wrong comes back as [`Unreached`], by scope.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use crate::config::model::{Config, QueueSettings, SmtpHost, SmtpTarget, VirtualMta};
use crate::event::{DeliveryType, EnhancedStatus, Reply, Stage};
use crate::net::client_tls::ClientStream;
use crate::net::dns::{Hop, HopTo, Host, RouteError, RouteQuery};
use crate::queue::QueueName;
use crate::smtp::client::{Opened, Opening, OpeningOptions};

use super::attempt::Facts;
use super::dialogue::{COMMAND_TIMEOUT, Connection};
use super::outcome::{OpeningFailure, Outcome, of_opening, status};
use super::run::Context;
use super::steer::{Course, Orders};
use super::{connect, plan};

/// Addresses tried in one go (`mx-connection-attempts`).
const MAX_TRIES: usize = 10;

/// Why there is no session.
#[derive(Debug)]
pub enum Unreached {
    /// For good, for all of the queue: DNS says so.
    Queue(RouteError),
    /// All recipients are bounced, as ordered on the way.
    BounceAll,
    /// One transaction's recipients are bounced with this reply.
    BounceOne(Facts, Stage, Reply),
    /// No host, for now: the queue sleeps.
    Hosts(Facts, EnhancedStatus, String),
}

/// What the way to a host must heed, and what was ordered on it.
#[derive(Debug, Default)]
pub struct Way {
    /// Hosts, by name and port, that were given up (`skip-mx`).
    pub given_up: Vec<(Box<str>, u16)>,
    /// Source addresses that are not to be used.
    pub disabled: Vec<IpAddr>,
    /// What the replies of hosts ask for that did not let us in, and about what connection.
    pub orders: Vec<(Orders, Facts)>,
}

/// Opens a session with the first host that lets us.
pub async fn reach(
    context: &Context,
    config: &Config,
    vmta: &VirtualMta,
    queue: &QueueName,
    settings: &QueueSettings,
    way: &mut Way,
) -> Result<Connection, Unreached> {
    let (v4, v6) = plan::families(vmta);
    let own: Vec<SocketAddr> = config.listeners.iter().map(|listener| listener.address).collect();
    let hops: Vec<Hop<'_>> = settings.smtp_hosts.iter().map(hop).collect();
    let query = RouteQuery {
        domain: queue.domain(),
        smtp_hosts: &hops,
        port: settings.default_smtp_port,
        need_mx: settings.bounce_upon_no_mx,
        v4,
        v6,
        own: &own,
    };
    let hosts = context.resolver.route(&query).await.map_err(|error| {
        if error.is_permanent() {
            return Unreached::Queue(error);
        }
        let facts = Facts { delivery: Some(DeliveryType::Smtp), ..Facts::default() };
        Unreached::Hosts(facts, status(4, 4, 3), error.to_string())
    })?;
    let mut last = None;
    for (host, address) in hosts.iter().flat_map(each_address).take(MAX_TRIES).collect::<Vec<_>>() {
        let name = &*host.name;
        let is_given_up = |way: &Way, host: &Host, port: u16| {
            way.given_up.iter().any(|(name, at)| **name == *host.name && *at == port)
        };
        if is_given_up(way, host, address.port()) {
            continue;
        }
        let others = hosts.iter().flat_map(each_address).any(|(other, at)| {
            (&other.name, at.port()) != (&host.name, address.port()) && !is_given_up(way, other, at.port())
        });
        match open(context, config, vmta, queue, settings, (name, address), way).await {
            Ok(mut connection) => {
                connection.host = (name.into(), address.port());
                connection.others = others;
                return Ok(connection);
            }
            Err(Unreached::Hosts(facts, status, why)) => {
                tracing::debug!(queue = queue.as_str(), host = name, %address, "not reached: {why}");
                last = Some(Unreached::Hosts(facts, status, why));
            }
            Err(other) => return Err(other),
        }
    }
    // The resolver gives at least one address or an error.
    Err(last.unwrap_or_else(|| {
        let facts = Facts { delivery: Some(DeliveryType::Smtp), ..Facts::default() };
        Unreached::Hosts(facts, status(4, 4, 4), "no host is left: each was given up for its reply (skip-mx)".into())
    }))
}

fn hop(host: &SmtpHost) -> Hop<'_> {
    let to = match &host.target {
        SmtpTarget::Host(name) => HopTo::Host(name),
        SmtpTarget::Address(ip) => HopTo::Address(*ip),
        SmtpTarget::LookupMx(domain) => HopTo::LookupMx(domain),
    };
    Hop { preference: host.preference, to, port: host.port }
}

fn each_address(host: &Host) -> impl Iterator<Item = (&Host, SocketAddr)> {
    host.addresses.iter().map(move |address| (host, *address))
}

async fn open(
    context: &Context,
    config: &Config,
    vmta: &VirtualMta,
    queue: &QueueName,
    settings: &QueueSettings,
    (name, address): (&str, SocketAddr),
    way: &mut Way,
) -> Result<Connection, Unreached> {
    let mut facts =
        Facts { delivery: Some(DeliveryType::Smtp), mta: name.into(), mta_ip: Some(address.ip()), ..Facts::default() };
    let turn = context.turn.fetch_add(1, Ordering::Relaxed);
    let Some(source) = plan::source(config, vmta, address.ip(), turn, &way.disabled) else {
        let why = match way.disabled.is_empty() {
            true => "no source address of the host's family",
            false => "no source address of the host's family is left: they are disabled for this queue",
        };
        return Err(Unreached::Hosts(facts, status(4, 4, 4), why.into()));
    };
    facts.source_ip = source.ip;
    let require = settings.require_starttls;
    let mut with_tls = settings.use_starttls && (require || !context.tls.failed_lately(address.ip()));
    loop {
        let stream = match connect::connect(address, source.ip, settings.connect_timeout).await {
            Ok(stream) => stream,
            Err(e) => return Err(Unreached::Hosts(facts, status(4, 4, 1), connect::describe(&e))),
        };
        let local = stream.local_addr().ok().map(|a| a.ip());
        let facts = Facts { source_ip: local.or(source.ip), ..facts.clone() };
        if settings.log_connections {
            tracing::info!(host = name, %address, source = ?facts.source_ip, "connected");
        }
        let options =
            OpeningOptions { host_name: &source.host_name, use_starttls: with_tls, require_starttls: require };
        let connection = Connection::new(ClientStream::Plain(stream), facts.clone(), settings.log_commands);
        match greet(context, settings, options, connection).await {
            Ok(connection) => return Ok(connection),
            Err(Refusal::Tls(why)) => {
                context.tls.remember_failure(address.ip());
                if require {
                    return Err(Unreached::Hosts(facts, status(4, 7, 5), why));
                }
                tracing::info!(host = name, %address, "{why}; going on in plaintext");
                with_tls = false;
            }
            Err(Refusal::Host(status, why)) => return Err(Unreached::Hosts(facts, status, why)),
            Err(Refusal::Reply(stage, reply)) => {
                let steering = context.steering();
                let mut course = Course::new(&steering, settings, queue.domain(), name, true);
                course.bend(Outcome::refused(&reply, stage), 0);
                course.failed(&reply.text);
                let orders = course.orders;
                let failure = match () {
                    () if orders.bounce_queue.is_some() => OpeningFailure::BounceAll,
                    () if orders.skip_mx => OpeningFailure::NextHost,
                    () => of_opening(&reply, settings.bounce_upon_5xx_greeting),
                };
                way.orders.push((orders, facts.clone()));
                return Err(match failure {
                    OpeningFailure::BounceAll => Unreached::BounceAll,
                    OpeningFailure::BounceOne => Unreached::BounceOne(facts, stage, reply),
                    OpeningFailure::NextHost => {
                        let class = status(4, 3, 2);
                        let code = reply.status.filter(|s| s.class == 4).unwrap_or(class);
                        Unreached::Hosts(facts, code, format!("smtp;{}", reply.text))
                    }
                });
            }
        }
    }
}

enum Refusal {
    Tls(String),
    Host(EnhancedStatus, String),
    Reply(Stage, Reply),
}

async fn greet(
    context: &Context,
    settings: &QueueSettings,
    options: OpeningOptions<'_>,
    mut connection: Connection,
) -> Result<Connection, Refusal> {
    let lost = |e: super::dialogue::Lost| Refusal::Host(status(4, 4, 2), e.to_string());
    let mut opening = Opening::new(options);
    loop {
        let timeout = if opening.stage() == Stage::Connect { settings.smtp_greeting_timeout } else { COMMAND_TIMEOUT };
        let mut next = connection.reply(timeout, |reply| opening.reply(reply)).await.map_err(lost)?;
        if next == Opened::StartTls {
            connection = connection
                .encrypt(&context.tls, settings, settings.connect_timeout)
                .await
                .map_err(|e| Refusal::Tls(e.to_string()))?;
            next = opening.encrypted();
        }
        match next {
            Opened::Send => {
                connection.write(&opening.take_output(), settings.data_send_timeout).await.map_err(lost)?;
            }
            Opened::Ready => {
                connection.ehlo = opening.into_ehlo();
                connection.facts.esmtp = connection.ehlo.keywords.clone();
                connection.facts.reports = connection.ehlo.dsn && !settings.ignore_dsn;
                return Ok(connection);
            }
            Opened::Refused(stage, reply) => {
                connection.quit().await;
                return Err(Refusal::Reply(stage, reply));
            }
            Opened::NoStartTls => {
                connection.quit().await;
                return Err(Refusal::Host(
                    status(4, 7, 5),
                    "STARTTLS is required and the host does not offer it".into(),
                ));
            }
            Opened::StartTlsRefused(reply) => {
                connection.quit().await;
                return Err(Refusal::Tls(format!("STARTTLS refused: {}", reply.text)));
            }
            // Taken care of above: `encrypted` asks to send.
            Opened::StartTls => return Err(Refusal::Host(status(4, 4, 2), "STARTTLS twice".into())),
        }
    }
}
