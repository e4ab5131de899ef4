//! Tokens and send index as the store and the configuration have them. A table that can't be read proves nothing, which
//! is the safe side.

use crate::config::Config;
use crate::event::return_path::{self, TokenKeys};
use crate::event::send_entry::{SendEntry, env_id_key, is_own_key, token_key};
use crate::event::unsubscribe_token::Unsubscription;
use crate::event::{AddressKey, MessageId, Time, header_token, unsubscribe_token};
use crate::store::Store;

use super::attribute::{Evidence, Sent};
use super::kind::Original;

/// Most recipients of one message that are looked through for the one that a report names.
const MOST_SENDS: usize = 100;

/// The evidence in a store, at a time, under a configuration.
#[derive(Debug, Clone, Copy)]
pub struct StoreEvidence<'a> {
    /// Whose tables.
    pub store: &'a Store,
    /// Whose keys and names.
    pub config: &'a Config,
    /// Keys whose time is over by now count for nothing.
    pub now: Time,
}

impl StoreEvidence<'_> {
    fn find(&self, key: &str, rcpt: Option<&str>) -> Option<Sent> {
        let row = self.store.tables().find_send(key, rcpt).inspect_err(|e| unreadable(e)).ok()??;
        decoded(&row)
    }
}

fn decoded(row: &[u8]) -> Option<Sent> {
    SendEntry::decode(row).map(Sent::from).inspect_err(|e| unreadable(e)).ok()
}

fn unreadable(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "send index can't be read: report stays without attribution");
}

impl Evidence for StoreEvidence<'_> {
    fn token(&self, address: &str) -> Option<(MessageId, u16)> {
        let token = self.config.return_path_token.as_ref()?;
        let keys = TokenKeys { domain: token.domain.as_deref()?, keys: &token.keys, now: self.now };
        return_path::verify(keys, self.store.id(), address)
    }

    fn header_token(&self, original: &Original) -> Option<(MessageId, u16)> {
        let token = self.config.return_path_token.as_ref()?;
        let name = token.header.as_ref()?;
        // Mail that was passed on may have several; ours verifies.
        let mut values = original.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).take(8);
        values.find_map(|(_, value)| header_token::verify(&token.keys, self.now, self.store.id(), value))
    }

    fn unsubscription(&self, token: &str) -> Option<Unsubscription> {
        let keys = &self.config.return_path_token.as_ref()?.keys;
        unsubscribe_token::verify(keys, self.now, token)
    }

    fn send_of(&self, message: MessageId, rcpt_index: u16) -> Option<Sent> {
        let (key, rcpt) = token_key(message, rcpt_index);
        self.find(&key, Some(&rcpt))
    }

    fn send_by_message_id(&self, message_id: &str, rcpt: Option<&AddressKey>) -> Option<Sent> {
        // A header may hold anything, also what looks like another kind of key.
        if is_own_key(message_id) {
            return None;
        }
        self.find(message_id, rcpt.map(AddressKey::as_str))
    }

    fn send_by_env_id(&self, env_id: &str, rcpt: &AddressKey) -> Option<Sent> {
        self.find(&env_id_key(env_id), Some(rcpt.as_str()))
    }

    fn received_by_us(&self, received: &str) -> Option<MessageId> {
        let mut words = received.split_ascii_whitespace();
        words.find(|w| w.eq_ignore_ascii_case("by"))?;
        let host = words.next()?;
        if !self.config.host_names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return None;
        }
        words.find(|w| w.eq_ignore_ascii_case("id"))?;
        words.next()?.trim_end_matches(';').parse().ok().map(MessageId)
    }

    fn send_to(&self, message: MessageId, rcpt: Option<&AddressKey>) -> Option<Sent> {
        let (name, _) = token_key(message, 0);
        let rows = self.store.tables().sends_named(&name, MOST_SENDS).inspect_err(|e| unreadable(e)).ok()?;
        let mut sends = rows.iter().filter_map(|row| decoded(row));
        match rcpt {
            Some(key) => sends.find(|s| AddressKey::of(&s.rcpt) == *key),
            None => sends.next().filter(|_| rows.len() == 1),
        }
    }
}
