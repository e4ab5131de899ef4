//! The published schema (`schemas/`), made from the field table: for people, for programs, for DuckDB and ClickHouse.

use std::fmt::Write as _;

use serde_json::json;

use crate::event::Kinds;
use crate::event::fields::{FIELDS, Field, Origin, SCHEMA_VERSION, Type};

/// The files of `schemas/` that are made from the table: name and content.
pub fn files() -> Vec<(String, String)> {
    let name = |suffix: &str| format!("acct.v{SCHEMA_VERSION}.{suffix}");
    vec![
        (name("json"), json()),
        (name("md"), markdown()),
        (name("duckdb.sql"), duckdb()),
        (name("clickhouse.sql"), clickhouse()),
        (name("spark.sql"), spark()),
    ]
}

fn names(kinds: Kinds) -> Vec<&'static str> {
    kinds.iter().map(|k| k.name()).collect()
}

const fn parquet_type(ty: Type) -> &'static str {
    match ty {
        Type::Text | Type::Word | Type::Ip => "string",
        Type::Time => "timestamp(us, UTC)",
        Type::Int => "int32",
        Type::Long => "int64",
        Type::Bool => "boolean",
        Type::List => "list<string>",
        Type::Map => "map<string, string>",
    }
}

/// For programs.
pub fn json() -> String {
    let field = |f: &Field| {
        json!({
            "name": f.name,
            "type": parquet_type(f.ty),
            "nullable": !f.is_required(),
            "dictionary": matches!(f.ty, Type::Word | Type::Ip),
            "definedBy": if f.origin == Origin::Carom { "carom" } else { "powermta" },
            "records": names(f.kinds),
            "csvByDefault": names(f.star),
            "doc": f.doc,
        })
    };
    let schema = json!({ "schemaVersion": SCHEMA_VERSION, "fields": FIELDS.iter().map(field).collect::<Vec<_>>() });
    // Strings and numbers only: this can't fail.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// For people.
pub fn markdown() -> String {
    let mut out = format!(
        "# Accounting fields, schema version {SCHEMA_VERSION}\n\n\
         Made from the field table (`src/event/fields.rs`). In Parquet every column is there; `records` says in which\n\
         record types it can be filled. \"CSV\" lists the record types whose `*` has it; all others are asked for by name\n\
         in `record-fields`. The last group is Carom's own, which `strict-columns yes` leaves out of CSV.\n"
    );
    for (title, origin) in [("PowerMTA's", Origin::PowerMta), ("Carom's own", Origin::Carom)] {
        let _ = write!(
            out,
            "\n## {title}\n\n| field | type | records | CSV | content |\n| --- | --- | --- | --- | --- |\n"
        );
        for f in FIELDS.iter().filter(|f| f.origin == origin) {
            let all = |kinds: Kinds| if kinds == Kinds::ALL { "all".to_owned() } else { names(kinds).join(" ") };
            let csv = if f.star.is_empty() { "-".to_owned() } else { all(f.star) };
            let _ = writeln!(out, "| `{}` | {} | {} | {csv} | {} |", f.name, parquet_type(f.ty), all(f.kinds), f.doc);
        }
    }
    out
}

/// Views over the files.
pub fn duckdb() -> String {
    format!(
        "-- Schema version {SCHEMA_VERSION}; made from the field table. For DuckDB: run in the folder that holds `acct/`.\n\
         -- Only whole files match; `date` is the UTC date of a file's first record and prunes folders.\n\
         CREATE OR REPLACE VIEW acct AS\n\
         SELECT * FROM read_parquet('acct/**/*.parquet', hive_partitioning = true, union_by_name = true);\n\n\
         -- What happened to each recipient in the end.\n\
         CREATE OR REPLACE VIEW acct_outcomes AS\n\
         SELECT \"messageId\", \"rcptIndex\", \"rcpt\", \"provider\", \"jobId\", \"type\", \"bounceCat\", \"dsnStatus\", \"dsnDiag\",\n\
         \x20      \"timeQueued\", \"timeLogged\", \"queueMs\", \"attempt\"\n\
         FROM acct WHERE \"type\" IN ('d', 'b');\n\n\
         -- Per provider and hour: deliveries, bounces, deferrals, complaints.\n\
         CREATE OR REPLACE VIEW acct_by_provider AS\n\
         SELECT \"provider\", date_trunc('hour', \"timeLogged\") AS hour,\n\
         \x20      count(*) FILTER (\"type\" = 'd') AS delivered,\n\
         \x20      count(*) FILTER (\"type\" = 'b') AS bounced,\n\
         \x20      count(*) FILTER (\"type\" = 't') AS deferred,\n\
         \x20      count(*) FILTER (\"type\" = 'rb') AS bounced_later,\n\
         \x20      count(*) FILTER (\"type\" = 'f') AS complaints\n\
         FROM acct GROUP BY ALL;\n"
    )
}

/// A table over the files.
pub fn spark() -> String {
    let column = |f: &Field| {
        let ty = match f.ty {
            Type::Text | Type::Word | Type::Ip => "STRING",
            Type::Time => "TIMESTAMP",
            Type::Int => "INT",
            Type::Long => "BIGINT",
            Type::Bool => "BOOLEAN",
            Type::List => "ARRAY<STRING>",
            Type::Map => "MAP<STRING, STRING>",
        };
        format!("    `{}` {ty}", f.name)
    };
    let columns = FIELDS.iter().map(column).collect::<Vec<_>>().join(",\n");
    format!(
        "-- Schema version {SCHEMA_VERSION}; made from the field table. For Spark SQL; put the folder of the acct-file in LOCATION.\n\
         -- Columns that older files lack read as null. After new days: MSCK REPAIR TABLE acct.\n\
         -- SET spark.sql.session.timeZone = UTC; SET spark.sql.caseSensitive = true;\n\
         CREATE TABLE acct\n(\n{columns},\n    `date` DATE\n)\n\
         USING PARQUET\nPARTITIONED BY (`date`)\nLOCATION '/var/log/carom/events';\n\n\
         MSCK REPAIR TABLE acct;\n"
    )
}

/// One row per field: name, type, record types, content.
pub fn rows() -> impl Iterator<Item = [String; 4]> {
    let records = |f: &Field| if f.kinds == Kinds::ALL { "all".to_owned() } else { names(f.kinds).join(" ") };
    FIELDS.iter().map(move |f| [f.name.to_owned(), parquet_type(f.ty).to_owned(), records(f), f.doc.to_owned()])
}

/// A table to load the files into.
pub fn clickhouse() -> String {
    let column = |f: &Field| {
        let ty = match (f.ty, f.is_required()) {
            (Type::Word | Type::Ip, true) => "LowCardinality(String)",
            (Type::Word | Type::Ip, false) => "LowCardinality(Nullable(String))",
            (Type::Text, true) => "String",
            (Type::Text, false) => "Nullable(String)",
            (Type::Time, true) => "DateTime64(6, 'UTC')",
            (Type::Time, false) => "Nullable(DateTime64(6, 'UTC'))",
            (Type::Int, _) => "Nullable(Int32)",
            (Type::Long, _) => "Nullable(Int64)",
            (Type::Bool, _) => "Nullable(Bool)",
            (Type::List, _) => "Array(String)",
            (Type::Map, _) => "Map(String, String)",
        };
        format!("    `{}` {ty}", f.name)
    };
    let columns = FIELDS.iter().map(column).collect::<Vec<_>>().join(",\n");
    format!(
        "-- Schema version {SCHEMA_VERSION}; made from the field table. For ClickHouse; loading a file twice does no harm,\n\
         -- because rows of one eventId are merged (ask with FINAL).\n\
         CREATE TABLE acct\n(\n{columns}\n)\n\
         ENGINE = ReplacingMergeTree\nPARTITION BY toYYYYMM(timeLogged)\nORDER BY (timeLogged, eventId);\n\n\
         -- INSERT INTO acct SELECT * FROM file('acct/**/*.parquet', Parquet);\n"
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "compares with, and on request writes, files of the repository")]
    use super::*;

    /// `CAROM_WRITE_SCHEMAS=1 cargo test --lib accounting::schema` writes them anew.
    #[test]
    fn the_published_schema_is_what_the_field_table_says() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for (name, content) in files() {
            let path = dir.join(name);
            if std::env::var("CAROM_WRITE_SCHEMAS").is_ok() {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(&path, &content).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(published == content, "{path:?} is not what the field table says: see this test's comment");
        }
    }

    #[test]
    fn every_field_is_in_every_form() {
        for (name, content) in files() {
            if name.ends_with("duckdb.sql") {
                continue;
            }
            for f in FIELDS {
                assert!(content.contains(f.name), "{name} lacks {}", f.name);
            }
        }
    }
}
