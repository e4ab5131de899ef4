//! How events are kept in the ledger.
//!
//! One event is a length (LEB128), then the record type (one byte), the time (8 bytes, microseconds, little-endian),
//! then fields, each a tag byte and a value:
//!
//! | tag & 3 | value |
//! | --- | --- |
//! | 0 | LEB128 number |
//! | 1 | length (LEB128), bytes |
//! | 2 | 8 bytes, little-endian |
//! | 3 | reserved |
//!
//! Absent fields are not written. A reader skips tags it does not know, so that fields can be added; a tag is never
//! given a second meaning. Sequence number, store and rule set are not in it: the record around it carries them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::leb128::{put_number, put_str, take_bytes, take_number, take_str};
use super::{
    Action, DeliveryType, EnhancedStatus, Event, Kind, Kinds, MessageId, Pairs, RuleSetId, SourceType, Stage, StoreId,
    Time,
};

/// The bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged event in the ledger: {0}")]
pub struct DecodeError(&'static str);

/// Bytes of the record type and the time.
const HEAD: usize = 9;
const NUMBER: u8 = 0;
const BYTES: u8 = 1;
const FIXED: u8 = 2;

const fn tag(n: u8, wire: u8) -> u8 {
    n << 2 | wire
}

/// Events on their way into the store, already encoded.
#[derive(Clone, Default, Debug)]
pub struct Events {
    bytes: Vec<u8>,
    count: u32,
}

impl Events {
    /// None yet.
    pub const fn new() -> Events {
        Events { bytes: Vec::new(), count: 0 }
    }

    /// Encodes `event` at the end. Its `store`, `seq`, `rules` and `rule` are not kept: the store gives them.
    pub fn push(&mut self, event: &Event<'_>) {
        // The length is written in front once it is known; most events fit two bytes of LEB128.
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        encode(&mut self.bytes, event);
        let len = self.bytes.len() - start - 2;
        if len < 1 << 14 {
            self.bytes[start] = (len & 0x7f) as u8 | 0x80;
            self.bytes[start + 1] = (len >> 7) as u8;
        } else {
            let mut prefix = Vec::with_capacity(5);
            put_number(&mut prefix, len as u64);
            self.bytes.splice(start..start + 2, prefix);
        }
        self.count += 1;
    }

    /// Moves all of `other` behind these.
    pub fn append(&mut self, other: &Events) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Events as they stand in one record of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct EventBatch<'a> {
    /// The store they stand in.
    pub store: StoreId,
    /// Sequence number of the first; the others follow without gaps.
    pub first_seq: u64,
    /// The rules in force when they were appended.
    pub rules: RuleSetId,
    /// How many there are.
    pub count: u32,
    /// As [`Events::as_bytes`] gave them.
    pub bytes: &'a [u8],
}

/// What decoding begins with.
const NOTHING: Event<'static> = Event::new(Kind::Delivered, Time::UNKNOWN);

/// Record type and time of an event.
fn head(mut bytes: &[u8]) -> Result<(Kind, Time), DecodeError> {
    let (&kind, rest) = bytes.split_first().ok_or(DecodeError("empty"))?;
    bytes = rest;
    let kind = Kind::from_number(kind).ok_or(DecodeError("unknown record type"))?;
    Ok((kind, Time::read(&mut bytes).ok_or(DecodeError("cut off in the time"))?))
}

fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let mut event = NOTHING;
    decode_into(bytes, &mut event)?;
    Ok(event)
}

impl<'a> EventBatch<'a> {
    /// Appends to `out` those of the events of these types, in order, that `take` says yes to, having seen them and
    /// perhaps changed them; the others cost next to nothing. An error ends it; what stands before it was appended. `last`
    /// is the time of the last event, of whatever type.
    pub fn read_into(
        self,
        kinds: Kinds,
        out: &mut Vec<Event<'a>>,
        last: &mut Option<Time>,
        mut take: impl FnMut(&mut Event<'a>) -> bool,
    ) -> Result<(), DecodeError> {
        let mut rest = self.bytes;
        for seq in self.first_seq..self.first_seq + u64::from(self.count) {
            let bytes = take_bytes(&mut rest).ok_or(DecodeError("cut off"))?;
            let (kind, time) = head(bytes)?;
            *last = Some(time);
            if !kinds.contains(kind) {
                continue;
            }
            let at = out.len();
            out.push(Event { store: self.store, seq, rules: self.rules, ..NOTHING });
            // Pushed above.
            let Some(event) = out.last_mut() else { continue };
            let read = decode_into(bytes, event);
            if read.is_err() || !take(event) {
                out.truncate(at);
            }
            read?;
        }
        Ok(())
    }

    /// The events in order. An error ends the iteration.
    pub fn iter(self) -> impl Iterator<Item = Result<Event<'a>, DecodeError>> {
        self.iter_of(Kinds::ALL)
    }

    /// Those of these types; the others cost next to nothing.
    pub fn iter_of(self, kinds: Kinds) -> impl Iterator<Item = Result<Event<'a>, DecodeError>> {
        let mut rest = self.bytes;
        let mut n = 0;
        let mut failed = false;
        std::iter::from_fn(move || {
            while !failed && n < self.count {
                let bytes = take_bytes(&mut rest).ok_or(DecodeError("cut off"));
                let seq = self.first_seq + u64::from(n);
                n += 1;
                let event = match bytes.and_then(|bytes| Ok((head(bytes)?.0, bytes))) {
                    Ok((kind, _)) if !kinds.contains(kind) => continue,
                    Ok((_, bytes)) => decode(bytes),
                    Err(e) => Err(e),
                };
                failed = event.is_err();
                return Some(event.map(|e| Event { store: self.store, seq, rules: self.rules, ..e }));
            }
            None
        })
    }
}

/// How one kind of field value is written and read. `None` from `read` means damaged.
trait Wire<'a>: Sized + Copy {
    const WIRE: u8;
    fn is_absent(self) -> bool;
    fn write(self, out: &mut Vec<u8>);
    fn read(bytes: &mut &'a [u8]) -> Option<Self>;
}

impl<'a> Wire<'a> for &'a str {
    const WIRE: u8 = BYTES;
    fn is_absent(self) -> bool {
        self.is_empty()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_str(out, self);
    }
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        take_str(bytes)
    }
}

impl<'a> Wire<'a> for Pairs<'a> {
    const WIRE: u8 = BYTES;
    fn is_absent(self) -> bool {
        self.is_empty()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_number(out, self.0.len() as u64);
        out.extend_from_slice(self.0);
    }
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        take_bytes(bytes).map(Pairs)
    }
}

macro_rules! numbers {
    ($($ty:ty: $to:expr, $from:expr;)+) => { $(
        impl<'a> Wire<'a> for $ty {
            const WIRE: u8 = NUMBER;
            fn is_absent(self) -> bool { let to: fn($ty) -> u64 = $to; to(self) == 0 }
            fn write(self, out: &mut Vec<u8>) { let to: fn($ty) -> u64 = $to; put_number(out, to(self)); }
            fn read(bytes: &mut &'a [u8]) -> Option<Self> { let from: fn(u64) -> Option<$ty> = $from; from(take_number(bytes)?) }
        }
    )+ };
}

numbers! {
    u64: |n| n, Some;
    u16: u64::from, |n| u16::try_from(n).ok();
    bool: u64::from, |n| Some(n != 0);
    MessageId: |m| m.0, |n| Some(MessageId(n));
    Option<EnhancedStatus>: |s| s.map_or(0, |s| u64::from(s.class) * 1_000_000 + u64::from(s.subject) * 1000 + u64::from(s.detail)),
        |n| EnhancedStatus::new(u8::try_from(n / 1_000_000).ok()?, (n / 1000 % 1000) as u16, (n % 1000) as u16).map(Some);
    Option<Action>: |v| v.map_or(0, |v| v as u64), |n| Some(u8::try_from(n).ok().and_then(Action::from_number));
    Option<SourceType>: |v| v.map_or(0, |v| v as u64), |n| Some(u8::try_from(n).ok().and_then(SourceType::from_number));
    Option<DeliveryType>: |v| v.map_or(0, |v| v as u64), |n| Some(u8::try_from(n).ok().and_then(DeliveryType::from_number));
    Option<Stage>: |v| v.map_or(0, |v| v as u64), |n| Some(u8::try_from(n).ok().and_then(Stage::from_number));
}

impl<'a> Wire<'a> for Time {
    const WIRE: u8 = FIXED;
    fn is_absent(self) -> bool {
        !self.is_known()
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let (b, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        Some(Time(i64::from_le_bytes(*b)))
    }
}

impl<'a> Wire<'a> for Option<IpAddr> {
    const WIRE: u8 = BYTES;
    fn is_absent(self) -> bool {
        self.is_none()
    }
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Some(IpAddr::V4(a)) => {
                out.push(4);
                out.extend_from_slice(&a.octets());
            }
            Some(IpAddr::V6(a)) => {
                out.push(16);
                out.extend_from_slice(&a.octets());
            }
            None => out.push(0),
        }
    }
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let b = take_bytes(bytes)?;
        match b.len() {
            4 => Some(Some(Ipv4Addr::from(<[u8; 4]>::try_from(b).ok()?).into())),
            16 => Some(Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?).into())),
            _ => None,
        }
    }
}

/// The fields and their numbers. A number is never given a second meaning; new fields take the next free one (63 is
/// the last).
macro_rules! fields {
    ($($n:literal $field:ident: $ty:ty,)+) => {
        fn encode(out: &mut Vec<u8>, e: &Event<'_>) {
            out.push(e.kind as u8);
            out.extend_from_slice(&e.time.0.to_le_bytes());
            $(if !<$ty as Wire<'_>>::is_absent(e.$field) {
                out.push(tag($n, <$ty as Wire<'_>>::WIRE));
                <$ty as Wire<'_>>::write(e.$field, out);
            })+
        }

        /// Into an event that knows nothing yet, where it stands: an event is too large to be handed on many times.
        fn decode_into<'a>(bytes: &'a [u8], e: &mut Event<'a>) -> Result<(), DecodeError> {
            (e.kind, e.time) = head(bytes)?;
            let mut bytes = bytes.get(HEAD..).unwrap_or_default();
            while let Some((&t, rest)) = bytes.split_first() {
                bytes = rest;
                match t {
                    $(t if t == tag($n, <$ty as Wire<'_>>::WIRE) => {
                        e.$field = <$ty as Wire<'_>>::read(&mut bytes).ok_or(DecodeError(concat!("bad value of ", stringify!($field))))?;
                    })+
                    t => skip(t, &mut bytes).ok_or(DecodeError("cut off in an unknown field"))?,
                }
            }
            Ok(())
        }
    };
}

fields! {
    1 message: MessageId,
    2 rcpt_index: u16,
    3 attempt: u16,
    4 in_doubt: bool,
    5 stage: Option<Stage>,
    6 time_queued: Time,
    7 orig: &str,
    8 rcpt: &str,
    9 orcpt: &str,
    10 action: Option<Action>,
    11 status: Option<EnhancedStatus>,
    12 status_text: &str,
    13 diag: &str,
    14 mta: &str,
    15 mta_ip: Option<IpAddr>,
    16 reporting_mta: &str,
    17 category: &str,
    18 src_type: Option<SourceType>,
    19 src_mta: &str,
    20 src_ip: Option<IpAddr>,
    21 rcv_ip: Option<IpAddr>,
    22 user: &str,
    23 dlv_type: Option<DeliveryType>,
    24 dlv_source_ip: Option<IpAddr>,
    25 dlv_destination_ip: Option<IpAddr>,
    26 dlv_esmtp: &str,
    27 dlv_size: u64,
    28 tls_protocol: &str,
    29 tls_cipher: &str,
    30 vmta: &str,
    31 pool: &str,
    32 job: &str,
    33 env_id: &str,
    34 queue: &str,
    35 provider: &str,
    36 suppressed_by: u64,
    37 headers: Pairs<'_>,
    38 format: &str,
    39 attributed_by: &str,
    40 time_sent: Time,
    41 feedback_type: &str,
    42 user_agent: &str,
    43 reported_domain: &str,
    44 report_ip: Option<IpAddr>,
    45 arf: Pairs<'_>,
    46 list: &str,
}

fn skip(tag: u8, bytes: &mut &[u8]) -> Option<()> {
    match tag & 3 {
        NUMBER => take_number(bytes).map(|_| ()),
        BYTES => take_bytes(bytes).map(|_| ()),
        FIXED => Time::read(bytes).map(|_| ()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(events: &Events) -> Vec<Result<Event<'_>, DecodeError>> {
        EventBatch {
            store: StoreId(7),
            first_seq: 10,
            rules: RuleSetId(3),
            count: events.len() as u32,
            bytes: events.as_bytes(),
        }
        .iter()
        .collect()
    }

    fn sample<'a>(kind: Kind, a: &'a str, b: &'a str, n: u16, pairs: Pairs<'a>) -> Event<'a> {
        Event {
            message: MessageId(u64::from(n) << 40),
            rcpt_index: n,
            attempt: n,
            in_doubt: n & 1 == 1,
            stage: Stage::from_number((n % 7) as u8),
            time_queued: Time(i64::from(n) * -7),
            orig: a,
            rcpt: b,
            status: EnhancedStatus::new(5, n % 1000, 999),
            diag: a,
            mta_ip: Some(Ipv4Addr::from(u32::from(n)).into()),
            dlv_source_ip: (n & 2 == 2).then(|| Ipv6Addr::from(u128::from(n) << 100).into()),
            dlv_size: u64::from(n) << 20,
            headers: pairs,
            arf: pairs,
            list: a,
            ..Event::new(kind, Time(i64::from(n)))
        }
    }

    proptest! {
        #[test]
        fn what_is_pushed_comes_back(kinds in prop::collection::vec(1u8..9, 1..5), a in "\\PC{0,40}", b in ".{0,300}", n: u16) {
            let mut pairs = crate::event::record::PairsBuf::default();
            pairs.push(&a, &b);
            let mut events = Events::new();
            let all: Vec<_> = kinds.iter().map(|k| sample(Kind::from_number(*k).unwrap(), &a, &b, n, pairs.as_pairs())).collect();
            all.iter().for_each(|e| events.push(e));
            let back = read(&events);
            prop_assert_eq!(back.len(), all.len());
            let batch = EventBatch { store: StoreId(7), first_seq: 10, rules: RuleSetId(3), count: all.len() as u32, bytes: events.as_bytes() };
            let mut some = Vec::new();
            let (kinds, mut last) = (Kinds::of(&[Kind::Delivered, Kind::Bounced]), None);
            batch.read_into(kinds, &mut some, &mut last, |e| { e.pool = "p"; e.seq % 2 == 0 }).unwrap();
            let of_kinds: Vec<Event<'_>> = back.iter().map(|e| *e.as_ref().unwrap()).filter(|e| kinds.contains(e.kind)).collect();
            let wanted: Vec<_> = of_kinds.iter().filter(|e| e.seq % 2 == 0).map(|e| Event { pool: "p", ..*e }).collect();
            prop_assert_eq!((some, last), (wanted, all.last().map(|e| e.time)));
            prop_assert_eq!(batch.iter_of(kinds).map(Result::unwrap).collect::<Vec<_>>(), of_kinds);
            for (i, (got, want)) in back.into_iter().zip(&all).enumerate() {
                prop_assert_eq!(got.unwrap(), Event { store: StoreId(7), seq: 10 + i as u64, rules: RuleSetId(3), ..*want });
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let batch = EventBatch { store: StoreId(1), first_seq: 1, rules: RuleSetId(0), count: 50, bytes: &bytes };
            let _ = batch.iter().count();
            let mut read = Vec::new();
            let whole = batch.read_into(Kinds::ALL, &mut read, &mut None, |_| true);
            let sound = batch.iter().take_while(Result::is_ok).count();
            prop_assert_eq!((read.len(), whole.is_ok()), (sound, sound == 50));
        }
    }

    #[test]
    fn an_event_longer_than_two_length_bytes_comes_back() {
        let long = "x".repeat(100_000);
        let mut events = Events::new();
        events.push(&sample(Kind::Bounced, &long, "b", 1, Pairs::EMPTY));
        events.push(&sample(Kind::Delivered, "a", "b", 2, Pairs::EMPTY));
        let back = read(&events);
        assert_eq!(back[0].as_ref().unwrap().diag.len(), 100_000);
        assert_eq!(back[1].as_ref().unwrap().kind, Kind::Delivered);
    }

    #[test]
    fn a_field_from_the_future_is_skipped() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &sample(Kind::Bounced, "a", "b", 1, Pairs::EMPTY));
        for (wire, value) in [(NUMBER, vec![0x85, 1]), (BYTES, vec![2, 9, 9]), (FIXED, vec![0; 8])] {
            bytes.push(tag(62, wire));
            bytes.extend(value);
        }
        assert_eq!(decode(&bytes).unwrap().rcpt, "b");
    }

    #[test]
    fn a_usual_delivery_takes_few_bytes() {
        let mut events = Events::new();
        events.push(&Event {
            message: MessageId(123_456),
            attempt: 1,
            stage: Some(Stage::Eod),
            time_queued: Time::from_secs(1_700_000_000),
            orig: "news@example.com",
            rcpt: "ann@example.net",
            action: Some(Action::Relayed),
            status: EnhancedStatus::new(2, 0, 0),
            diag: "smtp;250 2.0.0 Ok: queued as 4F2C61A02B",
            mta: "mx1.example.net",
            mta_ip: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            src_type: Some(SourceType::Smtp),
            src_mta: "feeder.example.com",
            src_ip: Some(Ipv4Addr::LOCALHOST.into()),
            dlv_type: Some(DeliveryType::Smtp),
            dlv_source_ip: Some(Ipv4Addr::LOCALHOST.into()),
            dlv_destination_ip: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            dlv_esmtp: "PIPELINING,8BITMIME,SIZE",
            dlv_size: 4096,
            vmta: "{default}",
            queue: "example.net/{default}",
            provider: "example.net",
            ..Event::new(Kind::Delivered, Time::from_secs(1_700_000_000))
        });
        assert!(events.as_bytes().len() < 320, "{}", events.as_bytes().len());
    }
}
