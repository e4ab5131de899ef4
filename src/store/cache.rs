//! Messages that were just accepted, kept in memory until they are first loaded by their only recipient's delivery, end,
//! or are pushed out by newer ones. Pure and bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::message::Message;
use crate::event::MessageId;

/// What a message takes beside its content: envelope, tables, allocations; an estimate.
const OVERHEAD: usize = 600;

/// The cache; oldest out first.
#[derive(Debug)]
pub(crate) struct Cache {
    messages: HashMap<MessageId, Arc<Message>, foldhash::fast::RandomState>,
    order: VecDeque<MessageId>,
    bytes: usize,
    limit: usize,
}

fn cost(message: &Message) -> usize {
    message.body.len() + OVERHEAD * message.envelope.rcpts.len()
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Cache {
        Cache { messages: HashMap::default(), order: VecDeque::new(), bytes: 0, limit }
    }

    pub(crate) fn insert(&mut self, message: Arc<Message>) {
        let id = message.envelope.id;
        let size = cost(&message);
        if size > self.limit {
            return;
        }
        self.bytes += size;
        if let Some(old) = self.messages.insert(id, message) {
            self.bytes -= cost(&old);
        } else {
            self.order.push_back(id);
        }
        while self.bytes > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(old) = self.messages.remove(&oldest) {
                self.bytes -= cost(&old);
            }
        }
    }

    pub(crate) fn find(&self, id: MessageId) -> Option<Arc<Message>> {
        self.messages.get(&id).cloned()
    }

    /// The message for its delivery: one that only a single recipient needs leaves the cache with it.
    pub(crate) fn take(&mut self, id: MessageId) -> Option<Arc<Message>> {
        let message = self.find(id)?;
        if message.envelope.rcpts.len() == 1 {
            self.remove(id);
        }
        Some(message)
    }

    pub(crate) fn remove(&mut self, id: MessageId) {
        if let Some(old) = self.messages.remove(&id) {
            self.bytes -= cost(&old);
            // Names of messages that are gone are dropped from the front, and all at once when they prevail.
            while self.order.front().is_some_and(|id| !self.messages.contains_key(id)) {
                self.order.pop_front();
            }
            if self.order.len() > 2 * self.messages.len() + 64 {
                let kept = &self.messages;
                self.order.retain(|id| kept.contains_key(id));
            }
        }
    }
}
