//! Which source addresses a queue does not use for now (`disable-source-ip`; reference/directives.md, 4.2). Pure.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::model::VirtualMta;
use crate::event::Time;

/// A source address that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Which.
    pub ip: IpAddr,
    /// Since when.
    pub since: Time,
    /// Until when; `None` is until the process ends.
    pub until: Option<Time>,
    /// The pattern and the reply.
    pub why: Box<str>,
}

/// Those of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<Disabled>);

impl Sources {
    /// Disables `ip` for so long; `None` is for good. `false` when it is disabled already: then its time stays.
    pub fn disable(&mut self, ip: IpAddr, after: Option<Duration>, why: &str, now: Time) -> bool {
        if self.is_disabled(ip) {
            return false;
        }
        self.0.push(Disabled { ip, since: now, until: after.map(|after| now + after), why: why.into() });
        true
    }

    /// Uses those again whose time is over; which they are.
    pub fn release(&mut self, now: Time) -> Vec<IpAddr> {
        let is_over = |d: &Disabled| d.until.is_some_and(|until| until <= now);
        let over = self.0.iter().filter(|d| is_over(d)).map(|d| d.ip).collect();
        self.0.retain(|d| !is_over(d));
        over
    }

    /// Uses `ip` again. `false` when it was not disabled.
    pub fn enable(&mut self, ip: IpAddr) -> bool {
        let before = self.0.len();
        self.0.retain(|d| d.ip != ip);
        self.0.len() < before
    }

    /// Whether `ip` is not used.
    pub fn is_disabled(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|d| d.ip == ip)
    }

    /// When the next one is used again.
    pub fn next_release(&self) -> Option<Time> {
        self.0.iter().filter_map(|d| d.until).min()
    }

    /// Whether the VirtualMTA has no address left. One that leaves the choice to the system has one.
    pub fn leave_none_of(&self, vmta: Option<&VirtualMta>) -> bool {
        let hosts = vmta.map_or(&[][..], |v| &v.smtp_source_hosts);
        !self.0.is_empty() && hosts.iter().all(|(ip, _)| self.is_disabled(*ip))
    }

    /// All of them.
    pub fn all(&self) -> &[Disabled] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_used_again_after_its_time_and_not_earlier() {
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let vmta = VirtualMta {
            name: "v".into(),
            smtp_source_hosts: vec![(a, String::new()), (b, String::new())],
            host_name: None,
            max_smtp_out: None,
            max_smtp_msg_rate: None,
        };
        let now = Time::from_secs(1000);
        let mut sources = Sources::default();
        assert!(!sources.leave_none_of(Some(&vmta)) && !sources.leave_none_of(None));
        assert!(sources.disable(a, Some(Duration::from_secs(60)), "x:1", now));
        assert!(!sources.disable(a, None, "x:2", now), "the first one's time holds");
        assert!(sources.is_disabled(a) && !sources.is_disabled(b) && !sources.leave_none_of(Some(&vmta)));
        assert!(sources.leave_none_of(None), "the system would choose it again");
        sources.disable(b, None, "x:3", now);
        assert!(sources.leave_none_of(Some(&vmta)));
        assert_eq!(sources.next_release(), Some(Time::from_secs(1060)));
        assert!(sources.release(Time::from_secs(1059)).is_empty());
        assert_eq!(sources.release(Time::from_secs(1060)), [a]);
        assert!(!sources.is_disabled(a) && sources.is_disabled(b) && sources.next_release().is_none());
    }
}
