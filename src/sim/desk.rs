//! What a simulated provider is told to be, and what it remembers between sessions: whom it has greylisted, how many are
//! connected, what it has seen.

use std::collections::HashMap;
use std::time::Duration;

use super::script::Script;
use super::wording::{Said, Saying};
use super::world::Provider;
use crate::event::Time;

/// First contacts remembered for greylisting; beyond that nobody new is greylisted.
const MAX_GREYLISTED: usize = 1 << 20;

/// A greylisted recipient is taken when this much time has passed since the first try.
const GREYLIST_FOR: Duration = Duration::from_millis(1000);

/// How a provider acts.
#[derive(Debug, Clone)]
pub struct Role {
    /// Which provider.
    pub provider: &'static Provider,
    /// What becomes of whom.
    pub script: Script,
    /// Whether the provider's limits on connections and messages hold.
    pub limits: bool,
    /// Where complaints go, when the message names no `X-Feedback-Address`; empty for nowhere.
    pub feedback_address: String,
    /// Whether bounces and complaints are made at all.
    pub reports: bool,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// Whether a provider refuses recipients of domains that are not its own (550 5.7.1 relaying denied).
    pub own_domains_only: bool,
}

/// What a provider remembers between sessions.
#[derive(Debug, Default)]
pub struct Desk {
    connected: u32,
    second: i64,
    in_second: u32,
    first_seen: HashMap<u64, Time>,
    counts: Counts,
}

/// What a provider has seen, in total.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections, refused ones included.
    pub connections: u64,
    /// Connections refused with 421.
    pub refused_connections: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Recipients of accepted messages.
    pub accepted_recipients: u64,
    /// Recipients (or messages) refused with 4xx.
    pub deferred: u64,
    /// Recipients (or messages) refused with 5xx.
    pub refused: u64,
    /// Reports handed to the postman.
    pub reports: u64,
    /// Bytes of accepted content.
    pub bytes: u64,
}

impl Desk {
    /// A connection came; whether it may stay.
    pub(super) fn arrive(&mut self, role: &Role, now: Time) -> Result<(), Saying> {
        self.counts.connections += 1;
        if now.secs() != self.second {
            self.second = now.secs();
            self.in_second = 0;
        }
        self.in_second += 1;
        let p = role.provider;
        let verdict = if !role.limits {
            Ok(())
        } else if p.max_connections > 0 && self.connected >= p.max_connections {
            Err(Saying::TooManyConnections)
        } else if p.max_connect_rate > 0 && self.in_second > p.max_connect_rate {
            Err(Saying::TooFast)
        } else {
            Ok(())
        };
        match verdict {
            Ok(()) => self.connected += 1,
            Err(_) => self.counts.refused_connections += 1,
        }
        verdict
    }

    /// A connection that was allowed to stay has gone.
    pub fn leave(&mut self) {
        self.connected = self.connected.saturating_sub(1);
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn is_greylisted(&mut self, key: u64, now: Time) -> bool {
        if let Some(first) = self.first_seen.get(&key) {
            return now.since(*first) < GREYLIST_FOR;
        }
        if self.first_seen.len() >= MAX_GREYLISTED {
            return false;
        }
        self.first_seen.insert(key, now);
        true
    }

    /// Recipients were refused.
    pub(super) fn refused(&mut self, reply: &Said, recipients: u64) {
        match reply.code >= 500 {
            true => self.counts.refused += recipients,
            false => self.counts.deferred += recipients,
        }
    }

    /// A message was taken.
    pub(super) fn took(&mut self, recipients: u64, bytes: u64) {
        self.counts.accepted += 1;
        self.counts.accepted_recipients += recipients;
        self.counts.bytes += bytes;
    }

    /// Reports were handed to the postman.
    pub(super) fn reported(&mut self, reports: u64) {
        self.counts.reports += reports;
    }
}
