//! What is answered about the suppression list, by a running server or over its store.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::bulk_import::BulkImports;
use super::commands::text;
use super::quarantine::BlockOn;
use super::{NodeError, forget, now};
use crate::config::Config;
use crate::event::{Scope, Time};
use crate::manage::suppression::{EntryFilter, ImportInfo, ImportRow, MailFacts, PurgeFilter};
use crate::manage::{Answer, SuppressionCommand};
use crate::report::quarantine::Quarantine;
use crate::store::{Store, SuppressTable};
use crate::suppress::book::Line;
use crate::suppress::erase::{self, Purge};
use crate::suppress::incoming::{self, Batch, NewEntry, NewSubject};
use crate::suppress::operate::{self, Asked, Order, ScopeFilter};
use crate::suppress::rules::{StrikeKey, Strikes};
use crate::suppress::{self, Entry, Filter, Hasher, Key, Listed, Mail, Source, State, SubjectKey, Suppression, audit};

/// Most entries in one answer, and most subjects or rows in one request.
const MAX_PAGE: usize = 10_000;
/// Lines of history shown of one subject.
const MAX_SHOWN: usize = 1000;

/// What the commands work on.
pub(super) struct On<'a> {
    pub(super) store: &'a Store,
    pub(super) list: &'a Suppression,
    pub(super) quarantine: &'a Quarantine,
    pub(super) config: &'a Config,
    pub(super) block_on: BlockOn<'a>,
    pub(super) bulk: &'a BulkImports,
}

/// The list of this store, empty yet, with keys as the configuration makes them; fails when it was made with others.
pub(super) fn open(config: &Config, store: &Store) -> Result<Suppression, NodeError> {
    let hasher = match &config.suppression_hash_key {
        Some(key) => Hasher::keyed(key.reveal().as_bytes()),
        None => Hasher::default(),
    };
    suppress::storage::adopt(store.suppression(), &hasher, config.suppression_hashed).map_err(super::other)?;
    Ok(Suppression::with_hasher(hasher))
}

/// Which of these addresses are suppressed for a campaign with this sender, job and VirtualMTA: their places, from 0.
pub(super) fn check_many(list: &Suppression, addresses: &[String], about: (&str, &str, &str)) -> Answer {
    let (sender, job, vmta) = about;
    let sender_domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
    // What is given may be a VirtualMTA or a pool; an entry for either counts.
    let (mail, now) = (Mail { sender_domain, job, vmta, pool: vmta, ..Mail::default() }, now());
    let suppressed = |(place, address): (usize, &String)| list.check(address, &mail, now).map(|_| place);
    let places: Vec<usize> = addresses.iter().take(MAX_PAGE).enumerate().filter_map(suppressed).collect();
    Answer::data(json!({ "suppressed": places }))
}

/// Why there is no answer, in words.
pub(super) type Said<T> = Result<T, String>;

/// Carries the command out. Blocks.
pub(super) fn answer(on: &On<'_>, command: SuppressionCommand) -> Answer {
    carry_out(on, command).unwrap_or_else(Answer::error)
}

pub(super) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn carry_out(on: &On<'_>, command: SuppressionCommand) -> Said<Answer> {
    let (store, list) = (on.store, on.list);
    let tables = store.suppression();
    Ok(match command {
        SuppressionCommand::List { filter, after, limit } => {
            let filter = Filter { after: key(&after)?, ..entry_filter(filter)? };
            let page = suppress::list(tables, &filter, (limit as usize).min(MAX_PAGE)).map_err(words)?;
            let entries: Vec<_> = page.entries.iter().map(entry).collect();
            Answer::data(json!({ "entries": entries, "next": page.next.map(hex) }))
        }
        SuppressionCommand::Show { subject } => show(on, &subject)?,
        SuppressionCommand::Check { subjects, mail, hashed } => {
            few(subjects.len())?;
            let results: Vec<Value> = subjects.iter().map(|s| check(on, s, &mail, hashed)).collect::<Said<_>>()?;
            Answer::data(json!({ "results": results }))
        }
        SuppressionCommand::Add { subjects, scope, reason, expires, who } => {
            few(subjects.len())?;
            let (scope, now) = (scope_of(&scope)?, now());
            if expires != 0 && Time(expires) <= now {
                return Err("the end of the entry is over already".to_owned());
            }
            let order = Order { scope: &scope, reason: &reason, who: named(&who), expires: Time(expires), now };
            each(&subjects, "suppressed", "suppressed already", |subject| operate::add(list, store, subject, &order))
        }
        SuppressionCommand::Remove { subjects, scope, all_scopes, reason, who } => {
            few(subjects.len())?;
            if reason.trim().is_empty() {
                return Err("say why: a removal needs a reason".to_owned());
            }
            remove(on, &subjects, (&scope_of(&scope)?, all_scopes), &reason, named(&who))?
        }
        SuppressionCommand::Stats { after } => {
            let (stats, next) = audit::stats(tables, key(&after)?, now()).map_err(words)?;
            let mut value = json!({
                "states": stats.states, "rules": stats.rules, "sources": stats.sources,
                "providers": stats.providers, "scopes": stats.scopes, "days": stats.days, "batches": stats.batches,
                "domains": stats.domains, "hashOnly": stats.nameless,
            });
            value["next"] = json!(next.map(hex));
            if after.is_empty() {
                value["imports"] = json!(incoming::all(tables).map_err(words)?);
                value["bulkImports"] = json!(on.bulk.all(store)?);
            }
            Answer::data(value)
        }
        SuppressionCommand::History { subject, since, after, limit } => {
            let subject = match subject.as_str() {
                "" => None,
                subject => Some(list.hasher().subject(&suppress::folded(subject).map_err(words)?)),
            };
            let after =
                HEXLOWER.decode(after.as_bytes()).map_err(|_| format!("{after:?} is no place to go on from"))?;
            let lines = audit::history(tables, subject, Time(since), &after, (limit as usize).min(MAX_PAGE));
            let lines = lines.map_err(words)?;
            let next = lines.next.map(|row| HEXLOWER.encode(&row));
            Answer::data(json!({ "lines": lines.lines.iter().map(line).collect::<Vec<_>>(), "next": next }))
        }
        SuppressionCommand::Purge { which, dry_run, reason, who, after } => {
            purge(on, which, dry_run, &reason, named(&who), &after)?
        }
        SuppressionCommand::ImportBegin { info } => import_begin(on, info)?,
        SuppressionCommand::ImportRows { batch, from, records, rows } => {
            few(rows.len())?;
            let rows: Vec<NewEntry> = rows.into_iter().map(|row| new_entry(on, row)).collect::<Said<_>>()?;
            let batch = incoming::enter(list, store, (batch, from, records), &rows, now()).map_err(words)?;
            Answer::data(json!(batch))
        }
        SuppressionCommand::ImportEnd { batch, skipped, rejected } => {
            let batch = incoming::end(store, batch, skipped, rejected, now()).map_err(words)?;
            tracing::info!(batch = batch.batch, entries = batch.entered, who = batch.who, "suppression list imported");
            Answer::data(json!(batch))
        }
        SuppressionCommand::BulkBegin { info } => on.bulk.begin(on, info)?,
        SuppressionCommand::BulkRows { batch, rows } => on.bulk.rows(on, batch, &rows)?,
        SuppressionCommand::BulkEnd { batch, skipped, rejected } => on.bulk.end(on, batch, (skipped, rejected))?,
        SuppressionCommand::BulkStatus { batch } => on.bulk.status(store, batch)?,
        SuppressionCommand::Forget { address, who, after } => {
            forget::forget(on, &address, named(&who), &after).map(Answer::data)?
        }
    })
}

pub(super) fn few(n: usize) -> Said<()> {
    match n {
        0..=MAX_PAGE => Ok(()),
        _ => Err(format!("at most {MAX_PAGE} at once")),
    }
}

pub(super) fn named(who: &str) -> &str {
    if who.trim().is_empty() { "operator" } else { who.trim() }
}

fn key(after: &str) -> Said<Option<Key>> {
    match after {
        "" => Ok(None),
        hex => match HEXLOWER.decode(hex.as_bytes()).ok().and_then(|bytes| Key::from_bytes(&bytes)) {
            Some(key) => Ok(Some(key)),
            None => Err(format!("{hex:?} is no key: give the one of the page before")),
        },
    }
}

fn hex(key: Key) -> String {
    let (bytes, len) = key.bytes();
    HEXLOWER.encode(&bytes[..len])
}

pub(super) fn scope_of(scope: &str) -> Said<Scope> {
    if scope.trim().is_empty() { Ok(Scope::global()) } else { scope.parse().map_err(words) }
}

fn scope_filter(scope: Option<String>) -> Said<Option<ScopeFilter>> {
    let wrong =
        |s: &str| format!("{s:?} is no scope: write global, or sender-domain, source, job, list or vmta, and a name");
    scope.map(|s| ScopeFilter::parse(&s).ok_or_else(|| wrong(&s))).transpose()
}

fn source_of(name: Option<String>) -> Said<Option<Source>> {
    let by_name = |name: &str| Source::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(name));
    let wrong = |name: &str| format!("{name:?} is no source: write auto, manual, import or unsubscribe");
    name.map(|n| by_name(&n).ok_or_else(|| wrong(&n))).transpose()
}

fn entry_filter(filter: EntryFilter) -> Said<Filter> {
    let state = |name: String| {
        let found = State::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(&name));
        found.ok_or_else(|| format!("{name:?} is no state: write active, held or removed"))
    };
    Ok(Filter {
        contains: filter.contains,
        domain: filter.domain.map(|d| d.trim_start_matches('@').to_owned()),
        rule: filter.rule,
        source: source_of(filter.source)?,
        state: filter.state.map(state).transpose()?,
        since: filter.since.map(Time),
        provider: filter.provider,
        scope: scope_filter(filter.scope)?,
        batch: filter.batch,
        after: None,
    })
}

/// The same done to each subject; those that are no addresses are named and do not stop the others.
fn each<E: std::fmt::Display>(
    subjects: &[String],
    done: &str,
    not_done: &str,
    mut f: impl FnMut(&str) -> Result<bool, E>,
) -> Answer {
    let mut results = Vec::with_capacity(subjects.len());
    let (mut changed, mut failed) = (0, 0);
    for subject in subjects {
        results.push(match f(subject) {
            Ok(true) => {
                changed += 1;
                json!({ "subject": subject, "changed": true, "result": done })
            }
            Ok(false) => json!({ "subject": subject, "changed": false, "result": not_done }),
            Err(error) => {
                failed += 1;
                json!({ "subject": subject, "changed": false, "error": error.to_string() })
            }
        });
    }
    Answer::data(json!({ "changed": changed, "failed": failed, "results": results }))
}

fn remove(on: &On<'_>, subjects: &[String], (scope, all): (&Scope, bool), reason: &str, who: &str) -> Said<Answer> {
    let mut results = Vec::with_capacity(subjects.len());
    let (mut changed, mut failed) = (0, 0);
    for subject in subjects {
        let done = (|| {
            let there = suppress::show(on.list, on.store.suppression(), subject)?;
            let mut scopes: Vec<Scope> = match all {
                true => there.iter().filter(|l| l.entry.is_active()).map(|l| l.entry.scope.clone()).collect(),
                false => vec![scope.clone()],
            };
            // What was applied and is not committed yet stands in memory alone.
            if all && !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
            let (mut removed, now) = (Vec::new(), now());
            for scope in scopes {
                let order = Order { scope: &scope, reason, who, expires: Time::UNKNOWN, now };
                if operate::remove(on.list, on.store, subject, &order)? {
                    removed.push(scope.to_string());
                }
            }
            let left: Vec<String> = suppress::show(on.list, on.store.suppression(), subject)?
                .iter()
                .filter(|l| l.entry.is_active() && !l.entry.is_expired(now))
                .map(|l| l.entry.scope.to_string())
                .collect();
            Ok::<_, operate::SuppressError>((removed, left))
        })();
        results.push(match done {
            Ok((removed, left)) => {
                changed += usize::from(!removed.is_empty());
                let result =
                    if removed.is_empty() { "not suppressed in that scope" } else { "not suppressed any more" };
                json!({ "subject": subject, "changed": !removed.is_empty(), "result": result, "scopes": removed,
                    "stillSuppressedIn": left })
            }
            Err(error) => {
                failed += 1;
                json!({ "subject": subject, "changed": false, "error": error.to_string() })
            }
        });
    }
    Ok(Answer::data(json!({ "changed": changed, "failed": failed, "results": results })))
}

fn show(on: &On<'_>, subject: &str) -> Said<Answer> {
    let tables = on.store.suppression();
    let folded = suppress::folded(subject).map_err(words)?;
    let key = on.list.hasher().subject(&folded);
    let mut entries: Vec<Value> = Vec::new();
    let mut against = Vec::new();
    for own in operate::own_subjects(on.list, &folded) {
        entries.extend(operate::of_subject(tables, own).map_err(words)?.iter().map(entry));
        against.extend(strikes(on, own)?);
    }
    let domain = folded.split_once('@').filter(|(local, _)| !local.is_empty()).map(|(_, d)| format!("@{d}"));
    let of_domain: Vec<Value> = match domain {
        Some(domain) => suppress::show(on.list, tables, &domain).map_err(words)?.iter().map(entry).collect(),
        None => Vec::new(),
    };
    let (mut lines, mut after) = (Vec::new(), Vec::new());
    loop {
        let piece = audit::history(tables, Some(key), Time::UNKNOWN, &after, MAX_SHOWN - lines.len()).map_err(words)?;
        lines.extend(piece.lines.iter().map(line));
        match piece.next {
            Some(next) if lines.len() < MAX_SHOWN => after = next,
            _ => break,
        }
    }
    Ok(Answer::data(json!({
        "subject": folded,
        "hash": HEXLOWER.encode(&key.0),
        "entries": entries,
        "domainEntries": of_domain,
        "strikes": against,
        "history": lines,
    })))
}

/// The strikes against this hash, by rule and scope.
fn strikes(on: &On<'_>, subject: SubjectKey) -> Said<Vec<Value>> {
    let mut found = Vec::new();
    let each = &mut |row: &[u8], value: &[u8]| {
        if !row.starts_with(&subject.0) {
            return false;
        }
        if let Some(key) = StrikeKey::from_bytes(row) {
            let named = on.config.auto_suppression.rules.iter().find(|r| StrikeKey::of(key.key, &r.name) == key);
            let rule = named.map_or_else(|| format!("(a rule no more: {:08x})", key.rule), |r| r.name.to_string());
            let strikes = Strikes::decode(value).all().len();
            found.push(json!({ "rule": rule, "scope": key.key.scope_kind().name(), "strikes": strikes }));
        }
        true
    };
    on.store.suppression().for_each_suppress_row(SuppressTable::Strikes, &subject.0, each).map_err(words)?;
    Ok(found)
}

fn check(on: &On<'_>, subject: &str, mail: &MailFacts, hashed: bool) -> Said<Value> {
    let asked = if hashed {
        match hash_of(on, subject) {
            Ok(hash) => Asked::Hash(hash),
            Err(error) => return Ok(json!({ "subject": subject, "error": error })),
        }
    } else {
        match suppress::folded(subject) {
            Ok(folded) => Asked::Subject(folded),
            Err(error) => return Ok(json!({ "subject": subject, "error": error.to_string() })),
        }
    };
    let mail = Mail {
        sender_domain: &mail.sender_domain,
        source: &mail.source,
        job: &mail.job,
        list: &mail.list,
        vmta: &mail.vmta,
        pool: &mail.pool,
        ..Mail::default()
    };
    let decides = operate::deciding(on.list, on.store.suppression(), &asked, &mail, now()).map_err(words)?;
    // Memory is asked too: what was applied is committed a moment later.
    let suppressed = match &asked {
        Asked::Subject(s) if !s.starts_with('@') => on.list.check(s, &mail, now()),
        _ => None,
    };
    Ok(json!({
        "subject": subject,
        "address": subject,
        "suppressed": decides.is_some() || suppressed.is_some(),
        "held": decides.as_ref().map_or(suppressed.is_some_and(|s| s.held), |l| l.entry.state == State::Held),
        "entry": decides.as_ref().map(entry),
    }))
}

/// A SHA-256 sum that others gave, or the first half of one, as the list keeps it.
pub(super) fn hash_of(on: &On<'_>, text: &str) -> Said<SubjectKey> {
    if on.list.hasher().is_keyed() {
        return Err("this list is kept with a suppression-hash-key, so plain sums can't be looked up in it".to_owned());
    }
    let wrong = || format!("{text:?} is no SHA-256 sum in hexadecimal (64 digits, or the first 32)");
    let bytes = HEXLOWER.decode(text.trim().to_ascii_lowercase().as_bytes()).map_err(|_| wrong())?;
    match (bytes.first_chunk(), bytes.len()) {
        (Some(first), 16 | 32) => Ok(SubjectKey(*first)),
        _ => Err(wrong()),
    }
}

fn purge(on: &On<'_>, which: PurgeFilter, dry_run: bool, reason: &str, who: &str, after: &str) -> Said<Answer> {
    let described = serde_json::to_value(&which).map_err(words)?;
    let which = Purge {
        removed_before: which.removed_before.map(Time),
        expired: which.expired,
        source: source_of(which.source)?,
        batch: which.batch,
        rule: which.rule,
        scope: scope_filter(which.scope)?,
    };
    if which.is_empty() {
        return Err(
            "say what is to be deleted: removed before a time, expired, of a source, batch, rule or scope".into()
        );
    }
    if !dry_run && reason.trim().is_empty() {
        return Err("say why: deleting needs a reason".to_owned());
    }
    // A whole import, and nothing else said: the large ones are taken back in the order of the table.
    if let Some(number) = which.batch.filter(|_| !dry_run) {
        let whole = Purge { batch: Some(number), ..Purge::default() };
        if which == whole
            && let Some(answer) = on.bulk.take_back(on, number, (who, reason.trim()), after)
        {
            return answer;
        }
        if on.bulk.is_running(number) {
            return Err(format!("import {number} is being merged or taken back: wait for its end"));
        }
    }
    let given = described.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null() && **v != json!(false));
    let given: Vec<String> = given.map(|(name, v)| format!("{name}={v}")).collect();
    let why = format!("{} ({})", reason.trim(), given.join(", "));
    let said = (!dry_run).then_some((who, why.as_str()));
    let purged = erase::purge(on.list, on.store, &which, key(after)?, said, now()).map_err(words)?;
    if !dry_run && purged.entries > 0 {
        tracing::info!(
            entries = purged.entries,
            active = purged.active,
            who,
            "entries of the suppression list deleted"
        );
    }
    Ok(Answer::data(json!({ "entries": purged.entries, "active": purged.active, "next": purged.next.map(hex) })))
}

fn import_begin(on: &On<'_>, info: ImportInfo) -> Said<Answer> {
    if info.hashed && on.list.hasher().is_keyed() {
        return Err(
            "this list is kept with a suppression-hash-key, so a list of plain sums can't be taken in".to_owned()
        );
    }
    scope_of(&info.scope)?;
    let new = Batch {
        identity: info.identity,
        name: info.name,
        format: info.format,
        reason: info.reason,
        who: named(&info.who).to_owned(),
        ..Batch::default()
    };
    Ok(Answer::data(json!(incoming::begin(on.store, new, info.anew, now()).map_err(words)?)))
}

fn new_entry(on: &On<'_>, row: ImportRow) -> Said<NewEntry> {
    let subject = match row.subject.contains('@') {
        true => NewSubject::Text(row.subject),
        false => NewSubject::Hash(hash_of(on, &row.subject)?),
    };
    let entry = Entry {
        rule: if row.rule.is_empty() { "import".into() } else { row.rule.into() },
        time: if row.time == 0 { now() } else { Time(row.time) },
        expires: Time(row.expires),
        scope: scope_of(&row.scope)?,
        category: row.category.into(),
        reply: row.reply.into(),
        note: row.note.into(),
        ..Entry::default()
    };
    Ok(NewEntry { subject, entry })
}

fn entry(listed: &Listed) -> Value {
    let e = &listed.entry;
    json!({
        "address": e.subject,
        "key": hex(listed.key),
        "scope": e.scope.to_string(),
        "state": e.state.name(),
        "rule": e.rule,
        "source": e.source.name(),
        "time": text(e.time),
        "expires": e.expires.is_known().then(|| text(e.expires)),
        "event": (e.by.seq != 0).then(|| e.by.to_string()),
        "provider": e.provider,
        "category": e.category,
        "reply": e.reply,
        "note": e.note,
        "batch": (e.batch != 0).then_some(e.batch),
    })
}

fn line(line: &Line) -> Value {
    json!({
        "time": text(line.time),
        "change": line.change.name(),
        "subject": line.subject,
        "key": line.key.map(hex),
        "scope": line.scope.to_string(),
        "who": line.who,
        "provider": line.provider,
        "why": line.why,
    })
}
