//! Counts by name in bounded memory: exact up to a number of names; beyond it the rarest are put together.

use hashbrown::HashMap;

/// What is kept under a name.
pub trait Tally: Default {
    /// How much it matters: what has least is put together first.
    fn weight(&self) -> u64;
    /// Adds another tally to this one.
    fn absorb(&mut self, other: &Self);
}

impl Tally for u64 {
    fn weight(&self) -> u64 {
        *self
    }
    fn absorb(&mut self, other: &u64) {
        *self += other;
    }
}

/// Tallies by name.
#[derive(Debug)]
pub struct Bounded<T> {
    names: HashMap<String, T>,
    limit: usize,
    rest: T,
    /// The most by which a tally that is shown may be too low.
    missing: u64,
}

impl<T: Tally> Bounded<T> {
    /// For at most `limit` names (2 at least).
    pub fn new(limit: usize) -> Bounded<T> {
        Bounded { names: HashMap::new(), limit: limit.max(2), rest: T::default(), missing: 0 }
    }

    /// The tally under `name`.
    pub fn at(&mut self, name: &str) -> &mut T {
        if self.names.len() >= self.limit && !self.names.contains_key(name) {
            self.cut();
        }
        self.names.entry_ref(name).or_default()
    }

    /// Puts the rarer half together.
    fn cut(&mut self) {
        let mut weights: Vec<u64> = self.names.values().map(Tally::weight).collect();
        let middle = weights.len() / 2;
        let (_, &mut border, _) = weights.select_nth_unstable(middle);
        // Not all of one weight may go when that would be nearly everything.
        let mut may_go = middle + 1;
        let rest = &mut self.rest;
        self.names.retain(|_, tally| {
            let stays = tally.weight() > border || may_go == 0;
            if !stays {
                may_go -= 1;
                rest.absorb(tally);
            }
            stays
        });
        self.missing += border;
    }

    /// All names with their tallies, in the order that `key` gives (descending), then by name.
    pub fn sorted<K: Ord>(&self, key: impl Fn(&T) -> K) -> Vec<(&str, &T)> {
        let mut all: Vec<_> = self.names.iter().map(|(n, t)| (n.as_str(), t)).collect();
        all.sort_by(|a, b| key(b.1).cmp(&key(a.1)).then_with(|| a.0.cmp(b.0)));
        all
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// A sentence when the limit was reached.
    pub fn note(&self, what: &str) -> Option<String> {
        (self.missing > 0).then(|| {
            format!(
                "more than {} different {what}: the rarest were left out ({} records), and a count shown may be too low \
                 by up to {}",
                self.limit,
                self.rest.weight(),
                self.missing
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_the_limit_counts_are_exact_and_beyond_it_the_frequent_stay_within_the_stated_error() {
        let mut counts = Bounded::<u64>::new(100);
        for n in 0..100 {
            *counts.at(&format!("name{n}")) += 1;
        }
        assert_eq!((counts.len(), counts.note("names")), (100, None));
        for n in 0..20_000u64 {
            *counts.at("often") += 1;
            *counts.at(&format!("rare{n}")) += 1;
        }
        assert!(counts.len() <= 100);
        let (name, count) = counts.sorted(|c| *c)[0];
        assert_eq!(name, "often");
        assert!(*count <= 20_000 && *count + counts.missing >= 20_000, "{count} {}", counts.missing);
        let all: u64 = counts.sorted(|c| *c).iter().map(|(_, c)| **c).sum();
        assert_eq!(all + counts.rest, 40_100, "nothing is lost, it is only put together");
        assert!(counts.note("names").unwrap().contains("more than 100 different names"));
    }
}
