//! As an operator I change acct-files on a running server, rotate, break and mend them: records go on where they should,
//! and each output minds its own business. On a real folder, with the real store.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "looks at real files")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carom::accounting::outputs::{Outputs, Settings};
use carom::config::{AcctFile, AcctFormat, FieldChoice};
use carom::disk::RealDisk;
use carom::event::{Event, Events, Kind, Kinds, Time};
use carom::store::{Options, Store};

use crate::outputs::{fill, settings, store, until};

fn acct_file(path: &str) -> AcctFile {
    AcctFile {
        records: Kinds::of(&[Kind::Delivered, Kind::Bounced]),
        delete_after: None,
        strict_columns: true,
        row_group_rows: 1000,
        ..AcctFile::new(
            path.into(),
            match path {
                p if p.starts_with('|') => AcctFormat::Pipe,
                p if p.ends_with(".parquet") => AcctFormat::Parquet,
                _ => AcctFormat::Csv,
            },
        )
    }
}

async fn append(store: &Store, rcpt: &str) {
    let mut events = Events::new();
    events.push(&Event { rcpt, ..Event::new(Kind::Delivered, Time::from_secs(1_770_000_000)) });
    store.append(events).await.unwrap();
    store.flush().await.unwrap();
}

fn start(store: &Store, root: &Path, files: &[AcctFile]) -> Outputs {
    Outputs::start(
        Arc::new(store.clone()),
        files,
        Arc::new(RealDisk),
        Settings { start_at_beginning: false, ..settings(root) },
    )
    .unwrap()
}

/// Names and recipients of the CSV files in a folder.
fn csv_files(dir: &Path) -> Vec<(String, Vec<String>)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "csv"))
        .map(|path| {
            let mut reader = csv::Reader::from_path(&path).unwrap();
            // None while the header is still to be written.
            let rcpt = reader.headers().unwrap().iter().position(|h| h == "rcpt").unwrap_or(usize::MAX);
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

/// A shell script that does this with what it reads.
fn script(root: &Path, name: &str, text: &str) -> String {
    let path = root.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    format!("|/bin/sh {}", path.display())
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn only_rcpt(file: &mut AcctFile) {
    file.record_fields.insert(Kind::Delivered, vec![FieldChoice::Field("rcpt".into())]);
    file.record_fields.insert(Kind::Bounced, vec![FieldChoice::Field("rcpt".into())]);
}

#[tokio::test]
async fn a_pipe_gets_the_header_and_every_record_and_after_its_death_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (store, got) = (store(root), root.join("got"));
    // It takes the header and two records, and dies; the next one does the same.
    let text = format!("for i in 1 2 3; do read -r line || exit; echo \"$line\" >> {}; done; exit 3", got.display());
    let mut pipe = acct_file(&script(root, "reader", &text));
    only_rcpt(&mut pipe);
    pipe.retry_interval = Duration::from_millis(300);
    let outputs = start(&store, root, &[pipe, acct_file("log/a.csv")]);
    outputs.flush().await.unwrap();
    let errors = std::cell::RefCell::new(Vec::new());
    for i in 0..7 {
        append(&store, &format!("u{i}@example.net")).await;
        until("record", || {
            errors.borrow_mut().extend(outputs.status()[0].error.take().map(|(_, e)| e));
            lines(&got).iter().any(|l| l.contains(&format!("u{i}@")))
        })
        .await;
    }
    let all = lines(&got);
    assert_eq!(all[0], "type,rcpt");
    assert!(
        all.iter().filter(|l| l.starts_with("type,")).count() >= 3,
        "the header stands first at each start: {all:?}"
    );
    for i in 0..7 {
        assert!(all.contains(&format!("d,u{i}@example.net")), "{i}: {all:?}");
    }
    let errors = errors.into_inner();
    assert!(
        errors.iter().any(|e| e.starts_with("Error executing \"/bin/sh ") && e.contains("exit status: 3")),
        "{errors:?}"
    );
    assert_eq!(outputs.status()[1].error, None, "the file beside it minds its own business");
    outputs.stop().await.unwrap();
    assert_eq!(csv_files(&root.join("log"))[0].1.len(), 7);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_tried_again_on_reload_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (store, got) = (store(root), root.join("got"));
    let program = root.join("later");
    let mut pipe = acct_file(&format!("|{} -x", program.display()));
    only_rcpt(&mut pipe);
    let files = [pipe];
    let outputs = start(&store, root, &files);
    append(&store, "one@example.net").await;
    until("error", || outputs.status()[0].error.is_some()).await;
    let error = outputs.status()[0].error.clone().unwrap().1;
    assert!(error.starts_with(&format!("Error starting \"{} -x\": ", program.display())), "{error}");
    assert_eq!(outputs.status()[0].lag_events, 1);
    // The interval is five minutes; a reload does not wait for it.
    std::fs::write(&program, format!("#!/bin/sh\nexec cat >> {}\n", got.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    outputs.reload(&files).await.unwrap();
    until("record", || lines(&got) == ["type,rcpt", "d,one@example.net"]).await;
    until("cursor", || outputs.status()[0].cursor == store.ledger().end()).await;
    assert_eq!(outputs.status()[0].error, None);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_given_up_and_holds_back_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (store, marker, got) = (store(root), root.join("second"), root.join("got"));
    // The first one sleeps, the second one reads.
    let text = format!(
        "if [ -e {m} ]; then exec cat >> {g}; fi; : > {m}; exec sleep 60",
        m = marker.display(),
        g = got.display()
    );
    let mut pipe = acct_file(&script(root, "sleeper", &text));
    only_rcpt(&mut pipe);
    pipe.write_timeout = Duration::from_secs(1);
    pipe.retry_interval = Duration::from_secs(1);
    let outputs = start(&store, root, &[pipe, acct_file("log/a.csv")]);
    let mut events = Events::new();
    // More than fits into a pipe.
    for i in 0..8000 {
        let rcpt = format!("u{i}@example.net");
        events.push(&Event { rcpt: &rcpt, ..Event::new(Kind::Delivered, Time::from_secs(1_770_000_000)) });
    }
    store.append(events).await.unwrap();
    store.flush().await.unwrap();
    until("files", || outputs.status()[1].lag_events == 0).await;
    until("error", || outputs.status()[0].error.as_ref().is_some_and(|(_, e)| e.contains("it has read nothing"))).await;
    assert_eq!(outputs.status()[0].cursor, 1, "none of it counts as taken");
    until("everything", || lines(&got).len() == 8001).await;
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_output_that_may_skip_says_what_it_left_out_and_one_that_may_not_stops_intake() {
    for skip in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let options = Options { segment_bytes: 64 << 10, reserve_bytes: 0, held_bytes: 300_000, ..Options::default() };
        let disk = carom::sim::disk::SimDisk::new();
        let store = Store::open(Arc::new(disk.clone()), Path::new("store"), &options).unwrap().store;
        let got = root.join("got");
        let program = root.join("later");
        let mut pipe = acct_file(&format!("|/bin/sh {}", program.display()));
        pipe.strict_columns = false;
        pipe.retry_interval = Duration::from_millis(100);
        pipe.on_lag = if skip { carom::config::OnLag::Skip } else { carom::config::OnLag::StopIntake };
        let mut file = acct_file("log/a.csv");
        // Its folder can't be made.
        std::fs::write(root.join("log"), "").unwrap();
        file.on_lag = pipe.on_lag;
        std::fs::write(&program, "exit 1").unwrap();
        let outputs = start(&store, root, &[pipe, file]);
        fill(&store, &disk, 200_000).await;
        if !skip {
            until("refusal", || store.intake_refused().is_some_and(|why| why.contains("lags behind"))).await;
            assert_eq!(outputs.status()[0].left_out, 0);
            disk.set_limit(u64::MAX);
            store.close().await.unwrap();
            continue;
        }
        until("gap", || outputs.status().iter().all(|s| s.left_out >= 800 && s.lag_events == 0)).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(store.intake_refused(), None);
        disk.set_limit(u64::MAX);
        std::fs::write(&program, format!("exec cat >> {}", got.display())).unwrap();
        std::fs::remove_file(root.join("log")).unwrap();
        append(&store, "after@example.net").await;
        until("record", || lines(&got).iter().any(|l| l.contains("after@example.net"))).await;
        let all = lines(&got);
        let gap = all.iter().find(|l| l.starts_with("gap,")).unwrap_or_else(|| panic!("{all:?}"));
        assert!(gap.contains("events 1 to 800 were left out") && gap.contains("-1..800"), "{gap}");
        assert!(!all.iter().any(|l| l.contains("u0-0@")));
        until("file", || csv_files(&root.join("log")) == [file_of(&["after@example.net"])]).await;
        let told: serde_json::Value = serde_json::from_str(&lines(&root.join("log/a.csv.gaps.jsonl"))[0]).unwrap();
        assert_eq!((&told["gap"]["first"], &told["gap"]["last"]), (&1.into(), &800.into()));
        outputs.stop().await.unwrap();
        store.close().await.unwrap();
    }
}

fn file_of(rcpts: &[&str]) -> (String, Vec<String>) {
    file("0000", rcpts)
}

#[tokio::test]
async fn rotate_keeps_the_newest_files_and_a_new_store_has_no_lag() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    let mut csv = acct_file("log/a.csv");
    csv.rotate = Some(2);
    csv.move_to = Some("done".into());
    csv.count_moved_records = true;
    let outputs = start(&store, root, &[csv]);
    assert_eq!(outputs.status()[0].lag_events, 0, "nothing has happened yet");
    for i in 0..4 {
        append(&store, &format!("u{i}@example.net")).await;
        // By the end of its path.
        outputs.rotate(Some(Path::new("a.csv"))).await.unwrap();
    }
    let kept = [file("0002", &["u2@example.net"]), file("0003", &["u3@example.net"])];
    assert_eq!(csv_files(&root.join("done")), kept);
    outputs.stop().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn queues_are_filtered_and_recipients_hidden_in_csv_and_parquet_alike() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = store(root);
    let files = ["log/a.csv", "data/a.parquet"].map(|path| {
        let mut f = acct_file(path);
        f.records = Kinds::ALL;
        f.privacy_policy = carom::config::Privacy::Redact("X".into());
        let loaded = carom::config::parse_str(
            "c",
            "host-name a.example\nspool s\n<acct-file f.csv>\nqueue-filter !example.org/*,*/*\n</acct-file>\n",
        );
        f.queue_filter = loaded.config.unwrap().acct_files[0].queue_filter.clone();
        f
    });
    let outputs = start(&store, root, &files);
    let mut events = Events::new();
    let of = |kind, rcpt: &'static str, queue: &'static str| Event {
        rcpt,
        queue,
        ..Event::new(kind, Time::from_secs(1_770_000_000))
    };
    events.push(&of(Kind::Delivered, "Ann@example.net", "example.net/v1"));
    events.push(&of(Kind::Delivered, "bob@example.org", "example.org/v1"));
    events.push(&of(Kind::RemoteBounce, "cy@example.org", "example.org/v1"));
    store.append(events).await.unwrap();
    store.flush().await.unwrap();
    outputs.stop().await.unwrap();
    let wanted = vec!["X@example.net".to_owned(), "X@example.org".to_owned()];
    assert_eq!(csv_files(&root.join("log"))[0].1, wanted, "what has no queue is always written");
    assert_eq!(parquet_files(&root.join("data/date=2026-02-02"))[0].1, wanted);
    store.close().await.unwrap();
}
