//! The recipients of a campaign, from a seed and their number.
//!
//! Every address is different; most are at the large providers, a few at domains that take no mail.

use super::chance;
use super::world::{ODDITIES, ODDITY_SCALE, PROVIDERS};

const FIRST: &[&str] = &[
    "ada", "ben", "carla", "dmitri", "elena", "farid", "grete", "hiro", "ines", "jonas", "kemal", "lena", "mira",
    "nils", "olga", "petra", "quinn", "rosa", "sven", "tara", "uma", "vera", "wanda", "xavier", "yusuf", "zoe",
];
const LAST: &[&str] = &[
    "abel", "baker", "costa", "dufour", "egger", "frank", "garcia", "holm", "ivanov", "jensen", "keller", "lopez",
    "meyer", "novak", "okafor", "pinto", "quist", "rossi", "santos", "tanaka", "ueda", "vogel", "weber", "young",
    "zeller",
];

/// The recipient with this number (from 0) of the campaign of this seed.
pub fn recipient(seed: u64, index: u64) -> String {
    let n = chance::mix(chance::mix(seed).wrapping_add(index));
    let (first, last) = (chance::pick(n >> 8, FIRST), chance::pick(n >> 20, LAST));
    let domain = domain(chance::mix(n));
    match n % 4 {
        0 => format!("{first}.{last}{index}@{domain}"),
        1 => format!("{first}{index}@{domain}"),
        2 => format!("{}{last}.{index}@{domain}", &first[..1]),
        _ => format!("{first}_{last}_{index}@{domain}"),
    }
}

/// All `count` recipients of the campaign of this seed, in order.
pub fn recipients(seed: u64, count: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |index| recipient(seed, index))
}

fn domain(n: u64) -> &'static str {
    let mut odd = n % u64::from(ODDITY_SCALE);
    for (domain, _, weight) in ODDITIES {
        match odd.checked_sub(u64::from(*weight)) {
            Some(rest) => odd = rest,
            None => return domain,
        }
    }
    let all = || PROVIDERS.iter().flat_map(|p| p.domains);
    let total: u64 = all().map(|(_, w)| u64::from(*w)).sum();
    let mut part = chance::mix(n) % total;
    for (domain, weight) in all() {
        match part.checked_sub(u64::from(*weight)) {
            Some(rest) => part = rest,
            None => return domain,
        }
    }
    PROVIDERS[0].domains[0].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Address;
    use crate::sim::script::{Behaviour, Script};
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_same_seed_makes_the_same_list_and_a_longer_one_begins_with_it() {
        let short: Vec<_> = recipients(5, 100).collect();
        assert_eq!(short, recipients(5, 200).take(100).collect::<Vec<_>>());
        assert_ne!(short, recipients(6, 100).collect::<Vec<_>>());
    }

    #[test]
    fn every_recipient_is_a_different_valid_address() {
        let mut seen = HashSet::new();
        for address in recipients(1, 10_000) {
            assert!(Address::parse(&address).is_ok(), "{address}");
            assert!(seen.insert(Address::parse(&address).unwrap().key().as_str().to_owned()), "{address} twice");
        }
    }

    #[test]
    fn a_campaign_of_ten_thousand_has_something_of_everything_and_mostly_mail_that_arrives() {
        let script = Script::new(1);
        let mut counts: HashMap<Behaviour, u64> = HashMap::new();
        for address in recipients(1, 10_000) {
            *counts.entry(script.behaviour(&address)).or_default() += 1;
        }
        for b in Behaviour::ALL {
            assert!(counts.get(b).copied().unwrap_or(0) > 0, "no {b:?} among {counts:?}");
        }
        assert!((8_600..9_100).contains(&counts[&Behaviour::Accept]), "{counts:?}");
    }
}
