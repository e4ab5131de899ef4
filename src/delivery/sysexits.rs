//! What the exit status of a delivery program means (`sysexits.h`; submission.md, 7.2). Pure.
//!
//! The reference does not say what becomes of a status that is not in its table: [`OTHERWISE`], tried again later. A
//! program that does not know these codes, that could not be loaded (126, 127) or that broke (1, 2, 255) has said nothing
//! about the recipient, and to bounce for it would lose mail that a mended program can still take; `bounce-after` ends
//! it in any case.

use crate::event::EnhancedStatus;

use super::outcome::{Verdict, status};

/// What one status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The status.
    pub exit: i32,
    /// As `sysexits.h` calls it; empty when it has no name for it.
    pub name: &'static str,
    pub verdict: Verdict,
    pub status: EnhancedStatus,
}

const fn row(exit: i32, name: &'static str, verdict: Verdict, status: EnhancedStatus) -> Meaning {
    Meaning { exit, name, verdict, status }
}

const TABLE: &[Meaning] = &[
    row(0, "EX_OK", Verdict::Delivered, status(2, 0, 0)),
    row(64, "EX_USAGE", Verdict::Bounced, status(5, 5, 4)),
    row(65, "EX_DATAERR", Verdict::Bounced, status(5, 5, 2)),
    row(66, "EX_NOINPUT", Verdict::Bounced, status(5, 3, 0)),
    row(67, "EX_NOUSER", Verdict::Bounced, status(5, 1, 1)),
    row(68, "EX_NOHOST", Verdict::Bounced, status(5, 1, 2)),
    row(69, "EX_UNAVAILABLE", Verdict::Bounced, status(5, 3, 0)),
    row(70, "EX_SOFTWARE", Verdict::Bounced, status(5, 3, 0)),
    row(71, "EX_OSERR", Verdict::Deferred, status(4, 3, 0)),
    row(72, "EX_OSFILE", Verdict::Bounced, status(5, 3, 0)),
    row(73, "EX_CANTCREAT", Verdict::Bounced, status(5, 2, 0)),
    row(74, "EX_IOERR", Verdict::Deferred, status(4, 3, 0)),
    row(75, "EX_TEMPFAIL", Verdict::Deferred, status(4, 0, 0)),
    row(76, "EX_PROTOCOL", Verdict::Bounced, status(5, 5, 0)),
    row(77, "EX_NOPERM", Verdict::Bounced, status(5, 7, 1)),
    row(78, "EX_CONFIG", Verdict::Bounced, status(5, 3, 5)),
];

/// What every other status means.
const OTHERWISE: (Verdict, EnhancedStatus) = (Verdict::Deferred, status(4, 3, 0));

impl Meaning {
    /// Of this exit status.
    pub fn of(exit: i32) -> Meaning {
        let found = TABLE.iter().find(|meaning| meaning.exit == exit).copied();
        found.unwrap_or(row(exit, "", OTHERWISE.0, OTHERWISE.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_ends_as_the_reference_says_and_an_unknown_one_is_tried_again() {
        let expected = "0 d 2.0.0, 64 b 5.5.4, 65 b 5.5.2, 66 b 5.3.0, 67 b 5.1.1, 68 b 5.1.2, 69 b 5.3.0, 70 b 5.3.0, \
                        71 t 4.3.0, 72 b 5.3.0, 73 b 5.2.0, 74 t 4.3.0, 75 t 4.0.0, 76 b 5.5.0, 77 b 5.7.1, 78 b 5.3.5, \
                        1 t 4.3.0, 63 t 4.3.0, 79 t 4.3.0, 126 t 4.3.0, 127 t 4.3.0, 255 t 4.3.0, -1 t 4.3.0";
        let shown = |exit: i32| {
            let meaning = Meaning::of(exit);
            let letter = match meaning.verdict {
                Verdict::Delivered => 'd',
                Verdict::Bounced => 'b',
                _ => 't',
            };
            format!("{exit} {letter} {}", meaning.status)
        };
        let exits = [0, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 1, 63, 79, 126, 127, 255, -1];
        assert_eq!(exits.map(shown).join(", "), expected);
        assert!(TABLE.iter().all(|m| m.name.starts_with("EX_")));
    }
}
