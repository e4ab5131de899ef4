#![expect(clippy::disallowed_types, reason = "edge: appends suggested rules to a pattern file")]
//! `carom patterns unmatched`: replies that no pattern knows, those that say the same together, each with a rule for it.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::acct::{AcctArgs, Record};
use super::paint::{Paint, grouped, on_one_line, percent, share};
use super::rules::{Loaded, RulesArgs, compile};
use crate::classify::suggest::{Decided, Suggestion, is_telling, suggest};
use crate::classify::template::{Template, Templates, masked};
use crate::cli::Failure;
use crate::config::PatternSource;

/// Arguments of `carom patterns unmatched`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every reply of the history is classified with the rules as they are now. What only its code, or \
    nothing, decided is grouped: addresses, numbers, ids and names are masked, and replies that differ in a word or two \
    are one. A suggested rule matches the examples shown and none of the replies that other rules decide; its category \
    is what the reply code says, so read it before you use it.\n\n\
    Examples:\n  \
    carom patterns unmatched --acct /var/log/carom/events\n  \
    carom patterns unmatched --acct 'acct/*.csv' --provider gmail.com --top 5\n  \
    carom patterns unmatched --acct acct.csv --write own.conf --choose 1,3\n\n\
    Exit code: 0 done; 1 some files could not be read; 2 the arguments or the rules are wrong."
)]
pub(super) struct Args {
    #[command(flatten)]
    acct: AcctArgs,
    #[command(flatten)]
    rules: RulesArgs,
    /// Groups shown, the largest first; 0 is all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Only groups of at least so many events
    #[arg(long, value_name = "N", default_value_t = 1)]
    min: u64,
    /// Groups kept while reading; replies like none of them are then only counted
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_templates: u64,
    /// Append the suggested rules of the groups shown to this pattern file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Only the suggestions of these groups, by their numbers as they are shown
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "write")]
    choose: Vec<usize>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Different replies shown of a group.
const EXAMPLES: usize = 3;
/// Longest example, in bytes.
const MAX_EXAMPLE: usize = 600;
/// Providers counted for each group; others are counted together.
const MAX_PROVIDERS: usize = 32;
/// Bytes of replies of other rules that suggestions are held against while they are made.
const MAX_DECIDED: usize = 16 << 20;
/// Groups that are compared with each other for being one in the end: the largest.
const MERGED: usize = 2_000;

/// What is known of a group.
#[derive(Debug, Default, Clone)]
struct Group {
    events: u64,
    providers: HashMap<Box<str>, u64>,
    other_providers: u64,
    examples: Vec<String>,
    /// Events by the category and rule they have now.
    verdicts: HashMap<(Box<str>, Box<str>), u64>,
}

impl Group {
    fn add(&mut self, record: &Record<'_>, reply: &str, category: &str, rule: &str) {
        self.events += 1;
        let provider = record.event.provider;
        let provider = provider.to_ascii_lowercase();
        if let Some(count) = self.providers.get_mut(provider.as_str()) {
            *count += 1;
        } else if self.providers.len() < MAX_PROVIDERS {
            self.providers.insert(provider.into(), 1);
        } else {
            self.other_providers += 1;
        }
        if self.examples.len() < EXAMPLES && !self.examples.iter().any(|e| e == reply) && reply.len() <= MAX_EXAMPLE {
            self.examples.push(reply.to_owned());
        }
        if let Some((_, count)) = self.verdicts.iter_mut().find(|((c, r), _)| **c == *category && **r == *rule) {
            *count += 1;
        } else if self.verdicts.len() < MAX_PROVIDERS {
            self.verdicts.insert((category.into(), rule.into()), 1);
        }
    }

    fn join(&mut self, other: Group) {
        self.events += other.events;
        for (provider, count) in other.providers {
            *self.providers.entry(provider).or_default() += count;
        }
        self.other_providers += other.other_providers;
        // One of each first, so that the examples show in what they differ.
        let room = (EXAMPLES - 1).min(self.examples.len());
        let mut examples = self.examples.split_off(room);
        self.examples.extend(other.examples.into_iter().take(EXAMPLES - room));
        examples.truncate(EXAMPLES.saturating_sub(self.examples.len()));
        self.examples.extend(examples);
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }

    /// The category most of it has now, and by what.
    fn verdict(&self) -> (&str, &str) {
        let most = self.verdicts.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        most.map_or(("other", ""), |((category, rule), _)| (category, rule))
    }

    fn providers(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self.providers.iter().map(|(p, n)| (&**p, *n)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all
    }
}

/// A group as it is shown.
struct Shown {
    template: Template,
    group: Group,
    suggestion: Result<Suggestion, &'static str>,
    /// Events of the history that other rules decide and the suggestion would take.
    takes: u64,
}

/// What the first reading found.
struct Found {
    groups: Vec<(Template, Group)>,
    unmatched: u64,
    /// Unmatched events of no group, because there were too many.
    ungrouped: u64,
    classified: u64,
    decided: Decided,
    read: super::acct::Read,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let loaded = match args.rules.load()? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let found = look(args, &loaded)?;
    let top = if args.top == 0 { usize::MAX } else { args.top };
    let all_groups = found.groups.len();
    let mut shown: Vec<Shown> = found
        .groups
        .into_iter()
        .filter(|(_, group)| group.events >= args.min)
        .take(top)
        .map(|(template, group)| {
            let suggestion = propose(&template, &group, &found.decided);
            Shown { template, group, suggestion, takes: 0 }
        })
        .collect();
    if !args.acct.is_stream() {
        held_against_history(args, &loaded, &mut shown)?;
    }
    let counts = Counts {
        unmatched: found.unmatched,
        ungrouped: found.ungrouped,
        classified: found.classified,
        groups: all_groups,
    };
    if args.json {
        say!("{}", to_json(&shown, &counts, &loaded, &found.read))?;
    } else {
        print(&shown, &counts, &loaded, &found.read, args)?;
    }
    if let Some(file) = &args.write {
        write(file, &shown, &args.choose)?;
    }
    Ok(if found.read.complain() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Counts {
    unmatched: u64,
    ungrouped: u64,
    classified: u64,
    groups: usize,
}

/// Reads the history, groups what no pattern decides, and remembers what others look like.
fn look(args: &Args, loaded: &Loaded) -> Result<Found, Failure> {
    let most = usize::try_from(args.max_templates).unwrap_or(usize::MAX);
    let mut templates = Templates::new(most);
    let mut groups: Vec<Group> = Vec::new();
    let mut decided = Decided::new(MAX_DECIDED);
    let (mut unmatched, mut ungrouped, mut classified) = (0, 0, 0);
    // The last reply decided, since campaigns repeat: masking costs more than comparing.
    let mut last = String::new();
    let read = args.acct.read(&[], "reading", &mut |record| {
        let verdict = loaded.set.classify(&record.event);
        if verdict.category.is_empty() || !record.event.category.is_empty() {
            return;
        }
        classified += 1;
        let reply = record.event.reply_text();
        if verdict.by_pattern() {
            if reply != last {
                decided.add(&masked(reply), reply);
                reply.clone_into(&mut last);
            }
            return;
        }
        unmatched += 1;
        match templates.place(reply) {
            Some(number) => {
                if number == groups.len() {
                    groups.push(Group::default());
                }
                groups[number].add(record, reply, verdict.category, verdict.rule);
            }
            None => ungrouped += 1,
        }
    })?;
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| groups[*b].events.cmp(&groups[*a].events).then(a.cmp(b)));
    let mut merged: Vec<(Template, Group)> = templates
        .merged(&order, MERGED)
        .into_iter()
        .map(|(template, members)| {
            let mut members = members.into_iter().map(|number| std::mem::take(&mut groups[number]));
            let mut group = members.next().unwrap_or_default();
            members.for_each(|member| group.join(member));
            (template, group)
        })
        .collect();
    merged.sort_by_key(|(_, group)| std::cmp::Reverse(group.events));
    Ok(Found { groups: merged, unmatched, ungrouped, classified, decided, read })
}

/// A rule for this group that would be read and would decide its examples.
fn propose(template: &Template, group: &Group, decided: &Decided) -> Result<Suggestion, &'static str> {
    if !is_telling(template) || group.examples.is_empty() {
        return Err("its words are too few for a rule");
    }
    let suggestion = suggest(template, &group.examples, group.verdict().0, decided)
        .ok_or("what these replies have in common is said in replies that other rules decide")?;
    let findings = super::lint::of_text("suggestion", &suggestion.text());
    if findings.iter().any(|f| f.is_error() || f.is_warning()) {
        return Err("what these replies have in common is too little for a rule");
    }
    Ok(suggestion)
}

/// Goes through the history once more: how many events that other rules decide each suggestion would take.
fn held_against_history(args: &Args, loaded: &Loaded, shown: &mut [Shown]) -> Result<(), Failure> {
    let regexes: Vec<(usize, &str)> =
        shown.iter().enumerate().filter_map(|(at, s)| Some((at, s.suggestion.as_ref().ok()?.regex.as_str()))).collect();
    if regexes.is_empty() {
        return Ok(());
    }
    let set = regex::RegexSetBuilder::new(regexes.iter().map(|(_, r)| r)).case_insensitive(true).build()?;
    let places: Vec<usize> = regexes.iter().map(|(at, _)| *at).collect();
    let mut takes = vec![0u64; shown.len()];
    let (mut last, mut last_hits): (String, Vec<usize>) = (String::new(), Vec::new());
    args.acct.read(&[], "checking suggestions", &mut |record| {
        let verdict = loaded.set.classify(&record.event);
        if !verdict.by_pattern() {
            return;
        }
        let reply = record.event.reply_text();
        if reply != last {
            reply.clone_into(&mut last);
            last_hits = set.matches(reply).into_iter().map(|n| places[n]).collect();
        }
        for at in &last_hits {
            takes[*at] += 1;
        }
    })?;
    for (shown, takes) in shown.iter_mut().zip(takes) {
        shown.takes = takes;
        if takes > 0 {
            shown.suggestion = Err("every rule short enough would take replies that other rules decide");
        }
    }
    Ok(())
}

fn to_json(shown: &[Shown], counts: &Counts, loaded: &Loaded, read: &super::acct::Read) -> serde_json::Value {
    let groups: Vec<_> = shown
        .iter()
        .enumerate()
        .map(|(at, s)| {
            let (category, rule) = s.group.verdict();
            json!({
                "number": at + 1,
                "template": s.template.to_string(),
                "events": s.group.events,
                "share": share(s.group.events, counts.unmatched),
                "category": category,
                "rule": rule,
                "providers": s.group.providers().iter().map(|(p, n)| json!({ "provider": p, "events": n })).collect::<Vec<_>>(),
                "otherProviders": s.group.other_providers,
                "examples": s.group.examples,
                "suggestion": s.suggestion.as_ref().ok().map(|s| json!({
                    "regex": s.regex, "category": s.category, "text": s.text(),
                })),
                "noSuggestion": s.suggestion.as_ref().err(),
            })
        })
        .collect();
    json!({
        "files": read.files,
        "rows": read.rows,
        "events": counts.classified,
        "unmatched": counts.unmatched,
        "groups": counts.groups,
        "ungrouped": counts.ungrouped,
        "rules": loaded.name,
        "rulesId": loaded.set.id().to_string(),
        "templates": groups,
    })
}

fn print(
    shown: &[Shown],
    counts: &Counts,
    loaded: &Loaded,
    read: &super::acct::Read,
    args: &Args,
) -> Result<(), Failure> {
    let paint = Paint::stdout();
    say!(
        "{}",
        paint.bold(&format!(
            "{} of {} classified events ({}) match no pattern of {}: {} different replies ({} rows of {} files)",
            grouped(counts.unmatched),
            grouped(counts.classified),
            percent(counts.unmatched, counts.classified),
            loaded.name,
            grouped(counts.groups as u64),
            grouped(read.rows),
            grouped(read.files),
        ))
    )?;
    if counts.ungrouped > 0 {
        say!(
            "{}",
            paint.warning(&format!(
                "  {} events are like none of the first {} groups and are only counted: --max-templates",
                grouped(counts.ungrouped),
                grouped(args.max_templates)
            ))
        )?;
    }
    for (at, Shown { template, group, suggestion, .. }) in shown.iter().enumerate() {
        let (category, rule) = group.verdict();
        let by = if rule.is_empty() { "by nothing".to_owned() } else { format!("by {rule}") };
        say!(
            "\n{} {}",
            paint.bold(&format!(
                "{:>3}  {} events, {}",
                at + 1,
                grouped(group.events),
                percent(group.events, counts.unmatched)
            )),
            paint.dim(&format!("now {category} {by}"))
        )?;
        say!("     {}", on_one_line(&template.to_string(), 200))?;
        let providers = group.providers();
        let mut text: Vec<String> = providers.iter().take(5).map(|(p, n)| format!("{p} {}", grouped(*n))).collect();
        let more: u64 = providers.iter().skip(5).map(|(_, n)| n).sum::<u64>() + group.other_providers;
        if more > 0 {
            text.push(format!("others {}", grouped(more)));
        }
        say!("     at   {}", text.join(", "))?;
        for example in &group.examples {
            say!("     e.g. {}", on_one_line(example, 200))?;
        }
        match suggestion {
            Ok(suggestion) => say!("     rule {}", paint.good(suggestion.text().lines().last().unwrap_or("")))?,
            Err(why) => say!("     {}", paint.dim(&format!("no rule suggested: {why}")))?,
        }
    }
    if counts.groups > shown.len() {
        say!(
            "\n{}",
            paint.dim(&format!("{} more groups; --top 0 shows all", grouped((counts.groups - shown.len()) as u64)))
        )?;
    }
    Ok(())
}

/// Appends the suggestions to a pattern file that is read with them without errors; else nothing is written.
fn write(file: &std::path::Path, shown: &[Shown], choose: &[usize]) -> Result<(), Failure> {
    if let Some(wrong) = choose.iter().find(|n| **n == 0 || **n > shown.len()) {
        return Err(format!("--choose {wrong}: there is no such group among the {} shown", shown.len()).into());
    }
    let chosen: Vec<&Suggestion> = shown
        .iter()
        .enumerate()
        .filter(|(at, _)| choose.is_empty() || choose.contains(&(at + 1)))
        .filter_map(|(_, s)| s.suggestion.as_ref().ok())
        .collect();
    let before = match super::rules::read(file) {
        Ok(PatternSource::File(content)) => content.text,
        _ if !file.exists() => String::new(),
        Ok(_) => String::new(),
        Err(e) => return Err(e),
    };
    let mut added = String::new();
    if !before.is_empty() && !before.ends_with('\n') {
        added.push('\n');
    }
    for suggestion in &chosen {
        added.push_str(&format!("\n{}", suggestion.text()));
    }
    let whole = PatternSource::file(file, format!("{before}{added}"));
    if compile(&[whole]).is_err() {
        return Err(format!("{}: nothing was written", file.display()).into());
    }
    let mut out = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .map_err(|e| format!("{}: {e}", file.display()))?;
    out.write_all(added.as_bytes())?;
    eprintln!("{} rules appended to {}; read them, then: carom patterns apply", chosen.len(), file.display());
    Ok(())
}
