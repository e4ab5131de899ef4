//! Events to Arrow record batches and the Parquet properties that go with them.
//!
//! One flat table for all record types, in the order of the field table: times as UTC microseconds, numbers as numbers,
//! words dictionary-encoded, `dlvEsmtpAvailable` as a list, `headers` and `arf` as maps; zstd, page index, a bloom
//! filter on `rcpt`. Events come in slices and are built column by column, so that each builder stays in the cache and
//! nothing is allocated per row.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::columns::{Column, Columns, Source};
use crate::config;
use crate::event::fields::{FIELDS, Field, Type, Value};
use crate::event::{Event, Kinds};

/// Builds record batches of one output's columns.
#[derive(Debug)]
pub struct ParquetRows {
    columns: Columns,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Builder {
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Bool(BooleanBuilder),
    List(ListBuilder<StringBuilder>),
    Map(MapBuilder<StringBuilder, StringBuilder>),
}

impl ParquetRows {
    /// For these columns.
    pub fn new(columns: Columns) -> ParquetRows {
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let builders = columns.iter().map(|c| Builder::of(type_of(c))).collect();
        ParquetRows { columns, schema, builders, rows: 0, scratch: Vec::new() }
    }

    /// The Arrow schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Appends classified events, all of types that the output takes.
    pub fn push(&mut self, events: &[Event<'_>]) {
        // So many that they stay in the nearest cache while column after column is read from them.
        events.chunks(64).for_each(|some| self.push_some(some));
    }

    fn push_some(&mut self, events: &[Event<'_>]) {
        let kinds = events.iter().fold(Kinds::default(), |kinds, e| kinds.with(e.kind));
        let (columns, scratch) = (&self.columns, &mut self.scratch);
        for (column, builder) in columns.iter().zip(&mut self.builders) {
            let carries = |e: &Event<'_>| column.kinds.contains(e.kind);
            match column.getter() {
                _ if !column.kinds.meets(kinds) => builder.push_nulls(events.len()),
                Some(get) => {
                    builder.push(events.iter().map(|e| if carries(e) { get(e) } else { Value::Absent }), scratch);
                }
                None => builder.push(events.iter().map(|e| columns.value(column, e)), scratch),
            }
        }
        self.rows += events.len();
    }

    /// Rows appended since the last [`ParquetRows::take`].
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row was appended since the last [`ParquetRows::take`].
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows appended so far as a batch; the builders begin anew.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(self.schema(), arrays)
    }
}

/// How a file of these columns is to be written, whoever writes it; `row_group_rows` sizes row groups and the bloom
/// filter. The encodings were chosen by measuring (`benches/accounting.rs`).
pub fn properties(schema: &Schema, row_group_rows: u64, compression: config::Compression) -> WriterProperties {
    let rows = usize::try_from(row_group_rows).unwrap_or(usize::MAX).clamp(1, 8 << 20);
    let codec = match compression {
        config::Compression::None => Compression::UNCOMPRESSED,
        config::Compression::Zstd(level) => Compression::ZSTD(ZstdLevel::try_new(i32::from(level)).unwrap_or_default()),
    };
    let mut p = WriterProperties::builder()
        .set_created_by(concat!("carom ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec)
        .set_max_row_group_row_count(Some(rows))
        .set_data_page_row_count_limit(20_000);
    for name in schema.fields().iter().map(|f| f.name()) {
        let path = ColumnPath::from(name.as_str());
        match Field::by_name(name).map(|f| f.ty) {
            // Ids count up: only what changes from one to the next is kept.
            Some(Type::Text) if name == "eventId" => {
                p = p
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BYTE_ARRAY);
            }
            // Addresses: lengths apart from letters, a tenth smaller. Replies are smaller left whole, since their words
            // and ids repeat as they stand.
            Some(Type::Text) if name == "rcpt" => {
                p = p
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
            }
            Some(Type::Text) => p = p.set_column_dictionary_enabled(path.clone(), false),
            Some(Type::Time | Type::Long) => {
                p = p
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            Some(Type::Word | Type::Ip | Type::Int | Type::Bool | Type::List | Type::Map) | None => {}
        }
        if name == "rcpt" {
            p = p
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_max_ndv(path.clone(), rows as u64)
                .set_column_bloom_filter_fpp(path, 0.01);
        }
    }
    p.build()
}

/// The columns of every file whose acct-file does not choose fields: the field table.
pub fn full_schema() -> SchemaRef {
    let column = |f: &'static Field| Column {
        name: f.name.to_owned(),
        kinds: f.kinds,
        source: Source::Field(f),
        mapped: Vec::new(),
    };
    Arc::new(Schema::new(FIELDS.iter().map(|f| field(&column(f))).collect::<Vec<_>>()))
}

const fn type_of(column: &Column) -> Type {
    match &column.source {
        Source::Field(f) => f.ty,
        Source::Header(_) | Source::Arf(_) => Type::Text,
    }
}

fn field(column: &Column) -> arrow::datatypes::Field {
    let text = |name: &str, nullable| arrow::datatypes::Field::new(name, DataType::Utf8, nullable);
    let ty = match type_of(column) {
        Type::Text | Type::Word | Type::Ip => DataType::Utf8,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::Bool => DataType::Boolean,
        Type::List => DataType::List(Arc::new(text("item", true))),
        Type::Map => {
            let entry = DataType::Struct(vec![text("key", false), text("value", true)].into());
            DataType::Map(Arc::new(arrow::datatypes::Field::new("key_value", entry, false)), false)
        }
    };
    let required = matches!(&column.source, Source::Field(f) if f.is_required());
    arrow::datatypes::Field::new(&column.name, ty, !required)
}

impl Builder {
    fn of(ty: Type) -> Builder {
        match ty {
            Type::Text | Type::Word | Type::Ip => Builder::Text(StringBuilder::new()),
            Type::Time => Builder::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Type::Int => Builder::Int(Int32Builder::new()),
            Type::Long => Builder::Long(Int64Builder::new()),
            Type::Bool => Builder::Bool(BooleanBuilder::new()),
            Type::List => Builder::List(ListBuilder::new(StringBuilder::new())),
            Type::Map => {
                let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
                Builder::Map(MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()))
            }
        }
    }

    fn push_nulls(&mut self, n: usize) {
        match self {
            Builder::Text(b) => b.append_nulls(n),
            Builder::Time(b) => b.append_nulls(n),
            Builder::Int(b) => b.append_nulls(n),
            Builder::Long(b) => b.append_nulls(n),
            Builder::Bool(b) => b.append_nulls(n),
            Builder::List(b) => b.append_nulls(n),
            // It fails where keys and values are not in pairs, and here there are none.
            Builder::Map(b) => drop(b.append_nulls(n)),
        }
    }

    fn push<'v>(&mut self, values: impl Iterator<Item = Value<'v>>, scratch: &mut Vec<u8>) {
        match self {
            Builder::Text(b) => values.for_each(|v| match v {
                Value::Absent => b.append_null(),
                Value::Text(s) => b.append_value(s),
                composed => {
                    scratch.clear();
                    composed.push_text(scratch);
                    // Parts that are text, put together with ASCII.
                    b.append_option(std::str::from_utf8(scratch).ok());
                }
            }),
            Builder::Time(b) => values.for_each(|v| match v {
                Value::Time(t) => b.append_value(t.0),
                _ => b.append_null(),
            }),
            Builder::Int(b) => values.for_each(|v| match v {
                Value::Number(n) => b.append_option(i32::try_from(n).ok()),
                _ => b.append_null(),
            }),
            Builder::Long(b) => values.for_each(|v| match v {
                Value::Number(n) => b.append_option(i64::try_from(n).ok()),
                _ => b.append_null(),
            }),
            Builder::Bool(b) => values.for_each(|v| match v {
                Value::Bool(yes) => b.append_value(yes),
                _ => b.append_null(),
            }),
            Builder::List(b) => values.for_each(|v| match v {
                Value::List(words) => {
                    words.split(',').for_each(|w| b.values().append_value(w.trim()));
                    b.append(true);
                }
                _ => b.append(false),
            }),
            Builder::Map(b) => values.for_each(|v| {
                let pairs = if let Value::Pairs(p) = v { Some(p) } else { None };
                for (name, value) in pairs.iter().flat_map(|p| p.iter()) {
                    b.keys().append_value(name);
                    b.values().append_value(value);
                }
                // Keys and values were appended in pairs, which is all this checks.
                let _ = b.append(pairs.is_some());
            }),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(b) => {
                // The next batch will be much like this one; growing to its size anew each time costs more than holding on.
                let (rows, bytes) = (b.len(), b.values_slice().len());
                let array = Arc::new(b.finish());
                if bytes > 0 {
                    *b = StringBuilder::with_capacity(rows, bytes + bytes / 8);
                }
                array
            }
            Builder::Time(b) => Arc::new(b.finish()),
            Builder::Int(b) => Arc::new(b.finish()),
            Builder::Long(b) => Arc::new(b.finish()),
            Builder::Bool(b) => Arc::new(b.finish()),
            Builder::List(b) => Arc::new(b.finish()),
            Builder::Map(b) => Arc::new(b.finish()),
        }
    }
}
