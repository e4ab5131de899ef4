#![expect(clippy::disallowed_types, reason = "edge: reads the beginnings of files")]
//! Which columns do these files have together? Asked before all of a record is shown or searched.

use std::fs::File;
use std::io::BufReader;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::inputs::{self, Input, Opened};
use super::names;
use crate::event::fields::FIELDS;

/// The columns of `inputs` by their canonical names: those of the field table that any file has, in its order, then the
/// others as they come. What can't be opened is passed over; reading it will say why. Standard input can't be looked at
/// twice: with it all of the field table are there, and headers have to be asked for by name.
pub fn all_columns(inputs: &[Input]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |name: String| {
        if !name.is_empty() && !found.iter().any(|f| names::same(f, &name)) {
            found.push(name);
        }
    };
    for input in inputs {
        if *input == Input::Stdin {
            FIELDS.iter().for_each(|f| add(f.name.to_owned()));
            continue;
        }
        of_file(input).into_iter().for_each(&mut add);
    }
    let place = |name: &String| FIELDS.iter().position(|f| names::same(f.name, name)).unwrap_or(usize::MAX);
    found.sort_by_key(place);
    // Spelt as the field table spells them.
    found.iter().map(|name| FIELDS.get(place(name)).map_or_else(|| name.clone(), |f| f.name.to_owned())).collect()
}

fn of_file(input: &Input) -> Vec<String> {
    match inputs::open(input, |_| {}) {
        Ok(Opened::Parquet(file)) => parquet(file),
        Ok(Opened::Csv(from)) => {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(BufReader::new(from));
            let Some(Ok(first)) = reader.byte_records().next() else { return Vec::new() };
            let cells: Vec<_> = first.iter().map(String::from_utf8_lossy).collect();
            let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
            match names::without_header(&cells) {
                Some(assumed) => assumed.iter().map(|c| (*c).to_owned()).collect(),
                None => cells.iter().map(|c| names::canonical(c)).collect(),
            }
        }
        Err(_) => Vec::new(),
    }
}

fn parquet(file: File) -> Vec<String> {
    let Ok(builder) = ParquetRecordBatchReaderBuilder::try_new(file) else { return Vec::new() };
    builder.schema().fields().iter().map(|f| names::canonical(f.name())).collect()
}
