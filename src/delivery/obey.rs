//! Does what the patterns order ([`super::steer`]): tells the queue, and ends its mail where that is asked for.

use crate::event::{MessageId, Time};
use crate::queue::Fate;

use super::attempt::{Attempt, Facts, Ledgered};
use super::outcome::{DiagType, Outcome, Verdict};
use super::session::{Session, now};
use super::steer::{Orders, Sentence};

impl Session {
    /// Carries orders out that came of a reply on the connection of `facts`. What was drawn is settled when the queue is
    /// to be bounced. Whether the connection may be kept.
    pub(super) async fn obey(&mut self, orders: &Orders, facts: &Facts) -> bool {
        if let Some(steer) = orders.for_queue(facts.source_ip) {
            self.permit.steer(&steer);
        }
        if let Some(sentence) = &orders.bounce_queue {
            self.permit.condemn(&orders.why);
            self.bounce_condemned(sentence, facts).await;
        }
        !orders.leave()
    }

    async fn bounce_condemned(&mut self, sentence: &Sentence, facts: &Facts) {
        let steering = self.context.steering();
        let category = steering.category_of_others(&sentence.text);
        let outcome = Outcome {
            diag_type: DiagType::Smtp,
            ..Outcome::local(Verdict::Bounced, sentence.status, &sentence.text, sentence.stage, category)
        };
        loop {
            self.permit.next_condemned();
            if self.permit.drawn.is_empty() {
                return;
            }
            while let Some(next) = self.permit.drawn.iter().find(|d| d.fate == Fate::Again) {
                self.bounce_condemned_of(next.entry.message(), facts, outcome, now()).await;
            }
        }
    }

    async fn bounce_condemned_of(&mut self, id: MessageId, facts: &Facts, outcome: Outcome<'_>, now: Time) {
        // What can't be loaded is dealt with there.
        let Some(message) = self.load(id).await else { return };
        let queue = self.permit.queue().clone();
        let settings = self.permit.settings().clone();
        let attempt = Attempt { envelope: &message.envelope, queue: &queue, settings: &settings, facts, now };
        let mut told = Ledgered::default();
        for drawn in self.permit.drawn.iter_mut().filter(|d| d.entry.message() == id && d.fate == Fate::Again) {
            match attempt.why_not(&self.context.suppression, drawn.entry.state().index) {
                Some(why) => attempt.suppressed(drawn, &why, &mut told),
                None => attempt.condemned(drawn, outcome, &mut told),
            }
        }
        self.hand_over(&message, told).await;
    }
}
