//! `carom demo` as a user runs it: two campaigns, books that agree, dead addresses not mailed again, and files that the
//! analysts' tools read.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs programs")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn demo(dir: &Path, recipients: &str, seed: &str) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["demo", "--json", "--recipients", recipients, "--seed", seed, "--dir"])
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "exit {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn number(v: &Value, name: &str) -> u64 {
    v[name].as_u64().unwrap_or_else(|| panic!("no {name} in {v}"))
}

#[test]
fn two_campaigns_reconcile_and_the_second_leaves_dead_addresses_alone() {
    let dir = tempfile::tempdir().unwrap();
    let result = demo(dir.path(), "1500", "7");
    assert_eq!(result["reconciled"], true);
    let campaigns = result["campaigns"].as_array().unwrap();
    assert_eq!(campaigns.len(), 2);
    let (one, two) = (&campaigns[0], &campaigns[1]);
    assert_eq!(number(one, "submitted"), 1500);
    assert_eq!(number(two, "submitted"), 1500);
    // The first mail to a domain with a null MX suppresses the domain, and so the next in the same campaign.
    assert!(number(one, "suppressed") < 5, "{one}");
    let hard = |c: &Value, name: &str| c["bounced"][name].as_u64().unwrap_or(0);
    assert!(
        hard(one, "bad-mailbox") > 10 && number(one, "complaints") > 0 && number(one, "remoteBounces") > 0,
        "{one}"
    );
    // What bounced hard or complained in the first is exactly what the second suppresses.
    assert!(
        number(two, "suppressed")
            >= hard(one, "bad-mailbox") + hard(one, "inactive-mailbox") + number(one, "complaints"),
        "{two}"
    );
    assert_eq!(hard(two, "bad-mailbox") + hard(two, "inactive-mailbox"), 0, "{two}");
    assert_eq!(number(two, "complaints"), 0);
    let all_bounced: u64 = two["bounced"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    let suppressed_apart = two["bounced"].get("suppressed").is_none();
    assert_eq!(
        number(two, "delivered") + all_bounced + if suppressed_apart { number(two, "suppressed") } else { 0 },
        1500,
        "{two}"
    );
    analysts_read(dir.path(), &result);
}

/// DuckDB, pyarrow, pandas and Polars count the same rows in the Parquet files as the CSV files hold lines.
fn analysts_read(dir: &Path, result: &Value) {
    let Some(python) = std::env::var_os("CAROM_ANALYSTS_PYTHON") else {
        println!("skipped: CAROM_ANALYSTS_PYTHON is not set, so DuckDB, pyarrow, pandas and Polars were not asked");
        return;
    };
    let script = r#"
import csv, glob, json, sys
import duckdb, pandas, polars, pyarrow.dataset
root = sys.argv[1]
pattern = root + "/acct/**/*.parquet"
files = glob.glob(pattern, recursive=True)
lines = sum(sum(1 for _ in csv.reader(open(f, newline=""))) - 1 for f in glob.glob(root + "/acct/**/*.csv", recursive=True))
duck = duckdb.sql(f"select count(*), count(distinct eventId), count(*) filter (where type = 'd') from '{pattern}'").fetchall()[0]
day = duckdb.sql(f"select count(*) from read_parquet('{pattern}', hive_partitioning = true) where date is not null").fetchall()[0][0]
arrow = pyarrow.dataset.dataset(files, format="parquet").count_rows()
pd = len(pandas.concat([pandas.read_parquet(f) for f in files]))
pl = polars.scan_parquet(pattern).select(polars.len()).collect().item()
kinds = duckdb.sql(f"select typeof(timeLogged) from '{pattern}' limit 1").fetchall()[0][0]
print(json.dumps(dict(lines=lines, duck=duck[0], distinct=duck[1], delivered=duck[2], day=day, arrow=arrow, pandas=pd, polars=pl, time=kinds)))
"#;
    let out = Command::new(python).args(["-c", script]).arg(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let counts: Value = serde_json::from_slice(&out.stdout).unwrap();
    let lines = number(&counts, "lines");
    assert!(lines > 3000, "{counts}");
    for tool in ["duck", "distinct", "day", "arrow", "pandas", "polars"] {
        assert_eq!(number(&counts, tool), lines, "{tool}: {counts}");
    }
    let delivered: u64 = result["campaigns"].as_array().unwrap().iter().map(|c| number(c, "delivered")).sum();
    assert_eq!(number(&counts, "delivered"), delivered, "{counts}");
    assert!(counts["time"].as_str().unwrap().starts_with("TIMESTAMP"), "{counts}");
}
