#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: sorts through temporary files")]
//! `--sortBy` in bounded memory: what does not fit is written to temporary files in order, which are merged in the end.
//!
//! The files have no name (each is removed as soon as it is open), so nothing stays behind whatever ends the command; they
//! lie in `$TMPDIR`. With a limit, only so many are ever held.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::sync::atomic::{AtomicU32, Ordering as Atomic};

/// What records are ordered by: numbers and times by value, before texts, whatever their case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey {
    Number(i64),
    Text(String),
}

/// Bytes held in memory.
const MEMORY: usize = 64 << 20;
/// Files that are merged at once.
const AT_ONCE: usize = 64;
/// Bytes a record takes besides its own.
const OVERHEAD: usize = 80;

/// One record: its key, how many came before it, and as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    key: SortKey,
    place: u64,
    text: Vec<u8>,
}

/// Records being brought into order.
#[derive(Debug)]
pub(super) struct Sorted {
    backwards: bool,
    limit: Option<usize>,
    memory: usize,
    held: Vec<Record>,
    bytes: usize,
    came: u64,
    runs: Vec<File>,
}

impl Sorted {
    pub(super) fn new(backwards: bool, limit: Option<u64>) -> Sorted {
        let limit = limit.map(|l| usize::try_from(l).unwrap_or(usize::MAX));
        Sorted { backwards, limit, memory: MEMORY, held: Vec::new(), bytes: 0, came: 0, runs: Vec::new() }
    }

    /// Takes a record as it is shown.
    pub(super) fn push(&mut self, key: SortKey, text: Vec<u8>) -> io::Result<()> {
        self.bytes += text.len() + OVERHEAD;
        self.held.push(Record { key, place: self.came, text });
        self.came += 1;
        if let Some(limit) = self.limit
            && self.held.len() >= limit.saturating_mul(2).max(1024)
        {
            self.sort();
            self.held.truncate(limit);
            self.bytes = self.held.iter().map(|r| r.text.len() + OVERHEAD).sum();
        }
        if self.bytes >= self.memory { self.spill() } else { Ok(()) }
    }

    /// Gives all records in order to `each`; stable: what is equal stays in the order in which it came.
    pub(super) fn finish(mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.runs.is_empty() {
            self.sort();
            return self.held.iter().take(limit).try_for_each(|r| each(&r.text));
        }
        self.spill()?;
        while self.runs.len() > AT_ONCE {
            let some = self.runs.drain(..AT_ONCE).collect();
            let mut merged = Run::create()?;
            merge(some, self.backwards, usize::MAX, &mut |r| merged.write(r))?;
            self.runs.push(merged.finish()?);
        }
        merge(self.runs, self.backwards, limit, &mut |r| each(&r.text))
    }

    fn sort(&mut self) {
        let backwards = self.backwards;
        self.held.sort_by(|a, b| order(a, b, backwards));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut run = Run::create()?;
        self.held.drain(..).try_for_each(|r| run.write(&r))?;
        self.bytes = 0;
        self.runs.push(run.finish()?);
        Ok(())
    }
}

fn order(a: &Record, b: &Record, backwards: bool) -> Ordering {
    let order = a.key.cmp(&b.key);
    if backwards { order.reverse() } else { order }.then(a.place.cmp(&b.place))
}

/// A temporary file being written.
struct Run(BufWriter<File>);

impl Run {
    fn create() -> io::Result<Run> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("carom-find-{}-{}", std::process::id(), MADE.fetch_add(1, Atomic::Relaxed));
        let path = std::env::temp_dir().join(name);
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("sorting in {}: {e}", path.display()));
        use std::os::unix::fs::OpenOptionsExt;
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        std::fs::remove_file(&path).map_err(failed)?;
        Ok(Run(BufWriter::with_capacity(1 << 18, file)))
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let (number, text): (i64, &[u8]) = match &record.key {
            SortKey::Number(n) => (*n, &[]),
            SortKey::Text(text) => (0, text.as_bytes()),
        };
        let is_text = u8::from(matches!(record.key, SortKey::Text(_)));
        self.0.write_all(&[is_text])?;
        for n in [number as u64, record.place, text.len() as u64, record.text.len() as u64] {
            self.0.write_all(&n.to_le_bytes())?;
        }
        self.0.write_all(text)?;
        self.0.write_all(&record.text)
    }

    fn finish(self) -> io::Result<File> {
        let mut file = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// The next record of a run; `None` at its end.
fn next(run: &mut BufReader<File>) -> io::Result<Option<Record>> {
    let mut is_text = [0];
    if run.read(&mut is_text)? == 0 {
        return Ok(None);
    }
    let mut number = || -> io::Result<u64> {
        let mut bytes = [0; 8];
        run.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let (value, place, key_len, len) = (number()?, number()?, number()?, number()?);
    let mut bytes = |len: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        run.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (key, text) = (bytes(key_len)?, bytes(len)?);
    let key = match is_text {
        [0] => SortKey::Number(value as i64),
        // As it was written.
        _ => SortKey::Text(String::from_utf8_lossy(&key).into_owned()),
    };
    Ok(Some(Record { key, place, text }))
}

/// The first record of a run, smallest first in a heap.
struct Head {
    record: Record,
    run: usize,
    backwards: bool,
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        order(&other.record, &self.record, self.backwards)
    }
}

fn merge(
    runs: Vec<File>,
    backwards: bool,
    limit: usize,
    each: &mut dyn FnMut(&Record) -> io::Result<()>,
) -> io::Result<()> {
    let mut runs: Vec<_> = runs.into_iter().map(|run| BufReader::with_capacity(1 << 16, run)).collect();
    let mut heads = BinaryHeap::new();
    for (n, run) in runs.iter_mut().enumerate() {
        heads.extend(next(run)?.map(|record| Head { record, run: n, backwards }));
    }
    let mut given = 0;
    while given < limit
        && let Some(Head { record, run, .. }) = heads.pop()
    {
        each(&record)?;
        given += 1;
        heads.extend(next(&mut runs[run])?.map(|record| Head { record, run, backwards }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(keys: &[SortKey], backwards: bool, limit: Option<u64>, memory: usize) -> Vec<String> {
        let mut sorted = Sorted { memory, ..Sorted::new(backwards, limit) };
        for (n, key) in keys.iter().enumerate() {
            sorted.push(key.clone(), format!("{n}").into_bytes()).unwrap();
        }
        let mut out = Vec::new();
        sorted
            .finish(&mut |text| {
                out.push(String::from_utf8(text.to_vec()).unwrap());
                Ok(())
            })
            .unwrap();
        out
    }

    fn key() -> impl Strategy<Value = SortKey> {
        prop_oneof![(-3i64..30).prop_map(SortKey::Number), "[a-c]{0,2}".prop_map(SortKey::Text)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn through_files_the_order_is_the_same_as_in_memory(
            keys in prop::collection::vec(key(), 0..300), backwards: bool, limit in prop::option::of(0u64..50)
        ) {
            // A record a file, a few a file, all in memory: more than are merged at once, too.
            let whole = run(&keys, backwards, limit, usize::MAX);
            prop_assert_eq!(&run(&keys, backwards, limit, 1), &whole);
            prop_assert_eq!(&run(&keys, backwards, limit, 700), &whole);
            let mut want: Vec<usize> = (0..keys.len()).collect();
            want.sort_by(|a, b| if backwards { keys[*b].cmp(&keys[*a]) } else { keys[*a].cmp(&keys[*b]) });
            want.truncate(limit.map_or(usize::MAX, |l| l as usize));
            prop_assert_eq!(whole, want.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
}
