//! `YYYY-MM-DD HH:MM:SS+ZZZZ` in the local zone, fast: the seconds of a stretch of mail repeat, so each is put into
//! words once.

use jiff::tz::TimeZone;

use crate::event::Time;

/// Bytes of a formatted time.
const WIDTH: usize = 24;
/// Seconds remembered; times in one file lie close together, and queue times spread over a few minutes.
const SLOTS: usize = 256;

/// Writes times, remembering those it wrote lately.
#[derive(Debug)]
pub struct IsoTimes {
    zone: TimeZone,
    slots: Vec<(i64, [u8; WIDTH])>,
}

impl IsoTimes {
    /// For this zone.
    pub fn new(zone: TimeZone) -> IsoTimes {
        // No time has this second: microseconds in 64 bits do not reach so far.
        IsoTimes { zone, slots: vec![(i64::MIN, [b' '; WIDTH]); SLOTS] }
    }

    /// Appends `time`; nothing when it is outside the years 0 to 9999.
    pub fn push(&mut self, out: &mut Vec<u8>, time: Time) {
        let second = time.secs();
        let slot = &mut self.slots[second.rem_euclid(SLOTS as i64) as usize];
        if slot.0 != second {
            let Some(text) = format(&self.zone, second) else { return };
            *slot = (second, text);
        }
        out.extend_from_slice(&slot.1);
    }
}

fn format(zone: &TimeZone, second: i64) -> Option<[u8; WIDTH]> {
    let timestamp = jiff::Timestamp::from_second(second).ok()?;
    let offset = zone.to_offset(timestamp);
    let local = offset.to_datetime(timestamp);
    let mut text = *b"YYYY-MM-DD HH:MM:SS+ZZZZ";
    let year = u32::try_from(local.year()).ok()?;
    put(&mut text[0..4], year);
    put(&mut text[5..7], local.month().unsigned_abs().into());
    put(&mut text[8..10], local.day().unsigned_abs().into());
    put(&mut text[11..13], local.hour().unsigned_abs().into());
    put(&mut text[14..16], local.minute().unsigned_abs().into());
    put(&mut text[17..19], local.second().unsigned_abs().into());
    let minutes = offset.seconds() / 60;
    text[19] = if minutes < 0 { b'-' } else { b'+' };
    put(&mut text[20..22], minutes.unsigned_abs() / 60);
    put(&mut text[22..24], minutes.unsigned_abs() % 60);
    Some(text)
}

fn put(digits: &mut [u8], mut n: u32) {
    for d in digits.iter_mut().rev() {
        *d = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(zone: &TimeZone, time: Time) -> String {
        let mut out = Vec::new();
        let mut times = IsoTimes::new(zone.clone());
        times.push(&mut out, time);
        let once = out.clone();
        out.clear();
        times.push(&mut out, time);
        assert_eq!(once, out, "the remembered text is the same");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_in_the_samples() {
        let t = Time::from_secs(1_714_550_409);
        assert_eq!(shown(&TimeZone::UTC, t), "2024-05-01 08:00:09+0000");
        let west = TimeZone::fixed(jiff::tz::Offset::from_seconds(-12_600).unwrap());
        assert_eq!(shown(&west, t), "2024-05-01 04:30:09-0330");
    }

    proptest! {
        #[test]
        fn the_text_is_what_jiff_writes(second in -62_000_000_000i64..250_000_000_000, offset in -50_000i32..50_000) {
            let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(offset / 60 * 60).unwrap());
            let want = jiff::Timestamp::from_second(second).unwrap().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%z").to_string();
            prop_assert_eq!(shown(&zone, Time::from_secs(second)), want);
        }

        #[test]
        fn no_time_panics(t: i64) {
            let _ = shown(&TimeZone::UTC, Time(t));
        }
    }
}
