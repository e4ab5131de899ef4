//! Reads the messages that are still queued out of the oldest segment and puts them in line to be written again, a
//! bounded number of bytes per commit. What their recipients' states are is decided when the writer takes the line.

use super::record::{Contents, Kind};
use super::segment::{self, SEGMENT_HEADER, ScanError, Scanner};
use crate::store::StoreError;
use crate::store::index::Place;
use crate::store::spool::{Pending, Segment, Shared, lock};

/// Bytes moved per commit.
const AT_ONCE: u64 = 1 << 20;

/// Moves all of it; durable, and taken off the segment's live bytes, when this returns.
pub(crate) fn relocate(shared: &Shared, from: &Segment) -> Result<(), StoreError> {
    let path = segment::path(&shared.dir, from.number);
    let mut scanner = Scanner::new(from.file.clone(), from.number, from.len, SEGMENT_HEADER);
    let mut waiting = 0;
    loop {
        let at = scanner.at;
        let record = match scanner.next() {
            Ok(record) => record,
            Err(ScanError::Io(e)) => return Err(StoreError::io("read", &path, e)),
            Err(e) => return Err(StoreError::Damaged { path, offset: at, what: format!("{e:?}") }),
        };
        if record.header.kind == Kind::Seal {
            break;
        }
        let Some(contents) = Contents::parse(&record.header, record.meta) else {
            return Err(StoreError::Damaged { path, offset: at, what: "recipients can't be read".to_owned() });
        };
        let len = record.header.total() as u32;
        for (slot, m) in contents.messages.iter().enumerate() {
            let place = Place { segment: from.number as u32, at: at as u32, len, slot: slot as u16 };
            if lock(&shared.inner).index.place(m.block.id) != Some(place) {
                continue;
            }
            let mut body = vec![0; m.block.body_len as usize];
            from.file.read_exact_at(&mut body, at + m.body_at).map_err(|e| StoreError::io("read", &path, e))?;
            // A damaged body is carried on as it is, with its checksum: it costs its own message, when it is loaded.
            let pending = Pending::moved(m.block.id, place, m.raw.to_vec(), body.into(), m.block.body_crc);
            waiting += pending.total;
            let commit = shared.put_in_line(pending, false, |_| Ok(()))?;
            if waiting >= AT_ONCE {
                waiting = 0;
                commit.wait_blocking()?;
            }
        }
    }
    shared.barrier()?.wait_blocking()
}
