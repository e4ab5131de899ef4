//! The list in memory: what the hot path asks for each recipient.
//!
//! Kept by [`Key`], so that an address costs the same whatever its length. Look-ups take one read lock of one of 64 shards
//! for each scope in use and never block for disk.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

use super::entry::{Entry, State};
use super::key::{Hasher, Key, SubjectKey};
use super::mail::{Mail, Suppressed};
use crate::event::{AddressKey, Scope, ScopeKind, Time};
use crate::store::{Store, StoreError};

const SHARDS: usize = 64;
/// Most rule names told apart; those beyond share the last.
const MAX_RULES: usize = 65_536;

/// The list in force; cheap to clone.
#[derive(Clone, Default)]
pub struct Suppression(Arc<List>);

struct List {
    hasher: Hasher,
    shards: [RwLock<HashMap<Key, Slot>>; SHARDS],
    /// Which scopes any entry has, a bit each: the others are not looked up.
    kinds: AtomicU8,
    rules: RwLock<Vec<Words>>,
    entries: AtomicUsize,
}

/// What entries by one rule and source share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    rule: Box<str>,
    list: Box<str>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    by: u64,
    expires: Time,
    words: u16,
    held: bool,
}

impl Default for List {
    fn default() -> List {
        List {
            hasher: Hasher::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            kinds: AtomicU8::new(0),
            rules: RwLock::default(),
            entries: AtomicUsize::new(0),
        }
    }
}

impl Suppression {
    /// Empty, with plain SHA-256 keys.
    pub fn new() -> Suppression {
        Suppression::default()
    }

    /// Empty, with keys by this hasher.
    pub fn with_hasher(hasher: Hasher) -> Suppression {
        Suppression(Arc::new(List { hasher, ..List::default() }))
    }

    /// How subjects become keys.
    pub fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    /// Whether this mail may go to this recipient.
    pub fn check(&self, rcpt: &str, mail: &Mail<'_>, now: Time) -> Option<Suppressed> {
        let kinds = self.0.kinds.load(Ordering::Acquire);
        if kinds == 0 {
            return None;
        }
        let key = AddressKey::of(rcpt);
        let subjects = [self.0.hasher.address(&key), self.0.hasher.domain(key.domain())];
        for kind in ScopeKind::ALL {
            if kinds & (1 << kind as u8) == 0 || mail.exempt_scopes.contains(kind) {
                continue;
            }
            let Some(scope) = Scope::of(kind, mail.name(kind)) else { continue };
            let pool = Scope::of(kind, mail.pool).filter(|pool| kind == ScopeKind::Vmta && *pool != scope);
            for scope in std::iter::once(&scope).chain(&pool) {
                let found = subjects.iter().find_map(|subject| self.0.find(*subject, scope, mail, now));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Takes an entry in, at once; one that is there already is replaced. A removed entry takes it out.
    pub fn apply(&self, key: &Key, entry: &Entry) {
        if entry.state == State::Removed {
            self.remove(key);
            return;
        }
        let slot = Slot {
            by: entry.by.seq,
            expires: entry.expires,
            words: self.0.words(entry),
            held: entry.state == State::Held,
        };
        let mut shard = self.0.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        if shard.insert(*key, slot).is_none() {
            self.0.entries.fetch_add(1, Ordering::Relaxed);
        }
        drop(shard);
        self.0.kinds.fetch_or(1 << key.scope_kind() as u8, Ordering::Release);
    }

    /// Takes an entry out, at once; whether it was in.
    pub fn remove(&self, key: &Key) -> bool {
        let mut shard = self.0.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        let was_in = shard.remove(key).is_some();
        if was_in {
            self.0.entries.fetch_sub(1, Ordering::Relaxed);
        }
        was_in
    }

    /// Whether there is an entry under this key that suppresses or holds.
    pub fn contains(&self, key: &Key) -> bool {
        self.0.shard(key).read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// How many entries are in it.
    pub fn len(&self) -> usize {
        self.0.entries.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in everything the tables hold; returns how many entries there are. A row that can't be read is logged and
    /// passed over.
    pub fn load(&self, store: &Store) -> Result<usize, StoreError> {
        store.suppression().for_each_entry(&[], &mut |key, row| {
            match (Key::from_bytes(key), Entry::decode(row)) {
                (Some(key), Ok(entry)) => self.apply(&key, &entry),
                (_, Err(error)) => tracing::error!(%error, "suppression entry passed over"),
                (None, _) => tracing::error!("suppression entry passed over: its key is damaged"),
            }
            true
        })?;
        Ok(self.len())
    }
}

impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppression").field("len", &self.len()).finish()
    }
}

impl List {
    fn shard(&self, key: &Key) -> &RwLock<HashMap<Key, Slot>> {
        &self.shards[usize::from(key.subject.0[0]) % SHARDS]
    }

    fn find(&self, subject: SubjectKey, scope: &Scope, mail: &Mail<'_>, now: Time) -> Option<Suppressed> {
        let key = subject.in_scope(scope);
        let slot = *self.shard(&key).read().unwrap_or_else(PoisonError::into_inner).get(&key)?;
        if slot.expires.is_known() && slot.expires <= now {
            return None;
        }
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let words = rules.get(usize::from(slot.words))?;
        let found = Suppressed { by: slot.by, list: words.list.clone(), held: slot.held };
        (!mail.is_exempt(&words.rule)).then_some(found)
    }

    fn words(&self, entry: &Entry) -> u16 {
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
