//! `<virtual-mta>` and `<virtual-mta-pool>` (directives.md, 2.12 and 2.13).

use std::net::IpAddr;
use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::lexer::{Args, Word};
use crate::config::model::Rate;
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type V = Directive<VirtualMtaBlock>;
type P = Directive<PoolBlock>;

/// An address mail leaves from and the name given in EHLO; `None`: the host name in force.
pub type SourceHost = (IpAddr, Option<String>);

/// What stands in a `<virtual-mta>`; also what it inherits from its pool.
#[derive(Debug, Clone, Default)]
pub struct VirtualMtaBlock {
    /// `smtp-source-host`
    pub source_hosts: Vec<SourceHost>,
    /// `host-name`
    pub host_name: Option<String>,
    /// `max-smtp-out`; the outer `None` is "not given".
    pub max_smtp_out: Option<Option<u32>>,
    /// `max-smtp-msg-rate`; the outer `None` is "not given".
    pub max_smtp_msg_rate: Option<Option<Rate>>,
}

/// What stands in a `<virtual-mta-pool>`.
#[derive(Debug, Clone, Default)]
pub struct PoolBlock {
    /// `virtual-mta`, as written.
    pub members: Vec<String>,
    /// What members inherit.
    pub inherited: VirtualMtaBlock,
}

fn limit(n: Option<u64>) -> Option<u32> {
    n.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// The rows of `<virtual-mta>`.
pub const VIRTUAL_MTA: &[V] = &[
    V::many(
        "smtp-source-host",
        Set::Other("IP HOST", "192.0.2.1 mail.example.com", source_host),
        "Address that mail leaves from and the name given there; several take turns",
    )
    .also(&["smtp-source-ip"]),
    V::one(
        "host-name",
        Set::Host(|v, n| v.host_name = Some(n)),
        "",
        "Name given in EHLO where smtp-source-host names none",
    )
    .also(&["hostname"]),
    V::one(
        "max-smtp-out",
        Set::Limit("unlimited", |v, n| v.max_smtp_out = Some(limit(n))),
        "unlimited",
        "Connections over all queues of the VirtualMTA",
    ),
    V::one(
        "max-smtp-msg-rate",
        Set::Rate(|v, n| v.max_smtp_msg_rate = Some(n)),
        "unlimited",
        "Recipients attempted per time over all queues of the VirtualMTA",
    ),
];

/// The rows of `<virtual-mta-pool>`.
pub const POOL: &[P] = &[
    P::many("virtual-mta", Set::VirtualMta(|p, v| p.members.extend(v)), "A member; members take turns"),
    P::one(
        "max-smtp-out",
        Set::Limit("unlimited", |p, n| p.inherited.max_smtp_out = Some(limit(n))),
        "unlimited",
        "max-smtp-out of each member that has none of its own",
    ),
    P::one(
        "max-smtp-msg-rate",
        Set::Rate(|p, n| p.inherited.max_smtp_msg_rate = Some(n)),
        "unlimited",
        "max-smtp-msg-rate of each member that has none of its own",
    ),
];

fn source_host(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<VirtualMtaBlock>, ValueError> {
    let hosts = read_source_hosts(args, reading)?;
    Ok(Arc::new(move |v| v.source_hosts.extend(hosts.clone())))
}

/// `IP HOST`, in the forms that guides and generators write: swapped, with `host-name` between, without a host, with a
/// range of addresses.
pub fn read_source_hosts(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Vec<SourceHost>, ValueError> {
    let help = "write smtp-source-host IP HOST";
    let mut words: Vec<Word> = Vec::new();
    while words.len() < 3
        && let Some(mut word) = args.word()
    {
        if let Some(name) = word.text.strip_prefix("://") {
            word.text = name.to_owned();
            reading.warning(word.span, "a stray :// before the host name is dropped", help);
        }
        if !["host-name", "hostname"].contains(&word.text.to_ascii_lowercase().as_str()) {
            words.push(word);
        }
    }
    if words.len() == 2 && values::ip(&words[0].text).is_err() && values::ip(&words[1].text).is_ok() {
        reading.warning(words[0].span, "host and address are swapped; read as meant", help);
        words.swap(0, 1);
    }
    let (first, second) = match words.as_slice() {
        [ip] => (ip, None),
        [ip, host] => (ip, Some(host)),
        _ => return Err(ValueError { message: "one address and one host name are needed".into(), help: help.into() }),
    };
    let name = second.map(|w| values::host(&w.text)).transpose()?;
    if name.is_none() {
        reading.note(first.span, "smtp-source-host without a host; host-name is used in EHLO", help);
    }
    let addresses = addresses(&first.text)?;
    if addresses.len() > 1 {
        reading.warning(first.span, "a range of source addresses, all with one name", "write one line per address");
    }
    Ok(addresses.into_iter().map(|ip| (ip, name.clone())).collect())
}

/// One address, or each of a range `A-B` of at most 256 IPv4 addresses.
fn addresses(text: &str) -> Result<Vec<IpAddr>, ValueError> {
    let text = text.strip_suffix("/32").unwrap_or(text);
    if let Some((from, to)) = text.split_once('-')
        && let (Ok(IpAddr::V4(from)), Ok(IpAddr::V4(to))) = (values::ip(from), values::ip(to))
    {
        let (from, to) = (u32::from(from), u32::from(to));
        if from > to || to - from > 255 {
            let message = format!("{text}: not a range of up to 256 addresses");
            return Err(ValueError { message, help: "write FIRST-LAST, or one line per address".into() });
        }
        return Ok((from..=to).map(|ip| IpAddr::V4(ip.into())).collect());
    }
    if values::ip(text).is_err() && values::cidr(text).is_ok() {
        let message = format!("{text}: prefixes of source addresses are not supported yet");
        return Err(ValueError { message, help: "write one line per address".into() });
    }
    Ok(vec![values::ip(text)?])
}
