//! Spans of time as PowerMTA's tools take them: `3h15m`, `1d`, `1w2d12h`.

/// Microseconds that `text` means.
///
/// # Errors
/// A sentence when it is no span.
pub fn parse(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no span of time; write 3h15m, 2d or 1w (units: w d h m s)");
    let mut total = 0i64;
    let mut number = None;
    for c in text.trim().chars() {
        if let Some(digit) = c.to_digit(10) {
            let so_far: i64 = number.unwrap_or(0);
            number = Some(so_far.checked_mul(10).and_then(|n| n.checked_add(digit.into())).ok_or_else(bad)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            'w' => 7 * 86_400,
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(bad()),
        };
        let seconds = number.take().and_then(|n: i64| n.checked_mul(unit)).ok_or_else(bad)?;
        total = total.checked_add(seconds).ok_or_else(bad)?;
    }
    let whole = number.is_none() && total > 0;
    total.checked_mul(1_000_000).filter(|_| whole).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sums_of_numbers_with_units() {
        assert_eq!(parse("3h15m"), Ok(11_700_000_000));
        assert_eq!(parse("1w2d"), Ok(9 * 86_400_000_000));
        for bad in ["", "3", "h", "3x", "-1h", "0s", "99999999999999999999w", "3h15"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
