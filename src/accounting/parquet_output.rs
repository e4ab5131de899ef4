//! A Parquet output: a file grows unseen and appears under its final name when it is whole.
//!
//! A file ends at `close-rows`, when `close-after` has passed since its first record, and when the UTC day is over: a
//! record of a later day begins the file of that day. It also ends at an orderly stop, so that nothing is written twice
//! because of one. The order of steps is told in [`closing`](super::closing).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;

use super::closing::{Files, ParquetClosing, ParquetState, State};
use super::names::Names;
use super::parquet::ParquetRows;
use super::parquet_file::{ParquetFile, ParquetFileError, read_manifest};
use super::privacy::Mask;
use super::stage::Stage;
use super::target::{At, OutputError, Target};
use crate::config::AcctFile;
use crate::event::manifest::{Manifest, Ranges};
use crate::event::{Event, Time};

/// Events decoded at a time when a file is made again.
const CHUNK_EVENTS: usize = 1024;

/// A Parquet output at work.
#[derive(Debug)]
pub struct ParquetOutput {
    target: Arc<Target>,
    rows: ParquetRows,
    state: State,
    /// Where the next file's range begins: as in the kept state.
    since: u64,
    /// The committed cursor.
    cursor: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    date: Date,
    begun: Time,
    file: ParquetFile,
}

impl ParquetOutput {
    /// Cleans up after what the kept state says was under way. Returns the output and its cursor.
    pub fn open(
        target: Arc<Target>,
        rows: ParquetRows,
        mut state: State,
        cursor: u64,
        stage: &mut Stage,
    ) -> Result<(ParquetOutput, u64), OutputError> {
        let kept = match &state.files {
            Files::Parquet(p) => p.clone(),
            Files::Csv(_) | Files::Push(_) => ParquetState { since: cursor, open: None, closing: None },
        };
        state.files = Files::Parquet(kept.clone());
        let mut output = ParquetOutput { target, rows, state, since: kept.since.min(cursor), cursor, open: None };
        if let Some(name) = &kept.open {
            let path = output.target.path(&Names::in_progress(name));
            if output.target.exists(&path)? {
                // Synced, because the file made instead may have another name if the configuration has changed.
                output.target.remove(&path)?;
                output.target.sync_folders(&path, &path)?;
            }
        }
        if let Some(closing) = &kept.closing {
            output.recover(closing, stage)?;
        }
        let (cursor, records) = (output.cursor, output.target.file.records);
        if output.state.select(cursor, records) && output.since < cursor {
            // What lies between was passed over by another filter; no file's footer may claim it for this one.
            output.since = cursor;
        }
        Ok((output, cursor))
    }

    /// A file that was about to be renamed: adopt it, or make it again.
    fn recover(&mut self, closing: &ParquetClosing, stage: &mut Stage) -> Result<(), OutputError> {
        let target = Arc::clone(&self.target);
        let (path, unfinished) = (target.path(&closing.name), target.path(&Names::in_progress(&closing.name)));
        let whole = |path: &PathBuf| {
            let file = target.disk.open_read(path).ok()?;
            let m = read_manifest(&file)?;
            (m.ranges == Ranges::one(closing.first, closing.last) && m.rows == closing.rows).then_some(())
        };
        if whole(&path).is_some() || (whole(&unfinished).is_none() && self.is_merged(closing, &path)?) {
            target.remove(&unfinished)?;
            target.sync_folders(&unfinished, &path)?;
        } else {
            if whole(&unfinished).is_none() {
                tracing::warn!(file = %path.display(), "accounting file is not whole after a crash; writing it again");
                target.remove(&unfinished)?;
                self.remake(closing, &unfinished, stage)?;
            }
            target.publish(&unfinished, &path)?;
        }
        self.commit_closed(closing.last)
    }

    /// Whether another file of the day holds the range: `carom acct compact` has merged the file that was closed.
    fn is_merged(&self, closing: &ParquetClosing, path: &Path) -> Result<bool, OutputError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let entries = match self.target.disk.list(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            entries => entries.at("listing", folder)?,
        };
        let ours = self.manifest(closing.first, closing.last);
        for entry in entries.iter().filter(|e| !e.name.starts_with('.') && e.name.ends_with(".parquet")) {
            let file = folder.join(&entry.name);
            let file = self.target.disk.open_read(&file).at("opening", &file)?;
            let holds = |m: Manifest| {
                m.store == ours.store && m.output == ours.output && m.ranges.cover(closing.first, closing.last)
            };
            if read_manifest(&file).is_some_and(holds) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes exactly the range of `closing` again, from the ledger.
    fn remake(&mut self, closing: &ParquetClosing, path: &Path, stage: &mut Stage) -> Result<(), OutputError> {
        let fail = |source| OutputError::Parquet { path: path.to_owned(), source };
        let mut file = self.create(path)?;
        let mut reader = self.target.journal.reader(self.cursor)?;
        let mut next = self.cursor;
        while next <= closing.last {
            let Some(chunk) = reader.next(CHUNK_EVENTS)? else { break };
            for batch in chunk.batches() {
                stage.load(batch.rules, self.target.journal.as_ref())?;
            }
            let events = stage.events(chunk.batches(), self.target.file.records).wanted;
            let end = events.partition_point(|e| e.seq <= closing.last);
            let mask = Mask::of(&self.target.file);
            Mask::over(mask.as_ref(), &events[..end], |e| file.push(&mut self.rows, e)).map_err(fail)?;
            next = chunk.last() + 1;
        }
        let manifest = self.manifest(closing.first, closing.last);
        let manifest = file.finish(&mut self.rows, manifest).map_err(fail)?;
        if manifest.rows != closing.rows {
            tracing::warn!(
                file = %path.display(), was = closing.rows, is = manifest.rows,
                "accounting file made again has another number of records: its record types were changed meanwhile"
            );
        }
        Ok(())
    }

    /// Appends classified events of the types that were asked for.
    pub fn write(&mut self, events: &[Event<'_>], now: Time) -> Result<(), OutputError> {
        let mut rest = events;
        while let Some(event) = rest.first() {
            let date = event.time.utc_date();
            if self.open.as_ref().is_some_and(|o| date > o.date) {
                self.close(event.seq - 1)?;
            }
            if self.open.is_none() {
                self.begin(event.seq, date, now)?;
            }
            let Some(open) = &mut self.open else { return Ok(()) };
            let room = usize::try_from(self.target.file.close_rows.max(1) - open.file.rows()).unwrap_or(usize::MAX);
            let same = |e: &&Event<'_>| e.time.utc_date() <= open.date;
            let n = rest.iter().take(room).take_while(same).count();
            let (these, others) = rest.split_at(n);
            open.file.push(&mut self.rows, these).map_err(|source| OutputError::Parquet {
                path: self.target.path(&Names::in_progress(&open.name)),
                source,
            })?;
            rest = others;
            if let Some(last) = these.last()
                && open.file.rows() >= self.target.file.close_rows.max(1)
            {
                self.close(last.seq)?;
            }
        }
        Ok(())
    }

    /// Where no file is open, everything before `next` needs nothing more of the ledger.
    pub fn commit(&mut self, next: u64) -> Result<(), OutputError> {
        if self.open.is_some() || next == self.cursor {
            return Ok(());
        }
        self.keep(next, None, None)
    }

    /// Ends the file if its time is over. When all is written (`caught_up`), a day that is over is enough.
    pub fn rotate_if_due(&mut self, next: u64, caught_up: bool, now: Time) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        // A clock that was put back must not keep the file, and with it the ledger, for longer.
        open.begun = open.begun.min(now);
        let day_over = caught_up && now.utc_date() > open.date;
        if day_over || now.since(open.begun) >= self.target.file.close_after { self.close(next - 1) } else { Ok(()) }
    }

    /// Ends the file with the range up to `last`.
    pub fn close(&mut self, last: u64) -> Result<(), OutputError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (path, unfinished) = (self.target.path(&open.name), self.target.path(&Names::in_progress(&open.name)));
        let manifest = self.manifest(self.since, last);
        let manifest = open
            .file
            .finish(&mut self.rows, manifest)
            .map_err(|source| OutputError::Parquet { path: unfinished.clone(), source })?;
        let closing = ParquetClosing { name: open.name, first: self.since, last, rows: manifest.rows };
        self.keep(self.cursor, None, Some(closing))?;
        self.target.publish(&unfinished, &path)?;
        self.commit_closed(last)?;
        tracing::info!(file = %path.display(), records = manifest.rows, "accounting file closed");
        Ok(())
    }

    /// The committed cursor.
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The file in use, for status.
    pub fn current(&self) -> Option<PathBuf> {
        self.open.as_ref().map(|o| self.target.path(&Names::in_progress(&o.name)))
    }

    fn begin(&mut self, seq: u64, date: Date, now: Time) -> Result<(), OutputError> {
        let name = self.free_name(date)?;
        self.keep(seq, Some(name.clone()), None)?;
        let path = self.target.path(&Names::in_progress(&name));
        let file = self.create(&path)?;
        self.open = Some(Open { name, date, begun: now, file });
        Ok(())
    }

    /// The name of the next file. Our own files never stand in the way: each begins behind the last, and unfinished ones
    /// were removed when the output was opened. Those of another store may, and are not to be written over.
    fn free_name(&self, date: Date) -> Result<String, OutputError> {
        let target = &self.target;
        let taken = |name: &str| -> Result<bool, OutputError> {
            Ok(target.exists(&target.path(name))? || target.exists(&target.path(&Names::in_progress(name)))?)
        };
        let usual = target.names.parquet(date, self.since);
        if !taken(&usual)? {
            return Ok(usual);
        }
        let name = target.names.parquet_of(date, self.since, target.journal.store());
        tracing::warn!(
            taken = %target.path(&usual).display(), name,
            "another store's accounting file has this name; it stays as it is"
        );
        if taken(&name)? {
            return Err(std::io::ErrorKind::AlreadyExists.into()).at("creating", &target.path(&name));
        }
        Ok(name)
    }

    fn create(&mut self, path: &std::path::Path) -> Result<ParquetFile, OutputError> {
        if let Some(dir) = path.parent() {
            self.target.disk.create_dir_all(dir).at("creating folder", dir)?;
        }
        // What an error left in the builders is of no file any more.
        let fail = |source: ParquetFileError| OutputError::Parquet { path: path.to_owned(), source };
        self.rows.take().map_err(|e| fail(e.into()))?;
        let file = self.target.disk.create_new(path).at("creating", path)?;
        self.target.set_mode(path)?;
        let AcctFile { row_group_rows, compression, .. } = self.target.file;
        ParquetFile::begin(file, &self.rows, row_group_rows, compression).map_err(fail)
    }

    fn manifest(&self, first: u64, last: u64) -> Manifest {
        let records = self.target.file.records;
        let output = self.target.file.path.to_string_lossy().into_owned();
        Manifest { store: self.target.journal.store(), output, records, ranges: Ranges::one(first, last), rows: 0 }
    }

    fn commit_closed(&mut self, last: u64) -> Result<(), OutputError> {
        self.since = last + 1;
        self.keep(last + 1, None, None)
    }

    fn keep(&mut self, cursor: u64, open: Option<String>, closing: Option<ParquetClosing>) -> Result<(), OutputError> {
        self.state.files = Files::Parquet(ParquetState { since: self.since, open, closing });
        self.target.commit(cursor, &self.state)?;
        self.cursor = cursor;
        Ok(())
    }
}
