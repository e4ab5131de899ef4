//! Reconciles books kept by different code: what was submitted, what the simulated providers saw, the ledger, the CSV
//! files and the Parquet files, against each other and against the script that decided everything in advance.
//!
//! Pure: the books come in whole, differences go out as sentences. The totals shown to people are counted here too, from
//! the CSV records, so that what is shown is what was reconciled.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::sim::book::{Line, Stage};
use crate::sim::script::{Behaviour, Ending};

/// One accounting record, from whichever book, in the columns that are compared. Empty text is "not there".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// `eventId`.
    pub event_id: String,
    /// `type`.
    pub kind: String,
    /// `rcpt`.
    pub rcpt: String,
    /// `bounceCat`.
    pub category: String,
    /// `jobId`.
    pub job: String,
    /// The code of `dsnStatus`.
    pub status: String,
    /// `dsnDiag`.
    pub diag: String,
    /// `attempt`.
    pub attempt: String,
    /// `messageId`.
    pub message: String,
    /// `suppressedBy`.
    pub suppressed_by: String,
    /// Known in the ledger only: the recipient had been named to the provider when the reply was given.
    pub named: bool,
}

/// A recipient as it was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The campaign, from 1.
    pub campaign: u32,
    /// The address.
    pub rcpt: String,
}

/// A line of a provider's book and the campaign during which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The campaign, from 1.
    pub campaign: u32,
    /// The line.
    pub line: Line,
}

/// All books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Kept by the submitting client: what it got a 250 for.
    pub submitted: Vec<Submission>,
    /// Kept by the providers.
    pub seen: Vec<Seen>,
    /// The ledger from its start.
    pub ledger: Vec<Record>,
    /// The CSV files.
    pub csv: Vec<Record>,
    /// The Parquet files.
    pub parquet: Vec<Record>,
}

/// The figures of one campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Recipients submitted.
    pub submitted: u64,
    /// `d` records.
    pub delivered: u64,
    /// `b` records by category, without the suppressed.
    pub bounced: BTreeMap<String, u64>,
    /// `t` records.
    pub transient: u64,
    /// Recipients delivered after at least one `t`.
    pub deferred_then_delivered: u64,
    /// `rb` records.
    pub remote_bounces: u64,
    /// `f` records.
    pub complaints: u64,
    /// `b` records of the category `suppressed`.
    pub suppressed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// The first differences, as sentences.
    pub differences: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// Per campaign, the first first.
    pub campaigns: Vec<Totals>,
}

/// How many differences are told.
const TOLD: usize = 20;

impl Reconciled {
    /// Whether the books agree.
    pub fn agrees(&self) -> bool {
        self.count == 0
    }

    fn differ(&mut self, sentence: impl FnOnce() -> String) {
        self.count += 1;
        if self.differences.len() < TOLD {
            self.differences.push(sentence());
        }
    }

    fn check(&mut self, agrees: bool, sentence: impl FnOnce() -> String) {
        if !agrees {
            self.differ(sentence);
        }
    }
}

/// The `X-Job` of a campaign.
pub fn job(campaign: u32) -> String {
    format!("campaign-{campaign}")
}

fn campaign_of(job: &str) -> Option<u32> {
    job.strip_prefix("campaign-")?.parse().ok()
}

/// What the ledger says of one recipient in one campaign.
#[derive(Default)]
struct Story<'a> {
    submitted: u64,
    delivered: u64,
    ends: Vec<&'a Record>,
    /// Attempts in which the recipient was named.
    attempts: BTreeSet<&'a str>,
    deferred: bool,
    remote_bounces: u64,
    complaints: u64,
    seen_outcomes: u64,
    seen_accepted: u64,
    seen_lines: u64,
}

/// Compares all books; `behaviour` is the script.
pub fn reconcile(books: &Books, behaviour: impl Fn(&str) -> Behaviour) -> Reconciled {
    let mut found = Reconciled::default();
    compare_files(books, &mut found);
    let categories: HashMap<&str, &str> =
        books.csv.iter().map(|r| (r.event_id.as_str(), r.category.as_str())).collect();
    let stories = stories(books, &mut found);
    for ((campaign, rcpt), story) in &stories {
        judge(*campaign, rcpt, story, behaviour(rcpt), &categories, &mut found);
    }
    suppressed_for_a_reason(&books.ledger, &mut found);
    found.campaigns = totals(books, &stories);
    found
}

/// Ledger, CSV and Parquet hold the same records, each once.
fn compare_files(books: &Books, found: &mut Reconciled) {
    let mut index = |name: &str, records: &'_ [Record]| -> HashMap<String, usize> {
        let mut by_id = HashMap::with_capacity(records.len());
        for (i, r) in records.iter().enumerate() {
            let before = by_id.insert(r.event_id.clone(), i);
            found.check(before.is_none(), || format!("event {} stands in the {name} more than once", r.event_id));
        }
        by_id
    };
    let ledger = index("ledger", &books.ledger);
    let csv = index("CSV files", &books.csv);
    let parquet = index("Parquet files", &books.parquet);
    for r in &books.ledger {
        let what = || format!("event {} ({} {})", r.event_id, r.kind, r.rcpt);
        match csv.get(&r.event_id) {
            None => found.differ(|| format!("{} is in the ledger, not in the CSV files", what())),
            Some(i) => {
                let other = &books.csv[*i];
                for (column, a, b) in ledger_columns(r, other) {
                    found.check(a == b, || {
                        format!("{}: {column} is {a:?} in the ledger, {b:?} in the CSV files", what())
                    });
                }
            }
        }
        if !parquet.contains_key(&r.event_id) {
            found.differ(|| format!("{} is in the ledger, not in the Parquet files", what()));
        }
    }
    for r in &books.csv {
        found.check(ledger.contains_key(&r.event_id), || {
            format!("event {} ({} {}) is in the CSV files, not in the ledger", r.event_id, r.kind, r.rcpt)
        });
        let Some(i) = parquet.get(&r.event_id) else { continue };
        for (column, a, b) in file_columns(r, &books.parquet[*i]) {
            found.check(a == b, || {
                format!("event {}: {column} is {a:?} in the CSV files, {b:?} in the Parquet files", r.event_id)
            });
        }
    }
    for r in &books.parquet {
        found.check(ledger.contains_key(&r.event_id), || {
            format!("event {} ({} {}) is in the Parquet files, not in the ledger", r.event_id, r.kind, r.rcpt)
        });
    }
}

type Column<'a> = (&'static str, &'a str, &'a str);

/// What ledger and CSV have in common for this type of record. The ledger knows a category only where it was not decided
/// by classification.
fn ledger_columns<'a>(ledger: &'a Record, csv: &'a Record) -> Vec<Column<'a>> {
    let mut columns = vec![("type", &*ledger.kind, &*csv.kind), ("rcpt", &ledger.rcpt, &csv.rcpt)];
    if matches!(&*ledger.kind, "d" | "b" | "t") {
        columns.push(("jobId", &ledger.job, &csv.job));
        columns.push(("dsnDiag", &ledger.diag, &csv.diag));
        columns.push(("attempt", &ledger.attempt, &csv.attempt));
    }
    if !ledger.category.is_empty() {
        columns.push(("bounceCat", &ledger.category, &csv.category));
    }
    columns
}

fn file_columns<'a>(csv: &'a Record, parquet: &'a Record) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'a>> = vec![
        ("type", &csv.kind, &parquet.kind),
        ("rcpt", &csv.rcpt, &parquet.rcpt),
        ("dsnStatus", &csv.status, &parquet.status),
        ("dsnDiag", &csv.diag, &parquet.diag),
        ("attempt", &csv.attempt, &parquet.attempt),
        ("messageId", &csv.message, &parquet.message),
        ("suppressedBy", &csv.suppressed_by, &parquet.suppressed_by),
    ];
    // PowerMTA's CSV has no category in `tq` and no job in the records of reports; the Parquet table does.
    if csv.kind != "tq" {
        columns.push(("bounceCat", &csv.category, &parquet.category));
    }
    if matches!(&*csv.kind, "d" | "b" | "t" | "r") {
        columns.push(("jobId", &csv.job, &parquet.job));
    }
    columns
}

fn stories<'a>(books: &'a Books, found: &mut Reconciled) -> BTreeMap<(u32, &'a str), Story<'a>> {
    let mut stories: BTreeMap<(u32, &str), Story> = BTreeMap::new();
    for s in &books.submitted {
        stories.entry((s.campaign, &s.rcpt)).or_default().submitted += 1;
    }
    // Reports name their message; the message's own records name the campaign.
    let campaign_of_message: HashMap<&str, u32> = books
        .ledger
        .iter()
        .filter(|r| matches!(&*r.kind, "r" | "d" | "b" | "t"))
        .filter_map(|r| Some((r.message.as_str(), campaign_of(&r.job)?)))
        .collect();
    for r in &books.ledger {
        if matches!(&*r.kind, "rb" | "f") {
            match campaign_of_message.get(r.message.as_str()) {
                Some(campaign) => {
                    let story = stories.entry((*campaign, &r.rcpt)).or_default();
                    story.remote_bounces += u64::from(r.kind == "rb");
                    story.complaints += u64::from(r.kind == "f");
                }
                None => found.differ(|| {
                    format!("event {} ({} {}) is tied to no message of a campaign", r.event_id, r.kind, r.rcpt)
                }),
            }
            continue;
        }
        let Some(campaign) = campaign_of(&r.job) else { continue };
        let story = stories.entry((campaign, &r.rcpt)).or_default();
        match &*r.kind {
            "d" => {
                story.delivered += 1;
                story.ends.push(r);
            }
            "b" => story.ends.push(r),
            "t" => story.deferred = true,
            _ => continue,
        }
        if r.named {
            story.attempts.insert(&r.attempt);
        }
    }
    for Seen { campaign, line } in books.seen.iter().filter(|s| !s.line.rcpt.is_empty()) {
        let story = stories.entry((*campaign, &line.rcpt)).or_default();
        story.seen_lines += 1;
        story.seen_accepted += u64::from(line.stage == Stage::Data && line.accepted);
        // A recipient that was taken at RCPT has its outcome after the final dot.
        story.seen_outcomes += u64::from(line.stage == Stage::Data || (line.stage == Stage::Rcpt && !line.accepted));
    }
    stories
}

fn judge(
    campaign: u32,
    rcpt: &str,
    story: &Story<'_>,
    behaviour: Behaviour,
    categories: &HashMap<&str, &str>,
    found: &mut Reconciled,
) {
    let who = || format!("campaign {campaign}, {rcpt} ({behaviour:?})");
    found.check(story.submitted == 1, || format!("{}: submitted {} times, not once", who(), story.submitted));
    found.check(story.ends.len() == 1, || {
        let ends: Vec<_> = story.ends.iter().map(|r| format!("{} {}", r.kind, r.event_id)).collect();
        format!("{}: {} terminal records instead of one: {}", who(), ends.len(), ends.join(", "))
    });
    found.check(story.delivered == story.seen_accepted, || {
        format!(
            "{}: {} delivered in the ledger, {} accepted by the provider",
            who(),
            story.delivered,
            story.seen_accepted
        )
    });
    found.check(story.attempts.len() as u64 == story.seen_outcomes, || {
        format!(
            "{}: {} attempts that named it in the ledger, {} at the provider",
            who(),
            story.attempts.len(),
            story.seen_outcomes
        )
    });
    let suppressed = campaign > 1 && behaviour.suppresses();
    if suppressed {
        found.check(story.seen_lines == 0, || {
            format!("{}: attempted {} times although it was dead or complained before", who(), story.seen_lines)
        });
    }
    if behaviour.is_nowhere() {
        found.check(story.seen_lines == 0, || {
            format!("{}: attempted {} times although its domain has no mail host", who(), story.seen_lines)
        });
    }
    let (rb, f) = match behaviour {
        _ if suppressed => (0, 0),
        Behaviour::LaterBounce => (1, 0),
        Behaviour::Complaint => (0, 1),
        _ => (0, 0),
    };
    found.check(story.remote_bounces == rb, || {
        format!("{}: {} remote bounces, {rb} expected", who(), story.remote_bounces)
    });
    found.check(story.complaints == f, || format!("{}: {} complaints, {f} expected", who(), story.complaints));
    let Some(end) = story.ends.first() else { return };
    let category = categories.get(end.event_id.as_str()).copied().unwrap_or("");
    let expected = match behaviour.ending() {
        _ if suppressed => Ending::Bounced(&["suppressed"]),
        // The first mail to the domain suppresses all of it: those behind it in the same campaign, too.
        Ending::Bounced(_) if behaviour == Behaviour::NullMx => Ending::Bounced(&["bad-domain", "suppressed"]),
        ending => ending,
    };
    let agrees = match expected {
        Ending::Delivered => end.kind == "d",
        Ending::Bounced(allowed) => {
            let counted = behaviour.suppresses_from().is_some_and(|from| campaign >= from);
            end.kind == "b" && (allowed.contains(&category) || counted && category == "suppressed")
        }
    };
    found.check(agrees, || {
        format!("{}: ended as {} {category:?} ({}), expected {expected:?}", who(), end.kind, end.diag)
    });
}

/// A suppressed recipient names the event that suppressed it, and that event is about the same address; or about its
/// domain, when that takes no mail at all.
fn suppressed_for_a_reason(ledger: &[Record], found: &mut Reconciled) {
    let by_seq: HashMap<&str, &Record> =
        ledger.iter().filter_map(|r| Some((r.event_id.rsplit_once('-')?.1, r))).collect();
    for r in ledger.iter().filter(|r| r.category == "suppressed") {
        let cause = r.suppressed_by.rsplit('-').next().and_then(|seq| by_seq.get(seq));
        let domain = |rcpt: &str| rcpt.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
        let is_of_domain = |c: &Record| c.status == "5.1.10" && domain(&c.rcpt) == domain(&r.rcpt);
        let agrees =
            cause.is_some_and(|c| (c.rcpt == r.rcpt || is_of_domain(c)) && matches!(&*c.kind, "b" | "rb" | "f" | "t"));
        found.check(agrees, || {
            format!(
                "event {}: {} is suppressed by {:?}, which is no bounce or complaint of it",
                r.event_id, r.rcpt, r.suppressed_by
            )
        });
    }
}

fn totals(books: &Books, stories: &BTreeMap<(u32, &str), Story<'_>>) -> Vec<Totals> {
    let mut all: BTreeMap<u32, Totals> = BTreeMap::new();
    for s in &books.submitted {
        all.entry(s.campaign).or_default().submitted += 1;
    }
    for r in &books.csv {
        let Some(totals) = campaign_of(&r.job).map(|c| all.entry(c).or_default()) else { continue };
        match &*r.kind {
            "d" => totals.delivered += 1,
            "b" if r.category == "suppressed" => totals.suppressed += 1,
            "b" => *totals.bounced.entry(r.category.clone()).or_default() += 1,
            "t" => totals.transient += 1,
            _ => {}
        }
    }
    for ((campaign, _), story) in stories {
        let totals = all.entry(*campaign).or_default();
        totals.remote_bounces += story.remote_bounces;
        totals.complaints += story.complaints;
        totals.deferred_then_delivered += u64::from(story.deferred && story.delivered > 0);
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "ann@mailhost.example";
    const BOB: &str = "bob@mailhost.example";
    const EVE: &str = "eve@mailhost.example";

    fn script(rcpt: &str) -> Behaviour {
        match rcpt {
            BOB => Behaviour::UnknownUser,
            EVE => Behaviour::Complaint,
            _ => Behaviour::Accept,
        }
    }

    fn record(seq: u64, campaign: u32, kind: &str, rcpt: &str) -> Record {
        Record {
            event_id: format!("00000000000000aa-{seq}"),
            kind: kind.into(),
            rcpt: rcpt.into(),
            job: if matches!(kind, "rb" | "f") { String::new() } else { job(campaign) },
            message: format!("{rcpt}{campaign}"),
            attempt: if matches!(kind, "d" | "b" | "t") { "1" } else { "" }.into(),
            named: matches!(kind, "d" | "b" | "t"),
            category: String::new(),
            ..Record::default()
        }
    }

    fn seen(campaign: u32, rcpt: &str, stage: Stage, code: u16) -> Seen {
        let line = Line {
            time: 1,
            provider: "mailhost".into(),
            session: 1,
            stage,
            rcpt: rcpt.into(),
            code,
            reply: code.to_string(),
            message_id: String::new(),
            accepted: code < 400,
        };
        Seen { campaign, line }
    }

    /// Two campaigns to Ann, who takes mail, Bob, who is unknown, and Eve, who complains.
    fn books() -> Books {
        let mut books = Books::default();
        for campaign in 1..=2 {
            for rcpt in [ANN, BOB, EVE] {
                books.submitted.push(Submission { campaign, rcpt: rcpt.into() });
            }
        }
        books.seen = vec![
            seen(1, ANN, Stage::Rcpt, 451),
            seen(1, ANN, Stage::Rcpt, 250),
            seen(1, ANN, Stage::Data, 250),
            seen(1, BOB, Stage::Rcpt, 550),
            seen(1, EVE, Stage::Rcpt, 250),
            seen(1, EVE, Stage::Data, 250),
            seen(2, ANN, Stage::Rcpt, 250),
            seen(2, ANN, Stage::Data, 250),
        ];
        let suppressed = |seq, rcpt, by: u64| Record {
            category: "suppressed".into(),
            attempt: String::new(),
            named: false,
            suppressed_by: by.to_string(),
            ..record(seq, 2, "b", rcpt)
        };
        books.ledger = vec![
            record(1, 1, "t", ANN),
            Record { attempt: "2".into(), ..record(2, 1, "d", ANN) },
            record(3, 1, "b", BOB),
            record(4, 1, "d", EVE),
            record(5, 1, "f", EVE),
            record(6, 2, "d", ANN),
            suppressed(7, BOB, 3),
            suppressed(8, EVE, 5),
        ];
        books.csv = books.ledger.clone();
        books.csv[2].category = "bad-mailbox".into();
        books.parquet = books.csv.clone();
        books
    }

    fn differences(change: impl FnOnce(&mut Books)) -> Vec<String> {
        let mut books = books();
        change(&mut books);
        reconcile(&books, script).differences
    }

    #[test]
    fn books_that_agree_give_totals_and_no_difference() {
        let found = reconcile(&books(), script);
        assert_eq!(found.differences, Vec::<String>::new());
        assert!(found.agrees());
        let [one, two] = &found.campaigns[..] else { panic!("{:?}", found.campaigns) };
        assert_eq!((one.submitted, one.delivered, one.transient, one.complaints), (3, 2, 1, 1));
        assert_eq!((one.deferred_then_delivered, one.bounced["bad-mailbox"]), (1, 1));
        assert_eq!((two.delivered, two.suppressed, two.bounced.len()), (1, 2, 0));
    }

    #[test]
    fn a_record_missing_from_one_book_is_found_in_each_of_them() {
        assert!(differences(|b| drop(b.csv.remove(3)))[0].contains("not in the CSV files"));
        assert!(differences(|b| drop(b.parquet.remove(3)))[0].contains("not in the Parquet files"));
        assert!(differences(|b| drop(b.ledger.remove(0))).iter().any(|d| d.contains("not in the ledger")));
    }

    #[test]
    fn a_record_that_stands_twice_is_found() {
        assert!(differences(|b| b.csv.push(b.csv[0].clone()))[0].contains("CSV files more than once"));
        assert!(differences(|b| b.parquet.push(b.csv[0].clone()))[0].contains("Parquet files more than once"));
    }

    #[test]
    fn a_column_that_differs_is_named() {
        let d = differences(|b| b.parquet[2].category = "spam-related".into());
        assert!(d[0].contains("bounceCat") && d[0].contains("spam-related"), "{d:?}");
        assert!(differences(|b| b.csv[1].diag = "x".into())[0].contains("dsnDiag"));
    }

    #[test]
    fn a_lost_and_a_doubled_terminal_record_are_found() {
        let twice = |b: &mut Books| {
            for book in [&mut b.ledger, &mut b.csv, &mut b.parquet] {
                book.push(Record { attempt: "2".into(), ..record(9, 1, "d", ANN) });
            }
        };
        assert!(differences(twice).iter().any(|d| d.contains("2 terminal records")));
        let lost = |b: &mut Books| {
            for book in [&mut b.ledger, &mut b.csv, &mut b.parquet] {
                book.remove(5);
            }
        };
        let d = differences(lost);
        assert!(d.iter().any(|d| d.contains("0 terminal records")), "{d:?}");
        assert!(d.iter().any(|d| d.contains("0 delivered in the ledger, 1 accepted")), "{d:?}");
    }

    #[test]
    fn mail_the_provider_did_not_see_and_attempts_nobody_recorded_are_found() {
        assert!(differences(|b| drop(b.seen.remove(2))).iter().any(|d| d.contains("0 accepted by the provider")));
        let d = differences(|b| b.seen.push(seen(1, BOB, Stage::Rcpt, 550)));
        assert!(d[0].contains("1 attempts that named it in the ledger, 2 at the provider"), "{d:?}");
    }

    #[test]
    fn an_attempt_for_a_suppressed_address_is_found() {
        let d = differences(|b| b.seen.push(seen(2, EVE, Stage::Rcpt, 250)));
        assert!(d.iter().any(|d| d.contains("dead or complained before")), "{d:?}");
    }

    #[test]
    fn an_outcome_against_the_script_is_found() {
        let d = differences(|b| {
            b.csv[2].category = "other".into();
            b.parquet[2].category = "other".into();
        });
        assert!(d[0].contains("expected Bounced([\"bad-mailbox\"])"), "{d:?}");
    }

    #[test]
    fn a_missing_report_and_a_wrong_cause_are_found() {
        let d = differences(|b| {
            for book in [&mut b.ledger, &mut b.csv, &mut b.parquet] {
                book.remove(4);
            }
        });
        assert!(d.iter().any(|d| d.contains("0 complaints, 1 expected")), "{d:?}");
        assert!(d.iter().any(|d| d.contains("no bounce or complaint of it")), "{d:?}");
    }

    #[test]
    fn only_the_first_differences_are_told_and_all_are_counted() {
        let mut books = books();
        books.csv.clear();
        for i in 0..100 {
            books.ledger.push(record(100 + i, 1, "r", ANN));
        }
        let found = reconcile(&books, script);
        assert_eq!(found.differences.len(), TOLD);
        assert!(found.count > 100 && !found.agrees());
    }
}
