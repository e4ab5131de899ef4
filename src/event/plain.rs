//! Text from outside as it may be shown: on a terminal, in a cell of a file, in a line of a log.
//!
//! What can hide in a decoded header or a reply: control characters (C0, DEL, C1), which move the cursor, change colours
//! or begin a new row; line and paragraph separators, which some readers take for the end of a line; and the characters
//! that turn the direction of writing (Unicode Standard Annex 9), by which a text shows as another one than it is. What
//! parts words becomes a space; the others become U+FFFD, so that an address that holds one does not fall apart into
//! another address, and everybody sees that something was there.

use std::borrow::Cow;

/// One line without control, separator and direction characters; borrowed when there are none. It may be three times as
/// long, as text that is not UTF-8 may be once it is read.
pub fn plain(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_unfit) {
        true => Cow::Owned(text.chars().map(fit).collect()),
        false => Cow::Borrowed(text),
    }
}

/// What stands for a character: itself, unless it is unfit.
pub fn fit(c: char) -> char {
    match c {
        '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_unfit(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Whether a character moves what stands around it instead of standing for itself.
pub fn is_unfit(c: char) -> bool {
    // Nearly all text is ASCII, and only that costs nothing.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parts_words_becomes_a_space_and_what_moves_the_cursor_or_turns_the_writing_is_shown() {
        assert_eq!(plain("\u{1b}[31mred\r\nline\u{85}\u{9b}2J\u{7f}"), "\u{fffd}[31mred  line \u{fffd}2J\u{fffd}");
        assert_eq!(plain("pay\u{202e}lap\u{2066}x\ta\u{2028}b\0"), "pay\u{fffd}lap\u{fffd}x a b\u{fffd}");
        for c in '\0'..='\u{ffff}' {
            assert_eq!(fit(c) != c, is_unfit(c), "{c:?}");
        }
    }

    #[test]
    fn other_text_is_left_as_it_is() {
        for text in ["", "550 5.1.1 no such user", "Zurück: שלום 未送達 \u{1f4e7}", "a\u{a0}b"] {
            assert!(matches!(plain(text), Cow::Borrowed(t) if t == text), "{text}");
        }
    }
}
