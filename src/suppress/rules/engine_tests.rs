//! The engine as its users see it: events go in, what is entered comes out; and against a model.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::event::{EventId, MessageId, StoreId};

/// Everything in memory.
#[derive(Default)]
struct Books {
    strikes: BTreeMap<StrikeKey, Strikes>,
    list: BTreeMap<Key, Standing>,
    resolved: Time,
}

impl State for Books {
    type Error = Infallible;
    fn standing(&mut self, key: &Key) -> Result<Option<Standing>, Infallible> {
        Ok(self.list.get(key).cloned())
    }
    fn strikes(&mut self, key: &StrikeKey) -> Result<Strikes, Infallible> {
        Ok(self.strikes.get(key).cloned().unwrap_or_default())
    }
    fn keep(&mut self, key: StrikeKey, strikes: Strikes) {
        // Through the row: what is lost there is lost here.
        let strikes = Strikes::decode(&strikes.encode());
        if strikes.is_empty() {
            self.strikes.remove(&key)
        } else {
            self.strikes.insert(key, strikes)
        };
    }
    fn may_have_strikes(&mut self, _: &SubjectKey) -> bool {
        true
    }
    fn may_have_domains(&mut self) -> bool {
        true
    }
    fn strikes_of(&mut self, subject: &SubjectKey) -> Result<Vec<(StrikeKey, Strikes)>, Infallible> {
        let of = |key: &StrikeKey| key.key.subject == *subject;
        Ok(self.strikes.iter().filter(|(key, _)| of(key)).map(|(k, s)| (*k, s.clone())).collect())
    }
    fn resolved(&self) -> Time {
        self.resolved
    }
}

/// A server with an engine.
struct Play {
    engine: Engine,
    books: Books,
    seq: u64,
}

impl Play {
    fn new(block: &str) -> Play {
        let text = format!("spool s\n<auto-suppression>\n{block}\n</auto-suppression>\n");
        let config = crate::config::parse_str("c", if block.is_empty() { "spool s\n" } else { &text }).config.unwrap();
        Play { engine: Engine::new(&config.auto_suppression), books: Books::default(), seq: 0 }
    }

    /// What the event enters, as `RULE SUBJECT SCOPE`.
    fn see(&mut self, event: Event<'_>, category: &str) -> Vec<String> {
        self.seq += 1;
        let event = Event { seq: self.seq, store: StoreId(1), ..event };
        let hard = crate::event::Category::by_name(category).is_some_and(|c| c.dead_address);
        let judged = Judged { category, hard, block: false };
        if self.engine.wants(&event) == Wants::Nothing {
            return Vec::new();
        }
        let Ok(decisions) = self.engine.take(&event, judged, &Hasher::default(), &mut self.books);
        let mut shown = Vec::new();
        for decision in decisions {
            let rule = &self.engine.rules().rules[decision.rule].name;
            for (key, subject) in decision.subjects {
                let entry = Entry {
                    source: decision.source,
                    by: EventId { store: StoreId(1), seq: self.seq },
                    expires: decision.expires,
                    ..Entry::default()
                };
                self.books.list.insert(key, Standing::of(&entry));
                shown.push(format!("{rule} {subject} {}", decision.scope));
            }
        }
        shown
    }
}

fn at<'a>(kind: Kind, secs: i64, message: u64, diag: &'a str) -> Event<'a> {
    Event {
        rcpt: "Ann@Example.net",
        orig: "news@sender.example",
        message: MessageId(message),
        diag,
        ..Event::new(kind, Time::from_secs(1_800_000_000 + secs))
    }
}

const DAY: i64 = 86_400;
const FULL: &str = "smtp;452 4.2.2 over quota";

#[test]
fn a_dead_address_is_entered_at_once_and_a_4xx_never_is() {
    let mut play = Play::new("");
    assert_eq!(play.see(at(Kind::Bounced, 0, 1, "smtp;450 4.1.1 no such user"), "bad-mailbox"), [""; 0]);
    assert_eq!(play.see(at(Kind::Transient, 0, 2, "smtp;550 5.1.1 no such user"), "bad-mailbox"), [""; 0]);
    let refused = at(Kind::Bounced, 1, 3, "smtp;550 5.1.1 no such user");
    assert_eq!(play.see(refused, "spam-related"), [""; 0]);
    assert_eq!(play.see(refused, "bad-mailbox"), ["hard ann@example.net global"]);
    assert_eq!(play.see(refused, "bad-mailbox"), [""; 0], "it is on the list");
}

#[test]
fn a_full_mailbox_is_counted_by_messages_and_not_by_attempts() {
    let mut play = Play::new("");
    for attempt in 0..50 {
        assert_eq!(play.see(at(Kind::Transient, attempt, 1, FULL), "quota-issues"), [""; 0]);
    }
    for message in 2..5 {
        assert_eq!(play.see(at(Kind::Bounced, DAY * message, message as u64, FULL), "quota-issues"), [""; 0]);
    }
    assert_eq!(play.see(at(Kind::Transient, DAY * 6, 6, FULL), "quota-issues"), ["full ann@example.net global"]);
    assert!(play.books.strikes.is_empty());
    let (_, standing) = play.books.list.first_key_value().unwrap();
    assert_eq!(standing.expires, Time::from_secs(1_800_000_000 + 96 * DAY));
    // Afterwards counting begins anew.
    assert_eq!(play.see(at(Kind::Transient, DAY * 97, 7, FULL), "quota-issues"), [""; 0]);
    assert_eq!(play.books.strikes.len(), 1);
}

#[test]
fn a_delivery_ends_the_count() {
    let mut play = Play::new("");
    for message in 1..5 {
        play.see(at(Kind::Transient, message, message as u64, FULL), "quota-issues");
    }
    play.see(at(Kind::Delivered, 5, 4, ""), "");
    for message in 10..14 {
        assert_eq!(play.see(at(Kind::Transient, message, message as u64, FULL), "quota-issues"), [""; 0]);
    }
    assert_eq!(play.see(at(Kind::Transient, 20, 20, FULL), "quota-issues").len(), 1);
}

#[test]
fn a_domain_is_entered_after_three_times_over_an_hour_while_other_names_resolved() {
    let gone = |secs, message| Event {
        status: "5.1.2".parse().ok(),
        ..at(Kind::Bounced, secs, message, "bad destination system: no such domain")
    };
    let mut play = Play::new("");
    for n in 0..9 {
        assert_eq!(play.see(gone(n * 1000, n as u64 + 1), "bad-domain"), [""; 0], "nothing resolves");
    }
    let mut play = Play::new("");
    for n in 0..5 {
        play.books.resolved = Time::from_secs(1_800_000_000 + n * 600);
        assert_eq!(play.see(gone(n * 600, n as u64 + 1), "bad-domain"), [""; 0], "within the hour");
    }
    play.books.resolved = Time::from_secs(1_800_003_000);
    assert_eq!(play.see(gone(3700, 9), "bad-domain"), ["domain @example.net global"]);
}

#[test]
fn a_null_mx_enters_the_domain_at_once_but_not_on_a_server_s_word() {
    let null = |diag| Event { status: "5.1.10".parse().ok(), ..at(Kind::Bounced, 0, 1, diag) };
    let mut play = Play::new("");
    assert_eq!(play.see(null("smtp;556 5.1.10 null MX"), "bad-domain"), [""; 0]);
    assert_eq!(play.see(null("the domain accepts no mail (null MX)"), "bad-domain"), ["domain @example.net global"]);
}

#[test]
fn only_what_is_proved_to_be_about_our_mail_counts_and_the_scope_is_that_of_the_mail() {
    let mut play = Play::new(
        "rule complaint feedback abuse after 1 scope job\nrule unsub unsubscribe after 1\nrule soft category quota-issues after 2\nrule hard category bad-mailbox after 1",
    );
    let report = Event { feedback_type: "abuse", job: "Spring", ..at(Kind::Feedback, 0, 1, "") };
    assert_eq!(play.see(report, ""), [""; 0], "forged");
    let proved = Event { attributed_by: "message-id", ..report };
    assert_eq!(play.see(proved, ""), ["complaint ann@example.net job spring"]);
    let nameless = Event { job: "", rcpt: "bob@example.net", ..proved };
    assert_eq!(play.see(nameless, ""), ["complaint bob@example.net sender-domain sender.example"]);
    let everything = Event { feedback_type: "opt-out", attributed_by: "header-token", ..report };
    assert_eq!(play.see(everything, ""), ["unsub ann@example.net sender-domain sender.example"]);
    let bounce = at(Kind::RemoteBounce, 0, 9, "smtp;550 5.1.1 no such user");
    assert_eq!(play.see(bounce, "bad-mailbox"), [""; 0], "forged");
    let proved = Event { attributed_by: "return-path", ..bounce };
    assert_eq!(play.see(proved, "bad-mailbox"), ["hard ann@example.net global"]);
}

#[test]
fn what_lasts_for_ever_takes_the_place_of_what_ends() {
    let mut play =
        Play::new("rule full category quota-issues after 1 expire 90d\nrule complaint feedback abuse after 1");
    assert_eq!(play.see(at(Kind::Transient, 0, 1, FULL), "quota-issues").len(), 1);
    let complaint = Event { feedback_type: "abuse", attributed_by: "message-id", ..at(Kind::Feedback, 5, 1, "") };
    assert_eq!(play.see(complaint, ""), ["complaint ann@example.net global"]);
    assert_eq!(play.see(at(Kind::Transient, 9, 2, FULL), "quota-issues"), [""; 0]);
}

#[test]
fn what_an_operator_took_off_counts_again_only_by_later_events() {
    let mut play = Play::new("rule full category quota-issues after 2");
    play.see(at(Kind::Transient, 0, 1, FULL), "quota-issues");
    let key = Hasher::default().subject("ann@example.net").in_scope(&Scope::global());
    let taken_off =
        Standing { state: EntryState::Removed, source: Source::Manual, expires: Time::UNKNOWN, seq: play.seq };
    play.books.list.insert(key, taken_off);
    assert_eq!(play.see(at(Kind::Transient, 1, 2, FULL), "quota-issues"), [""; 0]);
    assert_eq!(play.see(at(Kind::Transient, 2, 3, FULL), "quota-issues").len(), 1);
}

#[test]
fn a_folded_mailbox_is_counted_as_one_and_entered_in_both_spellings() {
    let mut play =
        Play::new("rule full category quota-issues after 2\nfold-plus-tags example.net\nfold-dots example.net");
    let spelt = |rcpt, message| Event { rcpt, ..at(Kind::Transient, 0, message, FULL) };
    assert_eq!(play.see(spelt("a.nn+x@example.net", 1), "quota-issues"), [""; 0]);
    assert_eq!(
        play.see(spelt("An.n@example.net", 2), "quota-issues"),
        ["full ann@example.net global", "full an.n@example.net global"]
    );
}

#[test]
fn a_pattern_that_says_hard_counts_as_no_such_mailbox_and_one_that_says_block_for_nothing() {
    let mut play = Play::new("");
    let event = Event { seq: 1, ..at(Kind::Bounced, 0, 1, "smtp;550 5.4.4 unrouteable") };
    let take = |play: &mut Play, hard, block| {
        let judged = Judged { category: "routing-errors", hard, block };
        let Ok(decisions) = play.engine.take(&event, judged, &Hasher::default(), &mut play.books);
        (decisions.len(), play.books.strikes.len())
    };
    assert_eq!(take(&mut play, false, true), (0, 0));
    assert_eq!(take(&mut play, true, false), (1, 1), "hard, and a strike of unreach");
}

#[test]
fn half_an_event_taken_again_changes_nothing() {
    let mut play = Play::new("");
    for message in 1..5 {
        let event = Event { seq: message, ..at(Kind::Transient, 0, message, FULL) };
        for _ in 0..3 {
            let judged = Judged { category: "quota-issues", ..Judged::default() };
            let Ok(decisions) = play.engine.take(&event, judged, &Hasher::default(), &mut play.books);
            assert!(decisions.is_empty());
        }
    }
}

proptest! {
    /// The rule in words: so many distinct messages within the window since the last delivery.
    #[test]
    fn strikes_agree_with_a_model(
        after in 2u32..5, within in 1i64..20,
        events in prop::collection::vec((0i64..6, 0u64..8, prop::bool::weighted(0.15)), 1..60),
    ) {
        let mut play = Play::new(&format!("rule soft category quota-issues after {after} within {within}s expire 7s"));
        let mut model: Vec<(i64, u64)> = Vec::new();
        let (mut now, mut until) = (0, i64::MIN);
        for (later, message, delivered) in events {
            now += later;
            if delivered {
                play.see(at(Kind::Delivered, now, message + 100, ""), "");
                model.clear();
                continue;
            }
            let entered = play.see(at(Kind::Transient, now, message + 1, FULL), "quota-issues");
            let mut expected = false;
            if until <= now && !model.iter().any(|(_, m)| *m == message) {
                model.retain(|(time, _)| now - time <= within);
                model.push((now, message));
                let distinct: BTreeSet<u64> = model.iter().map(|(_, m)| *m).collect();
                expected = distinct.len() >= after as usize;
                if expected {
                    model.clear();
                    until = now + 7;
                }
            }
            prop_assert_eq!(!entered.is_empty(), expected, "at {}", now);
            prop_assert!(play.books.strikes.values().all(|s| s.all().len() <= after as usize));
        }
    }
}
