#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads the mails it is given")]
//! The mails in files, folders, Maildirs and mailboxes, one in memory at a time.
//!
//! Below a folder only regular files are read, and links to them. A link to a folder is not followed, so that no circle
//! of links is walked for ever; a FIFO, a socket or a device is not opened, since it may never answer; both are said.
//! Names that begin with a dot are not mails. Of a Maildir only `cur` and `new` hold mails, and its subfolders.
//!
//! What is packed with gzip or zstd, as its first bytes show, is unpacked.

use std::fs::{File, FileType};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::event::plain;

/// Bytes of one mail that are kept; what a report says stands well before.
const MAX_MAIL: usize = 8 << 20;
/// Folders in folders that are read.
const MAX_DEPTH: usize = 32;

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At<'a> {
    /// The file; `-` for standard input.
    pub file: &'a Path,
    /// Its place among the mails of the file, from 1.
    pub number: u64,
    /// Bytes of the (unpacked) file before it; in a mailbox it begins behind its From_ line.
    pub offset: u64,
    /// The file is a mailbox.
    pub in_mailbox: bool,
}

/// What is done with each mail.
pub(super) type Each<'e> = dyn FnMut(At<'_>, &[u8]) -> Result<(), Failure> + 'e;

/// Calls `each` with the mails at `places`, those of a folder in the order of their names. What is not read is said on
/// standard error. Whether all could be read; an error is one of `each`.
pub(super) fn each_mail(places: &[PathBuf], each: &mut Each<'_>) -> Result<bool, Failure> {
    let mut walk = Walk { each, read_all: true, goes_on: places.len() > 1 };
    for place in places {
        match std::fs::metadata(place) {
            Ok(found) if found.is_dir() => walk.folder(place, 0)?,
            _ => walk.file(place, false)?,
        }
    }
    Ok(walk.read_all)
}

struct Walk<'w, 'e> {
    each: &'w mut Each<'e>,
    read_all: bool,
    /// There is more than the one file that was named.
    goes_on: bool,
}

/// Why a file was not read to its end.
enum Reading {
    File(std::io::Error),
    Output(Failure),
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<(), Failure> {
        self.goes_on = true;
        if depth > MAX_DEPTH {
            self.failed(folder, format!("more than {MAX_DEPTH} folders in each other"));
            return Ok(());
        }
        let entries = match entries(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.failed(folder, error);
                return Ok(());
            }
        };
        let (maildir, one_mail) = (is_maildir(folder), is_mails_of_maildir(folder));
        for (path, name, kind) in entries {
            if maildir {
                let holds_mails = matches!(name.as_str(), "cur" | "new");
                if kind.is_dir() && (holds_mails || is_maildir(&path)) {
                    self.folder(&path, depth + 1)?;
                }
            } else if !name.starts_with('.') {
                self.entry(&path, kind, one_mail, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, kind: FileType, one_mail: bool, depth: usize) -> Result<(), Failure> {
        if kind.is_dir() {
            return self.folder(path, depth + 1);
        }
        if kind.is_file() {
            return self.file(path, one_mail);
        }
        let target = match std::fs::metadata(path) {
            Ok(target) => target.file_type(),
            Err(error) => {
                self.failed(path, error);
                return Ok(());
            }
        };
        if target.is_file() {
            return self.file(path, one_mail);
        }
        let what = if target.is_dir() { "a link to a folder" } else { "no regular file" };
        eprintln!("carom: {}: left out, it is {what}", shown(path));
        Ok(())
    }

    /// One file; `one_mail` when it can't be a mailbox.
    fn file(&mut self, file: &Path, one_mail: bool) -> Result<(), Failure> {
        match read_file(file, one_mail, self.each) {
            Ok(()) => Ok(()),
            Err(Reading::Output(failure)) => Err(failure),
            Err(Reading::File(error)) => {
                self.failed(file, error);
                Ok(())
            }
        }
    }

    fn failed(&mut self, place: &Path, why: impl std::fmt::Display) {
        let others = if self.goes_on { "; the other mails are read all the same" } else { "" };
        eprintln!("carom: {}: {why}{others}", shown(place));
        self.read_all = false;
    }
}

/// A path as it may be shown.
pub(super) fn shown(path: &Path) -> String {
    plain(&path.display().to_string()).into_owned()
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> std::io::Result<Vec<(PathBuf, String, FileType)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.path(), entry.file_name().to_string_lossy().into_owned(), entry.file_type()?));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn is_maildir(folder: &Path) -> bool {
    ["cur", "new"].iter().all(|name| std::fs::symlink_metadata(folder.join(name)).is_ok_and(|found| found.is_dir()))
}

fn is_mails_of_maildir(folder: &Path) -> bool {
    matches!(folder.file_name().and_then(|n| n.to_str()), Some("cur" | "new"))
        && folder.parent().is_some_and(is_maildir)
}

fn read_file(file: &Path, one_mail: bool, each: &mut Each<'_>) -> Result<(), Reading> {
    if file == Path::new("-") {
        return split(file, unpacked(std::io::stdin().lock())?, true, each);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    // A mail that was saved with its envelope line in front is one mail.
    let mailbox = !one_mail && ![".eml", ".msg", ".txt"].iter().any(|ending| name.ends_with(ending));
    split(file, unpacked(File::open(file).map_err(Reading::File)?)?, mailbox, each)
}

/// The content of a file, whatever it is packed with.
fn unpacked<'r>(mut raw: impl Read + 'r) -> Result<Box<dyn BufRead + 'r>, Reading> {
    let mut head = Vec::new();
    raw.by_ref().take(4).read_to_end(&mut head).map_err(Reading::File)?;
    let all = std::io::Cursor::new(head.clone()).chain(raw);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(all))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Box::new(BufReader::new(zstd::stream::read::Decoder::new(all).map_err(Reading::File)?))
        }
        _ => Box::new(BufReader::new(all)),
    })
}

/// The mails of a reader. A mailbox begins with a From_ line, and so does each mail in it, behind an empty line. What is
/// empty is one empty mail: nothing that was named passes in silence.
fn split(file: &Path, mut reader: impl BufRead, mailbox: bool, each: &mut Each<'_>) -> Result<(), Reading> {
    let (mut mail, mut line) = (Vec::new(), Vec::new());
    let mut at = At { file, number: 0, offset: 0, in_mailbox: false };
    let mut read = 0u64;
    let (mut first, mut after_empty) = (true, true);
    let mut ended = |at: &mut At<'_>, mail: &mut Vec<u8>| {
        at.number += 1;
        let done = each(*at, mail).map_err(Reading::Output);
        mail.clear();
        done
    };
    loop {
        line.clear();
        // A line without an end must not fill the memory.
        let mut bounded = (&mut reader).take(MAX_MAIL as u64);
        let length = bounded.read_until(b'\n', &mut line).map_err(Reading::File)?;
        if length == 0 {
            break;
        }
        read += length as u64;
        if mailbox && (first || at.in_mailbox && after_empty) && is_from_line(&line) {
            at.in_mailbox = true;
            if !mail.is_empty() {
                ended(&mut at, &mut mail)?;
            }
            at.offset = read;
        } else if mail.len() < MAX_MAIL {
            mail.extend_from_slice(&line);
        }
        first = false;
        after_empty = matches!(line.as_slice(), b"\n" | b"\r\n");
    }
    if mail.is_empty() && at.number > 0 { Ok(()) } else { ended(&mut at, &mut mail) }
}

/// Words of a From_ line that are looked at.
const MAX_WORDS: usize = 24;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Whether a line is the one before each mail of a mailbox: `From`, a sender, and a date with its day of the week, day,
/// month, time and year (RFC 4155, appendix A), in the order of C or of a Date field. A sentence that begins with the
/// word is not.
fn is_from_line(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    let text = String::from_utf8_lossy(&rest[..rest.len().min(1024)]).to_ascii_lowercase();
    let words: Vec<&str> = text.split_ascii_whitespace().map(|w| w.trim_end_matches(',')).take(MAX_WORDS).collect();
    let Some(day) = words.iter().skip(1).position(|w| DAYS.contains(w)) else { return false };
    let date = &words[day + 2..];
    let number = |w: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&w.len()) && w.bytes().all(|b| b.is_ascii_digit())
    };
    let [a, b, behind @ ..] = date else { return false };
    let day_and_month = MONTHS.contains(a) && number(b, 1..=2) || number(a, 1..=2) && MONTHS.contains(b);
    let time = |w: &&str| w.split(':').count() >= 2 && w.split(':').all(|part| number(part, 1..=2));
    day_and_month && behind.iter().any(time) && behind.iter().any(|w| number(w, 4..=4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each mail, with its number and offset.
    fn mails(bytes: &[u8], mailbox: bool) -> Vec<(u64, u64, Vec<u8>)> {
        let mut mails = Vec::new();
        let each = &mut |at: At<'_>, mail: &[u8]| {
            mails.push((at.number, at.offset, mail.to_vec()));
            Ok(())
        };
        assert!(split(Path::new("x"), bytes, mailbox, each).is_ok());
        mails
    }

    #[test]
    fn a_mailbox_is_split_at_its_from_lines_and_not_at_words_in_the_text() {
        let mbox = b"From a@b Sat Jan  3 01:05:34 2026\nSubject: one\n\ntext\nFrom here on\n\nFrom the start:\n\n\
            From MAILER-DAEMON Sat Jan  3 01:05:35 2026\r\nSubject: two\r\n\r\nx\r\n";
        let mails = mails(mbox, true);
        assert_eq!(mails.len(), 2);
        assert!(mails[0].2.ends_with(b"From the start:\n\n") && mails[1].2.starts_with(b"Subject: two"));
        for (number, offset, mail) in mails {
            let at = offset as usize;
            assert_eq!(&mbox[at..at + mail.len()], &mail[..], "mail {number} begins at byte {offset}");
        }
    }

    #[test]
    fn a_mail_is_not_split_whatever_its_lines_say() {
        let mail = b"Subject: one\n\n\nFrom c@d Sat Jan  3 01:05:34 2026\n\nx\n".to_vec();
        assert_eq!(mails(&mail, true), [(1, 0, mail.clone())]);
        assert_eq!(mails(b"", true), [(1, 0, Vec::new())], "an empty file is an empty mail");
    }

    #[test]
    fn a_from_line_has_a_sender_and_a_date() {
        for line in [
            "From ann@example.net Sat Jan  3 01:05:34 1996\n",
            "From - Sat Jan 03 01:05:34 2026\r\n",
            "From MAILER-DAEMON Thu Nov 19 18:29 GMT 2026\n",
            "From ann@example.net Thu Nov 19 18:29:01 2026 +0100 remote from mx\n",
            "From \"Ann Lee\"@example.net Thu, 19 Nov 2026 18:29:01 +0100\n",
        ] {
            assert!(is_from_line(line.as_bytes()), "{line}");
        }
        for line in [
            "From the start:\n",
            "From Mon on we are closed\n",
            "From: ann@example.net\n",
            "From ann@example.net\n",
            "From Sat Jan  3 01:05:34 1996\n",
            "From what I saw on Mon Jan 5 it was late\n",
            "From \n",
            "",
        ] {
            assert!(!is_from_line(line.as_bytes()), "{line}");
        }
    }
}
