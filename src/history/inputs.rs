#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: lists folders, opens files")]
//! From the arguments of a command to the files it reads: names, folders, patterns, standard input, packed files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::HistoryError;

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A file: Parquet or CSV by its first bytes, gzip and zstd unpacked.
    File(PathBuf),
    /// Standard input: CSV, perhaps packed.
    Stdin,
}

impl Input {
    /// As messages name it.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }

    /// Its length in bytes; 0 when that is not known.
    pub fn len(&self) -> u64 {
        match self {
            Input::File(path) => std::fs::metadata(path).map_or(0, |m| if m.is_file() { m.len() } else { 0 }),
            Input::Stdin => 0,
        }
    }

    /// Whether it is an empty file, or of unknown length.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Input::File(path) => path,
            Input::Stdin => Path::new("standard input"),
        }
    }
}

/// The files that `arguments` mean, in their order: `-` is standard input, a folder all accounting files below it, a
/// pattern (`acct/date=2026-05-*/*.parquet`, `**`) what it matches. Files that are still being written (a leading dot, or
/// `.inprogress`) are left out unless named.
///
/// # Errors
/// When a file is not there, a folder can't be listed, or a pattern is malformed or matches nothing.
pub fn expand<S: AsRef<str>>(arguments: &[S]) -> Result<Vec<Input>, HistoryError> {
    let mut inputs = Vec::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let path = Path::new(argument);
        if argument == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            folder(path, &mut inputs)?;
        } else if path.exists() {
            inputs.push(Input::File(path.to_owned()));
        } else if argument.contains(['*', '?', '[']) {
            pattern(argument, &mut inputs)?;
        } else {
            return Err(HistoryError::new(path, "there is no such file or folder"));
        }
    }
    Ok(inputs)
}

/// Accounting files below a folder, each list in the order of the paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// CSV files, packed ones too.
    pub csv: Vec<PathBuf>,
    /// Parquet files.
    pub parquet: Vec<PathBuf>,
}

/// The accounting files below `dir`, as [`expand`] finds them.
///
/// # Errors
/// When a folder can't be listed.
pub fn find(dir: &Path) -> Result<Found, HistoryError> {
    let (mut found, mut inputs) = (Found::default(), Vec::new());
    folder(dir, &mut inputs)?;
    for input in inputs {
        let Input::File(path) = input else { continue };
        if has_ending(&path, &[".parquet"]) { found.parquet.push(path) } else { found.csv.push(path) }
    }
    found.csv.sort();
    found.parquet.sort();
    Ok(found)
}

/// The files among the inputs that `arguments` mean, each once, for those who read no pipes.
///
/// # Errors
/// As [`expand`], and when standard input is named, or a folder holds no accounting file.
pub fn files<S: AsRef<str>>(arguments: &[S]) -> Result<Vec<PathBuf>, HistoryError> {
    let mut files = Vec::new();
    for argument in arguments {
        let before = files.len();
        for input in expand(&[argument])? {
            match input {
                Input::File(path) => files.push(path),
                Input::Stdin => {
                    return Err(HistoryError::new(Path::new("-"), "name files: this reads them more than once"));
                }
            }
        }
        if files.len() == before {
            return Err(HistoryError::new(Path::new(argument.as_ref()), "no accounting file is there"));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn pattern(pattern: &str, inputs: &mut Vec<Input>) -> Result<(), HistoryError> {
    let failed = |why: &dyn std::fmt::Display| HistoryError::new(Path::new(pattern), why);
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
    let before = inputs.len();
    for entry in glob::glob_with(pattern, options).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?;
        if path.is_dir() {
            // `acct/date=2026-05-*` means the files in them.
            folder(&path, inputs)?;
        } else if !is_unfinished(&path) {
            inputs.push(Input::File(path));
        }
    }
    // `acct/**` matches folders and their files.
    let mut seen = std::collections::HashSet::new();
    let mut at = 0;
    inputs.retain(|input| {
        at += 1;
        at <= before || seen.insert(input.clone())
    });
    if inputs.len() == before { Err(failed(&"no file matches this pattern")) } else { Ok(()) }
}

fn folder(dir: &Path, inputs: &mut Vec<Input>) -> Result<(), HistoryError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| HistoryError::new(dir, e))? {
        let entry = entry.map_err(|e| HistoryError::new(dir, e))?;
        entries.push((entry.path(), entry.file_type().is_ok_and(|t| t.is_dir())));
    }
    entries.sort();
    for (path, is_folder) in entries {
        if is_unfinished(&path) {
            continue;
        }
        // A link is not followed into a folder: it could lead back up.
        if is_folder {
            folder(&path, inputs)?;
        } else if is_accounting(&path) {
            inputs.push(Input::File(path));
        }
    }
    Ok(())
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with(".inprogress")
}

fn is_accounting(path: &Path) -> bool {
    has_ending(path, &[".parquet", ".csv", ".csv.gz", ".csv.zst"]) && !path.is_dir()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    endings.iter().any(|end| name.ends_with(end))
}

/// The text of a CSV file, unpacked if it is packed. `Err` for a Parquet file, too.
pub(super) fn open_csv(path: &Path) -> io::Result<Box<dyn Read>> {
    match open(&Input::File(path.to_owned()), |_| ())? {
        Opened::Csv(text) => Ok(text),
        Opened::Parquet(_) => Err(io::Error::other("it is a Parquet file")),
    }
}

/// An opened input, by what its first bytes say.
pub(super) enum Opened {
    /// Rows as text; how many bytes of the file were read is added to the counter as it goes.
    Csv(Box<dyn Read>),
    /// A Parquet file.
    Parquet(File),
}

/// Opens `input`; `count` hears of every piece that is read.
pub(super) fn open(input: &Input, count: impl FnMut(u64) + 'static) -> io::Result<Opened> {
    let raw: Box<dyn Read> = match input {
        Input::Stdin => Box::new(io::stdin()),
        Input::File(path) => {
            let mut file = File::open(path)?;
            let mut magic = [0; 4];
            let is_parquet = file.metadata()?.is_file() && file.read_exact(&mut magic).is_ok() && magic == *b"PAR1";
            if is_parquet {
                return Ok(Opened::Parquet(file));
            }
            if file.metadata()?.is_file() {
                io::Seek::rewind(&mut file)?;
            }
            Box::new(file)
        }
    };
    let mut counted = Counted { inner: raw, count };
    let mut magic = Vec::with_capacity(4);
    counted.by_ref().take(4).read_to_end(&mut magic)?;
    let is_gzip = magic.starts_with(&[0x1f, 0x8b]);
    let is_zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
    if magic == *b"PAR1" {
        return Err(io::Error::other("Parquet can't be read from a pipe; give the file"));
    }
    let whole = io::Cursor::new(magic).chain(counted);
    Ok(Opened::Csv(if is_gzip {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole)))
    } else if is_zstd {
        Box::new(zstd::stream::read::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    }))
}

struct Counted<R, F> {
    inner: R,
    count: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.count)(n as u64);
        Ok(n)
    }
}
