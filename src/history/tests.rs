//! Files of both formats, read as analysts' code would.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;

use super::*;

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
