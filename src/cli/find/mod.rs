//! `carom find`: records of accounting files by what is in them, as acctfind finds them.

mod show;
mod sorted;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use super::Failure;
use super::acct_input::{Progress, complain, inputs};
use crate::event::fields::FIELDS;
use crate::event::{Kind, Kinds, Time};
use crate::history::find::Match;
use crate::history::{Cell, Row, Scan, all_columns, names, spans, times};
use show::{Format, Shown};
use sorted::{SortKey, Sorted};

const HELP: &str = "\
Usage: carom find [OPTION]... FILE...

FILE is a CSV or Parquet file (PowerMTA's or Carom's, .gz and .zst too), a folder with all below it,
a quoted pattern ('acct/date=2026-05-*/*.parquet'), or - for standard input (CSV).

Which records (default: --delivered --bounced):
  --delivered --bounced --deferred --received --remote (rb, rs) --feedback --all
  --records LIST           of d,b,t,tq,r,rb,rs,f
  --last SPAN              only the last SPAN, such as 3h15m or 2d
  --since, --until TIME    from, before: 2026-05-01, '2026-05-01 08:00:00+0000', 1714550400
  --match [F1,F2]PATTERN   only records with PATTERN in one of these fields (none: in any)
  --FIELD PATTERN          the same for one field: --to, --from, --dsnStatus, --jobId, --dstIp,
                           --timeDelivered, --header:X-Campaign, ...; --dsn-status is --dsnStatus
                           All must match. PATTERN is text to be contained, or m/REGEX/; case does not
                           matter.

What is shown:
  --output FORMAT[FIELDS]  standard, csv, tsv, html, xml, prettyxml, json (one object a line), or
                           custom[{field} ...] with fields in braces, \\t and \\n
                           standard, csv, tsv, html and xml without fields show all that the files have
  --json                   --output json
  --sortBy FIELD           in order of a field, -FIELD backwards; what does not fit into 64 MB of memory is
                           sorted in files in $TMPDIR
  --limit N                the first N
  --count                  only how many
  --iso-times              times as YYYY-MM-DD HH:MM:SS+0000, however the file has them
  --quiet                  no progress
  --help                   this text

Files are read once from front to back in bounded memory. --status and --mta (acctfind's run status
and MTA records) are known, but no CSV or Parquet file holds such records.

Examples:
  carom find --to ann@example.net /var/log/carom/acct
  carom find --bounced --dsnStatus m/^5\\./ --output csv[to,dsnStatus,dsnDiag] acct.csv
  carom find --all --match '[jobId,header_X-Campaign]spring' --last 1d --json 'acct/**/*.parquet'
  carom find --bounced --count --dsnDiag 'mailbox full' acct/

Exit code: 0 found; 1 nothing found; 2 the arguments are wrong, or a file could not be read.";

/// Arguments of `carom find`; read by [`parse`], because every field is an option.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_help = HELP)]
pub struct Args {
    /// Options and files
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(super) words: Vec<String>,
}

#[derive(Debug)]
struct Asked {
    kinds: Kinds,
    matches: Vec<Match>,
    format: Format,
    fields: Vec<String>,
    sort: Option<(String, bool)>,
    limit: Option<u64>,
    count: bool,
    iso_times: bool,
    quiet: bool,
    last: Option<i64>,
    since: Option<Time>,
    until: Option<Time>,
    files: Vec<String>,
    notes: Vec<&'static str>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.words.is_empty() || args.words.iter().any(|w| matches!(w.as_str(), "--help" | "-h")) {
        say!("{HELP}")?;
        return Ok(if args.words.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS });
    }
    let (asked, inputs) = match parse(&args.words).and_then(|a| {
        let inputs = inputs(&a.files).map_err(|e| e.to_string())?;
        Ok((a, inputs))
    }) {
        Ok(both) => both,
        Err(why) => {
            eprintln!("carom: {why}; see carom find --help");
            return Ok(ExitCode::from(2));
        }
    };
    asked.notes.iter().for_each(|note| eprintln!("carom: {note}"));

    // The columns: the type, those shown, those sorted by, those searched.
    let searches_all = asked.matches.iter().any(|m| m.fields.is_empty());
    let all = if searches_all || asked.fields.is_empty() { all_columns(&inputs) } else { Vec::new() };
    let shown = if asked.fields.is_empty() { all.clone() } else { asked.fields.clone() };
    let mut columns: Vec<String> = vec!["type".to_owned()];
    let mut place = |name: &str| {
        columns.iter().position(|c| names::same(c, name)).unwrap_or_else(|| {
            columns.push(name.to_owned());
            columns.len() - 1
        })
    };
    let shown: Vec<Shown> = shown.iter().map(|name| Shown::new(name, place(name))).collect();
    let sort = asked.sort.as_ref().map(|(name, backwards)| (place(name), *backwards));
    let places: Vec<Vec<usize>> = asked
        .matches
        .iter()
        .map(|m| if m.fields.is_empty() { &all } else { &m.fields }.iter().map(|f| place(f)).collect())
        .collect();
    #[expect(clippy::disallowed_methods, reason = "edge: --last counts from now")]
    let now = Time::from(jiff::Timestamp::now());
    let since = asked.last.map(|span| Time(now.0 - span)).or(asked.since);
    let scan = Scan::new(&columns).between(since, asked.until);

    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut printer = show::Printer::new(asked.format.clone(), shown, asked.iso_times);
    let mut buffer = Vec::new();
    if !asked.count {
        printer.begin(&mut buffer);
    }
    let mut sorted = sort.filter(|_| !asked.count).map(|(_, backwards)| Sorted::new(backwards, asked.limit));
    let (mut found, mut failed) = (0u64, None);
    let mut scratch = String::new();
    let progress = Progress::over(&inputs, asked.quiet);
    let report = scan.run(&inputs, &mut |bytes| progress.add(bytes), &mut |row| {
        let wanted = row.kind(0).is_some_and(|k| asked.kinds.contains(k))
            && asked.matches.iter().zip(&places).all(|(m, at)| m.is_in(row, at, &mut scratch));
        if !wanted {
            return ControlFlow::Continue(());
        }
        found += 1;
        if let (Some((column, _)), Some(sorted)) = (sort, &mut sorted) {
            let mut text = Vec::new();
            printer.record(row, &mut text);
            return match sorted.push(sort_key(row, column), text) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            };
        }
        if !asked.count {
            printer.record(row, &mut buffer);
            if buffer.len() > 1 << 15 {
                if let Err(e) = out.write_all(&buffer) {
                    failed = Some(e);
                    return ControlFlow::Break(());
                }
                buffer.clear();
            }
        }
        // A count is of all there are.
        let done = !asked.count && asked.limit.is_some_and(|limit| found >= limit);
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    if let Some(e) = failed {
        return Err(e.into());
    }
    if asked.count {
        writeln!(out, "{found}")?;
    } else {
        if let Some(sorted) = sorted {
            out.write_all(&buffer)?;
            buffer.clear();
            sorted.finish(&mut |text| out.write_all(text))?;
        }
        printer.end(&mut buffer);
        out.write_all(&buffer)?;
    }
    out.flush()?;
    complain(&report);
    let code = if report.failed.is_empty() { u8::from(found == 0) } else { 2 };
    Ok(ExitCode::from(code))
}

/// The columns of a row that hold something, typed as the field table says.
pub(super) fn record_json(row: &Row<'_>, columns: &[&str]) -> serde_json::Map<String, serde_json::Value> {
    let typed = |(i, name): (usize, &&str)| {
        let ty = crate::event::fields::Field::by_name(name).map(|f| f.ty);
        Some(((*name).to_owned(), show::json(row.cell(i), ty)?))
    };
    columns.iter().enumerate().filter_map(typed).collect()
}

fn sort_key(row: &Row<'_>, column: usize) -> SortKey {
    match row.cell(column) {
        Cell::Time(t) => SortKey::Number(t.0),
        Cell::Number(n) => SortKey::Number(n),
        Cell::Text(text) => match (text.parse(), times::parse(text)) {
            (Ok(n), _) => SortKey::Number(n),
            (Err(_), Some(t)) => SortKey::Number(t.0),
            _ => SortKey::Text(text.to_lowercase()),
        },
        cell => {
            let mut text = String::new();
            cell.push_text(&mut text);
            SortKey::Text(text)
        }
    }
}

fn parse(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        kinds: Kinds::default(),
        matches: Vec::new(),
        format: Format::Standard,
        fields: Vec::new(),
        sort: None,
        limit: None,
        count: false,
        iso_times: false,
        quiet: false,
        last: None,
        since: None,
        until: None,
        files: Vec::new(),
        notes: Vec::new(),
    };
    let mut words = words.iter();
    let mut only_files = false;
    let mut other_class = false;
    while let Some(word) = words.next() {
        if only_files || !word.starts_with("--") {
            asked.files.push(word.clone());
            continue;
        }
        if word == "--" {
            only_files = true;
            continue;
        }
        let (name, mut attached) = match word.split_once('=') {
            Some((name, value)) => (&name[2..], Some(value.to_owned())),
            None => (&word[2..], None),
        };
        let mut value =
            || attached.take().or_else(|| words.next().cloned()).ok_or_else(|| format!("--{name} needs a value"));
        let option: String = name.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect();
        let mut class = |kinds: &[Kind]| kinds.iter().for_each(|k| asked.kinds = asked.kinds.with(*k));
        match option.as_str() {
            "delivered" => class(&[Kind::Delivered]),
            "bounced" => class(&[Kind::Bounced]),
            "deferred" => class(&[Kind::Transient, Kind::TransientQueue]),
            "received" => class(&[Kind::Received]),
            "remote" => class(&[Kind::RemoteBounce, Kind::RemoteStatus]),
            "feedback" => class(&[Kind::Feedback]),
            "all" => class(Kind::ALL),
            "records" => {
                for part in value()?.split(',') {
                    let kind = names::kind(part.trim())
                        .ok_or_else(|| format!("--records {part}: of d, b, t, tq, r, rb, rs, f"))?;
                    asked.kinds = asked.kinds.with(kind);
                }
            }
            "status" | "mta" => {
                other_class = true;
                asked.notes.push("CSV and Parquet files hold no run status and no MTA records");
            }
            "match" => asked.matches.push(Match::parse(&value()?).map_err(|e| format!("--match {e}"))?),
            "output" => (asked.format, asked.fields) = show::parse(&value()?)?,
            "json" => asked.format = Format::Json,
            "sortby" => {
                let field = value()?;
                let backwards = field.starts_with('-');
                asked.sort = Some((known(field.trim_start_matches('-'))?, backwards));
            }
            "limit" => asked.limit = Some(value()?.parse().map_err(|_| "--limit: a number is wanted")?),
            "count" => asked.count = true,
            "isotimes" => asked.iso_times = true,
            "quiet" => asked.quiet = true,
            "last" => asked.last = Some(spans::parse(&value()?).map_err(|e| format!("--last: {e}"))?),
            "since" | "until" => {
                let text = value()?;
                let time = times::parse(&text).ok_or_else(|| format!("--{name} {text}: no time; write 2026-05-01"))?;
                if option == "since" { asked.since = Some(time) } else { asked.until = Some(time) }
            }
            _ => {
                let field = known(name)?;
                asked.matches.push(Match::of(&[&field], &value()?).map_err(|e| format!("--{name} {e}"))?);
            }
        }
    }
    if asked.kinds.is_empty() && !other_class {
        asked.kinds = Kinds::of(&[Kind::Delivered, Kind::Bounced]);
    }
    if asked.files.is_empty() {
        return Err("no files given".to_owned());
    }
    Ok(asked)
}

/// The canonical name of a field as people write it: in any case, as an alias, in kebab case; headers by their prefix.
pub(super) fn known(name: &str) -> Result<String, String> {
    let canonical = names::canonical(name);
    let lower = canonical.to_lowercase();
    if lower.starts_with("header_") || lower.starts_with("arf_") {
        return Ok(canonical);
    }
    let letters = lower.replace('-', "");
    let other = ["timeImprinted"];
    FIELDS
        .iter()
        .map(|f| f.name)
        .chain(other)
        .find(|f| f.eq_ignore_ascii_case(&letters))
        .map(str::to_owned)
        .or_else(|| names::aliases().find(|(a, _)| a.replace('-', "") == letters).map(|(_, meant)| meant.to_owned()))
        .ok_or_else(|| {
            let near = FIELDS.iter().map(|f| f.name).find(|f| {
                let f = f.to_lowercase();
                f.starts_with(&letters) || letters.starts_with(&f) || f.contains(&letters)
            });
            let hint = near.map_or(String::new(), |f| format!(" (did you mean --{f}?)"));
            format!("unknown option or field --{name}{hint}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_field_and_alias_is_an_option() {
        let a = asked(
            "--to ann --dsn-status m/^5/ --header:X-Job spring --dstIp=192 --timeDelivered 2026 --sortBy -from \
             --output csv[to,dsnDiag] acct.csv",
        )
        .unwrap();
        let fields: Vec<_> = a.matches.iter().map(|m| m.fields[0].as_str()).collect();
        assert_eq!(fields, ["rcpt", "dsnStatus", "header_X-Job", "dlvDestinationIp", "timeLogged"]);
        assert_eq!(a.sort, Some(("orig".to_owned(), true)));
        assert_eq!(a.fields, ["rcpt", "dsnDiag"]);
        assert_eq!(a.kinds, Kinds::of(&[Kind::Delivered, Kind::Bounced]));
        for field in FIELDS {
            assert_eq!(known(field.name).as_deref(), Ok(field.name));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("--dsnStat x a.csv", "did you mean --dsnStatus"),
            ("--records d,z a.csv", "of d, b"),
            ("--output pdf a.csv", "pdf"),
            ("--to m/(/ a.csv", "m/(/"),
            ("--bounced", "no files"),
        ] {
            assert!(asked(line).unwrap_err().contains(why), "{line}: {:?}", asked(line));
        }
    }
}
