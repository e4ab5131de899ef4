//! `bounce-categories` and `top-bounce`: what bounced, where, and what was said.

use super::bounded::{Bounded, Tally};
use super::page::{Datum, Table, percent};
use super::reason::{Known, generalise};
use super::record::{Class, Record, or_none};
use crate::event::Kind;

/// Bounces by class.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Bounces {
    pub all: u64,
    pub permanent: u64,
    pub temporary: u64,
}

impl Bounces {
    fn add(&mut self, record: &Record<'_>) {
        self.all += record.recipients;
        match record.class() {
            Class::Permanent => self.permanent += record.recipients,
            Class::Temporary => self.temporary += record.recipients,
            Class::Unknown => {}
        }
    }
}

impl Tally for Bounces {
    fn weight(&self) -> u64 {
        self.all
    }
    fn absorb(&mut self, other: &Bounces) {
        self.all += other.all;
        self.permanent += other.permanent;
        self.temporary += other.temporary;
    }
}

/// Which categories are shown in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// So many with the most bounces.
    Top(usize),
    /// This one.
    Named(String),
    /// Every one.
    All,
}

/// Options of `bounce-categories`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryOptions {
    /// Categories listed.
    pub top: usize,
    /// Categories in detail.
    pub detail: Detail,
    /// Rows by status code, by domain, by both.
    pub by: (usize, usize, usize),
}

impl Default for CategoryOptions {
    fn default() -> CategoryOptions {
        CategoryOptions { top: 10, detail: Detail::Named("spam-related".to_owned()), by: (10, 10, 10) }
    }
}

/// `bounce-categories`.
#[derive(Debug)]
pub(super) struct Categories {
    options: CategoryOptions,
    total: Bounces,
    categories: Bounded<Bounces>,
    /// Category, status code, domain, with a tab between.
    details: Bounded<u64>,
    scratch: String,
}

/// Categories that are told apart; operators have some dozens.
const MOST_CATEGORIES: usize = 1000;

impl Categories {
    pub(super) fn new(options: CategoryOptions, names: usize) -> Categories {
        Categories {
            options,
            total: Bounces::default(),
            categories: Bounded::new(MOST_CATEGORIES.min(names)),
            details: Bounded::new(names),
            scratch: String::new(),
        }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        if record.kind != Kind::Bounced {
            return;
        }
        self.total.add(record);
        let category = or_none(record.category);
        self.categories.at(category).add(record);
        if matches!(&self.options.detail, Detail::Named(name) if !name.eq_ignore_ascii_case(category)) {
            return;
        }
        self.scratch.clear();
        for part in [category, "\t", record.code(), "\t", &record.domain_key()] {
            self.scratch.push_str(part);
        }
        *self.details.at(&self.scratch) += record.recipients;
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables = vec![totals(self.total)];
        let sorted = self.categories.sorted(|b| b.all);
        let mut list =
            Table::new("categories", "Bounce Categories", &["category", "bounced", "%", "5.X.X", "4.X.X"]).bars(2);
        for (name, b) in sorted.iter().take(self.options.top) {
            list.rows.push(vec![
                (*name).into(),
                Datum::Count(b.all),
                percent(b.all, self.total.all),
                Datum::Count(b.permanent),
                Datum::Count(b.temporary),
            ]);
        }
        list.notes.extend(self.categories.note("categories"));
        list.notes.extend(more(sorted.len(), self.options.top, "categories"));
        tables.push(list);
        for (name, b) in &sorted {
            let shown = match &self.options.detail {
                Detail::All => true,
                Detail::Named(wanted) => wanted.eq_ignore_ascii_case(name),
                Detail::Top(n) => sorted.iter().take(*n).any(|(top, _)| top == name),
            };
            if shown {
                self.detail(name, b.all, &mut tables);
            }
        }
        tables
    }

    fn detail(&self, category: &str, all: u64, tables: &mut Vec<Table>) {
        let (mut codes, mut domains) = (Bounded::<u64>::new(usize::MAX), Bounded::<u64>::new(usize::MAX));
        let mut both = Vec::new();
        for (name, count) in self.details.sorted(|c| *c) {
            let mut parts = name.splitn(3, '\t');
            if parts.next() != Some(category) {
                continue;
            }
            let (code, domain) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            *codes.at(code) += count;
            *domains.at(domain) += count;
            both.push((code, domain, *count));
        }
        let (by_code, by_domain, by_both) = self.options.by;
        for (key, title, column, counts, limit) in
            [("byDsn", "by DSN code", "dsn", &codes, by_code), ("byDomain", "by domain", "domain", &domains, by_domain)]
        {
            let mut table = Table::new(key, format!("{category}: {title}"), &[column, "bounced", "%"]).bars(2);
            for (name, count) in counts.sorted(|c| *c).into_iter().take(limit) {
                table.rows.push(vec![name.into(), Datum::Count(*count), percent(*count, all)]);
            }
            table.notes.extend(more(counts.len(), limit, column));
            tables.push(table);
        }
        let mut table = Table::new(
            "byDsnAndDomain",
            format!("{category}: by DSN code and domain"),
            &["dsn", "domain", "bounced", "%"],
        )
        .bars(3);
        for (code, domain, count) in both.iter().take(by_both) {
            table.rows.push(vec![(*code).into(), (*domain).into(), Datum::Count(*count), percent(*count, all)]);
        }
        table.notes.extend(more(both.len(), by_both, "rows"));
        table.notes.extend(self.details.note("combinations of category, code and domain"));
        tables.push(table);
    }
}

/// What a cut table does not show.
pub(super) fn more(all: usize, shown: usize, what: &str) -> Option<String> {
    (all > shown).then(|| format!("{shown} of {all} {what} shown"))
}

fn totals(b: Bounces) -> Table {
    let mut table = Table::new("total", "Total Bounced", &["", "recipients", "%"]);
    for (name, count) in [("total bounced", b.all), ("5.X.X", b.permanent), ("4.X.X", b.temporary)] {
        table.rows.push(vec![name.into(), Datum::Count(count), percent(count, b.all)]);
    }
    table
}

/// `top-bounce`: options are how many domains, and how many reasons for each.
#[derive(Debug)]
pub(super) struct TopBounce {
    limits: (usize, usize),
    domains: Bounded<DomainBounces>,
    /// Domain and reason, with a tab between.
    reasons: Bounded<u64>,
    scratch: String,
}

#[derive(Debug, Default)]
struct DomainBounces {
    recipients: u64,
    bounces: Bounces,
}

impl Tally for DomainBounces {
    fn weight(&self) -> u64 {
        self.recipients
    }
    fn absorb(&mut self, other: &DomainBounces) {
        self.recipients += other.recipients;
        self.bounces.absorb(&other.bounces);
    }
}

impl TopBounce {
    pub(super) fn new(limits: (usize, usize), names: usize) -> TopBounce {
        TopBounce { limits, domains: Bounded::new(names), reasons: Bounded::new(names), scratch: String::new() }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        let domain = record.domain_key();
        let of_domain = self.domains.at(&domain);
        of_domain.recipients += record.recipients;
        if record.kind == Kind::Bounced {
            of_domain.bounces.add(record);
            self.scratch.clear();
            self.scratch.push_str(&domain);
            self.scratch.push('\t');
            push_reason(record, &mut self.scratch);
            *self.reasons.at(&self.scratch) += record.recipients;
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let (top, top_codes) = self.limits;
        let mut table = Table::new(
            "domains",
            "Domains with the Most Bounces",
            &["domain", "recipients", "bounced", "bounced%", "5.X.X", "4.X.X"],
        )
        .bars(2);
        let sorted = self.domains.sorted(|d| (d.bounces.all, d.recipients));
        let bouncing: Vec<_> = sorted.into_iter().filter(|(_, d)| d.bounces.all > 0).collect();
        for (domain, d) in bouncing.iter().take(top) {
            table.rows.push(vec![
                (*domain).into(),
                Datum::Count(d.recipients),
                Datum::Count(d.bounces.all),
                percent(d.bounces.all, d.recipients),
                Datum::Count(d.bounces.permanent),
                Datum::Count(d.bounces.temporary),
            ]);
        }
        table.notes.extend(more(bouncing.len(), top, "domains"));
        table.notes.extend(self.domains.note("domains"));
        let mut tables = vec![table];
        let mut reasons: hashbrown::HashMap<&str, Vec<(&str, u64)>> =
            bouncing.iter().take(top).map(|(domain, _)| (*domain, Vec::new())).collect();
        for (name, count) in self.reasons.sorted(|c| *c) {
            let (domain, reason) = name.split_once('\t').unwrap_or((name, ""));
            if let Some(list) = reasons.get_mut(domain) {
                list.push((reason, *count));
            }
        }
        for (domain, d) in bouncing.iter().take(top) {
            let of_domain = &reasons[domain];
            let mut table = Table::new("reasons", format!("Reasons: {domain}"), &["bounced", "%", "reason"]);
            for (reason, count) in of_domain.iter().take(top_codes) {
                table.rows.push(vec![Datum::Count(*count), percent(*count, d.bounces.all), (*reason).into()]);
            }
            table.notes.extend(more(of_domain.len(), top_codes, "reasons"));
            tables.push(table);
        }
        if let (Some(note), Some(first)) = (self.reasons.note("reasons"), tables.first_mut()) {
            first.notes.push(note);
        }
        tables
    }
}

/// Longest reason that is told apart from others, in bytes.
const LONGEST_REASON: usize = 300;

/// Status code and generalised reply.
pub(super) fn push_reason(record: &Record<'_>, out: &mut String) {
    let known = Known { rcpt: record.rcpt, orig: record.orig, source_ip: record.source_ip, mta: record.mta };
    let mut reason = if record.diag.is_empty() { record.status.to_owned() } else { generalise(record.diag, known) };
    let mut end = LONGEST_REASON.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    out.push_str(record.code());
    out.push(' ');
    out.push_str(or_none(&reason));
}
