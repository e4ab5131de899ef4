//! The second thread: keeps a spare segment ready, watches the free space, lets consumers' holds and retention decide what
//! goes, moves messages, removes segments. All that may take long and that nobody waits for.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::relocate::relocate;
use super::segment;
use super::writer::{is_full, new_file, now};
use crate::store::StoreError;
use crate::store::retention::{self, Limits, Step};
use crate::store::spool::{Commit, Shared, Stop, lock};

/// How often it looks without being called.
const PERIOD: Duration = Duration::from_secs(1);

/// Works until the store is stopped.
pub(crate) fn run(shared: Arc<Shared>) {
    let mut stuck = None;
    let mut settled = Settled::default();
    loop {
        prepare_spare(&shared);
        watch_free_space(&shared);
        watch_holds(&shared);
        settled.look(&shared);
        while let Some(more) = tidy(&shared, &mut stuck, &mut settled) {
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
    let limit = shared.hold_limit(held);
    if held > limit {
        let why =
            format!("{who} lags behind: {} MiB of the journal are kept for it; see why it does not go on", held >> 20);
        shared.refuse("lag", Some(why));
    } else if held <= limit - limit / 16 {
        shared.refuse("lag", None);
    }
}

/// Which segments have nothing queued in them durably: what ended their messages has been synced, so they can be removed
/// without asking the writer. It may be waiting for just that: a full disk stops it in the middle of a group.
#[derive(Debug, Default)]
struct Settled {
    segments: BTreeSet<u64>,
    /// Found empty, and the commit that makes it durable.
    under_way: Option<(Vec<u64>, Arc<Commit>)>,
}

impl Settled {
    /// Notes what has become durable, and asks for what is to be next. Waits for nothing.
    fn look(&mut self, shared: &Shared) {
        if let Some((_, commit)) = &self.under_way {
            match commit.wait_for(Duration::ZERO) {
                None => return,
                Some(Ok(())) => self.note(shared),
                Some(Err(_)) => self.under_way = None,
            }
        }
        let (empty, commit): (Vec<u64>, _) = {
            let inner = lock(&shared.inner);
            if let Some(oldest) = inner.segments.front() {
                self.segments = self.segments.split_off(&oldest.number);
            }
            let empty = inner.segments.iter().filter(|s| s.sealed.is_some() && s.live == 0).map(|s| s.number);
            let empty: Vec<u64> = empty.filter(|n| !self.segments.contains(n)).collect();
            drop(inner);
            if empty.is_empty() {
                return;
            }
            (empty, shared.barrier())
        };
        self.under_way = commit.ok().map(|commit| (empty, commit));
    }

    fn note(&mut self, shared: &Shared) {
        let Some((empty, _)) = self.under_way.take() else { return };
        // A segment is listed as soon as it is sealed; what the group that sealed it brought is known only now.
        self.segments.extend(empty.into_iter().filter(|n| !oldest_is_alive(shared, *n)));
    }

    /// Whether this segment is; waits a little for it to be.
    fn contains(&mut self, shared: &Shared, number: u64) -> bool {
        if self.segments.contains(&number) {
            return true;
        }
        self.look(shared);
        if let Some((_, commit)) = &self.under_way
            && commit.wait_for(PERIOD).is_some_and(|result| result.is_ok())
        {
            self.note(shared);
        }
        self.segments.contains(&number)
    }
}

/// One step; whether another may follow. `None` when the store is stopping.
fn tidy(shared: &Shared, stuck: &mut Option<u64>, settled: &mut Settled) -> Option<bool> {
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
            if !settled.contains(shared, number) {
                return Some(false);
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
