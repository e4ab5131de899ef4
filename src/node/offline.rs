//! A store opened for a few commands while no server runs on it.
#![expect(clippy::disallowed_methods, reason = "edge: waits for imports to end")]

use std::sync::Arc;

use super::{NodeError, Options, open_store, quarantine, suppression};
use crate::accounting::feedback::SendIndex;
use crate::accounting::stage::Stage;
use crate::classify::RuleSets;
use crate::config::Config;
use crate::manage::{Answer, Command};
use crate::report::quarantine::Quarantine;
use crate::store::Store;
use crate::suppress::Suppression;

/// The store of a configuration, with its suppression list; no mail moves. It holds the store's lock.
#[derive(Debug)]
pub struct Offline {
    store: Store,
    suppression: Suppression,
    breaker: crate::accounting::feedback::SharedBreaker,
    bulk: super::bulk_import::BulkImports,
    quarantine: Quarantine,
    config: Arc<Config>,
    stage: std::sync::Mutex<Stage>,
    runtime: tokio::runtime::Runtime,
}

impl Offline {
    /// Opens it; fails when a server has it.
    pub fn open(config: &Config) -> Result<Offline, NodeError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().map_err(super::other)?;
        let _inside = runtime.enter();
        let opened = open_store(config, &Options::default())?;
        // This one will end in order, and the next server must know nevertheless.
        super::doubt::Doubt::of(&opened, super::now())?;
        let suppression = suppression::open(config, &opened.store)?;
        // What the last server had not applied any more is applied now: the list is what it would be at start-up.
        let rules = RuleSets::default();
        super::rules::compile(config, &rules).map_err(NodeError::Other)?;
        let live = Arc::new(arc_swap::ArcSwap::from_pointee(config.clone()));
        let (mut suppressor, breaker) =
            crate::accounting::feedback::open_with(&opened.store, &suppression, rules.clone(), live, Box::new(drop))?;
        suppressor.catch_up()?;
        if config.bounce_processor.is_some() || config.feedback_loop_processor.is_some() {
            SendIndex::open(&opened.store, config.send_index_retention, config.send_index_max)?.catch_up()?;
        }
        let quarantine = Quarantine::open(&opened.store)?;
        drop(_inside);
        let config = Arc::new(config.clone());
        let stage = std::sync::Mutex::new(Stage::new(rules, Vec::new()));
        let bulk = super::bulk_import::BulkImports::default();
        Ok(Offline { store: opened.store, suppression, breaker, bulk, stage, quarantine, config, runtime })
    }

    /// Carries out a command about the suppression list, the ledger, the queue or the report quarantine.
    pub fn answer(&self, command: Command) -> Answer {
        match command {
            Command::ReportQuarantine(asked) => {
                quarantine::answer(&self.quarantine, &self.config, asked, &|f| self.runtime.block_on(f))
            }
            Command::Events { .. } | Command::Queued { .. } => super::known::answer(&self.store, &self.stage, command),
            Command::SuppressUndo(asked) => super::mistakes::undo(&self.store, &self.suppression, &asked),
            Command::SuppressBreaker(asked) => {
                super::mistakes::breaker(&self.store, &self.suppression, &self.breaker, asked)
            }
            Command::SuppressCheckMany { addresses, sender, job, vmta } => {
                suppression::check_many(&self.suppression, &addresses, (&sender, &job, &vmta))
            }
            Command::Suppression(asked) => {
                let on = suppression::On {
                    store: &self.store,
                    list: &self.suppression,
                    quarantine: &self.quarantine,
                    config: &self.config,
                    block_on: &|f| self.runtime.block_on(f),
                    bulk: &self.bulk,
                };
                suppression::answer(&on, asked)
            }
            Command::Reload
            | Command::Status
            | Command::RotateAcct { .. }
            | Command::QueueMode { .. }
            | Command::EnableSource { .. }
            | Command::PauseJob { .. }
            | Command::ResumeJob { .. }
            | Command::Jobs => Answer::error("no server is running on this store"),
        }
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        // Who asked has waited for the end, as a rule; what has none yet goes on when a server starts.
        self.bulk.stop(&self.suppression);
        while self.bulk.is_busy() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if let Err(error) = self.runtime.block_on(self.store.close()) {
            eprintln!("carom: the store did not close in order: {error}");
        }
    }
}
