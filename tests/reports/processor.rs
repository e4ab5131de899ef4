#![expect(clippy::disallowed_methods, reason = "edge: a task, and waiting for it")]
//! The processor over a real store and real queues: what stands in the ledger and the spool when a report mail has been
//! taken from the queue.

use std::sync::Arc;
use std::time::Duration;

use carom::config::{Config, parse_str};
use carom::disk::RealDisk;
use carom::event::record::PairsBuf;
use carom::event::return_path::{TokenKeys, mint};
use carom::event::send_entry::SendEntry;
use carom::event::send_entry::token_key;
use carom::event::{AddressKey, Event, EventBatch, Events, Kind, MessageId, SourceType, Time};
use carom::queue::Engine;
use carom::report::Processor;
use carom::store::{Envelope, LoadError, Message, Options, RcptState, Recipient, Route, Store};

use super::forms::mail;

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

fn config() -> Arc<Config> {
    let loaded = parse_str("carom.conf", CONFIG);
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

struct House {
    _dir: tempfile::TempDir,
    config: Arc<Config>,
    store: Store,
    engine: Engine,
}

impl House {
    fn open() -> House {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, ..Options::default() };
        let opened = Store::open(Arc::new(RealDisk), dir.path(), &options).unwrap();
        let config = config();
        let engine = Engine::new(Arc::new(arc_swap::ArcSwap::new(config.clone())));
        House { _dir: dir, config, store: opened.store, engine }
    }

    /// The send index has message 5, recipient 0: ann, with this Message-ID.
    fn remember_send(&self, message_id: &str) {
        let sent = Event {
            message: MessageId(5),
            orig: "news@example.com",
            rcpt: "ann@example.net",
            job: "spring",
            ..Event::new(Kind::Delivered, Time::from_secs(1))
        };
        let row = SendEntry::of(&sent).encode();
        let (key, rcpt) = token_key(MessageId(5), 0);
        self.store
            .tables()
            .write(|tx| {
                tx.put_send(message_id, AddressKey::of(sent.rcpt).as_str(), &row, sent.time)?;
                tx.put_send(&key, &rcpt, &row, sent.time)
            })
            .unwrap();
    }

    /// Takes in a mail to a bounce address.
    async fn take(&self, to: &str, body: Vec<u8>) -> MessageId {
        let id = self.store.next_message_id();
        let envelope = Envelope {
            id,
            time_queued: Time::from_secs(2),
            orig: "".into(),
            env_id: "".into(),
            job: "".into(),
            vmta: "{default}".into(),
            pool: "".into(),
            src_type: SourceType::Smtp,
            src_mta: "mx.example.net".into(),
            src_ip: None,
            user: "".into(),
            eight_bit: false,
            body_len: body.len() as u32,
            message_id_header: "".into(),
            headers: PairsBuf::default(),
            route: Route::Bounce,
            no_dsn: false,
            return_full: false,
            rcpts: vec![Recipient { address: to.into(), orcpt: "".into(), notify: 0 }],
        };
        let message = Arc::new(Message { envelope, body: body.into() });
        self.store.accept(message.clone(), Events::new()).await.unwrap();
        let state = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
        self.engine.admit(&message.envelope, &[state], Time::from_secs(2));
        id
    }

    /// Runs the processor until these are no longer in the spool.
    async fn process(&self, ids: &[MessageId]) {
        let live = Arc::new(arc_swap::ArcSwap::new(self.config.clone()));
        let processor = Processor::new(self.store.clone(), self.engine.clone(), live);
        let task = tokio::spawn(processor.run());
        for id in ids {
            for _ in 0..500 {
                if matches!(self.store.load(*id), Err(LoadError::Gone(_))) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(matches!(self.store.load(*id), Err(LoadError::Gone(_))), "{id} is still in the spool");
        }
        self.engine.stop();
        task.await.unwrap().unwrap();
        self.store.flush().await.unwrap();
    }

    fn ledger<T>(&self, look: impl Fn(&Event<'_>) -> T) -> Vec<T> {
        let mut reader = self.store.ledger().reader(self.store.ledger().start()).unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next(1000).unwrap() {
            chunk.batches().flat_map(EventBatch::iter).for_each(|e| all.push(look(&e.unwrap())));
        }
        all
    }
}

#[tokio::test]
async fn a_report_to_a_signed_return_path_leaves_the_spool_as_one_attributed_bounce() {
    let house = House::open();
    house.remember_send("m1@example.com");
    let token = house.config.return_path_token.as_ref().unwrap();
    let keys = TokenKeys { domain: &token.domain, keys: &token.keys };
    let address = mint(keys, house.store.id(), MessageId(5), 0).unwrap();
    let id = house.take(&address, mail("dsn-wrong-subtype")).await;
    house.process(&[id]).await;
    let seen = house.ledger(|e| (e.kind, e.message, e.rcpt.to_owned(), e.job.to_owned(), e.attributed_by.to_owned()));
    assert_eq!(
        seen,
        [(Kind::RemoteBounce, MessageId(5), "ann@example.net".into(), "spring".into(), "return-path".into())],
        "the report names another address: the token decides"
    );
}

#[tokio::test]
async fn a_report_with_a_known_message_id_is_attributed_and_one_without_is_only_recorded() {
    let house = House::open();
    house.remember_send("m1@example.com");
    let known = house.take("bounce@bounce.example.com", mail("dsn-failed")).await;
    let unknown = house.take("bounce@bounce.example.com", mail("exim")).await;
    house.process(&[known, unknown]).await;
    assert_eq!(
        house.ledger(|e| (e.rcpt.to_owned(), e.attributed_by.to_owned())),
        [("ann@example.net".to_owned(), "message-id".to_owned()), ("cy@example.org".to_owned(), String::new())]
    );
}

#[tokio::test]
async fn mail_that_is_no_report_is_queued_for_people_and_leaves_no_bounce() {
    let house = House::open();
    let id = house.take("bounce@bounce.example.com", mail("ordinary-carrying")).await;
    house.process(&[id]).await;
    assert_eq!(
        house.ledger(|e| (e.kind, e.rcpt.to_owned(), e.src_type)),
        [(Kind::Received, "people@example.org".to_owned(), Some(SourceType::Internal))]
    );
    assert_eq!(house.engine.queued_recipients(), 1);
    let mut queued = Vec::new();
    house.store.for_each_queued(&mut |envelope, _| queued.push((envelope.orig.to_string(), envelope.no_dsn))).unwrap();
    assert_eq!(queued, [(String::new(), true)]);
}
