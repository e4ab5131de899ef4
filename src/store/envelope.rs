//! How an envelope is kept in a record: one version byte, then the fields in a fixed order. Numbers are little-endian or
//! LEB128, text is a LEB128 length and UTF-8. Damaged bytes give `None`, never a panic. What stands behind the recipients
//! was added later: it may be missing, and what follows it is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Envelope, Recipient, Route, SuppressionTerms, UnsubscribeLink};
use crate::event::leb128::{put_number, put_str, take_bytes, take_number, take_str};
use crate::event::{MessageId, Pairs, ScopeKinds, SourceType, Time, record::PairsBuf};

const VERSION: u8 = 1;
const EIGHT_BIT: u8 = 1;
const NO_DSN: u8 = 2;
const RETURN_FULL: u8 = 4;
const RET_GIVEN: u8 = 8;

fn take_text(bytes: &mut &[u8]) -> Option<Box<str>> {
    take_str(bytes).map(Box::from)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&b, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(b)
}

/// Writes all of `e` but its id and content length, which the record's message block carries.
pub(super) fn encode(out: &mut Vec<u8>, e: &Envelope) {
    out.push(VERSION);
    let flags = [(e.eight_bit, EIGHT_BIT), (e.no_dsn, NO_DSN), (e.return_full, RETURN_FULL), (e.ret_given, RET_GIVEN)];
    out.push(flags.iter().map(|(set, bit)| u8::from(*set) * bit).sum());
    out.push(e.src_type as u8);
    out.push(e.route as u8);
    out.extend_from_slice(&e.time_queued.0.to_le_bytes());
    for s in [&e.orig, &e.env_id, &e.job, &e.vmta, &e.pool, &e.src_mta, &e.user, &e.message_id_header] {
        put_str(out, s);
    }
    put_ip(out, e.src_ip);
    let headers = e.headers.as_pairs();
    put_number(out, headers.as_bytes().len() as u64);
    out.extend_from_slice(headers.as_bytes());
    put_number(out, e.rcpts.len() as u64);
    for r in &e.rcpts {
        put_str(out, &r.address);
        put_str(out, &r.orcpt);
        out.push(r.notify);
    }
    put_ip(out, e.rcv_ip);
    let terms = &e.terms;
    if *terms != SuppressionTerms::default() {
        put_str(out, &terms.source);
        put_str(out, &terms.list);
        out.push(terms.exempt_scopes.0);
        put_str(out, &terms.exempt_rules);
        if let Some(link) = &terms.unsubscribe {
            put_str(out, &link.url);
            put_str(out, &link.mailto);
        }
    }
}

fn put_ip(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    match ip {
        None => out.push(0),
        Some(IpAddr::V4(a)) => {
            out.push(4);
            out.extend_from_slice(&a.octets());
        }
        Some(IpAddr::V6(a)) => {
            out.push(16);
            out.extend_from_slice(&a.octets());
        }
    }
}

fn take_ip(bytes: &mut &[u8]) -> Option<Option<IpAddr>> {
    let address = take_bytes(bytes)?;
    Some(match address.len() {
        0 => None,
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into()),
        _ => return None,
    })
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(id: MessageId, body_len: u32, mut bytes: &[u8]) -> Option<Envelope> {
    let b = &mut bytes;
    if take_byte(b)? != VERSION {
        return None;
    }
    let flags = take_byte(b)?;
    let src_type = SourceType::from_number(take_byte(b)?)?;
    let route = match take_byte(b)? {
        1 => Route::Deliver,
        2 => Route::Bounce,
        3 => Route::Feedback,
        4 => Route::Unsubscribe,
        _ => return None,
    };
    let (time, rest) = b.split_first_chunk::<8>()?;
    *b = rest;
    let time_queued = Time(i64::from_le_bytes(*time));
    let (orig, env_id, job, vmta) = (take_text(b)?, take_text(b)?, take_text(b)?, take_text(b)?);
    let (pool, src_mta, user, message_id_header) = (take_text(b)?, take_text(b)?, take_text(b)?, take_text(b)?);
    let src_ip = take_ip(b)?;
    let mut headers = PairsBuf::default();
    Pairs::from_bytes(take_bytes(b)?).iter().for_each(|(name, value)| headers.push(name, value));
    let count = usize::try_from(take_number(b)?).ok()?;
    // Each recipient takes at least three bytes: a damaged count can't make us reserve more than there is.
    if count > b.len() / 3 {
        return None;
    }
    let mut rcpts = Vec::with_capacity(count);
    for _ in 0..count {
        rcpts.push(Recipient { address: take_text(b)?, orcpt: take_text(b)?, notify: take_byte(b)? });
    }
    let rcv_ip = if b.is_empty() { None } else { take_ip(b)? };
    let terms = if b.is_empty() { SuppressionTerms::default() } else { take_terms(b)? };
    Some(Envelope {
        id,
        time_queued,
        orig,
        env_id,
        job,
        vmta,
        pool,
        src_type,
        src_mta,
        src_ip,
        rcv_ip,
        user,
        eight_bit: flags & EIGHT_BIT != 0,
        body_len,
        message_id_header,
        headers,
        route,
        no_dsn: flags & NO_DSN != 0,
        return_full: flags & RETURN_FULL != 0,
        ret_given: flags & RET_GIVEN != 0,
        rcpts,
        terms,
    })
}

fn take_terms(b: &mut &[u8]) -> Option<SuppressionTerms> {
    Some(SuppressionTerms {
        source: take_text(b)?,
        list: take_text(b)?,
        exempt_scopes: ScopeKinds(take_byte(b)?),
        exempt_rules: take_text(b)?,
        unsubscribe: match b.is_empty() {
            true => None,
            false => Some(Box::new(UnsubscribeLink { url: take_text(b)?, mailto: take_text(b)? })),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_envelope_comes_back_as_it_was_kept(a in "\\PC{0,30}", b in "\\PC{0,30}", n in 0usize..6, ip: Option<[u8; 16]>, v4: bool, flags in 0u8..16) {
            let mut headers = PairsBuf::default();
            headers.push(&a, &b);
            let e = Envelope {
                id: MessageId(9), time_queued: Time(-5), orig: a.as_str().into(), env_id: b.as_str().into(), job: "".into(),
                vmta: "v".into(), pool: a.as_str().into(), src_type: SourceType::Api, src_mta: "m".into(),
                src_ip: ip.map(|ip| if v4 { IpAddr::from([ip[0], 1, 2, 3]) } else { IpAddr::from(ip) }),
                rcv_ip: ip.map(|ip| IpAddr::from([9, 8, 7, ip[1]])),
                user: b.as_str().into(), eight_bit: flags & 1 != 0, body_len: 77, message_id_header: a.as_str().into(), headers,
                route: [Route::Deliver, Route::Bounce, Route::Feedback, Route::Unsubscribe][n % 4], no_dsn: flags & 2 != 0,
                return_full: flags & 4 != 0, ret_given: flags & 8 != 0,
                rcpts: (0..n).map(|i| Recipient { address: format!("{a}{i}").into(), orcpt: b.as_str().into(), notify: i as u8 }).collect(),
                terms: match n { 0 => SuppressionTerms::default(), _ => SuppressionTerms { source: a.as_str().into(), list: b.as_str().into(), exempt_scopes: ScopeKinds(flags), exempt_rules: "x".into(), unsubscribe: (n > 2).then(|| Box::new(UnsubscribeLink { url: a.as_str().into(), mailto: b.as_str().into() })) } },
            };
            let mut bytes = Vec::new();
            encode(&mut bytes, &e);
            prop_assert_eq!(decode(MessageId(9), 77, &bytes), Some(e));
            for cut in 0..bytes.len() {
                let _ = decode(MessageId(9), 77, &bytes[..cut]);
            }
        }

        #[test]
        fn no_bytes_make_an_envelope_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(MessageId(1), 0, &bytes);
        }
    }
}
