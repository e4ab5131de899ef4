//! The script of the play: what becomes of each recipient, from the seed and the address alone.
//!
//! The providers act by it, and whoever checks the outcome asks it independently of them. Pure: no state, no clock.

use crate::event::AddressKey;

use super::chance;
use super::world::{self, Oddity};

/// How one mailbox behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Takes the mail.
    Accept,
    /// 550 5.1.1.
    UnknownUser,
    /// 552 5.2.2: over quota, said for good.
    MailboxFull,
    /// 452 4.2.2 each time: over quota, for now.
    OverQuota,
    /// 550 5.2.1: the account is disabled.
    Disabled,
    /// 554 5.7.1: the message is taken for spam.
    SpamBlock,
    /// 451 4.7.1 at first; accepted on a retry some seconds later.
    Greylist,
    /// Accepted, then bounced by mail to the return path (RFC 3464).
    LaterBounce,
    /// Accepted, then complained about by mail to the feedback address (RFC 5965).
    Complaint,
    /// The domain has a null MX.
    NullMx,
    /// The domain does not exist.
    NoDomain,
    /// The domain's name servers fail.
    ServFail,
    /// The domain's mail host refuses connections.
    Refusing,
}

/// How a recipient must end when it is first mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a `d` record.
    Delivered,
    /// By a `b` record in one of these categories.
    Bounced(&'static [&'static str]),
}

impl Behaviour {
    /// All of them.
    pub const ALL: &'static [Behaviour] = &[
        Behaviour::Accept,
        Behaviour::UnknownUser,
        Behaviour::MailboxFull,
        Behaviour::OverQuota,
        Behaviour::Disabled,
        Behaviour::SpamBlock,
        Behaviour::Greylist,
        Behaviour::LaterBounce,
        Behaviour::Complaint,
        Behaviour::NullMx,
        Behaviour::NoDomain,
        Behaviour::ServFail,
        Behaviour::Refusing,
    ];

    /// How a recipient that behaves so ends, when it is not suppressed.
    pub const fn ending(self) -> Ending {
        match self {
            Behaviour::Accept | Behaviour::Greylist | Behaviour::LaterBounce | Behaviour::Complaint => {
                Ending::Delivered
            }
            Behaviour::UnknownUser => Ending::Bounced(&["bad-mailbox"]),
            Behaviour::MailboxFull => Ending::Bounced(&["quota-issues"]),
            Behaviour::Disabled => Ending::Bounced(&["inactive-mailbox"]),
            Behaviour::SpamBlock => Ending::Bounced(&["spam-related"]),
            Behaviour::NullMx | Behaviour::NoDomain => Ending::Bounced(&["bad-domain"]),
            // These end by bounce-after; the last reply may have named the category.
            Behaviour::OverQuota => Ending::Bounced(&["message-expired", "quota-issues"]),
            Behaviour::ServFail => Ending::Bounced(&["message-expired", "routing-errors"]),
            Behaviour::Refusing => Ending::Bounced(&["message-expired", "no-answer-from-host", "bad-connection"]),
        }
    }

    /// Whether no server ever hears of the recipient: DNS knows of none.
    pub const fn is_nowhere(self) -> bool {
        matches!(self, Behaviour::NullMx | Behaviour::NoDomain | Behaviour::ServFail)
    }

    /// From which campaign on an address may be suppressed because it could not be reached that often (the rules `full`
    /// and `unreach` count distinct messages, the one under way included).
    pub const fn suppresses_from(self) -> Option<u32> {
        match self {
            Behaviour::MailboxFull | Behaviour::OverQuota => Some(5),
            Behaviour::Refusing | Behaviour::ServFail => Some(8),
            _ => None,
        }
    }

    /// Whether the outcome, a later report included, says that the address is not to be mailed again. A domain that does
    /// not exist is one that was not found three times in an hour, which is longer than this play.
    pub const fn suppresses(self) -> bool {
        matches!(
            self,
            Behaviour::UnknownUser
                | Behaviour::Disabled
                | Behaviour::NullMx
                | Behaviour::LaterBounce
                | Behaviour::Complaint
        )
    }
}

/// Which mailbox behaves how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    seed: u64,
    accept_all: bool,
}

/// Mailboxes of ordinary domains that do something other than accept, in parts of ten thousand.
const SHARES: &[(Behaviour, u64)] = &[
    (Behaviour::UnknownUser, 400),
    (Behaviour::MailboxFull, 120),
    (Behaviour::Disabled, 100),
    (Behaviour::SpamBlock, 100),
    (Behaviour::Greylist, 200),
    (Behaviour::LaterBounce, 100),
    (Behaviour::Complaint, 50),
];

impl Script {
    /// The script of this seed.
    pub const fn new(seed: u64) -> Script {
        Script { seed, accept_all: false }
    }

    /// The script in which every mailbox takes everything.
    pub const fn accept_all() -> Script {
        Script { seed: 0, accept_all: true }
    }

    /// The seed.
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// How this address behaves. Two spellings of one mailbox behave alike.
    pub fn behaviour(self, address: &str) -> Behaviour {
        if self.accept_all {
            return Behaviour::Accept;
        }
        let key = AddressKey::of(address);
        match world::oddity(key.domain()) {
            Some(Oddity::NullMx) => return Behaviour::NullMx,
            Some(Oddity::NoDomain) => return Behaviour::NoDomain,
            Some(Oddity::ServFail) => return Behaviour::ServFail,
            Some(Oddity::Refusing) => return Behaviour::Refusing,
            Some(Oddity::OverQuota) => return Behaviour::OverQuota,
            None => {}
        }
        let mut n = chance::of(self.seed, key.as_str()) % 10_000;
        for (behaviour, share) in SHARES {
            match n.checked_sub(*share) {
                Some(rest) => n = rest,
                None => return *behaviour,
            }
        }
        Behaviour::Accept
    }

    /// A number for anything else about this address (which wording, which id), independent of its behaviour.
    pub fn detail(self, address: &str) -> u64 {
        chance::mix(chance::of(self.seed, address) ^ 0x5eed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn an_address_behaves_the_same_each_time_and_in_each_spelling() {
        let script = Script::new(7);
        for i in 0..200 {
            let address = format!("user{i}@mailhost.example");
            assert_eq!(script.behaviour(&address), script.behaviour(&address.to_uppercase()));
        }
    }

    #[test]
    fn another_seed_is_another_play() {
        let differ = (0..1000)
            .map(|i| format!("user{i}@mailhost.example"))
            .filter(|a| Script::new(1).behaviour(a) != Script::new(2).behaviour(a))
            .count();
        assert!(differ > 100, "{differ} of 1000 differ");
    }

    #[test]
    fn behaviours_come_in_their_shares() {
        let script = Script::new(3);
        let mut counts: HashMap<Behaviour, u64> = HashMap::new();
        for i in 0..100_000 {
            *counts.entry(script.behaviour(&format!("u{i}@yonder.example"))).or_default() += 1;
        }
        for (behaviour, share) in SHARES {
            let (got, wanted) = (counts[behaviour], share * 10);
            assert!(got.abs_diff(wanted) < wanted / 4, "{behaviour:?}: {got}, about {wanted} wanted");
        }
    }

    #[test]
    fn odd_domains_decide_for_all_their_mailboxes() {
        let script = Script::new(1);
        assert_eq!(script.behaviour("a@no-mail.example"), Behaviour::NullMx);
        assert_eq!(script.behaviour("a@Never-Registered.example"), Behaviour::NoDomain);
        assert_eq!(script.behaviour("a@attic.lakeside.example"), Behaviour::OverQuota);
        assert_eq!(Script::accept_all().behaviour("a@no-mail.example"), Behaviour::Accept);
    }

    #[test]
    fn only_dead_addresses_and_complaints_suppress() {
        for b in Behaviour::ALL {
            if let Ending::Bounced(categories) = b.ending() {
                let dead = categories.iter().all(|c| crate::event::Category::by_name(c).unwrap().dead_address);
                assert_eq!(b.suppresses() || *b == Behaviour::NoDomain, dead, "{b:?}");
            }
        }
    }
}
