//! Durable file operations: what the store and the accounting files are built on.
//!
//! Everything that must survive a power cut goes through [`Disk`], so that the same code runs on the real file system
//! ([`RealDisk`]) and on a simulated one that loses what was not synced (`sim::disk`). A rename, a creation or a
//! removal is durable only after [`Disk::sync_dir`] on the folder; written bytes only after [`File::sync_data`].

mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// A file system, as far as durability is concerned.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Creates a new file for reading and writing; fails with `AlreadyExists` if there is one.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Lets every user of the machine read a file; nothing to do where files have no modes.
    fn make_world_readable(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Renames a file, replacing what is there, on the same file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and those above it; fine if it exists. The new entries are synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What is in a folder: names of files and folders, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Makes creations, renames and removals in this folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that a process without privileges can still write to the file system of `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock of `dir` (a file `lock` in it), held until the value is dropped; `WouldBlock` when
    /// another process, or another value, holds it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Positions are given with each call, so that readers and the writer share one handle.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes written bytes, and the length needed to read them back, durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Which file this is, and whether it still has a name: somebody may have moved or removed it while it is open.
    fn standing(&self) -> io::Result<Standing>;
    /// Cuts or extends (with zeros) to this length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room for `len` bytes from the start without changing what is read; the length becomes at least `len`.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Reads exactly `buf.len()` bytes; `UnexpectedEof` if there are fewer.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.read_at(buf, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[n..];
            offset += n as u64;
        }
        Ok(())
    }
}

/// How an open file stands in its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The file system.
    pub device: u64,
    /// The file in it; two handles with the same device and inode are of the same file.
    pub inode: u64,
    /// Under how many names it can be opened; 0 when it was removed.
    pub names: u64,
    /// Length in bytes.
    pub len: u64,
}

/// One thing in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Whether it is a folder itself.
    pub is_dir: bool,
    /// Length in bytes of a file.
    pub len: u64,
}

/// Releases the lock of a folder when dropped.
pub trait DirLock: Send + Sync + std::fmt::Debug {}
