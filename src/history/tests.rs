//! Files of both formats, read as analysts' code would.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;

use super::*;
use crate::event::Time;

const COLUMNS: [&str; 5] = ["eventid", "type", "attempt", "dsnStatus", "bounceCat"];

fn all(path: &Path) -> Result<Vec<Vec<String>>, HistoryError> {
    let mut rows = Vec::new();
    let count =
        read(path, &COLUMNS, &["eventId"], &mut |row| rows.push(row.iter().map(|s| (*s).to_owned()).collect()))?;
    assert_eq!(count as usize, rows.len());
    Ok(rows)
}

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn write_parquet(path: &Path) {
    let kind: DictionaryArray<Int32Type> = vec!["b", "d"].into_iter().collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("eventId", text(&[Some("00aa-1"), Some("00aa-2")]), false),
        ("attempt", Arc::new(Int32Array::from(vec![2, 1])) as ArrayRef, true),
        ("type", Arc::new(kind) as ArrayRef, false),
        ("rcpt", text(&[Some("a@b.example"), None]), true),
        ("dsnStatus", text(&[Some("5.1.1 (bad, really)"), None]), true),
    ])
    .unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn csv_and_parquet_give_the_same_rows_whatever_the_order_case_and_type_of_their_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, parquet) = (dir.path().join("acct.csv"), dir.path().join("acct.parquet"));
    std::fs::write(
        &csv,
        "type,rcpt,eventId,attempt,dsnStatus\r\nb,a@b.example,00aa-1,2,\"5.1.1 (bad, really)\"\r\nd,,00aa-2,1,\r\n",
    )
    .unwrap();
    write_parquet(&parquet);
    let rows = all(&csv).unwrap();
    assert_eq!(rows[0], ["00aa-1", "b", "2", "5.1.1 (bad, really)", ""]);
    assert_eq!(rows, all(&parquet).unwrap());
}

#[test]
fn a_file_that_lacks_a_required_column_or_is_cut_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, parquet) = (dir.path().join("other.csv"), dir.path().join("cut.parquet"));
    std::fs::write(&csv, "a,b\n1,2\n").unwrap();
    assert_eq!(all(&csv).unwrap_err().to_string(), format!("can't read {}: it has no column eventId", csv.display()));
    std::fs::write(&csv, "eventId,type\n00aa-1\n").unwrap();
    assert!(all(&csv).unwrap_err().to_string().contains("other.csv"));
    write_parquet(&parquet);
    let whole = std::fs::read(&parquet).unwrap();
    std::fs::write(&parquet, &whole[..whole.len() - 10]).unwrap();
    assert!(all(&parquet).unwrap_err().to_string().contains("cut.parquet"));
}

#[test]
fn unfinished_files_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("date=2026-01-31");
    std::fs::create_dir(&day).unwrap();
    for name in ["acct-1.parquet", ".acct-2.parquet.inprogress", ".acct-3.parquet", "acct.csv", "notes.txt"] {
        std::fs::write(day.join(name), "").unwrap();
    }
    let found = find(dir.path()).unwrap();
    assert_eq!(found, Found { csv: vec![day.join("acct.csv")], parquet: vec![day.join("acct-1.parquet")] });
}

fn texts(scan: &Scan, inputs: &[Input], width: usize) -> (Vec<Vec<String>>, Report) {
    let mut rows = Vec::new();
    let report = scan.run(inputs, &mut |_| {}, &mut |row| {
        let mut texts = vec![String::new(); width];
        texts.iter_mut().enumerate().for_each(|(i, t)| row.push_text(i, t));
        rows.push(texts);
        ControlFlow::Continue(())
    });
    (rows, report)
}

#[test]
fn a_bad_row_is_counted_and_named_and_its_neighbours_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acct.csv");
    let rows = "type,rcpt,dsnDiag\r\nb,a@b.example,\"smtp;550 no\r\nuser\"\r\nb,half\r\nd,c@d.example,\r\nd,cut@d";
    std::fs::write(&path, rows).unwrap();
    let scan = Scan::new(&["to", "dsnDiag"]);
    let (rows, report) = texts(&scan, &[Input::File(path.clone())], 2);
    assert_eq!(rows, [["a@b.example", "smtp;550 no\r\nuser"], ["c@d.example", ""]]);
    assert_eq!((report.rows, report.bad, report.files), (2, 2, 1));
    assert_eq!(report.bad_rows[0], format!("{}:4: 2 cells where the header has 3", path.display()));
}

#[test]
fn old_and_odd_files_of_powermta_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Input::File(path)
    };
    let scan = Scan::new(&["type", "from", "to", "envId", "header:x-job", "timeLogged"]);
    // No header line: 4.x with timeImprinted; a header line that comes again in the middle, with other columns.
    let old = b"d,2014-08-24 16:00:14+0530,2014-07-10 16:00:02+0530,,s@x.example,R@Y.EXAMPLE,,relayed,2.0.0 (success),\
                smtp;250 ok,mx (192.0.2.1),success,smtp,a (192.0.2.2),smtp,192.0.2.3,192.0.2.1,\"A,B\",155704,vm,job,env\n";
    let joined = b"#type,mailfrom,RCPT,envid,header_X-Job\nd,a@x,b@y,e1,j1\ntype,rcpt\nd,c@y\n";
    let latin = b"type,orig,rcpt\nb,b\xfccher@x,d@y\n";
    let inputs = [write("old.csv", old), write("joined.csv", joined), write("latin.csv", latin)];
    let (rows, report) = texts(&scan, &inputs, 6);
    assert!(report.failed.is_empty() && report.bad == 0, "{report:?}");
    assert_eq!(rows[0], ["d", "s@x.example", "R@Y.EXAMPLE", "env", "", "2014-08-24 16:00:14+0530"]);
    assert_eq!(rows[1], ["d", "a@x", "b@y", "e1", "j1", ""]);
    assert_eq!(rows[2], ["d", "", "c@y", "", "", ""]);
    assert_eq!(rows[3][1], "b\u{fffd}cher@x");
    let unknown = write("short.csv", b"d,1,2\n");
    let (_, report) = texts(&scan, &[unknown], 6);
    assert!(report.failed[0].to_string().contains("no header line"), "{report:?}");
}

#[test]
fn packed_files_are_unpacked_and_patterns_and_folders_find_them() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("date=2026-01-31");
    std::fs::create_dir(&day).unwrap();
    let text = b"type,rcpt\nd,a@b.example\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).unwrap();
    std::fs::write(day.join("a.csv.gz"), gz.finish().unwrap()).unwrap();
    std::fs::write(day.join("b.csv.zst"), zstd::encode_all(&text[..], 1).unwrap()).unwrap();
    std::fs::write(day.join(".c.csv"), "damage").unwrap();
    std::fs::write(day.join("d.parquet.inprogress"), "damage").unwrap();
    write_parquet(&day.join("e.parquet"));
    let scan = Scan::new(&["type"]);
    for argument in ["", "/date=*", "/**/*.*", "/date=2026-01-3[01]/*"] {
        let inputs = expand(&[format!("{}{argument}", dir.path().display())]).unwrap();
        let (rows, report) = texts(&scan, &inputs, 1);
        assert_eq!(rows, [["d"], ["d"], ["b"], ["d"]], "{argument}: {report:?}");
    }
    let none = expand(&[format!("{}/*.nothing", dir.path().display())]).unwrap_err();
    assert!(none.to_string().contains("no file matches"), "{none}");
    assert!(expand(&["/no/such/file"]).unwrap_err().to_string().contains("no such file"));
    // For those who read files twice: the same ones, each once.
    let (folder, one) = (dir.path().display().to_string(), day.join("a.csv.gz").display().to_string());
    let all = files(&[folder, one]).unwrap();
    let names: Vec<_> = all.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.csv.gz", "b.csv.zst", "e.parquet"]);
    let report = verify::verify(&all[..2], false, &|_, _| ());
    assert_eq!((report.findings, report.unchecked.len()), (vec![], 2), "packed files are read to their ends");
    assert!(files(&["-"]).unwrap_err().to_string().contains("name files"));
    std::fs::create_dir(day.join("empty")).unwrap();
    let empty = files(&[day.join("empty").display().to_string()]).unwrap_err();
    assert!(empty.to_string().contains("no accounting file is there"), "{empty}");
}

/// Three row groups of two rows, a second apart, with a bloom filter on `rcpt`, and headers in a map.
fn write_groups(path: &Path) {
    let names = arrow::array::MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut headers = arrow::array::MapBuilder::new(
        Some(names),
        arrow::array::StringBuilder::new(),
        arrow::array::StringBuilder::new(),
    );
    for n in 0..6 {
        headers.keys().append_value("X-Job");
        headers.values().append_value(format!("job{n}"));
        headers.append(true).unwrap();
    }
    let times = (1..=6).map(|n| n * 1_000_000).collect::<Vec<i64>>();
    let batch = RecordBatch::try_from_iter([
        ("type", Arc::new(StringArray::from(vec!["d"; 6])) as ArrayRef),
        ("timeLogged", Arc::new(arrow::array::TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef),
        ("rcpt", Arc::new(StringArray::from(vec!["a@x", "z@x", "b@x", "M@x", "a@x", "q@x"])) as ArrayRef),
        ("headers", Arc::new(headers.finish()) as ArrayRef),
    ])
    .unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(2))
        .set_column_bloom_filter_enabled("rcpt".into(), true)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn row_groups_that_cannot_hold_what_is_wanted_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acct.parquet");
    write_groups(&path);
    let inputs = [Input::File(path)];
    let wanted = Scan::new(&["rcpt", "header_x-job"]);

    let range = wanted.clone().between(Some(Time::from_secs(4)), Some(Time::from_secs(6)));
    let (rows, report) = texts(&range, &inputs, 2);
    assert_eq!(rows, [["M@x", "job3"], ["a@x", "job4"]]);
    assert_eq!(report.row_groups, (2, 1));

    let address = ["a@x".to_owned()];
    let (rows, report) = texts(&wanted.clone().only("to", &address, true), &inputs, 2);
    assert_eq!(rows, [["a@x", "job0"], ["a@x", "job4"]]);
    assert_eq!(report.row_groups, (2, 1), "the bloom filter of the middle one does not know it");

    // Spelt in another way it is in no filter; without them it is found.
    let other = ["m@X".to_owned()];
    assert!(texts(&wanted.clone().only("rcpt", &other, true), &inputs, 2).0.is_empty());
    assert_eq!(texts(&wanted.only("rcpt", &other, false), &inputs, 2).0, [["M@x", "job3"]]);
}

#[test]
fn reading_ends_where_its_reader_breaks_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acct.parquet");
    write_groups(&path);
    let mut seen = 0;
    let report = Scan::new(&["rcpt"]).run(&[Input::File(path)], &mut |_| {}, &mut |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((seen, report.rows), (3, 3));
}
