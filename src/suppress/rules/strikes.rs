//! Failures counted so far: of one rule, about one subject, in one scope; and how they are kept.
//!
//! A message counts once, however often it is tried or reported. Never more are kept than the rule needs. A delivery ends
//! the count; but that of a server which takes everything and sends a report later says nothing, so a delivery whose own
//! report comes afterwards is as if it had not been.
//!
//! Layout of a row (little-endian): version, flags, when it is of no more use, number of strikes, the strikes (time,
//! sequence number, message, whether it was a report), the deliveries that may yet be taken back.

use std::time::Duration;

use crate::event::Time;
use crate::suppress::Key;

const VERSION: u8 = 1;
/// Deliveries remembered beside strikes by reports.
const MAX_DELIVERED: usize = 4;
/// Strikes of a rule without `within` are forgotten after so long without another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(400 * 86_400);

/// Under what strikes are kept: subject and scope, then the rule. All of one subject stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrikeKey {
    /// About whom, for whose mail.
    pub key: Key,
    /// The rule, as a hash of its name.
    pub rule: u32,
}

impl StrikeKey {
    /// Bytes of a key.
    pub const LEN: usize = 28;

    /// For the rule of this name.
    pub fn of(key: Key, rule: &str) -> StrikeKey {
        StrikeKey { key, rule: fnv(rule.bytes()) as u32 }
    }

    /// As it stands in the table.
    pub fn bytes(&self) -> [u8; StrikeKey::LEN] {
        let mut bytes = [0; StrikeKey::LEN];
        let (key, rule) = bytes.split_at_mut(24);
        key.copy_from_slice(&self.key.bytes().0);
        rule.copy_from_slice(&self.rule.to_le_bytes());
        bytes
    }

    /// Reads what [`StrikeKey::bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Option<StrikeKey> {
        let bytes: [u8; StrikeKey::LEN] = bytes.try_into().ok()?;
        let (key, rule) = bytes.split_at(24);
        Some(StrikeKey { key: Key::from_bytes(key)?, rule: u32::from_le_bytes(rule.try_into().ok()?) })
    }
}

/// FNV-1a: for numbers that need not withstand anybody.
pub(super) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// One failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// When.
    pub time: Time,
    /// Which event.
    pub seq: u64,
    /// Which mail to which recipient, as a number that tells them apart.
    pub message: u64,
    /// Told by a report after the mail had been taken.
    pub reported: bool,
}

/// What a rule says about counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub after: usize,
    pub within: Option<Duration>,
    pub over: Duration,
}

/// Those of one rule, subject and scope, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strikes {
    /// A delivery does not end this count: it is of complaints.
    pub(super) lasting: bool,
    /// It is about a whole domain.
    pub(super) of_domain: bool,
    strikes: Vec<Strike>,
    delivered: Vec<u64>,
    /// When nothing in it counts any more.
    stale: Time,
}

impl Strikes {
    /// The strikes, the oldest first.
    pub fn all(&self) -> &[Strike] {
        &self.strikes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.strikes.is_empty()
    }

    /// Whether none of them can count at `now` or later.
    pub fn is_stale(&self, now: Time) -> bool {
        self.is_empty() || self.stale < now
    }

    /// Whether they are against a whole domain.
    pub fn is_about_domain(&self) -> bool {
        self.of_domain
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&Strike> {
        self.strikes.last()
    }

    /// Forgets those up to this event.
    pub(super) fn forget_until(&mut self, seq: u64) {
        self.strikes.retain(|s| s.seq > seq);
    }

    /// Takes one more; whether that is as many as the rule asks for.
    pub(super) fn add(&mut self, strike: Strike, count: Count) -> bool {
        if self.strikes.iter().any(|s| s.message == strike.message) {
            return false;
        }
        if strike.reported {
            self.delivered.retain(|message| *message != strike.message);
        }
        if !std::mem::take(&mut self.delivered).is_empty() {
            self.strikes.clear();
        }
        if let Some(within) = count.within {
            self.strikes.retain(|s| strike.time.since(s.time) <= within);
        }
        self.strikes.push(strike);
        if self.strikes.len() > count.after {
            // The first one tells how long it has been going on.
            self.strikes.remove(usize::from(!count.over.is_zero() && count.after > 1));
        }
        self.stale = strike.time + count.within.unwrap_or(FORGOTTEN_AFTER);
        self.strikes.len() >= count.after && strike.time.since(self.strikes[0].time) >= count.over
    }

    /// A mail was delivered; whether that changes anything.
    pub(super) fn deliver(&mut self, message: u64) -> bool {
        if self.lasting || self.is_empty() || self.delivered.contains(&message) {
            return false;
        }
        self.strikes.retain(|s| s.reported);
        if !self.strikes.is_empty() {
            if self.delivered.len() == MAX_DELIVERED {
                self.delivered.remove(0);
            }
            self.delivered.push(message);
        }
        true
    }

    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION, u8::from(self.lasting) | u8::from(self.of_domain) << 1];
        row.extend(self.stale.0.to_le_bytes());
        row.extend((self.strikes.len() as u16).to_le_bytes());
        for strike in &self.strikes {
            row.extend(strike.time.0.to_le_bytes());
            row.extend(strike.seq.to_le_bytes());
            row.extend(strike.message.to_le_bytes());
            row.push(u8::from(strike.reported));
        }
        self.delivered.iter().for_each(|message| row.extend(message.to_le_bytes()));
        row
    }

    /// Reads what [`Strikes::encode`] wrote; a row that is damaged counts nothing.
    pub fn decode(row: &[u8]) -> Strikes {
        Strikes::read(row).unwrap_or_default()
    }

    fn read(row: &[u8]) -> Option<Strikes> {
        let (&[VERSION, flags], row) = row.split_first_chunk()? else { return None };
        let (stale, row) = row.split_first_chunk()?;
        let (count, row) = row.split_first_chunk()?;
        let (strikes, delivered) = row.split_at_checked(usize::from(u16::from_le_bytes(*count)) * 25)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        Some(Strikes {
            lasting: flags & 1 != 0,
            of_domain: flags & 2 != 0,
            stale: Time(i64::from_le_bytes(*stale)),
            strikes: strikes
                .chunks_exact(25)
                .map(|s| Strike {
                    time: Time(number(&s[..8]) as i64),
                    seq: number(&s[8..16]),
                    message: number(&s[16..24]),
                    reported: s[24] != 0,
                })
                .collect(),
            delivered: delivered.chunks_exact(8).map(number).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THREE: Count = Count { after: 3, within: Some(Duration::from_secs(100)), over: Duration::ZERO };

    fn strike(secs: i64, message: u64, reported: bool) -> Strike {
        Strike { time: Time::from_secs(secs), seq: secs as u64, message, reported }
    }

    #[test]
    fn messages_count_once_and_only_within_the_window() {
        let mut all = Strikes::default();
        assert!(!all.add(strike(1_000, 1, false), THREE));
        assert!(!all.add(strike(1_001, 1, false), THREE), "tried again");
        assert!(!all.add(strike(1_050, 2, false), THREE));
        assert!(!all.add(strike(1_101, 3, false), THREE), "the first one is too old");
        assert!(all.add(strike(1_102, 4, false), THREE));
        assert_eq!(all.all().len(), 3);
    }

    #[test]
    fn a_span_is_asked_for_and_the_first_one_is_kept_for_it() {
        let hour = Count { after: 3, within: Some(Duration::from_secs(86_400)), over: Duration::from_secs(3600) };
        let mut all = Strikes::default();
        for n in 0..10 {
            assert!(!all.add(strike(1_000 + n, n as u64, false), hour), "all within ten seconds");
        }
        assert_eq!(all.all().len(), 3);
        assert!(all.add(strike(4_600, 99, false), hour));
    }

    #[test]
    fn a_delivery_ends_the_count_unless_its_report_comes_later() {
        let mut local = Strikes::default();
        local.add(strike(1, 1, false), THREE);
        assert!(local.deliver(2));
        assert!(local.is_empty());

        let mut reports = Strikes::default();
        for n in 1..3 {
            reports.deliver(n);
            assert!(!reports.add(strike(n as i64, n, true), THREE));
        }
        assert!(reports.deliver(3));
        assert!(reports.add(strike(3, 3, true), THREE), "its own report came: it was never delivered");

        let mut true_delivery = reports.clone();
        true_delivery.deliver(4);
        true_delivery.deliver(5);
        assert!(!true_delivery.add(strike(5, 5, true), THREE), "4 arrived");
        assert_eq!(true_delivery.all().len(), 1);
    }

    proptest! {
        #[test]
        fn a_row_comes_back_and_no_bytes_make_reading_panic(
            times in prop::collection::vec((1i64..500, 0u64..9, any::<bool>()), 0..20),
            delivered in prop::collection::vec(0u64..9, 0..6), bytes in prop::collection::vec(any::<u8>(), 0..90),
        ) {
            let mut all = Strikes { lasting: times.len() % 2 == 0, ..Strikes::default() };
            for (secs, message, reported) in times {
                all.add(strike(secs, message, reported), THREE);
                prop_assert!(all.all().len() <= 3);
            }
            delivered.into_iter().for_each(|m| {
                all.deliver(m);
            });
            prop_assert_eq!(Strikes::decode(&all.encode()), all);
            let _ = Strikes::decode(&bytes);
        }
    }
}
