//! Which sequence numbers of an output were seen, by record type: a bit each, so that a thousand million fit in memory.

use std::collections::BTreeMap;

use crate::event::Kind;

const BITS: u64 = 4096;
const WORDS: usize = (BITS / 64) as usize;

/// Sequence numbers seen, by record type.
#[derive(Debug, Default)]
pub struct Seen {
    pages: BTreeMap<(u64, Option<u8>), Box<[u64; WORDS]>>,
}

impl Seen {
    /// Notes a number; false when it was there already, with whatever type. `None`: the type is not known.
    pub fn insert(&mut self, kind: Option<Kind>, seq: u64) -> bool {
        let (page, word, bit) = Seen::place(seq);
        let known = self.any(page, |p| p[word] & bit != 0);
        let key = (page, kind.map(|k| k as u8));
        self.pages.entry(key).or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
        !known
    }

    /// Whether it was seen, with whatever type.
    pub fn contains(&self, seq: u64) -> bool {
        let (page, word, bit) = Seen::place(seq);
        self.any(page, |p| p[word] & bit != 0)
    }

    /// All numbers of these types, ascending by page and type.
    pub fn of<'s>(&'s self, kinds: &'s dyn Fn(Kind) -> bool) -> impl Iterator<Item = u64> + 's {
        let wanted = move |k: &Option<u8>| k.and_then(Kind::from_number).is_some_and(kinds);
        self.pages.iter().filter(move |((_, k), _)| wanted(k)).flat_map(|((page, _), words)| {
            (0..BITS).filter(move |i| words[(i / 64) as usize] & (1 << (i % 64)) != 0).map(move |i| page * BITS + i)
        })
    }

    /// The types seen.
    pub fn kinds(&self) -> crate::event::Kinds {
        let all = self.pages.keys().filter_map(|(_, k)| k.and_then(Kind::from_number));
        all.fold(crate::event::Kinds::default(), crate::event::Kinds::with)
    }

    /// The lowest and the highest number.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let numbers = |page: u64, words: &[u64; WORDS]| {
            let first = words.iter().position(|w| *w != 0)?;
            let last = words.iter().rposition(|w| *w != 0)?;
            let low = page * BITS + first as u64 * 64 + u64::from(words[first].trailing_zeros());
            let high = page * BITS + last as u64 * 64 + 63 - u64::from(words[last].leading_zeros());
            Some((low, high))
        };
        let all = self.pages.iter().filter_map(|((page, _), words)| numbers(*page, words));
        all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn place(seq: u64) -> (u64, usize, u64) {
        (seq / BITS, (seq % BITS / 64) as usize, 1 << (seq % 64))
    }

    fn any(&self, page: u64, f: impl Fn(&[u64; WORDS]) -> bool) -> bool {
        self.pages.range((page, None)..=(page, Some(u8::MAX))).any(|(_, words)| f(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_knows_what_it_was_told(all in prop::collection::vec((0u64..20_000, any::<bool>()), 1..200)) {
            let mut seen = Seen::default();
            let mut model = BTreeSet::new();
            for (seq, delivered) in &all {
                let kind = if *delivered { Kind::Delivered } else { Kind::Bounced };
                prop_assert_eq!(seen.insert(Some(kind), *seq), model.insert(*seq));
            }
            prop_assert_eq!(seen.bounds(), Some((*model.first().unwrap(), *model.last().unwrap())));
            let every: BTreeSet<u64> = seen.of(&|_| true).collect();
            prop_assert_eq!(&every, &model);
            prop_assert!(model.iter().all(|s| seen.contains(*s)) && !seen.contains(20_001));
        }
    }
}
