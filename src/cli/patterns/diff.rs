//! `carom patterns diff`: the history classified by two sets of rules: what would change, and for whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::acct::{AcctArgs, Record};
use super::paint::{Paint, grouped, on_one_line, percent, table};
use super::rules::{BaseArgs, OrExit, compile, read};
use crate::classify::{FailureKind, RuleSet, Verdict};
use crate::cli::Failure;
use crate::config::PatternSource;
use crate::event::{AddressKey, Event, Kind};
use crate::suppress;

/// Arguments of `carom patterns diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A pattern file that the configuration names keeps its place there: --new edited.conf --old \
    own.conf puts the edited one where own.conf stands. Others are consulted before all the rest. Recipients are those \
    that the suppression rules would take off the list, by all their events in this history: newly suppressed are those \
    that only the new rules take off. Nothing is changed.\n\n\
    Examples:\n  \
    carom patterns diff --acct /var/log/carom/events --old own.conf --new edited.conf\n  \
    carom patterns diff --acct 'acct/*.csv' --new own.conf          (against the rules without it)\n  \
    carom patterns diff --acct acct.parquet --new own.conf --json | jq .newlySuppressed\n\n\
    Exit code: 0 nothing changes; 1 something does, or files could not be read; 2 the arguments or the rules are wrong.")]
pub(super) struct Args {
    #[command(flatten)]
    acct: AcctArgs,
    /// Pattern file as it is now; may be repeated
    #[arg(long, value_name = "FILE")]
    old: Vec<PathBuf>,
    /// Pattern file as it would be; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    new: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// Changes and recipients shown; 0 is all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Recipients looked at for a change of their suppression; those beyond are only counted
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_recipients: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Different changes kept.
const MAX_CHANGES: usize = 50_000;
/// Replies shown of each change.
const EXAMPLES: usize = 2;

/// From which category and rule to which.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Change {
    old_category: Box<str>,
    old_rule: Box<str>,
    new_category: Box<str>,
    new_rule: Box<str>,
}

#[derive(Debug, Default)]
struct Changed {
    events: u64,
    examples: Vec<String>,
}

/// Which rules take a recipient off, by all that is known of it.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    old: bool,
    new: bool,
}

#[derive(Debug, Default)]
struct Difference {
    classified: u64,
    changed_events: u64,
    changes: HashMap<Change, Changed>,
    changes_left_out: u64,
    /// Recipients with an event that suppresses by one set only.
    fates: HashMap<Box<str>, Fate>,
    recipients_left_out: u64,
}

impl Difference {
    fn add(&mut self, old: &RuleSet, new: &RuleSet, record: &Record<'_>, max_recipients: usize) {
        let event = &record.event;
        let (before, after) = (old.classify(event), new.classify(event));
        if before.category.is_empty() && after.category.is_empty() {
            return;
        }
        self.classified += 1;
        if before.category == after.category {
            return;
        }
        self.changed_events += 1;
        let room = self.changes.len() < MAX_CHANGES;
        let change = Change {
            old_category: before.category.into(),
            old_rule: before.rule.into(),
            new_category: after.category.into(),
            new_rule: after.rule.into(),
        };
        let changed = match self.changes.entry(change) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(place) => room.then(|| place.insert(Changed::default())),
        };
        match changed {
            Some(changed) => {
                changed.events += 1;
                let reply = event.reply_text();
                if changed.examples.len() < EXAMPLES && !changed.examples.iter().any(|e| e == reply) {
                    changed.examples.push(on_one_line(reply, 1000));
                }
            }
            None => self.changes_left_out += 1,
        }
        let (was, is) = (suppresses(event, &before), suppresses(event, &after));
        if was != is {
            let key = AddressKey::of(event.rcpt);
            let room = self.fates.len() < max_recipients;
            match self.fates.get_mut(key.as_str()) {
                Some(_) => {}
                None if room => {
                    self.fates.insert(key.as_str().into(), Fate::default());
                }
                None => self.recipients_left_out += 1,
            }
        }
    }
}

fn suppresses(event: &Event<'_>, verdict: &Verdict<'_>) -> bool {
    suppress::decide(event, verdict.category, verdict.kind() == FailureKind::Hard).is_some()
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (old, new) = match both(args)? {
        Ok(both) => both,
        Err(code) => return Ok(code),
    };
    let mut difference = Difference::default();
    let read = args.acct.read(&[], "comparing", &mut |record| {
        difference.add(&old, &new, record, args.max_recipients);
    })?;
    if !difference.fates.is_empty() {
        if args.acct.is_stream() {
            return Err("recipients change, and standard input can't be read twice: give files".into());
        }
        // What else happened to them decides too: who is suppressed by both is not new to either.
        let fates = &mut difference.fates;
        args.acct.read(&[Kind::Feedback], "recipients", &mut |record| {
            let event = &record.event;
            if !matches!(event.kind, Kind::Bounced | Kind::RemoteBounce | Kind::Feedback) {
                return;
            }
            if let Some(fate) = fates.get_mut(AddressKey::of(event.rcpt).as_str()) {
                fate.old |= suppresses(event, &old.classify(event));
                fate.new |= suppresses(event, &new.classify(event));
            }
        })?;
    }
    let pick = |wanted: fn(&Fate) -> bool| -> Vec<&str> {
        let mut keys: Vec<&str> = difference.fates.iter().filter(|(_, f)| wanted(f)).map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        keys
    };
    let suppressed = pick(|f| f.new && !f.old);
    let freed = pick(|f| f.old && !f.new);
    let mut changes: Vec<(&Change, &Changed)> = difference.changes.iter().collect();
    changes.sort_by(|a, b| b.1.events.cmp(&a.1.events).then_with(|| a.0.cmp(b.0)));
    if args.json {
        say!(
            "{}",
            json!({
                "files": read.files,
                "rows": read.rows,
                "events": difference.classified,
                "changedEvents": difference.changed_events,
                "oldRules": old.id().to_string(),
                "newRules": new.id().to_string(),
                "changes": changes.iter().map(|(c, n)| json!({
                    "oldCategory": c.old_category, "newCategory": c.new_category,
                    "oldRule": c.old_rule, "newRule": c.new_rule,
                    "events": n.events, "examples": n.examples,
                })).collect::<Vec<_>>(),
                "changesLeftOut": difference.changes_left_out,
                "newlySuppressed": suppressed,
                "noLongerSuppressed": freed,
                "recipientsLeftOut": difference.recipients_left_out,
            })
        )?;
    } else {
        print(args, &difference, &changes, (&suppressed, &freed), &read)?;
    }
    let trouble = read.complain();
    Ok(if trouble || difference.changed_events > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Both sets of rules.
fn both(args: &Args) -> Result<OrExit<(RuleSet, RuleSet)>, Failure> {
    let base = match args.base.load()? {
        Ok(config) => config.map(|c| c.bounce_category_patterns).unwrap_or_default(),
        Err(code) => return Ok(Err(code)),
    };
    let old = place(&base, &args.old, &args.old)?;
    let new = place(&base, &args.old, &args.new)?;
    let sets = compile(&old).and_then(|old| Ok((old, compile(&new)?)));
    Ok(sets)
}

/// The rules of the configuration with these files: the first stands where the old one (or it itself) stands there,
/// files that it does not name stand before all.
fn place(base: &[PatternSource], old: &[PathBuf], files: &[PathBuf]) -> Result<Vec<PatternSource>, Failure> {
    let mut sources = base.to_vec();
    let mut before = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let content = read(file)?;
        let stands =
            |wanted: &Path| base.iter().position(|s| matches!(s, PatternSource::File(f) if is_same(&f.file, wanted)));
        match old.get(number).and_then(|o| stands(o)).or_else(|| stands(file)) {
            Some(at) => sources[at] = content,
            None => before.push(content),
        }
    }
    before.append(&mut sources);
    Ok(before)
}

fn is_same(a: &Path, b: &Path) -> bool {
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_owned());
    real(a) == real(b)
}

fn print(
    args: &Args,
    difference: &Difference,
    changes: &[(&Change, &Changed)],
    (suppressed, freed): (&[&str], &[&str]),
    read: &super::acct::Read,
) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let top = if args.top == 0 { usize::MAX } else { args.top };
    say!(
        "{}",
        paint.bold(&format!(
            "{} of {} classified events ({}) change their category ({} rows of {} files)",
            grouped(difference.changed_events),
            grouped(difference.classified),
            percent(difference.changed_events, difference.classified),
            grouped(read.rows),
            grouped(read.files),
        ))
    )?;
    if !changes.is_empty() {
        let mut by_category: HashMap<(&str, &str), u64> = HashMap::new();
        for (change, changed) in changes {
            *by_category.entry((&change.old_category, &change.new_category)).or_default() += changed.events;
        }
        let mut by_category: Vec<_> = by_category.into_iter().collect();
        by_category.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let rows = by_category
            .iter()
            .map(|((old, new), n)| [format!("  {old}"), "->".to_owned(), (*new).to_owned(), grouped(*n)]);
        say!("\n{}", table(&["  old category", "", "new category", "events"], &[3], rows))?;
        say!("\n{}", paint.bold("by rule"))?;
        for (change, changed) in changes.iter().take(top) {
            let name = |rule: &str| if rule.is_empty() { "nothing".to_owned() } else { rule.to_owned() };
            say!(
                "  {} events: {} by {} -> {} by {}",
                grouped(changed.events),
                change.old_category,
                name(&change.old_rule),
                paint.bold(&change.new_category),
                name(&change.new_rule)
            )?;
            for example in &changed.examples {
                say!("    e.g. {}", on_one_line(example, 200))?;
            }
        }
        if changes.len() > top {
            say!("{}", paint.dim(&format!("  and {} more; --top 0 shows all", changes.len() - top)))?;
        }
        if difference.changes_left_out > 0 {
            say!("  {} events of changes beyond the first {MAX_CHANGES}", grouped(difference.changes_left_out))?;
        }
    }
    for (what, who, colour) in [
        ("recipients would newly be suppressed", suppressed, true),
        ("recipients would no longer be suppressed", freed, false),
    ] {
        let line = format!("{} {what}", grouped(who.len() as u64));
        say!("\n{}", if colour && !who.is_empty() { paint.warning(&line) } else { paint.bold(&line) })?;
        for address in who.iter().take(top) {
            say!("  {address}")?;
        }
        if who.len() > top {
            say!(
                "{}",
                paint.dim(&format!("  and {} more; --top 0 or --json shows all", grouped((who.len() - top) as u64)))
            )?;
        }
    }
    if difference.recipients_left_out > 0 {
        say!(
            "{}",
            paint.warning(&format!(
                "{} further changes concern recipients beyond the first {}: --max-recipients",
                grouped(difference.recipients_left_out),
                grouped(args.max_recipients as u64)
            ))
        )?;
    }
    Ok(())
}
