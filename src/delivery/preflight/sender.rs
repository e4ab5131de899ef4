//! Whether providers will believe that mail comes from its sender: which questions to ask DNS, and what the answers mean.
//! Judging is pure; [`check`] asks.

use std::net::IpAddr;
use std::time::Duration;

use super::{Finding, Grade};
use crate::config::Config;
use crate::net::dns::Resolver;
use crate::net::sender::{self, Dmarc, DmarcPolicy, Sender, SenderFacts, SourceFacts, Spf, Word, domain_of};

/// Who sends, and by which way.
#[derive(Debug, Clone, Copy)]
pub struct Campaign<'a> {
    /// The envelope sender as it is submitted.
    pub from: &'a str,
    /// The VirtualMTA or pool; without one it is `{default}`.
    pub vmta: Option<&'a str>,
    /// Longest time for the questions, which are asked at the same time.
    pub within: Duration,
}

/// Where mail of a campaign leaves from, as far as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Addresses and the names given there in EHLO.
    pub sources: Vec<(IpAddr, String)>,
    /// VirtualMTAs that leave the address to the system.
    pub unnamed: Vec<String>,
}

/// The ways of a VirtualMTA or pool; without a name, of `{default}`. An error when there is none of this name.
pub fn ways(config: &Config, name: Option<&str>) -> Result<Ways, String> {
    let name = name.unwrap_or("{default}");
    let key = name.to_lowercase();
    let members = match (config.pools.get(&key), config.virtual_mtas.contains_key(&key)) {
        (_, true) => vec![key],
        (Some(members), false) => members.clone(),
        (None, false) => return Err(format!("there is no virtual-mta and no virtual-mta-pool {name}")),
    };
    let mut ways = Ways::default();
    for vmta in members.iter().filter_map(|member| config.virtual_mtas.get(member)) {
        if vmta.smtp_source_hosts.is_empty() {
            ways.unnamed.push(vmta.name.clone());
        }
        ways.sources.extend(vmta.smtp_source_hosts.iter().cloned());
    }
    ways.sources.sort_unstable();
    ways.sources.dedup();
    Ok(ways)
}

/// The envelope sender as it leaves: with signed return paths it is at their domain.
pub fn mail_from(config: &Config, from: &str) -> String {
    let token = config.return_path_token.as_ref().and_then(|t| t.domain.as_ref());
    match token {
        Some(domain) if !from.is_empty() => format!("bounces@{domain}"),
        _ => from.to_owned(),
    }
}

/// Asks DNS about a campaign's sender and judges the answers; takes little more than [`Campaign::within`]. `message` is
/// one as it is submitted.
pub async fn check(config: &Config, resolver: &Resolver, message: &[u8], campaign: &Campaign<'_>) -> Vec<Finding> {
    let ways = match ways(config, campaign.vmta) {
        Ok(ways) => ways,
        Err(why) => return vec![Finding::new(Grade::Problem, "source", campaign.vmta.unwrap_or(""), why, "")],
    };
    let mail_from = mail_from(config, campaign.from);
    let asked = Sender { message, mail_from: &mail_from, sources: &ways.sources, within: campaign.within };
    let facts = sender::look_up(resolver, &asked).await;
    judge(&ways, &mail_from, &facts)
}

/// Whether the world sees another address than this.
fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// Judges what DNS said.
pub fn judge(ways: &Ways, mail_from: &str, facts: &SenderFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in &ways.unnamed {
        found.push(Finding::new(
            Grade::Warning,
            "source",
            name,
            "it has no source address: the system chooses, and SPF and reverse DNS are not checked",
            "write smtp-source-host ADDRESS NAME in its <virtual-mta>",
        ));
    }
    if ways.sources.len() > facts.sources.len() {
        let text = format!("only the first {} of {} addresses were looked at", facts.sources.len(), ways.sources.len());
        found.push(Finding::new(Grade::Note, "source", "", text, ""));
    }
    let domain = domain_of(mail_from);
    let (outside, inside): (Vec<&SourceFacts>, Vec<&SourceFacts>) =
        facts.sources.iter().partition(|s| !is_inside(s.ip));
    for source in &inside {
        found.push(Finding::new(
            Grade::Warning,
            "source",
            source.ip.to_string(),
            "this is not the address that others see: SPF and reverse DNS are not checked",
            "check them for the address that your router shows",
        ));
    }
    for source in &outside {
        found.push(spf(source, domain));
        found.extend(reverse(source));
    }
    found.push(returns(facts, domain));
    let passes = !outside.is_empty() && outside.iter().all(|s| s.spf == Word::Known(Spf::Pass));
    let unknown = outside.iter().any(|s| matches!(s.spf, Word::Unknown(_)));
    found.extend(dkim(facts));
    found.push(dmarc(facts, domain, passes, unknown));
    found
}

fn spf(source: &SourceFacts, domain: &str) -> Finding {
    let ip = source.ip;
    let (grade, text, help) = match &source.spf {
        Word::Known(Spf::Pass) => (Grade::Fine, format!("{domain} allows it"), String::new()),
        Word::Known(Spf::Fail) => {
            (Grade::Problem, format!("{domain} forbids it"), format!("add it to the SPF record of {domain}"))
        }
        Word::Known(Spf::SoftFail) => (
            Grade::Problem,
            format!("{domain} does not know it (~all)"),
            format!("add it to the SPF record of {domain}"),
        ),
        Word::Known(Spf::Neutral) => (
            Grade::Warning,
            format!("{domain} says nothing of it (?all, or no all)"),
            format!("add it to the SPF record of {domain}"),
        ),
        Word::Known(Spf::None) => (
            Grade::Problem,
            format!("{domain} has no SPF record"),
            format!("publish TXT \"v=spf1 {} -all\" at {domain}", mechanism(ip)),
        ),
        Word::Known(Spf::Broken) => (
            Grade::Problem,
            format!("the SPF record of {domain} can't be followed"),
            "there is a mistake in it, there are two, or it needs more than 10 look-ups (RFC 7208, 4.6.4)".to_owned(),
        ),
        Word::Unknown(why) => (Grade::Unknown, format!("SPF of {domain}: {why}"), again()),
    };
    Finding::new(grade, "spf", ip.to_string(), text, help)
}

fn mechanism(ip: IpAddr) -> String {
    if ip.is_ipv4() { format!("ip4:{ip}") } else { format!("ip6:{ip}") }
}

fn again() -> String {
    "DNS did not say; ask again, or check name-server".to_owned()
}

fn reverse(source: &SourceFacts) -> Vec<Finding> {
    let says = |grade, text: String, help: &str| Finding::new(grade, "reverse-dns", source.ip.to_string(), text, help);
    let ehlo = source.ehlo.trim_end_matches('.').to_ascii_lowercase();
    let names = match &source.names {
        Word::Unknown(why) => return vec![says(Grade::Unknown, why.clone(), &again())],
        Word::Known(names) => names,
    };
    let mut found = Vec::new();
    let leading_back: Vec<&str> = names.iter().filter(|(_, back)| *back).map(|(name, _)| name.as_str()).collect();
    match (names.as_slice(), leading_back.as_slice()) {
        ([], _) => found.push(says(
            Grade::Problem,
            "it has no name (no PTR record)".to_owned(),
            "have whoever gave you the address set its reverse DNS to the EHLO name",
        )),
        ([(name, _), ..], []) => found.push(says(
            Grade::Problem,
            format!("its name {name} does not lead back to it"),
            "give that name an address record with this address",
        )),
        (_, back) if back.contains(&ehlo.as_str()) => {
            found.push(says(Grade::Fine, format!("{ehlo}, and back"), ""));
        }
        (_, back) => found.push(says(
            Grade::Warning,
            format!("its name is {}, but EHLO says {ehlo}", back[0]),
            "let smtp-source-host give the name that reverse DNS has, or the other way round",
        )),
    }
    match &source.ehlo_leads_here {
        Word::Known(true) => {}
        Word::Known(false) => found.push(says(
            Grade::Warning,
            format!("the EHLO name {ehlo} does not lead to it"),
            "give the name an address record with this address",
        )),
        Word::Unknown(why) => found.push(says(Grade::Unknown, format!("{ehlo}: {why}"), &again())),
    }
    found
}

fn returns(facts: &SenderFacts, domain: &str) -> Finding {
    match &facts.returns {
        Word::Known(Ok(())) => Finding::new(Grade::Fine, "return-path", domain, "bounces have a way back", ""),
        Word::Known(Err(why)) => Finding::new(
            Grade::Problem,
            "return-path",
            domain,
            format!("bounces have no way back: {why}"),
            "many providers refuse mail from a domain that takes none; give it an MX record",
        ),
        Word::Unknown(why) => Finding::new(Grade::Unknown, "return-path", domain, why.clone(), again()),
    }
}

fn dkim(facts: &SenderFacts) -> Vec<Finding> {
    if facts.signatures.is_empty() {
        if matches!(facts.dmarc, Word::Unknown(_)) {
            return Vec::new();
        }
        return vec![Finding::new(
            Grade::Warning,
            "dkim",
            "",
            "the message is not signed",
            "Carom does not sign yet, and large providers ask for DKIM of bulk mail: sign before it is submitted",
        )];
    }
    let one = |s: &sender::DkimFacts| {
        let subject = format!("d={} s={}", s.domain, s.selector);
        match &s.verifies {
            Word::Known(Ok(())) => Finding::new(Grade::Fine, "dkim", subject, "the signature verifies", ""),
            Word::Known(Err(why)) => Finding::new(
                Grade::Problem,
                "dkim",
                subject,
                format!("the signature does not verify: {why}"),
                format!("look at the TXT record {}._domainkey.{}, and sign what is sent", s.selector, s.domain),
            ),
            Word::Unknown(why) => Finding::new(Grade::Unknown, "dkim", subject, why.clone(), again()),
        }
    };
    facts.signatures.iter().map(one).collect()
}

fn dmarc(facts: &SenderFacts, domain: &str, spf_passes: bool, spf_unknown: bool) -> Finding {
    let says = |grade, text: String, help: String| Finding::new(grade, "dmarc", "", text, help);
    let (policy, spf_aligned, dkim_aligned) = match &facts.dmarc {
        Word::Unknown(why) => return says(Grade::Unknown, why.clone(), again()),
        Word::Known(Dmarc::Missing) => {
            let help =
                "large providers ask for one of bulk senders: publish at least \"v=DMARC1; p=none\" at _dmarc.DOMAIN";
            return says(Grade::Problem, "the author's domain has no DMARC record".to_owned(), help.to_owned());
        }
        Word::Known(Dmarc::Broken(why)) => {
            return says(Grade::Problem, format!("the author's DMARC record can't be read: {why}"), String::new());
        }
        Word::Known(Dmarc::Record { policy, spf_aligned, dkim_aligned }) => (policy, *spf_aligned, *dkim_aligned),
    };
    let asks = match policy {
        DmarcPolicy::None => "to do nothing",
        DmarcPolicy::Quarantine => "to quarantine",
        DmarcPolicy::Reject => "to refuse",
    };
    let by: Vec<&str> = [(spf_aligned && spf_passes, "SPF"), (dkim_aligned, "DKIM")]
        .into_iter()
        .filter_map(|(holds, name)| holds.then_some(name))
        .collect();
    if !by.is_empty() {
        return says(Grade::Fine, format!("From is aligned by {}", by.join(" and ")), String::new());
    }
    if spf_aligned && spf_unknown {
        return says(
            Grade::Unknown,
            "From is aligned with the envelope sender, whose SPF is not known".into(),
            again(),
        );
    }
    let why = match spf_aligned {
        true => format!("From is aligned with {domain}, but SPF does not pass for every address"),
        false => format!("From is not aligned with the envelope sender's domain {domain}, nor with a DKIM signature"),
    };
    let help =
        "let the envelope sender be at the author's domain, with SPF for every address; or sign with its DKIM key";
    says(Grade::Problem, format!("{why}; the author's domain asks {asks} with such mail"), help.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sender::DkimFacts;

    fn source(spf: Word<Spf>) -> SourceFacts {
        SourceFacts {
            ip: "192.0.2.1".parse().unwrap(),
            ehlo: "mx.s.example".into(),
            spf,
            names: Word::Known(vec![("mx.s.example".into(), true)]),
            ehlo_leads_here: Word::Known(true),
        }
    }

    fn facts() -> SenderFacts {
        SenderFacts {
            sources: vec![source(Word::Known(Spf::Pass))],
            dmarc: Word::Known(Dmarc::Record { policy: DmarcPolicy::Reject, spf_aligned: true, dkim_aligned: false }),
            signatures: vec![DkimFacts {
                domain: "s.example".into(),
                selector: "k1".into(),
                verifies: Word::Known(Ok(())),
            }],
            returns: Word::Known(Ok(())),
        }
    }

    /// The grade of each check and what is said.
    fn judged(facts: &SenderFacts) -> Vec<(&'static str, Grade, String)> {
        let sources = facts.sources.iter().map(|s| (s.ip, s.ehlo.clone())).collect();
        let ways = Ways { sources, unnamed: Vec::new() };
        judge(&ways, "b@s.example", facts).into_iter().map(|f| (f.check, f.grade, f.text)).collect()
    }

    fn worst(facts: &SenderFacts, check: &str) -> (Grade, String) {
        let all = judged(facts).into_iter().filter(|(c, ..)| *c == check).map(|(_, grade, text)| (grade, text));
        all.max_by_key(|(grade, _)| *grade).unwrap()
    }

    #[test]
    fn a_sender_in_good_order_is_fine_throughout() {
        assert!(judged(&facts()).iter().all(|(_, grade, _)| *grade == Grade::Fine), "{:?}", judged(&facts()));
    }

    #[test]
    fn what_spf_says_decides_unless_nobody_says_it() {
        for (spf, grade) in [
            (Word::Known(Spf::Fail), Grade::Problem),
            (Word::Known(Spf::None), Grade::Problem),
            (Word::Known(Spf::Broken), Grade::Problem),
            (Word::Known(Spf::Neutral), Grade::Warning),
            (Word::Unknown("timeout".into()), Grade::Unknown),
        ] {
            let facts = SenderFacts { sources: vec![source(Word::Known(Spf::Pass)), source(spf.clone())], ..facts() };
            assert_eq!(worst(&facts, "spf").0, grade, "{spf:?}");
            // One address without SPF is one through which mail fails DMARC.
            let dmarc = if grade == Grade::Unknown { Grade::Unknown } else { Grade::Problem };
            assert_eq!(worst(&facts, "dmarc").0, dmarc, "{spf:?}");
        }
    }

    #[test]
    fn reverse_dns_must_lead_back_and_should_be_the_name_in_ehlo() {
        let with = |names: Word<Vec<(String, bool)>>, here| {
            let mut facts = facts();
            facts.sources[0].names = names;
            facts.sources[0].ehlo_leads_here = Word::Known(here);
            worst(&facts, "reverse-dns")
        };
        assert_eq!(with(Word::Known(vec![]), true).0, Grade::Problem);
        assert_eq!(with(Word::Known(vec![("mx.s.example".into(), false)]), true).0, Grade::Problem);
        let (grade, text) = with(Word::Known(vec![("host7.isp.example".into(), true)]), true);
        assert!(grade == Grade::Warning && text.contains("host7.isp.example"), "{text}");
        assert_eq!(with(Word::Known(vec![("mx.s.example".into(), true)]), false).0, Grade::Warning);
        assert_eq!(with(Word::Unknown("SERVFAIL".into()), true).0, Grade::Unknown);
    }

    #[test]
    fn dkim_carries_dmarc_where_spf_does_not() {
        let mut facts = facts();
        facts.sources[0].spf = Word::Known(Spf::Fail);
        facts.dmarc = Word::Known(Dmarc::Record { policy: DmarcPolicy::None, spf_aligned: false, dkim_aligned: true });
        assert_eq!(worst(&facts, "dmarc").0, Grade::Fine);
        facts.signatures.clear();
        facts.dmarc = Word::Known(Dmarc::Missing);
        assert_eq!((worst(&facts, "dkim").0, worst(&facts, "dmarc").0), (Grade::Warning, Grade::Problem));
    }

    #[test]
    fn an_address_behind_a_router_is_not_judged() {
        let mut facts = facts();
        facts.sources[0].ip = "10.0.0.1".parse().unwrap();
        facts.sources[0].spf = Word::Known(Spf::Fail);
        assert_eq!(worst(&facts, "source").0, Grade::Warning);
        assert!(!judged(&facts).iter().any(|(check, ..)| *check == "spf"));
    }

    #[test]
    fn a_pool_leaves_by_the_addresses_of_its_members() {
        let text = "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a.s.example\n</virtual-mta>\n\
                    <virtual-mta b>\nsmtp-source-host 192.0.2.2 b.s.example\n</virtual-mta>\n<virtual-mta c>\n</virtual-mta>\n\
                    <virtual-mta-pool p>\nvirtual-mta a\nvirtual-mta b\nvirtual-mta c\n</virtual-mta-pool>\n\
                    <return-path-token>\ndomain bounce.s.example\nkey k0 0123456789abcdef\n</return-path-token>\n";
        let config = crate::config::parse_str("t", text).config.unwrap();
        let ways = ways(&config, Some("P")).unwrap();
        assert_eq!(ways.sources.len(), 2);
        assert_eq!(ways.unnamed, ["c"]);
        assert!(super::ways(&config, Some("none")).is_err());
        assert_eq!(mail_from(&config, "news@s.example"), "bounces@bounce.s.example");
    }
}
