//! Which Parquet files of a day become one: those of one output, with one selection of records, in the order of their
//! ranges, up to a number of rows.

use std::fmt;

use arrow::datatypes::SchemaRef;

use crate::event::StoreId;
use crate::event::manifest::{Manifest, Ranges};

/// A file of an output.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in the day's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its columns.
    pub schema: SchemaRef,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Which output, of which store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputId {
    /// The store.
    pub store: StoreId,
    /// The output's path as configured, else the beginning of its files' names.
    pub output: String,
}

impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of store {}", self.output, self.store)
    }
}

impl Source {
    /// The output it belongs to.
    pub fn output_id(&self) -> OutputId {
        OutputId::of(&self.manifest, &self.name)
    }
}

impl OutputId {
    /// Of a file with this manifest and name.
    pub fn of(manifest: &Manifest, name: &str) -> OutputId {
        let output = if manifest.output.is_empty() { stem(name).to_owned() } else { manifest.output.clone() };
        OutputId { store: manifest.store, output }
    }
}

/// What stands before the number in the name of an output's file.
fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".parquet").unwrap_or(name);
    let digits = |s: &str| s.len() >= 16 && s.bytes().take(16).all(|b| b.is_ascii_digit());
    let number = name.match_indices('-').find(|(at, _)| digits(&name[at + 1..])).map(|(at, _)| at);
    &name[..number.unwrap_or(name.len())]
}

/// Files that become one, or one that stays.
#[derive(Debug, Clone)]
pub struct Bin {
    /// The name of the one: new when it is made of several, so that an old list of names never leads to it.
    pub name: String,
    /// What it is made of.
    pub sources: Vec<Source>,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Puts files together. Asked again about the result, it has nothing to do.
///
/// # Errors
/// The reason, when files of one output contradict each other.
pub fn bins(sources: Vec<Source>, max_rows: u64) -> Result<Vec<Bin>, String> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    for source in sources {
        let alike = |g: &&mut Vec<Source>| {
            g.first()
                .is_some_and(|o| o.output_id() == source.output_id() && o.manifest.records == source.manifest.records)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(source),
            None => groups.push(vec![source]),
        }
    }
    let mut bins: Vec<Bin> = Vec::new();
    for mut group in groups {
        group.sort_by_key(|s| s.manifest.ranges.first());
        if Ranges::join(group.iter().flat_map(|s| s.manifest.ranges.iter())).is_none() {
            return Err(format!("files of output {} cover the same records twice", group[0].output_id()));
        }
        let mut parts: Vec<Vec<Source>> = Vec::new();
        for source in group {
            let room = |part: &&mut Vec<Source>| {
                let rows: u64 = part.iter().map(|s| s.manifest.rows).sum();
                rows + source.manifest.rows <= max_rows && part.iter().all(|s| have_one_schema(s, &source))
            };
            match parts.last_mut().filter(room) {
                Some(part) => part.push(source),
                None => parts.push(vec![source]),
            }
        }
        for part in parts {
            let bin = bin(part);
            if bins.iter().any(|b| b.name == bin.name) {
                return Err(format!("two files would be named {}", bin.name));
            }
            bins.push(bin);
        }
    }
    Ok(bins)
}

/// Whether columns of one name have one type.
fn have_one_schema(a: &Source, b: &Source) -> bool {
    a.schema.fields().iter().all(|f| {
        b.schema.field_with_name(f.name()).is_ok_and(|g| g.data_type() == f.data_type())
            || b.schema.field_with_name(f.name()).is_err()
    })
}

fn bin(sources: Vec<Source>) -> Bin {
    let parts = sources.iter().flat_map(|s| s.manifest.ranges.iter());
    // They were seen not to overlap.
    let ranges = Ranges::join(parts).unwrap_or_default();
    let first = &sources[0];
    let manifest = Manifest { ranges, rows: sources.iter().map(|s| s.manifest.rows).sum(), ..first.manifest.clone() };
    let name = if sources.len() == 1 {
        first.name.clone()
    } else {
        let (from, to) = (manifest.ranges.first(), manifest.ranges.last());
        // Another store's files beside these have its id in their names; so do these, then.
        let id = format!("-{}", manifest.store);
        let id = if sources.iter().any(|s| s.name.contains(&id)) { id } else { String::new() };
        format!("{}-{from:016}_{to:016}{id}.parquet", stem(&first.name))
    };
    Bin { name, sources, manifest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, Kinds};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn source(name: &str, first: u64, last: u64, rows: u64) -> Source {
        let schema = Arc::new(Schema::new(vec![Field::new("type", DataType::Utf8, false)]));
        let ranges = Ranges::one(first, last);
        let manifest = Manifest { store: StoreId(7), output: String::new(), records: Kinds::ALL, ranges, rows };
        Source { name: name.into(), bytes: rows, schema, manifest }
    }

    fn shape(bins: &[Bin]) -> Vec<(&str, usize)> {
        bins.iter().map(|b| (b.name.as_str(), b.sources.len())).collect()
    }

    #[test]
    fn files_of_one_output_become_one_and_others_are_left_alone() {
        let mut filtered = source("acct-0000000000000021.parquet", 21, 30, 4);
        filtered.manifest.records = Kinds::of(&[Kind::Bounced]);
        let mut foreign = source("acct-0000000000000001-00000000000000ff.parquet", 1, 5, 5);
        foreign.manifest.store = StoreId(0xff);
        let all = vec![
            source("acct-0000000000000011.parquet", 11, 20, 10),
            source("acct-0000000000000001.parquet", 1, 10, 10),
            source("my-acct-0000000000000001.parquet", 1, 10, 10),
            filtered,
            foreign,
        ];
        assert_eq!(
            shape(&bins(all, 1000).unwrap()),
            [
                ("acct-0000000000000001_0000000000000020.parquet", 2),
                ("my-acct-0000000000000001.parquet", 1),
                ("acct-0000000000000021.parquet", 1),
                ("acct-0000000000000001-00000000000000ff.parquet", 1)
            ]
        );
    }

    #[test]
    fn files_that_cover_a_record_twice_are_not_merged() {
        let twice = vec![source("a-0000000000000001.parquet", 1, 10, 1), source("a-0000000000000005.parquet", 5, 6, 1)];
        assert!(bins(twice, 100).unwrap_err().contains("twice"));
    }

    #[test]
    fn columns_of_another_type_keep_files_apart() {
        let mut other = source("a-0000000000000011.parquet", 11, 20, 1);
        other.schema = Arc::new(Schema::new(vec![Field::new("type", DataType::Int32, false)]));
        let both = vec![source("a-0000000000000001.parquet", 1, 10, 1), other];
        assert_eq!(bins(both, 100).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn what_was_merged_stays_as_it_is(rows in prop::collection::vec(0u64..50, 0..30), max in 1u64..100) {
            let sources: Vec<Source> = rows.iter().enumerate().map(|(i, rows)| {
                let first = i as u64 * 100 + 1;
                source(&format!("a-{first:016}.parquet"), first, first + 99, *rows)
            }).collect();
            let merged = bins(sources.clone(), max).unwrap();
            prop_assert_eq!(merged.iter().map(|b| b.manifest.rows).sum::<u64>(), rows.iter().sum::<u64>());
            for bin in &merged {
                prop_assert!(bin.manifest.rows <= max || bin.sources.len() == 1);
                prop_assert!(bin.sources.len() == 1 || sources.iter().all(|s| s.name != bin.name));
            }
            let again = merged.iter().map(|b| Source {
                name: b.name.clone(), bytes: 0, schema: b.sources[0].schema.clone(), manifest: b.manifest.clone(),
            }).collect();
            prop_assert!(bins(again, max).unwrap().iter().all(|b| b.sources.len() == 1));
        }
    }
}
