//! One Parquet file on a [`Disk`](crate::disk::Disk): written, synced, and looked at again.
//!
//! Nothing here decides when a file ends or what it is called; see `parquet_output`. Any error leaves an unfinished
//! file behind, which the output throws away.

use std::io::{self, Read, Write};
use std::sync::Arc;

use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::parquet::{ParquetRows, properties};
use crate::config::Compression;
use crate::disk::File;
use crate::event::Event;
use crate::event::manifest::Manifest;
use crate::event::row_order::{self, RowOrder, Step};

/// Rows collected before they are handed to the Parquet encoder.
const BATCH_ROWS: usize = 8192;
/// Bytes collected before they are handed to the file.
const WRITE_BYTES: usize = 1 << 20;

/// Why a Parquet file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFileError {
    /// From the encoder, or from the disk underneath it.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// A batch that does not fit its schema.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// From the disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file being written.
#[derive(Debug)]
pub struct ParquetFile {
    file: Arc<dyn File>,
    writer: ArrowWriter<Sink>,
    order: RowOrder,
    rows: u64,
}

impl ParquetFile {
    /// Begins `file`, which is empty.
    pub fn begin(
        file: Arc<dyn File>,
        rows: &ParquetRows,
        row_group_rows: u64,
        compression: Compression,
    ) -> Result<ParquetFile, ParquetFileError> {
        let sink = Sink { file: Arc::clone(&file), at: 0, buffer: Vec::with_capacity(WRITE_BYTES) };
        let properties = row_order::declared(properties(&rows.schema(), row_group_rows, compression), &rows.schema());
        let writer = ArrowWriter::try_new(sink, rows.schema(), Some(properties))?;
        Ok(ParquetFile { file, writer, order: RowOrder::default(), rows: 0 })
    }

    /// Appends classified events by way of the builders of `rows`. Into how many calls they are split makes no difference
    /// to the file.
    pub fn push(&mut self, rows: &mut ParquetRows, events: &[Event<'_>]) -> Result<(), ParquetFileError> {
        let mut rest = events;
        while !rest.is_empty() {
            let (these, others) = rest.split_at(rest.len().min(BATCH_ROWS.saturating_sub(rows.len()).max(1)));
            rows.push(these);
            self.rows += these.len() as u64;
            if rows.len() >= BATCH_ROWS {
                let steps = self.order.push(rows.take()?)?;
                self.write(steps)?;
            }
            rest = others;
        }
        Ok(())
    }

    fn write(&mut self, steps: Vec<Step>) -> Result<(), ParquetFileError> {
        for step in steps {
            match step {
                Step::Write(batch) => self.writer.write(&batch)?,
                Step::EndRowGroup => self.writer.flush()?,
            }
        }
        Ok(())
    }

    /// Rows in it so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and the footer, and syncs the file. `rows` in the manifest is filled in here.
    pub fn finish(mut self, rows: &mut ParquetRows, mut manifest: Manifest) -> Result<Manifest, ParquetFileError> {
        let mut steps = if rows.is_empty() { Vec::new() } else { self.order.push(rows.take()?)? };
        steps.extend(self.order.finish());
        self.write(steps)?;
        manifest.rows = self.rows;
        for (key, value) in manifest.key_values() {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.finish()?;
        self.writer.inner_mut().flush()?;
        self.file.sync_data()?;
        Ok(manifest)
    }
}

/// The manifest in the footer of `file`; `None` when the file is not whole or not ours.
pub fn read_manifest(file: &Arc<dyn File>) -> Option<Manifest> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Source(Arc::clone(file))).ok()?;
    let entries = metadata.file_metadata().key_value_metadata()?;
    let manifest = Manifest::read(|key| entries.iter().find(|e| e.key == key)?.value.as_deref())?;
    (u64::try_from(metadata.file_metadata().num_rows()).ok()? == manifest.rows).then_some(manifest)
}

/// Where the encoder writes: at the end of the file, in large pieces.
#[derive(Debug)]
struct Sink {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Where the decoder reads: anywhere in the file.
#[derive(Debug, Clone)]
pub struct Source(pub Arc<dyn File>);

impl Length for Source {
    fn len(&self) -> u64 {
        self.0.len().unwrap_or(0)
    }
}

impl ChunkReader for Source {
    type T = SourceReader;

    fn get_read(&self, start: u64) -> Result<SourceReader, ParquetError> {
        Ok(SourceReader { file: Arc::clone(&self.0), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // A damaged footer may ask for anything; no more is read than there is.
        let there = usize::try_from(Length::len(self).saturating_sub(start)).unwrap_or(usize::MAX);
        if length > there {
            return Err(ParquetError::EOF(format!("{length} bytes wanted at {start}, {there} there")));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads on from a position.
#[derive(Debug)]
pub struct SourceReader {
    file: Arc<dyn File>,
    at: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::Columns;
    use super::super::columns::tests::acct_file;
    use super::*;
    use crate::disk::{Disk, RealDisk};
    use crate::event::manifest::Ranges;
    use crate::event::record::PairsBuf;
    use crate::event::{EnhancedStatus, Kind, Kinds, MessageId, StoreId, Time};
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn manifest(rows: u64) -> Manifest {
        let (store, output) = (StoreId(0xab), "acct.parquet".to_owned());
        Manifest { store, output, records: Kinds::ALL, ranges: Ranges::one(5, 999), rows }
    }

    fn written(events: &[Event<'_>], name: &str) -> (tempfile::TempDir, Arc<dyn File>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let mut rows = ParquetRows::new(Columns::of(&acct_file("a.parquet", Kind::ALL)).unwrap());
        let mut file =
            ParquetFile::begin(RealDisk.create_new(&path).unwrap(), &rows, 100, Compression::Zstd(3)).unwrap();
        for some in events.chunks(7) {
            file.push(&mut rows, some).unwrap();
        }
        file.finish(&mut rows, manifest(0)).unwrap();
        let file = RealDisk.open_read(&path).unwrap();
        (dir, file)
    }

    fn text<'b>(batch: &'b RecordBatch, name: &str, row: usize) -> Option<&'b str> {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>();
        column.is_valid(row).then(|| column.value(row))
    }

    #[test]
    fn what_was_written_reads_back_with_its_types() {
        let mut pairs = PairsBuf::default();
        pairs.push("From", "a@example.com");
        pairs.push("X-Empty", "");
        let b = Event {
            store: StoreId(0xab),
            seq: 77,
            message: MessageId(9),
            rcpt_index: 2,
            attempt: 3,
            in_doubt: true,
            time_queued: Time(1_000_000),
            rcpt: "x@example.net",
            status: EnhancedStatus::new(5, 1, 1),
            diag: "smtp;550 5.1.1 no",
            dlv_esmtp: "PIPELINING,SIZE",
            headers: pairs.as_pairs(),
            category: "bad-mailbox",
            rule: "f:1",
            ..Event::new(Kind::Bounced, Time(3_500_001))
        };
        let f = Event { seq: 78, feedback_type: "abuse", arf: pairs.as_pairs(), ..Event::new(Kind::Feedback, Time(4)) };
        let (_dir, file) = written(&[b, f], "a");
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(Source(file)).unwrap().build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (2, crate::event::fields::FIELDS.len()));
        assert_eq!((text(&batch, "type", 0), text(&batch, "type", 1)), (Some("b"), Some("f")));
        assert_eq!(text(&batch, "eventId", 0), Some("00000000000000ab-77"));
        assert_eq!(text(&batch, "dsnStatus", 0), Some("5.1.1 (bad destination mailbox address)"));
        assert_eq!(text(&batch, "orig", 0), Some(""), "the null sender is known");
        assert_eq!(text(&batch, "orig", 1), None);
        assert_eq!(text(&batch, "bounceCat", 0), Some("bad-mailbox"));
        assert_eq!(text(&batch, "feedbackType", 1), Some("abuse"));
        let times = batch.column_by_name("timeLogged").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!((times.value(0), times.timezone()), (3_500_001, Some("UTC")));
        let int = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int32Type>().clone();
        let long = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        assert_eq!((int("attempt").value(0), int("replyCode").value(0), int("rcptIndex").value(0)), (3, 550, 2));
        assert!(int("attempt").is_null(1));
        assert_eq!((long("messageId").value(0), long("queueMs").value(0)), (9, 2500));
        assert!(batch.column_by_name("inDoubt").unwrap().as_boolean().value(0));
        let words = batch.column_by_name("dlvEsmtpAvailable").unwrap().as_list::<i32>().value(0);
        assert_eq!(words.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["PIPELINING", "SIZE"]);
        let headers = batch.column_by_name("headers").unwrap().as_map();
        assert!(headers.is_null(1));
        let entries = headers.value(0);
        assert_eq!(entries.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["From", "X-Empty"]);
        assert_eq!(entries.column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a@example.com", ""]);
    }

    #[test]
    fn a_file_says_in_its_footer_what_it_holds_and_how_to_find_a_recipient() {
        let names: Vec<String> = (0..250).map(|n| format!("user{n}@example.net")).collect();
        let event = |(n, rcpt): (usize, &'_ String)| (n as u64, rcpt.clone());
        let all: Vec<_> = names.iter().enumerate().map(event).collect();
        let events: Vec<_> =
            all.iter().map(|(seq, rcpt)| Event { seq: *seq, rcpt, ..Event::new(Kind::Delivered, Time(1)) }).collect();
        let (_dir, file) = written(&events, "a");
        let read = read_manifest(&file).unwrap();
        assert_eq!(read, manifest(250));
        let mut metadata =
            ParquetMetaDataReader::new().with_page_index_policy(parquet::file::metadata::PageIndexPolicy::Required);
        metadata.try_parse(&Source(Arc::clone(&file))).unwrap();
        let metadata = metadata.finish().unwrap();
        assert_eq!(metadata.num_row_groups(), 3);
        let column = metadata.row_group(0).columns().iter().find(|c| c.column_path().string() == "rcpt").unwrap();
        assert!(column.bloom_filter_offset().is_some() && column.statistics().is_some());
        assert!(metadata.page_index().is_some() && column.column_index_offset().is_some());
    }

    /// Times and sequence numbers of each row group.
    fn row_groups(file: &Arc<dyn File>) -> Vec<Vec<(i64, String)>> {
        let builder = || ParquetRecordBatchReaderBuilder::try_new(Source(Arc::clone(file))).unwrap();
        let group = |n| {
            let mut rows = Vec::new();
            for batch in builder().with_row_groups(vec![n]).build().unwrap() {
                let batch = batch.unwrap();
                let times = batch.column_by_name("timeLogged").unwrap().as_primitive::<TimestampMicrosecondType>();
                rows.extend(
                    (0..batch.num_rows()).map(|r| (times.value(r), text(&batch, "eventId", r).unwrap().to_owned())),
                );
            }
            rows
        };
        (0..builder().metadata().num_row_groups()).map(group).collect()
    }

    #[test]
    fn rows_stand_by_time_in_each_row_group_and_the_file_says_so() {
        let times = (0..250u64).map(|n| n * 10 - n * 7919 % 60 + if n >= 150 { 0 } else { 5000 });
        let event = |(seq, time)| Event { seq, ..Event::new(Kind::Delivered, Time(time as i64)) };
        let events: Vec<_> = (1u64..).zip(times).map(event).collect();
        let (_dir, file) = written(&events, "a");
        let groups = row_groups(&file);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 250);
        assert!(groups.iter().all(|g| g.is_sorted_by_key(|r| r.0)), "{groups:?}");
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&Source(file)).unwrap();
        for group in metadata.row_groups() {
            let declared = &group.sorting_columns().unwrap()[0];
            let name = group.column(declared.column_idx as usize).column_path().string();
            assert_eq!((name.as_str(), declared.descending), ("timeLogged", false));
        }
    }

    #[test]
    fn a_file_written_again_in_other_pieces_is_the_same_to_the_byte() {
        let rcpts: Vec<String> = (0..20_000u64).map(|n| format!("user{}@example.net", n * 31 % 9973)).collect();
        let write = |pieces: usize, dir: &std::path::Path| {
            let path = dir.join(pieces.to_string());
            let mut rows = ParquetRows::new(Columns::of(&acct_file("a.parquet", Kind::ALL)).unwrap());
            let disk_file = RealDisk.create_new(&path).unwrap();
            let mut file = ParquetFile::begin(disk_file, &rows, 100_000, Compression::Zstd(1)).unwrap();
            let events: Vec<Event<'_>> = (1u64..)
                .zip(&rcpts)
                .map(|(seq, rcpt)| Event {
                    seq,
                    rcpt,
                    ..Event::new(Kind::Delivered, Time((seq * 60 - seq * 7919 % 60) as i64))
                })
                .collect();
            events.chunks(pieces).for_each(|some| file.push(&mut rows, some).unwrap());
            file.finish(&mut rows, manifest(0)).unwrap();
            let file = RealDisk.open_read(&path).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let dir = tempfile::tempdir().unwrap();
        let first = write(1024, dir.path());
        assert!(first == write(7, dir.path()) && first == write(20_000, dir.path()));
    }

    #[test]
    fn a_file_that_was_cut_off_or_damaged_is_not_taken_for_whole() {
        let (dir, file) = written(&[Event::new(Kind::Delivered, Time(1))], "a");
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let damaged = RealDisk.create_new(&dir.path().join("b")).unwrap();
        for n in 0..bytes.len() {
            damaged.set_len(0).unwrap();
            damaged.write_all_at(&bytes[..n], 0).unwrap();
            assert_eq!(read_manifest(&damaged), None, "cut at {n}");
        }
        for n in (0..bytes.len()).rev().take(1500) {
            let mut bad = bytes.clone();
            bad[n] ^= 0x55;
            damaged.write_all_at(&bad, 0).unwrap();
            // It may still be readable; it must not panic or ask for the whole memory.
            let _ = read_manifest(&damaged);
        }
    }
}
