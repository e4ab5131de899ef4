//! What pmtastats leaves out and operators miss: `remote` (bounces reported later), `complaints`, `deferrals`.

use super::bounces::{more, push_reason};
use super::bounded::Bounded;
use super::page::{Datum, Table, percent};
use super::record::{Record, or_none};
use crate::event::Kind;
use crate::event::unsubscribe_token::FEEDBACK_TYPE;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// `rb` records.
    Remote,
    /// `f` records.
    Complaints,
    /// `t` records.
    Deferrals,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Counts {
    what: Beyond,
    top: usize,
    all: u64,
    delivered: u64,
    by_domain: Bounded<u64>,
    delivered_by_domain: Bounded<u64>,
    /// Category; kind of complaint.
    by_category: Bounded<u64>,
    /// Reason; who reported.
    by_reason: Bounded<u64>,
    scratch: String,
}

impl Counts {
    pub(super) fn new(what: Beyond, top: usize, names: usize) -> Counts {
        Counts {
            what,
            top,
            all: 0,
            delivered: 0,
            by_domain: Bounded::new(names),
            delivered_by_domain: Bounded::new(names),
            by_category: Bounded::new(names.min(1000)),
            by_reason: Bounded::new(names),
            scratch: String::new(),
        }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        let wanted = match self.what {
            Beyond::Remote => Kind::RemoteBounce,
            Beyond::Complaints => Kind::Feedback,
            Beyond::Deferrals => Kind::Transient,
        };
        let n = record.recipients;
        if record.kind == Kind::Delivered {
            self.delivered += n;
            *self.delivered_by_domain.at(&record.domain_key()) += n;
        }
        // Who leaves a list by its link does not complain.
        let left = self.what == Beyond::Complaints && record.feedback.0.eq_ignore_ascii_case(FEEDBACK_TYPE);
        if record.kind != wanted || left {
            return;
        }
        self.all += n;
        *self.by_domain.at(&record.domain_key()) += n;
        if self.what == Beyond::Complaints {
            *self.by_category.at(or_none(record.feedback.0)) += n;
            *self.by_reason.at(or_none(record.feedback.1)) += n;
        } else {
            *self.by_category.at(or_none(record.category)) += n;
            self.scratch.clear();
            push_reason(record, &mut self.scratch);
            *self.by_reason.at(&self.scratch) += n;
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self.what {
            Beyond::Remote => "remote",
            Beyond::Complaints => "complaints",
            Beyond::Deferrals => "deferrals",
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let (title, category, reason) = match self.what {
            Beyond::Remote => ("Remote Bounces", "category", "reason"),
            Beyond::Complaints => ("Complaints", "type", "reporter"),
            Beyond::Deferrals => ("Deferrals", "category", "reason"),
        };
        let mut total = Table::new("total", title, &["", "count", "% of delivered"]);
        total.rows.push(vec!["total".into(), Datum::Count(self.all), percent(self.all, self.delivered)]);
        total.rows.push(vec![
            "delivered".into(),
            Datum::Count(self.delivered),
            percent(self.delivered, self.delivered),
        ]);
        if self.what == Beyond::Deferrals {
            total.notes.push("each attempt counts; a recipient may be deferred often".to_owned());
        }
        let mut domains = Table::new(
            "byDomain",
            format!("{title}: by domain"),
            &["domain", "count", "%", "delivered", "% of delivered"],
        )
        .bars(1);
        let delivered: hashbrown::HashMap<&str, u64> =
            self.delivered_by_domain.sorted(|_| ()).into_iter().map(|(name, n)| (name, *n)).collect();
        for (name, count) in self.by_domain.sorted(|c| *c).into_iter().take(self.top) {
            let delivered = delivered.get(name).copied().unwrap_or(0);
            domains.rows.push(vec![
                name.into(),
                Datum::Count(*count),
                percent(*count, self.all),
                Datum::Count(delivered),
                percent(*count, delivered),
            ]);
        }
        domains.notes.extend(more(self.by_domain.len(), self.top, "domains"));
        domains.notes.extend(self.by_domain.note("domains"));
        let mut tables = vec![total, domains];
        for (key, column, counts) in
            [("byCategory", category, &self.by_category), ("byReason", reason, &self.by_reason)]
        {
            let mut table = Table::new(key, format!("{title}: by {column}"), &["count", "%", column]);
            for (name, count) in counts.sorted(|c| *c).into_iter().take(self.top) {
                table.rows.push(vec![Datum::Count(*count), percent(*count, self.all), name.into()]);
            }
            table.notes.extend(more(counts.len(), self.top, column));
            table.notes.extend(counts.note(column));
            tables.push(table);
        }
        tables
    }
}
