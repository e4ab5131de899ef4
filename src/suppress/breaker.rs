//! The circuit breaker: hard bounces of a provider, or in the words of one template, that pass a multiple of their usual
//! share are taken for its mistake, until the share is normal again.
//!
//! In December 2020 a large provider answered 550 5.1.1 for live mailboxes for hours. For each provider there is a short
//! memory (the window, in twelve steps) and a long one (weeks, fading); their shares of hard bounces are compared. What
//! happens while it is tripped does not become usual. Pure: time comes with the events. Bounded: so many providers and
//! templates are remembered; of those, what has been silent longest is forgotten first.

use std::fmt;
use std::time::Duration;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::config::Breaker as Terms;
use crate::event::Time;

/// Providers and templates remembered, each.
const MAX_WATCHED: usize = 5_000;
/// Steps of the window.
const STEPS: usize = 12;
/// In so long the long memory fades to half.
const HALF_LIFE: f64 = 7.0 * 86_400.0;
/// Before much is known, a provider's share of hard bounces is taken for this, with the weight of so many mails.
const PRIOR_SHARE: f64 = 0.05;
const PRIOR_WEIGHT: f64 = 500.0;
/// A usual share is never taken for less: some dead addresses are in every list.
const LEAST_SHARE: f64 = 0.01;
/// The same for one template, of all mail.
const TEMPLATE_SHARE: f64 = 0.05;
/// Rows kept of those that have seen so many mails at least.
const WORTH_KEEPING: f64 = 20.0;
/// Longest name, in bytes.
const MAX_NAME: usize = 200;

/// What a breaker watches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// All of one provider.
    Provider(Box<str>),
    /// Replies of one template, at whatever provider.
    Template(Box<str>),
}

impl Circuit {
    /// That of a provider.
    pub fn provider(name: &str) -> Circuit {
        Circuit::Provider(cut(&name.to_lowercase()).into())
    }

    /// That of a template.
    pub fn template(text: &str) -> Circuit {
        Circuit::Template(cut(text).into())
    }
}

/// `provider NAME` or `template TEXT`; also what the entries it holds are marked with.
impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Circuit::Provider(name) => write!(f, "provider {name}"),
            Circuit::Template(text) => write!(f, "template {text}"),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME)]
}

/// What it found at one circuit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Watched {
    /// Number of the step that `steps[0]` is.
    step: i64,
    /// Hard bounces and all outcomes of the last steps, the newest first.
    steps: [(u32, u32); STEPS],
    /// Long memory: hard bounces, all outcomes, and when it was last faded.
    usual: (f64, f64, i64),
    tripped: Option<Tripped>,
    /// An operator said that the bounces are right: it does not trip before the share was normal.
    confirmed: bool,
}

/// A breaker that has tripped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tripped {
    /// When, in microseconds since 1970.
    pub since: i64,
    /// The entries from this time on are doubted.
    pub from: i64,
    /// Share of hard bounces then.
    pub share: f64,
    /// The usual one.
    pub usual: f64,
    /// Hard bounces in the window.
    pub hard: u64,
    /// Since when the share has been normal again.
    pub normal_since: Option<i64>,
}

/// What becomes of a circuit.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It has tripped.
    Trips(Circuit, Tripped),
    /// It is over: what it held is let go.
    Ends(Circuit, Tripped),
}

/// All circuits.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    circuits: HashMap<Circuit, Watched>,
    /// All outcomes, whatever the provider: what templates are a share of.
    all: Watched,
    tripped: usize,
}

impl Breaker {
    /// Takes an outcome at a provider in: `template` is given for a hard bounce, `late` says that its mail was counted
    /// before (a report after a delivery).
    pub fn see(&mut self, provider: &str, template: Option<&str>, late: bool, now: Time, terms: &Terms) -> Vec<Turn> {
        if !terms.on {
            return Vec::new();
        }
        let (hard, all) = (u32::from(template.is_some()), u32::from(!late));
        self.all.count(hard, all, now, terms);
        let mut turns = Vec::new();
        let circuit = Circuit::provider(provider);
        if let Some(watched) = self.watched(&circuit) {
            watched.count(hard, all, now, terms);
            turns.extend(watched.judge(circuit, hard > 0, None, now, terms));
        }
        if let Some(template) = template {
            let circuit = Circuit::template(template);
            let mail = self.all.window();
            let usual = self.all.usual.1;
            if let Some(watched) = self.watched(&circuit) {
                watched.count(1, 0, now, terms);
                turns.extend(watched.judge(circuit, true, Some((mail.1, usual)), now, terms));
            }
        } else if self.tripped > 0 {
            // Templates that do not come any more are normal.
            turns.extend(self.quiet_templates(now, terms));
        }
        if !turns.is_empty() {
            self.tripped = self.circuits.values().filter(|w| w.tripped.is_some()).count();
        }
        turns
    }

    fn quiet_templates(&mut self, now: Time, terms: &Terms) -> Vec<Turn> {
        let (mail, usual) = (self.all.window().1, self.all.usual.1);
        let mut turns = Vec::new();
        for (circuit, watched) in &mut self.circuits {
            if matches!(circuit, Circuit::Template(_)) && watched.tripped.is_some() {
                watched.count(0, 0, now, terms);
                turns.extend(watched.judge(circuit.clone(), false, Some((mail, usual)), now, terms));
            }
        }
        turns
    }

    /// The circuit, begun if need be; `None` when all places are taken by tripped ones.
    fn watched(&mut self, circuit: &Circuit) -> Option<&mut Watched> {
        if !self.circuits.contains_key(circuit) && self.circuits.len() >= 2 * MAX_WATCHED {
            let mut last: Vec<i64> = self.circuits.values().map(|w| w.step).collect();
            let middle = last.len() / 2;
            let (_, median, _) = last.select_nth_unstable(middle);
            let median = *median;
            // Half of them at once, so that this is rare.
            let mut left = MAX_WATCHED;
            self.circuits.retain(|_, w| {
                let stays = w.tripped.is_some() || w.step >= median && left > 0;
                left -= usize::from(stays && left > 0);
                stays
            });
        }
        Some(self.circuits.entry(circuit.clone()).or_default())
    }

    /// The circuit that doubts a hard bounce at this provider in these words.
    pub fn doubts(&self, provider: &str, template: &str) -> Option<Circuit> {
        if self.tripped == 0 {
            return None;
        }
        let is_tripped = |circuit: &Circuit| self.circuits.get(circuit).is_some_and(|w| w.tripped.is_some());
        [Circuit::provider(provider), Circuit::template(template)].into_iter().find(is_tripped)
    }

    /// Those that have tripped, in order.
    pub fn tripped(&self) -> Vec<(Circuit, Tripped)> {
        let mut all: Vec<_> = self.circuits.iter().filter_map(|(c, w)| Some((c.clone(), w.tripped.clone()?))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// An operator's word ends it: the bounces are right (`confirmed`: it does not trip again before the share was
    /// normal), or they are a mistake that is over.
    pub fn end(&mut self, circuit: &Circuit, confirmed: bool) -> Option<Tripped> {
        let watched = self.circuits.get_mut(circuit)?;
        let tripped = watched.tripped.take()?;
        watched.confirmed = confirmed;
        if !confirmed {
            watched.steps = Default::default();
        }
        self.tripped = self.circuits.values().filter(|w| w.tripped.is_some()).count();
        Some(tripped)
    }

    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        let worth = |w: &Watched| w.tripped.is_some() || w.confirmed || w.usual.0 + w.usual.1 >= WORTH_KEEPING;
        let rows: Vec<(&Circuit, &Watched)> = self.circuits.iter().filter(|(_, w)| worth(w)).collect();
        // Numbers and texts: this does not fail.
        serde_json::to_vec(&(&self.all, rows)).unwrap_or_default()
    }

    /// Reads what [`Breaker::encode`] gave; what can't be read is begun anew.
    pub fn decode(row: &[u8]) -> Breaker {
        let Ok((all, rows)) = serde_json::from_slice::<(Watched, Vec<(Circuit, Watched)>)>(row) else {
            return Breaker::default();
        };
        let circuits: HashMap<_, _> = rows.into_iter().collect();
        let tripped = circuits.values().filter(|w: &&Watched| w.tripped.is_some()).count();
        Breaker { circuits, all, tripped }
    }
}

impl Watched {
    /// Moves the window on and counts.
    fn count(&mut self, hard: u32, all: u32, now: Time, terms: &Terms) {
        let length = (terms.window.as_micros() as i64 / STEPS as i64).max(1);
        let step = now.0.div_euclid(length);
        let moved = step.saturating_sub(self.step);
        if moved > 0 {
            let moved = usize::try_from(moved).unwrap_or(STEPS).min(STEPS);
            // What leaves the window becomes usual, unless it is doubted.
            if self.tripped.is_none() {
                self.fade(now);
                for (hard, all) in &self.steps[STEPS - moved..] {
                    self.usual.0 += f64::from(*hard);
                    self.usual.1 += f64::from(*all);
                }
            }
            self.steps.rotate_right(moved);
            self.steps[..moved].fill((0, 0));
            self.step = step;
        }
        // A clock that went back counts in the newest step.
        self.steps[0].0 = self.steps[0].0.saturating_add(hard);
        self.steps[0].1 = self.steps[0].1.saturating_add(all);
    }

    fn fade(&mut self, now: Time) {
        let seconds = now.since(Time(self.usual.2)).as_secs_f64();
        if self.usual.2 != 0 {
            let left = (-seconds / HALF_LIFE).exp2();
            self.usual.0 *= left;
            self.usual.1 *= left;
        }
        self.usual.2 = now.0;
    }

    fn window(&self) -> (u64, u64) {
        self.steps.iter().fold((0, 0), |(h, a), (hard, all)| (h + u64::from(*hard), a + u64::from(*all)))
    }

    /// `of` is the mail that a template is a share of: in the window and in the long memory.
    fn judge(
        &mut self,
        circuit: Circuit,
        was_hard: bool,
        of: Option<(u64, f64)>,
        now: Time,
        terms: &Terms,
    ) -> Option<Turn> {
        let (hard, own) = self.window();
        let all = of.map_or(own, |(all, _)| all).max(hard).max(1);
        let share = hard as f64 / all as f64;
        let usual = match of {
            None => ((self.usual.0 + PRIOR_SHARE * PRIOR_WEIGHT) / (self.usual.1 + PRIOR_WEIGHT)).max(LEAST_SHARE),
            Some((_, mail)) => (self.usual.0 / mail.max(PRIOR_WEIGHT)).max(TEMPLATE_SHARE),
        };
        // A share can't pass one: who usually has thirty dead in a hundred is doubted at ninety.
        let limit = (usual * f64::from(terms.multiple)).min(0.9_f64.max(usual * 1.05));
        let is_normal = share <= limit / 2.0;
        self.confirmed &= !is_normal;
        let Some(tripped) = &mut self.tripped else {
            let trips = was_hard && hard >= u64::from(terms.min) && share > limit && !self.confirmed;
            let from = now.0.saturating_sub(i64::try_from(terms.window.as_micros()).unwrap_or(i64::MAX));
            return trips.then(|| {
                let tripped = Tripped { since: now.0, from, share, usual, hard, normal_since: None };
                self.tripped = Some(tripped.clone());
                Turn::Trips(circuit, tripped)
            });
        };
        if !is_normal {
            tripped.normal_since = None;
            return None;
        }
        let since = *tripped.normal_since.get_or_insert(now.0);
        if now.since(Time(since)) < terms.normal_for.max(Duration::from_secs(1)) {
            return None;
        }
        self.tripped.take().map(|tripped| Turn::Ends(circuit, tripped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "550 5.1.1 no such user";

    fn terms() -> Terms {
        Terms { min: 50, ..Terms::default() }
    }

    /// So many mails in the hour from `start`, of which every `one_in`th is refused as dead.
    fn hour(breaker: &mut Breaker, start: i64, mails: i64, one_in: i64) -> Vec<Turn> {
        let mail = |n: i64| {
            let now = Time::from_secs(start + n * 3600 / mails);
            let dead = n % one_in == 0;
            breaker.see("Big.example", dead.then_some(REPLY), false, now, &terms())
        };
        (0..mails).flat_map(mail).collect()
    }

    fn of_provider(turns: Vec<Turn>) -> Vec<&'static str> {
        let name = |turn: Turn| match turn {
            Turn::Trips(Circuit::Provider(_), _) => Some("trips"),
            Turn::Ends(Circuit::Provider(_), _) => Some("ends"),
            _ => None,
        };
        turns.into_iter().filter_map(name).collect()
    }

    #[test]
    fn a_provider_that_suddenly_knows_nobody_trips_and_ends_when_it_is_itself_again() {
        let mut breaker = Breaker::default();
        let start = 1_800_000_000;
        for n in 0..24 {
            assert_eq!(of_provider(hour(&mut breaker, start + n * 3600, 1000, 40)), [""; 0], "hour {n}");
        }
        assert_eq!(of_provider(hour(&mut breaker, start + 24 * 3600, 1000, 2)), ["trips"]);
        assert_eq!(breaker.doubts("BIG.example", "other words"), Some(Circuit::provider("big.example")));
        assert_eq!(breaker.doubts("small.example", "other words"), None);
        assert!(breaker.doubts("small.example", REPLY).is_some(), "the template has tripped too");
        let (_, tripped) = breaker.tripped().remove(0);
        assert!(tripped.usual < 0.06 && tripped.hard >= 50, "{tripped:?}");

        let mut again = Breaker::decode(&breaker.encode());
        assert_eq!(again.tripped(), breaker.tripped(), "it outlives a restart");
        let after: Vec<_> = (25..28).flat_map(|n| hour(&mut again, start + n * 3600, 1000, 40)).collect();
        assert_eq!(of_provider(after), ["ends"]);
        assert_eq!(again.doubts("big.example", REPLY), None);
    }

    #[test]
    fn few_bounces_and_a_usual_share_trip_nothing() {
        let mut breaker = Breaker::default();
        assert_eq!(hour(&mut breaker, 1_800_000_000, 49, 1), []);
        let mut bad_list = Breaker::default();
        for n in 0..48 {
            assert_eq!(hour(&mut bad_list, 1_800_000_000 + n * 3600, 1000, 12), [], "hour {n}");
        }
    }

    #[test]
    fn what_an_operator_confirms_does_not_trip_again_before_it_was_normal() {
        let mut breaker = Breaker::default();
        let start = 1_800_000_000;
        assert_eq!(of_provider(hour(&mut breaker, start, 1000, 2)), ["trips"]);
        let provider = Circuit::provider("big.example");
        assert!(breaker.end(&provider, true).is_some());
        assert!(breaker.end(&provider, true).is_none());
        assert_eq!(of_provider(hour(&mut breaker, start + 3600, 1000, 2)), [""; 0]);
        hour(&mut breaker, start + 7200, 1000, 100);
        hour(&mut breaker, start + 10_800, 1000, 100);
        hour(&mut breaker, start + 14_400, 4000, 1);
        assert!(!breaker.tripped().is_empty(), "it was normal in between");
    }

    #[test]
    fn memory_stays_bounded_and_damaged_rows_begin_anew() {
        let mut breaker = Breaker::default();
        for n in 0..30_000 {
            breaker.see(&format!("d{n}.example"), None, false, Time::from_secs(1_800_000_000 + n), &terms());
        }
        assert!(breaker.circuits.len() <= 2 * MAX_WATCHED);
        assert!(Breaker::decode(b"{").circuits.is_empty());
    }
}
