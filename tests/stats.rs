//! An analyst asks accounting files: `carom stats` and `carom find` over CSV and Parquet, with answers known beforehand.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: tests run the program on files")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::Value;

/// Twelve records whose statistics can be worked out by hand. PowerMTA's columns of version 5, and a header.
const ROWS: &str = "\
type,timeLogged,timeQueued,orig,rcpt,dsnStatus,dsnDiag,dsnMta,bounceCat,dlvSourceIp,dlvSize,vmta,jobId,header_X-Campaign,feedbackType,reportingMta
d,2026-05-01 08:00:05+0000,2026-05-01 08:00:00+0000,news@a.example,ann@b.example,2.0.0 (success),smtp;250 ok,mx.b.example (198.51.100.1),,192.0.2.1,1024,v1,j1,spring,,
d,2026-05-01 08:00:20+0000,2026-05-01 08:00:00+0000,news@a.example,bob@B.example,2.0.0 (success),smtp;250 ok,mx.b.example (198.51.100.1),,192.0.2.1,2048,v1,j1,spring,,
d,2026-05-01 08:00:45+0000,2026-05-01 08:00:00+0000,news@a.example,cy@c.example,2.0.0 (success),smtp;250 ok,mx.c.example (198.51.100.2),,192.0.2.2,3072,v2,j2,summer,,
d,2026-05-01 09:00:45+0000,2026-05-01 08:00:45+0000,shop@a.example,dee@c.example,2.0.0 (success),smtp;250 ok,mx.c.example (198.51.100.2),,192.0.2.2,1024,v2,j2,summer,,
b,2026-05-01 08:01:00+0000,2026-05-01 08:00:00+0000,news@a.example,eve@b.example,5.1.1 (bad destination mailbox address),smtp;550 5.1.1 <eve@b.example> unknown id 4f3a2b1c9d,mx.b.example (198.51.100.1),bad-mailbox,192.0.2.1,,v1,j1,spring,,
b,2026-05-01 08:01:01+0000,2026-05-01 08:00:00+0000,news@a.example,fay@b.example,5.1.1 (bad destination mailbox address),smtp;550 5.1.1 <fay@b.example> unknown id 9d8c7b6a5f,mx.b.example (198.51.100.1),bad-mailbox,192.0.2.1,,v1,j1,spring,,
b,2026-05-01 10:01:01+0000,2026-05-01 08:00:00+0000,shop@a.example,gus@d.example,5.7.1 (delivery not authorized),smtp;554 5.7.1 spam from 192.0.2.2,mx.d.example (198.51.100.3),spam-related,192.0.2.2,,v2,j2,summer,,
b,2026-05-01 10:30:00+0000,2026-05-01 08:00:00+0000,shop@a.example,hal@d.example,4.4.7 (delivery time expired),smtp;451 try later,mx.d.example (198.51.100.3),message-expired,192.0.2.2,,v2,j2,summer,,
t,2026-05-01 08:00:30+0000,2026-05-01 08:00:00+0000,shop@a.example,hal@d.example,4.7.0 (other),smtp;451 try later,mx.d.example (198.51.100.3),policy-related,192.0.2.2,,v2,j2,summer,,
r,2026-05-01 08:00:00+0000,,news@a.example,ann@b.example,,,,,,,v1,j1,spring,,
rb,2026-05-01 11:00:00+0000,,news@a.example,ann@b.example,5.2.2 (mailbox full),smtp;552 full,mx.b.example,quota-issues,,,,j1,,,
f,2026-05-01 12:00:00+0000,,news@a.example,bob@b.example,,,,,192.0.2.1,,,j1,,abuse,fbl.b.example
";

/// The same records in both formats.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("acct.csv"), ROWS.replace('\n', "\r\n")).unwrap();
        parquet(&dir.path().join("acct.parquet"));
        Files { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn cells() -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (header, reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect())
}

/// Typed as Carom's own files are: times, numbers, nulls, the header in a map.
fn parquet(path: &Path) {
    let (header, rows) = cells();
    let column = |at: usize| rows.iter().map(move |r| Some(r[at].as_str()).filter(|c| !c.is_empty()));
    let micros = |text: &str| {
        jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S%z", text).unwrap().to_timestamp().unwrap().as_microsecond()
    };
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    for (at, name) in header.iter().enumerate() {
        let array: ArrayRef = match name.as_str() {
            "timeLogged" | "timeQueued" => Arc::new(
                // Fractions, as the ledger has them: they are not to change whole seconds.
                column(at)
                    .map(|c| c.map(|c| micros(c) + 250_000))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            "dlvSize" => Arc::new(column(at).map(|c| c.map(|c| c.parse::<i64>().unwrap())).collect::<Int64Array>()),
            "header_X-Campaign" => {
                let names =
                    arrow::array::MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
                let text = arrow::array::StringBuilder::new;
                let mut map = arrow::array::MapBuilder::new(Some(names), text(), text());
                for cell in column(at) {
                    if let Some(cell) = cell {
                        map.keys().append_value("x-campaign");
                        map.values().append_value(cell);
                    }
                    map.append(true).unwrap();
                }
                columns.push(("headers".into(), Arc::new(map.finish()), true));
                continue;
            }
            _ => Arc::new(column(at).collect::<StringArray>()),
        };
        columns.push((name.clone(), array, true));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn carom(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_carom")).env("TZ", "UTC").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stats").join(name)
}

/// `CAROM_WRITE_GOLDEN=1` writes it anew; look at the difference.
fn compare(name: &str, got: &str) {
    let path = golden(name);
    if std::env::var("CAROM_WRITE_GOLDEN").is_ok() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(got == want, "not what {} says:\n{got}", path.display());
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&carom(arguments))).unwrap()
}

fn table<'v>(page: &'v Value, statistic: &str, title: &str) -> &'v Vec<Value> {
    let group = &page["groups"][0]["statistics"][statistic];
    let tables = if group.is_null() { &page["global"][statistic] } else { group };
    tables.as_array().unwrap().iter().find(|t| t["title"] == title).unwrap_or_else(|| panic!("{title}: {tables}"))["rows"]
        .as_array()
        .unwrap()
}

#[test]
fn a_folder_that_holds_the_same_records_in_both_formats_counts_them_once_and_says_so() {
    let files = Files::new();
    let folder = files.dir.path().display().to_string();
    let both = carom(&["find", "--count", &folder]);
    assert_eq!(String::from_utf8_lossy(&both.stdout).trim(), "8");
    assert!(String::from_utf8_lossy(&both.stderr).contains("1 CSV files are left out"));
    let named = carom(&["find", "--count", &files.path("acct.csv"), &files.path("acct.parquet")]);
    assert_eq!(String::from_utf8_lossy(&named.stdout).trim(), "16", "what is named is read");
}

#[test]
fn csv_and_parquet_of_the_same_records_give_the_same_statistics() {
    let files = Files::new();
    for (output, name) in [("text", "all.txt"), ("html", "all.html")] {
        let of = |file: &str| text(&carom(&["stats", "--all", "--output", output, &files.path(file)]));
        let csv = of("acct.csv");
        // Times are shown in whole seconds.
        assert_eq!(csv, of("acct.parquet"));
        compare(name, &csv);
    }
    let split = |file: &str| {
        text(&carom(&["stats", "--byHeader", "X-Campaign", "message-counts", "top-bounce", &files.path(file)]))
    };
    assert_eq!(split("acct.csv"), split("acct.parquet"));
    compare("by-campaign.txt", &split("acct.csv"));
}

#[test]
fn every_statistic_is_what_one_works_out_by_hand() {
    let files = Files::new();
    let page = json(&["stats", "--all", "bounce-categories", "--bounceCat", "all", "--json", &files.path("acct.csv")]);
    let frame = &page["groups"][0]["timeFrame"];
    assert_eq!(frame[0]["first"], "2026-05-01T08:00:00Z");
    assert_eq!(frame[0]["last"], "2026-05-01T08:00:45Z");
    assert_eq!(frame[1]["first"], "2026-05-01T08:00:05Z");
    assert_eq!(frame[1]["last"], "2026-05-01T10:30:00Z");

    let counts = table(&page, "message-counts", "Message Counts");
    assert_eq!((&counts[0]["recipients"], &counts[0]["kb"]), (&4.into(), &7.0.into()));
    assert_eq!((&counts[1]["recipients"], &counts[2]["recipients"]), (&4.into(), &8.into()));
    let sizes = table(&page, "message-counts", "Message Sizes");
    assert_eq!((&sizes[0]["kb"], &sizes[1]["kb"], &sizes[2]["kb"]), (&1.0.into(), &1.75.into(), &3.0.into()));

    // 5, 20, 45 and 3600 seconds.
    let fastest = table(&page, "delivery-times", "Fastest Deliveries");
    assert_eq!(fastest[0]["recipients"], 2);
    assert_eq!((&fastest[0]["avg"], &fastest[0]["max"]), (&12.5.into(), &20.0.into()));
    assert_eq!((&fastest[10]["avg"], &fastest[10]["max"]), (&917.5.into(), &3600.0.into()));
    let histogram = table(&page, "delivery-times", "Delivery Time Histogram");
    let by_edge: Vec<u64> = histogram.iter().map(|r| r["recipients"].as_u64().unwrap()).collect();
    assert_eq!(by_edge, [1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    let domains = table(&page, "top-domains", "Domains with the Most Recipients");
    assert_eq!(domains[0]["domain"], "b.example", "whatever its case");
    assert_eq!((&domains[0]["recipients"], &domains[0]["bounced"]), (&4.into(), &2.into()));
    assert_eq!((&domains[0]["avg"], &domains[0]["max"]), (&12.5.into(), &20.0.into()));
    assert_eq!(domains[0]["percentOfRecipients"], 50.0);
    let bounces = table(&page, "top-domains", "Domains with the Most Bounces");
    assert_eq!((&bounces[1]["domain"], &bounces[1]["avg"]), (&"d.example".into(), &Value::Null));

    let rates = table(&page, "top-rates", "Peak Recipients");
    assert_eq!((&rates[0]["recipients"], &rates[0]["from"]), (&3.into(), &"2026-05-01T08:00:00Z".into()));
    assert_eq!((&rates[2]["recipients"], &rates[2]["from"]), (&5.into(), &"2026-05-01T08:00:00Z".into()));
    let kbytes = table(&page, "top-rates", "Peak Kbytes");
    assert_eq!(kbytes[0]["kb"], 6.0);

    let top = table(&page, "top-bounce", "Domains with the Most Bounces");
    assert_eq!(
        (&top[0]["domain"], &top[0]["bounced"], &top[0]["5.X.X"], &top[0]["4.X.X"]),
        (&"b.example".into(), &2.into(), &2.into(), &0.into())
    );
    assert_eq!((&top[1]["5.X.X"], &top[1]["4.X.X"]), (&1.into(), &1.into()));
    let reasons = table(&page, "top-bounce", "Reasons: b.example");
    assert_eq!(reasons.len(), 1, "what varies is no reason: {reasons:?}");
    assert_eq!(reasons[0]["reason"], "5.1.1 550 5.1.1 <<RCPT_USER>> unknown id <HEXDUMP>");
    assert!(
        table(&page, "top-bounce", "Reasons: d.example")
            .iter()
            .any(|r| r["reason"] == "5.7.1 554 5.7.1 spam from <SENDER_IPADDRESS>")
    );

    let total = table(&page, "bounce-categories", "Total Bounced");
    let total: Vec<u64> = total.iter().map(|r| r["recipients"].as_u64().unwrap()).collect();
    assert_eq!(total, [4, 3, 1]);
    let categories = table(&page, "bounce-categories", "Bounce Categories");
    assert_eq!(
        (&categories[0]["category"], &categories[0]["bounced"], &categories[0]["percent"]),
        (&"bad-mailbox".into(), &2.into(), &50.0.into())
    );
    let both = table(&page, "bounce-categories", "bad-mailbox: by DSN code and domain");
    assert_eq!(
        (&both[0]["dsn"], &both[0]["domain"], &both[0]["bounced"]),
        (&"5.1.1".into(), &"b.example".into(), &2.into())
    );

    let vmtas = table(&page, "vmta-summary", "VirtualMTA Summary");
    assert_eq!(
        (&vmtas[0]["vmta"], &vmtas[0]["ip"], &vmtas[0]["delivered"], &vmtas[0]["bounced"]),
        (&"v1".into(), &"192.0.2.1".into(), &2.into(), &2.into())
    );
    assert_eq!((&vmtas[2]["vmta"], &vmtas[2]["recipients"]), (&"total".into(), &8.into()));
    let hours = table(&page, "vmta-time-breakdown", "v2 192.0.2.2: Hourly");
    let hours: Vec<_> =
        hours.iter().map(|r| (r["hour"].as_str().unwrap(), r["recipients"].as_u64().unwrap())).collect();
    assert_eq!(hours, [("2026-05-01 08:00", 1), ("2026-05-01 09:00", 1), ("2026-05-01 10:00", 2)]);
    let top = table(&page, "vmta-top-bounce", "v2 192.0.2.2: Domains by Bounces");
    assert_eq!((top.len(), &top[0]["domain"], &top[0]["bounced"]), (1, &"d.example".into(), &2.into()));

    let remote = table(&page, "remote", "Remote Bounces");
    assert_eq!((&remote[0]["count"], &remote[0]["percentOfDelivered"]), (&1.into(), &25.0.into()));
    let complaints = table(&page, "complaints", "Complaints: by domain");
    assert_eq!(
        (&complaints[0]["domain"], &complaints[0]["count"], &complaints[0]["delivered"]),
        (&"b.example".into(), &1.into(), &2.into())
    );
    assert_eq!(table(&page, "deferrals", "Deferrals")[0]["count"], 1);
}

#[test]
fn filters_keep_what_starts_with_their_value() {
    let files = Files::new();
    for (arguments, recipients) in [
        (&["--from", "NEWS@"][..], 5),
        (&["--toDomain", "c."], 2),
        (&["--job-id", "j1", "--vmta", "v1"], 4),
        (&["--header", "x-campaign", "sum"], 4),
        (&["--since", "2026-05-01 08:01:00", "--until", "2026-05-01 10:30:00"], 4),
        (&["--jobId", "j3"], 0),
    ] {
        for file in ["acct.csv", "acct.parquet"] {
            let path = files.path(file);
            let arguments = [&["stats", "--json"][..], arguments, &["message-counts", &path]].concat();
            let page = json(&arguments);
            assert_eq!(table(&page, "message-counts", "Message Counts")[2]["recipients"], recipients, "{arguments:?}");
        }
    }
}

#[test]
fn more_groups_than_the_limit_are_counted_not_lost_in_silence() {
    let files = Files::new();
    let page = json(&["stats", "--byFrom", "--splitLimit", "1", "--json", "message-counts", &files.path("acct.csv")]);
    assert_eq!(page["groups"].as_array().unwrap().len(), 1);
    assert!(page["notes"][0].as_str().unwrap().contains("4 records of further ones left out"), "{}", page["notes"]);
}

#[test]
fn html_shows_what_a_remote_server_said_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acct.csv");
    std::fs::write(
        &path,
        "type,rcpt,dsnStatus,dsnDiag,bounceCat\nb,a@b.example,5.0.0,\"550 <script>alert(1)</script>\",<b>\n",
    )
    .unwrap();
    let html = text(&carom(&["stats", "--all", "--output", "html", path.to_str().unwrap()]));
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>") && !html.contains("<b><"), "{html}");
}

#[test]
fn bad_rows_and_broken_files_are_named_and_the_rest_is_counted() {
    let files = Files::new();
    let dir = files.dir.path();
    std::fs::write(dir.join("bad.csv"), "type,rcpt\nd,a@b.example\nd\n").unwrap();
    let whole = std::fs::read(dir.join("acct.parquet")).unwrap();
    std::fs::write(dir.join("cut.parquet"), &whole[..whole.len() - 9]).unwrap();
    let output = carom(&["stats", "--json", "message-counts", &files.path("*.csv"), &files.path("cut.parquet")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.csv:3: 1 cells where the header has 2") && said.contains("cut.parquet"), "{said}");
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(table(&page, "message-counts", "Message Counts")[2]["recipients"], 9);
    assert_eq!(page["read"]["badRows"], 1);
}

#[test]
fn what_is_found_is_the_same_in_both_formats_and_every_output() {
    let files = Files::new();
    for (output, name) in [
        ("csv[to,dsnStatus,dsnDiag,header:X-Campaign]", "find.csv"),
        ("tsv[to,dsnDiag]", "find.tsv"),
        ("html[to,dsnDiag]", "find.html"),
        ("xml[to,dsnDiag]", "find.xml"),
        ("prettyxml[to,header:X-Campaign]", "find.pretty.xml"),
        ("standard[to,dsnStatus]", "find.txt"),
        ("custom[{to}\\t{dsnStatus}]", "find.custom"),
        ("json[to,dlvSize,dsnStatus]", "find.json"),
    ] {
        let of = |file: &str| {
            text(&carom(&["find", "--bounced", "--dsnStatus", "m/^5\\./", "--output", output, &files.path(file)]))
        };
        assert_eq!(of("acct.csv"), of("acct.parquet"), "{output}");
        compare(name, &of("acct.csv"));
    }
}

#[test]
fn find_looks_where_it_is_told() {
    let files = Files::new();
    let recipients = |arguments: &[&str]| {
        let found = |file: &str| {
            let path = files.path(file);
            let all = [&["find", "--output", "custom[{to}]"][..], arguments, &[&path]].concat();
            String::from_utf8(carom(&all).stdout)
                .unwrap()
                .lines()
                .map(|l| l[..3].trim_end_matches('@').to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("acct.csv"), found("acct.parquet"), "{arguments:?}");
        found("acct.csv")
    };
    assert_eq!(recipients(&["--match", "[from,to]SHOP"]), ["dee", "gus", "hal"]);
    assert_eq!(recipients(&["--match", "spam-rel"]), ["gus"]);
    assert_eq!(recipients(&["--delivered", "--match", "spring", "--match", "m/^bob/"]), ["bob"]);
    assert_eq!(recipients(&["--records", "rb,f"]), ["ann", "bob"]);
    assert_eq!(recipients(&["--deferred"]), ["hal"]);
    assert_eq!(recipients(&["--delivered", "--sortBy", "-timeLogged", "--limit", "2"]), ["dee", "cy"]);
    assert_eq!(recipients(&["--delivered", "--sortBy", "dlvSize"]), ["ann", "dee", "bob", "cy"]);
    assert_eq!(recipients(&["--bounced", "--since", "2026-05-01 10:00:00"]), ["gus", "hal"]);
    let count = carom(&["find", "--all", "--count", &files.path("acct.csv")]);
    assert_eq!(text(&count), "12\n");
    let nothing = carom(&["find", "--to", "nobody", &files.path("acct.csv")]);
    assert_eq!((nothing.status.code(), nothing.stdout.is_empty()), (Some(1), true));
}

#[test]
fn a_link_named_as_powermtas_tool_is_that_tool() {
    let files = Files::new();
    for (name, arguments) in
        [("pmtastats", vec!["message-counts"]), ("acctfind", vec!["--bounced"]), ("pmtaacctfind", vec![])]
    {
        let link = files.dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_carom"), &link).unwrap();
        let output = Command::new(&link).args(arguments).arg(files.path("acct.csv")).output().unwrap();
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Another program's arithmetic over the same file; wherever the analysts' tools are.
#[test]
fn duckdb_counts_the_same() {
    let Ok(python) = std::env::var("CAROM_ANALYSTS_PYTHON") else { return };
    let files = Files::new();
    let sql = "SELECT count(*) FILTER (type = 'd'), count(*) FILTER (type = 'b'), \
               count(*) FILTER (type = 'b' AND dsnStatus LIKE '5%'), sum(dlvSize), \
               max(epoch(date_trunc('second', timeLogged)) - epoch(date_trunc('second', timeQueued))) FILTER (type = 'd'), \
               (SELECT count(*) FROM f WHERE type IN ('d', 'b') AND lower(split_part(rcpt, '@', 2)) = 'b.example') FROM f";
    let script = format!(
        "import duckdb, sys\nc = duckdb.connect()\nc.execute(\"CREATE VIEW f AS SELECT * FROM read_parquet('{}')\")\n\
         print(' '.join(str(int(v)) for v in c.execute(\"{sql}\").fetchall()[0]))",
        files.path("acct.parquet")
    );
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    let page = json(&["stats", "--all", "--json", &files.path("acct.parquet")]);
    let counts = table(&page, "message-counts", "Message Counts");
    let total = table(&page, "bounce-categories", "Total Bounced");
    let fastest = table(&page, "delivery-times", "Fastest Deliveries");
    let domains = table(&page, "top-domains", "Domains with the Most Recipients");
    let ours = format!(
        "{} {} {} {} {} {}",
        counts[0]["recipients"],
        counts[1]["recipients"],
        total[1]["recipients"],
        (counts[2]["kb"].as_f64().unwrap() * 1024.0) as u64,
        fastest[10]["max"].as_f64().unwrap() as u64,
        domains[0]["recipients"],
    );
    assert_eq!(text(&output).trim(), ours);
}
