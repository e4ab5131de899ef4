//! What is wrong with a list of recipients, in all and by provider. Pure; holds some bytes for each address and provider,
//! not the addresses.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Serialize;

use super::{Finding, Grade};
use crate::config::Share;
use crate::event::AddressKey;
use crate::queue::destination;

/// Providers shown by name, those with the most recipients.
const SHOWN: usize = 20;
/// Providers counted by name; the recipients at all others are counted together.
const MAX_PROVIDERS: usize = 1_000_000;
/// Shares of a list from which on it is a problem.
const MALFORMED: Share = Share(20_000);
/// What is suppressed is not sent; but of a list with this much of it the rest is not fresh either.
const SUPPRESSED: Share = Share(100_000);

/// Counts of a list, or of a provider's part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows.
    pub recipients: u64,
    /// Rows whose address can't be one.
    pub malformed: u64,
    /// Rows whose address stood further up already.
    pub doubled: u64,
    /// Addresses that are suppressed.
    pub suppressed: u64,
}

/// A list being counted.
#[derive(Debug, Default)]
pub struct Tally {
    all: Counts,
    providers: BTreeMap<Box<str>, Counts>,
    seen: HashSet<u64>,
    /// The list was not asked for suppressed addresses, since nobody could be.
    unasked: Option<String>,
}

/// One provider's part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provider {
    /// Its domain.
    pub provider: String,
    /// What is there.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A list that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The whole list.
    #[serde(flatten)]
    pub all: Counts,
    /// Whether suppressed addresses were looked for.
    pub suppression_asked: bool,
    /// Providers, in all.
    pub provider_count: usize,
    /// Those with the most recipients.
    pub providers: Vec<Provider>,
}

impl Tally {
    fn provider(&mut self, address: &str) -> &mut Counts {
        let domain = destination(address);
        let name = match &*domain {
            "" => "(no domain)",
            name if name.len() > 255 => "(no domain)",
            name if self.providers.len() >= MAX_PROVIDERS && !self.providers.contains_key(name) => "(others)",
            name => name,
        };
        self.providers.entry(name.into()).or_default()
    }

    /// A row whose address can't be sent to.
    pub fn malformed(&mut self, address: &str) {
        self.all.recipients += 1;
        self.all.malformed += 1;
        let counts = self.provider(address.trim());
        counts.recipients += 1;
        counts.malformed += 1;
    }

    /// A row; `true` when its address is met for the first time, and its suppression is to be asked about.
    pub fn recipient(&mut self, address: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        AddressKey::of(address).as_str().hash(&mut hasher);
        let first = self.seen.insert(hasher.finish());
        let doubled = u64::from(!first);
        self.all.recipients += 1;
        self.all.doubled += doubled;
        let counts = self.provider(address);
        counts.recipients += 1;
        counts.doubled += doubled;
        first
    }

    /// An address of the list is suppressed.
    pub fn suppressed(&mut self, address: &str) {
        self.all.suppressed += 1;
        self.provider(address).suppressed += 1;
    }

    /// Nobody could be asked who is suppressed.
    pub fn not_asked(&mut self, why: impl Into<String>) {
        self.unasked.get_or_insert_with(|| why.into());
    }

    /// The counts.
    pub fn summary(&self) -> Summary {
        let mut providers: Vec<(&Box<str>, &Counts)> = self.providers.iter().collect();
        providers.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.recipients), *name));
        let shown = providers.iter().take(SHOWN);
        Summary {
            all: self.all,
            suppression_asked: self.unasked.is_none(),
            provider_count: self.providers.len(),
            providers: shown.map(|(name, c)| Provider { provider: name.to_string(), counts: **c }).collect(),
        }
    }

    /// What is to be said of it.
    pub fn judge(&self) -> Vec<Finding> {
        let Counts { recipients, malformed, doubled, suppressed } = self.all;
        let mut found = Vec::new();
        let mut says = |grade, subject: &str, text: String, help: &str| {
            found.push(Finding::new(grade, "list", subject, text, help));
        };
        if recipients == 0 {
            says(Grade::Problem, "", "the list is empty".to_owned(), "");
            return found;
        }
        let share = |n: u64| Share::of(n, recipients);
        if malformed > 0 {
            let grade = if share(malformed) > MALFORMED { Grade::Problem } else { Grade::Warning };
            let text = format!("{malformed} of {recipients} rows ({}) have no address to send to", share(malformed));
            says(grade, "malformed", text, "carom send --dry-run lists them by line");
        }
        if doubled > 0 {
            let text = format!("{doubled} rows repeat an address: whoever it is gets the mail more than once");
            says(Grade::Warning, "doubled", text, "take the repetitions out of the list");
        }
        match &self.unasked {
            Some(why) => {
                let text = format!("not known who is suppressed: {why}");
                says(Grade::Unknown, "suppressed", text, "run it where the server is, with its configuration");
            }
            None if suppressed > 0 => {
                let grade = if share(suppressed) > SUPPRESSED { Grade::Problem } else { Grade::Note };
                let text = format!("{suppressed} of {recipients} ({}) are suppressed", share(suppressed));
                let help = match grade {
                    Grade::Problem => "a list with so many is old or bought; its other addresses are likely no better",
                    _ => "they will not be mailed; take them out of the list at its source",
                };
                says(grade, "suppressed", text, help);
            }
            None => says(Grade::Fine, "suppressed", "nobody on the list is suppressed".to_owned(), ""),
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_broken_and_suppressed_addresses_are_counted_by_provider() {
        let mut tally = Tally::default();
        assert!(tally.recipient("ann@big.example"));
        assert!(!tally.recipient("Ann@BIG.example"), "one mailbox, however it is written");
        assert!(tally.recipient("bo@small.example"));
        tally.malformed("bo@@small.example");
        tally.malformed("nonsense");
        tally.suppressed("bo@small.example");
        let summary = tally.summary();
        assert_eq!(summary.all, Counts { recipients: 5, malformed: 2, doubled: 1, suppressed: 1 });
        let names: Vec<&str> = summary.providers.iter().map(|p| p.provider.as_str()).collect();
        assert_eq!(names, ["big.example", "small.example", "(no domain)"]);
        assert_eq!(summary.providers[1].counts, Counts { recipients: 2, malformed: 1, doubled: 0, suppressed: 1 });
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!((&json["malformed"], &json["providers"][0]["doubled"]), (&2.into(), &1.into()));
    }

    #[test]
    fn a_list_is_judged_by_its_shares() {
        let of = |good: usize, bad: usize, suppressed: usize| {
            let mut tally = Tally::default();
            (0..good).for_each(|n| _ = tally.recipient(&format!("a{n}@b.example")));
            (0..bad).for_each(|_| tally.malformed("x"));
            (0..suppressed).for_each(|n| tally.suppressed(&format!("a{n}@b.example")));
            tally.judge().into_iter().map(|f| (f.subject, f.grade)).collect::<Vec<_>>()
        };
        let named = |s: &str, grade| (s.to_owned(), grade);
        assert_eq!(of(99, 0, 0), [named("suppressed", Grade::Fine)]);
        assert_eq!(of(99, 1, 9), [named("malformed", Grade::Warning), named("suppressed", Grade::Note)]);
        assert_eq!(of(90, 10, 20), [named("malformed", Grade::Problem), named("suppressed", Grade::Problem)]);
        assert_eq!(of(0, 0, 0), [named("", Grade::Problem)]);
        let mut tally = Tally::default();
        tally.recipient("a@b.example");
        tally.not_asked("no server");
        assert_eq!(tally.judge()[0].grade, Grade::Unknown);
    }
}
