//! `delivery-times`, `message-counts`, `top-domains` and `top-rates`: how much was delivered, and how fast.

use hashbrown::HashMap;

use super::bounces::more;
use super::bounded::{Bounded, Tally};
use super::page::{Datum, Table, kb, percent};
use super::record::Record;
use crate::event::{Kind, Time};

/// `delivery-times`: how long delivered recipients were queued.
#[derive(Debug, Default)]
pub(super) struct DeliveryTimes {
    /// Recipients by whole seconds up to a day, by minutes beyond.
    seconds: HashMap<u64, u64>,
    recipients: u64,
    max: u64,
}

/// Upper edges of the histogram in seconds, and their names.
const EDGES: &[(u64, &str)] = &[
    (5, "5 sec"),
    (30, "30 sec"),
    (60, "60 sec"),
    (120, "2 min"),
    (300, "5 min"),
    (600, "10 min"),
    (1800, "30 min"),
    (3600, "60 min"),
    (7200, "2 hours"),
    (10_800, "3 hours"),
    (14_400, "4 hours"),
    (18_000, "5 hours"),
    (21_600, "6 hours"),
    (28_800, "8 hours"),
    (36_000, "10 hours"),
    (43_200, "12 hours"),
    (u64::MAX, "later"),
];

/// The slices of the fastest recipients.
const SLICES: &[u64] = &[50, 60, 70, 80, 90, 95, 96, 97, 98, 99, 100];

impl DeliveryTimes {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        if record.kind != Kind::Delivered {
            return;
        }
        let Some(seconds) = record.seconds_queued() else { return };
        let kept = if seconds <= 86_400 { seconds } else { seconds.min(366 * 86_400) / 60 * 60 };
        *self.seconds.entry(kept).or_default() += record.recipients;
        self.recipients += record.recipients;
        self.max = self.max.max(seconds);
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut sorted: Vec<(u64, u64)> = self.seconds.iter().map(|(s, n)| (*s, *n)).collect();
        sorted.sort_unstable();
        let mut fastest = Table::new("fastest", "Fastest Deliveries", &["fastest", "recipients", "avg", "max"]);
        for slice in SLICES {
            let name = Datum::Text(format!("{slice} %"));
            // At least one, when there is any.
            let wanted = (self.recipients * slice).div_ceil(100);
            if wanted == 0 {
                fastest.rows.push(vec![name, Datum::Count(0), Datum::NotAvailable, Datum::NotAvailable]);
                continue;
            }
            let (mut left, mut sum, mut slowest) = (wanted, 0u128, 0);
            for (seconds, recipients) in &sorted {
                let take = left.min(*recipients);
                sum += u128::from(take) * u128::from(*seconds);
                slowest = *seconds;
                left -= take;
                if left == 0 {
                    break;
                }
            }
            let max = if *slice == 100 { self.max } else { slowest };
            fastest.rows.push(vec![
                name,
                Datum::Count(wanted),
                Datum::Seconds(sum as f64 / wanted as f64),
                Datum::Seconds(max as f64),
            ]);
        }
        let mut histogram = Table::new("histogram", "Delivery Time Histogram", &["within", "recipients", "%"]).bars(2);
        let mut cumulative =
            Table::new("cumulative", "Cumulative Delivery Time Histogram", &["within", "recipients", "%"]).bars(2);
        let (mut at, mut so_far) = (0, 0);
        for (edge, name) in EDGES {
            let mut here = 0;
            while let Some((seconds, recipients)) = sorted.get(at).filter(|(s, _)| s <= edge) {
                let _ = seconds;
                here += recipients;
                at += 1;
            }
            so_far += here;
            for (table, count) in [(&mut histogram, here), (&mut cumulative, so_far)] {
                table.rows.push(vec![(*name).into(), Datum::Count(count), percent(count, self.recipients)]);
            }
        }
        vec![fastest, histogram, cumulative]
    }
}

/// `message-counts`.
#[derive(Debug, Default)]
pub(super) struct MessageCounts {
    deliveries: (u64, u64),
    bounces: (u64, u64),
    /// Smallest, largest, and how many records had a size.
    sizes: Option<(u64, u64, u64)>,
    /// Of those with a size.
    bytes: u64,
}

impl MessageCounts {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let of = match record.kind {
            Kind::Delivered => &mut self.deliveries,
            Kind::Bounced => &mut self.bounces,
            _ => return,
        };
        of.0 += record.recipients;
        of.1 += record.size;
        if record.size > 0 {
            let (min, max, n) = self.sizes.unwrap_or((u64::MAX, 0, 0));
            self.sizes = Some((min.min(record.size), max.max(record.size), n + 1));
            self.bytes += record.size;
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut counts = Table::new("counts", "Message Counts", &["", "recipients", "%", "kb"]);
        let all = (self.deliveries.0 + self.bounces.0, self.deliveries.1 + self.bounces.1);
        for (name, (recipients, bytes)) in [("deliveries", self.deliveries), ("bounces", self.bounces), ("total", all)]
        {
            counts.rows.push(vec![name.into(), Datum::Count(recipients), percent(recipients, all.0), kb(bytes)]);
        }
        let mut sizes = Table::new("sizes", "Message Sizes", &["", "kb"]);
        let known =
            self.sizes.map(|(min, max, n)| (kb(min), Datum::Kb(self.bytes as f64 / n as f64 / 1024.0), kb(max)));
        let (min, avg, max) = known.unwrap_or((Datum::NotAvailable, Datum::NotAvailable, Datum::NotAvailable));
        for (name, value) in [("min", min), ("avg", avg), ("max", max)] {
            sizes.rows.push(vec![name.into(), value]);
        }
        vec![counts, sizes]
    }
}

/// `top-domains`.
#[derive(Debug)]
pub(super) struct TopDomains {
    top: usize,
    times: bool,
    domains: Bounded<Domain>,
    recipients: u64,
}

#[derive(Debug, Default)]
struct Domain {
    recipients: u64,
    bounced: u64,
    timed: u64,
    seconds: u64,
    max: u64,
}

impl Tally for Domain {
    fn weight(&self) -> u64 {
        self.recipients
    }
    fn absorb(&mut self, other: &Domain) {
        self.recipients += other.recipients;
        self.bounced += other.bounced;
        self.timed += other.timed;
        self.seconds += other.seconds;
        self.max = self.max.max(other.max);
    }
}

impl Domain {
    fn average(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.seconds as f64 / self.timed as f64)
    }
}

impl TopDomains {
    /// `times`: with delivery times.
    pub(super) fn new(top: usize, times: bool, names: usize) -> TopDomains {
        TopDomains { top, times, domains: Bounded::new(names), recipients: 0 }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        self.recipients += record.recipients;
        let domain = self.domains.at(&record.domain_key());
        domain.recipients += record.recipients;
        if record.kind == Kind::Bounced {
            domain.bounced += record.recipients;
        } else if let Some(seconds) = record.seconds_queued() {
            domain.timed += record.recipients;
            domain.seconds += seconds * record.recipients;
            domain.max = domain.max.max(seconds);
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let by_recipients = self.domains.sorted(|d| d.recipients);
        let mut by_bounces = self.domains.sorted(|d| (d.bounced, d.recipients));
        by_bounces.retain(|(_, d)| d.bounced > 0);
        let mut tables = vec![
            self.table("mostRecipients", "Domains with the Most Recipients", &by_recipients),
            self.table("mostBounces", "Domains with the Most Bounces", &by_bounces),
        ];
        if self.times {
            let mut slowest = by_recipients;
            slowest.retain(|(_, d)| d.timed > 0);
            // Stable: among equals those with more recipients stay first.
            slowest.sort_by(|a, b| b.1.average().unwrap_or(0.0).total_cmp(&a.1.average().unwrap_or(0.0)));
            tables.push(self.table("slowest", "Domains with the Slowest Average Delivery", &slowest));
        }
        tables
    }

    fn table(&self, key: &'static str, title: &str, domains: &[(&str, &Domain)]) -> Table {
        let columns: &[&str] = if self.times {
            &["domain", "recipients", "bounced", "avg", "max", "%rcpt"]
        } else {
            &["domain", "recipients", "bounced", "%rcpt"]
        };
        let mut table = Table::new(key, title, columns).bars(columns.len() - 1);
        for (name, d) in domains.iter().take(self.top) {
            let mut row = vec![(*name).into(), Datum::Count(d.recipients), Datum::Count(d.bounced)];
            if self.times {
                row.push(d.average().map_or(Datum::NotAvailable, Datum::Seconds));
                row.push(if d.timed > 0 { Datum::Seconds(d.max as f64) } else { Datum::NotAvailable });
            }
            row.push(percent(d.recipients, self.recipients));
            table.rows.push(row);
        }
        table.notes.extend(more(domains.len(), self.top, "domains"));
        table.notes.extend(self.domains.note("domains"));
        table
    }
}

/// `top-rates`: over minutes, since files need not be in order.
#[derive(Debug, Default)]
pub(super) struct TopRates {
    /// Recipients and bytes by minute since 1970.
    minutes: HashMap<i64, (u64, u64)>,
    /// Of records beyond [`MOST_MINUTES`].
    left_out: u64,
}

/// Minutes with records that are kept: ten years without a pause.
const MOST_MINUTES: usize = 5_300_000;

impl TopRates {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let Some(logged) = record.logged else { return };
        let minute = logged.secs().div_euclid(60);
        if self.minutes.len() >= MOST_MINUTES && !self.minutes.contains_key(&minute) {
            self.left_out += record.recipients;
            return;
        }
        let (recipients, bytes) = self.minutes.entry(minute).or_default();
        *recipients += record.recipients;
        *bytes += record.size;
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut sorted: Vec<_> = self.minutes.iter().map(|(m, r)| (*m, *r)).collect();
        sorted.sort_unstable();
        let mut recipients = Table::new("recipients", "Peak Recipients", &["over", "recipients", "from"]);
        let mut kbytes = Table::new("kbytes", "Peak Kbytes", &["over", "kb", "from"]);
        for (name, length) in [("1 min", 1), ("5 min", 5), ("1 hour", 60)] {
            let (r, b) = (peak(&sorted, length, |r| r.0), peak(&sorted, length, |r| r.1));
            let from =
                |minute: Option<i64>| minute.map_or(Datum::NotAvailable, |m| Datum::Time(Time::from_secs(m * 60)));
            recipients.rows.push(vec![name.into(), Datum::Count(r.1), from(r.0)]);
            kbytes.rows.push(vec![name.into(), kb(b.1), from(b.0)]);
        }
        recipients.notes.push("delivered and bounced; spans begin at whole minutes".to_owned());
        if self.left_out > 0 {
            recipients.notes.push(format!("{} recipients beyond {MOST_MINUTES} minutes left out", self.left_out));
        }
        vec![recipients, kbytes]
    }
}

/// The largest sum over `length` minutes and the first such span that begins with a record.
fn peak(sorted: &[(i64, (u64, u64))], length: i64, of: impl Fn((u64, u64)) -> u64) -> (Option<i64>, u64) {
    let (mut best, mut sum, mut end) = ((None, 0), 0, 0);
    for (start, (minute, rates)) in sorted.iter().enumerate() {
        while let Some((_, more)) = sorted.get(end).filter(|(m, _)| *m < minute + length) {
            sum += of(*more);
            end += 1;
        }
        if sum > best.1 {
            best = (Some(sorted[start].0), sum);
        }
        sum -= of(*rates);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_found_across_minutes_without_records() {
        let minutes = [(10, (5, 1)), (11, (1, 9)), (14, (4, 1)), (15, (3, 1)), (100, (7, 0))];
        assert_eq!(peak(&minutes, 1, |r| r.0), (Some(100), 7));
        assert_eq!(peak(&minutes, 5, |r| r.0), (Some(10), 10));
        assert_eq!(peak(&minutes, 60, |r| r.0), (Some(10), 13));
        assert_eq!(peak(&minutes, 1, |r| r.1), (Some(11), 9));
        assert_eq!(peak(&[], 5, |r| r.0), (None, 0));
    }
}
