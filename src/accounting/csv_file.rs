//! One CSV file that grows on a [`Disk`](crate::disk::Disk).
//!
//! Bytes that an earlier run left behind the committed length are compared with what is appended: the same bytes stay
//! untouched, so that a reader that follows the file (`tail -f`) sees no record twice; from the first difference on they
//! are cut off.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, File};

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 64 << 10;

/// Where an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Under its name.
    Here,
    /// Under another name, with all that was written.
    Moved,
    /// Removed, or cut.
    Gone,
}

/// A file and the place in it that is known to be right.
#[derive(Debug)]
pub struct CsvFile {
    file: Arc<dyn File>,
    at: u64,
    stands: u64,
}

impl CsvFile {
    /// Goes on in `file` behind its first `length` bytes. `None` when it is shorter: somebody cut it.
    pub fn resume(file: Arc<dyn File>, length: u64) -> io::Result<Option<CsvFile>> {
        let stands = file.len()?;
        Ok((stands >= length).then_some(CsvFile { file, at: length, stands }))
    }

    /// Bytes written, or found right.
    pub const fn len(&self) -> u64 {
        self.at
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Whether bytes of an earlier run are still to be compared.
    pub const fn has_remainder(&self) -> bool {
        self.stands > self.at
    }

    /// Appends `bytes`, or finds that they are there.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut there = Vec::new();
        while self.has_remainder() && !bytes.is_empty() {
            let left = usize::try_from(self.stands - self.at).unwrap_or(usize::MAX);
            let n = bytes.len().min(left).min(COMPARE_BYTES);
            there.resize(n, 0);
            self.file.read_exact_at(&mut there, self.at)?;
            let same = there.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            self.at += same as u64;
            bytes = &bytes[same..];
            if same < n {
                self.cut()?;
            }
        }
        if !bytes.is_empty() {
            if self.file.len()? < self.at {
                // Writing on would leave a hole of zeros.
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "somebody has cut it"));
            }
            self.file.write_all_at(bytes, self.at)?;
            self.at += bytes.len() as u64;
            self.stands = self.at;
        }
        Ok(())
    }

    /// Drops what an earlier run left and was not found again.
    pub fn cut(&mut self) -> io::Result<()> {
        if self.has_remainder() {
            self.file.set_len(self.at)?;
            self.stands = self.at;
        }
        Ok(())
    }

    /// Where the file is now: an operator may have moved or removed it.
    pub fn place(&self, disk: &dyn Disk, path: &Path) -> io::Result<Place> {
        let own = self.file.standing()?;
        if own.names == 0 || own.len < self.at {
            return Ok(Place::Gone);
        }
        let there = match disk.open_read(path) {
            Ok(file) => Some(file.standing()?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let same = there.is_some_and(|t| (t.device, t.inode) == (own.device, own.inode));
        Ok(if same { Place::Here } else { Place::Moved })
    }

    /// Makes what was appended durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn what_is_the_same_stays_and_what_differs_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = RealDisk.create_new(&path).unwrap();
        file.write_all_at(b"head,one,two,torn", 0).unwrap();
        let content = || {
            let mut all = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut all, 0).unwrap();
            String::from_utf8(all).unwrap()
        };
        let mut f = CsvFile::resume(Arc::clone(&file), 5).unwrap().unwrap();
        f.append(b"one,").unwrap();
        assert!(f.has_remainder());
        assert_eq!(content(), "head,one,two,torn", "a reader that follows sees nothing change");
        f.append(b"two,three,").unwrap();
        assert_eq!(content(), "head,one,two,three,");
        assert!(!f.has_remainder());
        assert!(CsvFile::resume(Arc::clone(&file), 100).unwrap().is_none());
        let mut f = CsvFile::resume(Arc::clone(&file), 5).unwrap().unwrap();
        f.cut().unwrap();
        assert_eq!(content(), "head,");
    }
}
