//! Files for what does not fit into memory while a list is sorted: 256 of them, by the first byte of a row's key.
//!
//! They stand in a folder beside the tables, under the number of their import, and are removed when they have been
//! read, or at the next start where nobody asks for them any more. Durable only after [`WorkFiles::sync`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Store;
use super::error::StoreError;
use crate::disk::{Disk, File};

/// Folder in that of the store.
const FOLDER: &str = "suppress-work";
/// Bytes gathered for each file before they are written.
const BUFFER: usize = 64 << 10;
/// How many files.
pub const PARTS: usize = 256;

/// The files of one import.
pub struct WorkFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    number: u32,
    parts: Vec<Part>,
}

#[derive(Default)]
struct Part {
    file: Option<Arc<dyn File>>,
    written: u64,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for WorkFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkFiles").field("dir", &self.dir).field("number", &self.number).finish_non_exhaustive()
    }
}

impl WorkFiles {
    /// New ones; those of the same number that were left over are removed.
    pub fn create(store: &Store, number: u32) -> Result<WorkFiles, StoreError> {
        let (disk, dir) = place(store);
        disk.create_dir_all(&dir).map_err(|e| StoreError::io("create", &dir, e))?;
        sweep(&*disk, &dir, |n| n != number)?;
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Ok(WorkFiles { disk, dir, number, parts })
    }

    /// Those that an import before a restart has synced; the ones that are gone were read.
    pub fn open(store: &Store, number: u32) -> Result<WorkFiles, StoreError> {
        let (disk, dir) = place(store);
        let mut files = WorkFiles { disk, dir, number, parts: (0..PARTS).map(|_| Part::default()).collect() };
        let there: BTreeSet<String> = names(&*files.disk, &files.dir)?.into_iter().collect();
        for part in 0..PARTS {
            if !there.contains(&name(number, part)) {
                continue;
            }
            let path = files.path(part);
            let file = files.disk.open(&path).map_err(|e| StoreError::io("open", &path, e))?;
            let written = file.len().map_err(|e| StoreError::io("read", &path, e))?;
            files.parts[part] = Part { file: Some(file), written, buffer: Vec::new() };
        }
        Ok(files)
    }

    /// Adds to a file.
    pub fn append(&mut self, part: u8, bytes: &[&[u8]]) -> Result<(), StoreError> {
        let buffer = &mut self.parts[usize::from(part)].buffer;
        bytes.iter().for_each(|b| buffer.extend_from_slice(b));
        if buffer.len() >= BUFFER { self.write(usize::from(part)) } else { Ok(()) }
    }

    /// Makes all that was added durable, and gives the buffers free.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        for part in 0..PARTS {
            self.write(part)?;
            self.parts[part].buffer = Vec::new();
            if let Some(file) = &self.parts[part].file {
                file.sync_data().map_err(|e| StoreError::io("sync", &self.path(part), e))?;
            }
        }
        self.disk.sync_dir(&self.dir).map_err(|e| StoreError::io("sync", &self.dir, e))
    }

    /// Bytes in a file.
    pub fn len(&self, part: u8) -> u64 {
        let part = &self.parts[usize::from(part)];
        part.written + part.buffer.len() as u64
    }

    /// Reads up to `most` bytes of a file, from an offset on; what was added must have been synced.
    pub fn read(&self, part: u8, offset: u64, most: usize) -> Result<Vec<u8>, StoreError> {
        let Part { file: Some(file), written, .. } = &self.parts[usize::from(part)] else { return Ok(Vec::new()) };
        let mut bytes = vec![0; written.saturating_sub(offset).min(most as u64) as usize];
        let failed = |e| StoreError::io("read", &self.path(part.into()), e);
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(bytes)
    }

    /// Removes a file that is not wanted any more.
    pub fn remove(&mut self, part: u8) -> Result<(), StoreError> {
        let path = self.path(part.into());
        if std::mem::take(&mut self.parts[usize::from(part)]).file.is_some() {
            self.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Removes all of them.
    pub fn remove_all(&mut self) -> Result<(), StoreError> {
        (0..=u8::MAX).try_for_each(|part| self.remove(part))
    }

    /// Removes the files of imports that `wanted` does not name.
    pub fn clean(store: &Store, wanted: impl Fn(u32) -> bool) -> Result<(), StoreError> {
        let (disk, dir) = place(store);
        sweep(&*disk, &dir, wanted)
    }

    fn write(&mut self, part: usize) -> Result<(), StoreError> {
        let path = self.path(part);
        let Part { file, written, buffer } = &mut self.parts[part];
        if buffer.is_empty() {
            return Ok(());
        }
        let file = match file {
            Some(file) => file,
            None => file.insert(self.disk.create_new(&path).map_err(|e| StoreError::io("create", &path, e))?),
        };
        file.write_all_at(buffer, *written).map_err(|e| StoreError::io("write", &path, e))?;
        *written += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    fn path(&self, part: usize) -> PathBuf {
        self.dir.join(name(self.number, part))
    }
}

fn place(store: &Store) -> (Arc<dyn Disk>, PathBuf) {
    let shared = store.shared();
    // The journal's folder stands in the store's.
    let dir = shared.dir.parent().unwrap_or(&shared.dir).join(FOLDER);
    (shared.disk.clone(), dir)
}

fn name(number: u32, part: usize) -> String {
    format!("{number}-{part:02x}.part")
}

/// What is in the folder, which need not be there.
fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, StoreError> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(StoreError::io("list", dir, e)),
    }
}

fn sweep(disk: &dyn Disk, dir: &Path, wanted: impl Fn(u32) -> bool) -> Result<(), StoreError> {
    for name in names(disk, dir)? {
        let number = name.strip_suffix(".part").and_then(|name| name.split_once('-')?.0.parse().ok());
        if number.is_some_and(|n| !wanted(n)) {
            let path = dir.join(&name);
            disk.remove(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        }
    }
    Ok(())
}
