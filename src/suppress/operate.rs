//! What operators do with the list by hand: enter, take off, look through.
//!
//! Each change is one transaction of the tables and then takes effect in memory; if the transaction fails, nothing
//! changed. Each change leaves a line in the list's history that says who entered or took off whom and why. Reads and
//! writes block for the disk: call from a thread that may. A look through many entries is bounded: [`MAX_SCAN`] rows, then
//! the page ends, and says where the next one begins.

use super::book::{self, Change};
use super::storage::{keeps_hashes_only, redacted};
use super::{Entry, EntryError, Key, Mail, Source, State, SubjectKey, Suppression, rules};
use crate::event::{Address, AddressError, AddressKey, EventId, Scope, ScopeKind, Time};
use crate::store::{Store, StoreError, SuppressTable, Tables};

/// Rows looked at for one page, at most: a second or so.
pub const MAX_SCAN: usize = 500_000;

/// Why the list was not changed, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SuppressError {
    /// The text is no address.
    #[error("{0:?}: {1}")]
    Address(String, AddressError),
    /// The tables can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row of the address can't be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// What an operator says with a change.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// For whose mail the entry counts.
    pub scope: &'a Scope,
    /// Why.
    pub reason: &'a str,
    /// Who says so.
    pub who: &'a str,
    /// When the entry ends; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// Now.
    pub now: Time,
}

/// Enters a subject by hand; `false` when it was on the list already (it keeps its entry).
pub fn add(list: &Suppression, store: &Store, subject: &str, order: &Order<'_>) -> Result<bool, SuppressError> {
    let subject = folded(subject)?;
    let key = list.hasher().subject(&subject).in_scope(order.scope);
    let entry = Entry {
        source: Source::Manual,
        rule: rules::MANUAL.into(),
        by: EventId { store: store.id(), seq: 0 },
        time: order.now,
        expires: order.expires,
        scope: order.scope.clone(),
        subject: subject.as_str().into(),
        note: order.reason.into(),
        ..Entry::default()
    };
    let added = store.suppression().write(|tx| {
        if book::find(tx, &key)?.is_some_and(|e| e.is_active() && !e.is_expired(order.now)) {
            return Ok(None);
        }
        book::put(tx, &key, &entry, (Change::Enter, order.now), (order.who, order.reason))?;
        keeps_hashes_only(tx).map(Some)
    })?;
    if let Some(hashed) = added {
        list.apply(&key, &entry);
        log("suppressed by hand", hashed, &key, &subject, order);
    }
    Ok(added.is_some())
}

/// Takes a subject off the list; `false` when it was not on it. Events that are in the ledger by now do not put it
/// back, later ones may.
pub fn remove(list: &Suppression, store: &Store, subject: &str, order: &Order<'_>) -> Result<bool, SuppressError> {
    let subject = folded(subject)?;
    let key = list.hasher().subject(&subject).in_scope(order.scope);
    let was_in = list.contains(&key);
    let last = EventId { store: store.id(), seq: store.ledger().end().saturating_sub(1) };
    let removed = store.suppression().write(|tx| {
        let before = book::find(tx, &key)?;
        // One that the consumer has applied and not yet committed has no row so far.
        if !was_in && !before.as_ref().is_some_and(Entry::is_active) {
            return Ok(None);
        }
        let before = before.unwrap_or_else(|| Entry {
            scope: order.scope.clone(),
            subject: subject.as_str().into(),
            ..Entry::default()
        });
        // Somebody who was forgotten is not named again by the reason for something else.
        let reason = if before.subject.is_empty() { redacted(order.reason, &subject) } else { order.reason.to_owned() };
        let entry = Entry { state: State::Removed, by: last, time: order.now, note: reason.as_str().into(), ..before };
        book::put(tx, &key, &entry, (Change::Remove, order.now), (order.who, &reason))?;
        keeps_hashes_only(tx).map(Some)
    })?;
    if let Some(hashed) = removed {
        list.remove(&key);
        log("taken off the suppression list", hashed, &key, &subject, order);
    }
    // It stands under the spelling that its provider folds it to, too; what is folded is not folded again.
    match list.hasher().fold(&AddressKey::of(&subject)) {
        Some(mailbox) => Ok(remove(list, store, mailbox.as_str(), order)? | removed.is_some()),
        None => Ok(removed.is_some()),
    }
}

/// The log is kept too: where only hashes are, it names nobody.
fn log(what: &str, hashed: bool, key: &Key, subject: &str, order: &Order<'_>) {
    let hash = data_encoding::HEXLOWER.encode(&key.subject.0);
    let subject = if hashed { hash.as_str() } else { subject };
    let reason = if hashed { "" } else { order.reason };
    tracing::info!(subject, scope = %order.scope, who = order.who, reason, "{what}");
}

/// Which entries are wanted; an absent part wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the address.
    pub contains: Option<String>,
    /// Domain of the address.
    pub domain: Option<String>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Who entered it.
    pub source: Option<Source>,
    /// In which state; without it, all but the removed ones.
    pub state: Option<State>,
    /// Entered at or after this time.
    pub since: Option<Time>,
    /// Provider of the event.
    pub provider: Option<String>,
    /// For whose mail it counts.
    pub scope: Option<ScopeFilter>,
    /// Number of the import.
    pub batch: Option<u32>,
    /// Only keys behind this one: [`Page::next`] of the page before.
    pub after: Option<Key>,
}

/// Which scopes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeFilter {
    /// This one.
    One(Scope),
    /// All of a kind, whatever their names.
    Kind(ScopeKind),
}

impl ScopeFilter {
    /// `global`, `job NAME`, or `job` for all jobs; `None` when it is none of them.
    pub fn parse(text: &str) -> Option<ScopeFilter> {
        let one = text.parse().ok().map(ScopeFilter::One);
        one.or_else(|| ScopeKind::by_name(text.trim()).map(ScopeFilter::Kind))
    }

    /// Whether this scope is wanted.
    pub fn passes(&self, scope: &Scope) -> bool {
        match self {
            ScopeFilter::One(one) => one == scope,
            ScopeFilter::Kind(kind) => scope.kind() == *kind,
        }
    }
}

/// An entry with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Why it is on the list.
    pub entry: Entry,
}

/// Some entries in order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as were asked for.
    pub entries: Vec<Listed>,
    /// Where the next page begins ([`Filter::after`]); none when this is the last.
    pub next: Option<Key>,
}

/// The entries about one subject, in any scope, whether they suppress or were taken off.
pub fn show(list: &Suppression, tables: &Tables, subject: &str) -> Result<Vec<Listed>, SuppressError> {
    of_subject(tables, list.hasher().subject(&folded(subject)?))
}

/// The entries under a hashed subject, in any scope.
pub fn of_subject(tables: &Tables, subject: SubjectKey) -> Result<Vec<Listed>, SuppressError> {
    let mut found = Vec::new();
    tables.for_each_entry(&subject.0, &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| key.subject == subject) else { return false };
        found.extend(Entry::decode(row).ok().map(|entry| Listed { key, entry }));
        true
    })?;
    Ok(found)
}

/// Under what the entries of a mailbox, or of a domain, stand that is folded: as it is spelt, and as its provider folds it.
pub fn own_subjects(list: &Suppression, folded: &str) -> Vec<SubjectKey> {
    let mut subjects = vec![list.hasher().subject(folded)];
    if !folded.starts_with('@')
        && let Some(meant) = list.hasher().fold(&AddressKey::of(folded))
    {
        subjects.push(list.hasher().address(&meant));
    }
    subjects
}

/// Whom a look-up is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A mailbox, or a domain, folded.
    Subject(String),
    /// The hash of one, as it stands in keys.
    Hash(SubjectKey),
}

/// The entry that decides about mail to this subject, in the order in which the list itself looks: the widest scope
/// first, the mailbox before its domain. It goes by the tables, and so sees why as well.
pub fn deciding(
    list: &Suppression,
    tables: &Tables,
    asked: &Asked,
    mail: &Mail<'_>,
    now: Time,
) -> Result<Option<Listed>, SuppressError> {
    let subjects = match asked {
        Asked::Hash(key) => vec![*key],
        Asked::Subject(subject) if subject.starts_with('@') => vec![list.hasher().subject(subject)],
        Asked::Subject(subject) => list.hasher().subjects(&AddressKey::of(subject)).collect(),
    };
    for kind in ScopeKind::ALL.into_iter().filter(|kind| !mail.exempt_scopes.contains(*kind)) {
        let pool = if kind == ScopeKind::Vmta { mail.pool } else { "" };
        for name in [mail.name(kind), pool] {
            let Some(scope) = Scope::of(kind, name) else { continue };
            for subject in &subjects {
                let key = subject.in_scope(&scope);
                let (bytes, len) = key.bytes();
                let row = tables.suppress_row(SuppressTable::Entries, &bytes[..len])?;
                let entry = row.and_then(|row| Entry::decode(&row).ok());
                let counts = |e: &Entry| e.is_active() && !e.is_expired(now) && !mail.is_exempt(&e.rule);
                if let Some(entry) = entry.filter(counts) {
                    return Ok(Some(Listed { key, entry }));
                }
            }
        }
    }
    Ok(None)
}

/// The first `most` entries that pass the filter.
pub fn list(tables: &Tables, filter: &Filter, most: usize) -> Result<Page, SuppressError> {
    let mut page = Page::default();
    let (mut looked_at, mut last) = (0, None);
    let (from, len) = filter.after.map_or(([0; 24], 0), |key| key.bytes());
    tables.for_each_entry(&from[..len], &mut |key, row| {
        let Some(key) = Key::from_bytes(key).filter(|key| filter.after.is_none_or(|after| *key > after)) else {
            return true;
        };
        if looked_at == MAX_SCAN {
            page.next = last;
            return false;
        }
        looked_at += 1;
        if let Some(entry) = Entry::decode(row).ok().filter(|entry| filter.passes(entry)) {
            if page.entries.len() == most {
                page.next = last;
                return false;
            }
            page.entries.push(Listed { key, entry });
        }
        last = Some(key);
        true
    })?;
    Ok(page)
}

impl Filter {
    fn passes(&self, entry: &Entry) -> bool {
        self.state.map_or(entry.is_active(), |state| entry.state == state)
            && self.source.is_none_or(|source| entry.source == source)
            && self.batch.is_none_or(|batch| entry.batch == batch)
            && self.scope.as_ref().is_none_or(|scope| scope.passes(&entry.scope))
            && self.contains.as_deref().is_none_or(|part| entry.subject.contains(&part.to_lowercase()))
            && self.domain.as_deref().is_none_or(|domain| {
                let wanted = crate::event::address::canonical_domain(domain);
                entry.subject.rsplit_once('@').is_some_and(|(_, d)| *d == *wanted)
            })
            && self.rule.as_deref().is_none_or(|rule| entry.rule.eq_ignore_ascii_case(rule))
            && self.provider.as_deref().is_none_or(|p| entry.provider.eq_ignore_ascii_case(p))
            && self.since.is_none_or(|since| entry.time >= since)
    }
}

/// The subject as its key is made from: an address folded, or `@domain` in A-label form.
pub fn folded(subject: &str) -> Result<String, SuppressError> {
    let subject = subject.trim();
    let wrong = |error| SuppressError::Address(subject.chars().take(80).collect(), error);
    match subject.strip_prefix('@') {
        // A domain is as good as an address of it.
        Some(domain) => {
            let address = Address::parse(&format!("x@{domain}")).map_err(wrong)?;
            Ok(format!("@{}", address.key().domain()))
        }
        None => Ok(Address::parse(subject).map_err(wrong)?.key().as_str().to_owned()),
    }
}

/// An operator's word about all mail, for tests.
#[cfg(test)]
pub(crate) fn by_hand(reason: &str, now: Time) -> Order<'_> {
    static GLOBAL: std::sync::LazyLock<Scope> = std::sync::LazyLock::new(Scope::global);
    Order { scope: &GLOBAL, reason, who: "operator", expires: Time::UNKNOWN, now }
}
