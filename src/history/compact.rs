#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: replaces files by larger ones")]
//! The small Parquet files of a finished day become a few large ones, in one step for whoever reads.
//!
//! The day's folder is replaced as a whole. Its successor is made in a work folder beside the output's folder, where no
//! pattern that analysts use for the output looks (DuckDB and Polars look into hidden folders, too); then both change
//! places by `renameat2(RENAME_EXCHANGE)`, which every local Linux file system does atomically. So, of a day:
//! * who lists the folder before gets the old files, who lists it after gets the new ones; nobody gets both, or some of
//!   each: a folder that is open goes on listing what it held, and the old one stays whole for [`Options::keep`];
//! * who listed before and opens after does not find the old names: an error, and the query asked again is right. No new
//!   file has the name of an old one, so an old list can't lead to new content; files opened before stay readable.
//!
//! Steps, each durable before the next; whatever is left by a crash, the next run finishes or throws away:
//! 1. `WORK/date=D.new` is filled: merged files, and links to those that stay as they are; read back and compared;
//! 2. `WORK/date=D.plan` says which files are merged into which: from here on the exchange may happen;
//! 3. the exchange: `WORK/date=D.new` is now the old folder;
//! 4. what came into the old folder meanwhile (a file the server wrote) is moved to the new one;
//! 5. after [`Options::keep`], the merged files are removed, the old folder, and last the plan.
//!
//! The server writes to a day as long as records of it are in its ledger, so only days count as finished that are over,
//! hold no unfinished file, and whose outputs have all begun a later day; see [`Options::days`] for the others. Should a
//! server write to a day all the same, step 4 keeps its file. A server that crashed while closing one of the merged files
//! finds its range in the footer of the new one and adopts that (`accounting::parquet_output`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use jiff::civil::Date;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::footer::Footer;
use super::{HistoryError, merge_plan};
use crate::disk::{Disk, RealDisk};
use crate::event::fields::FIELDS;
use crate::event::manifest::Manifest;
use crate::event::row_order::{self, RowOrder, Step};
use merge_plan::{Bin, Source};

/// How a file is to be written, by its schema.
pub type Layout<'l> = &'l dyn Fn(&Schema) -> WriterProperties;

/// What to merge, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that holds the `date=` folders.
    pub dir: PathBuf,
    /// Where the new folders are made: on the same file system, where nobody looks for accounting files. `None`: beside
    /// `dir`.
    pub work: Option<PathBuf>,
    /// Only these days, whether or not they are finished; empty: all that are finished.
    pub days: Vec<Date>,
    /// Today, in UTC: it and later days are not finished.
    pub today: Date,
    /// Rows that a merged file has at most, unless one of its sources has more.
    pub max_rows: u64,
    /// How long the old files stay after the exchange, out of sight.
    pub keep: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What came of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Day {
    /// The day.
    pub date: String,
    /// Files before.
    pub files_before: usize,
    /// Files after.
    pub files_after: usize,
    /// Rows in them, the same before and after.
    pub rows: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after; unknown in a dry run.
    pub bytes_after: Option<u64>,
    /// Why it was left as it is; `None`: it was merged, or would be.
    pub left: Option<String>,
    /// Whether `left` is a fault that somebody should look at.
    pub faulty: bool,
}

/// What stopped the work. Nothing is lost: the next run goes on from wherever it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A file or folder.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// An accounting file.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Another run is at work.
    #[error("another compaction works on {}; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// The file system can't do it.
    #[error(
        "the file system of {} can't exchange two folders in one step ({source}); the files stay as they are. It can be \
         done on a copy on a local file system (ext4, xfs, btrfs, tmpfs)",
        dir.display()
    )]
    NoExchange {
        /// The output's folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The work folder is elsewhere.
    #[error("{} is not on the file system of {}; name a folder that is with --work-dir", work.display(), dir.display())]
    OtherFileSystem {
        /// The work folder.
        work: PathBuf,
        /// The output's folder.
        dir: PathBuf,
    },
    /// What was written is not what was read: nothing was replaced.
    #[error("{}: the merged file does not hold what its sources hold ({why}); nothing was replaced", path.display())]
    Differs {
        /// The merged file.
        path: PathBuf,
        /// The difference.
        why: String,
    },
    /// A test ended the run here.
    #[error("stopped before {0}")]
    Stopped(&'static str),
}

/// What is in a day's folder: its accounting files, the names of all else, what is wrong with a file.
type Looked = (Vec<Source>, Vec<String>, Option<String>);

trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, CompactError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, CompactError> {
        self.map_err(|source| CompactError::Io { what, path: path.to_owned(), source })
    }
}

/// What is kept until the old folder of a day is gone.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    version: u32,
    /// Files of the old folder whose rows are in `merged`, or that are linked in the new one, with their lengths.
    replaced: BTreeMap<String, u64>,
    /// The new files.
    merged: Vec<String>,
}

/// One run over a folder.
pub struct Compaction<'c> {
    options: &'c Options,
    work: PathBuf,
    layout: Layout<'c>,
    /// Told of rows that were written, for a progress bar.
    progress: &'c dyn Fn(&str, u64),
    /// Asked before each step; `false` ends the run there, as a crash would. For tests.
    go_on: &'c dyn Fn(&'static str) -> bool,
}

/// Merges the days of `options.dir`.
///
/// # Errors
/// When a file can't be read or written; days before it are done, and the next run takes up what is left of it.
pub fn compact(
    options: &Options,
    layout: Layout<'_>,
    progress: &dyn Fn(&str, u64),
    go_on: &dyn Fn(&'static str) -> bool,
) -> Result<Vec<Day>, CompactError> {
    let dir = fs::canonicalize(&options.dir).at("opening folder", &options.dir)?;
    let options = &Options { dir: dir.clone(), ..options.clone() };
    let work = match &options.work {
        Some(work) => work.clone(),
        None => {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            dir.parent().unwrap_or(Path::new("/")).join(format!(".{name}.compact"))
        }
    };
    let run = Compaction { options, work: work.clone(), layout, progress, go_on };
    if options.dry_run {
        return run.days();
    }
    RealDisk.create_dir_all(&work).at("creating the work folder (see --work-dir)", &work)?;
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).at("looking at", p);
    if device(&work)? != device(&dir)? {
        return Err(CompactError::OtherFileSystem { work, dir });
    }
    let lock = match RealDisk.lock(&work) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(CompactError::Busy(dir)),
        lock => lock.at("locking", &work)?,
    };
    run.take_up()?;
    let done = run.days()?;
    run.retire()?;
    drop(lock);
    // Only the lock is left in it. It stays where the operator chose the place.
    if options.work.is_none() && run.go_on("removing the work folder").is_ok() {
        let _ = fs::remove_file(work.join("lock"));
        let _ = fs::remove_dir(&work);
    }
    Ok(done)
}

impl Compaction<'_> {
    fn go_on(&self, step: &'static str) -> Result<(), CompactError> {
        if (self.go_on)(step) { Ok(()) } else { Err(CompactError::Stopped(step)) }
    }

    fn staged(&self, day: &str) -> PathBuf {
        self.work.join(format!("{day}.new"))
    }

    fn plan_file(&self, day: &str) -> PathBuf {
        self.work.join(format!("{day}.plan"))
    }

    /// All days in their order.
    fn days(&self) -> Result<Vec<Day>, CompactError> {
        let dir = &self.options.dir;
        let mut days: Vec<(Date, String)> = RealDisk
            .list(dir)
            .at("listing", dir)?
            .into_iter()
            .filter(|e| e.is_dir)
            .filter_map(|e| Some((e.name.strip_prefix("date=")?.parse().ok()?, e.name)))
            .collect();
        days.sort();
        // Which outputs have written to a later day.
        let mut later: Vec<merge_plan::OutputId> = Vec::new();
        let mut done = Vec::new();
        for (date, name) in days.iter().rev() {
            let (sources, others, broken) = self.look(name)?;
            let asked = self.options.days.contains(date);
            if asked || self.options.days.is_empty() {
                let unfinished = others.iter().any(|n| n.ends_with(".inprogress"));
                let behind = sources.iter().find(|s| !later.contains(&s.output_id()));
                let left = if let Some(why) = broken {
                    Some((why, true))
                } else if *date >= self.options.today && !asked {
                    Some(("the day is not over (UTC)".to_owned(), false))
                } else if unfinished && !asked {
                    Some(("a file of it is being written".to_owned(), false))
                } else if let (Some(behind), false) = (behind, asked) {
                    let why = format!(
                        "no later file shows that output {} has finished with it; --day merges it all the same",
                        behind.output_id()
                    );
                    Some((why, false))
                } else {
                    None
                };
                done.push(self.day(name, sources.clone(), left)?);
            }
            for source in &sources {
                if !later.contains(&source.output_id()) {
                    later.push(source.output_id());
                }
            }
        }
        done.reverse();
        Ok(done)
    }

    /// The accounting files of a day, the names of all else, and what is wrong with a file.
    fn look(&self, day: &str) -> Result<Looked, CompactError> {
        let folder = self.options.dir.join(day);
        let (mut sources, mut others, mut broken) = (Vec::new(), Vec::new(), None);
        for entry in RealDisk.list(&folder).at("listing", &folder)? {
            if entry.is_dir || entry.name.starts_with('.') || !entry.name.ends_with(".parquet") {
                others.push(entry.name);
                continue;
            }
            match Footer::read(&folder.join(&entry.name)) {
                Ok((footer, _)) => {
                    let why = match &footer.manifest {
                        None => Some("is not an output's file"),
                        Some(m) if m.rows != footer.rows => Some("has another number of rows than its footer says"),
                        Some(_) if footer.is_newer() => Some("was written by a newer carom"),
                        Some(_) => None,
                    };
                    if let Some(why) = why {
                        broken = Some(format!("{} {why}", entry.name));
                    }
                    let Footer { schema, manifest, .. } = footer;
                    if let Some(manifest) = manifest {
                        sources.push(Source { name: entry.name, bytes: entry.len, schema, manifest });
                    }
                }
                Err(e) => broken = Some(e.to_string()),
            }
        }
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((sources, others, broken))
    }

    fn day(&self, name: &str, sources: Vec<Source>, left: Option<(String, bool)>) -> Result<Day, CompactError> {
        let mut day = Day {
            date: name.trim_start_matches("date=").to_owned(),
            files_before: sources.len(),
            files_after: sources.len(),
            rows: sources.iter().map(|s| s.manifest.rows).sum(),
            bytes_before: sources.iter().map(|s| s.bytes).sum(),
            bytes_after: None,
            left: None,
            faulty: false,
        };
        if let Some((why, faulty)) = left {
            return Ok(Day { left: Some(why), faulty, ..day });
        }
        let bins = match merge_plan::bins(sources, self.options.max_rows) {
            Ok(bins) => bins,
            Err(why) => return Ok(Day { left: Some(why), faulty: true, ..day }),
        };
        day.files_after = bins.len();
        if bins.iter().all(|b| b.sources.len() == 1) {
            let why = if bins.is_empty() { "no files" } else { "nothing to merge" };
            return Ok(Day { left: Some(why.to_owned()), ..day });
        }
        if !self.options.dry_run {
            day.bytes_after = Some(self.replace(name, &bins)?);
        }
        Ok(day)
    }

    /// Steps 1 to 4; the bytes of the new files.
    fn replace(&self, day: &str, bins: &[Bin]) -> Result<u64, CompactError> {
        let (folder, staged) = (self.options.dir.join(day), self.staged(day));
        self.go_on("making the new folder")?;
        RealDisk.create_dir_all(&staged).at("creating folder", &staged)?;
        like(&folder, &staged)?;
        let mut bytes = 0;
        for bin in bins {
            self.go_on("writing a merged file")?;
            let path = staged.join(&bin.name);
            if let [only] = &bin.sources[..] {
                fs::hard_link(folder.join(&only.name), &path).at("linking", &path)?;
            } else {
                self.merge(day, bin, &path)?;
                like(&folder.join(&bin.sources[0].name), &path)?;
            }
            bytes += fs::metadata(&path).at("looking at", &path)?.len();
        }
        RealDisk.sync_dir(&staged).at("syncing folder", &staged)?;
        self.go_on("writing the plan")?;
        let plan = Plan {
            version: 1,
            replaced: bins.iter().flat_map(|b| &b.sources).map(|s| (s.name.clone(), s.bytes)).collect(),
            merged: bins.iter().filter(|b| b.sources.len() > 1).map(|b| b.name.clone()).collect(),
        };
        self.keep(day, &plan)?;
        self.go_on("exchanging the folders")?;
        renameat_with(CWD, &staged, CWD, &folder, RenameFlags::EXCHANGE)
            .map_err(|e| CompactError::NoExchange { dir: self.options.dir.clone(), source: e.into() })?;
        self.after_exchange(day, &plan)?;
        Ok(bytes)
    }

    /// Writes the rows of all sources of `bin` to `path`, reads them back and compares.
    fn merge(&self, day: &str, bin: &Bin, path: &Path) -> Result<(), CompactError> {
        let failed = |e: &dyn std::fmt::Display| CompactError::from(HistoryError::new(path, e));
        let schema = merged_schema(&bin.sources);
        let file = fs::OpenOptions::new().write(true).create_new(true).open(path).at("creating", path)?;
        let properties = row_order::declared((self.layout)(&schema), &schema);
        let mut writer =
            ArrowWriter::try_new(io::BufWriter::with_capacity(1 << 20, file), schema.clone(), Some(properties))
                .map_err(|e| failed(&e))?;
        let (mut sum, mut order) = (Sum::default(), RowOrder::default());
        let write = |steps: Vec<Step>, writer: &mut ArrowWriter<_>| {
            steps.into_iter().try_for_each(|step| match step {
                Step::Write(rows) => writer.write(&rows),
                Step::EndRowGroup => writer.flush(),
            })
        };
        for source in &bin.sources {
            let from = self.options.dir.join(day).join(&source.name);
            let wrong = |e: &dyn std::fmt::Display| CompactError::from(HistoryError::new(&from, e));
            let (footer, file) = Footer::read(&from)?;
            let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.metadata)
                .with_batch_size(8192)
                .build()
                .map_err(|e| wrong(&e))?;
            for batch in batches {
                let batch = adapt(&batch.map_err(|e| wrong(&e))?, &schema).map_err(|e| wrong(&e))?;
                sum.add(&batch);
                let rows = batch.num_rows() as u64;
                let steps = order.push(batch).map_err(|e| wrong(&e))?;
                write(steps, &mut writer).map_err(|e| failed(&e))?;
                (self.progress)(day, rows);
                if writer.in_progress_rows() == 0 {
                    self.go_on("writing on in a merged file")?;
                }
            }
        }
        write(order.finish(), &mut writer).map_err(|e| failed(&e))?;
        for (key, value) in bin.manifest.key_values() {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let file = writer.into_inner().map_err(|e| failed(&e))?.into_inner().map_err(|e| failed(&e.into_error()))?;
        file.sync_all().at("syncing", path)?;
        compare(path, &bin.manifest, &sum)
    }

    fn keep(&self, day: &str, plan: &Plan) -> Result<(), CompactError> {
        let (path, new) = (self.plan_file(day), self.work.join(format!("{day}.plan.new")));
        // Names and numbers only: this can't fail.
        fs::write(&new, serde_json::to_vec_pretty(plan).unwrap_or_default()).at("writing", &new)?;
        File::open(&new).and_then(|f| f.sync_all()).at("syncing", &new)?;
        fs::rename(&new, &path).at("renaming", &new)?;
        RealDisk.sync_dir(&self.work).at("syncing folder", &self.work)
    }

    /// Step 4: the folders have changed places; whatever is not in the plan belongs to the new one.
    fn after_exchange(&self, day: &str, plan: &Plan) -> Result<(), CompactError> {
        let (folder, old) = (self.options.dir.join(day), self.staged(day));
        for dir in [&self.options.dir, &self.work] {
            RealDisk.sync_dir(dir).at("syncing folder", dir)?;
        }
        self.go_on("moving what came meanwhile")?;
        let mut moved = false;
        for entry in RealDisk.list(&old).at("listing", &old)? {
            if plan.replaced.get(&entry.name) == Some(&entry.len) {
                continue;
            }
            let (from, to) = (old.join(&entry.name), folder.join(&entry.name));
            match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
                // The server that wrote it was quick to begin it again: its new one counts, ours is unfinished.
                Err(rustix::io::Errno::EXIST) if entry.name.ends_with(".inprogress") => {
                    fs::remove_file(&from).at("removing", &from)?;
                }
                // It has finished it, or thrown it away.
                Err(rustix::io::Errno::NOENT) => {}
                r => r.map_err(io::Error::from).at("moving", &from)?,
            }
            moved = true;
        }
        if moved {
            for dir in [&folder, &old] {
                RealDisk.sync_dir(dir).at("syncing folder", dir)?;
            }
        }
        Ok(())
    }

    /// What an earlier run left: finished if its exchange has happened, else thrown away.
    fn take_up(&self) -> Result<(), CompactError> {
        for day in self.left_in_work(".plan.new")? {
            let path = self.work.join(format!("{day}.plan.new"));
            fs::remove_file(&path).at("removing", &path)?;
        }
        for day in self.left_in_work(".plan")? {
            let plan = self.read_plan(&day)?;
            let staged = self.staged(&day);
            if !staged.exists() {
                self.forget(&day)?;
            } else if plan.merged.iter().any(|name| staged.join(name).exists()) {
                // Not exchanged: the new files are still here. The day may have changed since; begin anew.
                self.forget(&day)?;
            } else {
                self.after_exchange(&day, &plan)?;
            }
        }
        for day in self.left_in_work(".new")? {
            if !self.plan_file(&day).exists() {
                self.go_on("removing an unfinished folder")?;
                let staged = self.staged(&day);
                fs::remove_dir_all(&staged).at("removing", &staged)?;
            }
        }
        Ok(())
    }

    /// Step 5, of all days at once.
    fn retire(&self) -> Result<(), CompactError> {
        let days = self.left_in_work(".plan")?;
        if days.is_empty() {
            return Ok(());
        }
        self.go_on("waiting for readers")?;
        let until = Instant::now() + self.options.keep;
        while Instant::now() < until {
            (self.progress)("waiting for those who still list the old files", 0);
            std::thread::sleep(Duration::from_millis(100).min(self.options.keep));
        }
        for day in days {
            let (plan, old) = (self.read_plan(&day)?, self.staged(&day));
            // Whatever a server has written there until now.
            self.after_exchange(&day, &plan)?;
            for name in plan.replaced.keys() {
                self.go_on("removing an old file")?;
                let path = old.join(name);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("removing", &path),
                    _ => {}
                }
            }
            self.go_on("removing the old folder")?;
            fs::remove_dir(&old).at("removing folder", &old)?;
            RealDisk.sync_dir(&self.work).at("syncing folder", &self.work)?;
            self.go_on("removing the plan")?;
            self.forget(&day)?;
        }
        Ok(())
    }

    fn forget(&self, day: &str) -> Result<(), CompactError> {
        let path = self.plan_file(day);
        fs::remove_file(&path).at("removing", &path)?;
        RealDisk.sync_dir(&self.work).at("syncing folder", &self.work)
    }

    fn read_plan(&self, day: &str) -> Result<Plan, CompactError> {
        let path = self.plan_file(day);
        let bytes = fs::read(&path).at("reading", &path)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other).at("reading", &path)
    }

    /// The days of which the work folder has something with this ending.
    fn left_in_work(&self, ending: &str) -> Result<Vec<String>, CompactError> {
        let entries = RealDisk.list(&self.work).at("listing", &self.work)?;
        let mut days: Vec<String> = entries
            .into_iter()
            .filter_map(|e| Some(e.name.strip_suffix(ending)?.to_owned()))
            .filter(|day| day.starts_with("date=") && !day.ends_with(".plan"))
            .collect();
        days.sort();
        Ok(days)
    }
}

/// Gives `to` the mode and, where it is another's, the owner of `from`: the server must be able to go on there.
fn like(from: &Path, to: &Path) -> Result<(), CompactError> {
    let (old, new) = (fs::metadata(from).at("looking at", from)?, fs::metadata(to).at("looking at", to)?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        std::os::unix::fs::chown(to, Some(old.uid()), Some(old.gid()))
            .at("giving to the owner of the old files (run this as that user, or as root)", to)?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(old.mode() & 0o7777)).at("setting the mode of", to)
}

/// All columns of the sources: those of the field table in its order, then what newer versions have added.
fn merged_schema(sources: &[Source]) -> SchemaRef {
    let mut fields: Vec<arrow::datatypes::Field> = Vec::new();
    for source in sources {
        for field in source.schema.fields() {
            match fields.iter_mut().find(|f| f.name() == field.name()) {
                Some(known) if field.is_nullable() => known.set_nullable(true),
                Some(_) => {}
                None => fields.push(field.as_ref().clone()),
            }
        }
    }
    for field in &mut fields {
        if sources.iter().any(|s| s.schema.field_with_name(field.name()).is_err()) {
            field.set_nullable(true);
        }
    }
    fields.sort_by_key(|f| FIELDS.iter().position(|t| t.name == f.name()).unwrap_or(usize::MAX));
    SchemaRef::new(Schema::new(fields))
}

fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |f: &arrow::datatypes::FieldRef| -> ArrayRef {
        batch.column_by_name(f.name()).cloned().unwrap_or_else(|| new_null_array(f.data_type(), batch.num_rows()))
    };
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())
}

/// A sum over records that does not depend on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    ids: u64,
}

impl Sum {
    fn add(&mut self, batch: &RecordBatch) {
        use std::hash::BuildHasher as _;
        let hasher = foldhash::fast::FixedState::with_seed(1);
        self.rows += batch.num_rows() as u64;
        if let Some(ids) = batch.column_by_name("eventId").and_then(|c| c.as_string_opt::<i32>()) {
            for id in ids.iter().flatten() {
                self.ids = self.ids.wrapping_add(hasher.hash_one(id));
            }
        }
    }
}

/// The merged file must say, and hold, what its sources did.
fn compare(path: &Path, manifest: &Manifest, wanted: &Sum) -> Result<(), CompactError> {
    let wrong = |e: &dyn std::fmt::Display| CompactError::from(HistoryError::new(path, e));
    let differs = |why: String| CompactError::Differs { path: path.to_owned(), why };
    let (footer, file) = Footer::read(path)?;
    if footer.manifest.as_ref() != Some(manifest) {
        return Err(differs("its footer".to_owned()));
    }
    let mask = ProjectionMask::columns(footer.metadata.metadata().file_metadata().schema_descr(), ["eventId"]);
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.metadata)
        .with_projection(mask)
        .build()
        .map_err(|e| wrong(&e))?;
    let mut found = Sum::default();
    for batch in batches {
        found.add(&batch.map_err(|e| wrong(&e))?);
    }
    if found == *wanted && found.rows == manifest.rows {
        return Ok(());
    }
    Err(differs(format!("{} records of {}", found.rows, wanted.rows)))
}
