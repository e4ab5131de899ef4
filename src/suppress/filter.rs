//! What stands in front of the table: most addresses are on no list, and that is known without a look at the disk.
//!
//! A binary fuse filter (Graf and Lemire, 2022) of nine bits a key: it knows every key that it was built from, and takes
//! one in 256 of the others for one of them. Pure. Layout of a stored one: version, CRC-32C of what follows, how many keys,
//! seed, segment length, segment count times length (little-endian), fingerprints.

use xorf::{BinaryFuse8, Descriptor, Filter as _};

/// Layout of a stored filter.
const VERSION: u8 = 1;
/// Bytes before the fingerprints.
const HEAD: usize = 1 + 4 + 8 + 8 + 4 + 4;

/// Which keys may be in the table.
#[derive(Debug, Default)]
pub enum Filter {
    /// None are.
    #[default]
    None,
    /// It is not known which: the table is asked about all of them.
    All,
    /// Those that the filter knows, and how many it was built from.
    Some(BinaryFuse8, u64),
}

impl Filter {
    /// Of these fingerprints, which are sorted on the way; the same one may come twice.
    pub fn build(mut fingerprints: Vec<u64>) -> Filter {
        fingerprints.sort_unstable();
        fingerprints.dedup();
        if fingerprints.is_empty() {
            return Filter::None;
        }
        let keys = fingerprints.len() as u64;
        match BinaryFuse8::try_from(&fingerprints) {
            // A filter that lost a key would send mail that must not be sent: looking is cheap against that.
            Ok(filter) if fingerprints.iter().all(|key| filter.contains(key)) => Filter::Some(filter, keys),
            _ => {
                tracing::error!(
                    keys,
                    "no filter could be built in front of the suppression list: its look-ups are slow"
                );
                Filter::All
            }
        }
    }

    /// Whether the key may be in the table; `false` is certain.
    pub fn may_contain(&self, fingerprint: u64) -> bool {
        match self {
            Filter::None => false,
            Filter::All => true,
            Filter::Some(filter, _) => filter.contains(&fingerprint),
        }
    }

    /// How many keys it was built from.
    pub fn keys(&self) -> u64 {
        match self {
            Filter::Some(_, keys) => *keys,
            Filter::None | Filter::All => 0,
        }
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Filter::Some(filter, _) => filter.fingerprints.len(),
            Filter::None | Filter::All => 0,
        }
    }

    /// To be kept; empty for one that knows no key, or does not know its keys.
    pub fn encode(&self) -> Vec<u8> {
        let Filter::Some(filter, keys) = self else { return Vec::new() };
        let mut out = Vec::with_capacity(HEAD + filter.fingerprints.len());
        out.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        out.extend_from_slice(&keys.to_le_bytes());
        out.extend_from_slice(&filter.descriptor.seed.to_le_bytes());
        out.extend_from_slice(&filter.descriptor.segment_length.to_le_bytes());
        out.extend_from_slice(&filter.descriptor.segment_count_length.to_le_bytes());
        out.extend_from_slice(&filter.fingerprints);
        let sum = crc32c::crc32c(&out[5..]);
        out[1..5].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads what [`Filter::encode`] wrote; `None` when it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Filter> {
        if bytes.is_empty() {
            return Some(Filter::None);
        }
        let (head, fingerprints) = bytes.split_at_checked(HEAD)?;
        let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        if head[0] != VERSION || u32_at(1)? != crc32c::crc32c(&bytes[5..]) {
            return None;
        }
        let (segment_length, segment_count_length) = (u32_at(21)?, u32_at(25)?);
        // Every position that a key can have is in it: `h0` below the count, two segments further at most.
        let needed = u64::from(segment_count_length) + 2 * u64::from(segment_length);
        if !segment_length.is_power_of_two() || segment_count_length == 0 || fingerprints.len() as u64 != needed {
            return None;
        }
        let seed = u64_at(13)?;
        let descriptor =
            Descriptor { seed, segment_length, segment_length_mask: segment_length - 1, segment_count_length };
        Some(Filter::Some(BinaryFuse8 { descriptor, fingerprints: fingerprints.into() }, u64_at(5)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_filter_knows_every_key_and_comes_back_from_its_bytes(
            keys in prop::collection::vec(any::<u64>(), 0..400), others in prop::collection::vec(any::<u64>(), 50),
        ) {
            let filter = Filter::build(keys.iter().chain(keys.first()).copied().collect());
            let back = Filter::decode(&filter.encode()).unwrap();
            prop_assert_eq!(back.keys(), filter.keys());
            for key in &keys {
                prop_assert!(filter.may_contain(*key) && back.may_contain(*key));
            }
            for key in &others {
                prop_assert_eq!(filter.may_contain(*key), back.may_contain(*key));
            }
        }

        #[test]
        fn a_damaged_filter_is_not_believed(byte: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
            let mut bytes = Filter::build((0..100u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()).encode();
            prop_assert!(Filter::decode(&bytes[..1 + cut.index(bytes.len() - 1)]).is_none());
            let byte = byte.index(bytes.len());
            bytes[byte] ^= 1 << bit;
            prop_assert!(Filter::decode(&bytes).is_none());
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Filter::decode(&bytes);
        }
    }

    #[test]
    fn of_keys_it_was_not_built_from_a_filter_takes_few_for_its_own() {
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7);
        let filter = Filter::build((0..50_000).map(spread).collect());
        let wrong = (1_000_000..1_100_000).map(spread).filter(|key| filter.may_contain(*key)).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
        assert!(filter.bytes() * 8 < 50_000 * 10, "{} bytes", filter.bytes());
    }
}
