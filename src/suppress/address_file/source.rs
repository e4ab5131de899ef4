#![expect(clippy::disallowed_methods, reason = "edge: looks at a file")]
//! What tells one state of a file from another without reading it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::event::Time;

/// A file that has been neither written nor replaced has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Bytes.
    pub size: u64,
    /// When its content was written last.
    pub modified: Time,
    /// When anything about it changed last.
    pub changed: Time,
    /// Its device.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl Identity {
    /// Of a file that is open.
    pub fn of(metadata: &Metadata) -> Identity {
        let micros = |secs: i64, nanos: i64| Time(secs.saturating_mul(1_000_000).saturating_add(nanos / 1000));
        Identity {
            size: metadata.size(),
            modified: micros(metadata.mtime(), metadata.mtime_nsec()),
            changed: micros(metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// As it is kept in an index.
    pub fn bytes(&self) -> [u8; 40] {
        let parts = [self.size, self.modified.0 as u64, self.changed.0 as u64, self.device, self.inode];
        let mut bytes = [0; 40];
        for (to, part) in bytes.chunks_exact_mut(8).zip(parts) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        bytes
    }
}

/// Of the file under this path.
pub fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(Identity::of(&metadata))
}
