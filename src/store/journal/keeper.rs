//! The second thread: keeps a spare segment ready, watches the free space, lets consumers' holds and retention decide what
//! goes, moves messages, removes segments. All that may take long and that nobody waits for.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::relocate::relocate;
use super::segment;
use super::writer::{is_full, new_file, now};
use crate::store::StoreError;
use crate::store::retention::{self, Limits, Step};
use crate::store::spool::{Shared, Stop, lock};

/// How often it looks without being called.
const PERIOD: Duration = Duration::from_secs(1);

/// Works until the store is stopped.
pub(crate) fn run(shared: Arc<Shared>) {
    let mut stuck = None;
    loop {
        prepare_spare(&shared);
        watch_free_space(&shared);
        watch_holds(&shared);
        while let Some(more) = tidy(&shared, &mut stuck) {
            if !more {
                break;
            }
        }
        let inner = lock(&shared.inner);
        if inner.stop != Stop::No || shared.failed.get().is_some() {
            return;
        }
        drop(shared.wake_keeper.wait_timeout(inner, PERIOD).unwrap_or_else(PoisonError::into_inner));
    }
}

fn prepare_spare(shared: &Shared) {
    if lock(&shared.spare).is_some() {
        return;
    }
    match new_file(shared, shared.options.segment_bytes) {
        Ok(spare) => {
            *lock(&shared.spare) = Some(spare);
            shared.refuse("disk full", None);
        }
        Err(StoreError::Io { source, .. }) if is_full(&source) => {
            shared.refuse("disk full", Some("the disk is full: free space for the spool".to_owned()));
        }
        Err(e) => tracing::warn!(error = %e, "no spare segment could be prepared"),
    }
}

fn watch_free_space(shared: &Shared) {
    let reserve = shared.options.reserve_bytes;
    let Ok(free) = shared.disk.free_space(&shared.dir) else { return };
    if free < reserve {
        let why = format!("only {} MiB are free for the spool, {} are reserved", free >> 20, reserve >> 20);
        shared.refuse("low disk space", Some(why));
    } else if free >= reserve.saturating_add(reserve / 16) {
        shared.refuse("low disk space", None);
    }
}

/// A consumer that is stuck must not fill the disk: beyond its share no new mail is taken. What is queued goes on, out of
/// the reserve.
fn watch_holds(shared: &Shared) {
    let (who, held) = {
        let inner = lock(&shared.inner);
        let (who, held) = inner.held();
        (who.unwrap_or_default().to_owned(), held)
    };
    let least = shared.options.held_bytes;
    let limit = if held <= least { least } else { least.max(shared.disk.free_space(&shared.dir).unwrap_or(0)) };
    if held > limit {
        let why =
            format!("{who} lags behind: {} MiB of the journal are kept for it; see why it does not go on", held >> 20);
        shared.refuse("lag", Some(why));
    } else if held <= limit - limit / 16 {
        shared.refuse("lag", None);
    }
}

/// One step; whether another may follow. `None` when the store is stopping.
fn tidy(shared: &Shared, stuck: &mut Option<u64>) -> Option<bool> {
    let limits = Limits {
        retention: shared.options.retention,
        retention_bytes: shared.options.retention_bytes,
        segment_bytes: shared.options.segment_bytes,
    };
    let (step, oldest) = {
        let mut inner = lock(&shared.inner);
        if inner.stop != Stop::No || shared.failed.get().is_some() {
            return None;
        }
        let held = inner.holds.values().copied().min().unwrap_or(u64::MAX).min(*shared.end.borrow());
        retention::mark_passed(&mut inner.segments, held, now());
        (retention::step(&inner.segments, limits, now()), inner.segments.front()?.clone())
    };
    match step {
        Step::Wait => Some(false),
        Step::Move(number) => {
            if *stuck == Some(number) {
                return Some(false);
            }
            if let Err(e) = relocate(shared, &oldest) {
                tracing::error!(error = %e, segment = number, "queued messages can't be moved out of the oldest segment; it is kept");
                *stuck = Some(number);
                return Some(false);
            }
            Some(lock(&shared.inner).segments.front().is_some_and(|s| s.number == number && s.live == 0))
        }
        Step::Remove(number) => {
            // What ended the messages in it is to be durable before they are removed.
            shared.barrier().ok()?.wait_blocking().ok()?;
            // A segment is listed as soon as it is sealed; what the group that sealed it brought is known only now.
            if oldest_is_alive(shared, number) {
                return Some(true);
            }
            let path = segment::path(&shared.dir, number);
            if let Err(e) = shared.disk.remove(&path) {
                tracing::warn!(error = %e, path = %path.display(), "an old segment can't be removed; trying again later");
                return Some(false);
            }
            if let Err(e) = shared.disk.sync_dir(&shared.dir) {
                shared.fail(&format!("can't sync {}: {e}", shared.dir.display()));
                return None;
            }
            let mut inner = lock(&shared.inner);
            inner.segments.pop_front();
            inner.trim = inner.segments.front().map_or(inner.trim, |s| s.first_seq);
            Some(true)
        }
    }
}

fn oldest_is_alive(shared: &Shared, number: u64) -> bool {
    lock(&shared.inner).segment(number).is_none_or(|s| s.live > 0)
}
