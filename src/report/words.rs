//! Many words looked for in a text at once: one pass, whatever their number.

use std::ops::Range;

use aho_corasick::AhoCorasick;

/// Words that one set may hold.
const MAX_WORDS: usize = 512;

/// A set of words, numbered in the order in which they were given.
pub(super) struct Words {
    automaton: AhoCorasick,
}

/// Which words of a set a text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen([u64; MAX_WORDS / 64]);

impl Words {
    /// The set of these words; they count as they stand, so both they and the text should be lower-cased.
    ///
    /// # Panics
    ///
    /// When there are more than [`MAX_WORDS`] of them. The words are constants of this room: its tests would see it.
    pub(super) fn new(words: &[&str]) -> Words {
        assert!(words.len() <= MAX_WORDS, "a set holds {MAX_WORDS} words: make MAX_WORDS larger");
        let automaton = AhoCorasick::new(words).expect("a few hundred short words fit an automaton");
        Words { automaton }
    }

    /// The words that stand anywhere in a text.
    pub(super) fn look(&self, text: &str) -> Seen {
        self.look_where(text, |_| true)
    }

    /// The words that stand in a text at a place (bytes from its beginning) that is allowed.
    pub(super) fn look_where(&self, text: &str, allowed: impl Fn(usize) -> bool) -> Seen {
        let mut seen = Seen([0; MAX_WORDS / 64]);
        for found in self.automaton.find_overlapping_iter(text) {
            if allowed(found.start()) {
                let word = found.pattern().as_usize();
                seen.0[word / 64] |= 1 << (word % 64);
            }
        }
        seen
    }
}

impl Seen {
    /// Whether the word of this number is there.
    pub(super) fn has(&self, word: usize) -> bool {
        self.0[word / 64] >> (word % 64) & 1 == 1
    }

    /// Whether any of these is.
    pub(super) fn any(&self, words: Range<usize>) -> bool {
        words.into_iter().any(|word| self.has(word))
    }
}

/// Whether a text holds a word (lower-case), whatever the case of the text.
pub(super) fn holds(text: &str, word: &str) -> bool {
    if !word.is_ascii() {
        return text.to_lowercase().contains(word);
    }
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let Some(first) = word.first() else { return true };
    let Some(last) = text.len().checked_sub(word.len()) else { return false };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), &text[..=last])
        .any(|at| text[at..at + word.len()].eq_ignore_ascii_case(word))
}

/// The entries of a list that change nothing, because another of it stands there as well or covers them.
#[cfg(test)]
pub(super) fn idle<'l>(list: &[&'l str], covers: fn(&str, &str) -> bool) -> Vec<&'l str> {
    let idle = |i: usize| {
        let lower = list[i].to_lowercase();
        list.iter().enumerate().any(|(j, other)| {
            let other = other.to_lowercase();
            if lower == other { j < i } else { covers(&lower, &other) }
        })
    };
    (0..list.len()).filter(|i| idle(*i)).map(|i| list[i]).collect()
}

/// For [`idle`]: an entry counts anywhere, at the beginning, or only as a whole.
#[cfg(test)]
pub(super) const ANYWHERE: fn(&str, &str) -> bool = |entry, other| entry.contains(other);
#[cfg(test)]
pub(super) const AT_THE_BEGINNING: fn(&str, &str) -> bool = |entry, other| entry.starts_with(other);
#[cfg(test)]
pub(super) const AS_A_WHOLE: fn(&str, &str) -> bool = |_, _| false;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_idle_when_another_covers_it() {
        let list = ["failed", "delivery failed", "Full", "full", "failed for good"];
        assert_eq!(idle(&list, ANYWHERE), ["delivery failed", "full", "failed for good"]);
        assert_eq!(idle(&list, AT_THE_BEGINNING), ["full", "failed for good"]);
        assert_eq!(idle(&list, AS_A_WHOLE), ["full"]);
    }

    #[test]
    fn words_within_words_are_seen_as_well() {
        let words = Words::new(&["delivery", "delivery failed", "failed", "warning"]);
        let seen = words.look("mail delivery failed");
        assert_eq!([0, 1, 2, 3].map(|w| seen.has(w)), [true, true, true, false]);
        assert!(seen.any(2..4) && !seen.any(3..4));
        assert!(!words.look_where("mail delivery failed", |at| at == 0).any(0..4));
    }

    #[test]
    fn the_case_of_a_text_does_not_count() {
        assert!(holds("X-Mailer: KUNDENSERVER.de", "kundenserver") && holds("ÉCHEC", "échec"));
        assert!(!holds("kunden", "kundenserver") && holds("", ""));
    }
}
