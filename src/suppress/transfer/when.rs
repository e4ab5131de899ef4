//! The times that exports write: seconds since 1970, ISO 8601 with and without a zone, RFC 2822.

use crate::event::Time;

/// The time that `text` says; what has no zone is UTC. `None` when it is no time.
pub fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.starts_with('.') {
        return since_1970(text);
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.into());
    }
    let utc = text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")).or_else(|| text.strip_suffix("+0000"));
    let plain = utc.unwrap_or(text).trim().trim_end_matches('Z');
    if let Ok(civil) = plain.replacen(' ', "T", 1).parse::<jiff::civil::DateTime>() {
        return civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().into());
    }
    if let Ok(day) = plain.parse::<jiff::civil::Date>() {
        return day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().into());
    }
    let mail = if utc.is_some() { format!("{plain} +0000") } else { text.to_owned() };
    jiff::fmt::rfc2822::parse(&mail).ok().map(|zoned| zoned.timestamp().into())
}

fn since_1970(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let n: i64 = whole.parse().ok()?;
    let micros = match whole.len() {
        0..=11 => {
            let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
            n.checked_mul(1_000_000)?.checked_add(digits.parse().ok()?)?
        }
        12..=14 => n.checked_mul(1000)?,
        _ => n,
    };
    Some(Time(micros)).filter(|t| t.is_known() && t.timestamp().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_times_of_all_services_are_read() {
        let expected = Time::from_secs(1_576_573_113);
        for text in [
            "1576573113",
            "1576573113.0",
            "1576573113000",
            "2019-12-17T08:58:33Z",
            "2019-12-17T03:58:33-05:00",
            "2019-12-17 08:58:33",
            "2019-12-17 08:58:33 UTC",
            "2019-12-17 08:58:33 +0000",
            "Tue, 17 Dec 2019 08:58:33 UTC",
            "Tue, 17 Dec 2019 08:58:33 +0000",
            "Tue, 17 Dec 2019 03:58:33 -0500",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        assert_eq!(time("2019-12-17"), Some(Time::from_secs(1_576_540_800)));
        for text in ["", "yesterday", ".", "12/17/2019", "99999999999999999999", "0"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,40}", digits in "[0-9.]{0,30}") {
            let _ = (time(&text), time(&digits));
        }
    }
}
