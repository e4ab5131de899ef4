//! Replies in words never seen before, many within minutes at one provider: it has changed its words, or its mind.
//!
//! Every template that was seen is remembered. One that is younger than a day is watched: if it comes `count` times
//! within `within` at one provider, there is one alarm about it, ever. In the first day of all, when everything is new,
//! only replies that no pattern decides raise one. Pure: time comes with the events. Bounded: at most `MAX_TEMPLATES`
//! are remembered and `MAX_WATCHED` pairs of template and provider watched; what then belongs to none is counted.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::suggest::{Decided, suggest};
use super::template::{Template, Templates, masked};
use crate::event::Time;

/// Templates remembered.
pub const MAX_TEMPLATES: usize = 20_000;
/// Pairs of template and provider that are watched.
const MAX_WATCHED: usize = 10_000;
/// So long a template is new; so long everything is.
const YOUNG: Duration = Duration::from_secs(86_400);
/// Templates not seen for so long are forgotten when the server starts.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(180 * 86_400);
/// Replies kept of a watched template.
const EXAMPLES: usize = 3;
/// Longest example, in bytes.
const MAX_EXAMPLE: usize = 600;
/// Alarms shown.
const MAX_SHOWN: usize = 20;
/// Most of `count`.
pub const MAX_COUNT: u32 = 10_000;

/// When there is an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// So many replies; 0 is never.
    pub count: u32,
    /// Within this time.
    pub within: Duration,
}

/// What is known of a reply beside its text.
#[derive(Debug, Clone, Copy)]
pub struct Circumstance<'a> {
    /// When it came.
    pub time: Time,
    /// From where.
    pub provider: &'a str,
    /// Its category.
    pub category: &'a str,
    /// What decided that.
    pub rule: &'a str,
    /// Whether that is a pattern.
    pub by_pattern: bool,
}

/// A remembered template, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its text.
    pub template: String,
    /// When it first came, in microseconds since 1970.
    pub first: i64,
    /// When it last came, to the day.
    pub last: i64,
    /// Whether a pattern decided it then.
    pub by_pattern: bool,
    /// The alarm about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<Alarm>,
}

/// What the operator is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// When, in microseconds since 1970.
    pub time: i64,
    /// The provider.
    pub provider: String,
    /// The template.
    pub template: String,
    /// So many replies came.
    pub count: u32,
    /// Within so many seconds.
    pub within_seconds: u64,
    /// The category they get.
    pub category: String,
    /// What decides that; empty when nothing does.
    pub rule: String,
    /// Whether a pattern decides.
    pub by_pattern: bool,
    /// Some of them.
    pub examples: Vec<String>,
    /// A rule for them in the form of pattern files, when one could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
}

/// The last replies of a template at a provider.
#[derive(Debug, Default)]
struct Watched {
    times: VecDeque<Time>,
    examples: Vec<String>,
}

/// All that was seen.
#[derive(Debug)]
pub struct Novelty {
    templates: Templates,
    seen: Vec<Seen>,
    watched: HashMap<(u32, Box<str>), Watched>,
    /// Before this everything is new.
    learned_at: Option<Time>,
    changed: Vec<u32>,
    overflow: u64,
    alarms: VecDeque<Alarm>,
}

impl Default for Novelty {
    fn default() -> Novelty {
        Novelty {
            templates: Templates::new(MAX_TEMPLATES),
            seen: Vec::new(),
            watched: HashMap::new(),
            learned_at: None,
            changed: Vec::new(),
            overflow: 0,
            alarms: VecDeque::new(),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Novelty {
    /// With what was kept, in the order of the keys; what has not come for long is left out. Templates keep their keys
    /// when [`Novelty::len`] is as many as there were rows; else all are to be kept anew.
    pub fn load(rows: Vec<Seen>) -> Novelty {
        let mut novelty = Novelty::default();
        let newest = rows.iter().map(|r| r.last).max().unwrap_or(0);
        let oldest = rows.iter().map(|row| row.first).min();
        novelty.learned_at = oldest.map(|first| Time(first.saturating_add(micros(YOUNG))));
        for row in rows.into_iter().filter(|row| row.last >= newest.saturating_sub(micros(FORGOTTEN_AFTER))) {
            if novelty.templates.place_masked(&row.template) == Some(novelty.seen.len()) {
                if let Some(alarm) = &row.alarm {
                    novelty.show(alarm.clone());
                }
                novelty.seen.push(row);
            }
        }
        novelty
    }

    fn show(&mut self, alarm: Alarm) {
        self.alarms.push_back(alarm);
        self.alarms.make_contiguous().sort_by_key(|a| a.time);
        if self.alarms.len() > MAX_SHOWN {
            self.alarms.pop_front();
        }
    }

    /// Takes a reply in; the alarm that it raises.
    pub fn see(&mut self, reply: &str, about: &Circumstance<'_>, threshold: Threshold) -> Option<Alarm> {
        let text = masked(reply);
        let Some(number) = self.templates.place_masked(&text) else {
            self.overflow += 1;
            return None;
        };
        let now = about.time;
        let learned_at = *self.learned_at.get_or_insert(Time(now.0.saturating_add(micros(YOUNG))));
        let day = now.0 - now.0.rem_euclid(micros(YOUNG));
        if number == self.seen.len() {
            self.seen.push(Seen { template: text, first: now.0, last: day, by_pattern: about.by_pattern, alarm: None });
            self.changed.push(number as u32);
        }
        let seen = &mut self.seen[number];
        if seen.last < day {
            seen.last = day;
            self.changed.push(number as u32);
        }
        let is_young = now.0 < seen.first.saturating_add(micros(YOUNG));
        let learning = about.by_pattern && now < learned_at && seen.first < learned_at.0;
        if threshold.count == 0 || !is_young || seen.alarm.is_some() || learning {
            return None;
        }
        self.watch(number, reply, about, threshold)
    }

    fn watch(&mut self, number: usize, reply: &str, about: &Circumstance<'_>, threshold: Threshold) -> Option<Alarm> {
        let now = about.time;
        let since = now.0.saturating_sub(micros(threshold.within));
        let key = (number as u32, Box::from(about.provider));
        if self.watched.len() >= MAX_WATCHED && !self.watched.contains_key(&key) {
            // What has not come for a while is watched anew when it comes again.
            self.watched.retain(|_, w| w.times.back().is_some_and(|t| t.0 >= since));
            if self.watched.len() >= MAX_WATCHED {
                self.overflow += 1;
                return None;
            }
        }
        let watched = self.watched.entry(key).or_default();
        watched.times.push_back(now);
        if watched.examples.len() < EXAMPLES
            && reply.len() <= MAX_EXAMPLE
            && !watched.examples.iter().any(|e| e == reply)
        {
            watched.examples.push(reply.to_owned());
        }
        let count = threshold.count.min(MAX_COUNT) as usize;
        while watched.times.front().is_some_and(|t| t.0 < since) || watched.times.len() > count {
            watched.times.pop_front();
        }
        if watched.times.len() < count {
            return None;
        }
        let examples = std::mem::take(&mut watched.examples);
        self.watched.retain(|(n, _), _| *n as usize != number);
        let template = self.templates.template(number).clone();
        let proposal = (!about.by_pattern).then(|| self.propose(&template, &examples, about.category)).flatten();
        let alarm = Alarm {
            time: now.0,
            provider: about.provider.to_owned(),
            template: template.to_string(),
            count: threshold.count,
            within_seconds: threshold.within.as_secs(),
            category: about.category.to_owned(),
            rule: about.rule.to_owned(),
            by_pattern: about.by_pattern,
            examples,
            proposal,
        };
        self.seen[number].alarm = Some(alarm.clone());
        self.changed.push(number as u32);
        self.show(alarm.clone());
        Some(alarm)
    }

    /// A rule that lays no claim to the words of templates that patterns decide.
    fn propose(&self, template: &Template, examples: &[String], category: &str) -> Option<String> {
        let mut decided = Decided::new(4 << 20);
        for seen in self.seen.iter().filter(|s| s.by_pattern) {
            decided.add(&seen.template, &seen.template);
        }
        suggest(template, examples, category, &decided).map(|s| s.text())
    }

    /// What has changed since [`Novelty::kept`]: the key of each, and what is to be kept under it.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Seen)> {
        self.changed.iter().map(|n| (*n, &self.seen[*n as usize]))
    }

    /// All of it, when it is kept under new numbers.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Seen)> {
        (0u32..).zip(&self.seen)
    }

    /// What was changed is kept.
    pub fn kept(&mut self) {
        self.changed.clear();
    }

    /// Whether anything is to be kept.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// How many templates are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Replies that could not be watched because there were too many different ones.
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The last alarms, the newest first.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::template::MAX_ALIKE;

    const MINUTE: i64 = 60_000_000;
    const DAY: i64 = 1440 * MINUTE;
    const FIVE: Threshold = Threshold { count: 5, within: Duration::from_secs(600) };

    fn at(minute: i64, provider: &str) -> Circumstance<'_> {
        Circumstance {
            time: Time(minute * MINUTE),
            provider,
            category: "policy-related",
            rule: "code 5.7.1",
            by_pattern: false,
        }
    }

    fn see(novelty: &mut Novelty, minute: i64, provider: &str, id: i64) -> Option<Alarm> {
        let reply = format!("550 5.7.1 <u{id}@a.example> frobnication quota of tenant reached {id}");
        novelty.see(&reply, &at(minute, provider), FIVE)
    }

    #[test]
    fn new_words_that_come_often_at_one_provider_raise_one_alarm_with_a_rule() {
        let mut novelty = Novelty::default();
        for n in 0..4 {
            assert_eq!(see(&mut novelty, n, "big.example", n), None);
            assert_eq!(see(&mut novelty, n, "other.example", n), None);
        }
        let alarm = see(&mut novelty, 5, "big.example", 9).unwrap();
        assert_eq!((alarm.provider.as_str(), alarm.count, alarm.examples.len()), ("big.example", 5, 3));
        let proposal = alarm.proposal.unwrap();
        assert!(proposal.contains("/frobnication quota of tenant reached/ policy-related"), "{proposal}");
        for n in 0..20 {
            assert_eq!(see(&mut novelty, 6, "big.example", n), None, "one alarm is enough");
        }
        assert_eq!(novelty.alarms().count(), 1);
    }

    #[test]
    fn what_comes_slowly_or_is_known_raises_none() {
        let mut novelty = Novelty::default();
        for n in 0..50 {
            assert_eq!(see(&mut novelty, n * 11, "big.example", n), None, "never five within ten minutes");
        }
        for n in 0..50 {
            assert_eq!(see(&mut novelty, 2000, "big.example", n), None, "it is older than a day");
        }
    }

    #[test]
    fn replies_that_a_pattern_decides_are_learned_for_a_day_and_watched_after() {
        let mut novelty = Novelty::default();
        let decided = |minute, reply: &'static str| {
            (reply, Circumstance { by_pattern: true, rule: "x.conf:1", ..at(minute, "p") })
        };
        for _ in 0..10 {
            let (reply, about) = decided(1, "550 5.1.1 user unknown in our local table");
            assert_eq!(novelty.see(reply, &about, FIVE), None);
        }
        let (reply, about) = decided(1500, "550 5.1.1 user unknown since the second of may");
        let alarms: Vec<_> = (0..10).filter_map(|_| novelty.see(reply, &about, FIVE)).collect();
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].proposal, None, "a pattern decides it already");
    }

    #[test]
    fn what_was_seen_is_remembered_over_a_restart() {
        let mut novelty = Novelty::default();
        see(&mut novelty, 1, "big.example", 1);
        let kept: Vec<Seen> = novelty.changed().map(|(_, s)| s.clone()).collect();
        let text = serde_json::to_string(&kept).unwrap();
        let mut again = Novelty::load(serde_json::from_str(&text).unwrap());
        assert_eq!(again.len(), 1);
        for n in 0..50 {
            assert_eq!(see(&mut again, 2000, "big.example", n), None, "it is no news the day after");
        }
        let old =
            Seen { last: kept[0].last - 200 * DAY, first: 0, template: "550 old words".into(), ..kept[0].clone() };
        assert_eq!(Novelty::load(vec![kept[0].clone(), old]).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut novelty = Novelty::default();
        for n in 0..MAX_ALIKE + 500 {
            let word: String = format!("{n:08}").bytes().map(|b| char::from(b - b'0' + b'a')).collect();
            novelty.see(&format!("550 {word}{word} {word}"), &at(1, "p"), FIVE);
        }
        assert_eq!((novelty.len(), novelty.overflow()), (MAX_ALIKE, 500));
        assert!(novelty.watched.len() <= MAX_WATCHED);
    }
}
