#![expect(clippy::disallowed_methods, reason = "edge: asks name servers, waits no longer than it may")]
//! What DNS says of a sender: SPF (RFC 7208) for each address that mail leaves from, reverse DNS, the DMARC record and
//! alignment (RFC 9989, which replaces RFC 7489), the keys of DKIM signatures (RFC 6376), and whether bounces can come
//! back.
//!
//! Promises: a question that got no answer is told from one whose answer is "nothing" ([`Word`]); every question ends
//! within the time given. What is judged of the answers is the caller's business.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::RData;
use mail_auth::dmarc::Policy;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DmarcResult, Error, MessageAuthenticator, SpfOutput, SpfResult,
    dmarc::verify::DmarcParameters,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dns::{Nothing, Resolver, RouteError, RouteQuery};

/// Names of one address that are looked up again.
const MAX_NAMES: usize = 10;
/// Addresses that are looked at; the others are left out.
pub const MAX_SOURCES: usize = 64;
/// DKIM signatures of one message that are looked at.
const MAX_SIGNATURES: usize = 10;

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// This is so.
    Known(T),
    /// Nobody said.
    Unknown(String),
}

/// SPF's result for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spf {
    /// Allowed.
    Pass,
    /// Forbidden.
    Fail,
    /// Not meant to.
    SoftFail,
    /// Nothing is said of this address.
    Neutral,
    /// There is no record.
    None,
    /// The record can't be followed.
    Broken,
}

/// One address that mail leaves from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// The address.
    pub ip: IpAddr,
    /// The name given in EHLO.
    pub ehlo: String,
    /// SPF for the envelope sender.
    pub spf: Word<Spf>,
    /// The names in reverse DNS, each with whether it leads back to the address.
    pub names: Word<Vec<(String, bool)>>,
    /// The EHLO name leads to the address.
    pub ehlo_leads_here: Word<bool>,
}

/// What a domain's DMARC record asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmarcPolicy {
    /// Nothing is to be done with mail that fails.
    None,
    /// It is to be treated with suspicion.
    Quarantine,
    /// It is to be refused.
    Reject,
}

/// DMARC for the author's domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dmarc {
    /// No record.
    Missing,
    /// There is one, and it can't be read.
    Broken(String),
    /// There is one.
    Record {
        /// For mail of this domain.
        policy: DmarcPolicy,
        /// The envelope sender's domain is aligned with the author's.
        spf_aligned: bool,
        /// A signature that verifies is aligned with it.
        dkim_aligned: bool,
    },
}

/// One DKIM signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimFacts {
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// It verifies; else why not.
    pub verifies: Word<Result<(), String>>,
}

/// All that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderFacts {
    /// One for each address, in their order.
    pub sources: Vec<SourceFacts>,
    /// DMARC.
    pub dmarc: Word<Dmarc>,
    /// The signatures of the message.
    pub signatures: Vec<DkimFacts>,
    /// Mail to the envelope sender's domain has a way to go; else why not.
    pub returns: Word<Result<(), String>>,
}

/// Who is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// A message as it will leave.
    pub message: &'a [u8],
    /// The envelope sender as it will leave.
    pub mail_from: &'a str,
    /// Where mail leaves from, and the name given there in EHLO.
    pub sources: &'a [(IpAddr, String)],
    /// Longest time for each group of questions; they are asked at the same time.
    pub within: Duration,
}

/// The domain half, lower-cased.
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn too_late(within: Duration) -> String {
    format!("no answer within {} seconds", within.as_secs())
}

/// Asks everything; takes little longer than [`Sender::within`], whatever name servers do.
pub async fn look_up(resolver: &Resolver, sender: &Sender<'_>) -> SenderFacts {
    let authenticator = MessageAuthenticator(resolver.inner.clone());
    let mut tasks = JoinSet::new();
    for (n, (ip, ehlo)) in sender.sources.iter().take(MAX_SOURCES).enumerate() {
        let (resolver, authenticator) = (resolver.clone(), authenticator.clone());
        let (ip, ehlo, mail_from, within) = (*ip, ehlo.clone(), sender.mail_from.to_owned(), sender.within);
        tasks.spawn(async move { (n, source(&resolver, &authenticator, ip, ehlo, &mail_from, within).await) });
    }
    let of_message = timeout(sender.within, message(&authenticator, sender));
    let (of_message, returns) = tokio::join!(of_message, returns(resolver, sender));
    let (dmarc, signatures) = of_message.unwrap_or_else(|_| (Word::Unknown(too_late(sender.within)), Vec::new()));
    let mut sources = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        sources.extend(ended.ok());
    }
    sources.sort_by_key(|(n, _)| *n);
    SenderFacts { sources: sources.into_iter().map(|(_, facts)| facts).collect(), dmarc, signatures, returns }
}

async fn source(
    resolver: &Resolver,
    authenticator: &MessageAuthenticator,
    ip: IpAddr,
    ehlo: String,
    mail_from: &str,
    within: Duration,
) -> SourceFacts {
    let spf = async {
        let asked = SpfParameters::verify_mail_from(ip, &ehlo, &ehlo, mail_from);
        match timeout(within, authenticator.verify_spf(asked)).await {
            Err(_) => Word::Unknown(too_late(within)),
            Ok(output) => match output.result() {
                SpfResult::Pass => Word::Known(Spf::Pass),
                SpfResult::Fail => Word::Known(Spf::Fail),
                SpfResult::SoftFail => Word::Known(Spf::SoftFail),
                SpfResult::Neutral => Word::Known(Spf::Neutral),
                SpfResult::None => Word::Known(Spf::None),
                SpfResult::PermError => Word::Known(Spf::Broken),
                SpfResult::TempError => Word::Unknown("a name server fails, or does not answer".to_owned()),
            },
        }
    };
    let names = async {
        let asked = timeout(within, names(resolver, ip)).await;
        asked.unwrap_or_else(|_| Word::Unknown(too_late(within)))
    };
    let leads_here = async {
        let asked = timeout(within, leads_to(resolver, &ehlo, ip)).await;
        asked.unwrap_or_else(|_| Word::Unknown(too_late(within)))
    };
    let (spf, names, ehlo_leads_here) = tokio::join!(spf, names, leads_here);
    SourceFacts { ip, spf, names, ehlo_leads_here, ehlo }
}

/// The names of an address in reverse DNS, and which of them lead back to it.
async fn names(resolver: &Resolver, ip: IpAddr) -> Word<Vec<(String, bool)>> {
    let answer = match resolver.inner.reverse_lookup(ip).await {
        Ok(answer) => answer,
        Err(error) => {
            return match Nothing::from(error) {
                Nothing::NoName | Nothing::NoRecords => Word::Known(Vec::new()),
                Nothing::Unknown(why) => Word::Unknown(why),
            };
        }
    };
    let found = answer.answers().iter().filter_map(|record| match &record.data {
        RData::PTR(name) => Some(name.0.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    let found: Vec<String> = found.take(MAX_NAMES).collect();
    let mut names = Vec::new();
    for name in found {
        match leads_to(resolver, &name, ip).await {
            Word::Known(back) => names.push((name, back)),
            Word::Unknown(why) => return Word::Unknown(format!("{name}: {why}")),
        }
    }
    Word::Known(names)
}

/// Whether `ip` is among the addresses of `name`.
async fn leads_to(resolver: &Resolver, name: &str, ip: IpAddr) -> Word<bool> {
    match resolver.all_addresses(name).await {
        Ok(found) => Word::Known(found.contains(&ip)),
        Err(Nothing::NoName | Nothing::NoRecords) => Word::Known(false),
        Err(Nothing::Unknown(why)) => Word::Unknown(why),
    }
}

/// Whether a bounce has a way back.
async fn returns(resolver: &Resolver, sender: &Sender<'_>) -> Word<Result<(), String>> {
    let domain = domain_of(sender.mail_from);
    let query = RouteQuery { domain, smtp_hosts: &[], port: 25, need_mx: false, v4: true, v6: true, own: &[] };
    match timeout(sender.within, resolver.route(&query)).await {
        Err(_) => Word::Unknown(too_late(sender.within)),
        Ok(Ok(_)) => Word::Known(Ok(())),
        Ok(Err(RouteError::Temporary(why))) => Word::Unknown(why),
        Ok(Err(why)) => Word::Known(Err(why.to_string())),
    }
}

/// DKIM and DMARC.
async fn message(authenticator: &MessageAuthenticator, sender: &Sender<'_>) -> (Word<Dmarc>, Vec<DkimFacts>) {
    let Some(message) = AuthenticatedMessage::parse(sender.message) else {
        return (Word::Unknown("the message can't be read".to_owned()), Vec::new());
    };
    let verified = authenticator.verify_dkim(&message).await;
    let signatures = verified.iter().take(MAX_SIGNATURES).map(|output| DkimFacts {
        domain: output.signature().map_or(String::new(), |s| s.d.clone()),
        selector: output.signature().map_or(String::new(), |s| s.s.clone()),
        verifies: match output.result() {
            DkimResult::Pass => Word::Known(Ok(())),
            DkimResult::TempError(why) => Word::Unknown(why.to_string()),
            DkimResult::Neutral(why) | DkimResult::Fail(why) | DkimResult::PermError(why) => {
                Word::Known(Err(why.to_string()))
            }
            DkimResult::None => Word::Known(Err("nothing came of it".to_owned())),
        },
    });
    let signatures: Vec<DkimFacts> = signatures.collect();
    // Alignment is asked as if SPF had passed: whether it does is known for each address.
    let mail_from = domain_of(sender.mail_from);
    let spf = SpfOutput::new(mail_from.to_owned()).with_result(SpfResult::Pass);
    let asked = DmarcParameters::new(&message, &verified, mail_from, &spf);
    let output = authenticator.verify_dmarc(asked).await;
    let dmarc = match (output.dmarc_record(), output.spf_result(), output.dkim_result()) {
        (_, DmarcResult::TempError(why), _) | (_, _, DmarcResult::TempError(why)) => Word::Unknown(said(why)),
        (None, DmarcResult::PermError(why), _) => Word::Known(Dmarc::Broken(said(why))),
        (None, ..) => Word::Known(Dmarc::Missing),
        (Some(_), spf, dkim) => Word::Known(Dmarc::Record {
            policy: match output.policy() {
                Policy::Reject => DmarcPolicy::Reject,
                Policy::Quarantine => DmarcPolicy::Quarantine,
                Policy::None | Policy::Unspecified => DmarcPolicy::None,
            },
            spf_aligned: *spf == DmarcResult::Pass,
            dkim_aligned: *dkim == DmarcResult::Pass,
        }),
    };
    (dmarc, signatures)
}

fn said(why: &Error) -> String {
    match why.to_string() {
        empty if empty.is_empty() => "a name server fails, or does not answer".to_owned(),
        text => text,
    }
}
