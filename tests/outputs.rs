//! What the stories about accounting outputs stand on: a store with a ledger, and outputs that do not take their time.
#![expect(clippy::disallowed_methods, reason = "waits")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carom::accounting::outputs::Settings;
use carom::disk::RealDisk;
use carom::event::{Event, Events, Kind, Time};
use carom::sim::disk::SimDisk;
use carom::store::{Options, Store};

/// From the beginning of the ledger, committed and tried again every twenty milliseconds.
pub fn settings(root: &Path) -> Settings {
    Settings {
        root: root.to_owned(),
        zone: jiff::tz::TimeZone::UTC,
        start_at_beginning: true,
        commit_every: Duration::from_millis(20),
        retry_after: Duration::from_millis(20),
        rules: Default::default(),
    }
}

/// A store on the real disk.
pub fn store(root: &Path) -> Store {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    Store::open(Arc::new(RealDisk), &root.join("store"), &options).unwrap().store
}

/// Waits, but not for ever.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "no {what} in a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// 800 events, and no more than `free` bytes are left on the disk: with less than the store holds for its outputs, and
/// enough for segments to come, an output that takes nothing stands in the way.
pub async fn fill(store: &Store, disk: &SimDisk, free: u64) {
    let diag = "x".repeat(500);
    for i in 0..40 {
        let mut events = Events::new();
        for j in 0..20 {
            let rcpt = format!("u{i}-{j}@example.net");
            events.push(&Event { rcpt: &rcpt, diag: &diag, ..Event::new(Kind::Delivered, Time::from_secs(1)) });
        }
        store.append(events).await.unwrap();
    }
    store.flush().await.unwrap();
    disk.set_limit(disk.files().iter().map(|f| f.1).sum::<u64>() + free);
}
