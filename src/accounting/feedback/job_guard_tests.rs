//! The job guard over a real store on a simulated disk that loses what was not synced.

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use arc_swap::ArcSwap;

use super::follow::Follower;
use super::job_counts::{Counts, Trip};
use super::job_guard::{Act, BY, CONSUMER, Guarding, Shared, open};
use crate::classify::RuleSet;
use crate::event::{Event, Events, Kind, Time};
use crate::sim::disk::SimDisk;
use crate::store::{ConsumerRow, JobPause, Options, Store, StoreError};

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| Arc::new(RuleSet::builtin()));

const GUARD: &str = "<job-guard spring>\naction pause\nmin-volume 10\nmin-complaint-volume 10\n</job-guard>\n";
const NOW: Time = Time::from_secs(1_800_000_000);

/// What the guard asked for, in order.
#[derive(Default, Clone)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Act for Heard {
    fn pause(&self, job: &str, _: &JobPause) -> bool {
        self.0.lock().unwrap().push(format!("pause {job}"));
        true
    }
    fn tell(&self, trip: &Trip) {
        self.0.lock().unwrap().push(format!("tell {}", trip.job));
    }
}

impl Heard {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn open_store(disk: &SimDisk) -> Result<Store, StoreError> {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    let store = Store::open(Arc::new(disk.clone()), Path::new("/spool"), &options)?.store;
    store.set_rules(RULES.id());
    Ok(store)
}

fn append(store: &Store, all: &[Event<'_>]) -> Result<(), StoreError> {
    let mut events = Events::new();
    all.iter().for_each(|event| events.push(event));
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
        store.append(events).await?;
        store.flush().await
    })
}

fn start(store: &Store) -> Result<(Heard, Follower<Guarding>, Shared), StoreError> {
    let heard = Heard::default();
    let config = crate::config::parse_str("t", GUARD).config.unwrap();
    let live = Arc::new(ArcSwap::from_pointee(config));
    let (consumer, shared) = open(store, live, Arc::clone(&RULES).into(), Box::new(heard.clone()))?;
    Ok((heard, consumer, shared))
}

fn delivered() -> Event<'static> {
    Event { rcpt: "a@b.example", job: "spring", ..Event::new(Kind::Delivered, NOW) }
}

fn bounced(diag: &'static str) -> Event<'static> {
    Event { rcpt: "a@b.example", job: "spring", diag, ..Event::new(Kind::Bounced, NOW) }
}

const UNKNOWN: &str = "smtp;550 5.1.1 User unknown";

#[test]
fn what_was_sent_and_what_is_proved_counts_and_nothing_else() {
    let store = open_store(&SimDisk::new()).unwrap();
    let report = |kind, attributed_by, feedback_type| Event { kind, attributed_by, feedback_type, ..bounced(UNKNOWN) };
    let all = [
        delivered(),
        delivered(),
        Event { job: "", ..delivered() },
        Event { kind: Kind::Received, ..delivered() },
        bounced(UNKNOWN),
        bounced("smtp;554 5.7.1 Message rejected as spam"),
        Event { kind: Kind::Transient, ..bounced("smtp;450 4.2.1 later") },
        Event { category: "suppressed", ..bounced("smtp;550 5.7.1 recipient is in suppression list") },
        Event { category: "message-expired", ..bounced("delivery time expired") },
        report(Kind::RemoteBounce, "", ""),
        report(Kind::RemoteBounce, "return-path", ""),
        report(Kind::Feedback, "", "abuse"),
        report(Kind::Feedback, "message-id", "abuse"),
        report(Kind::Feedback, "message-id", "not-spam"),
        report(Kind::Feedback, "header-token", "opt-out-list"),
    ];
    append(&store, &all).unwrap();
    let (_, mut consumer, shared) = start(&store).unwrap();
    consumer.catch_up().unwrap();
    let counts = shared.with(|jobs| jobs.get("spring").unwrap().counts);
    assert_eq!(counts, Counts { delivered: 2, ended: 5, bounced: 4, hard: 2, complaints: 1 });
}

#[test]
fn a_pause_is_in_effect_at_once_kept_with_the_counts_and_told_of_when_it_is_kept() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    append(&store, &[bounced(UNKNOWN); 12]).unwrap();
    let (heard, mut consumer, _) = start(&store).unwrap();
    assert!(consumer.read().unwrap());
    assert_eq!(heard.all(), ["pause spring"], "not told before it is kept");
    assert!(store.tables().job_pauses().unwrap().is_empty());
    consumer.catch_up().unwrap();
    assert_eq!(heard.all(), ["pause spring", "tell spring"]);
    let pauses = store.tables().job_pauses().unwrap();
    let (job, pause) = &pauses[0];
    assert_eq!((job.as_str(), pause.by.as_str(), pause.since), ("spring", BY, NOW));
    assert!(pause.reason.contains("10 of 10 mails"), "{}", pause.reason);
    // Started again it is paused still, and neither paused nor told of again.
    let (heard, mut consumer, shared) = start(&store).unwrap();
    append(&store, &[bounced(UNKNOWN); 30]).unwrap();
    consumer.catch_up().unwrap();
    assert!(heard.all().is_empty());
    assert_eq!(shared.with(|jobs| jobs.get("spring").unwrap().counts.hard), 42);
}

#[test]
fn a_job_that_goes_on_before_its_pause_is_kept_is_not_paused_by_the_next_start() {
    let disk = SimDisk::new();
    let store = open_store(&disk).unwrap();
    append(&store, &[bounced(UNKNOWN); 12]).unwrap();
    let (heard, mut consumer, shared) = start(&store).unwrap();
    assert!(consumer.read().unwrap());
    shared.resumed("spring");
    consumer.catch_up().unwrap();
    assert_eq!(heard.all(), ["pause spring"]);
    assert!(store.tables().job_pauses().unwrap().is_empty());
    let (heard, mut consumer, _) = start(&store).unwrap();
    append(&store, &[bounced(UNKNOWN); 30]).unwrap();
    consumer.catch_up().unwrap();
    assert!(heard.all().is_empty(), "all bounced before too: it is no worse");
}

#[test]
fn after_power_cuts_at_random_every_durable_event_is_counted_once() {
    for seed in 0..12u64 {
        let disk = SimDisk::new();
        for round in 0..4u64 {
            disk.cut_after(40 + (seed * 37 + round * 101) % 160);
            // Whatever fails in here fails because the power went.
            let _ = (|| -> Result<(), StoreError> {
                let store = open_store(&disk)?;
                let (_, mut consumer, _) = start(&store)?;
                for n in 0.. {
                    append(&store, &[delivered(), if n % 50 == 7 { bounced(UNKNOWN) } else { delivered() }])?;
                    if n % 3 == 0 {
                        consumer.catch_up()?;
                    }
                }
                Ok(())
            })();
            disk.power_cut(seed * 10 + round);
        }
        let store = open_store(&disk).unwrap();
        let (_, mut consumer, shared) = start(&store).unwrap();
        consumer.catch_up().unwrap();
        let counts = shared.with(|jobs| jobs.get("spring").map(|w| w.counts)).unwrap_or_default();
        let (mut ended, mut hard) = (0, 0);
        let mut reader = store.ledger().reader(store.ledger().start()).unwrap();
        while let Some(chunk) = reader.next(1000).unwrap() {
            for event in chunk.batches().flat_map(|batch| batch.iter()) {
                ended += 1;
                hard += u64::from(event.unwrap().kind == Kind::Bounced);
            }
        }
        assert_eq!((counts.ended, counts.hard), (ended, hard), "seed {seed}");
        assert_eq!(store.tables().consumer(CONSUMER).unwrap().map_or(0, |row: ConsumerRow| row.cursor), ended + 1);
    }
}
