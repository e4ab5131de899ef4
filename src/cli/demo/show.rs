//! What the demo says at its end: a table for people, one JSON object for programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::reconcile::Reconciled;

/// All that is told.
#[derive(Debug)]
pub struct Ending<'a> {
    /// The demo's folder.
    pub dir: &'a Path,
    /// The figures and the differences.
    pub reconciled: &'a Reconciled,
    /// Messages per second of each campaign.
    pub rates: &'a [f64],
    /// Accounting files.
    pub files: &'a [PathBuf],
    /// The providers' logs.
    pub logs: &'a [PathBuf],
    /// Seconds, everything included.
    pub seconds: f64,
}

/// The JSON object.
pub fn json(ending: &Ending<'_>) -> Value {
    let campaigns: Vec<Value> = ending
        .reconciled
        .campaigns
        .iter()
        .zip(ending.rates.iter().chain(std::iter::repeat(&0.0)))
        .map(|(c, rate)| {
            json!({
                "submitted": c.submitted,
                "delivered": c.delivered,
                "bounced": c.bounced,
                "transient": c.transient,
                "deferredThenDelivered": c.deferred_then_delivered,
                "remoteBounces": c.remote_bounces,
                "complaints": c.complaints,
                "suppressed": c.suppressed,
                "messagesPerSecond": rate.round(),
            })
        })
        .collect();
    json!({
        "campaigns": campaigns,
        "files": ending.files,
        "simulatorLogs": ending.logs,
        "reconciled": ending.reconciled.agrees(),
        "differences": ending.reconciled.differences,
        "dir": ending.dir,
        "seconds": (ending.seconds * 10.0).round() / 10.0,
    })
}

/// The text for a terminal.
pub fn text(ending: &Ending<'_>) -> String {
    let campaigns = &ending.reconciled.campaigns;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(std::iter::once(String::new()).chain((1..=campaigns.len()).map(|n| format!("campaign {n}"))));
    let mut row = |name: &str, values: Vec<String>| {
        table.add_row(std::iter::once(name.to_owned()).chain(values));
    };
    let numbers = |of: &dyn Fn(&super::reconcile::Totals) -> u64| campaigns.iter().map(|c| of(c).to_string()).collect();
    row("submitted", numbers(&|c| c.submitted));
    row("delivered", numbers(&|c| c.delivered));
    row("  after being deferred", numbers(&|c| c.deferred_then_delivered));
    let categories: BTreeSet<&String> = campaigns.iter().flat_map(|c| c.bounced.keys()).collect();
    for category in categories {
        row(&format!("bounced: {category}"), numbers(&|c| c.bounced.get(category).copied().unwrap_or(0)));
    }
    row("suppressed, not attempted", numbers(&|c| c.suppressed));
    row("deferrals (t records)", numbers(&|c| c.transient));
    row("bounces by mail later", numbers(&|c| c.remote_bounces));
    row("complaints", numbers(&|c| c.complaints));
    row("messages per second", ending.rates.iter().map(|r| format!("{r:.0}")).collect());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n\n");
    let short = |p: &PathBuf| p.strip_prefix(ending.dir).unwrap_or(p).display().to_string();
    text.push_str(&format!("In {}:\n", ending.dir.display()));
    for file in ending.files {
        text.push_str(&format!("  {}\n", short(file)));
    }
    text.push_str("  carom.conf, carom.log, and what the simulated providers saw:\n");
    for log in ending.logs {
        text.push_str(&format!("  {}\n", short(log)));
    }
    text.push_str(&format!(
        "\nTry:\n  duckdb -c \"select type, bounceCat, count(*) n from '{}/acct/**/*.parquet' group by all order by n desc\"\n\n",
        ending.dir.display()
    ));
    let found = ending.reconciled;
    if found.agrees() {
        text.push_str("Reconciled: the providers' logs, the ledger, the CSV and the Parquet files agree.\n");
    } else {
        text.push_str(&format!("NOT reconciled: {} differences", found.count));
        if found.count > found.differences.len() as u64 {
            text.push_str(&format!(", the first {}", found.differences.len()));
        }
        text.push_str(":\n");
        for difference in &found.differences {
            text.push_str(&format!("  {difference}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::reconcile::Totals;

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let mut totals = Totals { submitted: 10, delivered: 8, suppressed: 1, ..Totals::default() };
        totals.bounced.insert("bad-mailbox".into(), 1);
        let reconciled = Reconciled { campaigns: vec![totals], count: 1, differences: vec!["odd".into()] };
        let files = [PathBuf::from("/d/acct/acct.csv")];
        let ending = Ending {
            dir: Path::new("/d"),
            reconciled: &reconciled,
            rates: &[123.4],
            files: &files,
            logs: &[],
            seconds: 1.26,
        };
        let json = json(&ending);
        assert_eq!(json["campaigns"][0]["bounced"]["bad-mailbox"], 1);
        assert_eq!((&json["reconciled"], &json["seconds"]), (&false.into(), &1.3.into()));
        let text = text(&ending);
        assert!(text.contains("bounced: bad-mailbox") && text.contains("NOT reconciled: 1") && text.contains("odd"));
        assert!(text.contains("acct/acct.csv") && text.contains("duckdb"));
    }
}
