//! Disks that fill or fail, consumers that lag, segments that go: what stops then, and what goes on.

use super::*;

#[test]
fn old_segments_go_when_read_and_few_left_messages_are_moved() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let small = Options { retention: Duration::ZERO, ..options() };
        let store = Store::open(Arc::new(disk.clone()), Path::new("spool"), &small).unwrap().store;
        store.ledger().hold("csv", 1);
        let kept = accept(&store, 2, b"kept").await;
        let state = RcptState { index: 1, attempts: 9, not_before: Time(5), in_doubt: false };
        store.retry(kept, &[state], Events::new()).await.unwrap();
        end(&store, kept, 0).await.unwrap();
        for _ in 0..60 {
            let id = accept(&store, 1, &[1; 3000]).await;
            end(&store, id, 0).await.unwrap();
        }
        store.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(store.ledger().start(), 1, "held");
        assert!(store.usage().held_bytes > 150_000);
        store.ledger().hold("csv", store.ledger().end());
        // The keeper is woken by the next segment.
        for _ in 0..10 {
            let id = accept(&store, 1, &[1; 3000]).await;
            end(&store, id, 0).await.unwrap();
        }
        let start = std::time::Instant::now();
        while store.usage().segments > 8 && start.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(store.usage().segments <= 8, "{:?}", store.usage());
        assert!(store.ledger().start() > 1);
        assert!(matches!(store.ledger().reader(1), Err(StoreError::Trimmed { .. })));
        assert_eq!(&store.load(kept).unwrap().body[..], b"kept");
        store.flush().await.unwrap();
        let end = store.ledger().end();
        drop(store);
        let opened = open(&disk);
        assert_eq!((opened.queued_messages, opened.queued_recipients, opened.next_seq), (1, 1, end));
        let mut seen = Vec::new();
        opened.store.for_each_queued(&mut |e, s| seen.push((e.id, s.to_vec()))).unwrap();
        assert_eq!(seen, [(kept, vec![state])]);
    });
}

#[test]
fn a_segment_goes_only_after_the_ending_of_its_last_message_is_durable() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        runtime().block_on(async {
            let small = Options { retention: Duration::ZERO, ..options() };
            let store = Store::open(Arc::new(disk.clone()), Path::new("spool"), &small).unwrap().store;
            let first = accept(&store, 1, b"first").await;
            for _ in 0..8 {
                let id = accept(&store, 1, &[1; 3000]).await;
                end(&store, id, 0).await.unwrap();
            }
            store.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let path = segment_of(&disk, 1);
            // Nobody waits for this one: it gathers company, and the keeper comes before it is written.
            end(&store, first, 0).await.unwrap();
            store.shared().wake_keeper.notify_all();
            while disk.files().iter().any(|f| f.0 == path) {
                std::thread::yield_now();
            }
            disk.power_cut(seed);
            drop(store);
            let opened = open(&disk);
            let queued = opened.queued_messages == 1;
            let from = opened.store.ledger().start();
            let ended = all_events(&opened.store, from).iter().any(|e| e.1 == Kind::Delivered && e.2 == first.0);
            assert!(queued != ended, "queued {queued}, ended {ended}");
        });
    }
}

#[test]
fn a_failed_sync_stops_the_store_and_tells_everyone() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        accept(&store, 1, b"x").await;
        // Until the keeper has made its spare, the next sync may be its own.
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.fail(Fault::Sync(1, std::io::ErrorKind::Other));
        let id = store.next_message_id();
        let failed = store.accept(message(id, 1, b"y"), Events::new()).await;
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        assert!(store.intake_refused().unwrap().contains("sync"));
        assert!(store.accept(message(store.next_message_id(), 1, b"z"), Events::new()).await.is_err());
        assert!(end(&store, MessageId(1), 0).await.is_err());
        assert!(matches!(store.close().await, Err(StoreError::Failed(_))));
    });
}

#[test]
fn a_full_disk_refuses_new_mail_and_lets_the_queue_go_on() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let reserve = Options { reserve_bytes: 100_000, ..options() };
        let store = Store::open(Arc::new(disk.clone()), Path::new("spool"), &reserve).unwrap().store;
        let id = accept(&store, 1, b"x").await;
        let used: u64 = disk.files().iter().map(|f| f.1).sum();
        disk.set_limit(used + 50_000);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(store.intake_refused().unwrap().contains("reserved"));
        let refused = store.accept(message(store.next_message_id(), 1, b"y"), Events::new()).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))));
        end(&store, id, 0).await.unwrap();
        store.flush().await.unwrap();
        disk.set_limit(u64::MAX);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(store.intake_refused(), None);
    });
}

#[test]
fn a_writer_that_waits_for_disk_space_goes_on_when_the_last_consumer_lets_segments_go() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let none = Options { retention: Duration::ZERO, segment_bytes: 64 << 10, reserve_bytes: 0, ..options() };
        let store = Store::open(Arc::new(disk.clone()), Path::new("spool"), &none).unwrap().store;
        store.ledger().hold("acct-file slow.csv", 1);
        let append = || async {
            let mut events = Events::new();
            let text = "x".repeat(3000);
            events.push(&Event { diag: &text, ..Event::new(Kind::Transient, Time(1)) });
            store.append(events).await?;
            store.flush().await
        };
        while store.usage().segments < 4 {
            append().await.unwrap();
        }
        // Segments are known to be empty before the disk is full.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        disk.set_limit(disk.files().iter().map(|f| f.1).sum());
        let soon = Duration::from_secs(3);
        let mut stuck = false;
        for _ in 0..200 {
            stuck = tokio::time::timeout(soon, append()).await.is_err();
            if stuck {
                break;
            }
        }
        assert!(stuck, "the disk is full, and the consumer holds all");
        store.ledger().hold("acct-file slow.csv", store.ledger().end());
        let goes_on = tokio::time::timeout(Duration::from_secs(10), append()).await;
        goes_on.expect("what the consumer has let go makes room").unwrap();
    });
}

#[test]
fn a_stuck_consumer_stops_intake_at_its_limit_and_the_queue_goes_on() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let limited = Options { retention: Duration::ZERO, held_bytes: 100_000, ..options() };
        let store = Store::open(Arc::new(disk.clone()), Path::new("spool"), &limited).unwrap().store;
        store.ledger().hold("acct-file stuck.csv", 1);
        let queued = accept(&store, 1, b"x").await;
        while store.usage().held_bytes <= 100_000 {
            accept(&store, 1, &[1; 3000]).await;
        }
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(store.intake_refused(), None, "as long as more is free than is held");
        disk.set_limit(disk.files().iter().map(|f| f.1).sum::<u64>() + 60_000);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(store.intake_refused().unwrap().contains("stuck.csv lags behind"));
        let refused = store.accept(message(store.next_message_id(), 1, b"y"), Events::new()).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))));
        end(&store, queued, 0).await.unwrap();
        store.flush().await.unwrap();
        store.ledger().hold("acct-file stuck.csv", store.ledger().end());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(store.intake_refused(), None);
    });
}

#[test]
fn tables_that_can_not_be_written_stop_intake_and_say_why() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let id = accept(&store, 1, b"x").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.fail(Fault::Sync(1, std::io::ErrorKind::Other));
        assert!(store.tables().write(|tx| tx.put_counter("n", 1)).is_err());
        assert!(store.intake_refused().unwrap().contains("tables"), "{:?}", store.intake_refused());
        assert!(store.accept(message(store.next_message_id(), 1, b"y"), Events::new()).await.is_err());
        end(&store, id, 0).await.unwrap();
        store.flush().await.unwrap();
    });
}

#[test]
fn when_nothing_is_free_endings_go_on_in_what_was_reserved_and_the_rest_waits() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = open(&disk).store;
        let mut ids = Vec::new();
        for _ in 0..600 {
            ids.push(accept(&store, 1, b"x").await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.set_limit(disk.files().iter().map(|f| f.1).sum());
        for id in &ids[..40] {
            end(&store, *id, 0).await.unwrap();
        }
        store.flush().await.unwrap();
        for id in &ids[40..] {
            end(&store, *id, 0).await.unwrap();
        }
        let flushed = tokio::spawn({
            let store = store.clone();
            async move { store.flush().await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!flushed.is_finished(), "it waits for room, and does not fail");
        assert!(store.intake_refused().unwrap().contains("full"));
        disk.set_limit(u64::MAX);
        flushed.await.unwrap().unwrap();
        assert_eq!(all_events(&store, 1).len(), 1200);
        drop(store);
        assert_eq!(open(&disk).queued_messages, 0);
    });
}
