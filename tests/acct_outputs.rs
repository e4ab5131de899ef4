//! As an operator I change acct-files on a running server, rotate, break and mend them: records go on where they should,
//! and each output minds its own business. On a real folder, with the real store.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "looks at real files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carom::accounting::outputs::{Outputs, Settings};
use carom::config::{AcctFile, AcctFormat, Compression, FieldChoice};
use carom::disk::RealDisk;
use carom::event::{Event, Events, Kind, Kinds, Time};
use carom::store::{Options, Store};

fn acct_file(path: &str) -> AcctFile {
    AcctFile {
        path: path.into(),
        format: if path.ends_with(".parquet") { AcctFormat::Parquet } else { AcctFormat::Csv },
        records: Kinds::of(&[Kind::Delivered, Kind::Bounced]),
        record_fields: BTreeMap::new(),
        max_size: 250 << 20,
        move_to: None,
        move_interval: Duration::from_secs(86_400),
        delete_after: None,
        iso_times: true,
        user_string: String::new(),
        world_readable: false,
        strict_columns: true,
        close_rows: 1_000_000,
        close_after: Duration::from_secs(300),
        row_group_rows: 1000,
        compression: Compression::Zstd(3),
    }
}

fn settings(root: &Path) -> Settings {
    Settings {
        root: root.to_owned(),
        zone: jiff::tz::TimeZone::UTC,
        start_at_beginning: false,
        commit_every: Duration::from_millis(20),
        retry_after: Duration::from_millis(20),
    }
}

fn store(root: &Path) -> Store {
    let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
    Store::open(Arc::new(RealDisk), &root.join("store"), &options).unwrap().store
}

async fn append(store: &Store, rcpt: &str) {
    let mut events = Events::new();
    events.push(&Event { rcpt, ..Event::new(Kind::Delivered, Time::from_secs(1_770_000_000)) });
    store.append(events).await.unwrap();
    store.flush().await.unwrap();
}

fn start(store: &Store, root: &Path, files: &[AcctFile]) -> Outputs {
    Outputs::start(Arc::new(store.clone()), files, Arc::new(RealDisk), settings(root)).unwrap()
}

/// Names and recipients of the CSV files in a folder.
fn csv_files(dir: &Path) -> Vec<(String, Vec<String>)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "csv"))
        .map(|path| {
            let mut reader = csv::Reader::from_path(&path).unwrap();
            let rcpt = reader.headers().unwrap().iter().position(|h| h == "rcpt").unwrap();
            let cells = reader.records().map(|r| r.unwrap()[rcpt].to_owned()).collect();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // The date is today's.
            (name[name.len() - 8..].to_owned(), cells)
        })
        .collect();
    files.sort();
    files
}

fn file(number: &str, rcpts: &[&str]) -> (String, Vec<String>) {
    (format!("{number}.csv"), rcpts.iter().map(|r| (*r).to_owned()).collect())
}

#[tokio::test]
async fn outputs_come_and_go_with_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path(), dir.path().join("log"));
    let store = store(root);
    append(&store, "before@example.net").await;
    let outputs = start(&store, root, &[acct_file("log/a.csv")]);
    outputs.flush().await.unwrap();
    assert_eq!(csv_files(&log), [], "a new output starts at the present end");
    append(&store, "one@example.net").await;
    outputs.flush().await.unwrap();
    assert_eq!(csv_files(&log), [file("0000", &["one@example.net"])]);

    // Other columns need another file; a start goes on in the one there is.
    let mut changed = acct_file("log/a.csv");
    changed.record_fields.insert(Kind::Delivered, vec![FieldChoice::Field("rcpt".into())]);
    outputs.reload(&[changed.clone()]).await.unwrap();
    append(&store, "two@example.net").await;
    outputs.stop().await.unwrap();
    let outputs = start(&store, root, &[changed.clone()]);
    append(&store, "three@example.net").await;
    outputs.flush().await.unwrap();
    let second = file("0001", &["two@example.net", "three@example.net"]);
    assert_eq!(csv_files(&log), [file("0000", &["one@example.net"]), second]);

    // A misspelt field changes nothing.
    let mut wrong = acct_file("log/a.csv");
    wrong.record_fields.insert(Kind::Delivered, vec![FieldChoice::Field("rcptt".into())]);
    assert!(outputs.reload(&[wrong]).await.unwrap_err().to_string().contains("did you mean rcpt?"));
    append(&store, "four@example.net").await;
    outputs.rotate(None).await.unwrap();
    append(&store, "five@example.net").await;
    outputs.flush().await.unwrap();
    assert_eq!(csv_files(&log)[1].1.len(), 3);
    assert_eq!(csv_files(&log)[2], file("0002", &["five@example.net"]));

    // Removed, it is forgotten: back again, it is new.
    outputs.reload(&[]).await.unwrap();
    assert!(store.tables().consumers().unwrap().is_empty());
    append(&store, "nobody@example.net").await;
    outputs.reload(&[changed]).await.unwrap();
    append(&store, "six@example.net").await;
    outputs.stop().await.unwrap();
    assert_eq!(csv_files(&log)[3], file("0003", &["six@example.net"]));
    assert_eq!(csv_files(&log).len(), 4);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_broken_output_holds_back_only_itself_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    // A file where the second output's folder should be.
    std::fs::write(root.join("broken"), "").unwrap();
    let files = [acct_file("good/a.csv"), acct_file("broken/b.csv")];
    let outputs = start(&store, root, &files);
    outputs.flush().await.unwrap();
    append(&store, "one@example.net").await;
    let error = outputs.flush().await.unwrap_err();
    assert!(error.contains("broken"), "{error}");
    assert_eq!(csv_files(&root.join("good")), [file("0000", &["one@example.net"])]);
    let status = outputs.status();
    assert_eq!((status[0].lag_events, &status[0].error), (0, &None));
    assert!(status[1].error.is_some());

    std::fs::remove_file(root.join("broken")).unwrap();
    outputs.flush().await.unwrap();
    assert_eq!(csv_files(&root.join("broken")), [file("0000", &["one@example.net"])]);
    assert_eq!(outputs.status()[1].error, None);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_stop_leaves_whole_parquet_files_and_moved_csv_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    let mut csv = acct_file("log/a.csv");
    csv.move_to = Some("done".into());
    csv.world_readable = true;
    let outputs = start(&store, root, &[csv, acct_file("data/a.parquet")]);
    append(&store, "one@example.net").await;
    outputs.rotate(Some(Path::new("log/a.csv"))).await.unwrap();
    assert!(outputs.rotate(Some(Path::new("none.csv"))).await.is_err());
    outputs.stop().await.unwrap();
    assert!(csv_files(&root.join("log")).is_empty());
    assert_eq!(csv_files(&root.join("done")), [file("0000", &["one@example.net"])]);
    let moved = std::fs::read_dir(root.join("done")).unwrap().next().unwrap().unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&moved.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o644);
    let day: Vec<_> =
        std::fs::read_dir(root.join("data/date=2026-02-02")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(day, ["a-0000000000000001.parquet"]);
    store.close().await.unwrap();
}

fn parquet_files(dir: &Path) -> Vec<(String, Vec<String>)> {
    use arrow::array::AsArray;
    let mut files = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let file = std::fs::File::open(&path).unwrap();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
            let mut rcpts = Vec::new();
            for batch in reader.unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let column = batch.column_by_name("rcpt").unwrap().as_string::<i32>();
                rcpts.extend(column.iter().flatten().map(str::to_owned));
            }
            files.push((name, rcpts));
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_spool_that_was_made_anew_does_not_write_over_the_files_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let day = root.join("data/date=2026-02-02");
    let files = [acct_file("data/a.parquet")];
    for rcpt in ["old@example.net", "new@example.net"] {
        let store = store(root);
        let outputs = start(&store, root, &files);
        append(&store, rcpt).await;
        outputs.stop().await.unwrap();
        store.close().await.unwrap();
        drop((outputs, store));
        std::fs::remove_dir_all(root.join("store")).unwrap();
        // As a server that was killed, or still runs, would leave it.
        std::fs::write(day.join(".a-0000000000000001.parquet.inprogress"), "another's").unwrap();
    }
    let found = parquet_files(&day);
    // The later one has the store's id behind the number.
    assert_eq!(found[1], ("a-0000000000000001.parquet".to_owned(), vec!["old@example.net".to_owned()]));
    assert_eq!((found.len(), &found[0].1), (2, &vec!["new@example.net".to_owned()]));
    let unfinished = std::fs::read(day.join(".a-0000000000000001.parquet.inprogress")).unwrap();
    assert_eq!(unfinished, b"another's");
}

/// The only CSV file in a folder.
fn only_file(dir: &Path) -> std::path::PathBuf {
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// Until the output has met the file that is not as it left it, said so, and gone on.
async fn flush_twice(outputs: &Outputs) {
    let _ = outputs.flush().await;
    outputs.flush().await.unwrap();
}

#[tokio::test]
async fn a_csv_file_that_is_moved_away_while_it_grows_keeps_its_records_and_the_next_go_to_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path(), dir.path().join("log"));
    let store = store(root);
    let outputs = start(&store, root, &[acct_file("log/a.csv")]);
    append(&store, "one@example.net").await;
    outputs.flush().await.unwrap();
    std::fs::create_dir(root.join("kept")).unwrap();
    std::fs::rename(only_file(&log), root.join("kept/a-2026-02-02-0000.csv")).unwrap();
    for rcpt in ["two@example.net", "three@example.net", "four@example.net"] {
        append(&store, rcpt).await;
        flush_twice(&outputs).await;
    }
    outputs.stop().await.unwrap();
    let moved = csv_files(&root.join("kept"))[0].1.clone();
    let all: Vec<String> = moved.into_iter().chain(csv_files(&log).into_iter().flat_map(|f| f.1)).collect();
    assert_eq!(all, ["one@example.net", "two@example.net", "three@example.net", "four@example.net"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn records_after_the_removal_or_cutting_of_the_csv_file_go_to_a_new_one() {
    for cut in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (root, log) = (dir.path(), dir.path().join("log"));
        let store = store(root);
        let outputs = start(&store, root, &[acct_file("log/a.csv")]);
        append(&store, "one@example.net").await;
        outputs.flush().await.unwrap();
        let file = only_file(&log);
        if cut {
            std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
        } else {
            std::fs::remove_dir_all(&log).unwrap();
        }
        append(&store, "two@example.net").await;
        flush_twice(&outputs).await;
        append(&store, "three@example.net").await;
        outputs.stop().await.unwrap();
        if cut {
            assert_eq!(std::fs::read(&file).unwrap(), b"", "it is not written to");
            std::fs::remove_file(&file).unwrap();
        }
        let all: Vec<String> = csv_files(&log).into_iter().flat_map(|f| f.1).collect();
        assert_eq!(all, ["two@example.net", "three@example.net"], "cut: {cut}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_moved_does_not_take_the_place_of_another_servers() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    let mut csv = acct_file("log/a.csv");
    csv.move_to = Some("done".into());
    let outputs = start(&store, root, &[csv]);
    append(&store, "ours@example.net").await;
    outputs.flush().await.unwrap();
    let name = only_file(&root.join("log")).file_name().unwrap().to_owned();
    std::fs::create_dir(root.join("done")).unwrap();
    std::fs::write(root.join("done").join(name), "rcpt\ntheirs@example.net\n").unwrap();
    outputs.rotate(None).await.unwrap();
    outputs.stop().await.unwrap();
    let theirs = file("0000", &["theirs@example.net"]);
    assert_eq!(csv_files(&root.join("done")), [theirs, file("0001", &["ours@example.net"])]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn two_outputs_on_the_same_files_are_refused_however_they_are_spelled() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let files = [acct_file("log/a.csv"), acct_file("./log/./a.csv")];
    let refused = Outputs::start(Arc::new(store.clone()), &files, Arc::new(RealDisk), settings(dir.path()));
    assert!(refused.unwrap_err().to_string().contains("writes the same files"));
    store.close().await.unwrap();
}
