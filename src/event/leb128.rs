//! Numbers and texts as they are kept and signed: a number as LEB128, seven bits a byte, the lowest first; bytes and text
//! behind their length. Taking moves what is left forward; damaged or cut off bytes give `None`.

/// Appends a number.
#[inline]
pub fn put_number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a text behind its length in bytes.
#[inline]
pub fn put_str(out: &mut Vec<u8>, s: &str) {
    put_number(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

/// Takes a number.
#[inline]
pub fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(b & 0x7f).checked_shl(shift)?;
        if b & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Takes as many bytes as the number in front of them says.
#[inline]
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// Takes a text.
#[inline]
pub fn take_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken_and_what_is_cut_off_is_not(n: u64, text: String, cut: usize) {
            let mut out = Vec::new();
            put_number(&mut out, n);
            put_str(&mut out, &text);
            let mut rest = &out[..];
            prop_assert_eq!((take_number(&mut rest), take_str(&mut rest)), (Some(n), Some(&*text)));
            prop_assert!(rest.is_empty());
            let mut rest = &out[..cut % out.len()];
            prop_assert!(take_number(&mut rest).and_then(|_| take_str(&mut rest)).is_none());
        }
    }

    #[test]
    fn a_number_that_never_ends_is_none() {
        assert_eq!(take_number(&mut &[0xff; 32][..]), None);
    }
}
