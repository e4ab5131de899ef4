//! The columns of one acct-file, from its `record-fields` (reference/accounting.md, sections 2 to 4).
//!
//! In CSV the first column is always `type`. The columns of a file that holds several record types are the union: those
//! of the first type in its order, then what later types add; a cell stays empty where its type does not have the field,
//! or did not ask for it. Carom's own columns stand behind PowerMTA's, unless `strict-columns` leaves them out; one that
//! is asked for by name stands where it is asked for. In Parquet the order is that of the field table, and a file that
//! has no `record-fields` has every column of it, so that all files have one schema.

use crate::config::{AcctFile, AcctFormat, FieldChoice};
use crate::event::fields::{FIELDS, Field, Getter, Type, Value};
use crate::event::{Event, Kind, Kinds, Pairs};

/// The columns of one output, in order.
#[derive(Debug)]
pub struct Columns {
    all: Vec<Column>,
    user_string: String,
}

/// One column.
#[derive(Debug, PartialEq)]
pub struct Column {
    /// What the header line says.
    pub name: String,
    /// The record types whose cells are filled.
    pub kinds: Kinds,
    /// Where the value comes from.
    pub source: Source,
    /// `map-header-to-field`: headers whose value goes before it, by record type, in order.
    pub mapped: Vec<(Kind, String)>,
}

/// Where the value of a column comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The field table.
    Field(&'static Field),
    /// A kept header of the message; the first, if there are several.
    Header(String),
    /// An ARF field; all of them as a list, if there are several.
    Arf(String),
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Field(a), Source::Field(b)) => a.name == b.name,
            (Source::Header(a), Source::Header(b)) | (Source::Arf(a), Source::Arf(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        }
    }
}

/// A name in `record-fields` that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record-fields {kind}: {name:?} {reason}")]
pub struct FieldError {
    /// The record type it was asked for.
    pub kind: Kind,
    /// The name as written.
    pub name: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

impl Column {
    /// Where the value comes from when it depends on nothing but the event: most columns.
    pub fn getter(&self) -> Option<Getter> {
        match &self.source {
            Source::Field(f) if self.mapped.is_empty() && f.name != USER_STRING => Some(f.value),
            _ => None,
        }
    }
}

/// The field whose value the acct-file says, not the event.
const USER_STRING: &str = "userString";

impl Columns {
    /// The columns that `file` asks for, or everything that is wrong with its `record-fields`.
    pub fn of(file: &AcctFile) -> Result<Columns, Vec<FieldError>> {
        let mut errors = Vec::new();
        let all = match file.format {
            AcctFormat::Csv | AcctFormat::Pipe => csv(file, &mut errors),
            AcctFormat::Parquet => parquet(file, &mut errors),
            AcctFormat::Hook | AcctFormat::Webhook | AcctFormat::Nats => json(file, &mut errors),
        };
        let mut all = all;
        for column in &mut all {
            let Source::Field(field) = column.source else { continue };
            let of_field = file.map_header_to_field.iter().filter(|m| m.field == field.name);
            column.mapped = of_field.map(|m| (m.kind, m.header.clone())).collect();
            if let Some((kind, _)) = column.mapped.first()
                && !matches!(file.format, AcctFormat::Csv | AcctFormat::Pipe)
                && !matches!(field.ty, Type::Text | Type::Word)
            {
                let reason = "is no text in Parquet files and JSON; map the header to another field".to_owned();
                errors.push(FieldError { kind: *kind, name: field.name.to_owned(), reason });
            }
        }
        if errors.is_empty() { Ok(Columns { all, user_string: file.user_string.clone() }) } else { Err(errors) }
    }

    /// The columns in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Column> {
        self.all.iter()
    }

    /// The value of one column in one event.
    pub fn value<'a>(&'a self, column: &Column, event: &Event<'a>) -> Value<'a> {
        if !column.kinds.contains(event.kind) {
            return Value::Absent;
        }
        let mut mapped = column.mapped.iter().filter(|(kind, _)| *kind == event.kind);
        if let Some(text) = mapped.find_map(|(_, header)| event.headers.get(header)) {
            return Value::Text(text);
        }
        match &column.source {
            Source::Field(f) if f.name == USER_STRING => {
                if self.user_string.is_empty() {
                    Value::Absent
                } else {
                    Value::Text(&self.user_string)
                }
            }
            Source::Field(f) => (f.value)(event),
            Source::Header(name) => event.headers.get(name).map_or(Value::Absent, Value::Text),
            // Which of several is for the writer to see; see `csv`.
            Source::Arf(name) => event.arf.get(name).map_or(Value::Absent, Value::Text),
        }
    }
}

/// All ARF values under `name`.
pub(super) fn arf_values<'a>(arf: Pairs<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    arf.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
}

fn csv(file: &AcctFile, errors: &mut Vec<FieldError>) -> Vec<Column> {
    let mut all = Vec::new();
    let first = file.records.iter().next();
    if let Some(type_) = FIELDS.first() {
        file.records.iter().for_each(|kind| add(&mut all, kind, Source::Field(type_), false));
    }
    for kind in file.records.iter() {
        for (source, from_star) in chosen(file, kind, Field::star(kind), errors) {
            if matches!(source, Source::Field(f) if f.ty == Type::Map) {
                let Source::Field(f) = source else { continue };
                let prefix = if f.name == "arf" { "arf_NAME" } else { "header_NAME" };
                let reason = format!("is a column of Parquet files; in CSV ask for one as {prefix}");
                errors.push(FieldError { kind, name: f.name.to_owned(), reason });
            } else {
                add(&mut all, kind, source, from_star && Some(kind) != first);
            }
        }
    }
    if !file.strict_columns {
        for kind in file.records.iter() {
            let excluded = |f: &Field| {
                file.record_fields.get(&kind).is_some_and(|l| {
                    l.iter().any(|c| matches!(c, FieldChoice::Not(n) if n.eq_ignore_ascii_case(f.name)))
                })
            };
            Field::own(kind).filter(|f| !excluded(f)).for_each(|f| add(&mut all, kind, Source::Field(f), false));
        }
    }
    all
}

fn parquet(file: &AcctFile, errors: &mut Vec<FieldError>) -> Vec<Column> {
    let whole = |kinds: Kinds, f: &'static Field| Column {
        name: f.name.to_owned(),
        kinds,
        source: Source::Field(f),
        mapped: Vec::new(),
    };
    if file.record_fields.is_empty() {
        return FIELDS.iter().map(|f| whole(f.kinds, f)).collect();
    }
    let mut all: Vec<Column> = FIELDS.iter().map(|f| whole(Kinds::default(), f)).collect();
    for kind in file.records.iter() {
        let every = || FIELDS.iter().filter(|f| f.kinds.contains(kind));
        let explicit = chosen(file, kind, every().collect(), errors);
        for (source, _) in explicit {
            let name = match &source {
                Source::Field(f) => f.name,
                Source::Header(_) => "headers",
                Source::Arf(_) => "arf",
            };
            all.iter_mut().filter(|c| c.name == name).for_each(|c| c.kinds = c.kinds.with(kind));
        }
    }
    for column in &mut all {
        if matches!(&column.source, Source::Field(f) if f.is_required()) {
            column.kinds = Kinds::ALL;
        }
    }
    all.retain(|c| !c.kinds.is_empty());
    all
}

/// As in Parquet, but of what `headers` and `arf` hold only what was asked for by name.
fn json(file: &AcctFile, errors: &mut Vec<FieldError>) -> Vec<Column> {
    let mut all = parquet(file, &mut Vec::new());
    for kind in file.records.iter() {
        let every = FIELDS.iter().filter(|f| f.kinds.contains(kind)).collect();
        let named = chosen(file, kind, every, errors);
        let whole = |map: &str| named.iter().any(|(s, _)| matches!(s, Source::Field(f) if f.name == map));
        for (source, _) in &named {
            let map = match source {
                Source::Field(_) => continue,
                Source::Header(_) => "headers",
                Source::Arf(_) => "arf",
            };
            if !whole(map) {
                all.iter_mut().filter(|c| c.name == map).for_each(|c| c.kinds = without(c.kinds, kind));
                add(&mut all, kind, source.clone(), false);
            }
        }
    }
    all.retain(|c| !c.kinds.is_empty());
    all
}

fn without(kinds: Kinds, kind: Kind) -> Kinds {
    kinds.iter().filter(|k| *k != kind).fold(Kinds::default(), Kinds::with)
}

/// Adds a column, or the record type to one that is there. What a later type's `*` brings stands where the order of the
/// field table has it, so that files of several types have the one order that all of PowerMTA's share; what is asked for by
/// name stands behind.
fn add(all: &mut Vec<Column>, kind: Kind, source: Source, in_table_order: bool) {
    if let Some(known) = all.iter_mut().find(|c| c.source == source) {
        known.kinds = known.kinds.with(kind);
        return;
    }
    let name = match &source {
        Source::Field(f) => f.name.to_owned(),
        Source::Header(n) => format!("header_{n}"),
        Source::Arf(n) => format!("arf_{n}"),
    };
    let column = Column { name, kinds: Kinds::of(&[kind]), source, mapped: Vec::new() };
    let rank = |c: &Column| match c.source {
        Source::Field(f) => FIELDS.iter().position(|g| g.name == f.name),
        _ => None,
    };
    let own = rank(&column).filter(|_| in_table_order);
    let before = own.and_then(|own| {
        let earlier = all.iter().enumerate().filter_map(|(i, c)| rank(c).filter(|r| *r < own).map(|r| (r, i)));
        earlier.max().map(|(_, i)| i)
    });
    all.insert(before.map_or(all.len(), |i| i + 1), column);
}

/// What the list of one record type comes to (a list that only excludes excludes from `*`); the second says whether `*` brought it.
fn chosen(file: &AcctFile, kind: Kind, star: Vec<&'static Field>, errors: &mut Vec<FieldError>) -> Vec<(Source, bool)> {
    let star: Vec<(Source, bool)> = star.into_iter().map(|f| (Source::Field(f), true)).collect();
    let Some(list) = file.record_fields.get(&kind) else { return star };
    let mut out = if list.iter().all(|c| matches!(c, FieldChoice::Not(_))) { star.clone() } else { Vec::new() };
    let push = |out: &mut Vec<(Source, bool)>, s: Source, from_star: bool| {
        if !out.iter().any(|(known, _)| *known == s) {
            out.push((s, from_star));
        }
    };
    for choice in list {
        match choice {
            FieldChoice::All => star.iter().cloned().for_each(|(s, _)| push(&mut out, s, true)),
            FieldChoice::Header(name) => push(&mut out, Source::Header(name.clone()), false),
            FieldChoice::Field(name) => match named(name) {
                Ok(source) => push(&mut out, source, false),
                Err(reason) => errors.push(FieldError { kind, name: name.clone(), reason }),
            },
            FieldChoice::Not(name) => match named(name) {
                Ok(source) => out.retain(|(s, _)| *s != source),
                Err(reason) => errors.push(FieldError { kind, name: name.clone(), reason }),
            },
        }
    }
    out
}

fn named(name: &str) -> Result<Source, String> {
    for (prefix, make) in [("header_", Source::Header as fn(String) -> Source), ("arf_", Source::Arf)] {
        if let (Some(head), Some(rest)) = (name.get(..prefix.len()), name.get(prefix.len()..))
            && head.eq_ignore_ascii_case(prefix)
            && !rest.is_empty()
        {
            return Ok(make(rest.to_owned()));
        }
    }
    Field::by_name(name).map(Source::Field).ok_or_else(|| match nearest(name) {
        Some(near) => format!("is no field; did you mean {near}?"),
        None => "is no field; schemas/ lists them all, and header_NAME adds a header".to_owned(),
    })
}

/// The field whose name is nearest to what was written, if any is near.
fn nearest(name: &str) -> Option<&'static str> {
    let name: Vec<u8> = name.bytes().take(40).map(|b| b.to_ascii_lowercase()).collect();
    let (distance, field) = FIELDS.iter().map(|f| (edits(&name, &f.name.to_ascii_lowercase()), f.name)).min()?;
    (distance <= name.len().div_ceil(3)).then_some(field)
}

/// Single-character edits between two names.
fn edits(a: &[u8], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(*x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::Time;

    pub(in crate::accounting) fn acct_file(path: &str, records: &[Kind]) -> AcctFile {
        AcctFile {
            records: Kinds::of(records),
            delete_after: None,
            strict_columns: true,
            ..AcctFile::new(path.into(), if path.ends_with(".parquet") { AcctFormat::Parquet } else { AcctFormat::Csv })
        }
    }

    fn fields(list: &str) -> Vec<FieldChoice> {
        list.split(',')
            .map(|f| match f {
                "*" => FieldChoice::All,
                f if f.starts_with('!') => FieldChoice::Not(f[1..].into()),
                f if f.starts_with("header_") => FieldChoice::Header(f[7..].into()),
                f => FieldChoice::Field(f.into()),
            })
            .collect()
    }

    fn names(file: &AcctFile) -> String {
        Columns::of(file).unwrap().iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn columns_of_several_types_are_the_union_in_the_order_of_the_first() {
        let mut f = acct_file("a.csv", &[Kind::Delivered, Kind::Bounced]);
        f.record_fields.insert(Kind::Delivered, fields("timeLogged,orig,rcpt,dlvSourceIp"));
        f.record_fields.insert(Kind::Bounced, fields("timeLogged,orig,rcpt,bounceCat"));
        assert_eq!(names(&f), "type,timeLogged,orig,rcpt,dlvSourceIp,bounceCat");
        // A field that the type did not ask for stays empty.
        let c = Columns::of(&f).unwrap();
        let e = Event { category: "other", ..Event::new(Kind::Delivered, Time(1)) };
        let cat = c.iter().find(|c| c.name == "bounceCat").unwrap();
        assert_eq!(c.value(cat, &e), Value::Absent);
        assert_eq!(c.value(cat, &Event { kind: Kind::Bounced, ..e }), Value::Text("other"));
    }

    /// Header lines that PowerMTA itself wrote, and the order of its newer default file.
    #[test]
    fn headers_are_those_that_powermta_writes_for_the_same_lists() {
        let mut f = acct_file("a.csv", &[Kind::Delivered]);
        f.record_fields.insert(Kind::Delivered, fields("jobId,*,!dlvEsmtpAvailable,!rcpt,!queue,!vmtaPool"));
        assert_eq!(
            names(&f),
            "type,jobId,timeLogged,timeQueued,orig,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,srcType,srcMta,dlvType,\
             dlvSourceIp,dlvDestinationIp,dlvSize,vmta,envId"
        );
        let mut f = acct_file("a.csv", &[Kind::Bounced]);
        f.record_fields.insert(Kind::Bounced, fields("jobId,dsnDiag,*,!dlvEsmtpAvailable,!rcpt,!queue,!vmtaPool"));
        assert_eq!(
            names(&f),
            "type,jobId,dsnDiag,timeLogged,timeQueued,orig,orcpt,dsnAction,dsnStatus,dsnMta,bounceCat,srcType,srcMta,\
             dlvType,dlvSourceIp,dlvDestinationIp,dlvSize,vmta,envId"
        );
        let mut f = acct_file("a.csv", &[Kind::Received]);
        f.record_fields.insert(Kind::Received, fields("*,!rcpt"));
        assert_eq!(
            names(&f),
            "type,timeLogged,orig,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,vmta,jobId,envId"
        );
        let default = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,\
                       srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,\
                       vmtaPool";
        assert_eq!(names(&acct_file("a.csv", &[Kind::Delivered, Kind::Bounced])), default);
        assert_eq!(names(&acct_file("a.csv", &[Kind::Delivered, Kind::Bounced, Kind::Transient])), default);
        let all = names(&acct_file("a.csv", &[Kind::Delivered, Kind::Bounced, Kind::Received]));
        assert_eq!(all, default.replace("srcMta,", "srcMta,rcvSourceIp,rcvDestinationIp,"));
    }

    #[test]
    fn a_header_stands_in_for_a_field_where_it_is_there() {
        let mut f = acct_file("a.csv", &[Kind::Delivered, Kind::Bounced]);
        let map = |header: &str| crate::config::HeaderToField {
            kind: Kind::Delivered,
            header: header.into(),
            field: "jobId",
        };
        f.map_header_to_field = vec![map("X-First"), map("X-Second")];
        let c = Columns::of(&f).unwrap();
        let column = c.iter().find(|c| c.name == "jobId").unwrap();
        let mut headers = crate::event::record::PairsBuf::default();
        headers.push("x-second", "two");
        let two = headers.clone();
        headers.push("x-first", "one");
        let e = Event { job: "own", headers: headers.as_pairs(), ..Event::new(Kind::Delivered, Time(1)) };
        assert_eq!(c.value(column, &e), Value::Text("one"), "the first that is listed, not the first in the message");
        assert_eq!(c.value(column, &Event { headers: two.as_pairs(), ..e }), Value::Text("two"));
        assert_eq!(c.value(column, &Event { headers: Pairs::EMPTY, ..e }), Value::Text("own"));
        assert_eq!(c.value(column, &Event { kind: Kind::Bounced, ..e }), Value::Text("own"), "of another type");
        f.format = AcctFormat::Parquet;
        f.map_header_to_field = vec![crate::config::HeaderToField { field: "dlvSize", ..map("X-Size") }];
        assert!(Columns::of(&f).unwrap_err()[0].to_string().contains("no text"));
    }

    #[test]
    fn a_star_can_be_narrowed_and_widened_and_type_stays_first() {
        let mut f = acct_file("a.csv", &[Kind::TransientQueue]);
        f.record_fields.insert(Kind::TransientQueue, fields("*,!dsnMta,!type,userstring,header_X-A"));
        assert_eq!(
            names(&f),
            "type,timeLogged,dsnStatus,dsnDiag,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue,userString,header_X-A"
        );
        f.record_fields.insert(Kind::TransientQueue, fields("!dsnMta"));
        assert!(names(&f).starts_with("type,timeLogged,dsnStatus,dsnDiag,dlvType,"));
    }

    #[test]
    fn our_columns_stand_behind_and_strict_leaves_them_out() {
        let mut f = acct_file("a.csv", &[Kind::Delivered]);
        let strict = names(&f);
        f.strict_columns = false;
        assert_eq!(names(&f), format!("{strict},eventId,messageId,rcptIndex,attempt,inDoubt,provider"));
        f.record_fields.insert(Kind::Delivered, fields("rcpt,queueMs,!attempt"));
        assert_eq!(names(&f), "type,rcpt,queueMs,eventId,messageId,rcptIndex,inDoubt,provider");
    }

    #[test]
    fn a_misspelt_field_is_refused_with_the_nearest_name() {
        let mut f = acct_file("a.csv", &[Kind::Delivered]);
        f.record_fields.insert(Kind::Delivered, fields("dsnStatsu,zzzzzzzzzz,headers"));
        let errors = Columns::of(&f).unwrap_err();
        assert_eq!(errors[0].to_string(), "record-fields d: \"dsnStatsu\" is no field; did you mean dsnStatus?");
        assert!(errors[1].to_string().contains("schemas/"));
        assert!(errors[2].to_string().contains("header_NAME"));
    }

    #[test]
    fn parquet_has_the_whole_table_unless_fields_are_chosen() {
        let mut f = acct_file("a.parquet", &[Kind::Delivered]);
        assert_eq!(Columns::of(&f).unwrap().iter().count(), FIELDS.len());
        f.record_fields.insert(Kind::Delivered, fields("header_X-A,rcpt"));
        assert_eq!(names(&f), "type,timeLogged,rcpt,headers,eventId");
    }
}
