//! `vmta-summary`, `vmta-time-breakdown`, `vmta-top-bounce`: what each VirtualMTA and address did.

use jiff::tz::TimeZone;

use super::bounces::more;
use super::bounded::{Bounded, Tally};
use super::page::{Datum, Table, percent};
use super::record::{Record, or_none};
use crate::event::{Kind, Time};

#[derive(Debug, Default)]
struct Outcome {
    delivered: u64,
    bounced: u64,
}

impl Outcome {
    const fn all(&self) -> u64 {
        self.delivered + self.bounced
    }

    fn add(&mut self, record: &Record<'_>) {
        if record.kind == Kind::Bounced {
            self.bounced += record.recipients;
        } else {
            self.delivered += record.recipients;
        }
    }

    fn cells(&self) -> [Datum; 4] {
        let count = Datum::Count;
        [count(self.all()), count(self.delivered), count(self.bounced), percent(self.bounced, self.all())]
    }
}

impl Tally for Outcome {
    fn weight(&self) -> u64 {
        self.all()
    }
    fn absorb(&mut self, other: &Outcome) {
        self.delivered += other.delivered;
        self.bounced += other.bounced;
    }
}

/// Local dates and hours, remembered, since the hours of a stretch of mail repeat.
#[derive(Debug)]
pub(super) struct Hours {
    zone: TimeZone,
    last: (i64, String),
}

impl Hours {
    pub(super) const fn new(zone: TimeZone) -> Hours {
        Hours { zone, last: (i64::MIN, String::new()) }
    }

    /// `YYYY-MM-DD HH` of a time; empty when there is none.
    pub(super) fn of(&mut self, time: Option<Time>) -> &str {
        let Some(time) = time else { return "" };
        // No zone changes its offset within a quarter of an hour.
        let quarter = time.secs().div_euclid(900);
        if self.last.0 != quarter {
            let text = time.timestamp().map(|t| t.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H").to_string());
            self.last = (quarter, text.unwrap_or_default());
        }
        &self.last.1
    }
}

/// The part of `hour` (`YYYY-MM-DD HH`) that is the date.
fn date(hour: &str) -> &str {
    hour.get(..10).unwrap_or("(no time)")
}

const COLUMNS: [&str; 4] = ["recipients", "delivered", "bounced", "bounced%"];

/// `vmta-summary`.
#[derive(Debug)]
pub(super) struct Summary {
    by_date: bool,
    /// Date (perhaps), VirtualMTA, address, with tabs between.
    rows: Bounded<Outcome>,
    total: Outcome,
    scratch: String,
}

impl Summary {
    pub(super) fn new(by_date: bool, names: usize) -> Summary {
        Summary { by_date, rows: Bounded::new(names), total: Outcome::default(), scratch: String::new() }
    }

    pub(super) fn add(&mut self, record: &Record<'_>, hour: &str) {
        let date = if self.by_date { date(hour) } else { "" };
        key(&mut self.scratch, &[date, or_none(record.vmta), or_none(record.source_ip)]);
        self.rows.at(&self.scratch).add(record);
        self.total.add(record);
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut columns = vec!["vmta", "ip"];
        if self.by_date {
            columns.insert(0, "date");
        }
        columns.extend(COLUMNS);
        let mut table = Table::new("vmtas", "VirtualMTA Summary", &columns).bars(columns.len() - 1);
        let skip = usize::from(!self.by_date);
        for (name, outcome) in by_name(&self.rows) {
            let mut row: Vec<Datum> = name.split('\t').skip(skip).map(Datum::from).collect();
            row.extend(outcome.cells());
            table.rows.push(row);
        }
        let mut total: Vec<Datum> = vec!["total".into()];
        total.resize(columns.len() - COLUMNS.len(), "".into());
        total.extend(self.total.cells());
        table.rows.push(total);
        table.notes.extend(self.rows.note("VirtualMTAs"));
        vec![table]
    }
}

/// `vmta-time-breakdown`.
#[derive(Debug)]
pub(super) struct Breakdown {
    hourly: bool,
    /// VirtualMTA, address, hour, with tabs between.
    rows: Bounded<Outcome>,
    scratch: String,
}

impl Breakdown {
    pub(super) fn new(hourly: bool, names: usize) -> Breakdown {
        Breakdown { hourly, rows: Bounded::new(names), scratch: String::new() }
    }

    pub(super) fn add(&mut self, record: &Record<'_>, hour: &str) {
        let time = if self.hourly { hour } else { date(hour) };
        key(&mut self.scratch, &[or_none(record.vmta), or_none(record.source_ip), time]);
        self.rows.at(&self.scratch).add(record);
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        // By VirtualMTA and address, then by day, then by hour.
        let mut days: Vec<(String, &str, Outcome)> = Vec::new();
        let rows = by_name(&self.rows);
        for (name, outcome) in &rows {
            let (source, hour) = name.rsplit_once('\t').unwrap_or((name, ""));
            match days.last_mut() {
                Some((s, d, sum)) if s == source && *d == date(hour) => sum.absorb(outcome),
                _ => {
                    let mut sum = Outcome::default();
                    sum.absorb(outcome);
                    days.push((source.to_owned(), date(hour), sum));
                }
            }
        }
        let title = |source: &str| source.replace('\t', " ");
        let columns = |time: &'static str| [&[time][..], &COLUMNS].concat();
        for (source, day, outcome) in &days {
            let title = format!("{}: Daily", title(source));
            if tables.last().is_none_or(|t| t.title != title) {
                tables.push(Table::new("daily", title, &columns("date")).bars(1));
            }
            push(tables.last_mut(), day, outcome);
        }
        if self.hourly {
            for (name, outcome) in &rows {
                let (source, hour) = name.rsplit_once('\t').unwrap_or((name, ""));
                let title = format!("{}: Hourly", title(source));
                if tables.last().is_none_or(|t| t.title != title) {
                    tables.push(Table::new("hourly", title, &columns("hour")).bars(1));
                }
                let hour = if hour.is_empty() { "(no time)".to_owned() } else { format!("{hour}:00") };
                push(tables.last_mut(), &hour, outcome);
            }
        }
        if let (Some(note), Some(first)) = (self.rows.note("hours of VirtualMTAs"), tables.first_mut()) {
            first.notes.push(note);
        }
        tables
    }
}

fn push(table: Option<&mut Table>, time: &str, outcome: &Outcome) {
    if let Some(table) = table {
        let mut row = vec![time.into()];
        row.extend(outcome.cells());
        table.rows.push(row);
    }
}

/// `vmta-top-bounce`.
#[derive(Debug)]
pub(super) struct TopBounced {
    top: usize,
    by_date: bool,
    /// VirtualMTA, address, date (perhaps), domain, with tabs between.
    rows: Bounded<Outcome>,
    scratch: String,
}

impl TopBounced {
    pub(super) fn new(top: usize, by_date: bool, names: usize) -> TopBounced {
        TopBounced { top, by_date, rows: Bounded::new(names), scratch: String::new() }
    }

    pub(super) fn add(&mut self, record: &Record<'_>, hour: &str) {
        let date = if self.by_date { date(hour) } else { "" };
        key(&mut self.scratch, &[or_none(record.vmta), or_none(record.source_ip), date, &record.domain_key()]);
        self.rows.at(&self.scratch).add(record);
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut sources: Vec<(&str, Vec<(&str, &Outcome)>)> = Vec::new();
        for (name, outcome) in by_name(&self.rows) {
            if outcome.bounced == 0 {
                continue;
            }
            let (source, domain) = name.rsplit_once('\t').unwrap_or((name, ""));
            match sources.last_mut() {
                Some((s, domains)) if *s == source => domains.push((domain, outcome)),
                _ => sources.push((source, vec![(domain, outcome)])),
            }
        }
        let mut tables = Vec::new();
        for (source, mut domains) in sources {
            domains.sort_by(|a, b| b.1.bounced.cmp(&a.1.bounced).then(b.1.all().cmp(&a.1.all())).then(a.0.cmp(b.0)));
            let title = format!("{}: Domains by Bounces", source.trim_end().replace('\t', " "));
            let mut table =
                Table::new("domains", title, &["domain", "recipients", "delivered", "bounced", "bounced%"]).bars(3);
            for (domain, outcome) in domains.iter().take(self.top) {
                push(Some(&mut table), domain, outcome);
            }
            table.notes.extend(more(domains.len(), self.top, "domains"));
            tables.push(table);
        }
        if let (Some(note), Some(first)) = (self.rows.note("domains of VirtualMTAs"), tables.first_mut()) {
            first.notes.push(note);
        }
        tables
    }
}

/// The parts with tabs between; a tab in a part would move what follows.
fn key(out: &mut String, parts: &[&str]) {
    out.clear();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('\t');
        }
        if part.contains('\t') {
            out.push_str(&part.replace('\t', " "));
        } else {
            out.push_str(part);
        }
    }
}

fn by_name(rows: &Bounded<Outcome>) -> Vec<(&str, &Outcome)> {
    rows.sorted(|_| ())
}
