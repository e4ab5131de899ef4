//! A pattern file and what it includes, read in one go, so that what was checked is what is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::include::Disk;
use super::model::{DomainPattern, PatternFile};
use super::tree::Files;

/// Most files one pattern file may lead to.
const MAX_FILES: usize = 500;
/// Largest file, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// Reads the pattern file at `path` and the files it includes. Those that can't be read are left out: whoever reads the
/// rules says where they are asked for. The error says why the file itself can't be read.
pub fn read_pattern_file(path: &Path) -> Result<PatternFile, String> {
    read(&Disk, path, None)
}

pub(super) fn read(files: &dyn Files, path: &Path, domain: Option<DomainPattern>) -> Result<PatternFile, String> {
    let text = text(files, path).map_err(|e| format!("{} can't be read: {e}", path.display()))?;
    let mut included = BTreeMap::new();
    let mut unread: Vec<(PathBuf, String)> = vec![(path.to_owned(), text.clone())];
    let mut count = 0;
    while let Some((from, text)) = unread.pop() {
        for name in text.lines().filter_map(PatternFile::included_name) {
            let wanted = PatternFile::path_of(&from, name);
            if included.contains_key(&wanted) {
                continue;
            }
            let wild = wanted.to_string_lossy().contains(['*', '?']);
            let paths = if wild { files.expand(&wanted) } else { vec![wanted.clone()] };
            let mut found = Vec::new();
            for path in paths {
                count += 1;
                if count > MAX_FILES {
                    return Err(format!("{} leads to more than {MAX_FILES} files", path.display()));
                }
                if let Ok(text) = self::text(files, &path) {
                    found.push((path, text));
                }
            }
            // A wildcard that means nothing is fine; a file that is not there is not.
            if wild || !found.is_empty() {
                unread.extend(found.iter().cloned());
                included.insert(wanted, found);
            }
        }
    }
    Ok(PatternFile { file: path.to_owned(), text, included, domain })
}

fn text(files: &dyn Files, path: &Path) -> Result<String, String> {
    let bytes = files.read(path).map_err(|e| e.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has more than {} MB", MAX_BYTES >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
