#![expect(clippy::disallowed_methods, reason = "tests: tasks")]
#![expect(clippy::disallowed_types, reason = "tests: sockets on the loopback")]
//! What comes in by SMTP is in the store, in the ledger and in the queue, and still is after a restart: intake with the
//! real rooms behind it.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use carom::config::{Config, Listener};
use carom::disk::RealDisk;
use carom::event::{AddressKey, EventId, Scope, StoreId, Time};
use carom::intake::smtp_listener::{bind, serve};
use carom::intake::submit::Intake;
use carom::queue::Engine;
use carom::store::{Options, Route, Store};
use carom::suppress::{AddressLists, Entry, Suppression};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

fn config() -> Config {
    let text = "host-name mx.example.com\nspool /var/spool/carom\nlog-file /var/log/carom.log\n\
        <source 127.0.0.1>\nalways-allow-relaying yes\naccept-invalid-recipients yes\nprocess-x-job yes\n</source>\n";
    let loaded = carom::config::parse_str("test.conf", text);
    let mut config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
    let listener = Listener { address: "127.0.0.1:0".parse().unwrap(), source: None, tls_certificate: None };
    config.listeners = vec![listener];
    config
}

fn open(dir: &Path) -> Store {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    Store::open(Arc::new(RealDisk), dir, &options).unwrap().store
}

fn queued(store: &Store) -> Vec<(String, Route, Vec<u16>)> {
    let mut queued = Vec::new();
    let mut each = |envelope: &carom::store::Envelope, states: &[carom::store::RcptState]| {
        queued.push((envelope.job.to_string(), envelope.route, states.iter().map(|s| s.index).collect()));
    };
    store.for_each_queued(&mut each).unwrap();
    queued
}

#[tokio::test]
async fn a_message_is_kept_accounted_and_queued_before_the_250_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = Arc::new(ArcSwap::from_pointee(config()));
    let (queue, suppression) = (Engine::new(config.clone()), Suppression::new());
    let entry = Entry {
        rule: "hard".into(),
        by: EventId { store: StoreId(1), seq: 42 },
        time: Time::from_secs(1),
        category: "bad-mailbox".into(),
        ..Entry::default()
    };
    let subject = suppression.hasher().address(&AddressKey::of("gone@example.net"));
    suppression.apply(&subject.in_scope(&Scope::global()), &entry);
    let bound = bind(&config.load()).unwrap();
    let address = bound[0].socket.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let intake =
        Intake::new(store.clone(), queue.clone(), suppression, AddressLists::default(), config, || Time::from_secs(1));
    let served = tokio::spawn(serve(bound, intake, stopped));

    let mut client = TcpStream::connect(address).await.unwrap();
    let dialogue = "EHLO feeder.example\r\nMAIL FROM:<news@example.com>\r\nRCPT TO:<gone@example.net>\r\n\
        RCPT TO:<ann@example.net>\r\nDATA\r\nX-Job: spring\r\nSubject: hello\r\n\r\nhi\r\n.\r\nQUIT\r\n";
    client.write_all(dialogue.as_bytes()).await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("250 2.6.0 message accepted, id 1, 1 of 2 recipients suppressed\r\n"), "{said}");
    assert_eq!(queue.queued_recipients(), 1);
    stop.send(true).unwrap();
    served.await.unwrap();

    store.flush().await.unwrap();
    let mut reader = store.ledger().reader(store.ledger().start()).unwrap();
    let mut events = Vec::new();
    while let Some(chunk) = reader.next(100).unwrap() {
        for batch in chunk.batches() {
            events.extend(
                batch.iter().map(Result::unwrap).map(|e| {
                    format!("{} {} {} {} {} {}", e.kind, e.rcpt, e.job, e.src_mta, e.category, e.suppressed_by)
                }),
            );
        }
    }
    assert_eq!(
        events,
        [
            "r gone@example.net spring feeder.example  0",
            "r ann@example.net spring feeder.example  0",
            "b gone@example.net spring feeder.example suppressed 42",
        ]
    );
    assert_eq!(queued(&store), [("spring".to_owned(), Route::Deliver, vec![1])]);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(queued(&open(dir.path())), [("spring".to_owned(), Route::Deliver, vec![1])]);
}
