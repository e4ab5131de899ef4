//! As an operator I upgrade and find all I had: a store of each released format is kept in `tests/golden`, and this
//! program reads it.
//!
//! `CAROM_MAKE_GOLDEN=DIR cargo test --test stories acct_golden_store` makes one of the present format in DIR, which must not
//! exist; a format that was released is never made again.
#![expect(clippy::disallowed_methods, reason = "looks at real files")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carom::disk::RealDisk;
use carom::event::{Event, EventId, Events, Kind, MessageId, RuleSetId, SourceType, StoreId, Time, record::PairsBuf};
use carom::store::verify::verify;
use carom::store::{ConsumerRow, Envelope, Finish, Message, Options, RcptState, Recipient, Route, Store, Tx};
use carom::suppress::book::{self, Change};
use carom::suppress::{Entry, Mail, Suppression};

const RULES: RuleSetId = RuleSetId(0x1234);
const STATE: RcptState =
    RcptState { index: 1, attempts: 3, not_before: Time::from_secs(1_800_000_900), in_doubt: true };

fn options() -> Options {
    Options { segment_bytes: 8 << 10, reserve_bytes: 0, retention: Duration::MAX, ..Options::default() }
}

/// Every field of an envelope has a value that can be told from the others'.
fn message(id: u64, rcpts: usize, body: &[u8]) -> Message {
    let mut headers = PairsBuf::default();
    headers.push("X-Campaign", "spring \u{e9}dition");
    Message {
        envelope: Envelope {
            id: MessageId(id),
            time_queued: Time::from_secs(1_800_000_000),
            orig: "news@example.com".into(),
            env_id: "env-7".into(),
            job: "job-9".into(),
            vmta: "vmta1".into(),
            pool: "pool1".into(),
            src_type: SourceType::Smtp,
            src_mta: "app.example.com".into(),
            src_ip: Some("2001:db8::5".parse().unwrap()),
            rcv_ip: None,
            user: "ann".into(),
            eight_bit: true,
            body_len: body.len() as u32,
            message_id_header: "m@example.com".into(),
            headers,
            route: Route::Deliver,
            terms: Default::default(),
            no_dsn: id == 4,
            return_full: false,
            ret_given: false,
            rcpts: (0..rcpts)
                .map(|i| Recipient {
                    address: format!("r{i}@example.net").into(),
                    orcpt: "rfc822;R@example.net".into(),
                    notify: 3,
                })
                .collect(),
        },
        body: Bytes::copy_from_slice(body),
    }
}

fn messages() -> [Message; 4] {
    [
        message(1, 2, b"Subject: one\r\n\r\nfirst\r\n"),
        message(2, 1, b"Subject: two\r\n\r\nsecond\r\n"),
        message(3, 1, b"Subject: report\r\n\r\nit bounced\r\n"),
        message(4, 1, &[b'x'; 9000]),
    ]
}

fn event(kind: Kind, message: u64, rcpt_index: u16) -> Event<'static> {
    Event {
        message: MessageId(message),
        rcpt_index,
        rcpt: "r@example.net",
        diag: "smtp;550 5.1.1 unknown",
        ..Event::new(kind, Time::from_secs(1_800_000_001))
    }
}

fn events(kind: Kind, message: u64, rcpts: u16) -> Events {
    let mut events = Events::new();
    (0..rcpts).for_each(|r| events.push(&event(kind, message, r)));
    events
}

fn gone() -> Entry {
    Entry {
        rule: "hard".into(),
        by: EventId { store: StoreId(1), seq: 6 },
        time: Time::from_secs(1_800_000_001),
        subject: "gone@example.net".into(),
        ..Entry::default()
    }
}

async fn make(dir: &Path) {
    let store = Store::open(Arc::new(RealDisk), dir, &options()).unwrap().store;
    store
        .tables()
        .write(|tx| {
            tx.put_rule_set(RULES, "the text of the rules")?;
            tx.put_consumer("acct-file a.csv", &ConsumerRow { cursor: 3, state: b"{}".to_vec() })?;
            tx.put_suppressed("dead@example.net", b"entry");
            tx.put_send(("m@example.com", "r0@example.net"), &[], b"send", Time::from_secs(1_800_000_000))?;
            tx.put_counter("warm-up", 42)
        })
        .unwrap();
    let list = Suppression::new();
    let entry = gone();
    let key = list.hasher().subject(&entry.subject).in_scope(&entry.scope);
    let put = |tx: &mut Tx<'_>| book::put(tx, &key, &entry, (Change::Enter, entry.time), ("hard", "550 no"));
    store.suppression().write(put).unwrap();
    store.ledger().hold("acct-file a.csv", 1);
    store.set_rules(RULES);
    let [one, two, three, four] = messages().map(Arc::new);
    (1..=4).for_each(|n| assert_eq!(store.next_message_id(), MessageId(n)));
    store.accept(one, events(Kind::Received, 1, 2)).await.unwrap();
    store.accept(two, events(Kind::Received, 2, 1)).await.unwrap();
    store.retry(MessageId(1), &[STATE], events(Kind::Transient, 1, 1)).await.unwrap();
    let mut finish = Finish::new();
    finish.recipient(MessageId(1), 0).event(&event(Kind::Delivered, 1, 0));
    store.finish(finish).await.unwrap();
    let mut finish = Finish::new();
    finish.recipient(MessageId(2), 0).event(&event(Kind::Bounced, 2, 0));
    finish.message(three, events(Kind::Received, 3, 1));
    store.finish(finish).await.unwrap();
    store.append(events(Kind::TransientQueue, 0, 1)).await.unwrap();
    store.accept(four, events(Kind::Received, 4, 1)).await.unwrap();
    store.close().await.unwrap();
}

/// Opens a store that [`make`] made and looks at all there is in it.
fn look(dir: &Path, id: Option<StoreId>) {
    let report = verify(&RealDisk, dir).unwrap();
    assert_eq!((report.damage.len(), report.torn_bytes, report.first_seq, report.next_seq), (0, 0, 1, 10));
    let opened = Store::open(Arc::new(RealDisk), dir, &options()).unwrap();
    let store = opened.store;
    assert!(!opened.unclean);
    assert_eq!((opened.queued_messages, opened.queued_recipients, opened.next_seq), (3, 3, 10));
    assert!(id.is_none_or(|id| id == store.id()));
    assert_eq!(store.next_message_id(), MessageId(5));

    let mut queued = Vec::new();
    store.for_each_queued(&mut |envelope, states| queued.push((envelope.clone(), states.to_vec()))).unwrap();
    let [one, _, three, four] = messages();
    let fresh = RcptState { index: 0, attempts: 0, not_before: Time::UNKNOWN, in_doubt: false };
    let want = [(&one, STATE), (&three, fresh), (&four, fresh)];
    assert_eq!(queued, want.map(|(m, state)| (m.envelope.clone(), vec![state])));
    for (m, _) in want {
        let loaded = store.load(m.envelope.id).unwrap();
        assert_eq!((&loaded.envelope, &loaded.body), (&m.envelope, &m.body));
    }

    let mut seen = Vec::new();
    let mut reader = store.ledger().reader(1).unwrap();
    while let Some(chunk) = reader.next(100).unwrap() {
        for e in chunk.batches().flat_map(|b| b.iter().collect::<Vec<_>>()) {
            let e = e.unwrap();
            assert_eq!((e.rules, e.rcpt, e.diag), (RULES, "r@example.net", "smtp;550 5.1.1 unknown"));
            assert_eq!(e.time, Time::from_secs(1_800_000_001));
            seen.push((e.seq, e.kind.name(), e.message.0, e.rcpt_index));
        }
    }
    let want = [
        (1, "r", 1, 0),
        (2, "r", 1, 1),
        (3, "r", 2, 0),
        (4, "t", 1, 0),
        (5, "d", 1, 0),
        (6, "b", 2, 0),
        (7, "r", 3, 0),
        (8, "tq", 0, 0),
        (9, "r", 4, 0),
    ];
    assert_eq!(seen, want);

    let tables = store.tables();
    assert_eq!(tables.rule_set(RULES).unwrap().unwrap(), "the text of the rules");
    let row = ConsumerRow { cursor: 3, state: b"{}".to_vec() };
    assert_eq!(tables.consumers().unwrap(), [("acct-file a.csv".to_owned(), row)]);
    let mut listed = Vec::new();
    tables.for_each_suppressed(&mut |key, row| listed.push((key.to_owned(), row.to_vec()))).unwrap();
    assert_eq!(listed, [("dead@example.net".to_owned(), b"entry".to_vec())]);
    assert_eq!(tables.find_send("m@example.com", Some("r0@example.net")).unwrap().unwrap(), b"send");
    assert_eq!(tables.counter("warm-up").unwrap(), 42);

    // The list of the first release is moved; its row is no entry, so its mail is held until an operator decides.
    let list = Suppression::open(&store).unwrap();
    let check = |rcpt| list.check(rcpt, &Mail::default(), Time::from_secs(1_800_000_002)).map(|s| (s.by, s.held));
    assert_eq!(check("Dead@example.net"), Some((0, true)));
    // Format 1 had no other file.
    assert_eq!(check("gone@example.net"), id.is_none().then_some((6, false)));
}

#[tokio::test]
async fn a_store_of_format_1_is_read() {
    if let Some(dir) = std::env::var_os("CAROM_MAKE_GOLDEN") {
        make(Path::new(&dir)).await;
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1");
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for folder in ["", "journal"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap().map(|e| e.unwrap()) {
            if entry.metadata().unwrap().is_file() {
                std::fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    look(copy.path(), Some(StoreId(GOLDEN_STORE)));
}

/// What a store says today is read back today, so that the golden one of the next format can be trusted.
#[tokio::test]
async fn a_store_of_the_present_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path()).await;
    look(dir.path(), None);
}

/// The id in `tests/golden/store-v1`.
const GOLDEN_STORE: u64 = 0x7506_b1d7_9c70_105a;
