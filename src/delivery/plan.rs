//! What is decided before a connection is opened: source address, EHLO name, families. Pure.

use std::net::IpAddr;

use crate::config::model::{Config, VirtualMta};

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address to bind; `None` leaves it to the system.
    pub ip: Option<IpAddr>,
    /// The name to give in EHLO.
    pub host_name: String,
}

/// Which families the VirtualMTA can use: (IPv4, IPv6). Without source addresses the system decides: both.
pub fn families(vmta: &VirtualMta) -> (bool, bool) {
    if vmta.smtp_source_hosts.is_empty() {
        return (true, true);
    }
    let has = |v4: bool| vmta.smtp_source_hosts.iter().any(|(ip, _)| ip.is_ipv4() == v4);
    (has(true), has(false))
}

/// The source for a connection to `to`: the VirtualMTA's addresses of that family that are not `disabled`, in turn (`turn`
/// counts up). `None` when it has addresses, but none of the family, or the one that the system would choose is disabled.
pub fn source(config: &Config, vmta: &VirtualMta, to: IpAddr, turn: usize, disabled: &[IpAddr]) -> Option<Source> {
    let own_name = || vmta.host_name.clone().or_else(|| config.host_names.first().cloned());
    let fitting: Vec<_> = vmta
        .smtp_source_hosts
        .iter()
        .filter(|(ip, _)| ip.is_ipv4() == to.is_ipv4() && !disabled.contains(ip))
        .collect();
    if fitting.is_empty() {
        let free = vmta.smtp_source_hosts.is_empty() && disabled.is_empty();
        return free.then(|| Source { ip: None, host_name: own_name().unwrap_or_else(|| "localhost".into()) });
    }
    let (ip, name) = fitting[turn % fitting.len()];
    let host_name = if name.is_empty() { own_name() } else { Some(name.clone()) };
    Some(Source { ip: Some(*ip), host_name: host_name.unwrap_or_else(|| "localhost".into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmta(hosts: &[(&str, &str)], host_name: Option<&str>) -> VirtualMta {
        VirtualMta {
            name: "v".into(),
            smtp_source_hosts: hosts.iter().map(|(ip, name)| (ip.parse().unwrap(), (*name).to_owned())).collect(),
            host_name: host_name.map(str::to_owned),
            max_smtp_out: None,
            max_smtp_msg_rate: None,
        }
    }

    fn config() -> Config {
        let text = "host-name mail.example.com\npostmaster p@example.com\n<spool /nowhere>\n</spool>\n";
        crate::config::parse_str("test", text).config.unwrap()
    }

    fn names(vmta: &VirtualMta, to: &str) -> Vec<Option<(String, String)>> {
        let ip = |source: &Source| source.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let of = |turn| source(&config(), vmta, to.parse().unwrap(), turn, &[]).map(|s| (ip(&s), s.host_name));
        (0..3).map(of).collect()
    }

    fn some(ip: &str, name: &str) -> Option<(String, String)> {
        Some((ip.to_owned(), name.to_owned()))
    }

    #[test]
    fn the_source_addresses_of_a_family_take_turns_with_their_names() {
        let v =
            vmta(&[("192.0.2.1", "one.example"), ("2001:db8::1", ""), ("192.0.2.2", "two.example")], Some("v.example"));
        let (one, two) = (some("192.0.2.1", "one.example"), some("192.0.2.2", "two.example"));
        assert_eq!(names(&v, "198.51.100.1"), [one.clone(), two, one]);
        assert_eq!(names(&v, "2001:db8::9")[0], some("2001:db8::1", "v.example"));
        assert_eq!(families(&v), (true, true));
    }

    #[test]
    fn a_disabled_address_is_left_out_and_without_another_there_is_none() {
        let v = vmta(&[("192.0.2.1", "one.example"), ("192.0.2.2", "two.example")], None);
        let [one, two, to] = ["192.0.2.1", "192.0.2.2", "198.51.100.1"].map(|a| a.parse().unwrap());
        for turn in 0..4 {
            assert_eq!(source(&config(), &v, to, turn, &[one]).unwrap().ip, Some(two));
        }
        assert_eq!(source(&config(), &v, to, 0, &[one, two]), None);
        assert_eq!(source(&config(), &vmta(&[], None), to, 0, &[one]), None, "the system would choose it again");
    }

    #[test]
    fn a_family_without_address_is_not_used_and_without_any_the_system_chooses() {
        let v = vmta(&[("192.0.2.1", "one.example")], None);
        assert_eq!((families(&v), names(&v, "2001:db8::9")[0].clone()), ((true, false), None));
        let free = vmta(&[], None);
        assert_eq!(
            (families(&free), names(&free, "2001:db8::9")[0].clone()),
            ((true, true), some("", "mail.example.com"))
        );
    }
}
