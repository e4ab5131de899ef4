//! `carom stats`: what pmtastats gives, over CSV and Parquet.

use std::ops::ControlFlow;
use std::process::ExitCode;

use jiff::tz::TimeZone;

use super::Failure;
use super::acct_input::{Progress, complain, inputs};
use crate::event::Time;
use crate::history::spans;
use crate::history::stats::{CategoryOptions, Detail, Request, Statistic, Statistics, html, json, text};

const HELP: &str = "\
Usage: carom stats [OPTION]... [STATISTIC [OPTION]...]... FILE...

FILE is a CSV or Parquet file (PowerMTA's or Carom's, .gz and .zst too), a folder with all below it,
a quoted pattern ('acct/date=2026-05-*/*.parquet'), or - for standard input (CSV).
Options behind a statistic belong to it. Names may be written in either way: --byJobId, --by-job-id.

Statistics (without any: those of --acctstats):
  message-counts         deliveries, bounces, kilobytes, sizes
  delivery-times         the fastest 50 ... 100 %, histograms
  top-domains            most recipients, most bounces, slowest  [--topDomains N, --noDeliveryTimes]
  top-rates              peak recipients and kbytes over 1 min, 5 min, 1 h; over everything, never split
  top-bounce             domains by bounces, and the reasons     [--topDomains N, --topStatusCodes N]
  bounce-categories      [--topCategories N, --bounceCat N|NAME|all, --byDsn N, --byDomain N,
                         --byDsnAndDomain N]
  vmta-summary           [--byDate]
  vmta-time-breakdown    by day and hour [--noHourly]
  vmta-top-bounce        [--topBounced N, --byDate]
  deferrals              attempts put off (t records)            [--top N]
  remote                 bounces reported later (rb records)     [--top N]
  complaints             feedback reports (f records)            [--top N]

Options:
  --all                  every statistic
  --acctstats            message-counts delivery-times top-domains top-rates top-bounce bounce-categories
  --envId, --from, --toDomain, --jobId, --vmta, --rcvSmtpUser VALUE
                         only records whose value starts with VALUE, whatever the case
  --header NAME CONTENT  only records with this header (if the files have it) starting with CONTENT
  --last SPAN            only the last SPAN, such as 3h15m or 2d
  --since, --until TIME  only from or before a time: 2026-05-01, '2026-05-01 08:00:00+0000', 1714550400
  --byEnvId, --byJobId, --byFrom, --byVmta, --byHeader NAME
                         one report for each value; only one of them
  --splitLimit N         at most so many values [default: 5000]; records of others are counted, not shown
  --topDomains N         for all statistics
  --output text|html|json, --json
  --utc                  dates and hours in UTC instead of local time
  --quiet                no progress
  --help                 this text

Queue time is timeLogged - timeQueued in whole seconds, of delivered recipients only. 5.X.X and 4.X.X are by
dsnStatus, or by the reply where it has no code. Times without an offset are taken as UTC. Memory is
bounded: each statistic tells 200,000 names apart (split: a million shared by --splitLimit groups, 200 at
least); where that was not enough the report says so.

Examples:
  carom stats /var/log/carom/acct
  carom stats --all --last 1d --output html 'acct/**/*.parquet' > report.html
  carom stats --byJobId message-counts bounce-categories --bounceCat all acct-2026-05-01-*.csv
  carom stats --toDomain gmail. top-bounce --topStatusCodes 30 acct.csv

Exit code: 0 done; 1 nothing could be read; 2 the arguments are wrong, or some file could not be read.";

/// Arguments of `carom stats`; read by [`parse`], because options belong to the statistic they follow.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_help = HELP)]
pub struct Args {
    /// Options, statistics and their options, files
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(super) words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Text,
    Html,
    Json,
}

#[derive(Debug)]
struct Asked {
    request: Request,
    files: Vec<String>,
    output: Output,
    quiet: bool,
    last: Option<i64>,
    since: Option<Time>,
    until: Option<Time>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let wants_help = |w: &String| matches!(w.as_str(), "--help" | "-h");
    if args.words.is_empty() || args.words.iter().any(wants_help) {
        say!("{HELP}")?;
        return Ok(if args.words.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS });
    }
    let asked = match parse(&args.words) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("carom: {why}; see carom stats --help");
            return Ok(ExitCode::from(2));
        }
    };
    let inputs = match inputs(&asked.files) {
        Ok(inputs) => inputs,
        Err(why) => {
            eprintln!("carom: {why}");
            return Ok(ExitCode::from(2));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "edge: --last counts from now")]
    let now = Time::from(jiff::Timestamp::now());
    let since = asked.last.map(|span| Time(now.0 - span)).or(asked.since);
    let scan = asked.request.scan().between(since, asked.until);
    let zone = asked.request.zone.clone();
    let mut statistics = Statistics::new(asked.request);
    let progress = Progress::over(&inputs, asked.quiet);
    let report = scan.run(&inputs, &mut |bytes| progress.add(bytes), &mut |row| {
        statistics.add(row);
        ControlFlow::Continue(())
    });
    drop(progress);
    let page = statistics.page();
    match asked.output {
        Output::Text => print(&text::render(&page, &zone))?,
        Output::Html => print(&html::render(&page, &zone))?,
        Output::Json => {
            let mut value = json::render(&page);
            value["read"] = super::acct_input::as_json(&report);
            say!("{}", serde_json::to_string_pretty(&value)?)?;
        }
    }
    Ok(complain(&report))
}

fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// Reads the words. An option is known by its letters alone, so that `--by-job-id` is `--byJobId`.
fn parse(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        request: Request {
            statistics: Vec::new(),
            filters: Vec::new(),
            split: None,
            split_limit: 5000,
            zone: TimeZone::system(),
        },
        files: Vec::new(),
        output: Output::Text,
        quiet: false,
        last: None,
        since: None,
        until: None,
    };
    let mut top_domains = None;
    let mut own_top_domains = Vec::new();
    let mut words = words.iter().peekable();
    let mut only_files = false;
    while let Some(word) = words.next() {
        if only_files || !word.starts_with("--") {
            match Statistic::by_name(word).filter(|_| !only_files && asked.files.is_empty()) {
                Some(statistic) => asked.request.statistics.push(statistic),
                None => asked.files.push(word.clone()),
            }
            continue;
        }
        if word == "--" {
            only_files = true;
            continue;
        }
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let option: String = name.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect();
        let mut attached = attached;
        let mut value =
            || attached.take().or_else(|| words.next().cloned()).ok_or_else(|| format!("{name} needs a value"));
        // Its own options first, where the statistic they follow knows them.
        if let Some(statistic) = asked.request.statistics.last_mut()
            && own(statistic, &option, &mut value)?
        {
            if option == "topdomains" {
                own_top_domains.push(asked.request.statistics.len() - 1);
            }
            continue;
        }
        let request = &mut asked.request;
        match option.as_str() {
            "all" => request.statistics.extend(Statistic::all()),
            "acctstats" => request.statistics.extend(Statistic::acctstats()),
            "envid" | "from" | "todomain" | "jobid" | "vmta" | "rcvsmtpuser" => {
                request.filters.push((name.trim_start_matches('-').replace('-', ""), value()?));
            }
            "header" => {
                let header = value()?;
                let content = words.next().cloned().ok_or("--header needs a name and what it starts with")?;
                request.filters.push((format!("header_{header}"), content));
            }
            "byenvid" | "byjobid" | "byfrom" | "byvmta" | "byheader" => {
                if request.split.is_some() {
                    return Err("only one --by... at a time".to_owned());
                }
                request.split = Some(match option.as_str() {
                    "byenvid" => "envId".to_owned(),
                    "byjobid" => "jobId".to_owned(),
                    "byfrom" => "orig".to_owned(),
                    "byvmta" => "vmta".to_owned(),
                    _ => format!("header_{}", value()?),
                });
            }
            "splitlimit" => request.split_limit = count(name, &value()?)?.max(1),
            "topdomains" => top_domains = Some(count(name, &value()?)?),
            "last" => asked.last = Some(spans::parse(&value()?).map_err(|e| format!("--last: {e}"))?),
            "since" => asked.since = Some(time(name, &value()?)?),
            "until" => asked.until = Some(time(name, &value()?)?),
            "utc" => request.zone = TimeZone::UTC,
            "quiet" => asked.quiet = true,
            "json" => asked.output = Output::Json,
            "output" => {
                asked.output = match value()?.to_ascii_lowercase().as_str() {
                    "text" => Output::Text,
                    "html" => Output::Html,
                    "json" => Output::Json,
                    other => return Err(format!("--output {other}: text, html or json")),
                };
            }
            _ => {
                let of = request.statistics.last().map_or(String::new(), |s| format!(" (of {} neither)", s.name()));
                return Err(format!("unknown option {name}{of}"));
            }
        }
    }
    if asked.files.is_empty() {
        return Err("no files given".to_owned());
    }
    if asked.request.statistics.is_empty() {
        asked.request.statistics = Statistic::acctstats();
    }
    if let Some(n) = top_domains {
        for (i, statistic) in asked.request.statistics.iter_mut().enumerate() {
            if !own_top_domains.contains(&i) {
                set_top_domains(statistic, n);
            }
        }
    }
    Ok(asked)
}

/// Sets an option of `statistic`; whether it has one of this name.
fn own(
    statistic: &mut Statistic,
    option: &str,
    value: &mut dyn FnMut() -> Result<String, String>,
) -> Result<bool, String> {
    let name = format!("--{option}");
    let mut number = || count(&name, &value()?);
    match (statistic, option) {
        (Statistic::BounceCategories(CategoryOptions { top, .. }), "topcategories") => *top = number()?,
        (Statistic::BounceCategories(CategoryOptions { by, .. }), "bydsn") => by.0 = number()?,
        (Statistic::BounceCategories(CategoryOptions { by, .. }), "bydomain") => by.1 = number()?,
        (Statistic::BounceCategories(CategoryOptions { by, .. }), "bydsnanddomain") => by.2 = number()?,
        (Statistic::BounceCategories(CategoryOptions { detail, .. }), "bouncecat") => {
            let value = value()?;
            *detail = match value.parse() {
                Ok(n) => Detail::Top(n),
                Err(_) if value.eq_ignore_ascii_case("all") => Detail::All,
                Err(_) => Detail::Named(value),
            };
        }
        (Statistic::TopBounce(top, _) | Statistic::TopDomains(top, _), "topdomains") => *top = number()?,
        (Statistic::TopBounce(_, codes), "topstatuscodes") => *codes = number()?,
        (Statistic::TopDomains(_, times), "nodeliverytimes") => *times = false,
        (Statistic::VmtaSummary(by_date) | Statistic::VmtaTopBounce(_, by_date), "bydate") => *by_date = true,
        (Statistic::VmtaTimeBreakdown(hourly), "nohourly") => *hourly = false,
        (Statistic::VmtaTopBounce(top, _), "topbounced") => *top = number()?,
        (Statistic::Beyond(_, top), "top") => *top = number()?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The global `--topDomains` for what lists domains.
fn set_top_domains(statistic: &mut Statistic, n: usize) {
    match statistic {
        Statistic::TopBounce(top, _)
        | Statistic::TopDomains(top, _)
        | Statistic::VmtaTopBounce(top, _)
        | Statistic::Beyond(_, top) => *top = n,
        Statistic::BounceCategories(o) => o.by.1 = n,
        _ => {}
    }
}

fn count(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name} {value}: a number is wanted"))
}

fn time(name: &str, value: &str) -> Result<Time, String> {
    crate::history::times::parse(value)
        .ok_or_else(|| format!("{name} {value}: no time; write 2026-05-01 or '2026-05-01 08:00:00+0000'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_belong_to_the_statistic_they_follow() {
        let a = asked(
            "--from news --by-job-id --topDomains 7 top-bounce --topStatusCodes 3 top-domains --topDomains 2 \
             bounce-categories --bounceCat all --byDsn=4 vmta-top-bounce --byDate --last 3h15m x.csv message-counts",
        )
        .unwrap();
        assert_eq!(a.request.filters, [("from".to_owned(), "news".to_owned())]);
        assert_eq!(a.request.split.as_deref(), Some("jobId"));
        assert_eq!(
            a.request.statistics,
            [
                Statistic::TopBounce(7, 3),
                Statistic::TopDomains(2, true),
                Statistic::BounceCategories(CategoryOptions { top: 10, detail: Detail::All, by: (4, 7, 10) }),
                Statistic::VmtaTopBounce(7, true),
            ]
        );
        assert_eq!(a.last, Some(11_700_000_000));
        assert_eq!(a.files, ["x.csv", "message-counts"], "behind the first file all are files");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("--byJobId --byVmta x.csv", "only one"),
            ("delivery-times --byDate x.csv", "unknown option --byDate (of delivery-times neither)"),
            ("--last soon x.csv", "--last"),
            ("--all", "no files"),
            ("--since yesterday x.csv", "no time"),
            ("top-domains --topDomains many x.csv", "a number"),
            ("--header X-Job", "--header needs"),
        ] {
            assert!(asked(line).unwrap_err().contains(why), "{line}: {:?}", asked(line));
        }
    }
}
