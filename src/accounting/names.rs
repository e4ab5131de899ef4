//! What the files of an output are called, from its configured path.
//!
//! * `log/acct.csv` -> `log/acct-YYYY-MM-DD-NNNN.csv`: local date of creation, files counted from `0000` each day
//!   (reference/accounting.md, 4.1).
//! * `acct/acct.parquet` -> `acct/date=YYYY-MM-DD/acct-NNNNNNNNNNNNNNNN.parquet`: UTC date of its first record, and its
//!   first sequence number, so that names sort in the order of the records. While it is written there is a dot before
//!   the name and `.inprogress` behind, so that `acct/**/*.parquet` finds whole files only, whatever reads it, and
//!   engines that know Hive folders prune by day.

use std::path::{Component, Path, PathBuf};

use jiff::civil::Date;

use crate::event::StoreId;

/// How the files of one output are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    dir: PathBuf,
    stem: String,
    extension: String,
}

impl Names {
    /// For the configured path, which is below `root` unless it is absolute.
    pub fn of(root: &Path, path: &Path) -> Names {
        let part = |p: Option<&std::ffi::OsStr>| p.map(|s| s.to_string_lossy().into_owned());
        Names {
            dir: root.join(path.parent().unwrap_or(Path::new(""))),
            stem: part(path.file_stem()).unwrap_or_else(|| "acct".into()),
            extension: part(path.extension()).map(|e| format!(".{e}")).unwrap_or_default(),
        }
    }

    /// The folder of the configured path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The CSV file number `n` of a local date.
    pub fn csv(&self, date: Date, n: u32) -> String {
        format!("{}-{}-{n:04}{}", self.stem, date.strftime("%Y-%m-%d"), self.extension)
    }

    /// The date and number of a CSV file of this output; `None` for any other file.
    pub fn parse_csv(&self, name: &str) -> Option<(Date, u32)> {
        let middle = name.strip_prefix(&self.stem)?.strip_prefix('-')?.strip_suffix(&self.extension)?;
        let (date, n) = (middle.get(..10)?, middle.get(10..)?.strip_prefix('-')?);
        if n.len() < 4 || !n.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (date, n) = (date.parse().ok()?, n.parse().ok()?);
        (self.csv(date, n) == name).then_some((date, n))
    }

    /// The Parquet file that begins with sequence number `first`, relative to [`Names::dir`]; `date` is the UTC date of
    /// its first record.
    pub fn parquet(&self, date: Date, first: u64) -> String {
        format!("date={}/{}-{first:016}{}", date.strftime("%Y-%m-%d"), self.stem, self.extension)
    }

    /// The same, for when that name is taken by another store's file: an older store of this folder, or a second server.
    pub fn parquet_of(&self, date: Date, first: u64, store: StoreId) -> String {
        format!("date={}/{}-{first:016}-{store}{}", date.strftime("%Y-%m-%d"), self.stem, self.extension)
    }

    /// Whether two outputs would write the same files, however their paths are spelled.
    pub fn is_same(&self, other: &Names) -> bool {
        let dir = |n: &Names| n.dir.components().filter(|c| *c != Component::CurDir).collect::<PathBuf>();
        self.stem == other.stem && self.extension == other.extension && dir(self) == dir(other)
    }

    /// What a Parquet file is called until it is whole.
    pub fn in_progress(name: &str) -> String {
        let (folder, file) = name.rsplit_once('/').unwrap_or((".", name));
        format!("{folder}/.{file}.inprogress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    #[test]
    fn files_are_named_after_the_configured_path() {
        let csv = Names::of(Path::new("/srv"), Path::new("log/acct.csv"));
        assert_eq!(csv.dir(), Path::new("/srv/log"));
        assert_eq!(csv.csv(date(2026, 1, 31), 7), "acct-2026-01-31-0007.csv");
        let parquet = Names::of(Path::new("/srv"), Path::new("/data/acct.parquet"));
        assert_eq!(parquet.dir(), Path::new("/data"));
        let name = parquet.parquet(date(2026, 1, 31), 42);
        assert_eq!(name, "date=2026-01-31/acct-0000000000000042.parquet");
        assert_eq!(Names::in_progress(&name), "date=2026-01-31/.acct-0000000000000042.parquet.inprogress");
    }

    #[test]
    fn only_our_own_files_are_recognised() {
        let n = Names::of(Path::new(""), Path::new("acct.csv"));
        assert_eq!(n.parse_csv("acct-2026-01-31-0007.csv"), Some((date(2026, 1, 31), 7)));
        for other in [
            "acct.csv",
            "acct-2026-01-31.csv",
            "acct-2026-01-31-0007.csv.gz",
            "acct-x-2026-01-31-0000.csv",
            "acct-2026-13-31-0000.csv",
        ] {
            assert_eq!(n.parse_csv(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_reads_back(day in 1i8..29, month in 1i8..13, year in 1970i16..3000, n: u32) {
            let names = Names::of(Path::new("r"), Path::new("a-b.c.csv"));
            let d = date(year, month, day);
            prop_assert_eq!(names.parse_csv(&names.csv(d, n)), Some((d, n)));
        }

        #[test]
        fn no_name_panics(name in "acct-\\PC{0,30}") {
            let _ = Names::of(Path::new(""), Path::new("acct.csv")).parse_csv(&name);
        }
    }
}
