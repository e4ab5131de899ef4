//! What is done to the suppression list now and then, and at the start: entries whose time is over are deleted, and
//! imports that were interrupted go on.
#![expect(clippy::disallowed_methods, reason = "edge: a task with a clock")]

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::bulk_import::BulkImports;
use super::{JOIN_WITHIN, join, now};
use crate::store::Store;
use crate::suppress::{Suppression, expire};

/// How often entries are looked for whose time is over.
const EVERY: Duration = Duration::from_secs(30);
/// Entries deleted in one transaction.
const AT_ONCE: usize = 1000;

/// The tasks.
#[derive(Debug)]
pub(super) struct Upkeep {
    stop: watch::Sender<bool>,
    expiring: JoinHandle<()>,
    list: Suppression,
    bulk: BulkImports,
}

impl Upkeep {
    /// Starts them.
    pub(super) fn start(store: &Store, list: &Suppression, bulk: &BulkImports) -> Upkeep {
        bulk.resume(store, list);
        let (stop, stopped) = watch::channel(false);
        let expiring = tokio::spawn(expiring(store.clone(), list.clone(), stopped));
        Upkeep { stop, expiring, list: list.clone(), bulk: bulk.clone() }
    }

    /// Ends them, and imports that are merged: these go on at the next start.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.bulk.stop(&self.list);
        join("the upkeep of the suppression list", self.expiring).await;
        let end = Instant::now() + JOIN_WITHIN;
        while self.bulk.is_busy() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn expiring(store: Store, list: Suppression, mut stopped: watch::Receiver<bool>) {
    loop {
        let (of, from) = (store.clone(), list.clone());
        let ended = spawn_blocking(move || expire(&of, &from, now(), AT_ONCE)).await;
        let more = match ended {
            Ok(Ok(ended)) => ended >= AT_ONCE,
            Ok(Err(error)) => {
                tracing::warn!(%error, "suppressions whose time is over are not deleted");
                false
            }
            Err(error) => return tracing::error!(%error, "suppressions whose time is over are not deleted any more"),
        };
        if *stopped.borrow() {
            return;
        }
        if !more {
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = stopped.changed() => return,
            }
        }
    }
}
