#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: reads and writes files")]
//! From an address file to its [`Index`], in memory that does not grow with the file.
//!
//! The keys are dealt out by their first byte to 256 heaps, each with a small buffer in memory and the rest in one scratch
//! file; then one heap after the other is sorted, rid of what stands there twice and written behind the one before, with a
//! filter over it. So nothing is ever merged, and what is in memory are the buffers (16 MiB), one heap, and the filters.
//! Hashes are even: a heap has a 256th of the keys. A file that changes while it is read gives no index at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xorf::BinaryFuse8;

use super::index::{self, BAD_LINES, Facts, Index, IndexError, Key, PAGE, SHARDS, Shard, Tail};
use super::line::{self, BadLine};
use super::source::Identity;
use crate::suppress::key::Hasher;

/// Files up to this size are kept in memory.
pub const SMALL: u64 = 8 << 20;
/// Keys in a heap's buffer.
const BUFFER: usize = 4096;
/// Bytes left on the disk beside what the index needs.
const SPARE_ROOM: u64 = 256 << 20;

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address file.
    #[error("it can't be read: {0}")]
    Source(io::Error),
    /// It was written to or replaced meanwhile: it is read again when it stays as it is.
    #[error("it changed while it was read")]
    Changed,
    /// Lines, and no address among them.
    #[error("no line of it is an address (line {0}: {1})")]
    NothingGood(u64, String),
    /// More than can be counted.
    #[error("it has more than {} entries", u32::MAX)]
    TooMany,
    /// The index file.
    #[error("its index can't be written: {0}")]
    Index(io::Error),
    /// What was written can't be read back.
    #[error("its index can't be used: {0}")]
    Unusable(#[from] IndexError),
    /// Somebody stopped it.
    #[error("reading it was stopped")]
    Stopped,
}

/// Reads the address file at `path`. One above `small` bytes gets an index file at `target`, which replaces what stands
/// there when it is whole. `progress` hears how many bytes of how many were read, and stops it with `false`.
pub fn build(
    path: &Path,
    target: &Path,
    small: u64,
    hasher: &Hasher,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(Index, Identity), BuildError> {
    let mut file = File::open(path).map_err(BuildError::Source)?;
    let metadata = file.metadata().map_err(BuildError::Source)?;
    if !metadata.is_file() {
        return Err(BuildError::Source(io::Error::other("it is no file")));
    }
    let identity = Identity::of(&metadata);
    let mut heaps = if identity.size <= small { None } else { Some(Heaps::new(target, identity.size)?) };
    let mut memory = Vec::new();
    let mut facts = Facts::default();
    let mut folded = String::new();
    let mut failed = None;
    let mut take = |number: u64, text: Option<&[u8]>| {
        match text.map_or(Err(BadLine::TooLong), |text| line::read(text, &mut folded)) {
            Ok(None) => {}
            Ok(Some(subject)) => {
                facts.subjects |= subject.bit();
                let key = hasher.subject(&folded).0;
                match &mut heaps {
                    None => memory.push(key),
                    Some(heaps) => heaps.push(key).inspect_err(|_| failed = Some(()))?,
                }
            }
            Err(why) => {
                facts.bad += 1;
                if facts.first_bad.len() < BAD_LINES {
                    facts.first_bad.push((number, why.to_string()));
                }
            }
        }
        Ok(())
    };
    let whole = line::for_each(&mut file, &mut take, &mut |read| progress(read, identity.size));
    let whole = whole.map_err(|e| if failed.is_some() { BuildError::Index(e) } else { BuildError::Source(e) })?;
    if !whole {
        return Err(BuildError::Stopped);
    }
    // The file that was read, and the one that stands there now.
    let after = file.metadata().map(|m| Identity::of(&m)).map_err(BuildError::Source)?;
    if after != identity || super::identity(path).ok() != Some(identity) {
        return Err(BuildError::Changed);
    }
    if facts.subjects == 0
        && let Some((number, why)) = facts.first_bad.first()
    {
        return Err(BuildError::NothingGood(*number, why.clone()));
    }
    match heaps {
        None => Ok((Index::in_memory(memory, facts), identity)),
        Some(heaps) => {
            heaps.write(target, &identity, hasher, facts, &mut || progress(identity.size, identity.size))?;
            Ok((Index::open(target, Some(&identity), hasher)?, identity))
        }
    }
}

/// Keys, dealt out by their first byte.
struct Heaps {
    buffers: Vec<Vec<Key>>,
    /// Where the parts of each heap stand in the scratch file, and how many keys each has.
    parts: Vec<Vec<(u64, u32)>>,
    scratch: File,
    end: u64,
    keys: u64,
}

impl Heaps {
    fn new(target: &Path, size: u64) -> Result<Heaps, BuildError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        // A line has 20 bytes or more as a rule: the scratch file and the index take 16 each. What does not fit is found
        // when it is written; this only keeps the disk from being filled for nothing.
        let room = rustix::fs::statvfs(folder).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
        let room = room.map_err(|e| BuildError::Index(e.into()))?;
        if room < size.saturating_mul(3) / 2 + SPARE_ROOM {
            let why = format!("{} MiB free are too few in {}", room >> 20, folder.display());
            return Err(BuildError::Index(io::Error::new(io::ErrorKind::StorageFull, why)));
        }
        let path = target.with_extension("scratch");
        let open = || {
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
            // Without a name it goes with us, however we end.
            fs::remove_file(&path)?;
            Ok(file)
        };
        let scratch = open().map_err(BuildError::Index)?;
        let buffers = (0..SHARDS).map(|_| Vec::with_capacity(BUFFER)).collect();
        Ok(Heaps { buffers, parts: vec![Vec::new(); SHARDS], scratch, end: 0, keys: 0 })
    }

    fn push(&mut self, key: Key) -> io::Result<()> {
        let heap = usize::from(key[0]);
        let buffer = &mut self.buffers[heap];
        buffer.push(key);
        if buffer.len() < BUFFER {
            return Ok(());
        }
        // A file that says the same again and again does not grow the heap.
        buffer.sort_unstable();
        buffer.dedup();
        if buffer.len() > BUFFER / 2 {
            self.scratch.write_all_at(buffer.as_flattened(), self.end)?;
            self.parts[heap].push((self.end, buffer.len() as u32));
            self.end += buffer.len() as u64 * 16;
            self.keys += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    }

    /// A heap, in order, nothing twice.
    fn take(&mut self, heap: usize) -> io::Result<Vec<Key>> {
        let mut keys = std::mem::take(&mut self.buffers[heap]);
        let all = self.parts[heap].iter().map(|(_, n)| *n as usize).sum::<usize>() + keys.len();
        // About a 256th of what there is; more can only be the same again.
        let usual = 4 * BUFFER + usize::try_from(self.keys / 64).unwrap_or(usize::MAX);
        keys.reserve(all.min(usual));
        for (at, count) in std::mem::take(&mut self.parts[heap]) {
            if keys.len() > usual {
                keys.sort_unstable();
                keys.dedup();
            }
            let from = keys.len();
            keys.resize(from + count as usize, [0; 16]);
            self.scratch.read_exact_at(keys[from..].as_flattened_mut(), at)?;
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    fn write(
        mut self,
        target: &Path,
        identity: &Identity,
        hasher: &Hasher,
        mut facts: Facts,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), BuildError> {
        let buffered: usize = self.buffers.iter().map(Vec::len).sum();
        let mut tail = Tail::for_keys(self.keys + buffered as u64);
        let part = target.with_extension("part");
        let mut file = File::create(&part).map_err(BuildError::Index)?;
        let mut written = || -> Result<(), BuildError> {
            file.write_all(&[0; PAGE]).map_err(BuildError::Index)?;
            for heap in 0..SHARDS {
                if !goes_on() {
                    return Err(BuildError::Stopped);
                }
                let keys = self.take(heap).map_err(BuildError::Index)?;
                file.write_all(keys.as_flattened()).map_err(BuildError::Index)?;
                facts.entries += keys.len() as u64;
                if facts.entries > u64::from(u32::MAX) {
                    return Err(BuildError::TooMany);
                }
                tail.count(&keys);
                tail.filters.push(shard(&keys));
            }
            tail.sum_up();
            let tail = tail.encode();
            file.write_all(&tail).map_err(BuildError::Index)?;
            file.write_all_at(&index::page(identity, hasher, &facts, &tail), 0).map_err(BuildError::Index)?;
            file.sync_all().map_err(BuildError::Index)?;
            fs::rename(&part, target).map_err(BuildError::Index)?;
            // The folder too, so that the name survives with the content; else it is made again at the next start.
            let folder = target.parent().unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(BuildError::Index)
        };
        written().inspect_err(|_| drop(fs::remove_file(&part))) // the error that counts is the first
    }
}

fn shard(keys: &[Key]) -> Shard {
    if keys.is_empty() {
        return Shard::Empty;
    }
    let prints: Vec<u64> = keys.iter().map(index::fingerprint).collect();
    BinaryFuse8::try_from(&prints).map_or(Shard::Unknown, Shard::Filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::AddressKey;
    use std::path::PathBuf;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new(text: &[u8]) -> Place {
            let place = Place { dir: tempfile::tempdir().unwrap() };
            fs::write(place.file(), text).unwrap();
            place
        }
        fn file(&self) -> PathBuf {
            self.dir.path().join("list.txt")
        }
        fn target(&self) -> PathBuf {
            self.dir.path().join("list.idx")
        }
        fn build(&self, small: u64) -> Result<Index, BuildError> {
            build(&self.file(), &self.target(), small, &Hasher::default(), &mut |_, _| true).map(|(index, _)| index)
        }
    }

    fn has(index: &Index, address: &str) -> bool {
        index.has(&AddressKey::of(address), &Hasher::default()).unwrap()
    }

    fn many(n: u32) -> String {
        (0..n).map(|n| format!("User{n}@list{}.example\r\n", n % 97)).collect()
    }

    #[test]
    fn what_is_in_the_file_is_found_and_nothing_else_in_memory_as_on_disk() {
        let text = many(20_000) + "abuse\n@gone.example\n# not@there.example\n\nbad line@x\nUSER7@list7.example\n";
        for small in [0, SMALL] {
            let place = Place::new(text.as_bytes());
            let index = place.build(small).unwrap();
            assert_eq!((index.is_on_disk(), index.facts.entries, index.facts.bad), (small == 0, 20_002, 1));
            assert_eq!(index.facts.first_bad[0].0, 20_005);
            for n in 0..20_000 {
                assert!(has(&index, &format!("user{n}@LIST{}.example", n % 97)), "{n}");
                assert!(!has(&index, &format!("other{n}@list{}.example", n % 97)), "{n}");
            }
            for (address, there) in [
                ("Abuse@anywhere.example", true),
                ("abuses@anywhere.example", false),
                ("x@Gone.example", true),
                ("x@sub.gone.example", false),
                ("not@there.example", false),
            ] {
                assert_eq!(has(&index, address), there, "{address}");
            }
        }
    }

    #[test]
    fn an_index_is_used_again_for_the_same_state_of_the_same_file_only() {
        let place = Place::new(many(5000).as_bytes());
        let (_, identity) = build(&place.file(), &place.target(), 0, &Hasher::default(), &mut |_, _| true).unwrap();
        let again = Index::open(&place.target(), Some(&identity), &Hasher::default()).unwrap();
        assert!(has(&again, "user4999@list52.example") && again.facts.entries == 5000);
        let other = Identity { size: 1, ..identity };
        let open = |of, hasher: &Hasher| Index::open(&place.target(), of, hasher);
        assert!(matches!(open(Some(&other), &Hasher::default()), Err(IndexError::Other)));
        assert!(matches!(open(Some(&identity), &Hasher::keyed(b"k")), Err(IndexError::Other)));
        assert!(open(None, &Hasher::default()).is_ok(), "the address file may be gone");
        // Damage in what is kept in memory is seen, whatever byte it is in.
        let whole = fs::read(place.target()).unwrap();
        for at in [9, PAGE - 1, PAGE + 5000 * 16 + 3, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(place.target(), &bytes).unwrap();
            assert!(open(None, &Hasher::default()).is_err(), "byte {at}");
        }
        fs::write(place.target(), &whole[..whole.len() - 1]).unwrap();
        assert!(open(None, &Hasher::default()).is_err());
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_gives_nothing() {
        let place = Place::new(many(50_000).as_bytes());
        for small in [0, SMALL] {
            fs::write(place.file(), many(50_000)).unwrap();
            let mut grown = false;
            let mut grow = |_, _| {
                if !std::mem::replace(&mut grown, true) {
                    fs::write(place.file(), many(60_000)).unwrap();
                }
                true
            };
            let built = build(&place.file(), &place.target(), small, &Hasher::default(), &mut grow);
            assert!(matches!(built, Err(BuildError::Changed)), "{built:?}");
            assert!(!place.target().exists());
        }
        let mut replace = |_, _| {
            fs::write(place.dir.path().join("new"), "x@y.example\n").unwrap();
            fs::rename(place.dir.path().join("new"), place.file()).unwrap();
            true
        };
        let built = build(&place.file(), &place.target(), SMALL, &Hasher::default(), &mut replace);
        assert!(matches!(built, Err(BuildError::Changed)), "{built:?}");
    }

    #[test]
    fn a_file_without_any_address_is_refused_an_empty_one_is_a_list_of_nobody() {
        let error = Place::new(b"# list\n<html>\n<body>\n").build(SMALL).unwrap_err();
        assert!(error.to_string().contains("(line 2: "), "{error}");
        assert_eq!(Place::new(b"# nobody\n").build(SMALL).unwrap().facts.entries, 0);
        let error = Place { dir: tempfile::tempdir().unwrap() }.build(SMALL).unwrap_err();
        assert!(matches!(error, BuildError::Source(_)), "{error}");
    }

    #[test]
    fn the_same_line_a_million_times_takes_no_room_and_stopping_leaves_nothing_behind() {
        let place = Place::new("ann@example.net\n".repeat(1_000_000).as_bytes());
        assert_eq!(place.build(0).unwrap().facts.entries, 1);
        fs::remove_file(place.target()).unwrap();
        let built = build(&place.file(), &place.target(), 0, &Hasher::default(), &mut |read, _| read < 9 << 20);
        assert!(matches!(built, Err(BuildError::Stopped)));
        assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "only the list itself");
    }
}
