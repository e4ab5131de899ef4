//! Chance that can be repeated: numbers that depend on a seed and a text only, the same on every machine and for ever.
//!
//! Not for secrets. The standard library's and other crates' hashers may change between versions; what a script decides
//! must not, so the few lines stand here.

/// A number from a seed and a text: FNV-1a over the text, mixed with the seed by [`mix`].
pub fn of(seed: u64, text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash ^ mix(seed))
}

/// A number from another: the finalizer of SplitMix64, a bijection that spreads every input bit over all output bits.
pub const fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Letters and digits that look like the ids in real replies, `len` of them (at most 32), drawn from `n`.
pub fn id(mut n: u64, len: usize) -> String {
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    (0..len.min(32))
        .map(|_| {
            n = mix(n);
            char::from(LETTERS[(n % 36) as usize])
        })
        .collect()
}

/// One of `choices`, drawn from `n`. `choices` must not be empty.
pub fn pick<T: Copy>(n: u64, choices: &[T]) -> T {
    choices[(n % choices.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_text_give_the_same_number_for_ever() {
        assert_eq!(of(1, "ann@mailhost.example"), of(1, "ann@mailhost.example"));
        assert_ne!(of(1, "ann@mailhost.example"), of(2, "ann@mailhost.example"));
        // Pinned: a change would silently change what every recorded seed means.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn an_id_has_the_length_asked_for() {
        assert_eq!(id(7, 12).len(), 12);
        assert_ne!(id(7, 12), id(8, 12));
    }
}
