//! The List-Unsubscribe fields of one recipient's copy (RFC 2369, 3.2; RFC 8058, 3.1). Pure.
//!
//! Both ways hold the same token: the link in its path, the mail in its subject, since a local part has no room for it and
//! mail programs keep the subject that a link gives (RFC 6068). A recipient whose token can't be made gets no field rather
//! than one that does not work.

use crate::event::unsubscribe_token::{Unsubscription, mint};
use crate::event::{StoreId, Time, TokenKey};
use crate::store::Envelope;

/// Octets of the longest line of mail, without its end (RFC 5322, 2.1.1).
const LINE: usize = 998;

/// The fields for a recipient, with their line ends; `None` where none were asked for, and when no key holds.
pub(super) fn fields(envelope: &Envelope, rcpt: u16, store: StoreId, keys: &[TokenKey], now: Time) -> Option<String> {
    let link = envelope.terms.unsubscribe.as_deref()?;
    let who = Unsubscription {
        store,
        message: envelope.id,
        rcpt_index: rcpt,
        time_queued: envelope.time_queued,
        rcpt: envelope.rcpts.get(usize::from(rcpt))?.address.as_ref().into(),
        list: envelope.terms.list.as_ref().into(),
        orig: envelope.orig.as_ref().into(),
        job: envelope.job.as_ref().into(),
    };
    let token = mint(keys, now, &who)?;
    let page = (!link.url.is_empty()).then(|| format!("<{}/{token}>", link.url));
    let mail =
        (!link.mailto.is_empty()).then(|| format!("<mailto:{}?subject=unsubscribe%20{token}>", escaped(&link.mailto)));
    // An address so long that it does not fit beside a token so long: the page is there.
    let mail = mail.filter(|mail| page.is_none() || mail.len() < LINE - 1);
    let ways: Vec<&str> = [&page, &mail].into_iter().flatten().map(String::as_str).collect();
    if ways.is_empty() {
        return None;
    }
    let mut fields = format!("List-Unsubscribe: {}\r\n", ways.join(",\r\n "));
    if page.is_some() {
        fields.push_str("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n");
    }
    Some(fields)
}

/// An address in a mailto URL (RFC 6068, 2).
fn escaped(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for b in address.bytes() {
        match b {
            b if b.is_ascii_alphanumeric() || b"-._~@!$'*+".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_the_link_is_escaped() {
        assert_eq!(escaped("out@u.example.com"), "out@u.example.com");
        assert_eq!(escaped("a&b=c?d%>@u.example"), "a%26b%3Dc%3Fd%25%3E@u.example");
    }
}
