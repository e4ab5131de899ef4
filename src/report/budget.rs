//! How much of the quarantine each mail and each sender may have, and what has to go when it is full.
//!
//! Anyone can send mail to a bounce address, so neither one large mail nor a thousand of one sender may push out what
//! others sent: a mail has at most its [`share`], and when all is full the oldest mail of the source that takes most goes.
//! A source is the network it came from (an IPv4 /24, an IPv6 /64), which can't be chosen at will as an envelope sender
//! can; where all comes from one relay, it is simply the oldest that goes. Each step costs a logarithm.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::event::MessageId;

use super::quarantine::Entry;

/// Bytes that a mail is counted for beyond its own: its row and its place in memory.
pub(super) const OVERHEAD: u64 = 512;
/// Bytes kept of one mail where there is room enough: a report says what it says well before.
const MAX_SHARE: u64 = 256 << 10;
/// Bytes of a share that is worth keeping.
const MIN_SHARE: u64 = 4 << 10;

/// Bytes kept of one mail, content and recipients, when all of them may take `limit`: a sixteenth, at least 4 KiB and at
/// most 256 KiB; 0 when there is room for none.
pub fn share(limit: u64) -> u64 {
    (limit / 16).clamp(MIN_SHARE, MAX_SHARE).min(limit.saturating_sub(OVERHEAD))
}

/// The network that an address is in; empty when there is none.
pub(super) fn network(ip: Option<IpAddr>) -> String {
    match ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => format!("{}/24", Ipv4Addr::from_bits(ip.to_bits() & !0xff)),
        Some(IpAddr::V6(ip)) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        None => String::new(),
    }
}

/// The mails that are kept, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Budget {
    mails: BTreeMap<MessageId, Entry>,
    bytes: u64,
    sources: BTreeMap<String, Source>,
    /// The same sources by what they take.
    by_size: BTreeSet<(u64, String)>,
}

#[derive(Debug, Default)]
struct Source {
    bytes: u64,
    mails: BTreeSet<MessageId>,
}

impl Budget {
    pub(super) fn mails(&self) -> &BTreeMap<MessageId, Entry> {
        &self.mails
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert(&mut self, id: MessageId, entry: Entry) {
        self.remove(id);
        let bytes = entry.counts_for();
        self.bytes += bytes;
        let source = self.sources.entry(entry.source.clone()).or_default();
        self.by_size.remove(&(source.bytes, entry.source.clone()));
        source.bytes += bytes;
        source.mails.insert(id);
        self.by_size.insert((source.bytes, entry.source.clone()));
        self.mails.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: MessageId) -> Option<Entry> {
        let entry = self.mails.remove(&id)?;
        let bytes = entry.counts_for();
        self.bytes -= bytes;
        if let Some(source) = self.sources.get_mut(&entry.source) {
            self.by_size.remove(&(source.bytes, entry.source.clone()));
            source.bytes -= bytes;
            source.mails.remove(&id);
            if source.mails.is_empty() {
                self.sources.remove(&entry.source);
            } else {
                self.by_size.insert((source.bytes, entry.source.clone()));
            }
        }
        Some(entry)
    }

    /// Takes out what is too much for `limit` bytes; `newest`, which has just come, only when it is too much by itself.
    pub(super) fn evict(&mut self, limit: u64, newest: MessageId) -> Vec<(MessageId, Entry)> {
        let mut gone = Vec::new();
        while self.bytes > limit {
            let oldest_of = |(_, name): &(u64, String)| {
                self.sources.get(name).and_then(|source| source.mails.iter().find(|id| **id != newest).copied())
            };
            let next = self.by_size.iter().rev().find_map(oldest_of).unwrap_or(newest);
            let Some(entry) = self.remove(next) else { break };
            gone.push((next, entry));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::quarantine::{Which, Why};
    use proptest::prelude::*;

    fn entry(source: &str, size: u64) -> Entry {
        Entry {
            time: 1,
            processor: Which::Bounce,
            why: Why::Unmatched,
            from: String::new(),
            to: String::new(),
            subject: String::new(),
            size,
            rcpts: 1,
            kept: None,
            passed_on: false,
            addresses: 0,
            source: source.into(),
        }
    }

    #[test]
    fn a_flood_by_one_network_pushes_out_its_own() {
        let mut budget = Budget::default();
        for n in 0..10 {
            budget.insert(MessageId(n), entry("192.0.2.0/24", 100));
        }
        for n in 10..1000 {
            budget.insert(MessageId(n), entry("198.51.100.0/24", 2000));
            budget.evict(50_000, MessageId(n));
        }
        assert!(budget.bytes() <= 50_000);
        assert!((0..10).all(|n| budget.mails().contains_key(&MessageId(n))), "the quiet one's are all there");
        assert!(budget.mails().contains_key(&MessageId(999)) && !budget.mails().contains_key(&MessageId(10)));
        // A single large one of a third source does not go at once because it is the largest.
        budget.insert(MessageId(2000), entry("203.0.113.0/24", 30_000));
        budget.evict(50_000, MessageId(2000));
        assert!(budget.mails().contains_key(&MessageId(2000)) && budget.mails().contains_key(&MessageId(0)));
    }

    #[test]
    fn a_share_is_a_sixteenth_within_bounds_and_always_has_room() {
        assert_eq!([64 << 20, 1 << 20, 3000, 600, 512, 0].map(share), [256 << 10, 64 << 10, 2488, 88, 0, 0]);
    }

    #[test]
    fn one_network_is_one_source() {
        let of = |ip: &str| network(Some(ip.parse().unwrap()));
        assert_eq!((of("192.0.2.7").as_str(), of("::ffff:192.0.2.9")), ("192.0.2.0/24", of("192.0.2.7")));
        assert_eq!((of("2001:db8::1").as_str(), of("2001:db8::ffff")), ("2001:db8::/64", of("2001:db8::1")));
    }

    proptest! {
        #[test]
        fn the_sums_agree_with_what_is_there(steps in prop::collection::vec((0u64..20, 0u8..4, 0u64..3000, any::<bool>()), 1..80)) {
            let mut budget = Budget::default();
            for (id, source, size, put) in steps {
                if put {
                    budget.insert(MessageId(id), entry(&source.to_string(), size));
                    let gone = budget.evict(8000, MessageId(id));
                    prop_assert!(budget.mails().contains_key(&MessageId(id)));
                    prop_assert!(!gone.iter().any(|(gone, _)| budget.mails().contains_key(gone)));
                } else {
                    budget.remove(MessageId(id));
                }
                prop_assert!(budget.bytes() <= 8000);
                prop_assert_eq!(budget.bytes(), budget.mails().values().map(Entry::counts_for).sum::<u64>());
                prop_assert_eq!(budget.bytes(), budget.by_size.iter().map(|(bytes, _)| bytes).sum::<u64>());
                prop_assert_eq!(budget.by_size.len(), budget.sources.len());
            }
        }
    }
}
