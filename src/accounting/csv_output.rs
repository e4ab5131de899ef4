//! A CSV output: one file that grows, and when the next one begins (reference/accounting.md, 4.1).
//!
//! Start-up and reload go on in the newest file. A new file begins at local midnight, at `max-size`, after
//! `move-interval` when there is a `move-to`, on `rotate`, and when the columns or record types change. It is created
//! with its first record, so there are no empty files. The order of steps is told in [`closing`](super::closing).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::closing::{CsvClosing, CsvOpen, CsvState, Files, State};
use super::csv::CsvRows;
use super::csv_file::{CsvFile, Place};
use super::target::{At, OutputError, Target};
use crate::event::{Event, Time};

/// Bytes collected before they are handed to the file.
const WRITE_BYTES: usize = 256 << 10;

/// A CSV output at work.
#[derive(Debug)]
pub struct CsvOutput {
    target: Arc<Target>,
    rows: CsvRows,
    header: String,
    /// What is kept, but for `csv`.
    state: State,
    csv: CsvState,
    file: Option<CsvFile>,
    buffer: Vec<u8>,
    /// Records in the open file, with those in the buffer.
    count: u64,
    /// As committed.
    cursor: u64,
}

impl CsvOutput {
    /// Goes on where the kept state says; finishes a move that was under way.
    pub fn open(
        target: Arc<Target>,
        rows: CsvRows,
        mut state: State,
        cursor: u64,
        now: Time,
    ) -> Result<CsvOutput, OutputError> {
        let header = String::from_utf8_lossy(&rows.header()).into_owned();
        let filter_changed = state.select(cursor, target.file.records);
        let csv = match &state.files {
            Files::Csv(csv) => csv.clone(),
            Files::Parquet(_) | Files::Push(_) => CsvState::default(),
        };
        let mut output =
            CsvOutput { target, rows, header, state, csv, file: None, buffer: Vec::new(), count: 0, cursor };
        if output.csv.closing.is_some() {
            output.finish_move(cursor)?;
        }
        if let Some(open) = output.csv.open.clone() {
            output.reopen(&open, cursor, filter_changed)?;
        }
        output.delete_old(now)?;
        output.keep_newest()?;
        Ok(output)
    }

    fn keep(&mut self, cursor: u64) -> Result<(), OutputError> {
        self.state.files = Files::Csv(self.csv.clone());
        self.target.commit(cursor, &self.state)?;
        self.cursor = cursor;
        Ok(())
    }

    /// The committed cursor.
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    fn reopen(&mut self, open: &CsvOpen, cursor: u64, filter_changed: bool) -> Result<(), OutputError> {
        let path = self.target.path(&open.name);
        let file = match self.target.disk.open(&path) {
            Ok(file) => CsvFile::resume(file, open.length).at("reading", &path)?,
            // The row is written before the file is created.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && open.length == 0 => {
                self.file = Some(self.create(&path)?);
                self.count = 0;
                return Ok(());
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).at("opening", &path),
        };
        self.count = open.rows;
        let Some(mut file) = file else {
            tracing::error!(
                file = %path.display(), committed_bytes = open.length, records = open.rows,
                "accounting file was moved away or cut by somebody else; going on in a new one"
            );
            self.csv.open = None;
            return self.keep(cursor);
        };
        if file.is_empty() {
            file.append(open.header.as_bytes()).at("writing", &path)?;
        }
        self.file = Some(file);
        let layout_changed = !open.layout.is_empty() && open.layout != self.rows.layout(&self.target.file);
        if filter_changed || layout_changed || open.header != self.header {
            self.close(cursor)?;
        }
        Ok(())
    }

    /// Appends classified events of the types that were asked for.
    pub fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError> {
        for event in events {
            let written = match &self.file {
                Some(file) => file.len(),
                None => self.begin(event.seq, now)?,
            };
            self.rows.push(&mut self.buffer, event);
            self.count += 1;
            if written + self.buffer.len() as u64 >= self.target.file.max_size {
                self.close(event.seq + 1)?;
            } else if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Everything in the ledger has been written: what an earlier run left beyond that was never committed anywhere.
    pub fn caught_up(&mut self) -> Result<(), OutputError> {
        let path = self.open_path();
        match &mut self.file {
            Some(file) => file.cut().at("cutting", &path),
            None => Ok(()),
        }
    }

    /// Makes everything before `next` durable.
    pub fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        self.flush()?;
        let path = self.open_path();
        if let Some(file) = &self.file {
            file.sync().at("syncing", &path)?;
            let (length, rows) = (file.len(), self.count);
            if self.was_moved(&path)? {
                return self.let_go(next);
            }
            if let Some(open) = &mut self.csv.open {
                open.length = length;
                open.rows = rows;
            }
        }
        self.keep(next)
    }

    /// Whether somebody has moved the open file: its records, synced now, are there, and the next begins another. An error
    /// when it was removed or cut: the records after the last commit are then written again, to a new file.
    fn was_moved(&self, path: &Path) -> Result<bool, OutputError> {
        let Some(file) = &self.file else { return Ok(false) };
        match file.place(&*self.target.disk, path).at("looking for", path)? {
            Place::Here => Ok(false),
            Place::Moved => Ok(true),
            Place::Gone => {
                let gone = std::io::Error::new(std::io::ErrorKind::NotFound, "somebody has removed or cut it");
                Err(gone).at("writing", path)
            }
        }
    }

    /// Leaves the open file to whoever moved it.
    fn let_go(&mut self, next: u64) -> Result<(), OutputError> {
        tracing::warn!(
            file = %self.open_path().display(), records = self.count,
            "accounting file was moved away by somebody else; going on in a new one"
        );
        self.csv.open = None;
        self.file = None;
        self.keep(next)
    }

    /// Ends the file if its day or its interval is over. Not while an earlier run's bytes are being compared: they
    /// belong to this file.
    pub fn rotate_if_due(&mut self, next: u64, now: Time) -> Result<(), OutputError> {
        let Some(open) = self.csv.open.clone() else { return Ok(()) };
        if self.file.as_ref().is_some_and(CsvFile::has_remainder) {
            return Ok(());
        }
        let created = Time(open.created);
        let moving = self.target.move_to.is_some() && now.since(created) >= self.target.file.move_interval;
        if moving || self.target.local_date(created) != self.target.local_date(now) {
            self.close(next)?;
            self.delete_old(now)?;
        }
        Ok(())
    }

    /// Ends the file; the next record begins another.
    pub fn close(&mut self, next: u64) -> Result<(), OutputError> {
        self.flush()?;
        let Some(open) = self.csv.open.clone() else { return Ok(()) };
        let from = self.target.path(&open.name);
        let Some(file) = &mut self.file else { return Ok(()) };
        file.cut().at("cutting", &from)?;
        file.sync().at("syncing", &from)?;
        let length = file.len();
        if self.was_moved(&from)? {
            return self.let_go(next);
        }
        let (count, moves) = (self.count, self.target.move_to.clone());
        let csv = &mut self.csv;
        csv.open = None;
        if let Some(dir) = moves {
            csv.closing = Some(CsvClosing {
                from: from.to_string_lossy().into_owned(),
                to: dir.join(&open.name).to_string_lossy().into_owned(),
                first: open.first,
                last: next - 1,
                rows: count,
                length,
            });
        }
        self.keep(next)?;
        self.file = None;
        tracing::info!(file = %from.display(), records = count, bytes = length, "accounting file closed");
        if self.csv.closing.is_some() {
            self.finish_move(next)?;
        }
        self.keep_newest()
    }

    fn finish_move(&mut self, cursor: u64) -> Result<(), OutputError> {
        let Some(mut closing) = self.csv.closing.clone() else { return Ok(()) };
        let (from, mut to) = (PathBuf::from(&closing.from), PathBuf::from(&closing.to));
        if let Some(dir) = to.parent() {
            self.target.disk.create_dir_all(dir).at("creating folder", dir)?;
        }
        if self.target.exists(&from)? {
            if self.target.exists(&to)? && !self.same_content(&from, &to)? {
                // Not a rename of ours that a crash has half undone: another server's, or put there by hand.
                to = self.another_name(&to)?;
                tracing::warn!(taken = closing.to, name = %to.display(), "another accounting file has this name; it stays");
                closing.to = to.to_string_lossy().into_owned();
                self.csv.closing = Some(closing.clone());
                self.keep(cursor)?;
            }
            self.target.publish(&from, &to)?;
            if self.target.file.count_moved_records {
                tracing::info!(file = %to.display(), records = closing.rows, "accounting file moved");
            } else {
                tracing::info!(file = %to.display(), "accounting file moved");
            }
        } else {
            if !self.target.exists(&to)? {
                tracing::warn!(file = %to.display(), records = closing.rows, "accounting file was taken away by somebody else");
            }
            self.target.sync_folders(&from, &to)?;
        }
        self.csv.closing = None;
        self.keep(cursor)
    }

    fn same_content(&self, a: &Path, b: &Path) -> Result<bool, OutputError> {
        let (one, other) =
            (self.target.disk.open_read(a).at("opening", a)?, self.target.disk.open_read(b).at("opening", b)?);
        let len = one.len().at("reading", a)?;
        if len != other.len().at("reading", b)? {
            return Ok(false);
        }
        let (mut x, mut y) = (vec![0; WRITE_BYTES], vec![0; WRITE_BYTES]);
        let mut at = 0;
        while at < len {
            let n = usize::try_from(len - at).unwrap_or(WRITE_BYTES).min(WRITE_BYTES);
            one.read_exact_at(&mut x[..n], at).at("reading", a)?;
            other.read_exact_at(&mut y[..n], at).at("reading", b)?;
            if x[..n] != y[..n] {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// A name like `taken` with the next free number of its day.
    fn another_name(&self, taken: &Path) -> Result<PathBuf, OutputError> {
        let dir = taken.parent().unwrap_or(Path::new(""));
        let name = taken.file_name().unwrap_or_default().to_string_lossy();
        let Some((date, mut n)) = self.target.names.parse_csv(&name) else {
            return Err(std::io::ErrorKind::AlreadyExists.into()).at("moving a file to", taken);
        };
        let numbers = self.numbers_of(dir, date)?;
        while numbers.contains(&n) {
            n += 1;
        }
        Ok(dir.join(self.target.names.csv(date, n)))
    }

    /// The file in use, for status.
    pub fn current(&self) -> Option<PathBuf> {
        self.csv.open.as_ref().map(|open| self.target.path(&open.name))
    }

    fn open_path(&self) -> PathBuf {
        self.current().unwrap_or_else(|| self.target.names.dir().to_owned())
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let path = self.open_path();
        if let Some(file) = &mut self.file {
            file.append(&self.buffer).at("writing", &path)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Begins a file whose first record is `seq`; returns its length.
    fn begin(&mut self, seq: u64, now: Time) -> Result<u64, OutputError> {
        let dir = self.target.names.dir().to_owned();
        self.target.disk.create_dir_all(&dir).at("creating folder", &dir)?;
        let date = self.target.local_date(now);
        let mut taken = self.numbers_of(&dir, date)?;
        if let Some(moved) = self.target.move_to.clone() {
            taken.extend(self.numbers_of(&moved, date)?);
        }
        let day = date.to_string();
        let mut n = self.csv.number_of(&day);
        while taken.contains(&n) {
            n += 1;
        }
        let name = self.target.names.csv(date, n);
        let path = self.target.path(&name);
        let (header, layout) = (self.header.clone(), self.rows.layout(&self.target.file));
        let csv = &mut self.csv;
        csv.number_given(day, n);
        csv.open = Some(CsvOpen { name, length: 0, rows: 0, first: seq, header, layout, created: now.0 });
        self.keep(seq)?;
        self.count = 0;
        let file = self.create(&path)?;
        let length = file.len();
        self.file = Some(file);
        Ok(length)
    }

    fn create(&self, path: &Path) -> Result<CsvFile, OutputError> {
        let dir = self.target.names.dir();
        self.target.disk.create_dir_all(dir).at("creating folder", dir)?;
        let file = self.target.disk.create_new(path).at("creating", path)?;
        self.target.set_mode(path)?;
        self.target.disk.sync_dir(dir).at("syncing folder", dir)?;
        // A new file has no earlier length to fall short of.
        let mut file = CsvFile::resume(file, 0).at("reading", path)?.ok_or_else(|| OutputError::File {
            what: "creating",
            path: path.to_owned(),
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })?;
        file.append(self.header.as_bytes()).at("writing", path)?;
        Ok(file)
    }

    fn ours_in(&self, dir: &Path) -> Result<Vec<(jiff::civil::Date, u32, String)>, OutputError> {
        let entries = match self.target.disk.list(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e).at("listing", dir),
        };
        let parse = |name: String| self.target.names.parse_csv(&name).map(|(d, n)| (d, n, name));
        Ok(entries.into_iter().filter(|e| !e.is_dir).filter_map(|e| parse(e.name)).collect())
    }

    fn numbers_of(&self, dir: &Path, date: jiff::civil::Date) -> Result<Vec<u32>, OutputError> {
        Ok(self.ours_in(dir)?.into_iter().filter(|(d, ..)| *d == date).map(|(_, n, _)| n).collect())
    }

    /// `rotate`: removes all but the newest finished files, there where they end up.
    fn keep_newest(&self) -> Result<(), OutputError> {
        let Some(keep) = self.target.file.rotate else { return Ok(()) };
        let dir = self.target.move_to.as_deref().unwrap_or(self.target.names.dir());
        let open = self.csv.open.as_ref().map(|o| o.name.as_str());
        let mut files = self.ours_in(dir)?;
        files.retain(|(.., name)| Some(name.as_str()) != open);
        files.sort();
        let many = files.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        for (.., name) in &files[..many] {
            let path = dir.join(name);
            self.target.remove(&path)?;
            tracing::info!(file = %path.display(), keep, "accounting file deleted: rotate keeps the newest");
        }
        Ok(())
    }

    /// `delete-after`: removes our files older than that by the date in their name; not those moved elsewhere.
    fn delete_old(&mut self, now: Time) -> Result<(), OutputError> {
        let Some(after) = self.target.file.delete_after else { return Ok(()) };
        let dir = self.target.names.dir();
        if self.target.move_to.as_deref().is_some_and(|m| m != dir) {
            return Ok(());
        }
        let oldest = self.target.local_date(Time(now.0.saturating_sub(micros(after))));
        let open = self.current();
        for (date, _, name) in self.ours_in(dir)? {
            let path = self.target.path(&name);
            if date < oldest && open.as_deref() != Some(path.as_path()) {
                self.target.remove(&path)?;
                tracing::info!(file = %path.display(), "accounting file deleted: older than delete-after");
            }
        }
        Ok(())
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}
