//! What a closure changes, kept apart until it has succeeded: so one that fails takes nothing back from the others that share
//! its transaction. Pure but for the reads it passes on.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::error::StoreError;

/// All tables map bytes to bytes; what the bytes are is known by the file of each.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables; a number is how the overlay names one.
pub(super) const TABLES: [Definition; 17] = [
    TableDefinition::new("meta"),
    TableDefinition::new("consumers"),
    TableDefinition::new("rule sets"),
    TableDefinition::new("suppressed"),
    TableDefinition::new("sends"),
    TableDefinition::new("sends by time"),
    TableDefinition::new("counters"),
    TableDefinition::new("quarantine"),
    TableDefinition::new("templates"),
    TableDefinition::new("entries"),
    TableDefinition::new("expiries"),
    TableDefinition::new("history"),
    TableDefinition::new("strikes"),
    TableDefinition::new("facts"),
    TableDefinition::new("fresh"),
    TableDefinition::new("filters"),
    TableDefinition::new("jobs"),
];

/// Those of `tables.redb`.
pub(super) const MAIN: &[Table] = &[
    Table::Meta,
    Table::Consumers,
    Table::RuleSets,
    Table::Suppressed,
    Table::Sends,
    Table::SendTimes,
    Table::Counters,
    Table::Quarantine,
    Table::Templates,
    Table::Jobs,
];

/// Those of `suppress.redb`.
pub(super) const SUPPRESSION: &[Table] = &[
    Table::Meta,
    Table::Consumers,
    Table::Entries,
    Table::Expiries,
    Table::History,
    Table::Strikes,
    Table::Facts,
    Table::Fresh,
    Table::Filters,
];

/// Index into [`TABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Table {
    Meta = 0,
    Consumers = 1,
    RuleSets = 2,
    Suppressed = 3,
    Sends = 4,
    SendTimes = 5,
    Counters = 6,
    Quarantine = 7,
    Templates = 8,
    Entries = 9,
    Expiries = 10,
    History = 11,
    Strikes = 12,
    Facts = 13,
    Fresh = 14,
    Filters = 15,
    Jobs = 16,
}

impl Table {
    pub(super) fn definition(self) -> Definition {
        TABLES[self as usize]
    }
}

/// Changes of one closure: `None` removes.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>);

/// One transaction: a consumer's effects and its cursor are committed together.
pub struct Tx<'t> {
    pub(super) base: &'t WriteTransaction,
    pub(super) changes: Overlay,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("changes", &self.changes.0.len()).finish()
    }
}

impl Tx<'_> {
    pub(super) fn find(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(changed) = self.changes.0.get(&(table, key.to_vec())) {
            return Ok(changed.clone());
        }
        guarded(|| {
            let open = self.base.open_table(table.definition()).map_err(failed)?;
            let found = open.get(key).map_err(failed)?;
            Ok(found.map(|v| v.value().to_vec()))
        })
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.changes.0.insert((table, key.to_vec()), Some(value));
    }

    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        self.changes.0.insert((table, key.to_vec()), None);
    }

    pub(super) fn is_removed(&self, table: Table, key: &[u8]) -> bool {
        matches!(self.changes.0.get(&(table, key.to_vec())), Some(None))
    }

    /// Writes the changes into the shared transaction; returns whether there were any.
    pub(super) fn apply(self) -> Result<bool, StoreError> {
        let any = !self.changes.0.is_empty();
        let mut changes = self.changes.0.into_iter().peekable();
        guarded(|| {
            while let Some(((table, _), _)) = changes.peek() {
                let table = *table;
                let mut open = self.base.open_table(table.definition()).map_err(failed)?;
                while let Some(((_, key), value)) = changes.next_if(|((t, _), _)| *t == table) {
                    match value {
                        Some(value) => open.insert(key.as_slice(), value.as_slice()).map_err(failed)?,
                        None => open.remove(key.as_slice()).map_err(failed)?,
                    };
                }
            }
            Ok(any)
        })
    }
}

/// Runs an operation of redb. Where a page is damaged in a way its checks do not see, redb panics; that must not end more
/// than the operation.
pub(super) fn guarded<T>(operation: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|_| {
        Err(StoreError::Tables(
            "the file is damaged; stop carom and restore tables.redb or suppress.redb from a backup".into(),
        ))
    })
}

/// A failure of redb, in our words.
pub(super) fn failed(e: impl Into<redb::Error>) -> StoreError {
    StoreError::Tables(e.into().to_string().into())
}
