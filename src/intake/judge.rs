//! Whether a recipient of a mail that comes in is suppressed: the one place where any channel asks.
//!
//! Asked twice by a channel that has a reply for each recipient. At RCPT ([`known_at_rcpt`]) sender domain and source are
//! known; what stands in the header section (job, list, VirtualMTA) is not, so entries of these scopes do not count yet.
//! When the message is there, [`submit`](super::submit::Intake::submit) asks again about everybody, under all that the
//! envelope says ([`Mail::of`]); so a channel without such replies (HTTP, pickup) needs to ask nothing itself.
//!
//! An entry that the circuit breaker holds back does not keep mail out: delivery puts it on hold.

use crate::config::Source;
use crate::suppress::{Mail, NotLoaded, Suppressed};

use super::submit::Spool;

/// What is known of a mail when its recipients are named.
pub fn known_at_rcpt<'a>(from: &'a str, source: &'a Source) -> Mail<'a> {
    Mail {
        sender_domain: from.rsplit_once('@').map_or("", |(_, domain)| domain),
        source: &source.name,
        exempt_scopes: source.suppression_exempt_scopes,
        exempt_rules: &source.suppression_exempt_rules,
        ..Mail::default()
    }
}

/// Why this recipient gets no mail of this source, if so. `Err` while a list that it asks for can't be consulted: then
/// nobody knows, and the mail is to come again later.
pub fn judge<S: Spool>(
    spool: &S,
    source: &Source,
    rcpt: &str,
    mail: &Mail<'_>,
) -> Result<Option<Suppressed>, NotLoaded> {
    if let Some(why) = spool.suppressed(rcpt, mail).filter(|why| !why.held) {
        return Ok(Some(why));
    }
    match source.suppression_lists.as_slice() {
        [] => Ok(None),
        lists => spool.listed(lists, rcpt),
    }
}
