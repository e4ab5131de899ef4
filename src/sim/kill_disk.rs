//! A disk that kills its own process at a named step: how the crash suite reaches the moments between two file
//! operations that a random SIGKILL seldom hits (`carom run --kill-at STEP`, a hidden option).
//!
//! A step is `WHEN-OPERATION:PART:COUNT`: `before` or `after`; `create`, `write`, `sync`, `rename`, `remove` or
//! `sync-dir`; a part of the path; and which occurrence. For a rename the new name counts.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::disk::{DirLock, Disk, Entry, File, Standing};

/// The step at which the process dies.
#[derive(Debug, Clone)]
pub struct Step {
    before: bool,
    operation: String,
    part: String,
    left: Arc<AtomicI64>,
}

const OPERATIONS: &[&str] = &["create", "write", "sync", "rename", "remove", "sync-dir"];

/// The text is no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a step: {0:?} (expected before-OPERATION:PART:COUNT or after-..., OPERATION one of {OPERATIONS:?})")]
pub struct StepError(String);

impl FromStr for Step {
    type Err = StepError;
    fn from_str(s: &str) -> Result<Step, StepError> {
        let bad = || StepError(s.to_owned());
        let mut parts = s.splitn(3, ':');
        let when = parts.next().ok_or_else(bad)?;
        let part = parts.next().ok_or_else(bad)?.to_owned();
        let count = parts.next().ok_or_else(bad)?.parse().map_err(|_| bad())?;
        let (before, operation) = match when.split_once('-') {
            Some(("before", o)) => (true, o),
            Some(("after", o)) => (false, o),
            _ => return Err(bad()),
        };
        if !OPERATIONS.contains(&operation) {
            return Err(bad());
        }
        Ok(Step { before, operation: operation.to_owned(), part, left: Arc::new(AtomicI64::new(count)) })
    }
}

impl Step {
    /// Dies here if this is it.
    fn pass(&self, before: bool, operation: &str, path: &Path) {
        if self.before == before
            && self.operation == operation
            && path.to_string_lossy().contains(&self.part)
            && self.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    fn around<T>(&self, operation: &str, path: &Path, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.pass(true, operation, path);
        let result = f();
        self.pass(false, operation, path);
        result
    }
}

/// `inner`, until the step is reached.
#[derive(Debug)]
pub struct KillDisk {
    inner: Arc<dyn Disk>,
    step: Step,
}

impl KillDisk {
    /// `inner`, with the process ending at `step`.
    pub fn new(inner: Arc<dyn Disk>, step: Step) -> KillDisk {
        KillDisk { inner, step }
    }

    fn file(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(KillFile { inner: file, path: path.to_owned(), step: self.step.clone() })
    }
}

#[derive(Debug)]
struct KillFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    step: Step,
}

impl Disk for KillDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.step.around("create", path, || self.inner.create_new(path))?;
        Ok(self.file(path, file))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(path, self.inner.open(path)?))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.open_read(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step.around("rename", to, || self.inner.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step.around("remove", path, || self.inner.remove(path))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step.around("sync-dir", dir, || self.inner.sync_dir(dir))
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_space(path)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.inner.lock(dir)
    }
}

impl File for KillFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.step.around("write", &self.path, || self.inner.write_all_at(buf, offset))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.step.around("sync", &self.path, || self.inner.sync_data())
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn standing(&self) -> io::Result<Standing> {
        self.inner.standing()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_nonsense_is_refused() {
        let step: Step = "after-sync-dir:acct:3".parse().unwrap();
        assert!(!step.before && step.operation == "sync-dir" && step.part == "acct");
        for bad in ["", "after-sync", "after-jump:acct:1", "during-sync:a:1", "after-sync:a:x"] {
            assert!(bad.parse::<Step>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_steps_pass() {
        let step: Step = "before-rename:acct:2".parse().unwrap();
        step.pass(true, "rename", Path::new("/x/journal/1"));
        step.pass(false, "rename", Path::new("/x/acct/1"));
        step.pass(true, "rename", Path::new("/x/acct/1"));
        assert_eq!(step.left.load(Ordering::SeqCst), 1);
    }
}
