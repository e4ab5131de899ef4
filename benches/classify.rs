//! What a verdict costs: new replies, a campaign's mix in which nine of ten repeat, and compiling the rules; and what
//! asking the suppression list costs. `cargo bench --bench classify`

use std::hint::black_box;

use carom::classify::RuleSet;
use carom::event::{AddressKey, EventId, StoreId, Time};
use carom::suppress::{Entry, Source, Suppression};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Wordings as receivers give them; `{}` stands for what differs from reply to reply.
const WORDINGS: [&str; 10] = [
    "550 5.1.1 <user{}@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
    "552 5.2.2 <user{}@example.net>: the mailbox is full, try again when it has been emptied",
    "554 5.7.1 Service unavailable; client host [192.0.2.{}] blocked using bl.example.org",
    "421 4.7.0 {} Too many connections from your host, please slow down",
    "450 4.7.1 <user{}@example.net>: Recipient address rejected: greylisted, try again in 5 minutes",
    "550-5.7.26 Message {} is not authenticated and fails the DMARC policy of its domain, see the error page",
    "550 5.2.1 The account user{} has been disabled",
    "451 4.3.0 {}: temporary lookup failure",
    "554 5.6.0 Message {} rejected: duplicate header",
    "550 {} something that no rule has ever heard of and that no code explains",
];

fn replies(count: usize, repeat: bool) -> Vec<String> {
    (0..count)
        .map(|n| {
            let wording = WORDINGS[n % WORDINGS.len()];
            // One in ten is new when replies repeat.
            let number = if repeat && n % 97 % 10 != 0 { 0 } else { n };
            wording.replace("{}", &number.to_string())
        })
        .collect()
}

fn verdicts(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    let mut run = |name: &str, rules: &RuleSet, texts: &[String]| {
        group.throughput(Throughput::Elements(1));
        let mut next = texts.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| black_box(rules.classify_text(black_box(next.next().map_or("", String::as_str)))));
        });
    };
    let plain = RuleSet::builtin().without_cache();
    run("no cache", &plain, &replies(10_000, false));
    run("no cache, 9 of 10 repeat", &plain, &replies(10_000, true));
    let cached = RuleSet::builtin();
    run("cache, all repeat", &cached, &replies(WORDINGS.len(), false));
    run("cache, 9 of 10 repeat", &cached, &replies(1_000_000, true));
    group.finish();
    c.bench_function("compile the built-in rules", |b| b.iter(|| black_box(RuleSet::builtin())));
}

fn look_ups(c: &mut Criterion) {
    let list = Suppression::new();
    let entry = |seq| Entry {
        source: Source::Auto,
        rule: "hard".into(),
        by: EventId { store: StoreId(1), seq },
        time: Time::from_secs(1_800_000_000),
        category: "bad-mailbox".into(),
        reply: "550 5.1.1 user unknown".into(),
        note: "".into(),
    };
    const ADDRESSES: u64 = 1_000_000;
    for n in 0..ADDRESSES {
        list.apply(&AddressKey::of(&format!("user{n}@example.net")), &entry(n + 1));
    }
    println!("{} addresses, {:.1} bytes each", list.len(), list.memory() as f64 / list.len() as f64);
    let present: Vec<String> = (0..10_000).map(|n| format!("user{}@example.net", n * 97)).collect();
    let absent: Vec<String> = (0..10_000).map(|n| format!("nobody{}@example.net", n * 97)).collect();
    let folded: Vec<String> = (0..10_000).map(|n| format!("Nobody{}@Example.NET", n * 97)).collect();
    let mut group = c.benchmark_group("suppressed");
    for (name, addresses) in [("absent", &absent), ("absent, upper case", &folded), ("present", &present)] {
        let mut next = addresses.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| black_box(list.check(black_box(next.next().map_or("", String::as_str)))));
        });
    }
    group.finish();
}

criterion_group!(benches, verdicts, look_ups);
criterion_main!(benches);
