//! The composition root: builds every room and wires them, in the order of the flow. Read [`Node::start`] and
//! [`Node::stop`] top to bottom for the tour of the house. There are no statics: two nodes can live in one process.
#![expect(clippy::disallowed_methods, reason = "edge: starts the tasks of the house, reads the clock")]

mod bulk_import;
mod check;
mod commands;
mod doubt;
mod forget;
mod http;
mod jobs;
mod known;
pub mod log;
mod mistakes;
mod new_reply;
mod notice;
mod offline;
mod quarantine;
mod reload;
mod rules;
mod suppression;
mod unsubscribe;
mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accounting::feedback::{self, Running, SendIndex, job_guard, novelty};
use crate::accounting::outputs::{Outputs, Settings};
use crate::accounting::stage::Stage;
use crate::classify::RuleSets;
use crate::config::{self, Config};
use crate::delivery;
use crate::disk::{Disk, RealDisk};
use crate::event::{RuleSetId, Time};
use crate::intake;
use crate::intake::smtp_listener::{self, Bound, Identity};
use crate::intake::submit::Intake;
use crate::manage::http::HttpServer;
use crate::manage::socket::CommandSocket;
use crate::net::dns::Resolver;
use crate::queue::{Engine, Pauses};
use crate::report::processor::{Counters, Processor};
use crate::report::quarantine::Quarantine;
use crate::store::{self, Store};
use crate::suppress::address_lists::Watching;
use crate::suppress::{AddressLists, Suppression};

pub use check::{load, load_with};
pub use offline::Offline;

/// What a node is run with besides its configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Relative paths of the configuration are taken from here.
    pub root: Option<PathBuf>,
    /// The disk under store and accounting files.
    pub disk: Arc<dyn Disk>,
    /// Keep every event in the ledger, however old (the demo compares it with the files).
    pub keep_ledger: bool,
    /// Accounting files that are new begin with the first event the ledger has, instead of the next one.
    pub acct_from_start: bool,
    /// Rule sets that were compiled when the configuration was checked ([`load_with`]), and all that are met later.
    pub rules: RuleSets,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            root: None,
            disk: Arc::new(RealDisk),
            keep_ledger: false,
            acct_from_start: false,
            rules: RuleSets::default(),
        }
    }
}

/// Why a node does not start, reload or stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store.
    #[error("{0}")]
    Store(#[from] store::StoreError),
    /// A listener.
    #[error("{0}")]
    Listen(#[from] smtp_listener::ListenError),
    /// Another server.
    #[error(
        "a carom is running on the store in {spool} already (it answers at {socket}): stop it first, or give this one a \
         spool folder of its own"
    )]
    Running {
        /// The store's folder.
        spool: PathBuf,
        /// Where the other one takes commands.
        socket: PathBuf,
    },
    /// Everything else, in words for the operator.
    #[error("{0}")]
    Other(String),
}

fn other(e: impl std::fmt::Display) -> NodeError {
    NodeError::Other(e.to_string())
}

/// A running server.
#[derive(Debug)]
pub struct Node {
    inner: Arc<Inner>,
    smtp_addresses: Vec<SocketAddr>,
    outputs: Arc<Outputs>,
    suppressor: Running,
    send_index: Option<Running>,
    novelty: Running,
    job_guard: Running,
    notices: JoinHandle<()>,
    upkeep: upkeep::Upkeep,
    intake: JoinHandle<()>,
    delivery: JoinHandle<()>,
    reports: JoinHandle<()>,
    unsubscribe: unsubscribe::Endpoint,
    stop_intake: watch::Sender<bool>,
    stop_delivery: watch::Sender<bool>,
    socket: Option<CommandSocket>,
    http: Option<HttpServer>,
}

/// What commands and reload work on; shared with the command socket.
#[derive(Debug)]
struct Inner {
    live: config::Live,
    options: Options,
    store: Store,
    engine: Engine,
    suppression: Suppression,
    address_lists: AddressLists,
    /// Large lists on their way into the suppression list.
    bulk: bulk_import::BulkImports,
    /// Which replies were seen, and the alarms about new ones.
    novelty: novelty::Shared,
    /// Which jobs are paused, and what is counted of each.
    jobs: jobs::Jobs,
    /// The circuit breaker of the suppression list.
    breaker: feedback::SharedBreaker,
    outputs: Arc<Outputs>,
    /// Mail to report addresses that nobody understood.
    quarantine: Quarantine,
    report_counters: Arc<Counters>,
    /// Classifies the events that are asked for.
    stage: Mutex<Stage>,
    /// One reload at a time.
    reload: Mutex<()>,
    /// What the listeners show in TLS.
    identities: Vec<Identity>,
    /// What the unsubscribe listeners show in TLS, and what they have been asked.
    unsubscribe: unsubscribe::Shared,
    /// What the management API shows.
    http_tls: Option<Arc<ArcSwap<tokio_rustls::rustls::ServerConfig>>>,
    /// What needs a restart is as it is here.
    started_with: Arc<Config>,
    configuration: Mutex<InForce>,
    started: Time,
}

/// About the configuration in force.
#[derive(Debug)]
struct InForce {
    rules: RuleSetId,
    /// When it was put in force.
    since: Time,
    /// When a later one was refused, and why.
    refused: Option<(Time, String)>,
}

fn now() -> Time {
    jiff::Timestamp::now().into()
}

impl Node {
    /// Builds and starts everything, in the order of the flow; fails without having taken or sent any mail. Must be
    /// called within a multi-threaded runtime.
    pub async fn start(config: Config, options: Options) -> Result<Node, NodeError> {
        let started = now();
        // What is wrong with the sockets is to be known before anything else happens; the commonest cause is this server
        // itself, still running.
        if crate::manage::socket::answers(&config.command_socket) {
            return Err(NodeError::Running { spool: config.spool, socket: config.command_socket });
        }
        let listeners: Vec<Bound> = smtp_listener::bind(&config)?;
        let identities = listeners.iter().map(|b| b.identity.clone()).collect();
        let unsubscribe_listeners = unsubscribe::bind(&config)?;
        let smtp_addresses = listeners.iter().filter_map(|b| b.socket.local_addr().ok()).collect();
        let http = http::bind(&config)?;
        let resolver = Resolver::new(&config.name_servers).map_err(other)?;

        // The store, with the rules that new events are stamped with.
        let opened = open_store(&config, &options)?;
        let doubt = doubt::Doubt::of(&opened, started)?;
        let store = opened.store;
        let compiled = rules::compile(&config, &options.rules).map_err(NodeError::Other)?;
        rules::put_in_force(&store, &compiled)?;

        // The suppression list reaches the end of the ledger before the first attempt is made.
        let suppression = suppression::open(&config, &store)?;
        let live: config::Live = Arc::new(ArcSwap::from_pointee(config.clone()));
        // What the operator is to hear of goes through one channel; the first kind: a provider that seems to be mistaken.
        let (told, alarms) = tokio::sync::mpsc::unbounded_channel();
        let told: notice::Notices = told;
        let held_mail: Arc<OnceLock<Engine>> = Arc::default();
        let tell: feedback::Tell = {
            let (told, held_mail) = (told.clone(), held_mail.clone());
            Box::new(move |found| {
                // What was held may go out now, or is held from now on.
                if let Some(engine) = held_mail.get() {
                    engine.look_at_holds();
                }
                drop(told.send(mistakes::notice(&found)));
            })
        };
        let (mut suppressor, breaker) =
            feedback::open_with(&store, &suppression, options.rules.clone(), live.clone(), tell)?;
        suppressor.catch_up()?;
        let suppressor = suppressor.spawn().map_err(other)?;
        // The operator's own lists; large files go on being read while mail that asks for them waits.
        let watching = Watching::new(config.spool.join("address-files"));
        let address_lists = AddressLists::start(suppression.hasher().clone(), watching).map_err(other)?;
        address_lists.use_config(&config);
        let has_processors = config.bounce_processor.is_some() || config.feedback_loop_processor.is_some();
        let send_index = match has_processors {
            true => Some(
                SendIndex::open(&store, config.send_index_retention, config.send_index_max)?.spawn().map_err(other)?,
            ),
            false => None,
        };

        // The files; each has its own thread and its own place in the ledger.
        let root = options.root.clone().unwrap_or_default();
        let settings = Settings {
            start_at_beginning: options.acct_from_start,
            rules: options.rules.clone(),
            ..Settings::new(root)
        };
        let outputs = Outputs::start(Arc::new(store.clone()), &config.acct_files, options.disk.clone(), settings)
            .map_err(other)?;
        let outputs = Arc::new(outputs);

        // The queues, filled with what the store holds.
        let started_with = live.load_full();
        let engine = Engine::new(live.clone());
        // Set once, here.
        let _ = held_mail.set(engine.clone());
        let pauses = Pauses::open(&store, &engine)?;
        let unclean = opened.unclean;
        store.for_each_queued(&mut |envelope, states| {
            engine.admit(envelope, &doubt.said(envelope, states), started);
        })?;
        let recipients = engine.queued_recipients();
        if unclean {
            tracing::warn!(recipients, "the last server on this store did not end in order; its queue goes on");
        } else {
            tracing::info!(recipients, "the queue goes on");
        }

        // Replies in words never seen before: the operator hears of them.
        let tell = {
            let (told, live) = (told.clone(), live.clone());
            Box::new(move |alarm| drop(told.send(new_reply::notice(&live.load(), &alarm))))
        };
        let (watch_replies, seen_replies) = novelty::open(&store, live.clone(), options.rules.clone(), tell)?;
        let novelty = watch_replies.spawn().map_err(other)?;

        // Jobs of which too much bounces: they are paused, or the operator hears of them.
        let act = jobs::Act::new(pauses.clone(), told, live.clone());
        let (guard, counted) = job_guard::open(&store, live.clone(), options.rules.clone(), Box::new(act))?;
        let job_guard = guard.spawn().map_err(other)?;
        let notices = tokio::spawn(notice::tell(alarms, store.clone(), engine.clone(), live.clone()));

        // Out, back in, and in.
        let (stop_delivery, delivery_stopped) = watch::channel(false);
        engine.start();
        let delivery = tokio::spawn(delivery::run(
            engine.clone(),
            store.clone(),
            suppression.clone(),
            live.clone(),
            resolver,
            delivery_stopped,
        ));
        let quarantine = Quarantine::open(&store)?;
        let processor = Processor::new(store.clone(), engine.clone(), live.clone(), quarantine.clone());
        let report_counters = processor.counters();
        let reports = tokio::spawn(async move {
            if let Err(error) = processor.run().await {
                tracing::error!("the report processors ended: {error}");
            }
        });
        let (stop_intake, intake_stopped) = watch::channel(false);
        let (list, lists) = (suppression.clone(), address_lists.clone());
        let intake = Intake::new(store.clone(), engine.clone(), list, lists, live.clone(), now);
        let intake = intake.reporting(report_suppressed(store.clone()));
        let intake = tokio::spawn(smtp_listener::serve(listeners, intake, intake_stopped));

        let jobs = jobs::Jobs::new(engine.clone(), pauses, counted);
        let unsubscribe = unsubscribe::Shared::new(&unsubscribe_listeners, &store, &live);
        let unsubscribe_endpoint = unsubscribe::Endpoint::start(unsubscribe_listeners, &unsubscribe);

        let inner = Arc::new(Inner {
            live,
            stage: Mutex::new(Stage::new(options.rules.clone(), Vec::new())),
            options,
            store,
            engine,
            suppression,
            address_lists,
            bulk: Default::default(),
            novelty: seen_replies,
            jobs,
            breaker,
            outputs: outputs.clone(),
            quarantine,
            report_counters,
            reload: Mutex::new(()),
            identities,
            unsubscribe,
            http_tls: http.as_ref().map(|(_, tls)| tls.clone()),
            started_with,
            configuration: Mutex::new(InForce { rules: compiled.id(), since: started, refused: None }),
            started,
        });
        let upkeep = upkeep::Upkeep::start(&inner.store, &inner.suppression, &inner.bulk);
        let socket = bind_socket(&inner);
        let http = http::serve(http, &inner)?;
        let node = Node {
            inner,
            smtp_addresses,
            outputs,
            suppressor,
            send_index,
            novelty,
            job_guard,
            notices,
            upkeep,
            intake,
            delivery,
            reports,
            unsubscribe: unsubscribe_endpoint,
            stop_intake,
            stop_delivery,
            socket,
            http,
        };
        tracing::info!(listeners = ?node.smtp_addresses, "running");
        if !node.unsubscribe_addresses().is_empty() {
            tracing::info!(listeners = ?node.unsubscribe_addresses(), "people unsubscribe here");
        }
        Ok(node)
    }

    /// Where mail is taken in, with the ports that the system chose.
    pub fn smtp_addresses(&self) -> &[SocketAddr] {
        &self.smtp_addresses
    }

    /// Where people unsubscribe, with the ports that the system chose.
    pub fn unsubscribe_addresses(&self) -> &[SocketAddr] {
        self.unsubscribe.addresses()
    }

    /// Where the management API is, if it is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::address)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The queues.
    pub fn queue(&self) -> &Engine {
        &self.inner.engine
    }

    /// The suppression list.
    pub fn suppression(&self) -> &Suppression {
        &self.inner.suppression
    }

    /// The accounting files.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Reads the configuration again: all of it is put in force, or none. The answer says what changed and what waits
    /// for a restart; it is in the log too.
    pub async fn reload(&self) -> Result<String, String> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.reload()).await.map_err(|e| e.to_string())?
    }

    /// Drains and stops, within about half a minute, in the order of the flow: no new mail, no new transactions, then
    /// everything that happened is written, and the store is closed. Nothing queued is lost; it goes on at the next start.
    pub async fn stop(self) -> Result<(), NodeError> {
        tracing::info!("stopping");
        drop(self.socket);
        if let Some(http) = self.http {
            http.stop().await;
        }
        self.stop_intake.send_replace(true);
        self.stop_delivery.send_replace(true);
        self.unsubscribe.stop().await;
        join("intake", self.intake).await;
        join("delivery", self.delivery).await;
        self.inner.engine.stop();
        join("reports", self.reports).await;
        self.upkeep.stop().await;
        self.inner.store.flush().await?;
        if let Err(error) = self.outputs.stop().await {
            tracing::error!("accounting files did not end in order: {error}");
        }
        let consumers = (self.suppressor, self.send_index, self.novelty, self.job_guard);
        let ended = tokio::task::spawn_blocking(move || {
            consumers.0.stop();
            if let Some(index) = consumers.1 {
                index.stop();
            }
            consumers.2.stop();
            consumers.3.stop();
        });
        let _ = ended.await;
        // With the consumer its end of the channel is gone: what was raised to the end is still queued.
        join("notices", self.notices).await;
        self.inner.store.close().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// A task that does not end in time is left behind; the store is closed under it, which it notices.
const JOIN_WITHIN: Duration = Duration::from_secs(15);

async fn join(what: &str, task: JoinHandle<()>) {
    match tokio::time::timeout(JOIN_WITHIN, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{what} failed: {error}"),
        Err(_) => tracing::error!("{what} did not end within {JOIN_WITHIN:?}"),
    }
}

/// How senders hear of recipients that end with their acceptance.
fn report_suppressed(store: Store) -> Arc<intake::submit::Report> {
    Arc::new(move |config, message, endings, now| {
        delivery::notify::report_suppressed(config, message, endings, &|| (store.id(), store.next_message_id()), now)
    })
}

/// The store of this configuration, open.
fn open_store(config: &Config, options: &Options) -> Result<store::Opened, NodeError> {
    let mut store_options = store::Options {
        retention_bytes: config.ledger_retention_bytes,
        retention: config.ledger_retention,
        reserve_bytes: config.min_free_space,
        ..store::Options::default()
    };
    if options.keep_ledger {
        store_options.retention_bytes = u64::MAX;
        store_options.retention = Duration::MAX;
    }
    options
        .disk
        .create_dir_all(&config.spool)
        .map_err(|e| NodeError::Other(format!("spool {}: {e}", config.spool.display())))?;
    Ok(Store::open(options.disk.clone(), &config.spool, &store_options)?)
}

/// The command socket; a server without one still does its work.
fn bind_socket(inner: &Arc<Inner>) -> Option<CommandSocket> {
    let path = inner.live.load().command_socket.clone();
    let handler = {
        let inner = inner.clone();
        Arc::new(move |command| inner.answer(command))
    };
    CommandSocket::bind(&path, handler)
        .inspect_err(|error| {
            tracing::error!("command-socket {}: {error}; no commands will reach this server", path.display())
        })
        .ok()
}
