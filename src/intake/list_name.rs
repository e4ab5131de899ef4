//! The mailing list that a mail belongs to, as its header section names it.

/// Bytes of a list's name.
const MAX_NAME: usize = 255;

/// The name in a List-Id field (RFC 2919): what stands in angle brackets, the phrase before them left out. Senders that
/// know no better leave the brackets out, so the whole is taken then. Empty when there is none; at most 255 bytes.
pub fn list_name(value: &str) -> &str {
    let value = value.trim();
    let name = match value.rsplit_once('<') {
        Some((_, rest)) => rest.split_once('>').map_or(rest, |(name, _)| name),
        None => value,
    };
    let name = name.trim();
    name[..name.floor_char_boundary(MAX_NAME)].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_is_what_stands_in_the_brackets() {
        for (value, name) in [
            ("Weekly offers <weekly.shop.example>", "weekly.shop.example"),
            ("<weekly.shop.example>", "weekly.shop.example"),
            ("\"a < b\" < weekly > (x)", "weekly"),
            (" weekly ", "weekly"),
            ("<weekly", "weekly"),
            ("", ""),
            ("<>", ""),
        ] {
            assert_eq!(list_name(value), name, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_and_no_name_is_long(value in "\\PC{0,400}") {
            prop_assert!(list_name(&value).len() <= MAX_NAME);
        }
    }
}
