#![expect(clippy::disallowed_methods, reason = "edge: lists folders")]
//! Which accounting files are there?

use std::path::{Path, PathBuf};

use super::HistoryError;

/// Accounting files, each list in the order of the paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// CSV files.
    pub csv: Vec<PathBuf>,
    /// Parquet files.
    pub parquet: Vec<PathBuf>,
}

/// The accounting files below `dir`. Those with a leading dot are unfinished, and left out.
///
/// # Errors
/// When a folder can't be listed.
pub fn find(dir: &Path) -> Result<Found, HistoryError> {
    let (mut found, mut folders) = (Found::default(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| HistoryError::new(&folder, e))? {
            let entry = entry.map_err(|e| HistoryError::new(&folder, e))?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // A link is not followed into a folder: it could lead back up.
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            match path.extension().and_then(|e| e.to_str()) {
                _ if hidden => {}
                _ if is_dir => folders.push(path),
                Some("csv") => found.csv.push(path),
                Some("parquet") => found.parquet.push(path),
                _ => {}
            }
        }
    }
    found.csv.sort();
    found.parquet.sort();
    Ok(found)
}
