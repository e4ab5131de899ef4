//! Putting pattern rules in force: the text of the set is in the tables before any event is stamped with its id.

use std::sync::Arc;

use crate::classify::{RuleSet, RuleSets};
use crate::config::Config;
use crate::store::{Store, StoreError};

/// The rules of this configuration and the built-in ones; all mistakes in one text.
pub(super) fn compile(config: &Config, rules: &RuleSets) -> Result<Arc<RuleSet>, String> {
    rules.compile(&config.bounce_category_patterns).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    })
}

/// From now on events are classified with `rules`. Blocks.
pub(super) fn put_in_force(store: &Store, rules: &RuleSet) -> Result<(), StoreError> {
    store.tables().write(|tx| tx.put_rule_set(rules.id(), rules.text()))?;
    store.set_rules(rules.id());
    tracing::info!(rules = %rules.id(), "pattern rules in force");
    Ok(())
}
