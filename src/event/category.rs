//! Bounce categories (reference/accounting.md, section 7). The seventeen are known by name; configuration may add its
//! own, so a category is a name, and only what is decided by category asks for one of these.

/// One of PowerMTA's bounce categories, or Carom's own `suppressed`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Category {
    /// As it stands in `bounceCat`.
    pub name: &'static str,
    /// What it means, in a few words.
    pub meaning: &'static str,
    /// Whether such a bounce, with a 5xx reply or 5.x.x status, says that the address is dead.
    pub dead_address: bool,
}

/// All categories, in alphabetical order; `suppressed` is Carom's own and never comes from a pattern.
pub const CATEGORIES: &[Category] = &[
    Category { name: "bad-configuration", meaning: "receiving host misconfigured", dead_address: false },
    Category { name: "bad-connection", meaning: "connection trouble with the receiving host", dead_address: false },
    Category { name: "bad-domain", meaning: "recipient domain invalid or nonexistent", dead_address: true },
    Category { name: "bad-mailbox", meaning: "no such recipient", dead_address: true },
    Category { name: "content-related", meaning: "objectionable content, neither spam nor virus", dead_address: false },
    Category { name: "inactive-mailbox", meaning: "account disabled, expired, dormant", dead_address: true },
    Category { name: "invalid-sender", meaning: "sender domain lacks valid DNS", dead_address: false },
    Category { name: "message-expired", meaning: "bounce-after elapsed", dead_address: false },
    Category { name: "no-answer-from-host", meaning: "the remote stayed silent", dead_address: false },
    Category { name: "other", meaning: "unclassified", dead_address: false },
    Category { name: "policy-related", meaning: "local policy at the receiver", dead_address: false },
    Category { name: "protocol-errors", meaning: "SMTP syntax or sequence error", dead_address: false },
    Category { name: "quota-issues", meaning: "mailbox over quota", dead_address: false },
    Category { name: "relaying-issues", meaning: "relaying denied at the receiver", dead_address: false },
    Category { name: "routing-errors", meaning: "recipient-domain routing broken", dead_address: false },
    Category { name: "spam-related", meaning: "treated as spam", dead_address: false },
    Category {
        name: "suppressed",
        meaning: "not attempted: the address is on the suppression list",
        dead_address: false,
    },
    Category { name: "virus-related", meaning: "treated as malware", dead_address: false },
];

/// Carom's own category of a recipient that was not attempted.
pub const SUPPRESSED: &str = "suppressed";

impl Category {
    /// The category of this name, whatever its case.
    pub fn by_name(name: &str) -> Option<&'static Category> {
        CATEGORIES.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_the_seventeen_and_ours_in_order() {
        assert_eq!(CATEGORIES.len(), 18);
        assert!(CATEGORIES.windows(2).all(|w| w[0].name < w[1].name));
        let dead: Vec<_> = CATEGORIES.iter().filter(|c| c.dead_address).map(|c| c.name).collect();
        assert_eq!(dead, ["bad-domain", "bad-mailbox", "inactive-mailbox"]);
    }
}
