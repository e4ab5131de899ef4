//! Message disposition notifications (RFC 8098) that stand for a bounce: a mailbox whose rules refuse mail says so by a
//! receipt (RFC 5429, 2.1.2), as do some that are full. Other receipts are automatic answers.

use crate::event::Action;

use super::bounds::MAX_REASON;
use super::fields::Fields;
use super::kind::{RcptResult, Recognised, ReportKind};
use super::mime::Mail;
use super::{body, returned, values};

/// Dispositions of mail that nobody will see (RFC 8098, 3.2.6), lower-cased; anywhere in the value.
const UNSEEN: &[&str] = &["deleted", "denied", "failed", "dispatched"];
/// Words of a refusal, lower-cased.
const REFUSALS: &[&str] =
    &["automatically rejected", "rejected", "refused", "quota", "mailbox full", "mailbox is full"];

/// Reads a mail as a refusal by receipt; `None` when it is none. Its reason is prose: no status or code is read from it.
pub(super) fn refusal(mail: &Mail<'_>) -> Option<Recognised> {
    let part = mail.part(&["message/disposition-notification"])?;
    let bytes = part.bytes();
    let fields = Fields::read(&mut &bytes[..]);
    let disposition = fields.any(&["disposition"]).to_ascii_lowercase();
    let text = mail.text();
    let lower = text[..text.floor_char_boundary(MAX_REASON)].to_lowercase();
    if !UNSEEN.iter().any(|d| disposition.contains(d)) || !REFUSALS.iter().any(|r| lower.contains(r)) {
        return None;
    }
    let rcpt = values::recipient(fields.any(&["final-recipient", "original-recipient"]));
    let mut results = vec![RcptResult {
        rcpt,
        orcpt: fields.any(&["original-recipient"]).to_owned(),
        action: Some(Action::Failed),
        ..RcptResult::default()
    }];
    body::explain(&mut results, mail.human());
    results[0].status = None;
    Some(Recognised {
        kind: ReportKind::Bounce,
        format: "mdn",
        results,
        original: returned::returned_part(mail),
        reporting_mta: values::mta(fields.any(&["reporting-ua"])).0,
        ..Recognised::default()
    })
}
