//! Changing: entering, taking off, deleting.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Desk, Misuse, array, end, next, number, scope, text, time};
use crate::cli::Failure;
use crate::manage::SuppressionCommand;
use crate::manage::suppression::PurgeFilter;

/// Subjects sent at once.
const AT_ONCE: usize = 1000;

/// Arguments of `carom suppress add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Addresses or @domains
    #[arg(required = true)]
    pub(super) subjects: Vec<String>,
    /// Why, for the record
    #[arg(long, default_value = "added by hand")]
    reason: String,
    /// Only for this mail [default: global]
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// Until this time, or for so long: 2031-05-01, 90d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expire: Option<String>,
}

/// Arguments of `carom suppress remove`.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// Addresses or @domains
    #[arg(required = true)]
    pub(super) subjects: Vec<String>,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// The entry that counts for this mail [default: global]
    #[arg(long, conflicts_with = "all_scopes")]
    pub(super) scope: Option<String>,
    /// In all scopes: also what they unsubscribed from
    #[arg(long)]
    all_scopes: bool,
}

/// Arguments of `carom suppress purge`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Deletes the entries of which everything that is given is true, for good: nothing is left but a line of \
    history for all of them. Mail to those that still suppressed is sent again. --batch N takes an import back. An entry \
    that was taken off keeps a row, so that old events read again do not put it back; those are what --removed-before is for."
)]
pub(super) struct Purge {
    /// Taken off before this time
    #[arg(long, value_name = "TIME")]
    removed_before: Option<String>,
    /// Those whose time is over
    #[arg(long)]
    expired: bool,
    /// Entered by: auto, manual, import, unsubscribe
    #[arg(long, value_name = "WHO")]
    source: Option<String>,
    /// Of this import
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Entered by this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// That count for this mail; a kind alone (list, job) stands for all of its names
    #[arg(long)]
    scope: Option<String>,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Why, for the record
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
}

/// Whether the subjects and the scope can be read at all.
pub(super) fn check(subjects: &[String], of: Option<&str>) -> Result<(), Misuse> {
    for subject in subjects {
        crate::suppress::folded(subject).map_err(|e| Misuse(e.to_string()))?;
    }
    of.map(scope).transpose().map(drop)
}

pub(super) fn add(desk: &mut Desk<'_>, args: &Add) -> Result<ExitCode, Failure> {
    let scope = args.scope.as_deref().map(scope).transpose()?.unwrap_or_default();
    let expires = args.expire.as_deref().map(|t| end("--expire", t)).transpose()?.map_or(0, |t| t.0);
    let mut failed = 0;
    for subjects in args.subjects.chunks(AT_ONCE) {
        let command = SuppressionCommand::Add {
            subjects: subjects.to_vec(),
            scope: scope.clone(),
            reason: args.reason.clone(),
            expires,
            who: desk.who.clone(),
        };
        failed += each(desk, command)?;
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn remove(desk: &mut Desk<'_>, args: &Remove) -> Result<ExitCode, Failure> {
    if args.reason.trim().is_empty() {
        return Err(Misuse("--reason: say why".to_owned()).into());
    }
    let scope = args.scope.as_deref().map(scope).transpose()?.unwrap_or_default();
    let mut failed = 0;
    for subjects in args.subjects.chunks(AT_ONCE) {
        let command = SuppressionCommand::Remove {
            subjects: subjects.to_vec(),
            scope: scope.clone(),
            all_scopes: args.all_scopes,
            reason: args.reason.clone(),
            who: desk.who.clone(),
        };
        failed += each(desk, command)?;
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says what became of each subject; how many failed.
fn each(desk: &mut Desk<'_>, command: SuppressionCommand) -> Result<u64, Failure> {
    let data = desk.ask(command)?;
    for result in array(&data, "results") {
        if desk.json() {
            say!("{result}")?;
            continue;
        }
        let error = text(result, "error");
        match error.is_empty() {
            true => say!("{} is {}.", text(result, "subject"), text(result, "result"))?,
            false => eprintln!("carom: {error}"),
        }
        let left: Vec<&str> = array(result, "stillSuppressedIn").iter().filter_map(Value::as_str).collect();
        if !left.is_empty() {
            say!("  still suppressed for: {} (--scope, or --all-scopes)", left.join(", "))?;
        }
    }
    Ok(number(&data, "failed"))
}

pub(super) fn purge(desk: &mut Desk<'_>, args: &Purge) -> Result<ExitCode, Failure> {
    let which = PurgeFilter {
        removed_before: args.removed_before.as_deref().map(|t| time("--removed-before", t)).transpose()?.map(|t| t.0),
        expired: args.expired,
        source: args.source.clone(),
        batch: args.batch,
        rule: args.rule.clone(),
        scope: args.scope.clone(),
    };
    if which == PurgeFilter::default() {
        let help = "say what is to be deleted: --removed-before, --expired, --source, --batch, --rule or --scope";
        return Err(Misuse(help.to_owned()).into());
    }
    let (mut entries, mut active, mut after) = (0, 0, String::new());
    loop {
        let data = desk.ask(SuppressionCommand::Purge {
            which: which.clone(),
            dry_run: args.dry_run,
            reason: args.reason.clone().unwrap_or_default(),
            who: desk.who.clone(),
            after,
        })?;
        entries += number(&data, "entries");
        active += number(&data, "active");
        match next(&data) {
            Some(next) => after = next,
            None => break,
        }
    }
    if desk.json() {
        say!("{}", json!({ "entries": entries, "active": active, "dryRun": args.dry_run }))?;
    } else {
        let would = if args.dry_run { "would be " } else { "" };
        say!("{entries} entries {would}deleted, {active} of which suppressed.")?;
    }
    Ok(ExitCode::SUCCESS)
}
