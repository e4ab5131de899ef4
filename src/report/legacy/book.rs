//! All families' signs in one book, so that a mail is looked through once and not once for each family.
//!
//! It is made of the tables at first use and never changes: a constant that can't be written as one.

use std::ops::Range;
use std::sync::LazyLock;

use super::super::body;
use super::super::words::{Seen, Words, holds};
use super::{Family, Looks, Sign, TABLES};

/// The signs of all families, and the words of the general reading that are looked for in the same text.
pub(in crate::report) static BOOK: LazyLock<Book> = LazyLock::new(Book::new);

pub(in crate::report) struct Book {
    from: Words,
    subject: Words,
    text: Words,
    families: Vec<(&'static Family, Vec<Group>)>,
    /// Where the lists of the general reading stand among the words of the text.
    pub(in crate::report) openings: Range<usize>,
    pub(in crate::report) gave_up: Range<usize>,
    pub(in crate::report) for_good: Range<usize>,
    pub(in crate::report) refused: Range<usize>,
    pub(in crate::report) still_trying: Range<usize>,
}

/// One group of signs; words by their numbers.
#[derive(Default)]
struct Group {
    from: Vec<usize>,
    subject: Vec<usize>,
    header: Vec<(&'static str, &'static str)>,
    text: Vec<usize>,
    no_text: Vec<usize>,
    /// The signs alone show that the mail is a report: words under a header of its kind, or several of them.
    sure: bool,
}

impl Book {
    fn new() -> Book {
        let mut text: Vec<&'static str> = Vec::new();
        let mut add = |list: &[&'static str]| {
            let first = text.len();
            text.extend(list);
            first..text.len()
        };
        let openings = add(body::OPENINGS);
        let gave_up = add(body::GAVE_UP);
        let for_good = add(body::FOR_GOOD);
        let refused = add(body::REFUSED);
        let still_trying = add(body::STILL_TRYING);
        let (mut from, mut subject) = (Vec::new(), Vec::new());
        let number = |words: &mut Vec<&'static str>, word: &'static str| {
            words.iter().position(|w| *w == word).unwrap_or_else(|| {
                words.push(word);
                words.len() - 1
            })
        };
        let mut families = Vec::new();
        for family in TABLES.iter().flat_map(|t| t.iter()) {
            let mut groups = Vec::new();
            for signs in family.signs {
                let said = signs.iter().filter(|s| matches!(s, Sign::Text(_) | Sign::Subject(_))).count();
                let mut group = Group { sure: said >= 2 || said == 1 && signs.len() >= 2, ..Group::default() };
                for sign in *signs {
                    match sign {
                        Sign::From(word) => group.from.push(number(&mut from, word)),
                        Sign::Subject(word) => group.subject.push(number(&mut subject, word)),
                        Sign::Header(name, word) => group.header.push((name, word)),
                        Sign::Text(word) => group.text.push(number(&mut text, word)),
                        Sign::NoText(word) => group.no_text.push(number(&mut text, word)),
                    }
                }
                groups.push(group);
            }
            families.push((family, groups));
        }
        Book {
            from: Words::new(&from),
            subject: Words::new(&subject),
            text: Words::new(&text),
            families,
            openings,
            gave_up,
            for_good,
            refused,
            still_trying,
        }
    }

    /// The words of the families and of the general reading that a text (lower-cased) holds.
    pub(in crate::report) fn words_of(&self, text: &str) -> Seen {
        self.text.look(text)
    }

    /// The family that wrote a mail, and whether its signs alone show that the mail is a report. `text` gives what
    /// [`Book::words_of`] says of the mail's text, and is asked only when the header allows a family.
    pub(in crate::report) fn family(
        &self,
        looks: &Looks<'_>,
        text: &mut dyn FnMut() -> Seen,
    ) -> Option<(&'static Family, bool)> {
        let from = self.from.look(looks.from);
        let subject = self.subject.look(looks.subject);
        // A text alone is no sign in a mail that somebody answered or passed on.
        let by_text = looks.signs.any() && (!looks.signs.answered || looks.signs.machine);
        let headed =
            |group: &Group| group.header.iter().all(|(name, word)| looks.mail.header.all(name).any(|v| holds(v, word)));
        let mut said = |group: &Group| {
            group.text.is_empty() && group.no_text.is_empty() || {
                let seen = text();
                group.text.iter().all(|w| seen.has(*w)) && !group.no_text.iter().any(|w| seen.has(*w))
            }
        };
        self.families.iter().find_map(|(family, groups)| {
            let group = groups.iter().find(|group| {
                let of_text_only = group.from.is_empty() && group.subject.is_empty() && group.header.is_empty();
                (by_text || !of_text_only)
                    && group.from.iter().all(|w| from.has(*w))
                    && group.subject.iter().all(|w| subject.has(*w))
                    // What has been looked through already is asked first.
                    && (!by_text || said(group))
                    && headed(group)
                    && said(group)
            })?;
            Some((*family, group.sure))
        })
    }
}
