//! A disk in memory that forgets what was not synced: for power cuts, full disks, I/O errors and damaged bytes.
//!
//! Each file has two images: what programs read (volatile) and what survives (durable). [`SimDisk::power_cut`] makes the
//! second out of the first as a real disk might: of each 4 KiB page written since the last sync nothing, all or a part
//! survives; a changed length survives or not; of creations, renames and removals not followed by a sync of their
//! folder each one survives or not. A rename is atomic. After the cut old handles fail, as the process is gone.
//!
//! Every operation that changes something can be the last: [`SimDisk::cut_after`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::{DirLock, Disk, Entry, File, Standing};

/// Bytes that survive or not as one.
const PAGE: usize = 4096;
/// What a torn page is torn at.
const SECTOR: usize = 512;

/// The disk. Cheap to clone; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// Which operation is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The n-th write from now on (1 is the next), with this error, once.
    Write(u64, io::ErrorKind),
    /// The n-th sync of a file or folder from now on, with this error, once. The data stays unsynced.
    Sync(u64, io::ErrorKind),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Handles hold clones: an open file can be read after its removal.
    open: Arc<()>,
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    fn dir(&self) -> &Path {
        let (Change::Create(path, _) | Change::Rename(_, path) | Change::Remove(path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Change::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    inodes: BTreeMap<usize, Inode>,
    next_inode: usize,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    changes: Vec<Change>,
    locks: BTreeMap<PathBuf, Weak<()>>,
    /// Counts power cuts: handles of an earlier life are dead.
    life: u64,
    operations: u64,
    /// What the last of them was, and with what.
    last: Option<(&'static str, PathBuf)>,
    cut_at: Option<u64>,
    faults: Vec<Fault>,
    limit: u64,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty disk without limit.
    pub fn new() -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::new(), PathBuf::from("/")]),
            changes: Vec::new(),
            locks: BTreeMap::new(),
            life: 0,
            operations: 0,
            last: None,
            cut_at: None,
            faults: Vec::new(),
            limit: u64::MAX,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same content; nobody holds its locks.
    pub fn duplicate(&self) -> SimDisk {
        let mut state = self.state().clone();
        state.locks.clear();
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// Operations so far that changed something (writes, syncs, creations, renames, removals, lengths).
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The last operation that changed something (`create`, `write`, `sync`, `length`, `rename`, `remove`, `sync-dir`), with
    /// the file, its new name, or the folder: when the power is gone, the one it went after.
    pub fn last_operation(&self) -> Option<(&'static str, PathBuf)> {
        self.state().last.clone()
    }

    /// After `n` more operations the power goes: all further ones fail until [`SimDisk::power_cut`].
    pub fn cut_after(&self, n: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.operations + n);
    }

    /// Whether the power went at the point set by [`SimDisk::cut_after`].
    pub fn is_cut(&self) -> bool {
        let state = self.state();
        state.cut_at.is_some_and(|at| state.operations >= at)
    }

    /// The power goes (if it has not) and comes back. What was not synced survives or not, as `seed` has it; locks are
    /// free, open files are dead, planned faults are forgotten.
    pub fn power_cut(&self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let state = &mut *self.state();
        state.life += 1;
        state.cut_at = None;
        state.faults.clear();
        state.locks.clear();
        for inode in state.inodes.values_mut() {
            inode.cut(&mut random);
        }
        // Half of the time the file system keeps its order, as journaling ones do: then a prefix survives.
        let ordered = random.random_bool(0.5);
        let mut kept = true;
        for change in std::mem::take(&mut state.changes) {
            let keep = random.random_bool(0.6);
            kept = if ordered { kept && keep } else { keep };
            if kept {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let used: BTreeSet<usize> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| used.contains(inode));
    }

    /// Plans a failure.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Bytes all files together may take; writing beyond fails with `StorageFull`.
    pub fn set_limit(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// Flips bits of one byte, on the medium and in what is read.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state();
        let Some(inode) = state.names.get(path).copied() else { return };
        let Some(inode) = state.inodes.get_mut(&inode) else { return };
        let at = offset as usize;
        for image in [&mut inode.volatile, &mut inode.durable] {
            if let Some(byte) = image.get_mut(at) {
                *byte ^= mask;
            }
        }
    }

    /// Paths and lengths of all files.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        state
            .names
            .iter()
            .map(|(path, i)| (path.clone(), state.inodes.get(i).map_or(0, |i| i.volatile.len() as u64)))
            .collect()
    }
}

impl Inode {
    fn mark(&mut self, from: usize, to: usize) {
        if to > from {
            self.dirty.extend(from / PAGE..=(to - 1) / PAGE);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.volatile.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..(page * PAGE + PAGE).min(self.volatile.len());
            if range.start < range.end {
                self.durable[range.clone()].copy_from_slice(&self.volatile[range]);
            }
        }
    }

    fn cut(&mut self, random: &mut StdRng) {
        if self.volatile.len() != self.durable.len() && random.random_bool(0.5) {
            self.durable.resize(self.volatile.len(), 0);
        }
        let all_or_nothing = random.random_range(0..4);
        for page in std::mem::take(&mut self.dirty) {
            let start = page * PAGE;
            let end = (start + PAGE).min(self.volatile.len()).min(self.durable.len());
            if start >= end {
                continue;
            }
            let fate = match all_or_nothing {
                0 => 0,
                1 => 1,
                _ => random.random_range(0..3),
            };
            let (from, to) = match fate {
                0 => continue,
                1 => (start, end),
                _ => {
                    let tear = (start + SECTOR * random.random_range(1..PAGE / SECTOR)).min(end);
                    if random.random_bool(0.5) { (start, tear) } else { (tear, end) }
                }
            };
            self.durable[from..to].copy_from_slice(&self.volatile[from..to]);
        }
        self.volatile = self.durable.clone();
    }
}

impl State {
    /// Counts an operation; fails when the power is gone or the caller belongs to an earlier life.
    fn operate(&mut self, life: u64, what: &'static str, path: &Path) -> io::Result<()> {
        self.powered(life)?;
        self.operations += 1;
        self.last = Some((what, path.to_owned()));
        Ok(())
    }

    fn operate_on(&mut self, life: u64, what: &'static str, inode: usize) -> io::Result<()> {
        let path = self.names.iter().find(|(_, i)| **i == inode).map(|(path, _)| path.clone()).unwrap_or_default();
        self.operate(life, what, &path)
    }

    fn powered(&self, life: u64) -> io::Result<()> {
        if life != self.life || self.cut_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    fn fault(&mut self, sync: bool) -> io::Result<()> {
        let mut due = None;
        self.faults.retain_mut(|fault| match fault {
            Fault::Write(n, kind) if !sync => {
                *n -= 1;
                due = due.or((*n == 0).then_some(*kind));
                *n > 0
            }
            Fault::Sync(n, kind) if sync => {
                *n -= 1;
                due = due.or((*n == 0).then_some(*kind));
                *n > 0
            }
            _ => true,
        });
        due.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Frees the room of files that have no name and are not open.
    fn forget_removed(&mut self) {
        let pending =
            self.changes.iter().filter_map(|c| if let Change::Create(_, inode) = c { Some(inode) } else { None });
        let used: BTreeSet<usize> =
            self.names.values().chain(self.durable_names.values()).chain(pending).copied().collect();
        self.inodes.retain(|inode, i| used.contains(inode) || Arc::strong_count(&i.open) > 1);
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|i| i.volatile.len() as u64).sum()
    }

    fn inode(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::Error::other("the power is off"))
    }

    fn grow(&mut self, inode: usize, len: usize) -> io::Result<()> {
        let now = self.inode(inode)?.volatile.len();
        if len > now && self.limit != u64::MAX && self.used() + (len - now) as u64 > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inode(inode)?;
        if len > now {
            inode.volatile.resize(len, 0);
            inode.mark(now, len);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
    _open: Arc<()>,
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.powered(self.life)?;
        let bytes = &state.inode(self.inode)?.volatile;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let n = buf.len().min(bytes.len() - from);
        buf[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate_on(self.life, "write", self.inode)?;
        state.fault(false)?;
        let from = offset as usize;
        state.grow(self.inode, from + buf.len())?;
        let inode = state.inode(self.inode)?;
        inode.volatile[from..from + buf.len()].copy_from_slice(buf);
        inode.mark(from, from + buf.len());
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate_on(self.life, "sync", self.inode)?;
        state.fault(true)?;
        state.inode(self.inode)?.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.powered(self.life)?;
        Ok(state.inode(self.inode)?.volatile.len() as u64)
    }

    fn standing(&self) -> io::Result<Standing> {
        let mut state = self.disk.state();
        state.powered(self.life)?;
        let names = state.names.values().filter(|inode| **inode == self.inode).count() as u64;
        let len = state.inode(self.inode)?.volatile.len() as u64;
        Ok(Standing { device: 1, inode: self.inode as u64, names, len })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate_on(self.life, "length", self.inode)?;
        state.grow(self.inode, len as usize)?;
        let inode = state.inode(self.inode)?;
        inode.volatile.truncate(len as usize);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate_on(self.life, "length", self.inode)?;
        state.grow(self.inode, len as usize)
    }
}

impl SimDisk {
    fn handle(&self, state: &State, inode: usize) -> Arc<dyn File> {
        let open = state.inodes.get(&inode).map(|i| i.open.clone()).unwrap_or_default();
        Arc::new(SimFile { disk: self.clone(), inode, life: state.life, _open: open })
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        let (what, named) = match &change {
            Change::Rename(_, to) => ("rename", to),
            Change::Remove(path) => ("remove", path),
            Change::Create(path, _) => ("create", path),
        };
        state.operate(life, what, named)?;
        if let Change::Rename(path, _) | Change::Remove(path) = &change
            && !state.names.contains_key(path)
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        change.apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let life = state.life;
        state.operate(life, "create", path)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !state.dirs.contains(path.parent().unwrap_or(Path::new(""))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(path.to_owned(), inode);
        state.changes.push(Change::Create(path.to_owned(), inode));
        Ok(self.handle(&state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.state();
        state.powered(state.life)?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, inode))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Change::Remove(path.to_owned()))
    }

    /// Folders are durable at once, as the real one syncs what it creates.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.powered(state.life)?;
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.powered(state.life)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let files = state.names.iter().filter(|(path, _)| path.parent() == Some(dir)).filter_map(|(path, inode)| {
            let len = state.inodes.get(inode).map_or(0, |i| i.volatile.len() as u64);
            Some(Entry { name: name(path)?, is_dir: false, len })
        });
        let dirs = state.dirs.iter().filter(|path| path.parent() == Some(dir));
        Ok(files.chain(dirs.filter_map(|path| Some(Entry { name: name(path)?, is_dir: true, len: 0 }))).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        state.operate(state.life, "sync-dir", dir)?;
        state.fault(true)?;
        let (now, later) = std::mem::take(&mut state.changes).into_iter().partition(|c| c.dir() == dir);
        state.changes = later;
        let now: Vec<Change> = now;
        now.iter().for_each(|change| change.apply(&mut state.durable_names));
        state.forget_removed();
        Ok(())
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.powered(state.life)?;
        Ok(state.limit.saturating_sub(state.used()))
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state();
        state.powered(state.life)?;
        if state.locks.get(dir).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = Arc::new(());
        state.locks.insert(dir.to_owned(), Arc::downgrade(&held));
        Ok(Box::new(SimLock { _held: held }))
    }
}

#[derive(Debug)]
struct SimLock {
    _held: Arc<()>,
}

impl DirLock for SimLock {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, path: &str) -> Vec<u8> {
        let file = disk.open(Path::new(path)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_may_not() {
        let mut fates = BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new();
            let file = disk.create_new(Path::new("a")).unwrap();
            file.write_all_at(&[1; 3 * PAGE], 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("")).unwrap();
            file.write_all_at(&[2; PAGE], PAGE as u64).unwrap();
            disk.power_cut(seed);
            assert!(file.len().is_err(), "a handle of before the cut is dead");
            let bytes = read(&disk, "a");
            assert!(bytes[..PAGE].iter().chain(&bytes[2 * PAGE..]).all(|b| *b == 1));
            let new = bytes.iter().filter(|b| **b == 2).count();
            assert_eq!(new % SECTOR, 0);
            fates.insert(new.min(1) + usize::from(new == PAGE));
        }
        assert_eq!(fates.len(), 3, "dropped, torn and kept all happen");
    }

    #[test]
    fn a_rename_without_a_folder_sync_is_kept_or_undone_whole() {
        let mut fates = BTreeSet::new();
        for seed in 0..50 {
            let disk = SimDisk::new();
            disk.create_new(Path::new("a")).unwrap();
            disk.sync_dir(Path::new("")).unwrap();
            disk.rename(Path::new("a"), Path::new("b")).unwrap();
            disk.power_cut(seed);
            let names: Vec<String> =
                disk.list(Path::new("")).unwrap().into_iter().map(|e| e.name).filter(|n| !n.is_empty()).collect();
            assert_eq!(names.len(), 1);
            fates.insert(names);
        }
        assert_eq!(fates.len(), 2);
    }

    #[test]
    fn after_the_planned_operation_everything_fails_until_the_power_is_back() {
        let disk = SimDisk::new();
        let file = disk.create_new(Path::new("a")).unwrap();
        disk.cut_after(1);
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(disk.last_operation(), Some(("write", "a".into())));
        assert!(file.sync_data().is_err() && file.len().is_err() && disk.create_new(Path::new("b")).is_err());
        disk.power_cut(1);
        disk.create_new(Path::new("c")).unwrap();
    }

    #[test]
    fn a_full_disk_and_planned_errors_are_reported_once() {
        let disk = SimDisk::new();
        let file = disk.create_new(Path::new("a")).unwrap();
        disk.set_limit(10);
        assert_eq!(file.allocate(11).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[0; 10], 0).unwrap();
        assert_eq!(disk.free_space(Path::new("")).unwrap(), 0);
        disk.fail(Fault::Sync(2, io::ErrorKind::Other));
        file.sync_data().unwrap();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
    }

    #[test]
    fn a_folder_is_locked_once() {
        let disk = SimDisk::new();
        let held = disk.lock(Path::new("d")).unwrap();
        assert_eq!(disk.lock(Path::new("d")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock(Path::new("d")).unwrap();
    }
}
