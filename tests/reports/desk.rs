#![expect(clippy::disallowed_methods, reason = "edge: a task, and waiting for it")]
//! A real store and real queues with a report processor at work on them.

use std::sync::Arc;
use std::time::Duration;

use carom::config::{Config, parse_str};
use carom::disk::RealDisk;
use carom::event::send_entry::{SendEntry, token_key};
use carom::event::{AddressKey, Event, EventBatch, Events, Kind, MessageId, Time};
use carom::queue::Engine;
use carom::report::{Processor, Quarantine};
use carom::store::{LoadError, Options, RcptState, Store};

use super::incoming::incoming;

const CONFIG: &str = "
host-name mta.example.com
spool /var/spool/carom
<return-path-token>
    domain bounce.example.com
    key k1 0123456789abcdef0123456789abcdef
</return-path-token>
<bounce-processor>
    deliver-unmatched-email no
    forward-unmatched-to people@example.org
    <address-list>
        domain bounce.example.com
    </address-list>
</bounce-processor>
";

/// A configuration.
pub fn parsed(text: &str) -> Arc<Config> {
    let loaded = parse_str("carom.conf", text);
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

pub struct Desk {
    dir: tempfile::TempDir,
    pub config: Arc<Config>,
    pub store: Store,
    pub engine: Engine,
    pub quarantine: Quarantine,
}

impl Desk {
    pub fn open() -> Desk {
        Desk::with(CONFIG)
    }

    pub fn with(config: &str) -> Desk {
        Desk::over(tempfile::tempdir().unwrap(), parsed(config))
    }

    fn over(dir: tempfile::TempDir, config: Arc<Config>) -> Desk {
        let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, ..Options::default() };
        let opened = Store::open(Arc::new(RealDisk), dir.path(), &options).unwrap();
        let engine = Engine::new(Arc::new(arc_swap::ArcSwap::new(config.clone())));
        let quarantine = Quarantine::open(&opened.store).unwrap();
        Desk { dir, config, store: opened.store, engine, quarantine }
    }

    /// As after a stop and a start.
    pub async fn reopened(self) -> Desk {
        let Desk { dir, config, store, engine, quarantine } = self;
        store.close().await.unwrap();
        drop((store, engine, quarantine));
        Desk::over(dir, config)
    }

    /// Queues what the store holds, as a start does.
    pub fn admit_queued(&self) {
        self.store.for_each_queued(&mut |envelope, states| self.engine.admit(envelope, states, Time(1))).unwrap();
    }

    /// Where there is room for files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The send index has message 5, recipient 0: ann, with this Message-ID.
    pub fn remember_send(&self, message_id: &str) {
        let sent = Event {
            message: MessageId(5),
            orig: "news@example.com",
            rcpt: "ann@example.net",
            job: "spring",
            vmta: "v1",
            queue: "example.rollup/v1",
            ..Event::new(Kind::Delivered, Time::from_secs(1))
        };
        let row = SendEntry::of(&sent).encode();
        let (key, rcpt) = token_key(MessageId(5), 0);
        self.store
            .tables()
            .write(|tx| {
                let further = [(message_id, AddressKey::of(sent.rcpt))];
                let further = further.each_ref().map(|(id, key)| (*id, key.as_str()));
                tx.put_send((&key, &rcpt), &further, &row, sent.time)
            })
            .unwrap();
    }

    /// Takes in a mail to a bounce address.
    pub async fn take(&self, to: &str, body: Vec<u8>) -> MessageId {
        self.take_from("192.0.2.8", to, body).await
    }

    /// Takes in a mail from this host.
    pub async fn take_from(&self, host: &str, to: &str, body: Vec<u8>) -> MessageId {
        let id = self.store.next_message_id();
        let mut message = incoming(id, to, body);
        message.envelope.src_ip = host.parse().ok();
        let message = Arc::new(message);
        self.store.accept(message.clone(), Events::new()).await.unwrap();
        let state = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
        self.engine.admit(&message.envelope, &[state], Time::from_secs(2));
        id
    }

    /// Runs the processor until each of these has left the spool or is in the quarantine.
    pub async fn process(&self, ids: &[MessageId]) {
        let live = Arc::new(arc_swap::ArcSwap::new(self.config.clone()));
        let processor = Processor::new(self.store.clone(), self.engine.clone(), live, self.quarantine.clone());
        let task = tokio::spawn(processor.run());
        let done = |id: MessageId| self.is_gone(id) || self.quarantine.contains(id);
        for id in ids {
            for _ in 0..3000 {
                if done(*id) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(done(*id), "{id} is still in the spool");
        }
        self.engine.stop();
        task.await.unwrap().unwrap();
        self.store.flush().await.unwrap();
    }

    /// Whether a mail is no longer in the spool.
    pub fn is_gone(&self, id: MessageId) -> bool {
        matches!(self.store.load(id), Err(LoadError::Gone(_)))
    }

    pub fn ledger<T>(&self, look: impl Fn(&Event<'_>) -> T) -> Vec<T> {
        let mut reader = self.store.ledger().reader(self.store.ledger().start()).unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next(1000).unwrap() {
            chunk.batches().flat_map(EventBatch::iter).for_each(|e| all.push(look(&e.unwrap())));
        }
        all
    }
}
