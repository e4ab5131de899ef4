//! What providers say, each in its own manner, with the ids, addresses, hosts and links that real replies carry.
//!
//! Every text is written for this simulation. What they share with life is the form: enhanced status codes or none,
//! one line or several, a link to a help page, an id at the end, the sender's address in brackets.

use std::net::IpAddr;

use super::chance;

/// A manner of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// Several lines, a help link, an id and ` - hsmtp` at the end.
    Folded,
    /// One line, a code of the house in brackets, host names and times.
    Coded,
    /// One line with a link and a short code.
    Linked,
    /// As an unconfigured open-source server speaks.
    Plain,
    /// Few words, no enhanced status for some refusals.
    Terse,
    /// A telephone company's gateway, with codes in capitals.
    Telco,
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Saying {
    /// After the final dot: taken.
    Taken,
    /// No such mailbox.
    UnknownUser,
    /// Over quota, for good.
    MailboxFull,
    /// Over quota, for now.
    OverQuota,
    /// Disabled account.
    Disabled,
    /// Taken for spam.
    SpamBlock,
    /// Come back later (greylisting).
    Greylist,
    /// Too many connections, said instead of a greeting.
    TooManyConnections,
    /// Too many connections in too short a time, said instead of a greeting.
    TooFast,
    /// Too many messages in this connection.
    TooManyMessages,
}

/// What goes into the gaps of a reply.
#[derive(Debug, Clone, Copy)]
pub struct Gaps<'a> {
    /// The provider's mail host.
    pub host: &'a str,
    /// The recipient; empty when none is concerned.
    pub rcpt: &'a str,
    /// The sender's address.
    pub peer: IpAddr,
    /// For ids and for the choice among wordings.
    pub n: u64,
    /// Unix time in seconds.
    pub secs: i64,
}

/// A reply: its code and lines, each line without the code but with the enhanced status, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The basic code.
    pub code: u16,
    /// At least one.
    pub lines: Vec<String>,
}

impl Said {
    /// A reply of one line.
    pub fn line(code: u16, text: impl Into<String>) -> Said {
        Said { code, lines: vec![text.into()] }
    }

    /// Appends it as it goes over the wire (RFC 5321, 4.2.1).
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(format!("{}{}", self.code, if i == last { ' ' } else { '-' }).as_bytes());
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// In one line, code first, lines joined by blanks.
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }
}

fn said<const N: usize>(code: u16, status: &str, lines: [String; N]) -> Said {
    Said { code, lines: lines.into_iter().map(|l| format!("{status} {l}")).collect() }
}

fn bare(code: u16, text: String) -> Said {
    Said::line(code, text)
}

/// How a provider of this style says it.
pub fn say(style: Style, what: Saying, gaps: &Gaps<'_>) -> Said {
    let Gaps { host, rcpt, peer, n, secs } = *gaps;
    let id = chance::id(n, 14);
    let short = chance::id(n ^ 1, 6);
    // Help pages are on the provider's web site, not on its mail host.
    let site = host.split_once('.').map_or(host, |(_, site)| site);
    let (local, domain) = rcpt.rsplit_once('@').unwrap_or((rcpt, ""));
    let alternative = n.is_multiple_of(2);
    use Saying as S;
    match (style, what) {
        (Style::Folded, S::Taken) => said(250, "2.0.0", [format!("OK  {secs} {id}.{} - hsmtp", n % 900 + 100)]),
        (Style::Folded, S::UnknownUser) => said(
            550,
            "5.1.1",
            [
                "The email account that you tried to reach does not exist. Please check".to_owned(),
                "the recipient's address for spelling mistakes or spaces. More at".to_owned(),
                format!("https://help.{site}/?p=NoSuchUser {id}.{} - hsmtp", n % 900 + 100),
            ],
        ),
        (Style::Folded, S::MailboxFull) => said(
            552,
            "5.2.2",
            [
                "The recipient's inbox has been out of storage space for long. Ask them to".to_owned(),
                format!("make room: https://help.{site}/?p=OverQuotaPerm {id} - hsmtp"),
            ],
        ),
        (Style::Folded, S::OverQuota) => said(
            452,
            "4.2.2",
            [
                "The recipient's inbox is out of storage space. Ask them to make room".to_owned(),
                format!("and try again: https://help.{site}/?p=OverQuotaTemp {id} - hsmtp"),
            ],
        ),
        (Style::Folded, S::Disabled) => said(
            550,
            "5.2.1",
            [
                "The email account that you tried to reach is disabled. See".to_owned(),
                format!("https://help.{site}/?p=DisabledUser {id}.{} - hsmtp", n % 900 + 100),
            ],
        ),
        (Style::Folded, S::SpamBlock) => said(
            554,
            "5.7.1",
            [
                format!("[{peer}      12] This message is likely unsolicited mail. To reduce the"),
                "amount of spam sent to our users, it has been blocked. See".to_owned(),
                format!("https://help.{site}/?p=UnsolicitedMessageError {id} - hsmtp"),
            ],
        ),
        (Style::Folded, S::Greylist) => said(
            451,
            "4.7.1",
            [
                format!("[{peer}] Greylisted: mail from this sender is new to us, please"),
                format!("try again later. {id} - hsmtp"),
            ],
        ),

        (Style::Coded, S::Taken) => said(
            250,
            "2.6.0",
            [format!(
                "<{id}@{host}> [InternalId={}, Hostname={short}.{host}] Queued mail for delivery",
                n % 10_000_000
            )],
        ),
        (Style::Coded, S::UnknownUser) if alternative => said(
            550,
            "5.1.1",
            [format!("RESOLVER.ADR.RecipNotFound; not found; recipient {rcpt} [{short}.{host} {secs} {id}]")],
        ),
        (Style::Coded, S::UnknownUser) => said(
            550,
            "5.1.10",
            [format!(
                "RESOLVER.ADR.RecipientNotFound; Recipient {rcpt} not found by SMTP address lookup [{short}.{host}]"
            )],
        ),
        (Style::Coded, S::MailboxFull) => said(
            552,
            "5.2.2",
            [format!(
                "STOREDRV.Deliver; mailbox full. The recipient's mailbox is over quota. [Hostname={short}.{host}]"
            )],
        ),
        (Style::Coded, S::OverQuota) => said(
            452,
            "4.2.2",
            [format!(
                "STOREDRV.Deliver; mailbox full. The recipient's mailbox is over quota. [Hostname={short}.{host}]"
            )],
        ),
        (Style::Coded, S::Disabled) => said(
            550,
            "5.2.1",
            [format!("STOREDRV.Deliver; mailbox disabled, not accepting messages: account disabled [{short}.{host}]")],
        ),
        (Style::Coded, S::SpamBlock) => said(
            554,
            "5.7.1",
            [format!(
                "Service unavailable; message from [{peer}] blocked as spam by content filter ({short}) [{host}]"
            )],
        ),
        (Style::Coded, S::Greylist) => said(
            451,
            "4.7.1",
            [format!("Server busy, greylisted. Please try again later from [{peer}]. ({short}) [{id}.{host}]")],
        ),

        (Style::Linked, S::Taken) => bare(250, format!("ok dirdel {}", n % 1_000_000)),
        (Style::Linked, S::UnknownUser) if alternative => bare(
            554,
            format!("delivery error: dd This user doesn't have a {domain} account ({rcpt}) [0] - {short}.{host}"),
        ),
        (Style::Linked, S::UnknownUser) => {
            bare(550, format!("5.1.1 <{rcpt}>: no such user here, https://post.{site}/e/{short} [HVU:{}]", n % 9))
        }
        (Style::Linked, S::MailboxFull) => bare(
            552,
            format!("5.2.2 mailbox for <{rcpt}> is over its quota, see https://post.{site}/e/quota [{short}]"),
        ),
        (Style::Linked, S::OverQuota) => bare(
            452,
            format!("4.2.2 mailbox for <{rcpt}> is over its quota, see https://post.{site}/e/quota [{short}]"),
        ),
        (Style::Linked, S::Disabled) => bare(
            550,
            format!(
                "5.2.1 delivery error: this account has been disabled or discontinued [#{}] - {short}.{host}",
                n % 200
            ),
        ),
        (Style::Linked, S::SpamBlock) => bare(
            554,
            format!("5.7.1 [FS04] Message not accepted: identified as spam. See https://post.{site}/e/fs04 ({peer})"),
        ),
        (Style::Linked, S::Greylist) => bare(
            451,
            format!("4.7.1 [TS02] Greylisted for {} seconds, come back; https://post.{site}/e/ts02", n % 3 + 1),
        ),

        (Style::Plain, S::Taken) => said(250, "2.0.0", [format!("Ok: queued as {}", id.to_ascii_uppercase())]),
        (Style::Plain, S::UnknownUser) if alternative => {
            said(550, "5.1.1", [format!("<{rcpt}>: Recipient address rejected: User unknown in virtual mailbox table")])
        }
        (Style::Plain, S::UnknownUser) => {
            said(550, "5.1.1", [format!("<{rcpt}>: Recipient address rejected: User unknown in local recipient table")])
        }
        (Style::Plain, S::MailboxFull) => said(
            552,
            "5.2.2",
            [format!("<{rcpt}>: Recipient address rejected: Mailbox is full / Blocks limit exceeded")],
        ),
        (Style::Plain, S::OverQuota) => {
            said(452, "4.2.2", [format!("<{rcpt}>: Recipient address rejected: Mailbox full, quota exceeded")])
        }
        (Style::Plain, S::Disabled) => {
            said(550, "5.2.1", [format!("<{rcpt}>: Recipient address rejected: this mailbox is disabled")])
        }
        (Style::Plain, S::SpamBlock) => said(
            554,
            "5.7.1",
            [format!(
                "Service unavailable; Client host [{peer}] blocked, message rejected as spam, score {}",
                n % 20 + 8
            )],
        ),
        (Style::Plain, S::Greylist) => {
            said(451, "4.7.1", [format!("<{rcpt}>: Recipient address rejected: Greylisted, try again later")])
        }

        (Style::Terse, S::Taken) => bare(250, format!("Requested mail action okay, completed: id={id}")),
        (Style::Terse, S::UnknownUser) => {
            bare(550, "Requested action not taken: mailbox unavailable, no such user".to_owned())
        }
        (Style::Terse, S::MailboxFull) => bare(552, "Requested mail action aborted: mailbox quota exceeded".to_owned()),
        (Style::Terse, S::OverQuota) => bare(452, "Requested action not taken: mailbox quota exceeded".to_owned()),
        (Style::Terse, S::Disabled) => bare(550, "Requested action not taken: account disabled".to_owned()),
        (Style::Terse, S::SpamBlock) => bare(
            554,
            format!(
                "Transaction failed. Message considered as spam. For explanation visit https://postmaster.{site}/{short}?ip={peer}"
            ),
        ),
        (Style::Terse, S::Greylist) => {
            bare(451, format!("Requested action aborted: greylisting in action, try again later ({short})"))
        }

        (Style::Telco, S::Taken) => said(250, "2.1.5", [format!("{id} mail accepted for delivery {host}")]),
        (Style::Telco, S::UnknownUser) => {
            said(550, "5.1.1", [format!("{local}@{domain} recipient not found LSN-{short}")])
        }
        (Style::Telco, S::MailboxFull) => {
            said(552, "5.2.2", [format!("{rcpt} mailbox over quota, message refused LSQ-{short}")])
        }
        (Style::Telco, S::OverQuota) => {
            said(452, "4.2.2", [format!("{rcpt} mailbox over quota, try later LSQ-{short}")])
        }
        (Style::Telco, S::Disabled) => {
            said(550, "5.2.1", [format!("{rcpt} account inactive or suspended by the customer service LSD-{short}")])
        }
        (Style::Telco, S::SpamBlock) => {
            said(554, "5.7.1", [format!("message from {peer} rejected as spam by LSF filter, case {id}")])
        }
        (Style::Telco, S::Greylist) => said(451, "4.7.1", [format!("greylisted, retry in a short while LSG-{short}")]),

        (Style::Folded | Style::Coded, S::TooManyConnections) => {
            said(421, "4.7.0", [format!("{host} too many concurrent connections from [{peer}], closing. {id}")])
        }
        (_, S::TooManyConnections) => bare(421, format!("{host} Error: too many connections from {peer} ({short})")),
        (Style::Folded | Style::Coded, S::TooFast) => {
            said(421, "4.7.28", [format!("{host} unusual rate of connections from [{peer}], slow down. {id}")])
        }
        (_, S::TooFast) => {
            bare(421, format!("{host} connection rate limit exceeded for {peer}, try again later ({short})"))
        }
        (Style::Linked, S::TooManyMessages) => bare(
            421,
            format!("4.7.0 [TS01] Enough messages in this connection; open another. https://post.{site}/e/ts01"),
        ),
        (_, S::TooManyMessages) => {
            said(421, "4.7.0", [format!("{host} too many messages in this connection, closing. {id}")])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLES: &[Style] = &[Style::Folded, Style::Coded, Style::Linked, Style::Plain, Style::Terse, Style::Telco];

    fn gaps(n: u64) -> Gaps<'static> {
        Gaps {
            host: "mx.mailhost.example",
            rcpt: "ann@mh.example",
            peer: [127, 0, 0, 1].into(),
            n,
            secs: 1_800_000_000,
        }
    }

    #[test]
    fn each_saying_keeps_its_class_in_every_style() {
        for style in STYLES {
            for (what, codes) in [
                (Saying::Taken, &[250][..]),
                (Saying::UnknownUser, &[550, 554]),
                (Saying::MailboxFull, &[552]),
                (Saying::OverQuota, &[452]),
                (Saying::Disabled, &[550]),
                (Saying::SpamBlock, &[554]),
                (Saying::Greylist, &[451]),
                (Saying::TooManyConnections, &[421]),
                (Saying::TooFast, &[421]),
                (Saying::TooManyMessages, &[421]),
            ] {
                for n in 0..6 {
                    let reply = say(*style, what, &gaps(n));
                    assert!(codes.contains(&reply.code), "{style:?} {what:?} {reply:?}");
                    for line in &reply.lines {
                        assert!(line.is_ascii() && !line.contains(['\r', '\n']) && line.len() < 500, "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_manners_differ_and_so_do_two_replies_of_one_manner() {
        let of = |style, n| say(style, Saying::UnknownUser, &gaps(n)).text();
        assert_ne!(of(Style::Folded, 1), of(Style::Coded, 1));
        assert_ne!(of(Style::Folded, 1), of(Style::Folded, 2));
    }

    #[test]
    fn several_lines_go_over_the_wire_with_hyphens_but_the_last() {
        let mut out = Vec::new();
        Said { code: 250, lines: vec!["one".into(), "two".into()] }.write(&mut out);
        assert_eq!(out, b"250-one\r\n250 two\r\n");
    }
}
