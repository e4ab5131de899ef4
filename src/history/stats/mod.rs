//! Statistics over accounting files, as pmtastats gives them (reference/accounting.md, section 9).
//!
//! [`Request`] says what is wanted, [`Statistics`] counts rows one by one, [`Statistics::page`] says what came out; how it
//! is shown is for [`text`](mod@text), [`html`] and [`json`]. Memory is bounded: per group and statistic at most
//! [`Request::names_kept`] different names (domains, reasons, ...) are told apart, of which the frequent stay; delivery
//! times are counted by seconds up to a day and minutes beyond. Where a bound was met the page says so.

mod beyond;
mod bounces;
mod bounded;
mod delivery;
pub mod html;
pub mod json;
pub mod page;
mod reason;
mod record;
pub mod text;
mod vmta;

use hashbrown::HashMap;
use jiff::tz::TimeZone;

pub use beyond::Beyond;
pub use bounces::{CategoryOptions, Detail};
pub use page::Page;
pub use reason::{Known, generalise};

use self::page::{Datum, Group, Section, Table};
use self::record::Record;
use super::{Row, Scan, names};
use crate::event::{Kind, Time};

/// One statistic with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statistic {
    /// `bounce-categories`.
    BounceCategories(CategoryOptions),
    /// `delivery-times`.
    DeliveryTimes,
    /// `message-counts`.
    MessageCounts,
    /// `top-bounce`: so many domains, so many reasons of each.
    TopBounce(usize, usize),
    /// `top-domains`: so many; with delivery times.
    TopDomains(usize, bool),
    /// `top-rates`.
    TopRates,
    /// `vmta-summary`: by date.
    VmtaSummary(bool),
    /// `vmta-time-breakdown`: hourly.
    VmtaTimeBreakdown(bool),
    /// `vmta-top-bounce`: so many domains; by date.
    VmtaTopBounce(usize, bool),
    /// Those that pmtastats does not have: so many rows.
    Beyond(Beyond, usize),
}

impl Statistic {
    /// Every one with its default options, in the order in which `--all` shows them.
    pub fn all() -> Vec<Statistic> {
        let mut all = Statistic::acctstats();
        all.extend([
            Statistic::VmtaSummary(false),
            Statistic::VmtaTimeBreakdown(true),
            Statistic::VmtaTopBounce(20, false),
            Statistic::Beyond(Beyond::Deferrals, 10),
            Statistic::Beyond(Beyond::Remote, 10),
            Statistic::Beyond(Beyond::Complaints, 10),
        ]);
        all
    }

    /// The set of `--acctstats`, and of a run that names none.
    pub fn acctstats() -> Vec<Statistic> {
        vec![
            Statistic::MessageCounts,
            Statistic::DeliveryTimes,
            Statistic::TopDomains(10, true),
            Statistic::TopRates,
            Statistic::TopBounce(10, 10),
            Statistic::BounceCategories(CategoryOptions::default()),
        ]
    }

    /// The statistic of this name, with its default options.
    pub fn by_name(name: &str) -> Option<Statistic> {
        Statistic::all().into_iter().find(|s| s.name().eq_ignore_ascii_case(name))
    }

    /// Its name on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Statistic::BounceCategories(_) => "bounce-categories",
            Statistic::DeliveryTimes => "delivery-times",
            Statistic::MessageCounts => "message-counts",
            Statistic::TopBounce(..) => "top-bounce",
            Statistic::TopDomains(..) => "top-domains",
            Statistic::TopRates => "top-rates",
            Statistic::VmtaSummary(_) => "vmta-summary",
            Statistic::VmtaTimeBreakdown(_) => "vmta-time-breakdown",
            Statistic::VmtaTopBounce(..) => "vmta-top-bounce",
            Statistic::Beyond(Beyond::Remote, _) => "remote",
            Statistic::Beyond(Beyond::Complaints, _) => "complaints",
            Statistic::Beyond(Beyond::Deferrals, _) => "deferrals",
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// The statistics, in the order they are shown.
    pub statistics: Vec<Statistic>,
    /// Column and beginning: only records whose value starts with it, whatever the case. `toDomain` stands for the
    /// recipient's domain.
    pub filters: Vec<(String, String)>,
    /// The column to split by.
    pub split: Option<String>,
    /// Most groups; records of further ones are left out, and counted.
    pub split_limit: usize,
    /// The zone of dates and hours.
    pub zone: TimeZone,
}

impl Request {
    /// Different names that each statistic of each group tells apart: 200,000 when nothing is split, else a million
    /// shared by as many groups as there may be, 200 at least.
    pub fn names_kept(&self) -> usize {
        if self.split.is_none() { 200_000 } else { (1_000_000 / self.split_limit.max(1)).clamp(200, 200_000) }
    }

    fn more_columns(&self) -> Vec<String> {
        let filters = self.filters.iter().map(|(column, _)| column.clone()).filter(|c| !is_domain(c));
        filters.chain(self.split.clone()).collect()
    }

    /// The scan whose rows [`Statistics::add`] takes.
    pub fn scan(&self) -> Scan {
        record::scan(&self.more_columns())
    }
}

fn is_domain(column: &str) -> bool {
    column.eq_ignore_ascii_case("toDomain")
}

/// Counts rows.
#[derive(Debug)]
pub struct Statistics {
    request: Request,
    /// Filter by column (`None` is the domain) and beginning in lower case.
    filters: Vec<(Option<usize>, String)>,
    split: Option<usize>,
    groups: HashMap<String, Counters>,
    /// Over everything, for what pmtastats never splits.
    rates: Option<delivery::TopRates>,
    hours: vmta::Hours,
    beyond_limit: u64,
    other_types: u64,
}

impl Statistics {
    /// Nothing counted yet.
    pub fn new(request: Request) -> Statistics {
        let mut next = record::MORE;
        let mut filters = Vec::new();
        for (column, beginning) in &request.filters {
            let at = (!is_domain(column)).then(|| {
                next += 1;
                next - 1
            });
            filters.push((at, beginning.to_lowercase()));
        }
        let split = request.split.as_ref().map(|_| next);
        let rates = request.statistics.contains(&Statistic::TopRates).then(delivery::TopRates::default);
        let hours = vmta::Hours::new(request.zone.clone());
        Statistics { request, filters, split, groups: HashMap::new(), rates, hours, beyond_limit: 0, other_types: 0 }
    }

    /// Counts a row of [`Request::scan`].
    pub fn add(&mut self, row: &Row<'_>) {
        let Some(record) = Record::of(row) else {
            self.other_types += 1;
            return;
        };
        for (at, beginning) in &self.filters {
            let value = at.map_or(record.domain, |at| row.str(at));
            if !starts_with(value, beginning) {
                return;
            }
        }
        let is_outcome = record.kind.is_terminal();
        // What else there is counts only for Carom's own statistics.
        if !is_outcome && !matches!(record.kind, Kind::Transient | Kind::RemoteBounce | Kind::Feedback) {
            return;
        }
        let name = self.split.map_or("", |at| row.str(at));
        if !self.groups.contains_key(name) && self.groups.len() >= self.request.split_limit.max(1) {
            self.beyond_limit += 1;
            return;
        }
        if let (Some(rates), true) = (&mut self.rates, is_outcome) {
            rates.add(&record);
        }
        let request = &self.request;
        let counters = self.groups.entry_ref(name).or_insert_with(|| Counters::new(request));
        counters.add(&record, &mut self.hours);
    }

    /// What came out.
    pub fn page(&self) -> Page {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|a, b| b.1.recipients.cmp(&a.1.recipients).then_with(|| a.0.cmp(b.0)));
        let split_by = self.request.split.as_ref().map(|s| names::canonical(s));
        let empty = Counters::new(&self.request);
        let mut groups: Vec<Group> = groups
            .into_iter()
            .map(|(name, counters)| counters.group(split_by.is_some().then(|| record::or_none(name).to_owned())))
            .collect();
        if groups.is_empty() {
            groups.push(empty.group(None));
        }
        let mut notes = Vec::new();
        if self.beyond_limit > 0 {
            notes.push(format!(
                "more than {} values to split by: {} records of further ones left out (--splitLimit)",
                self.request.split_limit, self.beyond_limit
            ));
        }
        if self.other_types > 0 {
            notes.push(format!("{} records of unknown type left out", self.other_types));
        }
        Page {
            selection: self.request.filters.clone(),
            split_by,
            groups,
            global: self.rates.iter().map(|r| Section { name: "top-rates", tables: r.tables() }).collect(),
            notes,
        }
    }
}

/// Whether `value` begins with `beginning`, which is in lower case.
fn starts_with(value: &str, beginning: &str) -> bool {
    match value.get(..beginning.len()) {
        Some(start) if start.is_ascii() => start.eq_ignore_ascii_case(beginning),
        _ => value.to_lowercase().starts_with(beginning),
    }
}

/// The counters of one group.
#[derive(Debug)]
struct Counters {
    frame: Frame,
    recipients: u64,
    statistics: Vec<Counter>,
    needs_hours: bool,
}

#[derive(Debug, Default)]
struct Frame {
    queued: Option<(Time, Time)>,
    logged: Option<(Time, Time)>,
}

#[derive(Debug)]
enum Counter {
    Categories(bounces::Categories),
    Times(delivery::DeliveryTimes),
    Counts(delivery::MessageCounts),
    TopBounce(bounces::TopBounce),
    TopDomains(delivery::TopDomains),
    Summary(vmta::Summary),
    Breakdown(vmta::Breakdown),
    TopBounced(vmta::TopBounced),
    Beyond(beyond::Counts),
}

impl Counters {
    fn new(request: &Request) -> Counters {
        let names = request.names_kept();
        let counter = |statistic: &Statistic| {
            Some(match statistic {
                Statistic::BounceCategories(o) => Counter::Categories(bounces::Categories::new(o.clone(), names)),
                Statistic::DeliveryTimes => Counter::Times(delivery::DeliveryTimes::default()),
                Statistic::MessageCounts => Counter::Counts(delivery::MessageCounts::default()),
                Statistic::TopBounce(domains, codes) => {
                    Counter::TopBounce(bounces::TopBounce::new((*domains, *codes), names))
                }
                Statistic::TopDomains(top, times) => {
                    Counter::TopDomains(delivery::TopDomains::new(*top, *times, names))
                }
                Statistic::TopRates => return None,
                Statistic::VmtaSummary(by_date) => Counter::Summary(vmta::Summary::new(*by_date, names)),
                Statistic::VmtaTimeBreakdown(hourly) => Counter::Breakdown(vmta::Breakdown::new(*hourly, names)),
                Statistic::VmtaTopBounce(top, by_date) => {
                    Counter::TopBounced(vmta::TopBounced::new(*top, *by_date, names))
                }
                Statistic::Beyond(what, top) => Counter::Beyond(beyond::Counts::new(*what, *top, names)),
            })
        };
        let statistics: Vec<_> = request.statistics.iter().filter_map(counter).collect();
        let needs_hours = statistics
            .iter()
            .any(|s| matches!(s, Counter::Summary(_) | Counter::Breakdown(_) | Counter::TopBounced(_)));
        Counters { frame: Frame::default(), recipients: 0, statistics, needs_hours }
    }

    fn add(&mut self, record: &Record<'_>, hours: &mut vmta::Hours) {
        let is_outcome = record.kind.is_terminal();
        if is_outcome {
            widen(&mut self.frame.queued, record.queued);
            widen(&mut self.frame.logged, record.logged);
            self.recipients += record.recipients;
        }
        let hour = if self.needs_hours && is_outcome { hours.of(record.logged) } else { "" };
        for counter in &mut self.statistics {
            match counter {
                Counter::Beyond(c) => c.add(record),
                _ if !is_outcome => {}
                Counter::Categories(c) => c.add(record),
                Counter::Times(c) => c.add(record),
                Counter::Counts(c) => c.add(record),
                Counter::TopBounce(c) => c.add(record),
                Counter::TopDomains(c) => c.add(record),
                Counter::Summary(c) => c.add(record, hour),
                Counter::Breakdown(c) => c.add(record, hour),
                Counter::TopBounced(c) => c.add(record, hour),
            }
        }
    }

    fn group(&self, name: Option<String>) -> Group {
        let mut frame = Table::new("timeFrame", "Time Frame", &["", "first", "last"]);
        for (what, span) in [("received", self.frame.queued), ("delivered/bounced", self.frame.logged)] {
            let (first, last) =
                span.map_or((Datum::NotAvailable, Datum::NotAvailable), |(a, b)| (Datum::Time(a), Datum::Time(b)));
            frame.rows.push(vec![what.into(), first, last]);
        }
        let sections = self.statistics.iter().map(Counter::section).collect();
        Group { name, frame, sections }
    }
}

fn widen(span: &mut Option<(Time, Time)>, time: Option<Time>) {
    let Some(time) = time else { return };
    let (first, last) = span.get_or_insert((time, time));
    *first = time.min(*first);
    *last = time.max(*last);
}

impl Counter {
    fn section(&self) -> Section {
        let (name, tables) = match self {
            Counter::Categories(c) => ("bounce-categories", c.tables()),
            Counter::Times(c) => ("delivery-times", c.tables()),
            Counter::Counts(c) => ("message-counts", c.tables()),
            Counter::TopBounce(c) => ("top-bounce", c.tables()),
            Counter::TopDomains(c) => ("top-domains", c.tables()),
            Counter::Summary(c) => ("vmta-summary", c.tables()),
            Counter::Breakdown(c) => ("vmta-time-breakdown", c.tables()),
            Counter::TopBounced(c) => ("vmta-top-bounce", c.tables()),
            Counter::Beyond(c) => (c.name(), c.tables()),
        };
        Section { name, tables }
    }
}
