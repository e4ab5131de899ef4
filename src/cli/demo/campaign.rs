//! The messages of one campaign and the count of what has come of them so far. Pure.

use super::conf::SENDER;
use super::reconcile::job;
use crate::cli::send::post::Letter;
use crate::event::{Event, Kind, Time};
use crate::sim::script::{Behaviour, Ending, Script};
use crate::sim::traffic;

/// One campaign.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Its number, from 1.
    pub number: u32,
    /// Seed of recipients and script.
    pub seed: u64,
    /// Recipients.
    pub recipients: u64,
    /// When it began; the date of its messages.
    pub begun: Time,
}

/// What is expected to come back by mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reports {
    /// `rb` records.
    pub bounces: u64,
    /// `f` records.
    pub complaints: u64,
}

impl Campaign {
    /// Its messages, one recipient each, every one with its own Message-ID and the campaign as X-Job.
    pub fn letters(self) -> impl Iterator<Item = Letter> + Send {
        let date = mail_builder::headers::date::Date::new(self.begun.secs()).to_rfc822();
        traffic::recipients(self.seed, self.recipients).zip(0..).map(move |(rcpt, row)| {
            let name = rcpt.split(['@', '.', '_']).next().unwrap_or("");
            let content = format!(
                "From: Sender News <{SENDER}>\r\n\
                 To: <{rcpt}>\r\n\
                 Subject: News of this week, issue {number}\r\n\
                 Date: {date}\r\n\
                 Message-ID: <{number}.{row}.{begun}@sender.example>\r\n\
                 X-Job: {job}\r\n\
                 X-Virtual-MTA: vmta1\r\n\
                 List-Unsubscribe: <https://sender.example/unsubscribe?r={row}>\r\n\
                 List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
                 MIME-Version: 1.0\r\n\
                 Content-Type: text/plain; charset=utf-8\r\n\
                 \r\n\
                 Hello {name},\r\n\
                 \r\n\
                 {paragraph}{paragraph}{paragraph}\
                 You get this because you asked for it. To stop it, follow the link above.\r\n",
                number = self.number,
                begun = self.begun.secs(),
                job = job(self.number),
                paragraph = PARAGRAPH,
            );
            Letter { row, from: SENDER.to_owned(), rcpt, content: content.into_bytes() }
        })
    }

    /// The reports that the script lets come back: the first campaign's. Who reported then is suppressed after that.
    pub fn reports(self) -> Reports {
        let mut reports = Reports::default();
        if self.number == 1 {
            let script = Script::new(self.seed);
            for rcpt in traffic::recipients(self.seed, self.recipients) {
                match script.behaviour(&rcpt) {
                    Behaviour::LaterBounce => reports.bounces += 1,
                    Behaviour::Complaint => reports.complaints += 1,
                    _ => {}
                }
            }
        }
        reports
    }

    /// How many of its recipients the script lets be delivered.
    pub fn deliveries(self) -> u64 {
        let script = Script::new(self.seed);
        let delivered = |rcpt: &String| {
            let b = script.behaviour(rcpt);
            b.ending() == Ending::Delivered && !(self.number > 1 && b.suppresses())
        };
        traffic::recipients(self.seed, self.recipients).filter(delivered).count() as u64
    }
}

const PARAGRAPH: &str = "The orchard is in blossom, the workshop has new opening hours, and the ferry runs again from\r\n\
    the first of the month. Read about the people who keep the old mill turning, and about the\r\n\
    school that measures the lake every morning and publishes what it finds.\r\n\r\n";

/// What has come of a campaign so far, counted from the ledger.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Recipients that have ended.
    pub ended: u64,
    /// `d` events, by time.
    pub delivered: Vec<Time>,
    /// `t` events.
    pub deferred: u64,
    /// `rb` events.
    pub bounces: u64,
    /// `f` events.
    pub complaints: u64,
}

impl Tally {
    /// Takes an event of the ledger that came after the campaign had begun.
    pub fn take(&mut self, event: &Event<'_>, job: &str) {
        match event.kind {
            Kind::RemoteBounce => self.bounces += 1,
            Kind::Feedback => self.complaints += 1,
            _ if event.job != job => {}
            Kind::Delivered => {
                self.ended += 1;
                self.delivered.push(event.time);
            }
            Kind::Bounced => self.ended += 1,
            Kind::Transient => self.deferred += 1,
            _ => {}
        }
    }

    /// Whether everything that is expected has come.
    pub fn is_complete(&self, submitted: u64, reports: Reports) -> bool {
        self.ended >= submitted && self.bounces >= reports.bounces && self.complaints >= reports.complaints
    }

    /// Messages per second until 95 % of those delivered had been; what is greylisted or deferred comes later.
    pub fn rate(&self, begun: Time) -> f64 {
        let mut times = self.delivered.clone();
        times.sort_unstable();
        let most = times.len() * 95 / 100;
        match times.get(most.saturating_sub(1)) {
            Some(last) if most > 0 => most as f64 / last.since(begun).as_secs_f64().max(0.001),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(number: u32) -> Campaign {
        Campaign { number, seed: 1, recipients: 500, begun: Time::from_secs(1_800_000_000) }
    }

    #[test]
    fn every_message_has_its_own_message_id_and_its_campaign_as_job() {
        let ids: std::collections::HashSet<_> = campaign(2)
            .letters()
            .map(|l| {
                let text = String::from_utf8(l.content).unwrap();
                assert!(text.contains("X-Job: campaign-2\r\n") && !text.replace("\r\n", "").contains('\n'));
                text.lines().find(|l| l.starts_with("Message-ID")).unwrap().to_owned()
            })
            .collect();
        assert_eq!(ids.len(), 500);
    }

    #[test]
    fn reports_are_expected_of_the_first_campaign_only_and_fewer_deliveries_of_the_second() {
        assert!(campaign(1).reports().bounces > 0);
        assert_eq!(campaign(2).reports(), Reports::default());
        assert!(campaign(2).deliveries() < campaign(1).deliveries());
    }

    #[test]
    fn a_campaign_is_complete_when_all_have_ended_and_all_reports_are_in() {
        let mut tally = Tally::default();
        let reports = Reports { bounces: 0, complaints: 1 };
        tally.take(&Event { job: "campaign-1", ..Event::new(Kind::Delivered, Time::from_secs(12)) }, "campaign-1");
        tally.take(&Event { job: "campaign-9", ..Event::new(Kind::Bounced, Time::from_secs(13)) }, "campaign-1");
        assert!(!tally.is_complete(1, reports));
        tally.take(&Event::new(Kind::Feedback, Time::from_secs(14)), "campaign-1");
        assert!(tally.is_complete(1, reports) && !tally.is_complete(2, reports));
    }
}
