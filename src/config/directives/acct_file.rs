//! `<acct-file>`: where events are written (directives.md, 2.11; accounting.md, section 4; the last rows are ours).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Directive;
use super::set::{Change, Set};
use crate::config::acct::{self, OnLag, Privacy};
use crate::config::lexer::Args;
use crate::config::model::{AcctFile, AcctFormat, Compression, FieldChoice};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};
use crate::event::{Kind, Kinds};

type A = Directive<AcctFile>;

const DAY: u64 = 86_400;
const YEAR: u64 = 366 * DAY;

/// An acct-file with nothing but its path.
pub fn with_defaults(path: PathBuf, format: AcctFormat) -> AcctFile {
    AcctFile {
        path,
        format,
        records: Kinds::of(&[Kind::Delivered, Kind::Bounced]),
        record_fields: Default::default(),
        max_size: 250 << 20,
        move_to: None,
        move_interval: Duration::from_secs(DAY),
        // Parquet files are the archive: nothing removes them.
        delete_after: (format == AcctFormat::Csv).then_some(Duration::from_secs(8 * DAY)),
        iso_times: true,
        user_string: String::new(),
        world_readable: false,
        strict_columns: false,
        close_rows: 1_000_000,
        close_after: Duration::from_secs(300),
        row_group_rows: 131_072,
        rotate: None,
        queue_filter: Vec::new(),
        map_header_to_field: Vec::new(),
        count_moved_records: false,
        privacy_policy: Privacy::Retain,
        retry_interval: Duration::from_secs(300),
        write_timeout: Duration::from_secs(60),
        on_lag: OnLag::StopIntake,
        compression: Compression::Zstd(3),
        push: Default::default(),
    }
}

/// The rows.
pub const ACCT_FILE: &[A] = &[
    A::one("records", Set::Kinds(|a, v| a.records = v), "d,b", "Record types that are written").also(&["record"]),
    A::many(
        "record-fields",
        Set::Other("TYPE LIST of fields", "d *,header_Subject,!dlvSize", record_fields),
        "Fields of a record type: * is all, !x leaves out, header_X adds a header; a list of names is exactly those",
    ),
    A::one("max-size", Set::Other("SIZE from 1M", "250M", max_size), "250M", "Start a new file at this size (CSV)"),
    A::one(
        "move-to",
        Set::Path(|a, v| a.move_to = Some(v)),
        "",
        "Folder of the same volume that finished files are moved to (CSV)",
    ),
    A::one(
        "move-interval",
        Set::Time(1, YEAR, |a, v| a.move_interval = v),
        "1d",
        "Time between moves; without move-to it has no effect (CSV)",
    ),
    A::one(
        "delete-after",
        Set::TimeOrNever(|a, v| a.delete_after = v),
        "8d",
        "Age at which finished files are removed; without effect beside move-to (CSV; Parquet files are the archive and are never removed)",
    ),
    A::one(
        "iso-times",
        Set::Bool(|a, v| a.iso_times = v),
        "yes",
        "Times as YYYY-MM-DD HH:MM:SS+ZZZZ; no: seconds since 1970 (CSV)",
    ),
    A::one("user-string", Set::Text(|a, v| a.user_string = v), "", "What the field userString holds"),
    A::one("world-readable", Set::Bool(|a, v| a.world_readable = v), "no", "Everybody may read the files"),
    A::one(
        "strict-columns",
        Set::Bool(|a, v| a.strict_columns = v),
        "no",
        "PowerMTA's columns only, without Carom's own (CSV)",
    ),
    A::one(
        "close-rows",
        Set::Int(1, 1_000_000_000, |a, v| a.close_rows = v),
        "1000000",
        "Close a Parquet file at so many rows",
    ),
    A::one("close-after", Set::Time(1, DAY, |a, v| a.close_after = v), "5m", "Close a Parquet file after so long"),
    A::one(
        "row-group-rows",
        Set::Int(1, 10_000_000, |a, v| a.row_group_rows = v),
        "131072",
        "Rows of a row group of a Parquet file",
    ),
    A::one(
        "rotate",
        Set::Int(1, 1_000_000, |a, v| a.rotate = Some(v)),
        "",
        "Keep so many finished files, the newest (CSV)",
    ),
    A::one(
        "queue-filter",
        Set::Other("LIST of [!]DOMAIN[/VMTA]", "![*.]example.net/*,*/*", queue_filter),
        "",
        "Queues whose d, b, t and tq are written: the first entry that matches decides, ! leaves out, no match leaves out",
    ),
    A::many(
        "map-header-to-field",
        Set::Other("TYPE header_NAME FIELD", "f header_X-HmXmrOriginalRecipient rcpt", map_header),
        "The header's value, where there is one, takes the place of the field; the first header listed for it wins",
    ),
    A::one(
        "count-moved-records",
        Set::Bool(|a, v| a.count_moved_records = v),
        "no",
        "Log how many records a file holds when it is moved (CSV)",
    ),
    A::one(
        "sync",
        Set::Bool(|_, _| {}),
        "yes",
        "Whatever it says, files are synced: CSV several times a second, Parquet before it is published",
    ),
    A::one(
        "privacy-policy",
        Set::Other("MODE [KEY or TEXT]", "redact", privacy),
        "retain",
        "retain, redact, siphash, siphash-hexkey, hmac-sha256, hmac-sha256-hexkey: what replaces recipients' local parts",
    ),
    A::one(
        "retry-interval",
        Set::Time(1, DAY, |a, v| a.retry_interval = v),
        "5m",
        "Start a pipe's program again so long after it failed",
    ),
    A::one(
        "write-timeout",
        Set::Time(1, DAY, |a, v| a.write_timeout = v),
        "1m",
        "Give up on a pipe's program that has taken nothing for so long",
    ),
    A::one(
        "on-lag",
        Set::Other("stop-intake or skip", "skip", on_lag),
        "stop-intake",
        "When the ledger is at its limit because of this output: refuse new mail, or leave records out and say which",
    ),
    A::one(
        "compression",
        Set::Other("none, zstd, zstd:LEVEL", "zstd:3", compression),
        "zstd:3",
        "Compression of a Parquet file; levels go from 1 (fast) to 22 (small)",
    ),
];

pub(super) fn queue_filter(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let Some(list) = args.rest() else {
        return Err(ValueError { message: "no queue is named".into(), help: "write DOMAIN/VMTA, such as */*".into() });
    };
    let filter = acct::queue_filter(&list.text)?;
    if filter.iter().all(|p| p.excluded) {
        reading.warning(
            list.span,
            "only queues to leave out are named: no d, b, t or tq is written at all",
            "end the list with */* to write all others",
        );
    }
    Ok(Arc::new(move |a| a.queue_filter.clone_from(&filter)))
}

pub(super) fn map_header(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let mut word = || args.word().map(|w| w.text).unwrap_or_default();
    let map = acct::header_to_field(&word(), &word(), &word())?;
    Ok(Arc::new(move |a| a.map_header_to_field.push(map.clone())))
}

pub(super) fn privacy(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let mode = args.word().map(|w| w.text).unwrap_or_default();
    let span = args.rest_span();
    let (policy, warning) = acct::privacy(&mode, args.word().map(|w| w.text).as_deref())?;
    if let Some(warning) = warning {
        reading.warning(span, warning, "make one with: openssl rand -hex 32, and write hmac-sha256-hexkey");
    }
    Ok(Arc::new(move |a| a.privacy_policy.clone_from(&policy)))
}

pub(super) fn on_lag(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let choice = acct::on_lag(&args.word().map(|w| w.text).unwrap_or_default())?;
    Ok(Arc::new(move |a| a.on_lag = choice))
}

fn max_size(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let word = args.word().map(|w| w.text).unwrap_or_default();
    let size = values::size(&word)?;
    if size < 1 << 20 {
        let message = format!("`{word}` is less than 1M");
        return Err(ValueError { message, help: "write a size from 1M on, such as 250M".into() });
    }
    Ok(Arc::new(move |a| a.max_size = size))
}

fn compression(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let word = args.word().map(|w| w.text.to_ascii_lowercase()).unwrap_or_default();
    let chosen = match word.split_once(':') {
        None if word == "none" => Some(Compression::None),
        None if word == "zstd" => Some(Compression::Zstd(3)),
        Some(("zstd", level)) => level.parse().ok().filter(|l| (1..=22).contains(l)).map(Compression::Zstd),
        _ => None,
    };
    let Some(chosen) = chosen else {
        let message = format!("`{word}` is no compression of Parquet files");
        return Err(ValueError { message, help: "write none, zstd, or zstd with a level from 1 to 22: zstd:9".into() });
    };
    Ok(Arc::new(move |a| a.compression = chosen))
}

pub(super) fn record_fields(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let help = "write record-fields TYPE LIST, such as record-fields d *,header_Subject";
    let Some(kind) = args.word() else { return Err(ValueError { message: "no type".into(), help: help.into() }) };
    let kinds: Vec<Kind> = match kind.text.as_str() {
        "*" | "all" => Kind::ALL.to_vec(),
        list => values::list(list).map(values::kind).collect::<Result<_, _>>()?,
    };
    let Some(list) = args.rest() else {
        return Err(ValueError { message: "no fields are named".into(), help: help.into() });
    };
    let mut fields = Vec::new();
    for name in values::list(&list.text) {
        let bare = name.strip_prefix('!').unwrap_or(name);
        let ok = bare.len() <= 128 && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if !ok || bare.is_empty() {
            return Err(ValueError { message: "not the name of a field".into(), help: help.into() });
        }
        if bare.eq_ignore_ascii_case("timeImprinted") {
            reading.warning(list.span, "timeImprinted is a field of old versions; it is left out", "take it out");
            continue;
        }
        let header = name.get(..7).filter(|p| p.eq_ignore_ascii_case("header_")).map(|_| name[7..].to_owned());
        fields.push(match (name, header) {
            ("*", _) => FieldChoice::All,
            (_, Some(header)) if header.is_empty() => {
                return Err(ValueError { message: "header_ without the header's name".into(), help: help.into() });
            }
            (_, Some(header)) => FieldChoice::Header(header),
            (n, _) if n.starts_with('!') => FieldChoice::Not(bare.to_owned()),
            (n, _) => FieldChoice::Field(n.to_owned()),
        });
    }
    if fields.is_empty() {
        fields.push(FieldChoice::All);
    }
    if fields.iter().all(|f| matches!(f, FieldChoice::Not(_))) {
        reading.note(list.span, "only fields to leave out are named; all others are written", "write *,!field");
    }
    Ok(Arc::new(move |a| {
        for kind in &kinds {
            a.record_fields.insert(*kind, fields.clone());
        }
    }))
}
