//! How much one address may ask of the unsubscribe endpoint, and what was just asked. Pure: addresses and `now` in,
//! decisions out.
//!
//! Those who have a link of ours and use it are counted apart from those who look or guess, and get ten times as much: a
//! provider may send the clicks of all its users from few addresses, the very ones from which it looks at every link.
//! The tables are bounded; what they forget early costs a flood a little less, or the ledger an event that says what
//! another one has said.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::config::model::Rate;
use crate::event::Time;

/// Addresses that are counted at once.
const MAX_ADDRESSES: usize = 65_536;
/// Unsubscriptions that are remembered at once.
const MAX_RECENT: usize = 10_000;
/// How long a second click is the same click.
const SAME_CLICK: Duration = Duration::from_secs(30);
/// What a request without a link of ours counts for.
const UNKNOWN_COSTS: u32 = 10;
/// How many times the rate those get who unsubscribe.
const LEAVING: u64 = 10;

/// What a request is, as far as the limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It has a link of ours and uses it.
    Leave,
    /// It has one and only looks.
    Look,
    /// It has none.
    Unknown,
}

/// Who counts as one: an IPv4 address, an IPv6 network of 64 bits, since one client has all of that.
pub fn one_client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Requests by address: each may make so many at once as its rate has in its time, and then as many as it has earned
/// since.
#[derive(Debug, Default)]
pub struct Requests {
    clients: HashMap<(IpAddr, bool), Spent>,
    swept: Time,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    /// Requests that are not yet earned back.
    spent: f64,
    at: Time,
}

impl Spent {
    fn at(self, now: Time, per_second: f64) -> f64 {
        (self.spent - now.since(self.at).as_secs_f64() * per_second).max(0.0)
    }
}

impl Requests {
    /// Counts a request; an error is how long the client has to wait.
    pub fn count(&mut self, client: IpAddr, demand: Demand, rate: Option<Rate>, now: Time) -> Result<(), Duration> {
        let Some(rate) = rate.filter(|r| !r.per.is_zero()) else { return Ok(()) };
        let (cost, most) = match demand {
            Demand::Leave => (1, rate.count.saturating_mul(LEAVING)),
            Demand::Look => (1, rate.count),
            Demand::Unknown => (UNKNOWN_COSTS, rate.count),
        };
        let per_second = most as f64 / rate.per.as_secs_f64();
        let client = (one_client(client), demand == Demand::Leave);
        if self.clients.len() >= MAX_ADDRESSES && !self.clients.contains_key(&client) {
            self.make_room(per_second, now);
        }
        let one = self.clients.entry(client).or_insert(Spent { spent: 0.0, at: now });
        let spent = one.at(now, per_second);
        let over = spent + f64::from(cost) - most as f64;
        // The first request of all is free, however small the rate is.
        if over > 0.0 && spent > 0.0 {
            return Err(Duration::from_secs_f64((over / per_second).clamp(1.0, 3600.0)));
        }
        *one = Spent { spent: spent + f64::from(cost), at: now };
        Ok(())
    }

    fn make_room(&mut self, per_second: f64, now: Time) {
        if now.since(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.clients.retain(|_, one| one.at(now, per_second) > 0.0);
        }
        if self.clients.len() >= MAX_ADDRESSES
            && let Some(any) = self.clients.keys().next().copied()
        {
            self.clients.remove(&any);
        }
    }
}

/// Who has unsubscribed from what a moment ago: a mail program that asks twice makes one event.
#[derive(Debug, Default)]
pub struct Recent {
    seen: HashMap<(Box<str>, Box<str>), Time>,
    order: VecDeque<(Time, (Box<str>, Box<str>))>,
}

impl Recent {
    /// Whether this was recorded a moment ago.
    pub fn contains(&self, address: &str, list: &str, now: Time) -> bool {
        let at = self.seen.get(&(address.into(), list.into()));
        at.is_some_and(|at| now.since(*at) < SAME_CLICK && now >= *at)
    }

    /// It has been recorded.
    pub fn add(&mut self, address: &str, list: &str, now: Time) {
        while let Some((at, _)) = self.order.front()
            && (self.order.len() >= MAX_RECENT || now.since(*at) >= SAME_CLICK)
        {
            if let Some((at, what)) = self.order.pop_front()
                && self.seen.get(&what) == Some(&at)
            {
                self.seen.remove(&what);
            }
        }
        let what: (Box<str>, Box<str>) = (address.into(), list.into());
        self.seen.insert(what.clone(), now);
        self.order.push_back((now, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Option<Rate> = Some(Rate { count: 60, per: Duration::from_secs(60) });

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_gets_its_rate_and_others_are_not_touched() {
        let mut requests = Requests::default();
        let now = Time::from_secs(1000);
        let mut look = |from, now| requests.count(ip(from), Demand::Look, RATE, now);
        for _ in 0..60 {
            look("192.0.2.1", now).unwrap();
        }
        assert_eq!(look("192.0.2.1", now), Err(Duration::from_secs(1)));
        assert_eq!(look("::ffff:192.0.2.1", now), Err(Duration::from_secs(1)), "the same one");
        assert_eq!(look("192.0.2.2", now), Ok(()));
        assert_eq!(look("192.0.2.1", Time::from_secs(1002)), Ok(()));
        assert_eq!(requests.count(ip("192.0.2.1"), Demand::Look, None, now), Ok(()));
    }

    #[test]
    fn who_leaves_is_counted_apart_and_gets_ten_times_as_much() {
        let mut requests = Requests::default();
        let now = Time::from_secs(1000);
        while requests.count(ip("192.0.2.1"), Demand::Look, RATE, now).is_ok() {}
        let left = (0..1000).filter(|_| requests.count(ip("192.0.2.1"), Demand::Leave, RATE, now).is_ok()).count();
        assert_eq!(left, 600);
    }

    #[test]
    fn guessing_links_is_dearer_and_one_ipv6_network_is_one_client() {
        let mut requests = Requests::default();
        let now = Time::from_secs(1000);
        for n in 0..6 {
            requests.count(ip(&format!("2001:db8::{n}")), Demand::Unknown, RATE, now).unwrap();
        }
        assert!(requests.count(ip("2001:db8::ffff"), Demand::Look, RATE, now).is_err());
        assert!(requests.count(ip("2001:db8:0:1::1"), Demand::Look, RATE, now).is_ok());
    }

    #[test]
    fn the_table_of_addresses_stays_small_whoever_comes() {
        let mut requests = Requests::default();
        for n in 0..100_000u32 {
            let _ = requests.count(IpAddr::V4(n.into()), Demand::Look, RATE, Time(i64::from(n)));
        }
        assert!(requests.clients.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn a_second_click_is_the_same_one_for_half_a_minute_and_the_table_stays_small() {
        let mut recent = Recent::default();
        let now = Time::from_secs(1000);
        recent.add("ann@example.net", "weekly", now);
        assert!(recent.contains("ann@example.net", "weekly", Time::from_secs(1029)));
        assert!(
            !recent.contains("ann@example.net", "daily", now) && !recent.contains("bob@example.net", "weekly", now)
        );
        assert!(!recent.contains("ann@example.net", "weekly", Time::from_secs(1030)));
        for n in 0..20_000 {
            recent.add(&format!("a{n}@example.net"), "weekly", Time::from_secs(1010));
        }
        assert!(recent.seen.len() <= MAX_RECENT && recent.order.len() <= MAX_RECENT);
    }

    proptest! {
        #[test]
        fn nobody_ever_gets_more_than_the_rate_and_a_burst(steps in prop::collection::vec((0i64..5, any::<bool>()), 1..200)) {
            let (mut requests, mut now, mut got) = (Requests::default(), 1_000, 0u64);
            for (wait, known) in steps {
                now += wait;
                let (demand, cost) = if known { (Demand::Look, 1) } else { (Demand::Unknown, 10) };
                if requests.count(ip("192.0.2.1"), demand, RATE, Time::from_secs(now)).is_ok() {
                    got += cost;
                }
                prop_assert!(got <= 60 + (now - 1_000) as u64);
            }
        }
    }
}
