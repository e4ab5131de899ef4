//! Table `rule sets`: the text of each set of pattern rules that some event is stamped with. Key: its id (u64, big-endian).

use super::error::StoreError;
use super::overlay::{Table, Tx};
use super::tables::Tables;
use crate::event::RuleSetId;

impl Tables {
    /// Rule set text by id, for classification with the stamped set.
    pub fn rule_set(&self, id: RuleSetId) -> Result<Option<String>, StoreError> {
        let text = self.find(Table::RuleSets, &id.0.to_be_bytes())?;
        text.map(|t| String::from_utf8(t).map_err(|_| StoreError::Tables(format!("rule set {id} is not text").into())))
            .transpose()
    }
}

impl Tx<'_> {
    /// Keeps a rule set's text.
    pub fn put_rule_set(&mut self, id: RuleSetId, text: &str) -> Result<(), StoreError> {
        self.put(Table::RuleSets, &id.0.to_be_bytes(), text.as_bytes().to_vec());
        Ok(())
    }

    /// Forgets a rule set that no event in the ledger is stamped with any more.
    pub fn remove_rule_set(&mut self, id: RuleSetId) -> Result<(), StoreError> {
        self.remove(Table::RuleSets, &id.0.to_be_bytes());
        Ok(())
    }
}
