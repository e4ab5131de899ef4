//! Times as accounting files spell them.

use crate::event::Time;

/// The time that `text` means; `None` when it is no time. Understood are `YYYY-MM-DD HH:MM:SS+ZZZZ` as PowerMTA writes
/// it (a `T` between, fractions, `Z`, `+ZZ:ZZ` and a missing offset, taken as UTC, too), `MM/DD/YYYY HH:MM:SS+ZZZZ`, and
/// seconds, milliseconds or microseconds since 1970.
pub fn parse(text: &str) -> Option<Time> {
    let b = text.trim().as_bytes();
    match (b.get(2), b.get(4)) {
        (_, Some(b'-')) => date_time(number(b, 0, 4)?, number(b, 5, 2)?, number(b, 8, 2)?, b.get(10..)?),
        (Some(b'/'), _) => date_time(number(b, 6, 4)?, number(b, 0, 2)?, number(b, 3, 2)?, b.get(10..)?),
        _ => since_the_epoch(b),
    }
}

fn number(b: &[u8], at: usize, digits: usize) -> Option<i64> {
    let part = b.get(at..at + digits)?;
    part.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

/// `rest` begins behind the date.
fn date_time(year: i64, month: i64, day: i64, rest: &[u8]) -> Option<Time> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400;
    if rest.is_empty() {
        return Some(Time::from_secs(midnight));
    }
    let (hour, minute, second) = (number(rest, 1, 2)?, number(rest, 4, 2)?, number(rest, 7, 2)?);
    if !matches!(rest[0], b' ' | b'T' | b't') || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 9;
    let mut micros = 0;
    if rest.get(at) == Some(&b'.') {
        let digits = rest[at + 1..].iter().take_while(|d| d.is_ascii_digit()).count();
        micros = number(rest, at + 1, digits.min(6))? * 10i64.pow(6 - digits.min(6) as u32);
        at += 1 + digits;
    }
    let zone = rest[at..].trim_ascii_start();
    let offset = match zone {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let minutes = match zone.len() {
                2 => 0,
                4 => number(zone, 2, 2)?,
                5 if zone[2] == b':' => number(zone, 3, 2)?,
                _ => return None,
            };
            let seconds = number(zone, 0, 2)? * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    Some(Time((midnight + hour * 3600 + minute * 60 + second - offset) * 1_000_000 + micros))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn since_the_epoch(b: &[u8]) -> Option<Time> {
    let (whole, fraction) = match b.iter().position(|c| *c == b'.') {
        Some(dot) => (&b[..dot], &b[dot + 1..]),
        None => (b, &b[..0]),
    };
    if whole.is_empty() || whole.len() > 16 {
        return None;
    }
    let n = number(whole, 0, whole.len())?;
    let digits = fraction.len().min(6);
    let micros = if digits == 0 { 0 } else { number(fraction, 0, digits)? * 10i64.pow(6 - digits as u32) };
    Some(match whole.len() {
        0..=11 => Time(n * 1_000_000 + micros),
        12..=14 => Time(n * 1_000),
        _ => Time(n),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_spell_an_instant_gives_it() {
        for text in [
            "2024-05-01 08:00:09+0000",
            "2024-05-01 10:00:09+0200",
            "2024-05-01 04:30:09-0330",
            "2024-05-01T08:00:09Z",
            "2024-05-01T08:00:09.000+00:00",
            "2024-05-01 08:00:09",
            "05/01/2024 08:00:09+0000",
            "1714550409",
            "1714550409.0",
            "1714550409000",
            "1714550409000000",
        ] {
            assert_eq!(parse(text), Some(Time::from_secs(1_714_550_409)), "{text}");
        }
        assert_eq!(parse("2014-08-24 16:00:14+0530"), Some(Time::from_secs(1_408_876_214)));
        assert_eq!(parse("2024-05-01T08:00:09.25Z"), Some(Time(1_714_550_409_250_000)));
        for bad in
            ["", "soon", "2024-13-01 00:00:00+0000", "2024-05-01 8:00", "2024-05-01 08:00:09+1", "12345678901234567"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_jiff_writes_is_read(second in -62_000_000_000i64..250_000_000_000) {
            let text = jiff::Timestamp::from_second(second).unwrap().strftime("%Y-%m-%d %H:%M:%S%z").to_string();
            prop_assume!(!text.starts_with('-'));
            prop_assert_eq!(parse(&text), Some(Time::from_secs(second)));
        }

        #[test]
        fn no_text_panics(text in "[0-9TZ:.+ /-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
