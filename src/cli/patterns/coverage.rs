//! `carom patterns coverage`: which rules decide how much of the history, and what only a reply code decides.

use std::collections::HashMap;
use std::process::ExitCode;

use serde_json::json;

use super::acct::{AcctArgs, Decided, Record, by_rule};
use super::paint::{Paint, grouped, percent, share, table};
use super::rules::{Loaded, RulesArgs};
use crate::cli::Failure;

/// Arguments of `carom patterns coverage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What was recorded is counted (bounceCat, bounceRule); with --rules, --config, --shipped or \
    --reclassify every reply is classified anew. PowerMTA's files record no rule, so they want one of these.\n\n\
    Examples:\n  \
    carom patterns coverage --acct /var/log/carom/events\n  \
    carom patterns coverage --acct 'acct/2026-05-*.csv' --records b --provider gmail.com\n  \
    carom patterns coverage --acct acct.csv --rules own.conf --json | jq .decidedByCodeOnly\n\n\
    Exit code: 0 done; 1 some files could not be read; 2 the arguments or the rules are wrong.")]
pub(super) struct Args {
    #[command(flatten)]
    acct: AcctArgs,
    #[command(flatten)]
    rules: RulesArgs,
    /// Classify with the rules of the configuration in place of what was recorded
    #[arg(long)]
    reclassify: bool,
    /// Rules shown, those that decide most first; 0 is all
    #[arg(long, value_name = "N", default_value_t = 40)]
    top: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Different rules counted; more are only met in files that no Carom wrote.
const MAX_RULES: usize = 50_000;

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    events: u64,
    by_pattern: u64,
    by_code: u64,
    by_nothing: u64,
}

/// What is counted.
#[derive(Debug, Default)]
struct Coverage {
    categories: HashMap<String, Count>,
    /// By rule and category.
    rules: HashMap<(String, String), u64>,
    rules_left_out: u64,
    all: Count,
    by_producer: u64,
    unknown: u64,
}

impl Coverage {
    fn add(&mut self, category: &str, rule: &str, decided: Decided) {
        if !self.categories.contains_key(category) {
            let name = if self.categories.len() < MAX_RULES { category } else { "(more)" };
            self.categories.entry(name.to_owned()).or_default();
        }
        let name = if self.categories.contains_key(category) { category } else { "(more)" };
        let Some(count) = self.categories.get_mut(name) else { return };
        for count in [count, &mut self.all] {
            count.events += 1;
            match decided {
                Decided::Pattern => count.by_pattern += 1,
                Decided::Code => count.by_code += 1,
                Decided::Nothing => count.by_nothing += 1,
                Decided::Producer | Decided::Unknown => {}
            }
        }
        match decided {
            Decided::Producer => self.by_producer += 1,
            Decided::Unknown => self.unknown += 1,
            Decided::Pattern | Decided::Code => self.count_rule(rule, category),
            Decided::Nothing => {}
        }
    }

    fn count_rule(&mut self, rule: &str, category: &str) {
        // Keys are made only for what is new: this is called for every event.
        if let Some(count) = self.rules.get_mut(&(rule, category) as &dyn Pair) {
            *count += 1;
        } else if self.rules.len() < MAX_RULES {
            self.rules.insert((rule.to_owned(), category.to_owned()), 1);
        } else {
            self.rules_left_out += 1;
        }
    }
}

/// A key of two texts, borrowed or owned.
trait Pair {
    fn pair(&self) -> (&str, &str);
}

impl Pair for (&str, &str) {
    fn pair(&self) -> (&str, &str) {
        *self
    }
}

impl Pair for (String, String) {
    fn pair(&self) -> (&str, &str) {
        (&self.0, &self.1)
    }
}

impl<'a> std::borrow::Borrow<dyn Pair + 'a> for (String, String) {
    fn borrow(&self) -> &(dyn Pair + 'a) {
        self
    }
}

impl std::hash::Hash for dyn Pair + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.pair().hash(state);
    }
}

impl PartialEq for dyn Pair + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.pair() == other.pair()
    }
}

impl Eq for dyn Pair + '_ {}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let anew = args.reclassify || args.rules.is_given();
    let loaded = match args.rules.load()? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let mut coverage = Coverage::default();
    let read = args.acct.read(&[], "coverage", &mut |record: &Record<'_>| {
        if anew && record.event.category.is_empty() {
            let verdict = loaded.set.classify(&record.event);
            if !verdict.category.is_empty() {
                coverage.add(verdict.category, verdict.rule, by_rule(verdict.rule));
            }
        } else if !record.category.is_empty() {
            coverage.add(record.category, record.rule, record.decided());
        }
    })?;
    let never = never_fired(&loaded, &coverage);
    if args.json {
        say!("{}", to_json(&coverage, &loaded, anew, read.files, read.rows, &never))?;
    } else {
        print(args, &coverage, &loaded, anew, &read, &never)?;
    }
    Ok(if read.complain() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rules that decided nothing: name, category, regex.
fn never_fired(loaded: &Loaded, coverage: &Coverage) -> Vec<(String, String, String)> {
    let fired: std::collections::HashSet<&str> = coverage.rules.keys().map(|(rule, _)| rule.as_str()).collect();
    super::known_rules(&loaded.sources)
        .into_iter()
        .filter(|rule| !rule.category.is_empty())
        .map(|rule| (format!("{}:{}", rule.file, rule.line), rule.category, rule.regex))
        .filter(|(name, ..)| !fired.contains(name.as_str()))
        .collect()
}

/// Categories, and rules with their categories, the most frequent first.
type Sorted<'c> = (Vec<(&'c String, &'c Count)>, Vec<(&'c (String, String), u64)>);

fn sorted(coverage: &Coverage) -> Sorted<'_> {
    let mut categories: Vec<_> = coverage.categories.iter().collect();
    categories.sort_by(|a, b| b.1.events.cmp(&a.1.events).then_with(|| a.0.cmp(b.0)));
    let mut rules: Vec<_> = coverage.rules.iter().map(|(key, n)| (key, *n)).collect();
    rules.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    (categories, rules)
}

fn to_json(
    coverage: &Coverage,
    loaded: &Loaded,
    anew: bool,
    files: u64,
    rows: u64,
    never: &[(String, String, String)],
) -> serde_json::Value {
    let (categories, rules) = sorted(coverage);
    let all = coverage.all.events;
    json!({
        "files": files,
        "rows": rows,
        "events": all,
        "reclassified": anew,
        "rules": loaded.name,
        "rulesId": loaded.set.id().to_string(),
        "decidedByPattern": coverage.all.by_pattern,
        "decidedByCodeOnly": coverage.all.by_code,
        "undecided": coverage.all.by_nothing,
        "decidedByProducer": coverage.by_producer,
        "ruleNotRecorded": coverage.unknown,
        "byCategory": categories.iter().map(|(name, c)| json!({
            "category": name, "events": c.events, "share": share(c.events, all),
            "byPattern": c.by_pattern, "byCodeOnly": c.by_code, "undecided": c.by_nothing,
        })).collect::<Vec<_>>(),
        "byRule": rules.iter().map(|((rule, category), n)| json!({
            "rule": rule, "category": category, "events": n, "share": share(*n, all),
        })).collect::<Vec<_>>(),
        "byRuleLeftOut": coverage.rules_left_out,
        "neverFired": never.iter().map(|(rule, category, regex)| json!({
            "rule": rule, "category": category, "regex": regex,
        })).collect::<Vec<_>>(),
    })
}

fn print(
    args: &Args,
    coverage: &Coverage,
    loaded: &Loaded,
    anew: bool,
    read: &super::acct::Read,
    never: &[(String, String, String)],
) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let (categories, rules) = sorted(coverage);
    let all = coverage.all.events;
    let how = if anew { format!("classified anew by {}", loaded.name) } else { "as recorded".to_owned() };
    say!(
        "{}",
        paint.bold(&format!(
            "{} events with a category among {} rows of {} files, {how}",
            grouped(all),
            grouped(read.rows),
            grouped(read.files)
        ))
    )?;
    if all == 0 {
        return Ok(());
    }
    let mut summary = vec![
        ("decided by a pattern", coverage.all.by_pattern),
        ("by the reply code only", coverage.all.by_code),
        ("by nothing", coverage.all.by_nothing),
    ];
    if coverage.by_producer > 0 {
        summary.push(("by the server itself (suppressed, expired)", coverage.by_producer));
    }
    if coverage.unknown > 0 {
        summary.push(("not recorded by what", coverage.unknown));
    }
    say!(
        "{}",
        table(&[], &[1, 2], summary.iter().map(|(what, n)| [format!("  {what}"), grouped(*n), percent(*n, all)]))
    )?;
    if coverage.unknown > 0 && !anew {
        say!(
            "{}",
            paint.dim("  These files do not say which rule decided: --reclassify shows what the rules make of them.")
        )?;
    }
    let rows = categories.iter().map(|(name, c)| {
        [
            format!("  {name}"),
            grouped(c.events),
            percent(c.events, all),
            percent(c.by_pattern, c.events),
            percent(c.by_code, c.events),
            percent(c.by_nothing, c.events),
        ]
    });
    let header = ["  category", "events", "share", "by pattern", "by code only", "by nothing"];
    say!("\n{}", table(&header, &[1, 2, 3, 4, 5], rows))?;
    let top = if args.top == 0 { usize::MAX } else { args.top };
    if !rules.is_empty() {
        let rows = rules
            .iter()
            .take(top)
            .map(|((rule, category), n)| [format!("  {rule}"), category.clone(), grouped(*n), percent(*n, all)]);
        say!("\n{}", table(&["  rule", "category", "events", "share"], &[2, 3], rows))?;
        if rules.len() > top {
            say!("{}", paint.dim(&format!("  and {} more; --top 0 shows all", rules.len() - top)))?;
        }
    }
    if coverage.rules_left_out > 0 {
        say!("  {} events of rules beyond the first {}", grouped(coverage.rules_left_out), grouped(MAX_RULES as u64))?;
    }
    if never.is_empty() {
        return Ok(());
    }
    say!("\n{}", paint.bold(&format!("rules that decided nothing: {}", never.len())))?;
    let rows = never.iter().take(top).map(|(rule, category, regex)| {
        [format!("  {rule}"), category.clone(), super::paint::on_one_line(&format!("/{regex}/"), 80)]
    });
    say!("{}", table(&[], &[], rows))?;
    if never.len() > top {
        say!("{}", paint.dim(&format!("  and {} more; --top 0 shows all", never.len() - top)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_by_what_decided() {
        let mut coverage = Coverage::default();
        for (category, rule) in
            [("bad-mailbox", "own.conf:3"), ("bad-mailbox", "own.conf:3"), ("bad-mailbox", "code 5.1.1"), ("other", "")]
        {
            coverage.add(category, rule, by_rule(rule));
        }
        coverage.add("suppressed", "", Decided::Producer);
        let count = coverage.categories["bad-mailbox"];
        assert_eq!((count.events, count.by_pattern, count.by_code), (3, 2, 1));
        assert_eq!((coverage.all.events, coverage.all.by_nothing, coverage.by_producer), (5, 1, 1));
        assert_eq!(coverage.rules[&("own.conf:3".to_owned(), "bad-mailbox".to_owned())], 2);
    }
}
