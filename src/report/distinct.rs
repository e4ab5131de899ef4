//! One result for each recipient of a report, one record for each send.
//!
//! Complaints name a recipient in two fields, mail systems write a block for each attempt or spell an address in several
//! ways: counted singly they would double what a guard or a rate is made of. What the blocks say is joined: the worst
//! outcome stands (failed, then delayed, then delivered, then what is on its way; of two failures the permanent one), and
//! blocks of one outcome fill what the first leaves open. In time linear in the results.

use std::collections::HashMap;
use std::hash::Hash;

use crate::event::{Action, AddressKey};

use super::attribute::Attribution;
use super::kind::RcptResult;
use super::values;

/// Joins results that name the same recipient, in any spelling. Two of ours may have been forwarded to one mailbox: where
/// both say who they were sent to first (Original-Recipient), that tells them apart. Those that name nobody are joined
/// too: there is nothing by which they could be told apart.
pub(super) fn by_recipient(results: &mut Vec<RcptResult>) {
    if results.len() < 2 {
        return;
    }
    let (mut by_rcpt, mut by_both) = (Firsts::default(), Firsts::default());
    let mut joined: Vec<RcptResult> = Vec::with_capacity(results.len());
    for result in results.drain(..) {
        let sent_to = AddressKey::of(&values::recipient(&result.orcpt));
        let named = if result.rcpt.is_empty() { sent_to.clone() } else { AddressKey::of(&result.rcpt) };
        let first = by_rcpt.seen(named.clone(), joined.len());
        let alike = match first {
            Some(at) if !result.rcpt.is_empty() && !result.orcpt.is_empty() && !joined[at].orcpt.is_empty() => {
                by_both.seen((named, sent_to), joined.len())
            }
            first => {
                by_both.seen((named, sent_to), first.unwrap_or(joined.len()));
                first
            }
        };
        match alike {
            Some(at) => join(&mut joined[at], result),
            None => joined.push(result),
        }
    }
    *results = joined;
}

/// Joins results that were tied to the same send, as those on the addresses that a recipient forwards to.
pub(super) fn by_send(results: &mut Vec<RcptResult>, attributions: &mut Vec<Attribution>) {
    if results.len() < 2 {
        return;
    }
    let mut first = Firsts::default();
    let mut joined: Vec<(RcptResult, Attribution)> = Vec::with_capacity(results.len());
    for (result, found) in results.drain(..).zip(attributions.drain(..)) {
        let seen = found.way.and_then(|_| first.seen((found.message, found.rcpt_index), joined.len()));
        match seen {
            Some(at) => {
                join(&mut joined[at].0, result);
                if found.is_proved() && !joined[at].1.is_proved() {
                    joined[at].1 = found;
                }
            }
            None => joined.push((result, found)),
        }
    }
    (*results, *attributions) = joined.into_iter().unzip();
}

/// Where each key was seen first.
struct Firsts<K>(HashMap<K, usize>);

impl<K> Default for Firsts<K> {
    fn default() -> Self {
        Firsts(HashMap::new())
    }
}

impl<K: Eq + Hash> Firsts<K> {
    /// The place where `key` was seen before; else it is noted that it stands at `here`.
    fn seen(&mut self, key: K, here: usize) -> Option<usize> {
        let first = *self.0.entry(key).or_insert(here);
        (first != here).then_some(first)
    }
}

fn join(first: &mut RcptResult, mut other: RcptResult) {
    let (before, now) = (weight(first), weight(&other));
    if now > before {
        std::mem::swap(first, &mut other);
        // The name by which it was seen first.
        if !other.rcpt.is_empty() {
            std::mem::swap(&mut first.rcpt, &mut other.rcpt);
        }
    }
    if first.rcpt.is_empty() {
        first.rcpt = other.rcpt;
    }
    if first.orcpt.is_empty() {
        first.orcpt = other.orcpt;
    }
    if now != before {
        return;
    }
    if first.diag.is_empty() {
        (first.diag, first.diag_type) = (other.diag, other.diag_type);
    }
    if first.remote_mta.is_empty() && first.remote_ip.is_none() {
        (first.remote_mta, first.remote_ip) = (other.remote_mta, other.remote_ip);
    }
    first.status = first.status.or(other.status);
    first.action = first.action.or(other.action);
}

/// How much an outcome weighs: what happened, and whether that is for good.
fn weight(result: &RcptResult) -> (u8, bool) {
    let outcome = match result.action {
        None | Some(Action::Failed) => 3,
        Some(Action::Delayed) => 2,
        Some(Action::Delivered) => 1,
        Some(_) => 0,
    };
    (outcome, outcome == 3 && result.status.is_some_and(|s| s.class == 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rcpt: &str, action: Action, status: &str, diag: &str) -> RcptResult {
        RcptResult {
            rcpt: rcpt.into(),
            action: Some(action),
            status: status.parse().ok(),
            diag: diag.into(),
            ..RcptResult::default()
        }
    }

    #[test]
    fn the_worst_that_is_said_of_a_recipient_stands() {
        let mut results = vec![
            result("Ann@example.net", Action::Delayed, "4.2.0", "busy"),
            result("bob@example.net", Action::Delivered, "2.0.0", ""),
            result("ann@EXAMPLE.net", Action::Failed, "", ""),
            result("ann@example.net", Action::Failed, "5.1.1", "no such user"),
            RcptResult { rcpt: String::new(), orcpt: "rfc822;ann@example.net".into(), ..RcptResult::default() },
        ];
        by_recipient(&mut results);
        let ann = &results[0];
        assert_eq!(
            (results.len(), ann.rcpt.as_str(), ann.orcpt.as_str()),
            (2, "Ann@example.net", "rfc822;ann@example.net")
        );
        assert_eq!(
            (ann.action, ann.status.unwrap().detail, ann.diag.as_str()),
            (Some(Action::Failed), 1, "no such user")
        );
        assert_eq!(results[1].rcpt, "bob@example.net");
    }

    #[test]
    fn what_one_block_leaves_open_another_one_fills_if_it_says_the_same() {
        let mut results = vec![
            result("ann@example.net", Action::Failed, "", ""),
            result("ann@example.net", Action::Delayed, "4.2.2", "full"),
            result("ann@example.net", Action::Failed, "4.4.7", "gave up"),
        ];
        by_recipient(&mut results);
        assert_eq!((results.len(), results[0].diag.as_str()), (1, "gave up"));
        assert_eq!(results[0].status.unwrap().to_string(), "4.4.7");
    }

    #[test]
    fn two_of_ours_who_were_forwarded_to_one_mailbox_stay_two() {
        let sent = |orcpt: &str, rcpt: &str| RcptResult {
            orcpt: format!("rfc822;{orcpt}"),
            ..result(rcpt, Action::Failed, "5.1.1", "no")
        };
        let mut results = vec![
            sent("ann@a.example", "shared@b.example"),
            sent("bob@a.example", "shared@b.example"),
            sent("BOB@a.example", "Shared@b.example"),
            result("shared@b.example", Action::Failed, "5.1.1", "no"),
            // An alias of ours that led to two.
            sent("all@a.example", "x@b.example"),
            sent("all@a.example", "y@b.example"),
        ];
        by_recipient(&mut results);
        let named: Vec<_> = results.iter().map(|r| (r.orcpt.as_str(), r.rcpt.as_str())).collect();
        assert_eq!(
            named,
            [
                ("rfc822;ann@a.example", "shared@b.example"),
                ("rfc822;bob@a.example", "shared@b.example"),
                ("rfc822;all@a.example", "x@b.example"),
                ("rfc822;all@a.example", "y@b.example"),
            ]
        );
    }
}
