//! `body-pattern-file`: an operator's own form of report, as one Perl-style pattern with named groups
//! (reference/accounting.md, 8.4).
//!
//! The file holds one pattern, which may run over several lines; lines at its top that begin with `#` are remarks. The
//! pattern is looked for anywhere in the decoded text of the mail, whose lines end in a line feed; upper and lower case
//! differ unless it begins with `(?i)`.

use std::path::{Path, PathBuf};

use super::diagnose::nearest;
use super::pattern::{Pattern, PatternError};

/// A pattern file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyPattern {
    /// Where it is.
    pub file: PathBuf,
    /// The name of the file: the `format` of what it recognises.
    pub name: String,
    /// What it holds.
    pub pattern: Pattern,
}

/// Groups of `<bounce-processor>`: final recipient, sender, original recipient, diagnostic, action, reporting and remote
/// MTA.
pub const BOUNCE_GROUPS: &[&str] = &["r", "or", "orig", "diag", "action", "repMta", "remMta"];
/// Groups of `<feedback-loop-processor>`.
pub const FEEDBACK_GROUPS: &[&str] = &["reportedDomainTo", "reportedDomainFrom", "dlvSourceIp", "rcpt", "orig"];

impl BodyPattern {
    /// As [`BodyPattern::read`], of the octets of a file.
    pub fn from_bytes(
        file: &Path,
        bytes: &[u8],
        groups: &[&str],
        doubts: &mut Vec<String>,
    ) -> Result<BodyPattern, PatternError> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let before = &bytes[..e.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() as u32;
            PatternError { message: "it is not UTF-8: save it as that".into(), line }
        })?;
        BodyPattern::read(file, text, groups, doubts)
    }

    /// Whether it begins with the flag `x`, by which blanks and line ends do not count.
    pub fn is_verbose(&self) -> bool {
        let flags = self.pattern.text().strip_prefix("(?").and_then(|text| text.split_once(')'));
        flags.is_some_and(|(flags, _)| flags.split('-').next().is_some_and(|on| on.contains('x')))
    }

    /// Lines of the pattern; they are one pattern, which has to match across them.
    pub fn lines(&self) -> usize {
        self.pattern.text().lines().count()
    }

    /// Reads the content of `file`; what is doubtful about it is added to `doubts`, one line each.
    pub fn read(
        file: &Path,
        text: &str,
        groups: &[&str],
        doubts: &mut Vec<String>,
    ) -> Result<BodyPattern, PatternError> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let mut rest = text.as_str();
        let mut skipped = 0;
        while let Some((line, after)) = rest.split_once('\n')
            && (line.starts_with('#') || line.trim().is_empty())
        {
            rest = after;
            skipped += 1;
        }
        let rest = rest.trim_end_matches(['\n', '\r']);
        if rest.trim().is_empty() {
            return Err(PatternError { message: "it holds no pattern".into(), line: 0 });
        }
        let at = |error: PatternError| PatternError { line: error.line + skipped, ..error };
        let pattern = Pattern::new(rest, true).map_err(at)?;
        if pattern.is_match("") {
            doubts.push("the pattern matches an empty text, and so every mail".to_owned());
        }
        let names = pattern.group_names();
        for name in names.iter().filter(|n| !groups.contains(n)) {
            let meant = nearest(name, groups.iter().copied()).map_or_else(
                || format!("the groups are {}", groups.join(", ")),
                |name| format!("did you mean {name}?"),
            );
            doubts.push(format!("the group {name} fills no field; {meant}"));
        }
        let of_recipients =
            ["r", "rcpt", "orig"].iter().filter(|n| groups.contains(n) && (**n != "orig" || groups == BOUNCE_GROUPS));
        if !of_recipients.into_iter().any(|n| names.contains(n)) {
            let wanted = if groups == BOUNCE_GROUPS { "r" } else { "rcpt" };
            doubts.push(format!("no group names the recipient: write (?<{wanted}>...) around the address"));
        }
        let name = file.file_name().map_or_else(|| file.display().to_string(), |n| n.to_string_lossy().into_owned());
        Ok(BodyPattern { file: file.to_owned(), name, pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Result<BodyPattern, PatternError>, Vec<String>) {
        let mut doubts = Vec::new();
        let read = BodyPattern::read(Path::new("/etc/carom/acme.pattern"), text, BOUNCE_GROUPS, &mut doubts);
        (read, doubts)
    }

    #[test]
    fn remarks_at_the_top_are_left_out_and_the_name_is_that_of_the_file() {
        let (pattern, doubts) = read("# The gateway of Acme\r\n#\r\n\r\nfailed: (?<r>\\S+)\r\n");
        let pattern = pattern.unwrap();
        assert_eq!((pattern.name.as_str(), doubts.len()), ("acme.pattern", 0));
        assert_eq!(&*pattern.pattern.groups("failed: a@b.example\n").unwrap().unwrap().get("r"), "a@b.example");
    }

    #[test]
    fn what_is_wrong_or_doubtful_is_said() {
        assert_eq!(read("# x\nfailed (?<r>[\n").0.unwrap_err().line, 1);
        assert!(read("# only remarks\n\n").0.is_err());
        let (_, doubts) = read("(?<diagg>x)?");
        assert_eq!(doubts.len(), 3, "{doubts:?}");
        assert!(doubts[1].contains("did you mean diag?") && doubts[2].contains("(?<r>"), "{doubts:?}");
    }
}
