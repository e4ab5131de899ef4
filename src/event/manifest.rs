//! What an accounting file says about itself: which store and output it comes from, which records it must hold.
//!
//! Kept as names and values in the footer of a Parquet file. A file covers ranges of sequence numbers, one range unless
//! several files were merged into it; of a range it holds the records of the types that were selected, so a record that
//! was left out on purpose can be told from a lost one by looking at the other outputs, and a missing file by the gap
//! between two ranges of an output.

use std::fmt;

use super::fields::SCHEMA_VERSION;
use super::{Kinds, StoreId};

/// The key of the schema version, which every file of ours has.
pub const SCHEMA_KEY: &str = "carom.schemaVersion";

/// The footer's entries of a file that an output wrote, or that was merged from such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The store whose ledger it comes from.
    pub store: StoreId,
    /// The output: its path as configured. Empty in files of versions that did not say.
    pub output: String,
    /// The record types that were selected.
    pub records: Kinds,
    /// The ranges of sequence numbers it covers: at least one, ascending, apart from each other.
    pub ranges: Ranges,
    /// Records in it.
    pub rows: u64,
}

/// Ranges of sequence numbers, both ends included: ascending, and never touching each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// One range.
    pub fn one(first: u64, last: u64) -> Ranges {
        Ranges(vec![(first, last)])
    }

    /// Of ranges in any order; those that touch become one. `None` when two overlap or one ends before it begins.
    pub fn join(parts: impl IntoIterator<Item = (u64, u64)>) -> Option<Ranges> {
        let mut parts: Vec<(u64, u64)> = parts.into_iter().collect();
        parts.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in parts {
            match joined.last_mut() {
                _ if first > last => return None,
                Some(before) if first <= before.1 => return None,
                Some(before) if first == before.1 + 1 => before.1 = last,
                _ => joined.push((first, last)),
            }
        }
        Some(Ranges(joined))
    }

    /// Each range.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The lowest number; 0 of no range.
    pub fn first(&self) -> u64 {
        self.0.first().map_or(0, |r| r.0)
    }

    /// The highest number; 0 of no range.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |r| r.1)
    }

    /// Whether all of `first..=last` is covered.
    pub fn cover(&self, first: u64, last: u64) -> bool {
        self.0.iter().any(|r| r.0 <= first && last <= r.1)
    }

    fn parse(text: &str) -> Option<Ranges> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Ranges::join(text.split(',').map(range).collect::<Option<Vec<_>>>()?).filter(|r| !r.0.is_empty())
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.iter().enumerate() {
            write!(f, "{}{first}-{last}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl Manifest {
    /// Names of the footer's entries and their values.
    pub fn key_values(&self) -> Vec<(&'static str, String)> {
        let records = self.records.iter().map(|k| k.name()).collect::<Vec<_>>().join(",");
        let mut all = vec![
            (SCHEMA_KEY, SCHEMA_VERSION.to_string()),
            ("carom.store", self.store.to_string()),
            ("carom.output", self.output.clone()),
            ("carom.records", records),
            ("carom.firstSeq", self.ranges.first().to_string()),
            ("carom.lastSeq", self.ranges.last().to_string()),
            ("carom.rows", self.rows.to_string()),
        ];
        // A reader that knows no ranges is not to take the gaps for covered: it will miss firstSeq, and say so.
        if self.ranges.0.len() > 1 {
            all.retain(|(k, _)| !matches!(*k, "carom.firstSeq" | "carom.lastSeq"));
            all.push(("carom.ranges", self.ranges.to_string()));
        }
        all
    }

    /// Reads them back; `None` when they are not an output's, or damaged.
    pub fn read<'v>(get: impl Fn(&str) -> Option<&'v str>) -> Option<Manifest> {
        let ranges = match get("carom.ranges") {
            Some(text) => Ranges::parse(text)?,
            None => {
                let (first, last) = (get("carom.firstSeq")?.parse().ok()?, get("carom.lastSeq")?.parse().ok()?);
                Ranges::join([(first, last)])?
            }
        };
        Some(Manifest {
            store: StoreId(u64::from_str_radix(get("carom.store")?, 16).ok()?),
            output: get("carom.output").unwrap_or("").to_owned(),
            records: get("carom.records")?
                .split(',')
                .filter_map(|k| k.parse().ok())
                .fold(Kinds::default(), Kinds::with),
            ranges,
            rows: get("carom.rows")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(m: &Manifest) -> Option<Manifest> {
        let entries = m.key_values();
        Manifest::read(|key| entries.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str()))
    }

    #[test]
    fn a_manifest_reads_back_with_one_range_or_several() {
        let one = Manifest {
            store: StoreId(0xab),
            output: "acct/acct.parquet".into(),
            records: Kinds::ALL,
            ranges: Ranges::one(5, 9),
            rows: 3,
        };
        assert_eq!(read(&one).as_ref(), Some(&one));
        let several = Manifest { ranges: Ranges::join([(20, 30), (5, 9), (10, 12)]).unwrap(), ..one };
        assert_eq!(several.ranges.to_string(), "5-12,20-30");
        assert_eq!(read(&several).as_ref(), Some(&several));
        assert!(several.ranges.cover(6, 12) && several.ranges.cover(20, 20) && !several.ranges.cover(12, 20));
    }

    #[test]
    fn ranges_that_overlap_are_refused() {
        assert_eq!(Ranges::join([(1, 5), (5, 9)]), None);
        assert_eq!(Ranges::join([(5, 1)]), None);
        for text in ["", "5", "1-2-3", "9-1", "1-5,3-4", "x-y", "1-18446744073709551616"] {
            assert_eq!(Ranges::parse(text), None, "{text}");
        }
        assert_eq!(Ranges::join([(1, u64::MAX), (7, 7)]), None);
    }

    proptest! {
        #[test]
        fn footers_of_any_content_do_no_harm(text in "\\PC{0,40}") {
            let _ = Manifest::read(|_| Some(&text));
        }
    }
}
