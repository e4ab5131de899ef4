//! What a verdict costs: new replies, a campaign's mix in which nine of ten repeat, and compiling the rules; and what
//! asking the suppression list costs. `cargo bench --bench classify`
#![expect(clippy::disallowed_methods, reason = "edge: reads the clock")]

use std::hint::black_box;

use carom::classify::RuleSet;
use carom::config::PatternSource;
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

/// The examples of the shipped rules, each with a number of its own.
fn examples(rules: &RuleSet) -> Vec<String> {
    let all: Vec<&String> = rules.rules().iter().flat_map(|rule| &rule.examples).collect();
    (0..20).flat_map(|n| all.iter().enumerate().map(move |(m, reply)| format!("{reply} [{n}.{m}]"))).collect()
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
    run("no cache, the examples of all rules", &plain, &examples(&plain));
    let cached = RuleSet::builtin();
    run("cache, all repeat", &cached, &replies(WORDINGS.len(), false));
    run("cache, 9 of 10 repeat", &cached, &replies(1_000_000, true));
    group.finish();
    c.bench_function("compile the built-in rules", |b| b.iter(|| black_box(RuleSet::builtin())));
}

/// Rules as a large operator has them: each with words of its own, among those that everybody uses.
fn many_rules(count: usize) -> Vec<PatternSource> {
    let mut text =
        String::from("define WHO (?:user|mail ?box|recipient|account|address)s?\ndefine GAP (?:[^ ]+ ){0,4}\n");
    for n in 0..count {
        text.push_str(&match n % 4 {
            0 => format!("/unknown ${{WHO}} ${{GAP}}tenant-{n}/ bad-mailbox\n"),
            1 => format!("/policy {n} of .*\\.example\\.(?:net|org)/ policy-related\n"),
            2 => format!("/(?:listed|blocked) (?:by|using|in) bl{n}\\.example/ spam-related\n"),
            _ => format!("/\\(x{n}-[0-9a-f]{{4}}\\).*(?:quota|full)/ quota-issues\n"),
        });
    }
    vec![PatternSource::file("own.conf", &text)]
}

/// The shipped rules over and over, each time with something behind them that no reply says: the words of all are met.
fn shipped_over_and_over(times: usize) -> Vec<PatternSource> {
    let shipped = RuleSet::builtin();
    let rules = (1..times).flat_map(|n| shipped.rules().iter().map(move |rule| (n, rule)));
    rules
        .filter(|(_, rule)| !rule.category.is_empty() && rule.regex.len() < 8000)
        .map(|(n, rule)| PatternSource::Inline {
            file: "own.conf".into(),
            line: n as u32,
            regex: format!("(?:{}) zz{n}zz", rule.regex),
            category: rule.category.clone(),
            rest: String::new(),
        })
        .collect()
}

fn thousands(c: &mut Criterion) {
    for (name, sources) in
        [("2000 own rules", many_rules(2000)), ("shipped rules ten times", shipped_over_and_over(10))]
    {
        let start = std::time::Instant::now();
        let rules = RuleSet::compile(&sources).expect("these rules are good").without_cache();
        println!("{name}: {} rules compiled in {:?}", rules.len(), start.elapsed());
        let texts = replies(10_000, false);
        let mut next = texts.iter().cycle();
        c.bench_function(&format!("classify, no cache, {name}"), |b| {
            b.iter(|| black_box(rules.classify_text(black_box(next.next().map_or("", String::as_str)))));
        });
    }
}

criterion_group!(benches, verdicts, thousands);
criterion_main!(benches);
