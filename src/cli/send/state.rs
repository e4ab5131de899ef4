#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: the state file and its writer thread")]
//! What `carom send` has done so far, row by row, so that an interrupted run can go on without sending twice.
//!
//! A row is `s`tarted durably (one `fdatasync` for all rows that wait for it) before its final dot can be sent, and then
//! `d`one (taken), `r`efused for good, or `o`pen again (certainly not taken). A row that was started and has no other
//! note after that is in doubt: the server may have it. The file is only ever appended to; a torn last line is cut off
//! when it is opened again. It belongs to one CSV file, known by the SHA-256 of its bytes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// What a row has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It may be on its way: in doubt, if nothing follows.
    Started,
    /// Taken by the server.
    Done,
    /// Refused for good.
    Refused,
    /// Not taken; to be sent.
    Open,
}

impl Mark {
    const fn letter(self) -> char {
        match self {
            Mark::Started => 's',
            Mark::Done => 'd',
            Mark::Refused => 'r',
            Mark::Open => 'o',
        }
    }

    fn of(letter: &str) -> Option<Mark> {
        [Mark::Started, Mark::Done, Mark::Refused, Mark::Open].into_iter().find(|m| letter.starts_with(m.letter()))
    }
}

/// Why a state file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is one, and the run was not told to go on.
    #[error("{} exists: go on with --resume, or remove it to send to everybody again", .0.display())]
    Exists(PathBuf),
    /// Nothing to go on with.
    #[error("{} does not exist: there is nothing to resume", .0.display())]
    Missing(PathBuf),
    /// It is about another CSV file.
    #[error("{} is about another CSV file, or the file was changed since; rows can't be told apart any more", .0.display())]
    OtherFile(PathBuf),
    /// It is not ours.
    #[error("{}, line {line}: not a state file of carom send", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// Another process is using it.
    #[error("another carom send is using {}", .0.display())]
    Locked(PathBuf),
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// What an opened state file says.
#[derive(Debug)]
pub struct Before {
    /// Random name of the run, part of every Message-ID, so that a row has the same one each time.
    pub run: String,
    /// The last mark of each row that has one.
    pub rows: BTreeMap<u64, Mark>,
}

const MAGIC: &str = "carom-send 1";

/// Reads the text of a state file: the run's name and marks, and the length that is whole.
///
/// # Errors
/// The number of the line that is not ours; `Err(0)` when the CSV's digest differs.
pub fn parse(text: &str, digest: &str) -> Result<(Before, usize), usize> {
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    let mut lines = text[..whole].lines();
    let first: Vec<&str> = lines.next().ok_or(1usize)?.split(' ').collect();
    let [magic, version, run, csv] = first[..] else { return Err(1) };
    if format!("{magic} {version}") != MAGIC {
        return Err(1);
    }
    if csv != digest {
        return Err(0);
    }
    let mut rows = BTreeMap::new();
    for (i, line) in lines.enumerate() {
        let (mark, row) = line.split_once(' ').ok_or(i + 2)?;
        let mark = Mark::of(mark).filter(|_| mark.len() == 1).ok_or(i + 2)?;
        rows.insert(row.parse().map_err(|_| i + 2)?, mark);
    }
    Ok((Before { run: run.to_owned(), rows }, whole))
}

enum Note {
    Mark(u64, Mark, Option<oneshot::Sender<io::Result<()>>>),
    End(mpsc::Sender<io::Result<()>>),
}

/// A state file that is being written.
#[derive(Debug)]
pub struct State {
    notes: mpsc::Sender<Note>,
    writer: JoinHandle<()>,
}

impl State {
    /// Creates the file, or with `resume` opens the one of an interrupted run. `run` names a new run.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path, digest: &str, resume: bool, run: &str) -> Result<(State, Before), StateError> {
        let io = |source| StateError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (mut file, fresh) = match (options.open(path), resume) {
            (Ok(_), false) => return Err(StateError::Exists(path.to_owned())),
            (Ok(file), true) => (file, false),
            (Err(e), _) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            (Err(_), true) => return Err(StateError::Missing(path.to_owned())),
            (Err(_), false) => (options.create_new(true).open(path).map_err(io)?, true),
        };
        file.try_lock().map_err(|_| StateError::Locked(path.to_owned()))?;
        let before = if fresh {
            file.write_all(format!("{MAGIC} {run} {digest}\n").as_bytes()).map_err(io)?;
            file.sync_all().map_err(io)?;
            // The name must survive a power cut as well.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
            Before { run: run.to_owned(), rows: BTreeMap::new() }
        } else {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(io)?;
            let (before, whole) = parse(&text, digest).map_err(|line| match line {
                0 => StateError::OtherFile(path.to_owned()),
                line => StateError::Malformed { path: path.to_owned(), line },
            })?;
            file.set_len(whole as u64).map_err(io)?;
            file.seek(SeekFrom::End(0)).map_err(io)?;
            before
        };
        let (notes, incoming) = mpsc::channel();
        let writer = std::thread::spawn(move || write(file, &incoming));
        Ok((State { notes, writer }, before))
    }

    /// Notes that a row may be sent from now on; returns when that is durable.
    ///
    /// # Errors
    /// When it could not be written; then the row must not be sent.
    pub async fn start(&self, row: u64) -> io::Result<()> {
        let (answer, durable) = oneshot::channel();
        let gone = || io::Error::other("the state file's writer has ended");
        self.notes.send(Note::Mark(row, Mark::Started, Some(answer))).map_err(|_| gone())?;
        durable.await.map_err(|_| gone())?
    }

    /// Notes what a row came to. Durable with the next start, or at the end; lost before that, the row is in doubt.
    pub fn mark(&self, row: u64, mark: Mark) {
        // The writer is gone only after it failed, which `close` tells.
        let _ = self.notes.send(Note::Mark(row, mark, None));
    }

    /// Writes everything out.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn close(self) -> io::Result<()> {
        let (answer, ended) = mpsc::channel();
        let gone = || io::Error::other("the state file's writer has ended");
        self.notes.send(Note::End(answer)).map_err(|_| gone())?;
        let result = ended.recv().map_err(|_| gone())?;
        self.writer.join().map_err(|_| gone())?;
        result
    }
}

/// Takes all notes that wait, writes them at once, syncs when somebody waits for it.
fn write(mut file: File, notes: &mpsc::Receiver<Note>) {
    let mut failed = None;
    while let Ok(first) = notes.recv() {
        let (mut text, mut waiting, mut end) = (String::new(), Vec::new(), None);
        for note in std::iter::once(first).chain(std::iter::from_fn(|| notes.try_recv().ok())).take(4096) {
            match note {
                Note::Mark(row, mark, answer) => {
                    text.push_str(&format!("{} {row}\n", mark.letter()));
                    waiting.extend(answer);
                }
                Note::End(answer) => end = Some(answer),
            }
        }
        let mut work = || -> io::Result<()> {
            file.write_all(text.as_bytes())?;
            if waiting.is_empty() && end.is_none() { Ok(()) } else { file.sync_data() }
        };
        // After one failure nothing more is written: a file with a hole would lie.
        if failed.is_none()
            && let Err(error) = work()
        {
            failed = Some((error.kind(), error.to_string()));
        }
        let result = || failed.as_ref().map_or(Ok(()), |(kind, text)| Err(io::Error::new(*kind, text.clone())));
        for answer in waiting {
            let _ = answer.send(result());
        }
        if let Some(answer) = end {
            let _ = answer.send(result());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_run_that_was_cut_off_is_known_row_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.csv.send-state");
        let (state, _) = State::open(&path, "abc", false, "run1").unwrap();
        for row in 1..=3 {
            state.start(row).await.unwrap();
        }
        state.mark(1, Mark::Done);
        state.mark(2, Mark::Open);
        state.close().unwrap();
        // The last line was torn by a power cut.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"d 3").unwrap();
        let (state, before) = State::open(&path, "abc", true, "run2").unwrap();
        assert_eq!(before.run, "run1");
        assert_eq!(before.rows[&1], Mark::Done);
        assert_eq!(before.rows[&2], Mark::Open);
        assert_eq!(before.rows[&3], Mark::Started);
        state.mark(3, Mark::Done);
        state.close().unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("o 2\nd 3\n"));
    }

    #[test]
    fn a_state_file_is_not_overwritten_nor_used_for_another_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(matches!(State::open(&path, "a", true, "r"), Err(StateError::Missing(_))));
        State::open(&path, "a", false, "r").unwrap().0.close().unwrap();
        assert!(matches!(State::open(&path, "a", false, "r"), Err(StateError::Exists(_))));
        assert!(matches!(State::open(&path, "b", true, "r"), Err(StateError::OtherFile(_))));
        std::fs::write(&path, "hello\n").unwrap();
        assert!(matches!(State::open(&path, "a", true, "r"), Err(StateError::Malformed { line: 1, .. })));
    }

    #[test]
    fn two_runs_cannot_use_one_state_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (first, _) = State::open(&path, "a", false, "r").unwrap();
        assert!(matches!(State::open(&path, "a", true, "r"), Err(StateError::Locked(_))));
        first.close().unwrap();
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_is_read_up_to_its_last_whole_line(marks in proptest::collection::vec((1u64..50, 0usize..4), 0..30), cut in 0usize..400) {
            let mut text = format!("{MAGIC} run digest\n");
            let first = text.len();
            for (row, mark) in &marks {
                text.push_str(&format!("{} {row}\n", ['s', 'd', 'r', 'o'][*mark]));
            }
            let cut = cut.min(text.len()).max(first);
            let (before, whole) = parse(&text[..cut], "digest").unwrap();
            prop_assert!(whole <= cut && text[..whole].ends_with('\n'));
            prop_assert!(before.rows.len() <= marks.len());
        }
    }
}
