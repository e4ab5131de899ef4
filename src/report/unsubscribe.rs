//! Mail to an unsubscribe address (`list-unsubscribe-mailto`): the token in its subject says who leaves which list.
//!
//! The address in List-Unsubscribe asks for the subject `unsubscribe TOKEN` (RFC 6068, RFC 2369, 3.2), which mail programs
//! and the providers that send such mail for their users keep; a local part has no room for it. What counts is the token
//! alone: From may be another address of the same person. Mail without a token of ours is never an unsubscription; it is
//! kept for somebody to read.

use crate::event::unsubscribe_token::{FORMAT, Unsubscription, Way, is_likely};
use crate::event::{Event, StoreId, Time};
use crate::store::Message;

use super::attribute::Evidence;
use super::bounds::MAX_HEADER;
use super::disposition::{Disposition, Outcome};
use super::fields::Fields;
use super::kind::{Recognised, ReportKind};
use super::mime;

/// Words of a subject that are tried.
const MAX_WORDS: usize = 64;

/// Reads a mail and hands its event to `emit`.
pub(super) fn dispose(
    message: &Message,
    store: StoreId,
    evidence: &dyn Evidence,
    now: Time,
    emit: &mut dyn FnMut(&Event<'_>),
) -> Disposition {
    let found = find(message, evidence);
    if let Some(who) = &found {
        emit(&who.event(store, Way::Mail, now));
    }
    let known = found.is_some();
    Disposition {
        outcome: if known { Outcome::Recorded(1) } else { Outcome::Unmatched },
        report: Recognised {
            kind: if known { ReportKind::Feedback } else { ReportKind::None },
            format: if known { FORMAT } else { "" },
            ..Recognised::default()
        },
        format: if known { FORMAT.to_owned() } else { String::new() },
        match_info: None,
        attributions: Vec::new(),
        forward_to: Vec::new(),
        deliver: false,
        quarantine: !known,
    }
}

fn find(message: &Message, evidence: &dyn Evidence) -> Option<Unsubscription> {
    let mut header = &message.body[..message.body.len().min(MAX_HEADER)];
    let header = Fields::read(&mut header);
    let subject = mime::decoded_words(header.first("subject")?);
    let try_one = |word: &str| is_likely(word).then(|| evidence.unsubscription(word)).flatten();
    let words = || subject.split_whitespace().take(MAX_WORDS);
    // A program that breaks a long word breaks it anywhere: then the pieces stand behind the word that says what it is.
    words().find_map(try_one).or_else(|| {
        let mut rest = words().skip_while(|word| !word.eq_ignore_ascii_case("unsubscribe"));
        rest.next()?;
        try_one(&rest.collect::<String>())
    })
}
