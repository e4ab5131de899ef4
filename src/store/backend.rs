//! redb's file, on our [`Disk`]: so that the same power cuts that the journal is tested with hit the tables too.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::disk::File;

/// One open file as redb wants it. The store's own lock keeps others out.
#[derive(Debug)]
pub(super) struct Backend(pub Arc<dyn File>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
