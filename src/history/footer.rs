#![expect(clippy::disallowed_types, reason = "edge: reads files")]
//! What the footer of a Parquet file says: its schema, its rows, and the manifest that a file of ours carries.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::KeyValue;

use super::HistoryError;
use crate::event::fields::SCHEMA_VERSION;
use crate::event::manifest::{Manifest, SCHEMA_KEY};

/// A footer.
#[derive(Debug, Clone)]
pub struct Footer {
    /// Rows, as the file format counts them.
    pub rows: u64,
    /// The columns.
    pub schema: SchemaRef,
    /// Which version of the schema it was written with; `None` when we did not write it.
    pub schema_version: Option<u32>,
    /// What an output says of it; `None` when it was not written by one.
    pub manifest: Option<Manifest>,
    /// For reading on without reading the footer again.
    pub metadata: ArrowReaderMetadata,
}

impl Footer {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// When it can't be opened, is no Parquet file, or is not whole.
    pub fn read(path: &Path) -> Result<(Footer, File), HistoryError> {
        let failed = |e: &dyn std::fmt::Display| HistoryError::new(path, e);
        let file = File::open(path).map_err(|e| failed(&e))?;
        let metadata =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()).map_err(|e| failed(&not_whole(&e)))?;
        let of_file = metadata.metadata().file_metadata();
        let none = Vec::new();
        let entries: &Vec<KeyValue> = of_file.key_value_metadata().unwrap_or(&none);
        let get = |key: &str| entries.iter().find(|e| e.key == key)?.value.as_deref();
        let footer = Footer {
            rows: u64::try_from(of_file.num_rows()).unwrap_or(0),
            schema: metadata.schema().clone(),
            schema_version: get(SCHEMA_KEY).and_then(|v| v.parse().ok()),
            manifest: Manifest::read(get),
            metadata,
        };
        Ok((footer, file))
    }

    /// Whether a newer Carom wrote it, whose files this one must not change.
    pub fn is_newer(&self) -> bool {
        self.schema_version.is_some_and(|v| v > SCHEMA_VERSION)
    }
}

/// The library's words for a file that was cut off mean little to an operator.
fn not_whole(error: &parquet::errors::ParquetError) -> String {
    format!("it is not a whole Parquet file ({error})")
}
