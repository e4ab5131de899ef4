//! The value types of the configuration language (directives.md, 1.4): text in, value or a sentence on what was expected
//! out. Spellings that published configurations use beside the official ones are read too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::model::{DomainPattern, Rate, SmtpHost, SmtpTarget};
use crate::event::{Kind, Kinds, address::canonical_domain};

/// A value that can't be read, and what would have been right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError { message: message.into(), help: help.into() })
}

/// The text, cut to what a message can show.
fn shown(text: &str) -> String {
    let mut s: String = text.chars().take(60).collect();
    if s.len() < text.len() {
        s.push_str("...");
    }
    s
}

/// `yes` and `no` in any spelling.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" | "y" | "enable" | "enabled" => Ok(true),
        "no" | "false" | "off" | "0" | "n" | "disable" | "disabled" => Ok(false),
        _ => wrong(format!("`{}` is neither yes nor no", shown(text)), "write yes or no"),
    }
}

/// A number without unit from `min` to `max`.
pub fn integer(text: &str, min: u64, max: u64) -> Result<u64, ValueError> {
    let range = if max == u64::MAX { format!("a number from {min}") } else { format!("a number from {min} to {max}") };
    match text.parse::<u64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        Ok(_) => wrong(format!("{} is out of range", shown(text)), format!("write {range}")),
        Err(_) => wrong(format!("`{}` is not a number", shown(text)), format!("write {range}")),
    }
}

/// Splits a leading number off.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Longer times are refused: they overflow what is added to them, and nobody means them.
const LONGEST: u64 = 100 * 366 * 86_400;

fn time_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "w" | "week" | "weeks" => 7 * 86_400,
        "d" | "day" | "days" => 86_400,
        "h" | "hr" | "hour" | "hours" => 3600,
        "m" | "min" | "minute" | "minutes" => 60,
        "s" | "sec" | "second" | "seconds" => 1,
        _ => return None,
    })
}

/// `1w2d12h`, `300s`; a plain number is seconds.
pub fn time(text: &str) -> Result<Duration, ValueError> {
    let help = "write a number with w, d, h, m or s, such as 10m or 4d12h";
    let bad = || wrong(format!("`{}` is not a time", shown(text)), help);
    let lower = text.to_ascii_lowercase();
    if let Ok(seconds) = lower.parse::<u64>() {
        return if seconds > LONGEST { bad() } else { Ok(Duration::from_secs(seconds)) };
    }
    let (mut rest, mut seconds) = (lower.as_str(), 0u64);
    if rest.is_empty() {
        return bad();
    }
    while !rest.is_empty() {
        let Some((n, after)) = number(rest) else { return bad() };
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let Some(unit) = time_unit(after[..end].trim()) else { return bad() };
        seconds = match n.checked_mul(unit).and_then(|s| s.checked_add(seconds)) {
            Some(s) if s <= LONGEST => s,
            _ => return wrong(format!("`{}` is too long a time", shown(text)), "a hundred years must do"),
        };
        rest = &after[end..];
    }
    Ok(Duration::from_secs(seconds))
}

/// A comma list of 1 to 30 times, none of them 0.
pub fn times(text: &str) -> Result<Vec<Duration>, ValueError> {
    let list = list(text).map(time).collect::<Result<Vec<_>, _>>()?;
    if list.is_empty() || list.len() > 30 {
        return wrong("a list of 1 to 30 times is needed", "write times with commas between them, such as 5m,15m,1h");
    }
    if list.iter().any(Duration::is_zero) {
        return wrong("a wait of 0 would try without pause", "write at least 1s");
    }
    Ok(list)
}

/// Bytes: `250M`, `0`; a plain number is bytes, `unlimited` is 0.
pub fn size(text: &str) -> Result<u64, ValueError> {
    let lower = text.to_ascii_lowercase();
    if lower == "unlimited" {
        return Ok(0);
    }
    let help = "write a number with k, M, G or T, such as 250M";
    let bad = || wrong(format!("`{}` is not a size", shown(text)), help);
    let Some((n, unit)) = number(&lower) else { return bad() };
    let factor = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1u64 << 40,
        _ => return bad(),
    };
    n.checked_mul(factor).map_or_else(bad, Ok)
}

/// `N/[M]UNIT`; `unlimited` and `0` are `None`.
pub fn rate(text: &str) -> Result<Option<Rate>, ValueError> {
    let lower: String = text.to_ascii_lowercase().split_whitespace().collect();
    if lower == "unlimited" || lower == "0" {
        return Ok(None);
    }
    let bad = || wrong(format!("`{}` is not a rate", shown(text)), "write a number per time, such as 100/m or 50/10s");
    let Some((count, per)) = lower.split_once('/') else { return bad() };
    let Ok(count) = count.parse::<u64>() else { return bad() };
    let (times, unit) = number(per).unwrap_or((1, per));
    let Some(unit) = time_unit(unit) else { return bad() };
    match times.checked_mul(unit) {
        Some(seconds) if seconds > 0 && seconds <= LONGEST => {
            Ok((count > 0).then_some(Rate { count, per: Duration::from_secs(seconds) }))
        }
        _ => bad(),
    }
}

/// An address or a prefix; short forms such as `10/8` and `0/0` are filled up. Host bits are cleared.
pub fn cidr(text: &str) -> Result<(IpAddr, u8), ValueError> {
    let help = "write an address or a prefix, such as 192.0.2.1, 10/8, 0/0 or 2001:db8::/32";
    let bad = || wrong(format!("`{}` is not an address or prefix", shown(text)), help);
    let (address, length) = match text.split_once('/') {
        Some((a, l)) => match l.parse::<u8>() {
            Ok(l) => (a, Some(l)),
            Err(_) => return bad(),
        },
        None => (text, None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let ip = match address.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if length.is_some() => {
            let mut octets = [0u8; 4];
            let parts: Vec<&str> = address.split('.').collect();
            if parts.len() > 4 {
                return bad();
            }
            for (octet, part) in octets.iter_mut().zip(parts) {
                match part.parse() {
                    Ok(n) => *octet = n,
                    Err(_) => return bad(),
                }
            }
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        Err(_) => return bad(),
    };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    if length > most {
        return wrong(format!("prefix length {length} is more than {most}"), help);
    }
    Ok((network(ip, length), length))
}

/// The address with everything after the first `length` bits cleared.
pub fn network(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

/// Whether `ip` lies in the prefix. IPv4 addresses that came over an IPv6 socket count as IPv4.
pub fn in_prefix(ip: IpAddr, prefix: IpAddr, length: u8) -> bool {
    let ip = ip.to_canonical();
    ip.is_ipv4() == prefix.is_ipv4() && network(ip, length) == network(prefix, length)
}

/// Whether a `<source>` prefix is about `ip`. `0/0` is the base of all sources, IPv6 ones included.
pub fn covers(prefix: IpAddr, length: u8, ip: IpAddr) -> bool {
    length == 0 || in_prefix(ip, prefix, length)
}

/// Where a listener listens, and the prefix it was written as: `0/0:25`, `127.0.0.1:2525`, `[::]:25`; port 25 if none
/// is given.
pub fn listen_address(text: &str) -> Result<SocketAddr, ValueError> {
    let help = "write ADDRESS:PORT, such as 0.0.0.0:25, 127.0.0.1:2525 or [::1]:25";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let (address, port) = match text.rsplit_once(':') {
        Some((a, p)) if !a.is_empty() && !p.contains(']') && text.parse::<IpAddr>().is_err() => {
            match p.parse::<u16>() {
                Ok(p) => (a, p),
                Err(_) => return wrong(format!("`{}` is not a port", shown(p)), help),
            }
        }
        _ => (text, 25),
    };
    let (ip, length) = cidr(address).map_err(|e| ValueError { help: help.into(), ..e })?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    if length != 0 && length != whole {
        return wrong(
            format!("a listener on every local address in {ip}/{length} is not supported yet"),
            "write one line per address, or 0.0.0.0 for all of them",
        );
    }
    Ok(SocketAddr::new(ip, port))
}

/// `IP`, `IP:PORT`, `[v6]:PORT`; port 53 if none is given.
pub fn name_server(text: &str) -> Result<SocketAddr, ValueError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, 53)),
        Err(_) => wrong(
            format!("`{}` is not the address of a name server", shown(text)),
            "write IP, IP:PORT or [IPv6]:PORT; a name can't be looked up without a name server",
        ),
    }
}

/// An IP address, in brackets or not.
pub fn ip(text: &str) -> Result<IpAddr, ValueError> {
    match text.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(ip) => Ok(ip),
        Err(_) => wrong(format!("`{}` is not an IP address", shown(text)), "write an address such as 192.0.2.1"),
    }
}

/// A host or domain name, lower-cased, in A-label form.
pub fn host(text: &str) -> Result<String, ValueError> {
    let name = canonical_domain(text).into_owned();
    let label_ok = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label_ok) {
        Ok(name)
    } else {
        wrong(format!("`{}` is not a host name", shown(text)), "write a name such as mail.example.com")
    }
}

/// `local@domain`.
pub fn email(text: &str) -> Result<String, ValueError> {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    match crate::event::Address::parse(text) {
        Ok(address) => Ok(address.as_str().to_owned()),
        Err(e) => wrong(format!("`{}` is not an address: {e}", shown(text)), "write an address such as a@example.com"),
    }
}

/// A domain pattern (directives.md, 1.4). Reserved names in braces are kept as they are.
pub fn domain_pattern(text: &str) -> Result<DomainPattern, ValueError> {
    let help = "write *, a.com, *.a.com (below a.com), [*.]a.com (a.com and below) or [ip/length]";
    let domain = |d: &str| host(d).map_err(|e| ValueError { help: help.into(), ..e });
    if text == "*" {
        return Ok(DomainPattern::Any);
    }
    if text.starts_with('{') && text.ends_with('}') {
        return Ok(DomainPattern::Exact(text.to_lowercase()));
    }
    if let Some(d) = text.strip_prefix("[*.]") {
        return Ok(DomainPattern::NameAndSubdomains(domain(d)?));
    }
    if let Some(d) = text.strip_prefix("*.") {
        return Ok(DomainPattern::Subdomains(domain(d)?));
    }
    if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let literal = literal.strip_prefix("IPv6:").or_else(|| literal.strip_prefix("ipv6:")).unwrap_or(literal);
        let (ip, length) = cidr(literal).map_err(|e| ValueError { help: help.into(), ..e })?;
        return Ok(DomainPattern::Literal(ip, length));
    }
    Ok(DomainPattern::Exact(domain(text)?))
}

impl DomainPattern {
    /// Whether `domain`, in any spelling, is meant.
    pub fn matches(&self, domain: &str) -> bool {
        let domain = canonical_domain(domain);
        let below = |d: &str| domain.strip_suffix(d).is_some_and(|rest| rest.ends_with('.'));
        match self {
            DomainPattern::Any => true,
            DomainPattern::Exact(d) => *d == domain,
            DomainPattern::Subdomains(d) => below(d),
            DomainPattern::NameAndSubdomains(d) => *d == domain || below(d),
            DomainPattern::Literal(ip, length) => literal(&domain).is_some_and(|l| in_prefix(l, *ip, *length)),
        }
    }
}

impl std::fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DomainPattern::Any => f.write_str("*"),
            DomainPattern::Exact(d) => f.write_str(d),
            DomainPattern::Subdomains(d) => write!(f, "*.{d}"),
            DomainPattern::NameAndSubdomains(d) => write!(f, "[*.]{d}"),
            DomainPattern::Literal(ip, length) => write!(f, "[{ip}/{length}]"),
        }
    }
}

/// The address in an address-literal domain such as `[192.0.2.1]` or `[IPv6:::1]`.
pub fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    let v6 = inside.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("ipv6:"));
    (if v6 { &inside[5..] } else { inside }).parse().ok()
}

/// The items of a list with commas or blanks between them.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|s| !s.is_empty())
}

/// A list of record types by short or long name, or `all`.
pub fn kinds(text: &str) -> Result<Kinds, ValueError> {
    let mut kinds = Kinds::default();
    for word in list(text) {
        match word.to_ascii_lowercase().as_str() {
            "all" | "*" => kinds = Kinds::ALL,
            // The plurals that how-to guides write.
            "bounces" => kinds = kinds.with(Kind::Bounced).with(Kind::RemoteBounce),
            _ => kinds = kinds.with(kind(word)?),
        }
    }
    if kinds.is_empty() {
        return wrong("no record type is named", "write a list such as d,b,rb,f");
    }
    Ok(kinds)
}

/// A record type by its short or long name.
pub fn kind(word: &str) -> Result<Kind, ValueError> {
    let lower = word.to_ascii_lowercase();
    let named = Kind::ALL.iter().copied().find(|k| k.name() == lower || k.long_name() == lower);
    let guides = match lower.as_str() {
        "delivered" | "deliveries" => Some(Kind::Delivered),
        "bounced" => Some(Kind::Bounced),
        "received" => Some(Kind::Received),
        "feedback" | "fbl" => Some(Kind::Feedback),
        _ => None,
    };
    named.or(guides).map_or_else(
        || wrong(format!("`{}` is not a record type", shown(word)), "the types are d, b, t, tq, r, rb, rs and f"),
        Ok,
    )
}

/// The value of `smtp-hosts`: commas between equals, semicolons between levels; an item is a host, `[ip]` or
/// `lookup-mx:DOMAIN`, the first two with `:PORT` if need be.
pub fn smtp_hosts(text: &str) -> Result<Vec<SmtpHost>, ValueError> {
    let mut hosts = Vec::new();
    for (level, items) in text.split(';').enumerate() {
        for item in list(items) {
            let (target, port) = smtp_host(item)?;
            hosts.push(SmtpHost { preference: u16::try_from(level).unwrap_or(u16::MAX), target, port });
        }
    }
    if hosts.len() > 1000 {
        return wrong("more than 1000 hosts", "name fewer hosts");
    }
    Ok(hosts)
}

fn smtp_host(item: &str) -> Result<(SmtpTarget, Option<u16>), ValueError> {
    let help =
        "write host, host:port, [ip], [ip]:port or lookup-mx:domain; commas between equals, semicolons between levels";
    let port = |p: &str| match p.parse::<u16>() {
        Ok(n) if n > 0 => Ok(n),
        _ => wrong(format!("`{}` is not a port", shown(p)), help),
    };
    if let Some(domain) = item.strip_prefix("lookup-mx:") {
        return Ok((SmtpTarget::LookupMx(host(domain)?), None));
    }
    if let Some(rest) = item.strip_prefix('[') {
        let Some((inside, after)) = rest.split_once(']') else {
            return wrong(format!("`{}` lacks its closing bracket", shown(item)), help);
        };
        let v6 = inside.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("ipv6:"));
        let address = ip(if v6 { &inside[5..] } else { inside })?;
        let port = match after {
            "" => None,
            p => Some(port(p.strip_prefix(':').unwrap_or(p))?),
        };
        return Ok((SmtpTarget::Address(address), port));
    }
    if let Ok(address) = item.parse::<IpAddr>() {
        return Ok((SmtpTarget::Address(address), None));
    }
    let (name, port) = match item.rsplit_once(':') {
        Some((name, p)) => (name, Some(port(p)?)),
        None => (item, None),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok((SmtpTarget::Address(address), port));
    }
    Ok((SmtpTarget::Host(host(name).map_err(|e| ValueError { help: help.into(), ..e })?), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn times_are_read_in_every_unit() {
        assert_eq!(time("1w2d12h"), Ok(secs(7 * 86_400 + 2 * 86_400 + 12 * 3600)));
        assert_eq!(time("300s"), Ok(secs(300)));
        assert_eq!(time("4D12H"), Ok(secs(388_800)));
        assert_eq!(time("0"), Ok(secs(0)));
        for bad in ["", "m", "10x", "-1s", "1.5h", "99999999999999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(times("5m, 15m,1h"), Ok(vec![secs(300), secs(900), secs(3600)]));
        assert!(times("0").is_err() && times("").is_err());
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("250mb"), Ok(250 << 20));
        assert_eq!(size("unlimited"), Ok(0));
        assert!(size("12x").is_err() && size("99999999999T").is_err());
    }

    #[test]
    fn rates_are_read_in_any_spelling() {
        let rate_of = |s| rate(s).unwrap().map(|r| (r.count, r.per.as_secs()));
        assert_eq!(rate_of("83/10m"), Some((83, 600)));
        assert_eq!(rate_of("50/second"), Some((50, 1)));
        assert_eq!(rate_of("5000/h"), Some((5000, 3600)));
        assert_eq!(rate_of("100 / min"), Some((100, 60)));
        assert_eq!((rate_of("unlimited"), rate_of("0"), rate_of("0/d")), (None, None, None));
        for bad in ["", "5", "5/", "/h", "5/0h", "5/fortnight"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn short_prefixes_are_filled_up() {
        let text = |s| cidr(s).map(|(ip, n)| format!("{ip}/{n}")).unwrap();
        assert_eq!(text("10/8"), "10.0.0.0/8");
        assert_eq!(text("0/0"), "0.0.0.0/0");
        assert_eq!(text("173.194/16"), "173.194.0.0/16");
        assert_eq!(text("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(text("192.0.2.7/24"), "192.0.2.0/24");
        assert_eq!(text("2001:db8::1/32"), "2001:db8::/32");
        for bad in ["", "10", "10/33", "1.2.3.4.5/8", "a/8", "10/x"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        assert!(in_prefix("::ffff:10.1.1.1".parse().unwrap(), "10.0.0.0".parse().unwrap(), 8));
    }

    #[test]
    fn listeners_are_read_in_every_form() {
        let text = |s| listen_address(s).map(|a| a.to_string());
        assert_eq!(text("0/0:25").unwrap(), "0.0.0.0:25");
        assert_eq!(text("0.0.0.0/0:2525").unwrap(), "0.0.0.0:2525");
        assert_eq!(text("127.0.0.1:2525").unwrap(), "127.0.0.1:2525");
        assert_eq!(text("[::1]:25").unwrap(), "[::1]:25");
        assert_eq!(text("10.0.0.1").unwrap(), "10.0.0.1:25");
        assert!(text("10.0.0.0/24:25").unwrap_err().message.contains("not supported yet"));
        assert!(text("nowhere:25").is_err() && text("1.2.3.4:port").is_err());
    }

    #[test]
    fn patterns_match_what_they_say() {
        let matches = |p: &str, d: &str| domain_pattern(p).unwrap().matches(d);
        assert!(matches("*", "x.y"));
        assert!(matches("Foo.COM", "foo.com.") && !matches("foo.com", "a.foo.com"));
        assert!(matches("*.foo.com", "a.b.foo.com") && !matches("*.foo.com", "foo.com"));
        assert!(!matches("*.foo.com", "xfoo.com"));
        assert!(matches("[*.]foo.com", "foo.com") && matches("[*.]foo.com", "a.foo.com"));
        assert!(matches("[127/8]", "[127.0.0.1]") && !matches("[127/8]", "[128.0.0.1]"));
        assert!(matches("[0/0]", "[9.9.9.9]") && !matches("[0/0]", "foo.com"));
        assert!(matches("bücher.de", "xn--bcher-kva.de"));
        for bad in ["a..b", "*foo.com", "[*.]", "a b", "foo/bar"] {
            assert!(domain_pattern(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn smtp_hosts_keep_levels_and_ports() {
        let hosts = smtp_hosts("a.com, [10.1.0.2]:26; [IPv6:2001::1] ; lookup-mx:b.com").unwrap();
        let view: Vec<_> = hosts.iter().map(|h| (h.preference, format!("{:?}", h.target), h.port)).collect();
        assert_eq!(
            view,
            [
                (0, "Host(\"a.com\")".to_owned(), None),
                (0, "Address(10.1.0.2)".to_owned(), Some(26)),
                (1, "Address(2001::1)".to_owned(), None),
                (2, "LookupMx(\"b.com\")".to_owned(), None),
            ]
        );
        assert_eq!(smtp_hosts("10.0.0.1:2525").unwrap()[0].port, Some(2525));
        assert!(smtp_hosts("").unwrap().is_empty());
        assert!(smtp_hosts("a:b").is_err() && smtp_hosts("[1.2.3.4").is_err() && smtp_hosts("a:0").is_err());
    }

    #[test]
    fn record_types_have_short_long_and_guide_names() {
        assert_eq!(kinds("d, b").unwrap(), Kinds::of(&[Kind::Delivered, Kind::Bounced]));
        assert_eq!(kinds("delivery bounce").unwrap(), kinds("d,b").unwrap());
        assert_eq!(kinds("all").unwrap(), Kinds::ALL);
        assert_eq!(kinds("bounces,feedback").unwrap(), kinds("b,rb,f").unwrap());
        assert!(kinds("d,x").is_err() && kinds("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_value_parser_panic(s in "[0-9a-z/:.,;*\\[\\]\\-@{} \u{fc}]{0,40}|\\PC{0,40}") {
            let _ = (boolean(&s), integer(&s, 0, 9), time(&s), times(&s), size(&s), rate(&s), cidr(&s));
            let _ = (listen_address(&s), name_server(&s), host(&s), email(&s), kinds(&s), smtp_hosts(&s));
            if let Ok(p) = domain_pattern(&s) {
                prop_assert_eq!(domain_pattern(&p.to_string()), Ok(p));
            }
        }
    }
}
