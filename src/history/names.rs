//! What columns and record types are called: PowerMTA's names, those of its tools, and spellings met in the field.

use crate::event::Kind;

/// Other names of a column, in lower case, and the name of the field table.
const ALIASES: &[(&str, &str)] = &[
    // acctfind's (reference/accounting.md, section 10)
    ("to", "rcpt"),
    ("from", "orig"),
    ("dstip", "dlvDestinationIp"),
    ("srcip", "dlvSourceIp"),
    ("timedelivered", "timeLogged"),
    // met in headers of files that other tools wrote
    ("mailfrom", "orig"),
    ("recipient", "rcpt"),
    // ours on the command line
    ("message-id", "messageId"),
    ("event-id", "eventId"),
    ("category", "bounceCat"),
];

/// The one name of a column: aliases resolved, `header:NAME` as `header_NAME`, a `#` in front dropped. The case of what
/// is no alias stays, so compare with [`same`].
pub fn canonical(name: &str) -> String {
    let name = name.trim().trim_start_matches(['\u{feff}', '#']);
    if let Some(header) = name.get(..7).filter(|p| p.eq_ignore_ascii_case("header:")).and(name.get(7..)) {
        return format!("header_{}", header.trim());
    }
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    alias.map_or(name, |(_, meant)| meant).to_owned()
}

/// Whether two canonical names mean one column: PowerMTA's documents spell some in several ways (`envid`, `dsnMTA`).
pub fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Names that `--FIELD` options are made of: the aliases behind the field table's own.
pub fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALIASES.iter().copied()
}

/// The record type that a `type` cell names: the short names, the long ones, and `fbl`.
pub fn kind(text: &str) -> Option<Kind> {
    if let Some(kind) = Kind::ALL.iter().find(|k| k.name().eq_ignore_ascii_case(text)) {
        return Some(*kind);
    }
    if text.eq_ignore_ascii_case("fbl") {
        return Some(Kind::Feedback);
    }
    Kind::ALL.iter().copied().find(|k| k.long_name().eq_ignore_ascii_case(text))
}

/// Whether the first cell of a line makes it a header line: in front of a file, and wherever a pipe began anew.
pub fn opens_header(cell: &str) -> bool {
    canonical(cell).eq_ignore_ascii_case("type")
}

/// The columns of a file without a header line, by the cells of its first line: PowerMTA's default lists of the
/// versions 3 and 4 (with `timeImprinted`) and 5. `None` when it is neither.
pub fn without_header(first: &[&str]) -> Option<&'static [&'static str]> {
    const V5: &[&str] = &[
        "type",
        "timeLogged",
        "timeQueued",
        "orig",
        "rcpt",
        "orcpt",
        "dsnAction",
        "dsnStatus",
        "dsnDiag",
        "dsnMta",
        "bounceCat",
        "srcType",
        "srcMta",
        "dlvType",
        "dlvSourceIp",
        "dlvDestinationIp",
        "dlvEsmtpAvailable",
        "dlvSize",
        "vmta",
        "jobId",
        "envId",
        "queue",
        "vmtaPool",
    ];
    const V4: &[&str] = &[
        "type",
        "timeLogged",
        "timeQueued",
        "timeImprinted",
        "orig",
        "rcpt",
        "orcpt",
        "dsnAction",
        "dsnStatus",
        "dsnDiag",
        "dsnMta",
        "bounceCat",
        "srcType",
        "srcMta",
        "dlvType",
        "dlvSourceIp",
        "dlvDestinationIp",
        "dlvEsmtpAvailable",
        "dlvSize",
        "vmta",
        "jobId",
        "envId",
    ];
    kind(first.first()?)?;
    let address = |at: usize| first.get(at).is_some_and(|cell| cell.contains('@'));
    match first.len() {
        22 if address(5) => Some(V4),
        // Versions grew at the end: 21 columns end in envId, 22 in queue.
        n @ 21..=23 if address(4) => Some(&V5[..n]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_leads_to_the_one_name() {
        for (spelt, meant) in [
            ("to", "rcpt"),
            ("mailfrom", "orig"),
            ("#type", "type"),
            ("\u{feff}type", "type"),
            ("header:X-Job", "header_X-Job"),
            ("dsnMTA", "dsnMta"),
            ("envid", "envId"),
        ] {
            assert!(same(&canonical(spelt), meant), "{spelt}");
        }
        assert_eq!(kind("fbl"), Some(Kind::Feedback));
        assert_eq!(kind("delivery"), Some(Kind::Delivered));
        assert_eq!(kind("c"), None);
    }
}
