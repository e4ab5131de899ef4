//! Messages back from the store: from memory, or read from the disk and checked.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{LoadError, StoreError};
use super::index::Place;
use super::journal::record::{Brought, Contents, HEADER, Header};
use super::journal::segment;
use super::message::{Envelope, Message, RcptState};
use super::spool::lock;
use super::{Store, envelope};
use crate::disk::File;
use crate::event::MessageId;

/// Messages whose envelopes are read in one go at start-up.
const AT_ONCE: usize = 4096;

impl Store {
    /// The message if it is in memory.
    pub fn cached(&self, message: MessageId) -> Option<Arc<Message>> {
        lock(&self.shared().cache).find(message)
    }

    /// The message from the cache, or read back from the disk and checked. Blocking when it is not cached: call it where
    /// that is allowed. A message with one recipient leaves the cache with this.
    pub fn load(&self, message: MessageId) -> Result<Arc<Message>, LoadError> {
        if let Some(cached) = lock(&self.shared().cache).take(message) {
            return Ok(cached);
        }
        // The keeper may move it while we read: then it stands elsewhere, and its old segment may be gone.
        let mut last = None;
        loop {
            let (place, file) = self.find(message, last)?;
            let result = read(&*file, message, place);
            match result {
                Err(e) if self.place(message).is_some_and(|now| now != place) => last = Some(e),
                result => return result,
            }
        }
    }

    fn place(&self, message: MessageId) -> Option<Place> {
        lock(&self.shared().inner).index.place(message)
    }

    fn find(&self, message: MessageId, last: Option<LoadError>) -> Result<(Place, Arc<dyn File>), LoadError> {
        let inner = lock(&self.shared().inner);
        let place = inner.index.place(message).ok_or(LoadError::Gone(message))?;
        if place == Place::WAITING {
            return Err(LoadError::Io(
                message,
                "it is not durable yet; wait for accept or finish to return".to_owned(),
            ));
        }
        let segment = inner.segment(u64::from(place.segment));
        let file = segment.map(|s| s.file.clone()).ok_or(LoadError::Gone(message)).map_err(|e| last.unwrap_or(e))?;
        Ok((place, file))
    }

    /// Calls `f` for each message that still has recipients, with the states of those; for start-up. In the order in which they
    /// stand in the journal, which is nearly that in which they were accepted.
    pub fn for_each_queued(&self, f: &mut dyn FnMut(&Envelope, &[RcptState])) -> Result<(), StoreError> {
        let places = lock(&self.shared().inner).index.places();
        let mut window = Window::default();
        for group in places.chunks(AT_ONCE) {
            let states: Vec<_> = {
                let inner = lock(&self.shared().inner);
                group
                    .iter()
                    .map(|(id, _)| {
                        // Not what it was when the places were taken: it may have moved or ended since.
                        let place = inner.index.place(*id).filter(|p| *p != Place::WAITING)?;
                        let file = inner.segment(u64::from(place.segment))?.file.clone();
                        Some((*id, place, file, inner.index.states(*id)?.to_vec()))
                    })
                    .collect()
            };
            for (id, place, file, states) in states.into_iter().flatten() {
                let path = segment::path(&self.shared().dir, u64::from(place.segment));
                f(&read_envelope(&*file, &path, id, place, &mut window)?, &states);
            }
        }
        Ok(())
    }
}

fn record<'a>(bytes: &'a [u8], place: Place) -> Result<(Header, Contents<'a>), &'static str> {
    let head = bytes.first_chunk::<HEADER>().ok_or("its record is cut off")?;
    let header = Header::decode(head, u64::from(place.segment)).map_err(|_| "its record's header is not valid")?;
    let payload = HEADER..HEADER + header.payload_len() as usize;
    let payload = bytes.get(payload).ok_or("its record is cut off")?;
    if crc32c::crc32c(payload) != header.payload_crc {
        return Err("its envelope does not match its checksum");
    }
    let contents = Contents::parse(&header, &payload[..header.meta_len as usize]).ok_or("its record can't be read")?;
    Ok((header, contents))
}

fn brought<'a>(contents: &Contents<'a>, id: MessageId, place: Place) -> Result<Brought<'a>, &'static str> {
    contents
        .messages
        .get(usize::from(place.slot))
        .copied()
        .filter(|m| m.block.id == id)
        .ok_or("another message stands in its place")
}

fn read(file: &dyn File, id: MessageId, place: Place) -> Result<Arc<Message>, LoadError> {
    let mut bytes = vec![0; place.len as usize];
    file.read_exact_at(&mut bytes, u64::from(place.at)).map_err(|e| LoadError::Io(id, e.to_string()))?;
    let bytes = Bytes::from(bytes);
    let parsed = || -> Result<Message, &'static str> {
        let (_, contents) = record(&bytes, place)?;
        let m = brought(&contents, id, place)?;
        let from = m.body_at as usize;
        let range = from..from + m.block.body_len as usize;
        let content = bytes.get(range.clone()).ok_or("its content is cut off")?;
        if crc32c::crc32c(content) != m.block.body_crc {
            return Err("its content does not match its checksum");
        }
        let envelope = envelope::decode(id, m.block.body_len, m.envelope).ok_or("its envelope can't be read")?;
        Ok(Message { envelope, body: bytes.slice(range) })
    };
    parsed().map(Arc::new).map_err(|why| LoadError::Damaged(id, why.to_owned()))
}

/// What was read last: records that stand close together are read in one go, those with contents between them singly.
#[derive(Debug, Default)]
struct Window {
    segment: u32,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// At least `need` bytes from where `place` begins, if the file has them.
    fn read(&mut self, file: &dyn File, place: Place, need: usize) -> std::io::Result<&[u8]> {
        /// Holds a usual record's header, envelope and events.
        const USUAL: usize = 1 << 10;
        const DENSE: usize = 128 << 10;
        let at = u64::from(place.at);
        let have = self.at + self.bytes.len() as u64;
        let same = self.segment == place.segment && at >= self.at;
        if !(same && at + need as u64 <= have) {
            let dense = same && at <= have + USUAL as u64;
            let want = need.max(if dense { DENSE } else { USUAL });
            self.bytes.resize(want, 0);
            let mut read = 0;
            while read < want {
                match file.read_at(&mut self.bytes[read..], at + read as u64)? {
                    0 => break,
                    n => read += n,
                }
            }
            self.bytes.truncate(read);
            (self.segment, self.at) = (place.segment, at);
        }
        Ok(&self.bytes[(at - self.at) as usize..])
    }

    fn envelope(
        &mut self,
        file: &dyn File,
        id: MessageId,
        place: Place,
    ) -> std::io::Result<Result<Envelope, &'static str>> {
        let header = self.read(file, place, HEADER)?.first_chunk::<HEADER>();
        let header = header.and_then(|h| Header::decode(h, u64::from(place.segment)).ok());
        let need = header.map_or(HEADER, |h| HEADER + h.payload_len() as usize);
        let bytes = self.read(file, place, need)?;
        Ok(record(bytes, place).and_then(|(_, contents)| {
            let m = brought(&contents, id, place)?;
            envelope::decode(id, m.block.body_len, m.envelope).ok_or("its envelope can't be read")
        }))
    }
}

fn read_envelope(
    file: &dyn File,
    path: &Path,
    id: MessageId,
    place: Place,
    window: &mut Window,
) -> Result<Envelope, StoreError> {
    let io = |e| StoreError::io("read", path, e);
    let mut found = window.envelope(file, id, place).map_err(io)?;
    if found.is_err() {
        // What was read ahead may have been written since.
        *window = Window::default();
        found = window.envelope(file, id, place).map_err(io)?;
    }
    found.map_err(|why| StoreError::Damaged { path: path.to_owned(), offset: place.at.into(), what: why.to_owned() })
}
