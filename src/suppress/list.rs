//! The list in memory: what the hot path asks for each recipient.
//!
//! 256 shards by the first byte of the [`Key`]; what a shard holds is told in `shard`. Most addresses are on no list: they
//! cost two hashes and a look at two filters for each scope in use, and never the disk. An address that a filter knows is
//! looked up in the table, which may read the disk: about a page, and only for those on the list and one in 256 others.
//!
//! **Promise**: what was applied is seen by every check that begins afterwards, also while filters are built and while its
//! row is not committed yet. Built they are by `upkeep`, on a thread that blocks nobody.
//!
//! **When the table can't be read** (a damaged row, a failing disk, a store that is closing), an address that a filter
//! knows is answered as held: its mail is kept. Neither may it go out, if the address is on the list, nor be bounced,
//! if it is not; and one in 256 is not. Such answers are counted ([`Suppression::unreadable`]) and logged.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::book;
use super::entry::{Entry, State};
use super::key::{Hasher, Key, SubjectKey};
use super::mail::{Mail, Suppressed};
use super::shard::{Known, Shard, Slot};
use super::upkeep::{self, Upkeep};
use crate::event::{AddressKey, Scope, ScopeKind, Time};
use crate::store::{Store, StoreError, SuppressTable, Tables, WeakTables};

/// How many parts: one for each first byte of a key.
pub(super) const SHARDS: usize = 256;
/// Most rule names told apart; those beyond share the last.
const MAX_RULES: usize = 65_536;
/// What the list is called in an answer when its entry can't be read.
pub const UNREADABLE: &str = "unreadable";

/// The list in force; cheap to clone.
#[derive(Clone, Default)]
pub struct Suppression(pub(super) Arc<List>);

pub(super) struct List {
    hasher: Hasher,
    pub(super) shards: Box<[Shard]>,
    /// Which scopes any entry has, a bit each: the others are not looked up.
    kinds: AtomicU8,
    rules: RwLock<Vec<Words>>,
    /// What stands behind the filters; none for a list that is only in memory.
    tables: RwLock<Option<WeakTables>>,
    unreadable: AtomicU64,
    pub(super) upkeep: Upkeep,
    /// Imports that are under way end behind their next transaction.
    pub(super) ending: AtomicBool,
}

/// What entries by one rule and source share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    rule: Box<str>,
    list: Box<str>,
}

/// What the table says of a key.
enum Row {
    Absent,
    Entry(Box<Entry>),
    Unreadable,
}

impl Default for List {
    fn default() -> List {
        List {
            hasher: Hasher::default(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            kinds: AtomicU8::new(0),
            rules: RwLock::default(),
            tables: RwLock::default(),
            unreadable: AtomicU64::new(0),
            upkeep: Upkeep::default(),
            ending: AtomicBool::new(false),
        }
    }
}

impl Suppression {
    /// Empty, only in memory until [`Suppression::load`], with plain SHA-256 keys.
    pub fn new() -> Suppression {
        Suppression::default()
    }

    /// Empty, with keys by this hasher.
    pub fn with_hasher(hasher: Hasher) -> Suppression {
        Suppression(Arc::new(List { hasher, ..List::default() }))
    }

    /// What the store holds, with plain SHA-256 keys; see [`Suppression::load`].
    pub fn open(store: &Store) -> Result<Suppression, StoreError> {
        let list = Suppression::new();
        list.load(store)?;
        Ok(list)
    }

    /// How subjects become keys.
    pub fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    /// Whether this mail may go to this recipient. May read a page from the disk; see above.
    pub fn check(&self, rcpt: &str, mail: &Mail<'_>, now: Time) -> Option<Suppressed> {
        let kinds = self.0.kinds.load(Ordering::Acquire);
        if kinds == 0 {
            return None;
        }
        let key = AddressKey::of(rcpt);
        let subjects = self.0.hasher.subjects(&key);
        // One that is held back does not hide another that suppresses.
        let mut held = None;
        for kind in ScopeKind::ALL {
            if kinds & (1 << kind as u8) == 0 || mail.exempt_scopes.contains(kind) {
                continue;
            }
            let Some(scope) = Scope::of(kind, mail.name(kind)) else { continue };
            let pool = Scope::of(kind, mail.pool).filter(|pool| kind == ScopeKind::Vmta && *pool != scope);
            for scope in std::iter::once(&scope).chain(&pool) {
                for found in subjects.clone().filter_map(|subject| self.0.find(subject, scope, mail, now)) {
                    if !found.held {
                        return Some(found);
                    }
                    held = held.or(Some(found));
                }
            }
        }
        held
    }

    /// Takes an entry in, at once; one that is there already is replaced. A removed entry takes it out.
    pub fn apply(&self, key: &Key, entry: &Entry) {
        if entry.state == State::Removed {
            self.remove(key);
            return;
        }
        self.0.kinds.fetch_or(1 << key.scope_kind() as u8, Ordering::Release);
        let full = self.0.shard(key).put(key, Slot::of(entry, self.0.words(entry)));
        if full && self.0.is_kept() {
            upkeep::ask(&self.0, key.subject.0[0]);
        }
    }

    /// Takes an entry out, at once; whether it was in, as far as it is not deleted from the table already.
    pub fn remove(&self, key: &Key) -> bool {
        let was_in = self.contains(key);
        if self.0.is_kept() {
            // The table may say otherwise until the removal is committed.
            let gone = Slot { by: 0, expires: Time::UNKNOWN, words: 0, state: State::Removed };
            let full = self.0.shard(key).put(key, gone);
            if full {
                upkeep::ask(&self.0, key.subject.0[0]);
            }
        } else {
            self.0.shard(key).take(key);
        }
        was_in
    }

    /// Whether there is an entry under this key that suppresses or holds, whether its time is over or not.
    pub fn contains(&self, key: &Key) -> bool {
        match self.0.shard(key).look(key) {
            Known::Absent => false,
            Known::Recent(_) => true,
            Known::InTable => match self.0.row(key) {
                Row::Absent => false,
                Row::Entry(entry) => entry.is_active(),
                Row::Unreadable => true,
            },
        }
    }

    /// How many entries are in it that suppress or hold, whether their time is over or not. Of a list that was loaded, those
    /// that are committed; it reads one row, so it is not for the hot path.
    pub fn len(&self) -> usize {
        if !self.0.is_kept() {
            return self.0.shards.iter().map(Shard::len).sum();
        }
        let row = self.0.tables().map(|tables| tables.suppress_row(SuppressTable::Facts, book::COUNTS));
        let [active, held, _] = row.and_then(|row| row.ok()?.as_deref().map(book::read_counts)).unwrap_or_default();
        usize::try_from(active + held).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often an entry could not be read, and mail was held for that reason.
    pub fn unreadable(&self) -> u64 {
        self.0.unreadable.load(Ordering::Relaxed)
    }

    /// Bytes that filters take in memory.
    pub fn filter_bytes(&self) -> usize {
        self.0.shards.iter().map(|s| s.filters()).map(|f| f.base.bytes() + f.fresh.bytes()).sum()
    }

    /// Stands before the store's table from now on; returns how many entries there are. Reads the filters, not the entries;
    /// filters that are missing or damaged are built in the background, and look-ups are slow until they are. Entries of
    /// the first release are moved here on the way.
    ///
    /// Fails when the keys in the table are by another `suppression-hash-key`: no entry would be found then.
    pub fn load(&self, store: &Store) -> Result<usize, StoreError> {
        super::migrate::migrate(store, &self.0.hasher)?;
        let tables = store.suppression();
        let kinds = super::facts::open(tables, &self.0.hasher)?;
        // Before the filters: what they find is looked up there.
        *self.0.tables.write().unwrap_or_else(PoisonError::into_inner) = Some(tables.downgrade());
        upkeep::load(&self.0, tables)?;
        self.0.kinds.fetch_or(kinds, Ordering::Release);
        super::bulk::clean(store)?;
        upkeep::ask_where_due(&self.0);
        Ok(self.len())
    }

    /// Builds all filters anew from the table, here and now. Nothing needs it; it gives back what many removals left.
    pub fn rebuild(&self) -> Result<(), StoreError> {
        (0..=u8::MAX).try_for_each(|shard| upkeep::pass(&self.0, shard, upkeep::Depth::Whole))
    }

    /// Takes note that an entry was deleted from the table, in a transaction that is committed.
    pub(super) fn deleted(&self, key: &Key, entry: &Entry) {
        let slot = Slot::of(entry, self.0.words(entry));
        self.0.shard(key).forget(&[(*key, slot)]);
    }

    /// Takes note that an entry came into the table, in a transaction that is committed. A filter will know it; but what
    /// was taken off or has ended lately may still stand in memory as such.
    pub(super) fn came_in(&self, key: &Key, row: &[u8], now: Time) {
        self.0.shard(key).revive(key, now, || {
            let entry = Entry::decode(row).ok()?;
            Some(Slot::of(&entry, self.0.words(&entry)))
        });
    }

    /// Whether there is a table behind it.
    pub(super) fn is_loaded(&self) -> bool {
        self.0.is_kept()
    }

    /// Takes note that entries of these scopes came into the table.
    pub(super) fn has_kinds(&self, kinds: u8) {
        self.0.kinds.fetch_or(kinds, Ordering::Release);
    }
}

impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppression").field("len", &self.len()).finish()
    }
}

impl List {
    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[usize::from(key.subject.0[0])]
    }

    /// Whether there is a table behind it.
    fn is_kept(&self) -> bool {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The table behind it, while its store is open.
    pub(super) fn tables(&self) -> Option<Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    fn find(&self, subject: SubjectKey, scope: &Scope, mail: &Mail<'_>, now: Time) -> Option<Suppressed> {
        let key = subject.in_scope(scope);
        match self.shard(&key).look(&key) {
            Known::Absent => None,
            Known::Recent(slot) => {
                if slot.expires.is_known() && slot.expires <= now {
                    return None;
                }
                let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
                let words = rules.get(usize::from(slot.words))?;
                let found = Suppressed { by: slot.by, list: words.list.clone(), held: slot.state == State::Held };
                (!mail.is_exempt(&words.rule)).then_some(found)
            }
            Known::InTable => match self.row(&key) {
                Row::Absent => None,
                Row::Unreadable => Some(Suppressed { by: 0, list: UNREADABLE.into(), held: true }),
                Row::Entry(entry) => {
                    let counts = entry.is_active() && !entry.is_expired(now) && !mail.is_exempt(&entry.rule);
                    let list = || entry.list().into();
                    counts.then(|| Suppressed { by: entry.by.seq, list: list(), held: entry.state == State::Held })
                }
            },
        }
    }

    /// The table's row of a key that a filter knows.
    fn row(&self, key: &Key) -> Row {
        let (bytes, len) = key.bytes();
        let row = match self.tables() {
            Some(tables) => tables.suppress_row(SuppressTable::Entries, &bytes[..len]),
            None => Err(StoreError::Closed),
        };
        let why = match row.map(|row| row.map(|row| Entry::decode(&row))) {
            Ok(None) => return Row::Absent,
            Ok(Some(Ok(entry))) => return Row::Entry(Box::new(entry)),
            Ok(Some(Err(error))) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let times = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
        // A failing disk is asked often.
        if times.is_power_of_two() || times.is_multiple_of(10_000) {
            tracing::error!(times, why, "an entry of the suppression list can't be read: mail for its address is held");
        }
        Row::Unreadable
    }

    pub(super) fn words(&self, entry: &Entry) -> u16 {
        let words = Words { rule: entry.rule.clone(), list: entry.list().into() };
        let known = |rules: &[Words]| rules.iter().position(|w| *w == words);
        if let Some(number) = known(&self.rules.read().unwrap_or_else(PoisonError::into_inner)) {
            return number as u16;
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let number = known(&rules).unwrap_or_else(|| {
            if rules.len() < MAX_RULES {
                rules.push(words);
            }
            rules.len() - 1
        });
        number as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, ScopeKinds, StoreId};
    use proptest::prelude::*;

    const NOW: Time = Time(1_000);

    fn auto(rule: &str, seq: u64) -> Entry {
        Entry { rule: rule.into(), by: EventId { store: StoreId(1), seq }, time: Time(1), ..Entry::default() }
    }

    fn scoped(scope: &str, rule: &str) -> Entry {
        Entry { scope: scope.parse().unwrap(), ..auto(rule, 1) }
    }

    fn put(list: &Suppression, subject: &str, entry: &Entry) -> Key {
        let key = list.hasher().subject(subject).in_scope(&entry.scope);
        list.apply(&key, entry);
        key
    }

    fn by(list: &Suppression, rcpt: &str, mail: &Mail<'_>) -> Option<String> {
        list.check(rcpt, mail, NOW).map(|s| s.list.into())
    }

    #[test]
    fn an_address_is_found_however_it_is_spelt() {
        let list = Suppression::new();
        put(&list, "ann@xn--bcher-kva.example", &auto("hard", 5));
        for spelt in ["ann@xn--bcher-kva.example", "ANN@bücher.example.", " ann@Bücher.Example "] {
            let found = list.check(spelt, &Mail::default(), NOW);
            assert_eq!(found, Some(Suppressed { by: 5, list: "auto:hard".into(), held: false }), "{spelt}");
        }
        assert_eq!(list.check("bob@xn--bcher-kva.example", &Mail::default(), NOW), None);
    }

    #[test]
    fn a_domain_stands_for_all_its_mailboxes_and_no_others() {
        let list = Suppression::new();
        put(&list, "@gone.example", &auto("domain", 5));
        assert!(by(&list, "anyone@GONE.example", &Mail::default()).is_some());
        assert_eq!(by(&list, "anyone@sub.gone.example", &Mail::default()), None);
    }

    #[test]
    fn an_entry_counts_only_for_the_mail_of_its_scope() {
        let list = Suppression::new();
        put(&list, "a@b.example", &scoped("job spring", "complaint"));
        put(&list, "a@b.example", &scoped("list weekly", "unsub"));
        put(&list, "c@b.example", &scoped("vmta pool", "x"));
        put(&list, "c@b.example", &scoped("sender-domain s.example", "y"));
        let mail = Mail::default();
        assert_eq!(by(&list, "a@b.example", &mail), None);
        assert_eq!(by(&list, "a@b.example", &Mail { job: "SPRING", ..mail }).as_deref(), Some("auto:complaint"));
        assert_eq!(by(&list, "a@b.example", &Mail { list: "Weekly", ..mail }).as_deref(), Some("auto:unsub"));
        assert_eq!(by(&list, "c@b.example", &Mail { vmta: "v1", pool: "pool", ..mail }).as_deref(), Some("auto:x"));
        let from = Mail { sender_domain: "S.Example", ..mail };
        assert_eq!(by(&list, "c@b.example", &from).as_deref(), Some("auto:y"));
        let exempt = ScopeKinds::default().with(ScopeKind::SenderDomain);
        assert_eq!(by(&list, "c@b.example", &Mail { exempt_scopes: exempt, ..from }), None);
    }

    #[test]
    fn an_exempt_rule_and_an_expired_entry_do_not_count() {
        let list = Suppression::new();
        put(&list, "a@b.example", &auto("complaint", 1));
        put(&list, "c@b.example", &Entry { expires: Time(1_000), ..auto("full", 1) });
        assert_eq!(by(&list, "a@b.example", &Mail { exempt_rules: "complaint", ..Mail::default() }), None);
        assert!(by(&list, "a@b.example", &Mail::default()).is_some());
        assert!(list.check("c@b.example", &Mail::default(), Time(999)).is_some());
        assert_eq!(list.check("c@b.example", &Mail::default(), Time(1_000)), None);
    }

    #[test]
    fn what_is_held_does_not_hide_what_suppresses() {
        let list = Suppression::new();
        put(&list, "a@b.example", &Entry { state: State::Held, ..auto("hard", 1) });
        put(&list, "a@b.example", &scoped("list weekly", "unsub"));
        assert!(list.check("a@b.example", &Mail::default(), NOW).unwrap().held);
        assert!(!list.check("a@b.example", &Mail { list: "weekly", ..Mail::default() }, NOW).unwrap().held);
        put(&list, "@b.example", &auto("domain", 2));
        assert_eq!(by(&list, "a@b.example", &Mail::default()).as_deref(), Some("auto:domain"));
    }

    #[test]
    fn what_is_held_says_so_and_what_is_removed_is_gone() {
        let list = Suppression::new();
        let key = put(&list, "a@b.example", &Entry { state: State::Held, ..auto("hard", 1) });
        assert!(list.check("a@b.example", &Mail::default(), NOW).unwrap().held);
        list.apply(&key, &Entry { state: State::Removed, ..auto("hard", 9) });
        assert_eq!(list.check("a@b.example", &Mail::default(), NOW), None);
        assert_eq!(list.len(), 0);
        assert!(!list.remove(&key));
    }

    proptest! {
        #[test]
        fn the_list_agrees_with_a_set(
            ops in prop::collection::vec((any::<bool>(), 0u8..20), 0..200),
        ) {
            let (list, mut set) = (Suppression::new(), std::collections::BTreeSet::new());
            for (add, n) in ops {
                let address = format!("u{n}@b.example");
                let key = list.hasher().subject(&address).in_scope(&Scope::global());
                if add {
                    list.apply(&key, &auto("hard", 1));
                    set.insert(n);
                } else {
                    prop_assert_eq!(list.remove(&key), set.remove(&n));
                }
            }
            prop_assert_eq!(list.len(), set.len());
            for n in 0u8..20 {
                let found = list.check(&format!("U{n}@B.example"), &Mail::default(), NOW).is_some();
                prop_assert_eq!(found, set.contains(&n));
            }
        }
    }
}
