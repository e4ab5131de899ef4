//! The rooms from the store to delivery, wired as the server wires them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use carom::config::Config;
use carom::disk::RealDisk;
use carom::event::{AddressKey, Event, EventId, Events, Kind, MessageId, Scope, StoreId, Time};
use carom::net::dns::Resolver;
use carom::queue::Engine;
use carom::store::message::SuppressionTerms;
use carom::store::{Envelope, Message, Options, RcptState, Store};
use carom::suppress::{Entry, Suppression};
use tokio::sync::watch;

use crate::mail::handed_in;

pub struct World {
    pub engine: Engine,
    pub store: Store,
    pub suppression: Suppression,
    pub config: Arc<ArcSwap<Config>>,
    stop: watch::Sender<bool>,
    running: Option<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// What tests look at of an event.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kind: Kind,
    pub message: MessageId,
    pub rcpt: String,
    pub orig: String,
    pub action: String,
    pub status: String,
    pub diag: String,
    pub category: String,
    pub mta: String,
    pub mta_ip: String,
    pub source_ip: String,
    pub esmtp: String,
    pub tls: (String, String),
    pub queue: String,
    pub provider: String,
    pub stage: String,
    pub attempt: u16,
    pub in_doubt: bool,
    pub suppressed_by: u64,
}

impl Seen {
    fn of(e: &Event<'_>) -> Seen {
        let text = |v: Option<std::net::IpAddr>| v.map(|v| v.to_string()).unwrap_or_default();
        Seen {
            kind: e.kind,
            message: e.message,
            rcpt: e.rcpt.into(),
            orig: e.orig.into(),
            action: e.action.map(|a| a.to_string()).unwrap_or_default(),
            status: e.status.map(|s| s.to_string()).unwrap_or_default(),
            diag: e.diag.into(),
            category: e.category.into(),
            mta: e.mta.into(),
            mta_ip: text(e.mta_ip),
            source_ip: text(e.dlv_source_ip),
            esmtp: e.dlv_esmtp.into(),
            tls: (e.tls_protocol.into(), e.tls_cipher.into()),
            queue: e.queue.into(),
            provider: e.provider.into(),
            stage: e.stage.map(|s| s.to_string()).unwrap_or_default(),
            attempt: e.attempt,
            in_doubt: e.in_doubt,
            suppressed_by: e.suppressed_by,
        }
    }
}

impl World {
    /// `hosts` and `lines` stand in `<domain *>`.
    pub async fn start(hosts: &str, lines: &str) -> World {
        World::with(hosts, lines, "", &[], |_| {}).await
    }

    pub async fn with(
        hosts: &str,
        lines: &str,
        global: &str,
        name_servers: &[SocketAddr],
        change: impl FnOnce(&mut Config),
    ) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut config = World::config(hosts, lines, global);
        change(&mut config);
        let config = Arc::new(ArcSwap::from_pointee(config));
        let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, ..Options::default() };
        let store = Store::open(Arc::new(RealDisk), dir.path(), &options).unwrap().store;
        let suppression = Suppression::new();
        let engine = Engine::new(config.clone());
        let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let servers = if name_servers.is_empty() { vec![nowhere] } else { name_servers.to_vec() };
        let resolver = Resolver::new(&servers).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(carom::delivery::run_with_grace(
            engine.clone(),
            store.clone(),
            suppression.clone(),
            config.clone(),
            resolver,
            stopped,
            Duration::from_secs(3),
        ));
        engine.start();
        World { engine, store, suppression, config, stop, running: Some(running), _dir: dir }
    }

    pub fn config(hosts: &str, lines: &str, global: &str) -> Config {
        let text = format!(
            "host-name mail.example.com\npostmaster p@example.com\n{global}\n<spool /nowhere>\n</spool>\n<domain *>\n{hosts}\n{lines}\n</domain>\n"
        );
        let loaded = carom::config::parse_str("test", &text);
        loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    pub fn reload(&self, config: Config) {
        self.config.store(Arc::new(config));
        self.engine.config_changed();
    }

    pub async fn send(&self, orig: &str, rcpts: &[&str], body: &[u8]) -> MessageId {
        self.send_at(orig, rcpts, body, Time::from(jiff::Timestamp::now())).await
    }

    pub async fn send_at(&self, orig: &str, rcpts: &[&str], body: &[u8], queued: Time) -> MessageId {
        self.send_under(orig, rcpts, body, queued, SuppressionTerms::default()).await
    }

    pub async fn send_under(
        &self,
        orig: &str,
        rcpts: &[&str],
        body: &[u8],
        queued: Time,
        terms: SuppressionTerms,
    ) -> MessageId {
        let id = self.store.next_message_id();
        let envelope = Envelope { time_queued: queued, terms, ..World::envelope(id, orig, rcpts, body.len()) };
        let message = Arc::new(Message { envelope, body: body.to_vec().into() });
        self.store.accept(message.clone(), Events::new()).await.unwrap();
        self.engine.admit(&message.envelope, &World::states(rcpts.len()), Time::from(jiff::Timestamp::now()));
        id
    }

    pub fn envelope(id: MessageId, orig: &str, rcpts: &[&str], len: usize) -> Envelope {
        let mail = handed_in(id, Time::UNKNOWN, orig, rcpts.iter().copied(), Bytes::new());
        Envelope {
            env_id: "env".into(),
            job: "job".into(),
            src_mta: "feeder".into(),
            body_len: len as u32,
            // Reports about bounces have tests of their own (dsn.rs).
            no_dsn: true,
            ..mail.envelope
        }
    }

    pub fn states(n: usize) -> Vec<RcptState> {
        (0..n).map(|i| RcptState { index: i as u16, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false }).collect()
    }

    pub fn suppress(&self, address: &str, by: u64) {
        let entry = Entry {
            rule: "hard".into(),
            by: EventId { store: StoreId(1), seq: by },
            time: Time::from_secs(1),
            category: "bad-mailbox".into(),
            ..Entry::default()
        };
        let subject = self.suppression.hasher().address(&AddressKey::of(address));
        self.suppression.apply(&subject.in_scope(&Scope::global()), &entry);
    }

    /// The first `n` events of the ledger; waits for them, but not for ever.
    pub async fn events(&self, n: usize) -> Vec<Seen> {
        let wait = async {
            let ledger = self.store.ledger();
            let mut reader = ledger.reader(ledger.start()).unwrap();
            let mut seen = Vec::new();
            loop {
                while let Some(chunk) = reader.next(1000).unwrap() {
                    for batch in chunk.batches() {
                        seen.extend(batch.iter().map(|e| Seen::of(&e.unwrap())));
                    }
                }
                if seen.len() >= n {
                    return seen;
                }
                ledger.wait_past(ledger.end()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the events did not come")
    }

    pub async fn stop(mut self) {
        self.stop_delivery().await;
        self.store.close().await.unwrap();
    }

    pub async fn stop_delivery(&mut self) {
        self.stop.send_replace(true);
        if let Some(running) = self.running.take() {
            tokio::time::timeout(Duration::from_secs(15), running).await.expect("delivery did not stop").unwrap();
        }
    }
}
