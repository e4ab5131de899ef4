//! The tables beside the journal: what is kept together, and what is found again by its keys.

use super::*;

#[test]
fn effects_and_cursor_are_kept_together_or_not_at_all() {
    let disk = SimDisk::new();
    let store = open(&disk).store;
    let row = ConsumerRow { cursor: 1, state: vec![1, 2] };
    let tables = store.tables().clone();
    tables
        .write(|tx| {
            tx.put_counter("ann", 7)?;
            tx.put_consumer("csv", &row)
        })
        .unwrap();
    let failed = tables.write(|tx| {
        tx.put_counter("ann", 9)?;
        tx.remove_consumer("csv")?;
        Err::<(), _>(StoreError::other("no"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    drop((tables, store));
    let store = open(&disk).store;
    let tables = store.tables();
    assert_eq!(tables.consumers().unwrap(), [("csv".to_owned(), row)]);
    assert_eq!(tables.counter("ann").unwrap(), 7);
    assert_eq!(store.ledger().holds(), [("csv".to_owned(), 1)]);
}

#[test]
fn callers_who_come_together_share_commits_and_a_failing_or_panicking_one_hurts_nobody() {
    let disk = SimDisk::new();
    let store = open(&disk).store;
    let before = disk.operations();
    std::thread::scope(|scope| {
        for t in 0..8 {
            let tables = store.tables().clone();
            scope.spawn(move || {
                for i in 0..20 {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        tables.write(|tx| {
                            let n = tx.counter("n")?;
                            tx.put_counter("n", n + 1)?;
                            tx.put_counter(&format!("{t}"), i + 1)?;
                            match (t, i % 5) {
                                (0, 3) => Err(StoreError::other("own failure")),
                                (1, 4) => std::panic::panic_any("own panic"),
                                _ => Ok(()),
                            }
                        })
                    }));
                    assert_eq!(matches!(result, Ok(Ok(()))), !matches!((t, i % 5), (0, 3) | (1, 4)));
                }
            });
        }
    });
    let tables = store.tables();
    assert_eq!(tables.counter("n").unwrap(), 8 * 20 - 8);
    assert_eq!(tables.counter("7").unwrap(), 20);
    assert!(disk.operations() > before);
}

#[test]
fn a_send_is_found_by_each_of_its_keys_and_goes_with_all_of_them() {
    let disk = SimDisk::new();
    let store = open(&disk).store;
    let tables = store.tables();
    let put = |first, further: &[_], entry: &[u8], time| {
        tables.write(|tx| tx.put_send(first, further, entry, Time(time))).unwrap();
    };
    put(("m:1", "0"), &[("a@x", "r@y"), ("e:spring", "r@y")], b"one", 10);
    put(("m:1", "1"), &[("a@x", "s@y")], b"two", 11);
    let find = |name, rcpt| tables.find_send(name, rcpt).unwrap();
    for (name, rcpt) in [("m:1", "0"), ("a@x", "r@y"), ("e:spring", "r@y")] {
        assert_eq!(find(name, Some(rcpt)).as_deref(), Some(&b"one"[..]), "{name}");
    }
    assert_eq!(find("e:spring", None).as_deref(), Some(&b"one"[..]));
    assert_eq!(find("a@x", None), None, "two recipients");
    assert_eq!(tables.sends_named("m:1", 10).unwrap().len(), 2);
    assert_eq!(tables.sends_named("m:1", 1).unwrap().len(), 1);
    // The same Message-ID to the same recipient again: the newer send has it, and keeps it when the older one goes.
    put(("m:2", "0"), &[("a@x", "r@y")], b"three", 20);
    assert_eq!(find("a@x", Some("r@y")).as_deref(), Some(&b"three"[..]));
    assert_eq!(tables.write(|tx| tx.trim_sends(Time(12), 100)).unwrap(), 2);
    assert_eq!(find("a@x", Some("r@y")).as_deref(), Some(&b"three"[..]));
    assert_eq!((find("e:spring", None), find("m:1", Some("0")), find("a@x", Some("s@y"))), (None, None, None));
    // Entered twice under the same key, as after a crash: one row of time.
    put(("m:2", "0"), &[("a@x", "r@y")], b"three", 21);
    assert_eq!(tables.write(|tx| tx.trim_sends(Time(100), 100)).unwrap(), 1);
    assert_eq!(find("a@x", Some("r@y")), None);
}

#[test]
fn a_send_is_found_by_message_id_and_recipient_and_dropped_when_old() {
    let disk = SimDisk::new();
    let store = open(&disk).store;
    let tables = store.tables();
    tables
        .write(|tx| {
            tx.put_send(("a@x", "r1@y"), &[], b"1", Time(-10))?;
            tx.put_send(("b@x", "r1@y"), &[], b"2", Time(10))?;
            tx.put_send(("b@x", "r2@y"), &[], b"3", Time(20))?;
            tx.put_send(("a@x", "r1@y"), &[], b"4", Time(15))
        })
        .unwrap();
    assert_eq!(tables.find_send("a@x", Some("r1@y")).unwrap().as_deref(), Some(&b"4"[..]));
    assert_eq!(tables.find_send("a@x", None).unwrap().as_deref(), Some(&b"4"[..]));
    assert_eq!(tables.find_send("b@x", None).unwrap(), None, "two recipients: which one is not known");
    assert_eq!(tables.find_send("b@x", Some("r3@y")).unwrap(), None);
    assert_eq!(tables.write(|tx| tx.trim_sends(Time(15), 100)).unwrap(), 1);
    assert_eq!(tables.find_send("b@x", None).unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(tables.write(|tx| tx.trim_sends(Time(0), 1)).unwrap(), 1);
    assert_eq!(tables.find_send("a@x", None).unwrap(), None);
    assert_eq!(tables.find_send("b@x", None).unwrap().as_deref(), Some(&b"3"[..]));
}

#[test]
fn rule_sets_are_kept_by_id() {
    let disk = SimDisk::new();
    let store = open(&disk).store;
    store.tables().write(|tx| tx.put_rule_set(RuleSetId(7), "rules")).unwrap();
    assert_eq!(store.tables().rule_set(RuleSetId(7)).unwrap().as_deref(), Some("rules"));
    assert_eq!(store.tables().rule_set(RuleSetId(8)).unwrap(), None);
}
